"""`doctor`: everything that is set, looked at live."""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from cli import doctor as examination
from cli.terminal import JsonOption, err, out, plain, print_json
from servers import environment, local
from settings import Settings, SettingsError, read

MARKS = {"ok": "✓", "missing": "✗", "wrong": "✗", "optional": "·"}
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
        _print_rows(rows)
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


def _print_rows(rows: Iterable[examination.Row]) -> None:
    """A line for each check; what to do about one stands below it."""
    former = ""
    for row in rows:
        if row.area != former:
            out.print(Text(f"\n{row.area}" if former else row.area, style="bold"))
        former = row.area
        line = f"{row.what}: {row.found}"
        line += f" ({row.state})" if row.state in ("missing", "wrong") else ""
        grid = Table.grid(padding=(0, 1))
        grid.add_row("", Text(MARKS[row.state], COLOURS[row.state]), Text(line))
        if row.remedy:
            grid.add_row("", "", Text(f"→ {row.remedy}"))
        out.print(grid)


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
