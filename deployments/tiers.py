"""How often each tier's connections sync: the table, and what follows from it. Pure functions.

A schedule *ticks*, and each tick starts a dispatcher that syncs what is due. Ticks and due times
are slots of fixed grids: no slot depends on when a sync began or ended, so none drifts, and what
is synced late once is not late ever after. A connection's slots are ticks of its schedule, one in
so many; its id decides which, so that a tier's connections are spread over its interval.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from math import ceil
from uuid import UUID

from connectors import Connector, Stream, SyncType
from settings import Settings
from settings.intervals import WEEKLY, Intervals
from settings.webhooks import unset
from storage.models import Tier
from storage.shards import shard_of

# A dispatcher takes what is due up to this long after its `now`: the clocks of Prefect, PostgreSQL
# and a worker differ a little, and a slot is exactly a tick.
AHEAD = timedelta(seconds=30)

# A schedule for so many connections each, and never more: one deployment with hundreds of schedules
# takes the Prefect UI half a minute to open.
SHARD_SIZE, MOST_SHARDS = 200, 20

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_GOLDEN = (5**0.5 - 1) / 2


def audit_intervals(
    settings: Settings, streams: Iterable[Stream], tier: Tier
) -> dict[str, timedelta]:
    """How often each of these streams is checked; once a week at least where it hides deletes, and
    never where there is nothing to check it against."""
    every = settings.audit_intervals[tier]
    return {
        stream.name: min(every, WEEKLY) if stream.hides_deletes else every
        for stream in streams
        if not stream.from_now_on
    }


@dataclass(frozen=True)
class Grid:
    """Times that are `interval` apart, for ever: `offset` after the epoch, and so on."""

    interval: timedelta
    offset: timedelta

    def last(self, at: datetime) -> datetime:
        """The slot at that time, or the last one before it."""
        return at - (at - EPOCH - self.offset) % self.interval

    def next(self, after: datetime) -> datetime:
        """The first slot that is later."""
        return self.last(after) + self.interval

    def first(self, at: datetime) -> datetime:
        """The slot at that time, or the first one after it."""
        last = self.last(at)
        return last if last == at else last + self.interval


@dataclass(frozen=True, kw_only=True)
class PollPolicy:
    """How often the connections of one integration and tier are polled.

    `configured` says that the operator has set what the integration's webhooks need.
    """

    connector: Connector
    tier: Tier
    configured: bool
    table: Intervals

    @classmethod
    def of(cls, settings: Settings, connector: Connector, tier: Tier) -> "PollPolicy":
        """As the operator's settings have it."""
        return cls(
            connector=connector,
            tier=tier,
            configured=not unset(settings, connector),
            table=settings.intervals,
        )

    def covered_streams(self, watched: Collection[str]) -> frozenset[str]:
        """The streams of a connection whose changes come by webhooks that work now.

        `watched` are the resources of its live watches; of a vendor that needs none, they do not
        matter.
        """
        webhook, watch = self.connector.webhook, self.connector.watch
        if webhook is None or not self.configured:
            return frozenset()
        if watch is None:
            return frozenset(webhook.covers)
        streams = {stream for resource in watched for stream in watch.streams(resource)}
        return frozenset(webhook.covers) & streams

    def intervals(self, covered: Collection[str]) -> dict[str, timedelta]:
        """How often each stream is polled, of a connection whose webhooks cover these."""
        row, kind = self.table[self.tier], self.connector.sync_type
        return {
            stream.name: max(
                row[kind if stream.name in covered else SyncType.PULL], self.connector.floor
            )
            for stream in self.connector.streams
        }

    @cached_property
    def tick(self) -> timedelta:
        """How often the schedule looks for what is due: as often as any connection may be polled.

        That includes one that has just lost its watch.
        """
        cases = [self.covered_streams(())]
        if self.connector.webhook is not None and self.configured:
            cases.append(frozenset(self.connector.webhook.covers))
        return min(min(self.intervals(streams).values()) for streams in cases)

    def ticks(self, shard: int = 0) -> Grid:
        """When a shard's schedule ticks: integrations, tiers and shards do at different times."""
        place = _share(f"{self.connector.name}/{self.tier}") + shard * _GOLDEN
        return Grid(self.tick, timedelta(seconds=int(place % 1 * self.tick.total_seconds())))


@dataclass(frozen=True)
class PollPlan:
    """How often one connection is polled, and when it is due.

    `watched` are the resources of its live watches; `shards` is how many its schedule has.
    """

    policy: PollPolicy
    connection_id: UUID
    watched: Collection[str] = ()
    shards: int = 1

    @cached_property
    def intervals(self) -> dict[str, timedelta]:
        """How often each of its streams is polled."""
        return self.policy.intervals(self.policy.covered_streams(self.watched))

    @cached_property
    def interval(self) -> timedelta:
        """How often it is polled: as often as its most polled stream."""
        return min(self.intervals.values())

    def next_due(self, after: datetime) -> datetime:
        """The first time later than that at which it is due: a tick. Kept as `next_due_at`.

        A claim says `now + AHEAD`, for that is up to when it took what is due.
        """
        # A stream that is polled less often is read at the first of these after its own slot.
        return self.ticks.first(self._own(self.interval).next(self.ticks.last(after)))

    def last_due(self, stream: str, at: datetime) -> datetime:
        """The last time up to then at which the stream was due."""
        return self.ticks.first(self._own(self.intervals[stream]).last(self.ticks.last(at)))

    def due(self, at: datetime, synced: Mapping[str, datetime | None]) -> tuple[str, ...]:
        """The streams that are due then, given when each was synced last."""
        return tuple(
            stream
            for stream in self.intervals
            if (last := synced.get(stream)) is None or last < self.last_due(stream, at)
        )

    @cached_property
    def ticks(self) -> Grid:
        """When its schedule ticks."""
        return self.policy.ticks(shard_of(self.connection_id, self.shards))

    def _own(self, interval: timedelta) -> Grid:
        return Grid(interval, _share(str(self.connection_id)) * interval)


def shards_of(connections: int) -> int:
    """How many shards so many connections of an integration and tier have."""
    return min(MOST_SHARDS, max(1, ceil(connections / SHARD_SIZE)))


def _share(words: str) -> float:
    """The same number from 0 up to 1 for the same words, and others for others."""
    return int.from_bytes(blake2b(words.encode(), digest_size=6).digest()) / 2**48
