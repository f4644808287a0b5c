"""Group commit: deliveries that come at the same time share a transaction, and wait for it."""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from prometheus_client import Counter

from connectors.kernel.cancellation import end
from storage import DatabaseUnavailableError, inbox
from storage.database import Database
from storage.inbox import Arrival, Received

# So many events share a transaction, and so many may wait for one.
MOST_EVENTS = 2_000
MOST_WAITING = 20_000
# While one commits, the next gathers; two at a time keep both PostgreSQL and us busy.
WRITERS = 2
EVENTS = Counter(
    "atom_webhook_events", "Events by what became of them.", ("integration", "outcome")
)


class BusyError(Exception):
    """More came than can be stored in time; nothing of this delivery was."""


@dataclass(slots=True)
class _Waiting:
    arrivals: Sequence[Arrival]
    stored: asyncio.Future[None]


class Inbox:
    """Stores what is given to it together with what others give at that moment."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._queue: list[_Waiting] = []
        self._waiting = 0
        self._filled = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, wake: Callable[[], None]) -> AsyncIterator["Inbox"]:
        box = cls(database, wake)
        writers = [asyncio.create_task(box._write()) for _ in range(WRITERS)]
        try:
            yield box
        finally:
            await end(*writers)
            for left in box._queue:
                left.stored.cancel()

    async def store(self, arrivals: Sequence[Arrival]) -> None:
        """Returns once they are committed; raises BusyError or DatabaseUnavailableError if not."""
        if not arrivals:
            return
        if self._waiting + len(arrivals) > MOST_WAITING:
            raise BusyError("more is delivered than can be stored now; deliver it again")
        waiting = _Waiting(arrivals, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._waiting += len(arrivals)
        self._filled.set()
        await waiting.stored

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            group = self._next_group()
            if not group:
                self._filled.clear()
                continue
            try:
                await self._commit(group)
            finally:
                for each in group:
                    each.stored.cancel()  # only one that nothing was said to

    def _next_group(self) -> list[_Waiting]:
        count = events = 0
        for waiting in self._queue:
            events += len(waiting.arrivals)
            if count and events > MOST_EVENTS:
                break
            count += 1
        group, self._queue = self._queue[:count], self._queue[count:]
        self._waiting -= sum(len(waiting.arrivals) for waiting in group)
        return group

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        arrivals = [arrival for waiting in group for arrival in waiting.arrivals]
        try:
            received = await inbox.receive(self._database, arrivals)
        except DatabaseUnavailableError as error:
            for waiting in group:
                _fail(waiting, error)
            return
        except Exception as error:
            # One delivery that PostgreSQL does not take must not keep the others out.
            if len(group) == 1:
                _fail(group[0], error)
                return
            for waiting in group:
                await self._commit([waiting])
            return
        _count(arrivals, received)
        if any(of.new for of in received.values()):
            self._wake()
        for waiting in group:
            if not waiting.stored.done():
                waiting.stored.set_result(None)


def _count(arrivals: Sequence[Arrival], received: Mapping[str, Received]) -> None:
    for integration, came in Tally(each.integration for each in arrivals).items():
        of = received.get(integration, Received())
        for outcome, count in (
            ("stored", of.new),
            ("repeated", of.known - of.new),
            ("unknown", came - of.known),
        ):
            if count > 0:
                EVENTS.labels(integration, outcome).inc(count)


def _fail(waiting: _Waiting, error: Exception) -> None:
    with suppress(asyncio.InvalidStateError):
        waiting.stored.set_exception(error)
