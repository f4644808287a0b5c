"""Audits: streams checked against what their vendor lists, and what differed.

No feed is believed for ever. A stream that drifted is checked more often, until it does not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.models import Audit, CheckpointRow, Tier

# So many keys of each kind are kept, to look into, and to tell drift from what just changed.
KEYS_KEPT = 1_000
# A stream that drifted is checked four times as often, and at most so often.
SOONER, SHORTEST = 4, timedelta(days=1)
KINDS = ("missing", "stale", "extra")


@dataclass(frozen=True)
class Differences:
    """What a part of an audit found: how many records it looked at, and keys of what differed."""

    checked: int = 0
    missing: Sequence[str] = ()
    stale: Sequence[str] = ()
    extra: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """An audit of one stream. `keys` are some of those that differed, by kind."""

    stream: str
    ended_at: datetime | None
    checked: int
    missing: int
    stale: int
    extra: int
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def drift(self) -> int:
        """How many records differed."""
        return self.missing + self.stale + self.extra


async def begin(
    session: AsyncSession, *, audit_id: UUID, tenant_id: UUID, connection_id: UUID, stream: str
) -> None:
    """Notes that an audit has begun."""
    session.add(Audit(id=audit_id, tenant_id=tenant_id, connection_id=connection_id, stream=stream))
    await session.flush()


async def note(session: AsyncSession, audit_id: UUID, found: Differences) -> None:
    """Adds what was found, in the transaction that puts it right. Of no audit: does nothing."""
    audit = await session.get(Audit, audit_id)
    if audit is None:
        return
    keys: dict[str, list[str]] = {kind: list(audit.keys.get(kind, ())) for kind in KINDS}
    for kind in KINDS:
        new = getattr(found, kind)
        setattr(audit, kind, getattr(audit, kind) + len(new))
        keys[kind] += new[: max(0, KEYS_KEPT - len(keys[kind]))]
    audit.checked += found.checked
    audit.keys = keys
    await session.flush()


async def end(
    session: AsyncSession, audit_id: UUID, *, changed_keys: Collection[str], every: timedelta
) -> None:
    """The audit came to its end. `changed_keys` are keys that the stream's own delta lists since
    it began: they changed meanwhile, and did not drift. `every` is how often we check the stream.
    """
    audit = await session.get(Audit, audit_id)
    if audit is None:
        return
    keys = {}
    for kind in KINDS:
        kept = audit.keys.get(kind, ())
        keys[kind] = [key for key in kept if key not in changed_keys]
        setattr(audit, kind, getattr(audit, kind) - (len(kept) - len(keys[kind])))
    audit.keys = keys
    audit.ended_at = func.clock_timestamp()
    await session.flush()
    drifted = any(getattr(audit, kind) for kind in KINDS)
    row = await session.get(CheckpointRow, (audit.connection_id, audit.stream))
    if row is None:
        return
    former = min(row.audit_every or every, every)
    row.audit_every = max(former / SOONER, SHORTEST) if drifted else min(former * 2, every)
    row.audit_due_at = func.now() + row.audit_every
    await session.flush()


@dataclass(frozen=True)
class Due:
    """A connection, and its streams that are to be checked."""

    connection_id: UUID
    integration: str
    tier: Tier
    streams: tuple[str, ...]


async def due(
    database: Database,
    every: Iterable[tuple[str, str, Tier, timedelta]],
    *,
    at_most: int,
) -> list[Due]:
    """What waits longest comes first; `every` says how often (integration, stream, tier) is
    checked. Only streams of active connections that were read to their end and do not fail.

    The first check of a stream comes between half and the whole of its interval after it was
    connected, each at a time of its own.
    """
    query = text(
        """
        WITH owed AS (
            SELECT c.id, c.integration, c.tier, p.stream, coalesce(
                p.audit_due_at,
                p.swept_at + h.every,
                c.created_at + h.every
                    * (0.5 + abs(hashtext(c.id::text || p.stream)::bigint) / 4294967296.0)
            ) AS due_at
            FROM unnest(
                CAST(:integrations AS text[]), CAST(:streams AS text[]), CAST(:tiers AS text[]),
                CAST(:every AS interval[])
            ) AS h (integration, stream, tier, every)
            JOIN connections c ON c.integration = h.integration AND c.tier = h.tier
            JOIN checkpoints p ON p.connection_id = c.id AND p.stream = h.stream
            WHERE c.status = 'active' AND p.failures = 0 AND p.last_synced_at IS NOT NULL
        )
        SELECT id, integration, tier, array_agg(stream ORDER BY stream) FROM owed
        WHERE due_at <= now() GROUP BY id, integration, tier
        ORDER BY min(due_at), id LIMIT :at_most
        """
    )
    cells = list(every)
    values = {
        "integrations": [cell[0] for cell in cells],
        "streams": [cell[1] for cell in cells],
        "tiers": [cell[2] for cell in cells],
        "every": [cell[3] for cell in cells],
        "at_most": at_most,
    }
    async with database.dispatching() as session:
        found = await session.execute(query, values)
        return [
            Due(id, integration, Tier(tier), tuple(streams))
            for id, integration, tier, streams in found
        ]


async def latest(session: AsyncSession, connection_id: UUID) -> dict[str, Result]:
    """The last audit of each stream of a connection that came to its end."""
    query = (
        select(Audit)
        .where(Audit.connection_id == connection_id, Audit.ended_at.is_not(None))
        .distinct(Audit.stream)
        .order_by(Audit.stream, Audit.started_at.desc())
    )
    return {row.stream: _result(row) for row in await session.scalars(query)}


async def of_all(
    database: Database, connection_ids: Sequence[UUID] | None = None
) -> dict[tuple[UUID, str], tuple[datetime, int]]:
    """When each stream of these connections, or of all, was last checked, and how many records
    differed then."""
    query = (
        select(
            Audit.connection_id, Audit.stream, Audit.ended_at,
            Audit.missing + Audit.stale + Audit.extra,
        )
        .where(Audit.ended_at.is_not(None))
        .distinct(Audit.connection_id, Audit.stream)
        .order_by(Audit.connection_id, Audit.stream, Audit.started_at.desc())
    )  # fmt: skip
    if connection_ids is not None:
        query = query.where(Audit.connection_id.in_(connection_ids))
    async with database.dispatching() as session:
        return {
            (id, stream): (at, drift)
            for id, stream, at, drift in await session.execute(query)
            if at is not None
        }


def _result(row: Audit) -> Result:
    keys: dict[str, Any] = row.keys
    return Result(row.stream, row.ended_at, row.checked, row.missing, row.stale, row.extra, keys)
