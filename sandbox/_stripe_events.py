"""How Stripe tells an app what happened: endpoints that the app registers, and signed deliveries.

https://docs.stripe.com/webhooks, https://docs.stripe.com/api/webhook_endpoints (2026-11)
"""

import hashlib
import hmac
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response

from sandbox._stripe_business import Business
from sandbox._stripe_form import asked, missing, refuse
from sandbox._vendor import Call, reply
from sandbox._webhooks import Address, Delivery, Event, Message, Sender, again_after, to_watches

EVERY = "*"
# Three days in live mode, with growing waits; Stripe says no more of its schedule.
RETRIES = (60, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 43_200, 43_200, 43_200)


def create_endpoint(call: Call) -> Response:
    """Its secret is shown this once."""
    given, held = asked(call, ("url", "enabled_events", "metadata")), _business(call)
    url, events = str(given.get("url", "")), given.get("enabled_events")
    if urlsplit(url).scheme not in ("http", "https"):
        refuse("Invalid URL.", param="url", code="url_invalid")
    if not isinstance(events, list) or not events:
        refuse("Missing required param: enabled_events.", param="enabled_events")
    made = Address(
        url=url,
        secret=held.id("whsec").replace("_", "_sandbox", 1),
        id=held.id("we"),
        account_id=call.account.id,
        about={"enabled_events": events, "created": held.now()},
    )
    call.desk.watches.add(made)
    return reply({**_shown(made), "secret": made.secret})


def show_endpoint(call: Call) -> Response:
    return reply(_shown(_mine(call)))


def change_endpoint(call: Call) -> Response:
    given, found = asked(call, ("url", "enabled_events")), _mine(call)
    about = {**found.about, "enabled_events": given.get("enabled_events") or _events(found)}
    changed = replace(found, url=str(given.get("url", found.url)), about=about)
    call.desk.watches.add(changed)
    return reply(_shown(changed))


def delete_endpoint(call: Call) -> Response:
    found = _mine(call)
    call.desk.watches.remove(found.id)
    return reply({"id": found.id, "object": "webhook_endpoint", "deleted": True})


def _mine(call: Call) -> Address:
    found = call.desk.watches.get(call.params["id"])
    if found is None or found.account_id != call.account.id:
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
        "livemode": False,
        "status": "enabled",
        "url": endpoint.url,
    }


def _business(call: Call) -> Business:
    held: Business = call.state
    return held


def _concerns(event: Event, endpoint: Address) -> bool:
    wanted = _events(endpoint)
    return EVERY in wanted or event.what["type"] in wanted


def compose(delivery: Delivery) -> Message:
    """One event a call, signed anew for each attempt."""
    body, at = orjson.dumps(delivery.events[0].what), int(delivery.now.timestamp())
    signed = f"{at}.".encode() + body
    digest = hmac.new(delivery.address.secret.encode(), signed, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": f"t={at},v1={digest}",
    }
    return Message(url=delivery.address.url, headers=headers, body=body)


SENDER = Sender(
    compose=compose, notices=to_watches(_concerns), deadline=10.0, retry=again_after(*RETRIES)
)
