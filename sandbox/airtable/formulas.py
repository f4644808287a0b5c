"""Airtable's formulas, as far as clients filter by them.

https://support.airtable.com/docs/formula-field-reference
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.kernel.values import Json

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|\{(?P<field>[^}]+)\}|(?P<name>[A-Za-z_]+)|(?P<sign><=|>=|!=|[=<>(),&+*/-]))"
)
DEPTH = 50


class FormulaError(Exception):
    """Airtable cannot read the formula, or it names a field that is not there."""


@dataclass(frozen=True)
class Row:
    """What a formula may ask of a record: cells by the name of their field. A record into which
    nobody has typed has no time of a change."""

    id: str
    cells: Json
    created: datetime
    modified: datetime | None
    names: frozenset[str]


Value = Callable[[Row], Any]


def condition(text: str) -> Callable[[Row], bool]:
    """Whether a record is listed."""
    reader = _Reader(text)
    value = reader.comparison(0)
    if reader.place != len(reader.tokens):
        raise FormulaError("there is something after its end")
    return lambda row: bool(value(row))


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.place = at = 0
        text = text.strip()
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise FormulaError(f"it cannot be read at {at}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def _take(self) -> tuple[str, str]:
        if self.place >= len(self.tokens):
            raise FormulaError("it ends too early")
        self.place += 1
        return self.tokens[self.place - 1]

    def _is(self, *signs: str) -> str:
        if self.place < len(self.tokens) and self.tokens[self.place][0] == "sign":
            sign = self.tokens[self.place][1]
            if sign in signs:
                self.place += 1
                return sign
        return ""

    def comparison(self, depth: int) -> Value:
        if depth > DEPTH:
            raise FormulaError("it is too deep")
        left = self._operand(depth)
        while sign := self._is("=", "!=", "<", ">", "<=", ">="):
            left = _compared(left, sign, self._operand(depth))
        return left

    def _operand(self, depth: int) -> Value:
        kind, text = self._take()
        if kind == "number":
            return lambda row: float(text)
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text[1:-1])
            return lambda row: plain
        if kind == "field":
            return _cell(text)
        if (kind, text) == ("sign", "("):
            inner = self.comparison(depth + 1)
            self._close()
            return inner
        if kind != "name":
            raise FormulaError(f"{text!r} stands where a value should")
        if not self._is("("):
            return _cell(text)
        given: list[Value] = []
        while not self._is(")"):
            given.append(self.comparison(depth + 1))
            if not self._is(","):
                self._close()
                break
        return _called(text.upper(), given)

    def _close(self) -> None:
        if not self._is(")"):
            raise FormulaError("a parenthesis is not closed")


def _cell(name: str) -> Value:
    def value(row: Row) -> Any:
        if name not in row.names:
            raise FormulaError(f"Unknown field names: {name.lower()}")
        return row.cells.get(name)

    return value


def _called(name: str, given: list[Value]) -> Value:
    known: dict[str, tuple[int | None, Callable[[Row], Any]]] = {
        "AND": (None, lambda row: all(one(row) for one in given)),
        "OR": (None, lambda row: any(one(row) for one in given)),
        "NOT": (1, lambda row: not given[0](row)),
        "TRUE": (0, lambda row: True),
        "FALSE": (0, lambda row: False),
        "RECORD_ID": (0, lambda row: row.id),
        "CREATED_TIME": (0, lambda row: row.created),
        "LAST_MODIFIED_TIME": (0, lambda row: row.modified),
        "DATETIME_PARSE": (1, lambda row: _time(given[0](row))),
        "IS_AFTER": (2, lambda row: _after(given[0](row), given[1](row))),
        "IS_BEFORE": (2, lambda row: _after(given[1](row), given[0](row))),
    }
    if name not in known:
        raise FormulaError(f"there is no function {name}")
    count, value = known[name]
    if count is not None and len(given) != count:
        raise FormulaError(f"{name} takes {count} values")
    return value


def _time(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _after(one: Any, other: Any) -> bool:
    """Of times alone: a text that looks like one is none, and what is blank is not after it."""
    return isinstance(one, datetime) and isinstance(other, datetime) and one > other


def _compared(left: Value, sign: str, right: Value) -> Value:
    def value(row: Row) -> bool:
        one, other = left(row), right(row)
        if isinstance(one, datetime) and isinstance(other, str):
            # As texts: every record is listed (PipedreamHQ/pipedream#1081, 2021-03).
            return sign in (">", ">=", "!=")
        if sign in ("=", "!="):
            return bool((one if one is not None else "") == other) == (sign == "=")
        try:
            found = {"<": one < other, ">": one > other, "<=": one <= other, ">=": one >= other}
        except TypeError:
            return False
        return bool(found[sign])

    return value
