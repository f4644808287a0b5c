"""A connection's streams in batches: what `fetch` takes from the vendor and `persist` stores."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import TypeAlias
from uuid import UUID, uuid4

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

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
    audits,
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
# Of what a delta tells since an audit began, so many keys are enough.
MOST_TOLD = 20_000
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
    not get on; `done` marks the last part of a stream's read; after a `final` one nothing more
    comes of the stream. `generation` says up to which hint such a read goes. What is read of a
    window only (`aside`) leaves the stream's checkpoint where it was; so does a `refill`, which
    keeps a checkpoint of its own. In an `audit` what differs is counted; `listed` are keys that a
    listing has shown, and `told`, on its last part, those that the stream's own delta tells of.
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
    told: frozenset[str] | None = None


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


class Reading:
    """Reads the streams of a connection one after another; a failed one leaves the others going."""

    __slots__ = (
        "_audit",
        "_client",
        "_context",
        "_full",
        "_known",
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
        audit: Mapping[str, timedelta] | None = None,
        known: Known | None = None,
    ) -> None:
        """`windows` holds, for streams of which only a part is to be read, where it begins.

        Streams in `audit` are checked against what the vendor lists, with how often that is done;
        `known` gives the versions that are stored.
        """
        self._audit = audit or {}
        self._known = known
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
                batch.last = part.done and part.final and part.stream is self._streams[-1]
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
        if stream.name in self._audit and saved is not None and saved.last_synced_at is not None:
            async for part in self._check(stream, saved, self._audit[stream.name]):
                yield part
            return
        refills = saved is not None and saved.refill is not None and not stream.snapshot
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
                yield replace(part, final=part.final and not refills)
        except CheckpointExpiredError:
            # Deletes of the time between are not told any more: only a full scan finds them.
            # It began now: what this very read has stored before, it may not see either.
            scan = None if stream.append_only else Scan(uuid4(), self._client.now())
            async for part in self._read_from(stream, Checkpoint(), scan, begins=True):
                yield replace(part, final=part.final and not refills)
        if saved is not None and saved.refill is not None and refills:
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

    async def _check(
        self, stream: Stream, saved: checkpoints.Saved, every: timedelta
    ) -> AsyncGenerator[Part, None]:
        """Reads what is new, then everything that the vendor lists; what differs then has drifted.

        What the stream's own delta tells of once that is done has changed meanwhile, and did not.
        A listing begins anew where it was interrupted; a read of everything goes on.
        """
        audit = Audit(saved.scan_id or uuid4(), every, begins=saved.scan_id is None)
        before = saved.state
        if saved.scan_id is None and not stream.snapshot:
            async for part in self._read_from(stream, before, None, begins=False):
                before = part.checkpoint
                yield replace(part, final=False)
        parts = (
            self._list(stream, audit, before) if stream.listing else self._all(stream, saved, audit)
        )
        last: Part | None = None
        async for part in parts:
            if last is not None:
                yield replace(last, final=False)
            last = replace(part, audit=audit)
            audit = replace(audit, begins=False)
        if last is not None:
            told = frozenset() if stream.snapshot else await self._told(stream, before)
            yield replace(last, told=told)

    async def _all(
        self, stream: Stream, saved: checkpoints.Saved, audit: Audit
    ) -> AsyncGenerator[Part, None]:
        scan = _scan_of(saved)
        begins = scan is None
        if scan is None and not stream.append_only:
            scan = Scan(audit.id, self._client.now())
        state = Checkpoint() if begins else saved.state
        async for part in self._read_from(stream, state, scan, begins=begins):
            yield part

    async def _list(
        self, stream: Stream, audit: Audit, before: Checkpoint
    ) -> AsyncGenerator[Part, None]:
        """Keys and versions of everything; whole records only of what differs."""
        if stream.listing is None or stream.fetch is None or self._known is None:
            raise ContractError(f"{stream.name}: a listing needs a way to read what it shows")
        scan = Scan(audit.id, self._client.now())
        held: Part | None = None
        async for page, _ in self._client.read(stream.listing(Checkpoint(), self._context)):
            if held is not None:
                yield held
            listed = records.listed(stream, page)
            known = await self._known(stream, list(listed))
            wrong = [key for key, version in listed.items() if is_stale(version, key, known)]
            rows: list[records.Row] = []
            if wrong:
                reader = stream.fetch(wrong, self._context)
                async for found, observed_at in self._client.read(reader):
                    rows += records.rows(stream, found, observed_at)
            held = Part(
                stream=stream, rows=rows, checkpoint=before, aside=True, listed=list(listed),
                scan=scan, unseen=page.unseen, unread=page.unread, shown_from=page.shown_from,
            )  # fmt: skip
        if held is not None:
            yield replace(held, done=True)

    async def _told(self, stream: Stream, before: Checkpoint) -> frozenset[str]:
        """Keys of which the stream's delta tells since then, without storing anything."""
        told: set[str] = set()
        with suppress(CheckpointExpiredError):
            async for page, observed_at in self._client.read(stream.read(before, self._context)):
                told |= {row.record_id for row in records.rows(stream, page, observed_at)}
                if len(told) >= MOST_TOLD:
                    break
        return frozenset(told)

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


def is_stale(version: int | None, key: str, known: Mapping[str, int | None]) -> bool:
    """Whether a listed record is to be read: it is not stored, or in another version."""
    if key not in known:
        return True
    return version is not None and known[key] is not None and version != known[key]


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
            counts = part.audit is not None and not part.stream.snapshot
            if part.audit is not None and part.audit.begins:
                await audits.begin(session, audit_id=part.audit.id, stream=name, **ids)
            written = await records.write(
                session, batch.turn, stream=f"{integration}.{name}", rows=part.rows,
                scan_id=part.scan.id if part.scan else None, quiet=True, tell_keys=counts, **ids,
            )  # fmt: skip
            if part.listed and part.scan is not None:
                await records.see(
                    session, stream=f"{integration}.{name}", scan_id=part.scan.id,
                    keys=part.listed, **ids,
                )  # fmt: skip
            if unsettled := [*part.unsettled, *written.missing]:
                await inbox.ask_again(
                    session, integration=integration, stream=name, keys=unsettled, **ids
                )
            swept = 0
            if part.audit is not None:
                await _note_differences(session, lease, integration, part, written)
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


async def _note_differences(
    session: AsyncSession,
    lease: leases.Lease,
    integration: str,
    part: Part,
    written: records.Written,
) -> None:
    """Counts what an audit found, before it is swept; and ends the audit with its last part."""
    assert part.audit is not None  # noqa: S101 - who calls has looked
    extra = list(written.keys[2])
    if part.done and part.scan is not None and not part.stream.snapshot:
        extra += await records.unseen(
            session, stream=f"{integration}.{part.stream.name}", scan_id=part.scan.id,
            connection_id=lease.connection_id, started_at=part.scan.started_at,
            prefixes=part.unseen,
        )  # fmt: skip
    found = audits.Differences(
        len(part.listed) or len(part.rows), written.keys[0], written.keys[1], extra
    )
    await audits.note(session, part.audit.id, found)
    if part.told is not None:
        await audits.end(session, part.audit.id, told=part.told, every=part.audit.every)


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
            and last.audit == part.audit
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
                listed=[*last.listed, *part.listed],
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
