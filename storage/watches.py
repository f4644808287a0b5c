"""Watches: what we keep subscribed at vendors, by whose secret a delivery is proven."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import MadeWatch
from storage import tenant_settings
from storage.database import Database
from storage.models import Connection, Status
from storage.models import Watch as WatchRow
from storage.rows import is_storable
from storage.vault import Vault

# A claim that its process did not come back from runs out.
CLAIM = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A watch as we keep it. `renew_at` is when something is to be done about it."""

    id: UUID
    vendor_id: str
    resource: str
    state: dict[str, Any]
    status: str
    expires_at: datetime | None
    renew_at: datetime | None
    confirmed_at: datetime
    secret: str = field(default="", repr=False)

    @property
    def watched(self) -> MadeWatch:
        return MadeWatch(vendor_id=self.vendor_id, expires_at=self.expires_at, state=self.state)


@dataclass(frozen=True, kw_only=True)
class Known:
    """Whose a delivery is that names a watch, and what proves it."""

    connection_id: UUID
    tenant_id: UUID
    secret: str = field(repr=False)


def live() -> ColumnElement[bool]:
    """Of a row of `watches`: whether it works now. Some vendors' have no end."""
    endless = WatchRow.expires_at.is_(None)
    return and_(WatchRow.status == "active", or_(endless, WatchRow.expires_at > func.now()))


async def claim(
    database: Database, integrations: Sequence[str], *, now: datetime, limit: int = 100
) -> list[UUID]:
    """Connections whose watches are to be looked after, taken so that nobody else does."""
    due = (
        select(Connection.id)
        .where(
            Connection.integration.in_(integrations),
            Connection.status == Status.ACTIVE,
            Connection.watches_due_at <= now,
        )
        .order_by(Connection.watches_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    async with database.dispatching() as session:
        taken = await session.scalars(
            update(Connection)
            .where(Connection.id.in_(due))
            .values(watches_due_at=now + CLAIM)
            .returning(Connection.id)
            .execution_options(synchronize_session=False)
        )
        return list(taken)


async def are_due(database: Database, integrations: Sequence[str], *, now: datetime) -> bool:
    """Whether any connection's watches are to be looked after."""
    due = select(Connection.id).where(
        Connection.integration.in_(integrations),
        Connection.status == Status.ACTIVE,
        Connection.watches_due_at <= now,
    )
    async with database.dispatching() as session:
        return bool(await session.scalar(select(due.exists())))


async def look_again(database: Database, connection_id: UUID, at: datetime) -> None:
    """When the connection's watches are due next."""
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(Connection.id == connection_id)
            .values(watches_due_at=at)
            .execution_options(synchronize_session=False)
        )


async def of_connection(
    session: AsyncSession, vault: Vault, tenant_id: UUID, connection_id: UUID
) -> list[Kept]:
    """All that are kept of a connection, the oldest first."""
    found = await session.scalars(
        select(WatchRow)
        .where(WatchRow.connection_id == connection_id)
        .order_by(WatchRow.created_at)
    )
    return [
        Kept(
            id=row.id,
            vendor_id=row.vendor_id,
            resource=row.resource,
            state=row.state,
            status=row.status,
            expires_at=row.expires_at,
            renew_at=row.renew_at,
            confirmed_at=row.confirmed_at,
            secret=await _opened(session, vault, tenant_id, row.id, row.sealed_secret),
        )
        for row in found
    ]


async def save(
    session: AsyncSession,
    vault: Vault,
    *,
    id: UUID,
    tenant_id: UUID,
    connection_id: UUID,
    resource: str,
    watched: MadeWatch,
    secret: str,
    renew_at: datetime,
    now: datetime,
) -> None:
    """A new watch, or a renewed one of the same id."""
    row = await session.get(WatchRow, id)
    if row is None:
        row = WatchRow(
            id=id, tenant_id=tenant_id, connection_id=connection_id, resource=resource,
            created_at=now,
        )  # fmt: skip
        session.add(row)
    row.vendor_id, row.state = watched.vendor_id, dict(watched.state)
    row.expires_at, row.renew_at, row.confirmed_at = watched.expires_at, renew_at, now
    row.status, row.reason = "active", None
    row.sealed_secret = await tenant_settings.seal(session, vault, tenant_id, _name(id), secret)


async def keep_refusal(
    session: AsyncSession,
    *,
    id: UUID,
    tenant_id: UUID,
    connection_id: UUID,
    resource: str,
    reason: str,
    again_at: datetime,
) -> None:
    """The vendor gives none for this resource; it is asked again later."""
    await forget_refusals(session, connection_id, resource)
    session.add(
        WatchRow(
            id=id,
            tenant_id=tenant_id,
            connection_id=connection_id,
            resource=resource,
            vendor_id=f"refused:{id}",
            state={},
            status="refused",
            reason=reason,
            renew_at=again_at,
        )
    )


async def forget_refusals(session: AsyncSession, connection_id: UUID, resource: str) -> None:
    await session.execute(
        delete(WatchRow).where(
            WatchRow.connection_id == connection_id,
            WatchRow.resource == resource,
            WatchRow.status == "refused",
        )
    )


async def retire(session: AsyncSession, id: UUID, at: datetime) -> None:
    """It has a successor, and is ended at the vendor once that has taken over."""
    await session.execute(
        update(WatchRow).where(WatchRow.id == id).values(status="retiring", renew_at=at)
    )


async def forget(session: AsyncSession, id: UUID) -> None:
    await session.execute(delete(WatchRow).where(WatchRow.id == id))


async def note_lifecycle(
    session: AsyncSession, connection_id: UUID, vendor_id: str, *, lost: bool
) -> None:
    """The vendor asks for a renewal, or has dropped the watch: makes the watch due at once."""
    of = (WatchRow.connection_id == connection_id, WatchRow.vendor_id == vendor_id)
    # A lost one is as good as expired: a new one is made, and what was missed is read.
    changes = {"renew_at": func.now()} | ({"expires_at": WatchRow.confirmed_at} if lost else {})
    await session.execute(update(WatchRow).where(*of).values(changes))
    await session.execute(
        update(Connection).where(Connection.id == connection_id).values(watches_due_at=func.now())
    )


async def known(database: Database, vault: Vault, integration: str, vendor_id: str) -> Known | None:
    """Whose watch that is; a retiring one still counts."""
    if not is_storable(vendor_id):
        return None  # a stranger's word, which PostgreSQL would refuse to look for
    query = (
        select(WatchRow.id, WatchRow.connection_id, WatchRow.tenant_id, WatchRow.sealed_secret)
        .join(Connection, Connection.id == WatchRow.connection_id)
        .where(
            WatchRow.vendor_id == vendor_id,
            WatchRow.status != "refused",
            Connection.integration == integration,
        )
    )
    async with database.receiving() as session:
        found = (await session.execute(query)).first()
    if found is None:
        return None
    async with database.transaction(found.tenant_id) as session:
        secret = await _opened(session, vault, found.tenant_id, found.id, found.sealed_secret)
    return Known(connection_id=found.connection_id, tenant_id=found.tenant_id, secret=secret)


async def until(database: Database, connection_id: UUID, now: datetime) -> datetime | None:
    """Up to when the vendor sends us the connection's changes; None where it does not now."""
    query = select(func.min(WatchRow.expires_at), func.count()).where(
        WatchRow.connection_id == connection_id,
        WatchRow.status == "active",
        or_(WatchRow.expires_at.is_(None), WatchRow.expires_at > now),
    )
    async with database.dispatching() as session:
        first, count = (await session.execute(query)).one()
    if not count:
        return None
    found: datetime = first or datetime.max.replace(tzinfo=now.tzinfo)
    return found


def _name(id: UUID) -> str:
    return f"watch:{id}"


async def _opened(
    session: AsyncSession, vault: Vault, tenant_id: UUID, id: UUID, sealed: str | None
) -> str:
    if sealed is None:
        return ""
    return await tenant_settings.unseal(session, vault, tenant_id, _name(id), sealed)
