"""Freshness: how old each stream's data is, against what its tenant's tier promises.

The view `freshness` says it of every stream: one is late once its age is past its interval by
half, or by an hour where half is more. Why it is late is one of a few words: `paused`, `token` (its
tenant must connect again), `syncing`, `breaker open` (the vendor is away), `vendor limit`,
`failing`, `never synced`, `backlog` (nobody has come to it).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Uuid

from storage.database import Database
from storage.models import SyncInterval


@dataclass(frozen=True)
class Interval:
    """How often a tier's stream is polled; where watches are needed, also with a live one."""

    integration: str
    tier: str
    stream: str
    every: timedelta
    every_watched: timedelta


async def keep_intervals(database: Database, wanted: Collection[Interval]) -> bool:
    """The view compares with these from now on; whether that is anything new."""
    async with database.dispatching() as session:
        known = await session.scalars(select(SyncInterval))
        if {_interval(row) for row in known} == set(wanted):
            return False
        await session.execute(delete(SyncInterval))
        putting = insert(SyncInterval).on_conflict_do_update(  # another process may be at it, too
            index_elements=["integration", "tier", "stream"],
            set_={name: insert(SyncInterval).excluded[name] for name in ("every", "every_watched")},
        )
        if wanted:
            await session.execute(putting, [vars(each) for each in wanted])
    return True


def _interval(row: SyncInterval) -> Interval:
    return Interval(row.integration, row.tier, row.stream, row.every, row.every_watched)


@dataclass(frozen=True)
class Fresh:
    """How old a stream's data is. `reason` says why, where it is late."""

    every: timedelta
    age: timedelta
    reason: str | None


async def of_streams(
    database: Database, connection_ids: Sequence[UUID] | None = None
) -> dict[tuple[UUID, str], Fresh]:
    """Every stream that is polled of these connections, or of all, by its connection."""
    query = text("SELECT connection_id, stream, every, age, reason FROM freshness")
    if connection_ids is not None:
        query = text(f"{query} WHERE connection_id = ANY (:ids)").bindparams(
            bindparam("ids", list(connection_ids), type_=ARRAY(Uuid()))
        )
    async with database.dispatching() as session:
        return {
            (connection_id, stream): Fresh(every, age, reason)
            for connection_id, stream, every, age, reason in await session.execute(query)
        }


@dataclass(frozen=True)
class Promise:
    """The streams of an integration and tier that are late for one reason, or, without, are not.

    `worst` is the greatest age among them, and `overdue` the greatest in intervals.
    """

    integration: str
    tier: str
    reason: str | None
    streams: int
    worst: timedelta
    overdue: float


async def promises(
    database: Database, *, integration: str | None = None, tier: str | None = None
) -> list[Promise]:
    """How the promises are kept, of all or of one integration and tier, in their order."""
    query = text(
        """
        SELECT integration, tier, reason, count(*), max(age),
            max(extract(epoch FROM age) / extract(epoch FROM every))::float
        FROM freshness
        WHERE (CAST(:integration AS text) IS NULL OR integration = :integration)
            AND (CAST(:tier AS text) IS NULL OR tier = :tier)
        GROUP BY integration, tier, reason ORDER BY integration, tier, reason NULLS FIRST
        """
    )
    async with database.dispatching() as session:
        found = await session.execute(query, {"integration": integration, "tier": tier})
        return [Promise(*row) for row in found]
