"""A shop in memory: its rows as the Admin API shows them, how they are made, changed and found."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock
from sandbox.kernel.clock import stamp_in_seconds as stamp
from sandbox.kernel.data import PLACES, TOPICS, firm, moment, person, phone, plain
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.shopify.schema import ROWS, TYPES

# Rows of each stream in a shop of a given size.
SHARES = {"orders": 1.0, "products": 0.6, "customers": 0.8, "inventory_items": 0.7, "locations": 0}
LOCATIONS = 4
# Orders are made up within the days that every app may see.
ORDER_DAYS = 50
HOUR = timedelta(hours=1)
_TERM = re.compile(r"(\w+):\s*(>=|<=|>|<|)\s*(?:'([^']*)'|\"([^\"]*)\"|(\S+))")
_TIMES = {"updated_at": "updatedAt", "created_at": "createdAt"}


class BadQueryError(Exception):
    """A filter that is none."""


@dataclass
class Bulk:
    """A bulk operation: what it exports, and when it is done."""

    id: str
    query: str
    created_at: datetime
    done_at: datetime
    lines: bytes = b""
    objects: int = 0
    fate: str = "COMPLETED"


@dataclass
class Shop:
    """One shop. Rows are kept by their numbers, which the webhooks tell and ids end in."""

    domain: str
    name: str
    number: int
    clock: Clock
    tables: dict[str, dict[str, Json]]
    tell: Callable[[Any], None] = lambda what: None
    last: int = 4_500_000_000_000
    bulks: dict[str, Bulk] = field(default_factory=dict)
    # How long a bulk operation takes, and what comes of it.
    bulk_seconds: float = 45.0
    bulk_fate: str = "COMPLETED"
    # Of how many days an app without read_all_orders sees the orders: 60, where that is played.
    shown_days: float | None = None
    # How long after it a change shows in searches, and what they show meanwhile: until when, of
    # which row of a stream, and how that was (None: not there).
    lag: float = 0.0
    late: list[tuple[datetime, str, str, Json | None]] = field(default_factory=list)

    def next_id(self, random: Random) -> str:
        self.last += random.randint(1, 90_000)
        return str(self.last)


MUTATIONS = Mutations[Shop](
    settable={stream: re.findall(r"(\w+):", ROWS[type_]) for stream, type_ in TYPES.items()}
)


def gid(stream: str, number: str) -> str:
    return f"gid://shopify/{TYPES[stream]}/{number}"


def new(seed: Seed) -> Shop:
    """A shop filled from the seed."""
    random, now = seed.random, seed.clock.now()
    shop = Shop(
        seed.account_id, seed.name, random.randint(10**9, 10**11), seed.clock,
        {stream: {} for stream in TYPES}, tell=seed.tell,
    )  # fmt: skip
    for stream in ("locations", "customers", "products", "inventory_items", "orders"):
        count = round(seed.size * SHARES[stream]) if seed.size else 0
        if stream == "locations" and seed.size:
            count = LOCATIONS
        days = ORDER_DAYS if stream == "orders" else 400
        made = sorted(moment(random, now, days) for _ in range(max(count, 0)))
        for created_at in made:
            row = _add(shop, stream, {}, created_at, random)
            # An app that touches many at once leaves one time on all of them.
            hours = (now - created_at) // HOUR
            if random.random() < 0.4 and hours > 30:
                row["updatedAt"] = stamp(now - (hours - 30) * HOUR)
    return shop


def store(shop: Shop, stream: str) -> dict[str, Json]:
    """What is there, by number, with all of its fields."""
    return {number: dict(row) for number, row in shop.tables[stream].items()}


@MUTATIONS.of(TYPES)
def _apply(shop: Shop, change: Change) -> str:
    """An ordered add, change or delete; searches may show it later."""
    stream, table = change.stream, shop.tables[change.stream]
    before = dict(table.get(str(change.id), {})) or None
    if change.op == "add":
        row = _add(shop, stream, change.record, shop.clock.now(), change.random)
        _tell(shop, stream, "create", row)
    elif change.op == "delete":
        row = table.pop(str(change.id))
        _forget(shop, stream, row)
        _tell(shop, stream, "delete", row)
    else:
        row = table[str(change.id)]
        fresh = MAKERS[stream](shop, change.random, shop.clock.now())
        drawn = {name: fresh[name] for name in change.random.sample(sorted(fresh), k=3)}
        row |= change.record or drawn
        _touch(shop, row)
        _tell(shop, stream, "update", row)
    number = str(row["legacyResourceId"])
    if shop.lag:
        until = shop.clock.now() + timedelta(seconds=shop.lag)
        shop.late.append((until, stream, number, before))
    return number


def _touch(shop: Shop, row: Json) -> None:
    """Two changes within a second show one time; none goes back."""
    row["updatedAt"] = max(row["updatedAt"], stamp(shop.clock.now()))


def found(shop: Shop, stream: str, query: str | None) -> Iterator[Json]:
    """The rows that a search finds."""
    tests = list(_tests(query or ""))
    former = _former(shop, stream)
    for number, row in shop.tables[stream].items():
        known = former.get(number, row)
        if known is not None and all(test(known) for test in tests):
            yield row


def _former(shop: Shop, stream: str) -> dict[str, Json | None]:
    """The rows that searches know as they were; what they find is shown as it is."""
    shop.late = [one for one in shop.late if one[0] > shop.clock.now()]
    former: dict[str, Json | None] = {}
    for _, of, number, row in shop.late:
        if of == stream:
            former.setdefault(number, row)
    return former


def _tests(query: str) -> Iterator[Callable[[Json], bool]]:
    rest = _TERM.sub("", query).replace("AND", "").strip()
    if rest:
        raise BadQueryError(f"the sandbox does not read {rest!r} in a search")
    for name, sign, *values in _TERM.findall(query):
        value = next((each for each in values if each), "")
        if name not in _TIMES:
            raise BadQueryError(f"the sandbox does not search by {name}")
        try:
            at = datetime.fromisoformat(value)
        except ValueError as error:
            raise BadQueryError(f"{value!r} is no time") from error
        wanted = stamp(at if at.tzinfo else at.replace(tzinfo=UTC))
        yield _test(_TIMES[name], sign, wanted)


def _test(name: str, sign: str, wanted: str) -> Callable[[Json], bool]:
    compare: Mapping[str, Callable[[str], bool]] = {
        ">=": lambda value: value >= wanted,
        "<=": lambda value: value <= wanted,
        ">": lambda value: value > wanted,
        "<": lambda value: value < wanted,
        "": lambda value: value == wanted,
    }
    return lambda row: compare[sign](row[name])


def _add(shop: Shop, stream: str, given: Json, at: datetime, random: Random) -> Json:
    number = shop.next_id(random)
    row = {
        "id": gid(stream, number),
        "legacyResourceId": number,
        **MAKERS[stream](shop, random, at),
        **given,
        "createdAt": stamp(at),
        "updatedAt": stamp(at),
    }
    shop.tables[stream][number] = row
    return row


def _forget(shop: Shop, stream: str, gone: Json) -> None:
    """An order of a customer that is deleted names nobody."""
    if stream != "customers":
        return
    for order in shop.tables["orders"].values():
        if order["customer"] == {"id": gone["id"]}:
            order["customer"] = None
            _touch(shop, order)
            _tell(shop, "orders", "update", order)


def _tell(shop: Shop, stream: str, what: str, row: Json) -> None:
    topic = "updated" if (stream, what) == ("orders", "update") else what
    shop.tell({"stream": stream, "topic": f"{stream}/{topic}", "row": dict(row)})


def sell(shop: Shop, random: Random) -> str:
    """A product is sold: its stock changes, of which only the event of the stock tells."""
    number = random.choice(sorted(shop.tables["inventory_items"]))
    product = product_of(shop, number)
    if product is None:
        raise RefusedError("the shop has no product")
    product["totalInventory"] -= 1
    _touch(shop, product)
    level = {"inventory_item_id": int(number), "location_id": 1, "available": 3}
    shop.tell({"topic": "inventory_levels/update", "payload": level})
    return str(product["legacyResourceId"])


def product_of(shop: Shop, item: str) -> Json | None:
    """The product whose only variant has that inventory item."""
    products = sorted(shop.tables["products"])
    return shop.tables["products"][products[int(item) % len(products)]] if products else None


def _maybe(random: Random, value: Any) -> Any:
    return value if random.random() < 0.7 else None


def _money(random: Random, most: int = 90_000) -> Json:
    return {"amount": f"{random.randint(100, most) / 100:.2f}", "currencyCode": "EUR"}


def _order(shop: Shop, random: Random, at: datetime) -> Json:
    first, last = person(random)
    total = _money(random)
    customers = list(shop.tables["customers"].values())
    customer = random.choice(customers)["id"] if customers else None
    cancelled = random.random() < 0.2
    return {
        "name": f"#{random.randint(1_001, 99_999)}",
        "email": _maybe(random, f"{plain(first)}.{plain(last)}@mail.example"),
        "phone": _maybe(random, phone(random)),
        "note": _maybe(random, random.choice(TOPICS)),
        "processedAt": stamp(at),
        "cancelledAt": stamp(at) if cancelled else None,
        "cancelReason": "CUSTOMER" if cancelled else None,
        "closedAt": _maybe(random, stamp(at)),
        "displayFinancialStatus": random.choice(("PAID", "PENDING", "REFUNDED")),
        "displayFulfillmentStatus": random.choice(("FULFILLED", "UNFULFILLED")),
        "currencyCode": "EUR",
        "confirmed": True,
        "test": random.random() < 0.1,
        "tags": random.sample(("gift", "rush", "wholesale"), k=random.randint(0, 2)),
        "currentSubtotalLineItemsQuantity": random.randint(1, 40),
        "totalPriceSet": {"shopMoney": total},
        "currentTotalPriceSet": {"shopMoney": _money(random)},
        "customer": {"id": customer} if customer else None,
    }


def _product(shop: Shop, random: Random, at: datetime) -> Json:
    title = f"{firm(random)} {random.choice(('Mug', 'Lamp', 'Chair', 'Notebook'))}"
    return {
        "title": title,
        "handle": f"{plain(title)}-{random.getrandbits(24):06x}",
        "status": random.choice(("ACTIVE", "DRAFT", "ARCHIVED")),
        "vendor": firm(random),
        "productType": random.choice(("Home", "Office", "")),
        "tags": random.sample(("new", "sale", "fragile"), k=random.randint(0, 2)),
        "totalInventory": random.randint(-2, 900),
        "publishedAt": _maybe(random, stamp(at)),
    }


def _customer(shop: Shop, random: Random, at: datetime) -> Json:
    first, last = person(random)
    mail = f"{plain(first)}.{plain(last)}.{random.getrandbits(32):08x}@mail.example"
    return {
        "firstName": first,
        "lastName": last,
        "displayName": f"{first} {last}",
        "state": random.choice(("ENABLED", "DISABLED", "INVITED")),
        "note": _maybe(random, random.choice(TOPICS)),
        "tags": random.sample(("vip", "press"), k=random.randint(0, 2)),
        "locale": random.choice(("en", "de", "fr")),
        "taxExempt": random.random() < 0.1,
        "verifiedEmail": random.random() < 0.9,
        "numberOfOrders": str(random.randint(0, 60)),
        "amountSpent": _money(random),
        "defaultEmailAddress": _maybe(random, {"emailAddress": mail}),
        "defaultPhoneNumber": _maybe(random, {"phoneNumber": phone(random)}),
    }


def _item(shop: Shop, random: Random, at: datetime) -> Json:
    return {
        "sku": _maybe(random, f"SKU-{random.getrandbits(32):08x}"),
        "tracked": random.random() < 0.8,
        "requiresShipping": random.random() < 0.9,
        "countryCodeOfOrigin": _maybe(random, random.choice(("DE", "FR", "JP"))),
        "harmonizedSystemCode": _maybe(random, f"{random.randint(100_000, 999_999)}"),
        "unitCost": _maybe(random, _money(random, 9_000)),
    }


def _location(shop: Shop, random: Random, at: datetime) -> Json:
    city, country = random.choice(PLACES)
    return {
        "name": f"{city} {random.getrandbits(20):05x}",
        "isActive": random.random() < 0.8,
        "shipsInventory": random.random() < 0.8,
        "fulfillsOnlineOrders": random.random() < 0.8,
        "address": {
            "address1": f"{random.randint(1, 99)} Main Street",
            "city": city,
            "country": country,
            "countryCode": country[:2].upper(),
            "zip": f"{random.randint(10_000, 99_999)}",
        },
    }


MAKERS: dict[str, Callable[[Shop, Random, datetime], Json]] = {
    "orders": _order,
    "products": _product,
    "customers": _customer,
    "inventory_items": _item,
    "locations": _location,
}
