"""Shopify's OAuth: a host for each shop, signed callbacks, offline tokens that end or do not.

https://shopify.dev/docs/apps/build/authentication-authorization
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from urllib.parse import urlencode

from starlette.datastructures import Headers
from starlette.responses import Response

from sandbox.kernel import token_endpoint
from sandbox.kernel.consent import page
from sandbox.kernel.data import firm, plain
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.token_endpoint import fields_of, no
from sandbox.kernel.values import Account, Json, reply
from sandbox.kernel.vendor import Route

HOST = "*.myshopify.com"
TOKEN = "/admin/oauth/access_token"
REFRESH_TTL = timedelta(days=90)
KINDS = ("products", "orders", "customers", "inventory", "locations")


def token_of(call: Call) -> str:
    """Not in Authorization; and a token of one shop is none at another."""
    value = call.headers.get("x-shopify-access-token", "").strip()
    held = call.server.access(value)
    return "" if held and held.grant.account_id != call.host else value


def exchange(call: Call) -> Response:
    """Codes come without a grant type and a redirect address; each is good at its own shop."""
    fields = fields_of(call)
    code = call.server.codes.get(fields.get("code", ""))
    if "code" in fields:
        fields.setdefault("grant_type", "authorization_code")
    if code:
        fields["redirect_uri"] = code.redirect_uri
        if code.grant.account_id != call.host:
            no(call, "invalid_request", "code", "the authorization code is of another shop")
    used = call.server.refresh(fields.get("refresh_token", ""))
    if used and used.grant.account_id != call.host:
        no(call, "invalid_request", "refresh_token", "the refresh token is of another shop")
    form = {"content-type": "application/x-www-form-urlencoded"}
    return token_endpoint.token(
        replace(call, body=urlencode(fields).encode(), headers=Headers(form))
    )


def _answer(issue: Issue) -> Json:
    body = {
        "access_token": issue.access_token,
        "scope": ",".join(issue.grant.scopes),
    }
    asked = fields_of(issue.call) if issue.call else {"expiring": "1"}
    if not issue.refreshed and asked.get("expiring") != "1":
        # The old kind, which never ends.
        for_good = issue.call.server.access_tokens[issue.access_token] if issue.call else None
        if for_good:
            for_good.dies_at = None
        return body
    return {
        **body,
        "expires_in": int(issue.auth.access_ttl.total_seconds()),
        "refresh_token": issue.refresh_token,
        "refresh_token_expires_in": int(REFRESH_TTL.total_seconds()),
    }


def _refuse(refusal: Refusal, call: Call) -> Response:
    error = "invalid_grant" if refusal.cause == "refresh_token" else refusal.error
    body = {"error": error, "error_description": refusal.description}
    return reply(body, 401 if error == "invalid_client" else 400)


def signed(secret: str, params: Mapping[str, str]) -> str:
    """The digest over all parameters but itself, by name."""
    message = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
    return hex_signature(secret, message.encode())


def _sign(call: Call, params: Mapping[str, str]) -> Mapping[str, str]:
    told = {**params, "shop": call.host, "timestamp": str(int(call.clock.time()))}
    return {**told, "hmac": signed(call.server.auth.client_secret, told)}


def _admit(call: Call, account: Account, scopes: object) -> Response | None:
    if account.id == call.host:
        return None
    return page("Another shop", f"<p>This is {call.host}, and no other shop.</p>", 400)


def _new_account(random: Random) -> tuple[str, str]:
    name = firm(random)
    return f"{plain(name)}-{random.getrandbits(24):06x}.myshopify.com", name


AUTH = OAuth(
    name="shopify",
    client_id="1c3f5a7e9b0d2468ace013579bdf2468",
    client_secret="shpss_sandbox_0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    authorize=((HOST, "/admin/oauth/authorize"),),
    token=(),
    scopes=tuple(f"{what}_{kind}" for what in ("read", "write") for kind in KINDS),
    scope_separator=",",
    new_account=_new_account,
    account_pattern=r"[a-z0-9][a-z0-9-]*\.myshopify\.com",
    client_auth="body",
    pkce="ignored",
    takes_json=True,
    access_prefix="shpat_",
    refresh_prefix="shprt_",
    access_ttl=timedelta(hours=1),
    # Good until its successor is used, at most thirty days.
    rotation=Rotation("always", grace=timedelta(days=30), ttl=REFRESH_TTL),
    answer=_answer,
    refuse=_refuse,
    sign=_sign,
    admit=_admit,
)
AUTH_ROUTES = (Route("POST", HOST, TOKEN, exchange, open=True),)
