"""Who may call the JSON API, and what it says when it refuses."""

import json
import logging
import re
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from settings import SettingsError
from storage.database import Database
from tests._stored import Stocked, row, stock, write
from tests._web import (
    EVERYTHING,
    JWT_SECRET,
    Api,
    api_of,
    claims,
    problem,
    serving_api,
    token,
    web_settings,
)
from web._auth import Scope, verified
from web._limits import MAX_BODY, Rate
from web._log import JsonLines
from web.app import create_app

ADMIN = "admin tokens:read keys:read"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with serving_api(web_settings(database_url)) as opened:
        yield opened


@pytest.fixture
async def acme(database: Database) -> Stocked:
    return await stock(database, "acme")


@pytest.fixture
async def other(database: Database) -> Stocked:
    return await stock(database, "other", account_id="43")


def unsigned(payload: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, payload)
    encoded = [urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, ""])


def refused() -> dict[str, str]:
    """Made when it is asked for: a token made with this module is over before its test runs."""
    return {
        "none at all": "",
        "not a token": "x.y.z",
        "alg=none": unsigned(claims()),
        "another algorithm": token(claims(), JWT_SECRET * 2, "HS512"),
        "our secret under another algorithm": token(claims(), JWT_SECRET, "HS384"),
        "a foreign secret": token(claims(), "another-secret-of-enough-characters"),
        "for somebody else": token(claims(aud="billing")),
        "for nobody": token(claims(aud=None)),
        "expired": token(claims(exp=int(time.time()) - 60)),
        "without an end": token(claims(exp=None)),
        "with an end that is no number": token(claims(exp="tomorrow")),
        "not valid yet": token(claims(nbf=int(time.time()) + 600)),
        "without a tenant": token({**claims(), "tenant_id": ""}),
        "with a tenant that is no UUID": token({**claims(), "tenant_id": "acme"}),
        "with a tenant that is a list": token({**claims(), "tenant_id": ["acme"]}),
        "without a scope": token({k: v for k, v in claims().items() if k != "scope"}),
        "with a scope that is a list": token({**claims(), "scope": ["admin"]}),
        "endless": "a" * 9_000,
    }


async def test_a_token_that_proves_nothing_is_refused(api: Api) -> None:
    for kind, bearer in refused().items():
        answer = await Api(api.http, bearer).get("/api/connections")
        assert answer.status_code == 401, kind
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_former_secret_is_accepted_while_it_is_changed(
    database_url: str, acme: Stocked
) -> None:
    former, new = "former-secret-of-enough-characters", "new-secret-that-has-enough-characters"
    payload = claims(acme.tenant_id)
    async with serving_api(web_settings(database_url, jwt_secret=f"{new}, {former}")) as api:
        for secret in (new, former):
            answer = await Api(api.http, token(payload, secret)).get("/api/connections")
            assert answer.status_code == 200
    async with serving_api(web_settings(database_url, jwt_secret=new)) as api:
        problem(await Api(api.http, token(payload, former)).get("/api/connections"), 401)


async def test_without_a_strong_secret_the_api_is_off(database_url: str) -> None:
    for secret in (None, "short", f"{JWT_SECRET},short", f"{JWT_SECRET},"):
        settings = web_settings(database_url, jwt_secret=secret)
        with pytest.raises(SettingsError, match="JWT_SECRET") as refused:
            verified(settings, token(claims()), now=datetime.now(UTC))
        assert JWT_SECRET not in str(refused.value)
    async with serving_api(web_settings(database_url, jwt_secret=None)) as api:
        assert "JWT_SECRET" in problem(await api.as_().get("/api/connections"), 503)["detail"]


async def test_a_missing_scope_is_named(api: Api, acme: Stocked) -> None:
    answer = await api.as_(acme.tenant_id, "records:read").get("/api/connections")
    assert "connections:read" in problem(answer, 403)["detail"]
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_admin_does_not_include_the_scopes_that_give_secrets_away(
    api: Api, acme: Stocked
) -> None:
    admin = api.as_(scope="admin")
    assert (await admin.get(f"/api/connections/{acme.connection_id}")).status_code == 200
    problem(await admin.post(f"/api/connections/{acme.connection_id}/token"), 403)
    reveal = f"/api/tenants/{acme.tenant_id}/settings/OPENAI_API_KEY/reveal"
    problem(await admin.post(reveal), 403)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, methods in document["paths"].items():
        for method in methods:
            if "{tenant_id}" in path or "{connection_id}" in path:
                yield method.upper(), path


async def test_what_is_another_tenants_is_as_good_as_absent(
    api: Api, acme: Stocked, other: Stocked, database: Database
) -> None:
    await write(database, other, [row("1", "theirs")])
    mine = api.as_(acme.tenant_id, f"{EVERYTHING} tokens:read keys:read")
    document = (await api.get("/openapi.json")).json()
    operations = list(_operations(document))
    assert len(operations) >= 14
    bodies = {"PUT": {"value": "sk-test"}, "POST": {}}

    async def answer(method: str, path: str, tenant_id: UUID, connection_id: UUID) -> str:
        filled = path.format(
            tenant_id=tenant_id, connection_id=connection_id, key="OPENAI_API_KEY",
            stream="contacts",
        )  # fmt: skip
        given = await mine.call(method, filled, json=bodies.get(method))
        if given.status_code == 403:  # only the operator may do it at all
            return "403"
        told = problem(given, 404)
        for id in (tenant_id, connection_id):
            told["detail"] = told["detail"].replace(str(id), "ID")
        return json.dumps(told)

    for method, path in operations:
        theirs = await answer(method, path, other.tenant_id, other.connection_id)
        nobodys = await answer(method, path, uuid4(), uuid4())
        assert theirs == nobodys, (method, path)
    problem(await mine.get("/api/connections", tenant_id=str(other.tenant_id)), 404)


async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(
    api: Api, acme: Stocked
) -> None:
    admin = api.as_(scope=ADMIN)
    big = b'{"slug": "' + b"a" * MAX_BODY + b'"}'
    problem(await admin.call("POST", "/api/tenants", content=big), 413)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 4096):
            yield big[start : start + 4096]

    json_type = {"content-type": "application/json"}
    answer = await admin.call("POST", "/api/tenants", content=chunks(), headers=json_type)
    problem(answer, 413)


@pytest.mark.parametrize("redis", ["here", "gone"])
async def test_a_tenant_beyond_its_rate_is_told_when_to_come_back_and_others_are_not(
    database_url: str, redis_url: str, acme: Stocked, other: Stocked, redis: str
) -> None:
    url = redis_url if redis == "here" else "unix:///nowhere/redis.sock"
    async with serving_api(web_settings(database_url, redis_url=url)) as api:
        mine = api.as_(acme.tenant_id, "tokens:read")
        path = f"/api/connections/{uuid4()}/token"
        amount = Rate.SECRETS.value.amount
        for number in range(amount):
            answer = await mine.post(path)
            problem(answer, 404)
            left = f'"secrets";r={amount - 1 - number};t='
            assert answer.headers["ratelimit"].startswith(left)
            assert 1 <= int(answer.headers["ratelimit"].removeprefix(left)) <= 60
        answer = await mine.post(path)
        problem(answer, 429)
        assert answer.headers["ratelimit"].startswith('"secrets";r=0;t=')
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        problem(await api.as_(other.tenant_id, "tokens:read").post(path), 404)
        assert (await api.as_(acme.tenant_id).get("/api/connections")).status_code == 200


async def test_the_log_names_routes_and_tenants_but_no_address(
    api: Api, acme: Stocked, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await api.as_(acme.tenant_id).get(
            f"/api/connections/{acme.connection_id}/records/contacts", cursor="canary-query"
        )
        await api.get("/nothing/canary-in-a-path")
    lines = [record.getMessage() for record in caplog.records if record.name == "atom-sync.access"]
    first, second = (json.loads(line) for line in lines)
    assert first["route"] == "/api/connections/{connection_id}/records/{stream}"
    assert first["tenant"] == str(acme.tenant_id)
    assert first["status"] == 422
    assert second["route"] == "unmatched"
    assert "canary" not in caplog.text
    assert str(acme.connection_id) not in caplog.text


def test_lines_are_json_and_tell_of_an_error_only_its_kind_and_place() -> None:
    try:
        int("canary")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it broke", (), sys.exc_info())
    line = JsonLines().format(record)
    assert "canary" not in line
    assert json.loads(line)["error"].startswith("ValueError at ")
    of_request = logging.LogRecord("atom-sync.access", logging.INFO, "", 0, '{"ms": 1}', (), None)
    assert json.loads(JsonLines().format(of_request))["ms"] == 1


async def test_a_fault_of_ours_is_told_and_logged_without_its_text(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(web_settings(database_url))

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("canary-in-an-error")

    async with api_of(app) as api:
        answer = await api.get("/boom")
    problem(answer, 500)
    assert "canary" not in answer.text + caplog.text
    assert "ValueError" in caplog.text
    assert "test_web_api.py" in caplog.text


async def test_a_refused_value_is_not_repeated(api: Api, acme: Stocked) -> None:
    path = f"/api/tenants/{acme.tenant_id}/settings/OPENAI_API_KEY"
    for body in ({"value": ["canary"]}, {"value": "sk", "other": "canary"}, ["canary"]):
        answer = await api.as_(acme.tenant_id).call("PUT", path, json=body)
        problem(answer, 422)
        assert "canary" not in answer.text
    mine, json_type = api.as_(acme.tenant_id), {"content-type": "application/json"}
    answer = await mine.call("PUT", path, content=b'{"value": "canary', headers=json_type)
    problem(answer, 422)
    assert "canary" not in answer.text


async def test_it_says_that_it_lives_and_whether_it_can_serve(api: Api) -> None:
    assert (await api.get("/healthz")).json() == {"status": "ok"}
    assert (await api.get("/readyz")).json() == {"status": "ok"}


async def test_without_a_current_schema_it_lives_but_cannot_serve(
    api: Api, database: Database
) -> None:
    async with database.owning() as session:
        await session.execute(text("UPDATE atom_alembic_version SET version_num = '0001'"))
    assert (await api.get("/healthz")).status_code == 200
    assert "migrate" in problem(await api.get("/readyz"), 503)["detail"]


async def test_the_documentation_loads_nothing_from_elsewhere(api: Api) -> None:
    page = (await api.get("/docs")).text
    assert "https://" not in page
    assert "/docs/static/swagger-ui-bundle.js" in page
    assert (await api.get("/docs/static/swagger-ui.css")).status_code == 200


async def test_no_answer_is_kept_by_anybody_on_the_way(api: Api, acme: Stocked) -> None:
    answer = await api.as_(acme.tenant_id).get("/api/connections")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_route_and_scope_stands_in_the_docs(api: Api) -> None:
    docs = (Path(__file__).parent.parent / "docs/api.md").read_text()
    routes = set()
    for methods, path in re.findall(r"^\| `([A-Z, ]+) (/\S+)` \|", docs, re.MULTILINE):
        routes |= {(method, path) for method in methods.split(", ")}
    document = (await api.get("/openapi.json")).json()
    served = {
        (method.upper(), re.sub(r"\{(tenant|connection|run)_id\}", "{id}", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert routes == served
    assert {scope for scope in Scope if f"| `{scope}` |" in docs} == set(Scope)
