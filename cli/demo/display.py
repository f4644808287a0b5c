"""What a demo shows: a few lines that stand still, and above them what is of note.

Where nobody looks (no terminal) a line is written every five minutes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table

from cli.terminal import err, plain

HEARTBEAT = 300.0  # seconds


class Display:
    """Named lines, each replaced when there is something new to say."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._began = self._told = time.monotonic()
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """In a terminal the lines stand at its end for as long as the block lasts."""
        if not err.is_terminal:
            yield self
            return
        with Live(get_renderable=self._table, console=err, refresh_per_second=2) as self._live:
            yield self

    def note(self, text: str, *, style: str = "") -> None:
        """Something that is of note, and stays on the screen."""
        err.print(plain(text), highlight=False, soft_wrap=True, style=style or None)

    def say(self, **lines: str) -> None:
        """The new text of some lines; an empty one takes its line away."""
        self._lines |= lines
        if self._live is None and time.monotonic() - self._told >= HEARTBEAT:
            self._told = time.monotonic()
            self.note("; ".join(f"{name}: {text}" for name, text in self._shown()))

    def _shown(self) -> Iterator[tuple[str, str]]:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        yield "running for", f"{minutes} min {seconds} s"
        for name, text in self._lines.items():
            if text:
                yield name.replace("_", " "), text

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, text in self._shown():
            table.add_row(name, plain(text))
        return table
