"""Google's partial answers: `fields=messages(id,threadId),nextPageToken`."""

import re
from collections import deque
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox._google import invalid
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import reply

Mask: TypeAlias = "dict[str, Mask]"  # an empty one takes all
SIGNS = ("(", ")", ",", "/")


def answered(call: Call, body: Any) -> Response:
    """A body, of which the caller may have asked for some fields only."""
    asked = call.query.get("fields", "")
    return reply(_cut(body, mask(asked)) if asked else body)


def mask(text: str) -> Mask:
    """The fields that a text names."""
    words = deque(re.findall(r"[^(),/\s]+|[(),/]", text))
    try:
        found = _list(words)
    except ValueError as error:
        raise invalid(f"Invalid field selection {text}") from error
    if words:
        raise invalid(f"Invalid field selection {text}")
    return found


def _list(words: deque[str]) -> Mask:
    found: Mask = {}
    while True:
        path = [_name(words)]
        while _next(words, "/"):
            path.append(_name(words))
        inner: Mask = {}
        if _next(words, "("):
            inner = _list(words)
            if not _next(words, ")"):
                raise ValueError("a list is not closed")
        for name in reversed(path):
            inner = {name: inner}
        _merge(found, inner)
        if not _next(words, ","):
            return found


def _name(words: deque[str]) -> str:
    if not words or words[0] in SIGNS:
        raise ValueError("a name is missing")
    return words.popleft()


def _next(words: deque[str], sign: str) -> bool:
    if words and words[0] == sign:
        words.popleft()
        return True
    return False


def _merge(found: Mask, more: Mask) -> None:
    for name, inner in more.items():
        if found.get(name) and inner:
            _merge(found[name], inner)
        else:
            found[name] = {} if name in found else inner


def _cut(value: Any, wanted: Mask) -> Any:
    if not wanted:
        return value
    if isinstance(value, list):
        return [_cut(item, wanted) for item in value]
    if not isinstance(value, dict):
        return value
    every = wanted.get("*")
    if every is not None:
        return {name: _cut(item, every) for name, item in value.items()}
    return {name: _cut(item, wanted[name]) for name, item in value.items() if name in wanted}
