"""`deploy`: the Prefect server as the database would have it."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.terminal import JsonOption, err, out, plain, print_json
from servers import local
from servers.database import ready
from servers.processes import ServiceError
from settings import Settings, read

if TYPE_CHECKING:
    from deployments.plan import Plan

PATIENCE = 60.0  # with another process that makes schedules now
# seconds, with another process that makes schedules now


COLOURS = {"create": "green", "update": "yellow", "delete": "red"}


def deploy(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
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
        print_json(
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

    async with ready(settings) as database:
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
            table.add_row(action, plain(change.deployment), plain("\n".join(change.what)))
        out.print(table)
    out.print(f"{plan.unchanged:,} deployments are as they should be")
    for problem in plan.problems:
        err.print(f"[red]{plain(problem)}[/red]", highlight=False)
