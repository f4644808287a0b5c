"""How a business bills through Stripe: customers, subscriptions, Checkout, the customer portal.

https://docs.stripe.com/api (2026-11). Checkout and the portal are pages that a person sees; here
they are forms whose buttons pay, change and cancel.
"""

from html import escape
from typing import Any

from starlette.responses import HTMLResponse, RedirectResponse, Response

from sandbox.kernel.consent import STYLE
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, RefusedError, reply
from sandbox.kernel.vendor import Route
from sandbox.stripe.api import API, LISTED
from sandbox.stripe.events import change_endpoint, create_endpoint, delete_endpoint, show_endpoint
from sandbox.stripe.form import asked, missing, once, refuse
from sandbox.stripe.store import (
    DAY,
    PRICES,
    STATUSES,
    Business,
    Modes,
    business_of,
    newest_first,
    page,
    price,
)

CHECKOUT, PORTAL = "checkout.stripe.com", "billing.stripe.com"


def balance(call: Call) -> Response:
    livemode = business_of(call).livemode
    return reply({"object": "balance", "available": [], "livemode": livemode, "pending": []})


def show_price(call: Call) -> Response:
    return reply(price(call.params["id"], param="price", status=404))


def create_customer(call: Call) -> Response:
    given, held = asked(call, ("name", "email", "metadata")), business_of(call)
    made = {
        "id": held.id("cus"),
        "object": "customer",
        "created": held.now(),
        "email": given.get("email"),
        "livemode": held.livemode,
        "metadata": given.get("metadata", {}),
        "name": given.get("name"),
    }
    held.customers[made["id"]] = made
    held.tell("customer.created", made)
    return reply(made)


def change_customer(call: Call) -> Response:
    given, held = asked(call, ("name", "email", "metadata")), business_of(call)
    found = held.living(call.params["id"])
    metadata = {**found["metadata"], **given.pop("metadata", {})}
    found |= {**given, "metadata": {name: value for name, value in metadata.items() if value}}
    held.tell("customer.updated", found)
    return reply(found)


def delete_customer(call: Call) -> Response:
    held = business_of(call)
    id = held.living(call.params["id"])["id"]
    return reply(held.forget(id))


def create_subscription(call: Call) -> Response:
    given, held = asked(call, ("customer", "items", "metadata")), business_of(call)
    customer = held.living(given.get("customer"))
    return reply(held.subscribe(customer["id"], given.get("items"), given.get("metadata")))


def change_subscription(call: Call) -> Response:
    given, held = asked(call, ("items",)), business_of(call)
    return reply(held.change(call.params["id"], given.get("items")))


def cancel_subscription(call: Call) -> Response:
    held = business_of(call)
    if held.subscription(call.params["id"])["status"] == "canceled":
        missing("subscription", call.params["id"])
    return reply(held.turn(call.params["id"], "canceled"))


def create_checkout(call: Call) -> Response:
    given = asked(
        call,
        (
            "mode", "customer", "client_reference_id", "line_items", "metadata",
            "subscription_data", "success_url", "cancel_url",
        ),
    )  # fmt: skip
    held = business_of(call)
    if given.get("mode") != "subscription":
        refuse("This sandbox sells subscriptions only.", param="mode")
    if "success_url" not in given:
        refuse("Missing required param: success_url.", param="success_url")
    items = given.get("line_items")
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        refuse("Missing required param: line_items.", param="line_items")
    for number, each in enumerate(items):
        if not price(each.get("price", ""), param=f"line_items[{number}][price]")["active"]:
            refuse("The price specified is inactive.", param=f"line_items[{number}][price]")
    id, customer = held.id("cs_test"), held.living(given.get("customer"))
    made = {
        "id": id,
        "object": "checkout.session",
        "cancel_url": given.get("cancel_url"),
        "client_reference_id": given.get("client_reference_id"),
        "created": held.now(),
        "customer": customer["id"],
        "expires_at": held.now() + DAY,
        "livemode": held.livemode,
        "metadata": given.get("metadata", {}),
        "mode": "subscription",
        "payment_status": "unpaid",
        "status": "open",
        "subscription": None,
        "success_url": given["success_url"],
        "url": call.url(CHECKOUT, f"/c/pay/{id}"),
    }
    held.sessions[id] = made
    held.carts[id] = items, given.get("subscription_data", {}).get("metadata", {})
    return reply(made)


def show_checkout(call: Call) -> Response:
    return reply(_session(business_of(call), call.params["id"]))


def list_checkouts(call: Call) -> Response:
    given, held = asked(call, ("customer", "status", *LISTED)), business_of(call)
    customer = given.get("customer")
    if customer is not None:
        held.customer(customer, param="customer", status=400)
    found = [
        session
        for session in (_session(held, id) for id in held.sessions)
        if customer in (None, session["customer"])
        and given.get("status") in (None, session["status"])
    ]
    return reply(page(call, given, newest_first(found)))


def expire_checkout(call: Call) -> Response:
    found = _session(business_of(call), call.params["id"])
    if found["status"] != "open":
        refuse("Only Checkout Sessions with a status of open can be expired.", param="session")
    found |= {"status": "expired", "url": None}
    return reply(found)


def create_portal(call: Call) -> Response:
    given, held = asked(call, ("customer", "return_url")), business_of(call)
    customer = held.living(given.get("customer"))
    id = held.id("bps")
    made = {
        "id": id,
        "object": "billing_portal.session",
        "configuration": "bpc_1Sandbox",
        "created": held.now(),
        "customer": customer["id"],
        "livemode": held.livemode,
        "return_url": given.get("return_url"),
        "url": call.url(PORTAL, f"/p/session/{id}"),
    }
    held.portals[id] = made
    return reply(made)


def checkout_page(call: Call) -> Response:
    """What a person who follows a checkout link sees, and what the buttons do."""
    held, session = _opened(call, "sessions")
    _session(held, session["id"])
    if session["status"] != "open":
        return _page("This page is over", "<p>It was used, or too much time has passed.</p>", 410)
    if call.method == "GET":
        items, _ = held.carts[session["id"]]
        bought = ", ".join(escape(each["price"]) for each in items)
        return _page("Checkout", f"<p>{bought}</p>{_buttons('pay', 'cancel')}")
    if call.form().get("decision") != "pay":
        return RedirectResponse(session["cancel_url"] or session["success_url"], 303)
    items, metadata = held.carts[session["id"]]
    made = held.subscribe(session["customer"], items, metadata)
    session |= {
        "status": "complete",
        "payment_status": "paid",
        "subscription": made["id"],
        "url": None,
    }
    held.tell("checkout.session.completed", session)
    return RedirectResponse(
        session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]), 303
    )


def portal_page(call: Call) -> Response:
    """What a person who follows a portal link sees: each subscription, to be changed or ended."""
    held, session = _opened(call, "portals")
    mine = [s for s in held.subscriptions.values() if s["customer"] == session["customer"]]
    if call.method == "GET":
        rows = "".join(f"<li>{escape(s['id'])}: {escape(s['status'])}</li>" for s in mine)
        back = f'<a href="{escape(session["return_url"] or "")}">Back</a>'
        return _page("Your subscriptions", f"<ul>{rows}</ul>{back}")
    form = call.form()
    if form.get("subscription") not in {s["id"] for s in mine}:
        return _page("Your subscriptions", "<p>There is no such subscription.</p>", 404)
    if form.get("decision") == "cancel":
        held.turn(form["subscription"], "canceled")
    else:
        held.change(form["subscription"], [{"price": form.get("price", "")}])
    return RedirectResponse(call.url(PORTAL, call.path), 303)


def _opened(call: Call, kind: str) -> tuple[Business, Json]:
    """The session that an address holds, and the business it is of; no key opens these pages."""
    for account in call.server.accounts.values():
        modes: Modes = account.state[call.vendor]
        for held in (modes.test, modes.live):
            if (session := getattr(held, kind).get(call.params["id"])) is not None:
                return held, session
    missing("session", call.params["id"])


def _page(title: str, content: str, status: int = 200) -> Response:
    return HTMLResponse(
        f"<!doctype html><title>{title}</title><style>{STYLE}</style>"
        f"<main><h1>{title}</h1>{content}</main>",
        status,
    )


def _buttons(*decisions: str) -> str:
    made = "".join(f'<button name="decision" value="{each}">{each}</button>' for each in decisions)
    return f'<form method="post">{made}</form>'


def subscribe(modes: Modes, body: Json) -> Json:
    """Makes a subscription of any status, as if it had come about: `customer`, `prices`."""
    held, status = modes.test, body.get("status", "active")
    if status not in STATUSES:
        raise RefusedError(f"there are the statuses {', '.join(STATUSES)}", status=400)
    items = [{"price": each} for each in body.get("prices", [])]
    if not items or any(each["price"] not in PRICES for each in items):
        raise RefusedError(f"there are the prices {', '.join(PRICES)}", status=400)
    return held.subscribe(str(body.get("customer", "")), items, status=str(status))


def turn(modes: Modes, body: Json) -> Json:
    """Brings a subscription to another status, as time and failed payments do."""
    held, id = modes.test, str(body.get("subscription", ""))
    if id not in held.subscriptions or body.get("status") not in STATUSES:
        raise RefusedError("name a subscription, and one of Stripe's statuses", status=400)
    return held.turn(id, str(body["status"]))


def _session(held: Business, id: str) -> Json:
    if id not in held.sessions:
        missing("checkout.session", id)
    found = held.sessions[id]
    if found["status"] == "open" and held.now() >= found["expires_at"]:
        found |= {"status": "expired", "url": None}
    return found


def _post(path: str, handler: Any) -> Route:
    return Route("POST", API, path, once(handler, lambda call: business_of(call).answers))


def _get(path: str, handler: Any) -> Route:
    return Route("GET", API, path, handler)


ROUTES = (
    _get("/v1/balance", balance),
    _get("/v1/prices/{id}", show_price),
    _post("/v1/customers", create_customer),
    _post("/v1/customers/{id}", change_customer),
    Route("DELETE", API, "/v1/customers/{id}", delete_customer),
    _post("/v1/subscriptions", create_subscription),
    _post("/v1/subscriptions/{id}", change_subscription),
    Route("DELETE", API, "/v1/subscriptions/{id}", cancel_subscription),
    _post("/v1/checkout/sessions", create_checkout),
    _get("/v1/checkout/sessions", list_checkouts),
    _post("/v1/checkout/sessions/{id}/expire", expire_checkout),
    _get("/v1/checkout/sessions/{id}", show_checkout),
    _post("/v1/billing_portal/sessions", create_portal),
    _post("/v1/webhook_endpoints", create_endpoint),
    _get("/v1/webhook_endpoints/{id}", show_endpoint),
    _post("/v1/webhook_endpoints/{id}", change_endpoint),
    Route("DELETE", API, "/v1/webhook_endpoints/{id}", delete_endpoint),
    Route("GET", CHECKOUT, "/c/pay/{id}", checkout_page, open=True),
    Route("POST", CHECKOUT, "/c/pay/{id}", checkout_page, open=True),
    Route("GET", PORTAL, "/p/session/{id}", portal_page, open=True),
    Route("POST", PORTAL, "/p/session/{id}", portal_page, open=True),
)
CONTROLS = {"subscribe": subscribe, "turn": turn}
