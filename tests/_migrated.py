"""A database as an older version has left it."""

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from storage import _rights
from storage.database import engine
from storage.migrations import FOLDER


async def migrate_to(url: str, revision: str) -> None:
    """As it was at that revision."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    database = engine(url)
    async with database.begin() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, psycopg.AsyncConnection)
        await _rights.arrange(raw, "public")
        await raw.execute("SET LOCAL ROLE atom_owner")
        await connection.run_sync(upgrade)
    await database.dispose()
