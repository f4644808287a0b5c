"""Many tenants' connections at once, without tokens: for what looks after all of them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from storage import connections
from storage.database import Database

_MAKE = """
WITH made AS (
    INSERT INTO tenants (id, slug, name, tier)
    SELECT gen_random_uuid(), %(prefix)s || '-' || n, 'Tenant ' || n, %(tier)s
    FROM generate_series(1, %(count)s) n
    RETURNING id
), granted AS (
    INSERT INTO grants (id, tenant_id, integration, setting_key)
    SELECT gen_random_uuid(), id, %(integration)s, %(integration)s || '_tokens' FROM made
    RETURNING id, tenant_id
)
INSERT INTO connections (id, tenant_id, grant_id, integration, account_id, next_due_at)
SELECT gen_random_uuid(), tenant_id, id, %(integration)s, 'a-1',
    now() - make_interval(secs => (row_number() OVER ())::int)
FROM granted RETURNING id
"""


@dataclass(frozen=True)
class Fleet:
    """The database, by plain SQL, and as our code has it."""

    url: str
    database: Database

    def make(
        self, count: int, *, integration: str = "hubspot", tier: str = "TEAM", prefix: str = "t"
    ) -> list[UUID]:
        """Tenants with one active connection each; the n-th has been due for n seconds."""
        values = {"count": count, "integration": integration, "tier": tier, "prefix": prefix}
        return [row[0] for row in self.sql(_MAKE, values)]

    def sql(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as sql:
            cursor = sql.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: object) -> Any:
        """The single value of a query."""
        return self.sql(statement, values)[0][0]

    async def get(self, connection_id: UUID) -> connections.Connection:
        return await connections.get(self.database, connection_id)

    def due_in(self, connection_id: UUID) -> timedelta:
        found: timedelta = self.one(
            "SELECT next_due_at - now() FROM connections WHERE id = %s", connection_id
        )
        return found
