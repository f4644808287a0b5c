"""Texts of a manifest that are worked out with each use: `{{ config['start_date'] }}`.

A template's text is taken for the Python value that it spells, as the language does: "12" is a
number, "['a']" a list. What fails, or takes too long, is a ContractError that names the line and
shows none of the values; but one that reckons with a value of the wrong kind, such as a null,
comes to its own text, as in the language: manifests stop their paging by it.
"""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from jinja2 import TemplateError, UndefinedError

from connectors import ContractError
from recipes import macros
from recipes.manifest import Component, UnsupportedError
from recipes.sandbox import LimitError, render, variables_of
from recipes.values import Slice

MAX_LITERAL = 200_000

# Which variables there are, by what a template is about. `config` and `parameters` always are.
CONFIG: Final = frozenset({"config", "parameters"})
SLICE: Final = CONFIG | {"stream_slice", "stream_interval", "stream_partition"}
REQUEST: Final = SLICE | {"next_page_token"}
RECORD: Final = SLICE | {"record"}
FILTER: Final = RECORD | {"next_page_token"}
PAGE: Final = SLICE | {"response", "headers", "last_record", "last_page_size", "page_size"}
ANSWER: Final = CONFIG | {"response", "headers", "request_url"}

_FALSE: tuple[Any, ...] = (
    "False",
    "false",
    "{}",
    "[]",
    "()",
    "",
    "0",
    "0.0",
    {},
    False,
    None,
    [],
    (),
    set(),
)
_CODE = ("{{", "{%", "{#")
_ERRORS = (
    TemplateError,
    LookupError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    LimitError,
)


@dataclass(frozen=True)
class Scope:
    """What all templates of a read see: the tenant's settings, and the time that it began."""

    config: Mapping[str, Any] = field(repr=False)
    now: datetime


@dataclass(frozen=True)
class Template:
    """A text with code in it. `parameters` are those of the component it stands in."""

    text: str
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    line: int = 0

    @classmethod
    def of(
        cls,
        component: Component,
        value: Any,
        knows: frozenset[str],
        extra: frozenset[str] = frozenset(),
    ) -> "Template":
        """The template that a component holds; UnsupportedError where it cannot be worked out."""
        text = value if isinstance(value, str) else str(value)
        if any(mark in text for mark in _CODE):
            if "stream_state" in text:
                raise UnsupportedError("a template with stream_state", component.line)
            try:
                needs = variables_of(text)
            except (TemplateError, RecursionError, SyntaxError) as error:
                why = getattr(error, "message", None) or type(error).__name__
                raise UnsupportedError(f"a template: {why}", component.line) from None
            if missing := needs - knows - extra - macros.NAMES - {"dict", "namespace"}:
                names = ", ".join(sorted(missing))
                raise UnsupportedError(f"a template's variable: {names}", component.line)
        return cls(text, component.parameters, component.line)

    def value(self, scope: Scope, types: tuple[type, ...] = (), **variables: Any) -> Any:
        """What the text comes to; ContractError where something in it is not there."""
        try:
            return _literal(self._text(scope, variables), types)
        except UndefinedError as error:
            raise self._failed(error) from None

    def option(self, scope: Scope, types: tuple[type, ...] = (), **variables: Any) -> Any:
        """The same, and None where it comes to nothing."""
        try:
            return _literal(self._text(scope, variables), types) or None
        except UndefinedError:
            return None

    def entry(self, scope: Scope, types: tuple[type, ...] = (), **variables: Any) -> Any:
        """The value of a mapping's entry: None where the text is empty."""
        try:
            text = self._text(scope, variables)
        except UndefinedError:
            return None
        return _literal(text, types) if text else None

    def text_of(self, scope: Scope, **variables: Any) -> str:
        return str(self.value(scope, **variables))

    def holds(self, scope: Scope, **variables: Any) -> bool:
        """Whether it comes to something true; what is not there is false."""
        try:
            text = self._text(scope, variables)
        except UndefinedError:
            return False
        return bool(text) and _literal(text, ()) not in _FALSE

    def is_unsettled(self, scope: Scope, **variables: Any) -> bool:
        """Whether it reckons with a value of the wrong kind, and so comes to its own text."""
        try:
            self._rendered(scope, variables)
        except TypeError:
            return True
        except UndefinedError:
            return False
        return False

    def _text(self, scope: Scope, variables: Mapping[str, Any]) -> str:
        try:
            return self._rendered(scope, variables)
        except TypeError:
            return self.text

    def _rendered(self, scope: Scope, variables: Mapping[str, Any]) -> str:
        if not any(mark in self.text for mark in _CODE):
            return self.text
        known = dict(variables)
        if "stream_slice" in known:
            here = known["stream_slice"]
            known["stream_interval"] = known["stream_partition"] = here
            if isinstance(here, Slice):
                known = {**here.extra_fields, **known}
        known.setdefault("config", scope.config)
        try:
            return render(
                self.text, {**macros.functions(scope.now), **known, "parameters": self.parameters}
            )
        except (TypeError, UndefinedError):
            raise
        except _ERRORS as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> ContractError:
        # The error's own text may quote values, unless it is of a limit.
        why = str(error) if isinstance(error, LimitError) else type(error).__name__
        shown = self.text if len(self.text) < 120 else f"{self.text[:120]}…"
        return ContractError(f"the template {shown} on line {self.line} fails: {why}")


@dataclass(frozen=True)
class Tree:
    """A value of texts, lists and mappings whose texts are all worked out."""

    node: Any

    @classmethod
    def of(
        cls,
        component: Component,
        node: Any,
        knows: frozenset[str],
        extra: frozenset[str] = frozenset(),
    ) -> "Tree":
        return cls(_compiled(component, node, knows, extra))

    def value(self, scope: Scope, **variables: Any) -> Any:
        """What it comes to; entries that come to nothing are left out."""
        return _worked_out(self.node, scope, variables)


def _compiled(component: Component, node: Any, knows: frozenset[str], extra: frozenset[str]) -> Any:
    if isinstance(node, str):
        return Template.of(component, node, knows, extra)
    if isinstance(node, dict):
        return [
            (
                Template.of(component, key, knows, extra),
                _compiled(component, value, knows, extra),
            )
            for key, value in node.items()
            if key != "$parameters"
        ], None
    if isinstance(node, list):
        return [_compiled(component, each, knows, extra) for each in node]
    return node


def _worked_out(node: Any, scope: Scope, variables: Mapping[str, Any]) -> Any:
    if isinstance(node, Template):
        return node.entry(scope, **variables)
    if isinstance(node, tuple):
        made = {
            key.entry(scope, **variables): _worked_out(value, scope, variables)
            for key, value in node[0]
        }
        return {key: value for key, value in made.items() if value is not None}
    if isinstance(node, list):
        return [_worked_out(each, scope, variables) for each in node]
    return node


def _literal(text: str, types: tuple[type, ...]) -> Any:
    """The value that a text spells, where it spells one that JSON has too, of those types."""
    if len(text) > MAX_LITERAL or not text:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    if types:
        return value if isinstance(value, types) and is_json(value) else text
    return value if is_json(value) else text


def is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and is_json(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(is_json(each) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
