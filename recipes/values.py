"""What templates and components look into: slices of a stream, headers, and paths of fields."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from connectors import Response

LONGEST_LIST = 10_000
_GLOB = re.compile(r"[*?\[]")
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_ATTRIBUTE = re.compile(r";\s*([\w*-]+)\s*=\s*(?:\"([^\"]*)\"|([^;,\s]*))")


@dataclass(frozen=True, repr=False)
class Slice(Mapping[str, Any]):
    """The part of a stream that a request is for: of a parent, of a list, of a time.

    Seen as a mapping it holds partition and time alike. `extra_fields` are further ones of the
    parent's record.
    """

    partition: Mapping[str, Any] = field(default_factory=dict)
    cursor_slice: Mapping[str, Any] = field(default_factory=dict)
    extra_fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.cursor_slice[name] if name in self.cursor_slice else self.partition[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.partition, **self.cursor_slice})

    def __len__(self) -> int:
        return len({**self.partition, **self.cursor_slice})

    def __repr__(self) -> str:
        return repr({**self.partition, **self.cursor_slice})

    def within(self, times: Mapping[str, Any]) -> "Slice":
        """The same part, of a time."""
        return Slice(self.partition, times, self.extra_fields)


class Headers(Mapping[str, Any]):
    """An answer's headers, by names in any case; `link` holds its links by their relation."""

    def __init__(self, response: Response) -> None:
        self._headers = response.headers

    def __getitem__(self, name: str) -> Any:
        if name == "link":
            return _links(self._headers.get("link", ""))
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._headers, "link": ""})

    def __len__(self) -> int:
        return len({**self._headers, "link": ""})


def _links(header: str) -> dict[str, dict[str, str]]:
    found = {}
    for target, rest in _LINK.findall(header):
        link = {"url": target}
        link |= {name: quoted or bare for name, quoted, bare in _ATTRIBUTE.findall(rest)}
        found[link.get("rel", target)] = link
    return found


class AmbiguousError(ValueError):
    """A path with wildcards that leads to more than one value."""


def get(root: Any, path: Sequence[Any], default: Any = None) -> Any:
    """The value at a path; AmbiguousError where wildcards lead to several."""
    if not any(_is_glob(step) for step in path):
        found = root
        for step in path:
            found = _step(found, step)
            if found is _NOTHING:
                return default
        return found
    values = all_at(root, path)
    if len(values) > 1:
        raise AmbiguousError("a path that leads to more than one value")
    return values[0] if values else default


def all_at(root: Any, path: Sequence[Any]) -> list[Any]:
    """All values at a path: `*` is any one step, `**` any number of them."""
    return [holder[key] for holder, key in _places(root, path)]


def put(root: Any, path: Sequence[Any], value: Any) -> None:
    """Sets the value at a path; what lies on the way is made. LookupError where it cannot be."""
    *outer, last = path
    here = root
    for step, following in zip(outer, path[1:], strict=True):
        step = _reached(here, step)
        known = here[step] if isinstance(here, list) else here.get(step)
        if known is None:
            here[step] = [] if isinstance(following, int) else {}
        here = here[step]
    here[_reached(here, last)] = value


def _reached(holder: Any, step: Any) -> Any:
    """The key of a step in what holds it; a list is made long enough for it."""
    if isinstance(holder, dict):
        return step
    index = _index(step) if isinstance(holder, list) else None
    if index is None or not 0 <= index <= LONGEST_LIST:
        raise LookupError("a path into what has no such place")
    holder.extend([None] * (index + 1 - len(holder)))
    return index


def delete(root: Any, path: Sequence[Any], only: Callable[[Any], bool] | None = None) -> None:
    """Takes away what is at a path; an item of a list becomes None, and only the last goes."""
    for holder, key in _places(root, path):
        if only is not None and not only(holder[key]):
            continue
        if isinstance(holder, dict):
            del holder[key]
        elif key == len(holder) - 1:
            holder.pop()
        else:
            holder[key] = None


_NOTHING = object()


def _is_glob(step: Any) -> bool:
    return isinstance(step, str) and _GLOB.search(step) is not None


def _index(step: Any) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if isinstance(step, str) and step.lstrip("-").isdecimal() else None


def _step(found: Any, step: Any) -> Any:
    if isinstance(found, dict):
        if step in found:
            return found[step]
        text = str(step)
        return found.get(text, _NOTHING)
    if isinstance(found, list):
        index = _index(step)
        return found[index] if index is not None and -len(found) <= index < len(found) else _NOTHING
    return _NOTHING


def _places(root: Any, path: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Where the values at a path stand: what holds each, and under which key."""
    if not path:
        return []
    step, rest = path[0], path[1:]
    if step == "**":
        found = _places(root, rest) if rest else []
        for key in _keys(root):
            if not rest:
                found.append((root, key))
            found += _places(root[key], path)
        return found
    matching = [key for key in _keys(root) if _fits(key, step)]
    if not rest:
        return [(root, key) for key in matching]
    return [place for key in matching for place in _places(root[key], rest)]


def _keys(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return list(found)
    return list(range(len(found))) if isinstance(found, list) else []


def _fits(key: Any, step: Any) -> bool:
    if key == step:
        return True
    return fnmatchcase(str(key), str(step)) if _is_glob(step) else str(key) == str(step)
