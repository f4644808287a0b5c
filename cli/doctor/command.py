"""`doctor`: everything that is set, looked at live."""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.table import Table

from cli import doctor as examination
from cli.terminal import JsonOption, err, out, plain, print_json
from servers import environment, local
from settings import Settings, SettingsError, read

COLOURS = {"ok": "green", "missing": "red", "wrong": "red", "optional": "dim"}


def doctor(as_json: JsonOption = False) -> None:
    """Look at all that is set, live, and say what to do; exit status 1 if anything must be."""
    try:
        rows = _rows(read())
    except SettingsError as error:
        rows = examination.unreadable(error)
    failed = [row for row in rows if row.failed]
    if as_json:
        print_json({"ok": not failed, "rows": [asdict(row) for row in rows]})
    else:
        out.print(_rows_table(rows))
        _print_apps(rows)
        out.print()
        if failed:
            out.print(f"[red]{len(failed)} to do[/red]: {', '.join(row.what for row in failed)}")
        else:
            out.print("[green]all that is needed is there[/green]")
    sys.exit(1 if failed else 0)


def _rows(given: Settings) -> list[examination.Row]:
    embedded = given.database_url is None
    with err.status("looking …"):
        try:
            with local.attached(given) as settings:
                return asyncio.run(examination.examine(settings, embedded=embedded))
        except local.NoDatabaseError:
            with environment.apart(given.home):
                return asyncio.run(examination.examine(given, embedded=embedded))


def _rows_table(rows: Iterable[examination.Row]) -> Table:
    table = Table("", "what", "state")
    table.add_column("found, and what to do", overflow="fold")
    former = ""
    for row in rows:
        if former not in ("", row.area):
            table.add_section()
        area = row.area if row.area != former else ""
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        finding = plain(row.found) + (f"\n→ {plain(row.remedy)}" if row.remedy else "")
        table.add_row(area, plain(row.what), state, finding)
        former = row.area
    return table


def _print_apps(rows: Iterable[examination.Row]) -> None:
    """What is to be pasted into each vendor's console, in lines that can be copied."""
    for row in rows:
        if "callback" not in row.details:
            continue
        out.print(f"\n[bold]{plain(row.what)}[/bold]", highlight=False)
        lines = {"console": row.details["console"], "callback": row.details["callback"]}
        for name, value in lines.items():
            out.print(f"  {name:9} {value or '?'}", highlight=False, soft_wrap=True, markup=False)
        for address, setup in row.details["webhooks"].items():
            line = f"  webhooks  {address}\n            {setup}"
            out.print(line, highlight=False, soft_wrap=True, markup=False)
        for scope, why in row.details["scopes"].items():
            line = f"  scope     {scope}  ({why})"
            out.print(line, highlight=False, soft_wrap=True, markup=False)
