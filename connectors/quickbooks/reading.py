"""How QuickBooks' entities are read: queried once, then followed by change data capture.

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    ask,
    column,
)
from connectors.kernel.parts import Parts, each_part
from connectors.kernel.versions import epoch_us, parse_time

PAGE = 1000
# Change data capture: at most this many objects in an answer, over all entities it was asked for.
MOST_CHANGES = 1000
# It looks back 30 days; the margin is for clocks that differ.
HORIZON = timedelta(days=30) - timedelta(hours=1)
# A change is committed a moment after the time it is stamped with.
OVERLAP = timedelta(minutes=5)
# A thousand rows of some kinds take longer than QuickBooks has (seen by its users in 2017).
SMALL_PAGE = 100
# Rows that share one LastUpdatedTime are paged by position; a row that is changed meanwhile leaves
# them, and each that follows moves up by one: a tenth of each page is read again.
SHIFT = 10
# Records read again at once, by their ids.
IDS = 100

ENTITIES = ("Customer", "Invoice", "Payment", "Bill", "Account")
# These are never deleted, only made inactive, and are then hidden unless asked for.
NAME_LISTS = ("Customer", "Account")


def entity_stream(name: str, entity: str, columns: Mapping[str, Column]) -> Stream:
    """Rows of one entity: queried once, then followed by change data capture."""

    def read(at: Checkpoint, context: Context) -> Reader:
        if "since" not in at:
            yield from _backfill(entity, at)
            return
        until = at.get("until")
        if until is None:
            _check_horizon(at, context)
            response = yield from _since(entity, at, context)
            rows = [row for _, row in _changes(response)]
            until = _before(response)
            deleted = [row["Id"] for row in rows if _is_deleted(row)]
            if len(rows) < MOST_CHANGES:
                kept = [row for row in rows if not _is_deleted(row)]
                yield Page(kept, Checkpoint(since=until), deleted=deleted)
                return
            if entity not in NAME_LISTS:
                # Which others were deleted is not to be had from a query.
                raise CheckpointExpiredError(f"more {name} changed than QuickBooks can tell")
            at = Checkpoint(since=at["since"], until=until, start=at["since"])
            yield Page((), at, deleted=deleted)
        scan = {"since": at["since"], "until": until}
        yield from _scan(entity, at, scan, Checkpoint(since=until))

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for first in range(0, len(keys), IDS):
            asked = keys[first : first + IDS]
            rows = _rows((yield from ask(_of_ids(entity, asked))), entity)
            shown = {row["Id"] for row in rows}
            gone = [key for key in asked if key not in shown]
            yield Page(rows, Checkpoint(), deleted=gone)

    return Stream(
        name=name,
        read=read,
        fetch=fetch,
        key="Id",
        version=epoch_us("MetaData.LastUpdatedTime"),
        columns={
            **columns,
            "created_at": column("MetaData.CreateTime", "timestamptz"),
            "updated_at": column("MetaData.LastUpdatedTime", "timestamptz"),
        },
    )


def change_data_capture(at: Checkpoint, context: Context) -> Reader:
    """The latest state of all that changed in the last 30 days, deletions as their stubs.

    All entities are asked for together. Where that is refused, each is read by itself, until none
    is refused any more: a plan may be without one of them.
    """
    parts: Mapping[str, Mapping[str, str]] = at.get("parts", {})
    if not at.get("failed") and not at.get("todo"):
        if parts:
            times = [part.get("since") for part in parts.values()]
            at = Checkpoint({"since": min(filter(None, times))} if all(times) else {})
        try:
            yield from _captures(ENTITIES)(at, context)
        except (NotAllowedError, ContractError):
            since = {"since": at["since"]} if "since" in at else {}
            at = Checkpoint(parts={entity: since for entity in ENTITIES})
        else:
            return
    yield from _apart(at, context)


def _entities(context: Context) -> Calls[Parts]:
    yield from ()
    return Parts(ENTITIES)


def _captures(entities: Sequence[str]) -> Callable[[Checkpoint, Context], Reader]:
    """Reads what changed of those entities; of more than one answer holds, from queries."""

    def read(at: Checkpoint, context: Context) -> Reader:
        since = max(at.get("since", ""), _iso(context.now - HORIZON))
        pending: list[list[str]] = at.get("pending", [list(entities)])
        until = at.get("until")
        while pending:
            group, rest = pending[0], pending[1:]
            if "start" not in at:
                response = yield from ask(_captured(group, since))
                until = until or _before(response)
                rows = [_tagged(entity, row) for entity, row in _changes(response)]
                full = len(rows) >= MOST_CHANGES
                if full and len(group) > 1:
                    half = len(group) // 2
                    pending = [group[:half], group[half:], *rest]
                    continue
                after = _feed(since, until, rest)
                if not full:
                    yield Page(rows, after)
                    pending = rest
                    continue
                at = Checkpoint(since=since, until=until, pending=pending, start=since)
                # The others come with the queries, which do not show what was deleted.
                yield Page([row for row in rows if _is_deleted(row)], at)
            scan = {"since": since, "until": until, "pending": pending}
            yield from _scan(group[0], at, scan, _feed(since, until, rest), tagged=True)
            pending, at = rest, Checkpoint()

    return read


_apart = each_part(
    _entities, lambda entity: _captures([entity]), prefix=lambda entity: f"{entity}:", alone=True
)


def _feed(since: str, until: str | None, pending: list[list[str]]) -> Checkpoint:
    if pending:
        return Checkpoint(since=since, until=until, pending=pending)
    return Checkpoint(since=until)


def _backfill(entity: str, at: Checkpoint) -> Reader:
    """All rows. What changes while they are read is found by the time before the first page."""
    until = at.get("until")
    if until is None:
        response, size = yield from _page(entity, None, 1, PAGE)
        until = _before(response)
        rows = _rows(response, entity)
        if len(rows) < size:
            yield Page(rows, Checkpoint(since=until))
            return
        at = Checkpoint({"until": until, "size": size, **_onward(rows, None, 1)})
        yield Page(rows, at)
    yield from _scan(entity, at, {"until": until}, Checkpoint(since=until))


def _scan(
    entity: str,
    at: Checkpoint,
    scan: Mapping[str, Any],
    done: Checkpoint,
    *,
    tagged: bool = False,
) -> Reader:
    """Rows in the order of their last change, each page from the last time seen on.

    A row that is changed meanwhile moves to the end, where it is read again; none is skipped, as
    it would be when counting positions.
    """
    start, position, size = at["start"], at.get("position", 1), at.get("size", PAGE)
    while True:
        response, size = yield from _page(entity, start, position, size)
        rows = _rows(response, entity)
        page = [_tagged(entity, row) for row in rows] if tagged else rows
        if len(rows) < size:
            yield Page(page, done)
            return
        onward = _onward(rows, start, position)
        start, position = onward["start"], onward["position"]
        yield Page(page, Checkpoint({**scan, "size": size, **onward}))


def _page(entity: str, start: str | None, position: int, size: int) -> Calls[tuple[Response, int]]:
    """A page of rows, and how many were asked for: fewer, where so many are not answered."""
    try:
        return (yield from ask(_select(entity, start, position, size))), size
    except ProviderUnavailableError:
        if size <= SMALL_PAGE:
            raise
    return (yield from ask(_select(entity, start, position, SMALL_PAGE))), SMALL_PAGE


def _onward(rows: list[Record], start: str | None, position: int) -> dict[str, Any]:
    first, last = (rows[at]["MetaData"]["LastUpdatedTime"] for at in (0, -1))
    moment, further = parse_time(last), len(rows) - len(rows) // SHIFT
    if start is not None and moment == parse_time(start):
        return {"start": start, "position": position + further}
    # A page of one moment alone is the first that shows any of it.
    return {"start": last, "position": 1 + further if moment == parse_time(first) else 1}


def _select(entity: str, start: str | None, position: int, size: int) -> Request:
    conditions = []
    if start is not None:
        # Parsed, because it is the vendor's text, and stands in a query of ours.
        time = parse_time(start).isoformat()
        conditions.append(f"MetaData.LastUpdatedTime >= '{time}'")
    order = f"orderby MetaData.LastUpdatedTime startposition {position} maxresults {size}"
    return _query(entity, conditions, order)


def _of_ids(entity: str, ids: Sequence[str]) -> Request:
    quoted = ", ".join("'{}'".format(re.sub(r"(['\\\\])", r"\\\1", id)) for id in ids)
    return _query(entity, [f"Id in ({quoted})"], f"startposition 1 maxresults {PAGE}")


def _query(entity: str, conditions: Sequence[str], rest: str) -> Request:
    if entity in NAME_LISTS:
        conditions = ["Active in (true, false)", *conditions]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    query = f"select * from {entity}{where} {rest}"  # noqa: S608 - Intuit's query language
    return Request.get("/query", params={"query": query})


def _since(entity: str, at: Checkpoint, context: Context) -> Calls[Response]:
    """What changed; CheckpointExpiredError where that is too long ago."""
    try:
        return (yield from ask(_captured((entity,), at["since"])))
    except ContractError:
        # Whatever our clock says: Intuit finds it too old, without a code of its own for that.
        if context.now - parse_time(at["since"]) > timedelta(days=1):
            raise CheckpointExpiredError("QuickBooks tells no changes since that time") from None
        raise


def _captured(entities: list[str] | tuple[str, ...], since: str) -> Request:
    return Request.get("/cdc", params={"entities": ",".join(entities), "changedSince": since})


def _rows(response: Response, entity: str) -> list[Record]:
    # The entity's key is missing where there are no rows.
    rows: list[Record] = response.json["QueryResponse"].get(entity, [])
    return rows


def _changes(response: Response) -> Iterator[tuple[str, Record]]:
    """Each changed row with its entity. Both levels repeat, and hold counters beside the rows."""
    for capture in response.json["CDCResponse"]:
        for group in capture["QueryResponse"]:
            for entity in ENTITIES:
                for row in group.get(entity, ()):
                    yield entity, row


def _is_deleted(row: Record) -> bool:
    return row.get("status") == "Deleted"


def _tagged(entity: str, row: Record) -> Record:
    return {**row, "entity": entity}


def _before(response: Response) -> str:
    """A time at which all that happened is in the answer, by the vendor's clock where it tells."""
    server_time = response.json.get("time")
    return _iso((parse_time(server_time) if server_time else response.sent_at) - OVERLAP)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _check_horizon(at: Checkpoint, context: Context) -> None:
    if context.now - parse_time(at["since"]) > HORIZON:
        raise CheckpointExpiredError("QuickBooks tells the changes of the last 30 days only")
