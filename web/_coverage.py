"""Notices when we missed webhooks, and notes a gap, which a read of just that time closes.

A web process beats every few seconds. The first one that starts after a time without any
notes a gap for whatever vendors send by webhook. So does a vendor whose deliveries were all refused
for some time, once one is accepted again: a secret had been changed on one side.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.runtime import Runtime
from connectors import Connector, all_connectors
from connectors.kernel.cancellation import end
from settings import webhooks
from storage import DatabaseUnavailableError, gaps, heartbeats

EVERY_SECONDS = 10.0
# Shorter absences are what vendors' own retries are for.
UNNOTICED = timedelta(minutes=1)
# A forger that mixes its deliveries with the vendor's cannot have us read everything at its will.
ONE_AN_HOUR = 3_600.0
log = logging.getLogger("atom-sync.coverage")


@dataclass(slots=True)
class _Heard:
    """Of one integration: since when every delivery was refused, and when a gap was last noted."""

    refused_since: datetime | None = None
    noted_at: float = -ONE_AN_HOUR


class Coverage:
    """What was heard of each integration since this process began."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._heard: dict[str, _Heard] = {}
        self._notes: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def kept(cls, runtime: Runtime) -> AsyncIterator["Coverage"]:
        coverage = cls(runtime)
        beating = asyncio.create_task(coverage._beat(f"web:{socket.gethostname()}:{os.getpid()}"))
        try:
            yield coverage
        finally:
            await end(beating)
            await asyncio.gather(*coverage._notes, return_exceptions=True)

    async def refused(self, connector: Connector) -> None:
        """A delivery that nothing proves: the vendor's under a new secret, or a forgery."""
        heard = self._heard.setdefault(connector.name, _Heard())
        if heard.refused_since is None:
            heard.refused_since = self._runtime.clock.now()

    def accepted(self, connector: Connector) -> None:
        heard = self._heard.get(connector.name)
        if heard is None or heard.refused_since is None:
            return
        since, heard.refused_since = heard.refused_since, None
        if self._runtime.clock.now() - since >= UNNOTICED:
            self._note(connector, heard, since, "deliveries could not be proven")

    async def unreadable(self, connector: Connector) -> None:
        """The vendor sent a delivery that we cannot read."""
        heard = self._heard.setdefault(connector.name, _Heard())
        since = self._runtime.clock.now() - UNNOTICED
        self._note(connector, heard, since, "a delivery could not be read")

    def _note(self, connector: Connector, heard: _Heard, since: datetime, reason: str) -> None:
        if time.monotonic() - heard.noted_at < ONE_AN_HOUR:
            return
        heard.noted_at = time.monotonic()
        task = asyncio.create_task(self._write(connector, since, reason))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _write(self, connector: Connector, since: datetime, reason: str) -> None:
        if connector.webhook is None:
            return
        try:
            noted = await gaps.note_all(
                self._runtime.database, connector.name, connector.webhook.covers, since=since,
                until=self._runtime.clock.now(), reason=reason,
            )  # fmt: skip
        except DatabaseUnavailableError as error:
            log.warning("%s: a gap could not be noted: %s", connector.name, error)
        else:
            log.warning("%s: %s since %s: %d gaps", connector.name, reason, since, noted)

    async def _beat(self, name: str) -> None:
        came_back = False
        while True:
            with suppress(DatabaseUnavailableError):
                if not came_back:
                    away_since = await heartbeats.arrive(self._runtime.database, name, "web:")
                    if away_since and self._runtime.clock.now() - away_since > UNNOTICED:
                        for connector in all_connectors():
                            if webhooks.is_enabled(self._runtime.settings, connector):
                                await self._write(connector, away_since, "no web process was up")
                    came_back = True
                await heartbeats.beat(self._runtime.database, name)
            await asyncio.sleep(EVERY_SECONDS)
