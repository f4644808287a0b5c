"""The inbox: events as they came, each until what it tells is in the tables.

An event is stored before its vendor is answered, once for each connection that it is about. It is
applied under the event lease of its connection, tried again when that fails, and set aside after
some attempts. `NOTIFY` says that something came; it is only a hint, the table is what counts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import BigInteger, Uuid

from connectors import Effect, Event
from storage.database import Database, postgres
from storage.models import Event as EventRow
from storage.rows import stored_json

CHANNEL = "atom_events"
MAX_ATTEMPTS = 5
# An attempt that failed is followed by another after so long, twice as long each time.
RETRY_AFTER = timedelta(seconds=5)
# So many of a connection's events are taken at once.
TAKE = 500
# After each process that ended without a word so many fewer are, at last one alone: what ends it is
# blamed by itself.
FEWER = 8
# An event whose form this release does not know was written by a newer one. It is kept for that.
KEPT_FOR = timedelta(minutes=10)
FOREIGN = "written by a release that this one does not know: kept until that one runs again"
LONGEST_ID = 200


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An event as it came in. `connection_id` is set where the address or the watch names it."""

    integration: str
    event: Event
    received_at: datetime
    connection_id: UUID | None = None


@dataclass(frozen=True)
class Received:
    """Of those that arrived: how many are about a connection of ours, and how many rows are new."""

    known: int = 0
    new: int = 0


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An event that is to be applied now."""

    id: int
    type: str
    effect: Effect
    streams: tuple[str, ...]
    key: str
    watch_id: str
    record: dict[str, Any] | None
    at: datetime | None
    received_at: datetime
    attempts: int
    until: datetime | None = None
    where: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def observed_at(self) -> datetime:
        """When what it tells was true: never later than it came, whatever the vendor's clock says.

        So an event that was held up does not go over what was read after it happened.
        """
        return min(self.received_at, self.at) if self.at else self.received_at

    @property
    def missed_period(self) -> tuple[datetime, datetime] | None:
        """The period of which the vendor could not send us everything, where it says which."""
        if self.effect is Effect.MISSED and self.at and self.until:
            return self.at, self.until
        return None


@dataclass(frozen=True)
class Waiting:
    """A connection that has something to be applied or read."""

    connection_id: UUID
    tenant_id: UUID
    integration: str


_RECEIVE = """
    WITH arrived AS (
        SELECT * FROM json_to_recordset(CAST(%(arrived)s AS json)) AS a (
            place integer, integration text, account_id text, connection_id uuid, event_id text,
            type text, is_duty boolean, data jsonb, received_at timestamptz
        )
    ), met AS (
        SELECT a.*, c.id AS of_connection, c.tenant_id
        FROM arrived a JOIN connections c
            ON c.integration = a.integration AND c.account_id = a.account_id
        WHERE a.connection_id IS NULL AND (c.status <> 'revoked' OR a.is_duty)
        UNION ALL
        SELECT a.*, c.id, c.tenant_id
        FROM arrived a JOIN connections c ON c.id = a.connection_id
        WHERE c.integration = a.integration AND (c.status <> 'revoked' OR a.is_duty)
            AND (a.account_id = '' OR c.account_id = a.account_id)
    ), stored AS (
        INSERT INTO events
            (integration, event_id, connection_id, tenant_id, type, is_duty, data, received_at)
        SELECT integration, event_id, of_connection, tenant_id, type, is_duty, data, received_at
        FROM met ORDER BY place
        ON CONFLICT (integration, event_id, connection_id) DO NOTHING
        RETURNING integration
    ), notified AS (
        SELECT pg_notify(%(channel)s, '') FROM (SELECT FROM stored LIMIT 1) AS any_new
    )
    SELECT m.integration, m.known, coalesce(s.new, 0), (SELECT count(*) FROM notified)
    FROM (SELECT integration, count(DISTINCT place) AS known FROM met GROUP BY integration) m
    LEFT JOIN (SELECT integration, count(*) AS new FROM stored GROUP BY integration) s
        USING (integration)
"""


async def receive(database: Database, arrivals: Sequence[Arrival]) -> dict[str, Received]:
    """Store events in one transaction; what is there already, or about nobody, is left out.

    What became of them, by integration.
    """
    async with database.receiving() as session:
        return await add(session, arrivals)


async def add(session: AsyncSession, arrivals: Sequence[Arrival]) -> dict[str, Received]:
    """As `receive`, inside the transaction of the caller."""
    arrived = [_row(place, arrival) for place, arrival in enumerate(arrivals)]
    values = {"arrived": stored_json(arrived), "channel": CHANNEL}
    # Not through SQLAlchemy: its part in a statement takes as long as several deliveries.
    found = await (await postgres(session)).execute(_RECEIVE, values)
    return {
        integration: Received(known, new) for integration, known, new, _ in await found.fetchall()
    }


# What a read could not settle, and how soon it is read again.
UNSETTLED = "unsettled"
SETTLES_IN = timedelta(minutes=1)

_ASK_AGAIN = """
    INSERT INTO events
        (integration, event_id, connection_id, tenant_id, type, data, received_at, due_at)
    SELECT %(integration)s, 'unsettled:' || %(stream)s || ':' || md5(key) || ':' ||
            extract(epoch FROM date_trunc('minute', now()))::bigint,
        %(connection_id)s, %(tenant_id)s, %(type)s,
        jsonb_build_object('effect', 'read', 'streams', jsonb_build_array(%(stream)s), 'key', key),
        now(), now() + %(wait)s
    FROM unnest(%(keys)s::text[]) AS key
    ON CONFLICT (integration, event_id, connection_id) DO NOTHING
"""


async def ask_again(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    integration: str,
    stream: str,
    keys: Sequence[str],
) -> None:
    """Records of these keys are to be read again by themselves, in a minute: as events of ours."""
    values = {
        "integration": integration,
        "stream": stream,
        "connection_id": connection_id,
        "tenant_id": tenant_id,
        "type": UNSETTLED,
        "wait": SETTLES_IN,
        "keys": sorted(set(keys)),
    }
    await (await postgres(session)).execute(_ASK_AGAIN, values)


def _row(place: int, arrival: Arrival) -> dict[str, Any]:
    event = arrival.event
    data = {
        "effect": event.effect,
        "streams": event.streams,
        "key": event.key,
        "watch_id": event.watch_id,
        "record": event.record,
        "at": event.at.isoformat() if event.at else None,
        "until": event.until.isoformat() if event.until else None,
        "where": dict(event.where),
    }
    return {
        "place": place,
        "integration": arrival.integration,
        "account_id": event.account_id,
        "connection_id": str(arrival.connection_id) if arrival.connection_id else None,
        "event_id": _id_of(event),
        "type": event.type[:LONGEST_ID],
        "is_duty": event.effect.is_duty,
        "data": {name: value for name, value in data.items() if value},
        "received_at": arrival.received_at.isoformat(),
    }


def _id_of(event: Event) -> str:
    """The event's id; a digest of one that an index cannot hold."""
    if len(event.id) <= LONGEST_ID:
        return event.id
    return "sha256:" + hashlib.sha256(event.id.encode(errors="replace")).hexdigest()


# What is pending of a connection that is active, or a duty, and not being applied. ENTERPRISE comes
# first, but a part of each claim goes to who has waited longest, and no tenant gets more than its
# share. OFFSET 0 makes it look each connection and lease up: PostgreSQL takes a third of all
# checkpoints to have something to be read, and would read every connection and lease.
_WAITING = text(
    """
    WITH pending AS MATERIALIZED (
        SELECT connection_id, min(since) AS since, bool_or(duty) AS duty FROM (
            SELECT connection_id, received_at AS since, is_duty AS duty FROM events
            WHERE applied_at IS NULL AND failed_at IS NULL AND due_at <= now()
            UNION ALL
            SELECT c.connection_id, c.updated_at, false FROM checkpoints c
            LEFT JOIN LATERAL (
                SELECT true AS held FROM leases l
                WHERE l.connection_id = c.connection_id AND l.kind = 'sync' AND l.expires_at > now()
                OFFSET 0
            ) l ON true
            WHERE dirty_generation > read_generation
                AND (dirty_due_at IS NULL OR dirty_due_at <= now()) AND l.held IS NULL
        ) each GROUP BY connection_id
    ), ranked AS (
        SELECT c.id, c.tenant_id, c.integration, p.since, c.tier = 'ENTERPRISE' AS first,
            row_number() OVER (PARTITION BY c.tenant_id ORDER BY p.since) AS of_tenant
        FROM pending p
        CROSS JOIN LATERAL (
            SELECT id, tenant_id, integration, tier, status FROM connections
            WHERE id = p.connection_id AND purge_owed_at IS NULL OFFSET 0
        ) c
        LEFT JOIN LATERAL (
            SELECT true AS held FROM leases l
            WHERE l.connection_id = p.connection_id AND l.kind = 'event' AND l.expires_at > now()
            OFFSET 0
        ) l ON true
        WHERE (c.status = 'active' OR p.duty)
            AND get_byte(uuid_send(c.id), 15) % :shards = :shard
            AND c.id <> ALL (:busy)
            AND l.held IS NULL
    ), placed AS (
        SELECT *, row_number() OVER (PARTITION BY first ORDER BY since) AS place
        FROM ranked WHERE of_tenant <= :share
    )
    SELECT id, tenant_id, integration FROM placed
    ORDER BY (first AND place <= :reserved) DESC, since
    LIMIT :most
    """
).bindparams(bindparam("busy", type_=ARRAY(Uuid())))


async def waiting(
    database: Database,
    *,
    shard: int = 0,
    shards: int = 1,
    busy: Sequence[UUID] = (),
    most: int = 100,
) -> list[Waiting]:
    """Connections with events to apply or hints to follow, without those that are `busy`."""
    values = {
        "shard": shard,
        "shards": shards,
        "busy": list(busy),
        "most": most,
        "share": max(1, most // 4),
        "reserved": most * 3 // 4,
    }
    async with database.dispatching() as session:
        found = await session.execute(_WAITING, values)
        return [Waiting(*row) for row in found]


async def take(
    session: AsyncSession, connection_id: UUID, *, only_duties: bool = False
) -> list[Taken]:
    """A connection's events to apply now, each counted as attempted; in a tenant's transaction.

    An event whose processes ended each time without a word is set aside here, and one that a newer
    release wrote is put off.
    """
    pending = (
        EventRow.connection_id == connection_id,
        EventRow.applied_at.is_(None),
        EventRow.failed_at.is_(None),
        *([EventRow.is_duty] if only_duties else []),
    )
    await session.execute(
        update(EventRow)
        .where(*pending, EventRow.attempts >= MAX_ATTEMPTS)
        .values(
            failed_at=func.now(),
            error=func.coalesce(
                EventRow.error, "the process that applied it ended, each time, before it was done"
            ),
        )
        .execution_options(synchronize_session=False)
    )
    due = (*pending, EventRow.due_at <= func.now())
    unended = select(func.max(EventRow.attempts)).where(*due, EventRow.error.is_(None))
    at_once = max(1, TAKE // FEWER ** (await session.scalar(unended) or 0))
    chosen = select(EventRow.id).where(*due).order_by(EventRow.id).limit(at_once)
    found = await session.execute(
        update(EventRow)
        .where(EventRow.id.in_(chosen))
        .values(attempts=EventRow.attempts + 1)
        .returning(
            EventRow.id, EventRow.type, EventRow.data, EventRow.received_at, EventRow.attempts
        )
        .execution_options(synchronize_session=False)
    )
    taken: list[Taken] = []
    foreign: list[int] = []
    for row in sorted(found, key=lambda row: row.id):
        try:
            taken.append(_taken(*row))
        except (KeyError, TypeError, ValueError):
            foreign.append(row.id)
    if foreign:
        await put_off(session, foreign, KEPT_FOR, FOREIGN)
    return taken


def _taken(id: int, type: str, data: dict[str, Any], received_at: datetime, attempts: int) -> Taken:
    at, until = data.get("at"), data.get("until")
    return Taken(
        id=id,
        type=type,
        effect=Effect(data["effect"]),
        streams=tuple(data.get("streams", ())),
        key=data.get("key", ""),
        watch_id=data.get("watch_id", ""),
        record=data.get("record"),
        at=datetime.fromisoformat(at) if at else None,
        received_at=received_at,
        attempts=attempts,
        until=datetime.fromisoformat(until) if until else None,
        where=data.get("where", {}),
    )


async def mark_applied(session: AsyncSession, ids: Sequence[int]) -> None:
    """Their effect is in this transaction."""
    await _mark(session, ids, applied_at=func.now(), error=None)


async def mark_failed(session: AsyncSession, event: Taken, reason: str) -> None:
    """It is tried again later, or set aside if that was the last attempt."""
    if event.attempts >= MAX_ATTEMPTS:
        await _mark(session, [event.id], error=reason, failed_at=func.now())
    else:
        wait = RETRY_AFTER * 2 ** (event.attempts - 1)
        await _mark(session, [event.id], error=reason, due_at=func.now() + wait)


async def put_off(session: AsyncSession, ids: Sequence[int], wait: timedelta, reason: str) -> None:
    """Nobody can apply them now: that is no attempt."""
    await _mark(
        session,
        ids,
        attempts=func.greatest(EventRow.attempts - 1, 0),
        due_at=func.now() + wait,
        error=reason,
    )


async def give_back(database: Database, tenant_id: UUID, ids: Sequence[int]) -> None:
    """These were taken, and nothing came of it for no fault of theirs: that was no attempt.

    Somebody else may have taken or applied them meanwhile.
    """
    async with database.transaction(tenant_id) as session:
        await session.execute(
            update(EventRow)
            .where(EventRow.id == func.any(bindparam("ids", list(ids), type_=ARRAY(BigInteger()))))
            .where(EventRow.applied_at.is_(None), EventRow.failed_at.is_(None))
            .values(
                attempts=func.greatest(EventRow.attempts - 1, 0),
                due_at=func.greatest(EventRow.due_at, func.now() + RETRY_AFTER),
            )
            .execution_options(synchronize_session=False)
        )


async def _mark(session: AsyncSession, ids: Sequence[int], **values: Any) -> None:
    await session.execute(
        update(EventRow)
        .where(EventRow.id == func.any(bindparam("ids", list(ids), type_=ARRAY(BigInteger()))))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """An event that could not be applied, for whoever looks into it."""

    id: int
    tenant: str
    integration: str
    type: str
    received_at: datetime
    attempts: int
    reason: str


async def set_aside(database: Database, *, limit: int = 100) -> list[SetAside]:
    """The events that were given up, the newest first."""
    query = text(
        """
        SELECT e.id, t.slug AS tenant, e.integration, e.type, e.received_at, e.attempts,
            coalesce(e.error, '') AS reason
        FROM events e JOIN tenants t ON t.id = e.tenant_id
        WHERE e.failed_at IS NOT NULL ORDER BY e.failed_at DESC LIMIT :limit
        """
    )
    async with database.dispatching() as session:
        return [SetAside(**row._mapping) for row in await session.execute(query, {"limit": limit})]


async def retry(database: Database, ids: Sequence[int] | None = None) -> int:
    """Events that were set aside are tried again, all of them if none is named; how many."""
    query = text(
        """
        WITH again AS (
            UPDATE events SET failed_at = NULL, attempts = 0, due_at = now()
            WHERE failed_at IS NOT NULL AND (:every OR id = ANY (:ids)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM again), pg_notify(:channel, '')
        """
    ).bindparams(bindparam("ids", type_=ARRAY(BigInteger())))
    values = {"every": ids is None, "ids": list(ids or ()), "channel": CHANNEL}
    async with database.dispatching() as session:
        return int((await session.execute(query, values)).one()[0])


async def counts(database: Database) -> dict[str, int]:
    """How many events are pending, how many of these were put off to a later time, how many applied
    (of those kept), how many set aside, how many nobody could read, and how many wait for the
    release that wrote them."""
    pending = EventRow.applied_at.is_(None) & EventRow.failed_at.is_(None)
    wanted = {
        "pending": pending,
        "later": pending & (EventRow.due_at > func.now()),
        "applied": EventRow.applied_at.is_not(None),
        "failed": EventRow.failed_at.is_not(None),
        "unreadable": EventRow.type.startswith("unreadable:"),
        "foreign": pending & (EventRow.error == FOREIGN),
    }
    columns = [func.count().filter(condition).label(name) for name, condition in wanted.items()]
    async with database.dispatching() as session:
        found = (await session.execute(select(*columns).select_from(EventRow))).one()
    return dict(found._mapping)
