"""Deletes that no vendor tells of: streams are read as a whole now and then, within a budget."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from prefect import flow, tags
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from connectors import all_connectors
from deployments.runtime import Runtime
from deployments.triggers import run_name, run_tags
from flows._runtime import runtime
from flows.sync import sync
from storage import StorageError, breakers, connections, runs, sweeping
from storage.locks import locked
from storage.sweeping import Unswept

TRIGGER = "sweep"
AT_ONCE = 2
AT_MOST = 500


@dataclass
class _Sweep:
    """One run: what it has spent of each integration's calls, and what came of it."""

    shared: Runtime
    calls: int
    spent: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


@flow(name="sweep-deletes", persist_result=False)
async def sweep_deletes(calls: int = 2_000) -> State[None]:
    """Read streams that hide deletes as a whole, those first that wait longest.

    So many calls an integration: once they are spent, nothing more of it is begun.
    """
    hidden = {
        connector.name: [stream.name for stream in connector.streams if stream.hides_deletes]
        for connector in all_connectors()
    }
    async with runtime() as shared:
        url = shared.settings.database_url
        lock = f"sweep {shared.database.schema}"
        try:
            async with locked(url.get_secret_value() if url else "", lock) as ours:
                if not ours:
                    return Completed(name="Skipped", message="the former run is still going")
                sweep = _Sweep(shared, calls)
                await _sweep_all(
                    sweep, await sweeping.unswept(shared.database, hidden, at_most=AT_MOST)
                )
        except StorageError as error:
            return Failed(message=str(error))
    told = [f"{count:,} {what}" for what, count in sorted(sweep.counts.items())]
    return Completed(message="; ".join(told) or "nothing is to be swept")


async def _sweep_all(sweep: _Sweep, found: list[Unswept]) -> None:
    away = await breakers.standing_open(sweep.shared.database)
    waiting = [one for one in found if one.integration not in away]

    async def work() -> None:
        while waiting:
            await _sweep(sweep, waiting.pop(0))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _sweep(sweep: _Sweep, one: Unswept) -> None:
    database = sweep.shared.database
    if sweep.spent[one.integration] >= sweep.calls:
        sweep.counts["left for later: the calls are spent"] += 1
        return
    if await runs.stopping(database, sweep.shared.settings.atom_worker):
        sweep.counts["left for later: told to stop"] += 1
        return
    connection = await connections.get(database, one.connection_id)
    with tags(*run_tags(connection, TRIGGER)):
        named = sync.with_options(flow_run_name=run_name(connection, TRIGGER))
        state = await named(
            connection.id, trigger=TRIGGER, streams=list(one.streams), full=True, return_state=True
        )
    flow_run_id = state.state_details.flow_run_id
    sweep.spent[one.integration] += await runs.requests_in(database, connection.id, flow_run_id)
    sweep.counts["swept" if state.is_completed() else "not swept to their end"] += 1
