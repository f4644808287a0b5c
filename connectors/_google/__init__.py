"""What Google's integrations share: one app and its consents, and Google's form of an error.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    ConnectorError,
    ContractError,
    NotAllowedError,
    OAuth2,
    RateLimitedError,
    Response,
    Revocation,
    say,
)
from connectors.kernel.parts import Round
from connectors.kernel.positions import Position
from connectors.kernel.statuses import codes, error_by_status, wait_in_words

SCOPE = "https://www.googleapis.com/auth/"
IDENTITY = {
    "openid": "to tell one person's account from another's",
    "email": "to name the account to people",
}
# An organisation may want its people to sign in again from time to time.
SESSION_OVER = codes("invalid_rapt rapt_required")

# Who acts, by the reason that stands in an error (Google's pages "Resolve errors" of Gmail,
# Calendar and Drive, 2026-11; `…Unreg` and `notACalendarUser` as reported). Nobody: it passes.
RATE_REASONS = codes(
    "rateLimitExceeded userRateLimitExceeded quotaExceeded dailyLimitExceeded "
    "sharingRateLimitExceeded RATE_LIMIT_EXCEEDED"
)
# The operator: the Cloud project, not the tenant's account.
PROJECT_REASONS = codes(
    "accessNotConfigured SERVICE_DISABLED dailyLimitExceededUnreg CONSUMER_INVALID"
)
# The tenant, who did not tick everything.
SCOPE_REASONS = codes("insufficientPermissions ACCESS_TOKEN_SCOPE_INSUFFICIENT")
# The tenant's administrator, who keeps apps out.
POLICY_REASONS = codes("domainPolicy")
# The tenant or its administrator: the account does not have this service of Google's.
WITHOUT_REASONS = codes("notACalendarUser failedPrecondition")
# The operator: our address, once Google does not like it; this comes with a 401 (as remembered).
ADDRESS_REASONS = codes("push.webhookUrlUnauthorized push.webhookUrlNotHttps")
# Of one thing, such as a calendar: it is not there, or not for this person.
AWAY_REASONS = codes(
    "notFound forbidden requiredAccessLevel insufficientFilePermissions teamDriveMembershipRequired"
)
# What a reader asks to be shown where one thing may be out of reach and the others are not.
AWAY = (403, 404)


def auth(scopes: Mapping[str, str]) -> OAuth2:
    """The rules of Google's authorisation server, for those scopes, each with its reason.

    All integrations are one app. Who connects a second one is asked for its own scopes, and what
    was granted before stays granted; each integration keeps tokens of its own.
    """
    return OAuth2(
        env="GOOGLE",
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106
        revocation=Revocation(url="https://oauth2.googleapis.com/revoke", client_auth="none"),
        scopes={**scopes, **IDENTITY},
        pkce=True,
        # Without consent a second grant comes without a refresh token.
        authorize_params={
            "access_type": "offline",
            "prompt": "consent",
            "include_granted_scopes": "true",
        },
        idle_lifetime=timedelta(days=180),
        error_from=error_from,
    )


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """An authorisation that ended by an organisation's rule, and not by anybody's wish."""
    if answer.get("error") == "invalid_grant" and answer.get("error_subtype") in SESSION_OVER:
        return BrokenConnectionError(
            say("Google: the organisation wants the person to sign in again from time to time")
        )
    return None


def classify(title: str) -> Callable[[Response], ConnectorError | None]:
    """What Google's reasons mean. The statuses alone say too little: 403 stands for a missing
    right, for too many calls, and for a project without the API."""

    def classified(response: Response) -> ConnectorError | None:
        if response.status not in (400, 401, 403, 429):
            return None
        found = reasons(response)
        if found & ADDRESS_REASONS:
            return ContractError(f"{title} does not deliver to our address: NEXTAUTH_URL")
        if found & WITHOUT_REASONS and response.status in (400, 403):
            # Some calls of a sound account are refused like this, and pass when asked again
            # (googleapis/google-api-php-client#2558, 2024-02).
            return NotAllowedError(
                say(
                    "this Google account has no %(title)s, or it is switched off: open %(title)s "
                    "once as this person, or have the organisation's administrator switch it on",
                    title=title,
                ),
                may_pass=True,
            )
        if response.status == 429 or (response.status == 403 and found & RATE_REASONS):
            wait = wait_in_words(_message(response), response)
            return RateLimitedError(
                f"{title} asks us to wait ({response.status})", retry_after=wait
            )
        if response.status != 403:
            return None
        if found & PROJECT_REASONS:
            return ContractError(
                f"the {title} API is not enabled in our Google Cloud project, or our calls belong "
                "to none: check GOOGLE_CLIENT_ID"
            )
        if found & SCOPE_REASONS:
            return NotAllowedError(
                f"{title} was not allowed all that it needs when this account was connected: "
                "reconnect and allow it"
            )
        if found & POLICY_REASONS:
            return NotAllowedError(
                f"{title}: the organisation's administrator does not let apps like ours in"
            )
        return None

    return classified


def _message(response: Response) -> Any:
    error = response.json.get("error") if isinstance(response.json, dict) else None
    return error.get("message") if isinstance(error, dict) else None


def reasons(response: Response) -> frozenset[str]:
    """The reasons that an error answer gives; none of any other."""
    return frozenset(_reasons(response.json))


def _reasons(body: Any) -> Iterator[str]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return
    for name in ("errors", "details"):
        for item in error.get(name) or ():
            if isinstance(item, dict) and isinstance(item.get("reason"), str):
                yield item["reason"]


def is_away(title: str, response: Response, *, without: str = "") -> bool:
    """Whether the one thing asked for is out of reach; raises what concerns more than that."""
    if response.status not in AWAY:
        return False
    found = reasons(response)
    if found & AWAY_REASONS and classify(title)(response) is None:
        return True
    refuse(title, response, without=without)


def refuse(title: str, response: Response, *, without: str = "") -> NoReturn:
    """Raises what a refusal means. `without` says what cannot be read where its own scope was not
    granted: the rest goes on."""
    if without and reasons(response) & SCOPE_REASONS:
        raise NotAllowedError(
            f"{title} was connected without the permission to see {without}: reconnect and allow it"
        )
    error = classify(title)(response) or error_by_status(title, "one thing", response)
    raise error or ContractError(f"{title} refused one thing ({response.status})")


@dataclass(frozen=True)
class _Tokens(Position):
    """Checkpoints as they were until 2026-11: a token of each part."""

    tokens: Mapping[str, str] = field(default_factory=dict)


def renewed(at: Checkpoint) -> Checkpoint:
    """The checkpoint of a stream of parts, in the form of today."""
    tokens = _Tokens.of(at).tokens
    parts = {part: {"token": token} for part, token in tokens.items()}
    return Round(parts=parts).saved() if parts else at
