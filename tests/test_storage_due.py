"""What is due is taken by one dispatcher, once, the latest first, and nothing of it is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from storage import Status, Tier, due
from storage.database import Database
from storage.due import Claim, Scope
from storage.shards import shard_of
from tests._fleet import Fleet
from tests.test_storage_failures import lease

HUBSPOT = Scope("hubspot", Tier.TEAM)
HOUR = timedelta(hours=1)


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


def in_an_hour(claim: Claim) -> datetime:
    return datetime.now(UTC) + HOUR


async def claim(database: Database, scope: Scope = HUBSPOT, at_most: int = 50) -> list[Claim]:
    return await due.claim(database, scope, by=datetime.now(UTC), slot=in_an_hour, at_most=at_most)


def ids(claims: list[Claim]) -> list[UUID]:
    return [each.connection.id for each in claims]


async def test_who_is_cancelled_while_taking_has_taken_nothing(fleet: Fleet) -> None:
    fleet.make(3)
    await due.give_back(fleet.database, await claim(fleet.database))
    for tenth in range(40):
        taking = asyncio.create_task(claim(fleet.database))
        await asyncio.sleep(tenth / 10_000)
        if taking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await taking
        else:
            await due.give_back(fleet.database, taking.result())
        claims = await claim(fleet.database)
        assert len(claims) == 3
        await due.give_back(fleet.database, claims)


async def test_eight_dispatchers_take_everything_and_nothing_twice(fleet: Fleet) -> None:
    wanted = fleet.make(3000)

    async def dispatcher() -> list[UUID]:
        taken: list[UUID] = []
        database = Database.connect(fleet.url, pool_size=1)
        try:
            while batch := await claim(database):
                taken += ids(batch)
        finally:
            await database.close()
        return taken

    takings = await asyncio.gather(*(dispatcher() for _ in range(8)))
    counts = Counter(each for taking in takings for each in taking)
    assert set(counts) == set(wanted)
    assert set(counts.values()) == {1}
    assert sum(bool(taking) for taking in takings) == 8


async def test_the_latest_come_first_and_go_to_their_next_slot(fleet: Fleet) -> None:
    made = fleet.make(120)
    since = dict(fleet.sql("SELECT id, next_due_at FROM connections"))
    first = await claim(fleet.database)
    assert ids(first) == sorted(made, key=lambda id: since[id])[:50]
    assert [each.due_at for each in first] == [since[id] for id in ids(first)]
    assert timedelta(minutes=59) < fleet.due_in(ids(first)[0]) <= HOUR
    assert len(await claim(fleet.database)) == 50
    assert len(await claim(fleet.database)) == 20
    assert await claim(fleet.database) == []


async def test_only_what_is_due_active_and_of_the_scope_is_taken(fleet: Fleet) -> None:
    (wanted,) = fleet.make(1)
    fleet.make(1, tier="FREE", prefix="free")
    fleet.make(1, integration="gmail", prefix="gmail")
    paused, broken, later, never = fleet.make(4, prefix="resting")
    for connection_id, change in (
        (paused, "status = 'paused'"),
        (broken, "status = 'needs_reauth'"),
        (later, "next_due_at = now() + interval '1 minute'"),
        (never, "next_due_at = NULL"),
    ):
        fleet.sql(f"UPDATE connections SET {change} WHERE id = %s", (connection_id,))
    assert ids(await claim(fleet.database)) == [wanted]
    resting = await due.resting(fleet.database, HUBSPOT, by=datetime.now(UTC))
    assert resting == {Status.PAUSED: 1, Status.NEEDS_REAUTH: 1}


async def test_shards_share_the_connections_among_them(fleet: Fleet) -> None:
    made = fleet.make(300)
    taken = {}
    for shard in range(3):
        scope = Scope("hubspot", Tier.TEAM, shard, 3)
        taken[shard] = set(ids(await claim(fleet.database, scope, at_most=300)))
        assert {shard_of(each, 3) for each in taken[shard]} == {shard}
    assert set.union(*taken.values()) == set(made)


async def test_a_claim_tells_which_watches_live(fleet: Fleet) -> None:
    watched, unwatched = fleet.make(2)
    for resource, status, ends in (
        ("live", "active", "1 day"), ("endless", "active", None), ("over", "active", "-1 day"),
        ("gone", "retiring", "1 day"),
    ):  # fmt: skip
        fleet.sql(
            "INSERT INTO watches (id, tenant_id, connection_id, vendor_id, resource, status,"
            " expires_at) SELECT gen_random_uuid(), tenant_id, id, %s, %s, %s,"
            " now() + %s::interval FROM connections WHERE id = %s",
            (resource, resource, status, ends, watched),
        )
    found = {each.connection.id: each.watched for each in await claim(fleet.database)}
    assert found == {watched: {"live", "endless"}, unwatched: frozenset()}


async def test_what_another_has_locked_is_left_to_it(fleet: Fleet) -> None:
    made = fleet.make(3)
    async with locked(fleet, made[0]):
        assert set(ids(await claim(fleet.database))) == set(made[1:])
    assert ids(await claim(fleet.database)) == made[:1]


async def test_what_is_given_back_is_as_due_as_it_was(fleet: Fleet) -> None:
    fleet.make(3)
    before = fleet.sql("SELECT id, next_due_at FROM connections ORDER BY id")
    claims = await claim(fleet.database)
    await due.give_back(fleet.database, claims)
    assert fleet.sql("SELECT id, next_due_at FROM connections ORDER BY id") == before
    assert fleet.one("SELECT count(claimed_due_at) FROM connections") == 0
    assert set(ids(await claim(fleet.database))) == set(ids(claims))


async def test_what_was_settled_is_not_given_back_any_more(fleet: Fleet) -> None:
    fleet.make(2)
    claims = await claim(fleet.database)
    await due.settle(fleet.database, claims[:1])
    await due.give_back(fleet.database, claims)
    assert ids(await claim(fleet.database)) == ids(claims[1:])


async def test_what_a_killed_dispatcher_had_taken_is_due_again(fleet: Fleet) -> None:
    fleet.make(60)
    others = fleet.make(2, tier="FREE", prefix="free")
    taken = await claim(fleet.database)
    assert len(await claim(fleet.database, Scope("hubspot", Tier.FREE))) == 2
    alive = ids(taken)[0]
    await lease(fleet, alive)
    assert await due.recover(fleet.database, HUBSPOT) == 49
    again = ids(await claim(fleet.database, at_most=100))
    assert set(ids(taken)) - {alive} <= set(again)
    assert alive not in again
    assert len(again) == 59
    assert fleet.due_in(others[0]) > timedelta()


async def test_what_a_claim_failed_to_take_is_as_due_as_it_was(fleet: Fleet) -> None:
    made = fleet.make(2)

    def slot(claim: Claim) -> datetime:
        raise LookupError("no such slot")

    with pytest.raises(LookupError, match="no such slot"):
        await due.claim(fleet.database, HUBSPOT, by=datetime.now(UTC), slot=slot)
    assert set(ids(await claim(fleet.database))) == set(made)


async def test_a_claim_does_not_notice_that_the_pooled_connection_had_died(fleet: Fleet) -> None:
    assert await claim(fleet.database) == []
    made = fleet.make(1)
    fleet.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert ids(await claim(fleet.database)) == made


async def test_only_a_claim_does_not_wait_for_the_disk(fleet: Fleet) -> None:
    database = Database.connect(fleet.url, pool_size=1, max_overflow=0)
    async with database.claiming() as sql:
        assert await (await sql.execute("SHOW synchronous_commit")).fetchone() == ("off",)
    async with database.dispatching() as session:
        assert await session.scalar(text("SHOW synchronous_commit")) == "on"
    await database.close()


@asynccontextmanager
async def locked(fleet: Fleet, connection_id: UUID) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(fleet.url) as sql:
        await sql.execute("SELECT FROM connections WHERE id = %s FOR UPDATE", (connection_id,))
        yield
