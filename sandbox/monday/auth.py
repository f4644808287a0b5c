"""monday.com's OAuth: classic tokens that do not end, or those of OAuth 2.1, which say their end.

https://developer.monday.com/apps/docs/oauth
An app is switched from one flow to the other for all accounts at once (2026).
"""

import re
from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.kernel import token_endpoint
from sandbox.kernel.data import firm
from sandbox.kernel.fields import words
from sandbox.kernel.jwt import sign
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation, Token
from sandbox.kernel.token_endpoint import fields_of, no
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import Route

HOST, LOGIN = "api.monday.com", "auth.monday.com"
CLASSIC, NEW = "/oauth2/token", "/oauth_ms/oauth/token"
TTL = timedelta(hours=1)
SCOPES = words(
    "me:read account:read boards:read users:read teams:read tags:read updates:read workspaces:read"
    " webhooks:read webhooks:write"
)


def token_of(call: Call) -> str:
    """The bare token, or with the word Bearer."""
    return re.sub(r"(?i)^bearer ", "", call.headers.get("authorization", "")).strip()


def _answer(issue: Issue) -> Json:
    """No answer says how long its token lives."""
    scope = " ".join(issue.grant.scopes)
    body = {"access_token": issue.access_token, "token_type": "Bearer", "scope": scope}
    is_new = issue.refreshed or issue.account.state["monday"].promoted
    if issue.call is None or not is_new:
        return body
    server = issue.call.server
    held, now = server.access_tokens[issue.access_token], int(issue.call.clock.time())
    claims = {"actid": int(issue.account.id), "iat": now, "exp": now + int(TTL.total_seconds())}
    value = sign("monday", {**claims, "jti": issue.access_token})
    server.access_tokens[value] = Token(value, issue.grant, held.issued_at, float(claims["exp"]))
    held.dies_at = 0.0
    return {**body, "access_token": value, "refresh_token": issue.refresh_token}


def classic(call: Call) -> Response:
    """The address of the classic flow takes codes only."""
    if fields_of(call).get("grant_type") == "refresh_token":
        no(call, "unsupported_grant_type", "grant_type", "Please use authorization_code")
    return token_endpoint.token(call)


def _refuse(refusal: Refusal, call: Call) -> Response:
    status = 401 if refusal.error == "invalid_client" else 400
    return reply({"error": refusal.error, "error_description": refusal.description}, status)


def _new_account(random: Random) -> tuple[str, str]:
    return str(random.randint(10_000_000, 99_999_999)), firm(random)


AUTH = OAuth(
    name="monday",
    client_id="4d0fd1a2b3c4d5e6f708192a3b4c5d6e",
    client_secret="monday-sandbox-client-secret",
    authorize=((LOGIN, "/oauth2/authorize"),),
    token=((LOGIN, NEW),),
    revoke=((LOGIN, "/oauth_ms/oauth/revoke"),),
    scopes=SCOPES,
    new_account=_new_account,
    account_pattern=r"[0-9]{4,12}",
    client_auth="body",
    takes_json=True,
    pkce="optional",
    lasts=lambda account: None,
    rotation=Rotation("always"),
    answer=_answer,
    refuse=_refuse,
)
ROUTES = (Route("POST", LOGIN, CLASSIC, classic, open=True),)
