"""Tenants and connections for tests of what is stored, and rows to write to them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from storage import records, tenants
from storage.database import Database
from storage.models import Connection, Grant

STREAM = "hubspot.contacts"
START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stocked:
    """A tenant with one connection."""

    tenant_id: UUID
    connection_id: UUID
    grant_id: UUID

    @property
    def ids(self) -> dict[str, Any]:
        """As the functions of `storage` take them."""
        return {"tenant_id": self.tenant_id, "connection_id": self.connection_id}


async def stock(database: Database, slug: str = "", account_id: str = "42") -> Stocked:
    """Makes a tenant and its connection to HubSpot."""
    slug = slug or f"tenant-{uuid4().hex[:8]}"
    tenant = await tenants.create(database, slug, slug.title(), "TEAM")
    made = Stocked(tenant.id, uuid4(), uuid4())
    async with database.transaction(tenant.id) as session:
        key = f"hubspot_tokens:{made.grant_id}"
        session.add(
            Grant(id=made.grant_id, tenant_id=tenant.id, integration="hubspot", setting_key=key)
        )
        await session.flush()
        session.add(
            Connection(
                id=made.connection_id,
                tenant_id=tenant.id,
                grant_id=made.grant_id,
                integration="hubspot",
                account_id=account_id,
            )
        )
    return made


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(
    record_id: str,
    content: object = None,
    *,
    seconds: float = 0,
    version: int | None = None,
    deleted: bool = False,
) -> records.Row:
    data = b"{}" if deleted else json.dumps({"content": content, "id": record_id}).encode()
    digest = blake2b(data, digest_size=16).digest()
    return records.Row(record_id, data, version, at(seconds), digest, deleted)


async def write(
    database: Database,
    stocked: Stocked,
    rows: Sequence[records.Row],
    *,
    stream: str = STREAM,
    scan_id: UUID | None = None,
) -> records.Written:
    async with database.transaction(stocked.tenant_id) as session:
        return await write_in(session, stocked, rows, stream=stream, scan_id=scan_id)


async def write_in(
    session: AsyncSession,
    stocked: Stocked,
    rows: Sequence[records.Row],
    *,
    stream: str = STREAM,
    scan_id: UUID | None = None,
) -> records.Written:
    return await records.write(session, stream=stream, rows=rows, scan_id=scan_id, **stocked.ids)


async def stored(database: Database, stocked: Stocked) -> dict[str, Any]:
    """The content of each record that is not deleted."""
    query = text(
        "SELECT record_id, data -> 'content' FROM records"
        " WHERE connection_id = :connection_id AND deleted_at IS NULL ORDER BY record_id"
    )
    async with database.transaction(stocked.tenant_id) as session:
        found = await session.execute(query, {"connection_id": stocked.connection_id})
        return {record_id: content for record_id, content in found}
