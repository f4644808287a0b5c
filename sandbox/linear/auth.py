"""Linear's OAuth: tokens of a day with refresh tokens that rotate, and a revocation of its own.

https://linear.app/developers/oauth-2-0-authentication
"""

from datetime import timedelta
from random import Random
from uuid import UUID

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, Issue, OAuth, Rotation
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import Route, bearer

HOST = "api.linear.app"
WEBHOOK_SECRET = "lin_wh_sandbox_signing_secret"  # pragma: allowlist secret


def new_id(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def _new_account(random: Random) -> tuple[str, str]:
    return new_id(random), firm(random)


def _answer(issue: Issue) -> Json:
    """The scopes are asked for with commas and answered with blanks; a second is gone already."""
    body = issue.body()
    scope = " ".join(issue.grant.scopes)
    return {
        **body,
        "token_type": "Bearer",
        "expires_in": int(body["expires_in"]) - 1,
        "scope": scope,
    }


def revoke(call: Call) -> Response:
    """By an access token, which leaves the refresh token, or by that, with which all ends."""
    fields, now = call.form(), call.clock.time()
    if value := fields.get("refresh_token"):
        if (found := call.server.refresh(value)) is None:
            return reply({"error": "invalid_request"}, 400)
        found.grant.ended = True
        return reply({"success": True})
    given = fields.get("access_token") or bearer(call)
    if (token := call.server.access(given)) is None:
        return reply({"error": "invalid_token"}, 401)
    token.dies_at = now
    return reply({"success": True})


AUTH = OAuth(
    name="linear",
    client_id="7f1a2b3c4d5e6f708192a3b4c5d6e7f8",
    client_secret="linear-sandbox-secret",
    authorize=(("linear.app", "/oauth/authorize"),),
    token=((HOST, "/oauth/token"),),
    scopes=("read",),
    scope_separator=",",
    new_account=_new_account,
    account_pattern=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    client_auth="either",
    pkce="optional",
    access_ttl=timedelta(hours=24),
    # A grace for a refresh whose answer was lost is told of, and documented nowhere.
    rotation=Rotation("always"),
    answer=_answer,
)
ROUTES = (Route("POST", HOST, "/oauth/revoke", revoke, open=True),)
