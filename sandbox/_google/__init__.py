"""What Google's vendors share: one OAuth app for all of them, and Google's form of an error.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Any

from starlette.responses import Response

from sandbox.kernel.data import FIRM_ENDS, FIRM_STARTS, domain, person, plain
from sandbox.kernel.jwt import sign
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Answer, Json, Kind, RefusedError, reply
from sandbox.kernel.vendor import ErrorCase

ISSUER = "https://accounts.google.com"
# By which name the sandbox knows the key that Google signs with.
KEY = "google"
PROJECT = "atom-sandbox"
SCOPE = "https://www.googleapis.com/auth/"
MAIL = "https://mail.google.com/"
# The short OpenID names come back as Google's own.
LONG_NAMES = {"email": f"{SCOPE}userinfo.email", "profile": f"{SCOPE}userinfo.profile"}
# An access token works an hour; the answer says a second less.
ACCESS_TTL = timedelta(hours=1)
EXPIRES_IN = 3599
# An app may hold so many live refresh tokens of one user.
REFRESH_CAP = 100
# Six months without use, and a refresh token is dead.
REFRESH_TTL = timedelta(days=183)

CAUSES = {
    "client": ("invalid_client", "The OAuth client is not known, or its secret is another."),
    "code": ("invalid_grant", "Bad Request"),
    "redirect_uri": ("redirect_uri_mismatch", "Bad Request"),
    "verifier": ("invalid_grant", "Invalid code verifier."),
    "refresh_token": ("invalid_grant", "Token has been expired or revoked."),
    "token": ("invalid_token", "Token expired or revoked"),
}


def new_account(random: Random) -> tuple[str, str]:
    """A person with a mailbox at a firm; the address is the account's id at every vendor."""
    first, last = person(random)
    firm_name = f"{random.choice(FIRM_STARTS)} {random.choice(FIRM_ENDS)}"
    return f"{plain(first)}.{plain(last)}@{domain(firm_name)}", f"{first} {last}"


def subject(account_id: str) -> str:
    """The `sub` of an account: 21 digits that stay the same for good."""
    number = int.from_bytes(hashlib.sha256(account_id.lower().encode()).digest()[:16], "big")
    return f"1{number % 10**20:020d}"


def answer(issue: Issue) -> Json:
    """Google's token answer. A refresh gives no refresh token; `openid` adds an id_token."""
    scopes = [LONG_NAMES.get(scope, scope) for scope in issue.grant.scopes]
    body: Json = {
        "access_token": issue.access_token,
        "expires_in": EXPIRES_IN,
        "scope": " ".join(dict.fromkeys(scopes)),
        "token_type": "Bearer",
    }
    if issue.refresh_token and not issue.refreshed:
        body["refresh_token"] = issue.refresh_token
    if "openid" in scopes:
        body["id_token"] = _id_token(issue, LONG_NAMES["email"] in scopes)
    return body


def refuse(refusal: Refusal, call: Call) -> Response:
    """Google's OAuth errors: a code and a short description."""
    code, description = CAUSES.get(refusal.cause, (refusal.error, refusal.description))
    status = 401 if code == "invalid_client" else 400
    return reply({"error": code, "error_description": description}, status, NO_STORE)


NO_STORE = {"cache-control": "no-cache, no-store, max-age=0, must-revalidate"}


def _id_token(issue: Issue, with_email: bool) -> str:
    now = int(issue.call.clock.time() if issue.call else issue.grant.created_at)
    claims: Json = {
        "iss": ISSUER,
        "azp": issue.auth.client_id,
        "aud": issue.auth.client_id,
        "sub": subject(issue.account.id),
        "iat": now,
        "exp": now + int(ACCESS_TTL.total_seconds()),
    }
    if issue.nonce:
        claims["nonce"] = issue.nonce
    if with_email:
        claims |= {"email": issue.account.id, "email_verified": True}
    return sign(KEY, claims)


def _offline(params: Mapping[str, str], first: bool) -> bool:
    """Later consents give a refresh token only when the person was made to consent again."""
    return params.get("access_type") == "offline" and (
        first or "consent" in params.get("prompt", "").split()
    )


AUTH = OAuth(
    name="google",
    client_id="729104855631-atomsandbox.apps.googleusercontent.com",
    client_secret="GOCSPX-sandbox-google-secret",
    authorize=(
        ("accounts.google.com", "/o/oauth2/v2/auth"),
        ("accounts.google.com", "/o/oauth2/auth"),
    ),
    token=(
        ("oauth2.googleapis.com", "/token"),
        ("www.googleapis.com", "/oauth2/v4/token"),
        ("accounts.google.com", "/o/oauth2/token"),
    ),
    revoke=(("oauth2.googleapis.com", "/revoke"), ("accounts.google.com", "/o/oauth2/revoke")),
    revoke_needs_client=False,
    revoke_refuses_unknown=True,
    # A revoked token takes the app out of the user's account, whichever product it was for.
    revoke_ends_all=True,
    granular=True,
    scopes=(
        *("openid", "email", "profile", MAIL, f"{SCOPE}gmail.readonly", f"{SCOPE}calendar"),
        *(f"{SCOPE}drive", f"{SCOPE}*"),
    ),
    new_account=new_account,
    account_pattern=r"[^@\s]+@[^@\s]+",
    client_auth="body",
    pkce="optional",
    access_ttl=ACCESS_TTL,
    rotation=Rotation("never", ttl=REFRESH_TTL),
    access_prefix="ya29.",
    refresh_prefix="1//",
    refresh_cap=REFRESH_CAP,
    widens=lambda params: params.get("include_granted_scopes") == "true",
    offline=_offline,
    answer=answer,
    refuse=refuse,
)


def problem(
    code: int,
    reason: str,
    message: str,
    status: str = "",
    *,
    domain: str = "global",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """An error as Google's APIs word it; only the newer ones give it a `status`."""
    detail = {"message": message, "domain": domain, "reason": reason, **more}
    error = {"code": code, "message": message, "errors": [detail]}
    return reply({"error": error | ({"status": status} if status else {})}, code, headers)


def older(response: Response) -> Response:
    """The same error in the older form."""
    body = json.loads(bytes(response.body))
    body["error"].pop("status", None)
    headers = {name: response.headers[name] for name in KEPT if name in response.headers}
    return reply(body, response.status_code, headers)


KEPT = ("retry-after", "www-authenticate")


def refused(code: int, reason: str, message: str, **more: Any) -> Answer:
    """To be raised: an error of the older APIs."""
    return Answer(problem(code, reason, message, **more))


def wrong(message: str, parameter: str) -> Answer:
    """To be raised by the older APIs: a parameter has a value that does not do."""
    where = {"locationType": "parameter", "location": parameter}
    return refused(400, "invalid", message, **where)


def invalid(message: str) -> Answer:
    """To be raised: the request has a value that does not do."""
    return Answer(problem(400, "invalidArgument", message, "INVALID_ARGUMENT"))


def missing(message: str = "Requested entity was not found.") -> Answer:
    """To be raised: there is no such thing."""
    return Answer(problem(404, "notFound", message, "NOT_FOUND"))


def forbidden(message: str, reason: str = "forbidden") -> Answer:
    """To be raised: known, but not allowed."""
    return Answer(problem(403, reason, message, "PERMISSION_DENIED"))


def trouble(trouble: ErrorCase, call: Call) -> Response:
    """The troubles that every vendor has."""
    again = trouble.waits
    match trouble.kind:
        case Kind.UNAUTHORIZED:
            return _unauthorized(trouble.detail == "missing")
        case Kind.FORBIDDEN:
            message = "Request had insufficient authentication scopes."
            return problem(403, "insufficientPermissions", message, "PERMISSION_DENIED")
        case Kind.RATE_LIMITED:
            return exceeded(429, again)
        case Kind.SERVER_ERROR:
            return problem(500, "backendError", "Internal error encountered.", "INTERNAL")
        case Kind.UNAVAILABLE:
            message = "The service is currently unavailable."
            return problem(503, "backendError", message, "UNAVAILABLE", headers=again)
        case Kind.METHOD_NOT_ALLOWED:
            message = f"{call.method} is not served at this address."
            return problem(405, "httpMethodNotAllowed", message, "METHOD_NOT_ALLOWED")
        case Kind.NOT_FOUND:
            return missing().response
        case Kind.BAD_REQUEST:
            return invalid(trouble.detail or "Bad Request").response


def exceeded(code: int, headers: Mapping[str, str] | None = None) -> Response:
    """The user's quota for this minute is spent; Google says so with 429 or with 403."""
    message = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'."
    return problem(
        code,
        "rateLimitExceeded",
        message,
        "RESOURCE_EXHAUSTED",
        domain="usageLimits",
        headers=headers,
    )


def disabled(title: str) -> Response:
    """The operator never switched this API on in the Cloud project."""
    message = f"{title} API has not been used in project {PROJECT} before or it is disabled."
    return problem(
        403,
        "accessNotConfigured",
        message,
        "PERMISSION_DENIED",
        domain="usageLimits",
        extendedHelp="https://console.developers.google.com",
    )


def served(title: str, handler: Callable[[Call, Any], Response]) -> Callable[[Call], Response]:
    """A handler of an older API on the caller's own data, if the project may use it at all."""

    def answer(call: Call) -> Response:
        if not call.state.switched_on:
            return older(disabled(title))
        try:
            return handler(call, call.state)
        except Answer as refused:
            raise Answer(older(refused.response)) from refused

    return answer


def older_trouble(trouble_: ErrorCase, call: Call) -> Response:
    """The troubles of an older API; a spent quota has the status that a control chose."""
    if trouble_.kind is Kind.RATE_LIMITED and trouble_.limit and call.grant:
        return older(exceeded(call.state.quota_status))
    return older(trouble(trouble_, call))


def quota_status(states: Mapping[str, Any], body: Json) -> Json:
    """A control: whether a spent quota is told with 429 or with 403. Google does both."""
    if body.get("status") not in (403, 429):
        raise RefusedError("status must be 403 or 429", status=400)
    for state in states.values():
        state.quota_status = body["status"]
    return {"status": body["status"]}


def project(states: Mapping[str, Any], body: Json) -> Json:
    """A control: whether the API is switched on in the operator's Cloud project."""
    for state in states.values():
        state.switched_on = bool(body.get("switched_on", True))
    return {"switched_on": bool(body.get("switched_on", True))}


def _unauthorized(no_token: bool) -> Response:
    challenge = f'Bearer realm="{ISSUER}/"' + ("" if no_token else ', error="invalid_token"')
    return problem(
        401,
        "required" if no_token else "authError",
        "Login Required." if no_token else "Invalid Credentials",
        "UNAUTHENTICATED",
        headers={"www-authenticate": challenge},
        location="Authorization",
        locationType="header",
    )


def page_size(call: Call, *, default: int, most: int, name: str = "maxResults") -> int:
    """`maxResults`; more than there may be is brought down without a word."""
    asked = call.query.get(name, "")
    if not asked:
        return default
    if not asked.isdecimal():
        raise invalid(f"Invalid value at '{name}' (TYPE_UINT32), \"{asked}\"")
    return min(int(asked) or default, most)


def flag(call: Call, name: str, *, default: bool = False) -> bool:
    """A boolean parameter."""
    asked = call.query.get(name, str(default)).lower()
    if asked not in ("true", "false", "1", "0"):
        raise invalid(f"Invalid value at '{name}' (TYPE_BOOL), \"{asked}\"")
    return asked in ("true", "1")


def page_token(*position: int | str) -> str:
    """A place in a listing, in a form that invites nobody to read it."""
    return token_of(position)


def position(call: Call, *kinds: type, name: str = "pageToken") -> tuple[Any, ...] | None:
    """The place, of values of those kinds, that a token stands for; None where there is none."""
    token = call.query.get(name, "")
    if not token:
        return None
    place = place_of(token)
    if not isinstance(place, list) or [type(each) for each in place] != list(kinds):
        raise invalid(f"Invalid {name}")
    return tuple(place)
