"""Zoho CRM's error codes, and those of its accounts servers: who must act.

https://www.zoho.com/crm/developer/docs/api/v8/status-codes.html (2026-11)
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    ConnectorError,
    ContractError,
    NotAllowedError,
    RateLimitedError,
    Response,
)

# The credits are counted over 24 hours, and no answer says when there are some again.
NO_CREDITS = timedelta(hours=1)
# Some ten token calls in ten minutes are allowed.
TOKEN_CALLS = timedelta(minutes=10)
NOT_ALLOWED = {
    "NO_PERMISSION": "the Zoho user who connected lacks the permission to read this",
    "AUTHORIZATION_FAILED": "the Zoho user who connected lacks the privilege to read this",
    "OAUTH_SCOPE_MISMATCH": "this was not allowed when Zoho CRM was connected: connect again, and "
    "allow all that is asked for",
    "INVALID_MODULE": "the Zoho organisation has no such module, or its edition lacks it",
    "NOT_SUPPORTED": "Zoho CRM does not show this module to apps",
    "FEATURE_NOT_SUPPORTED": "the edition of the Zoho organisation does not include this",
}
# A listing by page numbers ends at 2,000 rows (airbytehq/airbyte#30977, 2023-10).
TOO_DEEP = "DISCRETE_PAGINATION_LIMIT_EXCEEDED"


def code_of(response: Response) -> str:
    """The code of an error answer; nothing of another one."""
    body = response.json if isinstance(response.json, dict) else {}
    return str(body.get("code", ""))


def classify(response: Response) -> ConnectorError | None:
    """By code; a 429 means too many calls at once, or that the credits of a day are spent."""
    code = code_of(response)
    if code in NOT_ALLOWED and response.status >= 400:
        return NotAllowedError(NOT_ALLOWED[code])
    if response.status == 429 and response.headers.get("x-api-credits-remaining") == "0":
        return RateLimitedError(
            "the API credits of the Zoho organisation are spent for now", retry_after=NO_CREDITS
        )
    return None


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """What an accounts server refuses: often with HTTP 200, and "Access Denied" for too many."""
    error = answer.get("error")
    if error == "Access Denied":
        return RateLimitedError(
            "Zoho asks us to wait: too many token calls", retry_after=TOKEN_CALLS
        )
    if error in ("invalid_client", "invalid_client_secret"):
        return ContractError(
            f"Zoho does not accept our app in this data centre ({error}): in the API console "
            "switch on all data centres for it, with one secret for all, and compare "
            "ZOHO_CLIENT_ID and its secret"
        )
    return None
