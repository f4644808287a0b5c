"""How Xero's records are read: documents by the time of their last change, lists whole.

https://developer.xero.com/documentation/api/accounting/requests-and-responses (2026-11)
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    Calls,
    Checkpoint,
    Context,
    ListedKeys,
    Page,
    Position,
    Reader,
    Record,
    Request,
    Response,
    ask,
)
from connectors.kernel.looks import Look, Looks, is_under_way
from connectors.kernel.paging import Read, batches, rows_of
from connectors.kernel.parts import Parts, each_part
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import EPOCH

PAGE = 1000
# So many ids are read again in one call: each takes 39 characters of its address.
IDS = 40
LOOKS = Looks()
# The number is UTC, whatever offset stands behind it.
_TIME = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{2,4})?\)/")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Documents of one kind: where they are listed, under which name too; the field of their id.

    `by_ids` says that several are read again in one call. `lines` is where their lines stand.
    """

    path: str
    key: str
    by_ids: bool = False
    lines: str = "LineItems"
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AtNumber(Position):
    """In a look: the number of the page that comes next."""

    page: int = 1


def call(path: str, context: Context, *, since: datetime | None = None, **params: Any) -> Request:
    """A call for one organisation: a token is good for all that its person let the app into."""
    headers = {"xero-tenant-id": context.account_id}
    if since is not None:
        # UTC in whole seconds, without a zone: what else an HTTP date may look like is ignored.
        headers["if-modified-since"] = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    return Request.get(path, params=params, headers=headers)


def plain(value: Any) -> Any:
    """The same record, with Xero's `/Date(1573755038314+0000)/` as ISO times."""
    if isinstance(value, dict):
        return {name: plain(held) for name, held in value.items()}
    if isinstance(value, list):
        return [plain(held) for held in value]
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        try:
            at = EPOCH + timedelta(milliseconds=int(found[1]))
        except OverflowError:
            return value
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def is_deleted(row: Record) -> bool:
    """A deleted document stays on its list, as one that was voided or archived does; those two are
    still in the books."""
    return row.get("Status") == "DELETED"


def documents(kind: Kind, rows: Sequence[Record], at: datetime) -> Page:
    """The documents themselves. A contact that was merged is left behind with the survivor's id."""
    merged = {row[kind.key]: row["MergedToContactID"] for row in rows if _is_merged(row)}
    deleted = [row[kind.key] for row in rows if is_deleted(row)]
    gone = {*merged, *deleted}
    live = [row for row in rows if row[kind.key] not in gone]
    return Page(live, Checkpoint(), deleted=deleted, merged=merged)


def lines(kind: Kind, rows: Sequence[Record], at: datetime) -> Page:
    """Their lines, which are all there are of a document at the time of its last change."""
    found: list[Record] = []
    listed = []
    for row in rows:
        own = [] if is_deleted(row) else list(_lines_of(kind, row))
        found += own
        prefix = f"{kind.path}/{row[kind.key]}/"
        listed.append(ListedKeys(prefix, [line_key(line) for line in own], at))
    return Page(found, Checkpoint(), listed_keys=listed)


def line_key(line: Record) -> str:
    return f"{line['parent_type']}/{line['parent_id']}/{line['LineItemID']}"


def changed(
    kind: Kind, page_of: Callable[[Kind, Sequence[Record], datetime], Page] = documents
) -> Read:
    """What changed since the last look, the newest first.

    Pages are counted. A document that changes meanwhile moves to the front, and what follows it
    down: it may come twice, none is skipped, and the next look begins before the first page.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        look, page = LOOKS.begin(at, context.now), AtNumber.of(at).page
        begun = is_under_way(at)
        while True:
            paged = {"page": page, "pageSize": PAGE, "order": "UpdatedDateUTC DESC"}
            response = yield from ask(
                call(f"/{kind.path}", context, since=look.since, **kind.params, **paged)
            )
            look, begun = look if begun else _by_their_clock(look, response), True
            rows = _rows(response, kind.path)
            found = page_of(kind, rows, response.sent_at)
            if _is_last(response, page, rows):
                yield replace(found, checkpoint=Checkpoint(look.checkpoint))
                return
            page += 1
            yield replace(found, checkpoint=AtNumber(page).beside(look.saved))

    return read


def again(kind: Kind) -> Callable[[Sequence[str], Context], Reader]:
    """Reads documents by their ids. With a page number they come with their lines."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for asked in batches(keys, IDS if kind.by_ids else 1):
            rows = yield from _by_ids(kind, asked, context)
            found = documents(kind, [row for row in rows if row[kind.key] in asked], context.now)
            shown = {row[kind.key] for row in rows}
            gone = [*found.deleted, *(key for key in asked if key not in shown)]
            yield replace(found, deleted=gone)

    return fetch


def _by_ids(kind: Kind, ids: Sequence[str], context: Context) -> Calls[list[Record]]:
    if kind.by_ids:
        asked: dict[str, Any] = {"IDs": ",".join(ids), "page": 1, "pageSize": PAGE}
        response = yield from ask(call(f"/{kind.path}", context, **kind.params, **asked))
        return _rows(response, kind.path)
    request = call(f"/{kind.path}/{ids[0]}", context)
    response = yield from ask(replace(request, expect=(404,)))
    return [] if response.status == 404 else _rows(response, kind.path)


def line_items(*kinds: Kind) -> Read:
    """The lines of several kinds: each has its own place, and fails by itself."""
    by_path = {kind.path: kind for kind in kinds}

    def listing(context: Context) -> Calls[Parts]:
        yield from ()
        return Parts(tuple(by_path))

    return each_part(
        listing, lambda path: changed(by_path[path], lines), prefix=lambda path: f"{path}/"
    )


def whole(path: str, records: str = "", **params: Any) -> Read:
    """A list that is not paged: all of it, in one call."""

    def read(at: Checkpoint, context: Context) -> Reader:
        response = yield from ask(call(f"/{path}", context, **params))
        rows = [row for row in _rows(response, records or path) if not is_deleted(row)]
        yield Page(rows, Checkpoint())

    return read


def trial_balance(at: Checkpoint, context: Context) -> Reader:
    """The report of today, a row for each account; what it adds up to is left out."""
    response = yield from ask(call("/Reports/TrialBalance", context))
    (report,) = rows_of(response, "Reports")
    names = [cell["Value"] for cell in report["Rows"][0]["Cells"]]
    yield Page(list(_accounts(report["Rows"], names)), Checkpoint())


def _accounts(rows: Sequence[Record], names: Sequence[str], section: str = "") -> Iterator[Record]:
    for row in rows:
        if row["RowType"] == "Section":
            yield from _accounts(row["Rows"], names, row.get("Title", ""))
        elif row["RowType"] == "Row" and (account := _account_of(row["Cells"][0])):
            values = {name: cell["Value"] for name, cell in zip(names, row["Cells"], strict=False)}
            yield {"AccountID": account, "Section": section, **values}


def _account_of(cell: Record) -> str:
    """The account that a cell is about; the sum of a section is about none."""
    marks = cell.get("Attributes") or ()
    return next((str(mark["Value"]) for mark in marks if mark["Id"] == "account"), "")


def _rows(response: Response, records: str) -> list[Record]:
    return [plain(row) for row in rows_of(response, records)]


def _is_last(response: Response, page: int, rows: Sequence[Record]) -> bool:
    """By the count of pages; of a list that has none, only an empty page says so."""
    counted = response.json.get("pagination") or {}
    return not rows or ("pageCount" in counted and page >= int(counted["pageCount"]))


def _by_their_clock(look: Look, response: Response) -> Look:
    now = vendor_time(response)
    return replace(look, looked=min(look.looked, now), late=min(look.late, now))


def _is_merged(row: Record) -> bool:
    return row.get("ContactStatus") == "ARCHIVED" and bool(row.get("MergedToContactID"))


def _lines_of(kind: Kind, row: Record) -> Iterator[Record]:
    of = {
        "parent_type": kind.path,
        "parent_id": row[kind.key],
        "UpdatedDateUTC": row["UpdatedDateUTC"],
    }
    for line in row[kind.lines]:
        yield {**line, **of}
