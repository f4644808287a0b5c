"""Connections: a tenant's authorised links to accounts at vendors."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    Row,
    Select,
    and_,
    case,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from storage import checkpoints, tenants
from storage.database import Database
from storage.errors import NotFoundError
from storage.models import CheckpointRow, Failure, Status, Tier
from storage.models import Connection as ConnectionRow
from storage.models import Tenant as TenantRow

# After each sync that failed the next waits twice as long.
RETRY_AFTER, MAX_RETRY_AFTER = timedelta(minutes=5), timedelta(days=1)


@dataclass(frozen=True)
class Connection:
    """A tenant's link to one account, with what is worth knowing of the tenant."""

    id: UUID
    grant_id: UUID
    tenant_id: UUID
    tenant_slug: str
    tier: Tier
    integration: str
    account_id: str
    account_name: str
    config: Mapping[str, Any]
    status: Status
    status_reason: str | None
    last_synced_at: datetime | None
    failure: Failure | None = None

    def __str__(self) -> str:
        return f"{self.tenant_slug}/{self.integration}"

    @classmethod
    def of(cls, found: Row[tuple[ConnectionRow, str, str]]) -> "Connection":
        """A row of `query`."""
        row, slug, tier = found
        return cls(
            id=row.id,
            grant_id=row.grant_id,
            tenant_id=row.tenant_id,
            tenant_slug=slug,
            tier=Tier(tier),
            integration=row.integration,
            account_id=row.account_id,
            account_name=row.account_name,
            config=row.config,
            status=Status(row.status),
            status_reason=row.status_reason,
            last_synced_at=row.last_synced_at,
            failure=Failure(row.failure) if row.failure else None,
        )


async def get(database: Database, connection_id: UUID) -> Connection:
    async with database.dispatching() as session:
        row = (await session.execute(query().where(ConnectionRow.id == connection_id))).first()
    if row is None:
        raise NotFoundError(absent(connection_id))
    return Connection.of(row)


def absent(connection_id: UUID) -> str:
    """What is said of a connection that is not there, or not for who asks."""
    return f"there is no connection {connection_id}"


async def find(
    database: Database, tenant_slug: str, integration: str, account_id: str | None = None
) -> Connection:
    """A tenant's connection to an integration; where it has several, the account tells which."""
    tenant = await tenants.by_slug(database, tenant_slug)
    async with database.dispatching() as session:
        found = await session.execute(query().where(ConnectionRow.tenant_id == tenant.id))
        having = [Connection.of(row) for row in found]
    of_integration = [each for each in having if each.integration == integration]
    if not of_integration:
        known = tenants.listed(sorted({each.integration for each in having}))
        raise NotFoundError(f"{tenant_slug} has no connection to {integration!r}; it has: {known}")
    chosen = [each for each in of_integration if account_id in (None, each.account_id)]
    if len(chosen) != 1:
        accounts = tenants.listed(sorted(each.account_id for each in of_integration))
        problem = "several accounts" if account_id is None else f"no account {account_id!r}"
        raise NotFoundError(f"{tenant_slug} has {problem} at {integration}; it has: {accounts}")
    return chosen[0]


async def listing(database: Database) -> list[Connection]:
    """Every connection of every tenant, in the order of tenants and integrations."""
    listed = query().order_by(TenantRow.slug, ConnectionRow.integration, ConnectionRow.account_id)
    async with database.dispatching() as session:
        return [Connection.of(row) for row in await session.execute(listed)]


async def of_tenant(
    database: Database, tenant_id: UUID, *, integration: str | None = None
) -> list[Connection]:
    """A tenant's connections, in the order of integrations."""
    chosen = query().where(ConnectionRow.tenant_id == tenant_id)
    if integration is not None:
        chosen = chosen.where(ConnectionRow.integration == integration)
    chosen = chosen.order_by(ConnectionRow.integration, ConnectionRow.account_id)
    async with database.dispatching() as session:
        return [Connection.of(row) for row in await session.execute(chosen)]


async def page(
    database: Database,
    *,
    tenant_id: UUID | None = None,
    integration: str | None = None,
    status: Status | None = None,
    after: tuple[str, str, str] | None = None,
    limit: int,
) -> list[Connection]:
    """Connections in the order of tenants' slugs, integrations and accounts: those that follow
    `after`, which is one's place in it."""
    place = (TenantRow.slug, ConnectionRow.integration, ConnectionRow.account_id)
    chosen = query()
    if tenant_id is not None:
        chosen = chosen.where(ConnectionRow.tenant_id == tenant_id)
    if integration is not None:
        chosen = chosen.where(ConnectionRow.integration == integration)
    if status is not None:
        chosen = chosen.where(ConnectionRow.status == status)
    if after is not None:
        chosen = chosen.where(tuple_(*place) > tuple_(*(literal(each) for each in after)))
    async with database.dispatching() as session:
        found = await session.execute(chosen.order_by(*place).limit(limit))
        return [Connection.of(row) for row in found]


async def pause(database: Database, connection_id: UUID) -> Connection:
    """No more syncs until it is resumed. One that waits for its tenant stays as it is."""
    return await _switch(database, connection_id, Status.ACTIVE, Status.PAUSED)


async def resume(database: Database, connection_id: UUID) -> Connection:
    """What was paused is due at once."""
    return await _switch(
        database, connection_id, Status.PAUSED, Status.ACTIVE, next_due_at=func.now()
    )


async def _switch(
    database: Database, connection_id: UUID, former: Status, status: Status, **more: Any
) -> Connection:
    async with database.dispatching() as session:
        if status is Status.ACTIVE:
            await checkpoints.ask_for_refused(session, [connection_id])
        await session.execute(
            update(ConnectionRow)
            .where(ConnectionRow.id == connection_id, ConnectionRow.status == former)
            .values(status=status, status_reason=None, **more)
            .execution_options(synchronize_session=False)
        )
    return await get(database, connection_id)


async def set_status(
    session: AsyncSession, connection_id: UUID, status: str, reason: str | None = None
) -> None:
    await _change(session, connection_id, status=Status(status), status_reason=reason)


async def mark_synced(session: AsyncSession, connection_id: UUID) -> None:
    """A sync went through: earlier failures no longer matter, but for refusals that stand."""
    refusal = (
        select(func.min(CheckpointRow.stream + ": " + CheckpointRow.refusal))
        .where(CheckpointRow.connection_id == connection_id)
        .scalar_subquery()
    )
    # One that nobody claimed may have mended what had been put off by a day.
    mended = and_(
        ConnectionRow.failures > 0,
        ConnectionRow.claimed_due_at.is_(None),
        ConnectionRow.next_due_at.is_not(None),
    )
    await _change(
        session,
        connection_id,
        last_synced_at=func.now(),
        failures=case((refusal.is_not(None), func.greatest(ConnectionRow.failures, 1)), else_=0),
        failure=case((refusal.is_not(None), Failure.NOT_ALLOWED)),
        status_reason=refusal,
        claimed_due_at=None,
        next_due_at=case(
            (mended, func.least(ConnectionRow.next_due_at, func.now())),
            else_=ConnectionRow.next_due_at,
        ),
    )


async def mark_failed(
    session: AsyncSession,
    connection_id: UUID,
    reason: str,
    *,
    failure: Failure = Failure.OURS,
    partly: bool = False,
    wait: timedelta = timedelta(),
) -> None:
    """A sync failed in a way that may pass; the connection stays as active as it was.

    It is tried again after a pause that doubles with each failure in a row, up to a day, and not
    before `wait`; one that failed `partly` is due when it would have been.
    """
    pause = backoff(ConnectionRow.failures + 1)
    again = func.greatest(ConnectionRow.next_due_at if partly else func.now() + pause,
                          func.now() + wait)  # fmt: skip
    await _change(
        session,
        connection_id,
        failures=ConnectionRow.failures + 1,
        failure=failure,
        status_reason=reason,
        claimed_due_at=None,
        next_due_at=case((ConnectionRow.next_due_at.is_not(None), again)),
    )


def backoff(failures: ColumnElement[int]) -> ColumnElement[timedelta]:
    """How long is waited after so many failures in a row."""
    doublings = func.least(failures - 1, 30)
    return func.least(literal(RETRY_AFTER) * func.power(2, doublings), MAX_RETRY_AFTER,
                      type_=Interval())  # fmt: skip


async def _change(session: AsyncSession, connection_id: UUID, **values: Any) -> None:
    await session.execute(
        update(ConnectionRow)
        .where(ConnectionRow.id == connection_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def query() -> Select[tuple[ConnectionRow, str, str]]:
    """Connections with what `Connection.of` needs of their tenants."""
    return (
        select(ConnectionRow, TenantRow.slug, TenantRow.tier)
        .join(TenantRow, TenantRow.id == ConnectionRow.tenant_id)
        .where(ConnectionRow.purge_owed_at.is_(None))
    )
