"""What several subjects of the API share: fields as clients write them, and pages of lists."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Path, Query
from pydantic import BaseModel, Field, StringConstraints

from storage.rows import is_storable
from web._problems import invalid
from web._tenants import NAME

T = TypeVar("T")
R = TypeVar("R")
DEFAULT_LIMIT, MOST = 100, 1_000

# No control characters: what a person types in one line.
Line = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Email = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[^\s@\x00-\x1f]{1,64}@[^\s@\x00-\x1f]+$")
]

TenantId = Annotated[UUID, Path(examples=["7d0c7f1e-5f0c-4d5e-9a52-3f4c36a2b8f1"])]
ConnectionId = Annotated[UUID, Path(examples=["0c9f6a5e-8b7d-4c43-8a0e-6f1d2c3b4a59"])]
TenantName = Annotated[
    str | None,
    Query(pattern=NAME, description="A tenant, by its id or its slug.", examples=["acme"]),
]
IntegrationName = Annotated[str, Path(pattern=r"^[a-z0-9_]{1,63}$", examples=["hubspot"])]
Limit = Annotated[
    int, Query(ge=1, le=MOST, description=f"At most so many; {DEFAULT_LIMIT} if not given.")
]
CursorText = Annotated[
    str | None,
    Query(
        max_length=8_192,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before.",
    ),
]


class Listed(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next_cursor: str | None = Field(
        description="Send it as `cursor` for the next page; null: this was the last.",
        examples=["WyJhY21lIl0"],
    )


def listed(
    found: Sequence[R], limit: int, shown: Callable[[R], T], place: Callable[[R], Sequence[str]]
) -> Listed[T]:
    """The first `limit` of what was found; one more says that there is a next page."""
    some = found[:limit]
    more = cursor_of(place(some[-1])) if len(found) > limit else None
    return Listed(items=[shown(one) for one in some], next_cursor=more)


def named(
    every: Sequence[R], name: Callable[[R], str], cursor: str | None, limit: int
) -> Sequence[R]:
    """Of few that are at hand, in the order of their names: those of a page, and one more."""
    after = place_of(cursor, 1)
    ordered = sorted(every, key=name)
    return [one for one in ordered if after is None or name(one) > after[0]][: limit + 1]


def cursor_of(place: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(place))).decode().rstrip("=")


def place_of(cursor: str | None, parts: int) -> list[str] | None:
    """The place that a cursor of ours names; Problem 422 for any other."""
    if cursor is None:
        return None
    try:
        place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", True))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list) or len(place) != parts:
        raise invalid("query.cursor", NO_CURSOR)
    if not all(isinstance(part, str) and is_storable(part) for part in place):
        raise invalid("query.cursor", NO_CURSOR)
    return place


NO_CURSOR = "no page of ours gave this cursor"
