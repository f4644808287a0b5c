"""HubSpot's OAuth: three generations of its endpoints, and what each answers."""

from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation, Token, refuse
from sandbox.kernel.token_endpoint import check_client, fields_of, no
from sandbox.kernel.values import Answer, Json, reply
from sandbox.kernel.vendor import Route

HOST = "api.hubapi.com"
APP_ID = 1_100_427
USER_ID = 31_007_255
# The statuses of the deprecated v1 endpoints, by what was wrong.
V1_STATUS = {
    "client": "BAD_CLIENT_ID",
    "code": "BAD_AUTH_CODE",
    "grant_type": "BAD_GRANT_TYPE",
    "redirect_uri": "BAD_REDIRECT_URI",
    "refresh_token": "BAD_REFRESH_TOKEN",
    "verifier": "BAD_AUTH_CODE",
}


def _answer(issue: Issue) -> Json:
    body = {
        "token_type": "bearer",
        "refresh_token": issue.refresh_token,
        "access_token": issue.access_token,
        "expires_in": int(issue.auth.access_ttl.total_seconds()),
    }
    if issue.call and issue.call.path.startswith("/oauth/v1/"):
        return body
    more = {"hub_id": int(issue.account.id), "user_id": USER_ID, "scopes": issue.grant.scopes}
    return {**body, "token_use": "access_token", **more}


def _refuse(refusal: Refusal, call: Call) -> Response:
    if not call.path.startswith("/oauth/v1/"):
        return refuse(refusal, call)
    status = V1_STATUS.get(refusal.cause, "BAD_REQUEST")
    return reply({"status": status, "message": refusal.description}, 400)


def _new_account(random: Random) -> tuple[str, str]:
    portal = random.randint(2_000_000, 48_000_000)
    return str(portal), f"portal-{portal}.example"


def _info(call: Call, token: Token, use: str) -> Json:
    """What HubSpot tells about a token that works."""
    account = call.server.accounts[token.grant.account_id]
    left = {} if token.dies_at is None else {"expires_in": int(token.dies_at - call.clock.time())}
    return {
        "token": token.value,
        "token_type": use.removesuffix("_token"),
        "user": f"admin@{account.name}",
        "hub_domain": account.name,
        "scopes": token.grant.scopes,
        "hub_id": int(account.id),
        "app_id": APP_ID,
        "client_id": call.server.auth.client_id,
        "user_id": USER_ID,
        **left,
    }


def introspect(call: Call) -> Response:
    fields = fields_of(call)
    check_client(call, fields)
    value = fields.get("token", "")
    if not value:
        no(call, "invalid_request", "request", "token is missing")
    access, refresh = call.server.access(value), call.server.refresh(value)
    if access:
        more = {"is_private_distribution": False, "token_use": "access_token", "active": True}
        return reply({**_info(call, access, "access_token"), **more})
    if refresh:
        more = {"token_use": "refresh_token", "active": True}
        return reply({**_info(call, refresh, "refresh_token"), **more})
    return reply({"active": False})


def access_token_info(call: Call) -> Response:
    token = call.server.access(call.params["token"])
    return reply(_info(call, token or _unknown(), "access_token"))


def refresh_token_info(call: Call) -> Response:
    token = call.server.refresh(call.params["token"])
    return reply(_info(call, token or _unknown(), "refresh_token"))


def delete_refresh_token(call: Call) -> Response:
    """Ends the refresh token alone: access tokens go on until they expire."""
    token = call.server.refresh(call.params["token"]) or _unknown()
    token.dies_at = call.clock.time()
    return Response(status_code=204)


def _unknown() -> Token:
    raise Answer(reply({"status": "error", "message": "the token is not known or not valid"}, 404))


def uninstall(call: Call) -> Response:
    call.server.end(call.account.id)
    return Response(status_code=204)


AUTH = OAuth(
    name="hubspot",
    client_id="5b1f0c52-hubspot-sandbox-client",
    client_secret="d2c97e44-hubspot-sandbox-secret",
    authorize=(("app.hubspot.com", "/oauth/authorize"),),
    token=tuple((HOST, f"/oauth/{version}/token") for version in ("2026-03", "v3", "v1")),
    revoke=tuple((HOST, f"/oauth/{version}/token/revoke") for version in ("2026-03", "v3")),
    revoke_ends_all=True,
    scopes=(
        "oauth",
        *(f"crm.objects.{kind}.read" for kind in ("contacts", "companies", "deals", "owners")),
        *(f"crm.objects.{kind}.write" for kind in ("contacts", "companies", "deals")),
        "crm.schemas.deals.read",
        "tickets",
    ),
    new_account=_new_account,
    account_pattern=r"[1-9]\d{0,8}",
    access_ttl=timedelta(seconds=1800),
    client_auth="body",
    pkce="optional",
    rotation=Rotation("never"),
    answer=_answer,
    refuse=_refuse,
)
AUTH_ROUTES = (
    *(
        Route("POST", HOST, f"/oauth/{version}/token/introspect", introspect, open=True)
        for version in ("2026-03", "v3")
    ),
    Route("GET", HOST, "/oauth/v1/access-tokens/{token}", access_token_info, open=True),
    Route("GET", HOST, "/oauth/v1/refresh-tokens/{token}", refresh_token_info, open=True),
    Route("DELETE", HOST, "/oauth/v1/refresh-tokens/{token}", delete_refresh_token, open=True),
    Route("DELETE", HOST, "/appinstalls/2026-03/external-install", uninstall),
)
