"""The form that a JSON schema of settings asks for: its fields, and what is wrong with answers.

A schema is a stranger's text. Its titles and descriptions are shown as plain text, it refers to
nothing outside itself, and no message repeats what somebody filled in: that may be a secret.
Keywords beside those of JSON Schema are Airbyte's (`order`, `airbyte_secret`, `airbyte_hidden`,
`pattern_descriptor`, `multiline`, `examples`): docs.airbyte.com, connector specification, 2026-11.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from html import unescape
from typing import Any, Literal, TypeAlias

from connectors import SettingsForm, Words, say

Path: TypeAlias = tuple[str, ...]
Kind = Literal[
    "text", "secret", "long_secret", "date", "number", "switch", "choice", "lines", "group",
    "branches", "fixed",
]  # fmt: skip

LONGEST_TITLE, LONGEST_HINT = 120, 600
_TAG = re.compile(r"<[^<>]{0,500}>")
_SPACE = re.compile(r"\s+")


class FormError(ValueError):
    """No form can be made of a schema; the message names the field, and why."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A setting, or a group of them; `schema` is the part of the schema that it is made from.

    `options` are the values of a choice, in order. Of `branches` one is filled in: each is a group.
    A `fixed` one is not shown: its only option is its value.
    """

    path: Path
    kind: Kind
    title: str
    hint: str = ""
    required: bool = False
    example: str = ""
    default: Any = None
    options: tuple[Any, ...] = ()
    fields: tuple["Field", ...] = ()
    schema: Mapping[str, Any] = field(repr=False)

    @property
    def is_secret(self) -> bool:
        return self.kind in ("secret", "long_secret")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and at which setting: none where it is about all of them."""

    path: Path
    words: Words

    @property
    def text(self) -> str:
        return str(self.words)


def fields(form: SettingsForm) -> tuple[Field, ...]:
    """What is to be filled in, in order; FormError where something that is needed has no form."""
    return _properties(form.schema, (), form.secrets)


def secrets(form: SettingsForm) -> frozenset[Path]:
    """The paths of secrets: those that the form names, and those that its schema marks."""
    marked = (each.path for each in leaves(fields(form)) if each.is_secret)
    return form.secrets | frozenset(marked)


def _properties(
    schema: Mapping[str, Any], path: Path, hidden: frozenset[Path]
) -> tuple[Field, ...]:
    properties = schema.get("properties") or {}
    required = frozenset(schema.get("required") or ())
    if not isinstance(properties, Mapping):
        raise FormError(f"{_named(path)}: its properties are not an object")
    made = []
    for name, part in properties.items():
        if not isinstance(part, Mapping) or not isinstance(name, str):
            raise FormError(f"{_named((*path, str(name)))}: its schema is not an object")
        if part.get("airbyte_hidden") and name not in required:
            continue
        found = _field(part, (*path, name), name in required, hidden)
        if found is not None:
            made.append((_order(part), found))
    return tuple(found for _, found in sorted(made, key=lambda each: each[0]))


def _order(schema: Mapping[str, Any]) -> float:
    order = schema.get("order")
    return float(order) if isinstance(order, int | float) else float("inf")


def _field(
    schema: Mapping[str, Any], path: Path, required: bool, hidden: frozenset[Path]
) -> Field | None:
    _check_pattern(schema, path)
    kind = _kind(schema, path, hidden)
    if kind is None:
        if required:
            raise FormError(f"{_named(path)}: we cannot ask for such a value, and it is needed")
        return None
    inner: tuple[Field, ...] = ()
    if kind == "group":
        inner = _properties(schema, path, hidden)
    elif kind == "branches":
        inner = tuple(_branch(each, path, hidden) for each in _alternatives(schema))
    examples = schema.get("examples")
    example = examples[0] if isinstance(examples, list) and examples else examples
    return Field(
        path=path,
        kind=kind,
        title=_plain(schema.get("title"), LONGEST_TITLE) or path[-1].replace("_", " ").capitalize(),
        hint=_plain(schema.get("description"), LONGEST_HINT),
        required=required,
        example=_plain(example, LONGEST_TITLE) if isinstance(example, str | int | float) else "",
        default=None if kind in ("secret", "long_secret") else schema.get("default"),
        options=_values(schema) if kind in ("choice", "fixed") else (),
        fields=inner,
        schema=schema,
    )


def _kind(schema: Mapping[str, Any], path: Path, hidden: frozenset[Path]) -> Kind | None:
    if "$ref" in schema or "allOf" in schema:
        return None
    if _alternatives(schema):
        objects = all(_type(each) in ("object", None) for each in _alternatives(schema))
        return "branches" if objects else None
    if _values(schema) and ("const" in schema or len(_values(schema)) == 1):
        return "fixed"
    kind = _type(schema)
    if "enum" in schema:
        return "choice" if _values(schema) else None
    if path in hidden or schema.get("airbyte_secret"):
        return (
            ("long_secret" if schema.get("multiline") else "secret") if kind == "string" else None
        )
    if kind == "string":
        return "date" if _is_date(schema) else "text"
    if kind == "array":
        return "lines" if item_type(schema) in ("string", "integer", "number") else None
    if kind == "object":
        return "group" if schema.get("properties") else None
    plain: dict[str | None, Kind] = {
        "integer": "number", "number": "number", "boolean": "switch",
    }  # fmt: skip
    return plain.get(kind)


def _alternatives(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = schema.get("oneOf") or schema.get("anyOf")
    if not isinstance(found, list):
        return ()
    return [each for each in found if isinstance(each, Mapping)]


def _branch(schema: Mapping[str, Any], path: Path, hidden: frozenset[Path]) -> Field:
    inner = _properties(schema, path, hidden)
    fixed = next((str(each.options[0]) for each in inner if each.kind == "fixed"), "")
    return Field(
        path=path,
        kind="group",
        title=_plain(schema.get("title"), LONGEST_TITLE) or fixed or "Other",
        hint=_plain(schema.get("description"), LONGEST_HINT),
        fields=inner,
        schema=schema,
    )


def _type(schema: Mapping[str, Any]) -> str | None:
    found = schema.get("type")
    if isinstance(found, list):
        known = [each for each in found if each != "null"]
        found = known[0] if len(known) == 1 else None
    if found is None and isinstance(schema.get("properties"), Mapping):
        return "object"
    return found if isinstance(found, str) else None


def item_type(schema: Mapping[str, Any]) -> str | None:
    """Of what a list is; of text, where that is not said."""
    items = schema.get("items")
    if not items:
        return "string"
    return _type(items) if isinstance(items, Mapping) else None


def _is_date(schema: Mapping[str, Any]) -> bool:
    """Whether a browser's own date input gives what the schema wants."""
    pattern = schema.get("pattern")
    wanted = not isinstance(pattern, str) or re.search(pattern, "2026-01-31") is not None
    return schema.get("format") == "date" and wanted


def _values(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    """The only values that there may be, where the schema lists them."""
    if "const" in schema:
        return (schema["const"],)
    found = schema.get("enum")
    return tuple(each for each in found if each is not None) if isinstance(found, list) else ()


def _check_pattern(schema: Mapping[str, Any], path: Path) -> None:
    pattern = schema.get("pattern")
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except (re.error, TypeError, OverflowError, RecursionError):
        raise FormError(f"{_named(path)}: its pattern is no regular expression") from None


def _plain(text: object, longest: int) -> str:
    """Text without the markup that some descriptions have, on one line."""
    if not isinstance(text, str | int | float):
        return ""
    plain = _SPACE.sub(" ", unescape(_TAG.sub("", str(text)))).strip()
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def _named(path: Path) -> str:
    return ".".join(path) or "the settings"


def leaves(found: Sequence[Field]) -> Iterator[Field]:
    """The settings themselves, in groups and branches too."""
    for each in found:
        if each.kind in ("group", "branches"):
            yield from leaves(each.fields)
        else:
            yield each


# What is filled in


def problems(form: SettingsForm, settings: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with settings, each at its field; of a choice, by the branch that was taken."""
    # Only who connects an account needs it.
    from jsonschema import Draft7Validator, FormatChecker
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    dates = FormatChecker(formats=())
    dates.checks("date", ValueError)(_date)
    dates.checks("date-time", ValueError)(_time)
    schema = _taken(form.schema, fields(form), settings)
    # Without a registry of its own it would fetch what a `$ref` names.
    validator = Draft7Validator(schema, registry=Registry(), format_checker=dates)
    found: dict[Path, Words] = {}
    try:
        for error in validator.iter_errors(dict(settings)):
            path = tuple(each for each in error.absolute_path if isinstance(each, str))
            if error.validator == "required" and isinstance(error.instance, Mapping):
                missing = [name for name in error.validator_value if name not in error.instance]
                found |= {(*path, name): say("This is needed.") for name in missing}
            else:
                found.setdefault(path, _said(str(error.validator), error.schema))
    except Unresolvable:
        raise FormError("its schema refers to another, which is not read") from None
    return [Problem(path, words) for path, words in found.items()]


def _taken(
    schema: Mapping[str, Any], found: Sequence[Field], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The schema with one branch, that which was taken, in place of each choice."""
    properties = dict(schema.get("properties") or {})
    for each in found:
        name, value = each.path[-1], settings.get(each.path[-1])
        if not isinstance(value, Mapping) or each.kind not in ("group", "branches"):
            continue
        if each.kind == "group":
            properties[name] = _taken(each.schema, each.fields, value)
            continue
        branch = branch_of(each, value)
        without = {k: v for k, v in each.schema.items() if k not in ("oneOf", "anyOf")}
        if branch is not None:
            taken = _taken(branch.schema, branch.fields, value)
            properties[name] = {**without, **taken}
    return {**schema, "properties": properties}


def branch_of(choice: Field, settings: Mapping[str, Any]) -> Field | None:
    """The branch that settings were filled in for: that whose fixed values they have."""
    for branch in choice.fields:
        fixed = [each for each in branch.fields if each.kind == "fixed"]
        if fixed and all(settings.get(f.path[-1]) == f.options[0] for f in fixed):
            return branch
    return next(
        (
            branch
            for branch in choice.fields
            if not any(each.kind == "fixed" for each in branch.fields)
            and set(settings) <= {each.path[-1] for each in branch.fields}
        ),
        None,
    )


def _date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value))


def _time(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def _said(keyword: str, schema: Any) -> Words:
    """A broken rule, in words; the validator's own repeat what was filled in."""
    schema = schema if isinstance(schema, Mapping) else {}
    limit = str(schema.get(keyword, ""))
    match keyword:
        case "pattern":
            form = _plain(schema.get("pattern_descriptor") or schema.get("pattern"), LONGEST_TITLE)
            return say("This does not have the form %(form)s.", form=form)
        case "type" if _type(schema) == "integer":
            return say("This must be a whole number.")
        case "type" if _type(schema) == "number":
            return say("This must be a number.")
        case "format":
            example = "2026-01-31" if schema.get("format") == "date" else "2026-01-31T00:00:00Z"
            return say("This must be a date, such as %(example)s.", example=example)
        case "minimum":
            return say("This must be at least %(limit)s.", limit=limit)
        case "maximum":
            return say("This must be at most %(limit)s.", limit=limit)
        case "minLength":
            return say("This is too short: at least %(limit)s characters.", limit=limit)
        case "maxLength":
            return say("This is too long: at most %(limit)s characters.", limit=limit)
        case "enum" | "const" | "oneOf" | "anyOf":
            return say("Choose one of those listed.")
    return say("This does not fit here.")


# Secrets, apart from the rest


def split(
    hidden: frozenset[Path], settings: Mapping[str, Any], at: Path = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings without their secrets, and the secrets alone; `merged` puts them together again."""
    shown: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        path = (*at, name)
        if path in hidden:
            kept[name] = value
        elif isinstance(value, Mapping):
            shown[name], inner = split(hidden, value, path)
            if inner:
                kept[name] = inner
        else:
            shown[name] = value
    return shown, kept


def merged(shown: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their secrets."""
    both = dict(shown)
    for name, value in kept.items():
        former = both.get(name)
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            both[name] = merged(former, value)
        else:
            both[name] = value
    return both
