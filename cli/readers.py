"""`readers`: who reads with SQL, of one tenant or of all."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from cli.terminal import JsonOption, err, example, out, print_json
from servers import local
from servers.database import database_url_of
from settings import Settings, read
from storage import check as check_schema
from storage import readers

commands = typer.Typer(
    help="Database users that read with SQL, of one tenant or of all, and can write nothing."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The database user's name.")]


@commands.command(epilog=example("readers add acme_bi --tenant acme"))
def add(
    name: NameArgument,
    tenant: Annotated[
        str | None, typer.Option(metavar="SLUG", help="The tenant whose rows it reads.")
    ] = None,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="It reads every tenant's rows.")
    ] = False,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Give one that is there another password.")
    ] = False,
) -> None:
    """Make a database user that reads a tenant's rows; its URL is printed this once."""
    if (tenant is None) != all_tenants:
        raise typer.BadParameter("name whom it reads: --tenant SLUG or --all-tenants, one of them")

    async def work(url: str, schema: str) -> str | None:
        await check_schema(url, schema)
        password = await readers.add(url, schema, name, tenant)
        if password is None and new_password:
            password = await readers.renew(url, schema, name)
        return password

    with local.attached(read()) as settings:
        password = asyncio.run(work(*_place(settings)))
        if password is None:
            err.print(f"the reader {name} is there; --new-password gives it another", markup=False)
            return
        # In one line, whatever the terminal's width: it is copied from here.
        sys.stdout.write(f"{readers.url_of(database_url_of(settings), name, password)}\n")
    err.print("That is its URL with its password, which is kept nowhere else.")


@commands.command("list", epilog=example("readers list --json"))
def list_readers(as_json: JsonOption = False) -> None:
    """Every reader, and whose rows it reads."""

    async def work(url: str, schema: str) -> Sequence[readers.Reader]:
        await check_schema(url, schema)
        return await readers.all(url, schema)

    with local.attached(read()) as settings:
        found = asyncio.run(work(*_place(settings)))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    table = Table("name", "reads", "since", "can log in", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in found:
        logs_in = "yes" if each.can_log_in else "[red]no[/red]: `readers add` makes its user again"
        whose = each.tenant or "all tenants"
        table.add_row(each.name, whose, f"{each.created_at:%Y-%m-%d}", logs_in)
    out.print(table)


@commands.command(epilog=example("readers remove acme_bi"))
def remove(name: NameArgument) -> None:
    """End a reader: it cannot log in again."""

    async def work(url: str, schema: str) -> None:
        await check_schema(url, schema)
        await readers.remove(url, schema, name)

    with local.attached(read()) as settings:
        asyncio.run(work(*_place(settings)))
    out.print(f"{name} reads nothing any more", highlight=False)


def _place(settings: Settings) -> tuple[str, str]:
    return database_url_of(settings), settings.atom_schema
