"""How the rows of a Salesforce object are read: all of them, what changed, and what was deleted.

Each page is a query of its own that goes on where the last row stood, so there is no cursor of the
vendor's that could lapse.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-query.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ContractError,
    Page,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    Stream,
    ask,
    columns,
)
from connectors.kernel.paging import batches
from connectors.kernel.positions import Position
from connectors.kernel.versions import epoch_us, parse_time
from connectors.salesforce import bulk as bulk
from connectors.salesforce.query import (
    IDS,
    MANY_IDS,
    Sobject,
    among,
    described,
    eighteen,
    error_code,
    is_chosen,
    literal,
    quoted,
    rows_by,
    written,
)

# A backfill of more pages goes on as a bulk job: one call for what would be twenty-five.
BY_PAGES = 25
# A row is stamped when it is saved, and seen when its transaction ends, which may take ten minutes.
OVERLAP = timedelta(minutes=15)
# Salesforce lists deletions for 15 days; the margin covers the time until our request arrives.
DELETIONS_KEPT = timedelta(days=15) - timedelta(hours=1)
# The log knows whole minutes only, and two of them at the least.
SHORTEST = timedelta(minutes=2)

TIMES = columns("created_at=CreatedDate:timestamptz updated_at=SystemModstamp:timestamptz")


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Between two reads, `since` when changes are read; in one, when it `started`.

    All rows are read up to the id `after`, by so many `pages` (None: no job is begun any more), or
    up to the `locator` in what a `job` found. Changes are read up to a `place`, a time and an id;
    in the `phase` "deleted" what is left is the log of deletions.
    """

    since: str = ""
    started: str = ""
    after: str = ""
    pages: int | None = 0
    job: str = ""
    locator: str = ""
    place: Sequence[str] = ()
    phase: str = ""


def object_stream(name: str, sobject: str, columns: Mapping[str, Column]) -> Stream:
    """Rows of one standard object."""

    def read(at: Checkpoint, context: Context) -> Reader:
        if is_chosen(sobject, context):
            yield from read_rows(sobject, at, context)
        else:
            yield Page((), at)

    def listing(at: Checkpoint, context: Context) -> Reader:
        if is_chosen(sobject, context):
            yield from list_rows(sobject, at, context)
        else:
            yield Page((), at)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        if is_chosen(sobject, context):
            yield from fetch_rows(sobject, keys, context)

    return Stream(
        name=name,
        read=read,
        listing=listing,
        fetch=fetch,
        window=lambda since: Place(since=written(since - OVERLAP)).saved(),
        key="Id",
        version=epoch_us("SystemModstamp"),
        columns={**columns, **TIMES},
    )


def read_rows(name: str, at: Checkpoint, context: Context) -> Reader:
    """All rows of an object, or what happened to them since the checkpoint."""
    sobject = yield from described(name, context)
    here = Place.of(at)
    yield from (_delta if here.since else _backfill)(sobject, here)


def list_rows(name: str, at: Checkpoint, context: Context) -> Reader:
    """Ids and versions of all rows."""
    sobject = yield from described(name, context)
    here = Place.of(at)
    yield from _backfill(sobject.narrow(), Place() if here.since else here)


def fetch_rows(name: str, keys: Sequence[str], context: Context) -> Reader:
    """Rows by their ids; what became of those that are not among them."""
    sobject = yield from described(name, context)
    for some in batches(keys, IDS):
        of = {eighteen(key): key for key in some}
        rows, _, sobject = yield from rows_by(sobject, among(list(of)))
        found = {row["Id"] for row in rows}
        fates = yield from _fates(sobject, [id_ for id_ in of if id_ not in found])
        yield Page(
            rows,
            Checkpoint(),
            deleted=[of[id_] for id_ in fates.deleted],
            merged={of[id_]: survivor for id_, survivor in fates.merged.items()},
            # Not even in the recycle bin: purged, or not shared with the user any more.
            hidden=[of[id_] for id_ in fates.unknown],
        )


class _Fates:
    """What became of rows: the recycle bin's are deleted, or merged into another one."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.deleted: list[str] = []
        self.merged: dict[str, str] = {}
        self.unknown: list[str] = []

    def take(self, row: Record) -> None:
        if not row.get("IsDeleted"):
            self.live.append(row["Id"])
        elif survivor := row.get("MasterRecordId"):
            self.merged[row["Id"]] = str(survivor)
        else:
            self.deleted.append(row["Id"])


def _fates(sobject: Sobject, ids: Sequence[str]) -> Steps[_Fates]:
    fates = _Fates()
    names = [n for n in ("Id", "IsDeleted", "MasterRecordId") if n in sobject.fields]
    asked = replace(sobject, fields={name: sobject.fields[name] for name in names}, groups=1)
    for some in batches(ids, MANY_IDS):
        rows, _, _ = yield from rows_by(asked, among(some), binned=sobject.tells_deletions)
        for row in rows:
            fates.take(row)
        found = {row["Id"] for row in rows}
        fates.unknown += [id_ for id_ in some if id_ not in found]
    return fates


def _backfill(sobject: Sobject, here: Place) -> Reader:
    """Every row, by its id: what changes meanwhile keeps its place, and is read again after.

    Where pages come to no end, the rest is left to a bulk job; where that fails, to pages again.
    """
    here = _started(sobject, here)
    if here.job:
        if (yield from _read_job(sobject, here, done=_since(here))):
            return
        here = replace(here, job="", locator="", pages=None)
        yield Page((), here.saved())
    while True:
        where = f"Id > {quoted(here.after)}" if here.after else ""
        rows, last, sobject = yield from rows_by(sobject, where, "Id")
        if last:
            yield Page(rows, _since(here).saved(), shape=sobject.shape)
            return
        pages = None if here.pages is None else here.pages + 1
        here = replace(here, after=rows[-1]["Id"], pages=pages)
        yield Page(rows, here.saved())
        if pages is not None and pages >= BY_PAGES:
            if job := (yield from bulk.begin(sobject.select(f"Id > {quoted(here.after)}"))):
                here = replace(here, job=job, pages=0)
                yield Page((), here.saved())
                yield from _backfill(sobject, here)
                return
            here = replace(here, pages=None)


def _read_job(sobject: Sobject, here: Place, *, done: Place) -> Reading[bool]:
    """The rest of a bulk job's rows; False where it came to nothing, and they are read by pages.

    A locator names each part of its results; a part reads the same when it is read again.
    """
    if not (yield from bulk.is_complete(here.job)):
        return False
    while True:
        part = yield from ask(bulk.results(here.job, here.locator))
        if part.status == 404:
            return False
        rows = bulk.rows(part.content, sobject.fields)
        locator = part.headers.get("sforce-locator", "null")
        if locator == "null":
            yield Page(rows, done.saved(), shape=sobject.shape)
            return True
        here = replace(here, locator=locator)
        yield Page(rows, here.saved())


def _started(sobject: Sobject, here: Place) -> Place:
    return replace(here, started=here.started or written(sobject.now))


def _since(here: Place) -> Place:
    """To follow what changed, after this read."""
    return Place(since=written(parse_time(here.started) - OVERLAP))


def _delta(sobject: Sobject, here: Place) -> Reader:
    """What changed, in the order of its last change; then what was deleted without a trace."""
    here = _started(sobject, here)
    if not sobject.tells_deletions:
        yield from _changed(sobject, here, done=_since(here))
        return
    if sobject.now - parse_time(here.since) > DELETIONS_KEPT:
        raise CheckpointExpiredError("Salesforce tells the deletions of the last 15 days only")
    deleted = replace(here, place=(), phase="deleted")
    if not here.phase:
        yield from _changed(sobject, here, done=deleted)
    yield from _deleted(sobject, deleted)


def _changed(sobject: Sobject, here: Place, *, done: Place) -> Reader:
    """Rows by change time; those of one second, which an import makes by the thousand, by id.

    A row that is changed meanwhile moves to the end. The recycle bin's are among them, as deleted.
    """
    while True:
        where = f"SystemModstamp >= {literal(here.since)}"
        if here.place:
            moment, last_id = literal(here.place[0]), quoted(here.place[1])
            where = f"SystemModstamp > {moment} OR (SystemModstamp = {moment} AND Id > {last_id})"
        rows, last, sobject = yield from rows_by(
            sobject, where, "SystemModstamp, Id", binned=sobject.tells_deletions
        )
        fates = _Fates()
        for row in rows:
            fates.take(row)
        live = [row for row in rows if not row.get("IsDeleted")]
        if not last:
            here = replace(here, place=[rows[-1]["SystemModstamp"], rows[-1]["Id"]])
        yield Page(
            live,
            (done if last else here).saved(),
            deleted=fates.deleted,
            merged=fates.merged,
            shape=sobject.shape if last else None,
        )
        if last:
            return


def _deleted(sobject: Sobject, here: Place) -> Reader:
    """The log of deletions, which knows of those, too, that left the recycle bin at once.

    It does not forget one that was brought back: each is asked for by its id.
    """
    windows = [(parse_time(here.since), sobject.now)]
    covered = parse_time(here.started) - OVERLAP
    while windows:
        start, end = windows.pop(0)
        params = {"start": written(start), "end": written(end)}
        response = yield from ask(
            Request.get(f"/sobjects/{sobject.name}/deleted/", params=params, expect=(400,))
        )
        if response.status == 400:
            windows = [*_halves(response, start, end), *windows]
            continue
        answer = response.json
        if _time(answer.get("earliestDateAvailable"), start) > start:
            raise CheckpointExpiredError("Salesforce no longer knows all that was deleted")
        # Salesforce reports a transaction that was under way only later, so we do not go on from
        # the end of the window, but from the time that the answer covers. Some answers
        # do not say it (PipedreamHQ/pipedream#19577, 2025-12).
        covered = min(covered, _time(answer.get("latestDateCovered"), covered))
        fates = yield from _fates(
            sobject, [eighteen(row["id"]) for row in answer["deletedRecords"]]
        )
        yield Page(
            (),
            (here if windows else Place(since=written(covered))).saved(),
            deleted=[*fates.deleted, *fates.unknown],
            merged=fates.merged,
            shape=None if windows else sobject.shape,
        )


def _time(text: str | None, otherwise: datetime) -> datetime:
    return parse_time(text) if text else otherwise


def _halves(
    response: Response, start: datetime, end: datetime
) -> tuple[tuple[datetime, datetime], ...]:
    """The window in two, where it holds more than the vendor tells in one answer."""
    code = error_code(response)
    if code == "INVALID_REPLICATION_DATE":
        raise CheckpointExpiredError("Salesforce no longer tells the deletions of that time")
    if code != "EXCEEDED_ID_LIMIT" or end - start < 2 * SHORTEST:
        raise ContractError("Salesforce refused to tell what was deleted")
    middle = start + (end - start) / 2
    return (start, middle), (middle, end)
