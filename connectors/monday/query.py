"""monday.com's GraphQL: what is asked for, what it costs, and how it is refused.

Errors come with HTTP 200 as a rule. Since API 2025-01 they stand in `errors` with a code, before
that they had an `error_code` of their own, which is still met (airbytehq/airbyte#36717, 2024-04).
https://developer.monday.com/api-reference/docs/error-handling
https://developer.monday.com/api-reference/docs/rate-limits (2026-11)
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
)
from connectors.kernel.statuses import codes, vendor_time

# A query's points are not known before it is asked: so many a row are more than was ever recorded
# (222,250 of 1,000 items). At so many a call, a minute's points are its 1,000 calls, too.
POINTS_OF_A_ROW, LEAST = 250, 5_000

# What webhooks tell is read by so few calls that a day's are left to polls.
TOLD = "told"

LIMITS = codes(
    "COMPLEXITY_BUDGET_EXHAUSTED COMPLEXITYBUDGETEXHAUSTED COMPLEXITYEXCEPTION"
    " MAXCONCURRENCYEXCEEDED MAX_CONCURRENCY_EXCEEDED IP_RATE_LIMIT_EXCEEDED FIELD_LIMIT_EXCEEDED"
    " FIELD_MINUTE_RATE_LIMIT_EXCEEDED RATE_LIMIT_EXCEEDED RATELIMITEXCEEDED"
)
DAILY = "DAILY_LIMIT_EXCEEDED"
NOT_LET_IN = codes("NOT_AUTHENTICATED NOTAUTHENTICATED UNAUTHENTICATED")
NOT_ALLOWED = codes(
    "USER_UNAUTHORIZED USERUNAUTHORIZEDEXCEPTION USER_ACCESS_DENIED MISSING_REQUIRED_PERMISSIONS"
    " UNAUTHORIZED_FIELD_OR_TYPE MISSINGREQUIREDPERMISSIONS"
)
AWAY = codes("INTERNAL_SERVER_ERROR INTERNALSERVERERROR API_TEMPORARILY_BLOCKED")
CURSOR = codes("CURSOREXPIREDERROR CURSOR_EXPIRED CURSOREXCEPTION INVALIDCURSOREXCEPTION")
_RESET = re.compile(r"reset in (\d{1,6}) seconds")


class CursorExpiredError(ContractError):
    """A cursor lives for an hour from the first page of its board."""


def graphql(
    query: str, variables: dict[str, Any] | None = None, *, rows: int = 0, told: bool = False
) -> Request:
    """A query that may answer so many rows; one for what a webhook `told` is counted as a call."""
    body = {"query": query, "variables": variables or {}}
    if told:
        return Request.post("/v2", json=body, budget=TOLD)
    return Request.post("/v2", json=body, cost=max(LEAST, rows * POINTS_OF_A_ROW))


def data_of(response: Response) -> dict[str, Any]:
    """The data of an answer; it has no errors, `classify` has seen to that."""
    data: dict[str, Any] = response.json["data"]
    return data


def classify(response: Response) -> ConnectorError | None:
    """An answer with any error is refused: its data may lack anything."""
    body = response.json if isinstance(response.json, dict) else {}
    said = {code.upper() for code in _codes(body)}
    if not said and not body.get("errors"):
        return None
    named = f" ({', '.join(sorted(said))})" if said else ""
    if said & {*LIMITS, DAILY}:
        text = f"monday.com asks us to wait{named}"
        return RateLimitedError(text, retry_after=_wait(response, body, daily=DAILY in said))
    if said & NOT_LET_IN or response.status == 401:
        return BrokenConnectionError("monday.com refuses our authorisation")
    if said & CURSOR:
        return CursorExpiredError("monday.com no longer knows where a listing stood")
    if said & NOT_ALLOWED or response.status == 403:
        return NotAllowedError(
            f"monday.com does not allow this{named}: the person who connected lacks a right to it, "
            "or the app a scope"
        )
    if said & AWAY or response.status >= 500:
        return ProviderUnavailableError("monday.com cannot answer now")
    if response.status == 429:
        return None
    return ContractError(f"monday.com refused a query{named}")


def _codes(body: dict[str, Any]) -> Iterator[str]:
    """The codes of an answer that is refused, in either form."""
    errors = body.get("errors")
    each = errors if isinstance(errors, list) else []
    found = [_extensions(one).get("code") for one in each]
    for code in (*found, body.get("error_code")):
        if isinstance(code, str) and code.isidentifier():
            yield code


def _extensions(error: Any) -> dict[str, Any]:
    held = error.get("extensions") if isinstance(error, dict) else None
    return held if isinstance(held, dict) else {}


def _wait(response: Response, body: dict[str, Any], *, daily: bool) -> timedelta:
    """What a header, a field or the text says; a day's calls are given anew at midnight UTC."""
    told = response.headers.get("retry-after", "")
    if told.isdecimal():
        return timedelta(seconds=int(told))
    errors = body.get("errors")
    for one in errors if isinstance(errors, list) else []:
        seconds = _extensions(one).get("retry_in_seconds")
        if isinstance(seconds, int):
            return timedelta(seconds=seconds)
        text = one.get("message", "") if isinstance(one, dict) else str(one)
        if found := _RESET.search(str(text)):
            return timedelta(seconds=int(found[1]))
    if daily:
        now = vendor_time(response)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(days=1) - now
    return timedelta()
