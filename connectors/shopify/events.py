"""What Shopify tells: records that changed, the app's removal, and what the law asks for.

Shopify signs the body of a webhook, and nothing else: neither its topic nor its shop, which stand
in headers. With the same secret it signs texts that a shop's owner gets to see: the query of a
consent's callback and of the app's own page, and session tokens. So what ends or erases anything
is read from the body, which must be that of its topic, and a header that says otherwise is refused.
Where the body names no shop (a record's) the header says whom to ask, and Shopify what is true.

https://shopify.dev/docs/apps/build/webhooks/verify-deliveries (2026-10)
https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance (2026-10)
"""

from collections.abc import Iterator, Mapping, Set
from datetime import timedelta
from typing import Any

from connectors.kernel.errors import SignatureError
from connectors.kernel.messages import Calls, Context, ask
from connectors.kernel.signatures import hmac_signature
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import Delivery, Effect, Event, Webhook, each_event
from connectors.shopify.errors import data_of
from connectors.shopify.query import graphql, number
from connectors.shopify.watches import TOPICS

CHANGES = ("create", "update", "updated", "cancelled", "delete")
# The type in GraphQL of what a topic is about, as a body names it.
TYPES = {
    "orders": "Order",
    "products": "Product",
    "customers": "Customer",
    "inventory_items": "InventoryItem",
    "locations": "Location",
}
# How an inventory item stands among the keys of products.
STOCK = "inventory_items/"
# What the law asks for, and the fields that a body of that topic has and one of another has not.
PRIVACY = {
    "customers/data_request": (Effect.REPORT, {"customer", "orders_requested", "data_request"}),
    "customers/redact": (Effect.ERASE, {"customer", "orders_to_redact"}),
    "shop/redact": (Effect.PURGE, set[str]()),
}
FIELDS = frozenset(name for _, names in PRIVACY.values() for name in names)
# As long as Shopify itself holds such a request back: 48 hours after the app was removed, ten days
# after the customer's wish. Whoever gets it has 30 days to do it (2026-10).
GRACE = {Effect.PURGE: timedelta(hours=48), Effect.ERASE: timedelta(days=10)}
# By what a customer is found that the body names by no id.
KNOWN_BY = {
    "email": "defaultEmailAddress.emailAddress",
    "phone": "defaultPhoneNumber.phoneNumber",
}


def events(delivery: Delivery) -> Iterator[Event]:
    """The events of a webhook; one that cannot be read is kept as it came."""
    body = _signed(delivery)
    item = {"topic": delivery.headers.get("x-shopify-topic"), "body": body}
    shop = delivery.headers.get("x-shopify-shop-domain", "")
    return each_event((item,), lambda item: _topic_events(delivery, body), lambda item: shop)


def _topic_events(delivery: Delivery, body: Mapping[str, Any]) -> Iterator[Event]:
    """A webhook tells a record in REST's words: it is read again in those of GraphQL."""
    headers = delivery.headers
    topic = headers["x-shopify-topic"]
    kind, _, what = topic.partition("/")
    details: dict[str, Any] = {
        "type": topic,
        "at": parse_time(at) if (at := headers.get("x-shopify-triggered-at")) else None,
    }
    # The same for each attempt; X-Shopify-Event-Id is that of several deliveries.
    id = headers["x-shopify-webhook-id"]
    if kind in TOPICS and what in CHANGES:
        effect = Effect.GONE if what == "delete" else Effect.READ
        shop, key = headers["x-shopify-shop-domain"], _key(kind, body)
        yield Event(id=id, effect=effect, streams=(kind,), key=key, account_id=shop, **details)
    elif topic == "inventory_levels/update":
        # A sale changes what there is of a product, and no products/update tells it (2023-03).
        shop, key = headers["x-shopify-shop-domain"], f"{STOCK}{number(body['inventory_item_id'])}"
        yield Event(
            id=id, effect=Effect.READ, streams=("products",), key=key, account_id=shop, **details
        )
    elif topic == "app/uninstalled":
        # Its `domain` may be one that the shop's owner bought.
        shop = _shop(delivery, body.get("myshopify_domain"))
        yield Event(id=id, effect=Effect.REVOKED, account_id=shop, **details)
    elif topic in PRIVACY:
        effect, names = PRIVACY[topic]
        details["account_id"] = _privacy(delivery, body, names)
        if not names:
            yield Event(id=id, effect=effect, **details)
            return
        for place, (stream, key, where) in enumerate(_people(body)):
            each = f"{id}:{stream}:{key or place}"
            yield Event(id=each, effect=effect, streams=(stream,), key=key, where=where, **details)


def _signed(delivery: Delivery) -> Mapping[str, Any]:
    """The signed body, which must be a webhook's: no other text that is signed is an object."""
    try:
        # A query may be chosen so that it reads as one, but not from its first character on.
        body = delivery.json if delivery.body.startswith(b"{") else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise SignatureError("what is signed is no webhook")
    return body


def _shop(delivery: Delivery, named: Any) -> str:
    """The shop that the body names; the header must not name another."""
    header = delivery.headers["x-shopify-shop-domain"]
    if not isinstance(named, str) or named.lower() != header.lower():
        raise SignatureError("what is signed is of another shop than the header says")
    return named.lower()


def _privacy(delivery: Delivery, body: Mapping[str, Any], names: Set[str]) -> str:
    """The shop of a privacy webhook, whose body has the fields of its topic and of no other."""
    if not FIELDS.intersection(body) <= names or (names and "customer" not in body):
        raise SignatureError("what is signed is of another topic than the header says")
    return _shop(delivery, body.get("shop_domain"))


def _key(kind: str, body: Mapping[str, Any]) -> str:
    """The record's number; its type stands in the body as well, but of what was deleted."""
    gid = body.get("admin_graphql_api_id")
    id = body.get("id") or gid
    if not id or (gid and str(gid).split("/")[-2:-1] != [TYPES[kind]]):
        raise SignatureError("what is signed is of another topic than the header says")
    return number(id)


def _people(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """The customer and the orders that a request is about; one without an id is one, too."""
    customer = body["customer"] or {}
    key, where = _readable(customer.get("id")), dict[str, str]()
    known = next((name for name in KNOWN_BY if customer.get(name)), None)
    if not key and known:
        where = {KNOWN_BY[known]: str(customer[known])}
    yield "customers", key, where
    for order in body.get("orders_to_redact") or body.get("orders_requested") or ():
        yield "orders", _readable(order), {}


def _readable(id: Any) -> str:
    try:
        return number(id)
    except ValueError:
        return ""


def stands(context: Context) -> Calls[None]:
    """Any answer for the shop: the app is installed, for its token dies with it."""
    data_of((yield from ask(graphql("{ shop { id } }", {}))))


webhook = Webhook(
    verified_by="SHOPIFY_API_SECRET",
    verify=hmac_signature("x-shopify-hmac-sha256", "shopify-hmac-sha256", encoding="base64"),
    events=lambda delivery: tuple(events(delivery)),
    covers=tuple(TOPICS),
    setup="Set this address for the three privacy webhooks in the app's configuration "
    "(`compliance_topics` in shopify.app.toml) and for app/uninstalled; what else is wanted "
    "is subscribed to for each shop.",
    proof="The body, without a time; neither topic, shop, id nor address. The same secret signs "
    "callbacks and more, so the body must be a JSON object of its topic. Where it names the shop "
    "(privacy, app/uninstalled) a header that differs is refused, and Shopify is asked first; "
    "where it does not, the record is read again, also one that is said to be deleted.",
    stands=stands,
    grace=GRACE,
)
