"""The scheduled run of a tier: takes what is due, and syncs it in its own process, a few at a time.

A run of `sync` in a process of its own costs two seconds of CPU time, a subflow a quarter of that.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar
from uuid import UUID

from prefect import flow, tags
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from accounts.runtime import Runtime
from connectors.kernel.cancellation import end
from deployments.tiers import AHEAD, PollPlan, PollPolicy
from deployments.triggers import run_name, run_tags
from flows._dispatched import (
    FAILED,
    FRESH,
    LEASED,
    RELEASED,
    SYNCED,
    UNWELL,
    Outcome,
    publish,
    summary,
)
from flows._passing import ends_well, is_put_off, put_off
from flows._results import NOWHERE
from flows._runtime import runtime
from flows.sync import sync
from integrations import load
from storage import (
    DatabaseUnavailableError,
    Tier,
    breakers,
    checkpoints,
    due,
    freshness,
    runs,
)
from storage.connections import Connection
from storage.due import Claim, Scope
from storage.keeping import until_stored
from storage.locks import locked
from storage.models import Failure

TRIGGER = "schedule"
# While its last syncs are under way, a run looks so often for what has become due since.
LOOK_AGAIN = timedelta(seconds=30)
# So long a run waits for a database that is not well; and after so many syncs in a row that it put
# off, nothing more is begun.
PATIENCE = timedelta(minutes=1)
IN_A_ROW = 3

T = TypeVar("T")


@flow(
    name="sync-tier",
    flow_run_name="{integration} · {tier} · schedule",
    persist_result=False,
    result_storage=NOWHERE,
    validate_parameters=True,
)
@ends_well
async def sync_tier(integration: str, tier: str, shard: int = 0, shards: int = 1) -> State[None]:
    """Sync the connections of an integration and tier that are due, the latest first.

    Each is a run of `sync` below this one. What is paused or broken, was synced meanwhile or is
    being synced is left out, and the artifact says so. A second run of the same shard leaves at
    once, and so does one whose vendor is away as a whole. A database that is not well is waited for
    a while.
    """
    async with runtime() as shared:
        try:
            scope = Scope(load(integration).name, Tier(tier), shard, shards)
        except (LookupError, ValueError) as error:
            return Failed(message=str(error))
        url = shared.settings.database_url
        lock = scope.lock(shared.database)
        async with locked(url.get_secret_value() if url else "", lock) as ours:
            if not ours:
                return Completed(name="Skipped", message="the former run is still going")
            return await _Dispatch.of(shared, scope).run()


@dataclass
class _Dispatch:
    """One run of a scope: what waits in it, what is under way, and what became of the rest."""

    shared: Runtime
    scope: Scope
    policy: PollPolicy
    by: datetime
    began_at: datetime
    looked_at: datetime
    # Taken, and not yet known to be due or ended, and not yet settled.
    unsorted: list[Claim] = field(default_factory=list)
    queue: deque[Claim] = field(default_factory=deque)
    streams: dict[UUID, list[str] | None] = field(default_factory=dict)
    running: dict[asyncio.Task[State[Any]], Claim] = field(default_factory=dict)
    lines: list[Outcome] = field(default_factory=list)
    # Put off by the database, for which reason the last time; and how many in a row.
    waiting: list[Claim] = field(default_factory=list)
    unwell: str = ""
    in_a_row: int = 0
    probing: bool = False
    # Why it begins nothing more; and whether it is that it was told to stop.
    over: str = ""
    stopped: bool = False

    @classmethod
    def of(cls, shared: Runtime, scope: Scope) -> Self:
        now = shared.clock.now()
        policy = PollPolicy.of(shared.settings, load(scope.integration), scope.tier)
        return cls(shared, scope, policy, now + AHEAD, now, now)

    async def run(self) -> State[None]:
        database = self.shared.database
        admission = await breakers.admit(database, self.scope.integration)
        if admission == "open":
            return Completed(name="Skipped", message=await self._away())
        await runs.end_lost(database)
        await due.recover(database, self.scope)
        try:
            if admission == "closed" or await self._probe():
                await self._work()
        finally:
            # Also when something ends this process: the run gives back what it has not synced.
            with suppress(DatabaseUnavailableError):
                await asyncio.shield(self._leave())
        return await self._ended()

    async def _probe(self) -> bool:
        """A few first, since the vendor was away; True if one of them found it."""
        database, integration = self.shared.database, self.scope.integration
        self.probing = True
        await self._work(most=breakers.PROBES)
        self.probing = False
        tried = [line for line in self.lines if line.what in (SYNCED, FAILED)]
        if any(line.failure is not Failure.UNAVAILABLE for line in tried):
            await breakers.close(database, integration)
            return True
        if tried:
            await breakers.stay_open(database, integration)
            self.over = self.over or await self._away()
        else:
            await breakers.give_probe_back(database, integration)
        return False

    async def _work(self, most: int | None = None) -> None:
        """Sync what is due, until nothing is; with `most`, one batch of so many."""
        exhausted = False
        while True:
            if not self.over and (told := await _patiently(self.shared.told_to_stop)):
                self.over, self.stopped = told, True
            if not (self.over or self.queue or exhausted):
                exhausted = not await self._claim(most or due.BATCH) or most is not None
                continue
            self._begin()
            if not self.running:
                return
            await asyncio.wait(
                self.running,
                timeout=LOOK_AGAIN.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._reap()
            if most is None and self._now() - self.looked_at >= LOOK_AGAIN:
                # One long sync is no reason for others to wait: they became due meanwhile.
                exhausted, self.by = False, self._now() + AHEAD

    async def _claim(self, at_most: int) -> bool:
        """Take more of what was due when this began; False if there is none."""
        database = self.shared.database
        self.looked_at = self._now()
        claims = await _patiently(
            partial(due.claim, database, self.scope, by=self.by, slot=self._slot, at_most=at_most)
        )
        self.unsorted = claims
        ids = [claim.connection.id for claim in claims]
        synced = await _patiently(partial(checkpoints.synced, database, ids))
        refused = await _patiently(partial(checkpoints.refused, database, ids))
        fresh = []
        for claim in claims:
            id = claim.connection.id
            due_now = self._plan(claim).due(self.by, synced.get(id, {}))
            wanted = [stream for stream in due_now if stream not in refused.get(id, ())]
            if wanted:
                every = len(wanted) == len(self.policy.connector.streams)
                self.streams[id] = None if every else wanted
                self.queue.append(claim)
            else:
                fresh.append(claim)
                self.lines.append(Outcome(claim, FRESH))
        await _patiently(partial(due.settle, database, fresh))
        self.unsorted = []
        return bool(claims)

    def _begin(self) -> None:
        """As many as there is room for."""
        limit = self.shared.settings.atom_dispatch_concurrency
        while self.queue and not self.over and len(self.running) < limit:
            claim = self.queue.popleft()
            streams = self.streams.pop(claim.connection.id)
            self.running[asyncio.create_task(_sync(claim.connection, streams))] = claim

    async def _reap(self) -> None:
        """What has ended: a line for each, and whether the vendor is away altogether."""
        database = self.shared.database
        ended = [
            (self.running.pop(task), task.result()) for task in list(self.running) if task.done()
        ]
        self.unsorted = [claim for claim, _ in ended]
        for claim, state in ended:
            line = await _patiently(partial(_line, self.shared, claim, state))
            self.lines.append(line)
            self.in_a_row = self.in_a_row + 1 if line.what == UNWELL else 0
            if line.what == RELEASED:
                await _patiently(partial(due.give_back, database, [claim]))
            elif line.what == UNWELL:
                self.waiting.append(claim)
                self.unwell = line.why
                self.over = self.over or (line.why if self.in_a_row >= IN_A_ROW else "")
            away = line.failure is Failure.UNAVAILABLE and not self.probing and not self.over
            if away and await breakers.look(database, self.scope.integration, line.why):
                self.over = await self._away()
        settled = [claim for claim, _ in ended if claim not in self.waiting]
        await _patiently(partial(due.settle, database, settled))
        self.unsorted = []

    async def _leave(self) -> None:
        """Nothing of this run is left behind."""
        await end(*self.running)
        left = [*self.unsorted, *self.queue, *self.running.values(), *self.waiting]
        await due.give_back(self.shared.database, left)
        self.lines += [Outcome(claim, RELEASED) for claim in self.queue]

    async def _ended(self) -> State[None]:
        """How it ends, and what stands in its artifact."""
        database = self.shared.database
        resting = await due.resting(database, self.scope, by=self.by)
        message = summary(self.lines, resting)
        if self.lines or resting:
            kept = await freshness.promises(
                database, integration=self.scope.integration, tier=self.scope.tier
            )
            await publish(
                self.scope, self.lines, resting, kept, now=self.shared.clock.now(), over=self.over
            )
        if self.stopped:
            return Cancelled(message=f"{self.over}. {message}")
        if why := self.over or self.unwell:
            return put_off(f"{why}. {message}")
        return Completed(message=message)

    async def _away(self) -> str:
        found = (await breakers.standing_open(self.shared.database)).get(self.scope.integration)
        return str(found) if found else f"{self.scope.integration} was away just now"

    def _slot(self, claim: Claim) -> datetime:
        return self._plan(claim).next_due(self.by)

    def _plan(self, claim: Claim) -> PollPlan:
        return PollPlan(self.policy, claim.connection.id, claim.watched, self.scope.shards)

    def _now(self) -> datetime:
        return self.shared.clock.now()


async def _patiently(asking: Callable[[], Awaitable[T]]) -> T:
    """What the database answers: a moment in which it is not well ends no run, and no sync that is
    under way in it."""
    return await until_stored(asking, patience=PATIENCE, waits="a dispatcher waits")


async def _sync(connection: Connection, streams: list[str] | None) -> State[Any]:
    """A run of `sync` in this process, named and tagged as those that have their own."""
    with tags(*run_tags(connection, TRIGGER)):
        named = sync.with_options(flow_run_name=run_name(connection, TRIGGER))
        return await named(connection.id, trigger=TRIGGER, streams=streams, return_state=True)


async def _line(shared: Runtime, claim: Claim, state: State[Any]) -> Outcome:
    why = state.message or ""
    if state.name == "Skipped":
        return Outcome(claim, LEASED)
    if state.is_completed():
        return Outcome(claim, SYNCED, why)
    if state.is_cancelled() and not is_put_off(state):
        return Outcome(claim, RELEASED, why)
    flow_run_id = state.state_details.flow_run_id
    failure = await runs.failure_in(shared.database, claim.connection.id, flow_run_id)
    if failure is None and is_put_off(state):
        return Outcome(claim, UNWELL, why)
    return Outcome(claim, FAILED, why, failure)
