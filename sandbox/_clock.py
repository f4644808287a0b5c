"""The sandbox's one source of time: it runs like the wall clock and can be moved forward."""

import time
from datetime import UTC, datetime


class Clock:
    """Every time that any vendor of one sandbox shows, checks or counts comes from here."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead

    def now(self) -> datetime:
        """The time, aware, in whole milliseconds as the vendors' APIs show it."""
        milliseconds = int(self.time() * 1000)
        moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
        return moment.replace(microsecond=milliseconds % 1000 * 1000)
