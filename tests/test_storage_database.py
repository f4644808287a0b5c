"""Transactions on a database that is there, goes away, and comes back."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from storage import DatabaseUnavailableError
from storage.database import Database, engine, postgres
from tests._stored import Stocked, row, stock, stored, write, write_in
from tests._waiting import found


async def _ping(database: Database) -> None:
    async with database.dispatching() as session:
        await session.execute(text("SELECT 1"))


async def _cut(session_pid: int, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", [session_pid])


async def test_a_database_that_does_not_answer_is_unavailable_and_no_password_is_told() -> None:
    database = Database.connect("postgresql://someone:hunter2@127.0.0.1:1/atom?connect_timeout=2")
    with pytest.raises(DatabaseUnavailableError, match="the database is unavailable") as caught:
        await _ping(database)
    assert "hunter2" not in str(caught.value)
    await database.close()


def test_a_url_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailableError, match="it should look like") as caught:
        Database.connect("postgresql://someone:hunter2@host:port@/x?nonsense=1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_a_url_is_taken_with_any_parameter_of_libpq(database_url: str, scheme: str) -> None:
    url = database_url.replace("postgresql", scheme, 1)
    url += "&sslmode=prefer&application_name=mine&options=-c%20statement_timeout%3D7777"
    database = Database.connect(url)
    query = text("SELECT current_setting('application_name'), current_setting('statement_timeout')")
    async with database.dispatching() as session:
        assert tuple((await session.execute(query)).one()) == ("mine", "7777ms")
    await database.close()


async def _die_in_mid_batch(
    database: Database, stocked: Stocked, url: str, *, copying: bool
) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await write_in(session, stocked, [row("1", "half")])
        assert isinstance(pid, int)
        if not copying:
            await _cut(pid, url)
            await write_in(session, stocked, [row("2", "half")])
            return
        cursor = (await postgres(session)).cursor()
        async with cursor.copy("COPY pg_temp.atom_batch FROM STDIN") as copy:
            await _cut(pid, url)
            while True:
                await copy.write(b"x" * 100_000)


@pytest.mark.parametrize("copying", [False, True])
async def test_a_database_that_goes_away_in_mid_batch_keeps_nothing_of_it(
    database: Database, database_url: str, copying: bool
) -> None:
    stocked = await stock(database)
    with pytest.raises(DatabaseUnavailableError):
        await _die_in_mid_batch(database, stocked, database_url, copying=copying)
    assert await stored(database, stocked) == {}
    await write(database, stocked, [row("1", "whole")])
    assert await stored(database, stocked) == {"1": "whole"}


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    database: Database, database_url: str
) -> None:
    stocked = await stock(database)
    await asyncio.gather(*(_ping(database) for _ in range(3)))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await stored(database, stocked) == {}
    await asyncio.gather(*(_ping(database) for _ in range(3)))


@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        # As on a standby, while the database fails over to it.
        ("SET LOCAL transaction_read_only = on", "CREATE TABLE made ()"),
        ("SET LOCAL statement_timeout = 10", "SELECT pg_sleep(5)"),
    ],
)
async def test_what_only_says_not_now_is_unavailable(
    setting: str, statement: str, database: Database
) -> None:
    async def ask() -> None:
        async with database.owning() as session:
            await session.execute(text(setting))
            await session.execute(text(statement))

    with pytest.raises(DatabaseUnavailableError):
        await ask()


async def test_a_pool_with_nothing_to_spare_says_so(database_url: str) -> None:
    pooled = engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    database = Database(pooled, "public")
    async with database.dispatching():
        with pytest.raises(DatabaseUnavailableError, match="every database connection"):
            await _ping(database)
    await database.close()


async def test_a_cancelled_transaction_leaves_nothing_and_gives_its_connection_back(
    database_url: str,
) -> None:
    database = Database.connect(database_url, pool_size=1, max_overflow=0)
    stocked = await stock(database)

    async def work() -> None:
        async with database.transaction(stocked.tenant_id) as session:
            await write_in(session, stocked, [row("1", "half")])
            await session.execute(text("SELECT pg_sleep(60)"))

    working = asyncio.create_task(work())
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as sql:

        async def is_asleep() -> bool:
            row = await (await sql.execute(asleep)).fetchone()
            return row == (1,)

        await found(is_asleep)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await stored(database, stocked) == {}
    await database.close()


async def test_times_are_reckoned_in_utc_whatever_zone_the_server_is_set_to(
    database_url: str,
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        name = admin.info.dbname
        await admin.execute(f"ALTER DATABASE {name} SET timezone = 'America/New_York'".encode())
    database = Database.connect(database_url)
    just_changed = datetime(2027, 3, 14, 7, 5, tzinfo=UTC)  # from two o'clock there to three
    query = text("SELECT CAST(:at AS timestamptz) + CAST(:by AS interval)")
    values = {"at": just_changed, "by": -timedelta(minutes=10)}
    async with database.dispatching() as session:
        reckoned = await session.scalar(query, values)
    assert reckoned.isoformat() == "2027-03-14T06:55:00+00:00"
    await database.close()
