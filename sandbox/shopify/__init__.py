"""Shopify on loopback: shops with a host each, the Admin GraphQL API, bulk operations, webhooks.

https://shopify.dev/docs/api/admin-graphql

Of REST only shop.json is there, as `ShopifyAPI` asks for it first: REST's lists, and so the SDK's
`Order.find()` and the like, are not offered, for new apps may not use them since 2025-04.

Longer than 700 lines: a whole GraphQL schema with its costs, bulk operations with files, and the
signatures of three kinds of calls.
"""

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from graphql import DocumentNode, GraphQLError, parse, validate
from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Vendor
from sandbox.shopify.api import FILES, resolve
from sandbox.shopify.auth import AUTH, AUTH_ROUTES, HOST, TOKEN, token_of
from sandbox.shopify.events import SENDER, VERSION, privacy
from sandbox.shopify.schema import SCHEMA, cost_of
from sandbox.shopify.store import MUTATIONS, Shop, new, sell, store

BUCKET, RESTORE = 2_000, 100
DEAREST = 1_000
# What a field of a query needs; the first that the token lacks is named.
SCOPES = {
    "orders": "orders",
    "products": "products",
    "customers": "customers",
    "inventoryItems": "inventory",
    "locations": "locations",
}


def graphql(call: Call) -> Response:
    """One query or mutation, answered with 200 whatever comes of it."""
    body = call.json()
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return reply({"errors": {"query": "Required parameter missing or invalid"}}, 400)
    variables = body.get("variables") or {}
    try:
        document = parse(body["query"])
    except GraphQLError as error:
        return _wrong(error.message, "undefinedField")
    if invalid := validate(SCHEMA, document):
        return _wrong(invalid[0].message, "undefinedField")
    cost = cost_of(document, variables)
    if cost > DEAREST:
        text = f"Query cost is {cost}, which exceeds the single query max cost limit ({DEAREST})."
        return _wrong(text, "MAX_COST_EXCEEDED")
    if missing := _missing(call, document):
        return _wrong(f"Access denied for {missing} field.", "ACCESS_DENIED", data=None)
    answer = resolve(call, document, variables, body.get("operationName"))
    for wrong in answer.get("errors", []):
        wrong["extensions"] = {"code": "BAD_REQUEST"}
    return _answered({**answer, "extensions": {"cost": _cost(cost, BUCKET - cost)}})


def _missing(call: Call, document: DocumentNode) -> str:
    scopes = set(call.grant.scopes) if call.grant else set()
    asked = " ".join(
        each.loc.source.body[each.loc.start : each.loc.end]
        for each in document.definitions
        if each.loc
    )
    for name, kind in SCOPES.items():
        named = re.search(rf"\b{name}(Count)?\s*[({{]", asked)
        if named and not scopes & {f"read_{kind}", f"write_{kind}"}:
            return name
    return ""


def _wrong(message: str, code: str, **more: Any) -> Response:
    return _answered({"errors": [{"message": message, "extensions": {"code": code}}], **more})


def _answered(body: Json, status: int = 200) -> Response:
    return reply(body, status, {"X-Shopify-API-Version": VERSION})


def _cost(asked: int, left: float) -> Json:
    return {
        "requestedQueryCost": asked,
        "actualQueryCost": asked,
        "throttleStatus": {
            "maximumAvailable": float(BUCKET),
            "currentlyAvailable": max(0, left),
            "restoreRate": float(RESTORE),
        },
    }


def shop_json(call: Call) -> Response:
    """What is left of REST, as the SDK asks for it first."""
    shop: Shop = call.state
    return _answered(
        {"shop": {"id": shop.number, "name": shop.name, "myshopify_domain": shop.domain}}
    )


def export(call: Call) -> Response:
    """A bulk operation's file: whoever has its link may read it, in parts, too."""
    for account in call.server.accounts.values():
        shop: Shop = account.state["shopify"]
        bulk = shop.bulks.get(f"gid://shopify/BulkOperation/{call.params['name']}")
        if bulk and shop.domain == call.params["shop"] and "X-Goog-Signature" in call.query:
            if call.headers.get("x-shopify-access-token") or call.headers.get("authorization"):
                return reply({"error": "a token has no business here"}, 400)
            return _part(bulk.lines, call.headers.get("range", ""))
    return reply({"error": "NoSuchKey"}, 404)


def _part(lines: bytes, asked: str) -> Response:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
    if not found:
        return Response(lines, 200, media_type="application/jsonl")
    start, end = int(found[1]), min(int(found[2]), len(lines) - 1)
    if start >= len(lines):
        return Response(status_code=416, headers={"content-range": f"bytes */{len(lines)}"})
    headers = {"content-range": f"bytes {start}-{end}/{len(lines)}"}
    return Response(lines[start : end + 1], 206, headers, media_type="application/jsonl")


def points(call: Call) -> int:
    """What a call takes from the bucket."""
    body = call.json()
    if not isinstance(body, dict):
        return 1
    try:
        return min(cost_of(parse(body["query"]), body.get("variables") or {}), DEAREST)
    except (GraphQLError, KeyError, TypeError):
        return 1


def trouble(wrong: ErrorCase, call: Call) -> Response:
    match wrong.kind:
        case Kind.RATE_LIMITED if wrong.retry_after is not None:
            text = "Exceeded 2 calls per second for api client."
            return reply({"errors": text}, 429, wrong.waits)
        case Kind.RATE_LIMITED:
            throttled = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
            cost = {**_cost(max(points(call), 100), 0), "actualQueryCost": None}
            return _answered({"errors": [throttled], "extensions": {"cost": cost}})
        case Kind.UNAUTHORIZED:
            text = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return _answered({"errors": text}, 401)
        case Kind.FORBIDDEN:
            return _answered({"errors": f"[API] This action requires {wrong.detail}."}, 403)
        case Kind.NOT_FOUND:
            return _answered({"errors": "Not Found"}, 404)
        case Kind.METHOD_NOT_ALLOWED:
            return _answered({"errors": "Method Not Allowed"}, 405)
        case Kind.BAD_REQUEST:
            return _answered({"errors": wrong.detail or "Bad Request"}, 400)
        case Kind.UNAVAILABLE:
            return _answered({"errors": "Service Unavailable"}, 503)
        case _:
            return _answered({"errors": "Internal Server Error"}, 500)


def uninstall(shop: Shop, body: Json) -> Json:
    """The merchant removes the app, and the app is told; `tokens` with `revoke` ends its token."""
    # The shop as REST has it; `domain` is the one that its customers know.
    own = f"{shop.domain.partition('.')[0]}.example"
    told = {"id": shop.number, "name": shop.name, "domain": own, "myshopify_domain": shop.domain}
    shop.tell(privacy("app/uninstalled", told))
    return {"shop": shop.domain}


def request(shop: Shop, body: Json) -> Json:
    """One of the privacy webhooks, of a customer where one is named."""
    topic = str(body.get("topic", ""))
    known = {"shop_id": shop.number, "shop_domain": shop.domain}
    payload: Json = {
        "customers/data_request": {
            "data_request": {"id": 9_999},
            "orders_requested": body.get("orders", []),
        },
        "customers/redact": {"orders_to_redact": body.get("orders", [])},
        "shop/redact": {},
    }.get(topic, {})
    if topic != "shop/redact":
        id = body.get("customer")
        email = body.get("email", "someone@mail.example")
        payload["customer"] = {"id": int(id) if id else None, "email": email, "phone": None}
    shop.tell(privacy(topic, {**known, **payload}))
    return {"topic": topic}


def bulk(states: Mapping[str, Shop], body: Json) -> Json:
    """How long bulk operations take from now on, and what comes of them."""
    for shop in states.values():
        shop.bulk_seconds = float(body.get("seconds", shop.bulk_seconds))
        shop.bulk_fate = str(body.get("fate", shop.bulk_fate))
    return {}


def orders(shop: Shop, body: Json) -> Json:
    """Of how many days (`shown_days`) the shop's orders are shown; null shows them all."""
    shop.shown_days = body.get("shown_days", shop.shown_days)
    return {"shown_days": shop.shown_days}


def sale(shop: Shop, body: Json) -> Json:
    """A product is sold."""
    return {"product": sell(shop, Random(body.get("seed", 1)))}


def lag(shop: Shop, body: Json) -> Json:
    """How many `seconds` after them changes show in searches from now on; by id they do at once."""
    shop.lag = float(body.get("seconds", 0))
    return {"seconds": shop.lag}


def no_part(states: Mapping[str, Shop], body: Json) -> Json:
    """No stream has parts that could be refused; what is hidden is old, see `orders`."""
    return {"part": "", "keys": []}


def _extras(account_id: str, origin: str) -> Json:
    shop = f"{origin}/{account_id}"
    return {
        "base_url": f"{shop}/admin/api/{VERSION}",
        "authorize_url": f"{shop}/admin/oauth/authorize",
        "token_url": f"{shop}{TOKEN}",
    }


vendor = Vendor(
    name="shopify",
    title="Shopify",
    base_url=f"https://{HOST}/admin/api/{VERSION}",
    auth=AUTH,
    routes=(
        *AUTH_ROUTES,
        Route("POST", HOST, f"/admin/api/{VERSION}/graphql.json", graphql),
        Route("GET", HOST, f"/admin/api/{VERSION}/shop.json", shop_json),
        Route("GET", FILES, "/shopify/{shop}/{name}.jsonl", export, open=True),
    ),
    streams=("orders", "products", "customers", "inventory_items", "locations"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=trouble,
    limits=(Limit("points", BUCKET, BUCKET / RESTORE, points),),
    controls={"bulk": bulk, "refuse_part": no_part, "hide": no_part},
    account_controls={
        **{"uninstall": uninstall, "request": request, "orders": orders, "sale": sale},
        "lag": lag,
    },
    webhook=SENDER,
    extras=_extras,
    token=token_of,
    answers=lambda account_id: {"shop": account_id},
)
