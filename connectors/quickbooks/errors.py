"""What QuickBooks' faults mean: two spellings of them, in answers of any status, 200 too.

https://developer.intuit.com/app/developer/qbo/docs/develop/troubleshooting/error-codes (2026-11)
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Response,
)

# A token that is none or has ended; a company that the app or the person has no access to any more.
REFUSED = ("3200", "3100", "100", "120")
THROTTLED = "3001"
# What the company's administrator has to see to.
LACKING = {
    "5020": "the person who connected has no right to this, or the company's plan does not have it",
    "5030": "the company's plan does not have this, or it is switched off",
    "6190": "the company's subscription has ended, or was not paid",
    "7001": "the company's subscription has lapsed",
}
SYSTEM_FAILURE = "10000"


def classify(response: Response) -> ConnectorError | None:
    """Who must act, by the fault's code; by the status alone, where QuickBooks is down."""
    if response.status == 429:
        return _throttled()
    if response.status == 403 and not isinstance(response.json, dict):
        # The gateway's, in XML although JSON was asked for: it throttles like this, too.
        return NotAllowedError("QuickBooks does not allow this (403)", may_pass=True)
    for fault in _faults(response.json):
        errors = fault.get("Error") or fault.get("error") or [{}]
        # 003001 and 3001 are the same.
        code = str(errors[0].get("code", "")).lstrip("0")
        if (error := _of_fault(code, str(fault.get("type")), response.status)) is not None:
            return error
    return None


def _of_fault(code: str, kind: str, status: int) -> ConnectorError | None:
    if code == THROTTLED:
        return _throttled()
    if status >= 500:
        return None  # in an outage it has the codes of refusals, too
    if kind == "SystemFault" or code == SYSTEM_FAILURE:
        return ProviderUnavailableError("QuickBooks cannot answer now (a system fault)")
    if code in REFUSED:
        return BrokenConnectionError(f"QuickBooks refuses our authorisation (fault {code})")
    if code in LACKING:
        return NotAllowedError(f"QuickBooks does not allow this (fault {code}): {LACKING[code]}")
    if status < 300 or status in (400, 404, 422):
        number = code if code.isdecimal() else "without a code"
        return ContractError(f"QuickBooks refused a request (fault {number})")
    return None


def _throttled() -> RateLimitedError:
    # No answer says how long; Intuit counts by the minute.
    return RateLimitedError("QuickBooks asks us to wait", retry_after=timedelta(seconds=60))


def _faults(body: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(body, list):
        for item in body:
            yield from _faults(item)
    elif isinstance(body, dict):
        for name in ("Fault", "fault"):
            if isinstance(body.get(name), dict):
                yield body[name]
        for name in ("CDCResponse", "QueryResponse"):
            if isinstance(body.get(name), list):
                yield from _faults(body[name])
