"""What is made up in an account, and what may be ordered of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from sandbox.airtable.store import (
    FILES,
    LINKS,
    WEEK,
    Base,
    Home,
    Hook,
    Record,
    Table,
    new_id,
    store,
)
from sandbox.kernel.data import TOPICS, firm, moment, person, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

CHOICES = ("Open", "Waiting", "Done")
SPECIFICATION: Json = {
    "options": {
        "filters": {"dataTypes": ["tableData"]},
        "includes": {"includePreviousCellValues": True},
    }
}
# Of the biggest stream: two tables of a base with a webhook, one of a base without.
SHARES = (("Contacts", 0.5), ("Projects", 0.3)), (("Orders", 0.2),)
SEEDED = ("Contacts", "Projects", "Orders")
# Made-up changes add no more tables to a base: each is a part that every sync has to look at.
ENOUGH = 4
MUTATIONS = Mutations[Home](
    settable={
        "bases": ("name",),
        "tables": ("name", "description"),
        "fields": ("name",),
        "views": ("name",),
        "records": ("table", "fields"),
    },
    there=lambda home, stream: _There(home, stream),
    unknown=422,
)


@dataclass(frozen=True)
class _There:
    """The ids of a stream that have not gone with their table."""

    home: Home
    stream: str

    def __contains__(self, key: object) -> bool:
        base_id, *inner = str(key).split("/")
        base = self.home.bases.get(base_id)
        if base is None or not inner:
            return base is not None
        table = base.tables.get(inner[0])
        held = {} if len(inner) < 2 or table is None else getattr(table, self.stream)
        return table is not None and (len(inner) < 2 or inner[1] in held)


def new(seed: Seed) -> Home:
    random = seed.random
    first, last = person(random)
    user = {"id": seed.account_id, "email": f"{plain(first)}@{plain(last)}.example"}
    home = Home(seed, random, seed.clock, {**user, "name": f"{first} {last}"})
    for number, tables in enumerate(SHARES):
        base = _base(home, f"{firm(random)} {('CRM', 'Shop')[number]}", random)
        if number == 0:
            # Of an earlier installation of our app, for which nobody is called.
            until = seed.clock.now() + WEEK
            hook = Hook(new_id("ach", random), SPECIFICATION, None, until)
            base.hooks[hook.id] = hook
        for name, share in tables:
            table = _table(base, name, random)
            for _ in range(seed.length(share)):
                _fill(home, base, table, random)
    interfaces = _base(home, f"{firm(random)} Reports", random)
    interfaces.level = "none"
    return home


def _base(home: Home, name: str, random: Random) -> Base:
    base = Base(new_id("app", random), name)
    home.bases[base.id] = base
    return base


def _table(base: Base, name: str, random: Random) -> Table:
    """A table with a field of each kind that matters."""
    table = Table(new_id("tbl", random), name, f"{name}: {random.choice(TOPICS)}", {})
    base.tables[table.id] = table
    choices = [{"id": new_id("sel", random), "name": one, "color": "blueLight2"} for one in CHOICES]
    for kind, label, options in (
        ("singleLineText", "Name", None),
        ("email", "Email", None),
        ("multilineText", "Notes", None),
        ("number", "Amount", {"precision": 0}),
        ("singleSelect", "Status", {"choices": choices}),
        ("checkbox", "Checked", {"icon": "check", "color": "greenBright"}),
        (FILES, "Files", {"isReversed": False}),
        (LINKS, "Related", {"linkedTableId": table.id, "isReversed": False}),
    ):
        described: Json = {"options": options} if options else {}
        if kind == "number":
            described["description"] = f"The {random.choice(TOPICS)}"
        id_ = new_id("fld", random)
        table.fields[id_] = {"id": id_, "name": label, "type": kind, **described}
    number, id_ = table.of_type("number")[0], new_id("fld", random)
    formula = {"formula": f"{{{number}}} * 2", "referencedFieldIds": [number], "isValid": True}
    result = {"type": "number", "options": {"precision": 0}}
    options = {**formula, "result": result}
    table.fields[id_] = {"id": id_, "name": "Twice", "type": "formula", "options": options}
    _view(table, "Grid view", random)
    return table


def _view(table: Table, name: str, random: Random) -> str:
    id_ = new_id("viw", random)
    shown = list(table.fields)[:3]
    table.views[id_] = {"id": id_, "name": name, "type": "grid", "visibleFieldIds": shown}
    return id_


def _fill(home: Home, base: Base, table: Table, random: Random) -> None:
    """A record that has been there for a while."""
    at = moment(random, home.clock.now())
    record = Record(new_id("rec", random), at, at, {})
    table.records[record.id] = record
    record.cells = {id_: one for id_, one in _cells(table, random).items() if one is not None}
    home.compute(table, record)


def _cells(table: Table, random: Random) -> Json:
    return {id_: _cell(table, one, random) for id_, one in table.fields.items() if _typed(one)}


def _typed(field: Json) -> bool:
    return bool(field["type"] != "formula")


def _cell(table: Table, field: Json, random: Random) -> Any:
    """What somebody might type in; some cells are left empty."""
    first, last = person(random)
    match field["type"]:
        case "email":
            return f"{plain(first)}@{plain(last)}.example"
        case "multilineText":
            return sentence(random)
        case "number":
            return random.randint(1, 100_000) if random.random() < 0.8 else None
        case "singleSelect":
            return random.choice(field["options"]["choices"])["name"]
        case "checkbox":
            return True if random.random() < 0.5 else None
        case "multipleAttachments":
            return [_attachment(random) for _ in range(random.choice((0, 0, 1, 2)))] or None
        case "multipleRecordLinks":
            known = list(table.records)
            return random.sample(known, min(len(known), random.choice((0, 1, 2)))) or None
    return f"{first} {last} {random.getrandbits(32):08x}"


def _attachment(random: Random) -> Json:
    name = f"{random.choice(TOPICS).replace(' ', '-')}.pdf"
    size = random.randint(1_000, 5_000_000)
    kind = "application/pdf"
    return {"id": new_id("att", random), "filename": name, "size": size, "type": kind}


# -- Orders ---------------------------------------------------------------------------------------


def alterable(home: Home, stream: str) -> Iterable[str]:
    """What made-up changes are of: not what cannot be read, and of tables, bases and fields only
    what came later, so that the account stays as big as it was asked to be."""
    seeded = {table.id for _, table in home.tables() if table.name.startswith(SEEDED)}
    if stream == "bases":
        return [base.id for base in home.open_bases() if not base.refused]
    found = [key for key in store(home, stream) if _reachable(home, *home.find(key), stream)]
    if stream == "tables":
        return [key for key in found if key.split("/")[1] not in seeded]
    if stream == "fields":
        return [key for key in found if _changeable(home, key)]
    return found


def _reachable(home: Home, base: Base, table: Table, stream: str) -> bool:
    return not base.refused and not table.refused


def _changeable(home: Home, key: str) -> bool:
    _, table = home.find(key)
    field = table.fields[key.split("/")[2]]
    return str(field["name"]).startswith("Field ") or field["type"] == "singleSelect"


def _places(home: Home) -> list[tuple[Base, Table]]:
    return [(base, table) for base, table in home.tables() if not (base.refused or table.refused)]


def _named(change: Change, kind: str) -> str:
    return str(change.record.get("name") or f"{kind} {change.random.getrandbits(32):08x}")


@MUTATIONS.of("bases", "add", "change")
def _bases(home: Home, change: Change) -> str | None:
    if change.op == "change":
        home.bases[str(change.id)].name = _named(change, "Base")
        return None
    if not change.record:
        raise RefusedError("a base is made only where one is ordered by its name", status=409)
    base = _base(home, _named(change, "Base"), change.random)
    for name in ("Tasks", "People"):
        _fill(home, base, _table(base, name, change.random), change.random)
    return base.id


@MUTATIONS.of("tables")
def _tables(home: Home, change: Change) -> str | None:
    if change.op == "add":
        base = change.random.choice(_places(home))[0]
        if not change.record and len(base.tables) >= ENOUGH:
            raise RefusedError("the base has tables enough", status=409)
        table = _table(base, _named(change, "Table"), change.random)
        _fill(home, base, table, change.random)
        return f"{base.id}/{table.id}"
    base, table = home.find(str(change.id))
    if change.op == "delete":
        del base.tables[table.id]
        return None
    table.name = _named(change, "Table")
    table.description = change.record.get("description", table.description)
    return None


@MUTATIONS.of("fields")
def _fields(home: Home, change: Change) -> str | None:
    """A field of text, or the name of a choice: cells that hold it change with it, and no record
    counts as changed for that."""
    if change.op == "add":
        base, table = change.random.choice(_places(home))
        id_ = new_id("fld", change.random)
        label = _named(change, "Field")
        table.fields[id_] = {"id": id_, "name": label, "type": "singleLineText"}
        return f"{base.id}/{table.id}/{id_}"
    _, table = home.find(str(change.id))
    id_ = str(change.id).split("/")[2]
    field = table.fields[id_]
    if change.op == "delete":
        if field["type"] == "singleSelect":
            raise RefusedError("this field stays", status=409)
        del table.fields[id_]
        for record in table.records.values():
            record.cells.pop(id_, None)
    elif field["type"] == "singleSelect" and "name" not in change.record:
        choice = change.random.choice(field["options"]["choices"])
        former, choice["name"] = choice["name"], f"Choice {change.random.getrandbits(32):08x}"
        for record in table.records.values():
            if record.cells.get(id_) == former:
                record.cells[id_] = choice["name"]
    else:
        table.fields[id_] = {**field, "name": _named(change, "Field")}
    return None


@MUTATIONS.of("views")
def _views(home: Home, change: Change) -> str | None:
    if change.op == "add":
        base, table = change.random.choice(_places(home))
        return f"{base.id}/{table.id}/{_view(table, _named(change, 'View'), change.random)}"
    _, table = home.find(str(change.id))
    id_ = str(change.id).split("/")[2]
    if change.op == "delete":
        del table.views[id_]
    else:
        table.views[id_] = {**table.views[id_], "name": _named(change, "View")}
    return None


@MUTATIONS.of("records")
def _records(home: Home, change: Change) -> str | None:
    """`fields` are cells by the names of their fields; one that is None is emptied."""
    if change.op == "add":
        base, table = _chosen(home, change)
        cells = _ordered(table, change) or _cells(table, change.random)
        # Now and then somebody makes a record and types nothing into it.
        if not change.record and change.random.random() < 0.2:
            cells = {}
        cells = {id_: one for id_, one in cells.items() if one is not None}
        record = home.make(base, table, cells, change.random)
        return f"{base.id}/{table.id}/{record.id}"
    base, table = home.find(str(change.id))
    record_id = str(change.id).split("/")[2]
    if change.op == "delete":
        home.drop(base, table, record_id)
        return None
    cells = _ordered(table, change) or _some_other(table, table.records[record_id], change.random)
    home.put(base, table, table.records[record_id], cells)
    return None


def _chosen(home: Home, change: Change) -> tuple[Base, Table]:
    places = _places(home)
    if named := change.record.get("table"):
        places = [(base, table) for base, table in places if named in (table.id, table.name)]
    if not places:
        raise RefusedError(f"there is no table {named!r}")
    return change.random.choice(places)


def _ordered(table: Table, change: Change) -> Json:
    ids = {one["name"]: id_ for id_, one in table.fields.items() if _typed(one)}
    given = change.record.get("fields") or {}
    if unknown := set(given) - set(ids):
        raise RefusedError(f"{table.name} has no {sorted(unknown)} to set", status=422)
    return {ids[name]: value for name, value in given.items()}


def _some_other(table: Table, record: Record, random: Random) -> Json:
    """Some cells, of which the first is always another."""
    made = _cells(table, random)
    some = random.sample(list(made), 2)
    return {id_: made[id_] for id_ in (table.primary, *some)}
