"""Records, table by table: all of them now and then, and in between what changed.

What changed is told by the log of a webhook where the base has one, deletions included; elsewhere
Airtable is asked by the time of the last change, which moves neither for a deletion nor for a cell
that is computed. So each table is read whole every three days, and at once when its fields, their
formulas or choices are others. To list ids alone would take as many calls: a page has a hundred
records either way.

https://airtable.com/developers/web/api/list-records
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ListedKeys,
    Page,
    Position,
    ProviderUnavailableError,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors.airtable.payloads import Log, lasting, log_of
from connectors.airtable.schema import bases, differ, marks, readable, tables_of
from connectors.kernel.looks import EPOCH, Look, Looks
from connectors.kernel.paging import Read, batches, mapped, onward, rows_of
from connectors.kernel.parts import OF_A_PART, Parts, Round, each_part
from connectors.kernel.statuses import vendor_time

PAGE = 100
# Of 50,000 records a whole read takes 500 calls, of the 100,000 that a plan may have in a month.
WHOLE_EVERY = timedelta(days=3)
# So often a listing is begun anew in one read.
BEGUN_ANEW = 2
LOOKS = Looks()
NEVER = EPOCH.isoformat()
# Stands for the tables of a base that has never shown them.
NAMELESS = "?"


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a table stands: the `look` by time, and while one is under way the next `page`; when
    it was read `whole` the last time, with which `fields` (see `marks`); and the number (`cursor`)
    of the next entry in the log of which `hook`."""

    look: Mapping[str, Any] = field(default_factory=dict)
    page: str | None = None
    whole: str = NEVER
    fields: Sequence[str] = ()
    hook: str = ""
    cursor: int = 0


@dataclass(frozen=True)
class Cells:
    """What a stream makes of records: of cells of one `type`, or of all, the `rows` of a record,
    given its own. Without a type the record itself is the row."""

    rows: Callable[[Record], Iterable[Record]]
    type: str = ""


@dataclass
class _Known:
    """What one sync has learnt of the bases: which there are, their tables, and what is new."""

    now: datetime
    tables: dict[str, list[Record]] = field(default_factory=dict)
    logs: dict[str, Log | None] = field(default_factory=dict)

    def of(self, base: str) -> Calls[list[Record]]:
        """A base's tables, asked for once. No position in time is ahead of Airtable's clock."""
        if base not in self.tables:
            response = yield from tables_of(base)
            self.now = min(self.now, vendor_time(response))
            self.tables[base] = rows_of(response, "tables")
        return self.tables[base]

    def fields(self, part: str) -> Calls[list[Record]]:
        base, _, table = part.partition("/")
        found = [one for one in (yield from self.of(base)) if one["id"] == table]
        return found[0]["fields"] if found else []


def by_table(cells: Cells) -> Read:
    """The stream of those cells: each table has a place of its own, and fails by itself."""

    def read(at: Checkpoint, context: Context) -> Reader:
        known = _Known(context.now)
        listing = _listing(known, Round.of(at))
        of_each = each_part(listing, lambda part: _table(part, known, cells), prefix=_under)
        yield from mapped(of_each(at, context), lambda page: _told_apart(page, known))

    return read


def _under(part: str) -> str:
    return f"{part}/"


def _told_apart(page: Page, known: _Known) -> Page:
    """A table that a base's schema does not have any more was deleted; of a base that is not listed
    nobody knows."""
    listed = [
        replace(one, hidden=one.hidden and one.prefix.partition("/")[0] not in known.tables)
        for one in page.listed_keys
    ]
    return replace(page, listed_keys=listed)


def _listing(known: _Known, former: Round) -> Callable[[Context], Steps[Parts]]:
    """The tables of all bases, `base/table`. A base that does not show them now fails by those that
    it had, or as a part without a name: what was read of it stays, and it is told."""

    def listed(context: Context) -> Steps[Parts]:
        present: list[str] = []
        kept: list[str] = []
        for base in (yield from bases()):
            id_ = base["id"]
            had = [one for one in {**former.parts, **former.failed} if one.startswith(_under(id_))]
            if not readable(base):
                kept += had
                continue
            try:
                present += [f"{id_}/{table['id']}" for table in (yield from known.of(id_))]
                known.logs[id_] = yield from log_of(id_, _places(former, id_), context)
            except OF_A_PART:
                # Where its log alone cannot be read, its tables are, by time.
                present += [] if id_ in known.tables else had or [f"{id_}/{NAMELESS}"]
        return Parts(present, kept, hidden=True)

    return listed


def _places(former: Round, base: str) -> list[tuple[str, int]]:
    """How far in which log the tables of a base were read; one that failed holds up no other."""
    read = {one: Place.of(at) for one, at in former.parts.items() if one not in former.failed}
    return [
        (place.hook, place.cursor)
        for one, place in read.items()
        if place.hook and one.startswith(_under(base))
    ]


# -- One table ------------------------------------------------------------------------------------


def _table(part: str, known: _Known, cells: Cells) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        all_fields = yield from known.fields(part)
        now = known.now
        if part.endswith(f"/{NAMELESS}"):
            yield Page((), Checkpoint())
            return
        fields = _of_type(all_fields, cells)
        if cells.type and not fields:
            nothing = ListedKeys(_under(part), (), now)
            yield Page((), Checkpoint(), listed_keys=[nothing])
            return
        table = _Table(part, fields, cells)
        if here.page is not None:
            yield from table.listed(here, Look.resumed(here.look))
            return
        log, marked = known.logs.get(part.partition("/")[0]), marks(all_fields)
        is_due = now - datetime.fromisoformat(here.whole) >= WHOLE_EVERY
        is_due = is_due or differ(here.fields, marked)
        here, look = replace(here, fields=marked), Look(None, now, now)
        if log and log.follows(here.hook, here.cursor) and not is_due:
            yield from table.told(here, log, look)
            return
        if log is None and not is_due:
            look = LOOKS.begin(here.look, now)
        # Taken before the listing, as the time is. What a log does not tell from its beginning on,
        # or left out, is found by this listing.
        here = replace(here, hook=log.hook, cursor=log.end) if log else here
        yield from table.listed(replace(here, look=look.saved), look)

    return read


def _of_type(fields: Sequence[Record], cells: Cells) -> list[str]:
    return [one["id"] for one in fields if cells.type and one["type"] == cells.type]


@dataclass(frozen=True)
class _Table:
    """A table that is read for a stream, of it those fields, or all."""

    part: str
    fields: Sequence[str]
    cells: Cells

    def listed(self, here: Place, look: Look) -> Reader:
        """All records, or those that changed since the look begins."""
        keys: set[str] = set()
        since = _changed_since(look.since) if look.since else ""
        is_complete, tries = here.page is None, 0
        while True:
            try:
                response = yield from ask(self._request(since, here.page))
            except CheckpointExpiredError as error:
                tries += 1
                if tries > BEGUN_ANEW or here.page is None:
                    raise ProviderUnavailableError(f"{error}, again and again") from error
                here, is_complete = replace(here, page=None), True
                keys.clear()
                continue
            if here.page is None:
                began = response.sent_at
            following = response.json.get("offset") or None
            here = replace(here, page=following and onward(here.page, following))
            page = self._page(response, here.saved())
            keys |= {key_of(one) for one in page.records}
            if here.page is not None:
                yield page
                continue
            whole = here.whole if look.since else look.looked.isoformat()
            ended = replace(here, look=look.checkpoint, whole=whole).saved()
            gone = [ListedKeys(_under(self.part), keys, began)] if is_complete and not since else []
            yield replace(page, checkpoint=ended, listed_keys=[*page.listed_keys, *gone])
            return

    def told(self, here: Place, log: Log, look: Look) -> Reader:
        """What the log tells: what was deleted, and what is to be read again. A record that was
        made just now may not be shown yet (PipedreamHQ/pipedream#18220, 2025-08): it is read again
        by its key, or, of its cells, with the same entries by the next sync."""
        changed, gone = log.of(self.part.partition("/")[2], here.cursor)
        cursor = log.end
        for ids in batches(sorted(changed), PAGE):
            response = yield from ask(self._request(_any_of(ids)))
            missing = set(ids) - {row["id"] for row in rows_of(response, "records")}
            if missing and self.cells.type:
                cursor, missing = here.cursor, set()
            later = sorted(f"{self.part}/{one}" for one in missing)
            yield replace(self._page(response, here.saved()), unsettled=later)
        ended = replace(here, look=look.checkpoint, cursor=cursor).saved()
        yield Page((), ended, **self._gone(sorted(gone), look.looked))

    def again(self, keys: Sequence[str]) -> Reader:
        """Rows by their keys. What a table that can be read does not list is deleted."""
        of: dict[str, list[str]] = {}
        for key in keys:
            of.setdefault(key.split("/")[2], []).append(key)
        for ids in batches(sorted(of), PAGE):
            wanted = {key for id_ in ids for key in of[id_]}
            response = yield from ask(self._request(_any_of(ids)))
            rows = self._page(response, Checkpoint()).records
            found = {key: row for row in rows if (key := key_of(row)) in wanted}
            yield Page(list(found.values()), Checkpoint(), deleted=sorted(wanted - found.keys()))

    def _request(self, formula: str = "", offset: str | None = None) -> Request:
        """By ids throughout: names of tables and fields are the tenant's to change, and each change
        would be one of every record."""
        params: dict[str, Any] = {"pageSize": PAGE, "returnFieldsByFieldId": True}
        given = {"fields[]": self.fields, "filterByFormula": formula, "offset": offset}
        params |= {name: value for name, value in given.items() if value}
        return Request.get(f"/{self.part}", params=params)

    def _page(self, response: Response, at: Checkpoint) -> Page:
        base, _, table = self.part.partition("/")
        found = [
            {"base_id": base, "table_id": table, **lasting(row)}
            for row in rows_of(response, "records")
        ]
        if not self.cells.type:
            return Page(found, at)
        rows = {f"{self.part}/{one['id']}/": list(self.cells.rows(one)) for one in found}
        return Page(
            [row for some in rows.values() for row in some],
            at,
            listed_keys=[
                ListedKeys(prefix, [key_of(row) for row in some], response.sent_at)
                for prefix, some in rows.items()
            ],
        )

    def _gone(self, ids: Sequence[str], at: datetime) -> dict[str, Any]:
        keys = [f"{self.part}/{one}" for one in ids]
        if not self.cells.type:
            return {"deleted": keys}
        return {"listed_keys": [ListedKeys(f"{key}/", (), at) for key in keys]}


def _changed_since(since: datetime) -> str:
    """A record that nobody has typed into has no time of a change, only one of its making. A time
    is compared as one: a text that looks like it counts for nothing (activepieces#5114, 2024-07).
    """
    at = f"DATETIME_PARSE('{since.isoformat(timespec='milliseconds')}')"
    return f"OR(IS_AFTER(LAST_MODIFIED_TIME(), {at}), IS_AFTER(CREATED_TIME(), {at}))"


def _any_of(ids: Sequence[str]) -> str:
    each = ", ".join(f"RECORD_ID()='{one}'" for one in ids)
    return f"OR({each})"


def by_key(cells: Cells) -> Callable[[Sequence[str], Context], Reader]:
    """Rows by their keys; a table that is refused leaves the others read."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        known = _Known(context.now)
        failed: ConnectorError | None = None
        of: dict[str, list[str]] = {}
        for key in keys:
            of.setdefault("/".join(key.split("/")[:2]), []).append(key)
        for part, some in of.items():
            try:
                fields = _of_type((yield from known.fields(part)), cells)
                if cells.type and not fields:
                    yield Page((), Checkpoint(), deleted=some)
                else:
                    yield from _Table(part, fields, cells).again(some)
            except OF_A_PART as error:
                failed = error
        if failed is not None:
            raise failed

    return fetch


# -- Rows -----------------------------------------------------------------------------------------


def key_of(row: Record) -> str:
    """The key of a row: where it stands, from its base down."""
    names = ("base_id", "table_id", "record_id", "field_id", "linked_record_id", "id")
    return "/".join(str(row[name]) for name in names if name in row)


def _each_cell(record: Record) -> Iterator[tuple[Record, Any]]:
    """Cells that hold a list, each with where it stands."""
    for field_id, cell in record.get("fields", {}).items():
        if isinstance(cell, list):
            place = {"record_id": record["id"], "field_id": field_id}
            yield {"base_id": record["base_id"], "table_id": record["table_id"], **place}, cell


def _attachments(record: Record) -> Iterator[Record]:
    for place, cell in _each_cell(record):
        yield from ({**place, **one} for one in cell)


def _links(record: Record) -> Iterator[Record]:
    for place, cell in _each_cell(record):
        yield from ({**place, "linked_record_id": one} for one in cell)


RECORDS = Cells(lambda record: (record,))
ATTACHMENTS = Cells(_attachments, "multipleAttachments")
LINKS = Cells(_links, "multipleRecordLinks")
