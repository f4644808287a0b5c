"""`sync` and `audit`: one connection now, followed to its end."""

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from cli.terminal import JsonOption, err, out, print_json, say, target_of
from servers import local
from servers.processes import ServiceError
from settings import read


def sync(
    target: Annotated[str, typer.Argument(metavar="TENANT/INTEGRATION")],
    full: Annotated[bool, typer.Option("--full", help="Read everything again.")] = False,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sync a connection now, through Prefect, and follow the run to its end."""
    tenant, integration = target_of(target)
    with local.attached(read()) as settings:
        if settings.prefect_api_url is None:
            raise ServiceError(
                "no Prefect server: start `atom-sync up` first, or set PREFECT_API_URL"
            )
        # Importing Prefect takes over a second, and is to be done where it finds no stray files.
        from cli.following import sync_now

        with err.status(f"syncing {target} …"):
            run = asyncio.run(
                sync_now(
                    settings,
                    tenant,
                    integration,
                    account=account,
                    streams=stream,
                    full=full,
                    say=say,
                )
            )
    state = run.state
    result = {
        "run": str(run.id),
        "state": (state.name if state else None) or "unknown",
        "message": (state.message if state else None) or "",
    }
    if as_json:
        print_json(result)
    else:
        out.print(f"{result['state']}: {result['message']}", highlight=False)
    if state is None or not state.is_completed():
        sys.exit(1)


def audit(
    target: Annotated[str, typer.Argument(metavar="TENANT/INTEGRATION")],
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a connection against what the vendor lists now, and put right what differs.

    Exit status 1 where something differed, or could not be checked.
    """
    from cli.following import audit_now

    tenant, integration = target_of(target)
    with local.attached(read()) as settings:
        if settings.prefect_api_url is None:
            raise ServiceError(
                "no Prefect server: start `atom-sync up` first, or set PREFECT_API_URL"
            )
        with err.status(f"checking {target} …"):
            run, found = asyncio.run(
                audit_now(settings, tenant, integration, account=account, streams=stream, say=say)
            )
    state = run.state
    if as_json:
        result = {
            "run": str(run.id),
            "state": (state.name if state else None) or "unknown",
            "message": (state.message if state else None) or "",
            "streams": [asdict(one) for one in found],
        }
        print_json(result)
    else:
        table = Table(
            "stream", "checked", "missing", "out of date", "too much", box=box.SIMPLE_HEAD
        )
        for one in found:
            counts = (one.checked, one.missing, one.stale, one.extra)
            table.add_row(one.stream, *(f"{count:,}" for count in counts))
        if found:
            out.print(table)
        drift = sum(one.drift for one in found)
        out.print(
            f"{drift:,} records differed, and were put right" if drift else "nothing differed"
        )
    if state is None or not state.is_completed():
        err.print(str(state.message if state else "the run is lost"), highlight=False)
        sys.exit(1)
    if any(one.drift for one in found):
        sys.exit(1)
