"""Events on their way into the tables: applied, put off or set aside, in any order."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State

from connectors import Effect, Event
from flows.events import drain_events, sync_events
from flows.sync import sync
from storage import Tier, checkpoints, connections, drains, inbox, leases
from tests._sandboxed import Sandboxed
from tests._stored import stock
from tests._waiting import until


async def told(world: Sandboxed, connection: connections.Connection, *events: Event) -> None:
    """The events, as the web process stores them."""
    arrivals = [
        inbox.Arrival(
            integration=connection.integration,
            event=event,
            received_at=datetime.now(UTC),
            connection_id=connection.id,
        )
        for event in events
    ]
    await inbox.receive(world.database, arrivals)


@pytest.fixture
async def hubspot(world: Sandboxed) -> connections.Connection:
    connection = await world.connect("hubspot")
    await sync(connection.id, return_state=True)
    return connection


def in_a_year() -> str:
    return f"{datetime.now(UTC) + timedelta(days=365):%Y-%m-%dT%H:%M:%SZ}"


def changed(key: str, stream: str = "contacts", effect: Effect = Effect.READ, **more: Any) -> Event:
    more.setdefault("id", f"{stream}:{key}:{datetime.now(UTC).timestamp()}")
    return Event(type="changed", effect=effect, streams=(stream,), key=key, **more)


async def applied(*linked: connections.Connection) -> State[Any]:
    state: State[Any] = await sync_events(
        linked[0].integration, [one.id for one in linked], return_state=True
    )
    return state


def pending(world: Sandboxed) -> int:
    query = "SELECT count(*) FROM events WHERE applied_at IS NULL AND failed_at IS NULL"
    return int(world.one(query))


async def test_ids_are_read_again_and_what_is_gone_is_deleted(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    world.change(hubspot, 40)
    ids = world.vendor(hubspot)["contacts"].keys() | world.stored(hubspot)["contacts"].keys()
    await told(world, hubspot, *(changed(key) for key in ids))
    before = world.control("GET", "/hubspot/requests")["total"]
    state = await applied(hubspot)
    assert state.is_completed(), state.message
    assert world.stored(hubspot)["contacts"] == world.vendor(hubspot)["contacts"]
    gone = len(ids) - len(world.vendor(hubspot)["contacts"])
    # In batches of a hundred; what is gone is asked for by itself.
    assert world.control("GET", "/hubspot/requests")["total"] - before <= 1 + gone
    assert pending(world) == 0


async def test_a_hint_reads_what_is_new_in_the_streams_it_names(world: Sandboxed) -> None:
    connection = await world.connect("gmail")
    await sync(connection.id, return_state=True)
    world.change(connection, 40)
    hint = Event(id="1", type="history", effect=Effect.HINT)
    await told(world, connection, hint)
    state = await applied(connection)
    assert "1 events applied; 1 connections read anew" in (state.message or "")
    stored, vendor = world.stored(connection), world.vendor(connection)
    for stream in ("messages", "threads", "history"):
        assert stored[stream] == vendor[stream]


async def test_a_hint_that_comes_during_a_sync_is_read_before_the_sync_leaves(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    world.control("DELETE", "/hubspot/requests")
    world.hold("hubspot", path="/owners")
    syncing = asyncio.ensure_future(sync(hubspot.id, return_state=True))
    await until(lambda: world.asked("hubspot", "/owners"))
    assert world.asked("hubspot", "/contacts"), "contacts have been read by now"
    world.change(hubspot, 20, seed=9)
    await told(world, hubspot, Event(id="1", type="any", effect=Effect.HINT, streams=("contacts",)))
    state = await applied(hubspot)
    assert "1 events applied" in (state.message or "")
    assert not syncing.done(), "events do not wait for a long sync"
    world.let_go("hubspot")
    await syncing
    assert world.stored(hubspot)["contacts"] == world.vendor(hubspot)["contacts"]
    query = "SELECT count(*) FROM checkpoints WHERE dirty_generation > read_generation"
    assert world.one(query) == 0


async def test_a_record_in_an_event_is_stored_as_it_is(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    key, record = next(iter(world.stored(hubspot)["contacts"].items()))
    later = {**record, "updatedAt": in_a_year()}
    world.control("DELETE", "/hubspot/requests")
    await told(world, hubspot, changed(key, effect=Effect.RECORD, record=later))
    await applied(hubspot)
    assert world.stored(hubspot)["contacts"][key] == later
    assert world.control("GET", "/hubspot/requests")["total"] == 0, "nothing is asked of HubSpot"


async def test_an_older_event_that_comes_late_does_not_undo_a_newer_one(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    key, record = next(iter(world.stored(hubspot)["contacts"].items()))
    now = datetime.now(UTC)
    await told(world, hubspot, changed(key, effect=Effect.DELETED, at=now))
    await applied(hubspot)
    stale = changed(key, effect=Effect.RECORD, record=record, at=now - timedelta(minutes=1))
    await told(world, hubspot, stale)
    await applied(hubspot)
    assert key not in world.stored(hubspot)["contacts"]


async def test_all_under_a_prefix_is_gone_but_what_came_after(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    _, record = next(iter(world.stored(hubspot)["contacts"].items()))
    now = datetime.now(UTC)

    def told_of(key: str, seconds: float) -> Event:
        at = now - timedelta(seconds=seconds)
        return changed(key, effect=Effect.RECORD, record={**record, "id": key}, at=at)

    others = set(world.stored(hubspot)["contacts"])
    await told(world, hubspot, told_of("x/1", 60), told_of("x/2", 10))
    emptied = changed("x/", effect=Effect.EMPTIED, at=now - timedelta(seconds=30))
    await told(world, hubspot, emptied)
    await applied(hubspot)
    assert set(world.stored(hubspot)["contacts"]) == others | {"x/2"}


async def test_one_bad_event_is_set_aside_with_its_reason_and_the_rest_go_on(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    world.change(hubspot, 10)
    ids = list(world.vendor(hubspot)["contacts"])
    bad = changed("", effect=Effect.RECORD, record={"nothing": "that identifies it"})
    await told(world, hubspot, bad, *(changed(key) for key in ids))
    for attempt in range(1, 6):
        world.run("UPDATE events SET due_at = now()")
        state = await applied(hubspot)
        assert state.is_failed()
        assert world.one("SELECT attempts FROM events WHERE error IS NOT NULL") == attempt
        assert pending(world) == (1 if attempt < 5 else 0)
    (aside,) = await inbox.set_aside(world.database)
    assert aside.tenant == "acme"
    assert "without its key" in aside.reason
    assert await inbox.retry(world.database, [aside.id]) == 1
    assert pending(world) == 1


async def test_an_event_whose_process_dies_each_time_is_set_aside(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    await told(world, hubspot, changed("1"))
    world.run("UPDATE events SET attempts = 5")
    await applied(hubspot)
    (aside,) = await inbox.set_aside(world.database)
    assert "ended, each time" in aside.reason


async def test_of_many_in_a_process_that_dies_only_what_kills_it_is_set_aside(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    await told(world, hubspot, *(changed(str(number), id=str(number)) for number in range(100)))
    killer = world.one("SELECT id FROM events WHERE event_id = '42'")
    tried = 0
    while pending(world):
        tried += 1
        assert tried < 60
        async with world.database.transaction(hubspot.tenant_id) as session:
            taken = await inbox.take(session, hubspot.id)
        if killer not in [event.id for event in taken]:  # else its process is dead by now
            async with world.database.transaction(hubspot.tenant_id) as session:
                await inbox.mark_applied(session, [event.id for event in taken])
    assert world.one("SELECT array_agg(id) FROM events WHERE failed_at IS NOT NULL") == [killer]


async def test_an_event_of_a_newer_release_waits_for_it_and_keeps_nobody(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    world.change(hubspot, 20)
    ids = world.vendor(hubspot)["contacts"].keys() | world.stored(hubspot)["contacts"].keys()
    await told(world, hubspot, *(changed(key) for key in ids), changed(min(ids), id="new"))
    world.run(
        "UPDATE events SET data = jsonb_set(data, '{effect}', '\"not thought of yet\"')"
        " WHERE event_id = 'new'"
    )
    for _ in range(7):
        state = await applied(hubspot)
        assert state.is_completed(), state.message
        world.run("UPDATE events SET due_at = now()")
    assert world.stored(hubspot)["contacts"] == world.vendor(hubspot)["contacts"]
    counted = await inbox.counts(world.database)
    assert (counted["pending"], counted["foreign"], counted["failed"]) == (1, 1, 0)
    assert world.one("SELECT attempts FROM events WHERE event_id = 'new'") == 0

    world.run("UPDATE events SET data = jsonb_set(data, '{effect}', '\"read\"')")
    await applied(hubspot)
    assert pending(world) == 0


async def test_a_vendor_that_cannot_now_is_no_attempt_and_holds_up_only_what_needs_it(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    key, record = next(iter(world.stored(hubspot)["contacts"].items()))
    later = {**record, "updatedAt": in_a_year()}
    await told(world, hubspot, changed("1"), changed(key, effect=Effect.RECORD, record=later))
    world.fault("hubspot", "429", retry_after=3_600, count=50)
    state = await applied(hubspot)
    assert state.is_completed()
    assert world.stored(hubspot)["contacts"][key] == later
    row = world.one(
        "SELECT attempts::text || ' ' || (due_at > now() + interval '50 min') FROM events"
        " WHERE applied_at IS NULL"
    )
    assert row == "0 true"


async def test_an_authorisation_that_was_taken_back_ends_the_connection_and_is_told(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    await told(world, hubspot, Event(id="1", type="uninstalled", effect=Effect.REVOKED))
    await applied(hubspot)
    assert world.connection_status(hubspot.id) == "revoked"
    assert world.one("SELECT count(*) FROM notices WHERE ended_at IS NULL") == 1
    assert "taken back" in world.one("SELECT status_reason FROM connections")


async def test_that_an_earlier_consent_was_taken_back_is_told_too_late_to_matter(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    before = datetime.now(UTC) - timedelta(days=1)
    late = Event(id="1", type="uninstalled", effect=Effect.REVOKED, at=before)
    await told(world, hubspot, late)
    await applied(hubspot)
    assert world.connection_status(hubspot.id) == "active"
    assert pending(world) == 0


async def test_a_stale_holder_of_the_event_lease_commits_nothing(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    await told(world, hubspot, changed(next(iter(world.vendor(hubspot)["contacts"]))))
    (held,) = await leases.acquire_all(
        world.database, [hubspot.id], kind="event", holder="other", ttl=timedelta(minutes=5)
    )
    await applied(hubspot)
    assert pending(world) == 1, "another has the lease"
    await leases.release_all(world.database, [held])
    await applied(hubspot)
    assert pending(world) == 0


@pytest.fixture
def brief(world: Sandboxed, monkeypatch: pytest.MonkeyPatch) -> Sandboxed:
    """Drains linger for a second only."""
    monkeypatch.setenv("ATOM_DRAIN_LINGER_SECONDS", "1")
    return world


async def test_a_drain_applies_what_comes_while_it_is_alive_and_then_leaves(
    brief: Sandboxed, hubspot: connections.Connection
) -> None:
    draining = asyncio.ensure_future(drain_events(0, return_state=True))
    await until(lambda: brief.one("SELECT count(*) FROM drains WHERE alive_until > now()"))
    brief.change(hubspot, 10)
    await told(brief, hubspot, *(changed(key) for key in brief.vendor(hubspot)["contacts"]))
    await until(lambda: not pending(brief))
    state: State[Any] = await draining
    assert state.is_completed(), state.message
    assert brief.one("SELECT alive_until IS NULL FROM drains")
    contacts = brief.vendor(hubspot)["contacts"]
    stored = brief.stored(hubspot)["contacts"]
    assert {key: stored[key] for key in contacts} == contacts


async def test_a_second_drain_of_a_shard_leaves_at_once(brief: Sandboxed) -> None:
    assert await drains.begin(brief.database, 0) is not None
    state: State[Any] = await drain_events(0, return_state=True)
    assert (state.name, state.message) == ("Skipped", "shard 0 has a drain")


async def test_a_drain_does_not_leave_while_something_is_pending(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    generation = await drains.begin(world.database, 0)
    assert generation is not None
    await told(world, hubspot, changed("1"))
    assert not await drains.leave(world.database, 0, generation, 1)
    await applied(hubspot)
    assert await drains.leave(world.database, 0, generation, 1)
    assert await drains.missing(world.database, 1) == []
    await told(world, hubspot, changed("2"))
    assert [each.generation for each in await drains.missing(world.database, 1)] == [generation]


async def test_a_drain_that_went_silent_is_succeeded_and_notices_it(world: Sandboxed) -> None:
    first = await drains.begin(world.database, 0)
    world.run("UPDATE drains SET alive_until = now() - interval '1 second'")
    second = await drains.begin(world.database, 0)
    assert (first, second) == (1, 2)
    assert not await drains.beat(world.database, 0, 1)
    assert await drains.beat(world.database, 0, 2)


async def test_a_drain_that_is_told_to_stop_leaves_and_loses_nothing(
    brief: Sandboxed, hubspot: connections.Connection
) -> None:
    ending = await brief.tell_to_stop()
    await told(brief, hubspot, changed("1"))
    state: State[Any] = await drain_events(0, return_state=True)
    assert state.is_cancelled()
    assert state.message == f"told to stop: {ending} is ending, after 0 runs"
    assert pending(brief) == 1


async def test_enterprise_comes_first_and_nobody_takes_it_all(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    free = hubspot  # TEAM, and the one that has waited longest
    await told(world, free, changed("1"))
    big = await stock(world.database, "big", account_id="900")
    await _make(world, big.tenant_id, Tier.ENTERPRISE, 30)
    found = await inbox.waiting(world.database, most=20)
    of_big = [one for one in found if one.tenant_id == big.tenant_id]
    assert found[0].tenant_id == big.tenant_id
    assert len(of_big) == 5, "a quarter of a claim"
    assert free.id in {one.connection_id for one in found}


async def _make(world: Sandboxed, tenant_id: UUID, tier: str, count: int) -> None:
    """So many connections of a tenant, each with an event."""
    world.run(f"UPDATE tenants SET tier = '{tier}' WHERE id = '{tenant_id}'")
    world.run(
        "INSERT INTO connections (id, grant_id, tenant_id, integration, account_id)"
        f" SELECT gen_random_uuid(), grant_id, tenant_id, integration, 'n' || n FROM connections,"
        f" generate_series(1, {count}) n WHERE tenant_id = '{tenant_id}'"
    )
    world.run(
        "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data)"
        " SELECT integration, id::text, id, tenant_id, 't', '{\"effect\": \"hint\"}'"
        f" FROM connections WHERE tenant_id = '{tenant_id}'"
    )


async def test_dirty_streams_are_waiting_until_they_are_read(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    ids = {"tenant_id": hubspot.tenant_id, "connection_id": hubspot.id}
    async with world.database.transaction(hubspot.tenant_id) as session:
        await checkpoints.mark_dirty(session, streams=["contacts", "forgotten"], **ids)
    assert [one.connection_id for one in await inbox.waiting(world.database)] == [hubspot.id]
    await applied(hubspot)
    assert await inbox.waiting(world.database) == []


async def test_what_an_event_names_may_not_be_readable_yet(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    known = next(iter(world.stored(hubspot)["contacts"]))
    await told(world, hubspot, changed("31415926"), changed(known))
    await applied(hubspot)
    assert pending(world) == 1, "the others are not held up"
    assert "does not show it yet" in world.one("SELECT error FROM events WHERE applied_at IS NULL")
    world.run("UPDATE events SET due_at = now(), received_at = now() - interval '10 min'")
    await applied(hubspot)
    assert pending(world) == 0, "it is gone then, or never was"
    assert "31415926" not in world.stored(hubspot)["contacts"]


async def test_what_was_stored_and_is_not_found_is_gone_at_once(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    first = "(SELECT min(record_id) FROM records WHERE stream = 'hubspot.deals')"
    world.run(
        "UPDATE records SET record_id = '31415926' WHERE stream = 'hubspot.deals'"
        f" AND record_id = {first}"
    )
    await told(world, hubspot, changed("31415926", "deals"))
    await applied(hubspot)
    assert pending(world) == 0
    assert "31415926" not in world.stored(hubspot)["deals"]


async def test_a_deletion_of_an_unknown_time_is_not_believed_but_asked_about(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    """It may have happened before a restoration that we have heard of already."""
    key = next(iter(world.vendor(hubspot)["contacts"]))
    await told(world, hubspot, changed(key, effect=Effect.DELETED))
    await applied(hubspot)
    assert key in world.stored(hubspot)["contacts"]


async def test_a_deletion_from_before_the_last_read_is_asked_about(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    key = next(iter(world.vendor(hubspot)["contacts"]))
    late = datetime.now(UTC) - timedelta(minutes=5)
    await told(world, hubspot, changed(key, effect=Effect.DELETED, at=late))
    await applied(hubspot)
    assert key in world.stored(hubspot)["contacts"]


async def test_an_event_that_nobody_understands_has_what_it_may_be_of_read_anew(
    world: Sandboxed, hubspot: connections.Connection
) -> None:
    world.change(hubspot, 20, seed=5)
    await told(
        world, hubspot, Event(id="u", type="unreadable: a, b", effect=Effect.UNREADABLE,
                              record={"a": 1, "b": "as it came"}),
    )  # fmt: skip
    state = await applied(hubspot)
    assert "connections read anew" in (state.message or "")
    assert world.stored(hubspot)["deals"] == world.vendor(hubspot)["deals"]
    assert world.one("SELECT data -> 'record' ->> 'b' FROM events") == "as it came"
