"""What several subjects of the API share: fields as clients write them, and pages of lists."""

from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, Field, StringConstraints

T = TypeVar("T")

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
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
CursorText = Annotated[
    str | None,
    Query(
        max_length=8_192,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before.",
    ),
]


class Items(BaseModel, Generic[T]):
    """All there are."""

    items: list[T]


class Listed(BaseModel, Generic[T]):
    """A page of them."""

    items: list[T]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page.")
