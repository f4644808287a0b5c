"""Our tables against the sandbox's own store.

The comparison shares no code with the connectors: the store is read through `/_control`, the
tables with plain SQL, and every field has to be equal.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import psycopg

from cli.demo.vendors import control
from cli.terminal import err
from servers.database import database_url_of
from settings import Settings
from storage import connections


def compare(settings: Settings, linked: Sequence[connections.Connection]) -> list[dict[str, Any]]:
    """Each table against the sandbox's store, every field; an empty side is a difference."""
    tables: dict[str, dict[str, Any]] = {}
    with psycopg.connect(database_url_of(settings)) as sql:
        for connection in linked:
            store = control(
                settings.atom_sandbox_url or "", "GET",
                f"/{connection.integration}/store?account={quote(connection.account_id)}",
            )["streams"]  # fmt: skip
            for stream, theirs in store.items():
                name = f"{connection.integration}.{stream}"
                ours: dict[str, Any] = dict(
                    sql.execute(
                        "SELECT record_id, data FROM records WHERE stream = %s"
                        " AND connection_id = %s AND deleted_at IS NULL",
                        (name, connection.id),
                    ).fetchall()
                )
                table = tables.setdefault(name, {"table": name, "rows": 0, "different": []})
                table["rows"] += len(ours)
                table["different"] += [
                    f"{connection.tenant_slug}: {key}"
                    for key in sorted(ours.keys() | theirs.keys())
                    if ours.get(key) != theirs.get(key)
                ]
    for table in tables.values():
        table["equal"] = bool(table["rows"]) and not table["different"]
    return list(tables.values())


def tell(tables: Sequence[dict[str, Any]]) -> None:
    """A line for each table."""
    for table in tables:
        verdict = "[green]equal to the sandbox[/green]"
        if table["different"]:
            shown = ", ".join(table["different"][:5])
            verdict = f"[red]{len(table['different'])} records differ[/red]: {shown}"
        elif not table["rows"]:
            verdict = "[red]empty[/red]"
        err.print(f"{table['table']:32} {table['rows']:>7,} rows  {verdict}", highlight=False)
