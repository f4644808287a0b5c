"""What a connector is: everything that we know about talking to one vendor's API, as a value."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from connectors.kernel.auth import Account, ApiKey, Identify, OAuth2, SettingsForm
from connectors.kernel.errors import ConnectorError
from connectors.kernel.feeds import Feed
from connectors.kernel.messages import Calls, Context, Params, Response, Stream
from connectors.kernel.webhooks import Watch, Webhook

# What an app is for, in the words by which people look for it.
Category: TypeAlias = Literal[
    "Accounting",
    "AI",
    "Analytics",
    "Calendar",
    "Communication",
    "CRM",
    "Customer support",
    "Databases",
    "Design",
    "Developer tools",
    "E-commerce",
    "Email",
    "Events",
    "Files",
    "Forms and surveys",
    "Human resources",
    "Legal",
    "Marketing",
    "Meetings",
    "Monitoring",
    "Notes and documents",
    "Payments",
    "Project management",
    "Sales",
    "Security",
    "Social media",
    "Spreadsheets",
    "Time tracking",
    "Other",
]


class SyncType(StrEnum):
    """How a vendor's changes reach us: it tells us, both, or we ask."""

    PUSH = "push"
    HYBRID = "hybrid"
    PULL = "pull"
    NONE = "none"  # nothing is synced: a key is kept for the tenant


@dataclass(frozen=True)
class RateLimit:
    """`amount` units each `per`, counted for each account at the vendor, or for our whole app."""

    amount: int
    per: timedelta
    scope: Literal["account", "app"] = "account"
    name: str = ""


def _no_accounts(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Calls[tuple[Account, ...]]:
    yield from ()
    return ()


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Everything we know about talking to one vendor's API.

    `category` is where people find it on the page on which they connect apps.
    `classify` reads a vendor's own error form: an error, or None for the default map by status; a
    RateLimitedError with a `retry_after` of zero means that the vendor did not say how long.
    `hosts` are those a token may be sent to, besides the host of `base_url`. That one may depend on
    the connection, `https://{config[shop]}/admin` or `{config[instance_url]}/services`, and is then
    one that a pattern of `hosts` allows, `*.myshopify.com`; no other that fits it is called.
    `reaches` names hosts by a connection's settings, for addresses that a tenant fills in: those
    that are public and fit a pattern of `hosts` are called as well.
    `files` are those of files that are read without it, `*` any public one. `auth_header` is where
    the token goes; bare, where that is not `authorization`, and there after the word `auth_scheme`.
    `concurrency` bounds the requests of one connection that are under way at once.
    `floor` is the least time between two polls of a connection, whatever its tier: what the vendor
    asks for, or allows.
    `variables` are further ones that the operator sets for it, such as a webhook secret: name ->
    what it is. `webhook` is how it tells us of changes, `watch` what we must keep subscribed, and
    `feed` what we can listen to.
    `leave` ends our access to one account, where giving the consent back would end that to all.
    `sync_method` says in a few words by what its changes are found, `referees` names the packages
    of the vendor's users that judge its sandbox, and `limitations` what is known to be missing.
    """

    name: str
    title: str
    sync_type: SyncType
    base_url: str
    auth: OAuth2 | ApiKey | SettingsForm
    streams: tuple[Stream, ...]
    rate_limits: tuple[RateLimit, ...]
    category: Category = "Other"
    identify: Identify = _no_accounts
    classify: Callable[[Response], ConnectorError | None] = lambda response: None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Params = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    reaches: Callable[[Mapping[str, Any]], Iterable[str]] = lambda config: ()
    files: tuple[str, ...] = ()
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    concurrency: int = 4
    floor: timedelta = timedelta(0)
    variables: Mapping[str, str] = field(default_factory=dict)
    webhook: Webhook | None = None
    watch: Watch | None = None
    feed: Feed | None = None
    leave: Callable[[Context], Calls[None]] | None = None
    sync_method: str = ""
    referees: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()

    @property
    def oauth(self) -> OAuth2:
        """Its OAuth rules; LookupError where tenants bring a key or settings instead."""
        if isinstance(self.auth, OAuth2):
            return self.auth
        what = "an API key" if isinstance(self.auth, ApiKey) else "settings"
        raise LookupError(f"{self.title} takes {what}: there is no consent, and no token")

    @property
    def api_key(self) -> ApiKey:
        """What its key is kept under, and how it is verified; LookupError of any other vendor."""
        if isinstance(self.auth, ApiKey):
            return self.auth
        how = "consent" if isinstance(self.auth, OAuth2) else "its settings"
        raise LookupError(f"{self.title} is connected by {how}: it takes no API key")

    def stream(self, name: str) -> Stream:
        """The stream of that name; LookupError names those there are."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = ", ".join(stream.name for stream in self.streams)
        raise LookupError(f"{self.title} has no stream {name!r}; it has: {known}")
