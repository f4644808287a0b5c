"""Atlassian's OAuth (3LO): one grant for all sites that a person picked, good for one refresh.

https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps
"""

from collections.abc import Iterator
from datetime import timedelta
from random import Random
from uuid import UUID

from starlette.responses import Response

from sandbox.jira.store import Site
from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, OAuth, Refusal, Rotation
from sandbox.kernel.values import Answer, reply

HOST = "api.atlassian.com"
READ, USERS, HOOKS = "read:jira-work", "read:jira-user", "manage:jira-webhook"
BOARDS, SPRINTS = "read:board-scope:jira-software", "read:sprint:jira-software"
CLIENT_SECRET = "ATOAsandbox-jira-secret-of-enough-characters"  # pragma: allowlist secret


def refuse(refusal: Refusal, call: Call) -> Response:
    """A refresh token that is over is refused with 403."""
    if refusal.cause == "client":
        return reply({"error": "access_denied", "error_description": "Unauthorized"}, 401)
    if refusal.cause == "refresh_token":
        text = "Unknown or invalid refresh token."
        return reply({"error": "invalid_grant", "error_description": text}, 403)
    status = 403 if refusal.error == "invalid_grant" else 400
    return reply({"error": refusal.error, "error_description": refusal.description}, status)


AUTH = OAuth(
    name="atlassian",
    client_id="atomsandboxjiraclient",
    client_secret=CLIENT_SECRET,
    authorize=(("auth.atlassian.com", "/authorize"),),
    token=(("auth.atlassian.com", "/oauth/token"),),
    scopes=(READ, USERS, HOOKS, BOARDS, SPRINTS, "read:project:jira", "offline_access"),
    # An account is a site: it goes by its cloud id.
    new_account=lambda random: (str(UUID(int=random.getrandbits(128), version=4)), _name(random)),
    account_pattern=r"[0-9a-f-]{36}",
    takes_json=True,
    pkce="ignored",
    rotation=Rotation("always", ttl=timedelta(days=90)),
    offline=lambda params, first_time: "offline_access" in params.get("scope", "").split(),
    refuse=refuse,
)


def _name(random: Random) -> str:
    return firm(random).lower().replace(" ", "-")


def sites(call: Call) -> Iterator[Site]:
    """The sites that the token of a call is good for."""
    own: Site = call.state
    if not own.gone:
        yield own
    for id_ in own.beside:
        if id_ in call.server.accounts:
            yield call.server.accounts[id_].state["jira"]


def site_of(call: Call) -> Site:
    """The site that a call's path names."""
    for site in sites(call):
        if site.id == call.params["cloud"]:
            return site
    raise Answer(reply({"code": 404, "message": "Not Found"}, 404))


def accessible_resources(call: Call) -> Response:
    """A site stands there once for each product that was allowed, with the same id."""
    scopes = list(call.grant.scopes) if call.grant else []
    found = []
    for site in sites(call):
        shown = {"id": site.id, "url": f"https://{site.host}", "name": site.name}
        confluence = ["read:confluence-content.summary"]
        found += [
            {**shown, "scopes": confluence, "avatarUrl": f"https://{site.host}/c.png"},
            {**shown, "scopes": scopes, "avatarUrl": f"https://{site.host}/a.png"},
        ]
    return reply(found)
