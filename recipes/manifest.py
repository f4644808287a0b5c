"""A manifest's text as components: each knows its line; references and parameters are in place.

The language is Airbyte's low-code one (airbyte-cdk 7.39.1): `$ref` and "#/…" stand for what is
defined elsewhere in the file, and `$parameters` of a component reach all that is inside of it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import yaml

from recipes.defaults import default_type

MAX_TEXT = 5_000_000
# References may multiply what is written: so many values there may be once they are in place.
MAX_VALUES = 400_000
MAX_DEPTH = 100
# What stands there counts only where it is referred to.
_ONLY_REFERRED_TO = ("definitions", "schemas", "metadata")


class ManifestError(Exception):
    """The text is no manifest that can be read; says where, and what is wrong."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


class UnsupportedError(Exception):
    """A component, or a feature of one, that we lack: what needs it is not read."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.why, self.line = why, line


class Component(dict[str, Any]):
    """A mapping of the manifest, with the line that it begins at."""

    line: int = 0

    @classmethod
    def of(cls, values: Mapping[Any, Any], line: int) -> "Component":
        made = cls(values)
        made.line = line
        return made

    @property
    def type(self) -> str:
        found = self.get("type")
        return found if isinstance(found, str) else ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        found = self.get("$parameters")
        return found if isinstance(found, dict) else {}

    def part(self, name: str, *types: str) -> "Component | None":
        """The component at a field, of one of these types where any are named."""
        found = self.get(name)
        if found is None:
            return None
        if not isinstance(found, Component):
            raise ManifestError(f"{self.type}.{name} is no component", self.line)
        if types and found.type not in types:
            raise unsupported(found)
        return found

    def need(self, name: str, *types: str) -> "Component":
        found = self.part(name, *types)
        if found is None:
            raise ManifestError(f"{self.type or 'the component'} lacks {name}", self.line)
        return found

    def parts(self, name: str) -> "list[Component]":
        """The components of a list; a lone one is a list of one."""
        found = self.get(name) or []
        items = found if isinstance(found, list) else [found]
        for item in items:
            if not isinstance(item, Component):
                raise ManifestError(f"{self.type}.{name} holds what is no component", self.line)
        return items

    def text(self, name: str, default: str = "") -> str:
        """The text at a field; a number is its text."""
        found = self.get(name)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise ManifestError(f"{self.type}.{name} is no text", self.line)
        return str(found)

    def number(self, name: str, default: int) -> int:
        """The whole number at a field, which may be written as a text."""
        found = self.get(name)
        if found is None:
            return default
        try:
            return int(self.text(name))
        except ValueError:
            raise ManifestError(f"{self.type}.{name} is no number", self.line) from None

    def items_of(self, name: str) -> list[Any]:
        """The list at a field; an empty one where there is none."""
        found = self.get(name)
        if found is None:
            return []
        if not isinstance(found, list):
            raise ManifestError(f"{self.type}.{name} is no list", self.line)
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.get(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise ManifestError(f"{self.type}.{name} is neither true nor false", self.line)
        return found

    def without(self, *names: str) -> None:
        """Raises UnsupportedError where a field is set that we do not follow."""
        for name in names:
            if self.get(name) and name not in self.parameters:
                raise UnsupportedError(f"{self.type}.{name}", self.line)


def unsupported(component: Component) -> UnsupportedError:
    """The error of a component that we lack."""
    if "class_name" in component or component.type.startswith("Custom"):
        what = f"{component.type or 'custom'}: Python of its own ({component.get('class_name')})"
        return UnsupportedError(what, component.line)
    return UnsupportedError(component.type or "a component without a type", component.line)


def load(text: str) -> Component:
    """The manifest with all references and parameters in place; ManifestError where it is none."""
    root = _parsed(text)
    if root.setdefault("type", "DeclarativeSource") != "DeclarativeSource":
        raise ManifestError(f"the type is {root['type']!r}, not DeclarativeSource", root.line)
    read = Component.of({k: v for k, v in root.items() if k not in _ONLY_REFERRED_TO}, root.line)
    resolved = _References(root).resolved(read)
    made = _Parameters().spread("", resolved, {})
    assert isinstance(made, Component)  # noqa: S101 - a mapping stays one
    return made


class _Loader(yaml.CSafeLoader):
    """Mappings come as components that know their line."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[Component]:
    made = Component()
    made.line = node.start_mark.line + 1
    yield made
    loader.flatten_mapping(node)
    for key, value in loader.construct_mapping(node).items():
        made[key if isinstance(key, str) else _name(key)] = _plain(value)


def _name(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(_plain(key))


def _plain(value: Any) -> Any:
    """YAML makes dates of what the language means as text."""
    if isinstance(value, date):
        return value.isoformat()
    return value


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _parsed(text: str) -> Component:
    if len(text) > MAX_TEXT:
        raise ManifestError(f"the manifest is longer than {MAX_TEXT:,} characters")
    try:
        root = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ManifestError(f"not YAML: {error.problem or 'it cannot be parsed'}", line) from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        raise ManifestError("not YAML: it cannot be parsed") from None
    if not isinstance(root, Component):
        raise ManifestError("the manifest is no mapping")
    return root


class _References:
    """Puts in the place of each reference what it refers to."""

    def __init__(self, root: Component) -> None:
        self.root = root
        self.values = 0

    def resolved(self, node: Any, inside: tuple[str, ...] = (), depth: int = 0) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            raise ManifestError("the manifest's references make it too large")
        if isinstance(node, dict):
            return self._mapping(node, inside, depth)
        if isinstance(node, list):
            return [self.resolved(_plain(item), inside, depth + 1) for item in node]
        if isinstance(node, str) and node.startswith("#/"):
            if node in inside:
                raise ManifestError(f"the reference {node} leads back to itself")
            return self.resolved(self._found(node), (*inside, node), depth + 1)
        return node

    def _mapping(self, node: dict[str, Any], inside: tuple[str, ...], depth: int) -> Any:
        line = getattr(node, "line", 0)
        try:
            own = {
                key: self.resolved(value, inside, depth + 1)
                for key, value in node.items()
                if key != "$ref"
            }
            if "$ref" not in node:
                return Component.of(own, line)
            found = self.resolved(node["$ref"], inside, depth + 1)
        except ManifestError as error:
            raise error if error.line else ManifestError(str(error), line) from None
        if not isinstance(found, dict):
            return found
        # What stands beside a reference goes before what it refers to.
        return Component.of({**found, **own}, line)

    def _found(self, reference: str) -> Any:
        path, node = reference[2:], self.root
        found: Any = node
        while path:
            if isinstance(found, dict) and path in found:
                return found[path]
            head, _, path = path.partition("/")
            try:
                found = found[int(head)] if head.isdecimal() else found[head]
            except (KeyError, IndexError, TypeError):
                raise ManifestError(f"the reference {reference} leads to nothing") from None
        return found


class _Parameters:
    """Gives each component its type, where that goes without saying, and its parameters."""

    def __init__(self) -> None:
        self.values = 0

    def spread(self, place: str, node: Component, given: Mapping[str, Any]) -> Component:
        self.values += len(node) + 1
        if self.values > MAX_VALUES:
            raise ManifestError("the manifest's parameters make it too large", node.line)
        made = Component.of(node, node.line)
        if "type" not in made and (known := default_type(place, "class_name" in made)):
            made["type"] = known
        own = made.pop("$parameters", None) or {}
        if not isinstance(own, dict):
            raise ManifestError("$parameters is no mapping", node.line)
        current = {**given, **own}
        kind = made.get("type")
        if kind == "object" or isinstance(kind, list | dict):
            return made  # a JSON schema
        if kind is None:
            for name, value in made.items():
                if isinstance(value, Component) and value.get("type"):
                    made[name] = self.spread(place, value, current)
            return made
        for name, value in current.items():
            made[name] = made.get(name) or value
        for name, value in list(made.items()):
            # A parameter does not reach what stands under its own name: that would not end.
            inner = {key: each for key, each in current.items() if key != name}
            made[name] = self._inside(f"{kind}.{name}", value, inner)
        if current:
            made["$parameters"] = current
        return made

    def _inside(self, place: str, value: Any, given: Mapping[str, Any]) -> Any:
        if isinstance(value, dict):
            node = value if isinstance(value, Component) else Component.of(value, 0)
            return self.spread(place, node, given)
        if isinstance(value, list):
            return [
                self.spread(place, each, given) if isinstance(each, Component) else each
                for each in value
            ]
        return value


_SLUG = re.compile(r"[^a-z0-9]+")


def slug(name: str) -> str:
    """A stream's name as it fits the name of a table."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    made = _SLUG.sub("_", spaced.lower()).strip("_")
    return made if made and not made[0].isdigit() else f"s_{made}".rstrip("_")
