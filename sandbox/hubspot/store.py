"""A HubSpot portal in memory: its CRM objects and owners, how they are made and changed."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from random import Random

from sandbox.hubspot.kinds import PROPERTIES, Properties, modified
from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.data import (
    JOBS,
    PLACES,
    TOPICS,
    domain,
    firm,
    moment,
    person,
    phone,
    plain,
    sentence,
)
from sandbox.kernel.mutations import Mutations, refuse_unknown
from sandbox.kernel.values import Change, Json, Seed

# Live objects of each kind in an account of a given size.
SHARES = {"contacts": 1.0, "companies": 0.25, "deals": 0.5, "tickets": 0.33, "owners": 0.05}
# What an object of the first kind may be tied to in a new account.
TIES = (
    ("contacts", "companies"),
    ("deals", "companies"),
    ("deals", "contacts"),
    ("tickets", "contacts"),
)
ARCHIVED_SHARE = 0.04
# How long the search index is remembered as it was, at the most.
LONGEST_LAG = timedelta(hours=1)
IMPORTED_EVERY = timedelta(days=30)


@dataclass
class Item:
    """A CRM object. `former` holds what the search index had before each recent change."""

    id: str
    properties: Properties
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    former: list[tuple[datetime, Properties | None]] = field(default_factory=list)


@dataclass
class Table:
    """All objects of a kind, archived ones too, in the order of their ids, which only grow."""

    kind: str
    items: dict[str, Item] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    revision: int = 0
    # Which record took in one that was merged away.
    merged: dict[str, str] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        self.items[item.id] = item
        self.order.append(int(item.id))
        self.revision += 1

    def next_id(self, random: Random) -> str:
        # Ids have gaps, and soon grow a digit, so that ordering them as text goes wrong.
        return str((self.order[-1] if self.order else 950) + random.randint(1, 7))

    def survivor(self, id_: str) -> Item | None:
        """The record that another one was merged into, directly or by way of others."""
        while id_ in self.merged:
            id_ = self.merged[id_]
        return self.items.get(id_)

    def after(self, last: int, *, archived: bool) -> Iterator[Item]:
        """The objects beyond that id."""
        for number in self.order[bisect_right(self.order, last) :]:
            item = self.items[str(number)]
            if (item.archived_at is not None) == archived:
                yield item


@dataclass
class Portal:
    """One HubSpot account."""

    id: str
    clock: Clock
    tables: dict[str, Table]
    owners: dict[str, Json] = field(default_factory=dict)
    ties: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)
    tell: Callable[[Json], None] = lambda what: None
    search_lag: timedelta = timedelta(0)
    found: dict[tuple[str, int, str], list[Item]] = field(default_factory=dict)


MUTATIONS = Mutations[Portal](settable={"owners": ("email", "firstName", "lastName", "archived")})


def new(seed: Seed) -> Portal:
    """A portal filled from the seed; a few of its objects are archived already."""
    tables = {kind: Table(kind) for kind in PROPERTIES}
    portal = Portal(seed.account_id, seed.clock, tables, tell=seed.tell)
    random, now = seed.random, seed.clock.now()
    for kind, table in tables.items():
        live = seed.length(SHARES[kind])
        count = live + ceil(live * ARCHIVED_SHARE)
        archived = set(random.sample(range(count), count - live))
        past = sorted(moment(random, now) for _ in range(count))
        for number, created_at in enumerate(past):
            item = _seed_item(portal, table, created_at, now, random)
            item.archived_at = item.updated_at if number in archived else None
    for _ in range(seed.length(SHARES["owners"])):
        _add_owner(portal, moment(random, now), {}, random)
    for kind, other in TIES:
        others = list(tables[other].items)
        for item_id in tables[kind].items:
            if others and random.random() < 0.6:
                _tie(portal, (kind, item_id), (other, random.choice(others)))
    return portal


def record(item: Item, names: Mapping[str, None] | None = None) -> Json:
    """An object as the API gives it, with those properties (all, when None)."""
    shown = item.properties if names is None else {n: item.properties[n] for n in names}
    archived = {"archivedAt": stamp(item.archived_at)} if item.archived_at else {}
    return {
        "id": item.id,
        "properties": dict(sorted(shown.items())),
        "createdAt": stamp(item.created_at),
        "updatedAt": stamp(item.updated_at),
        "archived": item.archived_at is not None,
        **archived,
    }


def store(portal: Portal, stream: str) -> dict[str, Json]:
    """What is live, as the API gives it; of owners those, too, who have left."""
    if stream == "owners":
        return {id_: dict(owner) for id_, owner in portal.owners.items()}
    return {item.id: record(item) for item in portal.tables[stream].after(0, archived=False)}


def alterable(portal: Portal, stream: str) -> list[str]:
    """The ids of what is live."""
    if stream == "owners":
        return [id_ for id_, owner in portal.owners.items() if not owner["archived"]]
    return [item.id for item in portal.tables[stream].after(0, archived=False)]


@MUTATIONS.of(PROPERTIES)
def _apply(portal: Portal, change: Change) -> str | None:
    table, fields = portal.tables[change.stream], change.record.get("properties", change.record)
    refuse_unknown(table.kind, fields, PROPERTIES[table.kind])
    given = {name: None if value is None else str(value) for name, value in fields.items()}
    if change.op == "add":
        made_up = MAKERS[change.stream](change.random, portal.clock.now())
        return create(portal, table, {**made_up, **given}, change.random).id
    item = table.items[str(change.id)]
    if change.op == "delete":
        archive(portal, table.kind, item)
    else:
        update(portal, table, item, given or _retouched(table.kind, item, change.random))
    return None


def create(
    portal: Portal, table: Table, given: Properties, random: Random, *, told: bool = True
) -> Item:
    """A new object, created now."""
    now = portal.clock.now()
    item = Item(table.next_id(random), {}, now, now)
    item.properties = dict.fromkeys(PROPERTIES[table.kind]) | _written(given)
    item.properties |= {"hs_object_id": item.id, "createdate": stamp(now)}
    item.properties[modified(table.kind)] = stamp(now)
    if portal.search_lag:
        item.former.append((now, None))
    table.add(item)
    if told:
        tell(portal, table.kind, item, "creation", now, changed=_set(given))
    return item


def update(portal: Portal, table: Table, item: Item, given: Properties) -> None:
    """Sets properties; the time of the last change always moves."""
    now = portal.clock.after(item.updated_at)
    if portal.search_lag:
        item.former = [past for past in item.former if past[0] > now - LONGEST_LAG]
        item.former.append((now, dict(item.properties)))
    written = _written(given)
    changed = {name: new for name, new in written.items() if item.properties[name] != new}
    item.properties |= written
    item.properties |= {"hs_object_id": item.id, "createdate": stamp(item.created_at)}
    item.properties[modified(table.kind)] = stamp(now)
    item.updated_at = now
    table.revision += 1
    if changed:
        tell(portal, table.kind, item, "propertyChange", now, changed=changed)


def archive(portal: Portal, kind: str, item: Item, *, told: bool = True) -> None:
    """Takes the object out of every answer but those that ask for archived ones."""
    item.archived_at = now = portal.clock.now()
    for table in portal.tables.values():
        table.revision += 1
    if told:
        tell(portal, kind, item, "deletion", now)


def tell(
    portal: Portal,
    kind: str,
    item: Item,
    what: str,
    at: datetime,
    *,
    changed: Properties | None = None,
    **more: object,
) -> None:
    """What happened to an object, in the words of HubSpot's events."""
    milliseconds = round(at.timestamp() * 1000)
    told = {"kind": kind, "id": item.id, "what": what, "at": milliseconds}
    portal.tell({**told, "changed": changed or {}, "more": more})


def _set(given: Properties) -> Properties:
    return {name: value for name, value in _written(given).items() if value is not None}


def _written(given: Properties) -> Properties:
    """Addresses are kept in small letters."""
    email = given.get("email")
    return {**given, "email": email.lower()} if email else given


def _seed_item(
    portal: Portal, table: Table, created_at: datetime, now: datetime, random: Random
) -> Item:
    item = create(portal, table, MAKERS[table.kind](random, created_at), random)
    item.created_at = created_at
    # An import touches many objects at one moment: a time is no unique place in the order.
    age = now - created_at
    imports = age // IMPORTED_EVERY
    is_imported, untouched = random.random() < 0.2, age * random.random()
    item.updated_at = now - (
        IMPORTED_EVERY * imports
        if is_imported and imports
        else timedelta(milliseconds=untouched // timedelta(milliseconds=1))
    )
    item.properties["createdate"] = stamp(created_at)
    item.properties[modified(table.kind)] = stamp(item.updated_at)
    return item


def _tie(portal: Portal, one: tuple[str, str], other: tuple[str, str]) -> None:
    portal.ties.setdefault(one, {}).setdefault(other[0], []).append(other[1])
    portal.ties.setdefault(other, {}).setdefault(one[0], []).append(one[1])


def _maybe(random: Random, value: str) -> str | None:
    return value if random.random() < 0.8 else None


def _contact(random: Random, created_at: datetime) -> Properties:
    first, last = person(random)
    company = firm(random)
    city, country = random.choice(PLACES)
    mailbox = f"{plain(first)}.{plain(last)}.{random.getrandbits(32):08x}"
    return {
        "email": f"{mailbox}@{domain(company)}",
        "firstname": first,
        "lastname": last,
        "phone": _maybe(random, phone(random)),
        "company": company,
        "jobtitle": _maybe(random, random.choice(JOBS)),
        "lifecyclestage": random.choice(("subscriber", "lead", "opportunity", "customer")),
        "hs_lead_status": _maybe(random, random.choice(("NEW", "OPEN", "IN_PROGRESS"))),
        "website": _maybe(random, f"https://www.{domain(company)}"),
        "city": city,
        "country": country,
    }


def _company(random: Random, created_at: datetime) -> Properties:
    name = firm(random)
    city, country = random.choice(PLACES)
    return {
        "name": name,
        "domain": domain(name),
        "phone": _maybe(random, phone(random)),
        "industry": _maybe(random, random.choice(("COMPUTER_SOFTWARE", "RETAIL", "BANKING"))),
        "city": city,
        "country": country,
        "numberofemployees": _maybe(random, str(random.randint(1, 20_000))),
        "annualrevenue": _maybe(random, str(random.randint(1, 9_000) * 10_000)),
    }


def _deal(random: Random, created_at: datetime) -> Properties:
    closes = created_at + timedelta(days=random.randint(5, 200))
    return {
        "dealname": f"{firm(random)}: {random.choice(TOPICS)}",
        "amount": _maybe(random, f"{random.randint(100, 9_000_000) / 100:.2f}"),
        "dealstage": random.choice(("appointmentscheduled", "contractsent", "closedwon")),
        "pipeline": "default",
        "closedate": _maybe(random, stamp(closes)),
    }


def _ticket(random: Random, created_at: datetime) -> Properties:
    return {
        "subject": random.choice(TOPICS).capitalize(),
        "content": _maybe(random, sentence(random)),
        "hs_pipeline": "0",
        "hs_pipeline_stage": random.choice("1234"),
        "hs_ticket_priority": _maybe(random, random.choice(("LOW", "MEDIUM", "HIGH"))),
    }


MAKERS: dict[str, Callable[[Random, datetime], Properties]] = {
    "contacts": _contact,
    "companies": _company,
    "deals": _deal,
    "tickets": _ticket,
}


def _retouched(kind: str, item: Item, random: Random) -> Properties:
    """A few properties set anew, now and then one emptied; at least one to another value."""
    fresh = MAKERS[kind](random, item.created_at)
    fresh.pop("email", None)
    chosen = random.sample(sorted(fresh), k=random.randint(1, 3))
    drawn = {name: fresh[name] for name in chosen}
    same = all(item.properties[name] == value for name, value in drawn.items())
    return _retouched(kind, item, random) if same else drawn


def _add_owner(portal: Portal, created_at: datetime, given: Json, random: Random) -> str:
    first, last = person(random)
    number = max((int(known) for known in portal.owners), default=40_000_000)
    id_ = str(number + random.randint(1, 900))
    user_id = random.randint(1_000_000, 99_999_999)
    portal.owners[id_] = {
        "id": id_,
        "email": f"{plain(first)}.{plain(last)}.{id_}@portal-{portal.id}.example",
        "type": "PERSON",
        "firstName": first,
        "lastName": last,
        "userId": user_id,
        "userIdIncludingInactive": user_id,
        "createdAt": stamp(created_at),
        "updatedAt": stamp(created_at),
        "archived": False,
        **given,
    }
    return id_


@MUTATIONS.of("owners", "add", "change")
def _apply_owner(portal: Portal, change: Change) -> str | None:
    if change.op == "add":
        return _add_owner(portal, portal.clock.now(), change.record, change.random)
    owner = portal.owners[str(change.id)]
    first, last = person(change.random)
    # HubSpot's owners change by name; the time moves even where the name drawn is the same.
    drawn = dict(change.record) or {"firstName": first, "lastName": last}
    if drawn.get("archived"):
        # Who has left has no name any more, and no user; records go on naming the owner.
        drawn |= {"userId": None, "firstName": "", "lastName": ""}
    now = portal.clock.after(datetime.fromisoformat(owner["updatedAt"]))
    owner |= {**drawn, "updatedAt": stamp(now)}
    return None
