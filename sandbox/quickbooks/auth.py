"""Intuit's OAuth and OpenID side: token answers, discovery, keys, revocation, who the user is."""

import hashlib
from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.jwt import jwk, sign
from sandbox.kernel.oauth import Call, Issue, OAuth, Place, Refusal, Rotation
from sandbox.kernel.token_endpoint import check_client, no
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import Route
from sandbox.quickbooks.errors import support_id

AUTHORIZE: Place = ("appcenter.intuit.com", "/connect/oauth2")
TOKEN: Place = ("oauth.platform.intuit.com", "/oauth2/v1/tokens/bearer")
KEYS: Place = ("oauth.platform.intuit.com", "/op/v1/jwks")
REVOKE: Place = ("developer.api.intuit.com", "/v2/oauth2/tokens/revoke")
USER: Place = ("accounts.platform.intuit.com", "/v1/openid_connect/userinfo")
DISCOVERY: Place = ("developer.intuit.com", "/.well-known/openid_configuration/")
ISSUER = "https://oauth.platform.intuit.com/op/v1"
ACCOUNTING = "com.intuit.quickbooks.accounting"
SCOPES = (ACCOUNTING, "openid", "email")
# 100 days and one, as published answers have it; rolling on with each new value.
REFRESH_TTL = timedelta(seconds=8_726_400)
HARD_TTL = timedelta(days=5 * 365)
# By which name the sandbox knows the key that Intuit signs with.
KEY = "intuit"


def token_answer(issue: Issue) -> Json:
    """Intuit's token answer. The realm is not in it: it came with the redirect."""
    body: Json = {
        "token_type": "bearer",
        "access_token": issue.access_token,
        "expires_in": int(issue.auth.access_ttl.total_seconds()),
    }
    if issue.refresh_token:
        body["refresh_token"] = issue.refresh_token
        body |= _ends(issue, issue.refresh_token)
    if "openid" in issue.grant.scopes and not issue.refreshed and issue.call:
        body["id_token"] = _id_token(issue, issue.call)
    return body


def refuse(refusal: Refusal, call: Call) -> Response:
    """Intuit names the error and says no more."""
    status = 401 if refusal.error == "invalid_client" else 400
    return reply({"error": refusal.error}, status, support_id())


AUTH = OAuth(
    name="intuit",
    client_id="ABsandboxQuickBooksClient",
    client_secret="sandbox-quickbooks-secret",  # pragma: allowlist secret
    authorize=(AUTHORIZE,),
    token=(TOKEN,),
    scopes=SCOPES,
    new_account=lambda random: (_realm(random), firm(random)),
    account_pattern=r"\d{1,20}",
    client_auth="basic",
    pkce="ignored",
    access_ttl=timedelta(hours=1),
    rotation=Rotation("daily", grace=timedelta(hours=24), ttl=REFRESH_TTL),
    reconnect_replaces=True,
    answer=token_answer,
    refuse=refuse,
    callback=lambda account: {"realmId": account.id},
)


def discovery(call: Call) -> Response:
    """The OpenID discovery document, with the addresses of this sandbox."""
    body = {
        "issuer": ISSUER,
        "authorization_endpoint": call.url(*AUTHORIZE),
        "token_endpoint": call.url(*TOKEN),
        "userinfo_endpoint": call.url(*USER),
        "revocation_endpoint": call.url(*REVOKE),
        "jwks_uri": call.url(*KEYS),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": list(SCOPES),
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "claims_supported": ["aud", "exp", "iat", "iss", "realmid", "sub"],
    }
    return reply(body, headers=support_id())


def keys(call: Call) -> Response:
    """The key that id tokens are signed with."""
    return reply({"keys": [jwk(KEY)]}, headers=support_id())


def revoke(call: Call) -> Response:
    """Ends a token's consent. It takes JSON alone, as the token endpoint takes only a form."""
    check_client(call, {})
    body = call.json()
    value = body.get("token") if isinstance(body, dict) else None
    if not isinstance(value, str) or "json" not in call.headers.get("content-type", ""):
        no(call, "invalid_request", "request", "there is no token in a JSON body")
    found = call.server.refresh(value) or call.server.access(value)
    if found is None:
        no(call, "invalid_token", "token", "the token is not known or no longer valid")
    found.grant.ended = True
    return Response(status_code=200, headers=support_id())


def user(call: Call) -> Response:
    """Who gave the consent."""
    realm = call.account.id
    claims: Json = {"sub": _subject(realm)}
    if call.grant and "email" in call.grant.scopes:
        claims |= {"email": f"owner@company-{realm}.example", "emailVerified": True}
    return reply(claims, headers=support_id())


ROUTES = (
    *(
        Route("GET", DISCOVERY[0], f"/.well-known/{name}{slash}", discovery, open=True)
        for name in ("openid_configuration", "openid_sandbox_configuration")
        for slash in ("/", "")
    ),
    Route("GET", *KEYS, keys, open=True),
    Route("POST", *REVOKE, revoke, open=True),
    Route("GET", *USER, user, scopes=("openid",)),
)


def _realm(random: Random) -> str:
    return str(random.randint(9_130_000_000_000_000, 9_139_999_999_999_999))


def _ends(issue: Issue, refresh_token: str) -> Json:
    """How long the refresh token lives; no consent outlives five years, however often renewed."""
    if issue.call is None:
        return {"x_refresh_token_expires_in": int(REFRESH_TTL.total_seconds())}
    now, token = issue.call.clock.time(), issue.call.server.refresh_tokens[refresh_token]
    hard_end = issue.grant.created_at + HARD_TTL.total_seconds()
    token.dies_at = min(token.dies_at or hard_end, hard_end)
    ends = {"x_refresh_token_expires_in": int(token.dies_at - now)}
    if issue.call.headers.get("x-include-refresh-token-hard-expires-in", "").lower() == "true":
        ends["x_refresh_token_hard_expires_in"] = int(hard_end - now)
    return ends


def _id_token(issue: Issue, call: Call) -> str:
    now = int(call.clock.time())
    claims = {
        "sub": _subject(issue.account.id),
        "aud": [issue.auth.client_id],
        "realmid": issue.account.id,
        "auth_time": now,
        "iss": ISSUER,
        "iat": now,
        "exp": now + 3600,
    }
    return sign(KEY, claims)


def _subject(realm: str) -> str:
    return hashlib.sha256(realm.encode()).hexdigest()[:32]
