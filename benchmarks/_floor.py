"""The floor: the least that any script has to do to get the pages into a table by upsert.

Bare httpx, orjson, COPY into a temporary table and one upsert a batch; the next batch is fetched
while the last one is stored. It imports nothing of ours but what takes its orders. It keeps no
checkpoint, hash or version, and checks, counts and retries nothing.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx  # noqa: TID251 - the floor is a script of its own
import orjson
import psycopg

from benchmarks._process import Answer, obey, resident_bytes

TABLE = "floor_records"
ROWS_PER_WRITE = 1_000
_STORE = f"""
    INSERT INTO {TABLE} AS r (connection_id, record_id, stream, tenant_id, data, observed_at)
    SELECT %(connection_id)s, record_id, 'floor', %(tenant_id)s, data, %(observed_at)s
    FROM batch
    ON CONFLICT (connection_id, record_id, stream) DO UPDATE
    SET data = excluded.data, observed_at = excluded.observed_at
"""


async def load(url: str, database_url: str, batch_size: int, connection_id: str) -> Answer:
    """All pages, in batches of that size."""
    after: int = 0
    more = True
    rows: list[dict[str, Any]] = []
    storing: asyncio.Task[None] | None = None
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as postgres,
    ):
        while more:
            page = orjson.loads((await http.get(f"{url}?after={after}")).content)
            after, more = page["next"], page["more"]
            rows += page["items"]
            if len(rows) >= batch_size or not more:
                if storing is not None:
                    await storing
                storing = asyncio.create_task(_store(postgres, rows, connection_id))
                rows = []
        if storing is not None:
            await storing
    return {}


async def _store(
    postgres: psycopg.AsyncConnection[Any], rows: list[dict[str, Any]], connection_id: str
) -> None:
    values = {
        "connection_id": connection_id, "tenant_id": connection_id,
        "observed_at": datetime.now(UTC),
    }  # fmt: skip
    async with postgres.transaction(), postgres.cursor() as cursor:
        await cursor.execute("CREATE TEMP TABLE batch (record_id text, data jsonb) ON COMMIT DROP")
        async with cursor.copy("COPY batch FROM STDIN") as copy:
            for start in range(0, len(rows), ROWS_PER_WRITE):
                lines = [
                    b"%b\t%b\n" % (row["id"].encode(), orjson.dumps(row).replace(b"\\", b"\\\\"))
                    for row in rows[start : start + ROWS_PER_WRITE]
                ]
                await copy.write(b"".join(lines))
        await cursor.execute(_STORE, values)


async def idle() -> Answer:
    return {"idle_bytes": resident_bytes()}


if __name__ == "__main__":
    asyncio.run(obey({"idle": idle, "load": load}))
