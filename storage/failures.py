"""Connections that fail, each reported once from when it begins to until it is mended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from connectors import (
    BrokenConnectionError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
)
from storage.database import Database
from storage.models import Failure

# We retry a connection that failed once or twice before we report it to anybody.
FAILURES = 3

_FAILURES = (
    (BrokenConnectionError, Failure.BROKEN),
    (NotAllowedError, Failure.NOT_ALLOWED),
    (ProviderUnavailableError, Failure.UNAVAILABLE),
    (RateLimitedError, Failure.RATE_LIMITED),
    (ContractError, Failure.CONTRACT),
)

_SELECTED = """
    SELECT c.id, t.slug, t.tier, c.integration, c.account_id, c.status, c.failures, c.failure,
        c.status_reason, c.last_synced_at, c.reported_at
    FROM connections c JOIN tenants t ON t.id = c.tenant_id
"""
_FAILS = "(c.status = 'needs_reauth' OR c.status = 'active' AND c.failures >= :failures)"


def failure_of(error: Exception) -> Failure:
    """Who must act on what a sync failed with."""
    for kind, failure in _FAILURES:
        if isinstance(error, kind):
            return failure
    return Failure.OURS


@dataclass(frozen=True)
class Failing:
    """A connection that fails, or did until now."""

    id: UUID
    tenant_slug: str
    tier: str
    integration: str
    account_id: str
    status: str
    failures: int
    failure: str | None
    reason: str | None
    last_synced_at: datetime | None
    reported_at: datetime | None

    def __str__(self) -> str:
        return f"{self.tenant_slug}/{self.integration}"


@dataclass(frozen=True)
class Changes:
    """What is new since the last report."""

    begun: list[Failing]
    mended: list[Failing]


@asynccontextmanager
async def changes(database: Database, *, at_most: int = 1_000) -> AsyncIterator[Changes]:
    """What is to be reported; it counts as reported once the block has gone through."""
    async with database.dispatching() as session:

        async def take(where: str) -> list[Failing]:
            query = f"{_SELECTED} WHERE {where} ORDER BY c.id LIMIT :at_most"
            locked = text(f"{query} FOR NO KEY UPDATE OF c SKIP LOCKED")
            values = {"failures": FAILURES, "at_most": at_most}
            return [Failing(*row) for row in await session.execute(locked, values)]

        begun = await take(f"c.reported_at IS NULL AND {_FAILS}")
        mended = await take(f"c.reported_at IS NOT NULL AND NOT {_FAILS}")
        for found, at in ((begun, "now()"), (mended, "NULL")):
            await session.execute(
                text(f"UPDATE connections SET reported_at = {at} WHERE id = ANY(:ids)"),  # noqa: S608
                {"ids": [one.id for one in found]},
            )
        yield Changes(begun, mended)


async def standing(database: Database, *, at_most: int = 200) -> list[Failing]:
    """Those that fail now, the longest first."""
    query = text(f"{_SELECTED} WHERE {_FAILS} ORDER BY c.reported_at, c.id LIMIT :at_most")
    async with database.dispatching() as session:
        found = await session.execute(query, {"failures": FAILURES, "at_most": at_most})
        return [Failing(*row) for row in found]
