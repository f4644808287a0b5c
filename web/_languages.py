"""In which language a person is told something: the catalogues in `languages/`, and the choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from babel.core import negotiate_locale
from babel.messages.pofile import read_po

from connectors import Words

FOLDER = Path(__file__).parent / "languages"
MAX_HEADER = 500


@dataclass(frozen=True)
class Language:
    """A catalogue: the sentences that it has, by the English ones."""

    code: str
    sentences: Mapping[str, str] = field(default_factory=dict, repr=False)

    def text(self, english: str) -> str:
        return self.sentences.get(english) or english

    def tell(self, words: Words) -> str:
        return self.text(words.text) % words.values


def _read(path: Path) -> Language:
    with path.open(encoding="utf-8") as file:
        catalog = read_po(file, locale=path.stem)
    return Language(path.stem, {str(one.id): str(one.string) for one in catalog if one.id})


ENGLISH = Language("en")
LANGUAGES = {one.code: one for one in (ENGLISH, *map(_read, sorted(FOLDER.glob("*.po"))))}


def chosen(wanted: str | None, accepted: str) -> Language:
    """The language that was asked for, where we have it; else the first that a browser accepts.

    `accepted` is the header `Accept-Language` (RFC 9110, 12.5.4).
    """
    tags = [*([wanted.replace("_", "-")] if wanted else []), *_by_weight(accepted)]
    code = negotiate_locale([tag.lower() for tag in tags], list(LANGUAGES), sep="-")
    return LANGUAGES[code] if code else ENGLISH


def _by_weight(accepted: str) -> list[str]:
    weighed = []
    for part in accepted[:MAX_HEADER].split(","):
        tag, _, weight = part.partition(";")
        try:
            share = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if tag.strip() and share > 0:
            weighed.append((-share, tag.strip()))
    return [tag for _, tag in sorted(weighed, key=lambda each: each[0])]
