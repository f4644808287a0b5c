"""Records: how rows are merged with those that are there, counted, and swept after a full scan.

Push and poll write the same rows in any order, so every row carries the vendor's version, if there
is one, and when it was observed. A write wins with a greater version, or with an equal or unknown
version and a later observation. A tombstone falls only to what was observed after it, or, where it
came with a version of its own, to a greater one. Equal content is not rewritten. A listing of all
keys under a prefix buries the others that were observed before it.

`changed_at` is when what clients are shown of a row became another, by the database's clock; see
`storage.changes`, which finds by it what changed.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import orjson
import psycopg
from psycopg import sql
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Record
from storage._errors import SchemaError
from storage._rows import HASH_BYTES, Row, listed, rows
from storage.database import Database, postgres
from storage.models import CheckpointRow, RecordRow

__all__ = [
    "Count", "Row", "Written", "counts", "held", "listed", "rows", "see", "sweep", "unseen",
    "versions", "write",
]  # fmt: skip

ROWS_PER_CHUNK = 1_000

# Pieces of COPY's binary format. Every value follows its length, which is -1 for NULL; jsonb is a
# version number and the JSON text, and times are counted from 2000.
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = struct.pack(">h", -1)
_KEY = struct.Struct(">hi").pack
_DATA = struct.Struct(">ib").pack
_VERSION = struct.Struct(">iq").pack
_NULL = struct.pack(">i", -1)
_REST = struct.Struct(f">iqi{HASH_BYTES}si?").pack
_LENGTH = struct.Struct(">i").pack
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

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


_STAGE = sql.SQL(
    """
    CREATE TEMP TABLE IF NOT EXISTS atom_batch (
        record_id text COLLATE "C", data jsonb, version bigint, observed_at timestamptz,
        content_hash bytea, deleted boolean, gone_as text, merged_into text
    ) ON COMMIT DROP
    """
)

_COPY = sql.SQL("COPY pg_temp.atom_batch FROM STDIN (FORMAT BINARY)")

_SEE = sql.SQL(
    """
    INSERT INTO seen (scan_id, stream, record_id, connection_id, tenant_id)
    SELECT %(scan_id)s, %(stream)s, record_id, %(connection_id)s, %(tenant_id)s
    FROM pg_temp.atom_batch WHERE NOT deleted
    ON CONFLICT DO NOTHING
    """
)

# When this transaction writes, by the database's clock. The lock says to readers of changes that
# something from then on is still to be committed: see `storage.changes`.
_CHANGED_AT = sql.SQL(
    """
    SELECT at, pg_advisory_xact_lock_shared(
        hashtext(%(connection_id)s::text), extract(epoch FROM at)::bigint::int
    ) FROM (SELECT clock_timestamp() AS at OFFSET 0) now
    """
)

_SEE_KEYS = sql.SQL(
    """
    INSERT INTO seen (scan_id, stream, record_id, connection_id, tenant_id)
    SELECT %(scan_id)s, %(stream)s, key, %(connection_id)s, %(tenant_id)s
    FROM unnest(%(keys)s::text[]) AS key ON CONFLICT DO NOTHING
    """
)

# `new` takes the place of `old`: the merge rule, and something of it would change. A `quiet` write
# leaves alone what it would only observe once more.
_LIVE_WINS = sql.SQL(
    """
    CASE WHEN {old}.deleted_at IS NULL THEN
        {new}.version > {old}.version IS TRUE
        OR {new}.observed_at > {old}.observed_at
            AND coalesce({new}.version = {old}.version, true)
    ELSE
        {new}.version > {old}.deleted_version IS TRUE
        OR {new}.observed_at > {old}.observed_at
    END AND (
        {old}.deleted_at IS NOT NULL
        OR {old}.gone_as IS NOT NULL
        OR {new}.content_hash <> {old}.content_hash
        OR CASE WHEN %(quiet)s THEN {new}.version IS DISTINCT FROM {old}.version
            AND {new}.version IS NOT NULL
            ELSE coalesce({new}.version <> {old}.version, true) END
    )
    """
)

# Of a read and a deletion that were observed at once, the deletion is the later news.
_TOMBSTONE_WINS = sql.SQL(
    """
    CASE WHEN {old}.deleted_at IS NULL THEN
        {version} > {old}.version IS TRUE
        OR {new}.observed_at >= {old}.observed_at
            AND coalesce({version} = {old}.version, true)
    ELSE NOT %(quiet)s AND {new}.observed_at > {old}.observed_at
    END
    """
)

# Read before the upsert, and apart from it: an upsert locks, and so writes, also the rows it then
# leaves as they are, and through a partitioned table it does not tell an insert from an update.
# LIMIT makes it look each key up: of a table without statistics, as during a backfill, a join would
# rather read all rows of the connection, for every batch.
_COMPARE = sql.SQL(
    """
    SELECT count(*), count(*) FILTER (WHERE {wins} AND r.deleted_at IS NOT NULL),
        count(*) FILTER (WHERE {wins} AND r.deleted_at IS NULL),
        count(*) FILTER (
            WHERE {wins} AND r.deleted_at IS NULL AND b.content_hash <> r.content_hash
        ),
        coalesce(array_agg(b.record_id) FILTER (WHERE ({wins}) IS NOT TRUE), '{{}}')
    FROM pg_temp.atom_batch b CROSS JOIN LATERAL (
        SELECT version, observed_at, content_hash, deleted_at, deleted_version, gone_as
        FROM records
        WHERE stream = %(stream)s AND connection_id = %(connection_id)s
            AND record_id = b.record_id
        LIMIT 1
    ) r
    WHERE b.deleted = %(deleted)s
    """
)

_UPSERT = sql.SQL(
    """
    INSERT INTO records AS r (
        connection_id, record_id, stream, tenant_id, data, version, observed_at, content_hash,
        deleted_at, deleted_version, changed_at, gone_as, merged_into
    )
    SELECT %(connection_id)s, record_id, %(stream)s, %(tenant_id)s, data,
        CASE WHEN NOT deleted THEN version END, observed_at, content_hash,
        CASE WHEN deleted THEN now() END, CASE WHEN deleted THEN version END, %(changed_at)s,
        gone_as, merged_into
    FROM pg_temp.atom_batch b
    WHERE deleted = %(deleted)s AND record_id <> ALL (%(stays)s)
        AND (NOT (deleted AND %(quiet)s) OR EXISTS (
            SELECT FROM records WHERE stream = %(stream)s AND connection_id = %(connection_id)s
                AND record_id = b.record_id
        ))
    ON CONFLICT (connection_id, record_id, stream) DO UPDATE SET {changes} WHERE {wins}
    """
)

_NOT_SEEN = sql.SQL(
    """
    stream = %(stream)s AND connection_id = %(connection_id)s AND deleted_at IS NULL
        AND observed_at < %(started_at)s
        AND NOT EXISTS (
            SELECT FROM seen s
            WHERE s.connection_id = %(connection_id)s AND s.scan_id = %(scan_id)s
                AND s.stream = %(stream)s AND s.record_id = r.record_id
        )
        AND NOT EXISTS (
            SELECT FROM unnest(%(unseen)s::text[]) u WHERE starts_with(r.record_id, u)
        )
    """
)
_UNSEEN = sql.SQL("SELECT record_id, data FROM records r WHERE ") + _NOT_SEEN
# What was found to be hidden stays, until it is shown again or told to be gone.
_SWEEP = (
    sql.SQL(
        """
        UPDATE records r SET deleted_at = now(), observed_at = %(started_at)s,
            changed_at = %(changed_at)s, gone_as = 'deleted'
        WHERE NOT (%(spares)s AND gone_as IS NOT NULL) AND
        """
    )
    + _NOT_SEEN
)

# One statement for the listings of a batch: there may be one for each of its rows. LATERAL makes it
# look each range of keys up, as LIMIT does in _COMPARE.
_BURY = sql.SQL(
    """
    UPDATE records r SET
        deleted_at = CASE WHEN gone.marks THEN r.deleted_at ELSE now() END,
        observed_at = CASE WHEN gone.marks THEN r.observed_at ELSE gone.at END,
        changed_at = %(changed_at)s,
        gone_as = gone.gone_as
    FROM (
        SELECT found.record_id, max(w.at) AS at, bool_and(w.marks) AS marks,
            min(w.gone_as) AS gone_as
        FROM unnest(
            %(prefixes)s::text[], %(ends)s::text[], %(times)s::timestamptz[], %(marks)s::bool[],
            %(reasons)s::text[]
        ) WITH ORDINALITY AS w (prefix, ending, at, marks, gone_as, number)
        CROSS JOIN LATERAL (
            SELECT record_id FROM records
            WHERE stream = %(stream)s AND connection_id = %(connection_id)s
                AND record_id >= w.prefix COLLATE "C" AND record_id < w.ending COLLATE "C"
                AND deleted_at IS NULL AND observed_at < w.at
                AND NOT (w.marks AND gone_as IS NOT NULL)
            OFFSET 0
        ) found
        WHERE NOT EXISTS (
            SELECT FROM unnest(%(owners)s::bigint[], %(kept)s::text[]) AS k (number, record_id)
            WHERE k.number = w.number AND k.record_id = found.record_id
        ) AND NOT EXISTS (
            SELECT FROM pg_temp.atom_batch b
            WHERE b.record_id = found.record_id AND NOT b.deleted AND b.observed_at >= w.at
        )
        GROUP BY found.record_id
    ) gone
    WHERE r.stream = %(stream)s AND r.connection_id = %(connection_id)s
        AND r.record_id = gone.record_id
    RETURNING NOT gone.marks
    """
)

# What a part of a record is merged into; locked, so that no event changes it in between.
_STORED = sql.SQL(
    """
    SELECT record_id, data FROM records
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
        AND deleted_at IS NULL
    ORDER BY record_id FOR UPDATE
    """
)

# Live, and no longer shown to who consented.
_MARK = sql.SQL(
    """
    UPDATE records SET gone_as = 'hidden', changed_at = %(changed_at)s
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
        AND deleted_at IS NULL AND gone_as IS NULL
    """
)

_FORGET = sql.SQL(
    "DELETE FROM seen WHERE connection_id = %(connection_id)s AND scan_id = %(scan_id)s"
)

_EXCLUDED = sql.Identifier("excluded")
_LIVE = (
    _COMPARE.format(wins=_LIVE_WINS.format(new=sql.Identifier("b"), old=sql.Identifier("r"))),
    _UPSERT.format(
        wins=_LIVE_WINS.format(new=_EXCLUDED, old=sql.Identifier("r")),
        changes=sql.SQL(
            """
            data = excluded.data, content_hash = excluded.content_hash, deleted_at = NULL,
            deleted_version = NULL,
            version = coalesce(excluded.version, r.version),
            observed_at = greatest(excluded.observed_at, r.observed_at),
            changed_at = CASE
                WHEN r.deleted_at IS NULL AND r.content_hash = excluded.content_hash
                THEN r.changed_at ELSE excluded.changed_at
            END,
            gone_as = NULL, merged_into = NULL
            """
        ),
    ),
)
_TOMBSTONES = (
    _COMPARE.format(
        wins=_TOMBSTONE_WINS.format(
            new=sql.Identifier("b"), old=sql.Identifier("r"), version=sql.Identifier("b", "version")
        )
    ),
    _UPSERT.format(
        wins=_TOMBSTONE_WINS.format(
            new=_EXCLUDED,
            old=sql.Identifier("r"),
            version=sql.Identifier("excluded", "deleted_version"),
        ),
        changes=sql.SQL(
            """
            deleted_at = coalesce(r.deleted_at, excluded.deleted_at),
            deleted_version = greatest(excluded.deleted_version, r.deleted_version),
            observed_at = greatest(excluded.observed_at, r.observed_at),
            changed_at = CASE WHEN r.deleted_at IS NULL THEN excluded.changed_at
                ELSE r.changed_at END,
            gone_as = excluded.gone_as,
            merged_into = coalesce(excluded.merged_into, r.merged_into)
            """
        ),
    ),
)
_DIFFERING = sql.SQL(
    """
    SELECT b.record_id, CASE
            WHEN b.deleted THEN 'deleted'
            WHEN r.record_id IS NULL OR r.deleted_at IS NOT NULL THEN 'inserted' ELSE 'updated' END
    FROM pg_temp.atom_batch b LEFT JOIN LATERAL (
        SELECT * FROM records
        WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = b.record_id
        LIMIT 1
    ) r ON true
    WHERE CASE
        WHEN b.deleted THEN r.record_id IS NOT NULL AND r.deleted_at IS NULL AND {tombstone_wins}
        ELSE r.record_id IS NULL
            OR {live_wins} AND (r.deleted_at IS NOT NULL OR b.content_hash <> r.content_hash)
        END
    """
).format(
    live_wins=_LIVE_WINS.format(new=sql.Identifier("b"), old=sql.Identifier("r")),
    tombstone_wins=_TOMBSTONE_WINS.format(
        new=sql.Identifier("b"), old=sql.Identifier("r"), version=sql.Identifier("b", "version")
    ),
)


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
        values["changed_at"] = await _writing_at(cursor, values)
        rows, missing = await _completed(cursor, rows, values)
        wholes = [row for row in rows if row.kept is not None]
        marks = [row for row in rows if row.marks and row.kept is None]
        live, tombstones = _deduplicated(
            [row for row in rows if row.kept is None and not row.marks]
        )
        await cursor.execute(_STAGE)
        await cursor.execute("TRUNCATE pg_temp.atom_batch")
        async with turn or nullcontext(), cursor.copy(_COPY) as copy:
            for chunk in _binary([*live, *tombstones]):
                await copy.write(chunk)
        if scan_id is not None:
            await cursor.execute(_SEE, values)
        differing = await _differing(cursor, values) if tell_keys else ((), (), ())
        if live:
            met = await _merge(cursor, _LIVE, {**values, "deleted": False}, len(live))
            inserted, updated = len(live) - met.found + met.buried, met.changed
        if tombstones:
            met = await _merge(cursor, _TOMBSTONES, {**values, "deleted": True}, len(tombstones))
            deleted = met.standing
        unchanged = len(rows) - len(wholes) - len(marks) - inserted - updated - deleted
        if marks:
            keys = [row.record_id for row in marks]
            await cursor.execute(_MARK, {**values, "keys": keys})
        if wholes:
            await cursor.execute(_BURY, {**values, **_ranges(wholes)})
            deleted += sum(buried for (buried,) in await cursor.fetchall())
    return Written(inserted, updated, deleted, unchanged, missing, differing)


async def _differing(
    cursor: Cursor, values: Values
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The staged keys that are about to be inserted, updated and deleted."""
    await cursor.execute(_DIFFERING, values)
    kinds: dict[str, list[str]] = {"inserted": [], "updated": [], "deleted": []}
    for key, kind in await cursor.fetchall():
        kinds[kind].append(key)
    return tuple(kinds["inserted"]), tuple(kinds["updated"]), tuple(kinds["deleted"])


async def _writing_at(cursor: Cursor, values: Values) -> datetime:
    await cursor.execute(_CHANGED_AT, values)
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
    await cursor.execute(_STORED, {**values, "keys": parts})
    known: dict[str, Record] = {key: data for key, data in await cursor.fetchall()}
    whole: list[Row] = []
    missing: dict[str, None] = {}
    for row in rows:
        if row.completed is not None:
            if row.record_id not in known:
                missing[row.record_id] = None
                continue
            row = row.completed(known[row.record_id])
        if row.record_id in parts and row.kept is None and not row.marks:
            known.pop(row.record_id, None)
            if not row.deleted:
                known[row.record_id] = orjson.loads(row.data)
                missing.pop(row.record_id, None)
        whole.append(row)
    return whole, tuple(missing)


def _ranges(wholes: Sequence[Row]) -> Values:
    """The ranges of keys that were listed, and what is kept of each, as arrays."""
    kept = [(n, key) for n, row in enumerate(wholes, start=1) for key in row.kept or ()]
    return {
        "prefixes": [row.record_id for row in wholes],
        # Of a prefix's keys none is greater: it is the last character that there is.
        "ends": [row.record_id + "\U0010ffff" for row in wholes],
        "times": [row.observed_at for row in wholes],
        "marks": [row.marks for row in wholes],
        "reasons": [row.gone for row in wholes],
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


def _binary(rows: Sequence[Row]) -> Iterator[bytes]:
    """COPY's binary format: there is nothing to escape, and PostgreSQL has nothing to look for.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT
    """
    yield _SIGNATURE
    at, microseconds = None, 0
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        parts: list[bytes] = []
        for row in rows[start : start + ROWS_PER_CHUNK]:
            record_id, data, version, observed_at, content_hash, deleted = row[:6]
            if observed_at is not at:  # one time serves the rows of a page
                at, microseconds = observed_at, (observed_at - _EPOCH) // _MICROSECOND
            key = record_id.encode()
            parts += (
                _KEY(8, len(key)),
                key,
                _DATA(len(data) + 1, 1),
                data,
                _NULL if version is None else _VERSION(8, version),
                _REST(8, microseconds, HASH_BYTES, content_hash, 1, deleted),
                _text(row.gone),
                _text(row.into),
            )
        yield b"".join(parts)
    yield _END


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


async def sweep(
    session: AsyncSession,
    *,
    stream: str,
    connection_id: UUID,
    tenant_id: UUID,
    scan_id: UUID,
    started_at: datetime,
    unseen: Sequence[str] = (),
    was_shown: Callable[[Record], bool] | None = None,
) -> int:
    """Ends a scan: what it did not see, and nobody else since it began, is gone.

    `unseen` are prefixes of keys that it could not look at: what is under them stays. `was_shown`
    says of a stored record whether the scan could have seen it: what it could not is hidden, not
    gone, and stays. Returns how many are gone.
    """
    values: dict[str, object] = {
        "stream": stream,
        "connection_id": connection_id,
        "tenant_id": tenant_id,
        "scan_id": scan_id,
        "started_at": started_at,
        "unseen": list(unseen),
        "spares": was_shown is not None,
    }
    async with (await postgres(session)).cursor() as cursor:
        values["changed_at"] = await _writing_at(cursor, values)
        if was_shown is not None:
            await cursor.execute(_UNSEEN, values)
            unseen = await cursor.fetchall()
            hidden = [key for key, data in unseen if not was_shown(data)]
            await cursor.execute(_MARK, {**values, "keys": hidden})
        await cursor.execute(_SWEEP, values)
        swept = cursor.rowcount
        await cursor.execute(_FORGET, values)
    return swept


async def unseen(
    session: AsyncSession,
    *,
    stream: str,
    connection_id: UUID,
    scan_id: UUID,
    started_at: datetime,
    prefixes: Sequence[str] = (),
) -> list[str]:
    """The keys that a sweep of this scan would find gone."""
    values = {
        "stream": stream,
        "connection_id": connection_id,
        "scan_id": scan_id,
        "started_at": started_at,
        "unseen": list(prefixes),
    }
    found = await (await postgres(session)).execute(_UNSEEN, values)
    return [key for key, _ in await found.fetchall()]


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
    await (await postgres(session)).execute(_SEE_KEYS, values)


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


async def held(
    session: AsyncSession, *, stream: str, connection_id: UUID, keys: Sequence[str]
) -> set[str]:
    """Which of these keys are stored, and live."""
    found = await session.scalars(
        select(RecordRow.record_id).where(
            RecordRow.stream == stream,
            RecordRow.connection_id == connection_id,
            RecordRow.record_id == func.any(bindparam("keys", list(keys), type_=ARRAY(Text()))),
            RecordRow.deleted_at.is_(None),
        )
    )
    return set(found)


@dataclass(frozen=True)
class Count:
    """How many records a connection's stream has, and when it was last read to its end."""

    rows: int
    last_synced_at: datetime | None


async def counts(database: Database) -> dict[tuple[UUID, str], Count]:
    """Of every tenant's connections and their streams, these by the connector's name for them."""
    live = (
        select(RecordRow.connection_id, RecordRow.stream, func.count().label("rows"))
        .where(RecordRow.deleted_at.is_(None))
        .group_by(RecordRow.connection_id, RecordRow.stream)
    )
    progress = select(
        CheckpointRow.connection_id, CheckpointRow.stream, CheckpointRow.last_synced_at
    )
    async with database.owning() as session:
        rows = {
            (connection_id, stream.partition(".")[2]): count
            for connection_id, stream, count in await session.execute(live)
        }
        synced = {
            (connection_id, stream): last_synced_at
            for connection_id, stream, last_synced_at in await session.execute(progress)
        }
    return {key: Count(rows.get(key, 0), synced.get(key)) for key in rows | synced}
