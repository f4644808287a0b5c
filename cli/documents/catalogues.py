"""The catalogues of `web/languages/`: every sentence of the pages is in each, by its English text.

Sentences are found in the templates, in calls of `say`, and in the questions of connectors.
"""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from connectors import OAuth2, all_connectors

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "web" / "languages"
HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
SOURCES = ("connectors", "integrations", "storage", "web")


@cache
def sentences() -> dict[str, set[str]]:
    """Every sentence, and the files that have it."""
    found: dict[str, set[str]] = {}
    for place, sentence in (*_in_code(), *_in_templates(), *_in_connectors()):
        found.setdefault(sentence, set()).add(place)
    return found


def written() -> dict[Path, str]:
    """Each catalogue with all sentences: those that are new are still to be translated."""
    return {path: _written(path) for path in sorted(FOLDER.glob("*.po"))}


def _written(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        known = read_po(file, locale=path.stem)
    made = Catalog(locale=path.stem, fuzzy=False)
    for sentence, places in sorted(sentences().items()):
        former = known.get(sentence)
        made.add(
            sentence,
            former.string if former else "",
            locations=[(place, 0) for place in sorted(places)],
        )
    text = BytesIO()
    # Its usual header has the time at which it was written.
    write_po(text, made, width=100, omit_header=True, include_lineno=False)
    return HEADER + text.getvalue().decode()


def _in_code() -> Iterator[tuple[str, str]]:
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            code = path.read_bytes()
            if b"say(" in code:
                for _, sentence, _, _ in extract("python", BytesIO(code), {"say": None}):
                    yield _place(path), str(sentence)


def _in_templates() -> Iterator[tuple[str, str]]:
    options = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}
    for path in sorted((ROOT / "web" / "templates").glob("*.html")):
        with path.open("rb") as file:
            for _, _, found, _ in babel_extract(file, ("_",), (), options):
                # With the values that stand in it, if there are any.
                yield _place(path), str(found[0] if isinstance(found, tuple) else found)


def _in_connectors() -> Iterator[tuple[str, str]]:
    for connector in all_connectors():
        if isinstance(connector.auth, OAuth2):
            for question in connector.auth.questions:
                yield f"connectors/{connector.name}", question.title
                yield f"connectors/{connector.name}", question.hint


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
