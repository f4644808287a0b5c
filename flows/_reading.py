"""A connection's streams, read one after another into batches."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from uuid import uuid4

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Stream,
)
from connectors.kernel.client import Client
from flows._batches import Audit, Batch, Known, Outcome, Part, Scan
from storage import checkpoints, records

BATCH_RECORDS = 10_000
BATCH_BYTES = 16 * 1024 * 1024
# A stream that failed so often in a row, for reasons of ours, is read anew; so often at most.
STUCK_AFTER, RESTART_EVERY = 3, timedelta(days=1)
# Of the keys that a delta names after an audit began, this many are enough.
MOST_CHANGED = 20_000


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
        _freeze_gc()
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
            # The vendor no longer lists the deletes of that time: only a full scan finds them.
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

        What the stream's own delta names once that is done has changed meanwhile, and did not.
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
            changed = frozenset() if stream.snapshot else await self._changed_since(stream, before)
            yield replace(last, changed_since=changed)

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

    async def _changed_since(self, stream: Stream, before: Checkpoint) -> frozenset[str]:
        """The keys that the stream's delta names since then. It stores nothing."""
        changed: set[str] = set()
        with suppress(CheckpointExpiredError):
            async for page, observed_at in self._client.read(stream.read(before, self._context)):
                changed |= {row.record_id for row in records.rows(stream, page, observed_at)}
                if len(changed) >= MOST_CHANGED:
                    break
        return frozenset(changed)

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
        context = self._context
        if begins and saved is not None and not restarted:
            context = replace(context, before=saved.state)
        async for page, observed_at in self._client.read(stream.read(state, context)):
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
def _freeze_gc() -> None:
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
