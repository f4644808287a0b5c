"""What is due: connections taken for a sync by one dispatcher, and given back.

A claim is short: it locks what is due and nobody else has locked, puts `next_due_at` to the
connection's next slot, and commits; only then is anything synced. Until that sync has ended,
`claimed_due_at` keeps since when it was due, so that the next dispatcher finds what a killed one
had taken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, and_, bindparam, func, literal_column, select, text
from sqlalchemy.sql.elements import ColumnElement

from connectors.kernel.cancellation import take
from storage import watches
from storage.connections import Connection
from storage.database import Database, in_sql
from storage.models import Connection as ConnectionRow
from storage.models import Lease, Status, Tier, Watch
from storage.models import Tenant as TenantRow
from storage.shards import in_shard

BATCH = 50

_TAKE = """
    UPDATE connections c SET claimed_due_at = c.next_due_at, next_due_at = taken.slot
    FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(slots)s AS timestamptz[])) AS taken (id, slot)
    WHERE c.id = taken.id
"""
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

    Empty once there is none that nobody else is taking. A caller that is cancelled meanwhile has
    taken none.
    """
    return await take(_take(database, scope, by, slot, at_most), partial(give_back, database))


async def _take(
    database: Database,
    scope: Scope,
    by: datetime,
    slot: Callable[[Claim], datetime],
    at_most: int,
) -> list[Claim]:
    due, values = _due(scope.shards > 1)
    values = values | vars(scope) | {"by": by, "at_most": at_most}
    async with database.claiming() as sql:
        rows = await (await sql.execute(due, values)).fetchall()
        claims = [_claim(scope, row) for row in rows]
        if claims:
            ids = _array(claim.connection.id for claim in claims)
            await sql.execute(_TAKE, {"ids": ids, "slots": _array(map(slot, claims))})
    return claims


@cache
def _due(sharded: bool) -> tuple[str, dict[str, Any]]:
    """What a claim locks, as psycopg takes it: made once."""
    live = (Watch.connection_id == ConnectionRow.id, watches.live())
    watched = select(func.array_agg(Watch.resource)).where(*live).scalar_subquery()
    row = ConnectionRow
    query = (
        select(
            row.id, row.grant_id, row.tenant_id, TenantRow.slug, row.account_id, row.account_name,
            row.config, row.status_reason, row.last_synced_at, row.next_due_at, watched,
        )
        .join(TenantRow, TenantRow.id == row.tenant_id)
        .where(
            row.integration == bindparam("integration"),
            row.tier == bindparam("tier"),
            row.status == literal_column(f"'{Status.ACTIVE}'"),  # as the index says it
            row.next_due_at <= bindparam("by"),
        )
        .order_by(row.next_due_at)
        .limit(bindparam("at_most"))
        .with_for_update(of=row, skip_locked=True, key_share=True)
    )  # fmt: skip
    shard: Any = bindparam("shard", type_=BigInteger)
    shards: Any = bindparam("shards", type_=BigInteger)
    return in_sql(query.where(in_shard(shard, shards)) if sharded else query)


def _claim(scope: Scope, row: tuple[Any, ...]) -> Claim:
    id, grant_id, tenant_id, slug, account_id, name, config, reason, synced_at, due_at, watched = (
        row
    )
    connection = Connection(
        id=id,
        grant_id=grant_id,
        tenant_id=tenant_id,
        tenant_slug=slug,
        tier=scope.tier,
        integration=scope.integration,
        account_id=account_id,
        account_name=name,
        config=config,
        status=Status.ACTIVE,
        status_reason=reason,
        last_synced_at=synced_at,
    )
    return Claim(connection, due_at, frozenset(watched or ()))


def _array(values: Iterable[UUID | datetime]) -> str:
    """As PostgreSQL writes an array of these; psycopg looks at each value for long."""
    return "{" + ",".join(map(str, values)) + "}"


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
        select(ConnectionRow.id)
        .where(*_within(scope), ConnectionRow.claimed_due_at.is_not(None))
        .where(~select(Lease.epoch).where(syncing).exists())
        .with_for_update(skip_locked=True, key_share=True)
    )
    async with database.dispatching() as session:
        ids = list(await session.scalars(left))
        if ids:
            await session.execute(_RESTORE, {"ids": ids})
    return len(ids)


async def resting(database: Database, scope: Scope, *, by: datetime) -> Mapping[Status, int]:
    """How many of the scope's connections would be due, and are paused or wait for their tenant."""
    counted = (
        select(ConnectionRow.status, func.count())
        .where(*_within(scope), ConnectionRow.status != Status.ACTIVE)
        .where(ConnectionRow.next_due_at <= by)
        .group_by(ConnectionRow.status)
    )
    async with database.dispatching() as session:
        return {Status(status): count for status, count in await session.execute(counted)}


def _within(scope: Scope) -> list[ColumnElement[bool]]:
    conditions = [ConnectionRow.integration == scope.integration, ConnectionRow.tier == scope.tier]
    if scope.shards > 1:
        conditions.append(in_shard(scope.shard, scope.shards))
    return conditions
