"""Integrations that are added at run time: kept as their manifests, and made known to processes.

Owners change the list, and everybody reads it. Each change gives it another revision. A process
compares revisions, when it begins to work and now and then, and reads what it does not hold.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Literal

from psycopg.rows import class_row
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

import integrations
from connectors import Connector
from connectors.kernel.cancellation import end
from integrations import Added, Listing, UnreadableError
from storage import _large, _rights, _schema, _streams
from storage._rights import Connection as Postgres
from storage.background import repeated
from storage.database import Database
from storage.errors import IntegrationError, NotFoundError, SchemaError
from storage.models import Connection, Integration, IntegrationList

# How often a process looks that goes on for long.
LOOK_EVERY = timedelta(minutes=1)

log = logging.getLogger(__name__)

Outcome = Literal["added", "changed", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An integration that is to be added; `source` says where its manifest came from."""

    slug: str
    title: str
    version: str
    text: str = field(repr=False)
    source: str
    licence: str
    level: int = 0

    @property
    def sha256(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An added integration, without its manifest; `connections` counts those of all tenants."""

    slug: str
    title: str
    version: str
    sha256: str
    source: str
    licence: str
    level: int
    added_at: datetime
    changed_at: datetime
    connections: int


async def refresh(database: Database) -> bool:
    """This process holds what the database lists now; whether that is anything new."""
    async with database.dispatching() as session:
        revision = await session.scalar(select(IntegrationList.revision))
        if revision == integrations.listing().revision:
            return False
        integrations.hold(Listing(revision, await _read(session)))
    return True


@asynccontextmanager
async def followed(database: Database) -> AsyncIterator[None]:
    """The list is read now, and again every minute for as long as the block lasts."""
    await refresh(database)
    every = LOOK_EVERY.total_seconds()
    looking = repeated("integrations", partial(refresh, database), every, begins_after=every)
    task = asyncio.create_task(looking)
    try:
        yield
    finally:
        await end(task)


async def _read(session: AsyncSession) -> tuple[Added, ...]:
    """All that are listed; of what this process holds, the manifest is not sent again."""
    held = {each.sha256: each.packed for each in integrations.added()}
    rows = await session.execute(
        select(
            Integration.slug,
            Integration.title,
            Integration.version,
            Integration.sha256,
            Integration.level,
        )
    )
    found = rows.all()
    wanted = {row.sha256 for row in found} - set(held)
    if wanted:
        packed = select(Integration.sha256, Integration.manifest)
        held |= {
            sha: text
            for sha, text in await session.execute(packed.where(Integration.sha256.in_(wanted)))
        }
    return tuple(
        Added(
            slug=row.slug, title=row.title, version=row.version, sha256=row.sha256,
            level=row.level, packed=held[row.sha256],
        )
        for row in found if row.sha256 in held
    )  # fmt: skip


async def add(url: str, schema: str, wanted: Manifest) -> Outcome:
    """Adds or replaces an integration, and makes what its streams need.

    IntegrationError where its name is a built-in one's. SchemaError where the database holds
    something in the way. Syncs under way keep the connector that they began with.
    """
    if integrations.is_built_in(wanted.slug):
        raise IntegrationError(
            f"{wanted.slug} is the name of an integration that is built in: give another, --name"
        )
    connector = integrations.read(wanted.slug, wanted.title, wanted.text)

    async def attempt() -> Outcome:
        async with _owning(url, schema) as postgres:
            await _streams.keep(postgres, (connector,))
            return await _put(postgres, wanted)

    outcome = await _large.patiently(attempt)
    if outcome != "unchanged":
        await _large.complete(url, schema)
    return outcome


async def _put(postgres: Postgres, wanted: Manifest) -> Outcome:
    values = {
        **{name: value for name, value in vars(wanted).items() if name != "text"},
        "sha256": wanted.sha256,
        "manifest": integrations.pack(wanted.text),
        "read_by": integrations.reader(),
    }
    cursor = await postgres.execute(
        "SELECT title, version, sha256, source, licence, level, read_by FROM integrations"
        " WHERE slug = %(slug)s FOR UPDATE",
        values,
    )
    former = await cursor.fetchone()
    names = ("title", "version", "sha256", "source", "licence", "level", "read_by")
    if former == tuple(values[name] for name in names):
        return "unchanged"
    await postgres.execute(
        "INSERT INTO integrations"
        " (slug, title, version, manifest, sha256, source, licence, level, read_by)"
        " VALUES (%(slug)s, %(title)s, %(version)s, %(manifest)s, %(sha256)s, %(source)s,"
        " %(licence)s, %(level)s, %(read_by)s)"
        " ON CONFLICT (slug) DO UPDATE SET title = excluded.title, version = excluded.version,"
        " manifest = excluded.manifest, sha256 = excluded.sha256, source = excluded.source,"
        " licence = excluded.licence, level = excluded.level, read_by = excluded.read_by,"
        " changed_at = clock_timestamp()",
        values,
    )
    await _tell(postgres)
    return "changed" if former else "added"


async def remove(url: str, schema: str, slug: str) -> Sequence[str]:
    """Forgets an integration that nobody is connected to; the tables that went with it.

    IntegrationError names the connections that are left, also those that have ended: their records
    are still there.
    """

    async def attempt() -> Sequence[str]:
        async with _owning(url, schema) as postgres:
            await postgres.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                                   [_line(slug)])  # fmt: skip
            await _needed(postgres, slug)
            if left := await _connections(postgres, slug):
                raise IntegrationError(
                    f"{slug} is connected: {', '.join(left)}. Disconnect them and erase what was"
                    " read, or let --purge do both"
                )
            gone = await _streams.drop(postgres, slug)
            await postgres.execute("DELETE FROM sync_intervals WHERE integration = %s", [slug])
            await postgres.execute("DELETE FROM breakers WHERE integration = %s", [slug])
            await postgres.execute("DELETE FROM integrations WHERE slug = %s", [slug])
            await _tell(postgres)
            return gone

    return await _large.patiently(attempt)


async def listing(url: str, schema: str) -> Sequence[Listed]:
    """Every added integration, by name."""
    async with _owning(url, schema) as postgres:
        cursor = postgres.cursor(row_factory=class_row(Listed))
        await cursor.execute(
            "SELECT slug, title, version, sha256, source, licence, level, added_at, changed_at,"
            " (SELECT count(*) FROM connections c WHERE c.integration = slug) AS connections"
            " FROM integrations ORDER BY slug"
        )
        return await cursor.fetchall()


async def keep(url: str, schema: str) -> Sequence[str]:
    """Makes what added integrations need whose manifests an older reader read; their names.

    A newer reader may find streams or columns that the former did not. One that it cannot read at
    all is said, and left as it is.
    """
    async with _owning(url, schema) as postgres:
        cursor = await postgres.execute(
            "SELECT slug, title, manifest FROM integrations WHERE read_by <> %s ORDER BY slug",
            [integrations.reader()],
        )
        found = await cursor.fetchall()
    kept = []
    for slug, title, packed in found:
        try:
            connector = integrations.read(slug, title, integrations.unpack(packed))
            await _large.patiently(partial(_keep, url, schema, connector))
        except (UnreadableError, SchemaError) as error:
            log.warning("the integration %s cannot be synced: %s", slug, error)
        else:
            kept.append(slug)
    return kept


async def _keep(url: str, schema: str, connector: Connector) -> None:
    async with _owning(url, schema) as postgres:
        await _streams.keep(postgres, (connector,))
        await postgres.execute(
            "UPDATE integrations SET read_by = %s WHERE slug = %s",
            [integrations.reader(), connector.name],
        )


async def in_use(database: Database) -> frozenset[str]:
    """The names of all integrations that somebody has a connection to."""
    async with database.dispatching() as session:
        return frozenset(await session.scalars(select(Connection.integration).distinct()))


async def must_stay(session: AsyncSession, slug: str) -> None:
    """Until this transaction ends nobody removes it; NotFoundError where somebody has."""
    if integrations.is_built_in(slug):
        return
    line = func.hashtextextended(_line(slug), 0)
    await session.execute(select(func.pg_advisory_xact_lock_shared(line)))
    if await session.scalar(select(Integration.slug).where(Integration.slug == slug)) is None:
        raise NotFoundError(f"the integration {slug!r} was removed")


@asynccontextmanager
async def _owning(url: str, schema: str) -> AsyncIterator[Postgres]:
    """A transaction of the owner's, one after the other; it waits for no lock for long."""
    async with _schema.plain_transaction(url) as postgres:
        if not await _schema.has_version(postgres, schema):
            raise _schema.not_set_up(schema)
        await _schema.wait_for_others(postgres, schema)
        await _schema.become(postgres, schema, _rights.OWNER)
        await _large.limit_waits(postgres)
        yield postgres


async def _needed(postgres: Postgres, slug: str) -> None:
    cursor = await postgres.execute("SELECT slug FROM integrations ORDER BY slug")
    known = [name for (name,) in await cursor.fetchall()]
    if slug not in known:
        raise NotFoundError(
            f"no integration {slug!r} was added; there are: {', '.join(known) or 'none'}"
        )


async def _connections(postgres: Postgres, slug: str) -> list[str]:
    cursor = await postgres.execute(
        "SELECT t.slug || '/' || c.integration || ' (' ||"
        " CASE WHEN c.purge_owed_at IS NOT NULL THEN 'being erased'"
        " ELSE coalesce(nullif(c.account_name, ''), c.account_id) END || ')'"
        " FROM connections c JOIN tenants t ON t.id = c.tenant_id"
        " WHERE c.integration = %s ORDER BY 1",
        [slug],
    )
    return [name for (name,) in await cursor.fetchall()]


async def _tell(postgres: Postgres) -> None:
    await postgres.execute(
        "INSERT INTO integration_lists (revision) VALUES (gen_random_uuid())"
        " ON CONFLICT (singleton) DO UPDATE SET revision = excluded.revision"
    )


def _line(slug: str) -> str:
    return f"integration:{slug}"
