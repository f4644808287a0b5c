"""From the inbox into the tables: a drain that is alive while events come, and the runs it starts.

`drain_events` claims connections with something pending and runs `sync_events` for many of them at
once, so that a burst of thousands of webhooks is a handful of runs, and a lone one is a row within
about a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from accounts.runtime import Runtime
from connectors import ConnectorError
from connectors.kernel.cancellation import end
from flows import _applying
from flows._applying import Work
from flows._hints import AT_ONCE, HintSummary, read_dirty_streams
from flows._listening import Listeners, listeners
from flows._passing import ends_well, is_put_off, put_off
from flows._results import NOWHERE
from flows._runtime import runtime
from flows._storing import LEASE_TTL
from settings import SettingsError
from storage import (
    DatabaseUnavailableError,
    StorageError,
    connections,
    drains,
    heartbeats,
    inbox,
    leases,
)
from storage.background import longer, repeated
from storage.inbox import Waiting
from storage.listening import listening

# So many connections are in a run, and so many runs are under way.
MOST_CONNECTIONS = 100
RUNS_AT_ONCE = 4
OF_INTEGRATION = 2
# Between the starts of two runs of an integration: what comes meanwhile shares the second.
PACE_SECONDS = 1.0
# Without being notified.
LOOK_SECONDS = 2.0
HEARTBEAT_SECONDS = 5.0
# The first pause after a run that the database put off.
LEAST_REST = 1.0
# A drain that stays only to listen makes way for the next, so that no run goes on for days.
LISTENS_SECONDS = 6 * 3_600.0


class Batch:
    """What the tasks of a run hand on. Not a dataclass: Prefect would walk into it."""

    __slots__ = ("works",)

    def __init__(self, works: Sequence[Work]) -> None:
        self.works = works

    def __str__(self) -> str:
        events = sum(work.events for work in self.works)
        return f"{events:,} events of {len(self.works)} connections"


@flow(name="sync-events", persist_result=False, result_storage=NOWHERE)
@ends_well
async def sync_events(integration: str, connection_ids: list[UUID]) -> State[None]:
    """Apply the pending events of these connections, and read what was hinted at.

    What one connection's vendor or one event does wrong leaves the others alone. Ends Failed, with
    the reasons in the log, if an event could not be applied; it is tried again. While the database
    is not well it ends PutOff, and nothing counts as an attempt.
    """
    works: list[Work] = []
    followed = HintSummary()
    async with runtime() as shared:
        linked = [await connections.get(shared.database, one) for one in connection_ids]
        linked = [one for one in linked if one.integration == integration]
        async with _leased(shared, linked) as held:
            try:
                await _applying.take(shared, linked, held, works)
                await _apply(shared, Batch(works))
            finally:
                await _applying.give_back(shared, works)
        if _unwell(works) is None:
            followed = await read_dirty_streams(shared, linked)
    return _ended(works, followed)


async def _apply(shared: Runtime, batch: Batch) -> None:
    if any(work.events for work in batch.works):
        await refresh(shared, batch)
        await fetch(shared, batch)
        await persist(shared, batch)


def _unwell(works: Sequence[Work]) -> DatabaseUnavailableError | None:
    """What the database ailed of, if it did."""
    aways = (work.away for work in works)
    return next((away for away in aways if isinstance(away, DatabaseUnavailableError)), None)


@task(persist_result=False, cache_policy=NO_CACHE)
async def refresh(shared: Runtime, batch: Batch) -> None:
    """Refreshes tokens that would end while their events are read from the vendor."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def renew(work: Work) -> None:
        async with slots:
            try:
                await shared.bearer(work.connection)
            except (ConnectorError, StorageError, SettingsError) as error:
                work.away = error

    await asyncio.gather(*(renew(work) for work in batch.works if work.asks))


@task(persist_result=False, cache_policy=NO_CACHE)
async def fetch(shared: Runtime, batch: Batch) -> None:
    """Read the records that events name, and unpack those that they hold."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(work: Work) -> None:
        async with slots:
            await _applying.read(work)

    await asyncio.gather(*(read(work) for work in batch.works))


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="persist · {batch}")
async def persist(shared: Runtime, batch: Batch) -> None:
    """Store them, each connection's in transactions of its own."""
    slots = asyncio.Semaphore(AT_ONCE // 2)

    async def store(work: Work) -> None:
        async with slots:
            try:
                await _applying.store(shared, work)
            except StorageError as error:
                work.away = error  # its events stay pending

    await asyncio.gather(*(store(work) for work in batch.works))


def _ended(works: Sequence[Work], followed: HintSummary) -> State[None]:
    log = get_run_logger()
    for work in works:
        for group in work.groups:
            for reason in sorted(set(group.failed.values())):
                log.warning("%s: an event could not be applied: %s", work.connection, reason)
        if work.away is not None:
            log.warning("%s: put off: %s", work.connection, work.away)
    applied, failed = sum(w.applied for w in works), sum(w.failed for w in works)
    parts = [f"{applied:,} events applied"]
    if followed.connections:
        parts.append(
            f"{followed.connections} connections read anew: {followed.changed:,} records changed,"
            f" {followed.deleted:,} deleted"
        )
    if followed.problems:
        parts.append(f"{followed.problems} could not be read, and are tried again")
    if (unwell := _unwell(works)) is not None:
        message = f"{unwell}; nobody has to act here, it is tried again by itself"
        return put_off("; ".join((message, *parts)))
    if failed:
        return Failed(message=f"{failed:,} events could not be applied; {'; '.join(parts)}")
    return Completed(message="; ".join(parts))


@asynccontextmanager
async def _leased(
    shared: Runtime, linked: Sequence[connections.Connection]
) -> AsyncIterator[list[leases.Lease]]:
    """The event leases of those that are free, kept alive while the work lasts."""
    ids = [connection.id for connection in linked]
    held = await leases.acquire_all(
        shared.database, ids, kind="event", holder=shared.settings.atom_worker, ttl=LEASE_TTL
    )

    renew = partial(leases.renew_all, shared.database, held, LEASE_TTL)
    every = LEASE_TTL.total_seconds() / 4
    renewing = asyncio.create_task(repeated("leases", renew, every, begins_after=every))
    try:
        yield held
    finally:
        await end(renewing)
        with suppress(DatabaseUnavailableError):  # they run out by themselves
            await asyncio.shield(leases.release_all(shared.database, held))


@dataclass
class _Drain:
    """What is under way."""

    shared: Runtime
    shard: int
    listening: Listeners
    began: float = field(default_factory=time.monotonic)
    idle_since: float = field(default_factory=time.monotonic)
    running: dict[asyncio.Task[State[Any]], list[Waiting]] = field(default_factory=dict)
    last_start: dict[str, float] = field(default_factory=dict)
    runs: int = 0
    # Runs that the database put off are followed by others after longer and longer pauses.
    wait: float = 0.0
    rests_until: float = 0.0

    def busy(self) -> list[UUID]:
        return [one.connection_id for group in self.running.values() for one in group]

    def may_start(self, integration: str) -> bool:
        under_way = sum(group[0].integration == integration for group in self.running.values())
        since = time.monotonic() - self.last_start.get(integration, -PACE_SECONDS)
        return under_way < OF_INTEGRATION and since >= PACE_SECONDS

    async def start(self) -> bool:
        """Start runs for what is waiting. True if something waits for its turn."""
        if time.monotonic() < self.rests_until:
            return True
        found = await inbox.waiting(
            self.shared.database, shard=self.shard, shards=self.shared.settings.atom_drain_shards,
            busy=self.busy(), most=MOST_CONNECTIONS,
        )  # fmt: skip
        groups: dict[str, list[Waiting]] = {}
        for one in found:
            groups.setdefault(one.integration, []).append(one)
        for integration, group in groups.items():
            if len(self.running) < RUNS_AT_ONCE and self.may_start(integration):
                self.last_start[integration] = time.monotonic()
                self.runs += 1
                self.running[asyncio.create_task(_run(integration, group))] = group
                groups[integration] = []
        return any(groups.values())

    def reap(self) -> None:
        for ended in [each for each in self.running if each.done()]:
            del self.running[ended]
            if not is_put_off(ended.result()):
                self.wait = 0.0
            elif time.monotonic() >= self.rests_until:
                self.wait = longer(self.wait, LEAST_REST)
                self.rests_until = time.monotonic() + self.wait


async def _run(integration: str, group: Sequence[Waiting]) -> State[Any]:
    tenants = len({one.tenant_id for one in group})
    name = f"{integration} · events · {tenants} tenant{'s' if tenants > 1 else ''}"
    with tags(f"integration:{integration}", "trigger:webhook"):
        named: Any = sync_events.with_options(flow_run_name=name)
        state: State[Any] = await named(
            integration, [one.connection_id for one in group], return_state=True
        )
    return state


@flow(name="drain-events", persist_result=False, result_storage=NOWHERE)
@ends_well
async def drain_events(shard: int = 0) -> State[None]:
    """Apply events as they come, for as long as they come and some time after; listen to vendors
    whose events are to be fetched.

    One drain is alive for a shard; a second one leaves at once. While the database is not well it
    waits.
    """
    async with runtime() as shared:
        generation = await drains.begin(shared.database, shard)
        if generation is None:
            return Completed(name="Skipped", message=f"shard {shard} has a drain")
        return await _alive(shared, shard, generation)


async def _alive(shared: Runtime, shard: int, generation: int) -> State[None]:
    lost = asyncio.Event()
    beat = partial(_beat, shared, shard, generation, lost)
    beating = asyncio.create_task(
        repeated("heartbeat", beat, HEARTBEAT_SECONDS, begins_after=HEARTBEAT_SECONDS)
    )
    url = shared.settings.database_url
    try:
        async with (
            listening(url.get_secret_value() if url else "", inbox.CHANNEL) as heard,
            listeners(shared, shard) as vendors,
        ):
            drain = _Drain(shared, shard, vendors)
            try:
                why = await _drain(drain, heard, lost, generation)
            finally:
                await end(*drain.running)  # they use what closes with this
    finally:
        await end(beating)
        with suppress(DatabaseUnavailableError):
            await asyncio.shield(drains.end(shared.database, shard, generation))
    if why:
        return Cancelled(message=f"{why}, after {drain.runs:,} runs")
    return Completed(message=f"nothing is pending, after {drain.runs:,} runs")


async def _drain(drain: _Drain, heard: asyncio.Event, lost: asyncio.Event, generation: int) -> str:
    """Until nothing came for a while; why it was left early, if it was."""
    wait = 0.0
    while True:
        heard.clear()
        try:
            why, queued = await _look(drain, lost, generation)
        except DatabaseUnavailableError as error:
            if not wait:
                get_run_logger().warning("the drain waits: %s", error)
            wait = longer(wait, LEAST_REST)
            await asyncio.sleep(wait)
            continue
        wait = 0.0
        if why is not None:
            return why
        await _pause(drain, heard, lost, PACE_SECONDS / 4 if queued else LOOK_SECONDS)


async def _look(drain: _Drain, lost: asyncio.Event, generation: int) -> tuple[str | None, bool]:
    """One turn: why the drain is left now ("" where nothing is pending), and whether something
    waits for its turn."""
    settings, database = drain.shared.settings, drain.shared.database
    drain.reap()
    told = await drain.shared.told_to_stop()
    if told or lost.is_set():
        if drain.running:
            await asyncio.wait(drain.running)
            drain.reap()
        return told or "another drain took over", False
    queued = await drain.start()
    if drain.running or queued:
        drain.idle_since = time.monotonic()
    elif drain.listening.count:
        if time.monotonic() - drain.began > LISTENS_SECONDS:
            return "", False  # its successor goes on where it stands
    elif time.monotonic() - drain.idle_since > settings.atom_drain_linger_seconds:
        shards = settings.atom_drain_shards
        if await drains.leave(database, drain.shard, generation, shards):
            return "", False
    return None, queued


async def _pause(drain: _Drain, heard: asyncio.Event, lost: asyncio.Event, seconds: float) -> None:
    """Until something is heard, a run ends, or it is time to look anyway."""
    waits = [asyncio.create_task(heard.wait()), asyncio.create_task(lost.wait())]
    await asyncio.wait(
        [*waits, *drain.running], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    await end(*waits)


async def _beat(shared: Runtime, shard: int, generation: int, lost: asyncio.Event) -> None:
    if lost.is_set():
        return
    if not await drains.beat(shared.database, shard, generation):
        lost.set()
        return
    await heartbeats.beat(shared.database, f"drain:{shard}")
