"""Feeds of events: we call the vendor, which holds the call open until something happens.

The vendor calls no address of ours. Values and generators that do no I/O.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from connectors.kernel.messages import Checkpoint, Context, Request, Response
from connectors.kernel.webhooks import Event


@dataclass(frozen=True, kw_only=True)
class FeedGap:
    """A time of which the feed did not tell everything: these streams are read from then on."""

    streams: tuple[str, ...]
    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True)
class EventBatch:
    """Events that came, and where the feed stands once they are stored."""

    events: Sequence[Event]
    checkpoint: Checkpoint
    missed: Sequence[FeedGap] = ()


# Yields a Request and is sent its Response, or yields what was Heard, or a time to wait, and is
# sent None. It goes on until it raises a ConnectorError: NotAllowedError where the account has no
# such feed.
Listener: TypeAlias = Generator[Request | EventBatch | timedelta, Response | None, None]


@dataclass(frozen=True, kw_only=True)
class Feed:
    """How a vendor's events are listened to.

    `listen` goes on from a checkpoint; an empty one begins now. `held` is how long the vendor holds
    a call at the most. `wanted` names the question that a tenant answers with `yes` who wants us to
    listen.
    """

    listen: Callable[[Checkpoint, Context], Listener]
    held: timedelta
    wanted: str
