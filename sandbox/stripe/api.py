"""Stripe's lists and objects, read by an account's own key or by a platform's for it.

https://docs.stripe.com/api (2026-11)
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import Route
from sandbox.stripe.form import asked, missing, refuse
from sandbox.stripe.store import STATUSES, Business, business_of, newest_first, page
from sandbox.stripe.versions import asked_version, shown

API = "api.stripe.com"
LISTED = ("created", "ending_before", "limit", "starting_after")
# Event types that may be asked for at once.
MOST_TYPES = 20
HELD: dict[str, Callable[[Business], dict[str, Json]]] = {
    "charge": lambda held: held.charges,
    "customer": lambda held: held.customers,
    "invoice": lambda held: held.invoices,
    "payment_intent": lambda held: held.payment_intents,
    "subscription": lambda held: held.subscriptions,
}


def listing(kind: str, *filters: str) -> Callable[[Call], Response]:
    """The list of a kind of object, which may be narrowed by those of its fields."""

    def answer(call: Call) -> Response:
        given = asked(call, (*filters, *LISTED))
        found: Iterable[Json] = HELD[kind](business_of(call)).values()
        living = [each for each in found if not each.get("deleted")]
        for name in filters:
            living = [each for each in living if given.get(name) in (None, each[name])]
        return _shown_page(call, given, living)

    return answer


def single(kind: str) -> Callable[[Call], Response]:
    """One object, by the id in the path; of a deleted customer that it is."""

    def answer(call: Call) -> Response:
        asked(call, ())
        held, id = business_of(call), call.params["id"]
        found = HELD[kind](held).get(id)
        if found is None:
            missing(kind, id)
        return reply(_as_asked(call, held, found))

    return answer


def list_subscriptions(call: Call) -> Response:
    given = asked(call, ("customer", "status", *LISTED))
    held, status = business_of(call), given.get("status")
    if status not in (None, "all", "ended", *STATUSES):
        refuse("Invalid status.", param="status")
    customer = given.get("customer")
    if customer is not None:
        held.customer(customer, param="customer", status=400)
    found = (
        each
        for each in held.subscriptions.values()
        if customer in (None, each["customer"]) and _is_asked_for(each["status"], status)
    )
    return _shown_page(call, given, found)


def _is_asked_for(status: str, wanted: str | None) -> bool:
    if wanted is None:
        return status not in ("canceled", "incomplete_expired")
    return wanted in ("all", status)


def list_items(call: Call) -> Response:
    given = asked(call, ("subscription", *LISTED))
    found = business_of(call).subscription(str(given.get("subscription", "")))
    return reply(page(call, given, found["items"]["data"]))


def list_lines(call: Call) -> Response:
    given, id = asked(call, LISTED), call.params["id"]
    found = business_of(call).invoices.get(id)
    if found is None:
        missing("invoice", id)
    return reply(page(call, given, found["lines"]["data"]))


def list_events(call: Call) -> Response:
    given = asked(call, ("delivery_success", "type", "types", *LISTED))
    types = given.get("types")
    if types is not None and "type" in given:
        refuse("You may only specify one of these parameters: type, types.", param="types")
    if types is not None and not (isinstance(types, list) and len(types) <= MOST_TYPES):
        refuse("Invalid array.", param="types")
    patterns = [given["type"]] if "type" in given else types
    found = [
        event
        for event in business_of(call).kept()
        if patterns is None or any(fnmatchcase(event["type"], one) for one in patterns)
    ]
    return reply(page(call, given, found))


def show_event(call: Call) -> Response:
    for event in business_of(call).kept():
        if event["id"] == call.params["id"]:
            return reply(event)
    missing("event", call.params["id"])


def show_account(call: Call) -> Response:
    if call.params.get("id", call.account.id) != call.account.id:
        missing("account", call.params["id"])
    return reply(
        {
            "id": call.account.id,
            "object": "account",
            "business_profile": {"name": call.account.name},
            "charges_enabled": True,
            "country": "US",
            "default_currency": "usd",
            "type": "standard",
        }
    )


def show_balance(call: Call) -> Response:
    """What is on the account: nothing, but of which mode it is."""
    asked(call, ())
    livemode = business_of(call).livemode
    return reply({"object": "balance", "available": [], "livemode": livemode, "pending": []})


def _shown_page(call: Call, given: Json, found: Iterable[Json]) -> Response:
    body, held = page(call, given, newest_first(found)), business_of(call)
    return reply({**body, "data": [_as_asked(call, held, each) for each in body["data"]]})


def _as_asked(call: Call, held: Business, found: Json) -> Json:
    return found if found.get("deleted") else shown(found, asked_version(call, held.version))


def _get(path: str, handler: Any) -> Route:
    return Route("GET", API, path, handler)


READING = (
    _get("/v1/account", show_account),
    _get("/v1/accounts/{id}", show_account),
    _get("/v1/balance", show_balance),
    _get("/v1/charges", listing("charge", "customer", "payment_intent")),
    _get("/v1/charges/{id}", single("charge")),
    _get("/v1/customers", listing("customer", "email")),
    _get("/v1/customers/{id}", single("customer")),
    _get("/v1/events", list_events),
    _get("/v1/events/{id}", show_event),
    _get("/v1/invoices", listing("invoice", "customer", "status")),
    _get("/v1/invoices/{id}", single("invoice")),
    _get("/v1/invoices/{id}/lines", list_lines),
    _get("/v1/payment_intents", listing("payment_intent", "customer")),
    _get("/v1/payment_intents/{id}", single("payment_intent")),
    _get("/v1/subscription_items", list_items),
    _get("/v1/subscriptions", list_subscriptions),
    _get("/v1/subscriptions/{id}", single("subscription")),
)
