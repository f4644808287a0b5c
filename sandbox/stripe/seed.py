"""A business's made-up objects, and what happens to them: each change with the events that Stripe
sends of it, and no others.
"""

from random import Random
from typing import Any

from sandbox.kernel.data import TOPICS, domain, firm, person, phone
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError
from sandbox.stripe.store import DAY, KEPT, PRICES, Business

# What may become of a payment intent; it is over where nothing may.
NEXT = {
    "requires_payment_method": ("requires_action", "processing", "canceled"),
    "requires_action": ("processing", "requires_payment_method", "canceled"),
    "processing": ("succeeded", "requires_payment_method"),
    "succeeded": (),
    "canceled": (),
}
TOLD = {"requires_payment_method": "payment_failed"}
SOLD = [id for id, (_, _, active) in PRICES.items() if active]
# The longest invoice, and one in so many that has more lines than stand in it.
MOST_LINES, LONG = 25, 9


def fill(held: Business, size: int) -> None:
    """An account with about so many charges, made over the last 400 days; what is young enough
    still has its event."""
    random, now = held.random, held.now()
    for _ in range(size // 2):
        _add_customer(held, random, _time(random, now))
    for _ in range(size and size // 8 + 3):
        _add_subscription(held, random, _time(random, now))
    for _ in range(size // 2):
        _add_invoice(held, random, _time(random, now))
    for _ in range(size):
        _add_payment(held, random, _time(random, now))
    for invoice in list(held.invoices.values()):
        if random.random() < 0.7:
            _finalize(held, invoice)
    made = [*held.customers.values(), *held.invoices.values(), *held.payment_intents.values()]
    told = {"customer": "customer", "invoice": "invoice", "payment_intent": "payment_intent"}
    for each in sorted(made, key=lambda one: int(one["created"])):
        if each["created"] > now - KEPT:
            held.note(f"{told[each['object']]}.created", each, each["created"])


def _time(random: Random, now: int) -> int:
    return now - random.randint(60, 400 * DAY)


def _made(held: Business, kind: str, prefix: str, at: int, **fields: Any) -> Json:
    return {
        "id": held.id(prefix),
        "object": kind,
        "created": at,
        "livemode": held.livemode,
        "metadata": {},
        **fields,
    }


def _add_customer(held: Business, random: Random, at: int) -> Json:
    first, last = person(random)
    made = _made(
        held, "customer", "cus", at,
        balance=-random.randint(0, 5_000), currency=random.choice(("usd", "eur", None)),
        delinquent=random.random() < 0.1, description=None,
        email=f"{first.lower()}@{domain(firm(random))}", name=f"{first} {last}",
        phone=phone(random),
    )  # fmt: skip
    held.customers[made["id"]] = made
    return made


def _someone(held: Business, random: Random) -> str | None:
    living = [id for id, each in held.customers.items() if not each.get("deleted")]
    return random.choice(living) if living else None


def _add_subscription(held: Business, random: Random, at: int) -> Json:
    items = [{"price": random.choice(SOLD)} for _ in range(random.choice((1, 1, 2, 12)))]
    made = held.subscribed(_someone(held, random) or "", items, at=at)
    if random.random() < 0.3:
        made |= {"status": "canceled", "canceled_at": at + DAY, "ended_at": at + DAY}
    return made


def _add_invoice(held: Business, random: Random, at: int) -> Json:
    id = held.id("in")
    many = random.randint(11, MOST_LINES) if random.randrange(LONG) == 0 else random.randint(1, 4)
    lines = [_line(held, random, id) for _ in range(many)]
    total = sum(line["amount"] for line in lines)
    subscription = random.choice([None, *held.subscriptions])
    details = {"subscription_details": {"subscription": subscription}}
    made = _made(
        held, "invoice", "in", at,
        amount_due=total, amount_paid=0, amount_remaining=total,
        billing_reason="subscription_cycle" if subscription else "manual",
        currency="usd", customer=_someone(held, random), description=None,
        due_date=at + 30 * DAY if random.random() < 0.5 else None,
        lines={
            "object": "list", "data": lines, "has_more": False, "total_count": many,
            "url": f"/v1/invoices/{id}/lines",
        },
        number=None, parent=details if subscription else None, status="draft", total=total,
    )  # fmt: skip
    made["id"] = id
    held.invoices[id] = made
    return made


def _line(held: Business, random: Random, invoice: str) -> Json:
    return {
        "id": held.id("il"),
        "object": "line_item",
        "amount": random.randint(100, 90_000),
        "currency": "usd",
        "description": random.choice(TOPICS),
        "invoice": invoice,
        "livemode": held.livemode,
        "quantity": random.randint(1, 9),
    }


def _finalize(held: Business, invoice: Json) -> None:
    held.invoiced += 1
    invoice |= {"status": "open", "number": f"INV-{held.invoiced:05d}"}


def _add_payment(held: Business, random: Random, at: int) -> Json:
    """A payment intent and, where it went well, its charge."""
    amount = random.randint(100, 250_000)
    status = random.choice(("succeeded", "succeeded", "succeeded", *NEXT))
    made = _made(
        held, "payment_intent", "pi", at,
        amount=amount, amount_received=0, canceled_at=None, currency="usd",
        customer=_someone(held, random), description=random.choice(TOPICS), latest_charge=None,
        status=status,
    )  # fmt: skip
    held.payment_intents[made["id"]] = made
    if status == "succeeded":
        _charge(held, made, at)
    elif status == "canceled":
        made["canceled_at"] = at
    return made


def _charge(held: Business, intent: Json, at: int) -> Json:
    amount = intent["amount"]
    made = _made(
        held, "charge", "ch", at,
        amount=amount, amount_captured=amount, amount_refunded=0, captured=True, currency="usd",
        customer=intent["customer"], description=intent["description"], disputed=False, paid=True,
        payment_intent=intent["id"], refunded=False, status="succeeded",
    )  # fmt: skip
    intent |= {"amount_received": amount, "latest_charge": made["id"]}
    held.charges[made["id"]] = made
    return made


# -- Changes by order ---------------------------------------------------------------------------


MUTATIONS = Mutations[Business]()


@MUTATIONS.of("customers", "add")
def _customer_comes(held: Business, change: Change) -> str:
    made = _add_customer(held, change.random, held.now()) | change.record
    held.customers[made["id"]] = made
    held.tell("customer.created", made)
    return str(made["id"])


@MUTATIONS.of("customers", "change")
def _customer_changes(held: Business, change: Change) -> str:
    """By itself; or by a discount, of which an event of its own tells."""
    found, random = held.customers[str(change.id)], change.random
    if not change.record and random.random() < 0.3:
        discount = {"object": "discount", "id": held.id("di"), "customer": found["id"]}
        found["discount"] = discount
        held.tell("customer.discount.created", discount)
        return str(found["id"])
    former = {"balance": found["balance"]}
    found |= {"balance": found["balance"] - random.randint(1, 900), **change.record}
    held.tell("customer.updated", found, **former)
    return str(found["id"])


@MUTATIONS.of("customers", "delete")
def _customer_goes(held: Business, change: Change) -> str:
    return str(held.forget(str(change.id))["id"])


@MUTATIONS.of("payment_intents", "add")
def _payment_comes(held: Business, change: Change) -> str:
    made = _add_payment(held, change.random, held.now())
    made |= change.record
    held.tell("payment_intent.created", made)
    if made["latest_charge"]:
        held.tell("charge.succeeded", held.charges[made["latest_charge"]])
        held.tell("payment_intent.succeeded", made)
    return str(made["id"])


@MUTATIONS.of("charges", "add")
def _charge_comes(held: Business, change: Change) -> str:
    intent = _add_payment(held, change.random, held.now())
    intent |= {"status": "succeeded", "canceled_at": None}
    made = held.charges.get(intent["latest_charge"] or "") or _charge(held, intent, held.now())
    made |= change.record
    held.tell("payment_intent.created", intent)
    held.tell("charge.succeeded", made)
    held.tell("payment_intent.succeeded", intent)
    return str(made["id"])


@MUTATIONS.of("charges", "change")
def _charge_changes(held: Business, change: Change) -> str:
    """It is refunded in part, or a refund fails; it is disputed, or described in other words."""
    found, random = held.charges[str(change.id)], change.random
    left = found["amount"] - found["amount_refunded"]
    if change.record or random.random() < 0.4 or left < 2:
        found |= {"description": f"{random.choice(TOPICS)} {held.id('note')}", **change.record}
        held.tell("charge.updated", found)
    elif not found["disputed"] and random.random() < 0.5:
        found["disputed"] = True
        dispute = {"id": held.id("dp"), "object": "dispute", "charge": found["id"]}
        held.tell("charge.dispute.created", dispute)
    elif found["amount_refunded"] and random.random() < 0.5:
        # The money is back; only the events of refunds tell of it.
        found |= {"amount_refunded": 0, "refunded": False}
        refund = {"id": held.id("re"), "object": "refund", "charge": found["id"]}
        held.tell("refund.failed", {**refund, "status": "failed"})
    else:
        found["amount_refunded"] += random.randint(1, left)
        found["refunded"] = found["amount_refunded"] == found["amount"]
        held.tell("charge.refunded", found)
    return str(found["id"])


@MUTATIONS.of("payment_intents", "change")
def _payment_goes_on(held: Business, change: Change) -> str:
    found = held.payment_intents[str(change.id)]
    ways = NEXT[found["status"]]
    if not ways:
        raise RefusedError("a payment intent that is over does not change")
    status = change.record.get("status", change.random.choice(ways))
    found |= {**change.record, "status": status}
    if status == "canceled":
        found["canceled_at"] = held.now()
    if status == "succeeded":
        held.tell("charge.succeeded", _charge(held, found, held.now()))
    held.tell(f"payment_intent.{TOLD.get(status, status)}", found)
    return str(found["id"])


@MUTATIONS.of("invoices", "add")
def _invoice_comes(held: Business, change: Change) -> str:
    made = _add_invoice(held, change.random, held.now())
    made |= change.record
    held.tell("invoice.created", made)
    return str(made["id"])


@MUTATIONS.of("invoices", "change")
def _invoice_changes(held: Business, change: Change) -> str:
    """A draft is finalized, an open one paid, any described in other words."""
    found, random = held.invoices[str(change.id)], change.random
    if not change.record and found["status"] == "draft" and random.random() < 0.5:
        _finalize(held, found)
        held.tell("invoice.finalized", found)
    elif not change.record and found["status"] == "open" and random.random() < 0.5:
        found |= {"status": "paid", "amount_paid": found["total"], "amount_remaining": 0}
        held.tell("invoice.paid", found)
    else:
        found |= {"description": f"{random.choice(TOPICS)} {held.id('note')}", **change.record}
        held.tell("invoice.updated", found)
    return str(found["id"])


@MUTATIONS.of("invoices", "delete")
def _invoice_goes(held: Business, change: Change) -> str:
    found = held.invoices[str(change.id)]
    if found["status"] != "draft":
        raise RefusedError("only the draft of an invoice can be deleted")
    del held.invoices[found["id"]]
    held.tell("invoice.deleted", found)
    return str(found["id"])


@MUTATIONS.of("subscriptions", "add")
def _subscription_comes(held: Business, change: Change) -> str:
    items = [{"price": change.random.choice(SOLD)}]
    customer = _someone(held, change.random) or _customer_comes(held, change)
    made = held.subscribed(customer, items, at=held.now())
    made |= change.record
    held.tell("customer.subscription.created", made)
    return str(made["id"])


@MUTATIONS.of("subscriptions", "change")
def _subscription_changes(held: Business, change: Change) -> str:
    """It is canceled at once or at its end, or priced anew."""
    found, random = held.subscriptions[str(change.id)], change.random
    if change.record:
        found |= change.record
        held.tell("customer.subscription.updated", found)
    elif found["status"] == "canceled":
        raise RefusedError("a subscription that has ended does not change")
    elif random.random() < 0.2:
        held.turn(found["id"], "canceled")
    elif random.random() < 0.3:
        found["cancel_at_period_end"] = not found["cancel_at_period_end"]
        held.tell("customer.subscription.updated", found)
    else:
        held.change(found["id"], [{"price": random.choice(SOLD)}])
    return str(found["id"])
