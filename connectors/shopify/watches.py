"""Shopify's webhooks for each shop: a subscription for each topic, made by the Admin API.

One that could not be delivered eight times in a row is deleted without a word, so they are looked
at now and then, and made again.

https://shopify.dev/docs/apps/build/webhooks/subscribe/subscribe-using-api
"""

from datetime import timedelta
from typing import Any

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    MadeWatch,
    NoWatch,
    Watch,
    WatchRequest,
    ask,
)
from connectors.kernel.errors import NotAllowedError
from connectors.kernel.webhooks import WatchSteps
from connectors.shopify.errors import data_of
from connectors.shopify.query import graphql

TOPICS = {
    "orders": ("ORDERS_CREATE", "ORDERS_UPDATED", "ORDERS_CANCELLED", "ORDERS_DELETE"),
    "products": (
        "PRODUCTS_CREATE",
        "PRODUCTS_UPDATE",
        "PRODUCTS_DELETE",
        "INVENTORY_LEVELS_UPDATE",
    ),
    "customers": ("CUSTOMERS_CREATE", "CUSTOMERS_UPDATE", "CUSTOMERS_DELETE"),
    "inventory_items": (
        "INVENTORY_ITEMS_CREATE",
        "INVENTORY_ITEMS_UPDATE",
        "INVENTORY_ITEMS_DELETE",
    ),
    "locations": ("LOCATIONS_CREATE", "LOCATIONS_UPDATE", "LOCATIONS_DELETE"),
}
POINTS = 10
LIST = """query($topics: [WebhookSubscriptionTopic!]) {
    webhookSubscriptions(first: 100, topics: $topics) { nodes { id topic uri } } }"""
CREATE = """mutation($topic: WebhookSubscriptionTopic!, $to: WebhookSubscriptionInput!) {
    webhookSubscriptionCreate(topic: $topic, webhookSubscription: $to) {
        webhookSubscription { id } userErrors { field message } } }"""
DELETE = """mutation($id: ID!) { webhookSubscriptionDelete(id: $id) {
    deletedWebhookSubscriptionId userErrors { field message } } }"""


def _resources(context: Context) -> Calls[tuple[str, ...]]:
    yield from ()
    return tuple(TOPICS)


def create(wanted: WatchRequest) -> WatchSteps:
    """A subscription for each topic of a stream; those that stand already are taken as they are."""
    try:
        ids = yield from _standing(wanted.resource, wanted.address)
        return (yield from _completed(wanted, ids))
    except NotAllowedError as error:
        return NoWatch(str(error))


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """They have no end, but may be gone: then a new watch is made, and the gap is read."""
    ids = yield from _standing(wanted.resource, wanted.address)
    if set(watched.state["ids"]) - set(ids.values()):
        raise CheckpointExpiredError("Shopify has deleted a subscription")
    return (yield from _completed(wanted, ids))


def _completed(wanted: WatchRequest, ids: dict[str, str]) -> WatchSteps:
    """Subscribes to the topics that lack. What is refused may have been made by another run of
    ours a moment ago: it is looked for once more."""
    for topic in TOPICS[wanted.resource]:
        if topic in ids:
            continue
        to = {"uri": wanted.address, "format": "JSON"}
        answer = yield from ask(graphql(CREATE, {"topic": topic, "to": to}, cost=POINTS))
        made = data_of(answer)["webhookSubscriptionCreate"]["webhookSubscription"]
        if made is not None:
            ids[topic] = made["id"]
            continue
        ids |= yield from _standing(wanted.resource, wanted.address)
        if topic not in ids:
            return NoWatch(f"Shopify takes no subscription to {topic}")
    return _watched(ids)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    """What it no longer knows is gone already: it says so, and that is no error."""
    for id in watched.state["ids"]:
        data_of((yield from ask(graphql(DELETE, {"id": id}, cost=POINTS))))


def _standing(resource: str, address: str) -> Calls[dict[str, str]]:
    """Our subscriptions to the topics of that stream, by topic."""
    response = yield from ask(graphql(LIST, {"topics": list(TOPICS[resource])}, cost=102))
    nodes: list[dict[str, Any]] = data_of(response)["webhookSubscriptions"]["nodes"]
    return {node["topic"]: node["id"] for node in nodes if node["uri"] == address}


def _watched(ids: dict[str, str]) -> MadeWatch:
    values = list(ids.values())
    return MadeWatch(vendor_id=values[0], expires_at=None, state={"ids": values})


watch = Watch(
    resources=_resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: (resource,),
    lifetime=timedelta(days=7),
)
