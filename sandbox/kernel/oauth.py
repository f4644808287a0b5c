"""An OAuth 2 server under a vendor's rules, and the calls that carry its tokens.

Vendors that hold the same `OAuth` value share one server: its accounts, its client, its grants.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from sandbox.kernel.clock import Clock
from sandbox.kernel.outbox import Outbox
from sandbox.kernel.values import Account, Grant, Json, Seed, reply
from sandbox.kernel.watches import Watches

CODE_TTL = 600.0

Place: TypeAlias = tuple[str, str]  # host, path


def _alone(call: "Call") -> Response:
    raise LookupError(f"{call.path} did not come through the application")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to a vendor, its body read, its token checked (unless the route is open)."""

    method: str
    host: str
    path: str
    params: Mapping[str, str]
    query: QueryParams
    headers: Headers
    body: bytes
    origin: str
    clock: Clock
    server: "AuthorizationServer"
    outbox: Outbox
    vendor: str = ""
    grant: Grant | None = None
    # Answers a request that came inside this one (a part of a batch) as if it had come alone:
    # with its own token, limits, ordered troubles and line in the log.
    inner: "Callable[[Call], Response]" = field(default=_alone, repr=False)

    @property
    def account(self) -> Account:
        """The account whose token this call carries."""
        if self.grant is None:
            raise LookupError(f"{self.path} is open to all: it has no account")
        return self.server.accounts[self.grant.account_id]

    @property
    def state(self) -> Any:
        """What this vendor's `new` made for the account."""
        return self.account.state[self.vendor]

    def json(self) -> Any:
        """The body as JSON; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def form(self) -> dict[str, str]:
        """The body as form fields, the last one of a name."""
        return dict(QueryParams(self.body.decode("utf-8", "replace")))

    def url(self, host: str, path: str, query: Mapping[str, Any] | None = None) -> str:
        """The address of a vendor's path in this sandbox, for the links in answers."""
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"{self.origin}/{host}{path}{asked}"


@dataclass(frozen=True)
class Refusal:
    """Why the OAuth server says no. `cause` tells apart what one `error` code lumps together:
    client, grant_type, request, code, redirect_uri, verifier, refresh_token, token, scope.
    """

    error: str
    cause: str
    description: str


def refuse(refusal: Refusal, call: Call) -> Response:
    """RFC 6749's own form; a vendor with another gives its `OAuth.refuse`."""
    status = 401 if refusal.error == "invalid_client" else 400
    body = {"error": refusal.error, "error_description": refusal.description}
    return reply(body, status, {"cache-control": "no-store"})


@dataclass(frozen=True)
class Rotation:
    """When a refresh gives a new refresh token, and how long the former one still works.

    never: the same for good. daily: a new value when the present one is older than a day.
    always: a new one with each use. beside: the same, but the former lives on. `ttl` counts from a
    token's issue or its last use.
    """

    kind: Literal["never", "daily", "always", "beside"] = "never"
    grace: timedelta = timedelta(0)
    ttl: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class OAuth:
    """A vendor's rules. The first place of each tuple is the one that `describe` names.

    `scopes` may hold patterns (`https://www.googleapis.com/auth/*`). `new_account` makes up an id
    and a name; ids given by a control must match `account_pattern` in full. `offline` says from the
    authorize parameters, and whether it is the first consent, if a refresh token is given.
    `callback` adds to the parameters of the redirect back, and `sign` to all of them at the end.
    Revoking a token ends its consent, with `revoke_ends_all` every consent of the account.
    `reconnect_replaces`: a new one ends the former. `refresh_cap`: of more live refresh tokens of
    one account the oldest dies. `widens` says from the authorize parameters if the scopes of the
    account's earlier consents are granted as well. `admit` answers in place of a code where the
    account may not consent to the scopes. On a `granular` one the person may leave scopes out.
    `caller` finds the grant of a call's bearer token, where
    that is more than an access token. `shared` makes what all vendors of the server keep of an
    account together: it is `Seed.shared`, and stands in the account's state under the server's
    name. `lasts` says how long an account's access tokens live, where not all of them live as long;
    None is for ever. Without `needs_grant_type` a call that names none brings a code, without
    `needs_redirect_uri` a code may come without its address.
    """

    name: str
    client_id: str
    client_secret: str
    authorize: tuple[Place, ...]
    token: tuple[Place, ...]
    scopes: tuple[str, ...]
    new_account: Callable[[Random], tuple[str, str]]
    account_pattern: str = r"\S+"
    revoke: tuple[Place, ...] = ()
    revoke_needs_client: bool = True
    revoke_refuses_unknown: bool = False
    revoke_status: int = 200
    revoke_ends_all: bool = False
    scope_separator: str = " "
    client_auth: Literal["body", "basic", "either", "secret"] = "body"
    pkce: Literal["ignored", "optional", "required"] = "optional"
    takes_json: bool = False
    access_ttl: timedelta = timedelta(hours=1)
    lasts: Callable[[Account], timedelta | None] | None = None
    needs_grant_type: bool = True
    needs_redirect_uri: bool = True
    rotation: Rotation = Rotation()
    access_prefix: str = ""
    refresh_prefix: str = ""
    reconnect_replaces: bool = False
    refresh_cap: int | None = None
    granular: bool = False
    widens: Callable[[Mapping[str, str]], bool] = lambda params: False
    offline: Callable[[Mapping[str, str], bool], bool] = lambda params, first_time: True
    answer: Callable[["Issue"], Json] = lambda issue: issue.body()
    refuse: Callable[[Refusal, Call], Response] = refuse
    callback: Callable[[Account], Mapping[str, str]] = lambda account: {}
    sign: Callable[[Call, Mapping[str, str]], Mapping[str, str]] = lambda call, params: params
    admit: Callable[[Call, Account, Sequence[str]], Response | None] = lambda call, who, scopes: (
        None
    )
    caller: Callable[[Call, str], "Grant | None"] | None = None
    shared: Callable[[Seed], Any] | None = None


@dataclass
class Token:
    """An access or refresh token that was handed out."""

    value: str
    grant: Grant
    issued_at: float
    dies_at: float | None

    def works(self, now: float) -> bool:
        return not self.grant.ended and (self.dies_at is None or now < self.dies_at)


@dataclass(frozen=True)
class Code:
    """What an authorization code stands for."""

    grant: Grant
    redirect_uri: str
    challenge: str
    offline: bool
    dies_at: float
    nonce: str = ""


@dataclass(frozen=True)
class Issue:
    """A token answer before a vendor shapes it. `refresh_token` is None when none is given.

    `nonce` is what the authorization asked to find in an id_token.
    """

    auth: OAuth
    account: Account
    grant: Grant
    access_token: str
    refresh_token: str | None
    refreshed: bool
    call: Call | None
    nonce: str = ""

    def body(self) -> Json:
        """RFC 6749's own form."""
        refresh = {"refresh_token": self.refresh_token} if self.refresh_token else {}
        return {
            "access_token": self.access_token,
            "token_type": "bearer",
            "expires_in": int(self.auth.access_ttl.total_seconds()),
            "scope": self.auth.scope_separator.join(self.grant.scopes),
            **refresh,
        }


@dataclass
class AuthorizationServer:
    """The live side of one OAuth server: its accounts, every token it gave out, and the watches
    that were made with them."""

    auth: OAuth
    clock: Clock
    accounts: dict[str, Account] = field(default_factory=dict)
    grants: dict[str, list[Grant]] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    access_tokens: dict[str, Token] = field(default_factory=dict)
    refresh_tokens: dict[str, Token] = field(default_factory=dict)
    watches: Watches = field(init=False)

    def __post_init__(self) -> None:
        self.watches = Watches(self.clock)

    def open(self, account_id: str, scopes: Iterable[str], *, beside: bool = False) -> Grant:
        """A new consent; at some vendors it ends the account's earlier ones, unless `beside`."""
        if self.auth.reconnect_replaces and not beside:
            self.end(account_id)
        grant = Grant(account_id, tuple(scopes), self.clock.time())
        self.grants.setdefault(account_id, []).append(grant)
        return grant

    def consents(self, account_id: str) -> list[Grant]:
        """The account's consents that have not ended."""
        return [grant for grant in self.grants.get(account_id, ()) if not grant.ended]

    def code(
        self, grant: Grant, redirect_uri: str, challenge: str, *, offline: bool, nonce: str = ""
    ) -> str:
        value = secrets.token_urlsafe(24)
        dies_at = self.clock.time() + CODE_TTL
        self.codes[value] = Code(grant, redirect_uri, challenge, offline, dies_at, nonce)
        return value

    def issue(
        self,
        grant: Grant,
        refresh: Token | None,
        *,
        refreshed: bool,
        call: Call | None,
        nonce: str = "",
    ) -> Json:
        """A new access token beside that refresh token, as the vendor answers it."""
        now = self.clock.time()
        ttl: timedelta | None = self.auth.access_ttl
        if self.auth.lasts:
            ttl = self.auth.lasts(self.accounts[grant.account_id])
        access = Token(
            self.auth.access_prefix + secrets.token_urlsafe(48),
            grant,
            now,
            None if ttl is None else now + ttl.total_seconds(),
        )
        self.access_tokens[access.value] = access
        return self.auth.answer(
            Issue(
                self.auth,
                self.accounts[grant.account_id],
                grant,
                access.value,
                refresh.value if refresh else None,
                refreshed,
                call,
                nonce,
            )
        )

    def refresh_token(self, grant: Grant) -> Token:
        """A new refresh token of the grant."""
        now, ttl = self.clock.time(), self.auth.rotation.ttl
        value = self.auth.refresh_prefix + secrets.token_urlsafe(48)
        if self.auth.refresh_cap:
            self._make_room(grant.account_id, self.auth.refresh_cap)
        token = Token(value, grant, now, now + ttl.total_seconds() if ttl else None)
        self.refresh_tokens[value] = token
        return token

    def caller(self, call: Call, bearer: str) -> Grant | None:
        """The grant that a call's bearer token stands for."""
        if self.auth.caller:
            return self.auth.caller(call, bearer)
        held = self.access(bearer)
        return held.grant if held else None

    def access(self, value: str) -> Token | None:
        """The access token of that value if it works."""
        return self._working(self.access_tokens, value)

    def refresh(self, value: str) -> Token | None:
        """The refresh token of that value if it works."""
        return self._working(self.refresh_tokens, value)

    def rotate(self, used: Token) -> Token:
        """The refresh token that goes out with a refresh: the one used, or its successor."""
        now, rotation = self.clock.time(), self.auth.rotation
        if rotation.kind == "beside":
            return self.refresh_token(used.grant)
        young = rotation.kind == "daily" and now - used.issued_at < 86_400
        if rotation.kind == "never" or young:
            if rotation.ttl:
                used.dies_at = now + rotation.ttl.total_seconds()
            return used
        successor = self._successor(used)
        if successor is None:
            successor = self.refresh_token(used.grant)
            used.dies_at = now + rotation.grace.total_seconds()
        return successor

    def expire(self, account_id: str) -> None:
        """The account's access tokens stop working now."""
        now = self.clock.time()
        for token in self.access_tokens.values():
            if token.grant.account_id == account_id:
                token.dies_at = now

    def end(self, account_id: str) -> None:
        """Every consent of the account ends, as when its user removes the app."""
        for grant in self.grants.get(account_id, ()):
            grant.ended = True

    def _make_room(self, account_id: str, cap: int) -> None:
        now = self.clock.time()
        live = [
            token
            for token in self.refresh_tokens.values()
            if token.grant.account_id == account_id and token.works(now)
        ]
        for oldest in live[: max(0, len(live) - cap + 1)]:
            oldest.dies_at = now

    def _working(self, tokens: Mapping[str, Token], value: str) -> Token | None:
        token = tokens.get(value)
        return token if token and token.works(self.clock.time()) else None

    def _successor(self, used: Token) -> Token | None:
        """Within the grace time a second use of the former token gives the same new one again."""
        if not self.auth.rotation.grace:
            return None
        later = [
            token
            for token in self.refresh_tokens.values()
            if token.grant is used.grant and token.issued_at > used.issued_at
        ]
        return later[-1] if later else None
