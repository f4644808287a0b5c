"""What a failed sync means for its connection, and what is left of one that was killed."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from flows._batches import Outcome
from storage import connections, leases, runs
from storage.database import Database
from storage.models import Failure
from tests._fleet import Fleet

MINUTES, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


async def ended(fleet: Fleet, connection_id: UUID, **how: Any) -> None:
    connection = await fleet.get(connection_id)
    run = await runs.start(fleet.database, connection, trigger="schedule")
    how.setdefault("outcomes", {})
    await runs.finish(fleet.database, run, connection, requests=1, **how)


def near(found: timedelta, wanted: timedelta) -> bool:
    """Within what a slow test takes."""
    return wanted - timedelta(minutes=1) < found <= wanted


async def test_each_failure_doubles_the_pause_up_to_a_day(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    for minutes in (5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440):
        await ended(fleet, connection_id, error="away", failure=Failure.UNAVAILABLE)
        assert near(fleet.due_in(connection_id), minutes * MINUTES)
    fleet.sql("UPDATE connections SET failures = 1000000")
    await ended(fleet, connection_id, error="away", failure=Failure.UNAVAILABLE)
    assert near(fleet.due_in(connection_id), DAY)


async def test_a_success_ends_the_backing_off_and_is_due_as_claimed(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    fleet.sql(
        "UPDATE connections SET failures = 3, failure = 'unavailable', claimed_due_at = now(),"
        " next_due_at = now() + interval '1 hour'"
    )
    await ended(fleet, connection_id)
    assert near(fleet.due_in(connection_id), timedelta(hours=1))
    assert fleet.sql("SELECT failures, failure, claimed_due_at FROM connections") == [
        (0, None, None)
    ]


async def test_a_manual_success_makes_what_was_put_off_due_again(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    fleet.sql("UPDATE connections SET failures = 9, next_due_at = now() + interval '1 day'")
    await ended(fleet, connection_id)
    assert fleet.due_in(connection_id) <= timedelta()


async def test_a_vendors_own_wait_is_kept_where_it_is_longer(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    failed = {"error": "asks us to wait", "failure": Failure.RATE_LIMITED}
    await ended(fleet, connection_id, wait=timedelta(hours=3), **failed)
    assert near(fleet.due_in(connection_id), timedelta(hours=3))
    fleet.sql("UPDATE connections SET failures = 8")
    await ended(fleet, connection_id, wait=timedelta(hours=3), **failed)
    assert near(fleet.due_in(connection_id), 1280 * MINUTES)


async def test_streams_that_work_are_not_held_back_by_one_that_does_not(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    fleet.sql("UPDATE connections SET failures = 7, next_due_at = now() + interval '1 hour'")
    outcomes = {"contacts": Outcome(done=True), "deals": Outcome(error="of another shape")}
    await ended(fleet, connection_id, error="deals: …", failure=Failure.CONTRACT, outcomes=outcomes)
    assert near(fleet.due_in(connection_id), timedelta(hours=1))
    assert fleet.sql("SELECT failures, failure FROM connections") == [(8, "contract")]


async def test_what_is_not_scheduled_stays_so(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    fleet.sql("UPDATE connections SET next_due_at = NULL")
    await ended(fleet, connection_id, error="away")
    await ended(fleet, connection_id)
    assert fleet.one("SELECT next_due_at FROM connections") is None


async def test_a_killed_syncs_run_is_ended_and_counts_as_a_failure(fleet: Fleet) -> None:
    killed, alive = fleet.make(2)
    for connection_id in (killed, alive):
        connection = await fleet.get(connection_id)
        await runs.start(fleet.database, connection, trigger="schedule")
    fleet.sql("UPDATE connections SET claimed_due_at = next_due_at, next_due_at = now()")
    await lease(fleet, alive)
    assert await runs.end_lost(fleet.database) == 1
    assert await runs.end_lost(fleet.database) == 0
    assert fleet.sql("SELECT connection_id, status, failure FROM sync_runs ORDER BY status") == [
        (killed, "crashed", "ours"),
        (alive, "running", None),
    ]
    assert near(fleet.due_in(killed), 5 * MINUTES)
    found = fleet.sql("SELECT id, failures, claimed_due_at IS NULL FROM connections")
    assert sorted(found) == sorted([(killed, 1, True), (alive, 0, False)])


async def test_of_two_unended_runs_only_the_newest_can_live(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    connection = await fleet.get(connection_id)
    first = await runs.start(fleet.database, connection, trigger="schedule")
    fleet.sql("UPDATE sync_runs SET started_at = started_at - interval '1 hour'")
    second = await runs.start(fleet.database, connection, trigger="manual")
    await lease(fleet, connection_id)
    assert await runs.end_lost(fleet.database) == 1
    assert dict(fleet.sql("SELECT id, status FROM sync_runs")) == {
        first: "crashed",
        second: "running",
    }


async def lease(fleet: Fleet, connection_id: UUID) -> leases.Lease:
    connection: connections.Connection = await fleet.get(connection_id)
    taken = await leases.acquire(
        fleet.database, connection_id=connection_id, tenant_id=connection.tenant_id, kind="sync",
        holder="test", ttl=timedelta(minutes=1),
    )  # fmt: skip
    assert taken is not None
    return taken
