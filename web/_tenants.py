"""The tenant that a request names, by its id or its slug."""

from uuid import UUID

from storage import NotFoundError, tenants
from storage.database import Database
from storage.tenants import Tenant
from web._auth import Caller

NAME = r"^[A-Za-z0-9_-]{1,63}$"


async def named(database: Database, caller: Caller, name: str) -> Tenant:
    """The tenant of that id or slug, as if others than those of the caller were not there."""
    absent = f"there is no tenant {name!r}"
    try:
        tenant_id = UUID(name)
    except ValueError:
        try:
            tenant_id = (await tenants.by_slug(database, name)).id
        except NotFoundError:
            # Not that error: it names other tenants.
            raise NotFoundError(absent) from None
    caller.must_act_for(tenant_id, absent)
    return await tenants.get(database, tenant_id)
