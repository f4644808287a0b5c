"""Our schema as PostgreSQL has it: what is there, which revision, and who may change it now."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from storage._rights import Connection as Postgres
from storage.database import conninfo_of, engine, search_path
from storage.errors import SchemaError
from storage.migrations import VERSION_TABLE, head
from storage.sickness import translated

OLDEST_POSTGRESQL = 16


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[tuple[AsyncConnection, Postgres]]:
    """A transaction of its own, as SQLAlchemy sees it (for Alembic) and as psycopg does."""
    database = engine(url, poolclass=NullPool)
    try:
        with _explaining():
            async with database.begin() as connection:
                raw = await connection.get_raw_connection()
                if not isinstance(raw.driver_connection, psycopg.AsyncConnection):
                    raise TypeError("the engine does not speak through psycopg")
                yield connection, raw.driver_connection
    finally:
        await database.dispose()


@asynccontextmanager
async def plain_transaction(url: str) -> AsyncIterator[Postgres]:
    """Without SQLAlchemy, which loses Ctrl-C where it cannot roll back the COPY under way."""
    with _explaining():
        async with await psycopg.AsyncConnection.connect(
            conninfo_of(url), prepare_threshold=None
        ) as connection:
            yield connection


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        with translated():
            yield
    except (DBAPIError, psycopg.Error) as error:
        raise _explained(error) from error


def _explained(error: DBAPIError | psycopg.Error) -> SchemaError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or ["no reason given"]
    return SchemaError(f"the database refuses, and nothing was changed: {lines[0]}")


async def refuse_old_server(postgres: Postgres) -> None:
    version = postgres.info.server_version
    if version < OLDEST_POSTGRESQL * 10_000:
        raise SchemaError(
            f"atom-sync needs PostgreSQL {OLDEST_POSTGRESQL} or newer;"
            f" this server is version {version // 10_000}"
        )


async def wait_for_others(postgres: Postgres, schema: str) -> None:
    await postgres.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"atom-sync migrate {schema}"]
    )


async def become(postgres: Postgres, schema: str, role: str) -> None:
    await postgres.execute(
        "SELECT set_config('role', %s, true), set_config('search_path', %s, true)",
        [role, search_path(schema)],
    )


async def see_only(postgres: Postgres, schema: str) -> None:
    """The user stays who it is."""
    await postgres.execute("SELECT set_config('search_path', %s, true)", [search_path(schema)])


async def has_version(postgres: Postgres, schema: str) -> bool:
    return bool(await existing(postgres, schema, [VERSION_TABLE]))


async def revision(postgres: Postgres, schema: str) -> str | None:
    if not await has_version(postgres, schema):
        return None
    query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, VERSION_TABLE))
    row = await (await postgres.execute(query)).fetchone()
    return None if row is None else str(row[0])


def not_set_up(schema: str) -> SchemaError:
    return SchemaError(
        f"the schema {schema!r} of the database is not set up: run `atom-sync migrate`"
    )


def refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > head():
        raise SchemaError(
            f"the database is at version {revision}, this program knows {head()}:"
            " run a newer atom-sync"
        )


async def existing(postgres: Postgres, schema: str, names: Sequence[str]) -> list[str]:
    # A type of that name would be in a table's way as well: each table is a type.
    cursor = await postgres.execute(
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relname = ANY(%(names)s)
        UNION
        SELECT typname FROM pg_type
        WHERE typnamespace = to_regnamespace(quote_ident(%(schema)s)) AND typname = ANY(%(names)s)
        ORDER BY 1
        """,
        {"schema": schema, "names": list(names)},
    )
    return [name for (name,) in await cursor.fetchall()]
