"""What a read hands to the store: parts of streams in batches, and what became of each stream."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from connectors import Checkpoint, ConnectorError, RetryableError, Stream, Unread
from storage import records
from storage.failures import failure_of
from storage.models import Failure


@dataclass(slots=True)
class Outcome:
    """What a run did to one stream."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    pages: int = 0
    done: bool = False
    error: str | None = None
    failure: Failure = Failure.OURS
    wait: timedelta = timedelta()
    unread: Sequence[Unread] = ()
    restarted: bool = False

    def failed(self, error: ConnectorError) -> None:
        """The stream could not be read to its end."""
        self.error, self.failure = str(error), failure_of(error)
        if isinstance(error, RetryableError):
            self.wait = error.retry_after

    @property
    def changed(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Consecutive pages of one stream, and the checkpoint that is true once they are stored.

    `begins` marks the first part of a full scan, `restarted` one that is made since the stream did
    not get on; `done` marks the last part of a stream's read; after a `final` one nothing more
    comes of the stream. `generation` says up to which hint such a read goes. What is read of a
    window only (`aside`) leaves the stream's checkpoint where it was; so does a `refill`, which
    keeps a checkpoint of its own. In an `audit` what differs is counted; `listed` are keys that a
    listing has shown. The last part of an audit has `changed_since`: the keys that the stream's
    delta names after the audit began.
    `unsettled`, `unread`, `unseen`, `shown_from` and `shape` are those of its pages.
    """

    stream: Stream
    rows: Sequence[records.Row]
    checkpoint: Checkpoint
    pages: int = 1
    done: bool = False
    scan: "Scan | None" = None
    begins: bool = False
    generation: int = 0
    aside: bool = False
    restarted: bool = False
    unsettled: Sequence[str] = ()
    unread: Sequence[Unread] | None = None
    unseen: Sequence[str] = ()
    shown_from: datetime | None = None
    shape: str | None = None
    refill: bool = False
    final: bool = True
    audit: "Audit | None" = None
    listed: Sequence[str] = ()
    changed_since: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """A check of a stream against what the vendor lists. `every` is how often it is checked."""

    id: UUID
    every: timedelta
    begins: bool = False


# The versions of those of some keys that are stored.
Known: TypeAlias = Callable[[Stream, Sequence[str]], Awaitable[Mapping[str, int | None]]]


@dataclass(frozen=True, slots=True)
class Scan:
    """A read of everything a stream has: what it does not show is gone."""

    id: UUID
    started_at: datetime


class Batch:
    """What one `fetch` hands to one `persist`. Not a dataclass: Prefect would walk into it.

    `turn` is held while its rows are sent, and the reading then stands still: between the pages of
    a fast vendor they would be sent in small pieces, and PostgreSQL would merge them too late to
    do so during the next fetch.
    """

    __slots__ = ("last", "parts", "rows", "turn")

    def __init__(self, turn: asyncio.Lock) -> None:
        self.parts: list[Part] = []
        self.rows = 0
        self.last = False
        self.turn = turn

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for part in self.parts:
            counts[part.stream.name] = counts.get(part.stream.name, 0) + len(part.rows)
        return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing new"
