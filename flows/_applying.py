"""Events on their way into the tables: what is to be read for them, and the transaction of each.

The events of a connection are applied together; one that has failed before goes alone, so that it
cannot keep the others back. A group's rows, hints and marks commit together, under the event lease.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypedDict
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from accounts.runtime import Runtime
from connectors import (
    BrokenConnectionError,
    Checkpoint,
    Connector,
    ConnectorError,
    Context,
    Effect,
    ListedKeys,
    Page,
    Record,
    RetryableError,
    Stream,
)
from connectors.kernel.client import Client
from flows._clients import reading_client
from flows._duties import Later, Weighed, weigh
from flows._hints import RETRY_AFTER
from flows._passing import PASSING
from integrations import load
from settings import SettingsError
from storage import (
    Status,
    StorageError,
    checkpoints,
    connections,
    gaps,
    inbox,
    leases,
    privacy,
    records,
    runs,
    watches,
)
from storage.database import Database
from storage.inbox import Taken
from storage.keeping import until_stored

# What a vendor tells of can be read some minutes later at the latest.
SHOWS_WITHIN = timedelta(minutes=5)
# A vendor may show for a moment what it has just said to be gone.
LOOK_AGAIN = timedelta(minutes=1)
SHOWN_FOR = timedelta(minutes=10)
# These say that a record is deleted.
_ENDS = (Effect.DELETED, Effect.GONE)


class _Ids(TypedDict):
    tenant_id: UUID
    connection_id: UUID


@dataclass(slots=True)
class Group:
    """Events that are applied in one transaction, and what came of reading for them."""

    events: list[Taken]
    rows: dict[str, list[records.Row]] = field(default_factory=dict)
    hints: set[str] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    put_off: list[int] = field(default_factory=list)
    weighed: Weighed = field(default_factory=Weighed)
    # What becomes of its events is committed.
    settled: bool = False

    def add(self, stream: str, rows: Iterable[records.Row]) -> None:
        self.rows.setdefault(stream, []).extend(rows)

    def fail(self, events: Iterable[Taken], reason: str) -> None:
        self.failed |= {event.id: reason for event in events}


@dataclass(slots=True)
class Work:
    """A connection's events. `away` is why its vendor cannot be asked now, if that is so."""

    connection: connections.Connection
    lease: leases.Lease
    groups: list[Group]
    client: Client
    context: Context
    database: Database
    read_at: Mapping[str, datetime | None]
    away: ConnectorError | StorageError | SettingsError | None = None
    applied: int = 0
    failed: int = 0
    hinted: bool = False

    @property
    def events(self) -> int:
        return sum(len(group.events) for group in self.groups)

    @property
    def asks(self) -> bool:
        """Whether the vendor has to be asked for something."""
        connector = load(self.connection.integration)
        return any(
            (event.effect.asks_again or _is_doubtful(connector, event, self.read_at))
            and connector.stream(event.streams[0]).fetch is not None
            for group in self.groups
            for event in group.events
            if event.streams and event.streams[0] in {one.name for one in connector.streams}
        )


async def take(
    shared: Runtime,
    linked: Sequence[connections.Connection],
    held: Sequence[leases.Lease],
    taken: list[Work],
) -> None:
    """The work of each connection whose event lease is held, put into `taken` one by one: whatever
    breaks this off, the caller knows whose events count as attempted, and gives them back."""
    by_id = {connection.id: connection for connection in linked}
    for lease in held:
        connection = by_id[lease.connection_id]
        async with shared.database.transaction(lease.tenant_id) as session:
            await leases.hold(session, lease)
            broken = connection.status != Status.ACTIVE
            events = await inbox.take(session, lease.connection_id, only_duties=broken)
            saved = await checkpoints.load(session, lease.connection_id)
        read_at = {name: one.last_synced_at for name, one in saved.items()}
        fresh = [event for event in events if event.attempts == 1]
        groups = [Group([event]) for event in events if event.attempts > 1]
        client, context = await reading_client(shared, connection)
        taken.append(
            Work(
                connection, lease, [*([Group(fresh)] if fresh else []), *groups], client, context,
                shared.database, read_at,
            )
        )  # fmt: skip


async def give_back(shared: Runtime, works: Iterable[Work]) -> None:
    """Of events that were taken, those of which nothing is committed: that was no attempt. A
    database that is not well is waited for, since only this process knows."""
    for work in works:
        left = [event.id for group in work.groups if not group.settled for event in group.events]
        if left:
            await until_stored(
                partial(inbox.give_back, shared.database, work.connection.tenant_id, left),
                patience=None, waits=f"{len(left):,} events of {work.connection} wait",
            )  # fmt: skip


async def read(work: Work) -> None:
    """Everything that the events ask for, as rows and hints; a failure is an event's own."""
    for group in work.groups:
        await _read(work, group)


async def _read(work: Work, group: Group) -> None:
    connector = load(work.connection.integration)
    known = {stream.name for stream in connector.streams}
    asked: dict[str, list[Taken]] = {}
    group.weighed = await weigh(work.client, work.context, work.connection, group.events)
    for event in group.events:
        if unknown := set(event.streams) - known:
            group.fail([event], f"{connector.title} has no stream {', '.join(sorted(unknown))}")
        elif event.id in group.weighed.later:
            continue
        elif _is_doubtful(connector, event, work.read_at):
            asked.setdefault(event.streams[0], []).append(event)
        elif event.effect in (Effect.RECORD, Effect.DELETED, Effect.EMPTIED):
            _put(connector, group, event, event.observed_at)
        elif event.effect is Effect.ERASE and event.key:
            # As of now: what was read of it while it could be withdrawn goes as well.
            _put(connector, group, event, work.context.now)
        elif event.effect.asks_again:
            asked.setdefault(event.streams[0], []).append(event)
        elif event.missed_period is not None:
            continue  # that time may not be over yet: it is a gap, see `_store`
        elif event.effect in (Effect.HINT, Effect.MISSED, Effect.LOST, Effect.UNREADABLE):
            group.hints.update(event.streams or covered(connector))
    for name, events in asked.items():
        await _fetch(work, group, name, events)


def _is_doubtful(
    connector: Connector, event: Taken, read_at: Mapping[str, datetime | None]
) -> bool:
    """Whether what an event tells may have been overturned since, so that the record is read again.

    A deletion without the vendor's time is only known to have happened before it came: taken for
    true then, it would hold off what was restored meanwhile. And what a later read of the stream
    has shown as it was stored before left no trace in the rows, so an event from before that read
    could go over it; unless its version decides.
    """
    if event.effect not in (Effect.RECORD, Effect.DELETED):
        return False
    stream = connector.stream(event.streams[0])
    if stream.fetch is None:
        return False
    if event.effect is Effect.DELETED and event.at is None:
        return True
    last = read_at.get(stream.name)
    if last is None or event.observed_at > last:
        return False
    return event.effect is Effect.DELETED or not _has_version(stream, event.record or {})


def _has_version(stream: Stream, record: Record) -> bool:
    try:
        return stream.version(record) is not None
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def _put(connector: Connector, group: Group, event: Taken, observed_at: datetime) -> None:
    """What the event itself holds."""
    stream = connector.stream(event.streams[0])
    if event.effect is Effect.RECORD:
        page = Page([event.record or {}], Checkpoint())
    elif event.effect is Effect.EMPTIED:
        page = Page((), Checkpoint(), listed_keys=[ListedKeys(event.key, (), observed_at)])
    else:
        page = Page((), Checkpoint(), deleted=[event.key])
    try:
        group.add(stream.name, records.rows(stream, page, observed_at))
    except ConnectorError as error:
        group.fail([event], str(error))


async def _fetch(work: Work, group: Group, name: str, events: Sequence[Taken]) -> None:
    """The records of those keys, read again; where a stream has no way to, its delta is due."""
    stream = load(work.connection.integration).stream(name)
    if stream.fetch is None:
        group.hints.add(name)
        return
    keys = list(dict.fromkeys(event.key for event in events))
    rows: list[records.Row] = []
    try:
        if work.away is not None:
            raise work.away
        async for page, observed_at in work.client.read(stream.fetch(keys, work.context)):
            rows += records.rows(stream, _with_reported_deletes(page, events), observed_at)
        gone = {row.record_id for row in rows if row.deleted and row.listed_keys is None}
        shown = {row.record_id for row in rows if not row.deleted}
        early = await _not_yet_there(work, stream, gone, events)
    except (RetryableError, BrokenConnectionError, StorageError, SettingsError) as error:
        work.away = error
        group.put_off += [event.id for event in events]
    except ConnectorError as error:
        group.fail(events, str(error))
    else:
        for event in events:
            age = work.context.now - event.received_at
            if event.key in early:
                group.weighed.later[event.id] = Later(LOOK_AGAIN, "the vendor does not show it yet")
            elif event.effect is Effect.GONE and event.key in shown and age < SHOWN_FOR:
                group.weighed.later[event.id] = Later(LOOK_AGAIN, "the vendor still shows it")
        group.add(name, [row for row in rows if row.record_id not in early])


def _with_reported_deletes(page: Page, events: Sequence[Taken]) -> Page:
    """The page, where a hidden record that an event reports as deleted counts as deleted."""
    reported = {event.key for event in events if event.effect in _ENDS}
    return replace(
        page,
        deleted=[*page.deleted, *(key for key in page.hidden if key in reported)],
        hidden=[key for key in page.hidden if key not in reported],
    )


async def _not_yet_there(
    work: Work, stream: Stream, gone: set[str], events: Sequence[Taken]
) -> set[str]:
    """Of the keys that the vendor says it does not have, those that it may just not show yet.

    That is so of a record that an event named minutes ago and that we never stored. We ask again.
    """
    now = work.client.now()
    over = {event.key for event in events if event.effect in _ENDS}
    young = {
        event.key
        for event in events
        if event.key in gone - over and now - event.received_at < SHOWS_WITHIN
    }
    if not young:
        return set()
    connection = work.connection
    async with work.database.transaction(connection.tenant_id) as session:
        stored = await records.known(
            session, stream=f"{connection.integration}.{stream.name}",
            connection_id=connection.id, keys=sorted(young),
        )  # fmt: skip
    return young - stored


def covered(connector: Connector) -> tuple[str, ...]:
    return connector.webhook.covers if connector.webhook else ()


async def store(shared: Runtime, work: Work) -> None:
    """Commit what was read, group by group; what could not be is put off, or counted as failed."""
    for group in work.groups:
        try:
            await _store(shared, work, group)
        except (DBAPIError, psycopg.Error, StorageError) as error:
            if isinstance(error, PASSING):
                raise
            await _refused(shared, work, group, error)


async def _store(shared: Runtime, work: Work, group: Group) -> None:
    connection, later = work.connection, group.weighed.later
    left = {*group.failed, *group.put_off, *later}
    done = [event for event in group.events if event.id not in left]
    async with shared.database.transaction(connection.tenant_id) as session:
        await leases.hold(session, work.lease)
        await _write(session, connection, group)
        for event in done:
            if event.id in group.weighed.belied:
                privacy.belied(session, connection, event)
            else:
                await _carry_out(session, connection, event)
        await inbox.mark_applied(session, [event.id for event in done])
        for event in group.events:
            if event.id in group.failed:
                await inbox.mark_failed(session, event, group.failed[event.id])
            elif event.id in later:
                now = shared.clock.now()
                await _delay(session, connection, event, later[event.id], now)
        if work.away is not None and group.put_off:
            await _put_off(session, work, group, work.away)
    group.settled = True
    work.applied += len(done)
    work.failed += len(group.failed)
    work.hinted = work.hinted or bool(group.hints)


def _ids(connection: connections.Connection) -> _Ids:
    return {"tenant_id": connection.tenant_id, "connection_id": connection.id}


async def _write(session: AsyncSession, connection: connections.Connection, group: Group) -> None:
    """The rows and hints of a group; a part without a record to complete is read again whole."""
    integration, ids = connection.integration, _ids(connection)
    for name, rows in group.rows.items():
        written = await records.write(session, stream=f"{integration}.{name}", rows=rows, **ids)
        if written.missing:
            await inbox.ask_again(
                session, integration=integration, stream=name, keys=written.missing, **ids
            )
    if group.hints:
        await checkpoints.mark_dirty(session, streams=group.hints, **ids)


async def _carry_out(
    session: AsyncSession, connection: connections.Connection, event: Taken
) -> None:
    """What an event asks for beyond rows."""
    connector = load(connection.integration)
    if event.effect is Effect.REVOKED:
        reason = f"{connector.title} says that the authorisation was taken back"
        await runs.break_off(session, connection, reason, revoked_at=event.observed_at)
    elif event.effect in (Effect.RENEW, Effect.LOST):
        is_lost = event.effect is Effect.LOST
        await watches.note_lifecycle(session, connection.id, event.watch_id, lost=is_lost)
    elif event.missed_period is not None:
        since, until = event.missed_period
        reason = f"{connector.title} could not tell us everything"
        await gaps.note(
            session, streams=event.streams or covered(connector), since=since, until=until,
            reason=reason, **_ids(connection),
        )  # fmt: skip
    elif event.effect.is_duty:
        await privacy.comply(session, connection, event)


async def _delay(
    session: AsyncSession,
    connection: connections.Connection,
    event: Taken,
    later: Later,
    now: datetime,
) -> None:
    await inbox.put_off(session, [event.id], later.wait, later.reason)
    if later.in_grace:
        privacy.announce(session, connection, event, now + later.wait)


async def _refused(shared: Runtime, work: Work, group: Group, error: Exception) -> None:
    """PostgreSQL does not take this group: each of its events goes alone the next time."""
    # Its words may quote the row.
    reason = str(error) if isinstance(error, StorageError) else "PostgreSQL does not take it"
    async with shared.database.transaction(work.connection.tenant_id) as session:
        await leases.hold(session, work.lease)
        for event in group.events:
            await inbox.mark_failed(session, event, group.failed.get(event.id, reason))
    group.settled = True
    work.failed += len(group.events)


async def _put_off(session: AsyncSession, work: Work, group: Group, error: Exception) -> None:
    wait = RETRY_AFTER
    if isinstance(error, RetryableError) and error.retry_after:
        wait = max(error.retry_after, RETRY_AFTER / 8)
    await inbox.put_off(session, group.put_off, wait, str(error))
    if isinstance(error, BrokenConnectionError):
        await runs.break_off(session, work.connection, str(error))
