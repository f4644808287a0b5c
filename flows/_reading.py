"""A connection's streams in batches: what `fetch` takes from the vendor and `persist` stores."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID, uuid4

import psycopg
from sqlalchemy.exc import DBAPIError

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Record,
    RetryableError,
    Stream,
    Unread,
)
from connectors._client import Client
from storage import (
    DatabaseUnavailableError,
    LeaseLostError,
    RefusedError,
    checkpoints,
    inbox,
    leases,
    records,
)
from storage.database import Database
from storage.models import Failure
from storage.runs import failure_of

BATCH_RECORDS = 10_000
BATCH_BYTES = 16 * 1024 * 1024
LEASE_TTL = timedelta(seconds=60)
# A stream that failed so often in a row, for reasons of ours, is read anew; so often at most.
STUCK_AFTER, RESTART_EVERY = 3, timedelta(days=1)
OF_OURS = (Failure.CONTRACT, Failure.OURS)


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
    not get on; `done` marks the last part of a stream's read. `generation` says up to which hint
    such a read goes. What is read of a window only (`aside`) leaves the stream's checkpoint where
    it was; so does a `refill`, which keeps a checkpoint of its own. `unsettled`, `unread`,
    `unseen`, `shown_from` and `shape` are those of its pages.
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


class Reading:
    """Reads the streams of a connection one after another; a failed one leaves the others going."""

    __slots__ = (
        "_client",
        "_context",
        "_full",
        "_pages",
        "_saved",
        "_started",
        "_streams",
        "_turn",
        "_windows",
        "broken",
        "outcomes",
    )

    def __init__(
        self,
        client: Client,
        context: Context,
        streams: Sequence[Stream],
        saved: Mapping[str, checkpoints.Saved],
        *,
        full: bool = False,
        windows: Mapping[str, Checkpoint] | None = None,
    ) -> None:
        """`windows` holds, for streams of which only a part is to be read, where it begins."""
        self._windows = windows or {}
        self._client = client
        self._context = context
        self._streams = streams
        self._saved = saved
        self._full = full
        self._started = time.monotonic()
        self._turn = asyncio.Lock()
        _spare_what_lasts()
        self._pages = self._read_all()
        self.outcomes = {stream.name: Outcome() for stream in streams}
        self.broken: BrokenConnectionError | None = None

    @property
    def integration(self) -> str:
        return self._client.connector.name

    @property
    def requests(self) -> int:
        return self._client.requests

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    async def batch(self) -> Batch:
        """The next batch; bounded, so that memory does not grow with a stream."""
        batch, size = Batch(self._turn), 0
        async for part in self._pages:
            batch.parts.append(part)
            batch.rows += len(part.rows)
            size += sum(len(row.data) for row in part.rows)
            if batch.rows >= BATCH_RECORDS or size >= BATCH_BYTES:
                batch.last = part.done and part.stream is self._streams[-1]
                return batch
        batch.last = True
        return batch

    async def close(self) -> None:
        await self._pages.aclose()

    async def _read_all(self) -> AsyncGenerator[Part, None]:
        for stream in self._streams:
            outcome = self.outcomes[stream.name]
            try:
                async for part in self._read(stream):
                    yield part
            except BrokenConnectionError as error:
                outcome.failed(error)
                self.broken = error
                return
            except ConnectorError as error:
                outcome.failed(error)

    async def _read(self, stream: Stream) -> AsyncGenerator[Part, None]:
        saved = self._saved.get(stream.name)
        if (window := self._windows.get(stream.name)) is not None:
            with suppress(CheckpointExpiredError):  # then all since the checkpoint is read
                async for part in self._read_from(stream, window, None, begins=False, aside=True):
                    yield part
                return
        state, scan = (saved.state, _scan_of(saved)) if saved else (Checkpoint(), None)
        whole = stream.snapshot or (self._full and not stream.append_only)
        begins = whole and scan is None and saved is not None
        restarted = saved is not None and self._is_stuck(saved)
        if begins or restarted:
            state, scan = Checkpoint(), None if stream.append_only else self._new_scan()
            self.outcomes[stream.name].restarted = restarted
        try:
            async for part in self._read_from(
                stream, state, scan, begins=begins or restarted, restarted=restarted
            ):
                yield part
        except CheckpointExpiredError:
            # Deletes of the time between are not told any more: only a full scan finds them.
            # It began now: what this very read has stored before, it may not see either.
            scan = None if stream.append_only else Scan(uuid4(), self._client.now())
            async for part in self._read_from(stream, Checkpoint(), scan, begins=True):
                yield part
        if saved is not None and saved.refill is not None and not stream.snapshot:
            async for part in self._refill(stream, saved.refill):
                yield part

    async def _refill(self, stream: Stream, state: Checkpoint) -> AsyncGenerator[Part, None]:
        """Reads all records again, for the fields that older rows lack; nothing is buried."""
        try:
            async for part in self._read_from(stream, state, None, begins=False):
                yield replace(part, refill=True, aside=True, shape=None)
        except CheckpointExpiredError:
            async for part in self._read_from(stream, Checkpoint(), None, begins=False):
                yield replace(part, refill=True, aside=True, shape=None)

    def _is_stuck(self, saved: checkpoints.Saved) -> bool:
        """Whether the stream fails again and again where it stands, and nobody but us can mend it.

        It is then read anew by itself, once a day at most.
        """
        if saved.failures < STUCK_AFTER or not saved.state:
            return False
        return saved.restarted_at is None or self._context.now - saved.restarted_at > RESTART_EVERY

    async def _read_from(
        self,
        stream: Stream,
        state: Checkpoint,
        scan: Scan | None,
        *,
        begins: bool,
        aside: bool = False,
        restarted: bool = False,
    ) -> AsyncGenerator[Part, None]:
        saved = self._saved.get(stream.name)
        held: Part | None = None  # the last page is known as such only when the reader has ended
        reader = stream.read(state, self._context)
        async for page, observed_at in self._client.read(reader):
            if held is not None:
                yield held
            async with self._turn:
                rows = records.rows(stream, page, observed_at)
            held = Part(
                stream=stream,
                rows=rows,
                checkpoint=page.checkpoint,
                scan=scan,
                begins=begins,
                aside=aside,
                restarted=restarted and begins,
                unsettled=page.unsettled,
                unread=page.unread,
                unseen=page.unseen,
                shown_from=page.shown_from,
                shape=page.shape,
            )
            begins = False
        if held is None:
            raise ContractError(f"the reader of {stream.name} ended without a page")
        yield replace(held, done=True, generation=saved.dirty_generation if saved else 0)

    def _new_scan(self) -> Scan:
        return Scan(uuid4(), self._context.now)


@cache
def _spare_what_lasts() -> None:
    """Once in a process: tell the garbage collector that what was imported is there to stay.

    Pages are so many objects that it would go through the 190,000 of Prefect's again for every two
    batches: 0.7 s of the 5 s of CPU time that 100,000 records took (3.8.8, 2026-11).
    """
    gc.freeze()


def _scan_of(saved: checkpoints.Saved) -> Scan | None:
    if saved.scan_id is None or saved.scan_started_at is None:
        return None
    return Scan(saved.scan_id, saved.scan_started_at)


async def store(
    database: Database,
    lease: leases.Lease,
    integration: str,
    batch: Batch,
    outcomes: Mapping[str, Outcome],
) -> None:
    """Records, deletes and checkpoints of a batch in one transaction that the lease guards."""
    try:
        counted = await _store(database, lease, integration, batch, outcomes)
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(cause, "sqlstate", None) or type(cause).__name__
        # Not chained: PostgreSQL's own message may quote the row, and Prefect stores it.
        raise RefusedError(f"PostgreSQL does not take the batch ({state})") from None
    batch.parts.clear()  # Prefect keeps what a task returned for as long as the flow runs
    for outcome, written, swept, part in counted:  # only what has been committed counts
        outcome.inserted += written.inserted
        outcome.updated += written.updated
        outcome.deleted += written.deleted + swept
        outcome.unchanged += written.unchanged
        outcome.pages += part.pages
        outcome.done = outcome.done or part.done
        outcome.unread = outcome.unread if part.unread is None else part.unread


async def _store(
    database: Database,
    lease: leases.Lease,
    integration: str,
    batch: Batch,
    outcomes: Mapping[str, Outcome],
) -> list[tuple[Outcome, records.Written, int, Part]]:
    counted: list[tuple[Outcome, records.Written, int, Part]] = []
    ids = {"tenant_id": lease.tenant_id, "connection_id": lease.connection_id}
    async with database.transaction(lease.tenant_id) as session:
        await leases.hold(session, lease)
        for part in _joined(batch.parts):
            name = part.stream.name
            if part.begins and part.scan is not None:
                await checkpoints.begin_scan(
                    session, stream=name, scan_id=part.scan.id, started_at=part.scan.started_at,
                    restarted=part.restarted, **ids,
                )  # fmt: skip
            written = await records.write(
                session, batch.turn, stream=f"{integration}.{name}", rows=part.rows,
                scan_id=part.scan.id if part.scan else None, quiet=True, **ids,
            )  # fmt: skip
            if unsettled := [*part.unsettled, *written.missing]:
                await inbox.ask_again(
                    session, integration=integration, stream=name, keys=unsettled, **ids
                )
            swept = 0
            if part.done and part.scan is not None:
                swept = await records.sweep(
                    session, stream=f"{integration}.{name}", scan_id=part.scan.id,
                    started_at=part.scan.started_at, unseen=part.unseen,
                    was_shown=_was_shown(part), **ids,
                )  # fmt: skip
            if part.refill:
                await checkpoints.refill(
                    session, connection_id=lease.connection_id, stream=name,
                    state=None if part.done else part.checkpoint,
                )  # fmt: skip
            if not part.aside:
                await checkpoints.save(
                    session, stream=name, state=part.checkpoint, done=part.done,
                    unread=part.unread, **ids,
                )  # fmt: skip
                if part.done:
                    await checkpoints.note_shape(
                        session, connection_id=lease.connection_id, stream=name,
                        shape=_shape(part),
                    )  # fmt: skip
                if part.done and part.generation:
                    await checkpoints.mark_read(
                        session, connection_id=lease.connection_id, stream=name,
                        generation=part.generation,
                    )  # fmt: skip
            counted.append((outcomes[name], written, swept, part))
    return counted


def _was_shown(part: Part) -> Callable[[Record], bool] | None:
    """Whether a stored record is one that the vendor showed in this listing, if it was there."""
    made_at, shown_from = part.stream.made_at, part.shown_from
    if made_at is None or shown_from is None:
        return None
    return lambda record: made_at(record) >= shown_from


def _shape(part: Part) -> str:
    """Which fields the stream's records have: what its view shows, and what the vendor gives."""
    return f"{sorted(part.stream.columns)} {part.shape or ''}"


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts of one read as one: a COPY for each small page would cost more."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if (
            last
            and last.stream is part.stream
            and last.scan == part.scan
            and last.refill == part.refill
            and not part.begins
        ):
            joined[-1] = replace(
                part,
                rows=[*last.rows, *part.rows],
                pages=last.pages + part.pages,
                begins=last.begins,
                restarted=last.restarted,
                unsettled=[*last.unsettled, *part.unsettled],
                unread=last.unread if part.unread is None else part.unread,
                shape=part.shape or last.shape,
            )
        else:
            joined.append(part)
    return joined


async def note_stumbles(
    database: Database, tenant_id: UUID, connection_id: UUID, outcomes: Mapping[str, Outcome]
) -> None:
    """Counts, for each stream, the reads in a row that failed for a reason only we can mend."""
    stumbled = [name for name, one in outcomes.items() if one.error and one.failure in OF_OURS]
    if stumbled:
        async with database.transaction(tenant_id) as session:
            for name in stumbled:
                await checkpoints.stumbled(session, connection_id=connection_id, stream=name)


@asynccontextmanager
async def renewed(database: Database, lease: leases.Lease) -> AsyncIterator[None]:
    """Keeps a lease alive while the work lasts, also when Prefect's server is away.

    A lease that was lost anyway is noticed by the next commit, which it refuses.
    """

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_TTL.total_seconds() / 4)
            with suppress(DatabaseUnavailableError):  # it may be back before the lease ends
                await leases.renew(database, lease, LEASE_TTL)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError, LeaseLostError):
            await renewing
        await asyncio.shield(leases.release(database, lease))
