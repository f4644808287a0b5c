"""Syncs that are asked for over the API, with a real Prefect: one at a time, and each followed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.flow_engine import run_flow_async
from prefect.states import Cancelled, Completed, Crashed, Running

from deployments.prefect_yaml import deploy
from deployments.triggers import start_sync
from flows.sync import sync
from settings import read
from storage import connections, history, runs
from storage.models import Failure
from tests._sandboxed import Sandboxed
from tests._waiting import until
from tests._web import JWT_SECRET, Api, problem, serving_api
from web.api.runs import of_noted

SCOPES = "connections:read connections:write"


@dataclass
class Synced:
    """The API, and a connection of a sandboxed vendor that it is asked about."""

    api: Api
    world: Sandboxed
    prefect: PrefectClient
    prefect_database: str
    connection: connections.Connection

    @property
    def path(self) -> str:
        return f"/api/connections/{self.connection.id}"

    async def ask(self, body: Any = None) -> tuple[int, dict[str, Any]]:
        answer = await self.api.post(f"{self.path}/sync", body)
        return answer.status_code, answer.json()

    async def run(self, id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/api/runs/{id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def work(self, id: str) -> None:
        """As a worker's process does, in this one."""
        flow_run = await self.prefect.read_flow_run(UUID(id))
        await run_flow_async(
            sync, flow_run=flow_run, parameters=flow_run.parameters, return_type="state"
        )


@pytest.fixture
async def synced(
    world: Sandboxed, prefect_url: str, prefect_database: str
) -> AsyncIterator[Synced]:
    connection = await world.connect("hubspot", size=3)
    world.run("UPDATE connections SET backfill_owed_at = NULL")
    settings = read(prefect_api_url=prefect_url, jwt_secret=JWT_SECRET)
    async with PrefectClient(prefect_url) as prefect, serving_api(settings) as api:
        await deploy(prefect)
        mine = api.as_(connection.tenant_id, SCOPES)
        yield Synced(mine, world, prefect, prefect_database, connection)


async def test_however_often_it_is_asked_for_there_is_one_sync_and_it_is_followed_to_its_end(
    synced: Synced,
) -> None:
    answers = await asyncio.gather(*(synced.ask() for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 200, 202]
    (id,) = {run["id"] for _, run in answers}
    waiting = await synced.run(id)
    assert (waiting["state"], waiting["reason"], waiting["error"]) == ("waiting", "person", None)
    listed = (await synced.api.get(f"{synced.path}/runs")).json()
    assert ([one["id"] for one in listed["items"]], listed["complete"]) == ([id], True)

    await synced.work(id)
    done = await synced.run(id)
    assert (done["state"], done["deleted"]) == ("done", 0)
    held = synced.world.vendor(synced.connection)
    assert {name: each["changed"] for name, each in done["streams"].items()} == {
        name: len(held.get(name, {})) for name in done["streams"]
    }
    assert done["changed"] == sum(len(each) for each in held.values())
    assert done["prefect_url"].endswith(f"/runs/flow-run/{id}")

    status, second = await synced.ask()
    assert status == 202
    assert second["id"] != id
    first_page = (await synced.api.get(f"{synced.path}/runs", limit=1)).json()
    assert [one["id"] for one in first_page["items"]] == [second["id"]]
    cursor = first_page["next_cursor"]
    rest = (await synced.api.get(f"{synced.path}/runs", limit=1, cursor=cursor)).json()
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == ([id], None)

    streams = (await synced.api.get(f"{synced.path}/streams")).json()["items"]
    assert {one["name"]: one["records"] for one in streams} == {
        one["name"]: len(held.get(one["name"], {})) for one in streams
    }
    assert all(one["last_synced_at"] for one in streams)


async def test_a_full_sync_that_is_asked_for_while_a_usual_one_waits_is_not_lost_in_silence(
    synced: Synced,
) -> None:
    _, usual = await synced.ask()
    for more in ({"full": True}, {"full": True, "streams": ["contacts"]}):
        status, told = await synced.ask(more)
        assert (status, told["run_id"]) == (409, usual["id"])
        assert "ask again when it has ended" in told["detail"]
    assert (await synced.ask({"streams": ["contacts"]}))[0] == 200
    await synced.work(usual["id"])
    status, full = await synced.ask({"full": True})
    assert status == 202
    assert (await synced.prefect.read_flow_run(UUID(full["id"]))).parameters["full"]
    assert await synced.ask() == (200, full)


async def test_a_run_of_some_streams_answers_for_those_and_for_all_that_is_due(
    synced: Synced,
) -> None:
    _, some = await synced.ask({"streams": ["contacts"]})
    assert (await synced.ask({"streams": ["contacts"]}))[1]["id"] == some["id"]
    assert (await synced.ask())[1]["id"] == some["id"]
    status, told = await synced.ask({"streams": ["deals"]})
    assert (status, told["run_id"]) == (409, some["id"])
    assert "only contacts" in told["detail"]
    unknown = await synced.api.post(f"{synced.path}/sync", {"streams": ["nothing"]})
    told = problem(unknown, 422)
    assert told["errors"][0]["at"] == "body.streams"
    assert "contacts" in told["detail"]


async def test_a_sync_that_the_schedule_started_is_the_answer_too(synced: Synced) -> None:
    synced.world.hold("hubspot", path="/contacts")
    flow_run = await start_sync(synced.prefect, synced.connection, trigger="schedule")
    working = asyncio.create_task(synced.work(str(flow_run.id)))
    await until(lambda: synced.world.one("SELECT count(*) FROM sync_runs"))
    status, run = await synced.ask()
    assert (status, run["id"], run["state"]) == (200, str(flow_run.id), "running")
    assert run["reason"] == "schedule"
    assert (await synced.ask({"full": True}))[0] == 409
    synced.world.let_go("hubspot")
    await working
    assert (await synced.run(run["id"]))["state"] == "done"


async def test_a_first_sync_that_is_owed_is_begun_under_its_own_key(synced: Synced) -> None:
    synced.world.run("UPDATE connections SET backfill_owed_at = now()")
    status, run = await synced.ask()
    assert (status, run["reason"]) == (202, "connection")
    assert synced.world.one("SELECT backfill_run_id FROM connections") == UUID(run["id"])
    assert synced.world.one("SELECT backfill_owed_at FROM connections") is None
    assert await synced.ask() == (200, run)


async def test_a_run_that_ended_before_it_began_is_no_answer_to_the_next(synced: Synced) -> None:
    _, run = await synced.ask()
    seen = {run["id"]}
    for state, word in {Crashed: "failed", Cancelled: "cancelled", Completed: "put_off"}.items():
        await synced.prefect.set_flow_run_state(UUID(run["id"]), state(), force=True)
        ended = await synced.run(run["id"])
        assert ended["state"] == word
        assert ended["error"]["message"]
        again = await asyncio.gather(synced.ask(), synced.ask())
        assert sorted(status for status, _ in again) == [200, 202]
        run = again[0][1]
        assert run["id"] == again[1][1]["id"]
        assert run["id"] not in seen
        seen.add(run["id"])


async def test_a_run_whose_process_died_is_none_that_is_under_way(synced: Synced) -> None:
    _, dead = await synced.ask()
    id = UUID(dead["id"])
    await synced.prefect.set_flow_run_state(id, Running(), force=True)
    # It has just begun, and what it does is still to be noted.
    assert (await synced.ask())[1]["id"] == dead["id"]
    await runs.start(synced.world.database, synced.connection, trigger="api", flow_run_id=id)
    with psycopg.connect(synced.prefect_database) as sql:
        sql.execute(
            "UPDATE flow_run_state SET timestamp = timestamp - interval '2 minutes'"
            " WHERE id = (SELECT state_id FROM flow_run WHERE id = %s)",
            (id,),
        )
    # No lease lives: nobody is at work, whatever Prefect takes it for.
    status, run = await synced.ask()
    assert status == 202
    assert run["id"] != dead["id"]


async def test_an_idempotency_key_gives_the_same_run_also_once_it_has_ended(
    synced: Synced,
) -> None:
    async def keyed(key: str, body: Any = None) -> Any:
        headers = {"idempotency-key": key}
        return await synced.api.call("POST", f"{synced.path}/sync", json=body, headers=headers)

    first = await keyed('"night-1"')
    assert (first.status_code, "idempotent-replayed" in first.headers) == (202, False)
    await synced.work(first.json()["id"])
    again = await keyed("night-1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    told = problem(await keyed("night-1", {"full": True}), 422)
    assert told["errors"][0]["at"] == "header.idempotency-key"
    assert (await keyed("night-2")).json()["id"] != first.json()["id"]


async def test_another_tenants_run_is_as_good_as_absent(synced: Synced) -> None:
    _, run = await synced.ask()
    theirs = synced.api.as_(uuid4(), SCOPES)
    told = problem(await theirs.get(f"/api/runs/{run['id']}"), 404)
    await synced.work(run["id"])
    assert problem(await theirs.get(f"/api/runs/{run['id']}"), 404) == told
    nobodys = uuid4()
    absent = problem(await theirs.get(f"/api/runs/{nobodys}"), 404)
    assert absent["detail"].replace(str(nobodys), run["id"]) == told["detail"]
    problem(await theirs.get(f"{synced.path}/runs"), 404)
    problem(await theirs.get(f"{synced.path}/streams"), 404)


@pytest.mark.parametrize(
    ("how", "state", "who"),
    [
        ({"error": "HubSpot is away", "failure": Failure.UNAVAILABLE}, "put_off", "nobody"),
        ({"error": "refused", "failure": Failure.BROKEN}, "failed", "tenant"),
        ({"error": "forbidden", "failure": Failure.NOT_ALLOWED}, "failed", "tenant_administrator"),
        ({"error": "it changed", "failure": Failure.CONTRACT}, "failed", "operator"),
        ({"stopped": "cancelled"}, "cancelled", "nobody"),
        ({"stopped": "told to stop: up is ending"}, "put_off", "nobody"),
    ],
)
async def test_how_a_run_ended_is_told_with_who_must_act(
    world: Sandboxed, how: dict[str, Any], state: str, who: str
) -> None:
    connection = await world.connect("hubspot", size=1)
    flow_run_id = uuid4()
    run_id = await runs.start(
        world.database, connection, trigger="schedule", flow_run_id=flow_run_id
    )
    await runs.finish(world.database, run_id, connection, outcomes={}, requests=1, **how)
    noted = await history.of_flow_run(world.database, flow_run_id)
    assert noted is not None
    run = of_noted(world.settings, noted)
    assert (run.state, run.reason) == (state, "schedule")
    assert run.error is not None
    assert (run.error.who_acts, run.error.message) == (who, how.get("error") or how["stopped"])


async def test_the_pages_of_runs_have_every_run_once(world: Sandboxed) -> None:
    connection = await world.connect("hubspot", size=1)
    ids = []
    for number in range(5):
        flow_run_id = uuid4()
        ids.append(str(flow_run_id))
        run_id = await runs.start(
            world.database, connection, trigger="schedule", flow_run_id=flow_run_id
        )
        await runs.finish(world.database, run_id, connection, outcomes={}, requests=1)
        world.run(
            f"UPDATE sync_runs SET started_at = now() - interval '{9 - number // 2} minutes'"
            f" WHERE id = '{run_id}'"
        )
    settings = read(prefect_api_url="http://127.0.0.1:9/api", jwt_secret=JWT_SECRET)
    found: list[str] = []
    async with serving_api(settings) as api:
        mine = api.as_(connection.tenant_id, SCOPES)
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = (await mine.get(f"/api/connections/{connection.id}/runs", **params)).json()
            # Prefect is away: what waits there is not known, and that is said.
            assert page["complete"] is bool(found)
            found += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert sorted(found) == sorted(ids)
        assert found[0] == ids[4]
        for cursor in ("x", "WyJhIiwiYiJd", "WyIyMDI2LTAxLTAxIiwiYiJd"):
            told = problem(
                await mine.get(f"/api/connections/{connection.id}/runs", cursor=cursor), 422
            )
            assert told["errors"][0]["at"] == "query.cursor"
        problem(await mine.get(f"/api/runs/{uuid4()}"), 503)
