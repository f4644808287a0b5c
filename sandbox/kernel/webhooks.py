"""How a vendor tells an app what happened: values and pure functions. `_outbox` does the sending.

An event is one thing that happened in an account's data. A notice is an event on its way to one
address. A delivery is one HTTP call with one notice or more.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar
from uuid import uuid4

from sandbox.kernel.values import Address
from sandbox.kernel.watches import Watches

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Message:
    """An HTTP call of the vendor to an address of the app."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class AppResponse:
    """What came back. Without an answer the status is 0 and `failure` says why: timeout,
    connection or message (it could not be sent as it is). Header names are in small letters."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""


@dataclass(frozen=True)
class LongPoll:
    """A call of the app is not answered before something happened, or so many seconds passed."""

    happened: Callable[[], bool]
    seconds: float


# A generator that does no I/O: it yields calls to the app, is sent what came back, returns a T. It
# may also hold the call that it answers.
CallbackFlow: TypeAlias = Generator[Message | LongPoll, AppResponse, T]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened; `what` is the vendor's own. No other event has its `id`, ever."""

    id: str = field(default_factory=lambda: str(uuid4()))
    account_id: str
    at: datetime
    what: Any


@dataclass(frozen=True, kw_only=True)
class Notice:
    """An event for an address; `number` counts those of the address, from 1."""

    event: Event
    address: Address
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Notices that go in one call. `attempt` counts from 1; `id` stays the same for all of them.

    `now` is when it is sent. A forged one is sent by somebody who does not know the secret: the
    addresses hold another, and what else proves the sender must be wrong, too.
    """

    id: str = field(default_factory=lambda: str(uuid4()))
    notices: tuple[Notice, ...]
    made_at: datetime
    now: datetime
    attempt: int = 1
    forged: bool = False

    @property
    def address(self) -> Address:
        return self.notices[0].address

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(notice.event for notice in self.notices)

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return (self.now - self.made_at).total_seconds()


class Receivers(Protocol):
    """Who can hear of an event: the app at its one address, and the watches of the accounts."""

    app: Address | None
    watches: Watches


def to_app(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """Every event goes to the app's one address, if there is one."""
    return [Notice(event=event, address=receivers.app)] if receivers.app else []


def to_watches(
    concerns: Callable[[Event, Address], bool],
) -> Callable[[Event, Receivers], Iterable[Notice]]:
    """An event goes to those live watches of its account that it concerns."""

    def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
        for watch in receivers.watches.of(event.account_id):
            if concerns(event, watch):
                yield Notice(event=event, address=watch)

    return notices


def again_after(
    *waits: float, then: float | None = None
) -> Callable[[Delivery, AppResponse], float | None]:
    """Retries after so many seconds each, and from then on every `then` seconds, or no more."""

    def retry(delivery: Delivery, answered: AppResponse) -> float | None:
        return waits[delivery.attempt - 1] if delivery.attempt <= len(waits) else then

    return retry


@dataclass(frozen=True, kw_only=True)
class Sender:
    """How a vendor delivers.

    `compose` makes the call of a delivery, signed as of `delivery.now`; it is asked anew for each
    attempt. `notices` says to which addresses an event goes. Up to `batch` notices that are
    `together` (a value that is equal for them) go in one delivery. `acknowledges` says what
    counts as received; what does not, or takes longer than `deadline` seconds, is tried again when
    `retry` says, in seconds, or never (None). So many calls are open at once at most.

    Each account is told in order at each address: the next call for it begins when the former
    is over, whatever came of it, or, with `holds_back`, when that was acknowledged or given up.
    With `spacing` an account has one notice in so many seconds at an address; more are dropped.

    `secret` is the app's until a control sets another; `settings` are what a control may set
    beside the address, with their defaults. `handshake` is what the vendor asks of an address
    before it takes it from a control: RefusedError when the answer does not do.
    """

    compose: Callable[[Delivery], Message]
    deadline: float
    retry: Callable[[Delivery, AppResponse], float | None]
    notices: Callable[[Event, Receivers], Iterable[Notice]] = to_app
    acknowledges: Callable[[AppResponse], bool] = lambda answered: 200 <= answered.status < 300
    batch: int = 1
    together: Callable[[Notice], Hashable] = lambda notice: notice.address.id
    concurrency: int = 32
    holds_back: bool = False
    spacing: float = 0.0
    secret: str = field(default="", repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    handshake: Callable[[Address], CallbackFlow[None]] | None = None


# Of a vendor that tells nobody anything.
SILENT = Sender(
    compose=lambda delivery: Message(url=delivery.address.url),
    deadline=0,
    retry=again_after(),
    notices=lambda event, outbox: (),
)


def forged(delivery: Delivery) -> Delivery:
    """The delivery as somebody would send it who does not know the secret."""
    secret = str(uuid4())
    notices = tuple(
        replace(notice, address=replace(notice.address, secret=secret))
        for notice in delivery.notices
    )
    return replace(delivery, notices=notices, forged=True)
