"""What Linear's answers mean: errors come with HTTP 200, 400 or a status of their own.

https://linear.app/developers/graphql#error-handling
https://linear.app/developers/rate-limiting#handling-rate-limit-errors

By the documents a limit is answered with 200, by reports with 400 (vanillagreencom/kendex#1018,
2026-08). The types are those of @linear/sdk 98.0.0.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.messages import Response
from connectors.kernel.statuses import codes, vendor_time
from connectors.kernel.versions import EPOCH, MILLISECOND, find

NOT_LET_IN = codes("AUTHENTICATION_ERROR UNAUTHENTICATED")
NOT_ALLOWED = codes("FORBIDDEN FEATURE_NOT_ACCESSIBLE USAGE_LIMIT_EXCEEDED")
AWAY = codes("INTERNAL_SERVER_ERROR INTERNAL_ERROR LOCK_TIMEOUT NETWORK_ERROR BOOTSTRAP_ERROR")
REFUSED = codes("INPUT_ERROR INVALID_INPUT")
UNCLEAR = codes("UNKNOWN OTHER")


class RefusedInputError(ContractError):
    """Linear does not take what a query was given: a cursor whose row is gone, too much at once."""


def data_of(response: Response) -> dict[str, Any]:
    """The data of an answer; it has no errors, `classify` has seen to that."""
    data: dict[str, Any] = response.json["data"]
    return data


def classify(response: Response) -> ConnectorError | None:
    """An answer with any error is refused: its data may lack anything."""
    errors = find(response.json, ("errors",))
    if not isinstance(errors, list) or not errors:
        return None
    said = {code for error in errors for code in _codes(error)}
    if "RATELIMITED" in said:
        return RateLimitedError("Linear asks us to wait (RATELIMITED)", retry_after=_wait(response))
    if said & NOT_LET_IN:
        return BrokenConnectionError("Linear refuses our authorisation")
    if response.status >= 500 or said & AWAY:
        return ProviderUnavailableError("Linear cannot answer now")
    named = f" ({', '.join(sorted(said))})" if said else ""
    if said & NOT_ALLOWED:
        return NotAllowedError(
            f"Linear does not allow this{named}: the person who connected lacks a right to it, or "
            "the workspace's plan does not include it"
        )
    if said & REFUSED:
        return RefusedInputError(f"Linear refused what a query asked for{named}")
    return ContractError(f"Linear refused a query{named}", may_pass=said <= UNCLEAR)


def _codes(error: Any) -> Iterator[str]:
    """An error's code, and its type: the same in words."""
    for name in ("code", "type"):
        said = find(error, ("extensions", name))
        if isinstance(said, str) and (code := said.upper().replace(" ", "_")).isidentifier():
            yield code


def _wait(response: Response) -> timedelta:
    """Until a bucket that holds too little has its time again; nothing where none says so."""
    told, waits = response.headers, [timedelta()]
    asked = {"requests": "1", "endpoint-requests": "1", "complexity": told.get("x-complexity", "1")}
    for bucket, least in asked.items():
        left = told.get(f"x-ratelimit-{bucket}-remaining", "")
        reset = told.get(f"x-ratelimit-{bucket}-reset", "")
        numbers = left.isdecimal() and least.isdecimal() and reset.isdecimal()
        if numbers and int(left) < int(least):
            waits.append(EPOCH + int(reset) * MILLISECOND - vendor_time(response))
    return max(waits)
