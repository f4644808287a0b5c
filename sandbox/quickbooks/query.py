"""QuickBooks' query language: a text becomes a `Query`, and a query picks among rows."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Never

from sandbox.kernel.values import Json
from sandbox.quickbooks.kinds import ColumnType, FaultError, Kind, instant

DEFAULT_RESULTS = 100
MAX_RESULTS = 1000
TOKEN = re.compile(
    r"(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<number>-?\d+(?:\.\d+)?)(?!\w)"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<sign><=|>=|[=<>(),*])"
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
    "in": lambda one, others: one in others,
    "like": lambda one, pattern: pattern.fullmatch(one) is not None,
}


@dataclass(frozen=True)
class Token:
    """A word of the query: its sort (text, number, name, sign, end), and where it stands."""

    sort: str
    text: str
    column: int

    def says(self, *words: str) -> bool:
        return self.sort in ("name", "sign") and self.text.lower() in words


@dataclass(frozen=True)
class Condition:
    """One part of a where clause, its value already of the column's type."""

    column: str
    operator: str
    value: Any


@dataclass(frozen=True)
class Query:
    """A query; `columns` is empty for all of them. `start` counts from 1."""

    kind: Kind
    columns: tuple[str, ...] = ()
    count: bool = False
    conditions: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    start: int = 1
    size: int = DEFAULT_RESULTS


def pick(query: Query, rows: Iterable[Json]) -> list[Json]:
    """Every row that the query means, in its order, before it is cut into pages."""
    conditions, columns = list(query.conditions), query.kind.columns
    if query.kind.name_list and not any(c.column == "Active" for c in conditions):
        conditions.append(Condition("Active", "=", True))
    found = [row for row in rows if all(_holds(c, row, columns) for c in conditions)]
    # Sorted by the last column first: each sort keeps what the one before it did among equals.
    for column, down in reversed((*(query.order or query.kind.order), ("Id", False))):
        found.sort(key=lambda row: _sorting(row, column, columns[column]), reverse=down)
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


def parse(text: str, kinds: Mapping[str, Kind]) -> Query:
    """The query that a text asks for; FaultError when it is none."""
    return _Parser(_tokens(text), kinds).query()


def _holds(condition: Condition, row: Json, columns: Mapping[str, ColumnType]) -> bool:
    found = _value(row, condition.column, columns[condition.column])
    return found is not None and COMPARISONS[condition.operator](found, condition.value)


def _sorting(row: Json, column: str, sort: ColumnType) -> tuple[bool, Any]:
    found = _value(row, column, sort)
    return found is not None, found


def _value(row: Json, column: str, sort: ColumnType) -> Any:
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


def _tokens(text: str) -> list[Token]:
    if not text.strip():
        raise FaultError(*_UNPARSED, "QueryParserError: The query provided was empty")
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = TOKEN.match(text, at)
        if match is None:
            raise FaultError(
                *_UNPARSED,
                "QueryParserError: Invalid content. Lexical error at line 1, "
                f"column {at + 1}.  Encountered: {text[at]!r}",
            )
        found.append(Token(str(match.lastgroup), match.group(), at + 1))
        at = match.end()
    return [*found, Token("end", "<EOF>", len(text) + 1)]


_UNPARSED = ("4000", "Error parsing query")


def invalid(detail: str) -> FaultError:
    """A query that parses but cannot be run."""
    return FaultError("4001", "Invalid query", f"QueryValidationError: {detail}")


class _Parser:
    """Reads the tokens from left to right, once."""

    def __init__(self, tokens: list[Token], kinds: Mapping[str, Kind]) -> None:
        self._tokens = tokens
        self._kinds = kinds
        self._at = 0

    def query(self) -> Query:
        self._word("select")
        count, columns = self._selected()
        self._word("from")
        name = self._take("name").text
        kind = self._kinds.get(name.lower())
        if kind is None:
            raise invalid(f"Metadata not found for Entity: {name}")
        for column in columns:
            _known(kind, column)
        conditions = self._where(kind)
        order = self._order(kind)
        start = self._number("startposition", 1)
        size = self._number("maxresults", DEFAULT_RESULTS)
        if self._next.sort != "end":
            self._unexpected()
        if size > MAX_RESULTS:
            raise invalid(f"value {size} is too large. Max allowed value is {MAX_RESULTS}.")
        return Query(kind, columns, count, conditions, order, max(start, 1), size)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _unexpected(self) -> Never:
        token = self._next
        raise FaultError(
            *_UNPARSED,
            f'QueryParserError: Encountered "{token.text}" at line 1, column {token.column}.',
        )

    def _take(self, *sorts: str) -> Token:
        token = self._next
        if token.sort not in sorts:
            self._unexpected()
        self._at += 1
        return token

    def _skip(self, *words: str) -> bool:
        if self._next.says(*words):
            self._at += 1
            return True
        return False

    def _word(self, *words: str) -> None:
        if not self._skip(*words):
            self._unexpected()

    def _selected(self) -> tuple[bool, tuple[str, ...]]:
        if self._next.says("count"):
            self._at += 1
            for word in "(*)":
                self._word(word)
            return True, ()
        everything, columns = False, []
        while True:
            if self._skip("*"):
                everything = True
            else:
                columns.append(self._take("name").text)
            if not self._skip(","):
                return False, () if everything else tuple(columns)

    def _where(self, kind: Kind) -> tuple[Condition, ...]:
        if not self._skip("where"):
            return ()
        conditions = [self._condition(kind)]
        while self._skip("and"):
            conditions.append(self._condition(kind))
        return tuple(conditions)

    def _condition(self, kind: Kind) -> Condition:
        column = self._take("name").text
        sort = _sort(kind, column)
        if self._skip("in"):
            self._word("(")
            values = [self._literal(column, sort)]
            while self._skip(","):
                values.append(self._literal(column, sort))
            self._word(")")
            return Condition(column, "in", tuple(values))
        if self._skip("like"):
            if sort != "text":
                raise invalid(f"Operator LIKE is not supported for property {column}")
            pattern = "".join(
                ".*" if letter == "%" else re.escape(letter)
                for letter in _unquoted(self._take("text").text)
            )
            return Condition(column, "like", re.compile(pattern, re.DOTALL))
        if not self._next.says("=", "<", ">", "<=", ">="):
            self._unexpected()
        operator = self._take("sign").text
        if sort == "bool" and operator != "=":
            raise invalid(f"Operator {operator} is not supported for property {column}")
        return Condition(column, operator, self._literal(column, sort))

    def _literal(self, column: str, sort: ColumnType) -> Any:
        token = self._take("text", "number", "name")
        if token.sort == "name" and not token.says("true", "false"):
            self._at -= 1
            self._unexpected()
        try:
            return _typed(token, sort)
        except ValueError as error:
            raise invalid(f"Invalid value {token.text} for property {column}") from error

    def _order(self, kind: Kind) -> tuple[tuple[str, bool], ...]:
        if self._skip("order"):
            self._word("by")
        elif not self._skip("orderby"):
            return ()
        order = [self._direction(kind)]
        while self._skip(","):
            order.append(self._direction(kind))
        return tuple(order)

    def _direction(self, kind: Kind) -> tuple[str, bool]:
        column = self._take("name").text
        _sort(kind, column)
        down = self._skip("desc")
        if not down:
            self._skip("asc")
        return column, down

    def _number(self, word: str, otherwise: int) -> int:
        if not self._skip(word):
            return otherwise
        if not self._next.text.isdecimal():
            self._unexpected()
        return int(self._take("number").text)


def _known(kind: Kind, column: str) -> None:
    """A column may be shown that no query may filter by."""
    first = column.partition(".")[0]
    others = ("SyncToken", "MetaData", "LinkedTxn", "CurrencyRef", "domain", "sparse")
    if column not in kind.columns and first not in (*kind.writable, *others):
        raise invalid(f"Property {column} not found for Entity {kind.name}")


def _sort(kind: Kind, column: str) -> ColumnType:
    if column not in kind.columns:
        _known(kind, column)
        raise invalid(f"property '{column}' is not queryable")
    return kind.columns[column]


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _typed(token: Token, sort: ColumnType) -> Any:
    """A literal as its column compares it; ValueError when it is nothing of the kind."""
    text = _unquoted(token.text) if token.sort == "text" else token.text
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
