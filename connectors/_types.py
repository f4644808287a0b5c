"""What a connector is made of: values, and generators that do no I/O."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from connectors._errors import ConnectorError

if TYPE_CHECKING:
    from connectors._feeds import Feed
    from connectors._webhooks import Watch, Webhook

Record: TypeAlias = dict[str, Any]
Params: TypeAlias = Mapping[str, str | int | bool | Sequence[str]]


class SyncType(StrEnum):
    """How a vendor's changes reach us: it tells us, both, or we ask."""

    PUSH = "push"
    HYBRID = "hybrid"
    PULL = "pull"
    NONE = "none"  # nothing is synced: a key is kept for the tenant


class Checkpoint(dict[str, Any]):
    """Saved progress of a connection's stream: JSON values only. Empty means: from the start."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a reader may know of the run it serves; `before` is where the stream stood, while it is
    read anew from its beginning."""

    now: datetime
    account_id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One call to the vendor; `path` is joined to the connector's base URL unless it is a URL, or
    begins with a setting that holds one, `{config[instance_url]}/…`.

    `expect` lists error statuses that the reader wants to see instead of an exception. `renews`
    asks for a token refreshed just now: the vendor refused the former one in a form of its own.
    `cost` is what the call takes from the rate budget, in the vendor's own units, and `budget` the
    name of those limits of the connector that it is counted in. A `file` lies elsewhere, for all
    who know its link: it is read without our token, from one of the connector's `files`, and `json`
    of the answer is its bytes; so it is where the header accept is `text/csv`.
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

    @classmethod
    def get(cls, path: str, **options: Any) -> "Request":
        return cls("GET", path, **options)

    @classmethod
    def post(cls, path: str, **options: Any) -> "Request":
        return cls("POST", path, **options)


@dataclass(frozen=True, kw_only=True)
class Response:
    """The vendor's answer. `json` is parsed; `headers` have lower-case names; `sent_at` is ours."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)
    url: str = field(repr=False)
    sent_at: datetime


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


# A reader yields a Request and is sent its Response, or yields a tuple of Requests (which may
# run side by side) and is sent a tuple of Responses in their order, or yields a Page and is sent
# None. The error of a request that fails is raised where the reader yielded it: a reader may catch
# what concerns a part of its stream. It may raise any ConnectorError; a KeyError or the like counts
# as a ContractError.
Reader: TypeAlias = Generator[Request | tuple[Request, ...] | Page, Any, None]


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


@dataclass(frozen=True)
class RateLimit:
    """`amount` units each `per`, counted for each account at the vendor, or for our whole app."""

    amount: int
    per: timedelta
    scope: Literal["account", "app"] = "account"
    name: str = ""


@dataclass(frozen=True)
class Account:
    """Who we are at the vendor once authorised: its id there, a name for people, and settings."""

    id: str
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


# Finds the accounts a new grant covers, from the token answer, the callback's parameters and, where
# neither says it, further calls. It yields Requests and returns the accounts.
Identify: TypeAlias = Callable[
    [Mapping[str, Any], Mapping[str, str]], Generator[Request, Response, tuple[Account, ...]]
]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a tenant is asked before it is sent to consent, such as its shop's address.

    The answer stands in the vendor's URLs as `{name}`, and in a connection's settings under that
    name. It has no more than lower-case letters, digits, dots, commas, hyphens and underscores, and
    fits `pattern` in full; where none is given, `default` is taken. `hint` says to a person how it
    looks.
    """

    name: str
    title: str
    pattern: str
    hint: str
    default: str = ""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A browser that came back from consent: with what, after which answers, and when."""

    params: Mapping[str, str] = field(repr=False)
    answers: Mapping[str, str]
    client_secret: str = field(repr=False)
    at: datetime


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """A vendor's OAuth 2 rules. `env` prefixes the operator's variables: HUBSPOT_CLIENT_ID …

    The URLs may hold settings of the operator, `{MICROSOFT_TENANT_ID}`; `url_overrides` says which
    values of these this integration replaces. They may hold answers of the tenant to `questions`,
    too. `variables` names those of client id and secret where the vendor's own words are others,
    and `console` is where the operator registers the app. `scopes` says what each is needed for.
    `grace` is how long a refresh token still works after a newer one was issued; `idle_lifetime`
    how long an unused one lives. An `access_token_ttl` of None: it never ends. `bearer` says what
    calls carry: the access token of the grant, or our app's own secret, of vendors that take it for
    every account that consented. `gives_back` names the field of the token answer by which a
    consent is ended, where that is not the refresh token. `normalize_answer` gives a token answer
    the form of RFC 6749, where the vendor's is another. `refused` are error codes of the token
    endpoint that mean the grant is over. `error_from` reads the vendor's own form of a refusal, the
    parameters of a callback or the body of a token answer: an error, or None for the default.
    `verify_callback` raises SignatureError of a callback that the vendor did not make, where it
    signs them, and gives the answers as they stand from then on. `token_params` go with a code.
    """

    env: str
    authorize_url: str
    token_url: str
    scopes: Mapping[str, str]
    revoke_url: str | None = None
    revoke_body: Literal["rfc7009", "token", "json"] = "rfc7009"
    client_auth: Literal["body", "basic"] = "body"
    pkce: bool = False
    questions: tuple[Question, ...] = ()
    verify_callback: Callable[[Callback], Mapping[str, str]] = lambda callback: callback.answers
    scope_separator: str = " "
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    token_headers: Mapping[str, str] = field(default_factory=dict)
    rotates: bool = False
    grace: timedelta | None = None
    idle_lifetime: timedelta | None = None
    access_token_ttl: timedelta | None = timedelta(hours=1)
    bearer: Literal["grant", "app"] = "grant"
    gives_back: str = ""
    normalize_answer: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda answer: answer
    refused: frozenset[str] = frozenset({"invalid_grant"})
    error_from: Callable[[Mapping[str, Any]], ConnectorError | None] = lambda answer: None
    url_overrides: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, str] | None = None
    console: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a vendor said of a key. `works` is None where its answer proves neither."""

    works: bool | None
    message: str


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key that tenants bring. `setting` is the name it is kept under; `verify` asks the vendor.

    `hint` says to a person where keys are made.
    """

    setting: str
    verify: Callable[[], Generator[Request, Response, Verdict]]
    hint: str = ""


def _no_accounts(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    yield from ()
    return ()


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Everything we know about talking to one vendor's API.

    `classify` reads a vendor's own error form: an error, or None for the default map by status; a
    RateLimitedError with a `retry_after` of zero means that the vendor did not say how long.
    `hosts` are those a token may be sent to, besides the host of `base_url`. That one may depend on
    the connection, `https://{config[shop]}/admin` or `{config[instance_url]}/services`, and is then
    one that a pattern of `hosts` allows, `*.myshopify.com`; no other that fits it is called.
    `files` are those of files that are read without it. `auth_header` is where the token goes;
    bare, where that is not `authorization`.
    `concurrency` bounds the requests of one connection that are under way at once.
    `floor` is the least time between two polls of a connection, whatever its tier: what the vendor
    asks for, or allows.
    `variables` are further ones that the operator sets for it, such as a webhook secret: name ->
    what it is. `webhook` is how it tells us of changes, `watch` what we must keep subscribed, and
    `feed` what we can listen to.
    `sync_method` says in a few words by what its changes are found, `referees` names the packages
    of the vendor's users that judge its sandbox, and `limitations` what is known to be missing.
    """

    name: str
    title: str
    sync_type: SyncType
    base_url: str
    auth: OAuth2 | ApiKey
    streams: tuple[Stream, ...]
    rate_limits: tuple[RateLimit, ...]
    identify: Identify = _no_accounts
    classify: Callable[[Response], ConnectorError | None] = lambda response: None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Params = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    auth_header: str = "authorization"
    concurrency: int = 4
    floor: timedelta = timedelta(0)
    variables: Mapping[str, str] = field(default_factory=dict)
    webhook: "Webhook | None" = None
    watch: "Watch | None" = None
    feed: "Feed | None" = None
    sync_method: str = ""
    referees: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()

    @property
    def oauth(self) -> OAuth2:
        """Its OAuth rules; LookupError where tenants bring a key instead."""
        if isinstance(self.auth, OAuth2):
            return self.auth
        raise LookupError(f"{self.title} takes an API key: there is no consent, and no token")

    @property
    def api_key(self) -> ApiKey:
        """What its key is kept under, and how it is verified; LookupError of an OAuth vendor."""
        if isinstance(self.auth, ApiKey):
            return self.auth
        raise LookupError(f"{self.title} is connected by consent: it takes no API key")

    def stream(self, name: str) -> Stream:
        """The stream of that name; LookupError names those there are."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = ", ".join(stream.name for stream in self.streams)
        raise LookupError(f"{self.title} has no stream {name!r}; it has: {known}")


def column(path: str, type: str = "text") -> Column:
    """`column("properties.amount", "numeric")`: a column found at that path of the record."""
    return Column(tuple(path.split(".")), type)
