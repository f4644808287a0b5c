"""Readers: login roles of the database that see one tenant's rows, or all, and can write nothing.

Who logged in decides what is seen: neither a setting nor SET ROLE changes that. A reader has the
views of the streams, `records`, `gone_records`, `freshness`, and whose they are; no token, no key,
no event. To make one takes a database user that may make roles.
"""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from storage import _rights, _schema
from storage._rights import Connection as Postgres
from storage.errors import NotFoundError, ReaderError, SchemaError

_NAME = re.compile(r"(?!pg_|atom_)[a-z_][a-z0-9_]{0,62}")
# Options of a URL that say who its owner is.
_OWNERS = {"user", "password", "passfile", "sslcert", "sslkey", "sslpassword"}
_LISTED = """
    SELECT r.name, t.slug AS tenant, r.created_at, p.oid IS NOT NULL AS can_log_in
    FROM readers r LEFT JOIN tenants t ON t.id = r.tenant_id
    LEFT JOIN pg_roles p ON p.rolname = r.name AND p.rolcanlogin
"""


@dataclass(frozen=True)
class Reader:
    """Whose rows it reads: a tenant's, by its slug, or without one all. Without its role, as after
    a backup was restored on another server, it cannot log in."""

    name: str
    tenant: str | None
    created_at: datetime
    can_log_in: bool


async def add(url: str, schema: str, name: str, tenant: str | None) -> str | None:
    """A reader of that tenant, or of all; its password, which nobody can ask for again.

    None for one that is there already. ReaderError if it reads something else, or the name is a
    role's that is no reader; SchemaError with the SQL that helps if we may make no role.
    """
    if not _NAME.fullmatch(name):
        raise ReaderError(
            f"a reader's name has a-z, 0-9 and _ only, at most 63, and does not begin with pg_ or"
            f" atom_, which {name!r} does not fulfil"
        )
    async with _opened(url, schema) as postgres:
        found = await _find(postgres, name)
        if found is not None and found.tenant != tenant:
            whose = found.tenant or "all tenants"
            raise ReaderError(f"the reader {name} reads {whose}: remove it first")
        if found is not None and found.can_log_in:
            return None
        group = _rights.READER_OF_ALL if tenant is None else _rights.READER
        password = await _make_role(postgres, schema, name, group)
        if found is None:
            await _schema.become(postgres, schema, _rights.OWNER)
            added = await postgres.execute(
                "INSERT INTO readers (name, tenant_id, reads_all)"
                " SELECT %(name)s, t.id, t.id IS NULL"
                " FROM (SELECT) one LEFT JOIN tenants t ON t.slug = %(tenant)s"
                " WHERE %(tenant)s::text IS NULL OR t.id IS NOT NULL",
                {"name": name, "tenant": tenant},
            )
            if not added.rowcount:
                raise NotFoundError(f"there is no tenant {tenant!r}")
        return password


async def renew(url: str, schema: str, name: str) -> str:
    """Another password for a reader; the former one is refused from now on."""
    async with _opened(url, schema) as postgres:
        await _needed(postgres, name)
        password = secrets.token_urlsafe(24)
        change = sql.SQL("ALTER ROLE {} PASSWORD {}")
        await _as_maker(
            postgres, change.format(sql.Identifier(name), _sealed(postgres, name, password))
        )
        return password


async def all(url: str, schema: str) -> Sequence[Reader]:
    async with _opened(url, schema) as postgres:
        await _schema.become(postgres, schema, _rights.OWNER)
        cursor = postgres.cursor(row_factory=class_row(Reader))
        await cursor.execute(f"{_LISTED} ORDER BY r.name".encode())
        return await cursor.fetchall()


async def remove(url: str, schema: str, name: str) -> None:
    """It cannot log in again; what it has open sees nothing from now on."""
    async with _opened(url, schema) as postgres:
        await _needed(postgres, name)
        await _drop(postgres, schema, [name])


async def remove_all_of(url: str, schema: str, tenant: str) -> None:
    """The readers of a tenant that is about to be erased."""
    async with _opened(url, schema) as postgres:
        await _schema.become(postgres, schema, _rights.OWNER)
        cursor = await postgres.execute(
            "SELECT r.name FROM readers r JOIN tenants t ON t.id = r.tenant_id WHERE t.slug = %s",
            [tenant],
        )
        names = [name for (name,) in await cursor.fetchall()]
        await postgres.execute("RESET ROLE")
        await _drop(postgres, schema, names)


def url_of(url: str, name: str, password: str) -> str:
    """How a reader reaches the database of that URL: as its owner does, but for who it is."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        return psycopg.conninfo.make_conninfo(url, user=name, password=password)
    query = [(option, value) for option, value in parse_qsl(parts.query) if option not in _OWNERS]
    place = f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"
    return f"{parts.scheme}://{place}{parts.path}" + (
        f"?{urlencode(query, quote_via=quote, safe='/')}" if query else ""
    )


@asynccontextmanager
async def _opened(url: str, schema: str) -> AsyncIterator[Postgres]:
    """A transaction as who logged in, where our tables are found first."""
    async with _schema.plain_transaction(url) as postgres:
        if not await _schema.has_version(postgres, schema):
            raise _schema.not_set_up(schema)
        await _schema.see_only(postgres, schema)
        yield postgres


async def _find(postgres: Postgres, name: str) -> Reader | None:
    await postgres.execute("SELECT set_config('role', %s, true)", [_rights.OWNER])
    cursor = postgres.cursor(row_factory=class_row(Reader))
    await cursor.execute(f"{_LISTED} WHERE r.name = %s".encode(), [name])
    found = await cursor.fetchone()
    await postgres.execute("RESET ROLE")
    return found


async def _needed(postgres: Postgres, name: str) -> Reader:
    found = await _find(postgres, name)
    if found is None:
        raise NotFoundError(f"there is no reader {name!r}; `atom-sync readers list` shows them")
    return found


async def _make_role(postgres: Postgres, schema: str, name: str, group: str) -> str:
    cursor = await postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if await cursor.fetchone():
        raise ReaderError(
            f"the server has a role {name} that is no reader of this database: take another name,"
            f" or, if nobody uses it, `DROP ROLE {name}`"
        )
    password = secrets.token_urlsafe(24)
    role, database = sql.Identifier(name), sql.Identifier(postgres.info.dbname)
    await _as_maker(
        postgres,
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, _sealed(postgres, name, password)),
        sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(sql.Identifier(group), role),
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
            role, database, sql.Identifier(schema)
        ),
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET default_transaction_read_only = on").format(
            role, database
        ),
    )
    return password


def _sealed(postgres: Postgres, name: str, password: str) -> sql.Literal:
    """As the server keeps it: the password itself reaches neither the server nor its log."""
    sealed = postgres.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    return sql.Literal(sealed.decode())


async def _as_maker(postgres: Postgres, *statements: sql.Composed) -> None:
    """Statements that need the right to make roles; SchemaError with the SQL that gives it."""
    try:
        for statement in statements:
            await postgres.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        user = sql.Identifier(postgres.info.user)
        groups = sql.SQL(", ").join(map(sql.Identifier, (_rights.READER, _rights.READER_OF_ALL)))
        needed = (
            sql.SQL("ALTER ROLE {} CREATEROLE;").format(user),
            sql.SQL("GRANT {} TO {} WITH ADMIN TRUE;").format(groups, user),
        )
        raise SchemaError(
            f"the database user {postgres.info.user!r} may not make or change readers, and nothing"
            " was changed; an administrator must run this once:",
            remedy="\n".join(each.as_string(postgres) for each in needed),
        ) from None


async def _drop(postgres: Postgres, schema: str, names: Sequence[str]) -> None:
    for name in names:
        await _as_maker(postgres, sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
    await _schema.become(postgres, schema, _rights.OWNER)
    await postgres.execute("DELETE FROM readers WHERE name = ANY (%s)", [list(names)])
