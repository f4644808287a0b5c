"""A machine whose clock is wrong: the database's is what counts."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cli.doctor import services
from cli.doctor.row import Row, State
from connectors.kernel.clock import Clock
from flows.sync import sync
from settings import read
from storage import sweeping
from storage.clock import DatabaseClock
from storage.database import Database
from tests._sandboxed import KEY, Sandboxed
from tests._stored import STREAM, Stocked, row, stock, stored, write
from tests._waiting import until

AHEAD = timedelta(hours=2)
SOON = timedelta(seconds=20)  # what a busy machine may take between two looks at a clock


def set_the_machines_clock(monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    monkeypatch.setattr(Clock, "now", lambda clock: datetime.now(UTC) + ahead)


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD])
async def test_a_process_goes_by_the_databases_clock_and_says_once_that_its_own_differs(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ahead: timedelta,
) -> None:
    set_the_machines_clock(monkeypatch, ahead)
    clock = DatabaseClock()
    async with clock.followed(database):
        await clock.read(database)
        assert abs(clock.now() - datetime.now(UTC)) < SOON
        set_the_machines_clock(monkeypatch, timedelta())
        assert abs(clock.now() - datetime.now(UTC)) < SOON, "our time moved with the machine's"
        await clock.read(database)
    which = "ahead of" if ahead > timedelta() else "behind"
    said = [line.getMessage() for line in caplog.records if line.name == "atom-sync.clock"]
    assert len(said) == 2
    assert f"clock is 2:00:00 {which} the database's, which is used" in said[0]
    assert said[1] == "this machine's clock agrees with the database's"


async def test_the_time_goes_on_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storage.clock.READ_EVERY", timedelta(seconds=0.05))
    nowhere = Database.connect("postgresql://nobody@127.0.0.1:1/nowhere")
    clock = DatabaseClock()
    async with clock.followed(database):
        before = clock.now()
        monkeypatch.setattr(database, "dispatching", nowhere.dispatching)
        await until(lambda: "the task clock fails" in caplog.text)
        assert before < clock.now() < before + SOON
    await nowhere.close()


async def test_a_worker_whose_clock_is_ahead_writes_and_plans_nothing_in_the_future(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await world.connect("hubspot")
    set_the_machines_clock(monkeypatch, AHEAD)
    assert (await sync(connection.id, return_state=True)).is_completed()
    set_the_machines_clock(monkeypatch, timedelta())
    assert world.one("SELECT count(*) FROM records WHERE observed_at > now()") == 0
    assert world.one("SELECT count(*) FROM checkpoints WHERE last_synced_at > now()") == 0
    world.change(connection, 40)
    assert (await sync(connection.id, full=True, return_state=True)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


async def stored_in_the_future(database: Database) -> Stocked:
    """Two records that a process wrote by a clock of its own, two hours ahead."""
    stocked = await stock(database)
    later = [row(key, "as it was")._replace(observed_at=datetime.now(UTC) + AHEAD) for key in "ab"]
    await write(database, stocked, later)
    return stocked


async def test_what_was_observed_in_the_future_gives_way_to_what_is_observed_now(
    database: Database,
) -> None:
    stocked, now = await stored_in_the_future(database), datetime.now(UTC)
    gone = row("a", deleted=True)._replace(observed_at=now)
    changed = row("b", "as it is")._replace(observed_at=now)
    await write(database, stocked, [gone, changed])
    assert await stored(database, stocked) == {"b": "as it is"}
    again = [row("b", "older")._replace(observed_at=now - SOON)]
    assert (await write(database, stocked, again)).updated == 0, "what is in its place stands"


async def test_a_full_read_takes_away_what_was_observed_in_the_future_and_is_gone(
    database: Database,
) -> None:
    stocked, now = await stored_in_the_future(database), datetime.now(UTC)
    async with database.transaction(stocked.tenant_id) as session:
        swept = await sweeping.sweep(
            session, stream=STREAM, **stocked.ids, scan_id=uuid4(), started_at=now
        )
    assert len(swept.gone) == 2
    assert await stored(database, stocked) == {}


async def test_doctor_names_a_clock_that_differs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read(_env_file=None, database_url=database_url, encryption_keys=KEY)

    async def clock() -> Row:
        return {row.what: row for row in await services.database(settings)}["clock"]

    assert (await clock()).state is State.OK
    set_the_machines_clock(monkeypatch, AHEAD)
    wrong = await clock()
    assert (wrong.state, wrong.failed) == (State.WRONG, False)
    assert "2:00:00 ahead of the database's" in wrong.found
