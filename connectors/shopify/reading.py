"""Shopify's GraphQL: rows by pages, by windows of time and by exports.

https://shopify.dev/docs/api/usage/bulk-operations/queries
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kernel.errors import ConnectorError, ProviderUnavailableError
from connectors.kernel.looks import Look, Looks, has_looked
from connectors.kernel.messages import (
    Calls,
    Checkpoint,
    Context,
    Page,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    ask,
)
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.shopify.errors import TooDearError, data_of, denied, is_refused, unapproved
from connectors.shopify.query import EXPORT, Rows, graphql, number, stamp

# Points are taken for the rows that are asked for, and mostly few are there: with full pages the
# five streams would wait for half a minute to find nothing new. So each page asks for no more than
# came before it, and for these at least.
SHORT = 25
# What changed just now may not be found yet, and at times it is found late.
LOOKS = Looks()
# So many rows of one scan come by pages, far below the 25,000 at which paging ends; the rest of a
# longer one is exported.
BY_PAGES = 10_000
PART = 8 * 2**20
# Before there was a Shopify nothing was changed there.
FIRST = datetime(2006, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def since(at: datetime) -> Checkpoint:
    return _Window(since=stamp(at - LOOKS.overlap)).saved()


@dataclass(frozen=True)
class _Window(Position):
    """What is read since a time; so checkpoints were before 2026-12, with when that `started`."""

    since: str | None = None
    started: str | None = None

    def look(self, now: datetime) -> Look:
        begun = datetime.fromisoformat(self.since) if self.since else None
        started = datetime.fromisoformat(self.started) if self.started else now
        return Look(begun, started, started)


@dataclass
class _Scan(Position):
    """All rows, or those that changed since a look began, and how far that has come.

    `from_` and `until` are the times of change that are searched for; with `paged` no export is
    begun any more. `last` is the time of the last row that came, `count` how many came by pages
    since the last cut. Of the file of an `export` it has come to the `offset`. `old` says that rows
    came which are older than what a shop may hide.
    """

    look: Look = field(init=False)
    from_: str | None = None
    until: str | None = None
    after: str | None = None
    count: int = 0
    last: str | None = None
    paged: bool = False
    denied: Sequence[str] = ()
    old: bool = False
    export: str | None = None
    offset: int = 0

    @classmethod
    def at(cls, at: Checkpoint, context: Context) -> "_Scan":
        now, here = context.now, cls.of(at)
        here.look = LOOKS.begin(at, now) if has_looked(at) else _Window.of(at).look(now)
        here.from_ = here.from_ or (stamp(here.look.since) if here.look.since else None)
        return here

    def saved(self) -> Checkpoint:
        return Checkpoint(self.look.saved, **super().saved())

    @property
    def search(self) -> str | None:
        parts = [f"updated_at:>='{self.from_}'"] if self.from_ else []
        parts += [f"updated_at:<'{self.until}'"] if self.until else []
        return " AND ".join(parts) or None

    def came(self, records: Sequence[Record], rows: Rows, now: datetime) -> None:
        """Notes whether the shop shows old rows as well: it does with read_all_orders."""
        if rows.shown and not self.old:
            before = stamp(now - rows.shown - timedelta(days=2))
            self.old = any((row.get("createdAt") or before) < before for row in records)

    def behind(self, response: Response) -> None:
        """No position is ahead of the vendor's clock."""
        now = vendor_time(response)
        self.look = replace(
            self.look, looked=min(self.look.looked, now), late=min(self.look.late, now)
        )

    def cut(self, rows: Rows) -> None:
        """From the last time on, where rows come in that order, else from the start."""
        if rows.ordered and self.last:
            self.from_ = self.last
        self.after, self.count = None, 0

    def go_on(self, rows: Rows, now: datetime) -> None:
        """A query of its own, far from where paging ends."""
        self.paged, self.count = True, 0
        if rows.ordered:
            if self.last != self.from_:
                self.cut(rows)
            return
        lower = datetime.fromisoformat(self.from_) if self.from_ else FIRST
        upper = datetime.fromisoformat(self.until) if self.until else now
        if upper - lower > 2 * SECOND:
            self.from_, self.until = stamp(lower), stamp(lower + (upper - lower) / 2)
            self.after = None

    def next_window(self, now: datetime) -> bool:
        """The window after one that was read to its end, twice as long; False after the last, which
        is open: what changes meanwhile leaves the others."""
        if self.until is None or self.from_ is None:
            return False
        begin, end = (datetime.fromisoformat(one) for one in (self.from_, self.until))
        following = end + 2 * (end - begin)
        self.from_, self.after, self.count = self.until, None, 0
        self.until = stamp(following) if following < now else None
        return True

    def ended(self, records: Sequence[Record], rows: Rows, context: Context) -> Page:
        """The last page."""
        shown_from = context.now - rows.shown if rows.shown and not self.old else None
        return Page(
            records, Checkpoint(self.look.checkpoint), shown_from=shown_from,
            shape=",".join(self.denied), unread=unapproved(self.denied),
        )  # fmt: skip


def scan(rows: Rows, at: Checkpoint, context: Context) -> Reader:
    """All rows, or those that changed since the checkpoint."""
    here = _Scan.at(at, context)
    if here.export and (yield from _exported(rows, here, context)):
        return
    resumed, most = here.after is not None, rows.page
    while True:
        if here.count >= BY_PAGES:
            if not here.paged and (export := (yield from _begin_export(rows, here))):
                here.cut(rows)
                here.export = export
                yield Page((), here.saved())
                if (yield from _exported(rows, here, context)):
                    return
            else:
                here.go_on(rows, context.now)
        size = min(most, max(SHORT, here.count))
        try:
            response = yield from ask(rows.listing(size, here.after, here.search))
        except (TooDearError, ProviderUnavailableError) as error:
            most = _fewer(size, error)
            continue
        if resumed and is_refused(response):
            here.after, resumed = None, False  # it no longer knows that place
            continue
        resumed = False
        found = data_of(response)[rows.connection]
        here.behind(response)
        here.denied = sorted({*here.denied, *denied(response)})
        records, more = found["nodes"], found["pageInfo"]
        here.came(records, rows, context.now)
        if not more["hasNextPage"]:
            if not here.next_window(context.now):
                yield here.ended(records, rows, context)
                return
        else:
            here.after = more["endCursor"]
            here.count += len(records)
            here.last = records[-1]["updatedAt"] if rows.ordered and records else here.last
        yield Page(records, here.saved())


def _fewer(size: int, error: ConnectorError) -> int:
    """How many rows to ask for where so many are too many; the error where there is no less. What
    times out is tried with few once: it may be Shopify that is away."""
    least = 1 if isinstance(error, TooDearError) else SHORT
    if size <= least:
        raise error
    return max(1, size // 4) if isinstance(error, TooDearError) else SHORT


def _begin_export(rows: Rows, here: _Scan) -> Calls[str | None]:
    """The id of a new export; None where Shopify begins none now, as while another one runs."""
    begun = here.last if rows.ordered else here.from_
    request = rows.export(f"updated_at:>='{begun}'" if begun else None)
    answer = data_of((yield from ask(request)))["bulkOperationRunQuery"]
    export = answer["bulkOperation"]
    return str(export["id"]) if export and not answer["userErrors"] else None


def _exported(rows: Rows, here: _Scan, context: Context) -> Reading[bool]:
    """Reads the rest of an export's file, in parts, once it is there. Its link is kept nowhere.

    False where it failed, ended, or is gone: it is kept for a week. Then all of it comes by pages.
    """
    for _ in range(2):  # a link ends after some time: there is a fresh one once
        asked = graphql(EXPORT, {"id": here.export}, budget="exports")
        file = data_of((yield from ask(asked)))["node"]
        if not _is_whole(file):
            break
        size = int(file["fileSize"] or 0)
        if here.offset >= size:
            yield here.ended((), rows, context)
            return True
        while True:
            part = yield from ask(_part(file["url"], here.offset, size))
            content = part.content
            last = here.offset + len(content) >= size
            # The last line need not end.
            lines, _, rest = (content, b"", b"") if last else content.rpartition(b"\n")
            if part.status != 206 or not lines:
                break
            here.offset += len(content) - len(rest)
            records = [json.loads(line) for line in lines.split(b"\n") if line]
            here.came(records, rows, context.now)
            if last:
                yield here.ended(records, rows, context)
                return True
            yield Page(records, here.saved())
    here.export, here.offset, here.paged = None, 0, True
    yield Page((), here.saved())
    return False


def _is_whole(export: Mapping[str, Any] | None) -> bool:
    """Whether it is done, and what it holds is there: one may count rows and have no link to them
    (reported 2026-09)."""
    if export is None or export["status"] != "COMPLETED":
        return False
    return bool(export.get("url")) or not int(export.get("objectCount") or 0)


def _part(url: str, offset: int, size: int) -> Request:
    headers = {
        "range": f"bytes={offset}-{min(offset + PART, size) - 1}",
        "accept-encoding": "identity",
    }
    expect = (400, 403, 404, 410, 416)
    return Request.get(url, headers=headers, file=True, budget="files", expect=expect)


def read_again(rows: Rows, keys: Sequence[str], context: Context) -> Reader:
    """The records of those keys; those that Shopify does not have come out as deleted, or where
    old ones are not shown, as hidden."""
    left, most = list(keys), rows.page
    while left:
        chunk = left[:most]
        try:
            response = yield from ask(rows.again(chunk))
        except TooDearError as error:
            most = _fewer(len(chunk), error)
            continue
        left = left[len(chunk) :]
        found = data_of(response)["nodes"]
        if len(found) != len(chunk):
            raise ValueError("not an answer for each id")
        gone = [number(key) for key, row in zip(chunk, found, strict=True) if row is None]
        records = [row for row in found if row is not None]
        if rows.shown:
            yield Page(records, Checkpoint(), hidden=gone)
        else:
            yield Page(records, Checkpoint(), deleted=gone)
