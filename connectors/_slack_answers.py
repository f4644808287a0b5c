"""How Slack says no: `ok: false`, with HTTP 200, in the Web API and in the token endpoint alike.

https://docs.slack.dev/apis/web-api/#responses
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors._errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors._types import Response

# The authorisation is over, or (token_expired) its access token is.
OVER = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "invalid_refresh_token",
        "not_authed",
        "org_login_required",
        "token_expired",
        "token_revoked",
        "user_removed_from_team",
    }
)
NOT_ALLOWED = frozenset(
    {
        "access_denied",
        "ekm_access_denied",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "team_access_not_granted",
    }
)
PASSING = frozenset(
    {
        "fatal_error",
        "internal_error",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
# The operator's: a wrong client id, secret or redirect address.
APP = frozenset({"bad_client_secret", "bad_redirect_uri", "invalid_client_id"})
# A channel or thread that is deleted, or that the app was put out of.
GONE = frozenset({"channel_not_found", "not_in_channel", "thread_not_found"})
READ_ON = GONE | {"invalid_cursor"}
_CODE = re.compile(r"[a-z][a-z_]{1,60}")


def code_of(response: Response) -> str:
    """The error that an answer tells; nothing of a good one."""
    body = response.json
    if not isinstance(body, dict) or body.get("ok") is not False:
        return ""
    code = str(body.get("error"))
    return code if _CODE.fullmatch(code) else "no error that we know"


def classify(response: Response) -> ConnectorError | None:
    """Those that a reader can do something about are left to it."""
    code = code_of(response)
    if not code or code in READ_ON or response.status == 429 or response.status >= 500:
        return None
    if code == "ratelimited":
        return RateLimitedError("Slack asks us to wait (ratelimited)", retry_after=timedelta())
    if code in OVER:
        return BrokenConnectionError(f"Slack refuses our authorisation ({code})")
    if code in NOT_ALLOWED:
        return NotAllowedError(f"Slack does not allow this ({code}): connect again to allow it")
    if code in PASSING:
        return ProviderUnavailableError(f"Slack cannot answer now ({code})")
    return ContractError(f"Slack refused a request ({code})")


def explain(told: Mapping[str, Any]) -> ConnectorError | None:
    """Of a token answer: what the default would not read for what it is."""
    code = told.get("error")
    if told.get("ok") is not False:
        return None
    if code in APP:
        return ContractError(
            f"Slack does not accept our app ({code}): compare SLACK_CLIENT_ID, its secret and the "
            "redirect address with the app's settings there"
        )
    if code in PASSING:
        return ProviderUnavailableError(f"Slack cannot answer now ({code})")
    if code == "ratelimited":
        return RateLimitedError(
            "Slack asks us to wait (ratelimited)", retry_after=timedelta(minutes=1)
        )
    return None


def plain(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bot's token, which stands where OAuth has it. Of an app that asked for a user's alone,
    that user's, which has a refresh token and an end of its own; a refresh of it answers as for a
    bot, with token_type user."""
    user = answer.get("authed_user")
    user = user if isinstance(user, dict) else {}
    shown = {**answer, "authed_user": {"id": user.get("id")}} if user else dict(answer)
    if answer.get("access_token"):
        return shown
    own = ("access_token", "refresh_token", "expires_in", "scope", "token_type")
    return {**shown, **{name: user[name] for name in own if name in user}}
