"""The database's clock, by which this process tells the time.

What processes write is compared by its times: when a record was observed, when a connection is due,
when a lease ends. So all of them go by one clock, and a machine whose own is wrong, or is set while
we run, does no harm.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import func, select

from connectors.kernel.cancellation import end
from connectors.kernel.clock import Clock
from storage.background import repeated
from storage.database import Database

# Either clock may be set while we run, and the one of a machine that slept has stood still.
READ_EVERY = timedelta(minutes=1)
# What two machines may differ by before it is worth a word.
TOLERANCE = timedelta(seconds=5)
log = logging.getLogger("atom-sync.clock")


class DatabaseClock(Clock):
    """The database's clock as it was last read, and the time that has passed since."""

    def __init__(self) -> None:
        self._anchor: tuple[datetime, float] | None = None
        self._said = timedelta()

    def now(self) -> datetime:
        if self._anchor is None:
            return super().now()
        at, when = self._anchor
        return at + timedelta(seconds=_passed() - when)

    @property
    def ahead(self) -> timedelta:
        """How far this machine's clock is ahead of the database's; negative where it is behind."""
        return super().now() - self.now()

    async def read(self, database: Database) -> None:
        """Reads the database's clock; a machine whose own differs says so, once."""
        before = _passed()
        async with database.dispatching() as session:
            at: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        # It was so at some moment of the call: in the middle of it, as nearly as we can tell.
        self._anchor = at.astimezone(UTC), (before + _passed()) / 2
        if abs(self.ahead - self._said) > TOLERANCE:
            self._said = self.ahead if abs(self.ahead) > TOLERANCE else timedelta()
            log.warning("%s", _advised(self.ahead))

    @asynccontextmanager
    async def followed(self, database: Database) -> AsyncIterator[None]:
        """The clock is read now, and again every minute for as long as the block lasts."""
        await self.read(database)
        # Between two readings the time that has passed since is known without it.
        every = READ_EVERY.total_seconds()
        read = partial(self.read, database)
        reading = asyncio.create_task(repeated("clock", read, every, begins_after=every))
        try:
            yield
        finally:
            await end(reading)


def difference(ahead: timedelta) -> str:
    """What is said of a machine whose clock differs."""
    size = abs(ahead)
    if size <= TOLERANCE:
        return "this machine's clock agrees with the database's"
    seconds = timedelta(seconds=round(size.total_seconds()))
    which = "ahead of" if ahead > timedelta() else "behind"
    return f"this machine's clock is {seconds} {which} the database's, which is used"


def _advised(ahead: timedelta) -> str:
    if abs(ahead) <= TOLERANCE:
        return difference(ahead)
    return f"{difference(ahead)}: set it right (NTP), logs and Prefect go by this machine's"


def _passed() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps if it can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
