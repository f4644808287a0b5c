"""One vendor's deliveries: what waits, what is on its way, and what became of it."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeAlias

from sandbox.kernel.clock import Clock
from sandbox.kernel.queues import DeliveryQueue, DeliveryQueues
from sandbox.kernel.sender import HttpSender
from sandbox.kernel.values import Address, Json
from sandbox.kernel.watches import Watches
from sandbox.kernel.webhooks import AppResponse, Delivery, Event, Notice, Sender, forged

LOG_LENGTH = 10_000
# A log line names so many of a delivery's accounts.
NAMED = 10

logger = logging.getLogger(__name__)


@dataclass
class DeliveryControls:
    """What was ordered. Of numbers, so many of the next: deliveries that are `drop`ped without a
    word or sent twice (`duplicate`), calls that are sent by somebody who does not know the
    secret (`forge`). `delay` is in seconds, between an event and its delivery. While `shuffle` is
    on, new events are sent in any order. 0 for `batch` and `concurrency`: as the vendor has it.
    """

    paused: bool = False
    shuffle: bool = False
    drop: int = 0
    duplicate: int = 0
    forge: int = 0
    delay: float = 0.0
    retry_scale: float = 1.0
    batch: int = 0
    concurrency: int = 0


@dataclass
class Counts:
    """Events that were told; deliveries made, acknowledged, given up; notices dropped, by order or
    because the vendor drops them; calls sent."""

    events: int = 0
    made: int = 0
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass
class Carried:
    """A delivery on its way. An `extra` one is a copy that a test ordered: it is not retried."""

    delivery: Delivery
    lanes: tuple[DeliveryQueue, ...] = ()
    extra: bool = False


Later: TypeAlias = Event | Notice | Carried


@dataclass
class Outbox:
    """A vendor's sending side.

    `watches` are those at all vendors of the OAuth server. `consents` lists an account's: of one
    without any the app hears nothing.
    """

    clock: Clock
    sender: Sender
    post: HttpSender
    watches: Watches
    consents: Callable[[str], Sequence[object]]
    app: Address | None = None
    orders: DeliveryControls = field(default_factory=DeliveryControls)
    counts: Counts = field(default_factory=Counts)
    log: deque[Json] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    in_flight: int = 0

    def __post_init__(self) -> None:
        self._lanes = DeliveryQueues(Random())
        self._later: list[tuple[float, int, Later]] = []
        self._due: deque[Carried] = deque()
        self._turn = count()
        self._numbers: Counter[str] = Counter()
        self._last: dict[tuple[str, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False

    def tell(self, account_id: str, what: Any, *, at: datetime | None = None) -> None:
        """Something happened in an account, now or `at` a later time of the sandbox's clock."""
        event = Event(account_id=account_id, at=at or self.clock.now(), what=what)
        if at is None:
            self._spread(event)
        else:
            self._put_off(at.timestamp(), event)

    def wake(self) -> None:
        """Sees soon what there is to send; called whenever that may have changed."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._fill)

    def standing(self) -> Json:
        """The counts, those that change with time too; `idle` when nothing is left to send."""
        retrying = sum(isinstance(each, Carried) for _, _, each in self._later) + len(self._due)
        waiting = self._lanes.count + sum(isinstance(each, Notice) for _, _, each in self._later)
        left = {"waiting": waiting, "retrying": retrying, "in_flight": self.in_flight}
        return {**asdict(self.counts), **left, "idle": not any(left.values())}

    def clear(self) -> None:
        """Forgets what was sent and what is still to be sent; ends the calls that are open."""
        for task in self._tasks:
            task.cancel()
        self.counts = Counts()
        self._lanes.clear()
        self._later.clear()
        self._due.clear()
        self.log.clear()

    async def close(self) -> None:
        """Sends nothing any more."""
        self.orders.paused = True
        self.clear()
        if self._timer:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spread(self, event: Event) -> None:
        """Puts an event's notices in their lanes."""
        if not self.consents(event.account_id):
            return
        self.counts.events += 1
        for notice in self.sender.notices(event, self):
            if self._is_surplus(notice):
                self.counts.dropped += 1
                continue
            self._numbers[notice.address.id] += 1
            numbered = replace(notice, number=self._numbers[notice.address.id])
            if self.orders.delay:
                self._put_off(self.clock.time() + self.orders.delay, numbered)
            else:
                self._queue(numbered)

    def _is_surplus(self, notice: Notice) -> bool:
        if not self.sender.spacing:
            return False
        place, now = (notice.address.id, notice.event.account_id), self.clock.time()
        if now - self._last.get(place, 0.0) < self.sender.spacing:
            return True
        self._last[place] = now
        return False

    def _queue(self, notice: Notice) -> None:
        group = self.sender.together(notice)
        self._lanes.put(notice, group, loose=self.orders.shuffle)
        self.wake()

    def _put_off(self, due: float, later: Later) -> None:
        heappush(self._later, (due, next(self._turn), later))
        self.wake()

    def _ripen(self) -> None:
        """What was put off until now is due."""
        while self._later and self._later[0][0] <= self.clock.time():
            _, _, later = heappop(self._later)
            match later:
                case Event():
                    self._spread(later)
                case Notice():
                    self._queue(later)
                case Carried():
                    self._due.append(later)

    def _fill(self) -> None:
        """Starts as many calls as may be open."""
        self._woken = False
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._ripen()
        most = self.orders.concurrency or self.sender.concurrency
        while not self.orders.paused and self.in_flight < most and (carried := self._next()):
            self.in_flight += 1
            task = asyncio.get_running_loop().create_task(self._carry(carried))
            self._tasks.add(task)
            task.add_done_callback(partial(self._over, carried))
        if self._later:
            left = max(0.0, self._later[0][0] - self.clock.time())
            self._timer = asyncio.get_running_loop().call_later(left, self.wake)

    def _next(self) -> Carried | None:
        if self._due:
            return self._due.popleft()
        while load := self._lanes.take(self.orders.batch or self.sender.batch):
            if not self.orders.drop:
                self.counts.made += 1
                now = self.clock.now()
                return Carried(Delivery(notices=load.notices, made_at=now, now=now), load.lanes)
            self.orders.drop -= 1
            self.counts.dropped += len(load.notices)
            self._lanes.free(load.lanes)
        return None

    async def _carry(self, carried: Carried) -> None:
        """Makes one call of a delivery, and sees what comes of it."""
        sender = self.sender
        delivery = carried.delivery = replace(
            carried.delivery, now=self.clock.now(), notices=self._addressed(carried.delivery)
        )
        if forge := self.orders.forge > 0:
            self.orders.forge -= 1
            delivery = forged(delivery)
        if delivery.attempt == 1 and self.orders.duplicate > 0 and not carried.extra:
            self.orders.duplicate -= 1
            self._due.append(Carried(carried.delivery, extra=True))
            self.wake()
        self.counts.sent += 1
        began = asyncio.get_running_loop().time()
        message = sender.compose(delivery)
        answered = await self.post.call(message, sender.deadline)
        received = answered.status > 0 and sender.acknowledges(answered)
        seconds = asyncio.get_running_loop().time() - began
        self.log.append(_entry(carried, answered, received, forged=forge, seconds=seconds))
        if not carried.extra:
            self._settle(carried, answered, received)

    def _addressed(self, delivery: Delivery) -> tuple[Notice, ...]:
        """The notices, with the app's address and secret as they are now."""
        app = self.app
        if app is None or delivery.address.id:
            return delivery.notices
        return tuple(replace(notice, address=app) for notice in delivery.notices)

    def _settle(self, carried: Carried, answered: AppResponse, received: bool) -> None:
        delivery, lanes = carried.delivery, carried.lanes
        wait = None if received else self.sender.retry(delivery, answered)
        if received:
            self.counts.acknowledged += 1
        elif wait is None:
            self.counts.failed += 1
        else:
            due = self.clock.time() + wait * self.orders.retry_scale
            again = replace(delivery, attempt=delivery.attempt + 1)
            self._put_off(due, Carried(again, lanes))
            if self.sender.holds_back:
                return
        self._lanes.free(lanes)

    def _over(self, carried: Carried, task: asyncio.Task[None]) -> None:
        self.in_flight -= 1
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A fault of the sandbox's own: it must not be taken for the vendor's silence.
            logger.error("a delivery could not be made", exc_info=error)
            self.counts.failed += 1
            self._lanes.free(carried.lanes)
        self.wake()


def _entry(
    carried: Carried, answered: AppResponse, received: bool, *, forged: bool, seconds: float
) -> Json:
    delivery = carried.delivery
    accounts = dict.fromkeys(event.account_id for event in delivery.events)
    return {
        "at": delivery.now.isoformat(),
        "delivery": delivery.id,
        "attempt": delivery.attempt,
        "accounts": list(accounts)[:NAMED],
        "events": len(delivery.events),
        "status": answered.status,
        "failure": answered.failure,
        "acknowledged": received,
        "forged": forged,
        "extra": carried.extra,
        "seconds": round(seconds, 4),
    }
