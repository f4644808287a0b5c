"""What large tables need and what takes long to make: indexes, and when they are vacuumed.

Each is made in a transaction of its own, while everything runs. What is interrupted is begun again
by the next migration, which looks at what there is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import LiteralString, TypeVar

import psycopg
from psycopg import sql

from storage._rights import OWNER, Connection
from storage.database import conninfo_of, search_path
from storage.errors import DatabaseUnavailableError, SchemaError

T = TypeVar("T")

# Who waits for a lock on a table makes everybody wait who comes after. So it gives up soon, and
# tries again after a while.
LOCK_WAIT, PAUSE, MOST_TRIES = timedelta(seconds=2), timedelta(seconds=1), 200

# By default a table is vacuumed once a fifth of its rows are dead, and analysed after a tenth has
# changed: of four million rows that is too late. Of a table of a few thousand it is the same.
SETTINGS: dict[LiteralString, LiteralString] = {
    "autovacuum_vacuum_scale_factor": "0.03",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_analyze_threshold": "1000",
}
TABLES = ("events", "seen", "sync_runs", "checkpoints")

# An index of each partition, for that of `records`: found by its definition.
_PARTITIONS = """
    SELECT p.relname, i.relname, x.indisvalid, EXISTS (
            SELECT FROM pg_inherits a WHERE a.inhrelid = i.oid
        ) AS attached
    FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid
    LEFT JOIN (pg_index x JOIN pg_class i ON i.oid = x.indexrelid)
        ON x.indrelid = p.oid AND substring(pg_get_indexdef(i.oid) FROM 'USING .*') =
            (SELECT substring(pg_get_indexdef(%(index)s::regclass) FROM 'USING .*'))
    WHERE h.inhparent = 'records'::regclass
    ORDER BY p.relname, attached DESC NULLS LAST, x.indisvalid DESC
"""
_PLAIN: dict[str, LiteralString] = {
    "events_connection_id_idx": "events (connection_id)",
    # The API names a run by its id at Prefect.
    "sync_runs_flow_run_id_idx": "sync_runs (flow_run_id)",
}


async def complete(url: str, schema: str) -> None:
    """Makes what is missing. SchemaError if others keep a table locked for minutes."""
    async with await psycopg.AsyncConnection.connect(
        conninfo_of(url), prepare_threshold=None, autocommit=True
    ) as connection:
        try:
            await connection.execute(
                "SELECT set_config('role', %s, false), set_config('search_path', %s, false),"
                " set_config('lock_timeout', '0', false)",
                [OWNER, search_path(schema)],
            )
            await _wait_for_others(connection, schema)
            await _tune(connection)
            for name, on in _PLAIN.items():
                await _make(connection, name, on)
            await _complete_partitions(connection, "records_changed_idx")
        except psycopg.Error as error:
            lines = str(error).strip().splitlines() or ["no reason given"]
            raise SchemaError(
                "an index of a large table could not be made; everything runs, but slower than it"
                f" could: run `atom-sync migrate` again ({lines[0]})"
            ) from error


async def _wait_for_others(connection: Connection, schema: str) -> None:
    # Asked for again and again: who waits for a lock has a snapshot, and an index that is made
    # concurrently waits for all of these. Two migrations would wait for each other.
    asking = "SELECT pg_try_advisory_lock(hashtextextended(%s, 1))"
    while True:
        found = await (await connection.execute(asking, [f"atom-sync migrate {schema}"])).fetchone()
        if found is not None and found[0]:
            return
        await asyncio.sleep(0.1)


async def _tune(connection: Connection) -> None:
    cursor = await connection.execute(
        """
        SELECT c.relname FROM pg_class c LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
        WHERE c.relkind = 'r' AND c.relnamespace = quote_ident(current_schema())::regnamespace
            AND (h.inhparent = 'records'::regclass OR c.relname = ANY(%s))
            AND c.reloptions IS DISTINCT FROM %s
        """,
        [list(TABLES), [f"{name}={value}" for name, value in SETTINGS.items()]],
    )
    settings = sql.SQL(", ").join(
        sql.SQL(name) + sql.SQL(" = ") + sql.SQL(value) for name, value in SETTINGS.items()
    )
    for (table,) in await cursor.fetchall():
        changing = sql.SQL("ALTER TABLE {} SET ({})").format(sql.Identifier(table), settings)
        await _soon(connection, changing)


async def _make(connection: Connection, name: str, on: LiteralString) -> None:
    asking = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(quote_ident(%s))"
    found = await (await connection.execute(asking, [name])).fetchone()
    if found is not None and found[0]:
        return
    index = sql.Identifier(name)
    if found is not None:  # what an interrupted one left
        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(index))
    await connection.execute(
        sql.SQL("CREATE INDEX CONCURRENTLY {} ON ").format(index) + sql.SQL(on)
    )


async def _complete_partitions(connection: Connection, index: str) -> None:
    cursor = await connection.execute(
        "SELECT substring(pg_get_indexdef(%s::regclass) FROM 'USING .*')", [index]
    )
    ((form,),) = await cursor.fetchall()
    cursor = await connection.execute(_PARTITIONS, {"index": index})
    done: set[str] = set()
    for partition, found, is_valid, attached in await cursor.fetchall():
        if partition in done:
            continue
        done.add(partition)
        if attached and is_valid:
            continue
        if found is not None and not is_valid:
            await connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(found))
            )
            found = None
        if found is None:
            found = await _of_partition(connection, partition, form)
        attaching = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
            sql.Identifier(index), sql.Identifier(found)
        )
        await _soon(connection, attaching)


async def _of_partition(connection: Connection, partition: str, form: LiteralString) -> str:
    await connection.execute(
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} ").format(sql.Identifier(partition))
        + sql.SQL(form)
    )
    cursor = await connection.execute(
        "SELECT relname FROM pg_class JOIN pg_index x ON indexrelid = pg_class.oid"
        " WHERE x.indrelid = to_regclass(quote_ident(%s))"
        " AND pg_get_indexdef(pg_class.oid) LIKE '%%' || %s"
        " ORDER BY pg_class.oid DESC LIMIT 1",
        [partition, form],
    )
    ((name,),) = await cursor.fetchall()
    return str(name)


async def _soon(connection: Connection, statement: sql.Composed) -> None:
    async def attempt() -> None:
        async with connection.transaction():
            await limit_waits(connection)
            await connection.execute(statement)

    await patiently(attempt)


async def limit_waits(connection: Connection) -> None:
    """This transaction waits for no lock longer than others may be kept waiting."""
    await connection.execute(
        "SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_WAIT.total_seconds():g}s"]
    )


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns once it gets its locks; it is called anew each time."""
    for _ in range(MOST_TRIES):
        try:
            return await attempt()
        except (psycopg.errors.LockNotAvailable, DatabaseUnavailableError) as error:
            if not _was_locked(error):
                raise
        await asyncio.sleep(PAUSE.total_seconds())
    raise SchemaError(
        "a table stays locked by others, for minutes: end the transaction that does so (see"
        " pg_stat_activity), and run `atom-sync migrate` again. Nothing was changed"
    )


def _was_locked(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, psycopg.errors.LockNotAvailable):
        cause = getattr(cause, "orig", None) or cause.__cause__
    return cause is not None
