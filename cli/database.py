"""`migrate` and `sql`: the database itself."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import services
from cli.terminal import out
from servers import local, postgresql
from servers.database import database_url_of
from settings import read


def migrate() -> None:
    """Bring the database's schema up to date; repeating it changes nothing."""
    with local.attached(read(), makes=True) as settings:
        asyncio.run(services.migrate(settings))
    out.print("the schema is current")


def sql(
    command: Annotated[
        list[str] | None,
        typer.Option("--command", "-c", help="Run this and leave; repeatable, in order."),
    ] = None,
) -> None:
    """Open PostgreSQL's own shell on our database; every stream is a view."""
    folder = Path.cwd()  # so that `\i` finds the files that lie here
    with local.attached(read()) as settings:
        url = database_url_of(settings)
        sys.exit(postgresql.shell(url, settings.atom_schema, command or (), folder))
