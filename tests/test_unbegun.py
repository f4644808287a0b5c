"""A run that a worker took and never began is closed, and the backfill it owed is started again."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow_async
from prefect.states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
    Submitting,
)

from accounts.runtime import opened
from deployments.prefect_yaml import deploy
from deployments.stale_runs import BEGINS_WITHIN, CUT_OFF, UNBEGUN, crash_unbegun
from deployments.unbegun import Fate, fate_of, look_after, pause
from flows.sync import sync
from flows.upkeep import upkeep
from settings import read
from storage import backfills, connections, runs
from storage.connections import MAX_RETRY_AFTER, RETRY_AFTER
from tests._sandboxed import Sandboxed
from web._background import start_backfills

NOW = datetime.now(UTC)
OURS = uuid4()
MINUTE = timedelta(minutes=1)


class Owing:
    """A connection whose backfill is owed, and the Prefect server that is asked for it."""

    def __init__(
        self, world: Sandboxed, client: PrefectClient, url: str, database: str,
        connection: connections.Connection,
    ) -> None:  # fmt: skip
        self.world, self.client, self.connection = world, client, connection
        self._url, self._database = url, database

    async def started(self) -> UUID | None:
        """What the web process does every two seconds; the run that is now to begin."""
        async with opened(read(prefect_api_url=self._url)) as runtime:
            await start_backfills(runtime)
        found: UUID | None = self.world.one("SELECT backfill_run_id FROM connections")
        return found

    async def set(self, flow_run_id: UUID, state: State[Any], *, ago: timedelta = MINUTE) -> None:
        """The run came into that state so long ago."""
        await self.client.set_flow_run_state(flow_run_id, state, force=True)
        with psycopg.connect(self._database) as sql:
            sql.execute(
                "UPDATE flow_run_state SET timestamp = timestamp - %s"
                " WHERE id = (SELECT state_id FROM flow_run WHERE id = %s)",
                (ago, flow_run_id),
            )

    async def state_of(self, flow_run_id: UUID) -> State[Any]:
        state = (await self.client.read_flow_run(flow_run_id)).state
        assert state is not None
        return state

    async def look(self) -> Fate | None:
        """What upkeep finds of this backfill."""
        fates = await look_after(self.client, self.world.database)
        assert fates.total() <= 1
        return next(iter(fates), None)

    async def run(self, flow_run_id: UUID) -> State[Any]:
        """As a worker's process does, in this one."""
        flow_run = await self.client.read_flow_run(flow_run_id)
        ended: Any = await run_flow_async(
            sync, flow_run=flow_run, parameters=flow_run.parameters, return_type="state"
        )
        state: State[Any] = ended
        return state


@pytest.fixture
async def owing(world: Sandboxed, prefect_url: str, prefect_database: str) -> Any:
    connection = await world.connect("hubspot", size=3)
    world.run("UPDATE connections SET backfill_owed_at = now()")
    async with PrefectClient(prefect_url) as client:
        await deploy(client)
        yield Owing(world, client, prefect_url, prefect_database, connection)


async def test_a_run_that_no_worker_begins_is_closed_and_its_backfill_started_again(
    owing: Owing,
) -> None:
    first = await owing.started()
    assert first is not None
    assert await owing.started() == first, "asked for once"
    taken: tuple[State[Any], ...] = (Pending(), Submitting())
    for state in taken:
        # On a busy machine, or while an image is pulled.
        await owing.set(first, state, ago=BEGINS_WITHIN - MINUTE)
        assert "never began" not in ((await kept_up()).message or "")
        assert (await owing.state_of(first)).name == state.name
        assert await owing.started() == first

    await owing.set(first, Submitting(), ago=BEGINS_WITHIN + MINUTE)
    message = (await kept_up()).message or ""
    assert re.search(r"[1-9]\d* runs that never began set to Crashed", message)
    assert f"1 {Fate.OWED}" in message
    closed = await owing.state_of(first)
    assert (closed.name, closed.message) == ("Crashed", UNBEGUN)
    second = await owing.started()
    assert second not in (None, first)
    assert await owing.look() is Fate.WAITS


async def test_a_closed_run_that_begins_after_all_does_nothing_twice(owing: Owing) -> None:
    first = await owing.started()
    assert first is not None
    await owing.set(first, Pending(), ago=BEGINS_WITHIN + MINUTE)
    await kept_up()
    second = await owing.started()
    assert second is not None
    for run in (first, second):
        assert (await owing.run(run)).is_completed()
        assert owing.world.stored(owing.connection) == owing.world.vendor(owing.connection)
    written = owing.world.all(
        "SELECT (SELECT sum((value->>'rows')::int) FROM jsonb_each(streams)) > 0"
        " FROM sync_runs ORDER BY started_at"
    )
    assert written == [(True,), (False,)]
    assert await owing.look() is None
    assert await owing.started() is None


async def test_a_backfill_that_has_begun_is_not_owed_whatever_becomes_of_its_run(
    owing: Owing,
) -> None:
    run = await owing.started()
    assert run is not None
    await owing.set(run, Crashed())
    await runs.start(owing.world.database, owing.connection, trigger="connect", flow_run_id=run)
    assert await owing.look() is None
    assert await owing.started() is None


async def test_a_run_that_waits_for_a_worker_is_left_alone_however_late(owing: Owing) -> None:
    run = await owing.started()
    assert run is not None
    hours = timedelta(hours=5)
    await owing.set(run, Scheduled(scheduled_time=datetime.now(UTC) - hours), ago=hours)
    await crash_unbegun(owing.client, ["sync"])
    assert (await owing.state_of(run)).is_scheduled()
    assert await owing.look() is Fate.WAITS


async def test_a_backfill_that_a_hand_cancelled_is_left_to_its_schedule(owing: Owing) -> None:
    run = await owing.started()
    assert run is not None
    await owing.set(run, Cancelled())
    assert f"1 {Fate.GIVEN_UP}" in ((await kept_up()).message or "")
    assert await owing.started() is None
    assert owing.world.one("SELECT next_due_at <= now() FROM connections")


async def test_a_run_that_is_gone_from_prefect_is_asked_for_anew(owing: Owing) -> None:
    run = await owing.started()
    assert run is not None
    await owing.client.delete_flow_run(run)
    assert await owing.look() is Fate.OWED
    assert await owing.started() not in (None, run)


async def test_a_tenant_that_connects_again_owes_a_backfill_of_its_own(owing: Owing) -> None:
    run = await owing.started()
    assert run is not None
    (asked,) = await backfills.asked(owing.world.database)
    owing.world.run("UPDATE connections SET backfill_owed_at = now(), backfill_run_id = NULL")
    newer = await owing.started()
    assert newer not in (None, run)
    await backfills.owe_again(owing.world.database, asked)
    await backfills.settle(owing.world.database, asked)
    assert owing.world.one("SELECT backfill_run_id FROM connections") == newer


def run_in(state: State[Any] | None, deployment_id: UUID | None = OURS) -> FlowRun:
    return FlowRun(flow_id=uuid4(), deployment_id=deployment_id, state=state)


def ended(state: State[Any], ago: timedelta) -> State[Any]:
    return state.model_copy(update={"timestamp": NOW - ago})


@pytest.mark.parametrize(
    ("run", "tries", "fate"),
    [
        (None, 0, Fate.OWED),
        (run_in(Scheduled()), 0, Fate.WAITS),
        (run_in(Running()), 0, Fate.WAITS),
        # "is already being synced by another run"
        (run_in(Completed(name="Skipped")), 0, Fate.DONE),
        (run_in(Cancelled()), 0, Fate.GIVEN_UP),
        (run_in(ended(Cancelled(name=CUT_OFF), MINUTE)), 0, Fate.OWED),
        # Prefect cancels a run whose deployment somebody deleted.
        (run_in(ended(Cancelled(), MINUTE), deployment_id=uuid4()), 0, Fate.OWED),
        (run_in(ended(Crashed(), MINUTE)), 0, Fate.OWED),
        (run_in(ended(Failed(), MINUTE)), 1, Fate.WAITS),
        (run_in(ended(Failed(), RETRY_AFTER)), 1, Fate.OWED),
        (run_in(ended(Crashed(), 2 * RETRY_AFTER - MINUTE)), 2, Fate.WAITS),
        (run_in(ended(Crashed(), MAX_RETRY_AFTER)), 1_000, Fate.OWED),
    ],
)
def test_what_becomes_of_a_backfill_that_has_not_begun(
    run: FlowRun | None, tries: int, fate: Fate
) -> None:
    assert fate_of(run, tries, OURS, NOW) is fate


def test_runs_that_never_begin_come_ever_less_often() -> None:
    assert [pause(tries) for tries in (0, 1, 2, 3, 99)] == [
        timedelta(), RETRY_AFTER, 2 * RETRY_AFTER, 4 * RETRY_AFTER, MAX_RETRY_AFTER,
    ]  # fmt: skip


async def kept_up() -> State[Any]:
    state: State[Any] = await upkeep(return_state=True)
    return state
