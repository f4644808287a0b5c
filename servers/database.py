"""The database that the settings name: made, migrated, and opened for a while."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from connectors import all_connectors
from servers.processes import ServiceError
from settings import Settings, SettingsError
from storage import check, integrations, migrate
from storage.database import Database


@asynccontextmanager
async def ready(settings: Settings) -> AsyncIterator[Database]:
    """The database, once it is sure that its schema is what this program needs; the integrations
    that were added to it are known from then on."""
    await check(database_url_of(settings), settings.atom_schema)
    async with opened(settings) as database:
        await integrations.refresh(database)
        yield database


async def migrated(settings: Settings) -> None:
    """Bring the database's schema up to date, and what each stream needs."""
    url, schema = database_url_of(settings), settings.atom_schema
    await migrate(url, schema=schema, connectors=all_connectors())
    await integrations.keep(url, schema)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The settings' database, for as long as the block lasts."""
    database = Database.connect(database_url_of(settings), schema=settings.atom_schema)
    try:
        yield database
    finally:
        await database.close()


def database_url_of(settings: Settings) -> str:
    """The database's URL, once it is known; SettingsError if nothing set it."""
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL is not set, and no embedded database was started")
    return settings.database_url.get_secret_value()


def create(server_url: str, name: str) -> None:
    """Makes that database unless it is there; ServiceError where the user may not."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if found.fetchone():
            return
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.errors.InsufficientPrivilege:
            user = connection.info.user
            raise ServiceError(
                f"the user {user} may not create the database {name}. Have an administrator run:\n"
                f'  CREATE DATABASE "{name}" OWNER "{user}";'
            ) from None
