"""Shopify's GraphQL: what is asked for, and what that costs.

https://shopify.dev/docs/api/usage/rate-limits
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kernel.messages import Record, Request

# A query that may ask for more points than these is refused.
DEAREST = 1_000
EXPORT = """query($id: ID!) { node(id: $id) { ... on BulkOperation {
    id status errorCode objectCount fileSize url } } }"""
RUN_EXPORT = """mutation($query: String!) { bulkOperationRunQuery(query: $query) {
    bulkOperation { id status } userErrors { field message } } }"""


@dataclass(frozen=True)
class Rows:
    """One kind of row: the connection that lists it, its type, and the fields that are asked for.

    `points` is what one row costs. An `ordered` connection can be sorted by time of change. With
    `shown` a shop may show only the rows made in that time: one that is not found may be older,
    unless others are found that are.
    """

    connection: str
    type: str
    fields: str
    points: int
    ordered: bool = True
    filtered: bool = True
    arguments: str = ""
    shown: timedelta | None = None

    @property
    def page(self) -> int:
        """As many rows as one query may ask for."""
        return min(250, (DEAREST - 2) // self.points)

    @property
    def bare(self) -> "Rows":
        """The same rows with no more than what tells them apart, and their versions."""
        return replace(self, fields=f"id updatedAt{' createdAt' if self.shown else ''}", points=1)

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
        return graphql(query, variables, cost=2 + size * self.points)

    def export(self, search: str | None) -> Request:
        found = f"(query: {json.dumps(search)})" if search else ""
        query = f"{{ {self.connection}{found} {{ edges {{ node {{ {self.fields} }} }} }} }}"
        return graphql(RUN_EXPORT, {"query": query}, cost=10)

    def again(self, keys: Sequence[str]) -> Request:
        ids = [f"gid://shopify/{self.type}/{number(key)}" for key in keys]
        row = f"... on {self.type} {{ {self.fields} }}"
        query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {row} }} }}"
        return graphql(query, {"ids": ids}, cost=len(ids) * self.points)


def graphql(
    query: str, variables: Mapping[str, Any], *, cost: int = 1, budget: str = ""
) -> Request:
    body = {"query": query, "variables": dict(variables)}
    return Request.post("/graphql.json", json=body, cost=cost, budget=budget)


def number(id: Any) -> str:
    """The number of a record, whether Shopify gives it as such or as `gid://shopify/Order/1`."""
    digits = str(id).rpartition("/")[2]
    if not digits.isdecimal():
        raise ValueError("an id that is no number")
    return digits


def key_of(record: Record) -> str:
    return number(record["id"])


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
