"""What there is to be measured, counted in the database, for all tenants together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from storage import breakers, freshness, heartbeats
from storage.database import Database
from storage.freshness import Promise
from storage.heartbeats import Heartbeat

# Counted over the last hour: enough for an alert, and an index finds them.
_QUERIES = {
    "connections": """
        SELECT integration, status, count(*) FROM connections GROUP BY 1, 2 ORDER BY 1, 2
    """,
    "syncs": """
        SELECT c.integration, r.status, coalesce(r.failure, ''), count(*)
        FROM sync_runs r JOIN connections c ON c.id = r.connection_id
        WHERE r.ended_at > now() - interval '1 hour' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    """,
    "pending": """
        SELECT integration, count(*), min(received_at) FROM events
        WHERE applied_at IS NULL AND failed_at IS NULL AND NOT (is_duty AND due_at > now())
        GROUP BY 1 ORDER BY 1
    """,
    "failed": """
        SELECT integration, count(*) FROM events WHERE failed_at IS NOT NULL GROUP BY 1 ORDER BY 1
    """,
    "audits": """
        SELECT c.integration, coalesce(sum(a.missing), 0), coalesce(sum(a.stale), 0),
            coalesce(sum(a.extra), 0)
        FROM audits a JOIN connections c ON c.id = a.connection_id
        WHERE a.ended_at > now() - interval '30 days' GROUP BY 1 ORDER BY 1
    """,
    "gaps": """
        SELECT c.integration, count(*), min(g.until)
        FROM gaps g JOIN connections c ON c.id = g.connection_id
        WHERE g.closed_at IS NULL AND c.status = 'active' GROUP BY 1 ORDER BY 1
    """,
}


@dataclass(frozen=True)
class Measures:
    """Counts by integration; the oldest pending event, and the oldest gap, with its time."""

    promises: Sequence[Promise]
    connections: Sequence[tuple[str, str, int]]
    syncs: Sequence[tuple[str, str, str, int]]
    pending: Sequence[tuple[str, int, datetime]]
    failed: Sequence[tuple[str, int]]
    audits: Sequence[tuple[str, int, int, int]]
    gaps: Sequence[tuple[str, int, datetime]]
    away: Sequence[str]
    heartbeats: Sequence[Heartbeat]
    at: datetime


async def measure(database: Database) -> Measures:
    """All of it, as it is now."""
    found: dict[str, list[tuple[object, ...]]] = {}
    async with database.dispatching() as session:
        for name, query in _QUERIES.items():
            found[name] = [tuple(row) for row in await session.execute(text(query))]
        now = (await session.execute(text("SELECT now()"))).scalar_one()
    return Measures(
        promises=await freshness.promises(database),
        away=sorted(await breakers.standing_open(database)),
        heartbeats=await heartbeats.heard(database),
        at=now,
        **found,  # type: ignore[arg-type]
    )
