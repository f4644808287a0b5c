"""Which streams are to be read as a whole, since nothing else tells what was deleted of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from storage.database import Database

EVERY = timedelta(days=7)


@dataclass(frozen=True)
class Unswept:
    """A connection, and its streams of which deletes were not looked for in all that time."""

    connection_id: UUID
    integration: str
    streams: tuple[str, ...]


async def unswept(
    database: Database, hidden: Mapping[str, Sequence[str]], *, at_most: int
) -> list[Unswept]:
    """The ones that wait longest first; `hidden` are the streams that hide deletes.

    Only connections that are in order are looked at, and streams that were read to their end.
    """
    query = text(
        """
        SELECT c.id, c.integration, array_agg(p.stream ORDER BY p.stream)
        FROM unnest(CAST(:integrations AS text[]), CAST(:streams AS text[]))
            AS h (integration, stream)
        JOIN connections c ON c.integration = h.integration
        JOIN checkpoints p ON p.connection_id = c.id AND p.stream = h.stream
        WHERE c.status = 'active' AND c.failures = 0 AND p.last_synced_at IS NOT NULL
            AND coalesce(p.swept_at, c.created_at) < now() - CAST(:every AS interval)
        GROUP BY c.id ORDER BY min(coalesce(p.swept_at, c.created_at)), c.id LIMIT :at_most
        """
    )
    pairs = [(integration, stream) for integration, all_ in hidden.items() for stream in all_]
    values = {
        "integrations": [integration for integration, _ in pairs],
        "streams": [stream for _, stream in pairs],
        "every": EVERY,
        "at_most": at_most,
    }
    async with database.dispatching() as session:
        found = await session.execute(query, values)
        return [Unswept(id, integration, tuple(streams)) for id, integration, streams in found]
