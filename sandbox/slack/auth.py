"""Slack's OAuth: tokens that never end unless the app rotates them, and refusals with HTTP 200.

https://docs.slack.dev/authentication/installing-with-oauth
https://docs.slack.dev/authentication/using-token-rotation
"""

from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation
from sandbox.kernel.values import Account, Json, reply
from sandbox.kernel.vendor import Route
from sandbox.slack.rows import BOT, new_id
from sandbox.slack.store import Workspace

HOST = "slack.com"
SIGNING_SECRET = "sandbox-slack-signing-secret"  # pragma: allowlist secret
APP_ID = "A0ATOMSYNC"
INSTALLER = "U0INSTALL1"
ROTATED = timedelta(hours=12)
CODES = {
    "client": "bad_client_secret",
    "grant_type": "invalid_grant_type",
    "request": "invalid_arguments",
    "code": "invalid_code",
    "redirect_uri": "bad_redirect_uri",
    "verifier": "bad_code_verifier",
    "refresh_token": "invalid_refresh_token",
    "token": "invalid_auth",
    "scope": "invalid_scope",
}


def space_of(account: Account) -> Workspace:
    space: Workspace = account.state["slack"]
    return space


def answer(issue: Issue) -> Json:
    """A bot's token stands above; of an organisation there is no team."""
    space = space_of(issue.account)
    place = {"id": space.id, "name": space.name}
    rotated = {
        "expires_in": int(ROTATED.total_seconds()),
        "refresh_token": issue.refresh_token,
    }
    return {
        "ok": True,
        "app_id": APP_ID,
        "authed_user": {"id": INSTALLER},
        "scope": ",".join(issue.grant.scopes),
        "token_type": "bot",
        "access_token": issue.access_token,
        "bot_user_id": BOT,
        "team": None if space.is_org else place,
        "enterprise": place if space.is_org else None,
        "is_enterprise_install": space.is_org,
        **(rotated if space.rotates else {}),
    }


def refuse(refusal: Refusal, call: Call) -> Response:
    return reply({"ok": False, "error": CODES.get(refusal.cause, refusal.error)})


def revoke(call: Call) -> Response:
    """The token that the call carries, as a bearer's or among its fields."""
    _, _, bearer = call.headers.get("authorization", "").partition(" ")
    value = bearer or call.form().get("token", "") or call.query.get("token", "")
    found = call.server.access(value)
    if found is None:
        return reply({"ok": False, "error": "token_revoked" if value else "not_authed"})
    found.grant.ended = True
    return reply({"ok": True, "revoked": True})


def _new_account(random: Random) -> tuple[str, str]:
    return new_id("T", random), firm(random)


AUTH = OAuth(
    name="slack",
    client_id="4815162342.108151623",
    client_secret="sandbox-slack-secret",
    authorize=((HOST, "/oauth/v2/authorize"),),
    token=((HOST, "/api/oauth.v2.access"),),
    scopes=("channels:read", "channels:history", "users:read", "team:read"),
    scope_separator=",",
    new_account=_new_account,
    account_pattern=r"[TE][A-Z0-9]{2,20}",
    client_auth="either",
    pkce="ignored",
    needs_grant_type=False,
    access_ttl=ROTATED,
    lasts=lambda account: ROTATED if space_of(account).rotates else None,
    rotation=Rotation("always"),
    access_prefix="xoxb-",
    refresh_prefix="xoxe-1-",
    answer=answer,
    refuse=refuse,
)
ROUTES = tuple(
    Route(method, HOST, "/api/auth.revoke", revoke, open=True) for method in ("GET", "POST")
)
