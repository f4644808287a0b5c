"""Notices that wait to be sent, in order for each account at each address."""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from sandbox.kernel.webhooks import Notice

# What may go together, the address's id, the account.
DeliveryQueue: TypeAlias = tuple[Hashable, str, str]


@dataclass(frozen=True)
class Load:
    """Notices for one call, and the lanes that are busy until it is over."""

    notices: tuple[Notice, ...]
    lanes: tuple[DeliveryQueue, ...]


class DeliveryQueues:
    """A lane gives its notices from the first to the last, and none while it is busy.

    A loose notice is in no lane: it is taken in any order, at any time.
    """

    def __init__(self, random: Random) -> None:
        self.count = 0
        self._random = random
        self._waiting: dict[DeliveryQueue, deque[Notice]] = {}
        self._busy: set[DeliveryQueue] = set()
        # By what may go together: the lanes that wait and are not busy, the longest wait first.
        self._ready: dict[Hashable, dict[DeliveryQueue, None]] = {}
        self._loose: dict[Hashable, list[Notice]] = {}

    def put(self, notice: Notice, group: Hashable, *, loose: bool = False) -> None:
        self.count += 1
        if loose:
            self._loose.setdefault(group, []).append(notice)
            return
        lane = (group, notice.address.id, notice.event.account_id)
        self._waiting.setdefault(lane, deque()).append(notice)
        self._offer(lane)

    def take(self, most: int) -> Load | None:
        """The next notices that may go together, `most` of them at most."""
        if self._loose:
            return self._draw(most)
        if not self._ready:
            return None
        group = next(iter(self._ready))
        # The group goes to the end: no address waits for another's long queue.
        ready = self._ready.pop(group)
        notices: list[Notice] = []
        lanes: list[DeliveryQueue] = []
        while ready and len(notices) < most:
            lane = next(iter(ready))
            del ready[lane]
            queue = self._waiting[lane]
            notices += [queue.popleft() for _ in range(min(len(queue), most - len(notices)))]
            if not queue:
                del self._waiting[lane]
            lanes.append(lane)
        if ready:
            self._ready[group] = ready
        self._busy.update(lanes)
        self.count -= len(notices)
        return Load(tuple(notices), tuple(lanes))

    def free(self, lanes: Iterable[DeliveryQueue]) -> None:
        """The lanes' call is over."""
        for lane in lanes:
            self._busy.discard(lane)
            if lane in self._waiting:
                self._offer(lane)

    def clear(self) -> None:
        """Nothing waits, and nothing is busy."""
        self.count = 0
        for held in (self._waiting, self._busy, self._ready, self._loose):
            held.clear()

    def _offer(self, lane: DeliveryQueue) -> None:
        if lane not in self._busy:
            self._ready.setdefault(lane[0], {}).setdefault(lane)

    def _draw(self, most: int) -> Load:
        group, notices = next(iter(self._loose.items()))
        drawn: list[Notice] = []
        while notices and len(drawn) < most:
            place = self._random.randrange(len(notices))
            notices[place], notices[-1] = notices[-1], notices[place]
            drawn.append(notices.pop())
        if not notices:
            del self._loose[group]
        self.count -= len(drawn)
        return Load(tuple(drawn), ())
