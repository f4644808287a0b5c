"""How the rows of a Salesforce object are read: all of them, what changed, and what was deleted.

Each page is a query of its own that goes on where the last row stood, so there is no cursor of the
vendor's that could lapse.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-query.html
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    Whole,
    column,
)
from connectors import _salesforce_bulk as bulk
from connectors._versions import epoch_us, parse_time

PAGE = 2_000
# A backfill of more pages goes on as a bulk job: one call for what would be twenty-five.
BY_PAGES = 25
# Ids in one query: its text has to fit into an address.
IDS = 100
# A row is stamped when it is saved, and seen when its transaction ends, which may take ten minutes.
OVERLAP = timedelta(minutes=15)
# Deletions are told for 15 days; the margin is for the time until our request is there.
DELETIONS_KEPT = timedelta(days=15) - timedelta(hours=1)
# The feed knows whole minutes only, and two of them at the least.
SHORTEST = timedelta(minutes=2)
# Other values for each user and at each look: no changes of the record.
PERSONAL = ("LastViewedDate", "LastReferencedDate")
# Made of other fields, or files of their own.
LEFT_OUT = ("address", "location", "base64")
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
_NAME = re.compile(r"[A-Za-z]\w{0,79}", re.ASCII)
_SUFFIXES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

Steps: TypeAlias = Generator[Request, Response, "Sobject"]


@dataclass(frozen=True)
class Sobject:
    """An object, and the types of its fields that are read, by name."""

    name: str
    fields: Mapping[str, str]

    @property
    def tells_deletions(self) -> bool:
        """Whether its rows can be deleted at all: users are only made inactive."""
        return "IsDeleted" in self.fields

    def select(self, where: str, order: str = "", *, paged: bool = True) -> str:
        """The query for those rows, with every field; for a page of them, unless it is for all."""
        text = f"SELECT {', '.join(self.fields)} FROM {self.name}"  # noqa: S608 - SOQL
        text += f" WHERE {where}" if where else ""
        text += f" ORDER BY {order}" if order else ""
        return f"{text} LIMIT {PAGE}" if paged else text


def object_stream(name: str, sobject: str, columns: Mapping[str, Column]) -> Stream:
    """Rows of one standard object."""

    def read(at: Checkpoint, context: Context) -> Reader:
        if is_chosen(sobject, context):
            yield from read_rows(sobject, at, context)
        else:
            yield Page((), at)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        if is_chosen(sobject, context):
            yield from fetch_rows(sobject, keys)

    return Stream(
        name=name,
        read=read,
        fetch=fetch,
        window=lambda since: Checkpoint(since=written(since - OVERLAP)),
        key="Id",
        version=epoch_us("SystemModstamp"),
        columns={**columns, **TIMES},
    )


TIMES = {
    "created_at": column("CreatedDate", "timestamptz"),
    "updated_at": column("SystemModstamp", "timestamptz"),
}


def chosen(context: Context) -> frozenset[str] | None:
    """The objects that the tenant wants, in small letters; None where it wants all."""
    named = str(context.config.get("objects") or "all").lower().replace(",", " ").split()
    return None if "all" in named else frozenset(named)


def is_chosen(sobject: str, context: Context) -> bool:
    wanted = chosen(context)
    return wanted is None or sobject.lower() in wanted


def read_rows(name: str, at: Checkpoint, context: Context) -> Reader:
    """All rows of an object, or what happened to them since the checkpoint."""
    sobject = yield from described(name)
    if "since" in at:
        yield from _delta(sobject, at, context)
    else:
        yield from _backfill(sobject, at, context)


def fetch_rows(name: str, keys: Sequence[str]) -> Reader:
    """Rows by their ids; what is not among them is gone."""
    sobject = yield from described(name)
    for first in range(0, len(keys), IDS):
        ids = [eighteen(key) for key in keys[first : first + IDS]]
        where = f"Id IN ({', '.join(map(quoted, ids))})"
        rows = _rows((yield _query("query", sobject.select(where))))
        found = {row["Id"] for row in rows}
        gone = [key for key, id_ in zip(keys[first:], ids, strict=False) if id_ not in found]
        yield Page(rows, Checkpoint(), deleted=gone)


def described(name: str) -> Steps:
    """The object and its fields; NotAllowedError where the user may not see it."""
    if not _NAME.fullmatch(name):
        raise ContractError("Salesforce has no object of such a name")
    response = yield Request.get(f"/sobjects/{quote(name)}/describe", expect=(404,))
    if response.status == 404:
        raise NotAllowedError(f"the Salesforce user may not see the object {name}, or has none")
    fields = {
        field["name"]: field["type"]
        for field in response.json["fields"]
        if field["type"] not in LEFT_OUT and field["name"] not in PERSONAL
    }
    if not all(_NAME.fullmatch(each) for each in (response.json["name"], *fields)):
        raise ContractError("Salesforce named a field that cannot stand in a query")
    return Sobject(response.json["name"], fields)


def _backfill(sobject: Sobject, at: Checkpoint, context: Context) -> Reader:
    """Every row, by its id: what changes meanwhile keeps its place, and is read again after.

    Where pages come to no end, the rest is left to a bulk job; where that fails, to pages again.
    """
    started, after = at.get("started", written(context.now)), at.get("after")
    if "job" in at:
        if (yield from _read_job(sobject, at, done=since(started))):
            return
        at = Checkpoint(started=started, after=after, pages=None)
        yield Page((), at)
    pages = at.get("pages", 0)
    while True:
        where = f"Id > {quoted(after)}" if after else ""
        response = yield _query("query", sobject.select(where, "Id"))
        rows = _rows(response)
        if _is_last(response, rows):
            yield Page(rows, since(started))
            return
        after, pages = rows[-1]["Id"], None if pages is None else pages + 1
        yield Page(rows, Checkpoint(started=started, after=after, pages=pages))
        if pages is not None and pages >= BY_PAGES:
            text = sobject.select(f"Id > {quoted(after)}", paged=False)
            if job := (yield from bulk.begin(text)):
                at = Checkpoint(started=started, after=after, job=job)
                yield Page((), at)
                yield from _backfill(sobject, at, context)
                return
            pages = None


def _read_job(
    sobject: Sobject, at: Checkpoint, *, done: Checkpoint
) -> Generator[Request | Page, Any, bool]:
    """The rest of a bulk job's rows; False where it came to nothing, and they are read by pages.

    Its results are told by a locator each; one that was read is the same when it is read again.
    """
    locator = at.get("locator", "")
    if not (yield from bulk.is_complete(at["job"])):
        return False
    while True:
        part = yield bulk.results(at["job"], locator)
        if part.status == 404:
            return False
        rows = bulk.rows(part.json, sobject.fields)
        locator = part.headers.get("sforce-locator", "null")
        if locator == "null":
            yield Page(rows, done)
            return True
        yield Page(rows, Checkpoint(at, locator=locator))


def since(started: str) -> Checkpoint:
    """To follow what changed, after a read that began then."""
    return Checkpoint(since=written(parse_time(started) - OVERLAP))


def _delta(sobject: Sobject, at: Checkpoint, context: Context) -> Reader:
    """What changed, in the order of its last change; then what was deleted without a trace."""
    started = at.get("started", written(context.now))
    scan = Checkpoint(since=at["since"], started=started)
    if not sobject.tells_deletions:
        yield from _changed(sobject, at, scan, done=since(started))
        return
    if context.now - parse_time(at["since"]) > DELETIONS_KEPT:
        raise CheckpointExpiredError("Salesforce tells the deletions of the last 15 days only")
    deleted = Checkpoint(scan, phase="deleted")
    if at.get("phase") != "deleted":
        yield from _changed(sobject, at, scan, done=deleted)
    yield from _deleted(sobject, deleted, context)


def _changed(sobject: Sobject, at: Checkpoint, scan: Checkpoint, *, done: Checkpoint) -> Reader:
    """Rows by change time; those of one second, which an import makes by the thousand, by id.

    A row that is changed meanwhile moves to the end. The recycle bin's are among them, as deleted.
    """
    place = at.get("place")
    resource = "queryAll" if sobject.tells_deletions else "query"
    while True:
        where = f"SystemModstamp >= {_literal(scan['since'])}"
        if place:
            moment, last = _literal(place[0]), quoted(place[1])
            where = f"SystemModstamp > {moment} OR (SystemModstamp = {moment} AND Id > {last})"
        response = yield _query(resource, sobject.select(where, "SystemModstamp, Id"))
        rows = _rows(response)
        live = [row for row in rows if not row.get("IsDeleted")]
        gone = [row["Id"] for row in rows if row.get("IsDeleted")]
        if _is_last(response, rows):
            yield Page(live, done, deleted=gone)
            return
        place = [rows[-1]["SystemModstamp"], rows[-1]["Id"]]
        yield Page(live, Checkpoint(scan, place=place), deleted=gone)


def _deleted(sobject: Sobject, at: Checkpoint, context: Context) -> Reader:
    """The log of deletions, which knows of those, too, that left the recycle bin at once."""
    windows = [(parse_time(at["since"]), context.now)]
    covered = parse_time(at["started"]) - OVERLAP
    while windows:
        start, end = windows.pop(0)
        params = {"start": written(start), "end": written(end)}
        response = yield Request.get(
            f"/sobjects/{sobject.name}/deleted/", params=params, expect=(400,)
        )
        if response.status == 400:
            windows = [*_halves(response, start, end), *windows]
            continue
        if parse_time(response.json["earliestDateAvailable"]) > start:
            raise CheckpointExpiredError("Salesforce no longer knows all that was deleted")
        covered = min(covered, parse_time(response.json["latestDateCovered"]))
        gone = [row["id"] for row in response.json["deletedRecords"]]
        # A transaction that was under way is told of later, hence not from the end of the window.
        yield Page((), at if windows else Checkpoint(since=written(covered)), deleted=gone)


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


def custom_objects(at: Checkpoint, context: Context) -> Reader:
    """Rows of the org's own objects, one object after the other."""
    names, asked = yield from _custom_names(context)
    kept = {name: held for name, held in at.get("objects", {}).items() if name in names}
    dropped = [name for name in at.get("objects", {}) if name not in names]
    left = [name for name in at.get("left", names) if name in names]
    # No row of an object that is no longer there is ever told of as deleted.
    wholes = [Whole(f"{name}:", (), asked.sent_at) for name in dropped]
    begin = {name: value for name, value in at.items() if name == "window"}
    yield Page((), _among(begin, kept, left), whole=wholes)
    while left:
        name = left[0]
        start = kept.get(name) or ({"since": begin["window"]} if begin else {})
        reader, answer = read_rows(name, Checkpoint(start), context), None
        while (action := _next(reader, answer)) is not None:
            if isinstance(action, Page):
                kept[name], answer = dict(action.checkpoint), None
                rows = [_named(name, row) for row in action.records]
                gone = [f"{name}:{key}" for key in action.deleted]
                yield Page(rows, _among(begin, kept, left), deleted=gone)
            else:
                answer = yield action
        left = left[1:]
        yield Page((), _among(begin, kept, left))


def fetch_custom(keys: Sequence[str], context: Context) -> Reader:
    """Rows of the org's own objects by their keys, `Invoice__c:a00…`."""
    of: dict[str, list[str]] = {}
    for key in keys:
        name, _, id_ = key.partition(":")
        if is_chosen(name, context):
            of.setdefault(name, []).append(id_)
    for name, ids in of.items():
        reader, answer = fetch_rows(name, ids), None
        while (action := _next(reader, answer)) is not None:
            if isinstance(action, Page):
                rows = [_named(name, row) for row in action.records]
                yield Page(rows, Checkpoint(), deleted=[f"{name}:{key}" for key in action.deleted])
                answer = None
            else:
                answer = yield action


CUSTOM_OBJECTS = Stream(
    name="custom_objects",
    read=custom_objects,
    fetch=fetch_custom,
    window=lambda since: Checkpoint(window=written(since - OVERLAP)),
    key=lambda record: f"{record['object']}:{record['Id']}",
    version=epoch_us("SystemModstamp"),
    columns={
        "object": column("object"),
        "object_id": column("Id"),
        "name": column("Name"),
        "owner_id": column("OwnerId"),
        **TIMES,
    },
)


def _custom_names(
    context: Context,
) -> Generator[Request, Response, tuple[list[str], Response]]:
    """The org's own objects that are to be read, and the answer that names them."""
    response = yield Request.get("/sobjects")
    names = [
        each["name"]
        for each in response.json["sobjects"]
        if each["custom"] and each["queryable"] and each["replicateable"]
        # What installed packages keep to themselves, and what is an object's history or sharing.
        if each["name"].endswith("__c") and is_chosen(each["name"], context)
    ]
    return sorted(names), response


def _among(
    begin: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]], left: Sequence[str]
) -> Checkpoint:
    """Where each object stands, and which have not been read yet this time."""
    held = Checkpoint(begin, objects={name: dict(at) for name, at in objects.items()})
    return Checkpoint(held, left=list(left)) if left else Checkpoint(objects=held["objects"])


def _named(name: str, row: Record) -> Record:
    return {"object": name, **row}


def _next(reader: Reader, answer: Any) -> Any:
    """What the reader yields next; None at its end."""
    try:
        return reader.send(answer)
    except StopIteration:
        return None


def _query(resource: str, text: str) -> Request:
    return Request.get(f"/{resource}/", params={"q": text})


def _rows(response: Response) -> list[Record]:
    return [
        {name: value for name, value in row.items() if name != "attributes"}
        for row in response.json["records"]
    ]


def _is_last(response: Response, rows: Sequence[Record]) -> bool:
    """Whether no row follows: of wide rows the vendor may give fewer than were asked for."""
    return bool(response.json["done"]) and len(rows) < PAGE


def error_code(response: Response) -> str:
    """The first error's code: the data API answers with a list of them."""
    for error in _errors(response.json):
        return str(error.get("errorCode", ""))
    return ""


def _errors(body: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in body if isinstance(each, dict)) if isinstance(body, list) else ()


def quoted(text: str) -> str:
    """An id as it stands in a query; ContractError of what is none: it is the vendor's text."""
    if not _ID.fullmatch(text):
        raise ContractError("Salesforce named an id that is none")
    return f"'{text}'"


def _literal(moment: str) -> str:
    """A time as it stands in a query: without quotes. Parsed, because it is the vendor's text."""
    return written(parse_time(moment))


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def eighteen(id_: str) -> str:
    """An id in the form of 18 characters, which tells upper from lower case by its last three."""
    if not _ID.fullmatch(id_):
        raise ContractError("Salesforce named an id that is none")
    if len(id_) == 18:
        return id_
    parts = (id_[0:5], id_[5:10], id_[10:15])
    marks = (sum(1 << at for at, letter in enumerate(p) if letter.isupper()) for p in parts)
    return id_ + "".join(_SUFFIXES[mark] for mark in marks)
