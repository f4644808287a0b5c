"""Rows: what a page's records and deletions become before they are written. No I/O."""

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from connectors import ContractError, Gone, Page, Record, Stream

BIGINT = 2**63
# An entry of a B-tree has at most 2,704 bytes; ours holds the connection and the stream too.
LONGEST_KEY = 2_000
HASH_BYTES = 16
NO_CONTENT = b"{}"

# What jsonb cannot hold: NUL, and surrogates that have no partner.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Row(NamedTuple):
    """A record, or its deletion, ready to be written.

    With `listed_keys` it is the deletion of all other keys that begin with its `record_id`.
    With `completed` it is a part of a record: that makes the whole row of what is stored. `gone`
    says why a record is gone, and `into` which one took it in. With `marks` it is not deleted, only
    noted to be no longer shown to who consented.
    """

    record_id: str
    data: bytes
    version: int | None
    observed_at: datetime
    content_hash: bytes
    deleted: bool
    listed_keys: frozenset[str] | None = None
    gone: Gone | None = None
    into: str | None = None
    marks: bool = False
    completed: Callable[[Record], "Row"] | None = None


def rows(stream: Stream, page: Page, observed_at: datetime) -> list[Row]:
    """The rows of a page; ContractError for a record that cannot be stored as it is."""
    made = [_row(stream, record, observed_at) for record in page.records]
    made += [_part(stream, record, observed_at) for record in page.partial]
    gone: list[tuple[str, Gone, str | None]] = [(key, Gone.DELETED, None) for key in page.deleted]
    gone += [(key, Gone.MERGED, _key(stream, into)) for key, into in page.merged.items()]
    gone += [(key, Gone.HIDDEN, None) for key in page.hidden]
    for key, why, into in gone:
        marks = why is Gone.HIDDEN and stream.keeps_hidden
        made.append(_tombstone(_key(stream, key), observed_at, why, into=into, marks=marks))
    for listing in page.listed_keys:
        listed_keys = frozenset(_key(stream, key) for key in listing.keys)
        why = Gone.HIDDEN if listing.hidden else Gone.DELETED
        marks = listing.hidden and stream.keeps_hidden
        prefix = _key(stream, listing.prefix) if listing.prefix else ""  # of all keys there are
        made.append(_tombstone(prefix, listing.at, why, listed_keys=listed_keys, marks=marks))
    return made


def listed(stream: Stream, page: Page) -> dict[str, int | None]:
    """The keys that a page of a listing shows, and their versions where it shows them."""
    found: dict[str, int | None] = {}
    for record in page.records:
        key = _key(stream, stream.key(record) if callable(stream.key) else record.get(stream.key))
        try:
            found[key] = stream.version(record)
        except (LookupError, TypeError, ValueError, AttributeError):
            found[key] = None
    return found


def _tombstone(key: str, observed_at: datetime, why: Gone, **more: Any) -> Row:
    return Row(key, NO_CONTENT, None, observed_at, _NOTHING, True, gone=why, **more)


def _part(stream: Stream, record: Record, observed_at: datetime) -> Row:
    """The row of a record of which only some fields came."""
    if stream.fetch is None:
        raise ContractError(f"{stream.name}: a part of a record came, and no way to read the rest")
    key = _key(stream, stream.key(record) if callable(stream.key) else record.get(stream.key))

    def completed(stored: Record) -> Row:
        return _row(stream, {**stored, **record}, observed_at)

    return Row(key, NO_CONTENT, None, observed_at, _NOTHING, False, completed=completed)


def _row(stream: Stream, record: Record, observed_at: datetime) -> Row:
    try:
        found = record[stream.key] if isinstance(stream.key, str) else stream.key(record)
    except (LookupError, TypeError, AttributeError) as error:
        raise ContractError(f"{stream.name}: a record came without its key") from error
    key = _key(stream, found)
    try:
        version = stream.version(record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"{stream.name}: record {key!r} has no readable version") from error
    if version is not None and not (type(version) is int and -BIGINT <= version < BIGINT):
        raise ContractError(f"{stream.name}: record {key!r} has a version that is not a bigint")
    data = _json(stream, key, record)
    return Row(key, data, version, observed_at, _hash(data), False)


def _key(stream: Stream, value: object) -> str:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value:
        raise ContractError(f"{stream.name}: a record came without its key, or with an empty one")
    if not value.isascii() or "\x00" in value:
        value = stored_text(value)
    if len(value.encode()) > LONGEST_KEY:
        raise ContractError(f"{stream.name}: the key {value[:40]!r}… is too long")
    return value


def _json(stream: Stream, key: str, record: Record) -> bytes:
    """The record as JSON with sorted keys, so that equal content is equal text."""
    try:
        data = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # A lone surrogate, an integer beyond 64 bits, or something that is not JSON.
        return _slow_json(stream, key, record)
    if rb"\u0000" in data:
        return _slow_json(stream, key, record)
    # orjson writes NaN and infinity as null.
    if b"null" in data and not _is_finite(record):
        raise ContractError(f"{stream.name}: record {key!r} holds a number that is not finite")
    # Copied to size: orjson shrinks a block of 8 KB, and its rest is lost while the text lives.
    return bytes(memoryview(data))


def _slow_json(stream: Stream, key: str, record: Record) -> bytes:
    try:
        return json.dumps(
            _storable(record),
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
            sort_keys=True,
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{stream.name}: record {key!r} cannot be stored as JSON") from error


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return stored_text(value)
    if isinstance(value, dict):
        return {_storable(name): _storable(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(held) for held in value]
    return value


def is_storable(value: str) -> bool:
    """Whether PostgreSQL can hold a text as it is."""
    return _UNSTORABLE.search(value) is None


def stored_text(value: str) -> str:
    """A text as PostgreSQL can hold it: without NUL and without lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", value)


def stored_json(value: Any) -> str:
    """Any JSON value as text that jsonb takes; ValueError for what is none."""
    try:
        text = orjson.dumps(value).decode()
        if "\\u0000" not in text:
            return text
    except TypeError:
        pass  # a lone surrogate, an integer beyond 64 bits, or something that is not JSON
    try:
        return json.dumps(_storable(value), allow_nan=False, ensure_ascii=False)
    except (TypeError, RecursionError) as error:
        raise ValueError("not JSON, or nested too deeply") from error


def _is_finite(value: object) -> bool:
    held: Iterable[object]
    if isinstance(value, dict):
        held = value.values()
    elif isinstance(value, list | tuple):
        held = value
    else:
        return not isinstance(value, float) or math.isfinite(value)
    for each in held:
        kind = type(each)
        if kind is str or each is None or kind is int or kind is bool:
            continue  # most of any record, which would take a call each
        if not _is_finite(each):
            return False
    return True


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=HASH_BYTES).digest()


_NOTHING = _hash(NO_CONTENT)
