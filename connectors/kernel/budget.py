"""Rate budgets in Redis, shared by every process: who calls a vendor asks here first.

A budget is what a connector's `RateLimit` allows. A vendor's 429 closes it for all until its time.
When Redis is away each process keeps a budget of its own: a sync never fails for that.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol, TypeVar

import redis.asyncio
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import (
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from connectors.kernel.clock import SYSTEM_CLOCK, Clock
from connectors.kernel.connector import Connector, RateLimit
from connectors.kernel.errors import ContractError, RateLimitedError
from connectors.kernel.messages import Request

MAX_WAIT = timedelta(minutes=5)
REDIS_TIMEOUT = timedelta(seconds=2)
# A moving window keeps an entry for each unit; beyond this two counters do (within a few per cent).
EXACT_UP_TO = 20_000
PREFIX = "atom-sync"
SHORTEST_WAIT = 0.02
# After so many new ones a process looks through the owners of its own budgets.
OWNERS = 1_000
# Owner of a budget that all accounts of our app share.
APP = "*"

Scope = Literal["account", "app"]
T = TypeVar("T")
log = logging.getLogger(__name__)


class Budget:
    """The process's access to all budgets; None as `redis_url` keeps them in this process.

    A Redis that went away is asked again after `redis_retry`.
    """

    def __init__(
        self,
        redis_url: str | None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        redis_retry: timedelta = timedelta(seconds=5),
    ) -> None:
        self._clock = clock
        self._redis_retry = redis_retry.total_seconds()
        self._shared = _Shared(redis_url) if redis_url else None
        self._local = _Local(clock)
        self._away_until: float | None = None

    async def spend(self, connector: Connector, account_id: str, request: Request) -> None:
        """Take the request's cost, waiting for room; RateLimitedError if that takes too long.

        A name that no limit of the connector has is ContractError: it would be no limit at all.
        """
        unpaid = [limit for limit in connector.rate_limits if limit.name == request.budget]
        if request.budget and not unpaid:
            raise ContractError(_undeclared(connector, request.budget))
        waited = 0.0
        while wait := await self._pay(connector, account_id, request, unpaid):
            if waited + wait > MAX_WAIT.total_seconds():
                raise RateLimitedError(
                    f"{connector.title} takes no more requests for now",
                    retry_after=timedelta(seconds=wait),
                )
            # Without jitter all that wait would come back in the same instant.
            wait += random.uniform(0, min(1.0, 0.05 + wait / 5))  # noqa: S311
            await self._clock.sleep(wait)
            waited += wait

    async def close_until(
        self,
        connector: Connector,
        account_id: str,
        retry_after: timedelta,
        scope: Scope = "account",
        *,
        budget: str = "",
    ) -> None:
        """Let nobody spend from the budget of that name for `retry_after`."""
        key = _closed_key(connector.name, budget, account_id if scope == "account" else APP)
        seconds = retry_after.total_seconds()
        if seconds <= 0:
            return
        await self._local.close(key, seconds)
        if shared := self._reachable():
            try:
                await shared.close(key, seconds)
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(error)

    async def admit(self, service: str, owner: str, limit: RateLimit) -> float:
        """Take one unit of a limit that a service of ours sets, never waiting.

        The seconds until there is room; 0 when it was taken.
        """
        names = (service, limit.name, owner)
        return await self._ask(lambda ledger: ledger.take(limit, names, 1, exact=False))

    async def left(self, service: str, owner: str, limit: RateLimit) -> tuple[int, float]:
        """How many units there are still, and in how many seconds there will be more."""
        names = (service, limit.name, owner)
        return await self._ask(lambda ledger: ledger.left(limit, names, exact=False))

    async def aclose(self) -> None:
        if self._shared:
            await self._shared.aclose()

    async def _pay(
        self, connector: Connector, account_id: str, request: Request, unpaid: list[RateLimit]
    ) -> float:
        """Pay one limit after the other; the seconds to wait, and those still unpaid, remain."""
        return await self._ask(lambda ledger: _pay(ledger, connector, account_id, request, unpaid))

    async def _ask(self, question: Callable[["_Ledger"], Awaitable[T]]) -> T:
        """What the shared ledger answers; this process's own while Redis is away."""
        if shared := self._reachable():
            try:
                answer = await question(shared)
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(error)
            else:
                self._found()
                return answer
        return await question(self._local)

    def _reachable(self) -> "_Shared | None":
        if self._away_until is not None and time.monotonic() < self._away_until:
            return None
        return self._shared

    def _lost(self, error: Exception) -> None:
        if self._away_until is None:
            log.warning(
                "Redis is away (%s): rate budgets are kept in this process until it is back",
                type(error).__name__,
            )
        self._away_until = time.monotonic() + self._redis_retry

    def _found(self) -> None:
        if self._away_until is not None:
            self._away_until = None
            log.warning("Redis is back: rate budgets are shared again")


class _Ledger(Protocol):
    """Where spending is written down.

    `room` says in how many seconds there is room, 0 when there is now. `take` spends at once or not
    at all, and says the same: 0 when it was taken.
    """

    async def room(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float: ...
    async def take(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float: ...
    async def left(
        self, limit: RateLimit, names: Sequence[str], *, exact: bool
    ) -> tuple[int, float]: ...
    async def closed(self, keys: Sequence[str]) -> float: ...
    async def close(self, key: str, seconds: float) -> None: ...


class _Shared:
    def __init__(self, url: str) -> None:
        plain = url.removeprefix("async+").replace("redis+unix://", "unix://", 1)
        self._pool = redis.asyncio.ConnectionPool.from_url(
            plain,
            socket_timeout=REDIS_TIMEOUT.total_seconds(),
            socket_connect_timeout=REDIS_TIMEOUT.total_seconds(),
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = redis.asyncio.Redis(connection_pool=self._pool)
        storage = RedisStorage(
            "async+" + plain.replace("unix://", "redis+unix://", 1),
            implementation="redispy",
            key_prefix=PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type] # passed on to redis-py as it is
        )
        self._moving = MovingWindowRateLimiter(storage)
        self._counting = SlidingWindowCounterRateLimiter(storage)

    async def room(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float:
        item = _item(limit)
        stats = await self._limiter(exact).get_window_stats(item, *names)
        if stats.remaining >= cost:
            return 0.0
        wait = min(stats.reset_time - time.time(), float(item.get_expiry()))
        return max(SHORTEST_WAIT, wait)

    async def take(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float:
        if await self._limiter(exact).hit(_item(limit), *names, cost=cost):
            return 0.0
        return await self.room(limit, names, cost, exact=exact) or SHORTEST_WAIT

    async def left(
        self, limit: RateLimit, names: Sequence[str], *, exact: bool
    ) -> tuple[int, float]:
        item = _item(limit)
        stats = await self._limiter(exact).get_window_stats(item, *names)
        reset, longest = stats.reset_time - time.time(), float(item.get_expiry())
        # Of a window that has just begun the library says that it ends now (limits 5.8).
        return stats.remaining, reset if 0 < reset < longest else longest

    def _limiter(self, exact: bool) -> RateLimiter:
        return self._moving if exact else self._counting

    async def closed(self, keys: Sequence[str]) -> float:
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        remaining: list[int] = await pipeline.execute()
        return max(0, *remaining) / 1000

    async def close(self, key: str, seconds: float) -> None:
        milliseconds = max(1, round(seconds * 1000))
        if await self._redis.set(key, 1, px=milliseconds, nx=True):
            return
        if await self._redis.pttl(key) < milliseconds:
            await self._redis.set(key, 1, px=milliseconds)

    async def aclose(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()


@dataclass
class _Window:
    """What was spent in the last `seconds`, the oldest first, and how much that is."""

    seconds: int
    spent: deque[tuple[float, int]] = field(default_factory=deque)
    held: int = 0

    def move(self, now: float) -> None:
        while self.spent and self.spent[0][0] <= now - self.seconds:
            self.held -= self.spent.popleft()[1]


class _Local:
    """Counts in this process, by the kernel's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed: dict[str, float] = {}
        self._windows: dict[tuple[str, ...], _Window] = {}

    async def room(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float:
        now, window = self._window(limit, names)
        if window.held + cost <= limit.amount:
            return 0.0
        return max(SHORTEST_WAIT, window.spent[0][0] + window.seconds - now)

    async def take(
        self, limit: RateLimit, names: Sequence[str], cost: int, *, exact: bool
    ) -> float:
        wait = await self.room(limit, names, cost, exact=exact)
        if not wait:
            now, window = self._window(limit, names)
            window.held += cost
            window.spent.append((now, cost))
        return wait

    async def left(
        self, limit: RateLimit, names: Sequence[str], *, exact: bool
    ) -> tuple[int, float]:
        now, window = self._window(limit, names)
        reset = window.spent[0][0] + window.seconds - now if window.spent else 0.0
        return max(0, limit.amount - window.held), max(0.0, reset)

    def _window(self, limit: RateLimit, names: Sequence[str]) -> "tuple[float, _Window]":
        """The time, and what was spent of the limit in the window that ends with it."""
        now, seconds = self._clock.now().timestamp(), _seconds(limit)
        key = (*names, str(limit.amount), str(seconds))
        window = self._windows.get(key)
        if window is None:
            self._forget(now)
            window = self._windows[key] = _Window(seconds)
        window.move(now)
        return now, window

    def _forget(self, now: float) -> None:
        """Owners who spend no more would otherwise be kept for good."""
        if len(self._windows) % OWNERS == OWNERS - 1:
            for key, window in list(self._windows.items()):
                window.move(now)
                if not window.spent:
                    del self._windows[key]

    async def closed(self, keys: Sequence[str]) -> float:
        now = self._clock.now().timestamp()
        return max(0.0, *(self._closed.get(key, 0.0) - now for key in keys))

    async def close(self, key: str, seconds: float) -> None:
        now = self._clock.now().timestamp()
        self._closed = {name: until for name, until in self._closed.items() if until > now}
        self._closed[key] = max(self._closed.get(key, 0.0), now + seconds)


async def _pay(
    ledger: _Ledger,
    connector: Connector,
    account_id: str,
    request: Request,
    unpaid: list[RateLimit],
) -> float:
    names = [_closed_key(connector.name, request.budget, owner) for owner in (account_id, APP)]
    if wait := await ledger.closed(names):
        return wait
    if request.cost == 0:
        return 0.0
    spent = [_spending(connector, account_id, request, limit) for limit in unpaid]
    if len(spent) > 1:
        # Room in all of them first: of a limit that is paid while another has still to be waited
        # for, the time is over before it is over at the vendor, who counts what arrives.
        waits = [await ledger.room(*each, exact=_is_exact(each[0])) for each in spent]
        if longest := max(waits):
            return longest
    for each in spent:
        if wait := await ledger.take(*each, exact=_is_exact(each[0])):
            return wait
        unpaid.pop(0)
    return 0.0


def _undeclared(connector: Connector, budget: str) -> str:
    names = ", ".join(sorted({limit.name for limit in connector.rate_limits if limit.name}))
    return (
        f"{connector.title} has no rate budget {budget!r}: declare a RateLimit of that name in "
        f"connectors.{connector.name}, which has {names or 'none by name'}"
    )


def _spending(
    connector: Connector, account_id: str, request: Request, limit: RateLimit
) -> tuple[RateLimit, tuple[str, str, str], int]:
    """The limit, the key of its owner, and the cost of the request."""
    owner = account_id if limit.scope == "account" else APP
    return limit, (connector.name, limit.name, owner), min(request.cost, limit.amount)


def _is_exact(limit: RateLimit) -> bool:
    return limit.amount <= EXACT_UP_TO


def _item(limit: RateLimit) -> RateLimitItem:
    return RateLimitItemPerSecond(limit.amount, _seconds(limit), PREFIX)


def _seconds(limit: RateLimit) -> int:
    return max(1, round(limit.per.total_seconds()))


def _closed_key(connector: str, budget: str, owner: str) -> str:
    return f"{PREFIX}:closed:{connector}:{budget}:{owner}"
