"""Records that fit a stream: its key, its cursor, its schema, and where its selector looks."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.referees.player.templates import Path
from tests.referees.player.times import written

# Of a schema's properties, those that come first are filled; of a big page only one in the most of
# its records.
FILLED, FULL = 8, 6
DEPTH = 3


def number(*parts: object) -> int:
    """The same number for the same parts, in each process."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def record(
    seed: str,
    index: int,
    *,
    schema: Mapping[str, Any],
    keys: Sequence[Path],
    needed: Mapping[Path, Sequence[Any]],
    at: datetime,
    cursor: str | None,
    form: str,
) -> dict[str, Any]:
    """The record of that index. `needed` are fields that templates look at, with the values that
    they compare them with; the cursor's value is `at` in its own form."""
    found: dict[str, Any] = {}
    properties = schema.get("properties") or {}
    for name, about in list(properties.items())[: FILLED if index % 100 < FULL else 1]:
        value = _value(seed, index, (name,), about, at)
        if value is not None or number(seed, index, name) % 2:
            found[name] = value
    for path, values in needed.items():
        if values and number(seed, index, path) % 3:
            put(found, path, values[number(seed, index, path, "which") % len(values)])
        elif look(found, path) is None:
            put(found, path, _value(seed, index, path, _about(schema, path), at))
    for path in keys:
        about = _about(schema, path)
        whole = number(seed, path) % 10**6 * 1000 + index
        put(
            found,
            path,
            whole
            if "integer" in _kinds(about) or "number" in _kinds(about)
            else f"{path[-1]}-{whole}",
        )
    if cursor is not None:
        found[cursor] = written(at, form)
    return found


def placed(records: list[dict[str, Any]], path: Sequence[str]) -> Any:
    """An answer's body in which a selector finds those records under that path."""
    if "*" not in path:
        body: Any = records
        for name in reversed(path):
            body = {name: body}
        return body
    at = list(path).index("*")
    after = path[at + 1 :]
    if "*" in after:
        middle = (len(records) + 1) // 2
        leaves = [placed(records[:middle], after), placed(records[middle:], after)]
    else:
        leaves = []
        for one in records:
            leaf: Any = one
            for name in reversed(after):
                leaf = {name: leaf}
            leaves.append(leaf)
    return placed(leaves, path[:at])


def put(body: Any, path: Sequence[str], value: Any) -> None:
    """Set what is under that path; what is in the way, and holds nothing by name, is replaced."""
    for name in path[:-1]:
        if not isinstance(body.get(name), dict):
            body[name] = {}
        body = body[name]
    body[path[-1]] = value


def look(body: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(body, dict) or name not in body:
            return None
        body = body[name]
    return body


def _kinds(about: Any) -> list[str]:
    if not isinstance(about, Mapping):
        return ["string"]
    kind = about.get("type", "string")
    return kind if isinstance(kind, list) else [kind]


def _about(schema: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        inner = (schema.get("properties") or {}).get(name)
        if not isinstance(inner, dict):
            return {}
        schema = inner
    return schema


def _value(
    seed: str, index: int, path: Path, about: Mapping[str, Any], at: datetime, depth: int = 0
) -> Any:
    kinds = [kind for kind in _kinds(about) if kind != "null"]
    about = about if isinstance(about, Mapping) else {}
    chosen = number(seed, index, path)
    if "null" in _kinds(about) and chosen % 5 == 0:
        return None
    kind = kinds[0] if kinds else "string"
    if about.get("enum"):
        return about["enum"][chosen % len(about["enum"])]
    if kind == "object":
        if depth >= DEPTH:
            return {}
        inner = list((about.get("properties") or {}).items())[:FILLED]
        return {
            name: _value(seed, index, (*path, name), part, at, depth + 1)
            for name, part in inner
            if isinstance(part, dict)
        }
    if kind == "array":
        items = about.get("items")
        items = items if isinstance(items, dict) else {}
        return [
            _value(seed, f"{index}.{one}", path, items, at, depth + 1)  # type: ignore[arg-type]
            for one in range(chosen % 3)
            if depth < DEPTH
        ]
    if kind == "boolean":
        return bool(chosen % 2)
    if kind == "integer":
        return str(chosen % 1000) if chosen % 11 == 0 else chosen % 1000
    if kind == "number":
        return chosen % 100000 / 100
    if about.get("format") in ("date-time", "date"):
        return written(at, "%Y-%m-%d" if about["format"] == "date" else "%Y-%m-%dT%H:%M:%SZ")
    return f"{path[-1]} {chosen % 1000}"
