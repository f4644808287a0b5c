"""What a vendor's answer means: the map by status, Retry-After, and what we cannot read."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.messages import Response

# Nobody means to wait longer than a day; and a larger number may not fit a timedelta.
MAX_RETRY_AFTER = timedelta(days=1)

# Below 500, and yet nobody has to act: a time-out, something that is locked, a call too early.
PASSING = (408, 423, 425)

# What code that reads a value of another shape than it expects runs into.
PARSE_ERRORS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
_CONNECTORS = Path(__file__).parent.parent
_TRANSPORT = {Path(__file__).with_name(name) for name in ("client.py", "transport.py", "oauth.py")}


def codes(*words: str) -> frozenset[str]:
    """A vendor's error codes: `codes("access_denied no_permission")`."""
    return frozenset(" ".join(words).split())


def error_by_status(title: str, where: str, response: Response) -> ConnectorError | None:
    """What a status means where the vendor has no form of its own; None for a good one."""
    status = response.status
    if 200 <= status < 300:
        return None
    if status == 401:
        return BrokenConnectionError(f"{title} refuses our authorisation (401) at {where}")
    if status == 403:
        return NotAllowedError(
            f"{title} does not allow this (403) at {where}: the person who connected lacks a "
            "right to it, or the account's plan does not include it"
        )
    if status == 429:
        return RateLimitedError(f"{title} asks us to wait (429)", retry_after=timedelta())
    if status >= 500 or status in PASSING:
        return ProviderUnavailableError(f"{title} cannot answer now ({status}) at {where}")
    if 300 <= status < 400:
        return ContractError(f"{title} redirects ({status}) at {where}, which we do not follow")
    return ContractError(f"{title} refused a request ({status}) at {where}")


def retry_after(response: Response, now: datetime) -> timedelta | None:
    """How long the vendor's Retry-After asks us to wait: given in seconds, or as a date."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        wait = timedelta(seconds=min(float(value), MAX_RETRY_AFTER.total_seconds()))
    except ValueError:
        at = _http_date(value)
        if at is None:
            return None
        # The vendor's clock and ours may differ: its own Date is what it counts from.
        wait = at - (_http_date(response.headers.get("date", "")) or now)
    return max(timedelta(), min(wait, MAX_RETRY_AFTER))


def vendor_time(response: Response) -> datetime:
    """When the vendor answered, by its own clock: what a position in time is to be taken from.

    Without a Date it is when we asked, by ours.
    """
    return _http_date(response.headers.get("date", "")) or response.sent_at


_WAIT_UNTIL = re.compile(
    r"(?:retry|again|until)\D{0,20}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?)", re.IGNORECASE
)
_WAIT_FOR = re.compile(
    r"(?:retry|again|wait)\D{0,20}(\d{1,6}(?:\.\d+)?)\s*(ms|milli|s\b|sec|min|h\b|hour)",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600}


def wait_in_words(text: object, response: Response) -> timedelta:
    """How long a message asks us to wait, `Retry after 2026-11-01T12:15:00Z` or `in 30 seconds`.

    Nothing where it does not say. What the error *is* must be known before: no error is recognised
    by its text, only how long one lasts.
    """
    if not isinstance(text, str):
        return timedelta()
    wait = timedelta()
    if found := _WAIT_UNTIL.search(text):
        until = datetime.fromisoformat(found[1].replace(" ", "T").rstrip("Z"))
        wait = until.replace(tzinfo=UTC) - vendor_time(response)
    elif found := _WAIT_FOR.search(text):
        wait = timedelta(seconds=float(found[1]) * _UNITS[found[2].lower()])
    return max(timedelta(), min(wait, MAX_RETRY_AFTER))


def _http_date(value: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def unreadable(title: str, error: Exception) -> ContractError:
    """For an answer that our code stumbled over: says where it did, and no value of the vendor."""
    frames = []
    trace = error.__traceback__
    while trace:
        frames.append((Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
        trace = trace.tb_next
    # Not where a library noticed it, but what line of a connector asked for too much.
    ours = [
        (file, line)
        for file, line in frames
        if file.is_relative_to(_CONNECTORS) and file not in _TRANSPORT
    ]
    where = [f"{file.relative_to(_CONNECTORS)}:{line}" for file, line in ours]
    where = where or [f"{file.name}:{line}" for file, line in frames]
    place = ", ".join(where[-1:])
    # The text of such an error may quote the vendor's data, and tracebacks are stored.
    error.args = ()
    return ContractError(
        f"{title} answered in a form that we cannot read ({type(error).__name__} at {place})"
    )
