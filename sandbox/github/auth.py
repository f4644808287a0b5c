"""GitHub's OAuth: tokens that do not end, or those of a GitHub App; refusals with HTTP 200.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
"""

import base64
import binascii
import json
from datetime import timedelta
from random import Random
from urllib.parse import urlencode

from starlette.responses import Response

from sandbox.github.rows import HOST, new_id
from sandbox.github.store import Hub
from sandbox.kernel.data import person, plain
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation
from sandbox.kernel.token_endpoint import token
from sandbox.kernel.values import Account, Answer, Json, reply
from sandbox.kernel.vendor import Route

SITE = "github.com"
TOKEN = "/login/oauth/access_token"
LIFE, REFRESH_LIFE = timedelta(hours=8), timedelta(seconds=15_897_600)
CODES = {
    "client": "incorrect_client_credentials",
    "code": "bad_verification_code",
    "verifier": "bad_verification_code",
    "redirect_uri": "redirect_uri_mismatch",
    "refresh_token": "bad_refresh_token",
    "grant_type": "unsupported_grant_type",
}


def token_of(call: Call) -> str:
    """As a bearer's, or by the older word."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() in ("bearer", "token") else ""


def hub_of(account: Account) -> Hub:
    hub: Hub = account.state["github"]
    return hub


def answer(issue: Issue) -> Json:
    """Scopes are told by commas. Only an app whose tokens end has a refresh token, and a refresh
    ends the token before."""
    body: Json = {
        "access_token": issue.access_token,
        "scope": ",".join(issue.grant.scopes),
        "token_type": "bearer",
    }
    if not hub_of(issue.account).expires:
        return body
    if issue.refreshed and issue.call:
        for held in issue.call.server.access_tokens.values():
            if held.grant is issue.grant and held.value != issue.access_token:
                held.dies_at = issue.call.clock.time()
    return {
        **body,
        "scope": "",
        "expires_in": int(LIFE.total_seconds()),
        "refresh_token": issue.refresh_token,
        "refresh_token_expires_in": int(REFRESH_LIFE.total_seconds()),
    }


def refuse(refusal: Refusal, call: Call) -> Response:
    code = CODES.get(refusal.cause, refusal.error)
    body = {"error": code, "error_description": refusal.description}
    return _written(call, {**body, "error_uri": "https://docs.github.com/apps"})


def exchange(call: Call) -> Response:
    """A form, unless JSON is asked for."""
    try:
        response = token(call)
    except Answer as no:
        return no.response
    return _written(call, json.loads(bytes(response.body)))


def _written(call: Call, body: Json) -> Response:
    if "json" in call.headers.get("accept", ""):
        return reply(body)
    return Response(urlencode(body), media_type="application/x-www-form-urlencoded")


def revoke(call: Call) -> Response:
    """Ends a token; with `grant`, all that the person ever allowed the app. For the app alone."""
    auth, body = call.server.auth, call.json()
    _, _, basic = call.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(basic).decode().partition(":")[::2]
    except (binascii.Error, UnicodeDecodeError):
        given = ("", "")
    if given != (auth.client_id, auth.client_secret) or call.params["client"] != auth.client_id:
        return reply({"message": "Not Found", "status": "404"}, 404)
    value = body.get("access_token") if isinstance(body, dict) else None
    if not value:
        return reply({"message": "Invalid request.", "status": "422"}, 422)
    found = call.server.access(str(value))
    if found is None:
        return reply({"message": "Not Found", "status": "404"}, 404)
    if call.params["what"] == "grant":
        call.server.end(found.grant.account_id)
    else:
        found.grant.ended = True
    return Response(status_code=204)


def _new_account(random: Random) -> tuple[str, str]:
    return str(new_id(random)), plain("".join(person(random)))


AUTH = OAuth(
    name="github",
    client_id="Iv1.8a61f9b3a7aba766",
    client_secret="sandbox-github-secret",
    authorize=((SITE, "/login/oauth/authorize"),),
    token=(),
    scopes=("repo", "read:org", "read:user", "admin:repo_hook", "admin:org_hook"),
    new_account=_new_account,
    account_pattern=r"[0-9]{1,20}",
    client_auth="body",
    needs_grant_type=False,
    access_ttl=LIFE,
    lasts=lambda account: LIFE if hub_of(account).expires else None,
    rotation=Rotation("always", ttl=REFRESH_LIFE),
    access_prefix="gho_",
    refresh_prefix="ghr_",
    answer=answer,
    refuse=refuse,
)
AUTH_ROUTES = (
    Route("POST", SITE, TOKEN, exchange, open=True),
    Route("DELETE", HOST, "/applications/{client}/{what}", revoke, open=True),
)
