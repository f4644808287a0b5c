"""Drive's search terms, as far as the sandbox knows them: comparisons that are joined by `and`.

https://developers.google.com/workspace/drive/api/guides/ref-search-terms
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from sandbox._google import wrong
from sandbox.google_drive.store import File

WORD = r"'(?:[^'\\]|\\.)*'|true|false"
TERM = re.compile(rf"(?P<name>\w+)\s*(?P<sign>=|!=|>=|<=|>|<|contains)\s*(?P<value>{WORD})")
IN = re.compile(rf"(?P<value>{WORD})\s+in\s+(?P<name>parents|owners|writers|readers)")
BOOLEANS = ("trashed", "starred", "sharedWithMe")
TIMES = ("modifiedTime", "createdTime")
TEXTS = ("name", "mimeType", "fullText")


def search(text: str) -> Callable[[File], bool]:
    """Whether a file fits a query; Answer for one that this sandbox does not know."""
    terms = [_term(part.strip()) for part in re.split(r"\s+and\s+", text.strip()) if part.strip()]
    return lambda file: all(term(file) for term in terms)


def _term(text: str) -> Callable[[File], bool]:
    inside = IN.fullmatch(text)
    if inside and inside["name"] == "parents":
        wanted = _text(inside["value"])
        return lambda file: wanted in file.data.get("parents", ())
    found = TERM.fullmatch(text)
    if found is None:
        raise wrong("Invalid Value", "q")
    name, sign, value = found["name"], found["sign"], found["value"]
    if name in BOOLEANS and sign in ("=", "!="):
        expected = (value == "true") is (sign == "=")
        return lambda file: _flag(file, name) is expected
    if name in TIMES and sign != "contains":
        return _compared(name, sign, value)
    if name in TEXTS and sign in ("=", "!=", "contains"):
        return _worded("name" if name == "fullText" else name, sign, _text(value))
    raise wrong("Invalid Value", "q")


def _flag(file: File, name: str) -> bool:
    return "sharedWithMeTime" in file.data if name == "sharedWithMe" else bool(file.data[name])


def _compared(name: str, sign: str, value: str) -> Callable[[File], bool]:
    try:
        at = datetime.fromisoformat(_text(value))
    except ValueError as error:
        raise wrong("Invalid Value", "q") from error
    # A time without a zone is in UTC (developers.google.com/drive/api/guides/ref-search-terms,
    # 2026-11).
    at = at if at.tzinfo else at.replace(tzinfo=UTC)

    def fits(file: File) -> bool:
        there = datetime.fromisoformat(file.data[name])
        return (
            (there > at and ">" in sign)
            or (there < at and "<" in sign)
            or (there == at and "=" in sign and sign != "!=")
            or (there != at and sign == "!=")
        )

    return fits


def _worded(name: str, sign: str, wanted: str) -> Callable[[File], bool]:
    def fits(file: File) -> bool:
        text = str(file.data[name])
        if sign == "contains":
            return wanted.lower() in text.lower()
        return (text == wanted) is (sign == "=")

    return fits


def _text(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1])
