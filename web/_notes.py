"""What pages tell of what was done and went wrong: kept as sentences, told in any language."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    Doubt,
    NotAllowedError,
    RetryableError,
    Words,
    say,
)
from web._languages import Language
from web._pages import sentence

Kind = Literal["done", "doubt", "problem", "choose"]
Note = dict[str, Any]


@dataclass(frozen=True)
class ShownNote:
    kind: Kind
    text: str


def note(kind: Kind, *told: Words) -> Note:
    """As it is stored."""
    return {"kind": kind, "told": [[words.text, dict(words.values)] for words in told]}


def shown(note: Note | None, language: Language) -> ShownNote | None:
    """As a reader of that language sees it."""
    if note is None:
        return None
    told = [Words(text, values) for text, values in note.get("told", [])]
    return ShownNote(note["kind"], in_words(told, language))


def in_words(told: Sequence[Words], language: Language) -> str:
    return " ".join(sentence(language.tell(words)) for words in told)


def explained(title: str, error: ConnectorError) -> Words:
    """What a person can do about an error of a vendor's: in its own words, or by who must act."""
    if error.words:
        return error.words
    match error:
        case RetryableError():
            return say("%(title)s cannot answer right now: try again in some minutes", title=title)
        case NotAllowedError():
            return say(
                "%(title)s does not allow this to who connected: they may lack a right to it, or "
                "an administrator of your organisation has to allow it",
                title=title,
            )
        case BrokenConnectionError():
            return say(
                "%(title)s did not accept this authorisation: try again, and allow all that is "
                "asked for",
                title=title,
            )
    return say(
        "%(title)s answered in a way that we do not understand: whoever runs this service can see "
        "what it was, and has to look at it",
        title=title,
    )


def doubted(title: str, doubt: Doubt) -> Words:
    """Why a key has not been accepted yet, and what to do, for who brought it."""
    match doubt:
        case "no_answer":
            return say(
                "%(title)s did not answer when we tried the key. Check it again in some minutes.",
                title=title,
            )
        case "limited":
            return say(
                "%(title)s says that this key is used too much at the moment, or has no credit "
                "left. Look at its limits there, then check it again.",
                title=title,
            )
        case "not_allowed":
            return say(
                "%(title)s knows this key, but does not let us try it: it may lack a right, or be "
                "good for certain addresses only. Look at its settings there, then check it again.",
                title=title,
            )
        case "refused":
            return say(
                "%(title)s no longer accepts this key: it was revoked, or has ended. Enter a new "
                "one.",
                title=title,
            )
    return say(
        "%(title)s could not tell us whether this key works. Check it again in some minutes; if it "
        "stays so, enter a new one.",
        title=title,
    )
