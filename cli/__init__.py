"""`atom-sync`: everything an operator or a data engineer does from a terminal."""

import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import psycopg
import typer
from sqlalchemy.exc import DBAPIError

from cli import (
    backup,
    billing,
    connect,
    database,
    events,
    imports,
    integrations,
    keys,
    readers,
    schedules,
    status,
    sync,
    tenants,
    up,
)
from cli.doctor import command as doctor
from cli.terminal import err, example, plain
from connectors import ConnectorError
from deployments.errors import PrefectUnavailableError
from integrations import UnreadableError
from integrations.form import FormError
from servers.backups import BackupError
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
)
for command, words in (
    (up.up, "up --workers 8"),
    (up.demo, "demo --integrations all"),
    (up.sandbox, "sandbox --integrations hubspot,slack"),
    (doctor.doctor, "doctor"),
    (connect.connect, "connect acme hubspot"),
    (status.status, "status acme/hubspot"),
    (sync.sync, "sync acme/hubspot --stream contacts"),
    (sync.audit, "audit acme/hubspot"),
    (schedules.deploy, "deploy --dry-run"),
    (database.migrate, "migrate"),
    (backup.backup, "backup atom.dump"),
    (backup.restore, "restore atom.dump"),
    (database.sql, 'sql -c "SELECT email FROM hubspot_contacts LIMIT 3"'),
):
    app.command(epilog=example(words))(command)
app.add_typer(tenants.commands, name="tenants")
app.add_typer(integrations.commands, name="integrations", invoke_without_command=True)
app.add_typer(readers.commands, name="readers")
app.add_typer(keys.commands, name="keys")
app.add_typer(events.commands, name="events", invoke_without_command=True)
app.add_typer(billing.commands, name="billing")
app.add_typer(imports.commands, name="import")

# Failures that an operator can act on: one line, no traceback.
_EXPLAINED = (
    BackupError, ConnectorError, FormError, LookupError, PostgresError, PrefectUnavailableError,
    RedisError, SettingsError, StorageError, UnreadableError, VaultError, ServiceError,
)  # fmt: skip


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code something went wrong.")
    ] = False,
) -> None:
    context.ensure_object(dict)["debug"] = debug


def run(words: Sequence[str]) -> int:
    """Runs a command as it is typed; its exit status. What goes wrong ends in one clear line."""
    state: dict[str, bool] = {}
    try:
        app(list(words), obj=state)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if state.get("debug"):
            raise
        err.print(f"[red]error:[/red] {plain(_explained(error))}", highlight=False, soft_wrap=True)
        return 1
    return 0


def _explained(error: Exception) -> str:
    # A key or a place that is missing was meant for nobody.
    if isinstance(error, _EXPLAINED) and not isinstance(error, KeyError | IndexError):
        return str(error)
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        # PostgreSQL's own words may quote a row.
        return (
            f"PostgreSQL refuses ({cause.sqlstate}, {type(cause).__name__}): look at `atom-sync"
            " doctor`, or run the command again with --debug"
        )
    # Of an error that nobody foresaw the text may hold anything.
    return (
        f"{type(error).__name__} in atom-sync; nothing is known of it. Run the command again as"
        " `atom-sync --debug …` for where it happened"
    )


def main() -> None:
    """The console script."""
    # Also where a script started us with `&`, which leaves SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    sys.exit(run(sys.argv[1:]))
