"""What the sandbox's schema resolves to: a shop's rows, its subscriptions, its bulk operations."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    parse,
    validate,
)
from graphql.execution import execute_sync

from sandbox.kernel.clock import stamp_in_seconds as stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json
from sandbox.shopify.schema import CONNECTIONS, SCHEMA, TYPES
from sandbox.shopify.store import BadQueryError, Bulk, Shop, found, product_of

MOST = 250
# So many rows of one query can be paged through.
DEEPEST = 25_000
STREAM_OF = {name: stream for stream, name in TYPES.items()}
SORTS = {"UPDATED_AT": "updatedAt", "CREATED_AT": "createdAt", "NAME": "name"}
FILES = "storage.googleapis.com"


def resolve(call: Call, document: DocumentNode, variables: Json, operation: str | None) -> Json:
    """The `data` and `errors` of a query that is valid."""
    result = execute_sync(
        SCHEMA, document, Root(call).fields(), variable_values=variables, operation_name=operation
    )
    return dict(result.formatted)


class Root:
    """The fields of a query or mutation, for one shop."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.shop: Shop = call.state

    def fields(self) -> dict[str, Any]:
        connections = {name: self._connection(name, stream) for name, stream in CONNECTIONS.items()}
        counts = {f"{name}Count": self._count(name) for name in ("orders", "products", "customers")}
        return {
            **connections,
            **counts,
            "shop": {
                "id": f"gid://shopify/Shop/{self.shop.number}",
                "name": self.shop.name,
                "email": f"owner@{self.shop.domain.partition('.')[0]}.example",
                "myshopifyDomain": self.shop.domain,
                "currencyCode": "EUR",
                "ianaTimezone": "Europe/Berlin",
            },
            "node": lambda info, id: self._node(id),
            "nodes": lambda info, ids: self._nodes(ids),
            "webhookSubscription": lambda info, id: self._subscription(id),
            "webhookSubscriptions": self._subscriptions,
            "webhookSubscriptionCreate": self._subscribe,
            "webhookSubscriptionDelete": self._unsubscribe,
            "bulkOperationRunQuery": self._run_bulk,
        }

    # -- rows

    def _connection(self, name: str, stream: str) -> Callable[..., Json]:
        def resolved(info: Any, **asked: Any) -> Json:
            rows = self._rows(stream, asked)
            return _page(rows, asked, SORTS.get(asked.get("sortKey") or "", ""))

        return resolved

    def _rows(self, stream: str, asked: Json) -> list[Json]:
        try:
            rows = list(found(self.shop, stream, asked.get("query")))
        except BadQueryError as error:
            raise GraphQLError(str(error)) from error
        if stream == "locations" and not asked.get("includeInactive"):
            rows = [row for row in rows if row["isActive"]]
        return [row for row in rows if self._shows(stream, row)]

    def _shows(self, stream: str, row: Json) -> bool:
        """Orders by when they were made, once the shop was told to keep to Shopify's rule.

        https://shopify.dev/docs/api/usage/access-scopes#orders-permissions
        """
        days = self.shop.shown_days
        if stream != "orders" or days is None:
            return True
        if self.call.grant and "read_all_orders" in self.call.grant.scopes:
            return True
        return bool(row["createdAt"] >= stamp(self.call.clock.now() - timedelta(days=days)))

    def _count(self, name: str) -> Callable[..., Json]:
        def resolved(info: Any, limit: int | None, query: str | None = None) -> Json:
            count = len(self._rows(CONNECTIONS[name], {"query": query}))
            exact = limit is None or count <= limit
            return {
                "count": count if limit is None else min(count, limit),
                "precision": "EXACT" if exact else "AT_LEAST",
            }

        return resolved

    def _node(self, id: str) -> Json | None:
        kind, _, number = id.removeprefix("gid://shopify/").partition("/")
        if stream := STREAM_OF.get(kind):
            row = self.shop.tables[stream].get(number)
            if row is None or not self._shows(stream, row):
                return None
            return {**row, "__typename": kind, "variant": self._variant(kind, number)}
        if kind == "BulkOperation" and (bulk := self.shop.bulks.get(id)):
            return self._bulk(bulk)
        return self._subscription(id) if kind == "WebhookSubscription" else None

    def _variant(self, kind: str, number: str) -> Json | None:
        product = product_of(self.shop, number) if kind == "InventoryItem" else None
        id = f"gid://shopify/ProductVariant/{number}"
        return {"id": id, "product": product} if product else None

    def _nodes(self, ids: list[str]) -> list[Json | None]:
        if len(ids) > MOST:
            raise GraphQLError(f"The input array size of {len(ids)} is greater than {MOST}")
        return [self._node(id) for id in ids]

    # -- subscriptions

    def _watches(self) -> list[Address]:
        watches = self.call.server.watches.of(self.call.account.id)
        return [each for each in watches if not each.about["fate"]["over"]]

    def _subscription(self, id: str) -> Json | None:
        return next((_shown(each) for each in self._watches() if each.id == id), None)

    def _subscriptions(self, info: Any, **asked: Any) -> Json:
        topics = asked.get("topics")
        rows = [_shown(each) for each in self._watches()]
        return _page([row for row in rows if not topics or row["topic"] in topics], asked, "")

    def _subscribe(self, info: Any, topic: str, webhookSubscription: Json) -> Json:  # noqa: N803 - GraphQL's name
        uri = webhookSubscription.get("uri") or webhookSubscription.get("callbackUrl") or ""
        if urlsplit(uri).scheme not in ("https", "http") or not urlsplit(uri).netloc:
            return _refused("webhookSubscription", "Address is invalid")
        if any(each.url == uri and each.about["topic"] == topic for each in self._watches()):
            return _refused("webhookSubscription", "Address for this topic has already been taken")
        now = stamp(self.call.clock.now())
        number = self.shop.next_id(Random(str(uuid4())))
        watch = Address(
            url=uri,
            secret=self.call.server.auth.client_secret,
            id=f"gid://shopify/WebhookSubscription/{number}",
            account_id=self.call.account.id,
            about={"topic": topic, "at": now, "fate": {"over": False}},
            grant=self.call.grant,
        )
        self.call.server.watches.add(watch)
        return {"webhookSubscription": _shown(watch), "userErrors": []}

    def _unsubscribe(self, info: Any, id: str) -> Json:
        if self._subscription(id) is None:
            return {
                "deletedWebhookSubscriptionId": None,
                "userErrors": [{"field": ["id"], "message": "Webhook subscription not found"}],
            }
        self.call.server.watches.remove(id)
        return {"deletedWebhookSubscriptionId": id, "userErrors": []}

    # -- bulk operations

    def _run_bulk(self, info: Any, query: str, **asked: Any) -> Json:
        now = self.call.clock.now()
        if any(self._status(bulk) == "RUNNING" for bulk in self.shop.bulks.values()):
            return _refused("bulkOperation", "A bulk query operation for this app is running")
        try:
            inner = parse(query)
        except GraphQLError as error:
            return _refused("bulkOperation", error.message)
        if wrong := validate(SCHEMA, inner):
            return _refused("bulkOperation", wrong[0].message)
        bulk = Bulk(
            f"gid://shopify/BulkOperation/{self.shop.next_id(Random(str(uuid4())))}",
            query,
            now,
            now + timedelta(seconds=self.shop.bulk_seconds),
            fate=self.shop.bulk_fate,
        )
        rows = list(self._exported(inner))
        bulk.lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        bulk.objects = len(rows)
        self.shop.bulks[bulk.id] = bulk
        return {"bulkOperation": self._bulk(bulk), "userErrors": []}

    def _exported(self, inner: DocumentNode) -> Iterator[Json]:
        """Each node of the query's one connection, however many there are."""
        (operation,) = inner.definitions
        if not isinstance(operation, OperationDefinitionNode):
            raise GraphQLError("a bulk query is a query")
        (name,) = (
            field.name.value
            for field in operation.selection_set.selections
            if isinstance(field, FieldNode)
        )
        result = execute_sync(SCHEMA, inner, {name: self._everything(name)})
        if result.data is None:
            raise GraphQLError("a bulk query asks for edges and their nodes")
        for edge in result.data[name]["edges"]:
            yield edge["node"]

    def _everything(self, name: str) -> Callable[..., Json]:
        def resolved(info: Any, **asked: Any) -> Json:
            rows = self._rows(CONNECTIONS[name], asked)
            return {"edges": [{"node": row} for row in rows]}

        return resolved

    def _status(self, bulk: Bulk) -> str:
        return bulk.fate if self.call.clock.now() >= bulk.done_at else "RUNNING"

    def _bulk(self, bulk: Bulk) -> Json:
        status = self._status(bulk)
        over = status != "RUNNING"
        there = status == "COMPLETED" and bulk.lines
        name = bulk.id.rpartition("/")[2]
        return {
            "__typename": "BulkOperation",
            "id": bulk.id,
            "status": status,
            "errorCode": "INTERNAL_SERVER_ERROR" if status == "FAILED" else None,
            "objectCount": str(bulk.objects if over else 0),
            "fileSize": str(len(bulk.lines)) if there else None,
            "url": self.call.url(FILES, f"/shopify/{self.shop.domain}/{name}.jsonl", _SIGNED)
            if there
            else None,
            "partialDataUrl": None,
            "createdAt": stamp(bulk.created_at),
            "completedAt": stamp(bulk.done_at) if over else None,
            "type": "QUERY",
            "query": bulk.query,
        }


_SIGNED = {"X-Goog-Expires": "604800", "X-Goog-Signature": "sandbox"}


def _page(rows: Iterable[Json], asked: Json, sort: str) -> Json:
    """A part of the rows in their order; a cursor holds the place of its row in it."""
    first, last = asked.get("first"), asked.get("last")
    size = first if first is not None else last
    if size is None:
        raise GraphQLError("you must provide one of first or last")
    if not 0 < size <= MOST:
        raise GraphQLError(f"first and last are from 1 to {MOST}")

    def place(row: Json) -> tuple[Any, int]:
        return row.get(sort, ""), int(row["id"].rpartition("/")[2])

    ordered = sorted(rows, key=place, reverse=bool(asked.get("reverse")))
    after = asked.get("after")
    start = 0
    if after is not None:
        there = _opened(after)
        backwards = bool(asked.get("reverse"))
        later = (
            n
            for n, row in enumerate(ordered)
            if (place(row) < there if backwards else place(row) > there)
        )
        start = next(later, len(ordered))
    if start + size > DEEPEST:
        raise GraphQLError(f"more than {DEEPEST} objects cannot be paged through")
    shown = ordered[start : start + size]
    cursors = [_cursor(place(row)) for row in shown]
    return {
        "nodes": shown,
        "edges": [
            {"node": row, "cursor": cursor} for row, cursor in zip(shown, cursors, strict=True)
        ],
        "pageInfo": {
            "hasNextPage": start + size < len(ordered),
            "hasPreviousPage": start > 0,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def _cursor(place: tuple[Any, int]) -> str:
    return base64.b64encode(json.dumps(place).encode()).decode()


def _opened(cursor: str) -> tuple[Any, int]:
    try:
        value, number = json.loads(base64.b64decode(cursor, validate=True))
        return value, int(number)
    except ValueError as error:
        raise GraphQLError("Invalid cursor for current pagination sort.") from error


def _shown(watch: Address) -> Json:
    return {
        "__typename": "WebhookSubscription",
        "id": watch.id,
        "topic": watch.about["topic"],
        "format": "JSON",
        "uri": watch.url,
        "createdAt": watch.about["at"],
        "updatedAt": watch.about["at"],
    }


def _refused(field: str, message: str) -> Json:
    return {field: None, "userErrors": [{"field": [field], "message": message}]}
