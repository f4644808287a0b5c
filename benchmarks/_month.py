"""A month of due times, computed: a week of minutes, which repeats itself.

Every interval of the table divides a week, so what holds for one holds for all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from uuid import UUID

from benchmarks.vendor.benchmark import connector
from connectors import Connector
from deployments.tiers import EPOCH, PollPlan, PollPolicy, shards_of
from settings.intervals import SYNC_INTERVALS
from storage.models import Tier

MINUTE, WEEK = timedelta(minutes=1), timedelta(weeks=1)


@dataclass(frozen=True)
class Month:
    """How many connections become due in each minute of a week; `off` are not due as often, or as
    regularly, as their tier says."""

    minutes: Sequence[int]
    off: Sequence[UUID]

    @property
    def worst(self) -> float:
        """The highest load of a minute, in means of the minutes of its hour."""
        hours = (self.minutes[start : start + 60] for start in range(0, len(self.minutes), 60))
        return max(max(hour) * 60 / sum(hour) for hour in hours)


def month(connections: int, names: Sequence[str]) -> Month:
    """So many connections, evenly to these integrations and the four tiers, all of them polled."""
    chance = Random(1)
    minutes, off = [0] * int(WEEK / MINUTE), []
    groups = [(name, tier) for name in names for tier in Tier]
    size = connections // len(groups)
    for name, tier in groups:
        policy = _policy(name, tier)
        firsts: Counter[int] = Counter()
        for _ in range(size):
            connection_id = UUID(int=chance.getrandbits(128), version=4)
            plan = PollPlan(policy, connection_id, shards=shards_of(size))
            first = plan.next_due(EPOCH)
            firsts[int((first - EPOCH) / MINUTE)] += 1
            if plan.next_due(first) - first != SYNC_INTERVALS[tier][connector.sync_type]:
                off.append(connection_id)
        step = int(SYNC_INTERVALS[tier][connector.sync_type] / MINUTE)
        for first_minute, due in firsts.items():
            for minute in range(first_minute % step, len(minutes), step):
                minutes[minute] += due
    return Month(minutes, off)


def _policy(name: str, tier: Tier) -> PollPolicy:
    found = Connector(**{**vars(connector), "name": name})
    return PollPolicy(connector=found, tier=tier, configured=False, table=SYNC_INTERVALS)
