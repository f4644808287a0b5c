"""The two answers that hold a secret, and all others, which hold none."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import psycopg
import pytest
from psycopg.rows import dict_row

from connectors import load
from settings import read
from storage import connections, tenant_settings
from storage.connections import Connection
from storage.database import Database
from storage.vault import Vault
from tests._haystack import texts_of
from tests._sandboxed import KEY, Sandboxed, environment
from tests._web import EVERYTHING, JWT_SECRET, Api, problem, serving_api

SETTING = "OPENAI_API_KEY"


@pytest.fixture
def world(
    origin: str, database: Database, database_url: str, redis_url: str
) -> Iterator[Sandboxed]:
    given = environment(origin, database_url, redis_url, ["hubspot", "stripe"])
    settings = read(
        _env_file=None, jwt_secret=JWT_SECRET, **{name.lower(): v for name, v in given.items()}
    )
    yield Sandboxed(origin, settings, database, database_url)
    for name in ("hubspot", "stripe", "openai"):
        httpx.delete(f"{origin}/_control/{name}/faults").raise_for_status()


@pytest.fixture
async def hubspot(world: Sandboxed) -> Connection:
    return await world.connect("hubspot", size=3)


@pytest.fixture
async def api(world: Sandboxed, hubspot: Connection) -> AsyncIterator[Api]:
    async with serving_api(world.settings) as opened:
        scope = f"{EVERYTHING} tokens:read keys:read"
        yield opened.as_(hubspot.tenant_id, scope, sub="billing-service")


def _new_key(world: Sandboxed) -> str:
    account = world.control("POST", "/openai/accounts", {})["id"]
    key: str = world.control("POST", "/openai/grant", {"account": account})["access_token"]
    return key


def _logged(world: Sandboxed, event: str) -> list[dict[str, Any]]:
    with psycopg.connect(world.database_url, row_factory=dict_row) as sql:
        query = "SELECT * FROM oauth_log WHERE event = %s ORDER BY id"
        return sql.execute(query, (event,)).fetchall()


async def _tokens(world: Sandboxed, connection: Connection) -> dict[str, Any]:
    async with world.database.transaction(connection.tenant_id) as session:
        held = await tenant_settings.get_json(
            session, Vault.parse(KEY), connection.tenant_id, f"{connection.integration}_tokens"
        )
    assert held is not None
    return held


def _settings_path(connection: Connection) -> str:
    return f"/api/tenants/{connection.tenant_id}/settings"


async def test_a_token_is_given_and_renewed_first_when_it_has_expired(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    path = f"/api/connections/{hubspot.id}/token"
    answer = await api.post(path)
    first = answer.json()
    assert first.keys() == {"access_token", "token_type", "expires_at", "instance_url"}
    assert first["access_token"] == (await _tokens(world, hubspot))["access_token"]
    assert datetime.fromisoformat(first["expires_at"]) > datetime.now(UTC)
    assert answer.headers["cache-control"] == "no-store"
    with psycopg.connect(world.database_url) as sql:
        sql.execute("UPDATE grants SET expires_at = now()")
    second = (await api.post(path)).json()
    assert second["access_token"] != first["access_token"]
    held = await _tokens(world, hubspot)
    assert second["access_token"] == held["access_token"]
    assert held["refresh_token"] not in answer.text


async def test_every_token_that_is_given_is_logged_with_who_asked(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    given = (await api.post(f"/api/connections/{hubspot.id}/token")).json()["access_token"]
    (entry,) = _logged(world, "token")
    assert entry["grant_id"] == hubspot.grant_id
    assert entry["detail"]["subject"] == "billing-service"
    assert given not in str(entry)


async def test_a_broken_connection_gives_no_token_and_the_vendor_is_not_asked(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    account = {"account": hubspot.account_id}
    world.control("POST", "/hubspot/tokens", {**account, "op": "revoke"})
    with psycopg.connect(world.database_url) as sql:
        sql.execute("UPDATE grants SET expires_at = now()")
    path = f"/api/connections/{hubspot.id}/token"
    problem(await api.post(path), 409)
    assert (await connections.get(world.database, hubspot.id)).status == "needs_reauth"
    failures = len(_logged(world, "failure"))
    assert "connect it again" in problem(await api.post(path), 409)["detail"]
    assert len(_logged(world, "failure")) == failures
    assert _logged(world, "token") == []


async def test_a_paused_connection_still_gives_its_token(api: Api, hubspot: Connection) -> None:
    await api.post(f"/api/connections/{hubspot.id}/pause")
    assert (await api.post(f"/api/connections/{hubspot.id}/token")).status_code == 200


async def test_a_key_is_verified_kept_masked_revealed_and_forgotten(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    settings = _settings_path(hubspot)
    key = _new_key(world)
    put = await api.call("PUT", f"{settings}/{SETTING}", json={"value": key})
    assert (put.status_code, put.json()["verdict"]) == (200, "valid")
    (listed,) = (await api.get(settings)).json()["items"]
    assert (listed["key"], listed["masked"]) == (SETTING, f"…{key[-4:]}")
    revealed = await api.post(f"{settings}/{SETTING}/reveal")
    assert revealed.json() == {"key": SETTING, "value": key}
    assert revealed.headers["cache-control"] == "no-store"
    (entry,) = _logged(world, "reveal")
    assert (entry["integration"], entry["grant_id"]) == ("openai", None)
    assert entry["detail"]["subject"] == "billing-service"
    assert key not in put.text + str(entry)
    assert (await api.call("DELETE", f"{settings}/{SETTING}")).status_code == 204
    problem(await api.call("DELETE", f"{settings}/{SETTING}"), 404)
    problem(await api.post(f"{settings}/{SETTING}/reveal"), 404)


async def test_a_key_that_the_vendor_refuses_is_not_kept(api: Api, hubspot: Connection) -> None:
    settings = _settings_path(hubspot)
    wrong = "sk-proj-canary-that-openai-does-not-know"
    answer = await api.call("PUT", f"{settings}/{SETTING}", json={"value": wrong})
    assert problem(answer, 422)["verdict"] == "invalid"
    assert "canary" not in answer.text
    assert (await api.get(settings)).json()["items"] == []


async def test_a_key_that_could_not_be_verified_is_kept_and_said_so(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    world.control("POST", "/openai/faults", {"kind": "garbage", "count": 9})
    settings = _settings_path(hubspot)
    answer = await api.call("PUT", f"{settings}/{SETTING}", json={"value": _new_key(world)})
    assert (answer.status_code, answer.json()["verdict"]) == (200, "inconclusive")
    assert len((await api.get(settings)).json()["items"]) == 1


async def test_tokens_are_no_settings_that_can_be_read_or_written(
    api: Api, hubspot: Connection
) -> None:
    settings = _settings_path(hubspot)
    for key in ("hubspot_tokens", "HUBSPOT_TOKENS", "DATABASE_URL"):
        for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/reveal")):
            answer = await api.call(method, f"{settings}/{key}{path}", json={"value": "x"})
            assert answer.status_code in (404, 422), (method, key)
    assert (await api.get(settings)).json()["items"] == []


async def test_where_calls_carry_our_own_secret_there_is_no_token_to_give(
    api: Api, world: Sandboxed
) -> None:
    stripe = await world.connect("stripe", tenant="other", size=3)
    other = api.as_(stripe.tenant_id, "tokens:read")
    for _ in range(2):
        answer = await other.post(f"/api/connections/{stripe.id}/token")
        assert "our app's secret" in problem(answer, 409)["detail"]
        assert world.settings.app("stripe").client_secret not in answer.text
    assert _logged(world, "token") == []


@pytest.mark.parametrize("integration", ["hubspot", "stripe"])
async def test_no_answer_but_the_two_holds_a_secret(
    api: Api, world: Sandboxed, integration: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = await world.connect(integration, tenant=f"canary-{integration}", size=3)
    api = api.as_(found.tenant_id, f"{EVERYTHING} metrics:read keys:read")
    key = _new_key(world)
    connection, settings = f"/api/connections/{found.id}", _settings_path(found)
    tenant = f"/api/tenants/{found.tenant_id}"
    stream = load(integration).streams[0].name
    asked: list[tuple[str, str, Any]] = [
        ("PUT", f"{settings}/{SETTING}", {"value": key}),
        ("GET", settings, None),
        ("GET", tenant, None),
        ("GET", "/api/connections", None),
        ("GET", connection, None),
        ("GET", f"{connection}/records/{stream}", None),
        ("GET", "/metrics", None),
        ("POST", f"{connection}/pause", None),
        ("POST", f"{connection}/resume", None),
        ("POST", f"{connection}/sync", {}),
        ("POST", f"{connection}/sync", {"streams": ["nothing"]}),
        ("GET", "/openapi.json", None),
        ("GET", "/readyz", None),
    ]
    held = await _tokens(world, found)
    granted = [held[name] for name in ("access_token", "refresh_token") if held.get(name)]
    ours = [world.settings.app(integration).client_secret, JWT_SECRET, KEY]
    caplog.set_level("DEBUG", logger="atom-sync")
    answers = [await api.call(method, path, json=body) for method, path, body in asked]
    # The grant's own token is what may be given, to who may ask for it; its refresh token never.
    token = await api.as_(found.tenant_id, "tokens:read").post(f"{connection}/token")
    assert found_in([*granted[1:], *ours], token.text + str(token.headers)) == []
    answers.append(await api.call("DELETE", connection))
    in_tables = "".join(text for _, text in texts_of(world.database_url))
    answers.append(await api.as_(scope="admin").call("DELETE", tenant))
    told = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    assert [answer.status_code for answer in answers[:7]] == [200] * 7
    assert [answer.status_code for answer in answers[-2:]] == [204, 204]
    assert found_in([key, *granted, *ours], told + in_tables) == []


def found_in(secrets: list[str], text: str) -> list[str]:
    return [secret for secret in secrets if secret in text]


async def test_deleting_a_tenant_gives_its_authorisations_back_and_leaves_nothing(
    api: Api, world: Sandboxed, hubspot: Connection
) -> None:
    world.control("DELETE", "/hubspot/requests")
    path = f"/api/tenants/{hubspot.tenant_id}"
    assert (await api.as_(scope="admin").call("DELETE", path)).status_code == 204
    for table in ("tenants", "tenant_settings", "grants", "connections", "records", "oauth_log"):
        assert world.one(f"SELECT count(*) FROM {table}") == 0, table
    called = world.control("GET", "/hubspot/requests")["by_path"]
    assert any(path.endswith("/revoke") for path in called)
