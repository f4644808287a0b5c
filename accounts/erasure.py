"""Erasing a tenant: its secrets first, by their key, then its records, then all that is left."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update

from accounts.disconnecting import Disconnector, disconnect
from storage import connections, erasing, tenants
from storage.database import Database
from storage.errors import NotFoundError
from storage.models import Connection, Status, Tenant, TenantSetting

REASON = "the tenant is being erased"


async def delete_tenant(
    disconnector: Disconnector,
    slug: str,
    *,
    wait: timedelta,
    progress: Callable[[int], None] = lambda records: None,
) -> bool:
    """Give a tenant's authorisations back, as far as vendors answer within `wait`, and erase it."""
    try:
        tenant = await tenants.by_slug(disconnector.database, slug)
    except NotFoundError:
        return False
    for connection in await connections.of_tenant(disconnector.database, tenant.id):
        if connection.status is not Status.REVOKED:
            await disconnect(
                disconnector, tenant_id=tenant.id, connection_id=connection.id, wait=wait
            )
    return await erase(disconnector.database, slug, progress=progress)


async def erase(
    database: Database,
    slug: str,
    *,
    batch: int = erasing.BATCH,
    progress: Callable[[int], None] = lambda records: None,
) -> bool:
    """Forget a tenant and everything of it; False where there was none.

    With the first commit its secrets are gone for good. What is interrupted after that goes on
    when it is asked for again.
    """
    connections = await _shred(database, slug)
    if connections is None:
        return False
    erased = 0
    for connection_id in connections:
        async for gone in erasing.empty(database, connection_id, batch=batch):
            erased += gone
            progress(erased)
    await tenants.delete(database, slug)
    return True


async def _shred(database: Database, slug: str) -> list[UUID] | None:
    """Delete the data key and what it sealed, and let no sync begin; the tenant's connections."""
    async with database.owning() as session:
        tenant_id = await session.scalar(
            update(Tenant).where(Tenant.slug == slug).values(data_key=None).returning(Tenant.id)
        )
        if tenant_id is None:
            return None
        await session.execute(delete(TenantSetting).where(TenantSetting.tenant_id == tenant_id))
        ended = {"status": Status.REVOKED, "status_reason": REASON, "next_due_at": None}
        of_tenant = Connection.tenant_id == tenant_id
        await session.execute(update(Connection).where(of_tenant).values(**ended))
        return list(await session.scalars(select(Connection.id).where(of_tenant)))
