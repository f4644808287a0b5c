"""What an Airtable account holds, and what comes of each change: bases, tables, records, logs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.values import Json, Seed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
WEEK = timedelta(days=7)
LINKS, FILES = "multipleRecordLinks", "multipleAttachments"
# A listing whose client is silent for so long is dropped. Airtable does not say how long (2026-11).
IDLE = timedelta(minutes=10)


def new_id(kind: str, random: Random) -> str:
    return kind + "".join(random.choice(LETTERS) for _ in range(14))


@dataclass
class Record:
    """Cells by the ids of their fields; one that is empty is not there, and attachments are without
    the links that come with each answer. `modified` is None until somebody types into it."""

    id: str
    created: datetime
    modified: datetime | None
    cells: Json


@dataclass
class Table:
    id: str
    name: str
    description: str | None
    fields: dict[str, Json]
    views: dict[str, Json] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    refused: bool = False

    @property
    def primary(self) -> str:
        return next(iter(self.fields))

    def of_type(self, *types: str) -> list[str]:
        return [id_ for id_, one in self.fields.items() if one["type"] in types]


@dataclass
class Hook:
    """A webhook of our app's, and its log: entries by number, with when they came to be."""

    id: str
    specification: Json
    url: str | None
    expires: datetime
    secret: str = ""
    notifies: bool = True
    broken: bool = False
    next: int = 1
    log: dict[int, tuple[datetime, Json]] = field(default_factory=dict)

    def enabled(self, now: datetime) -> bool:
        return not self.broken and now < self.expires

    def kept(self, now: datetime) -> dict[int, Json]:
        """An entry is kept for a week."""
        return {number: entry for number, (at, entry) in self.log.items() if now - at < WEEK}


@dataclass
class Base:
    """`level` is the person's right: of `none` they see interfaces only. A `refused` base does not
    show its schema for now; one that is `hidden` was unticked by the person."""

    id: str
    name: str
    level: str = "create"
    tables: dict[str, Table] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    transactions: int = 0
    refused: bool = False
    hidden: bool = False


@dataclass
class Listing:
    """A listing that waits for its client: what it showed or is still to show."""

    ids: list[str]
    used: datetime


@dataclass
class Home:
    """A person's account. `locked_until` is when a base answers again after a call too much; here
    it is all of them. A free plan has no `webhooks`, and `used_up` means its calls of the month."""

    seed: Seed
    random: Random
    clock: Clock
    user: Json
    bases: dict[str, Base] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)
    locked_until: float = 0.0
    webhooks: bool = True
    used_up: bool = False

    def shown(self) -> list[Base]:
        return [base for base in self.bases.values() if not base.hidden]

    def open_bases(self) -> Iterator[Base]:
        return (base for base in self.shown() if base.level != "none")

    def tables(self) -> Iterator[tuple[Base, Table]]:
        return ((base, table) for base in self.open_bases() for table in base.tables.values())

    def find(self, key: str) -> tuple[Base, Table]:
        base, table = key.split("/")[:2]
        return self.bases[base], self.bases[base].tables[table]

    # -- Changes of records, and what webhooks tell of them

    def put(self, base: Base, table: Table, record: Record, cells: Json) -> None:
        """Somebody types into a record; what is emptied is given as None."""
        former = {id_: record.cells.get(id_) for id_ in cells}
        record.cells |= cells
        record.cells = {id_: one for id_, one in record.cells.items() if one is not None}
        record.modified = self.clock.after(record.modified or record.created)
        self.compute(table, record)
        told = {"current": {"cellValuesByFieldId": cells}}
        told["previous"] = {"cellValuesByFieldId": former}
        self.log(base, table, {"changedRecordsById": {record.id: told}})

    def make(self, base: Base, table: Table, cells: Json, random: Random) -> Record:
        at = self.clock.now()
        record = Record(new_id("rec", random), at, at if cells else None, dict(cells))
        table.records[record.id] = record
        self.compute(table, record)
        made = {"createdTime": stamp(at), "cellValuesByFieldId": cells}
        self.log(base, table, {"createdRecordsById": {record.id: made}})
        return record

    def drop(self, base: Base, table: Table, record_id: str) -> None:
        """A deleted record is gone from the cells that link to it, too."""
        del table.records[record_id]
        self.log(base, table, {"destroyedRecordIds": [record_id]})
        for other in base.tables.values():
            linking = [
                id_ for id_ in other.of_type(LINKS)
                if other.fields[id_]["options"]["linkedTableId"] == table.id
            ]  # fmt: skip
            for record in other.records.values():
                for id_ in linking:
                    if record_id in record.cells.get(id_, ()):
                        left = [one for one in record.cells[id_] if one != record_id]
                        self.put(base, other, record, {id_: left or None})

    def compute(self, table: Table, record: Record) -> None:
        """Formulas: twice the first number of a table, NaN where that is empty."""
        for id_ in table.of_type("formula"):
            number = record.cells.get(table.fields[id_]["options"]["referencedFieldIds"][0])
            record.cells[id_] = {"specialValue": "NaN"} if number is None else number * 2

    def log(self, base: Base, table: Table, what: Json) -> None:
        now = self.clock.now()
        base.transactions += 1
        for hook in base.hooks.values():
            filters = hook.specification["options"]["filters"]
            if not hook.enabled(now) or "tableData" not in filters["dataTypes"]:
                continue
            if filters.get("recordChangeScope", table.id) != table.id:
                continue
            entry = {
                "timestamp": stamp(now),
                "baseTransactionNumber": base.transactions,
                "payloadFormat": "v0",
                "actionMetadata": {
                    "source": "client",
                    "sourceMetadata": {"user": {**self.user, "permissionLevel": "create"}},
                },
                "changedTablesById": {table.id: _told(hook, what)},
            }
            hook.log[hook.next] = now, entry
            hook.next += 1
            if hook.url and hook.notifies:
                self.seed.tell({"base": base.id, "webhook": hook.id})


def _told(hook: Hook, what: Json) -> Json:
    """Values before a change come only to a webhook that was made with them."""
    includes = hook.specification["options"].get("includes") or {}
    if includes.get("includePreviousCellValues") or "changedRecordsById" not in what:
        return what
    changed = {id_: {"current": one["current"]} for id_, one in what["changedRecordsById"].items()}
    return {"changedRecordsById": changed}


def schema(table: Table) -> Json:
    described = {"description": table.description} if table.description else {}
    return {
        "id": table.id,
        "name": table.name,
        "primaryFieldId": table.primary,
        **described,
        "fields": list(table.fields.values()),
        "views": list(table.views.values()),
    }


def base_row(base: Base) -> Json:
    return {"id": base.id, "name": base.name, "permissionLevel": base.level}


def store(home: Home, stream: str) -> dict[str, Json]:
    """Everything of the streams, by key."""
    if stream == "bases":
        return {base.id: base_row(base) for base in home.shown()}
    rows: dict[str, Json] = {}
    if stream in ("webhook_payloads", "revisions"):
        for base in home.open_bases():
            rows |= _logged(home, base, revisions=stream == "revisions")
        return rows
    for base, table in home.tables():
        place: Json = {"base_id": base.id, "table_id": table.id}
        under = f"{base.id}/{table.id}"
        if stream == "tables":
            whole = schema(table)
            kept = {name: whole[name] for name in whole if name not in ("fields", "views")}
            rows[under] = {"base_id": base.id, **kept}
        elif stream in ("fields", "views"):
            held: dict[str, Json] = getattr(table, stream)
            rows |= {f"{under}/{id_}": {**place, **one} for id_, one in held.items()}
        for record in table.records.values():
            cells = record.cells
            key = f"{under}/{record.id}"
            here = {**place, "record_id": record.id}
            if stream == "records":
                shown = {"id": record.id, "createdTime": stamp(record.created), "fields": cells}
                rows[key] = {**place, **shown}
            elif stream == "attachments":
                for id_, one in _in_cells(table, cells, FILES):
                    rows[f"{key}/{id_}/{one['id']}"] = {**here, "field_id": id_, **one}
            elif stream == "record_links":
                for id_, one in _in_cells(table, cells, LINKS):
                    rows[f"{key}/{id_}/{one}"] = {**here, "field_id": id_, "linked_record_id": one}
    return rows


def _in_cells(table: Table, cells: Json, kind: str) -> Iterator[tuple[str, Any]]:
    return ((id_, one) for id_ in table.of_type(kind) for one in cells.get(id_, ()))


def _logged(home: Home, base: Base, *, revisions: bool) -> dict[str, Json]:
    """Entries of all webhooks; revisions those of the oldest alone."""
    rows: dict[str, Json] = {}
    for hook in list(base.hooks.values())[: 1 if revisions else None]:
        for number, entry in hook.kept(home.clock.now()).items():
            numbered = {"base_id": base.id, "webhook_id": hook.id, "cursor": number}
            if revisions:
                rows |= _revisions({**numbered, "timestamp": entry["timestamp"]}, entry)
            else:
                rows[f"{hook.id}/{number}"] = {**numbered, **entry}
    return rows


def _revisions(numbered: Json, entry: Json) -> dict[str, Json]:
    rows: dict[str, Json] = {}
    who = {"source": "client", "user_id": entry["actionMetadata"]["sourceMetadata"]["user"]["id"]}
    for table, what in entry["changedTablesById"].items():
        found: dict[str, Json] = {
            id_: {"kind": "created", "current": one["cellValuesByFieldId"]}
            for id_, one in what.get("createdRecordsById", {}).items()
        }
        for id_, one in what.get("changedRecordsById", {}).items():
            values = {name: held["cellValuesByFieldId"] for name, held in one.items()}
            found[id_] = {"kind": "changed", **values}
        found |= {id_: {"kind": "destroyed"} for id_ in what.get("destroyedRecordIds", ())}
        for id_, told in found.items():
            row = {**numbered, "table_id": table, "record_id": id_, **who, **told}
            rows[f"{row['webhook_id']}/{row['cursor']}/{id_}"] = row
    return rows
