"""Rows in COPY's binary format: there is nothing to escape, and PostgreSQL has nothing to look for.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from storage.rows import HASH_BYTES, Row

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


def binary(rows: Sequence[Row]) -> Iterator[bytes]:
    """The rows in chunks, as `COPY … (FORMAT BINARY)` takes them."""
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
