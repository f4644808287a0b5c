"""What atom-sync can talk to: one module an integration, found by its file name."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from connectors._errors import (
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
from connectors._feeds import EventBatch, Feed, FeedGap, Listener
from connectors._types import (
    Account,
    ApiKey,
    Callback,
    Checkpoint,
    Column,
    Connector,
    Context,
    Gone,
    ListedKeys,
    OAuth2,
    Page,
    Question,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Unread,
    Verdict,
    column,
)
from connectors._webhooks import (
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

__all__ = [
    "Account",
    "ApiKey",
    "BrokenConnectionError",
    "Callback",
    "Checkpoint",
    "CheckpointExpiredError",
    "Column",
    "Connector",
    "ConnectorError",
    "Context",
    "ContractError",
    "Delivery",
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
    "ProviderUnavailableError",
    "Question",
    "RateLimit",
    "RateLimitedError",
    "Reader",
    "Record",
    "Reply",
    "Request",
    "Response",
    "RetryableError",
    "SignatureError",
    "Stream",
    "SyncType",
    "UnknownKeyError",
    "Unread",
    "Verdict",
    "VerificationKeys",
    "Watch",
    "WatchRequest",
    "Webhook",
    "all_connectors",
    "column",
    "each_event",
    "load",
    "one_resource",
]


@cache
def load(name: str) -> Connector:
    """The connector in `connectors/<name>.py`; LookupError names those there are."""
    if name.startswith("_") or name not in _names():
        raise LookupError(f"no integration {name!r}; there are: {', '.join(_names())}")
    connector: Connector = import_module(f"connectors.{name}").connector
    return connector


def all_connectors() -> tuple[Connector, ...]:
    """Every connector, by name."""
    return tuple(load(name) for name in _names())


@cache
def _names() -> tuple[str, ...]:
    return tuple(
        sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_"))
    )
