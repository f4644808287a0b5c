"""The fields of a vendor's records, declared in a text: names, or names with their types."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def words(text: str) -> tuple[str, ...]:
    """Names that are written side by side."""
    return tuple(text.split())


def typed(text: str) -> dict[str, str]:
    """Types by name, of a text such as `Name:text Active:bool`."""
    return dict(field.split(":") for field in text.split())


def only(record: Mapping[str, T], *names: str) -> dict[str, T]:
    """Of a record those fields, as far as it has them."""
    return {name: record[name] for name in names if name in record}


def without(record: Mapping[str, T], *names: str) -> dict[str, T]:
    """A record but for those fields."""
    return {name: value for name, value in record.items() if name not in names}
