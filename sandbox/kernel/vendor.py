"""What a vendor is to the sandbox: values and plain functions; the package explains them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox.kernel.oauth import Call, OAuth
from sandbox.kernel.values import Change, Json, Kind, Op, RefusedError, Seed
from sandbox.kernel.webhooks import CallbackFlow, Sender


@dataclass(frozen=True, kw_only=True)
class ErrorCase:
    """What the kernel asks a vendor to put into its own words.

    `limit` is the limit that was hit, or None when the 429 was ordered; `retry_after` is what the
    order said, else None.
    """

    kind: Kind
    detail: str = ""
    limit: "Limit | None" = None
    retry_after: float | None = None

    @property
    def waits(self) -> dict[str, str]:
        """The header that says how long to wait, where the order did."""
        return {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}


Handler: TypeAlias = Callable[[Call], Response]
# One that calls the app while its own call is still open.
CallbackHandler: TypeAlias = Callable[[Call], CallbackFlow[Response]]


@dataclass(frozen=True)
class Route:
    """A path of the vendor. `{name}` matches one segment, `{name:path}` the rest.

    An `open` route takes no access token. `scopes`: any one of them lets the token in.
    A parameter called `token` never reaches the request log.
    """

    method: str
    host: str
    path: str
    handler: Handler | CallbackHandler
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

    `alterable` lists the ids of a stream that may be changed or deleted, where not all may.
    `controls` are over all accounts together; `account_controls`, over the one that is named, come
    to be among them. `token` finds the access token of a call. `answers` are what a tenant with
    that account is asked before it is sent to consent. `three_pages_at` is the size of an account
    whose biggest stream takes a client three pages.
    """

    name: str
    title: str
    base_url: str
    auth: OAuth
    routes: tuple[Route, ...]
    streams: tuple[str, ...]
    mutable: Mapping[str, tuple[Op, ...]]
    new: Callable[[Seed], Any]
    store: Callable[[Any, str], dict[str, Json]]
    apply: Callable[[Any, Change], str]
    trouble: Callable[[ErrorCase, Call], Response]
    alterable: Callable[[Any, str], Iterable[str]] | None = None
    limits: tuple[Limit, ...] = ()
    rate_headers: Callable[[Sequence[Usage]], Mapping[str, str]] = lambda usages: {}
    expire_checkpoints: Callable[[Any], None] | None = None
    controls: Mapping[str, Callable[[Mapping[str, Any], Json], Json]] = field(default_factory=dict)
    account_controls: Mapping[str, Callable[[Any, Json], Json]] = field(default_factory=dict)
    webhook: Sender | None = None
    extras: Callable[[str, str], Json] = lambda account_id, origin: {}
    token: Callable[[Call], str] = bearer
    answers: Callable[[str], Json] = lambda account_id: {}
    three_pages_at: int = 250

    def __post_init__(self) -> None:
        one = {name: _of_account(control) for name, control in self.account_controls.items()}
        object.__setattr__(self, "controls", {**self.controls, **one})


def _of_account(
    control: Callable[[Any, Json], Json],
) -> Callable[[Mapping[str, Any], Json], Json]:
    """The control over the account that its order names."""

    def found(states: Mapping[str, Any], body: Json) -> Json:
        state = states.get(str(body.get("account")))
        if state is None:
            known = ", ".join(states)
            raise RefusedError(f"no account {body.get('account')!r}; there are: {known}")
        return control(state, body)

    return found
