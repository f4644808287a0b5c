"""Tenants and connections, as the SaaS's backend and the operator handle them."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient

from deployments.prefect_yaml import deploy
from storage import connections
from storage.database import Database
from tests._stored import Stocked, row, stock, write
from tests._web import Api, problem, serving_api, web_settings

ADMIN = "admin"
JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with serving_api(web_settings(database_url)) as opened:
        yield opened


@pytest.fixture
async def acme(database: Database) -> Stocked:
    return await stock(database, "acme")


async def _status(database: Database, stocked: Stocked, status: str) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        await connections.set_status(session, stocked.connection_id, status, "because")


async def test_the_operator_makes_changes_lists_and_deletes_tenants(api: Api) -> None:
    admin = api.as_(scope=ADMIN)
    ids = {}
    for slug in ("acme", "bolt", "cone"):
        answer = await admin.post("/api/tenants", {"slug": slug, "name": slug.title()})
        assert answer.status_code == 201
        ids[slug] = answer.json()["id"]
    told = problem(await admin.post("/api/tenants", {"slug": "acme", "name": "Other"}), 409)
    assert "acme" in told["detail"]
    first = (await admin.get("/api/tenants", limit=2)).json()
    assert [one["slug"] for one in first["items"]] == ["acme", "bolt"]
    rest = (await admin.get("/api/tenants", limit=2, cursor=first["next_cursor"])).json()
    assert ([one["slug"] for one in rest["items"]], rest["next_cursor"]) == (["cone"], None)

    change = {"tier": "TEAM", "contact_email": "ops@acme.example"}
    path = f"/api/tenants/{ids['acme']}"
    changed = await admin.call("PATCH", path, json=change)
    assert changed.json() == {
        "id": ids["acme"], "slug": "acme", "name": "Acme", "tier": "TEAM",
        "contact_email": "ops@acme.example",
    }  # fmt: skip
    cleared = await admin.call("PATCH", path, json={"contact_email": None})
    assert cleared.json()["contact_email"] is None
    assert cleared.json()["tier"] == "TEAM"
    problem(await admin.call("PATCH", path, json={"name": None}), 422)
    assert (await admin.call("DELETE", path)).status_code == 204
    problem(await admin.get(path), 404)
    problem(await admin.call("DELETE", path), 404)


async def test_a_tenants_token_reads_its_own_tenant_and_changes_none(
    api: Api, acme: Stocked
) -> None:
    mine = api.as_(acme.tenant_id)
    path = f"/api/tenants/{acme.tenant_id}"
    assert (await mine.get(path)).json()["slug"] == "acme"
    problem(await mine.get("/api/tenants"), 403)
    problem(await mine.call("PATCH", path, json={"tier": "ENTERPRISE"}), 403)
    problem(await mine.call("DELETE", path), 403)


BAD_TENANTS: list[dict[str, Any]] = [
    {"slug": "Acme", "name": "Acme"},
    {"slug": "acme/x", "name": "Acme"},
    {"slug": "acme", "name": "a\nb"},
    {"slug": "acme", "name": "a\x00b"},
    {"slug": "acme", "name": "\ud800"},
    {"slug": "acme", "name": "Acme", "tier": "GOLD"},
    {"slug": "acme", "name": "Acme", "contact_email": "a@b\r\nBcc: c@d"},
    {"slug": "acme", "name": "Acme", "plan": "TEAM"},
]


async def test_what_cannot_be_a_tenant_is_refused(api: Api) -> None:
    for body in BAD_TENANTS:
        # As json.dumps writes it: httpx refuses to send a lone surrogate.
        answer = await api.as_(scope=ADMIN).call(
            "POST", "/api/tenants", content=json.dumps(body), headers=JSON_TYPE
        )
        problem(answer, 422)
    assert (await api.as_(scope=ADMIN).get("/api/tenants")).json()["items"] == []


async def test_connections_are_listed_by_tenant_integration_and_status(
    api: Api, acme: Stocked, database: Database
) -> None:
    other = await stock(database, "other", account_id="43")
    mine = api.as_(acme.tenant_id)
    (found,) = (await mine.get("/api/connections")).json()["items"]
    assert found["id"] == str(acme.connection_id)
    assert (found["integration"], found["account_id"]) == ("hubspot", "42")
    assert "contacts" in found["streams"]
    assert (await mine.get(f"/api/connections/{acme.connection_id}")).json() == found
    assert (await mine.get("/api/connections", integration="gmail")).json()["items"] == []
    assert (await mine.get("/api/connections", status="paused")).json()["items"] == []
    theirs = await api.as_(scope=ADMIN).get("/api/connections", tenant_id=str(other.tenant_id))
    assert [one["account_id"] for one in theirs.json()["items"]] == ["43"]


async def test_a_connection_is_paused_and_resumed_and_repeating_it_changes_nothing(
    api: Api, acme: Stocked
) -> None:
    mine = api.as_(acme.tenant_id)
    path = f"/api/connections/{acme.connection_id}"
    for verb, status in (("pause", "paused"), ("resume", "active")):
        for _ in range(2):
            answer = await mine.post(f"{path}/{verb}")
            assert (answer.status_code, answer.json()["status"]) == (200, status)


async def test_what_waits_for_its_tenant_is_neither_paused_nor_resumed_nor_synced(
    api: Api, acme: Stocked, database: Database
) -> None:
    for status in ("needs_reauth", "revoked"):
        await _status(database, acme, status)
        for verb in ("pause", "resume", "sync"):
            path = f"/api/connections/{acme.connection_id}/{verb}"
            assert "connect" in problem(await api.as_(acme.tenant_id).post(path), 409)["detail"]
        assert (await connections.get(database, acme.connection_id)).status == status


async def test_sync_now_gives_the_run_that_prefect_took(
    database_url: str, acme: Stocked, prefect_url: str
) -> None:
    async with PrefectClient(prefect_url) as prefect:
        await deploy(prefect)
        async with serving_api(web_settings(database_url, prefect_api_url=prefect_url)) as api:
            path = f"/api/connections/{acme.connection_id}/sync"
            order = {"streams": ["contacts"], "full": True}
            answer = await api.as_(acme.tenant_id).post(path, order)
            assert answer.status_code == 202
        run = await prefect.read_flow_run(UUID(answer.json()["id"]))
        await prefect.delete_flow_run(run.id)
    assert run.name == "hubspot · acme · api"
    assert run.parameters == {
        "connection_id": str(acme.connection_id), "trigger": "api", "streams": ["contacts"],
        "full": True, "audit": False,
    }  # fmt: skip
    assert {"tenant:acme", f"connection:{acme.connection_id}"} <= set(run.tags)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/api"])
async def test_without_prefect_a_sync_is_refused_at_once_and_may_be_tried_again(
    database_url: str, acme: Stocked, url: str | None
) -> None:
    async with serving_api(web_settings(database_url, prefect_api_url=url)) as api:
        answer = await api.as_(acme.tenant_id).post(f"/api/connections/{acme.connection_id}/sync")
        problem(answer, 503)
        assert "retry-after" in answer.headers


async def test_disconnecting_keeps_the_records_unless_they_are_purged(
    api: Api, acme: Stocked, database: Database
) -> None:
    await write(database, acme, [row("1", "kept")])
    mine = api.as_(acme.tenant_id)
    path = f"/api/connections/{acme.connection_id}"
    assert (await mine.call("DELETE", path)).status_code == 204
    assert (await mine.get(path)).json()["status"] == "revoked"
    assert len((await mine.get(f"{path}/records/contacts")).json()["items"]) == 1
    assert (await mine.call("DELETE", path, params={"purge": "true"})).status_code == 204
    problem(await mine.get(path), 404)
    problem(await mine.call("DELETE", f"/api/connections/{uuid4()}"), 404)
