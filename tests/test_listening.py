"""Listening beside a drain: what is heard becomes rows, and what was missed is read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from flows import _applying, _listening, events
from flows.events import drain_events
from flows.sync import sync
from flows.watches import renew_watches
from storage import connections, drains, feeds, leases
from tests._sandboxed import Sandboxed
from tests._waiting import until

UNHEARD = "SELECT count(*) FROM events WHERE applied_at IS NULL AND failed_at IS NULL"
REPLAY = "SELECT coalesce((state ->> 'replay')::bigint, 0) FROM feeds"
OPEN_GAPS = "SELECT count(*) FROM gaps WHERE closed_at IS NULL"


@pytest.fixture
def brief(world: Sandboxed, monkeypatch: pytest.MonkeyPatch) -> Sandboxed:
    monkeypatch.setenv("ATOM_DRAIN_LINGER_SECONDS", "1")
    monkeypatch.setattr(_listening, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(_applying, "LOOK_AGAIN", timedelta(seconds=1))
    return world


@pytest.fixture
async def org(brief: Sandboxed) -> connections.Connection:
    """A connection whose tenant wants us to listen, read once."""
    connection = await brief.connect("salesforce", change_events="yes")
    order(brief, connection, hold=0.5)
    await sync(connection.id, return_state=True)
    return connection


def order(world: Sandboxed, org: connections.Connection, **what: Any) -> Any:
    return world.control("POST", "/salesforce/change_events", {"account": org.account_id, **what})


@asynccontextmanager
async def listening(world: Sandboxed, org: connections.Connection) -> AsyncIterator[None]:
    """A drain is alive, and heard the vendor."""
    draining = asyncio.ensure_future(drain_events(0, return_state=True))
    try:
        await until(lambda: order(world, org)["sessions"])
        await until(lambda: world.one("SELECT heard_at > now() - interval '5 s' FROM feeds"))
        yield
    finally:
        await world.tell_to_stop()
        await draining
        world.begin_anew()


async def all_heard(world: Sandboxed, org: connections.Connection) -> None:
    last = order(world, org)["replay"]
    await until(lambda: world.one(REPLAY) == last)
    await until(lambda: world.one(UNHEARD) == 0)


async def test_what_changes_becomes_rows_without_a_poll(
    brief: Sandboxed, org: connections.Connection
) -> None:
    polled = brief.one("SELECT max(updated_at) FROM checkpoints")
    async with listening(brief, org):
        brief.change(org, 60)
        await all_heard(brief, org)
    assert brief.stored(org) == brief.vendor(org)
    assert brief.one("SELECT count(*) FROM events WHERE data ->> 'effect' = 'deleted'") > 0
    assert brief.one("SELECT max(updated_at) FROM checkpoints") == polled


async def test_what_happened_while_nobody_listened_is_told_later_and_once(
    brief: Sandboxed, org: connections.Connection
) -> None:
    async with listening(brief, org):
        brief.change(org, 5, seed=1)
        await all_heard(brief, org)
    brief.change(org, 20, seed=2)
    order(brief, org, drop=True)
    async with listening(brief, org):
        await all_heard(brief, org)
    assert brief.stored(org) == brief.vendor(org)
    assert brief.one("SELECT count(*) FROM gaps") == 0


async def test_a_replay_id_that_is_too_old_has_just_that_time_read(
    brief: Sandboxed, org: connections.Connection
) -> None:
    async with listening(brief, org):
        brief.change(org, 5, seed=1)
        await all_heard(brief, org)
    heard_until = brief.one("SELECT (state ->> 'until')::timestamptz FROM feeds")
    brief.change(org, 20, seed=2)
    order(brief, org, drop=True, forget=True)
    async with listening(brief, org):
        await until(lambda: brief.one(OPEN_GAPS))
    assert brief.one("SELECT since FROM gaps") == heard_until
    assert brief.stored(org) != brief.vendor(org)
    before = brief.one("SELECT string_agg(state::text, ' ' ORDER BY stream) FROM checkpoints")
    await renew_watches(return_state=True)
    assert brief.stored(org) == brief.vendor(org)
    assert brief.one(OPEN_GAPS) == 0
    after = brief.one("SELECT string_agg(state::text, ' ' ORDER BY stream) FROM checkpoints")
    assert after == before, "only that time was read"


@pytest.mark.parametrize("told_as", ["gap", "overflow"])
async def test_events_without_what_changed_lead_to_what_is_there(
    brief: Sandboxed, org: connections.Connection, told_as: str
) -> None:
    order(brief, org, told_as=told_as)
    async with listening(brief, org):
        brief.change(org, 20)
        await all_heard(brief, org)
    await renew_watches(return_state=True)
    assert brief.stored(org) == brief.vendor(org)


async def test_a_refused_token_and_a_lost_session_cost_no_event(
    brief: Sandboxed, org: connections.Connection
) -> None:
    async with listening(brief, org):
        brief.change(org, 5, seed=1)
        await all_heard(brief, org)
        brief.control("POST", "/salesforce/tokens", {"account": org.account_id, "op": "expire"})
        brief.change(org, 5, seed=2)
        await all_heard(brief, org)
        order(brief, org, drop=True)
        brief.change(org, 5, seed=3)
        await all_heard(brief, org)
    assert brief.stored(org) == brief.vendor(org)
    assert brief.one("SELECT count(*) FROM gaps") == 0
    assert brief.connection_status(org.id) == "active"


async def test_an_org_without_the_right_is_polled_and_asked_again_in_a_day(
    brief: Sandboxed, org: connections.Connection
) -> None:
    order(brief, org, refuse={"/meta/subscribe": "403::User not enabled for streaming"})
    state = await drain_events(0, return_state=True)
    assert state.is_completed(), state.message
    assert "may not listen" in brief.one("SELECT reason FROM feeds")
    assert brief.one("SELECT due_at > now() + interval '23 hours' FROM feeds")
    assert brief.connection_status(org.id) == "active"


async def test_a_drain_is_wanted_for_who_wants_to_be_listened_to_and_one_is_enough(
    brief: Sandboxed, org: connections.Connection
) -> None:
    assert await drains.missing(brief.database, 1)
    async with listening(brief, org):
        (wanted,) = await feeds.wanted(brief.database)
        assert not wanted.is_ready, "somebody listens"
    await until(lambda: brief.one("SELECT bool_and(expires_at IS NULL) FROM leases"))
    assert await drains.missing(brief.database, 1), "nobody does any more"
    brief.run("UPDATE connections SET status = 'paused'")
    assert await drains.missing(brief.database, 1) == []


async def test_a_tenant_that_connects_again_may_answer_otherwise(
    brief: Sandboxed, org: connections.Connection
) -> None:
    assert [one.connection_id for one in await feeds.wanted(brief.database)] == [org.id]
    again = await brief.connect("salesforce", account=org.account_id, change_events="no")
    assert again.id == org.id
    assert await feeds.wanted(brief.database) == []


async def test_a_connection_that_is_paused_is_listened_to_no_more(
    brief: Sandboxed, org: connections.Connection
) -> None:
    draining = asyncio.ensure_future(drain_events(0, return_state=True))
    await until(lambda: order(brief, org)["sessions"])
    brief.run("UPDATE connections SET status = 'paused'")
    state = await draining
    assert state.is_completed(), state.message
    assert brief.one("SELECT bool_and(expires_at IS NULL) FROM leases")


async def test_a_drain_that_only_listens_makes_way_after_some_time(
    brief: Sandboxed, org: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LISTENS_SECONDS", 4.0)
    state = await drain_events(0, return_state=True)
    assert state.is_completed(), state.message
    assert brief.one("SELECT heard_at IS NOT NULL FROM feeds")
    assert await drains.missing(brief.database, 1), "and the next one is wanted at once"


async def test_who_lost_the_lease_stores_nothing_of_what_it_heard(
    brief: Sandboxed, org: connections.Connection
) -> None:
    async with listening(brief, org):
        brief.run("UPDATE leases SET epoch = epoch + 1 WHERE kind = 'feed'")
        before = brief.one("SELECT state FROM feeds")
        brief.change(org, 5)
        await asyncio.sleep(1)
        assert brief.one("SELECT state FROM feeds") == before
        assert brief.one("SELECT count(*) FROM events") == 0
    held = await leases.acquire(
        brief.database, connection_id=org.id, tenant_id=org.tenant_id, kind="feed",
        holder="another", ttl=timedelta(seconds=60),
    )  # fmt: skip
    assert held is None, "it was not ours to give back"


async def test_what_postgresql_does_not_take_is_put_off_and_keeps_no_drain_from_its_events(
    brief: Sandboxed, org: connections.Connection
) -> None:
    refusing = "CHECK (type NOT LIKE 'change.%') NOT VALID"
    async with listening(brief, org):
        brief.change(org, 3, seed=1)
        await all_heard(brief, org)
        brief.run(f"ALTER TABLE events ADD CONSTRAINT nothing {refusing}")
        brief.change(org, 3, seed=2)
        await until(lambda: brief.one("SELECT reason IS NOT NULL FROM feeds"))
    assert brief.one("SELECT reason FROM feeds") == "PostgreSQL does not take what was heard"
    assert brief.one("SELECT due_at > now() + interval '50 minutes' FROM feeds")
    brief.run("ALTER TABLE events DROP CONSTRAINT nothing")
    brief.run("UPDATE feeds SET due_at = now()")
    async with listening(brief, org):
        await all_heard(brief, org)
    assert brief.stored(org) == brief.vendor(org)
