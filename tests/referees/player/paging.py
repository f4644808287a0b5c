"""What an answer must say for the paginator to go on, or to stop: found by trying its templates."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.referees.player.records import put
from tests.referees.player.templates import Path, Templates

TOKEN = "pgtok"
ABSENT = object()
# More answers than these are not tried for one page.
TRIES = 6000


@dataclass(frozen=True)
class Found:
    """An answer's own part: how many records, what its body and its Link header say."""

    count: int
    body: Mapping[Path, Any]
    headers: Mapping[str, str]
    token: Any = None


class Cursor:
    """A cursor paginator's answers."""

    def __init__(
        self,
        templates: Templates,
        strategy: Mapping[str, Any],
        page_size: int | None,
        by_path: bool,
        known: Mapping[str, Any],
        few: int,
    ) -> None:
        self._few = few
        self._templates = templates
        self._value = strategy.get("cursor_value")
        self._stop = strategy.get("stop_condition")
        self._by_path = by_path
        self._known = dict(known)
        self._size = page_size
        paths = [*templates.paths(self._value), *templates.paths(self._stop)]
        self._paths = list(dict.fromkeys(path for path in paths if len(path) > 1))
        self.reads_body = any(path[0] == "response" for path in self._paths)
        # Where an answer was found for one call, it is the first that is tried for the next.
        self._known_places: dict[tuple[int, bool], tuple[int, int] | None] = {}

    def page(
        self,
        number: int,
        last: bool,
        records: Callable[[int], list[dict[str, Any]]],
        whole: Callable[[list[dict[str, Any]]], Any],
        following: str,
    ) -> Found | None:
        """What page `number` says: that another follows, at `following` where the token is a URL,
        or that it is the last. None where no answer was found that says so."""
        where = (number, last)
        if where in self._known_places:
            place = self._known_places[where]
            if place is None:
                return None
            count, at = place
            answers = itertools.islice(self._answers(number, last, following), at, at + 1)
            rows = records(count)
            for body, headers in answers:
                if found := self._try(last, rows, body, headers, whole, following):
                    return found
        tries = 0
        for count in self._counts(last):
            rows = records(count)
            for at, (body, headers) in enumerate(self._answers(number, last, following)):
                tries += 1
                if tries > TRIES:
                    break
                if found := self._try(last, rows, body, headers, whole, following):
                    self._known_places[where] = (count, at)
                    return found
        self._known_places[where] = None
        return None

    def _try(
        self,
        last: bool,
        rows: list[dict[str, Any]],
        body: Mapping[Path, Any],
        headers: Mapping[str, str],
        whole: Callable[[list[dict[str, Any]]], Any],
        following: str,
    ) -> Found | None:
        shown = whole(rows)
        if isinstance(shown, dict):
            for path, value in body.items():
                if value is not ABSENT:
                    put(shown, path, value)
        elif any(value is not ABSENT for value in body.values()):
            return None
        known = {
            **self._known,
            "response": shown,
            "headers": _seen(headers),
            "last_record": rows[-1] if rows else None,
            "last_page_size": len(rows),
            "page_size": self._size,
        }
        stops = self._stop is not None and self._templates.holds(self._stop, **known)
        # A program may fail at a token that speaks of what is not there: vendors show an empty one.
        is_known, token = (True, None) if stops else self._templates.known(self._value, **known)
        if not is_known:
            return None
        if last == (not token) and (last or self._usable(token, following)):
            return Found(len(rows), body, headers, token)
        return None

    def _usable(self, token: Any, following: str) -> bool:
        if self._by_path:
            return isinstance(token, str) and token == following
        return (isinstance(token, str | int | float) and not isinstance(token, bool)) or (
            isinstance(token, list | dict) and bool(token)
        )

    def _counts(self, last: bool) -> Iterator[int]:
        few = self._few if not last else min(self._few, 2)
        if self._size:
            few = min(few, self._size)
        yield few
        if not last and self._size and self._size <= 1000:
            yield self._size
        if last:
            yield from (1, 0)

    def _answers(
        self, number: int, last: bool, following: str
    ) -> Iterator[tuple[dict[Path, Any], dict[str, str]]]:
        inside = [path for path in self._paths if path[0] == "response"]
        outside = [path for path in self._paths if path[0] == "headers"]
        choices = [_choices(path[1:], number, last, following, self._by_path) for path in inside]
        for headers in _headers(outside, number, last, following):
            for values in itertools.product(*choices):
                yield {path[1:]: value for path, value in zip(inside, values, strict=True)}, headers


def _choices(
    path: Sequence[str], number: int, last: bool, following: str, by_path: bool
) -> list[Any]:
    name = path[-1].lower()
    text, counted = f"{TOKEN}{number + 1}", number + 2
    if last:
        ends: list[Any] = [ABSENT, None, False, "", 0, number + 1, 1, "null", {}, [], "false"]
        if _like(name, "more", "has"):
            ends = [False, *ends]
        elif _like(name, "complete", "done", "last_page", "islast", "is_last"):
            ends = [True, *ends]
        elif _like(name, "total", "count", "pages", "page", "current", "size", "limit", "per"):
            ends = [number + 1, *ends, 2]
        elif _like(name, "next", "link", "url") and number % 2:
            ends = [None, *ends]
        return [*ends, True]
    if by_path:
        return [following, True, counted, ABSENT, False, 99]
    if _like(name, "more", "has"):
        return [True, text, following, counted, "true"]
    if _like(name, "complete", "done", "islast", "is_last"):
        return [False, True, text]
    if _like(name, "total", "count", "pages"):
        return [3 + 97 * _like(name, "total", "count"), 3, text, True]
    if _like(name, "current", "page_number", "pagenumber") or name == "page":
        return [number + 1, counted, text, following, True]
    if _like(name, "offset", "next_page", "nextpage") and not _like(name, "url", "link", "token"):
        return [counted, text, following, True]
    if _like(name, "limit", "size", "per"):
        return [3, text, following, True]
    if _like(name, "url", "link", "href"):
        return [following, text, counted, True]
    return [text, following, counted, True, ABSENT, [text], {"page": counted}, 99]


def _like(name: str, *parts: str) -> bool:
    return any(part in name for part in parts)


def _headers(
    paths: Sequence[Path], number: int, last: bool, following: str
) -> Iterator[dict[str, str]]:
    names = {path[1] for path in paths}
    if not names:
        yield {}
        return
    link = f'<{following}>; rel="next"; results="true"; cursor="{TOKEN}{number + 1}"'
    own = sorted(name for name in names if name.lower() != "link")
    if last:
        with_link = {"Link": f'<{following}>; rel="next"; results="false"; cursor="x"'}
        for values in itertools.product(["", "0", "false", str(number + 1)], repeat=len(own)):
            header = {name: value for name, value in zip(own, values, strict=True) if value}
            yield header
            yield {**header, **with_link}
        return
    for values in itertools.product(
        [f"{TOKEN}{number + 1}", str(number + 2), following, "true", "99"], repeat=len(own)
    ):
        header = dict(zip(own, values, strict=True))
        yield {**header, "Link": link} if "link" in {name.lower() for name in names} else header


def _seen(headers: Mapping[str, str]) -> dict[str, Any]:
    """Headers as templates see them: `link` holds the parsed links."""
    links: dict[str, dict[str, str]] = {}
    if "Link" in headers:
        address, *options = headers["Link"].split(";")
        link = {"url": address.strip()[1:-1]}
        for option in options:
            name, _, value = option.strip().partition("=")
            link[name] = value.strip('"')
        links[link["rel"]] = link
    return {**headers, "link": links}
