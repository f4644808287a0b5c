"""JQL, as far as it is about ids, projects and times: a text becomes a test and an order.

A time in quotes is read in the time zone of the person, to the minute; a bare number is
milliseconds of the epoch. Without a condition a search is refused.
https://support.atlassian.com/jira-software-cloud/docs/use-advanced-search-with-jira-query-language-jql/
"""

import operator
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from sandbox.kernel.querylang import (
    OPERATORS,
    Language,
    Operator,
    Order,
    Parser,
    Test,
    Token,
    of_two,
)
from sandbox.kernel.values import Json

TIMES = ("created", "updated")
# What a search sorts by and compares, as the rows of `Site.index` name it.
FIELDS = {"id": "id", "issue": "id", "issuekey": "id", "key": "id", "project": "project"}
FIELDS |= {name: name for name in TIMES} | {"assignee": "assignee", "status": "status"}
FORMATS = ("%Y/%m/%d %H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y-%m-%d")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class BadJqlError(Exception):
    """The query is none; the text says so as Jira does."""


JQL = Language(
    tokens=(
        r"(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")",
        r"(?P<relative>-\d+[mhdw])(?!\w)",
        r"(?P<number>-?\d+)(?![\w-])",
        r"(?P<name>[A-Za-z_][\w-]*)",
        r"(?P<sign><=|>=|!=|[=<>(),])",
    ),
    operators={
        **OPERATORS,
        "!=": of_two(operator.ne),
        "not in": Operator(lambda one, others: one not in others, "list"),
        "is": Operator(lambda one, other: one is None),
        "is not": Operator(lambda one, other: one is not None),
    },
    reserved=frozenset(("and", "or", "not", "order", "by", "in", "is")),
)


def parse(text: str, zone: tzinfo, now: datetime, known: Mapping[str, str]) -> tuple[Test, Order]:
    """What a query means; `known` has the ids of what goes by a key, too, in small letters."""
    return _Parser(text, zone, now, known).query()


class _Parser(Parser):
    def __init__(self, text: str, zone: tzinfo, now: datetime, known: Mapping[str, str]) -> None:
        super().__init__(text, JQL)
        self._zone, self._now, self._ids = zone, now, known

    def query(self) -> tuple[Test, Order]:
        if self.next.sort == "end" or self.next.says("order"):
            raise BadJqlError(
                "Unbounded JQL queries are not allowed here. Please add a search restriction to "
                "your query."
            )
        test, order = self._any(), self.order()
        self.end()
        return test, order

    def wrong(self, token: Token) -> BadJqlError:
        return BadJqlError(
            f"Error in the JQL Query: '{token.text}' (line 1, character {token.column})"
        )

    def known(self, name: str) -> str:
        if name.lower() not in FIELDS:
            raise BadJqlError(
                f"Field '{name}' does not exist or you do not have permission to view it."
            )
        return FIELDS[name.lower()]

    def found(self, row: Json, column: str) -> Any:
        return row[column]

    def literal(self, column: str) -> Any:
        token = self.take("text", "number", "name", "relative")
        text = token.text[1:-1] if token.sort == "text" else token.text
        if token.sort == "name" and text.lower() in ("empty", "null"):
            return None
        if column in TIMES:
            return self._time(token.sort, text)
        found = self._ids.get(text.lower(), text)
        return int(found) if column == "id" and found.isdecimal() else found

    def _time(self, sort: str, text: str) -> datetime:
        if sort == "number":
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        if sort == "relative":
            return self._now - timedelta(**{UNITS[text[-1]]: int(text[1:-1])})
        for form in FORMATS:
            try:
                return datetime.strptime(text, form).replace(tzinfo=self._zone)
            except ValueError:
                continue
        raise BadJqlError(
            f"Date value '{text}' for field is invalid. Valid formats: 'yyyy/MM/dd HH:mm'"
        )
