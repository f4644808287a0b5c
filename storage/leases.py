"""Leases: who may work on a connection now. Every holder has an epoch, and each commit locks it.

A process that stalled past its expiry may still believe that it holds the lease; its next commit
finds a greater epoch, and is refused. All times are the database's.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import DateTime, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from storage._errors import LeaseLostError, NotFoundError
from storage.database import Database
from storage.models import Lease as LeaseRow

Kind: TypeAlias = Literal["sync", "event"]

# The clock and not now(): a statement may have waited for a lock since its transaction began.
_NOW = func.clock_timestamp(type_=DateTime(timezone=True))


@dataclass(frozen=True)
class Lease:
    """The right to write a connection's records, until someone has a greater epoch."""

    connection_id: UUID
    tenant_id: UUID
    kind: Kind
    epoch: int
    holder: str


async def acquire(
    database: Database,
    *,
    connection_id: UUID,
    tenant_id: UUID,
    kind: Kind,
    holder: str,
    ttl: timedelta,
) -> Lease | None:
    """The lease, if it is free or has expired; None while another holds it."""
    this = (LeaseRow.connection_id == connection_id, LeaseRow.kind == kind)
    free = (
        select(LeaseRow.connection_id)
        .where(*this, or_(LeaseRow.expires_at.is_(None), LeaseRow.expires_at <= _NOW))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    async with database.transaction(tenant_id) as session:
        try:
            await session.execute(
                insert(LeaseRow)
                .values(connection_id=connection_id, tenant_id=tenant_id, kind=kind, epoch=0)
                .on_conflict_do_nothing()
            )
        except IntegrityError as error:
            raise NotFoundError(f"there is no connection {connection_id}") from error
        epoch = await session.scalar(
            update(LeaseRow)
            .where(*this, LeaseRow.connection_id == free)
            .values(epoch=LeaseRow.epoch + 1, expires_at=_NOW + ttl, holder=holder)
            .returning(LeaseRow.epoch)
            .execution_options(synchronize_session=False)
        )
    return None if epoch is None else Lease(connection_id, tenant_id, kind, epoch, holder)


async def renew(database: Database, lease: Lease, ttl: timedelta) -> None:
    """Puts the expiry off; also that of an expired lease which nobody has taken since."""
    async with database.transaction(lease.tenant_id) as session:
        renewed = await session.scalar(
            update(LeaseRow)
            .where(*_held(lease), LeaseRow.expires_at.is_not(None))
            .values(expires_at=_NOW + ttl)
            .returning(LeaseRow.epoch)
            .execution_options(synchronize_session=False)
        )
    if renewed is None:
        raise _lost(lease)


async def release(database: Database, lease: Lease) -> None:
    """Gives the lease back, unless another has it by now."""
    async with database.transaction(lease.tenant_id) as session:
        await session.execute(
            update(LeaseRow)
            .where(*_held(lease))
            .values(expires_at=None, holder=None)
            .execution_options(synchronize_session=False)
        )


async def hold(session: AsyncSession, lease: Lease) -> None:
    """Keeps the lease from changing hands until this transaction ends: its first statement."""
    held = await session.scalar(
        select(LeaseRow.epoch)
        .where(*_held(lease), LeaseRow.expires_at > _NOW)
        .with_for_update(read=True)
    )
    if held is None:
        raise _lost(lease)


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        LeaseRow.connection_id == lease.connection_id,
        LeaseRow.kind == lease.kind,
        LeaseRow.epoch == lease.epoch,
    )


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"the {lease.kind} lease of connection {lease.connection_id} has passed to another process"
    )
