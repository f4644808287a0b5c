"""A business on Stripe: its customers, what they pay and are subscribed to, and the events that
tell of it; once in live mode and once in test mode.

Objects are held in the form of API version 2026-10-28.endive, with the fields that are read here.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt
from random import Random
from string import ascii_letters, digits
from typing import Any

from starlette.responses import Response

from sandbox.kernel.clock import Clock
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json
from sandbox.stripe.form import missing, refuse
from sandbox.stripe.versions import NEW, shown

DAY = 86_400
# So long events are kept.
KEPT = 30 * DAY
TEST_KEY = "sk_test_"
# What there is to buy, in cents a month; the last is not sold any more.
PRICES = {
    "price_1SandboxSolo": ("prod_SandboxSolo", 1_900, True),
    "price_1SandboxTeam": ("prod_SandboxTeam", 9_900, True),
    "price_1SandboxEnterprise": ("prod_SandboxEnterprise", 49_900, True),
    "price_1SandboxSeat": ("prod_SandboxSeat", 500, True),
    "price_1SandboxFormer": ("prod_SandboxSolo", 900, False),
}
STATUSES = (
    "active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing",
    "unpaid",
)  # fmt: skip


@dataclass
class Business:
    """One account's data of one mode. `version` is what events are rendered in, and answers to
    calls that ask for no other."""

    clock: Clock
    random: Random
    heard: Callable[[Json], None] = lambda event: None
    livemode: bool = False
    version: str = NEW
    customers: dict[str, Json] = field(default_factory=dict)
    charges: dict[str, Json] = field(default_factory=dict)
    payment_intents: dict[str, Json] = field(default_factory=dict)
    invoices: dict[str, Json] = field(default_factory=dict)
    subscriptions: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    # What each session is for: prices, and metadata of the subscription to come.
    carts: dict[str, tuple[list[Json], Json]] = field(default_factory=dict)
    portals: dict[str, Json] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    answers: dict[str, tuple[bytes, Response]] = field(default_factory=dict)
    invoiced: int = 0

    def id(self, prefix: str) -> str:
        return f"{prefix}_{''.join(self.random.choices(ascii_letters + digits, k=24))}"

    def now(self) -> int:
        return int(self.clock.time())

    def tell(self, type: str, about: Json, **previous: Any) -> None:
        """An event: what it is about, as it is now, and `previous` values of what changed."""
        event = self.note(type, about, self.now(), previous)
        self.heard(event)

    def note(self, type: str, about: Json, at: int, previous: Json | None = None) -> Json:
        """Puts an event among those of the account, without a word to anybody."""
        data = {"object": deepcopy(shown(about, self.version))}
        event = {
            "id": self.id("evt"),
            "object": "event",
            "api_version": self.version,
            "created": at,
            "data": {**data, **({"previous_attributes": previous} if previous else {})},
            "livemode": self.livemode,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type,
        }
        self.events.append(event)
        return event

    def kept(self) -> list[Json]:
        """The events that are not too old, the newest first."""
        since = self.now() - KEPT
        return newest_first(event for event in self.events if event["created"] > since)

    def customer(self, id: str, *, param: str = "id", status: int = 404) -> Json:
        """The customer of that id, deleted ones included."""
        if id not in self.customers:
            missing("customer", id, param=param, status=status)
        return self.customers[id]

    def living(self, id: Any) -> Json:
        """The customer that a parameter names."""
        found = self.customer(str(id), param="customer", status=400)
        if found.get("deleted"):
            missing("customer", str(id), param="customer", status=400)
        return found

    def forget(self, id: str) -> Json:
        """A living customer is deleted, and what it is subscribed to ends; what is left of it."""
        for each in list(self.subscriptions.values()):
            if each["customer"] == id and each["status"] not in ("canceled", "incomplete_expired"):
                self.turn(each["id"], "canceled")
        self.tell("customer.deleted", self.customers[id])
        self.customers[id] = {"id": id, "object": "customer", "deleted": True}
        return self.customers[id]

    def subscription(self, id: str) -> Json:
        if id not in self.subscriptions:
            missing("subscription", id)
        return self.subscriptions[id]

    def subscribe(
        self, customer: str, items: Any, metadata: Json | None = None, status: str = "active"
    ) -> Json:
        """A new subscription to those prices."""
        made = self.subscribed(customer, items, at=self.now())
        made |= {"metadata": metadata or {}, "status": status}
        self.tell("customer.subscription.created", made)
        return made

    def subscribed(self, customer: str, items: Any, *, at: int) -> Json:
        """A subscription that is told to nobody."""
        id = self.id("sub")
        made = {
            "id": id,
            "object": "subscription",
            "cancel_at_period_end": False,
            "canceled_at": None,
            "collection_method": "charge_automatically",
            "created": at,
            "currency": "usd",
            "customer": customer,
            "ended_at": None,
            "items": _list(f"/v1/subscription_items?subscription={id}", self._items(id, items)),
            "latest_invoice": self.id("in"),
            "livemode": self.livemode,
            "metadata": {},
            "start_date": at,
            "status": "active",
        }
        self.subscriptions[id] = made
        return made

    def turn(self, id: str, status: str) -> Json:
        """A subscription comes to another status, as time and payments bring it about."""
        found = self.subscription(id)
        found["status"] = status
        if status == "canceled":
            found["canceled_at"] = found["ended_at"] = self.now()
            self.tell("customer.subscription.deleted", found)
        else:
            self.tell("customer.subscription.updated", found)
        return found

    def change(self, id: str, items: Any) -> Json:
        """Other prices from now on."""
        found = self.subscription(id)
        found["items"]["data"] = self._items(id, items)
        self.tell("customer.subscription.updated", found)
        return found

    def _items(self, subscription: str, items: Any) -> list[Json]:
        if not isinstance(items, list) or not items:
            refuse("Missing required param: items.", param="items", code="parameter_missing")
        return [self._item(subscription, number, item) for number, item in enumerate(items)]

    def _item(self, subscription: str, number: int, item: Any) -> Json:
        param = f"items[{number}]"
        if not isinstance(item, dict) or "price" not in item:
            refuse(f"Missing required param: {param}[price].", param=param)
        sold = price(item["price"], param=f"{param}[price]", livemode=self.livemode)
        if not sold["active"]:
            refuse("The price specified is inactive.", param=f"{param}[price]")
        now = self.now()
        return {
            "id": self.id("si"),
            "object": "subscription_item",
            "created": now,
            "current_period_end": now + 30 * DAY,
            "current_period_start": now,
            "metadata": {},
            "price": sold,
            "quantity": int(item.get("quantity", 1)),
            "subscription": subscription,
        }


@dataclass
class Modes:
    """What an account has in live mode, and what it has in test mode: neither sees the other."""

    live: Business
    test: Business


def business_of(call: Call) -> Business:
    """What a call is about: the data of its key's mode."""
    held: Modes = call.state
    return held.test if is_of_test_mode(call) else held.live


def is_of_test_mode(call: Call) -> bool:
    return call.headers.get("authorization", "").partition(" ")[2].startswith(TEST_KEY)


def price(id: str, *, param: str = "price", status: int = 400, livemode: bool = False) -> Json:
    """The price of that id."""
    if id not in PRICES:
        missing("price", id, param=param, status=status)
    product, amount, active = PRICES[id]
    return {
        "id": id,
        "object": "price",
        "active": active,
        "billing_scheme": "per_unit",
        "created": 1_764_000_000,
        "currency": "usd",
        "livemode": livemode,
        "metadata": {},
        "product": product,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "type": "recurring",
        "unit_amount": amount,
    }


def _list(url: str, data: list[Json]) -> Json:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def newest_first(found: Iterable[Json]) -> list[Json]:
    return sorted(found, key=lambda each: int(each["created"]))[::-1]


def page(call: Call, given: Json, rows: list[Json]) -> Json:
    """A page of a list: what follows the id that was asked for, or goes before it."""
    limit = str(given.get("limit", 10))
    if not (limit.isdecimal() and 1 <= int(limit) <= 100):
        refuse("This value must be from 1 to 100.", param="limit")
    rows, most = _created(given.get("created"), rows), int(limit)
    if "ending_before" in given:
        before = rows[: _place(rows, given, "ending_before")]
        return {**_list(call.path, before[-most:]), "has_more": len(before) > most}
    if "starting_after" in given:
        rows = rows[_place(rows, given, "starting_after") + 1 :]
    return {**_list(call.path, rows[:most]), "has_more": len(rows) > most}


def _place(rows: list[Json], given: Json, param: str) -> int:
    for place, row in enumerate(rows):
        if row["id"] == given[param]:
            return place
    missing("object", str(given[param]), param=param, status=400)


_BOUNDS: Mapping[str, Callable[[int, int], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def _created(asked: Any, rows: list[Json]) -> list[Json]:
    """Those of a time, or within bounds of it."""
    bounds = asked if isinstance(asked, dict) else {} if asked is None else {"": asked}
    for name, value in bounds.items():
        holds = {**_BOUNDS, "": eq}.get(name)
        if holds is None or not str(value).isdecimal():
            refuse("Invalid integer.", param="created")
        rows = [row for row in rows if holds(row["created"], int(value))]
    return rows
