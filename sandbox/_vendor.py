"""What a vendor is to the sandbox: values and plain functions; the package explains them."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlencode

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from sandbox._clock import Clock
from sandbox._webhooks import Asking, Sender

if TYPE_CHECKING:
    from sandbox._oauth import Desk, Grant, OAuth
    from sandbox._outbox import Outbox

Json: TypeAlias = dict[str, Any]
Op: TypeAlias = Literal["add", "change", "delete"]


class Answer(Exception):  # noqa: N818 - not an error: it carries the vendor's answer out of a depth
    """Raised anywhere below a handler to answer the call at once."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class RefusedError(Exception):
    """A control asked for something that is not there; its text names what is."""

    def __init__(self, message: str, *, status: int = 404) -> None:
        super().__init__(message)
        self.status = status


class Kind(StrEnum):
    """The troubles that every vendor has, each in its own form."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What the kernel asks a vendor to put into its own words.

    `limit` is the limit that was hit, or None when the 429 was ordered; `retry_after` is what the
    order said, else None.
    """

    kind: Kind
    detail: str = ""
    limit: "Limit | None" = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Seed:
    """What a new account's data is made from. `size` is about the length of its biggest stream;
    `shared` is what the vendors of its OAuth server keep of it together. `tell` is for later: it
    takes what happens in the account, for the vendor's `webhook`."""

    account_id: str
    name: str
    random: Random
    clock: Clock
    size: int
    shared: Any = None
    tell: Callable[[Any], None] = lambda what: None


@dataclass(frozen=True)
class Change:
    """One ordered change. `record` holds the fields to set; `random` fills what was left open."""

    stream: str
    op: Op
    id: str | None
    record: Json
    random: Random


@dataclass
class Account:
    """Someone who can sign in at an OAuth server, with each vendor's data for them."""

    id: str
    name: str
    state: dict[str, Any] = field(default_factory=dict)


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
    desk: "Desk"
    outbox: "Outbox"
    vendor: str = ""
    grant: "Grant | None" = None
    # Answers a request that came inside this one (a part of a batch) as if it had come alone:
    # with its own token, limits, ordered troubles and line in the log.
    inner: "Callable[[Call], Response]" = field(default=_alone, repr=False)

    @property
    def account(self) -> Account:
        """The account whose token this call carries."""
        if self.grant is None:
            raise LookupError(f"{self.path} is open to all: it has no account")
        return self.desk.accounts[self.grant.account_id]

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


Handler: TypeAlias = Callable[[Call], Response]
# One that calls the app while its own call is still open.
AskingHandler: TypeAlias = Callable[[Call], Asking[Response]]


@dataclass(frozen=True)
class Route:
    """A path of the vendor. `{name}` matches one segment, `{name:path}` the rest.

    An `open` route takes no access token. `scopes`: any one of them lets the token in.
    A parameter called `token` never reaches the request log.
    """

    method: str
    host: str
    path: str
    handler: Handler | AskingHandler
    open: bool = False
    scopes: tuple[str, ...] = ()
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = re.split(r"\{(\w+)(:path)?\}", self.path)
        text = re.escape(parts[0])
        for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            text += f"(?P<{name}>{'.+' if rest else '[^/]+'}){re.escape(literal)}"
        object.__setattr__(self, "pattern", re.compile(text))


@dataclass(frozen=True)
class Limit:
    """`amount` units in any `per` seconds for each account; `cost` says what a call takes."""

    name: str
    amount: int
    per: float
    cost: Callable[[Call], int] = lambda call: 1


@dataclass(frozen=True)
class Usage:
    """How a limit stands after a call: the vendor's rate headers are made from it."""

    limit: Limit
    amount: int
    remaining: int
    reset_after: float


def bearer(call: Call) -> str:
    """The access token of the Authorization header, or nothing."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A vendor: what it serves, in which form it refuses, and how its data is made and changed.

    `alterable` lists the ids of a stream that may be changed or deleted, where not all may. `token`
    finds the access token of a call. `answers` are what a tenant with that account is asked before
    it is sent to consent. `three_pages_at` is the size of an account whose biggest stream takes a
    client three pages.
    """

    name: str
    title: str
    base_url: str
    auth: "OAuth"
    routes: tuple[Route, ...]
    streams: tuple[str, ...]
    mutable: Mapping[str, tuple[Op, ...]]
    new: Callable[[Seed], Any]
    store: Callable[[Any, str], dict[str, Json]]
    apply: Callable[[Any, Change], str]
    trouble: Callable[[Trouble, Call], Response]
    alterable: Callable[[Any, str], Iterable[str]] | None = None
    limits: tuple[Limit, ...] = ()
    rate_headers: Callable[[Sequence[Usage]], Mapping[str, str]] = lambda usages: {}
    expire_checkpoints: Callable[[Any], None] | None = None
    controls: Mapping[str, Callable[[Mapping[str, Any], Json], Json]] = field(default_factory=dict)
    webhook: Sender | None = None
    extras: Callable[[str, str], Json] = lambda account_id, origin: {}
    token: Callable[[Call], str] = bearer
    answers: Callable[[str], Json] = lambda account_id: {}
    three_pages_at: int = 250


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(
        orjson.dumps(body),
        status,
        headers={**(headers or {}), "content-type": "application/json;charset=utf-8"},
    )
