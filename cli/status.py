"""`status`: every connection and stream, or one connection in full."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from cli.terminal import JsonOption, out, plain, print_json, target_of
from connectors import load
from deployments.schedule_report import Explained, explain
from servers import local
from settings import Settings, read
from storage import (
    audits,
    connections,
    freshness,
    records,
)
from storage.database import Database


def status(
    target: Annotated[
        str | None, typer.Argument(metavar="[TENANT/INTEGRATION]", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every connection and stream: rows, last sync, whether that is in time, and what is wrong.

    Of one connection: how often it is synced and why, when next, whether webhooks work, and of
    which times they may not have told.
    """
    with local.attached(read()) as settings:
        if target is not None:
            _status_of(settings, target, account, as_json=as_json)
            return
        rows = asyncio.run(_status(settings))
    if as_json:
        print_json(rows)
    elif not rows:
        out.print("no connections yet: docs/connecting.md says how a tenant makes one")
    else:
        out.print(status_table(rows))


async def _status(settings: Settings) -> list[dict[str, Any]]:
    async with local.ready(settings) as database:
        return await status_rows(database)


async def status_rows(database: Database) -> list[dict[str, Any]]:
    """A row for each connection's stream, in the order of tenants and integrations."""
    counts = await records.counts(database)
    fresh = await freshness.of_streams(database)
    checked = await audits.of_all(database)
    rows = []
    for connection in await connections.listing(database):
        for stream in load(connection.integration).streams:
            found = counts.get((connection.id, stream.name))
            promised = fresh.get((connection.id, stream.name))
            checked_at, drift = checked.get((connection.id, stream.name), (None, None))
            rows.append(
                {
                    "tenant": connection.tenant_slug,
                    "tier": connection.tier,
                    "integration": connection.integration,
                    "account": connection.account_id,
                    "stream": stream.name,
                    "rows": found.rows if found else 0,
                    "last_sync": found.last_synced_at if found else None,
                    "every_seconds": promised.every.total_seconds() if promised else None,
                    "age_seconds": promised.age.total_seconds() if promised else None,
                    "late": promised.reason if promised else None,
                    "checked_at": checked_at,
                    "drift": drift,
                    "unread": list(found.unread) if found else [],
                    "refills": found.refills if found else False,
                    "status": connection.status,
                    "reason": connection.status_reason,
                }
            )
    return rows


def status_table(rows: list[dict[str, Any]]) -> Table:
    """A line for each tenant, one for each integration with its state, one for each stream."""
    # What repeats stands once: 80 columns have to be enough.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("tenant, integration, stream", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("last sync", no_wrap=True)
    table.add_column("fresh", no_wrap=True)
    table.add_column("state", ratio=1, overflow="fold")
    former = ("", "", "")
    for row in rows:
        connection = (row["tenant"], row["integration"], row["account"])
        if former[0] != row["tenant"]:
            if former[0]:
                table.add_section()
            table.add_row(f"[bold]{row['tenant']} ({row['tier']})[/bold]")
        if former != connection:
            table.add_row(f"  {row['integration']}", "", "", "", _state(row))
        table.add_row(
            f"    {row['stream']}", f"{row['rows']:,}", _ago(row["last_sync"]), _freshness(row),
            ", ".join(_remarks(row)),
        )  # fmt: skip
        former = connection
    return table


def _state(row: dict[str, Any]) -> str:
    """The connection's state, and what is wrong with it."""
    return f"[red]{row['status']}[/red]: {row['reason']}" if row["reason"] else row["status"]


def _remarks(row: dict[str, Any]) -> Iterator[str]:
    """What of a stream is not there yet, and what its last audit found."""
    if row["unread"]:
        yield f"[red]{len(row['unread']):,} unread[/red]"
    if row["refills"]:
        yield "filling in fields"
    if row["checked_at"] is not None:
        drift = f": [red]{row['drift']:,} off[/red]" if row["drift"] else ""
        yield f"checked {_ago(row['checked_at'])}{drift}"


def _freshness(row: dict[str, Any]) -> str:
    """In time, or why not; nothing of a stream whose interval is not in the database yet."""
    if row["late"] is not None:
        return f"[red]late[/red]: {row['late']}"
    return "" if row["age_seconds"] is None else "[green]in time[/green]"


def _ago(at: datetime | None) -> str:
    if at is None:
        return "never"
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _status_of(settings: Settings, target: str, account: str | None, *, as_json: bool) -> None:
    """How often TENANT/INTEGRATION is synced and why, and when it will be next."""
    tenant, integration = target_of(target)
    now = datetime.now(UTC)
    found = asyncio.run(_explained(settings, tenant, integration, account, now))
    if as_json:
        print_json(found.as_json())
        return
    connection = found.connection
    name = f" ({connection.account_name})" if connection.account_name else ""
    out.print(
        f"{connection}, account {connection.account_id}{name}: {connection.status}", highlight=False
    )
    if connection.status_reason:
        out.print(f"  {plain(connection.status_reason)}", highlight=False)
    for line in found.lines(now):
        out.print(f"  {plain(line)}", highlight=False)


async def _explained(
    settings: Settings, tenant: str, integration: str, account: str | None, now: datetime
) -> Explained:
    async with local.ready(settings) as database:
        connection = await connections.find(database, tenant, integration, account)
        return await explain(settings, database, connection, now)
