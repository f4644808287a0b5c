"""Keeps the schedules what the database says, if something else has failed to."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from deployments.catchup import catch_up
from deployments.reconcile import reconcile as make
from deployments.triggers import PrefectUnavailableError
from flows._passing import ends_well
from flows._results import NOWHERE
from flows._runtime import runtime


@flow(
    name="reconcile",
    flow_run_name="schedules · as the tiers would have them",
    persist_result=False,
    result_storage=NOWHERE,
)
@ends_well
async def reconcile() -> State[None]:
    """Make the tier deployments what the database says, put back those of prefect.yaml that are
    gone, and sync what waits for a far tick.

    The web process does the first within seconds of a change; this finds what it missed.
    """
    async with runtime() as shared:
        try:
            plan = await make(shared.settings, shared.database, missing=True)
            started = await catch_up(shared.settings, shared.database)
        except PrefectUnavailableError as error:
            return Failed(message=str(error))
    if plan is None:
        message = "another process is making the schedules"
    else:
        message = f"{len(plan.changes):,} changed, {plan.unchanged:,} as they should be"
        message = "; ".join((message, *plan.problems))
    if started:
        message += f"; {started:,} dispatchers started for what waits"
    return Completed(message=message)
