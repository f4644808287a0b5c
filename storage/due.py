"""What is due: connections taken for a sync by one dispatcher, and given back.

A claim is short: it locks what is due and nobody else has locked, puts `next_due_at` to the
connection's next slot, and commits; only then is anything synced. Until that sync has ended,
`claimed_due_at` keeps since when it was due, so that the next dispatcher finds what a killed one
had taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Row, Select, and_, bindparam, func, select, text
from sqlalchemy.sql.elements import ColumnElement

from storage import watches
from storage.connections import Connection
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import Lease, Status, Tier, Watch
from storage.models import Tenant as TenantRow
from storage.shards import in_shard

BATCH = 50

_NAMES = [each.name for each in fields(Connection) if each.name not in ("tenant_slug", "tier")]
_COLUMNS = [getattr(ConnectionRow, name) for name in _NAMES]

_TAKE = text(
    """
    UPDATE connections c SET claimed_due_at = c.next_due_at, next_due_at = taken.slot
    FROM unnest(CAST(:ids AS uuid[]), CAST(:slots AS timestamptz[])) AS taken (id, slot)
    WHERE c.id = taken.id
    """
)
_RESTORE = text(
    """
    UPDATE connections SET next_due_at = claimed_due_at, claimed_due_at = NULL
    WHERE id = ANY(:ids) AND claimed_due_at IS NOT NULL
    """
)
_SETTLE = text(
    """
    UPDATE connections SET claimed_due_at = NULL
    WHERE id = ANY(:ids) AND claimed_due_at IS NOT NULL
    """
)


@dataclass(frozen=True)
class Scope:
    """What one dispatcher looks after: a shard of a tier's connections to an integration."""

    integration: str
    tier: Tier
    shard: int = 0
    shards: int = 1

    def __str__(self) -> str:
        of = f" · {self.shard + 1} of {self.shards}" if self.shards > 1 else ""
        return f"{self.integration} · {self.tier}{of}"

    def lock(self, database: Database) -> str:
        """The name of the lock that its dispatcher holds; each installation has a schema."""
        shard = f"{self.shard}/{self.shards}"
        return f"sync-tier {database.schema} {self.integration} {self.tier} {shard}"


@dataclass(frozen=True)
class Claim:
    """A connection that is ours to sync, since when it was due, and what its live watches watch."""

    connection: Connection
    due_at: datetime
    watched: frozenset[str]


async def claim(
    database: Database,
    scope: Scope,
    *,
    by: datetime,
    slot: Callable[[Claim], datetime],
    at_most: int = BATCH,
) -> list[Claim]:
    """Takes connections that are due by then, the latest first; `slot` is when one is due next.

    Empty once there is none that nobody else is taking.
    """
    values = {
        "integration": scope.integration, "tier": scope.tier, "by": by, "at_most": at_most,
        "shard": scope.shard, "shards": scope.shards,
    }  # fmt: skip
    async with database.dispatching() as session:
        claims = [_claim(row) for row in await session.execute(_due(scope.shards > 1), values)]
        if claims:
            await session.execute(
                _TAKE,
                {
                    "ids": [claim.connection.id for claim in claims],
                    "slots": [slot(claim) for claim in claims],
                },
            )
    return claims


@cache
def _due(sharded: bool) -> Select[Any]:
    """What a claim locks. Columns and not entities: those take twice the time of all the rest."""
    live = (Watch.connection_id == ConnectionRow.id, watches.live())
    watched = select(func.array_agg(Watch.resource)).where(*live).scalar_subquery()
    query = (
        _of_tenants(
            select(*_COLUMNS, TenantRow.slug, TenantRow.tier, ConnectionRow.next_due_at, watched)
        )
        .where(
            ConnectionRow.integration == bindparam("integration"),
            TenantRow.tier == bindparam("tier"),
            ConnectionRow.status == Status.ACTIVE,
            ConnectionRow.next_due_at <= bindparam("by"),
        )
        .order_by(ConnectionRow.next_due_at)
        .limit(bindparam("at_most"))
        .with_for_update(of=ConnectionRow, skip_locked=True, key_share=True)
    )
    shard: Any = bindparam("shard", type_=BigInteger)
    shards: Any = bindparam("shards", type_=BigInteger)
    return query.where(in_shard(shard, shards)) if sharded else query


def _claim(row: Row[Any]) -> Claim:
    *values, slug, tier, due_at, watched = row
    found = dict(zip(_NAMES, values, strict=True))
    found["status"] = Status(found["status"])
    connection = Connection(tenant_slug=slug, tier=Tier(tier), **found)
    return Claim(connection, due_at, frozenset(watched or ()))


async def give_back(database: Database, claims: Sequence[Claim]) -> None:
    """These were not synced after all: they are as due as they were."""
    await _of_these(database, claims, _RESTORE)


async def settle(database: Database, claims: Sequence[Claim]) -> None:
    """Whatever became of these, nobody shall find them left behind."""
    await _of_these(database, claims, _SETTLE)


async def _of_these(database: Database, claims: Sequence[Claim], statement: Any) -> None:
    if claims:
        async with database.dispatching() as session:
            await session.execute(statement, {"ids": [claim.connection.id for claim in claims]})


async def recover(database: Database, scope: Scope) -> int:
    """What a dispatcher of this scope had taken when it died is as due as it was; how many.

    Whoever calls this holds the scope's lock, so that dispatcher is gone; a sync that goes on all
    the same has a lease, and is left alone.
    """
    syncing = and_(Lease.connection_id == ConnectionRow.id, Lease.kind == "sync",
                   Lease.expires_at > func.clock_timestamp())  # fmt: skip
    left = (
        _of_tenants(select(ConnectionRow.id))
        .where(*_within(scope), ConnectionRow.claimed_due_at.is_not(None))
        .where(~select(Lease.epoch).where(syncing).exists())
        .with_for_update(of=ConnectionRow, skip_locked=True, key_share=True)
    )
    async with database.dispatching() as session:
        ids = list(await session.scalars(left))
        if ids:
            await session.execute(_RESTORE, {"ids": ids})
    return len(ids)


async def resting(database: Database, scope: Scope, *, by: datetime) -> Mapping[Status, int]:
    """How many of the scope's connections would be due, and are paused or wait for their tenant."""
    counted = (
        _of_tenants(select(ConnectionRow.status, func.count()))
        .where(*_within(scope), ConnectionRow.status != Status.ACTIVE)
        .where(ConnectionRow.next_due_at <= by)
        .group_by(ConnectionRow.status)
    )
    async with database.dispatching() as session:
        return {Status(status): count for status, count in await session.execute(counted)}


def _of_tenants(query: Select[Any]) -> Select[Any]:
    return query.join(TenantRow, TenantRow.id == ConnectionRow.tenant_id)


def _within(scope: Scope) -> list[ColumnElement[bool]]:
    conditions = [ConnectionRow.integration == scope.integration, TenantRow.tier == scope.tier]
    if scope.shards > 1:
        conditions.append(in_shard(scope.shard, scope.shards))
    return conditions
