"""What atom-sync can talk to: a module or a package for each integration, found by its name.

`kernel` holds what all connectors share; what stands here is what a connector imports of it. A
folder with an underscore is shared by the integrations of one vendor.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from connectors.kernel.auth import (
    Account,
    ApiKey,
    Callback,
    Doubt,
    OAuth2,
    Question,
    Revocation,
    SettingsForm,
    Verdict,
)
from connectors.kernel.connector import Category, Connector, RateLimit, SyncType
from connectors.kernel.errors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    RetryableError,
    SignatureError,
    UnknownKeyError,
)
from connectors.kernel.feeds import EventBatch, Feed, FeedGap, Listener
from connectors.kernel.messages import (
    Calls,
    Checkpoint,
    Column,
    Context,
    Gone,
    ListedKeys,
    Page,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    Stream,
    Unread,
    ask,
    ask_all,
    column,
    columns,
)
from connectors.kernel.positions import AtPage, Position
from connectors.kernel.webhooks import (
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Reply,
    VerificationKeys,
    Watch,
    WatchRequest,
    Webhook,
    each_event,
    one_resource,
)
from connectors.kernel.words import Words, say

__all__ = [
    "Account",
    "ApiKey",
    "AtPage",
    "BrokenConnectionError",
    "Callback",
    "Calls",
    "Category",
    "Checkpoint",
    "CheckpointExpiredError",
    "Column",
    "Connector",
    "ConnectorError",
    "Context",
    "ContractError",
    "Delivery",
    "Doubt",
    "Effect",
    "Event",
    "EventBatch",
    "Feed",
    "FeedGap",
    "Gone",
    "ListedKeys",
    "Listener",
    "MadeWatch",
    "NoWatch",
    "NotAllowedError",
    "OAuth2",
    "Page",
    "Position",
    "ProviderUnavailableError",
    "Question",
    "RateLimit",
    "RateLimitedError",
    "Reader",
    "Reading",
    "Record",
    "Reply",
    "Request",
    "Response",
    "RetryableError",
    "Revocation",
    "SettingsForm",
    "SignatureError",
    "Steps",
    "Stream",
    "SyncType",
    "UnknownKeyError",
    "Unread",
    "Verdict",
    "VerificationKeys",
    "Watch",
    "WatchRequest",
    "Webhook",
    "Words",
    "all_connectors",
    "ask",
    "ask_all",
    "column",
    "columns",
    "each_event",
    "load",
    "names",
    "one_resource",
    "say",
]


@cache
def load(name: str) -> Connector:
    """The connector of `connectors/<name>`; LookupError names those there are."""
    if name not in names():
        raise LookupError(f"no integration {name!r}; there are: {', '.join(names())}")
    connector: Connector = import_module(f"connectors.{name}").connector
    return connector


def all_connectors() -> tuple[Connector, ...]:
    """Every connector, by name."""
    return tuple(load(name) for name in names())


@cache
def names() -> tuple[str, ...]:
    """The name of every connector."""
    found = (module.name for module in iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "kernel" and not name.startswith("_")))
