"""The functions and filters that a manifest's templates know, beside Jinja's own."""

import base64
import hashlib
import hmac as hmac_of
import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

from recipes import datetimes

HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s")
# What a pattern may cost at worst: the length of the text to the power of its open repeats.
MAX_STEPS = 10**9
_PARSER: Any = import_module("re._parser")


def functions(now: datetime) -> dict[str, Callable[..., Any]]:
    """The functions of templates, at a time."""

    def now_utc() -> datetime:
        return now.astimezone(UTC)

    def today_utc() -> date:
        return now.astimezone(UTC).date()

    def today_with_timezone(timezone: str) -> date:
        return now.astimezone(ZoneInfo(timezone)).date()

    def day_delta(num_days: int, format: str = datetimes.ISO) -> str:
        return datetimes.write(now_utc() + timedelta(days=num_days), format)

    made = (now_utc, today_utc, today_with_timezone, day_delta)
    return {**_FUNCTIONS, **{each.__name__: each for each in made}}


def timestamp(dt: float | str | datetime) -> int | float:
    if isinstance(dt, int | float):
        return int(dt)
    return str_to_datetime(dt).timestamp()


def str_to_datetime(s: str | datetime) -> datetime:
    return datetimes.from_iso(str(s))


def duration(datestring: str) -> Any:
    return datetimes.duration(datestring)


def format_datetime(
    dt: str | datetime | date | int, format: str, input_format: str | None = None
) -> str:
    if isinstance(dt, datetime):
        return datetimes.write(dt if dt.tzinfo else dt.replace(tzinfo=UTC), format)
    if isinstance(dt, int | float):
        return datetimes.write(datetimes.parse(dt, input_format or "%s"), format)
    text = dt.isoformat() if isinstance(dt, date) else dt
    at = datetimes.parse(text, input_format) if input_format else str_to_datetime(text)
    return datetimes.write(at, format)


def sanitize_url(value: str) -> str:
    return quote_plus(value)


def camel_case_to_snake_case(value: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", value).lower()


def generate_uuid() -> str:
    return str(uuid.uuid4())


def highest(*args: Any) -> Any:
    return max(*args)


def lowest(*args: Any) -> Any:
    return min(*args)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "timestamp": timestamp,
    "str_to_datetime": str_to_datetime,
    "duration": duration,
    "format_datetime": format_datetime,
    "sanitize_url": sanitize_url,
    "camel_case_to_snake_case": camel_case_to_snake_case,
    "generate_uuid": generate_uuid,
    "max": highest,
    "min": lowest,
}
NAMES = frozenset({*_FUNCTIONS, "now_utc", "today_utc", "today_with_timezone", "day_delta"})


def hash_of(value: Any, hash_type: str = "md5", salt: str | None = None) -> str:
    if hash_type not in HASHES:
        raise ValueError("an unknown kind of hash")
    made = hashlib.new(hash_type, str(value).encode(), usedforsecurity=False)
    made.update(str(salt).encode() if salt else b"")
    return made.hexdigest()


def hmac(value: Any, key: str, hash_type: str = "sha256") -> str:
    if hash_type != "sha256":
        raise ValueError("an unknown kind of hash for an HMAC")
    return hmac_of.new(str(key).encode(), str(value).encode(), hashlib.sha256).hexdigest()


def base64encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def base64decode(value: str) -> str:
    return base64.b64decode(value.encode()).decode()


def base64binascii_decode(value: str) -> str:
    # It encodes, whatever its name says: so it does in the language.
    return base64.standard_b64encode(value.encode("ascii")).decode("ascii")


def string(value: Any) -> str:
    # Quoted, so that the text is not taken for the value that it spells.
    return value if isinstance(value, str) else f'"""{json.dumps(value)}"""'


def regex_search(value: str, regex: str) -> str:
    found = pattern(regex, value).search(value)
    return (found.group(1) or "") if found and found.groups() else ""


def regex_replace(value: str, regex: str, replacement: str) -> str:
    return pattern(regex, value).sub(replacement, value)


def pattern(regex: str, text: str) -> "re.Pattern[str]":
    """The pattern of a regex, unless it might take for ever on the text: then a ValueError."""
    try:
        tree = _PARSER.parse(regex)
        repeats = _repeats(tree)
    except (re.error, RecursionError, OverflowError):
        raise ValueError("a pattern that cannot be read") from None
    if repeats is None or max(len(text), 2) ** (repeats + 1) > MAX_STEPS:
        raise ValueError("a pattern that might take for ever on its text")
    return re.compile(regex)


def _repeats(tree: Any, inside: bool = False) -> int | None:
    """How many open repeats a pattern has; None where one stands or branches inside of another."""
    found = 0
    for name, value in tree:
        kind = str(name)
        if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, body = value
            is_open = int(most) > 20
            if is_open and inside:
                return None
            inner = _repeats(body, inside or is_open)
            found += is_open
        elif kind == "BRANCH":
            if inside:
                return None
            counts = [_repeats(each, inside) for each in value[1]]
            inner = None if None in counts else sum(each or 0 for each in counts)
        elif kind in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            inner = _repeats(value[-1] if isinstance(value, tuple) else value, inside)
        else:
            inner = 0
        if inner is None:
            return None
        found += inner
    return found


FILTERS: Mapping[str, Callable[..., Any]] = {
    "hash": hash_of,
    "hmac": hmac,
    "base64encode": base64encode,
    "base64decode": base64decode,
    "base64binascii_decode": base64binascii_decode,
    "string": string,
    "regex_search": regex_search,
    "regex_replace": regex_replace,
}
