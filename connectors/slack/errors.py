"""How Slack says no: `ok: false`, with HTTP 200, in the Web API and in the token endpoint alike.

https://docs.slack.dev/apis/web-api/#responses
"""

import re
from collections.abc import Mapping
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
from connectors.kernel.statuses import codes

# Whom a code concerns, by the tables of errors in Slack's reference of its methods (2026-11).
# The authorisation is over, or (token_expired) its access token is.
OVER = codes(
    "account_inactive invalid_auth invalid_refresh_token not_authed token_expired token_revoked "
    "user_removed_from_team"
)
NOT_ALLOWED = codes(
    "access_denied accesslimited ekm_access_denied enterprise_is_restricted feature_not_enabled "
    "method_not_supported_for_channel_type missing_scope no_permission not_allowed_token_type "
    "paid_teams_only restricted_action team_access_not_granted two_factor_setup_required "
    "user_is_restricted"
)
# The last two: a workspace is on its way into an organisation.
PASSING = codes(
    "fatal_error fetch_members_failed internal_error request_timeout service_unavailable "
    "org_login_required team_added_to_org"
)
# The operator's: a wrong client id, secret or redirect address.
APP = codes("bad_client_secret bad_redirect_uri invalid_client_id")
# A channel that is deleted, or that the app was put out of.
GONE = codes("channel_not_found not_in_channel")
READ_ON = GONE | {"invalid_cursor", "thread_not_found"}
_CODE = re.compile(r"[a-z][a-z_]{1,60}")
_SCOPES = re.compile(r"[a-z][a-z.:_, ]{1,200}")


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
    if code in ("ratelimited", "rate_limited"):
        return RateLimitedError("Slack asks us to wait (ratelimited)")
    if code in OVER:
        return BrokenConnectionError(f"Slack refuses our authorisation ({code})")
    if code in NOT_ALLOWED:
        return _not_allowed(code, response.json.get("needed"))
    if code in PASSING:
        return ProviderUnavailableError(f"Slack cannot answer now ({code})")
    return ContractError(f"Slack refused a request ({code})")


def not_shown(code: str) -> NotAllowedError:
    """For a channel that was listed a moment ago."""
    return NotAllowedError(f"Slack does not show this channel to our app ({code}): invite it again")


def _not_allowed(code: str, needed: object) -> NotAllowedError:
    if code == "missing_scope":
        named = needed if isinstance(needed, str) and _SCOPES.fullmatch(needed) else "a scope"
        return NotAllowedError(
            f"Slack does not allow this ({code}): it needs {named}; connect again once the app "
            "asks for it"
        )
    return NotAllowedError(
        f"Slack does not allow this ({code}): an administrator there has to allow it"
    )


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """Of a token answer: what the default would not read for what it is."""
    code = answer.get("error")
    if answer.get("ok") is not False:
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


def normalize_answer(answer: Mapping[str, Any]) -> Mapping[str, Any]:
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
