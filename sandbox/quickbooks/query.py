"""QuickBooks' query language: a text becomes a `Query`, and a query picks among rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sandbox.kernel.querylang import (
    NAME,
    NUMBER,
    OPERATORS,
    TEXT,
    Language,
    Order,
    Parser,
    Test,
    Token,
    arrange,
    of_two,
    unquoted,
)
from sandbox.kernel.values import Json
from sandbox.quickbooks.kinds import FaultError, Kind, instant

DEFAULT_RESULTS = 100
MAX_RESULTS = 1000
# What a row has that no client sets, and may be shown.
SHOWN = ("SyncToken", "MetaData", "LinkedTxn", "CurrencyRef", "domain", "sparse")


@dataclass(frozen=True)
class Query:
    """A query; `columns` is empty for all of them. `start` counts from 1."""

    kind: Kind
    columns: tuple[str, ...]
    count: bool
    test: Test
    order: Order
    start: int
    size: int


def parse(text: str, kinds: Mapping[str, Kind]) -> Query:
    """The query that a text asks for; FaultError when it is none."""
    if not text.strip():
        raise _unparsed("The query provided was empty")
    return _Parser(text, kinds).query()


def pick(query: Query, rows: Iterable[Json]) -> list[Json]:
    """Every row that the query means, in its order, before it is cut into pages."""
    found, columns = [row for row in rows if query.test(row)], query.kind.columns
    order = (*(query.order or query.kind.order), ("Id", False))
    arrange(found, order, lambda row, name: _value(row, name, columns[name]))
    return found


def shown(query: Query, row: Json) -> Json:
    """A row with the columns that were asked for."""
    if not query.columns:
        return row
    part: Json = {"domain": "QBO", "sparse": True}
    for column in query.columns:
        first, _, rest = column.partition(".")
        if first not in row:
            continue
        if rest:
            part.setdefault(first, {})[rest] = row[first].get(rest)
        else:
            part[first] = row[first]
    return part


def invalid(detail: str) -> FaultError:
    """A query that parses but cannot be run."""
    return FaultError("4001", "Invalid query", f"QueryValidationError: {detail}")


def _unparsed(detail: str) -> FaultError:
    return FaultError("4000", "Error parsing query", f"QueryParserError: {detail}")


def _value(row: Json, column: str, sort: str) -> Any:
    """What a row has in a column, in a form that compares; None when it has nothing there."""
    first, _, rest = column.partition(".")
    found = row.get(first)
    if rest and found is not None:
        found = found.get(rest)
    if found is None:
        return None
    if sort == "id":
        return int(found)
    if sort == "ref":
        return found["value"]
    return datetime.fromisoformat(found) if sort == "time" else found


LANGUAGE = Language(
    tokens=(TEXT, NUMBER, NAME, r"(?P<sign><=|>=|[=<>(),*])"),
    operators={**OPERATORS, "like": of_two(lambda one, like: bool(like.fullmatch(one)), "pattern")},
    joins=frozenset(("and",)),
)


class _Parser(Parser):
    def __init__(self, text: str, kinds: Mapping[str, Kind]) -> None:
        super().__init__(text, LANGUAGE)
        self._filtered: set[str] = set()
        self.must("select")
        self._count = self.skip("count")
        if self._count:
            self.must("(", "*", ")")
        asked = [] if self._count else self.listed(self._selected)
        self.must("from")
        name = self.name()
        if name.lower() not in kinds:
            raise invalid(f"Metadata not found for Entity: {name}")
        self._kind = kinds[name.lower()]
        self._columns = () if "*" in asked else tuple(asked)
        for column in self._columns:
            self._showable(column)

    def query(self) -> Query:
        test, order = self.where(), self.order()
        if self._kind.name_list and "Active" not in self._filtered:
            test = _active(test)
        start, size = self.number("startposition"), self.number("maxresults")
        self.end()
        size = DEFAULT_RESULTS if size is None else size
        if size > MAX_RESULTS:
            raise invalid(f"value {size} is too large. Max allowed value is {MAX_RESULTS}.")
        start = max(start or 1, 1)
        return Query(self._kind, self._columns, self._count, test, order, start, size)

    def order(self) -> Order:
        """The order, also written as one word."""
        if self.skip("orderby"):
            return tuple(self.listed(self.direction))
        return super().order()

    def wrong(self, token: Token) -> FaultError:
        if not token.sort:
            where = f"Lexical error at line 1, column {token.column}."
            return _unparsed(f"Invalid content. {where}  Encountered: {token.text!r}")
        return _unparsed(f'Encountered "{token.text}" at line 1, column {token.column}.')

    def known(self, name: str) -> str:
        if name not in self._kind.columns:
            self._showable(name)
            raise invalid(f"property '{name}' is not queryable")
        return name

    def sign(self, column: str) -> str:
        sign, sort = super().sign(column), self._kind.columns[column]
        self._filtered.add(column)
        if (sign == "like" and sort != "text") or (sort == "bool" and sign not in ("=", "in")):
            raise invalid(f"Operator {sign.upper()} is not supported for property {column}")
        return sign

    def found(self, row: Json, column: str) -> Any:
        return _value(row, column, self._kind.columns[column])

    def literal(self, column: str) -> Any:
        if self.next.sort == "name" and not self.next.says("true", "false"):
            self.unexpected()
        token = self.take("text", "number", "name")
        try:
            return _typed(token, self._kind.columns[column])
        except ValueError as error:
            raise invalid(f"Invalid value {token.text} for property {column}") from error

    def _selected(self) -> str:
        return "*" if self.skip("*") else self.name()

    def _showable(self, column: str) -> None:
        """A column may be shown that no query may filter by."""
        first, kind = column.partition(".")[0], self._kind
        if column not in kind.columns and first not in (*kind.writable, *SHOWN):
            raise invalid(f"Property {column} not found for Entity {kind.name}")


def _active(test: Test) -> Test:
    """Of a name list, those that are active, where the query does not say which."""
    return lambda row: row.get("Active") is True and test(row)


def _typed(token: Token, sort: str) -> Any:
    """A literal as its column compares it; ValueError when it is nothing of the kind."""
    text = unquoted(token.text) if token.sort == "text" else token.text
    if sort == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if token.sort == "name":
        raise ValueError(text)
    if sort == "id":
        return int(text)
    if sort == "number":
        return float(text)
    if token.sort != "text":
        raise ValueError(text)
    if sort == "time":
        return instant(text).astimezone(UTC)
    if sort == "date":
        return date.fromisoformat(text[:10]).isoformat()
    return text
