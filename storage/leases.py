"""Leases: who may work on a connection now. Every holder has an epoch, and each commit locks it.

A process that stalled past its expiry may still believe that it holds the lease; its next commit
finds a greater epoch, and is refused. All times are the database's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import DateTime, func, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from connectors.kernel.cancellation import take
from storage.database import Database
from storage.errors import LeaseLostError, NotFoundError
from storage.models import Connection
from storage.models import Lease as LeaseRow

Kind: TypeAlias = Literal["sync", "event", "feed"]

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
    """The lease, if it is free or has expired; None while another holds it.

    A caller that is cancelled meanwhile holds nothing.
    """

    async def give_back(lease: Lease | None) -> None:
        if lease is not None:
            await release(database, lease)

    return await take(_acquire(database, connection_id, tenant_id, kind, holder, ttl), give_back)


async def _acquire(
    database: Database,
    connection_id: UUID,
    tenant_id: UUID,
    kind: Kind,
    holder: str,
    ttl: timedelta,
) -> Lease | None:
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


async def acquire_all(
    database: Database,
    connection_ids: Sequence[UUID],
    *,
    kind: Kind,
    holder: str,
    ttl: timedelta,
) -> list[Lease]:
    """The leases of those connections that are free or have expired, in one short transaction.

    A caller that is cancelled meanwhile holds none.
    """
    taking = _acquire_all(database, connection_ids, kind, holder, ttl)
    return await take(taking, partial(release_all, database))


async def _acquire_all(
    database: Database, connection_ids: Sequence[UUID], kind: Kind, holder: str, ttl: timedelta
) -> list[Lease]:
    wanted = (
        select(
            Connection.id,
            literal(kind),
            Connection.tenant_id,
            literal(1),
            _NOW + ttl,
            literal(holder),
        )
        .where(Connection.id.in_(connection_ids))
        .order_by(Connection.id)
    )
    names = ["connection_id", "kind", "tenant_id", "epoch", "expires_at", "holder"]
    taking = insert(LeaseRow).from_select(names, wanted)
    async with database.dispatching() as session:
        taken = await session.execute(
            taking.on_conflict_do_update(
                index_elements=["connection_id", "kind"],
                set_={
                    "epoch": LeaseRow.epoch + 1,
                    "expires_at": taking.excluded.expires_at,
                    "holder": taking.excluded.holder,
                },
                where=or_(LeaseRow.expires_at.is_(None), LeaseRow.expires_at <= _NOW),
            ).returning(LeaseRow.connection_id, LeaseRow.tenant_id, LeaseRow.epoch)
        )
        return [Lease(id, tenant_id, kind, epoch, holder) for id, tenant_id, epoch in taken]


async def renew_all(database: Database, held: Sequence[Lease], ttl: timedelta) -> None:
    """Puts their expiry off; one that was lost is noticed by its holder's next commit."""
    await _set_all(database, held, expires_at=_NOW + ttl)


async def release_all(database: Database, held: Sequence[Lease]) -> None:
    """Gives them back, except what another has by now."""
    await _set_all(database, held, expires_at=None, holder=None)


async def _set_all(database: Database, held: Sequence[Lease], **values: Any) -> None:
    ours = tuple_(LeaseRow.connection_id, LeaseRow.kind, LeaseRow.epoch)
    keys = sorted((each.connection_id, each.kind, each.epoch) for each in held)
    locked = (
        select(LeaseRow.connection_id, LeaseRow.kind)
        .where(ours.in_(keys), LeaseRow.expires_at.is_not(None))
        .order_by(LeaseRow.connection_id)
        .with_for_update()
        .cte()
    )
    async with database.dispatching() as session:
        await session.execute(
            update(LeaseRow)
            .where(LeaseRow.connection_id == locked.c.connection_id, LeaseRow.kind == locked.c.kind)
            .values(**values)
            .execution_options(synchronize_session=False)
        )


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
