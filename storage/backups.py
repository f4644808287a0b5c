"""What backups are made of and go into: a schema that is read whole, and one that is empty.

The script of a backup is run here, not by `pg_restore`: roles, schema, tables and rows are one
transaction of ours, so that what fails or is killed leaves nothing. Through psycopg it also reaches
servers that only speak TLS, and ones older than the script's own pg_dump.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from storage import _rights, _schema
from storage._rights import Connection as Postgres
from storage.errors import RefusedError, SchemaError
from storage.migrations import VERSION_TABLE, head
from storage.models import Base

_COPY = re.compile(rb'COPY [a-z_0-9".]+ \(.*\) FROM stdin;\n')
_END = b"\\.\n"
_BLOCK = 1 << 18
# A server older than 17 does not know it, and to wait as long as it takes is the default.
_UNKNOWN_TO_OLDER = b"SET transaction_timeout = 0;\n"


@dataclass(frozen=True)
class Contents:
    """What a backup of a database would hold, and over which kind of connection it is read.

    `fingerprints` are the master keys that its secrets need, the current one first.
    """

    revision: str
    fingerprints: tuple[str, ...]
    server: int
    over_tls: bool


async def contents(url: str, schema: str) -> Contents:
    """Of a database that this user may read whole; SchemaError says what is in the way."""
    async with _schema.transaction(url) as (_, postgres):
        if not await _schema.has_version(postgres, schema):
            raise _schema.not_set_up(schema)
        await _rights.refuse_bound(postgres, schema)
        revision = await _schema.revision(postgres, schema)
        _schema.refuse_newer(revision)
        await _schema.see_only(postgres, schema)
        cursor = await postgres.execute(
            """
            SELECT key FROM (
                SELECT key_fingerprints ->> 0 AS key, 0 AS place FROM installation
                UNION ALL
                SELECT DISTINCT split_part(convert_from(data_key, 'UTF8'), '.', 2), 1
                FROM tenants WHERE data_key IS NOT NULL
            ) needed WHERE key IS NOT NULL ORDER BY place, key
            """
        )
        keys = dict.fromkeys(key for (key,) in await cursor.fetchall())
        tls = bool(postgres.pgconn.ssl_in_use)
        return Contents(revision or "none", tuple(keys), postgres.info.server_version, tls)


def refuse_newer(revision: str) -> None:
    """SchemaError for a backup that a newer release made."""
    if revision > head():
        raise SchemaError(
            f"the backup is of version {revision}, and this program knows {head()}:"
            " run a newer atom-sync. Nothing was written"
        )


async def refill(url: str, schema: str, script: Iterable[bytes]) -> None:
    """Run a backup's script in an empty schema: all of it, or nothing.

    SchemaError if something is there; RefusedError for a statement that PostgreSQL does not take.
    What the script itself raises goes through.
    """
    async with _founding(url, schema) as postgres:
        try:
            await _run(postgres, iter(script))
            # The script sets an empty search path, which a pooler would hand on to others.
            await postgres.execute("RESET ALL")
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            # Its own words may quote a row.
            raise RefusedError(
                f"PostgreSQL refuses the backup ({error.sqlstate}, {type(error).__name__}):"
                " nothing was written"
            ) from None


@asynccontextmanager
async def _founding(url: str, schema: str) -> AsyncIterator[Postgres]:
    """A transaction as the owner of a schema that holds nothing yet."""
    async with _schema.plain_transaction(url) as postgres:
        await _schema.refuse_old_server(postgres)
        await _schema.wait_for_others(postgres, schema)
        await _refuse_filled(postgres, schema)
        await _rights.arrange(postgres, schema)
        await _schema.become(postgres, schema, _rights.OWNER)
        yield postgres


async def _refuse_filled(postgres: Postgres, schema: str) -> None:
    # What an extension brought is in nobody's way.
    cursor = await postgres.execute(
        """
        SELECT relname FROM pg_class c
        WHERE relnamespace = to_regnamespace(quote_ident(%s))
            AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT EXISTS (
                SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                    AND deptype = 'e')
        ORDER BY relname
        """,
        [schema],
    )
    found = [name for (name,) in await cursor.fetchall()]
    if not found:
        return
    what = f"{', '.join(found[:5])}{', …' if found[5:] else ''}"
    if VERSION_TABLE in found:
        what = f"atom-sync's tables{await _how_much(postgres, schema)}"
    elif ours := sorted(set(found).intersection(Base.metadata.tables)):
        what = f"{', '.join(ours)}, and more"
    raise SchemaError(
        f"the schema {schema!r} of the database {postgres.info.dbname!r} is not empty: it holds"
        f" {what}. Nothing was changed. A backup is restored into an empty database only: set"
        " ATOM_HOME to a new folder, or DATABASE_URL to an empty database"
    )


async def _how_much(postgres: Postgres, schema: str) -> str:
    try:
        await _schema.become(postgres, schema, _rights.OWNER)
        cursor = await postgres.execute(
            "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM connections)"
        )
        counted = await cursor.fetchone()
    except psycopg.Error:  # not for us to see
        return ""
    return " with {} tenants and {} connections".format(*counted) if counted else ""


async def _run(postgres: Postgres, script: Iterator[bytes]) -> None:
    """A script as pg_restore writes it: statements, and rows for COPY between them."""
    statements: list[bytes] = []
    for line in script:
        if _COPY.fullmatch(line):
            await _execute(postgres, statements)
            async with postgres.cursor().copy(line.rstrip(b";\n")) as copy:
                for block in _rows(script):
                    await copy.write(block)
        elif not line.startswith(b"\\") and line != _UNKNOWN_TO_OLDER:  # `\restrict` is for psql
            statements.append(line)
    await _execute(postgres, statements)


async def _execute(postgres: Postgres, statements: list[bytes]) -> None:
    await postgres.execute(b"".join(statements))
    statements.clear()


def _rows(script: Iterator[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for line in script:
        if line == _END:
            break
        block += line
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)
