"""`up`, `demo` and `sandbox`: what runs until it is stopped."""

import asyncio
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.services import start_services, tell_addresses
from cli.terminal import JsonOption, err, out, pasted, say
from servers import environment, local
from servers.ports import LOOPBACK, free_port, is_free
from servers.revival import Revival
from settings import ALONE, read, untouched


def up(
    workers: Annotated[int, typer.Option(help="Flow runs at once on this machine.")] = 4,
) -> None:
    """Run everything for real use: embedded servers where no URL is set, Prefect, a worker."""
    with suppress(KeyboardInterrupt), local.supervised(read(), say) as services:
        start_services(services, limit=workers)
        say("ready")
        tell_addresses(services)
        home = services.settings.home
        say(f"make a tenant:      {pasted(home, 'tenants', 'create', 'acme')}")
        say(f"let it connect:     {pasted(home, 'connect', 'acme')}")
        say(f"see what is set:    {pasted(home, 'doctor')}")
        say(f"see what is synced: {pasted(home, 'status')}")
        say("Ctrl-C stops everything")
        revival = Revival(services)
        while not threading.Event().wait(1):
            revival.look()


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="One backfill, one incremental round, compare, leave.")
    ] = False,
    integrations: Annotated[
        str | None,
        typer.Option(
            help="Comma separated, or `all`; hubspot, slack, quickbooks, gmail if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Everything on this machine against sandboxed vendors: four tenants, real flow runs."""
    # Nothing that the operator set holds in the demo's home, now or in commands run on it later.
    home = Path(os.environ.get("ATOM_HOME") or ".atom").expanduser().resolve() / "demo"
    local.prepare(home)
    (home / ALONE).touch()
    with environment.apart(home):
        from cli.demo import run

        sys.exit(run(untouched(home), integrations, leave=exit_, as_json=as_json))


def sandbox(
    integrations: Annotated[
        str | None, typer.Option(help="Comma separated; all if not given.")
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 4010,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    as_json: JsonOption = False,
) -> None:
    """Run the sandboxed vendors alone, and print what a client needs to speak to each."""
    import sandbox as vendors

    names = integrations.split(",") if integrations else None
    if names and (unknown := sorted(set(names) - set(vendors.names()))):
        raise LookupError(
            f"no sandbox for {', '.join(unknown)}; there are: {', '.join(vendors.names())}"
        )
    application = vendors.create_app(names)
    if port and not is_free(port):
        taken, port = port, free_port(port)
        err.print(f"port {taken} is taken: the sandbox listens on {port}")

    def tell(bound: int) -> None:
        described = vendors.describe(application, f"http://{host}:{bound}")
        if as_json:
            sys.stdout.write(json.dumps(described, indent=2) + "\n")
            sys.stdout.flush()
            return
        for name, facts in described.items():
            table = Table("", name, show_header=True, box=None)
            for key, value in facts.items():
                table.add_row(key, str(value))
            out.print(table, soft_wrap=True)
        out.print("Ctrl-C stops it.")

    with suppress(KeyboardInterrupt):
        asyncio.run(vendors.serve(application, host, port, tell))
