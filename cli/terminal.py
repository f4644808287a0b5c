"""What all commands share: where they print, and how."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

out = Console()
err = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def example(words: str) -> str:
    """What a command's help ends with."""
    return f"Example: atom-sync {words}"


def say(line: str) -> None:
    """A line of news, beside what is printed for machines."""
    err.print(line, highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """Text from elsewhere, none of which is markup."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def target_of(target: str) -> tuple[str, str]:
    """`acme/hubspot` as its two parts."""
    tenant, _, integration = target.partition("/")
    if not tenant or not integration:
        raise LookupError(
            f"{target!r} should look like TENANT/INTEGRATION, for example acme/hubspot"
        )
    return tenant, integration


def pasted(home: Path, *words: str) -> str:
    """A command of ours that works wherever it is pasted, for that home."""
    beside = str(Path(sys.executable).with_name("atom-sync"))
    own = "atom-sync" if shutil.which("atom-sync") else beside
    return f"ATOM_HOME={shlex.quote(str(home))} {shlex.join([own, *words])}"
