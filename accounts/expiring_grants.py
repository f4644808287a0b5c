"""Grants that are lost unless somebody uses them: unused for long, or left in mid-refresh."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, func, or_, select

from accounts.tokens import TIMEOUT
from storage.database import Database
from storage.models import Connection, Grant, OAuthLog, Status, Tenant

# What failed is left alone for so long: half of what a vendor allows is time enough.
TRY_AGAIN_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Lapsing:
    """A grant at risk; safe once it was refreshed after `renewed_after`."""

    grant_id: UUID
    tenant_id: UUID
    tenant_slug: str
    integration: str
    renewed_after: datetime
    interrupted: bool

    def __str__(self) -> str:
        return f"{self.tenant_slug}/{self.integration}"


async def lapsing(
    database: Database, idle_lifetime: Mapping[str, timedelta], *, now: datetime, at_most: int
) -> list[Lapsing]:
    """The grants whose last refresh is older than half of what their vendor allows, and those
    whose refresh was interrupted; the interrupted and the oldest first.

    A paused connection's grant is kept, too: it is to work when its tenant resumes.
    """
    renewed_at = func.coalesce(Grant.refreshed_at, Grant.created_at)
    # By the database's clock, which wrote it.
    interrupted = func.coalesce(
        Grant.refresh_started_at < func.clock_timestamp() - 2 * TIMEOUT, False
    )
    unused = [
        and_(Grant.integration == integration, renewed_at < now - limit / 2)
        for integration, limit in idle_lifetime.items()
    ]
    failed = select(OAuthLog.id).where(
        OAuthLog.tenant_id == Grant.tenant_id,
        OAuthLog.grant_id == Grant.id,
        OAuthLog.event == "failure",
        OAuthLog.at > now - TRY_AGAIN_AFTER,
    )
    in_use = select(Connection.id).where(
        Connection.grant_id == Grant.id,
        Connection.status.in_((Status.ACTIVE, Status.PAUSED)),
    )
    query = (
        select(Grant, Tenant.slug, interrupted)
        .join(Tenant, Tenant.id == Grant.tenant_id)
        .where(in_use.exists(), or_(interrupted, and_(or_(False, *unused), ~failed.exists())))
        .order_by(interrupted.desc(), renewed_at)
        .limit(at_most)
    )
    async with database.dispatching() as session:
        return [
            Lapsing(
                grant.id,
                grant.tenant_id,
                slug,
                grant.integration,
                # Of an interrupted one only the refresh is to be brought to its end.
                grant.created_at if half_done else now - idle_lifetime[grant.integration] / 2,
                half_done,
            )
            for grant, slug, half_done in await session.execute(query)
        ]
