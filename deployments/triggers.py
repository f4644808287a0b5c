"""Starting flow runs through the Prefect API, and following them to their end."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from deployments.errors import PrefectUnavailableError as PrefectUnavailableError
from deployments.prefect_api import Say, connected, patiently
from settings import Settings
from storage import backfills, connections
from storage.database import Database

MANUAL_SYNC = "sync/manual"
DRAIN = "drain-events/webhooks"
WATCHES = "renew-watches/scheduled"
NO_RUNS = "the Prefect server takes no runs now; try again"


def run_name(connection: connections.Connection, trigger: str) -> str:
    """`hubspot · acme · schedule`: what a run of a connection is called in the Prefect UI."""
    return f"{connection.integration} · {connection.tenant_slug} · {trigger}"


def run_tags(connection: connections.Connection, trigger: str) -> list[str]:
    """The tags by which the Prefect UI finds a tenant's, an integration's or a tier's runs."""
    return [
        f"tenant:{connection.tenant_slug}",
        f"integration:{connection.integration}",
        f"tier:{connection.tier}",
        f"trigger:{trigger}",
        connection_tag(connection.id),
    ]


def connection_tag(connection_id: UUID) -> str:
    """The tag by which a connection's runs are found, also those that only wait."""
    return f"connection:{connection_id}"


async def start_sync(
    client: PrefectClient,
    connection: connections.Connection,
    *,
    trigger: str = "manual",
    streams: Sequence[str] | None = None,
    full: bool = False,
    audit: bool = False,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> FlowRun:
    """Ask Prefect for a run of `sync`; a worker picks it up."""
    deployment = await client.read_deployment_by_name(MANUAL_SYNC)
    return await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={
            "connection_id": str(connection.id),
            "trigger": trigger,
            "streams": list(streams) if streams else None,
            "full": full,
            "audit": audit,
        },
        name=run_name(connection, trigger),
        tags=run_tags(connection, trigger),
        idempotency_key=idempotency_key,
        labels=dict(labels or {}),
    )


async def start_backfill(
    client: PrefectClient, database: Database, connection: connections.Connection, owed_at: datetime
) -> UUID:
    """The run of the backfill that is owed since then, asked for once however often this is."""
    run = await start_sync(
        client, connection, trigger="connect",
        idempotency_key=f"backfill:{connection.id}:{owed_at.isoformat()}",
    )  # fmt: skip
    await backfills.taken(database, connection.id, owed_at, run.id)
    return run.id


async def started(
    settings: Settings,
    deployment: str,
    *,
    name: str,
    idempotency_key: str,
    parameters: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> FlowRun:
    """The run under that key; PrefectUnavailableError if Prefect has not taken it."""
    async with connected(settings, NO_RUNS) as client:
        found = await client.read_deployment_by_name(deployment)
        return await client.create_flow_run_from_deployment(
            found.id,
            parameters=dict(parameters or {}),
            name=name,
            tags=list(tags),
            idempotency_key=idempotency_key,
        )


async def each_ended(
    client: PrefectClient,
    flow_run_ids: Sequence[UUID],
    *,
    every: float = 0.5,
    say: Say | None = None,
) -> AsyncIterator[FlowRun]:
    """Each run once, as it reaches its end. A server that does not answer is waited for."""
    waiting = set(flow_run_ids)
    while waiting:
        for flow_run_id in sorted(waiting):
            run = await patiently(partial(client.read_flow_run, flow_run_id), say)
            if run.state is not None and run.state.is_final():
                waiting.discard(flow_run_id)
                yield run
        if waiting:
            await asyncio.sleep(every)
