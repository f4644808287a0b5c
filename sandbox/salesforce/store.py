"""A Salesforce org in memory: its rows, its recycle bin, its log of deletions, and what it tells.

Always true: a row that is deleted is in the recycle bin, where `queryAll` still shows it, until it
is purged; only the log of deletions knows of it then, and forgets it after 15 days.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sandbox.kernel.clock import Clock
from sandbox.kernel.values import Json
from sandbox.salesforce.kinds import CHILDREN, KINDS, FaultError, Kind, instant, new_id, stamp

# How long the recycle bin and the log of deletions keep what was deleted.
KEPT = timedelta(days=15)
# Replay ids of change events grow, with holes.
FIRST, STEP = 1_000, 3


@dataclass
class Session:
    """A listener: its cookie, up to which event each of its channels was told, when it was seen."""

    cookie: str
    seen_at: float
    positions: dict[str, int] = field(default_factory=dict)
    connects: int = 0


@dataclass
class Feed:
    """What an org's listeners are told. `told_as` makes gap events or overflows of what happens;
    `refuse` holds errors by channel, `status` is that of a refusal; `hold` is in seconds."""

    log: list[tuple[int, Json]] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    number: int = FIRST
    told_as: str = ""
    hold: float = 110.0
    refuse: dict[str, str] = field(default_factory=dict)
    status: int = 200

    def add(self, what: Json) -> None:
        self.number += STEP
        self.log.append((self.number, {**what, "told_as": self.told_as}))


@dataclass
class Org:
    """One org. `deleted` holds the recycle bin's rows, `purged` the earliest time from which the
    log of deletions is whole; `hidden` are objects that its user may not see, `refused` those of
    which queries are refused, `unshared` rows that are no longer shared with the user, `selected`
    objects of which listeners are told."""

    id: str
    name: str
    clock: Clock
    random: Random
    instance: str
    admin_id: str = ""
    rows: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in KINDS})
    bin: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in KINDS})
    log: dict[str, dict[str, datetime]] = field(
        default_factory=lambda: {name: {} for name in KINDS}
    )
    purged: datetime | None = None
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unshared: set[str] = field(default_factory=set)
    locators: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    selected: set[str] = field(default_factory=lambda: set(KINDS))
    numbers: int = 0
    feed: Feed = field(default_factory=Feed)
    tell: Callable[[Json], None] = lambda what: None


def create(org: Org, kind: Kind, given: Mapping[str, Any]) -> Json:
    """A new row with those fields."""
    fields = _checked(org, kind, given)
    if missing := [name for name in kind.needed if fields.get(name) is None]:
        message = f"Required fields are missing: [{', '.join(missing)}]"
        raise FaultError("REQUIRED_FIELD_MISSING", message)
    org.numbers += 1
    row_id = new_id(kind.prefix, org.random, org.numbers)
    now = stamp(org.clock.now())
    row: Json = {name: None for name in kind.fields}
    row |= {name: False for name, type_ in kind.fields.items() if type_ == "boolean"}
    row |= {"Id": row_id, "CreatedDate": now, "LastModifiedDate": now, "SystemModstamp": now}
    row |= {"CreatedById": org.admin_id or row_id, "LastModifiedById": org.admin_id or row_id}
    if "OwnerId" in row:
        row["OwnerId"] = org.admin_id
    if kind.name == "User":
        row |= {"IsActive": True, "UserType": "Standard"}
    row |= fields
    complete(kind, row)
    org.rows[kind.name][row_id] = row
    _tell(org, kind, "CREATE", row, [name for name in row if row[name] is not None])
    return row


def change(org: Org, kind: Kind, row: Json, given: Mapping[str, Any]) -> None:
    """Sets those fields of a row."""
    fields = _checked(org, kind, given)
    if missing := [name for name in kind.needed if name in fields and fields[name] is None]:
        raise FaultError("REQUIRED_FIELD_MISSING", f"Required fields are missing: {missing}")
    before = dict(row)
    row |= fields
    complete(kind, row)
    _touch(org, row)
    changed = [name for name in row if row[name] != before[name] and name != "SystemModstamp"]
    _tell(org, kind, "UPDATE", row, [*changed, "LastModifiedDate"])


def delete(org: Org, kind: Kind, row: Json) -> None:
    """Puts a row, and what hangs on it, into the recycle bin."""
    if not kind.deletable:
        message = "DML operation DELETE not allowed on User"
        raise FaultError("INSUFFICIENT_ACCESS_OR_READONLY", message)
    for child, pointer in CHILDREN.get(kind.name, ()):
        for hanging in [r for r in org.rows[child].values() if r[pointer] == row["Id"]]:
            # That children are stamped, too, when their parent takes them along is taken for
            # granted (2026-11, unproven); the log of deletions has them either way.
            delete(org, KINDS[child], hanging)
    del org.rows[kind.name][row["Id"]]
    row["IsDeleted"] = True
    _touch(org, row)
    org.bin[kind.name][row["Id"]] = row
    org.log[kind.name][row["Id"]] = org.clock.now()
    _tell(org, kind, "DELETE", row, [])


def undelete(org: Org, kind: Kind, row: Json) -> None:
    """Takes a row out of the recycle bin; the log of deletions goes on telling of it."""
    del org.bin[kind.name][row["Id"]]
    row["IsDeleted"] = False
    _touch(org, row)
    org.rows[kind.name][row["Id"]] = row
    _tell(org, kind, "UNDELETE", row, [name for name in row if row[name] is not None])


def purge(org: Org) -> int:
    """Empties the recycle bin: what was in it is told of by the log of deletions alone."""
    found = sum(len(rows) for rows in org.bin.values())
    for rows in org.bin.values():
        rows.clear()
    return found


def shared(org: Org, kind: Kind) -> Iterator[tuple[str, Json]]:
    """The live rows that the user may see, by id."""
    for id_, row in org.rows[kind.name].items():
        if id_ not in org.unshared:
            yield id_, row


def binned(org: Org, kind: Kind) -> Iterator[Json]:
    """What is in the recycle bin."""
    since = org.clock.now() - KEPT
    for row in org.bin[kind.name].values():
        if instant(row["SystemModstamp"]) >= since:
            yield row


def changed(org: Org, kind: Kind, since: datetime, until: datetime) -> list[str]:
    """Ids of the rows that were changed in that time."""
    return [
        row["Id"]
        for row in org.rows[kind.name].values()
        if since <= instant(row["SystemModstamp"]) < until
    ]


def deletions(org: Org, kind: Kind, since: datetime, until: datetime) -> list[tuple[str, datetime]]:
    """Ids of the rows that were deleted in that time, and when."""
    return [(id_, at) for id_, at in org.log[kind.name].items() if since <= at < until]


def earliest(org: Org) -> datetime:
    """From when on the log of deletions is whole."""
    since = org.clock.now() - KEPT
    return max(since, org.purged) if org.purged else since


def complete(kind: Kind, row: Json) -> None:
    """The fields that Salesforce works out itself."""
    if "LastName" in kind.fields:
        row["Name"] = " ".join(part for part in (row["FirstName"], row["LastName"]) if part)
    if kind.name == "Opportunity":
        row["IsClosed"] = str(row["StageName"]).startswith("Closed")
        row["IsWon"] = row["StageName"] == "Closed Won"


def _touch(org: Org, row: Json) -> None:
    now = stamp(org.clock.now())
    row |= {"LastModifiedDate": now, "SystemModstamp": now, "LastModifiedById": org.admin_id}


def _tell(org: Org, kind: Kind, operation: str, row: Json, names: list[str]) -> None:
    """What change events and outbound messages are made from."""
    what = {
        "kind": kind.name,
        "operation": operation,
        "row": dict(row),
        "changed": names,
        "at": int(org.clock.time() * 1000),
        "transaction": str(UUID(int=org.random.getrandbits(128), version=4)),
    }
    if kind.name in org.selected:
        org.feed.add(what)
    org.tell(what)


def _checked(org: Org, kind: Kind, given: Mapping[str, Any]) -> Json:
    """The fields that a client may set; FaultError when one cannot be."""
    known = {name.lower(): name for name in kind.fields}
    fields: Json = {}
    for each, value in given.items():
        name = known.get(each.lower())
        if each == "attributes":
            continue
        if name is None:
            message = f"No such column '{each}' on sobject of type {kind.name}"
            raise FaultError("INVALID_FIELD", message)
        if name not in kind.writable:
            message = f"Unable to create/update fields: {name}."
            raise FaultError("INVALID_FIELD_FOR_INSERT_UPDATE", message)
        fields[name] = None if value == "" else value
    for name, value in fields.items():
        if kind.fields[name] == "reference" and value is not None and not _is_known(org, value):
            raise FaultError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if kind.fields[name] == "boolean" and not isinstance(value, bool):
            message = f"{name}: value not of required type: {value}"
            raise FaultError("INVALID_TYPE_ON_FIELD_IN_RECORD", message)
    return fields


def _is_known(org: Org, row_id: Any) -> bool:
    return any(row_id in rows for rows in org.rows.values())
