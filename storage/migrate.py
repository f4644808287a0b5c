"""Brings a database to what this version needs, from nothing or from any older version.

Idempotent; a second migration waits for the first and finds nothing to do. What fails changes
nothing: the upgrade is one transaction, and the streams' partitions and views are another.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from connectors import Connector
from storage import _rights, _streams
from storage._rights import Connection as Postgres
from storage.database import engine, is_unavailable, search_path, unavailable
from storage.errors import SchemaError
from storage.migrations import FOLDER, VERSION_TABLE, head
from storage.models import Base

OLDEST_POSTGRESQL = 16


@dataclass(frozen=True)
class Migrated:
    """What a migration did."""

    before: str | None
    revision: str
    partitions: tuple[str, ...]
    views: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return self.before != self.revision or bool(self.partitions or self.views)


async def migrate(
    url: str, *, schema: str = "public", connectors: Iterable[Connector] = ()
) -> Migrated:
    """Makes or upgrades our tables in that schema, and what each stream needs."""
    async with _transaction(url) as (connection, postgres):
        await _refuse_old_server(postgres)
        await _wait_for_others(postgres, schema)
        if not await _has_version(postgres, schema):
            await _refuse_foreign(postgres, schema)
        await _rights.arrange(postgres, schema)
        await _become(postgres, schema, _rights.OWNER)
        before = await _revision(postgres, schema)
        if before is None:
            await _refuse_foreign(postgres, schema)
        _refuse_newer(before)
        if before != head():
            await connection.run_sync(_upgrade)
    async with _transaction(url) as (_, postgres):
        await _wait_for_others(postgres, schema)
        await _become(postgres, schema, _rights.OWNER)
        partitions, views = await _streams.keep(postgres, connectors)
    return Migrated(before, head(), tuple(partitions), tuple(views))


async def check(url: str, schema: str = "public") -> None:
    """SchemaError unless the database is what this version needs."""
    remedy = "run `atom-sync migrate`"
    async with _transaction(url) as (_, postgres):
        if not await _has_version(postgres, schema):
            raise SchemaError(f"the schema {schema!r} of the database is not set up: {remedy}")
        try:
            await _become(postgres, schema, _rights.DISPATCH)
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
            raise SchemaError(f"the database user may not take our roles: {remedy}") from None
        revision = await _revision(postgres, schema)
    _refuse_newer(revision)
    if revision != head():
        raise SchemaError(
            f"the database is at version {revision or 'none'}, and this program needs {head()}:"
            f" {remedy}"
        )


@asynccontextmanager
async def _transaction(url: str) -> AsyncIterator[tuple[AsyncConnection, Postgres]]:
    """A transaction of its own, as SQLAlchemy sees it (for Alembic) and as psycopg does."""
    database = engine(url, poolclass=NullPool)
    try:
        async with database.begin() as connection:
            raw = await connection.get_raw_connection()
            if not isinstance(raw.driver_connection, psycopg.AsyncConnection):
                raise TypeError("the engine does not speak through psycopg")
            yield connection, raw.driver_connection
    except (DBAPIError, psycopg.Error) as error:
        if is_unavailable(error):
            raise unavailable(error) from error
        raise _explained(error) from error
    finally:
        await database.dispose()


def _explained(error: DBAPIError | psycopg.Error) -> SchemaError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or ["no reason given"]
    return SchemaError(f"the database refuses, and nothing was changed: {lines[0]}")


async def _refuse_old_server(postgres: Postgres) -> None:
    version = postgres.info.server_version
    if version < OLDEST_POSTGRESQL * 10_000:
        raise SchemaError(
            f"atom-sync needs PostgreSQL {OLDEST_POSTGRESQL} or newer;"
            f" this server is version {version // 10_000}"
        )


async def _wait_for_others(postgres: Postgres, schema: str) -> None:
    await postgres.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"atom-sync migrate {schema}"]
    )


async def _become(postgres: Postgres, schema: str, role: str) -> None:
    await postgres.execute(
        "SELECT set_config('role', %s, true), set_config('search_path', %s, true)",
        [role, search_path(schema)],
    )


async def _has_version(postgres: Postgres, schema: str) -> bool:
    return bool(await _existing(postgres, schema, [VERSION_TABLE]))


async def _revision(postgres: Postgres, schema: str) -> str | None:
    if not await _has_version(postgres, schema):
        return None
    query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, VERSION_TABLE))
    row = await (await postgres.execute(query)).fetchone()
    return None if row is None else str(row[0])


async def _refuse_foreign(postgres: Postgres, schema: str) -> None:
    foreign = await _existing(postgres, schema, [VERSION_TABLE, *Base.metadata.tables])
    if foreign:
        raise SchemaError(
            f"the schema {schema!r} holds tables that atom-sync did not make:"
            f" {', '.join(foreign)}. Nothing was changed. Set ATOM_SCHEMA to a schema of its own,"
            " such as atom"
        )


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > head():
        raise SchemaError(
            f"the database is at version {revision}, this program knows {head()}:"
            " run a newer atom-sync"
        )


async def _existing(postgres: Postgres, schema: str, names: Sequence[str]) -> list[str]:
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


def _upgrade(connection: SyncConnection) -> None:
    # Alembic is slow to import, every flow run imports this module, and few migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
