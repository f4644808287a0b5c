"""Linear's GraphQL: what is asked for, and the points that it costs.

https://linear.app/developers/rate-limiting (2026-11)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil
from typing import Any

from connectors.kernel.messages import Column, Request, columns

# An app has 200,000 points an hour for each person who consented, and 1,200 requests: what counts
# for so many points at the least stays within both.
LEAST = 200
# The history of issues costs more than all else together, so it has points of its own.
HISTORY = "history"
# A page's `pageInfo`, as if its connection multiplied it like the nodes: that is not documented.
PAGE_INFO = 1.2
TEAMS = 100
VISIBLE = f"""teams(first: {TEAMS}, includeArchived: true) {{
    nodes {{ id createdAt }} pageInfo {{ hasNextPage }} }}"""


@dataclass(frozen=True)
class Rows:
    """One kind of row: the connection that lists it, and its fields, `title dueDate:date team.id`.

    `archived` says that its filter knows archivedAt, `of_teams` that a row is shown to those who
    see its team. `inner` is a connection in each row, of so many `inner_points`.
    """

    connection: str
    fields: str
    arguments: str = ""
    archived: bool = False
    of_teams: bool = True
    page: int = 100
    short: int = 25
    inner: str = ""
    inner_points: float = 0
    budget: str = ""

    @property
    def bare(self) -> "Rows":
        """The same rows with no more than what tells them apart, and their versions."""
        trashed = "trashed:boolean" if "trashed" in self.fields else ""
        return replace(self, fields=f"createdAt updatedAt {trashed}", of_teams=False, page=250)

    @property
    def filter(self) -> str:
        """The type of its filter: of `issueLabels` it is IssueLabelFilter."""
        return f"{self.connection[0].upper()}{self.connection[1:-1]}Filter"

    def listing(
        self,
        size: int,
        after: str | None,
        *,
        since: datetime | None = None,
        until: str | None = None,
        teams: bool = False,
    ) -> Request:
        """A page of the rows that changed since a time and were made until one, newest first: by
        when they were made, for that order stays while they change."""
        made = {"createdAt": {"lte": until}} if until else {}
        request = self._asked(
            {**made, **self._changed(since)}, size, after, VISIBLE if teams else ""
        )
        return replace(request, cost=request.cost + ceil(TEAMS * (1.2 + PAGE_INFO)) * teams)

    def again(self, keys: Sequence[str]) -> Request:
        return self._asked({"id": {"in": list(keys)}}, len(keys))

    def _changed(self, since: datetime | None) -> dict[str, Any]:
        if since is None:
            return {}
        at = {"gte": since.astimezone(UTC).isoformat(timespec="milliseconds")}
        # To archive an issue, or to trash it, leaves its updatedAt as it was (2026-09).
        changed = {"updatedAt": at}
        return {"or": [changed, {"archivedAt": at}]} if self.archived else changed

    def _asked(
        self, found: Mapping[str, Any], size: int, after: str | None = None, more: str = ""
    ) -> Request:
        fields = f"id {selection_of(self.fields)} {self.inner}"
        query = (
            f"query($size: Int!, $after: String, $filter: {self.filter}) {{ rows: "
            f"{self.connection}(first: $size, after: $after, filter: $filter, orderBy: createdAt, "
            f"includeArchived: true{self.arguments}) {{ nodes {{ {fields} }} "
            f"pageInfo {{ hasNextPage endCursor }} }} {more} }}"
        )
        variables = {"size": size, "after": after, "filter": dict(found)}
        points = size * (points_of(self.fields) + self.inner_points + PAGE_INFO)
        return graphql(query, variables, points, budget=self.budget)


def selection_of(fields: str) -> str:
    """Fields as GraphQL selects them: those of one object together."""
    objects: dict[str, list[str]] = {}
    for word in fields.split():
        name, _, inner = word.partition(":")[0].partition(".")
        objects.setdefault(name, []).extend([inner] if inner else [])
    return " ".join(
        f"{name} {{ {' '.join(inner)} }}" if inner else name for name, inner in objects.items()
    )


def columns_of(fields: str) -> dict[str, Column]:
    """A column for each field, `dueDate` as due_date and `team.id` as team_id; what ends in At is
    a time."""
    words = []
    for word in fields.split():
        path, _, type_ = word.partition(":")
        name = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", path.replace(".", "_"))
        words.append(f"{name}={path}:{type_ or ('timestamptz' if path.endswith('At') else 'text')}")
    return columns(*words)


def points_of(fields: str) -> float:
    """An object is a point, one of its plain fields a tenth of it; the id is one, too."""
    inner = [word.partition(".") for word in fields.split()]
    objects = len({name for name, dot, _ in inner if dot})
    return 1 + objects + (len(inner) + 1) / 10


def graphql(
    query: str, variables: Mapping[str, Any], points: float = 1, *, budget: str = ""
) -> Request:
    body = {"query": query, "variables": dict(variables)}
    return Request.post("/graphql", json=body, cost=max(LEAST, ceil(points)), budget=budget)
