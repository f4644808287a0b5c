"""Leases, with two holders on connections of their own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from storage import LeaseLostError, NotFoundError, leases
from storage.database import Database
from storage.leases import Lease
from tests._stored import Stocked, row, stock, stored, write_in

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """A second process's own connections to the same database."""
    connected = Database.connect(database_url)
    yield connected
    await connected.close()


async def _acquire(
    database: Database, stocked: Stocked, holder: str, ttl: timedelta = MINUTE
) -> Lease | None:
    return await leases.acquire(database, kind="sync", holder=holder, ttl=ttl, **stocked.ids)


async def _got(database: Database, stocked: Stocked, holder: str, ttl: timedelta = MINUTE) -> Lease:
    lease = await _acquire(database, stocked, holder, ttl)
    assert lease is not None
    return lease


async def _expire(database: Database, stocked: Stocked) -> None:
    """The time of the lease is over."""
    async with database.transaction(stocked.tenant_id) as session:
        await session.execute(text("UPDATE leases SET expires_at = now() - interval '1 second'"))


async def _commit(database: Database, stocked: Stocked, lease: Lease, content: str) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        await leases.hold(session, lease)
        await write_in(session, stocked, [row("1", content, seconds=lease.epoch)])


async def test_a_lease_has_one_holder_until_it_is_released(
    database: Database, other: Database
) -> None:
    stocked = await stock(database)
    lease = await _got(database, stocked, "a")
    assert await _acquire(other, stocked, "b") is None
    await leases.release(database, lease)
    await leases.release(database, lease)
    assert (await _got(other, stocked, "b")).epoch == lease.epoch + 1


async def test_who_is_cancelled_while_taking_a_lease_holds_none(database: Database) -> None:
    stocked = await stock(database)
    await leases.release(database, await _got(database, stocked, "warm"))
    for tenth in range(40):
        taking = asyncio.create_task(_acquire(database, stocked, "cancelled"))
        await asyncio.sleep(tenth / 10_000)
        if taking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await taking
            await leases.release(database, await _got(database, stocked, "next"))
        elif lease := taking.result():
            await leases.release(database, lease)


async def test_of_many_at_once_one_gets_the_lease(database: Database, other: Database) -> None:
    stocked = await stock(database)
    found = await asyncio.gather(
        *(_acquire(of, stocked, f"{n}") for n in range(4) for of in (database, other))
    )
    assert sum(lease is not None for lease in found) == 1


async def test_the_kinds_of_lease_do_not_exclude_each_other(database: Database) -> None:
    stocked = await stock(database)
    await _got(database, stocked, "a")
    assert await leases.acquire(database, kind="event", holder="b", ttl=MINUTE, **stocked.ids)


async def test_a_stale_holder_cannot_commit(database: Database, other: Database) -> None:
    stocked = await stock(database)
    stale = await _got(database, stocked, "a")
    await _commit(database, stocked, stale, "by a")
    await _expire(database, stocked)
    current = await _got(other, stocked, "b")
    with pytest.raises(LeaseLostError, match="has passed to another"):
        await _commit(database, stocked, stale, "by a, too late")
    assert await stored(database, stocked) == {"1": "by a"}
    await _commit(other, stocked, current, "by b")
    assert await stored(database, stocked) == {"1": "by b"}


async def test_an_expired_lease_commits_nothing_even_if_nobody_else_has_it(
    database: Database,
) -> None:
    stocked = await stock(database)
    lease = await _got(database, stocked, "a")
    await _expire(database, stocked)
    with pytest.raises(LeaseLostError):
        await _commit(database, stocked, lease, "too late")
    await leases.renew(database, lease, MINUTE)
    await _commit(database, stocked, lease, "renewed")


async def test_a_lease_does_not_change_hands_while_a_batch_commits(
    database: Database, other: Database
) -> None:
    stocked = await stock(database)
    short = timedelta(seconds=2)
    lease = await _got(database, stocked, "a", short)
    async with database.transaction(stocked.tenant_id) as session:
        await leases.hold(session, lease)
        await asyncio.sleep(short.total_seconds())
        assert await _acquire(other, stocked, "b") is None
        await write_in(session, stocked, [row("1", "by a")])
    assert await _acquire(other, stocked, "b") is not None
    assert await stored(database, stocked) == {"1": "by a"}


async def test_a_commit_waits_for_a_lease_that_is_changing_hands(
    database: Database, other: Database
) -> None:
    stocked = await stock(database)
    stale = await _got(database, stocked, "a")
    async with other.transaction(stocked.tenant_id) as session:
        await session.execute(text("UPDATE leases SET epoch = epoch + 1, holder = 'b'"))
        committing = asyncio.create_task(_commit(database, stocked, stale, "by a, too late"))
        done, _ = await asyncio.wait([committing], timeout=0.2)
        assert not done
    with pytest.raises(LeaseLostError):
        await committing
    assert await stored(database, stocked) == {}


async def test_renewing_puts_the_expiry_off(database: Database, other: Database) -> None:
    stocked = await stock(database)
    lease = await _got(database, stocked, "a", timedelta(milliseconds=150))
    await leases.renew(database, lease, MINUTE)
    await asyncio.sleep(0.2)
    assert await _acquire(other, stocked, "b") is None


async def test_neither_a_lost_nor_a_released_lease_is_renewed(
    database: Database, other: Database
) -> None:
    stocked = await stock(database)
    lost = await _got(database, stocked, "a")
    await _expire(database, stocked)
    taken = await _got(other, stocked, "b")
    with pytest.raises(LeaseLostError):
        await leases.renew(database, lost, MINUTE)
    await leases.release(database, lost)
    await leases.renew(other, taken, MINUTE)
    await leases.release(other, taken)
    with pytest.raises(LeaseLostError):
        await leases.renew(other, taken, MINUTE)


async def test_there_is_no_lease_on_a_connection_that_is_not_there(database: Database) -> None:
    stocked = await stock(database)
    with pytest.raises(NotFoundError, match="there is no connection"):
        await _acquire(database, Stocked(stocked.tenant_id, uuid4(), uuid4()), "a")


async def test_there_is_no_lease_on_another_tenants_connection(database: Database) -> None:
    ours, theirs = await stock(database), await stock(database)
    mixed = Stocked(ours.tenant_id, theirs.connection_id, theirs.grant_id)
    with pytest.raises(NotFoundError, match="there is no connection"):
        await _acquire(database, mixed, "a")
