"""The glossary's words are those of the code, and what it rules out stands nowhere."""

import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = (
    "accounts", "billing", "cli", "connectors", "deployments", "flows", "integrations", "servers",
    "settings", "storage", "web",
)  # fmt: skip
ROW = re.compile(r"^\| (\w+) \| (.+) \| (.*)\|$", re.MULTILINE)
ROWS = [
    (word, unused.strip())
    for word, _, unused in ROW.findall((ROOT / "docs/glossary.md").read_text())
    if word != "word"
]
PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@pytest.fixture(scope="module")
def used() -> set[str]:
    """The words that names in the product's code are made of, in the singular."""
    found: set[str] = set()
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")):
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.NAME:
                    found |= {piece.lower() for piece in PIECE.findall(token.string)}
    return found | {word.removesuffix("s") for word in found}


def test_there_are_enough_words_to_begin_with_and_none_twice() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) > 25
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("word", [word for word, _ in ROWS if word not in ("sandbox", "referee")])
def test_a_word_of_the_glossary_is_used(word: str, used: set[str]) -> None:
    assert word in used


@pytest.mark.parametrize(
    "unused", [each for _, listed in ROWS for each in re.findall(r"\w+", listed)]
)
def test_a_word_that_is_ruled_out_is_not(unused: str, used: set[str]) -> None:
    assert unused not in used
