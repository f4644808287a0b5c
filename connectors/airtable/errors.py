"""Airtable's error codes: who must act.

https://airtable.com/developers/web/api/errors
"""

from datetime import timedelta
from typing import Any

from connectors import (
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    RateLimitedError,
    Response,
)
from connectors.kernel.statuses import codes

TITLE = "Airtable"
# A 429 locks a base for so long, and has no Retry-After that could be relied on (2026-11).
LOCKED = timedelta(seconds=30)
# A listing waits on the server for its next page; an idle one is dropped, and others when a server
# is restarted: it is to be begun anew (simonw/airtable-export#7, 2021-02).
LAPSED = codes("LIST_RECORDS_ITERATOR_NOT_AVAILABLE INVALID_OFFSET_VALUE")
# The calls that a plan includes in a month are used up.
USED_UP = codes("PUBLIC_API_BILLING_LIMIT_EXCEEDED")


def code_of(response: Response) -> str:
    """An error comes in three forms: `{error: {type}}`, `{error: text}`, `{errors: [{error}]}`."""
    body: Any = response.json if isinstance(response.json, dict) else {}
    error = body.get("error")
    if error is None and isinstance(body.get("errors"), list):
        error = next((one.get("error") for one in body["errors"] if isinstance(one, dict)), None)
    if isinstance(error, dict):
        error = error.get("type")
    return error if isinstance(error, str) else ""


def classify(response: Response) -> ConnectorError | None:
    status, code = response.status, code_of(response)
    if status == 429:
        if code in USED_UP:
            return NotAllowedError(
                f"the calls that this {TITLE} plan includes in a month are used up ({code}): it "
                "goes on next month, or once the workspace has a larger plan"
            )
        return RateLimitedError(f"{TITLE} asks us to wait (429)", retry_after=LOCKED)
    if code in LAPSED:
        return CheckpointExpiredError(f"{TITLE} no longer knows where this listing stood")
    if status in (403, 404) and code:
        # One and the same answer to what is not allowed and to what is not there.
        return NotAllowedError(
            f"{TITLE} does not have this or does not show it to who connected ({status} {code}): "
            "the base may not be shared with our app, or not with this person"
        )
    if status in (400, 413, 422) and code:
        return ContractError(f"{TITLE} refused a request ({status} {code})")
    return None
