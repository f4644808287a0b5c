"""What JSON schemas of a manifest say: a view's columns, and which settings are secret."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors import Column

# Those that every view has already.
TAKEN = frozenset({"record_id", "connection_id", "tenant_id", "observed_at", "data"})
MAX_COLUMNS = 300
_NAME = re.compile(r"[^a-z0-9_]+")


def columns_of(schema: Mapping[str, Any]) -> dict[str, Column]:
    """A column for each field that the schema names, of the type that PostgreSQL has for it."""
    properties = schema.get("properties")
    made: dict[str, Column] = {}
    for field, described in properties.items() if isinstance(properties, dict) else ():
        if len(made) >= MAX_COLUMNS:
            break
        name = _column_name(str(field))
        if name in TAKEN:
            name = f"{name}_"
        while name in made:
            name = f"{name}_"
        made[name] = Column((str(field),), _type(described if isinstance(described, dict) else {}))
    return made


def _column_name(field: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field)
    name = _NAME.sub("_", spaced.lower()).strip("_")[:60] or "field"
    return f"_{name}" if name[0].isdigit() else name


def _type(described: Mapping[str, Any]) -> str:
    found = described.get("type")
    kinds = [kind for kind in (found if isinstance(found, list) else [found]) if kind != "null"]
    match kinds:
        case ["integer" | "number"] | ["integer", "number"] | ["number", "integer"]:
            return "numeric"
        case ["boolean"]:
            return "boolean"
        case ["string"]:
            return "timestamptz" if described.get("format") == "date-time" else "text"
    return "jsonb"


def secrets_of(schema: Mapping[str, Any]) -> frozenset[tuple[str, ...]]:
    """The paths of the fields that the schema marks as secret."""
    return frozenset(_secrets(schema, ()))


def _secrets(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(schema, dict):
        return
    if schema.get("airbyte_secret") is True and path:
        yield path
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        yield from _secrets(inner, (*path, str(name)))
    for word in ("oneOf", "anyOf", "allOf"):
        for inner in schema.get(word) or ():
            yield from _secrets(inner, path)
    if isinstance(schema.get("items"), dict):
        yield from _secrets(schema["items"], (*path, "*"))
