"""Syncs that somebody asks for: a connection has one at a time, and who asks again is told of it.

What waits or runs is looked for in two places: `sync_runs` with the lease says what is at work, and
Prefect what waits, or has just begun. Of two who ask at once one makes the run, since both name it
by the run before it, and Prefect takes a key once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.prefect_api import connected
from deployments.stale_runs import BEGINS_WITHIN
from deployments.triggers import NO_RUNS, connection_tag, start_backfill, start_sync
from settings import Settings
from storage import backfills, history
from storage.connections import Connection
from storage.database import Database

TRIGGER = "api"
# A run notes its sync within seconds; later it is one whose process died, or it found no work.
NOTED_WITHIN = timedelta(minutes=1)
UNFINISHED = (
    StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED,
    StateType.CANCELLING,
)  # fmt: skip
# Of runs in a row that ended without beginning anything.
_TRIES = 10
_MOST = 50
_LABEL = "atom-sync.asked"


@dataclass(frozen=True)
class Order:
    """What is to be read: what is new in every stream or in some, or everything again."""

    streams: Sequence[str] | None = None
    full: bool = False


@dataclass(frozen=True)
class Ordered:
    """The run that does it. `is_new` is False where it waited or ran already."""

    flow_run_id: UUID
    is_new: bool


class UnderWayError(Exception):
    """A sync is under way that reads less than what was asked for; it names the run."""

    def __init__(self, message: str, flow_run_id: UUID) -> None:
        super().__init__(message)
        self.flow_run_id = flow_run_id


async def order_sync(
    settings: Settings, database: Database, connection: Connection, order: Order
) -> Ordered:
    """The run that waits or is at work, or a new one.

    UnderWayError where that reads less than was asked for; PrefectUnavailableError.
    """
    owed_at = await backfills.owed_since(database, connection.id)
    at_work = await history.under_way(database, connection.id)
    latest = await history.page(database, connection.id, limit=1)
    async with connected(settings, NO_RUNS) as client:
        backfill = None
        if owed_at is not None:
            # It would begin within seconds, and take the lease from under this one.
            backfill = await start_backfill(client, database, connection, owed_at)
        if at_work is not None:
            return _answered(order, at_work.flow_run_id, await _read(client, at_work.flow_run_id))
        now = datetime.now(UTC)
        for run in await unfinished(client, connection.id):
            if _goes_on(run, now):
                found = _answered(order, run.id, run)
                return replace(found, is_new=run.id == backfill)
        return await _made(client, connection, order, latest[0].flow_run_id if latest else None)


async def unfinished(client: PrefectClient, connection_id: UUID) -> list[FlowRun]:
    """The runs of a connection that Prefect takes to be waiting or at work, the newest first."""
    asked = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[connection_tag(connection_id)]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNFINISHED))),
    )
    return await client.read_flow_runs(
        flow_run_filter=asked, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=_MOST
    )


async def read_run(settings: Settings, flow_run_id: UUID) -> FlowRun | None:
    """A run as Prefect has it; None where it has none. PrefectUnavailableError."""
    async with connected(settings) as client:
        return await _read(client, flow_run_id)


async def waiting_runs(settings: Settings, connection_id: UUID) -> list[FlowRun]:
    """Those of `unfinished` that wait, or have just begun. PrefectUnavailableError."""
    async with connected(settings) as client:
        found = await unfinished(client, connection_id)
    now = datetime.now(UTC)
    return [run for run in found if _goes_on(run, now)]


def _goes_on(run: FlowRun, now: datetime) -> bool:
    """Whether a run of which no sync is noted will still begin, as far as its state tells."""
    state = run.state
    if state is None or state.type == StateType.SCHEDULED:
        return True
    patience = NOTED_WITHIN if state.type == StateType.RUNNING else BEGINS_WITHIN
    return now - state.timestamp < patience


def _answered(order: Order, flow_run_id: UUID, run: FlowRun | None) -> Ordered:
    """That run, if it reads what was asked for. One that was ordered for all that is new is
    answered by whatever is under way: a scheduled one leaves out only what is not due."""
    given = dict(run.parameters) if run is not None else {}
    some: Sequence[str] | None = given.get("streams")
    if order.full and not (given.get("full") or given.get("audit")):
        raise UnderWayError(
            "a sync is under way that reads only what is new: ask again when it has ended, "
            "nothing is noted of this request",
            flow_run_id,
        )
    missing = [] if some is None else [each for each in order.streams or () if each not in some]
    if missing or (order.full and some is not None and order.streams is None):
        raise UnderWayError(
            f"a sync is under way that reads only {', '.join(some or ())}: ask again when it has "
            "ended, nothing is noted of this request",
            flow_run_id,
        )
    return Ordered(flow_run_id, is_new=False)


async def _made(
    client: PrefectClient, connection: Connection, order: Order, before: UUID | None
) -> Ordered:
    """A new run, or that which somebody else has just made."""
    mark, key = str(uuid4()), f"sync:{connection.id}:{before}"
    for _ in range(_TRIES):
        run = await start_sync(
            client, connection, trigger=TRIGGER, streams=order.streams, full=order.full,
            idempotency_key=key, labels={_LABEL: mark},
        )  # fmt: skip
        if run.labels.get(_LABEL) == mark:
            return Ordered(run.id, is_new=True)
        if run.state is None or not run.state.is_final():
            return _answered(order, run.id, run)
        key = f"sync:{connection.id}:{run.id}"  # that one ended before it began anything
    run = await start_sync(
        client, connection, trigger=TRIGGER, streams=order.streams, full=order.full
    )
    return Ordered(run.id, is_new=True)


async def _read(client: PrefectClient, flow_run_id: UUID) -> FlowRun | None:
    try:
        return await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return None
