"""SOQL: a text becomes a `Query`, and a query picks among rows."""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.kernel.fields import words
from sandbox.kernel.querylang import (
    NAME,
    NUMBER,
    OPERATORS,
    TEXT,
    Language,
    Operator,
    Order,
    Parser,
    Test,
    Token,
    arrange,
    unquoted,
)
from sandbox.kernel.values import Json
from sandbox.salesforce.kinds import FaultError, Kind, instant

MOST_OFFSET = 2_000
NUMBERS = ("currency", "int", "double", "percent")
# What a value of a type must be written as; of all other types as a text.
WRITTEN = {
    "datetime": "time",
    "date": "date",
    "boolean": "name",
    **dict.fromkeys(NUMBERS, "number"),
}


@dataclass(frozen=True)
class Query:
    """A query; `columns` is empty of a count."""

    kind: Kind
    columns: tuple[str, ...]
    test: Test
    order: Order = ()
    limit: int | None = None
    offset: int = 0


def parse(text: str, kinds: Mapping[str, Kind]) -> Query:
    """The query that a text asks for; FaultError when it is none."""
    return _Parser(text, kinds).query()


def pick(query: Query, rows: Iterable[Json]) -> list[Json]:
    """Every row that the query means, in its order."""
    found = [row for row in rows if query.test(row)]
    arrange(found, query.order, lambda row, name: _comparable(query.kind, name, row[name]))
    end = None if query.limit is None else query.offset + query.limit
    return found[query.offset : end]


def malformed(message: str) -> FaultError:
    return FaultError("MALFORMED_QUERY", message)


def _comparable(kind: Kind, column: str, value: Any) -> Any:
    """A value as it is compared: text without regard to case, ids with it."""
    type_ = kind.fields[column]
    if value is None:
        return None
    if type_ == "datetime":
        return instant(value)
    if type_ in ("id", "reference") or not isinstance(value, str):
        return value
    return value.lower()


SOQL = Language(
    tokens=(
        TEXT,
        r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))",
        r"(?P<date>\d{4}-\d\d-\d\d)",
        NUMBER,
        NAME,
        r"(?P<sign><=|>=|!=|<>|[=<>(),])",
    ),
    operators={
        **OPERATORS,
        "!=": Operator(operator.ne),
        "<>": Operator(operator.ne),
        "not in": Operator(lambda one, others: one not in others, "list"),
        "like": Operator(lambda one, pattern: bool(pattern.fullmatch(str(one or ""))), "pattern"),
    },
    reserved=frozenset(words("select from where and or not order by limit offset in like")),
    mixes=False,
    wildcards={"%": ".*", "_": "."},
    pattern_flags=re.DOTALL | re.IGNORECASE,
)


class _Parser(Parser):
    def __init__(self, text: str, kinds: Mapping[str, Kind]) -> None:
        super().__init__(text, SOQL)
        self.must("select")
        self._asked = self.listed(self._selected)
        self.must("from")
        name = self.name()
        if name.lower() not in kinds:
            raise FaultError("INVALID_TYPE", f"sObject type '{name}' is not supported.")
        self._kind = kinds[name.lower()]

    def query(self) -> Query:
        columns = tuple(dict.fromkeys(c for each in self._asked for c in self._columns(each)))
        test, order = self.where(), self.order()
        limit, offset = self.number("limit"), self.number("offset") or 0
        self.end()
        if offset > MOST_OFFSET:
            message = f"Maximum SOQL offset allowed is {MOST_OFFSET}"
            raise FaultError("NUMBER_OUTSIDE_VALID_RANGE", message)
        if any(each.upper() in ("FIELDS(ALL)", "FIELDS(CUSTOM)") for each in self._asked) and (
            limit is None or limit > 200
        ):
            raise malformed("The SOQL FIELDS function must have a LIMIT of at most 200")
        return Query(self._kind, columns, test, order, limit, offset)

    def wrong(self, token: Token) -> FaultError:
        return malformed(f"unexpected token: '{token.text}'")

    def known(self, name: str) -> str:
        return self._column(name, self._kind.fields)

    def found(self, row: Json, column: str) -> Any:
        return _comparable(self._kind, column, row[column])

    def literal(self, column: str) -> Any:
        token = self.take("text", "time", "date", "number", "name")
        type_ = self._kind.fields[column]
        if token.says("null"):
            return None
        if token.sort != WRITTEN.get(type_, "text"):
            message = f"value of filter criterion for field '{column}' must be of type {type_}"
            raise FaultError("INVALID_FIELD", message)
        if token.sort == "name":
            return token.says("true")
        if token.sort == "number":
            return float(token.text)
        value = unquoted(token.text) if token.sort == "text" else token.text
        return _comparable(self._kind, column, value)

    def _selected(self) -> str:
        """The name of a column, or a function with what it is of."""
        name = self.name()
        if not self.skip("("):
            return name
        inner = "" if self.next.says(")") else self.name()
        self.must(")")
        return f"{name}({inner})"

    def _columns(self, asked: str) -> tuple[str, ...]:
        everything = (*self._kind.fields, *self._kind.compound)
        match asked.upper():
            case "COUNT()":
                return ()
            case "FIELDS(ALL)":
                return everything
            case "FIELDS(STANDARD)":
                return tuple(name for name in everything if not name.endswith("__c"))
            case "FIELDS(CUSTOM)":
                return tuple(name for name in everything if name.endswith("__c"))
        return (self._column(asked, everything),)

    def _column(self, name: str, known: Iterable[str]) -> str:
        for each in known:
            if each.lower() == name.lower():
                return each
        message = f"No such column '{name}' on entity '{self._kind.name}'."
        raise FaultError("INVALID_FIELD", message)
