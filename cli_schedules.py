"""The commands about schedules: `deploy`, and `status` of one connection."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployments import local
from deployments._processes import ServiceError
from deployments.explained import Explained, explain
from settings import Settings, read
from storage import connections

if TYPE_CHECKING:
    from deployments._plan import Plan

out = Console()
err = Console(stderr=True)
PATIENCE = 60.0  # with another process that makes schedules now
COLOURS = {"create": "green", "update": "yellow", "delete": "red"}


def add_to(app: typer.Typer) -> None:
    """Make these commands of the program."""
    app.command()(deploy)


def deploy(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Make the Prefect server match prefect.yaml and the database, and say what is changed.

    What is right is not touched, nor what anybody else made, and what is paused stays paused.
    """
    with local.attached(read()) as settings:
        if settings.prefect_api_url is None:
            raise ServiceError("no Prefect server: start `atom-sync up`, or set PREFECT_API_URL")
        plan = asyncio.run(_deploy(settings, dry_run=dry_run, quiet=as_json))
    if plan is None:
        raise ServiceError("another process is making the schedules; try again")
    if as_json:
        _print_json(
            {
                "changes": [
                    {"action": each.action, "deployment": each.deployment, "what": each.what}
                    for each in plan.changes
                ],
                "unchanged": plan.unchanged,
                "problems": plan.problems,
                "done": not dry_run,
            }
        )
    elif plan.changes:
        out.print("nothing was changed" if dry_run else "[green]done[/green]")


async def _deploy(settings: Settings, *, dry_run: bool, quiet: bool) -> "Plan | None":
    # Importing Prefect takes over a second, which `atom-sync status` need not wait for.
    from deployments.reconcile import reconcile

    async with local.ready(settings) as database:
        return await reconcile(
            settings,
            database,
            whole=True,
            dry_run=dry_run,
            show=lambda plan: None if quiet else _show(plan),
            patience=PATIENCE,
        )


def _show(plan: "Plan") -> None:
    if plan.changes:
        table = Table("", "deployment", "what")
        for change in plan.changes:
            action = f"[{COLOURS[change.action]}]{change.action}[/]"
            table.add_row(action, _plain(change.deployment), _plain("\n".join(change.what)))
        out.print(table)
    out.print(f"{plan.unchanged:,} deployments are as they should be")
    for problem in plan.problems:
        err.print(f"[red]{_plain(problem)}[/red]", highlight=False)


def status_of(settings: Settings, target: str, account: str | None, *, as_json: bool) -> None:
    """How often TENANT/INTEGRATION is synced and why, and when it will be next."""
    tenant, integration = parsed(target)
    now = datetime.now(UTC)
    found = asyncio.run(_explained(settings, tenant, integration, account, now))
    if as_json:
        _print_json(found.as_json())
        return
    connection = found.connection
    name = f" ({connection.account_name})" if connection.account_name else ""
    out.print(
        f"{connection}, account {connection.account_id}{name}: {connection.status}", highlight=False
    )
    if connection.status_reason:
        out.print(f"  {_plain(connection.status_reason)}", highlight=False)
    for line in found.lines(now):
        out.print(f"  {_plain(line)}", highlight=False)


async def _explained(
    settings: Settings, tenant: str, integration: str, account: str | None, now: datetime
) -> Explained:
    async with local.ready(settings) as database:
        connection = await connections.find(database, tenant, integration, account)
        return await explain(settings, database, connection, now)


def parsed(target: str) -> tuple[str, str]:
    """`acme/hubspot` as its two parts."""
    tenant, _, integration = target.partition("/")
    if not tenant or not integration:
        raise LookupError(
            f"{target!r} should look like TENANT/INTEGRATION, for example acme/hubspot"
        )
    return tenant, integration


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
