"""Tenants: whose data it is, and what they pay for."""

import re
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.errors import NotFoundError
from storage.models import Connection, Status, Tier
from storage.models import Tenant as TenantRow

# A slug stands in `TENANT/INTEGRATION`, in tags and in URLs.
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LISTED = 20


@dataclass(frozen=True)
class Tenant:
    """A customer of ours; owner of everything that carries its id."""

    id: UUID
    slug: str
    name: str
    tier: Tier
    contact_email: str | None

    @classmethod
    def of(cls, row: TenantRow) -> "Tenant":
        return cls(row.id, row.slug, row.name, Tier(row.tier), row.contact_email)


async def create(
    database: Database,
    slug: str,
    name: str,
    tier: str = Tier.FREE,
    contact_email: str | None = None,
    tenant_id: UUID | None = None,
) -> Tenant:
    """The tenant of that slug, made if there is none; one that is there stays as it is.

    `tenant_id` is for a tenant that has an id already, in the SaaS's own database.
    """
    if not _SLUG.fullmatch(slug):
        raise ValueError(f"a tenant's slug has a-z, 0-9, - and _ only, which {slug!r} does not")
    made = insert(TenantRow).values(
        id=tenant_id or uuid4(), slug=slug, name=name, tier=Tier(tier), contact_email=contact_email
    )
    async with database.owning() as session:
        await session.execute(made.on_conflict_do_nothing(index_elements=["slug"]))
        return await _by_slug(session, slug)


async def get(database: Database, tenant_id: UUID) -> Tenant:
    async with database.dispatching() as session:
        row = await session.get(TenantRow, tenant_id)
    if row is None:
        raise NotFoundError(absent(tenant_id))
    return Tenant.of(row)


def absent(tenant_id: UUID) -> str:
    """What is said of a tenant that is not there, or not for who asks."""
    return f"there is no tenant {tenant_id}"


async def add(
    database: Database,
    slug: str,
    name: str,
    tier: Tier,
    contact_email: str | None,
    tenant_id: UUID | None = None,
) -> Tenant | None:
    """A new tenant; None where its slug or its id is taken."""
    made = insert(TenantRow).values(
        id=tenant_id or uuid4(), slug=slug, name=name, tier=tier, contact_email=contact_email
    )
    async with database.owning() as session:
        row = await session.scalar(made.on_conflict_do_nothing().returning(TenantRow))
        return Tenant.of(row) if row else None


async def change(database: Database, tenant_id: UUID, **values: str | None) -> Tenant:
    """Another name or contact; the tier changes by `set_tier`."""
    changed = update(TenantRow).where(TenantRow.id == tenant_id)
    async with database.owning() as session:
        await session.execute(changed.values(**values, updated_at=func.now()))
    return await get(database, tenant_id)


async def page(database: Database, *, after: str, limit: int) -> list[Tenant]:
    """The tenants whose slugs follow, in their order."""
    query = select(TenantRow).where(TenantRow.slug > after).order_by(TenantRow.slug).limit(limit)
    async with database.dispatching() as session:
        return [Tenant.of(row) for row in await session.scalars(query)]


async def by_slug(database: Database, slug: str) -> Tenant:
    """NotFoundError names the tenants there are."""
    async with database.dispatching() as session:
        return await _by_slug(session, slug)


async def all(database: Database) -> list[Tenant]:
    async with database.dispatching() as session:
        found = await session.scalars(select(TenantRow).order_by(TenantRow.slug))
        return [Tenant.of(row) for row in found]


async def set_tier(database: Database, slug: str, tier: str) -> Tenant:
    """The tenant, on another tier from now on."""
    async with database.owning() as session:
        tenant = await _by_slug(session, slug)
        await change_tier(session, tenant.id, Tier(tier))
        return await _by_slug(session, slug)


async def change_tier(session: AsyncSession, tenant_id: UUID, tier: Tier) -> bool:
    """The one way by which a tier changes, by hand and by billing; False if it is that already.

    On a higher one, whatever waits for a slot of the former is due at once. On a lower one each
    connection keeps the slot it waits for, and the new interval counts from there.
    """
    row = await session.get(TenantRow, tenant_id, with_for_update={"key_share": True})
    if row is None or row.tier == tier:
        return False
    rises = tier.rank > Tier(row.tier).rank
    row.tier, row.updated_at = tier, func.now()
    await session.flush()
    if rises:
        await session.execute(
            update(Connection)
            .where(
                Connection.tenant_id == tenant_id,
                Connection.status == Status.ACTIVE,
                Connection.next_due_at > func.now(),
            )
            .values(next_due_at=func.now())
            .execution_options(synchronize_session=False)
        )
    return True


async def delete(database: Database, slug: str) -> bool:
    """Forgets a tenant and everything of it; False where there was none."""
    gone = delete_from(TenantRow).where(TenantRow.slug == slug).returning(TenantRow.id)
    async with database.owning() as session:
        return await session.scalar(gone) is not None


async def _by_slug(session: AsyncSession, slug: str) -> Tenant:
    row = await session.scalar(select(TenantRow).where(TenantRow.slug == slug))
    if row is None:
        known = await session.scalars(select(TenantRow.slug).order_by(TenantRow.slug))
        raise NotFoundError(f"there is no tenant {slug!r}; there are: {listed(list(known))}")
    return Tenant.of(row)


def listed(names: list[str]) -> str:
    """A readable enumeration: the first of them, and how many more there are."""
    if not names:
        return "none"
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more:,} more" if more > 0 else "")
