"""How QuickBooks' entities are read: queried once, then followed by change data capture.

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

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
    columns,
)
from connectors.kernel.paging import batches
from connectors.kernel.parts import Parts, Round, each_part
from connectors.kernel.positions import Position
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
TIMES = columns(
    "created_at=MetaData.CreateTime:timestamptz updated_at=MetaData.LastUpdatedTime:timestamptz"
)


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Between two reads, `since` when changes are asked for. In a read, `until` when all that
    happened is in it; where its scan stands: at the time of change `start`, at a `position` in
    pages of a `size`; and which groups of entities are `pending`."""

    since: str | None = None
    until: str | None = None
    start: str | None = None
    position: int = 1
    size: int = PAGE
    pending: Sequence[list[str]] = ()


def entity_stream(name: str, entity: str, columns: Mapping[str, Column]) -> Stream:
    """Rows of one entity: queried once, then followed by change data capture."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if here.since is None:
            yield from _backfill(entity, here)
            return
        if here.until is None:
            response = yield from _since(entity, here.since, context)
            rows = [row for _, row in _changes(response)]
            until = _before(response)
            deleted = [row["Id"] for row in rows if _is_deleted(row)]
            if len(rows) < MOST_CHANGES:
                kept = [row for row in rows if not _is_deleted(row)]
                yield Page(kept, Place(since=until).saved(), deleted=deleted)
                return
            if entity not in NAME_LISTS:
                # Which others were deleted is not to be had from a query.
                raise CheckpointExpiredError(f"more {name} changed than QuickBooks can tell")
            here = Place(since=here.since, until=until, start=here.since)
            yield Page((), here.saved(), deleted=deleted)
        yield from _scan(entity, here, Place(since=here.until))

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for asked in batches(keys, IDS):
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
            **TIMES,
        },
    )


def change_data_capture(at: Checkpoint, context: Context) -> Reader:
    """The latest state of all that changed in the last 30 days, deletions as their stubs.

    All entities are asked for together. Where that is refused, each is read by itself, until none
    is refused any more: a plan may be without one of them.
    """
    apart = Round.of(at)
    if not apart.failed and not apart.todo:
        if apart.parts:
            times = [Place.of(part).since for part in apart.parts.values()]
            at = Place(since=min(filter(None, times)) if all(times) else None).saved()
        try:
            yield from _captures(ENTITIES)(at, context)
        except (NotAllowedError, ContractError):
            since = Place(since=Place.of(at).since).saved()
            at = Round(parts={entity: since for entity in ENTITIES}).saved()
        else:
            return
    yield from _apart(at, context)


def _entities(context: Context) -> Calls[Parts]:
    yield from ()
    return Parts(ENTITIES)


def _captures(entities: Sequence[str]) -> Callable[[Checkpoint, Context], Reader]:
    """Reads what changed of those entities; of more than one answer holds, from queries."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        since = max(here.since or "", _iso(context.now - HORIZON))
        pending, until = here.pending or [list(entities)], here.until
        while pending:
            group, rest = pending[0], pending[1:]
            if here.start is None:
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
                    yield Page(rows, after.saved())
                    pending = rest
                    continue
                here = Place(since=since, until=until, pending=pending, start=since)
                # The others come with the queries, which do not show what was deleted.
                yield Page([row for row in rows if _is_deleted(row)], here.saved())
            here = replace(here, since=since)
            yield from _scan(group[0], here, _feed(since, until, rest), tagged=True)
            pending, here = rest, Place()

    return read


_apart = each_part(
    _entities, lambda entity: _captures([entity]), prefix=lambda entity: f"{entity}:", alone=True
)


def _feed(since: str, until: str | None, pending: Sequence[list[str]]) -> Place:
    return Place(since=since, until=until, pending=pending) if pending else Place(since=until)


def _backfill(entity: str, here: Place) -> Reader:
    """All rows. What changes while they are read is found by the time before the first page."""
    if here.until is None:
        response, size = yield from _page(entity, here)
        until = _before(response)
        rows = _rows(response, entity)
        if len(rows) < size:
            yield Page(rows, Place(since=until).saved())
            return
        here = _onward(rows, Place(until=until, size=size))
        yield Page(rows, here.saved())
    yield from _scan(entity, here, Place(since=here.until))


def _scan(entity: str, here: Place, done: Place, *, tagged: bool = False) -> Reader:
    """Rows in the order of their last change, each page from the last time seen on.

    A row that is changed meanwhile moves to the end, where it is read again; none is skipped, as
    it would be when counting positions.
    """
    while True:
        response, size = yield from _page(entity, here)
        rows = _rows(response, entity)
        page = [_tagged(entity, row) for row in rows] if tagged else rows
        if len(rows) < size:
            yield Page(page, done.saved())
            return
        here = _onward(rows, replace(here, size=size))
        yield Page(page, here.saved())


def _page(entity: str, here: Place) -> Calls[tuple[Response, int]]:
    """A page of rows, and how many were asked for: fewer, where so many are not answered."""
    try:
        return (yield from ask(_select(entity, here))), here.size
    except ProviderUnavailableError:
        if here.size <= SMALL_PAGE:
            raise
    return (yield from ask(_select(entity, replace(here, size=SMALL_PAGE)))), SMALL_PAGE


def _onward(rows: list[Record], here: Place) -> Place:
    first, last = (rows[at]["MetaData"]["LastUpdatedTime"] for at in (0, -1))
    moment, further = parse_time(last), len(rows) - len(rows) // SHIFT
    if here.start is not None and moment == parse_time(here.start):
        return replace(here, position=here.position + further)
    # A page of one moment alone is the first that shows any of it.
    return replace(here, start=last, position=1 + further if moment == parse_time(first) else 1)


def _select(entity: str, here: Place) -> Request:
    conditions = []
    if here.start is not None:
        # Parsed, because it is the vendor's text, and stands in a query of ours.
        time = parse_time(here.start).isoformat()
        conditions.append(f"MetaData.LastUpdatedTime >= '{time}'")
    place = f"startposition {here.position} maxresults {here.size}"
    return _query(entity, conditions, f"orderby MetaData.LastUpdatedTime {place}")


def _of_ids(entity: str, ids: Sequence[str]) -> Request:
    quoted = ", ".join("'{}'".format(re.sub(r"(['\\\\])", r"\\\1", id)) for id in ids)
    return _query(entity, [f"Id in ({quoted})"], f"startposition 1 maxresults {PAGE}")


def _query(entity: str, conditions: Sequence[str], rest: str) -> Request:
    if entity in NAME_LISTS:
        conditions = ["Active in (true, false)", *conditions]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    query = f"select * from {entity}{where} {rest}"  # noqa: S608 - Intuit's query language
    return Request.get("/query", params={"query": query})


def _since(entity: str, since: str, context: Context) -> Calls[Response]:
    """What changed; CheckpointExpiredError where that is too long ago."""
    if context.now - parse_time(since) > HORIZON:
        raise CheckpointExpiredError("QuickBooks tells the changes of the last 30 days only")
    try:
        return (yield from ask(_captured((entity,), since)))
    except ContractError:
        # Whatever our clock says: Intuit finds it too old, without a code of its own for that.
        if context.now - parse_time(since) > timedelta(days=1):
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
