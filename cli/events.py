"""`events`: what vendors' webhooks told us."""

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.terminal import JsonOption, err, example, out, plain, print_json
from servers import local
from servers.database import ready
from settings import Settings, read
from storage import (
    inbox,
    privacy,
)

commands = typer.Typer(help="What vendors' webhooks told us, and could not be applied.")


@commands.callback(epilog=example("events --failed"))
def events(
    context: typer.Context,
    failed: Annotated[
        bool, typer.Option("--failed", help="List those that were set aside.")
    ] = False,
    duties: Annotated[
        bool, typer.Option("--duties", help="List what the law asks for and is not done yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How many events wait, and how many were set aside after their last attempt."""
    if context.invoked_subcommand is not None:
        return
    with local.attached(read()) as settings:
        counted, aside, owed = asyncio.run(_events(settings))
    if as_json:
        listed = {
            "set_aside": [_dated(one) for one in aside] if failed else None,
            "duties": [_dated(one) for one in owed] if duties else None,
        }
        print_json({**counted, **listed})
        return
    out.print(f"{counted['pending']:,} events wait, {counted['failed']:,} were set aside")
    if counted["unreadable"]:
        out.print(f"{counted['unreadable']:,} had a form that we cannot read (their type names it)")
    if counted["foreign"]:
        out.print(f"{counted['foreign']:,} of those that wait were written by a newer release")
    if owed and not duties:
        out.print(f"{len(owed):,} of those that wait are duties: atom-sync events --duties")
    if owed and duties:
        table = Table("event", "tenant", "integration")
        table.add_column("type", no_wrap=True)
        table.add_column("received")
        table.add_column("done after")
        for duty in owed:
            times = (f"{at:%Y-%m-%d %H:%M}" for at in (duty.received_at, duty.due_at))
            table.add_row(
                str(duty.id), *map(plain, (duty.tenant, duty.integration, duty.type)), *times
            )
        out.print(table)
        out.print("one that is not to be done: atom-sync events withdraw EVENT …")
    if failed and aside:
        table = Table("event", "tenant", "integration", "type", "received", "attempts")
        table.add_column("reason", overflow="fold")
        for one in aside:
            received = f"{one.received_at:%Y-%m-%d %H:%M:%S}"
            cells = (one.tenant, one.integration, one.type, received, one.attempts, one.reason)
            table.add_row(str(one.id), *(plain(str(value)) for value in cells))
        out.print(table)
        out.print("try them again: atom-sync events retry [EVENT …]")


def _dated(row: inbox.SetAside | privacy.Duty) -> dict[str, Any]:
    times = {name: at.isoformat() for name, at in asdict(row).items() if name.endswith("_at")}
    return {**asdict(row), **times}


async def _events(
    settings: Settings,
) -> tuple[dict[str, int], list[inbox.SetAside], list[privacy.Duty]]:
    async with ready(settings) as database:
        return (
            await inbox.counts(database),
            await inbox.set_aside(database),
            await privacy.waiting(database),
        )


@commands.command(epilog=example("events retry 17 18"))
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[EVENT]…")] = None,
) -> None:
    """Try events again that were set aside: those named, or all."""

    async def again(settings: Settings) -> int:
        async with ready(settings) as database:
            return await inbox.retry(database, ids or None)

    with local.attached(read()) as settings:
        count = asyncio.run(again(settings))
    out.print(f"{count:,} events are tried again")
    if ids and count < len(ids):
        err.print(f"{len(ids) - count:,} of those named are not set aside")
        sys.exit(1)


@commands.command(epilog=example("events withdraw 17"))
def withdraw(ids: Annotated[list[int], typer.Argument(metavar="EVENT…")]) -> None:
    """Never do what a vendor's delivery asked to erase: the duties named, of those not done yet."""

    async def never(settings: Settings) -> int:
        async with ready(settings) as database:
            return await privacy.withdraw(database, ids)

    with local.attached(read()) as settings:
        count = asyncio.run(never(settings))
    out.print(f"{count:,} duties were withdrawn")
    if count < len(ids):
        err.print(f"{len(ids) - count:,} of those named are no duties, or done already")
        sys.exit(1)
