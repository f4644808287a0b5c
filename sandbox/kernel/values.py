"""What all parts of the sandbox's kernel speak of: accounts, consents, changes, addresses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Literal, TypeAlias

import orjson
from starlette.responses import Response

from sandbox.kernel.clock import Clock

Json: TypeAlias = dict[str, Any]
Op: TypeAlias = Literal["add", "change", "delete"]
OPS: tuple[Op, ...] = ("add", "change", "delete")


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

    def length(self, share: float) -> int:
        """Of a stream that is so big a part of the biggest one: two at least, but in an empty
        account none."""
        return max(2, round(self.size * share)) if self.size else 0


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


@dataclass
class Grant:
    """One consent of one account: what its tokens may do, until it ends."""

    account_id: str
    scopes: tuple[str, ...]
    created_at: float
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where deliveries go: the app's one address, or that of a watch, which has an `id`.

    `secret` is what signs, or is echoed. `about` is the vendor's own: the app's settings, or what
    is watched. A watch ends with its grant and at `expires_at`, seconds since 1970.
    """

    url: str
    secret: str = field(default="", repr=False)
    id: str = ""
    account_id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    grant: Grant | None = None
    expires_at: float | None = None

    def works(self, now: float) -> bool:
        ended = self.grant is not None and self.grant.ended
        return not ended and (self.expires_at is None or now < self.expires_at)


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(
        orjson.dumps(body),
        status,
        headers={**(headers or {}), "content-type": "application/json;charset=utf-8"},
    )
