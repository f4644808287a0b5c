"""Jinja for text of strangers: nothing of Python's inside is reached, and nothing is without end.

Templates loop over what is there, and each round of a loop is counted. What makes text or numbers
longer is measured before it is done. There are no macros, no recursion and no `range`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from jinja2 import Environment, Undefined, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from connectors.kernel.statuses import codes
from recipes import macros

MAX_SOURCE = 20_000
MAX_ROUNDS = 10_000
MAX_SIZE = 2_000_000
# What all texts that one template makes on its way may come to.
MAX_WORK = 20_000_000
MAX_BITS = 10_000
MAX_WIDTH = 1_000

# Of Jinja's own, those that make nothing much longer than what they are given.
JINJA_FILTERS = codes(
    "abs capitalize count d default dictsort e escape first float groupby int items join last",
    "length list lower map max min reject rejectattr replace reverse round safe select selectattr",
    "sort striptags sum title tojson trim truncate unique upper urlencode wordcount",
)
_GROWING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "translate"})
_LIST_METHODS = frozenset({"append", "count", "copy", "index", "pop", "remove", "reverse", "sort"})
_MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
_WIDE = re.compile(r"\d{4,}")


class LimitError(Exception):
    """A template that would take too long, or make too much."""


class _Work:
    """What one template has done so far."""

    def __init__(self) -> None:
        self.rounds = 0
        self.size = 0

    def loop(self) -> None:
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            raise LimitError(f"it goes round more than {MAX_ROUNDS:,} times")

    def make(self, size: int) -> None:
        self.size += size
        if size > MAX_SIZE or self.size > MAX_WORK:
            raise LimitError(f"it makes more than {MAX_SIZE:,} characters")


_WORK: ContextVar[_Work] = ContextVar("_WORK")


def render(source: str, variables: Mapping[str, Any]) -> str:
    """The template's text. Raises LimitError, and what templates raise: jinja2's errors, and those
    of what they call."""
    template = _compiled(source)
    work = _Work()
    token = _WORK.set(work)
    try:
        made: list[str] = []
        for piece in template.generate(variables):
            work.make(len(piece))
            made.append(piece)
        return "".join(made)
    finally:
        _WORK.reset(token)


@lru_cache(maxsize=8192)
def variables_of(source: str) -> frozenset[str]:
    """The variables that a template takes from outside; jinja2.TemplateError where it is none."""
    if len(source) > MAX_SOURCE:
        raise SecurityError(f"a template of more than {MAX_SOURCE:,} characters")
    _compiled(source)
    return frozenset(find_undeclared_variables(_ENVIRONMENT.parse(source)))


@lru_cache(maxsize=8192)
def _compiled(source: str) -> Any:
    try:
        return _ENVIRONMENT.from_string(source)
    except RecursionError:
        raise SecurityError("a template that is nested too deeply") from None


def _each(items: Any) -> Iterator[Any]:
    work = _WORK.get()
    if isinstance(items, Undefined):
        return
    for item in items:
        work.loop()
        yield item


def _joined(parts: Iterable[Any]) -> str:
    work, made = _WORK.get(), []
    for part in parts:
        text = str(part)
        work.make(len(text))
        made.append(text)
    return "".join(made)


class _Guards(NodeTransformer):
    """Puts counters into loops and concatenations; refuses what could go on without them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's name
        if node.recursive:
            raise SecurityError("a recursive loop")
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_each", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_joined", [], [], None, None, lineno=node.lineno)

    def _refuse(self, node: nodes.Node) -> nodes.Node:
        raise SecurityError(f"a template with {type(node).__name__.lower()}")

    visit_Macro = visit_CallBlock = visit_Block = _refuse  # noqa: N815
    visit_Include = visit_Import = visit_FromImport = visit_Extends = _refuse  # noqa: N815


class _Environment(SandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for one in tree.find_all(nodes.Filter):
            if one.name.startswith("_"):
                raise SecurityError("a filter that is none")
        guarded: nodes.Template = _Guards().visit(tree)
        return guarded

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _measure(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        _allow(__obj, args)
        return super().call(__context, __obj, *args, **kwargs)


def _measure(operator: str, left: Any, right: Any) -> None:
    """LimitError where an operation would make too large a thing."""
    work = _WORK.get()
    if operator == "*":
        for some, times in ((left, right), (right, left)):
            if isinstance(some, str | bytes | list | tuple) and isinstance(times, int):
                work.make(len(some) * max(times, 0))
                return
        if isinstance(left, int) and isinstance(right, int):
            _bits(left.bit_length() + right.bit_length())
    elif operator == "+" and isinstance(left, str | bytes | list | tuple):
        work.make(len(left) + (len(right) if isinstance(right, str | bytes | list | tuple) else 0))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() * max(right, 0))
    elif operator == "%" and isinstance(left, str | bytes):
        text = left.decode("latin-1") if isinstance(left, bytes) else left
        if "*" in text or _WIDE.search(text):
            raise LimitError("it formats with too large a width")
        work.make(len(text) + len(str(right)))


def _bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise LimitError("it makes a number of too many digits")


_OWNERS = (str, bytes, int, float, list, tuple, dict, date, datetime, time, timedelta, tzinfo)


def _allow(called: Any, args: tuple[Any, ...]) -> None:
    """SecurityError unless a template may call it; LimitError where that would make too much."""
    if isinstance(called, Undefined):
        return  # calling it raises
    called = getattr(called, "__wrapped__", called)  # Jinja wraps a text's `format`
    owner = getattr(called, "__self__", None)
    if called in (dict, Namespace):
        return
    if getattr(called, "__module__", "") == "recipes.macros":
        if any(isinstance(arg, Undefined) for arg in args):
            raise UndefinedError("a function of what is not there")
        return
    name = getattr(called, "__name__", "")
    if isinstance(owner, LoopContext):
        return
    if isinstance(owner, Mapping) and not isinstance(owner, dict) and name in _MAPPING_METHODS:
        return
    if not isinstance(owner, _OWNERS):
        raise SecurityError("a call of what is no function of templates")
    if isinstance(owner, list) and name not in _LIST_METHODS:
        raise SecurityError(f"the method {name} of a list")
    if isinstance(owner, str | bytes):
        _text_method(owner, name, args)


def _text_method(owner: str | bytes, name: str, args: tuple[Any, ...]) -> None:
    work = _WORK.get()
    if name in _GROWING and any(isinstance(arg, int) and arg > MAX_WIDTH for arg in args):
        raise LimitError(f"{name} with too large a width")
    if name == "translate":
        raise SecurityError("the method translate of a text")
    if name in ("format", "format_map") and isinstance(owner, str):
        if _WIDE.search(owner) or re.search(r"\{[^{}]*\{", owner.replace("{{", "")):
            raise LimitError("it formats with too large a width")
        work.make(len(owner) + sum(len(str(arg)) for arg in args) * max(owner.count("{"), 1))
    if name == "replace" and len(args) > 1 and isinstance(args[0], str):
        work.make(len(owner) + (owner.count(args[0]) if args[0] else len(owner)) * len(args[1]))  # type: ignore[arg-type]
    if name == "join" and args:
        parts = list(args[0]) if isinstance(args[0], list | tuple | set | dict) else []
        work.make(sum(len(str(part)) for part in parts) + len(owner) * len(parts))


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    whole = str(text)
    _text_method(whole, "replace", (old, new))
    return whole.replace(old, new, count)


def _join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    parts = [part if attribute is None else part[attribute] for part in value]
    _text_method(d, "join", (parts,))
    return d.join(str(part) for part in parts)


def _environment() -> Environment:
    made = _Environment(optimized=False, autoescape=False)
    filters: dict[str, Callable[..., Any]] = {
        name: made.filters[name] for name in JINJA_FILTERS if name in made.filters
    }
    made.filters.clear()
    made.filters.update(filters | dict(macros.FILTERS))
    made.filters.update(replace=_replace, join=_join, _each=_each, _joined=_joined)
    made.globals.clear()
    made.globals.update(dict=dict, namespace=Namespace)
    return made


_ENVIRONMENT = _environment()
