"""No feed is believed for ever: streams are checked now and then against what a vendor lists."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prefect import flow, tags
from prefect.artifacts import acreate_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from accounts.runtime import Runtime
from connectors import Connector
from deployments.tiers import audit_intervals
from deployments.triggers import run_name, run_tags
from flows._passing import ends_well
from flows._results import NOWHERE
from flows._runtime import runtime
from flows.sync import sync
from integrations import all_of
from storage import Tier, audits, breakers, connections, integrations, runs
from storage.audits import Due
from storage.locks import locked

TRIGGER = "audit"
ARTIFACT = "audits"
AT_ONCE = 2
AT_MOST = 500


@dataclass
class _Round:
    """One run: what it has spent of each integration's calls, and what came of it."""

    shared: Runtime
    calls: int
    spent: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    table: list[dict[str, Any]] = field(default_factory=list)


@flow(
    name="audit", flow_run_name="audits · what is due", persist_result=False, result_storage=NOWHERE
)
@ends_well
async def audit(calls: int = 2_000) -> State[None]:
    """Check streams against what their vendor lists, those first that wait longest.

    What was missing, out of date or too much is counted and put right; the artifact `audits` tells
    it. So many calls an integration: once they are spent, nothing more of it is begun.
    """
    async with runtime() as shared:
        url = shared.settings.database_url
        lock = f"audit {shared.database.schema}"
        async with locked(url.get_secret_value() if url else "", lock) as ours:
            if not ours:
                return Completed(name="Skipped", message="the former run is still going")
            this = _Round(shared, calls)
            known = all_of(await integrations.in_use(shared.database))
            every = list(_every(shared, known))
            await _check_all(this, await audits.due(shared.database, every, at_most=AT_MOST))
    if this.table:
        await acreate_table_artifact(
            key=ARTIFACT, table=this.table, description="What the last audits found, and put right."
        )
    counts = [f"{count:,} {what}" for what, count in sorted(this.counts.items())]
    return Completed(message="; ".join(counts) or "nothing is to be checked")


def _every(
    shared: Runtime, connectors: Iterable[Connector]
) -> Iterator[tuple[str, str, Tier, timedelta]]:
    for connector in connectors:
        for tier in Tier:
            intervals = audit_intervals(shared.settings, connector.streams, tier)
            for stream, every in intervals.items():
                yield connector.name, stream, tier, every


async def _check_all(this: _Round, found: list[Due]) -> None:
    away = await breakers.standing_open(this.shared.database)
    waiting = [one for one in found if one.integration not in away]

    async def work() -> None:
        while waiting:
            await _check(this, waiting.pop(0))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _check(this: _Round, one: Due) -> None:
    database = this.shared.database
    if this.spent[one.integration] >= this.calls:
        this.counts["left for later: the calls are spent"] += 1
        return
    if told := await this.shared.told_to_stop():
        this.counts[f"left for later, {told}"] += 1
        return
    connection = await connections.get(database, one.connection_id)
    async with database.transaction(connection.tenant_id) as session:
        before = {
            name: found.ended_at
            for name, found in (await audits.latest(session, connection.id)).items()
        }
    with tags(*run_tags(connection, TRIGGER)):
        named = sync.with_options(flow_run_name=run_name(connection, TRIGGER))
        state = await named(
            connection.id, trigger=TRIGGER, streams=list(one.streams), audit=True, return_state=True
        )
    flow_run_id = state.state_details.flow_run_id
    this.spent[one.integration] += await runs.requests_in(database, connection.id, flow_run_id)
    this.counts["checked" if state.is_completed() else "not checked to their end"] += 1
    await _tell(this, connection, before)


async def _tell(
    this: _Round, connection: connections.Connection, before: dict[str, datetime | None]
) -> None:
    """What came of the audits that ended in this run."""
    async with this.shared.database.transaction(connection.tenant_id) as session:
        latest = await audits.latest(session, connection.id)
    for name, found in latest.items():
        if found.ended_at == before.get(name):
            continue
        this.counts["records differed"] += found.drift
        this.table.append(
            {
                "connection": str(connection),
                "stream": name,
                "checked": found.checked,
                "missing": found.missing,
                "out of date": found.stale,
                "too much": found.extra,
            }
        )
