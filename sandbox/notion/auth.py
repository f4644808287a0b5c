"""Notion's OAuth: no scopes, the client by HTTP Basic, tokens of which nothing says when they end.

https://developers.notion.com/docs/authorization
"""

from datetime import timedelta
from random import Random
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, Issue, OAuth, Rotation
from sandbox.kernel.token_endpoint import check_client, fields_of, no
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Route
from sandbox.notion.errors import answer, refuse
from sandbox.notion.store import BOT, new_id

HOST = "api.notion.com"


def token_answer(issue: Issue) -> Json:
    return {
        "access_token": issue.access_token,
        "token_type": "bearer",
        "refresh_token": issue.refresh_token,
        "bot_id": BOT,
        "workspace_id": issue.account.id,
        "workspace_name": issue.account.name,
        "workspace_icon": None,
        "owner": {"type": "user", "user": {"object": "user", "id": BOT}},
        "duplicated_template_id": None,
        "request_id": str(uuid4()),
    }


def _new_account(random: Random) -> tuple[str, str]:
    return new_id(random), firm(random)


AUTH = OAuth(
    name="notion",
    client_id="1f2a3b4c-0000-4000-8000-5d6e7f8a9b0c",
    client_secret="secret_sandbox-notion",  # pragma: allowlist secret
    authorize=((HOST, "/v1/oauth/authorize"),),
    token=((HOST, "/v1/oauth/token"),),
    scopes=(),
    new_account=_new_account,
    account_pattern=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    client_auth="basic",
    pkce="ignored",
    takes_json=True,
    access_ttl=timedelta(days=365),
    lasts=lambda account: None,
    rotation=Rotation("always"),
    access_prefix="ntn_",
    refresh_prefix="nrt_",
    answer=token_answer,
    refuse=refuse,
)


def _token(call: Call) -> str:
    fields = fields_of(call)
    check_client(call, fields)
    if not fields.get("token"):
        no(call, "invalid_request", "request", "token is missing")
    return fields["token"]


def revoke(call: Call) -> Response:
    """Ends the consent of a token; of one that it does not know it says nothing."""
    value = _token(call)
    if found := call.server.access(value) or call.server.refresh(value):
        found.grant.ended = True
    return answer({})


def introspect(call: Call) -> Response:
    value = _token(call)
    found = call.server.access(value) or call.server.refresh(value)
    if found is None:
        return answer({"active": False})
    return answer({"active": True, "scope": "", "iat": int(found.issued_at)})


ROUTES = (
    Route("POST", HOST, "/v1/oauth/revoke", revoke, open=True),
    Route("POST", HOST, "/v1/oauth/introspect", introspect, open=True),
)
