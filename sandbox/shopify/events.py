"""Shopify's webhooks: signed by the app's secret, for the app as a whole and for each shop.

https://shopify.dev/docs/apps/build/webhooks
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from sandbox.kernel.signing import base64_signature
from sandbox.kernel.values import Address, Json
from sandbox.kernel.webhooks import AppResponse, Delivery, Event, Message, Notice, Receivers, Sender
from sandbox.shopify.auth import AUTH

VERSION = "2026-10"
# Eight within four hours.
RETRIES = (60.0, 120.0, 300.0, 600.0, 1_200.0, 2_400.0, 4_000.0, 5_600.0)
# Whoever made a row in GraphQL's words, the payload has those of REST.
_SNAKES = {"id": "admin_graphql_api_id", "legacyResourceId": "id", "displayName": "name"}


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """To the app's one address, and to each subscription of the shop for the topic."""
    if receivers.app:
        yield Notice(event=event, address=receivers.app)
    for watch in receivers.watches.of(event.account_id):
        if _topic(watch) == event.what["topic"] and not watch.about["fate"]["over"]:
            yield Notice(event=event, address=watch)


def _topic(watch: Address) -> str:
    kind, _, what = str(watch.about["topic"]).rpartition("_")
    return f"{kind.lower()}/{what.lower()}"


def compose(delivery: Delivery) -> Message:
    (event,) = delivery.events
    body = orjson.dumps(_payload(event.what))
    address = delivery.address
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": event.what["topic"],
        "X-Shopify-Hmac-SHA256": base64_signature(address.secret, body),
        "X-Shopify-Shop-Domain": event.account_id,
        "X-Shopify-API-Version": VERSION,
        "X-Shopify-Webhook-Id": str(uuid5(NAMESPACE_URL, f"{event.id} {address.id}")),
        "X-Shopify-Event-Id": event.id,
        "X-Shopify-Triggered-At": event.at.isoformat().replace("+00:00", "Z"),
    }
    return Message(url=address.url, headers=headers, body=body)


def _payload(what: Mapping[str, Any]) -> Json:
    if "row" not in what:
        payload: Json = what["payload"]
        return payload
    row = what["row"]
    if what["topic"].endswith("/delete"):
        return {"id": int(row["legacyResourceId"])}
    shown = {_SNAKES.get(name, _snake(name)): value for name, value in row.items()}
    return {**shown, "id": int(row["legacyResourceId"])}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def retry(delivery: Delivery, answered: AppResponse) -> float | None:
    """Eight times; then a subscription that the app made by the API is deleted."""
    if delivery.attempt <= len(RETRIES):
        return RETRIES[delivery.attempt - 1]
    if delivery.address.id:
        delivery.address.about["fate"]["over"] = True
    return None


def privacy(topic: str, payload: Json) -> Json:
    """What a privacy webhook is to `tell`."""
    return {"topic": topic, "payload": payload}


SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=5.0,
    retry=retry,
    secret=AUTH.client_secret,
)
