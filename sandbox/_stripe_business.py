"""A business on Stripe: its customers, what they are subscribed to, and the events that tell of it.

Objects are in the form of API version 2026-10-28.endive, as far as billing reads them.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from string import ascii_letters, digits
from typing import Any

from starlette.responses import Response

from sandbox._clock import Clock
from sandbox._stripe_form import missing, refuse
from sandbox._vendor import Call, Json, RefusedError

DAY = 86_400
VERSION = "2026-10-28.endive"
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
    """One account's state."""

    clock: Clock
    random: Random
    heard: Callable[[Json], None] = lambda event: None
    customers: dict[str, Json] = field(default_factory=dict)
    subscriptions: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    # What each session is for: prices, and metadata of the subscription to come.
    carts: dict[str, tuple[list[Json], Json]] = field(default_factory=dict)
    portals: dict[str, Json] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    answers: dict[str, tuple[bytes, Response]] = field(default_factory=dict)

    def id(self, prefix: str) -> str:
        return f"{prefix}_{''.join(self.random.choices(ascii_letters + digits, k=24))}"

    def now(self) -> int:
        return int(self.clock.time())

    def tell(self, type: str, about: Json) -> None:
        """An event: what it is about, as it is now."""
        event = {
            "id": self.id("evt"),
            "object": "event",
            "api_version": VERSION,
            "created": self.now(),
            "data": {"object": deepcopy(about)},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type,
        }
        self.events.append(event)
        self.heard(event)

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

    def subscription(self, id: str) -> Json:
        if id not in self.subscriptions:
            missing("subscription", id)
        return self.subscriptions[id]

    def subscribe(
        self, customer: str, items: Any, metadata: Json | None = None, status: str = "active"
    ) -> Json:
        """A new subscription to those prices."""
        id, now = self.id("sub"), self.now()
        made = {
            "id": id,
            "object": "subscription",
            "cancel_at_period_end": False,
            "canceled_at": None,
            "collection_method": "charge_automatically",
            "created": now,
            "currency": "usd",
            "customer": customer,
            "ended_at": None,
            "items": _list(f"/v1/subscription_items?subscription={id}", self._items(id, items)),
            "latest_invoice": self.id("in"),
            "livemode": False,
            "metadata": metadata or {},
            "start_date": now,
            "status": status,
        }
        self.subscriptions[id] = made
        self.tell("customer.subscription.created", made)
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
        sold = price(item["price"], param=f"{param}[price]")
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


def price(id: str, *, param: str = "price", status: int = 400) -> Json:
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
        "livemode": False,
        "metadata": {},
        "product": product,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "type": "recurring",
        "unit_amount": amount,
    }


def _list(url: str, data: list[Json]) -> Json:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def page(call: Call, given: Json, found: Iterable[Json]) -> Json:
    """A list's page: the newest first, after the id that was asked for."""
    rows = list(found)[::-1]
    limit = int(given.get("limit", 10))
    if not 1 <= limit <= 100:
        refuse("This value must be from 1 to 100.", param="limit")
    after = given.get("starting_after")
    if after is not None:
        ids = [row["id"] for row in rows]
        if after not in ids:
            missing("object", after, param="starting_after", status=400)
        rows = rows[ids.index(after) + 1 :]
    return {**_list(call.path, rows[:limit]), "has_more": len(rows) > limit}


def business(states: Mapping[str, Any], body: Json) -> Business:
    """The business that a control names."""
    found = states.get(str(body.get("account", "")))
    if not isinstance(found, Business):
        raise RefusedError(f"stripe has no such account; it has: {', '.join(states)}")
    return found
