"""Our tables against the sandbox's own store.

The comparison shares no code with the connectors: the store is read through `/_control`, the
tables with plain SQL, and every field has to be equal. Of a stream whose records are never taken
back (`append_only`) we may hold more than the vendor still shows.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import psycopg

from cli.demo.vendors import control
from cli.terminal import err
from integrations import load
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
                rules = load(connection.integration).stream(stream)
                ours: dict[str, Any] = dict(
                    sql.execute(
                        "SELECT record_id, data FROM records WHERE stream = %s"
                        " AND connection_id = %s AND deleted_at IS NULL",
                        (name, connection.id),
                    ).fetchall()
                )
                table = tables.setdefault(
                    name, {"table": name, "rows": 0, "different": [], "unheard": []}
                )
                table["rows"] += len(ours)
                keys = theirs.keys() if rules.append_only else ours.keys() | theirs.keys()
                for key in sorted(keys):
                    if ours.get(key) == theirs.get(key):
                        continue
                    named = f"{connection.tenant_slug}: {key}"
                    table["different"].append(named)
                    if rules.hides_deletes and key not in theirs:
                        table["unheard"].append(named)
    for table in tables.values():
        table["equal"] = bool(table["rows"]) and not table["different"]
    return list(tables.values())


def only_audits_find(
    tables: Sequence[dict[str, Any]], linked: Sequence[connections.Connection]
) -> list[connections.Connection]:
    """The connections that differ by deletions which their vendor tells nobody of; none where
    anything differs by more, since an audit would put that right, too."""
    if any(table["different"] != table["unheard"] for table in tables):
        return []
    late = {
        (table["table"].partition(".")[0], named.partition(": ")[0])
        for table in tables
        for named in table["unheard"]
    }
    return [one for one in linked if (one.integration, one.tenant_slug) in late]


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
