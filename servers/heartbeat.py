"""Says every few seconds that this `up` is there, in a thread: a database that is away delays it
alone."""

import asyncio
import threading

from servers.database import opened
from settings import Settings
from storage import background, incarnations
from storage.incarnations import Incarnation

EVERY_SECONDS = 15.0


class Heartbeat:
    def __init__(self, settings: Settings, incarnation: Incarnation) -> None:
        self._settings, self._incarnation = settings, incarnation
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No further beat begins; one that waits for its database is not waited for."""
        self._over.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            asyncio.run(background.turn("heartbeat", self._beat))

    async def _beat(self) -> None:
        async with opened(self._settings) as database:
            await incarnations.beat(database, self._incarnation)
