"""How often each tier's connections sync: the table, and what follows from it. Pure functions.

A schedule *ticks*, and each tick starts a dispatcher that syncs what is due. Ticks and due times
are slots of fixed grids: no slot depends on when a sync began or ended, so none drifts, and what
is synced late once is not late ever after. A connection's slots are ticks of its schedule, one in
so many; its id decides which, so that a tier's connections are spread over its interval.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from connectors import Connector, Stream, SyncType
from storage.models import Tier
from storage.shards import shard_of

if TYPE_CHECKING:
    from settings import Settings

WEEKLY = timedelta(weeks=1)
DAILY = timedelta(days=1)
HOURLY = timedelta(hours=1)
EVERY_15_MINUTES = timedelta(minutes=15)
REAL_TIME = timedelta(minutes=5)

# How far a tier's connections may be behind the vendor, by how its changes reach us.
Intervals: TypeAlias = Mapping[Tier, Mapping[SyncType, timedelta]]

# A stream that no event covers counts as PULL whatever its connector says. The polls of PUSH are a
# backup: vendors drop webhooks without a word.
SYNC_INTERVALS: Intervals = MappingProxyType(
    {
        Tier.FREE: {SyncType.PULL: WEEKLY, SyncType.HYBRID: WEEKLY, SyncType.PUSH: WEEKLY},
        Tier.SOLO: {SyncType.PULL: DAILY, SyncType.HYBRID: DAILY, SyncType.PUSH: WEEKLY},
        Tier.TEAM: {SyncType.PULL: HOURLY, SyncType.HYBRID: HOURLY, SyncType.PUSH: WEEKLY},
        Tier.ENTERPRISE: {
            SyncType.PULL: REAL_TIME,
            SyncType.HYBRID: EVERY_15_MINUTES,
            SyncType.PUSH: HOURLY,
        },
    }
)
# No feed is believed for ever: so often every stream is checked against what the vendor lists.
AUDIT_INTERVAL = timedelta(days=30)
AUDIT = "audit"
_KINDS = (*SYNC_INTERVALS[Tier.FREE], AUDIT)
SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(weeks=52)

# A dispatcher takes what is due up to this long after its `now`: the clocks of Prefect, PostgreSQL
# and a worker differ a little, and a slot is exactly a tick.
AHEAD = timedelta(seconds=30)

# A schedule for so many connections each, and never more: one deployment with hundreds of schedules
# takes the Prefect UI half a minute to open.
SHARD_SIZE, MOST_SHARDS = 200, 20

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_GOLDEN = (5**0.5 - 1) / 2
_CELL = re.compile(r"([A-Z]+)\.([A-Z]+)\s*=\s*([1-9]\d{0,5})([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def read_intervals(text: str) -> Intervals:
    """The table with the cells that an operator has changed: `TEAM.PULL=30m, FREE.PUSH=2w`.

    ValueError says what a wrong one should look like.
    """
    table = {tier: dict(row) for tier, row in SYNC_INTERVALS.items()}
    for tier, kind, interval in _cells(text):
        if kind != AUDIT:
            table[tier][SyncType(kind)] = interval
    return table


def read_audit_intervals(text: str) -> Mapping[Tier, timedelta]:
    """How often each tier's streams are checked against what the vendor lists: `TEAM.AUDIT=2w`."""
    changed = {tier: interval for tier, kind, interval in _cells(text) if kind == AUDIT}
    return {tier: changed.get(tier, AUDIT_INTERVAL) for tier in Tier}


def audit_intervals(
    settings: "Settings", streams: Iterable[Stream], tier: Tier
) -> dict[str, timedelta]:
    """How often each of these streams is checked; once a week at least where it hides deletes, and
    never where there is nothing to check it against."""
    every = settings.audit_intervals[tier]
    return {
        stream.name: min(every, WEEKLY) if stream.hides_deletes else every
        for stream in streams
        if not stream.from_now_on
    }


def _cells(text: str) -> Iterator[tuple[Tier, str, timedelta]]:
    for cell in filter(None, (part.strip() for part in text.split(","))):
        found = _CELL.fullmatch(cell)
        tier, kind = (found[1], found[2].lower()) if found else ("", "")
        if found is None or tier not in SYNC_INTERVALS or kind not in _KINDS:
            raise ValueError(
                f"{cell!r} should look like TEAM.PULL=30m: one of {', '.join(Tier)}, then PULL,"
                " HYBRID, PUSH or AUDIT, then a number of minutes, hours, days or weeks"
                " (m, h, d, w)"
            )
        interval = int(found[3]) * _UNITS[found[4]]
        if not SHORTEST <= interval <= LONGEST:
            raise ValueError(f"{cell!r} is not between a minute and 52 weeks")
        yield Tier(tier), kind, interval


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
    def of(cls, settings: "Settings", connector: Connector, tier: Tier) -> "PollPolicy":
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


def unset(settings: "Settings", connector: Connector) -> list[str]:
    """What the integration's webhooks and watches need, and the operator has not set."""
    needed = [connector.webhook.verified_by] if connector.webhook else []
    needed += connector.watch.needs if connector.watch else ()
    return [name for name in needed if name and not getattr(settings, name.lower(), None)]


def in_words(interval: timedelta) -> str:
    """`hourly`, `every 15 minutes`: an interval as people say it."""
    for word, unit in (("weekly", WEEKLY), ("daily", DAILY), ("hourly", HOURLY)):
        if interval == unit:
            return word
    for name, unit in (("weeks", WEEKLY), ("days", DAILY), ("hours", HOURLY)):
        if not interval % unit:
            return f"every {interval // unit} {name}"
    minutes = interval / timedelta(minutes=1)
    return "every minute" if minutes == 1 else f"every {minutes:g} minutes"


def _share(words: str) -> float:
    """The same number from 0 up to 1 for the same words, and others for others."""
    return int.from_bytes(blake2b(words.encode(), digest_size=6).digest()) / 2**48
