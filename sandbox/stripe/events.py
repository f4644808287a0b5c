"""How Stripe tells what happened: endpoints, an account's own or a platform's for all that are
connected to it, and signed deliveries.

https://docs.stripe.com/webhooks, https://docs.stripe.com/api/webhook_endpoints (2026-11)
"""

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Address, reply
from sandbox.kernel.webhooks import Delivery, Event, Message, Notice, Receivers, Sender, again_after
from sandbox.stripe.auth import PLATFORM
from sandbox.stripe.form import asked, missing, refuse
from sandbox.stripe.store import business_of

EVERY = "*"
# In place of the account of a platform's endpoint.
CONNECTED = "connected accounts"
# Three days in live mode, with growing waits; Stripe says no more of its schedule.
RETRIES = (60, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 43_200, 43_200, 43_200)


def create_endpoint(call: Call) -> Response:
    """Its secret is shown this once. With `connect` it hears of connected accounts only."""
    known = ("api_version", "connect", "description", "enabled_events", "metadata", "url")
    given, held = asked(call, known), business_of(call)
    url, events = str(given.get("url", "")), given.get("enabled_events")
    if urlsplit(url).scheme not in ("http", "https"):
        refuse("Invalid URL.", param="url", code="url_invalid")
    if not isinstance(events, list) or not events:
        refuse("Missing required param: enabled_events.", param="enabled_events")
    made = Address(
        url=url,
        secret=held.id("whsec").replace("_", "_sandbox", 1),
        id=held.id("we"),
        account_id=CONNECTED if given.get("connect") == "true" else call.account.id,
        about={
            "created": held.now(),
            "enabled_events": events,
            "livemode": held.livemode,
            "owner": call.account.id,
        },
    )
    call.server.watches.add(made)
    return reply({**_shown(made), "secret": made.secret})


def show_endpoint(call: Call) -> Response:
    return reply(_shown(_mine(call)))


def change_endpoint(call: Call) -> Response:
    given, found = asked(call, ("url", "enabled_events")), _mine(call)
    about = {**found.about, "enabled_events": given.get("enabled_events") or _events(found)}
    changed = replace(found, url=str(given.get("url", found.url)), about=about)
    call.server.watches.add(changed)
    return reply(_shown(changed))


def delete_endpoint(call: Call) -> Response:
    found = _mine(call)
    call.server.watches.remove(found.id)
    return reply({"id": found.id, "object": "webhook_endpoint", "deleted": True})


def _mine(call: Call) -> Address:
    found = call.server.watches.get(call.params["id"])
    if found is None or found.about["owner"] != call.account.id:
        missing("webhook_endpoint", call.params["id"])
    return found


def _events(endpoint: Address) -> list[str]:
    events: list[str] = endpoint.about["enabled_events"]
    return events


def _shown(endpoint: Address) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created": endpoint.about["created"],
        "enabled_events": _events(endpoint),
        "livemode": endpoint.about["livemode"],
        "status": "enabled",
        "url": endpoint.url,
    }


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """An account's own endpoints hear of it; and, if it is not the platform's, the platform's."""
    for endpoint in receivers.watches.of(event.account_id):
        if _asks_for(endpoint, event) and endpoint.about["livemode"] is event.what["livemode"]:
            yield Notice(event=event, address=endpoint)
    if event.account_id == PLATFORM:
        return
    for endpoint in receivers.watches.of(CONNECTED):
        # Those of live mode hear of test mode, too.
        if _asks_for(endpoint, event) and endpoint.about["livemode"] >= event.what["livemode"]:
            yield Notice(event=event, address=endpoint)
    if receivers.app:
        yield Notice(event=event, address=receivers.app)


def _asks_for(endpoint: Address, event: Event) -> bool:
    wanted = _events(endpoint)
    return EVERY in wanted or event.what["type"] in wanted


def compose(delivery: Delivery) -> Message:
    """One event a call, signed anew for each attempt. The platform is told whose it is."""
    event, address = delivery.events[0], delivery.address
    told = {**event.what, "account": event.account_id}
    own = address.account_id == event.account_id
    body, at = orjson.dumps(event.what if own else told), int(delivery.now.timestamp())
    signed = f"{at}.".encode() + body
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": f"t={at},v1={hex_signature(address.secret, signed)}",
    }
    return Message(url=address.url, headers=headers, body=body)


# The app's address is an endpoint of live mode that a person made in the dashboard.
SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=10.0,
    retry=again_after(*RETRIES),
    secret="whsec_sandbox_connect",
)
