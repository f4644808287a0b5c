"""Notices when we missed webhooks, and notes a gap, which a read of just that time closes.

No web process was up: each beats every few seconds, and the first one that starts after a time
without any notes it. Deliveries came and could not be taken, whatever the reason: it is noted once
they can be, or none was refused for a while. All of a vendor's deliveries were refused for some
time as unproven: a secret had been changed on one side.

A gap that cannot be written now, for the database is not well, is written when it can be.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.runtime import Runtime
from connectors import Connector, all_connectors
from connectors.kernel.cancellation import end
from integrations import load
from settings import webhooks
from storage import DatabaseUnavailableError, gaps, heartbeats
from storage.background import repeated

EVERY_SECONDS = 10.0
# Shorter absences are what vendors' own retries are for.
UNNOTICED = timedelta(minutes=1)
# A forger that mixes its deliveries with the vendor's cannot have us read everything at its will.
ONE_AN_HOUR = timedelta(hours=1)
FAULT = "an error of ours"
log = logging.getLogger("atom-sync.coverage")


@dataclass(slots=True)
class _Heard:
    """Of one integration: since when no delivery was proven, since when none could be taken, when
    the last of those came and why, and when a gap was last noted that a forger may have caused."""

    unproven_since: datetime | None = None
    untaken_since: datetime | None = None
    untaken_last: datetime | None = None
    untaken_why: str = ""
    noted_at: datetime | None = None


@dataclass(frozen=True)
class _Gap:
    """One that is to be written down."""

    connector: Connector
    since: datetime
    until: datetime
    reason: str


class Coverage:
    """What was heard of each integration since this process began."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._name = f"web:{socket.gethostname()}:{os.getpid()}"
        self._heard: dict[str, _Heard] = {}
        self._owed: list[_Gap] = []
        self._owes = asyncio.Event()
        self._came_back = False
        self._well_at = self._now()

    @classmethod
    @asynccontextmanager
    async def kept(cls, runtime: Runtime) -> AsyncIterator["Coverage"]:
        coverage = cls(runtime)
        beating = asyncio.create_task(
            repeated("heartbeat", coverage._beat, EVERY_SECONDS, wake=coverage._owes)
        )
        try:
            yield coverage
        finally:
            await end(beating)
            for name in coverage._heard:
                coverage._end_untaken(load(name))
            with suppress(DatabaseUnavailableError):  # the next one finds that we beat no more
                await coverage._write()

    async def refused(self, connector: Connector) -> None:
        """A delivery that nothing proves: the vendor's under a new secret, or a forgery."""
        heard = self._heard.setdefault(connector.name, _Heard())
        if heard.unproven_since is None:
            heard.unproven_since = self._now()

    def untaken(self, connector: Connector, why: str) -> None:
        """A delivery that may be good, and that we could not take."""
        heard = self._heard.setdefault(connector.name, _Heard())
        if heard.untaken_since is None:
            heard.untaken_since, heard.untaken_why = self._well_at, why
            log.warning("deliveries of %s cannot be taken: %s", connector.title, why)
        heard.untaken_last = self._now()

    def taken(self, connector: Connector) -> None:
        """A delivery is stored, and so may the next ones be."""
        heard = self._heard.get(connector.name)
        if heard is not None and heard.untaken_since is not None:
            self._end_untaken(connector)

    def proven(self, connector: Connector) -> None:
        """A delivery is the vendor's."""
        heard = self._heard.get(connector.name)
        if heard is None or heard.unproven_since is None:
            return
        since, heard.unproven_since = heard.unproven_since, None
        if self._now() - since >= UNNOTICED:
            self._note(connector, heard, since, "deliveries could not be proven")

    async def unreadable(self, connector: Connector) -> None:
        """The vendor sent a delivery that we cannot read."""
        heard = self._heard.setdefault(connector.name, _Heard())
        self._note(connector, heard, self._now() - UNNOTICED, "a delivery could not be read")

    def failed(self, connector: Connector) -> None:
        """A delivery ended in an error of ours; it may be the only one, or all do."""
        self.untaken(connector, FAULT)
        heard = self._heard[connector.name]
        self._note(
            connector, heard, self._now() - UNNOTICED, f"deliveries could not be taken: {FAULT}"
        )

    def _note(self, connector: Connector, heard: _Heard, since: datetime, reason: str) -> None:
        if heard.noted_at is None or self._now() - heard.noted_at >= ONE_AN_HOUR:
            heard.noted_at = self._now()
            self._owe(_Gap(connector, since, self._now(), reason))

    def _end_untaken(self, connector: Connector) -> None:
        """That time is over. Within a minute vendors have not given up."""
        heard = self._heard[connector.name]
        since, heard.untaken_since = heard.untaken_since, None
        if since is not None and self._now() - since >= UNNOTICED:
            reason = f"deliveries could not be taken: {heard.untaken_why}"
            self._owe(_Gap(connector, since, self._now(), reason))

    def _owe(self, gap: _Gap) -> None:
        if gap.connector.webhook is not None:
            self._owed.append(gap)
            self._owes.set()

    async def _beat(self) -> None:
        database = self._runtime.database
        if not self._came_back:
            away_since = await heartbeats.arrive(database, self._name, "web:")
            if away_since and self._now() - away_since > UNNOTICED:
                for connector in all_connectors():
                    if webhooks.is_enabled(self._runtime.settings, connector):
                        self._owe(_Gap(connector, away_since, self._now(), "no web process was up"))
            self._came_back = True
        await heartbeats.beat(database, self._name)
        self._well_at = self._now()
        for name, heard in self._heard.items():
            last = heard.untaken_last
            if heard.untaken_since is not None and last and self._now() - last >= UNNOTICED:
                self._end_untaken(load(name))
        await self._write()

    async def _write(self) -> None:
        """The gaps that are owed, each until it is written."""
        while self._owed:
            gap = self._owed[0]
            covered = gap.connector.webhook.covers if gap.connector.webhook else ()
            noted = await gaps.note_all(
                self._runtime.database, gap.connector.name, covered, since=gap.since,
                until=gap.until, reason=gap.reason,
            )  # fmt: skip
            self._owed.pop(0)
            line = "%s: %s from %s to %s: %d gaps"
            log.warning(line, gap.connector.name, gap.reason, gap.since, gap.until, noted)

    def _now(self) -> datetime:
        return self._runtime.clock.now()
