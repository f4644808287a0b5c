"""Shopify's GraphQL: rows by pages and by exports, what answers mean, and who sent a callback.

https://shopify.dev/docs/api/usage/rate-limits
https://shopify.dev/docs/api/usage/bulk-operations/queries
"""

import json
import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from connectors._errors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    SignatureError,
)
from connectors._paging import onward
from connectors._signatures import check_hmac, text_key
from connectors._types import Callback, Checkpoint, Context, Page, Reader, Record, Request, Response
from connectors._versions import EPOCH

log = logging.getLogger(__name__)
VERSION = "2026-10"
# A query that may ask for more points than these is refused.
DEAREST = 1_000
# Points are taken for the rows that are asked for, and mostly few are there: with full pages the
# five streams would wait for half a minute to find nothing new. So each page asks for no more than
# came before it, and for these at least.
SHORT = 25
# What changed just now may not be found yet.
LOOKBACK = timedelta(minutes=5)
# So many rows of one scan come by pages, far below the 25,000 at which paging ends; the rest of a
# longer one is exported.
BY_PAGES = 10_000
EXPORT_ASKED_AGAIN = timedelta(minutes=1)
PART = 8 * 2**20
EXPORT = """query($id: ID!) { node(id: $id) { ... on BulkOperation {
    id status errorCode objectCount fileSize url } } }"""
RUN_EXPORT = """mutation($query: String!) { bulkOperationRunQuery(query: $query) {
    bulkOperation { id status } userErrors { field message } } }"""


@dataclass(frozen=True)
class Rows:
    """One kind of row: the connection that lists it, its type, and the fields that are asked for.

    `points` is what one row costs. An `ordered` connection can be sorted by time of change.
    """

    connection: str
    type: str
    fields: str
    points: int
    ordered: bool = True
    filtered: bool = True
    arguments: str = ""

    @property
    def page(self) -> int:
        """As many rows as one query may ask for."""
        return min(250, (DEAREST - 2) // self.points)

    def listing(self, size: int, after: str | None, search: str | None) -> Request:
        sort = ", sortKey: UPDATED_AT" if self.ordered else ""
        by = ", query: $search" if self.filtered else ""
        variables: dict[str, Any] = {"size": size, "after": after}
        declared = "$size: Int!, $after: String"
        if self.filtered:
            declared += ", $search: String"
            variables["search"] = search
        query = (
            f"query({declared}) {{ {self.connection}(first: $size, after: $after{by}{sort}"
            f"{self.arguments}) {{ nodes {{ {self.fields} }} "
            "pageInfo { hasNextPage endCursor } } }"
        )
        return ask(query, variables, cost=2 + size * self.points)

    def export(self, search: str | None) -> Request:
        found = f"(query: {json.dumps(search)})" if search else ""
        query = f"{{ {self.connection}{found} {{ edges {{ node {{ {self.fields} }} }} }} }}"
        return ask(RUN_EXPORT, {"query": query}, cost=10)

    def again(self, keys: Sequence[str]) -> Request:
        ids = [f"gid://shopify/{self.type}/{number(key)}" for key in keys]
        row = f"... on {self.type} {{ {self.fields} }}"
        query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {row} }} }}"
        return ask(query, {"ids": ids}, cost=len(ids) * self.points)


def ask(query: str, variables: Mapping[str, Any], *, cost: int = 1, budget: str = "") -> Request:
    body = {"query": query, "variables": dict(variables)}
    return Request.post("/graphql.json", json=body, cost=cost, budget=budget)


def number(id: Any) -> str:
    """The number of a record, whether it is told as such or as `gid://shopify/Order/1`."""
    digits = str(id).rpartition("/")[2]
    if not digits.isdecimal():
        raise ValueError("an id that is no number")
    return digits


def key_of(record: Record) -> str:
    return number(record["id"])


def since(at: datetime) -> Checkpoint:
    return Checkpoint(since=_stamp(at - LOOKBACK))


def scan(rows: Rows, at: Checkpoint, context: Context) -> Reader:
    """All rows, or those that changed since the checkpoint, in the order of their change."""
    started = datetime.fromisoformat(at.get("started", _stamp(context.now)))
    begun, after, count, last = at.get("since"), at.get("after"), at.get("count", 0), at.get("last")
    resumed = after is not None
    if "export" in at:
        yield from _exported(rows, at, context)
        return
    while True:
        if count >= BY_PAGES:
            if export := (yield from _begin_export(rows, last)):
                at = _at(started, last, export=export, offset=0)
                yield Page((), at)
                yield from _exported(rows, at, context)
                return
            if rows.ordered and last != begun:
                begun, after = last, None  # a query of its own, far from where paging ends
            count = 0
        size = min(rows.page, max(SHORT, count))
        response = yield rows.listing(size, after, _search(begun))
        if resumed and response.json.get("errors"):
            after, resumed = None, False  # it no longer knows that place: from the last time on
            continue
        resumed = False
        found = data_of(response)[rows.connection]
        records, more = found["nodes"], found["pageInfo"]
        if not more["hasNextPage"]:
            yield Page(records, since(started))
            return
        after, count = onward(after, more["endCursor"]), count + len(records)
        last = records[-1]["updatedAt"] if rows.ordered else begun
        yield Page(records, _at(started, begun, after=after, count=count, last=last))


def _at(started: datetime, begun: str | None, **more: Any) -> Checkpoint:
    known = {"started": _stamp(started), "since": begun, **more}
    return Checkpoint({name: value for name, value in known.items() if value is not None})


def _begin_export(rows: Rows, last: str | None) -> Generator[Request, Response, str | None]:
    """The id of a new export; None where Shopify begins none now, as while another one runs."""
    answer = data_of((yield rows.export(_search(last))))["bulkOperationRunQuery"]
    export = answer["bulkOperation"]
    return str(export["id"]) if export and not answer["userErrors"] else None


def _exported(rows: Rows, at: Checkpoint, context: Context) -> Reader:
    """The rest of an export's file, in parts, once it is there. Its link is kept nowhere."""
    done = since(datetime.fromisoformat(at["started"]))
    response = yield ask(EXPORT, {"id": at["export"]}, budget="exports")
    export = data_of(response)["node"]
    if export is None or export["status"] != "COMPLETED":
        if rows.ordered and at.get("since"):
            # It failed, or it was long ago: by pages from there on.
            again = Checkpoint(since=at["since"], started=at["started"])
            yield Page((), again)
            yield from scan(rows, again, context)
            return
        raise CheckpointExpiredError("Shopify did not finish what it exported")
    size, offset = int(export["fileSize"] or 0), at["offset"]
    while offset < size:
        last = min(offset + PART, size) - 1
        headers = {"range": f"bytes={offset}-{last}", "accept-encoding": "identity"}
        part = yield Request.get(
            export["url"], headers=headers, file=True, budget="files", expect=(400, 403, 404, 416)
        )
        lines, _, rest = part.json.rpartition(b"\n")
        if part.status != 206 or not lines:
            raise ContractError("Shopify's export cannot be read in parts")
        offset += len(part.json) - len(rest)
        records = [json.loads(line) for line in lines.split(b"\n") if line]
        if offset >= size:
            yield Page(records, done)
            return
        yield Page(records, Checkpoint(at, offset=offset))
    yield Page((), done)


def read_again(rows: Rows, keys: Sequence[str], context: Context) -> Reader:
    """The records of those keys; those that Shopify does not have come out as deleted."""
    for first in range(0, len(keys), rows.page):
        chunk = keys[first : first + rows.page]
        found = data_of((yield rows.again(chunk)))["nodes"]
        if len(found) != len(chunk):
            raise ValueError("not an answer for each id")
        gone = [number(key) for key, row in zip(chunk, found, strict=True) if row is None]
        yield Page([row for row in found if row is not None], Checkpoint(), deleted=gone)


def data_of(response: Response) -> dict[str, Any]:
    """The data of an answer without errors: one with some may lack anything."""
    if errors := response.json.get("errors"):
        code = errors[0].get("extensions", {}).get("code") if isinstance(errors, list) else None
        named = f" ({code})" if isinstance(code, str) and code.isidentifier() else ""
        raise ContractError(f"Shopify refused a query{named}")
    data: dict[str, Any] = response.json["data"]
    return data


def classify(response: Response) -> ConnectorError | None:
    """A throttled query is told with 200 or 429; who may not read, with 200 as well."""
    _compare_version(response.headers.get("x-shopify-api-version", VERSION))
    if response.status in (402, 423):
        return ProviderUnavailableError(
            f"the shop is frozen or locked ({response.status}): its owner has to settle that first"
        )
    if response.status == 404:
        return BrokenConnectionError("Shopify does not have this shop any more (404)")
    body = response.json
    if not isinstance(body, dict):
        return None
    codes = _codes(body.get("errors"))
    if "THROTTLED" in codes:
        wait = _wait(body.get("extensions", {}).get("cost"))
        return RateLimitedError("Shopify asks us to wait (THROTTLED)", retry_after=wait)
    if response.status == 200 and "ACCESS_DENIED" in codes:
        return NotAllowedError("Shopify does not let us read this: reconnect and allow it")
    if response.status == 200 and codes & {"INTERNAL_SERVER_ERROR", "TIMEOUT", "SHOP_INACTIVE"}:
        return ProviderUnavailableError("Shopify cannot answer now")
    return _unfinished(body)


def _unfinished(body: Mapping[str, Any]) -> ConnectorError | None:
    """An export that is under way is waited for as a limit is."""
    data = body.get("data")
    export = data.get("node") if isinstance(data, dict) else None
    if isinstance(export, dict) and export.get("status") in ("CREATED", "RUNNING"):
        return RateLimitedError("Shopify is preparing an export", retry_after=EXPORT_ASKED_AGAIN)
    return None


def _codes(errors: Any) -> set[str]:
    """The codes of a list of errors; where we are not let in at all it is a text instead."""
    if not isinstance(errors, list):
        return set()
    found = [error.get("extensions", {}).get("code") for error in errors]
    return {code for code in found if isinstance(code, str)}


def _wait(cost: Any) -> timedelta:
    """How long the bucket takes to hold what the query asks for."""
    if not isinstance(cost, dict):
        return timedelta()
    status = cost["throttleStatus"]
    missing = cost["requestedQueryCost"] - status["currentlyAvailable"]
    return timedelta(seconds=max(0.0, missing / max(status["restoreRate"], 1)))


@cache
def _compare_version(answered: str) -> None:
    # A version that is over is answered as the oldest that is not, and nothing else tells.
    if answered != VERSION:
        log.warning("Shopify answers as version %s, not as %s", answered[:20], VERSION)


def returned(callback: Callback) -> Mapping[str, str]:
    """The shop that a callback names, once its digest proves that Shopify wrote it."""
    params = {name: text for name, text in callback.params.items() if name != "signature"}
    given = params.pop("hmac", "")
    pairs = sorted(params.items())
    # The two SDKs escape what separates the parameters in two ways (2026-11).
    messages = (urlencode(pairs), "&".join(sorted(f"{_escaped(pair)}" for pair in pairs)))
    check_hmac([given], [text.encode() for text in messages], [text_key(callback.client_secret)])
    told = params.get("timestamp", "")
    age = abs(callback.at - (EPOCH + timedelta(seconds=int(told if told.isdecimal() else 0))))
    if age > timedelta(days=1):
        raise SignatureError("the callback is too old")
    return {"shop": params["shop"]}


def _escaped(pair: tuple[str, str]) -> str:
    name, value = (text.replace("%", "%25") for text in pair)
    return f"{name.replace('=', '%3D')}={value}".replace("&", "%26")


def _search(begun: str | None) -> str | None:
    return f"updated_at:>='{begun}'" if begun else None


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
