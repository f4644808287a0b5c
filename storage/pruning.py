"""What is forgotten after a while: applied events, runs, logs, and what was closed long ago.

Deleted in short transactions of a few thousand rows each, so that nobody waits for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from storage import idempotency
from storage.database import Database

BATCH = 5_000
EVENTS, HISTORY = timedelta(days=7), timedelta(days=90)
ENDED = timedelta(days=7)


@dataclass(frozen=True)
class _Old:
    """Rows of a table that are kept for so long after what a column says."""

    table: str
    column: str
    kept: timedelta


_OLD = {
    "applied events": _Old("events", "applied_at", EVENTS),
    "failed events": _Old("events", "failed_at", HISTORY),
    "runs": _Old("sync_runs", "ended_at", HISTORY),
    "log lines": _Old("oauth_log", "at", HISTORY),
    "audits": _Old("audits", "ended_at", HISTORY),
    "closed gaps": _Old("gaps", "closed_at", HISTORY),
    "ended notices": _Old("notices", "ended_at", HISTORY),
    "ended `up`s": _Old("incarnations", "heartbeat_at", ENDED),
    "idempotency keys": _Old("idempotency_keys", "created_at", idempotency.KEPT),
}


async def prune(database: Database) -> Mapping[str, int]:
    """Deletes what is past its time; of each kind how many, where there was any."""
    return {what: count for what, old in _OLD.items() if (count := await _delete(database, old))}


async def _delete(database: Database, old: _Old) -> int:
    deleting = text(
        f"""
        WITH gone AS (
            DELETE FROM {old.table} WHERE id IN (
                SELECT id FROM {old.table} WHERE {old.column} < now() - CAST(:kept AS interval)
                ORDER BY {old.column} LIMIT {BATCH}
            ) RETURNING 1
        )
        SELECT count(*) FROM gone
        """  # noqa: S608 - our own words
    )
    deleted = 0
    while True:
        async with database.dispatching() as session:
            count = int((await session.execute(deleting, {"kept": old.kept})).scalar_one())
        deleted += count
        if count < BATCH:
            return deleted
