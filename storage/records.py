"""Records: how rows are merged with those that are there, and counted.

Push and poll write the same rows in any order, so every row carries the vendor's version, if there
is one, and when it was observed. A write wins with a greater version, or with an equal or unknown
version and a later observation. A tombstone falls only to what was observed after it, or, where it
came with a version of its own, to a greater one. Equal content is not rewritten. A listing of all
keys under a prefix buries the others that were observed before it.

`changed_at` is when what clients are shown of a row became another, by the database's clock; see
`storage.changes`, which finds by it what changed.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
import psycopg
from psycopg import sql
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Record
from storage._copy import binary
from storage._merge import (
    BURY,
    CHANGED_AT,
    COPY,
    DIFFERING,
    LIVE,
    MARK,
    SEE,
    SEE_KEYS,
    STAGE,
    STORED,
    TOMBSTONES,
)
from storage.database import Database, postgres
from storage.errors import SchemaError
from storage.models import CheckpointRow, RecordRow
from storage.rows import Row, listed, rows

__all__ = [
    "Count", "Row", "Written", "counts", "known", "listed", "rows", "see", "versions", "write",
    "writing_at",
]  # fmt: skip

Cursor: TypeAlias = psycopg.AsyncCursor[Any]
Values: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Written:
    """What a write changed: the number of live rows grows by `inserted` less `deleted`.

    `missing` are keys of which only a part came, and no row is stored to complete it with. `keys`
    are those that were inserted, updated and deleted, where that was asked for.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    missing: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())


@dataclass(frozen=True)
class _Met:
    """What a merge met: rows it found, and of those it went over, the buried and the standing."""

    found: int
    buried: int
    standing: int
    changed: int


async def write(
    session: AsyncSession,
    turn: AbstractAsyncContextManager[object] | None = None,
    /,
    *,
    stream: str,
    connection_id: UUID,
    tenant_id: UUID,
    rows: Sequence[Row],
    scan_id: UUID | None = None,
    quiet: bool = False,
    tell_keys: bool = False,
) -> Written:
    """Merges rows into the stream; with `scan_id`, notes that the scan has seen them.

    `turn` is a lock that is held during COPY, so that parsing the next page does not break the
    sending up. `quiet` is for reads, which show again and again what is stored, or was never stored
    and is gone: that is not written down. What an event tells moves `observed_at` even so, since it
    may come in any order; and an event that is older than the last read of its stream is not
    believed, but read again. `tell_keys` is for audits.
    """
    if not rows:
        return Written()
    values: dict[str, object] = {
        "stream": stream,
        "connection_id": connection_id,
        "tenant_id": tenant_id,
        "scan_id": scan_id,
        "quiet": quiet,
    }
    inserted = updated = deleted = 0
    async with (await postgres(session)).cursor() as cursor:
        values["changed_at"] = await writing_at(cursor, values)
        rows, missing = await _completed(cursor, rows, values)
        listings = [row for row in rows if row.listed_keys is not None]
        marks = [row for row in rows if row.marks and row.listed_keys is None]
        live, tombstones = _deduplicated(
            [row for row in rows if row.listed_keys is None and not row.marks]
        )
        await cursor.execute(STAGE)
        await cursor.execute("TRUNCATE pg_temp.atom_batch")
        async with turn or nullcontext(), cursor.copy(COPY) as copy:
            for chunk in binary([*live, *tombstones]):
                await copy.write(chunk)
        if scan_id is not None:
            await cursor.execute(SEE, values)
        differing = await _differing(cursor, values) if tell_keys else ((), (), ())
        if live:
            met = await _merge(cursor, LIVE, {**values, "deleted": False}, len(live))
            inserted, updated = len(live) - met.found + met.buried, met.changed
        if tombstones:
            met = await _merge(cursor, TOMBSTONES, {**values, "deleted": True}, len(tombstones))
            deleted = met.standing
        unchanged = len(rows) - len(listings) - len(marks) - inserted - updated - deleted
        if marks:
            keys = [row.record_id for row in marks]
            await cursor.execute(MARK, {**values, "keys": keys})
        if listings:
            await cursor.execute(BURY, {**values, **_ranges(listings)})
            deleted += sum(buried for (buried,) in await cursor.fetchall())
    return Written(inserted, updated, deleted, unchanged, missing, differing)


async def _differing(
    cursor: Cursor, values: Values
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The staged keys that are about to be inserted, updated and deleted."""
    await cursor.execute(DIFFERING, values)
    kinds: dict[str, list[str]] = {"inserted": [], "updated": [], "deleted": []}
    for key, kind in await cursor.fetchall():
        kinds[kind].append(key)
    return tuple(kinds["inserted"]), tuple(kinds["updated"]), tuple(kinds["deleted"])


async def writing_at(cursor: Cursor, values: Values) -> datetime:
    """When this transaction writes, by the database's clock; readers of changes are told of it."""
    await cursor.execute(CHANGED_AT, values)
    found = await cursor.fetchone()
    assert found is not None  # noqa: S101 - it has no condition
    at: datetime = found[0]
    return at


async def _completed(
    cursor: Cursor, rows: Sequence[Row], values: Values
) -> tuple[Sequence[Row], tuple[str, ...]]:
    """The rows, each part of a record merged into what was read or stored of it before; and the
    keys of parts for which there is nothing to merge into."""
    parts = sorted({row.record_id for row in rows if row.completed is not None})
    if not parts:
        return rows, ()
    await cursor.execute(STORED, {**values, "keys": parts})
    known: dict[str, Record] = {key: data for key, data in await cursor.fetchall()}
    whole: list[Row] = []
    missing: dict[str, None] = {}
    for row in rows:
        if row.completed is not None:
            if row.record_id not in known:
                missing[row.record_id] = None
                continue
            row = row.completed(known[row.record_id])
        if row.record_id in parts and row.listed_keys is None and not row.marks:
            known.pop(row.record_id, None)
            if not row.deleted:
                known[row.record_id] = orjson.loads(row.data)
                missing.pop(row.record_id, None)
        whole.append(row)
    return whole, tuple(missing)


def _ranges(listings: Sequence[Row]) -> Values:
    """The ranges of keys that were listed, and what is kept of each, as arrays."""
    kept = [(n, key) for n, row in enumerate(listings, start=1) for key in row.listed_keys or ()]
    return {
        "prefixes": [row.record_id for row in listings],
        # Of a prefix's keys none is greater: it is the last character that there is.
        "ends": [row.record_id + "\U0010ffff" for row in listings],
        "times": [row.observed_at for row in listings],
        "marks": [row.marks for row in listings],
        "reasons": [row.gone for row in listings],
        "owners": [number for number, _ in kept],
        "kept": [key for _, key in kept],
    }


async def _merge(
    cursor: Cursor, statements: tuple[sql.Composed, sql.Composed], values: Values, size: int
) -> _Met:
    compare, upsert = statements
    await cursor.execute(compare, values)
    *counts, stays = await cursor.fetchone() or (0, 0, 0, 0, [])
    if len(stays) < size:
        try:
            await cursor.execute(upsert, {**values, "stays": stays})
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name is not None:
                raise
            # Not chained: PostgreSQL's own message quotes the row.
            raise SchemaError(
                f"the stream {values['stream']} has no table yet: run `atom-sync migrate`"
            ) from None
    return _Met(*counts)


def _deduplicated(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """One row a key, of the records and of the deletions, in the order of their keys.

    One upsert cannot meet a key twice; and whoever writes locks rows in the same order.
    """
    best: tuple[dict[str, Row], dict[str, Row]] = {}, {}
    for row in rows:
        of_kind = best[row.deleted]
        other = of_kind.setdefault(row.record_id, row)
        if other is not row and _beats(row, other):
            of_kind[row.record_id] = row
    live, tombstones = (sorted(found.values(), key=lambda row: row.record_id) for found in best)
    return live, tombstones


def _beats(row: Row, other: Row) -> bool:
    if row.version is None or other.version is None or row.version == other.version:
        return row.observed_at > other.observed_at
    return row.version > other.version


async def see(
    session: AsyncSession,
    *,
    stream: str,
    connection_id: UUID,
    tenant_id: UUID,
    scan_id: UUID,
    keys: Sequence[str],
) -> None:
    """Notes that a listing has shown these keys."""
    values = {
        "stream": stream,
        "connection_id": connection_id,
        "tenant_id": tenant_id,
        "scan_id": scan_id,
        "keys": list(keys),
    }
    await (await postgres(session)).execute(SEE_KEYS, values)


async def versions(
    database: Database, tenant_id: UUID, *, stream: str, connection_id: UUID, keys: Sequence[str]
) -> dict[str, int | None]:
    """The versions of those of these keys that are stored, and live."""
    query = select(RecordRow.record_id, RecordRow.version).where(
        RecordRow.stream == stream,
        RecordRow.connection_id == connection_id,
        RecordRow.record_id == func.any(bindparam("keys", list(keys), type_=ARRAY(Text()))),
        RecordRow.deleted_at.is_(None),
    )
    async with database.transaction(tenant_id) as session:
        return {key: version for key, version in await session.execute(query)}


async def known(
    session: AsyncSession, *, stream: str, connection_id: UUID, keys: Sequence[str]
) -> set[str]:
    """Which of these keys are stored, whether they are live or known to be gone."""
    found = await session.scalars(
        select(RecordRow.record_id).where(
            RecordRow.stream == stream,
            RecordRow.connection_id == connection_id,
            RecordRow.record_id == func.any(bindparam("keys", list(keys), type_=ARRAY(Text()))),
        )
    )
    return set(found)


@dataclass(frozen=True)
class Count:
    """How many records a connection's stream has, when it was last read to its end, what of it
    cannot be read, why it is refused as a whole, and whether older rows are given the fields that
    they lack."""

    rows: int = 0
    last_synced_at: datetime | None = None
    unread: Sequence[Mapping[str, str]] = ()
    refusal: str | None = None
    refills: bool = False


async def counts(
    database: Database, connection_ids: Sequence[UUID] | None = None
) -> dict[tuple[UUID, str], Count]:
    """Of these connections or of all, and their streams, these by the connector's name for them."""
    live = (
        select(RecordRow.connection_id, RecordRow.stream, func.count().label("rows"))
        .where(RecordRow.deleted_at.is_(None))
        .group_by(RecordRow.connection_id, RecordRow.stream)
    )
    progress = select(
        CheckpointRow.connection_id, CheckpointRow.stream, CheckpointRow.last_synced_at,
        CheckpointRow.unread, CheckpointRow.refusal, CheckpointRow.refill.is_not(None),
    )  # fmt: skip
    if connection_ids is not None:
        live = live.where(RecordRow.connection_id.in_(connection_ids))
        progress = progress.where(CheckpointRow.connection_id.in_(connection_ids))
    async with database.owning() as session:
        rows = {
            (connection_id, stream.partition(".")[2]): count
            for connection_id, stream, count in await session.execute(live)
        }
        synced = {
            (connection_id, stream): Count(rows.get((connection_id, stream), 0), *found)
            for connection_id, stream, *found in await session.execute(progress)
        }
    return {key: Count(count) for key, count in rows.items()} | synced
