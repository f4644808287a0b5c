"""The vendors' rate limits, enforced: a sliding window for each limit and account."""

from collections import defaultdict, deque
from collections.abc import Sequence

from sandbox.kernel.clock import Clock
from sandbox.kernel.oauth import Call
from sandbox.kernel.vendor import Limit, Usage


class Meter:
    """Counts one vendor's calls. `scale` multiplies every limit."""

    def __init__(self, clock: Clock, limits: Sequence[Limit]) -> None:
        self.scale = 1.0
        self._clock = clock
        self._limits = limits
        self._spent: defaultdict[tuple[str, str], deque[tuple[float, int]]] = defaultdict(deque)
        self._held: defaultdict[tuple[str, str], int] = defaultdict(int)

    def take(self, call: Call) -> tuple[list[Usage], Limit | None]:
        """Spends what the call costs: how its limits stand, and the one that forbids it if any."""
        now, account = self._clock.time(), call.account.id
        costs = [(limit, cost) for limit in self._limits if (cost := limit.cost(call))]
        hit = next((limit for limit, cost in costs if self._left(limit, account, now) < cost), None)
        if hit is None:
            for limit, cost in costs:
                self._spent[limit.name, account].append((now, cost))
                self._held[limit.name, account] += cost
        return [self._usage(limit, account, now) for limit, _ in costs], hit

    def _left(self, limit: Limit, account: str, now: float) -> int:
        spent = self._spent[limit.name, account]
        while spent and spent[0][0] <= now - limit.per:
            self._held[limit.name, account] -= spent.popleft()[1]
        return int(limit.amount * self.scale) - self._held[limit.name, account]

    def _usage(self, limit: Limit, account: str, now: float) -> Usage:
        left = self._left(limit, account, now)
        spent = self._spent[limit.name, account]
        reset = spent[0][0] + limit.per - now if spent else 0.0
        return Usage(limit, int(limit.amount * self.scale), max(left, 0), reset)
