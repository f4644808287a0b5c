"""`import`: what another system has kept."""

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import JsonOption, example, out, plain, print_json
from cli.vault import vault_of
from servers import local
from servers.database import ready
from settings import Settings, read
from storage import (
    importing,
)

commands = typer.Typer(help="Take over what another system has kept.")


@commands.command(
    "tenant-settings",
    epilog=example(
        "import tenant-settings --from postgresql://reader@db.example.com/saas --dry-run"
    ),
)
def tenant_settings(
    url: Annotated[
        str,
        typer.Option(
            "--from", envvar="ATOM_IMPORT_URL", help="The other database; it is only read."
        ),
    ],
    schema: Annotated[str, typer.Option(help="Where the table is there.")] = "public",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal the `tenant_settings` rows of another database; none of ours is overwritten.

    The URL may stand in ATOM_IMPORT_URL instead, where no list of processes shows it.
    """
    with local.attached(read()) as settings:
        rows = asyncio.run(_import(settings, url, schema, dry_run=dry_run))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        table = Table("tenant", "setting", "outcome", "what to do")
        for row in rows:
            colour = "red" if row.outcome.needs_attention else "green"
            outcome = f"[{colour}]{row.outcome}[/]"
            table.add_row(plain(row.tenant), plain(row.setting), outcome, row.remedy)
        out.print(table)
        if dry_run:
            out.print("nothing was written")
    if any(row.outcome.needs_attention for row in rows):
        sys.exit(1)


async def _import(
    settings: Settings, url: str, schema: str, *, dry_run: bool
) -> list[importing.Imported]:
    async with ready(settings) as database:
        return await importing.read_settings(
            database, vault_of(settings), url, schema=schema, dry_run=dry_run
        )
