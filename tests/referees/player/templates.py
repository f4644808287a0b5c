"""The manifests' Jinja templates, as far as a player of answers must understand them."""

import ast
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import TemplateError

Path = tuple[str, ...]

_ROOTS = ("response", "headers", "record", "last_record", "last_page_size")
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_DAYS = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?"
)


class Templates:
    """Renders templates with settings, at a time that stands still."""

    def __init__(self, config: Mapping[str, Any], now: datetime) -> None:
        self._config = config
        self._environment = Environment()  # noqa: S701 - nothing here is markup
        self._environment.globals.update(
            now_utc=lambda: now,
            today_utc=lambda: now.date(),
            today_with_timezone=lambda zone: now.date(),
            timestamp=_timestamp,
            max=max,
            min=min,
            duration=duration,
            day_delta=lambda days, format="%Y-%m-%dT%H:%M:%S.%f%z": (
                now + timedelta(days=days)
            ).strftime(format),
            format_datetime=lambda value, format, input_format=None: str(value),
        )
        self._environment.filters["regex_search"] = _regex_search
        self._environment.filters["hash"] = lambda value, *_: str(value)
        self._compiled: dict[str, Template | None] = {}
        self._paths: dict[str, list[Path]] = {}

    def value(self, template: Any, **known: Any) -> Any:
        """What the template gives; None of one that speaks of what is not known."""
        return self.known(template, **known)[1]

    def known(self, template: Any, **known: Any) -> tuple[bool, Any]:
        """Whether all that the template speaks of is known, and what it gives."""
        if not isinstance(template, str):
            return True, template
        if "{" not in template:
            text = template
        else:
            compiled = self._template(template)
            if compiled is None:
                return False, None
            try:
                text = compiled.render(config=self._config, **known)
            except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
                return False, None
        if not text:
            return True, None
        try:
            return True, ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError):
            return True, text

    def _template(self, text: str) -> Template | None:
        if text not in self._compiled:
            try:
                self._compiled[text] = self._environment.from_string(text)
            except TemplateError:
                self._compiled[text] = None
        return self._compiled[text]

    def holds(self, template: Any, **known: Any) -> bool:
        """Whether a condition is met."""
        value = self.value(template, **known)
        return value not in ("", 0, None, False, [], {}, (), "False", "false", "{}", "[]", "()")

    def paths(self, template: Any) -> list[Path]:
        """What the template looks at: ("response", "links", "next"), the longest paths only."""
        if not isinstance(template, str) or "{" not in template:
            return []
        if template not in self._paths:
            try:
                tree = self._environment.parse(template)
            except TemplateError:
                return []
            self._paths[template] = list(dict.fromkeys(_outermost(tree)))
        return self._paths[template]

    def constants(self, template: Any) -> list[Any]:
        """The constants that stand in it, and what `in` lists hold."""
        if not isinstance(template, str):
            return []
        try:
            tree = self._environment.parse(template)
        except TemplateError:
            return []
        return [found.value for found in tree.find_all(nodes.Const)]


def pieces(template: str) -> Iterator[tuple[bool, str]]:
    """Its parts, in order: whether a part is an expression, and its text."""
    at = 0
    for match in _EXPRESSION.finditer(template):
        yield False, template[at : match.start()]
        yield True, match.group()
        at = match.end()
    yield False, template[at:]


def duration(text: str) -> timedelta:
    """An ISO 8601 duration; a month has 30 days."""
    match = _DAYS.fullmatch(text)
    if match is None:
        return timedelta(days=1)
    years, months, weeks, days, hours, minutes, seconds = (
        int(part or 0) for part in match.groups()
    )
    return timedelta(
        days=365 * years + 30 * months + 7 * weeks + days,
        hours=hours,
        minutes=minutes,
        seconds=seconds,
    )


def _outermost(node: nodes.Node) -> Iterator[Path]:
    path = _path(node)
    if path is not None:
        yield path
        return
    membership = _membership(node)
    if membership is not None:
        yield membership
        return
    for child in node.iter_child_nodes():
        yield from _outermost(child)


def _membership(node: nodes.Node) -> Path | None:
    """`'next' in response.links` looks at response.links.next."""
    if isinstance(node, nodes.Compare) and len(node.ops) == 1 and node.ops[0].op in ("in", "notin"):
        whole = _path(node.ops[0].expr)
        if whole is not None and isinstance(node.expr, nodes.Const):
            return (*whole, str(node.expr.value))
    return None


def _path(node: nodes.Node) -> Path | None:
    match node:
        case nodes.Name(name=name) if name in _ROOTS:
            return (name,)
        case nodes.Getattr(node=inner, attr=name):
            whole = _path(inner)
            return None if whole is None else (*whole, name)
        case nodes.Getitem(node=inner, arg=nodes.Const(value=key)):
            whole = _path(inner)
            return None if whole is None else (*whole, str(key))
        case nodes.Call(
            node=nodes.Getattr(node=inner, attr="get"), args=[nodes.Const(value=key), *_]
        ):
            whole = _path(inner)
            return None if whole is None else (*whole, str(key))
    return None


def _timestamp(value: Any) -> float:
    if isinstance(value, int | float):
        return int(value)
    found = datetime.fromisoformat(str(value))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _regex_search(value: Any, pattern: str) -> str:
    match = re.search(pattern, str(value))
    return "" if match is None else (match.group(1) if match.groups() else match.group())
