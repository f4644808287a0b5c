"""What a vendor sends us, how it is proven, and what it asks us to do. Values and pure functions.

A delivery is one HTTP call of a vendor to our address. It holds events, each about one connection.
A watch is a subscription of ours at the vendor that ends unless it is renewed or replaced.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from connectors.kernel.body import parse_json
from connectors.kernel.errors import ContractError
from connectors.kernel.messages import Calls, Context, Record
from connectors.kernel.statuses import PARSE_ERRORS

# Of a form that we do not understand, an event's type shows so many characters at most.
LONGEST_FORM = 160


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A vendor's call as it came.

    `url` is our public address as the vendor calls it, query and all. `headers` have lower-case
    names; `body` is raw: signatures are over its bytes.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime

    @property
    def json(self) -> Any:
        """The body's value, None of an empty one; ValueError where it is not JSON."""
        return parse_json(self.body)


@dataclass(frozen=True)
class Reply:
    """What the vendor wants to read as the answer."""

    body: str = ""
    content_type: str = "text/plain"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Effect(StrEnum):
    """What an event asks for."""

    RECORD = "record"  # it holds the record: store it
    READ = "read"  # the record of that key changed: read it again
    DELETED = "deleted"  # the record of that key is gone
    GONE = "gone"  # the same, by what nothing proves: it is read again until it is
    EMPTIED = "emptied"  # all records under that prefix of keys are gone
    HINT = "hint"  # something changed in these streams: read what is new
    REVOKED = "revoked"  # the authorisation was taken back
    RENEW = "renew"  # the vendor asks for its watch to be renewed now
    LOST = "lost"  # the vendor has dropped the watch
    MISSED = "missed"  # the vendor could not tell us everything: read what is new
    REPORT = "report"  # a person asks what is held of them in the record of that key
    ERASE = "erase"  # what is held in the record of that key is to be forgotten for good
    PURGE = "purge"  # everything that was ever read from the account is
    UNREADABLE = "unreadable"  # we do not understand it: it is kept, and what it may be of is read

    @property
    def is_duty(self) -> bool:
        """Whether the law asks for it, whatever has become of the connection."""
        return self in (Effect.REPORT, Effect.ERASE, Effect.PURGE)

    @property
    def asks_again(self) -> bool:
        """Whether it names a record that is to be read again."""
        return self in (Effect.READ, Effect.GONE)

    @property
    def ends(self) -> bool:
        """Whether it takes what the vendor can be asked about first: our access to an account."""
        return self in (Effect.REVOKED, Effect.PURGE)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened, about one account or one watch of ours.

    `id` is the same for each delivery of the event, and no other has it. RECORD, READ, DELETED,
    GONE, EMPTIED, REPORT and ERASE are of the one stream in `streams`; HINT and MISSED may name
    several, and none means all that the webhook covers. Where the vendor names no key of what is to
    be erased, `where` finds it: paths of a record, each with the text that stands there. `at` is
    when it happened by the vendor's clock: what a RECORD, a DELETED or an EMPTIED tells was true
    then. Of a MISSED the vendor may say in which time: from `at` to `until`. `token` is a secret
    that the vendor echoes.
    """

    id: str
    type: str
    effect: Effect
    account_id: str = ""
    watch_id: str = ""
    streams: tuple[str, ...] = ()
    key: str = ""
    record: Record | None = field(default=None, repr=False)
    at: datetime | None = None
    until: datetime | None = None
    token: str = field(default="", repr=False)
    where: Mapping[str, str] = field(default_factory=dict, repr=False)


def each_event(
    items: Iterable[Any],
    read: Callable[[Any], Iterable[Event]],
    account: Callable[[Any], str] = lambda item: "",
) -> Iterator[Event]:
    """The events of a delivery that holds several, each read by itself.

    One that `read` stumbles over costs nothing but itself: it becomes an UNREADABLE event, which
    keeps it as it came. `account` finds whose it is, where the item still says so.
    """
    for item in items:
        try:
            found = tuple(read(item))
        except (ContractError, *PARSE_ERRORS):
            yield _unreadable(item, account)
        else:
            yield from found


def _unreadable(item: Any, account: Callable[[Any], str]) -> Event:
    try:
        account_id = str(account(item))
    except PARSE_ERRORS:
        account_id = ""
    form = ", ".join(sorted(map(str, item))) if isinstance(item, dict) else type(item).__name__
    digest = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
    return Event(
        id=f"unreadable:{digest}",
        type=f"unreadable: {form}"[:LONGEST_FORM],
        effect=Effect.UNREADABLE,
        account_id=account_id,
        record=item if isinstance(item, dict) else {"value": item},
    )


@dataclass(frozen=True, kw_only=True)
class VerificationKeys:
    """What deliveries are proven by.

    `secrets` are the operator's (the current one and, while it rotates, the former) or the one of
    an event's watch; `keys` is the JWK set of `Webhook.keys_url`; `variables` are the connector's,
    as the operator set them.
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)
    keys: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


# Raises SignatureError unless the vendor sent the delivery. See `connectors.kernel.signatures`.
Verify: TypeAlias = Callable[[Delivery, VerificationKeys], None]


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """How a vendor's deliveries are proven and read.

    `verified_by` names the operator's variable whose value (`new,former`) proves them; while it is
    empty the address answers 404. Without a name every watch has a secret of its own, by which
    `verify_event` proves each event, or the address itself holds the secret (`secret_in_url`).
    `keys_url` is where the vendor publishes the keys that it signs with.

    `handshake` answers calls that only prove our address, before anything is verified (None: it is
    none of those). `events` reads a proven delivery; a type that is of no interest gives no event.
    `reply` is the answer to a proven delivery, once its events are stored. `covers` names the
    streams whose every change comes as an event. `setup` says to the operator what to do at the
    vendor, in a sentence.

    `proof` says what the proof covers. Nothing else of a delivery decides whom it concerns or what
    becomes of what is stored: `events` raises SignatureError where what is proven and what is not
    disagree. `stands` asks the vendor, returning while our access stands and raising
    BrokenConnectionError once it does not: an event that ends a connection or purges it counts for
    nothing while it stands. `grace` is how long an effect waits and can be withdrawn.
    """

    events: Callable[[Delivery], Sequence[Event]]
    covers: tuple[str, ...]
    verified_by: str = ""
    verify: Verify | None = None
    verify_event: Callable[[Delivery, Event, str], None] | None = None
    secret_in_url: bool = False
    keys_url: str = ""
    handshake: Callable[[Delivery], Reply | None] = lambda delivery: None
    reply: Callable[[Delivery], Reply] = lambda delivery: Reply()
    setup: str = ""
    proof: str = ""
    stands: Callable[[Context], Calls[None]] | None = None
    grace: Mapping[Effect, timedelta] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WatchRequest:
    """A watch that is to be made or renewed.

    `id` is ours and new for each watch, for vendors that let the caller choose; `address` is where
    it shall deliver to, `secret` what it shall echo or sign with.
    """

    id: str
    resource: str
    address: str
    secret: str = field(repr=False)
    lifetime: timedelta
    context: Context
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class MadeWatch:
    """A watch as the vendor made it. `state` is what renewing and deleting it need (JSON values);
    `secret` one that the vendor made up, in place of ours."""

    vendor_id: str
    expires_at: datetime | None
    state: Mapping[str, Any] = field(default_factory=dict)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class NoWatch:
    """The vendor gives this account no watch: it is polled instead, and asked again in a week."""

    reason: str


WatchSteps: TypeAlias = Calls[MadeWatch | NoWatch]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A vendor-side subscription of ours: what is watched, and how watches are made and ended.

    `resources` yields Requests and returns the names of what is to be watched, such as a calendar's
    id; `streams` are those that a resource's events are about. A watch is renewed at half its
    `lifetime`, by `renew`, or, where that is None, replaced: a new one is made, both stand for
    `overlap`, and the former is deleted. `renew` of a watch that the vendor no longer knows raises
    CheckpointExpiredError, and a new one is made. `delete` of such a one is no error.
    `needs` names the operator's variables without which there is no watch.
    """

    resources: Callable[[Context], Calls[Sequence[str]]]
    create: Callable[[WatchRequest], WatchSteps]
    delete: Callable[[MadeWatch, Context], Calls[None]]
    streams: Callable[[str], tuple[str, ...]]
    lifetime: timedelta
    renew: Callable[[WatchRequest, MadeWatch], WatchSteps] | None = None
    overlap: timedelta = timedelta(minutes=5)
    needs: tuple[str, ...] = ()


def one_resource(name: str) -> Callable[[Context], Calls[Sequence[str]]]:
    """Of a vendor whose watch is for the account as a whole."""

    def resources(context: Context) -> Calls[Sequence[str]]:
        yield from ()
        return (name,)

    return resources
