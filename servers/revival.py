"""Parts of this machine that ended by themselves are started again, with longer and longer pauses.

Who supervises calls `look` about once a second; it returns at once but for PostgreSQL and Redis,
which it waits for.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field

from servers.local import Services
from servers.postgresql import PostgresError
from servers.processes import ServiceError
from servers.redis_server import RedisError

# A part that ends so often within so many seconds is not started again.
MOST, WITHIN = 5, 300.0


@dataclass
class Revival:
    """What ended when, and what is started again when. Times are those of `time.monotonic`."""

    services: Services
    _ends: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _due: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Starts again what is dead and due; ServiceError if that is of no use any more."""
        now = time.monotonic()
        for name in self.services.started:
            if name in self._due:
                if now >= self._due[name]:
                    del self._due[name]
                    self._start(name)
            elif not self.services.alive(name):
                self._ended(name, now)

    def _ended(self, name: str, now: float) -> None:
        log = self.services.log_of(name)
        if not self.services.can_start_again(name):
            raise ServiceError(f"{name} ended by itself; its log is {log}")
        ends = [at for at in self._ends[name] if now - at < WITHIN] + [now]
        self._ends[name] = ends
        if len(ends) >= MOST:
            raise ServiceError(
                f"{name} ended by itself {len(ends)} times in five minutes; its log is {log}"
            )
        pause = 2.0 ** (len(ends) - 1)
        self._due[name] = now + pause
        self.services.say(
            f"{name} ended by itself: it is started again in {pause:g} s; its log is {log}"
        )

    def _start(self, name: str) -> None:
        try:
            self.services.start_again(name)
        except (PostgresError, RedisError) as error:  # it is dead still: the next look counts that
            self.services.say(str(error))
