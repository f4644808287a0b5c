"""What people are told: a sentence and what stands in it, to be told in any language."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Words:
    """A sentence in English, by which translations are found, with `values` for its `%(names)s`."""

    text: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text % self.values


def say(text: str, /, **values: str) -> Words:
    """A sentence for people, without codes. The catalogues of translations have every `text` that
    stands in a call of this."""
    return Words(text, values)
