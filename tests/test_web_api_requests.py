"""Requests as a backend may get them wrong, send them twice, or page through what there is."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from accounts import api_keys
from connectors import all_connectors, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from storage.database import Database
from tests._stored import Stocked, stock
from tests._web import Api, problem, serving_api, web_settings
from web._version import API_VERSION

RETURN = "https://app.example.com/apps"
MORE = {
    "nextauth_url": "https://sync.example.com",
    "nextauth_secret": "canary-nextauth-secret-of-enough-characters",  # pragma: allowlist secret
    "connect_return_hosts": "app.example.com",
    "hubspot_client_id": "id",
    "hubspot_client_secret": "canary-hubspot",  # pragma: allowlist secret
}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with serving_api(web_settings(database_url, **MORE)) as opened:
        yield opened


@pytest.fixture
async def acme(database: Database) -> Stocked:
    return await stock(database, "acme")


@pytest.fixture
async def bolt(database: Database) -> Stocked:
    return await stock(database, "bolt", account_id="43")


async def keyed(api: Api, path: str, key: str, body: Any) -> Any:
    return await api.call("POST", path, json=body, headers={"idempotency-key": key})


def wrong(answer: Any, at: str) -> str:
    """What is said of the one field that is wrong."""
    told = problem(answer, 422)
    ((place, said),) = ((each["at"], each["problem"]) for each in told["errors"])
    assert place == at
    return str(said)


async def test_what_a_route_does_not_know_is_named_and_not_ignored(api: Api, acme: Stocked) -> None:
    mine, admin = api.as_(acme.tenant_id), api.as_(scope="admin")
    said = wrong(await mine.get("/api/connections", tenant="acme"), "query.tenant")
    assert said.endswith("there are: cursor, integration, limit, status, tenant_id")
    said = wrong(
        await mine.get(f"/api/connections/{acme.connection_id}", fields="id"), "query.fields"
    )
    assert said.endswith("this route takes none")
    wrong(await mine.call("GET", "/api/connections?limit=1&limit=2"), "query.limit")
    wrong(await mine.get("/api/connections", **{"x" * 500: "canary"}), f"query.{'x' * 60}")
    wrong(await api.as_(scope="metrics:read").get("/metrics", a="b"), "query.a")
    said = wrong(
        await admin.post("/api/tenants", {"slug": "a", "name": "A", "plan": "TEAM"}), "body.plan"
    )
    assert said.endswith("there are: contact_email, id, name, slug, tier")
    path = f"/api/connections/{acme.connection_id}/sync"
    said = wrong(await mine.post(path, {"fulll": True}), "body.fulll")
    assert said.endswith("there are: full, streams")
    # Who may not ask is not told what could be asked.
    problem(await api.get("/api/connections", tenant="acme"), 401)


async def test_a_body_that_does_not_say_what_it_is_gets_a_clear_answer(
    api: Api, acme: Stocked
) -> None:
    path = f"/api/connections/{acme.connection_id}/sync"
    for where, who in (("/api/tenants", api.as_(scope="admin")), (path, api.as_(acme.tenant_id))):
        for kind in ({}, {"content-type": "text/plain"}):
            answer = await who.call("POST", where, content=b'{"slug": "canary"}', headers=kind)
            assert "Content-Type: application/json" in problem(answer, 415)["detail"]
            assert "canary" not in answer.text


async def test_every_wrong_field_stands_in_errors(api: Api, acme: Stocked) -> None:
    mine, admin = api.as_(acme.tenant_id), api.as_(scope="admin")
    order = {"tenant": "acme", "return_url": RETURN}
    bodies: dict[str, dict[str, Any]] = {
        "body.return_url": {"return_url": "https://elsewhere.example/"},
        "body.integration": {"integration": "nothing"},
        "body.answers": {"integration": "hubspot", "answers": {"shop": "x"}},
    }
    for at, body in bodies.items():
        wrong(await mine.post("/api/connect-sessions", {**order, **body}), at)
    wrong(await mine.get("/api/connections", cursor="x"), "query.cursor")
    wrong(await mine.get("/api/connections", cursor="WyJhIiwiYiJd"), "query.cursor")
    wrong(await mine.get("/api/connections", limit=0), "query.limit")
    path = f"/api/tenants/{acme.tenant_id}"
    wrong(await admin.call("PATCH", path, json={"name": None}), "body.name")
    key = {"value": "short"}
    said = wrong(await mine.call("PUT", f"{path}/settings/OPENAI_API_KEY", json=key), "body.value")
    assert "fewer than 8 characters" in said
    # A connection that never was is not said to have been removed.
    never = problem(await mine.get(f"/api/connections/{uuid4()}"), 404)["detail"]
    assert "removed" not in never


async def test_every_answer_says_how_the_rate_stands_and_which_version_it_is(
    api: Api, acme: Stocked
) -> None:
    mine = api.as_(acme.tenant_id)
    left = []
    for _ in range(2):
        answer = await mine.get("/api/connections")
        assert answer.headers["ratelimit-policy"] == '"reads";q=600;w=60'
        found = re.fullmatch(r'"reads";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert found
        assert 0 < int(found[2]) <= 60
        left.append(int(found[1]))
        assert answer.headers["api-version"] == API_VERSION
    assert left[0] == left[1] + 1
    absent = await mine.call("DELETE", f"/api/connections/{uuid4()}")
    assert absent.headers["ratelimit-policy"] == '"writes";q=120;w=60'
    refused = await api.get("/api/connections")
    assert refused.headers["api-version"] == API_VERSION
    assert "ratelimit" not in refused.headers


async def test_an_operator_sees_all_connections_page_by_page_and_a_tenants_by_either_name(
    api: Api, acme: Stocked, bolt: Stocked, database: Database
) -> None:
    third = await stock(database, "cone", account_id="44")
    admin = api.as_(scope="admin")
    found, params = [], {"limit": 2}
    while True:
        page = (await admin.get("/api/connections", **params)).json()
        found.append([one["id"] for one in page["items"]])
        if page["next_cursor"] is None:
            break
        params = {"limit": 2, "cursor": page["next_cursor"]}
    assert found == [
        [str(acme.connection_id), str(bolt.connection_id)], [str(third.connection_id)],
    ]  # fmt: skip
    for name in ("bolt", str(bolt.tenant_id)):
        page = (await admin.get("/api/connections", tenant_id=name)).json()
        assert [one["id"] for one in page["items"]] == [str(bolt.connection_id)]
        told = problem(await api.as_(acme.tenant_id).get("/api/connections", tenant_id=name), 404)
        assert told["detail"] == f"there is no tenant {name!r}"
    mine = (await api.as_(acme.tenant_id).get("/api/connections")).json()["items"]
    assert [one["id"] for one in mine] == [str(acme.connection_id)]


async def test_integrations_tell_what_can_be_connected_and_how(api: Api, acme: Stocked) -> None:
    mine, admin = api.as_(acme.tenant_id), api.as_(scope="admin")
    names: list[str] = []
    params: dict[str, Any] = {"limit": 10}
    while True:
        page = (await mine.get("/api/integrations", **params)).json()
        names += [one["name"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert names == sorted(one.name for one in all_connectors())

    hubspot = (await mine.get("/api/integrations/hubspot")).json()
    assert (hubspot["title"], hubspot["sign_in"], hubspot["sync_type"]) == (
        "HubSpot", "consent", "push",
    )  # fmt: skip
    assert (hubspot["configured"], hubspot["missing_settings"]) == (True, None)
    streams = {one["name"]: one["columns"] for one in hubspot["streams"]}
    assert streams == {
        stream.name: {name: column.type for name, column in stream.columns.items()}
        for stream in load("hubspot").streams
    }
    slack = (await admin.get("/api/integrations/slack")).json()
    assert (slack["configured"], slack["missing_settings"]) == (
        False, ["SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET"],
    )  # fmt: skip
    openai = (await mine.get("/api/integrations/openai")).json()
    assert (openai["sign_in"], openai["configured"], openai["streams"]) == ("key", True, [])
    problem(await mine.get("/api/integrations/nothing"), 404)


async def test_a_tenant_may_bring_its_own_id_and_is_made_once_under_a_key(api: Api) -> None:
    admin, own = api.as_(scope="admin"), str(uuid4())
    body = {"id": own, "slug": "acme", "name": "Acme"}
    made = await keyed(admin, "/api/tenants", "signup-1", body)
    assert (made.status_code, made.json()["id"]) == (201, own)
    reordered = dict(reversed(body.items()))
    again = await keyed(admin, "/api/tenants", '"signup-1"', reordered)
    assert (again.status_code, again.json()) == (201, made.json())
    assert again.headers["idempotent-replayed"] == "true"
    wrong(
        await keyed(admin, "/api/tenants", "signup-1", {**body, "slug": "x"}),
        "header.idempotency-key",
    )
    wrong(await keyed(admin, "/api/tenants", "two words", body), "header.Idempotency-Key")
    # Another who asks has keys of its own, and the tenant is there.
    told = problem(await keyed(api.as_(scope="admin", sub="x"), "/api/tenants", "signup-1", body),
                   409)  # fmt: skip
    assert "'acme'" in told["detail"]
    told = problem(await admin.post("/api/tenants", {**body, "slug": "other"}), 409)
    assert own in told["detail"]
    # What failed is tried again under the same key.
    problem(await keyed(admin, "/api/tenants", "signup-2", body), 409)
    other = {"slug": "bolt", "name": "Bolt"}
    at_once = await asyncio.gather(
        *(keyed(admin, "/api/tenants", "signup-2", other) for _ in range(5))
    )
    assert {answer.status_code for answer in at_once} <= {201, 409}
    assert len({answer.json()["id"] for answer in at_once if answer.status_code == 201}) == 1
    listed = (await admin.get("/api/tenants")).json()["items"]
    assert [one["slug"] for one in listed] == ["acme", "bolt"]


async def test_who_goes_on_for_one_that_died_midway_gets_the_tenant_that_was_made(
    api: Api, database: Database
) -> None:
    admin, body = api.as_(scope="admin"), {"slug": "acme", "name": "Acme"}
    made = (await keyed(admin, "/api/tenants", "signup-1", body)).json()
    async with database.owning() as session:
        # As its process left it: the tenant is committed, the answer is not.
        await session.execute(
            text(
                "UPDATE idempotency_keys SET sealed_answer = NULL, status = NULL,"
                " about_tenant_id = NULL, claimed_until = now() - interval '1 second'"
            )
        )
    again = await keyed(admin, "/api/tenants", "signup-1", body)
    assert (again.status_code, again.json()) == (201, made)


async def test_a_link_is_given_again_under_its_key_and_lies_nowhere_in_clear(
    api: Api, acme: Stocked, database: Database
) -> None:
    mine = api.as_(acme.tenant_id)
    order = {"tenant": "acme", "return_url": RETURN}
    first = await keyed(mine, "/api/connect-sessions", "link-1", order)
    assert first.status_code == 201
    assert (await keyed(mine, "/api/connect-sessions", "link-1", order)).json() == first.json()
    other = await keyed(mine, "/api/connect-sessions", "link-2", order)
    assert other.json()["url"] != first.json()["url"]
    secret = first.json()["url"].rpartition("/")[2]
    async with database.owning() as session:
        kept = str(list(await session.execute(text("SELECT * FROM idempotency_keys"))))
        assert (await session.scalar(text("SELECT count(*) FROM connect_sessions"))) == 2
    assert secret not in kept


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("sk-1234", "fewer than 8 characters"),
        ("sk-" + "x" * 1_000, "more than 1,000 characters"),
        ("sk-1234 5678", "a blank, or another character"),
        ("sk-1234ß5678", "a blank, or another character"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_with_the_true_reason(key: str, why: str) -> None:
    transport, budget = Transport(sandbox_url="http://127.0.0.1:9"), Budget(None)
    verdict = await api_keys.verify(load("openai"), key, transport=transport, budget=budget)
    await transport.close()
    assert verdict.works is False
    assert why in verdict.message
