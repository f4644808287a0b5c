"""How GitHub says no: by status, a header or two, and a message. It has no codes.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api (2026-11)
https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api (2026-11)
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kernel.errors import (
    ConnectorError,
    ContractError,
    NotAllowedError,
    RateLimitedError,
)
from connectors.kernel.messages import Response
from connectors.kernel.statuses import vendor_time

# What GitHub asks for where a limit does not say how long it lasts.
A_WHILE = timedelta(minutes=1)
HIDDEN = (404, 410, 451)
# The operator's: a wrong client id, secret or redirect address, or an app that GitHub stopped.
APP = ("incorrect_client_credentials", "redirect_uri_mismatch", "application_suspended")


def classify(response: Response) -> ConnectorError | None:
    """A limit may be a 403 as well as a 429, and say nothing in its headers: then its address of
    the documentation, or its message, names it (hub4j/github-api#2009, 2025-01).

    What a person may not see is not found: nobody can tell it from what is not there.
    """
    if response.status in (403, 429) and (wait := _wait(response)) is not None:
        return RateLimitedError(f"GitHub asks us to wait ({response.status})", retry_after=wait)
    if response.status == 403 and "x-github-sso" in response.headers:
        return NotAllowedError(
            "GitHub does not allow this (403): its organization wants a sign-in of its own (SAML); "
            "sign in there, and connect again"
        )
    if response.status in HIDDEN:
        return NotAllowedError(
            f"GitHub does not show this to the person who connected ({response.status}): it was "
            "deleted or switched off there, or the person may no longer see it"
        )
    return None


def _wait(response: Response) -> timedelta | None:
    """How long a limit lasts; None of what is none."""
    headers = response.headers
    body = response.json if isinstance(response.json, dict) else {}
    if headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        until = datetime.fromtimestamp(int(reset), UTC) if reset.isdecimal() else None
        wait = until - vendor_time(response) if until else A_WHILE
        return max(wait, timedelta(seconds=1))
    said = f"{body.get('documentation_url')} {body.get('message')}".lower()
    named = "rate-limits" in said or "secondary rate limit" in said
    return A_WHILE if response.status == 429 or "retry-after" in headers or named else None


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """Of a callback or a token answer, which is an error with HTTP 200."""
    code = answer.get("error")
    if code in APP:
        return ContractError(
            f"GitHub does not accept our app ({code}): compare GITHUB_CLIENT_ID, its secret and "
            "the redirect address with the app's settings there"
        )
    if code == "unverified_user_email":
        return NotAllowedError("GitHub wants the person's e-mail address verified first")
    return None
