"""What is done to a record before it is stored, in the order that the manifest says."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from connectors import ContractError, Record
from recipes.manifest import Component, ManifestError, unsupported
from recipes.runs import Run
from recipes.templates import CONFIG, RECORD, Template
from recipes.values import Slice, all_at, delete, get, put

_TYPES = {"string": str, "number": float, "integer": int, "boolean": bool}
# Letters that are no ASCII ones with a mark; those of other scripts are left out of names.
_LATIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
_TOKENS = re.compile(r"[A-Z]+[a-z]*|[a-z]+|\d+|([^a-zA-Z\d]+)")


class Transformation(Protocol):
    def apply(self, record: Record, run: Run, slice: Slice) -> Record: ...


@dataclass(frozen=True)
class AddFields:
    fields: tuple[tuple[tuple[Any, ...], Template, tuple[type, ...]], ...]
    condition: Template | None

    @classmethod
    def of(cls, component: Component, extra: frozenset[str]) -> "AddFields":
        fields = []
        for one in component.parts("fields"):
            path = one.get("path")
            if not isinstance(path, list) or not path:
                raise ManifestError("AddFields without a path", one.line)
            kind = one.get("value_type")
            types: tuple[type, ...] = (_TYPES[kind],) if kind in _TYPES else ()
            value = Template.of(one, one.get("value", ""), RECORD, extra)
            fields.append((tuple(path), value, types))
        condition = component.get("condition")
        knows = RECORD | {"value", "path"}
        made = Template.of(component, condition, knows, extra) if condition else None
        return cls(tuple(fields), made)

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        variables = {"record": record, "stream_slice": slice}
        for path, template, types in self.fields:
            value = template.value(run.scope, types, **variables)
            if self.condition is None or self.condition.holds(
                run.scope, **variables, value=value, path=list(path)
            ):
                try:
                    put(record, path, value)
                except LookupError:
                    where = ".".join(map(str, path))
                    raise ContractError(f"a record has no place for the field {where}") from None
        return record


@dataclass(frozen=True)
class RemoveFields:
    pointers: tuple[tuple[Any, ...], ...]
    condition: Template | None

    @classmethod
    def of(cls, component: Component, extra: frozenset[str]) -> "RemoveFields":
        pointers = component.get("field_pointers") or []
        if not all(isinstance(each, list) for each in pointers):
            raise ManifestError("a field_pointer that is no list", component.line)
        condition = component.get("condition")
        knows = CONFIG | {"property"}
        made = Template.of(component, condition, knows) if condition else None
        return cls(tuple(map(tuple, pointers)), made)

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        condition = self.condition
        for pointer in self.pointers:
            if condition is None:
                delete(record, pointer)
            else:
                delete(record, pointer, lambda found: condition.holds(run.scope, property=found))
        return record


@dataclass(frozen=True)
class Renamed:
    """Each key is another; `deep` those inside of objects, too."""

    name: Callable[[str], str]
    deep: bool

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        return self._renamed(record)

    def _renamed(self, found: Mapping[str, Any]) -> Record:
        return {
            self.name(key): self._renamed(value) if self.deep and isinstance(value, dict) else value
            for key, value in found.items()
        }


@dataclass(frozen=True)
class KeysReplace:
    old: Template
    new: Template

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        variables = {"record": record, "stream_slice": slice}
        old = self.old.text_of(run.scope, **variables)
        new = self.new.text_of(run.scope, **variables)
        return Renamed(lambda key: key.replace(old, new), deep=True).apply(record, run, slice)


@dataclass(frozen=True)
class FlattenFields:
    lists: bool

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        # The last that was put there is taken first, and a list makes all that comes after it bear
        # the names of what it stands in: so the language has it.
        made: Record = {}
        waiting: list[tuple[Any, str]] = [(record, "_")]
        with_parent = False
        while waiting:
            value, name = waiting.pop()
            if isinstance(value, dict):
                for key, inner in value.items():
                    longer = with_parent or key in made
                    waiting.append((inner, f"{name}.{key}" if longer else key))
            elif isinstance(value, list) and self.lists:
                with_parent = with_parent or bool(value)
                waiting += [(inner, f"{name}.{index}") for index, inner in enumerate(value)]
            else:
                made[name] = value
        return made


@dataclass(frozen=True)
class DpathFlattenFields:
    path: tuple[Template, ...]
    delete_origin: bool
    replace: bool
    prefix: Template | None
    suffix: Template | None

    def apply(self, record: Record, run: Run, slice: Slice) -> Record:
        path = [step.value(run.scope) for step in self.path]
        if "*" in path:
            matched = all_at(record, path)
            found = matched[0] if matched else None
        else:
            found = get(record, path)
        if not isinstance(found, dict):
            return record
        before = self.prefix.option(run.scope) if self.prefix else None
        after = self.suffix.option(run.scope) if self.suffix else None
        found = {f"{before or ''}{key}{after or ''}": value for key, value in found.items()}
        if self.replace and found:
            return found
        if found.keys() & record.keys():
            return record  # so does the language: no field of the record's is written over
        if self.delete_origin:
            delete(record, path)
        return {**record, **found}


def snake_case(key: str) -> str:
    """`theKey 2` is `the_key_2`."""
    plain = unicodedata.normalize("NFKD", key.translate(_LATIN)).encode("ascii", "ignore").decode()
    tokens = ["" if found[1] else found[0] for found in _TOKENS.finditer(plain)]
    if len(tokens) >= 3:
        tokens = [tokens[0], *(token for token in tokens[1:-1] if token), tokens[-1]]
    if tokens and tokens[0].isdigit():
        tokens.insert(0, "")
    return "_".join(token.lower() for token in tokens)


def transformation(component: Component, extra: frozenset[str]) -> Transformation:
    """The transformation that a component describes; UnsupportedError of one that we lack."""
    match component.type:
        case "AddFields":
            return AddFields.of(component, extra)
        case "RemoveFields":
            return RemoveFields.of(component, extra)
        case "KeysToLower":
            return Renamed(str.lower, deep=False)
        case "KeysToSnakeCase":
            return Renamed(snake_case, deep=True)
        case "KeysReplace":
            old, new = component.text("old"), component.text("new")
            return KeysReplace(
                Template.of(component, old, RECORD, extra),
                Template.of(component, new, RECORD, extra),
            )
        case "FlattenFields":
            return FlattenFields(component.flag("flatten_lists", default=True))
        case "DpathFlattenFields":
            rename = component.part("key_transformation")
            return DpathFlattenFields(
                tuple(Template.of(component, step, CONFIG) for step in component["field_path"]),
                component.flag("delete_origin_value"),
                component.flag("replace_record"),
                _named(rename, "prefix"),
                _named(rename, "suffix"),
            )
    raise unsupported(component)


def _named(component: Component | None, name: str) -> Template | None:
    if component is None or not component.get(name):
        return None
    return Template.of(component, component[name], CONFIG)
