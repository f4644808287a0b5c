"""What Microsoft's vendors share: one app for all of them, directories, and Graph's errors.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
https://learn.microsoft.com/graph/errors
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from sandbox.kernel.clock import Clock
from sandbox.kernel.consent import back, page
from sandbox.kernel.data import domain, firm, person, plain
from sandbox.kernel.jwt import packed, unpadded
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation
from sandbox.kernel.values import Account, Answer, Json, Kind, RefusedError, Seed, reply
from sandbox.kernel.vendor import ErrorCase, Route

GRAPH = "graph.microsoft.com"
LOGIN = "login.microsoftonline.com"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
ACCESS_TTL = timedelta(hours=1)
REFRESH_TTL = timedelta(days=90)
NO_STORE = {"cache-control": "no-store, no-cache", "pragma": "no-cache"}
# Delegated permissions that only an administrator may allow.
ADMIN_ONLY = frozenset({"ChannelMessage.Read.All", "TeamMember.Read.All"})
SCOPES = (
    *("offline_access", "openid", "profile", "email", "User.Read"),
    *("Mail.ReadBasic", "Mail.Read", "Calendars.Read", "Contacts.Read"),
    *("Files.Read", "Files.Read.All"),
    *("Team.ReadBasic.All", "Channel.ReadBasic.All", "ChannelMessage.Read.All"),
    *("TeamMember.Read.All", "Chat.Read"),
)
# What the kernel says no to, by its cause: OAuth's code, Microsoft's number and words.
CAUSES = {
    "client": ("invalid_client", 7000215, "Invalid client secret provided."),
    "grant_type": ("unsupported_grant_type", 70003, "The app requested an unsupported grant type."),
    "request": ("invalid_request", 900144, "The request body must contain: 'grant_type'."),
    "code": ("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed or is old."),
    "redirect_uri": ("invalid_grant", 500112, "The reply address does not match."),
    "verifier": ("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge."),
    "scope": ("invalid_scope", 70011, "The provided value for 'scope' is not valid."),
}
EXPIRED = ("invalid_grant", 700082, "The refresh token has expired due to inactivity.")
REVOKED = ("invalid_grant", 50173, "The provided grant has expired due to it being revoked.")
MALFORMED = ("invalid_grant", 9002313, "Invalid request. Request is malformed or invalid.")
NO_CONSENT = (
    *("invalid_grant", 65001),
    "The user or administrator has not consented to use the application.",
)


@dataclass
class Person:
    """An account as all Microsoft's vendors know it; `approved` is its administrator's consent."""

    id: str
    name: str
    address: str
    tenant_id: str
    clock: Clock
    approved: bool = True


def new_account(random: Random) -> tuple[str, str]:
    """Someone's object id, and a name."""
    first, last = person(random)
    return str(UUID(int=random.getrandbits(128), version=4)), f"{first} {last}"


def new_person(seed: Seed) -> Person:
    """A person in a firm's directory; ids of 16 digits are personal accounts."""
    personal = len(seed.account_id) == 16
    where = "outlook.example" if personal else domain(firm(seed.random))
    first, _, last = seed.name.partition(" ")
    return Person(
        id=seed.account_id,
        name=seed.name,
        address=f"{plain(first)}.{plain(last)}@{where}",
        tenant_id=PERSONAL if personal else str(UUID(int=seed.random.getrandbits(128), version=4)),
        clock=seed.clock,
    )


def person_of(call: Call) -> Person:
    """Whose token the call carries."""
    found: Person = call.account.state["microsoft"]
    return found


def admit(call: Call, account: Account, scopes: Sequence[str]) -> Response | None:
    """Who may sign in under the directory that the path names, and consent for themselves."""
    who: Person = account.state["microsoft"]
    personal = who.tenant_id == PERSONAL
    tenant = call.params.get("tenant", "common")
    fits = {"common": True, "organizations": not personal, "consumers": personal}
    if not fits.get(tenant, tenant == who.tenant_id):
        text = f"AADSTS50020: User account '{escape(who.address)}' does not exist in this tenant."
        return page("Sorry, but we're having trouble signing you in", f"<p>{text}</p>", 400)
    if ADMIN_ONLY & set(scopes) and not who.approved:
        state = {"state": call.query["state"]} if "state" in call.query else {}
        text = "AADSTS90094: The grant requires administrator permission."
        denied = {"error": "access_denied", "error_description": text, **state}
        target = back(call, denied).headers["location"]
        return page("Need admin approval", f'<p><a href="{escape(target)}">Back to the app</a></p>')
    return None


def answer(issue: Issue) -> Json:
    """Microsoft's token answer; scopes that only ask for tokens are not named in it."""
    who: Person = issue.account.state["microsoft"]
    scopes = issue.grant.scopes
    if issue.refreshed and issue.call and ADMIN_ONLY & set(scopes) and not who.approved:
        raise Answer(_refused(issue.call, *NO_CONSENT))
    body: Json = {
        "token_type": "Bearer",
        "scope": " ".join(scope for scope in scopes if scope != "offline_access"),
        "expires_in": int(ACCESS_TTL.total_seconds()) - 1,
        "ext_expires_in": int(ACCESS_TTL.total_seconds()) - 1,
        "access_token": issue.access_token,
    }
    if issue.refresh_token and "offline_access" in scopes:
        body["refresh_token"] = issue.refresh_token
    if "openid" in scopes:
        body["id_token"] = _id_token(issue, who)
    return body


def refuse(refusal: Refusal, call: Call) -> Response:
    """Microsoft's OAuth errors; of a refresh token that does not work they say why."""
    if refusal.cause != "refresh_token":
        return _refused(call, *CAUSES.get(refusal.cause, MALFORMED))
    held = call.server.refresh_tokens.get(call.form().get("refresh_token", ""))
    if held is None:
        return _refused(call, *MALFORMED)
    return _refused(call, *(REVOKED if held.grant.ended else EXPIRED))


def _refused(call: Call, error: str, number: int, text: str) -> Response:
    trace, correlation = new_id(), new_id()
    at = call.clock.now().strftime("%Y-%m-%d %H:%M:%SZ")
    told = f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
    body = {
        "error": error,
        "error_description": told,
        "error_codes": [number],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://{LOGIN}/error?code={number}",
    }
    return reply(body, 401 if error == "invalid_client" else 400, NO_STORE)


def _id_token(issue: Issue, who: Person) -> str:
    now = int(issue.call.clock.time() if issue.call else issue.grant.created_at)
    claims = {
        "aud": issue.auth.client_id,
        "iss": f"https://{LOGIN}/{who.tenant_id}/v2.0",
        "iat": now,
        "nbf": now,
        "exp": now + int(ACCESS_TTL.total_seconds()),
        "name": who.name,
        "oid": who.id,
        "preferred_username": who.address,
        "sub": secrets.token_urlsafe(32),
        "tid": who.tenant_id,
        "ver": "2.0",
        **({"nonce": issue.nonce} if issue.nonce else {}),
    }
    head = {"alg": "RS256", "kid": "MV8pQz0b7y", "typ": "JWT"}
    # Nobody checks a signature that came straight from the token endpoint: any bytes do.
    return ".".join([packed(head), packed(claims), unpadded(secrets.token_bytes(256))])


def new_id() -> str:
    """An id as Microsoft makes them."""
    return str(UUID(bytes=secrets.token_bytes(16), version=4))


AUTH = OAuth(
    name="microsoft",
    client_id="5e1f7a54-0b0c-4c0e-9d59-6d2a3c1f0a77",
    client_secret="sandbox~Microsoft8Q~secret",
    authorize=(
        (LOGIN, "/common/oauth2/v2.0/authorize"),
        (LOGIN, "/{tenant}/oauth2/v2.0/authorize"),
    ),
    token=((LOGIN, "/common/oauth2/v2.0/token"), (LOGIN, "/{tenant}/oauth2/v2.0/token")),
    scopes=SCOPES,
    new_account=new_account,
    account_pattern=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}",
    client_auth="body",
    pkce="optional",
    access_ttl=ACCESS_TTL,
    rotation=Rotation("beside", ttl=REFRESH_TTL),
    refresh_prefix="1.A",
    # A token is for all that was ever consented to, whichever integration asked for it.
    widens=lambda params: True,
    offline=lambda params, first: "offline_access" in params.get("scope", "").split(),
    answer=answer,
    refuse=refuse,
    admit=admit,
    shared=new_person,
)


def problem(
    call: Call, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An error as Graph words it."""
    request_id = new_id()
    inner = {
        "date": call.clock.now().strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": request_id,
        "client-request-id": call.headers.get("client-request-id", request_id),
    }
    body = {"error": {"code": code, "message": message, "innerError": inner}}
    return reply(body, status, {**(headers or {}), "request-id": request_id})


def missing(call: Call, code: str = "itemNotFound") -> Answer:
    """To be raised: there is no such thing."""
    return Answer(problem(call, 404, code, "The resource could not be found."))


def invalid(call: Call, message: str) -> Answer:
    """To be raised: the request has a value that does not do."""
    return Answer(problem(call, 400, "invalidRequest", message))


def trouble(*, denied: str, throttled: str) -> Callable[[ErrorCase, Call], Response]:
    """The troubles that every vendor has; workloads name two of them each in its own way."""

    def told(trouble: ErrorCase, call: Call) -> Response:
        after = trouble.retry_after
        if after is None and trouble.limit:
            after = trouble.limit.per
        again = {} if after is None else {"retry-after": f"{after:g}"}
        match trouble.kind:
            case Kind.UNAUTHORIZED:
                return _unauthorized(call, trouble.detail == "missing")
            case Kind.FORBIDDEN:
                return problem(call, 403, denied, "Access denied. Check credentials and try again.")
            case Kind.RATE_LIMITED:
                return problem(call, 429, throttled, "Too many requests", again)
            case Kind.SERVER_ERROR:
                return problem(call, 500, "generalException", "An unspecified error has occurred.")
            case Kind.UNAVAILABLE:
                return problem(call, 503, "serviceNotAvailable", "Try again later.", again)
            case Kind.METHOD_NOT_ALLOWED:
                return problem(call, 405, "UnknownError", f"{call.method} is not served here.")
            case Kind.NOT_FOUND:
                return problem(call, 400, "BadRequest", "Resource not found for the segment.")
            case Kind.BAD_REQUEST:
                return problem(call, 400, "invalidRequest", trouble.detail or "Invalid request")

    return told


def _unauthorized(call: Call, no_token: bool) -> Response:
    text = "Access token is empty." if no_token else "Lifetime validation failed, token is expired."
    headers = {"www-authenticate": f'Bearer realm="", authorization_uri="https://{LOGIN}/common"'}
    return problem(call, 401, "InvalidAuthenticationToken", text, headers)


def me(call: Call) -> Response:
    """Whose token it is."""
    who = person_of(call)
    first, _, last = who.name.partition(" ")
    body = {
        "@odata.context": f"https://{GRAPH}/v1.0/$metadata#users/$entity",
        "id": who.id,
        "displayName": who.name,
        "givenName": first,
        "surname": last,
        "mail": who.address,
        "userPrincipalName": who.address,
    }
    asked = call.query.get("$select", "")
    names = asked.split(",") if asked else list(body)
    return reply({key: value for key, value in body.items() if key in names or "@" in key})


def discovery(call: Call) -> Response:
    """Where the authorisation server of a directory is, as OpenID Connect clients ask for it."""
    tenant = call.params["tenant"]
    root = f"/{tenant}/oauth2/v2.0"
    return reply(
        {
            "issuer": f"https://{LOGIN}/{tenant}/v2.0",
            "authorization_endpoint": call.url(LOGIN, f"{root}/authorize"),
            "token_endpoint": call.url(LOGIN, f"{root}/token"),
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }
    )


ROUTES = (
    Route("GET", GRAPH, "/v1.0/me", me, scopes=("User.Read",)),
    Route("GET", LOGIN, "/{tenant}/v2.0/.well-known/openid-configuration", discovery, open=True),
)


def admin_consent(state: Any, body: Json) -> Json:
    """A control: whether the account's administrator allows what only they may allow."""
    if not isinstance(body.get("given"), bool):
        raise RefusedError("say whether consent is given", status=400)
    state.person.approved = body["given"]
    return {"account": body["account"], "given": body["given"]}


def extras(account_id: str, origin: str) -> Json:
    """What a client of Microsoft's SDK is told."""
    return {"graph_url": f"{origin}/{GRAPH}/v1.0"}


def link(call: Call, path: str, query: Mapping[str, Any]) -> str:
    """An address of Graph in this sandbox; `$` stands in names as it is."""
    return call.url(GRAPH, path) + (f"?{urlencode(query, safe='$')}" if query else "")
