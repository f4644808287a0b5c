"""A sync or an audit that is started now, and followed to its end."""

from collections.abc import Sequence

from prefect.client.schemas import FlowRun

from deployments.prefect_api import Say, answering, connected
from deployments.triggers import each_ended, start_sync
from integrations import load
from servers.database import ready
from settings import Settings
from storage import audits, connections


async def sync_now(
    settings: Settings,
    tenant: str,
    integration: str,
    *,
    account: str | None,
    streams: Sequence[str] | None,
    full: bool,
    say: Say,
    audit: bool = False,
) -> FlowRun:
    """Sync a tenant's connection, and follow the run to its end.

    `say` gets a line for a person who waits, such as that Prefect does not answer.
    """
    async with ready(settings) as database:
        connector = load(integration)
        for name in streams or ():
            connector.stream(name)  # before anything runs
        connection = await connections.find(database, tenant, integration, account)
    trigger = "audit" if audit else "manual"
    async with connected(settings) as client:
        async with answering(say):
            run = await start_sync(
                client, connection, trigger=trigger, streams=streams, full=full, audit=audit
            )
        async for ended in each_ended(client, [run.id], say=say):
            run = ended
    return run


async def audit_now(
    settings: Settings,
    tenant: str,
    integration: str,
    *,
    account: str | None,
    streams: Sequence[str] | None,
    say: Say,
) -> tuple[FlowRun, list[audits.Result]]:
    """Check a tenant's connection against what the vendor lists: the run, and what it found."""
    async with ready(settings) as database:
        connection = await connections.find(database, tenant, integration, account)
        async with database.transaction(connection.tenant_id) as session:
            before = await audits.latest(session, connection.id)
        run = await sync_now(
            settings,
            tenant,
            integration,
            account=account,
            streams=streams,
            full=False,
            say=say,
            audit=True,
        )
        async with database.transaction(connection.tenant_id) as session:
            after = await audits.latest(session, connection.id)
    return run, [one for name, one in after.items() if one != before.get(name)]
