"""What a reader takes and gives: requests, answers, pages and streams. Values that do no I/O."""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from connectors.kernel.errors import ConnectorError

T = TypeVar("T")
Record: TypeAlias = dict[str, Any]
Params: TypeAlias = Mapping[str, str | int | bool | Sequence[str]]


class Checkpoint(dict[str, Any]):
    """Saved progress of a connection's stream: JSON values only. Empty means: from the start."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a reader may know of the run it serves; `before` is where the stream stood, while it is
    read anew from its beginning."""

    now: datetime
    account_id: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)  # secrets may be in it
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One call to the vendor; `path` is joined to the connector's base URL unless it is a URL, or
    begins with a setting that holds one, `{config[instance_url]}/…`.

    `expect` lists error statuses that the reader wants to see instead of an exception. `renews`
    asks for a token refreshed just now: the vendor refused the former one in a form of its own.
    `cost` is what the call takes from the rate budget, in the vendor's own units, and `budget` the
    name of those limits of the connector that it is counted in. A `file` lies elsewhere, for all
    who know its link: it is read without our token, from one of the connector's `files`, and its
    bytes are the answer's `content`; so are those of a CSV that the header accept asks for, and, if
    `raw`, those of any answer that is no error. A `text` is sent as it is. `judge` says what an
    answer to this request means, in place of the connector's `classify` and the map by status.
    `part` names the part of a stream that is asked for, where the request does not: the same
    listing is then no circle, read once for each part.
    """

    method: str
    path: str
    params: Params = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    expect: tuple[int, ...] = ()
    cost: int = 1
    budget: str = ""
    file: bool = False
    renews: bool = False
    raw: bool = False
    text: str | None = field(default=None, repr=False)
    part: str = ""
    judge: "Callable[[Response], ConnectorError | None] | None" = field(
        default=None, repr=False, compare=False
    )

    @classmethod
    def get(cls, path: str, **options: Any) -> "Request":
        return cls("GET", path, **options)

    @classmethod
    def post(cls, path: str, **options: Any) -> "Request":
        return cls("POST", path, **options)


@dataclass(frozen=True, kw_only=True)
class Response:
    """The vendor's answer. `json` is parsed; `headers` have lower-case names; `sent_at` is ours.

    `content` is empty unless bytes were asked for, a file or a CSV: `json` is None then.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(default=None, repr=False)
    url: str = field(repr=False)
    sent_at: datetime
    content: bytes = field(default=b"", repr=False)


class Gone(StrEnum):
    """Why a record is not among the live ones, or no longer shown to who consented."""

    DELETED = "deleted"
    MERGED = "merged"  # into another record of the stream
    HIDDEN = "hidden"  # the vendor has it, and does not show it to who consented


@dataclass(frozen=True)
class ListedKeys:
    """A complete listing of the keys under `prefix`, as of `at`.

    The kernel buries stored records under it that were observed before and are not among `keys`.
    Use it for the children of a deleted parent, and where a vendor shows a deletion only by
    listing the record no more. With `hidden` the vendor still has them: it no longer shows the
    parent to the person who consented.
    """

    prefix: str
    keys: Collection[str]
    at: datetime
    hidden: bool = False


@dataclass(frozen=True)
class Unread:
    """A part of a stream, such as a channel, that could not be read, and the error that says why.

    What was read of it before stays.
    """

    part: str
    error: ConnectorError


@dataclass(frozen=True)
class Page:
    """What was read, and the checkpoint that is true once it is stored.

    `records` are whole. `partial` hold only the fields that changed: they are merged into what is
    stored; a record that is not stored is read again by its key. `deleted` are keys of records that
    the vendor deleted, `merged` maps a key to that of the record that took it in, `hidden` are keys
    that are no longer shown to who consented. `unsettled` are keys that the vendor names and cannot
    show yet, or of which it says two things: they are read again some minutes later.
    `unread` are all parts of the stream that could not be read when this page was made; None says
    nothing of them.

    Three stand on the last page of a listing. `unseen` are prefixes of keys of which it could not
    show anything, so that nothing of them counts as gone. `shown_from` is for vendors that show
    only records made since: what is older was not looked at, see `Stream.made_at`. `shape` says
    which fields come now, where the vendor decides that: once it is another, all records are read
    again in the background.
    """

    records: Sequence[Record]
    checkpoint: Checkpoint
    deleted: Sequence[str] = ()
    listed_keys: Sequence[ListedKeys] = ()
    partial: Sequence[Record] = ()
    merged: Mapping[str, str] = field(default_factory=dict)
    hidden: Sequence[str] = ()
    unsettled: Sequence[str] = ()
    unread: Sequence[Unread] | None = None
    unseen: Sequence[str] = ()
    shown_from: datetime | None = None
    shape: str | None = None


# A generator does no I/O: who drives it sends what it asks for. It yields a Request and is sent its
# Response, or yields a tuple of Requests (which may run side by side) and is sent a tuple of
# Responses in their order. The error of a request that fails is raised where it was yielded: what
# concerns a part of a stream may be caught there. `ask` and `ask_all` do it, with the types.
Asked: TypeAlias = Request | tuple[Request, ...]
Answered: TypeAlias = Response | tuple[Response, ...]
# It returns a T; `Calls` are Steps that ask for one thing after the other.
Steps: TypeAlias = Generator[Asked, Answered, T]
Calls: TypeAlias = Generator[Request, Answered, T]
# It yields a Page as well, and is sent None. It may raise any ConnectorError; a KeyError or the
# like counts as a ContractError.
Reading: TypeAlias = Generator[Asked | Page, Answered | None, T]
Reader: TypeAlias = Reading[None]


def ask(request: Request) -> Generator[Request, Response, Response]:
    """The answer to a request: `response = yield from ask(request)`."""
    return (yield request)


def ask_all(
    requests: Iterable[Request],
) -> Generator[tuple[Request, ...], tuple[Response, ...], tuple[Response, ...]]:
    """The answers to requests that may run side by side, in their order."""
    return (yield tuple(requests))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of record of one vendor.

    `key` names the field that identifies a record, or computes it. `version` maps a record to an
    integer that only grows (or None); it decides between two writes of one record. `columns` are
    the typed columns of the SQL view: name -> path into the record and type; see `column`.
    `snapshot` says that every read is a complete listing: what it did not show is gone.
    `append_only` says that records are never taken back: a full read, which sees only what the
    vendor still keeps, deletes nothing.
    `from_now_on` says that it is a log of which no read shows what was before the first one: it
    cannot be checked against anything.
    `hides_deletes` says that neither its delta nor an event reliably tells what is gone: an audit
    looks for that once a week (`flows.audit`), where other streams are checked once in 30 days.
    `keeps_hidden` says that records which are no longer shown to who consented stay live.
    `made_at` is when a record was made, for streams of which a full read may show only the newer
    ones: see `Page.shown_from`.
    `listing` reads the keys and versions of everything, with as few fields and calls as the vendor
    allows, for the audit: its records need only what `key` and `version` look at (and no version
    where the vendor does not list it). Without it the audit reads everything.
    `fetch` reads records of these keys again, for events that hold no record; what the vendor does
    not have comes out as deleted. `window` is the checkpoint from which all that changed since a
    time is read; without it the stream's usual delta closes a gap in the events we got.
    """

    name: str
    read: Callable[[Checkpoint, Context], Reader]
    key: str | Callable[[Record], str] = "id"
    version: Callable[[Record], int | None] = lambda record: None
    columns: Mapping[str, "Column"] = field(default_factory=dict)
    snapshot: bool = False
    append_only: bool = False
    from_now_on: bool = False
    hides_deletes: bool = False
    keeps_hidden: bool = False
    made_at: Callable[[Record], datetime] | None = None
    listing: Callable[[Checkpoint, Context], Reader] | None = None
    fetch: Callable[[Sequence[str], Context], Reader] | None = None
    window: Callable[[datetime], Checkpoint] | None = None
    title: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a stream's SQL view: where it stands in the record, and its PostgreSQL type."""

    path: tuple[str, ...]
    type: str = "text"


def column(path: str, type: str = "text") -> Column:
    """`column("properties.amount", "numeric")`: a column found at that path of the record."""
    return Column(tuple(path.split(".")), type)


def columns(*words: str) -> dict[str, Column]:
    """Columns by their names, `"email total=amount.value:numeric"`: each with its path, where that
    is another, and its type, where that is not text."""
    found = {}
    for word in " ".join(words).split():
        place, _, type_ = word.partition(":")
        name, _, path = place.partition("=")
        found[name] = column(path or name, type_ or "text")
    return found
