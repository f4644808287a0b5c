"""Backfills whose run never began: what became of each run, and whether it is owed again.

A run is Pending once a worker has taken it, and stays so when that worker dies; a hand may cancel
or delete it; and Prefect's database may be lost. Who only waits for a worker waits on.
"""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from deployments.stale_runs import CUT_OFF
from deployments.triggers import MANUAL_SYNC
from storage import backfills
from storage.connections import MAX_RETRY_AFTER, RETRY_AFTER
from storage.database import Database

_PAGE = 200  # as many as a Prefect server gives at once (3.8)


class Fate(StrEnum):
    """What becomes of a backfill, as upkeep says it."""

    WAITS = "waits"
    DONE = "another run was at it"
    OWED = "backfills that never began are started again"
    GIVEN_UP = "backfills were cancelled by hand and are left to their schedule"


async def look_after(client: PrefectClient, database: Database) -> Counter[Fate]:
    """Owes again what Prefect has a run for that never begins; how many fared how."""
    fates: Counter[Fate] = Counter()
    asked = await backfills.asked(database)
    if not asked:
        return fates
    deployment_id = await _deployment_id(client)
    runs = await _runs(client, [one.flow_run_id for one in asked])
    for one in asked:
        fate = fate_of(runs.get(one.flow_run_id), one.tries, deployment_id, datetime.now(UTC))
        fates[fate] += 1
        if fate is Fate.OWED:
            await backfills.owe_again(database, one)
        elif fate is not Fate.WAITS:
            await backfills.settle(database, one)
    return fates


def fate_of(run: FlowRun | None, tries: int, deployment_id: UUID | None, now: datetime) -> Fate:
    """Of a backfill that has noted no sync, by its run as Prefect has it; None: it has none.

    A run that is gone was deleted, by a hand or with Prefect's database; a deletion says nothing of
    the backfill, a cancel does. Prefect itself cancels runs whose deployment is gone.
    """
    if run is None:
        return Fate.OWED
    state = run.state
    if state is None or not state.is_final():
        return Fate.WAITS
    if state.type == StateType.COMPLETED:
        return Fate.DONE
    by_hand = state.type == StateType.CANCELLED and state.name != CUT_OFF
    if by_hand and run.deployment_id is not None and run.deployment_id == deployment_id:
        return Fate.GIVEN_UP
    # What keeps a run from beginning may last: a fault of ours, a worker without its packages.
    return Fate.OWED if now - state.timestamp >= pause(tries) else Fate.WAITS


def pause(tries: int) -> timedelta:
    """How long is waited after so many runs that never began, before the next."""
    return min(RETRY_AFTER * 2 ** min(tries - 1, 30), MAX_RETRY_AFTER) if tries else timedelta()


async def _deployment_id(client: PrefectClient) -> UUID | None:
    try:
        return (await client.read_deployment_by_name(MANUAL_SYNC)).id
    except ObjectNotFound:  # `reconcile` puts it back
        return None


async def _runs(client: PrefectClient, ids: Collection[UUID]) -> dict[UUID, FlowRun]:
    left, found = list(ids), {}
    while left:
        page, left = left[:_PAGE], left[_PAGE:]
        asked = FlowRunFilter(id=FlowRunFilterId(any_=page))
        for run in await client.read_flow_runs(flow_run_filter=asked, limit=_PAGE):
            found[run.id] = run
    return found
