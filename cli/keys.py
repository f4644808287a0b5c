"""`keys`: the master keys that tenants' secrets are sealed under."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import JsonOption, err, example, out, plain, print_json, progress_bar
from cli.vault import vault_of
from servers import local
from servers.database import ready
from settings import Settings, read
from storage import (
    rotation,
)

commands = typer.Typer(help="The master keys that tenants' secrets are sealed under.")


@commands.command(epilog=example("keys rotate"))
def rotate() -> None:
    """Put every tenant's data key under the current master key, while syncs run.

    It may be stopped and started again. First put the new key in front in ENCRYPTION_KEYS, and
    restart every process.
    """
    with local.attached(read()) as settings, progress_bar("data keys") as step:
        rotated = asyncio.run(_rotate(settings, step))
    out.print(f"{rotated.done:,} data keys were put under the current key")
    tell_faults(rotated.faults)
    if rotated.held:
        err.print(f"{rotated.held:,} were held by others all the while: run it again")
    if rotated.faults or rotated.held:
        sys.exit(1)


@commands.command(epilog=example("keys check"))
def check(as_json: JsonOption = False) -> None:
    """Which master keys are needed, and whether every secret opens; changes nothing."""
    with local.attached(read()) as settings:
        found, faults = asyncio.run(_check(settings))
    if as_json:
        print_json(
            {
                **asdict(found),
                "missing": found.missing,
                "left": found.left,
                "retired": found.retired,
                "faults": [asdict(fault) for fault in faults],
            }
        )
    else:
        table = Table("key", "place", "tenants under it")
        for name in dict.fromkeys((*found.known, *found.recorded[:1], *found.tenants)):
            place = "current" if name == found.current else "older"
            place = place if name in found.known else "[red]missing here[/red]"
            place = "not needed any more" if name in found.retired else place
            table.add_row(name, place, f"{found.tenants.get(name, 0):,}")
        out.print(table)
        tell_faults(faults)
        for tenant, setting in found.plaintext:
            err.print(f"[red]{tenant}: {plain(setting)} is not sealed[/red]", highlight=False)
    if found.missing or faults or found.plaintext:
        sys.exit(1)


@commands.command(epilog=example("keys abandon 9b230b3ef672e507"))
def abandon(
    fingerprint: Annotated[str, typer.Argument(help="Of the lost key, as `keys check` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up what a lost master key wrapped; its tenants are asked to connect again."""
    if not yes:
        typer.confirm(f"Give up every secret that only {fingerprint} can open?", abort=True)

    async def work(settings: Settings) -> list[str]:
        async with ready(settings) as database:
            return await rotation.abandon(database, vault_of(settings), fingerprint)

    with local.attached(read()) as settings:
        found = asyncio.run(work(settings))
    out.print(f"given up: the secrets of {', '.join(found) or 'nobody'}", highlight=False)


async def _rotate(settings: Settings, step: Callable[[int, int], None]) -> rotation.Rotated:
    async with ready(settings) as database:
        return await rotation.rotate(database, vault_of(settings), progress=step)


async def _check(settings: Settings) -> tuple[rotation.Keys, list[rotation.Fault]]:
    vault = vault_of(settings)
    async with ready(settings) as database:
        found = await rotation.survey(database, vault)
        return found, await rotation.try_all(database, vault)


def tell_faults(faults: Iterable[rotation.Fault]) -> None:
    """A line for each secret that does not open."""
    for fault in faults:
        what = f"{fault.tenant}: {fault.setting}" if fault.setting else fault.tenant
        err.print(f"[red]{plain(what)}[/red]: {plain(fault.reason)}", highlight=False)
