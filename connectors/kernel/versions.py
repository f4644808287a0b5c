"""Versions of records: integers that only grow, by which two writes of one record are ordered."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kernel.errors import ContractError
from connectors.kernel.messages import Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)


def find(record: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of a record; None where there is none."""
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def parse_time(text: str) -> datetime:
    """An ISO 8601 time, aware; ValueError where it is none. No offset means UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def epoch_us(path: str) -> Callable[[Record], int | None]:
    """`epoch_us("updatedAt")`: the ISO 8601 time there, in microseconds of the epoch."""
    names = tuple(path.split("."))

    def version(record: Record) -> int | None:
        value = find(record, names)
        if value is None:
            return None
        try:
            return (parse_time(value) - EPOCH) // MICROSECOND
        except (TypeError, ValueError):
            raise ContractError(f"a record's {path} is not a time") from None

    return version


def integer(path: str) -> Callable[[Record], int | None]:
    """`integer("historyId")`: the counter there, which may be written as a string."""
    names = tuple(path.split("."))

    def version(record: Record) -> int | None:
        value = find(record, names)
        if value is None:
            return None
        try:
            return int(value)
        except (TypeError, ValueError):
            raise ContractError(f"a record's {path} is not an integer") from None

    return version


def epoch_ms(at: datetime) -> int:
    """A time as vendors filter by it: milliseconds of the epoch."""
    return (at - EPOCH) // MILLISECOND
