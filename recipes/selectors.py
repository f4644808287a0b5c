"""The records of an answer: found, filtered, transformed, and given the types of their schema."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors import ContractError, Record
from recipes.manifest import Component, ManifestError, UnsupportedError, unsupported
from recipes.runs import Run
from recipes.templates import CONFIG, FILTER, Template
from recipes.transformations import Transformation, transformation
from recipes.values import AmbiguousError, Slice, all_at, get

_MISSING = object()


@dataclass(frozen=True)
class Found:
    """What an answer holds. `missing`: it has no place for records, which is not to have none."""

    rows: list[Any]
    missing: bool


@dataclass(frozen=True)
class Extractor:
    """Looks for records at a path of each body."""

    path: tuple[Template, ...]

    @classmethod
    def of(cls, component: Component) -> "Extractor":
        if component.type != "DpathExtractor":
            raise unsupported(component)
        component.without("record_expander")
        path = component.get("field_path")
        if not isinstance(path, list):
            raise ManifestError("a DpathExtractor without a field_path", component.line)
        return cls(tuple(Template.of(component, step, CONFIG) for step in path))

    def found(self, run: Run, bodies: Iterable[Any]) -> Found:
        path = [step.value(run.scope) for step in self.path]
        rows: list[Any] = []
        missing = False
        for body in bodies:
            if not path:
                here = body
            elif "*" in path:
                here = all_at(body, path)
                missing = missing or not here
            else:
                try:
                    here = get(body, path, _MISSING)
                except AmbiguousError as error:
                    raise ContractError(f"the records of an answer: {error}") from None
                missing = missing or here is _MISSING
            if isinstance(here, list):
                rows += here
            elif here and here is not _MISSING:
                rows.append(here)
        return Found(rows, missing)


@dataclass(frozen=True)
class Selector:
    """Which records of an answer are stored, and how they look."""

    extractor: Extractor
    condition: Template | None
    transformations: tuple[Transformation, ...]
    transforms_first: bool
    types: Mapping[str, Any] | None

    @classmethod
    def of(
        cls,
        component: Component,
        stream: Component,
        extra: frozenset[str],
        *,
        client_side: bool,
        schema: Mapping[str, Any],
    ) -> "Selector":
        if component.type != "RecordSelector":
            raise unsupported(component)
        condition: Template | None = None
        if (keeps := component.part("record_filter", "RecordFilter")) is not None:
            condition = Template.of(keeps, keeps.text("condition"), FILTER, extra)
        made = [transformation(each, extra) for each in stream.parts("transformations")]
        normalises = component.get("schema_normalization", "None")
        if normalises not in ("None", "Default", None):
            raise UnsupportedError("RecordSelector.schema_normalization", component.line)
        return cls(
            Extractor.of(component.need("extractor")),
            condition,
            tuple(made),
            component.flag("transform_before_filtering", default=client_side),
            schema if normalises == "Default" else None,
        )

    def selected(self, run: Run, rows: list[Any], slice: Slice, token: Any) -> list[Record]:
        """The records of these rows; ContractError where one is no object."""
        kept: list[Record] = []
        for row in rows:
            if not isinstance(row, dict):
                raise ContractError("a record that is no object")
            record: Record = row
            if self.transforms_first:
                record = self._transformed(run, record, slice)
            if not self._keeps(run, record, slice, token):
                continue
            if not self.transforms_first:
                record = self._transformed(run, record, slice)
            kept.append(cast_to(record, self.types) if self.types else record)
        return kept

    def _keeps(self, run: Run, record: Record, slice: Slice, token: Any) -> bool:
        if self.condition is None:
            return True
        page = None if token is None else {"next_page_token": token}
        variables = {"record": record, "stream_slice": slice, "next_page_token": page}
        return self.condition.holds(run.scope, **variables)

    def _transformed(self, run: Run, record: Record, slice: Slice) -> Record:
        for each in self.transformations:
            record = each.apply(record, run, slice)
        return record


def cast_to(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value with the types of its JSON schema; what cannot have them stays as it is."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if value is None or not kinds:
        return value
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(value, dict) and "object" in kinds and isinstance(properties, dict):
        return {
            key: cast_to(inner, properties[key]) if isinstance(properties.get(key), dict) else inner
            for key, inner in value.items()
        }
    if "array" in kinds and isinstance(items, dict) and isinstance(value, list):
        return [cast_to(inner, items) for inner in value]
    plain = [kind for kind in kinds if kind != "null"]
    if len(plain) != 1:
        return value
    try:
        return _cast(value, plain[0])
    except (ValueError, TypeError, OverflowError):
        return value


def _cast(value: Any, kind: str) -> Any:
    match kind:
        case "string":
            return str(value)
        case "number":
            return (
                value
                if isinstance(value, int | float) and not isinstance(value, bool)
                else float(value)
            )
        case "integer":
            return int(value)
        case "boolean":
            return _truth(value) if isinstance(value, str) else bool(value)
        case "array":
            return value if isinstance(value, list) else [value]
    return value


def _truth(text: str) -> bool:
    if text.lower() in ("y", "yes", "t", "true", "on", "1"):
        return True
    if text.lower() in ("n", "no", "f", "false", "off", "0"):
        return False
    raise ValueError("neither true nor false")
