"""What a Prefect server has of ours that nobody brings to an end: missed runs, and dead ones.

After hours without a worker Prefect starts every run that was missed, and after a kill it leaves
runs Running, Pending or Submitting for good (3.8.8). Only runs of our own deployments and flows are
looked at.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Crashed

from deployments.desired import MANAGED

LOST = "its process ended without a word"
STOPPED = "this machine was asked to stop; what the run owed is done by a later one"
# The name of that state, so that nobody takes it for a cancel by hand.
CUT_OFF = "CutOff"
UNBEGUN = "the worker that had taken it never began it"
# A run that has just begun is not judged: what tells that it lives is still to be written.
GRACE = timedelta(minutes=5)
# A run that a worker has taken begins within seconds, or minutes where a machine is busy or pulls
# an image. One that begins later still may do so: what is Crashed can become Running (3.8.8).
BEGINS_WITHIN = timedelta(minutes=15)
# Of runs of which only Prefect knows whether they live. A server that was away heard no heartbeats.
SILENCE = timedelta(hours=1)
_PAGE = 200
_AT_ONCE = 4

# Whether that run, of one flow of ours, lives.
Lives = Callable[[FlowRun], Awaitable[bool]]


async def forget_missed(client: PrefectClient) -> int:
    """Deletes the runs that schedules have missed, but the newest of each; how many."""
    late = FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled", "Late"])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC)),
    )
    newest: dict[UUID, UUID] = {}
    missed = []
    for run in await _read(client, late, managed=True):  # in the order of their times
        if run.auto_scheduled and run.created_by is not None and run.created_by.id is not None:
            if former := newest.get(run.created_by.id):
                missed.append(former)
            newest[run.created_by.id] = run.id

    async def delete(flow_run_id: UUID) -> None:
        with suppress(ObjectNotFound):  # somebody else was at it
            await client.delete_flow_run(flow_run_id)

    await _each(missed, delete)
    return len(missed)


async def crash_dead(client: PrefectClient, lives: Mapping[str, Lives]) -> int:
    """Sets Crashed what is Running and dead; how many. `lives` tells of a flow's runs, by its name.

    A run below another is dead once that one is over, for it is in the same process.
    """
    running = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
        start_time=FlowRunFilterStartTime(before_=datetime.now(UTC) - GRACE),
    )
    dead = []
    for name, tell in lives.items():
        found = await _read(client, running, flows=[name])
        over = await _over(client, {run.parent_task_run_id for run in found} - {None})
        for run in found:
            if run.parent_task_run_id is not None:
                is_dead = run.parent_task_run_id in over
            else:
                is_dead = not await tell(run)
            if is_dead:
                dead.append(run.id)
    await _each(dead, lambda flow_run_id: _end(client, flow_run_id, Crashed(message=LOST)))
    return len(dead)


async def crash_unbegun(client: PrefectClient, flows: Collection[str]) -> int:
    """Sets Crashed what a worker took and never began, of these flows; how many.

    What waits for a worker, or for room in a queue, is Scheduled, and left alone however late.
    """
    pending = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
    )
    taken_before = datetime.now(UTC) - BEGINS_WITHIN
    dead = [
        run.id
        for run in await _read(client, pending, flows=flows)
        if run.state is not None and run.state.timestamp < taken_before
    ]
    await _each(dead, lambda id: _end(client, id, Crashed(message=UNBEGUN), (StateType.PENDING,)))
    return len(dead)


async def cancel_stopped(
    client: PrefectClient, since: datetime, *, among: Collection[UUID] | None = None
) -> int:
    """Sets Cancelled the runs that a stop which was asked for has ended; how many.

    It is for a server whose every worker has just been stopped: what runs there is dead, and what
    has crashed since the stop began was ended by it. Where others work for it, `among` names the
    runs whose processes were stopped; those below them were in the same processes.
    """
    cut_off = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    alive = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=cut_off)))
    ended = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        end_time=FlowRunFilterEndTime(after_=since),
    )
    asked = [alive, ended]
    if among is not None:
        ids = sorted(among)
        stopped = FlowRunFilterId(any_=ids)
        below = FlowRunFilterParentFlowRunId(any_=ids)
        asked = [
            one.model_copy(update=which)
            for one in asked
            for which in ({"id": stopped}, {"parent_flow_run_id": below})
            if ids
        ]
    found = {run.id for one in asked for run in await _read(client, one)}
    state: State[Any] = Cancelled(name=CUT_OFF, message=STOPPED)
    await _each(found, lambda flow_run_id: _end(client, flow_run_id, state))
    return len(found)


async def heard_of(client: PrefectClient, run: FlowRun) -> bool:
    """Whether a run has let Prefect hear of it lately, or might not have to."""
    now = datetime.now(UTC)
    if get_current_settings().flows.heartbeat_frequency is None:
        return True
    if run.start_time is None or now - run.start_time < SILENCE:
        return True
    heartbeats = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=now - SILENCE, until=now),
    )
    return bool((await client.read_events(heartbeats, limit=1)).events)


async def _over(client: PrefectClient, parents: Collection[UUID | None]) -> set[UUID]:
    """Of the task runs that stand for runs in their parents: those whose parents are over."""
    found: set[UUID] = set()
    ids = [parent for parent in parents if parent is not None]
    for start in range(0, len(ids), _PAGE):
        asked = TaskRunFilter(id=TaskRunFilterId(any_=ids[start : start + _PAGE]))
        tasks = await client.read_task_runs(task_run_filter=asked, limit=_PAGE)
        above = {task.flow_run_id for task in tasks if task.flow_run_id is not None}
        known = FlowRunFilter(id=FlowRunFilterId(any_=sorted(above)))
        runs = await client.read_flow_runs(flow_run_filter=known, limit=_PAGE) if above else []
        ended = {run.id for run in runs if _has_ended(run)}
        found |= {task.id for task in tasks if task.flow_run_id in ended}
    return found


def _has_ended(run: FlowRun) -> bool:
    """And so long ago that what it held has heard of it."""
    if run.state is None or not run.state.is_final():
        return False
    return datetime.now(UTC) - run.state.timestamp > timedelta(minutes=1)


async def _end(
    client: PrefectClient,
    flow_run_id: UUID,
    state: State[Any],
    only: Collection[StateType] = tuple(StateType),
) -> None:
    """Sets the state of a run that is in one of these, and of the tasks that it left Running."""
    tasks = await client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(
            flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]),
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])),
        ),
        limit=_PAGE,
    )
    for task in tasks:
        await client.set_task_run_state(task.id, state, force=True)
    with suppress(ObjectNotFound):
        now = (await client.read_flow_run(flow_run_id)).state
        if now is None or now.type in only:  # else it went on in this moment
            await client.set_flow_run_state(flow_run_id, state, force=True)


async def _read(
    client: PrefectClient,
    asked: FlowRunFilter,
    *,
    managed: bool = False,
    flows: Collection[str] | None = None,
) -> list[FlowRun]:
    """All of them, in the order in which they were to start."""
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=asked,
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[MANAGED]))
            if managed
            else None,
            flow_filter=FlowFilter(name=FlowFilterName(any_=sorted(flows))) if flows else None,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


async def _each(ids: Collection[UUID], work: Callable[[UUID], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(id: UUID) -> None:
        async with slots:
            await work(id)

    await asyncio.gather(*(one(id) for id in ids))
