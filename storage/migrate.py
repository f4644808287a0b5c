"""Brings a database to what this version needs, from nothing or from any older version.

Idempotent; a second migration waits for the first and finds nothing to do. What fails changes
nothing: the upgrade is one transaction, and the streams' partitions and views are another. Neither
reads a large table, nor waits long for a lock. What takes its time comes last, without locks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection as SyncConnection

from connectors import Connector
from storage import _large, _rights, _schema, _streams
from storage._rights import Connection as Postgres
from storage.errors import SchemaError
from storage.migrations import FOLDER, VERSION_TABLE, head
from storage.models import Base


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
    before = await _large.patiently(lambda: _brought_up(url, schema))
    async with _schema.transaction(url) as (_, postgres):
        await _schema.wait_for_others(postgres, schema)
        await _schema.become(postgres, schema, _rights.OWNER)
        partitions, views = await _streams.keep(postgres, connectors)
    await _large.complete(url, schema)
    return Migrated(before, head(), tuple(partitions), tuple(views))


async def _brought_up(url: str, schema: str) -> str | None:
    """Upgrades the tables; which revision they had."""
    async with _schema.transaction(url) as (connection, postgres):
        await _schema.refuse_old_server(postgres)
        await _schema.wait_for_others(postgres, schema)
        await _large.limit_waits(postgres)
        if not await _schema.has_version(postgres, schema):
            await _refuse_foreign(postgres, schema)
        await _rights.arrange(postgres, schema)
        await _schema.become(postgres, schema, _rights.OWNER)
        before = await _schema.revision(postgres, schema)
        if before is None:
            await _refuse_foreign(postgres, schema)
        _schema.refuse_newer(before)
        if before != head():
            await connection.run_sync(_upgrade)
    return before


async def check(url: str, schema: str = "public") -> None:
    """SchemaError unless the database is what this version needs."""
    remedy = "run `atom-sync migrate`"
    async with _schema.transaction(url) as (_, postgres):
        if not await _schema.has_version(postgres, schema):
            raise _schema.not_set_up(schema)
        try:
            await _schema.become(postgres, schema, _rights.DISPATCH)
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
            raise SchemaError(f"the database user may not take our roles: {remedy}") from None
        revision = await _schema.revision(postgres, schema)
    _schema.refuse_newer(revision)
    if revision != head():
        raise SchemaError(
            f"the database is at version {revision or 'none'}, and this program needs {head()}:"
            f" {remedy}"
        )


async def _refuse_foreign(postgres: Postgres, schema: str) -> None:
    foreign = await _schema.existing(postgres, schema, [VERSION_TABLE, *Base.metadata.tables])
    if foreign:
        raise SchemaError(
            f"the schema {schema!r} holds tables that atom-sync did not make:"
            f" {', '.join(foreign)}. Nothing was changed. Set ATOM_SCHEMA to a schema of its own,"
            " such as atom"
        )


def _upgrade(connection: SyncConnection) -> None:
    # Alembic is slow to import, every flow run imports this module, and few migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
