"""`atom-sync`: everything an operator or a data engineer does from a terminal."""

import signal
import sys

import typer

from cli import billing, database, events, imports, keys, schedules, status, sync, tenants, up
from cli.doctor import command as doctor
from cli.terminal import err
from connectors import ConnectorError
from deployments.errors import PrefectUnavailableError
from servers.postgresql import PostgresError
from servers.processes import ServiceError
from servers.redis_server import RedisError
from settings import SettingsError
from storage import StorageError
from storage.vault import VaultError

app = typer.Typer(
    name="atom-sync",
    help="Keeps tenants' connected apps fresh in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    up.up, up.demo, up.sandbox, doctor.doctor, status.status, sync.sync, sync.audit,
    schedules.deploy, database.migrate, database.sql,
):  # fmt: skip
    app.command()(command)
app.add_typer(tenants.commands, name="tenants")
app.add_typer(keys.commands, name="keys")
app.add_typer(events.commands, name="events", invoke_without_command=True)
app.add_typer(billing.commands, name="billing")
app.add_typer(imports.commands, name="import")

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
