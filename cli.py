"""`atom-sync`: everything an operator or a data engineer does from a terminal."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

import cli_billing
import cli_operator
import cli_schedules
from connectors import ConnectorError, load
from deployments import _postgres, local, surroundings
from deployments._errors import PrefectUnavailableError
from deployments._postgres import PostgresError
from deployments._processes import ServiceError
from deployments._redis import RedisError
from settings import ALONE, Settings, SettingsError, read, untouched
from storage import StorageError, audits, connections, freshness, records
from storage.database import Database
from storage.vault import Vault, VaultError, check_keys

app = typer.Typer(
    name="atom-sync",
    help="Keeps tenants' connected apps fresh in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli_operator.add_to(app)
cli_schedules.add_to(app)
app.add_typer(cli_billing.commands, name="billing")
T = TypeVar("T")
out = Console()
err = Console(stderr=True)

# Failures that an operator can act on: one line, no traceback.
_EXPLAINED = (
    ConnectorError, LookupError, PostgresError, PrefectUnavailableError, RedisError,
    SettingsError, StorageError, VaultError, ServiceError,
)  # fmt: skip


def main() -> None:
    """The console script: known failures end in one clear line and exit status 1."""
    # Also where a script started us with `&`, which leaves SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        app()
    except _EXPLAINED as error:
        err.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.command()
def up(
    workers: Annotated[int, typer.Option(help="Flow runs at once on this machine.")] = 4,
) -> None:
    """Run everything for real use: embedded servers where no URL is set, Prefect, a worker."""
    with suppress(KeyboardInterrupt), local.supervised(read(), _say) as services:
        start_services(services, limit=workers)
        _say("ready")
        tell_addresses(services)
        _say("make a tenant: atom-sync tenants create SLUG")
        _say("then ask for a link on which it connects its apps: docs/connecting.md")
        _say("check what is set: atom-sync doctor; what is synced: atom-sync status")
        _say("Ctrl-C stops everything")
        while all(services.alive(name) for name in services.started):
            threading.Event().wait(1)
        fallen = [name for name in services.started if not services.alive(name)]
        logs = ", ".join(str(services.logs / f"{name}.log") for name in fallen)
        raise ServiceError(f"{', '.join(fallen)} ended by itself; see {logs}")


def tell_addresses(services: local.Services) -> None:
    """Where a person looks next."""
    api, public = services.settings.prefect_api_url or "", services.settings.nextauth_url
    _say(f"Prefect UI: {api.removesuffix('/api')}")
    _say(f"web and API: {services.web} (documentation at /docs)")
    if public != services.web:
        _say(f"public address: {public}")


def start_services(
    services: local.Services,
    *,
    limit: int,
    host: str = local.LOOPBACK,
    sandbox: Callable[[], None] | None = None,
) -> None:
    """Bring up a machine in order; the schema is current before anything runs."""
    services.start_database()
    _run(lambda: _migrate(services.settings))
    services.start_redis()
    if sandbox is not None:
        sandbox()
    services.start_prefect()
    _run(lambda: services.deploy())
    _run(lambda: services.settle())
    services.start_web(host)
    services.start_worker(limit)


@app.command()
def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="One backfill, one incremental round, compare, leave.")
    ] = False,
    integrations: Annotated[
        str | None, typer.Option(help="Comma separated; all that have a sandbox if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Everything on this machine against sandboxed vendors: four tenants, real flow runs."""
    names = integrations.split(",") if integrations else None
    # Nothing that the operator set holds in the demo's home, now or in commands run on it later.
    home = Path(os.environ.get("ATOM_HOME") or ".atom").expanduser().resolve() / "demo"
    local.prepare(home)
    (home / ALONE).touch()
    with surroundings.apart(home):
        from demo import run

        sys.exit(run(untouched(home), names, leave=exit_, as_json=as_json))


@app.command()
def sandbox(
    integrations: Annotated[
        str | None, typer.Option(help="Comma separated; all if not given.")
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 4010,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = local.LOOPBACK,
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
    if port and not local.is_free(port):
        taken, port = port, local.free_port(port)
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
        _run(lambda: vendors.serve(application, host, port, tell))


@app.command()
def status(
    target: Annotated[
        str | None, typer.Argument(metavar="[TENANT/INTEGRATION]", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every connection and stream: rows, last sync, whether that is in time, and what is wrong.

    Of one connection: how often it is synced and why, when next, whether webhooks work, and of
    which times they may not have told.
    """
    with local.attached(read()) as settings:
        if target is not None:
            cli_schedules.status_of(settings, target, account, as_json=as_json)
            return
        rows = _run(lambda: _status(settings))
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2, default=str) + "\n")
    elif not rows:
        out.print("no connections yet: docs/connecting.md says how a tenant makes one")
    else:
        out.print(status_table(rows))


@app.command()
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
    tenant, integration = cli_schedules.parsed(target)
    with local.attached(read()) as settings:
        if settings.prefect_api_url is None:
            raise ServiceError(
                "no Prefect server: start `atom-sync up` first, or set PREFECT_API_URL"
            )
        # Importing Prefect takes over a second, and is to be done where it finds no stray files.
        from deployments.triggers import sync_now

        with err.status(f"syncing {target} …"):
            run = _run(
                lambda: sync_now(
                    settings, tenant, integration, account=account, streams=stream, full=full
                )
            )
    state = run.state
    result = {
        "run": str(run.id),
        "state": (state.name if state else None) or "unknown",
        "message": (state.message if state else None) or "",
    }
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(f"{result['state']}: {result['message']}", highlight=False)
    if state is None or not state.is_completed():
        sys.exit(1)


@app.command()
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
    from deployments.triggers import audit_now

    tenant, integration = cli_schedules.parsed(target)
    with local.attached(read()) as settings:
        if settings.prefect_api_url is None:
            raise ServiceError(
                "no Prefect server: start `atom-sync up` first, or set PREFECT_API_URL"
            )
        with err.status(f"checking {target} …"):
            run, found = _run(
                lambda: audit_now(settings, tenant, integration, account=account, streams=stream)
            )
    state = run.state
    if as_json:
        result = {
            "run": str(run.id),
            "state": (state.name if state else None) or "unknown",
            "message": (state.message if state else None) or "",
            "streams": [asdict(one) for one in found],
        }
        sys.stdout.write(json.dumps(result, indent=2, default=str) + "\n")
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


@app.command(name="migrate")
def migrate_command() -> None:
    """Bring the database's schema up to date; repeating it changes nothing."""
    with local.attached(read()) as settings:
        _run(lambda: _migrate(settings))
    out.print("the schema is current")


@app.command()
def sql(
    command: Annotated[
        str | None, typer.Option("--command", "-c", help="Run this and leave.")
    ] = None,
) -> None:
    """Open PostgreSQL's own shell on our database; every stream is a view."""
    folder = Path.cwd()  # so that `\i` finds the files that lie here
    with local.attached(read()) as settings:
        url = local.database_url_of(settings)
        sys.exit(_postgres.shell(url, settings.atom_schema, command, folder))


async def _migrate(settings: Settings) -> None:
    """The schema is current, and we hold the keys that what is in it needs."""
    await local.migrated(settings)
    if settings.encryption_keys is not None:
        async with local.opened(settings) as database:
            await check_keys(database, Vault.parse(settings.encryption_keys.get_secret_value()))


async def _status(settings: Settings) -> list[dict[str, Any]]:
    async with local.ready(settings) as database:
        return await status_rows(database)


async def status_rows(database: Database) -> list[dict[str, Any]]:
    """A row for each connection's stream, in the order of tenants and integrations."""
    counts = await records.counts(database)
    fresh = await freshness.of_streams(database)
    checked = await audits.of_all(database)
    rows = []
    for connection in await connections.listing(database):
        for stream in load(connection.integration).streams:
            found = counts.get((connection.id, stream.name))
            promised = fresh.get((connection.id, stream.name))
            checked_at, drift = checked.get((connection.id, stream.name), (None, None))
            rows.append(
                {
                    "tenant": connection.tenant_slug,
                    "tier": connection.tier,
                    "integration": connection.integration,
                    "account": connection.account_id,
                    "stream": stream.name,
                    "rows": found.rows if found else 0,
                    "last_sync": found.last_synced_at if found else None,
                    "every_seconds": promised.every.total_seconds() if promised else None,
                    "age_seconds": promised.age.total_seconds() if promised else None,
                    "late": promised.reason if promised else None,
                    "checked_at": checked_at,
                    "drift": drift,
                    "unread": list(found.unread) if found else [],
                    "refills": found.refills if found else False,
                    "status": connection.status,
                    "reason": connection.status_reason,
                }
            )
    return rows


def status_table(rows: list[dict[str, Any]]) -> Table:
    """A line for each tenant, one for each integration with its state, one for each stream."""
    # What repeats stands once: 80 columns have to be enough.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("tenant, integration, stream", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("last sync", no_wrap=True)
    table.add_column("fresh", no_wrap=True)
    table.add_column("state", ratio=1, overflow="fold")
    former = ("", "", "")
    for row in rows:
        connection = (row["tenant"], row["integration"], row["account"])
        if former[0] != row["tenant"]:
            if former[0]:
                table.add_section()
            table.add_row(f"[bold]{row['tenant']} ({row['tier']})[/bold]")
        if former != connection:
            table.add_row(f"  {row['integration']}", "", "", "", _state(row))
        table.add_row(
            f"    {row['stream']}", f"{row['rows']:,}", _ago(row["last_sync"]), _freshness(row),
            ", ".join(_remarks(row)),
        )  # fmt: skip
        former = connection
    return table


def _state(row: dict[str, Any]) -> str:
    """The connection's state, and what is wrong with it."""
    return f"[red]{row['status']}[/red]: {row['reason']}" if row["reason"] else row["status"]


def _remarks(row: dict[str, Any]) -> Iterator[str]:
    """What of a stream is not there yet, and what its last audit found."""
    if row["unread"]:
        yield f"[red]{len(row['unread']):,} unread[/red]"
    if row["refills"]:
        yield "filling in fields"
    if row["checked_at"] is not None:
        drift = f": [red]{row['drift']:,} off[/red]" if row["drift"] else ""
        yield f"checked {_ago(row['checked_at'])}{drift}"


def _freshness(row: dict[str, Any]) -> str:
    """In time, or why not; nothing of a stream whose interval is not in the database yet."""
    if row["late"] is not None:
        return f"[red]late[/red]: {row['late']}"
    return "" if row["age_seconds"] is None else "[green]in time[/green]"


def _ago(at: datetime | None) -> str:
    if at is None:
        return "never"
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _say(line: str) -> None:
    err.print(line, highlight=False, soft_wrap=True)


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


if __name__ == "__main__":
    main()
