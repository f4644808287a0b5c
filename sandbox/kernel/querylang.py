"""Query languages that look like SQL: one tokenizer and one parser for all of them.

A `Language` says of which tokens a query is made, which operators it has and how conditions are
joined. Its own `Parser` says what a column and a value are, and how it refuses; what comes before
and after the conditions it reads itself, with the same few methods.
"""

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Never, TypeAlias, TypeVar

from sandbox.kernel.values import Json

T = TypeVar("T")
Test: TypeAlias = Callable[[Json], bool]
# Columns, each with whether it goes down.
Order: TypeAlias = tuple[tuple[str, bool], ...]
Takes: TypeAlias = Literal["value", "list", "pattern"]

TEXT = r"(?P<text>'(?:[^'\\]|\\.)*')"
NUMBER = r"(?P<number>-?\d+(?:\.\d+)?)(?!\w)"
NAME = r"(?P<name>[A-Za-z_][\w.]*)"


@dataclass(frozen=True)
class Token:
    """A word of the query. Its sort is the name of the group that took it, or `end` after the last
    one. `column` counts from 1."""

    sort: str
    text: str
    column: int

    def says(self, *words: str) -> bool:
        return self.sort in ("name", "sign") and self.text.lower() in words


@dataclass(frozen=True)
class Operator:
    """Whether a row's value and the query's fit; the query gives one, a list, or a pattern."""

    holds: Callable[[Any, Any], bool]
    takes: Takes = "value"


def of_two(holds: Callable[[Any, Any], bool], takes: Takes = "value") -> Operator:
    """An operator that nothing fits, on either side: it is neither more nor less than a value."""
    return Operator(
        lambda one, other: one is not None and other is not None and holds(one, other), takes
    )


OPERATORS: Mapping[str, Operator] = {
    "=": Operator(operator.eq),
    "<": of_two(operator.lt),
    ">": of_two(operator.gt),
    "<=": of_two(operator.le),
    ">=": of_two(operator.ge),
    "in": Operator(lambda one, others: one in others, "list"),
}


@dataclass(frozen=True, kw_only=True)
class Language:
    """What tells one language from another.

    Of `tokens`, patterns with a named group each, the first that fits counts. No column is called
    as one of the `reserved` words. `joins` are what joins conditions, of `and`, `or`, `not` and
    `(`; where it `mixes` them, an OR may follow an AND without brackets. `wildcards` of a pattern
    stand for regular expressions.
    """

    tokens: tuple[str, ...]
    operators: Mapping[str, Operator] = field(default_factory=lambda: OPERATORS)
    reserved: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset(("and", "or", "not", "("))
    mixes: bool = True
    wildcards: Mapping[str, str] = field(default_factory=lambda: {"%": ".*"})
    pattern_flags: re.RegexFlag = re.DOTALL

    def split(self, text: str) -> Iterator[Token]:
        """The tokens of a text; one without a sort is a letter with which none begins."""
        any_token, at = re.compile("|".join(self.tokens)), 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            match = any_token.match(text, at)
            sort, taken = (str(match.lastgroup), match[0]) if match else ("", text[at])
            yield Token(sort, taken, at + 1)
            at += len(taken)
        yield Token("end", "<EOF>", len(text) + 1)

    def pattern(self, text: str) -> re.Pattern[str]:
        parts = (self.wildcards.get(letter, re.escape(letter)) for letter in text)
        return re.compile("".join(parts), self.pattern_flags)


def unquoted(text: str) -> str:
    """A text between quotes, its escapes undone."""
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def arrange(rows: list[Json], order: Order, value: Callable[[Json, str], Any]) -> None:
    """Sorts the rows; those with nothing in a column come before all others."""

    def key(column: str, row: Json) -> tuple[bool, Any]:
        found = value(row, column)
        return found is not None, found

    # By the last column first: each sort keeps what the one before it did among equals.
    for column, down in reversed(order):
        rows.sort(key=partial(key, column), reverse=down)


class Parser(ABC):
    """Reads the tokens of a query from left to right, once."""

    def __init__(self, text: str, language: Language) -> None:
        self.language = language
        self._tokens = list(language.split(text))
        self._at = 0
        for token in self._tokens:
            if not token.sort:
                raise self.wrong(token)

    @abstractmethod
    def wrong(self, token: Token) -> Exception:
        """How the language refuses a token that does not belong where it stands."""

    @abstractmethod
    def known(self, name: str) -> str:
        """The column of that name; raises where there is none to compare or to sort by."""

    @abstractmethod
    def literal(self, column: str) -> Any:
        """Reads a value, as it is compared with what a row has in the column."""

    @abstractmethod
    def found(self, row: Json, column: str) -> Any:
        """What a row has in a column, as it is compared; None when it has nothing there."""

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def unexpected(self) -> Never:
        raise self.wrong(self.next)

    def take(self, *sorts: str) -> Token:
        """The next token, which must be of one of those sorts."""
        token = self.next
        if token.sort not in sorts:
            self.unexpected()
        self._at += 1
        return token

    def skip(self, *words: str) -> bool:
        """Goes past the next token where it is one of those words."""
        if self.next.says(*words):
            self._at += 1
            return True
        return False

    def must(self, *words: str) -> None:
        """Goes past all of those words."""
        for word in words:
            if not self.skip(word):
                self.unexpected()

    def name(self) -> str:
        if self.next.says(*self.language.reserved):
            self.unexpected()
        return self.take("name").text

    def listed(self, read: Callable[[], T]) -> list[T]:
        """Whatever is read, as often as a comma follows."""
        found = [read()]
        while self.skip(","):
            found.append(read())
        return found

    def number(self, word: str) -> int | None:
        """The whole number after a word, if the word comes next."""
        if not self.skip(word):
            return None
        if not self.next.text.isdecimal():
            self.unexpected()
        return int(self.take("number").text)

    def sign(self, column: str) -> str:
        """The operator after a column, which may be of two words."""
        for length in (2, 1):
            coming = self._tokens[self._at : self._at + length]
            sign = " ".join(token.text.lower() for token in coming)
            if sign in self.language.operators:
                self._at += length
                return sign
        self.unexpected()

    def end(self) -> None:
        if self.next.sort != "end":
            self.unexpected()

    def where(self) -> Test:
        return self._any() if self.skip("where") else lambda row: True

    def order(self) -> Order:
        """The columns of an ORDER BY, none without one."""
        if not self.skip("order"):
            return ()
        self.must("by")
        return tuple(self.listed(self.direction))

    def direction(self) -> tuple[str, bool]:
        column = self.known(self.name())
        down = self.skip("desc")
        if not down:
            self.skip("asc")
        return column, down

    def _joins(self, word: str) -> bool:
        return word in self.language.joins and self.skip(word)

    def _any(self) -> Test:
        tests = [self._all()]
        while self._joins("or"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._joins("and"):
            tests.append(self._one())
        if not self.language.mixes and len(tests) > 1 and self.next.says("or"):
            self.unexpected()
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if self._joins("not"):
            test = self._one()
            return lambda row: not test(row)
        if self._joins("("):
            inside = self._any()
            self.must(")")
            return inside
        return self._condition()

    def _condition(self) -> Test:
        column = self.known(self.name())
        sign = self.sign(column)
        holds = self.language.operators[sign].holds
        value = self._value(column, sign)
        return lambda row: holds(self.found(row, column), value)

    def _value(self, column: str, sign: str) -> Any:
        match self.language.operators[sign].takes:
            case "list":
                self.must("(")
                values = self.listed(lambda: self.literal(column))
                self.must(")")
                return values
            case "pattern":
                return self.language.pattern(unquoted(self.take("text").text))
        return self.literal(column)
