"""Every command that README and docs name can be typed, and every SQL statement in them runs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer._click.core import Command
from typer._click.exceptions import BadOptionUsage, MissingParameter, UsageError
from typer.core import TyperGroup

from cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What stands for what a person types.
EXAMPLES = {"EVENT": "7", "TENANT/INTEGRATION": "acme/hubspot", "P": "4010"}


def code(page: Path) -> Iterator[tuple[str, str]]:
    """What stands as code on a page: its language, and the text."""
    text = page.read_text()
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for indented in re.findall(r"^\n((?: {4}\S.*\n)+)", text, re.MULTILINE):
        yield "", indented
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for inline in re.findall(r"`([^`]+)`", prose):
        yield "inline", inline


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """What follows `atom-sync` on a page, and whether it is to be typed as it stands."""
    for language, text in code(page):
        for line in text.replace("\\\n", " ").splitlines():
            said = re.match(r"\s*(?:\w+=\S+ )*(?:\S*/)?atom-sync ([a-z-].*)", line.split("  #")[0])
            if said and "…" not in said[1]:
                yield said[1].strip(), language != "inline"


def typed(words: str) -> list[str]:
    """As somebody types it: with its options, and an example for each word that stands for one."""
    plain = words.replace("[", "").replace("]", "")
    return [EXAMPLES.get(word, word) for word in shlex.split(plain)]


def check(words: list[str]) -> None:
    """UsageError unless there is such a command, with such arguments and options."""
    command: Command = typer.main.get_command(app)
    context = None
    rest = words
    while isinstance(command, TyperGroup):
        context = command.make_context("atom-sync", list(rest), parent=context)
        rest = [*context._protected_args, *context.args]
        if not rest:
            return  # a group that may be called by itself
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
    command.make_context("atom-sync", list(rest), parent=context)


DOCUMENTED = [(page, *found) for page in PAGES for found in dict.fromkeys(commands(page))]


@pytest.mark.parametrize(
    ("words", "whole"), [pytest.param(w, whole, id=f"{p.stem}: {w}") for p, w, whole in DOCUMENTED]
)
def test_a_command_can_be_typed_as_it_is_documented(words: str, whole: bool) -> None:
    try:
        check(typed(words))
    except (MissingParameter, BadOptionUsage):  # prose names a command without what it takes
        assert not whole


def test_every_command_is_documented() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    named = {words.split()[0] for _, words, _ in DOCUMENTED}
    assert set(group.commands) <= named


def test_what_cannot_be_typed_is_found() -> None:
    for wrong in (["statsu"], ["status", "--jsn"], ["connect"], ["tenants", "make", "acme"]):
        with pytest.raises(UsageError):
            check(wrong)


def statements() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for language, text in code(page):
            if language == "sql" or re.match(r"SELECT .+ FROM ", text):
                for statement in text.split(";"):
                    if statement.strip():
                        yield page, statement.strip()


@pytest.mark.parametrize(
    "statement", [pytest.param(s, id=f"{p.stem}: {s[:40]}") for p, s in statements()]
)
def test_a_statement_runs_as_it_is_documented(statement: str, database_url: str) -> None:
    with psycopg.connect(database_url) as sql:
        assert sql.execute(statement.encode()).description, "it answers with rows"
        sql.rollback()
