"""The sandbox's one source of time: like the wall clock, but put forward or stopped by order."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta


class Clock:
    """Every time that any vendor of one sandbox shows, checks or counts comes from here."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stopped_at: float | None = None

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def stop(self) -> None:
        """From now on time passes only where it is advanced."""
        self._stopped_at = self._stopped_at or time.time()

    def go(self) -> None:
        """Time runs on, from where it stood."""
        if self._stopped_at is not None:
            self._ahead -= time.time() - self._stopped_at
            self._stopped_at = None

    @contextmanager
    def back(self, seconds: float) -> Iterator[None]:
        """What happens in the block is stamped with an earlier time than that at which it is seen.

        So are changes that a vendor commits, or finds, a moment after it stamped them.
        """
        self._ahead -= seconds
        try:
            yield
        finally:
            self._ahead += seconds

    def time(self) -> float:
        """Seconds since 1970."""
        return (self._stopped_at or time.time()) + self._ahead

    def now(self) -> datetime:
        """The time, aware, in whole milliseconds as the vendors' APIs show it."""
        milliseconds = int(self.time() * 1000)
        moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
        return moment.replace(microsecond=milliseconds % 1000 * 1000)

    def after(self, former: datetime) -> datetime:
        """The time of a change that follows another one: now, but at least a millisecond later, so
        that the two are told apart."""
        return max(self.now(), former + timedelta(milliseconds=1))


def stamp(at: datetime) -> str:
    """A time as most vendors write it: in UTC with a Z, in milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_in_seconds(at: datetime) -> str:
    """The same in whole seconds."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
