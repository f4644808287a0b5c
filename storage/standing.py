"""How an installation stands as a whole, and which connections are as one asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text

from storage import connections
from storage.connections import Connection
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import Tenant as TenantRow

# So many that are wrong a summary names, at most.
FIRST = 20


class State(StrEnum):
    """What a connection may be asked for by. `wrong` is whatever somebody might look into."""

    WELL = "well"
    WRONG = "wrong"
    LATE = "late"
    BROKEN = "broken"
    PAUSED = "paused"


@dataclass(frozen=True)
class Standing:
    """An integration: how many connections it has and how many of them are wrong, broken and
    paused, how many of their streams are in time and late, and about how many records it has.

    `first_wrong` are some of those that are wrong, in the order of tenants.
    """

    integration: str
    connections: int
    wrong: int
    broken: int
    paused: int
    streams: int
    late: int
    rows: int
    first_wrong: Sequence[UUID] = field(default=(), compare=False)


_STANDING = """
    WITH fresh AS (
        SELECT connection_id, count(*) AS streams,
            count(*) FILTER (WHERE reason IS NOT NULL) AS late
        FROM freshness GROUP BY connection_id
    ), unread AS (
        SELECT DISTINCT connection_id FROM checkpoints WHERE unread <> '[]'
    ), each AS (
        SELECT c.id, c.tenant_id, c.integration, c.account_id, coalesce(f.streams, 0) AS streams,
            coalesce(f.late, 0) AS late, c.status = 'paused' AS paused,
            c.status <> 'paused' AND c.status_reason IS NOT NULL AS broken,
            c.status <> 'paused' AND (
                c.status_reason IS NOT NULL OR coalesce(f.late, 0) > 0
                    OR u.connection_id IS NOT NULL
            ) AS wrong
        FROM connections c LEFT JOIN fresh f ON f.connection_id = c.id
        LEFT JOIN unread u ON u.connection_id = c.id
        WHERE c.purge_owed_at IS NULL
    )
"""
_SUMMARY = text(
    f"""
    {_STANDING}
    , kept AS (
        SELECT split_part(
                substring(pg_get_expr(p.relpartbound, p.oid) FROM '''(.*)'''), '.', 1
            ) AS integration, sum(greatest(p.reltuples, 0))::bigint AS rows
        FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid
        WHERE h.inhparent = 'records'::regclass GROUP BY 1
    )
    SELECT e.integration, count(*), count(*) FILTER (WHERE wrong), count(*) FILTER (WHERE broken),
        count(*) FILTER (WHERE paused), sum(streams)::bigint, sum(late)::bigint,
        coalesce(max(k.rows), 0),
        coalesce(
            (array_agg(e.id ORDER BY t.slug, e.account_id) FILTER (WHERE wrong))[1:{FIRST}], '{{}}'
        )
    FROM each e JOIN tenants t ON t.id = e.tenant_id LEFT JOIN kept k USING (integration)
    GROUP BY e.integration ORDER BY e.integration
    """  # noqa: S608 - our own words
)
_CHOSEN = {
    State.WELL: "NOT wrong AND NOT paused",
    State.WRONG: "wrong",
    State.LATE: "late > 0 AND NOT paused",
    State.BROKEN: "broken",
    State.PAUSED: "paused",
}


async def summary(database: Database) -> list[Standing]:
    """Every integration, in their order. Records are as many as PostgreSQL estimates."""
    async with database.dispatching() as session:
        return [Standing(*row) for row in await session.execute(_SUMMARY)]


async def count(database: Database) -> int:
    """How many connections there are."""
    query = text("SELECT count(*) FROM connections WHERE purge_owed_at IS NULL")
    async with database.dispatching() as session:
        return int((await session.execute(query)).scalar_one())


async def ids(
    database: Database,
    *,
    tenant: str | None = None,
    integration: str | None = None,
    state: State | None = None,
) -> list[UUID]:
    """The connections of a tenant (by its slug), an integration and in a state, in the order of
    tenants and integrations."""
    query = text(
        f"""
        {_STANDING if state else ""}
        SELECT c.id FROM {"each" if state else "connections"} c
        JOIN tenants t ON t.id = c.tenant_id
        WHERE {_CHOSEN[state] if state else "c.purge_owed_at IS NULL"}
            AND (CAST(:tenant AS text) IS NULL OR t.slug = :tenant)
            AND (CAST(:integration AS text) IS NULL OR c.integration = :integration)
        ORDER BY t.slug, c.integration, c.account_id
        """  # noqa: S608 - our own words
    )
    async with database.dispatching() as session:
        found = await session.scalars(query, {"tenant": tenant, "integration": integration})
        return list(found)


async def listing(database: Database, ids: Sequence[UUID]) -> list[Connection]:
    """These connections, in the order of tenants and integrations."""
    listed = (
        connections.query()
        .where(ConnectionRow.id.in_(ids))
        .order_by(TenantRow.slug, ConnectionRow.integration, ConnectionRow.account_id)
    )
    async with database.dispatching() as session:
        return [Connection.of(row) for row in await session.execute(listed)]
