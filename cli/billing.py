"""`atom-sync billing`: what tenants pay for, compared with Stripe."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from billing import customers
from billing.reconcile import Difference, Outcome, reconcile
from cli.terminal import JsonOption, err, example, out, print_json
from servers import local
from servers.database import ready
from settings import Settings, SettingsError, read
from storage import endings

COLOURS = {Outcome.DIFFERS: "red", Outcome.REPAIRED: "green", Outcome.ATTENTION: "red"}


commands = typer.Typer(help="What tenants pay for, as Stripe says.", no_args_is_help=True)


@commands.command("reconcile", epilog=example("billing reconcile --dry-run"))
def reconcile_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every tenant with Stripe, and put right what differs.

    Exit status 1 if something still differs, or needs you.
    """
    with local.attached(read()) as settings, err.status("asking Stripe …") as shown:
        found = asyncio.run(
            _reconcile(settings, dry_run, lambda n: shown.update(f"{n:,} subscriptions read …"))
        )
    left = [each for each in found if each.outcome is not Outcome.REPAIRED]
    if as_json:
        result = {"ok": not left, "differences": [asdict(each) for each in found]}
        print_json(result)
    elif found:
        out.print(_table(found))
    else:
        out.print("every tenant is what Stripe says")
    sys.exit(1 if left else 0)


@commands.command("dismiss", epilog=example("billing dismiss cus_NffrFeUfNV2Hib"))
def dismiss_command(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Its id: cus_…")],
) -> None:
    """Try no longer to end what an erased tenant's customer pays for: you saw to it."""
    with local.attached(read()) as settings:
        if not asyncio.run(_dismiss(settings, customer)):
            raise LookupError(f"nothing is owed of a customer {customer!r}")
    out.print(f"{customer} is left alone", highlight=False)


async def _dismiss(settings: Settings, customer: str) -> bool:
    async with ready(settings) as database:
        return await endings.settled(database, customer)


async def _reconcile(
    settings: Settings, dry_run: bool, progress: Callable[[int], None]
) -> list[Difference]:
    async with (
        ready(settings) as database,
        customers.opened(settings, database) as opened,
    ):
        if opened is None:
            raise SettingsError("billing is off: set STRIPE_SECRET_KEY")
        return await reconcile(opened, dry_run=dry_run, progress=progress)


def _table(found: list[Difference]) -> Table:
    table = Table("tenant", "customer", "here", "at Stripe", "subscription", "outcome")
    for each in found:
        problem = f": {escape(each.problem)}" if each.problem else ""
        table.add_row(
            each.tenant or "nobody's",
            each.customer,
            each.ours or "",
            each.stripes or "",
            f"{each.subscription or ''} {each.status or ''}".strip(),
            f"[{COLOURS[each.outcome]}]{each.outcome}[/]{problem}",
        )
    return table
