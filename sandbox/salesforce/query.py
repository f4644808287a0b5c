"""SOQL: a text becomes a `Query`, and a query picks among rows."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Never, TypeAlias

from sandbox.kernel.values import Json
from sandbox.salesforce.kinds import FaultError, Kind, instant

TOKEN = re.compile(
    r"(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<date>\d{4}-\d\d-\d\d)"
    r"|(?P<number>-?\d+(?:\.\d+)?)(?!\w)"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<sign><=|>=|!=|<>|[=<>(),])"
)
# What a clause begins with: no field or object may be called so.
WORDS = frozenset(
    ("select", "from", "where", "and", "or", "not", "order", "by", "limit", "offset", "in", "like")
)
MOST_OFFSET = 2_000

Test: TypeAlias = Callable[[Json], bool]


@dataclass(frozen=True)
class Token:
    """A word of the query: its sort (text, time, date, number, name, sign, end)."""

    sort: str
    text: str

    def says(self, *words: str) -> bool:
        return self.sort in ("name", "sign") and self.text.lower() in words


@dataclass(frozen=True)
class Query:
    """A query; `columns` is empty of a count."""

    kind: Kind
    columns: tuple[str, ...]
    test: Test
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    offset: int = 0


def parse(text: str, kinds: Mapping[str, Kind]) -> Query:
    """The query that a text asks for; FaultError when it is none."""
    return _Parser(_tokens(text), kinds).query()


def pick(query: Query, rows: Iterable[Json]) -> list[Json]:
    """Every row that the query means, in its order."""
    found = [row for row in rows if query.test(row)]
    for column, down in reversed(query.order):
        found.sort(key=lambda row: _sorting(query.kind, row, column), reverse=down)
    end = None if query.limit is None else query.offset + query.limit
    return found[query.offset : end]


def malformed(message: str) -> FaultError:
    return FaultError("MALFORMED_QUERY", message)


def _sorting(kind: Kind, row: Json, column: str) -> tuple[bool, Any]:
    found = _comparable(kind, column, row.get(column))
    return found is not None, found


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


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = TOKEN.match(text, at)
        if match is None:
            raise malformed(f"unexpected token: '{text[at]}'")
        found.append(Token(str(match.lastgroup), match.group()))
        at = match.end()
    return [*found, Token("end", "<EOF>")]


class _Parser:
    """Reads the tokens from left to right, once."""

    def __init__(self, tokens: list[Token], kinds: Mapping[str, Kind]) -> None:
        self._tokens = tokens
        self._kinds = kinds
        self._at = 0

    def query(self) -> Query:
        self._word("select")
        asked = self._selected()
        self._word("from")
        kind = self._kind(self._name())
        columns = tuple(dict.fromkeys(c for each in asked for c in self._columns(kind, each)))
        test = self._where(kind)
        order = self._order(kind)
        limit = self._number("limit")
        offset = self._number("offset") or 0
        if self._next.sort != "end":
            self._unexpected()
        if offset > MOST_OFFSET:
            message = f"Maximum SOQL offset allowed is {MOST_OFFSET}"
            raise FaultError("NUMBER_OUTSIDE_VALID_RANGE", message)
        if any(each.upper() in ("FIELDS(ALL)", "FIELDS(CUSTOM)") for each in asked) and (
            limit is None or limit > 200
        ):
            raise malformed("The SOQL FIELDS function must have a LIMIT of at most 200")
        return Query(kind, columns, test, order, limit, offset)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _unexpected(self) -> Never:
        raise malformed(f"unexpected token: '{self._next.text}'")

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

    def _name(self) -> str:
        if self._next.says(*WORDS):
            self._unexpected()
        return self._take("name").text

    def _kind(self, name: str) -> Kind:
        kind = self._kinds.get(name.lower())
        if kind is None:
            message = f"sObject type '{name}' is not supported."
            raise FaultError("INVALID_TYPE", message)
        return kind

    def _selected(self) -> list[str]:
        found: list[str] = []
        while True:
            name = self._name()
            if self._skip("("):
                inner = "" if self._next.says(")") else self._name()
                self._word(")")
                name = f"{name}({inner})"
            found.append(name)
            if not self._skip(","):
                return found

    def _columns(self, kind: Kind, asked: str) -> tuple[str, ...]:
        everything = (*kind.fields, *kind.compound)
        match asked.upper():
            case "COUNT()":
                return ()
            case "FIELDS(ALL)":
                return everything
            case "FIELDS(STANDARD)":
                return tuple(name for name in everything if not name.endswith("__c"))
            case "FIELDS(CUSTOM)":
                return tuple(name for name in everything if name.endswith("__c"))
        return (self._column(kind, asked, everything),)

    def _column(self, kind: Kind, name: str, known: Iterable[str] = ()) -> str:
        for each in known or kind.fields:
            if each.lower() == name.lower():
                return each
        message = f"No such column '{name}' on entity '{kind.name}'."
        raise FaultError("INVALID_FIELD", message)

    def _where(self, kind: Kind) -> Test:
        return self._any(kind) if self._skip("where") else lambda row: True

    def _any(self, kind: Kind) -> Test:
        test = self._all(kind)
        while self._skip("or"):
            test = _either(test, self._all(kind))
        return test

    def _all(self, kind: Kind) -> Test:
        test = self._one(kind)
        while self._skip("and"):
            test = _both(test, self._one(kind))
        if self._next.says("or") and self._is_mixed():
            raise malformed("AND and OR have to be set apart by brackets")
        return test

    def _is_mixed(self) -> bool:
        """Whether an AND stands before this OR on the same level, which SOQL refuses."""
        depth = 0
        for token in reversed(self._tokens[: self._at]):
            depth += token.says(")") - token.says("(")
            if depth < 0 or token.says("where"):
                return False
            if depth == 0 and token.says("and"):
                return True
        return False

    def _one(self, kind: Kind) -> Test:
        if self._skip("not"):
            test = self._one(kind)
            return lambda row: not test(row)
        if self._skip("("):
            inside = self._any(kind)
            self._word(")")
            return inside
        return self._condition(kind)

    def _condition(self, kind: Kind) -> Test:
        column = self._column(kind, self._name())
        without = self._skip("not")
        if without or self._next.says("in"):
            self._word("in")
            self._word("(")
            values = [self._literal(kind, column)]
            while self._skip(","):
                values.append(self._literal(kind, column))
            self._word(")")
            return lambda row: (_comparable(kind, column, row[column]) in values) is not without
        if self._skip("like"):
            pattern = _pattern(_unquoted(self._take("text").text))
            return lambda row: pattern.fullmatch(str(row[column] or "")) is not None
        if not self._next.says("=", "<", ">", "<=", ">=", "!=", "<>"):
            self._unexpected()
        sign = self._take("sign").text
        return _compared(kind, column, sign, self._literal(kind, column))

    def _literal(self, kind: Kind, column: str) -> Any:
        token = self._take("text", "time", "date", "number", "name")
        type_ = kind.fields[column]
        fitting = {"datetime": "time", "date": "date", "boolean": "name"}.get(type_)
        if type_ in ("currency", "int", "double", "percent"):
            fitting = "number"
        if token.says("null"):
            return None
        if token.sort != (fitting or "text"):
            message = f"value of filter criterion for field '{column}' must be of type {type_}"
            raise FaultError("INVALID_FIELD", message)
        if token.sort == "name":
            return token.says("true")
        if token.sort == "number":
            return float(token.text)
        value = _unquoted(token.text) if token.sort == "text" else token.text
        return _comparable(kind, column, value)

    def _order(self, kind: Kind) -> tuple[tuple[str, bool], ...]:
        if not self._skip("order"):
            return ()
        self._word("by")
        order = [self._direction(kind)]
        while self._skip(","):
            order.append(self._direction(kind))
        return tuple(order)

    def _direction(self, kind: Kind) -> tuple[str, bool]:
        column = self._column(kind, self._name())
        down = self._skip("desc")
        if not down:
            self._skip("asc")
        return column, down

    def _number(self, word: str) -> int | None:
        if not self._skip(word):
            return None
        return int(self._take("number").text)


def _either(one: Test, other: Test) -> Test:
    return lambda row: one(row) or other(row)


def _both(one: Test, other: Test) -> Test:
    return lambda row: one(row) and other(row)


def _compared(kind: Kind, column: str, sign: str, value: Any) -> Test:
    def test(row: Json) -> bool:
        found = _comparable(kind, column, row[column])
        if sign == "=":
            return bool(found == value)
        if sign in ("!=", "<>"):
            return bool(found != value)
        if found is None or value is None:
            return False
        if sign == "<":
            return bool(found < value)
        if sign == ">":
            return bool(found > value)
        return bool(found <= value if sign == "<=" else found >= value)

    return test


def _pattern(text: str) -> re.Pattern[str]:
    letters = {"%": ".*", "_": "."}
    parts = "".join(letters.get(letter, re.escape(letter)) for letter in text)
    return re.compile(parts, re.DOTALL | re.IGNORECASE)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
