"""Transactions: each takes a plain role, names its tenant, and commits at its end.

Superusers and owners of tables are not bound by row-level security, so no statement of ours runs as
the user that logged in.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import ClauseElement, Dialect, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from storage.errors import DatabaseUnavailableError
from storage.sickness import translated

# What a URL may leave out. A server that vanished without a word is noticed within a minute.
CONNECT_OPTIONS = {
    "application_name": "atom-sync",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}

# In UTC, whatever zone the server is set to: psycopg writes ten minutes less as a day less and 23
# hours and 50 minutes more, and where clocks are changed that day may be an hour shorter.
_BEGIN = text(
    "SELECT set_config('role', :role, true), set_config('search_path', :path, true),"
    " set_config('timezone', 'UTC', true), set_config('app.tenant_id', :tenant_id, true)"
)
_DIALECT: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_BEGIN_CLAIM = f"{_BEGIN.compile(dialect=_DIALECT)}, set_config('synchronous_commit', 'off', true)"


class Database:
    """One pool of connections to PostgreSQL; a process has one of these."""

    def __init__(self, engine: AsyncEngine, schema: str) -> None:
        self._engine = engine
        self._path = search_path(schema)
        self.schema = schema

    @classmethod
    def connect(
        cls, url: str, *, schema: str = "public", pool_size: int = 5, max_overflow: int = 5
    ) -> Self:
        """Takes the URL as hosting companies give it: libpq itself reads it."""
        return cls(engine(url, pool_size=pool_size, max_overflow=max_overflow), schema)

    async def close(self) -> None:
        await self._engine.dispose()

    def transaction(self, tenant_id: UUID) -> AbstractAsyncContextManager[AsyncSession]:
        """One tenant's rows: nothing of another tenant is seen or written."""
        return self._as("atom_tenant", str(tenant_id))

    def dispatching(self) -> AbstractAsyncContextManager[AsyncSession]:
        """What is due, for all tenants; neither secrets nor records."""
        return self._as("atom_dispatch")

    def receiving(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Which connections an account has, and the inbox; for what receives webhooks."""
        return self._as("atom_ingress")

    def owning(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Everything: for making tenants, and for the operator's own commands."""
        return self._as("atom_owner")

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As `dispatching`, but psycopg itself: a session of SQLAlchemy makes a claim longer.

        Its commit does not wait for the disk. What PostgreSQL forgets of it in a crash is due
        again, and nothing of that was begun: a lease's commit waits for all that came before it.
        """
        begin, values = _BEGIN_CLAIM, self._settings("atom_dispatch")
        with translated():
            async with self._engine.connect() as pooled:
                try:
                    await pooled.exec_driver_sql(begin, values)
                except DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    await pooled.rollback()  # the next is a new one, as below
                    await pooled.exec_driver_sql(begin, values)
                connection = await _below(pooled)
                yield connection
                await connection.commit()

    @asynccontextmanager
    async def _as(self, role: str, tenant_id: str = "") -> AsyncIterator[AsyncSession]:
        with translated():
            async with await self._begin(role, tenant_id) as session:
                yield session
                await session.commit()

    async def _begin(self, role: str, tenant_id: str) -> AsyncSession:
        values = self._settings(role, tenant_id)
        session = AsyncSession(self._engine, expire_on_commit=False)
        try:
            await session.execute(_BEGIN, values)
        except DBAPIError as error:
            await session.close()
            if not error.connection_invalidated:
                raise
            # A pooled connection had died unnoticed, and with it went the whole pool: the next
            # one is new. Cheaper than asking every connection first whether it is alive.
            await session.execute(_BEGIN, values)
        return session

    def _settings(self, role: str, tenant_id: str = "") -> dict[str, str]:
        return {"role": role, "path": self._path, "tenant_id": tenant_id}


def in_sql(statement: ClauseElement) -> tuple[str, dict[str, Any]]:
    """A statement as psycopg takes it, and the values that it has already."""
    made = statement.compile(dialect=_DIALECT)
    return str(made), dict(made.params)


async def postgres(session: AsyncSession) -> psycopg.AsyncConnection[Any]:
    """The psycopg connection below a session, in the same transaction: for COPY."""
    return await _below(await session.connection())


async def _below(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    raw = await connection.get_raw_connection()
    if not isinstance(raw.driver_connection, psycopg.AsyncConnection):
        raise TypeError("the engine does not speak through psycopg")
    return raw.driver_connection


def conninfo_of(url: str) -> str:
    """What libpq makes of a URL, with our options where it leaves them out."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # libpq's own message may quote a part of the password.
        raise DatabaseUnavailableError(
            "the database's URL cannot be read;"
            " it should look like postgresql://user:password@host:5432/name?sslmode=require"
        ) from None
    return make_conninfo(url, **{**CONNECT_OPTIONS, **given})


def engine(url: str, **options: Any) -> AsyncEngine:
    """SQLAlchemy's engine on a URL that only libpq has read, so every libpq parameter works."""
    conninfo = conninfo_of(url)

    async def connect() -> psycopg.AsyncConnection[Any]:
        # No prepared statements: they do not survive a pooler in transaction mode.
        return await psycopg.AsyncConnection.connect(conninfo, prepare_threshold=None)

    return create_async_engine("postgresql+psycopg://", async_creator=connect, **options)


def search_path(schema: str) -> str:
    """The schema, then temporary tables, and nothing else."""
    return '"{}", pg_temp'.format(schema.replace('"', '""'))
