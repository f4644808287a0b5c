"""The form of an integration that is connected by settings: what a page shows, and what it sends.

A secret is sent by a browser and never to one. An empty secret of a connection that is changed
stays what it was, as long as nothing else changes: else who holds a link could have it sent to an
address of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from connectors import SettingsForm, Words
from integrations import form
from integrations.form import Field, Path, Problem

Posted: TypeAlias = Mapping[str, Sequence[str]]
LONGEST = 20_000
NONE = "none"
# Names of inputs that are no setting.
NAME, MARK = "account-name", "."


@dataclass(frozen=True, kw_only=True)
class Input:
    """A field as the page shows it. `value` is what stands in it, of a choice the number of the
    option; `inside` are a group's inputs, and each branch's, beside whether it is chosen."""

    name: str
    field: Field
    value: str
    problem: Words | None = None
    inside: tuple["Input", ...] = ()
    chosen: bool = False

    @property
    def id(self) -> str:
        return f"f-{self.name}"

    @property
    def aria(self) -> dict[str, str]:
        """What says to a screen reader what stands beside the input."""
        beside = [f"hint-{self.id}"] if self.field.hint else []
        beside += [f"why-{self.id}"] if self.problem else []
        found = {"aria-describedby": " ".join(beside)} if beside else {}
        return {**found, "aria-invalid": "true"} if self.problem else found


@dataclass
class Answers:
    """What was sent: the settings, and what is wrong with them by the name of the input."""

    settings: dict[str, Any] = field(repr=False)
    problems: list[Problem] = field(default_factory=list)


def read(auth: SettingsForm, posted: Posted, kept: Mapping[str, Any] | None = None) -> Answers:
    """The settings that a browser sent; `kept` are those of the connection that is changed."""
    fields = form.fields(auth)
    settings = _group(fields, posted, "")
    if kept is not None:
        hidden = form.secrets(auth)
        shown, sent = form.split(hidden, settings)
        former, secrets = form.split(hidden, kept)
        if shown == former:
            settings = form.merged(shown, form.merged(secrets, sent))
    return Answers(settings, form.problems(auth, settings))


def inputs(
    auth: SettingsForm,
    settings: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
) -> tuple[Input, ...]:
    """What the page shows: with those settings, or without any with the schema's defaults."""
    said = {each.path: each.words for each in problems}
    return _inputs(form.fields(auth), settings, said, "")


def unplaced(shown: Sequence[Input], problems: Sequence[Problem]) -> list[Problem]:
    """Problems of what no input is for."""
    placed = set(_paths(shown))
    return [one for one in problems if one.path not in placed]


def _paths(shown: Sequence[Input]) -> list[Path]:
    return [path for each in shown for path in (each.field.path, *_paths(each.inside))]


def _name(within: str, one: Field) -> str:
    """The name of a field's input; it begins so that it is none of the page's own."""
    return f"{within}{MARK}{one.path[-1].replace('~', '~0').replace(MARK, '~1')}"


# Read


_MISSING = object()


def _group(fields: Sequence[Field], posted: Posted, within: str) -> dict[str, Any]:
    read = {each.path[-1]: _value(each, posted, _name(within, each)) for each in fields}
    return {name: value for name, value in read.items() if value is not _MISSING}


def _value(one: Field, posted: Posted, name: str) -> Any:
    text = _text(posted, name)
    if one.kind == "fixed":
        return one.options[0]
    if one.kind == "switch":
        return text == "yes"
    if one.kind == "group":
        inner = _group(one.fields, posted, name)
        return inner if one.required or _is_answered(one.fields, posted, name) else _MISSING
    if one.kind == "branches":
        taken = _index(text, len(one.fields))
        if taken is None:
            return _MISSING
        return _group(one.fields[taken].fields, posted, f"{name}{MARK}{taken}")
    if not text:
        return _MISSING
    if one.kind == "choice":
        taken = _index(text, len(one.options))
        return text if taken is None else one.options[taken]
    if one.kind == "lines":
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return lines if form.item_type(one.schema) == "string" else [_number(one) for one in lines]
    return _number(text) if one.kind == "number" else text


def _text(posted: Posted, name: str) -> str:
    return (posted.get(name) or [""])[0][:LONGEST].replace("\r\n", "\n").strip()


def _is_answered(fields: Sequence[Field], posted: Posted, within: str) -> bool:
    """Whether anything of an optional group was filled in."""
    for each in fields:
        name = _name(within, each)
        if each.kind == "group" and _is_answered(each.fields, posted, name):
            return True
        if each.kind not in ("group", "fixed", "switch") and _text(posted, name) not in ("", NONE):
            return True
    return False


def _index(text: str, count: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < count else None


def _number(text: str) -> Any:
    """As a number, or as it was typed, which is then said to be none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


# Show


def _inputs(
    fields: Sequence[Field],
    settings: Mapping[str, Any] | None,
    said: Mapping[Path, Words],
    within: str,
) -> tuple[Input, ...]:
    return tuple(
        _input(each, settings, said, _name(within, each)) for each in fields if each.kind != "fixed"
    )


def _input(
    one: Field, settings: Mapping[str, Any] | None, said: Mapping[Path, Words], name: str
) -> Input:
    value = one.default if settings is None else settings.get(one.path[-1])
    inner = value if isinstance(value, Mapping) else None
    inside: tuple[Input, ...] = ()
    if one.kind == "group":
        inside = _inputs(one.fields, inner, said, name)
    elif one.kind == "branches":
        inside = _branches(one, inner, said, name, is_new=settings is None)
    return Input(
        name=name,
        field=one,
        value=_shown(one, value),
        problem=said.get(one.path),
        inside=inside,
    )


def _branches(
    one: Field,
    settings: Mapping[str, Any] | None,
    said: Mapping[Path, Words],
    name: str,
    *,
    is_new: bool,
) -> tuple[Input, ...]:
    chosen = form.branch_of(one, settings) if settings is not None else None
    if chosen is None and is_new and one.required:
        chosen = one.fields[0]
    return tuple(
        Input(
            name=name,
            field=branch,
            value=str(number),
            inside=_inputs(
                branch.fields,
                settings if branch is chosen else None,
                said if branch is chosen else {},
                f"{name}{MARK}{number}",
            ),
            chosen=branch is chosen,
        )
        for number, branch in enumerate(one.fields)
    )


def _shown(one: Field, value: Any) -> str:
    """What stands in an input; of a secret nothing, whatever it is."""
    if value is None or one.kind in ("secret", "long_secret", "group", "branches", "fixed"):
        return ""
    if one.kind == "switch":
        return "yes" if value is True else ""
    if one.kind == "choice":
        return str(one.options.index(value)) if value in one.options else ""
    if one.kind == "lines":
        return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    return str(value)
