"""Salesforce's OAuth side: who signs in where, token answers, introspection."""

import hashlib
from datetime import timedelta
from random import Random
from zlib import crc32

from starlette.responses import Response

from sandbox.kernel.data import firm, plain
from sandbox.kernel.oauth import Call, Issue, OAuth, Place, Refusal, Rotation
from sandbox.kernel.signing import base64_signature
from sandbox.kernel.token_endpoint import check_client, fields_of
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import Route
from sandbox.salesforce.kinds import new_id

# Production and sandbox orgs sign in at hosts of their own, or at their My Domain.
LOGINS = ("login.salesforce.com", "test.salesforce.com", "acme.my.salesforce.com")
# Where an org's data is; it can be moved from one to the other.
INSTANCES = ("na139.salesforce.com", "na211.salesforce.com")
SECRET = "sandbox-salesforce-secret"  # pragma: allowlist secret
# Salesforce's words for what is wrong with a grant.
GRANTS = {
    "code": "expired authorization code",
    "refresh_token": "expired access/refresh token",
    "redirect_uri": "redirect_uri must match configuration",
    "verifier": "invalid code verifier",
}


def instance_of(account_id: str) -> str:
    """Where an org is at first."""
    return INSTANCES[crc32(account_id.encode()) % len(INSTANCES)]


def _at(path: str) -> tuple[Place, ...]:
    return tuple((host, path) for host in (*LOGINS, *INSTANCES))


def token_answer(issue: Issue) -> Json:
    """No word of when it expires; `instance_url` says where the org is now."""
    state = issue.account.state["salesforce"]
    user = state.admin_id
    identity = f"https://{LOGINS[0]}/id/{issue.account.id}/{user}"
    issued_at = str(int((issue.call.clock.time() if issue.call else state.clock.time()) * 1000))
    signed = f"{identity}{issued_at}".encode()
    body: Json = {
        "access_token": issue.access_token,
        "signature": base64_signature(issue.auth.client_secret, signed),
        "scope": " ".join(issue.grant.scopes),
        "instance_url": f"https://{state.instance}",
        "id": identity,
        "token_type": "Bearer",
        "issued_at": issued_at,
    }
    if issue.refresh_token:
        body["refresh_token"] = issue.refresh_token
    return body


def refuse(refusal: Refusal, call: Call) -> Response:
    """Always 400; and what is wrong with the client has a code of its own."""
    error, description = refusal.error, refusal.description
    if refusal.cause == "client":
        known = fields_of(call).get("client_id") == call.server.auth.client_id
        error = "invalid_client" if known else "invalid_client_id"
        description = "invalid client credentials" if known else "client identifier invalid"
    description = GRANTS.get(refusal.cause, description)
    return reply({"error": error, "error_description": description}, 400)


def _account(random: Random) -> tuple[str, str]:
    return new_id("00D", random, random.randrange(62**4)), firm(random)


AUTH = OAuth(
    name="salesforce",
    client_id="3MVG9sandboxSalesforceClient",
    client_secret=SECRET,
    authorize=_at("/services/oauth2/authorize"),
    token=_at("/services/oauth2/token"),
    revoke=_at("/services/oauth2/revoke"),
    revoke_needs_client=False,
    revoke_refuses_unknown=True,
    scopes=("api", "refresh_token", "offline_access", "openid", "id", "web", "full"),
    new_account=_account,
    account_pattern=r"00D[0-9A-Za-z]{15}",
    pkce="required",
    access_ttl=timedelta(hours=2),
    # As an app is set up that rotates: a refresh token is good for one use.
    rotation=Rotation("always"),
    access_prefix="00D!AQ",
    refresh_prefix="5Aep861",
    refresh_cap=5,
    offline=lambda params, first: bool(
        {"refresh_token", "offline_access"} & set(params.get("scope", "").split())
    ),
    answer=token_answer,
    refuse=refuse,
)


def introspect(call: Call) -> Response:
    """Whether a token works, and until when."""
    fields = fields_of(call)
    check_client(call, fields)
    value = fields.get("token", "")
    found = call.server.access(value) or call.server.refresh(value)
    if found is None:
        return reply({"active": False})
    body: Json = {
        "active": True,
        "scope": " ".join(found.grant.scopes),
        "client_id": call.server.auth.client_id,
        "sub": f"https://{LOGINS[0]}/id/{found.grant.account_id}/",
        "iat": int(found.issued_at),
        "token_type": "access_token" if call.server.access(value) else "refresh_token",
    }
    if found.dies_at is not None:
        body["exp"] = int(found.dies_at)
    return reply(body)


ROUTES = tuple(
    Route("POST", host, path, introspect, open=True)
    for host, path in _at("/services/oauth2/introspect")
)


def user_name(name: str, number: int) -> str:
    """A Username, which is unique over all of Salesforce."""
    return f"{plain(name)}.{number}@{hashlib.sha256(name.encode()).hexdigest()[:8]}.example"
