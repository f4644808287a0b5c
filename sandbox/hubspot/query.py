"""HubSpot's CRM search: filter groups, sorting, the index that lags, and the 10,000 hits."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from sandbox.hubspot.kinds import PROPERTIES, Properties
from sandbox.hubspot.store import Item, Portal, Table
from sandbox.kernel.values import Json

MAX_HITS = 10_000
MAX_LIMIT = 200
MAX_GROUPS = 6
MAX_FILTERS = 6
NUMBERS = frozenset(["amount", "annualrevenue", "hs_object_id", "numberofemployees"])
TIMES = frozenset(["closedate", "createdate", "hs_lastmodifieddate", "lastmodifieddate"])
TEXTS = ("email", "firstname", "lastname", "name", "domain", "dealname", "subject", "phone")

Value: TypeAlias = float | str
Test: TypeAlias = Callable[[Properties], bool]


class BadSearchError(Exception):
    """The search is not one that HubSpot runs; the text says why."""


def search(portal: Portal, table: Table, body: Json) -> tuple[int, list[Item], str | None]:
    """The number of hits, those of the page, and where the next page starts."""
    limit = _whole(body.get("limit", 10), "limit")
    after = _whole(body.get("after") or 0, "after")
    if not 1 <= limit <= MAX_LIMIT:
        raise BadSearchError(f"limit must be between 1 and {MAX_LIMIT}, it was {limit}")
    if after + limit > MAX_HITS:
        raise BadSearchError(f"paging ends at {MAX_HITS} hits: {after} + {limit} is beyond")
    hits = _hits(portal, table, body)
    page = hits[after : after + limit]
    more = after + len(page) < len(hits)
    return len(hits), page, str(after + len(page)) if more else None


def _hits(portal: Portal, table: Table, body: Json) -> list[Item]:
    tests, order = _groups(table.kind, body), _order(table.kind, body)
    words = str(body.get("query") or "").casefold()
    asked = json.dumps([body.get("filterGroups"), body.get("sorts"), words], sort_keys=True)
    key = (table.kind, table.revision, asked)
    if key in portal.found and not portal.search_lag:
        return portal.found[key]
    seen = portal.clock.now() - portal.search_lag
    hits = []
    for item in _in_index(table, seen):
        indexed = _indexed(item, seen)
        if indexed is None or (words and not _mentions(indexed.properties, words)):
            continue
        if not tests or any(all(test(indexed.properties) for test in group) for group in tests):
            hits.append(indexed)
    hits.sort(key=order[0], reverse=order[1])
    # The pages of one search follow each other: the next one finds its hits here.
    portal.found = {key: hits}
    return hits


def _in_index(table: Table, seen: datetime) -> Iterator[Item]:
    """The objects that were not archived at that time, though they may be by now."""
    for number in table.order:
        item = table.items[str(number)]
        if item.archived_at is None or item.archived_at > seen:
            yield item


def _indexed(item: Item, seen: datetime) -> Item | None:
    """The object as the search index has it at that time."""
    for changed_at, former in item.former:
        if changed_at > seen:
            if former is None:
                return None
            name = "lastmodifieddate" if "lastmodifieddate" in former else "hs_lastmodifieddate"
            updated_at = datetime.fromisoformat(str(former[name]))
            return Item(item.id, former, item.created_at, updated_at)
    return item


def _groups(kind: str, body: Json) -> list[list[Test]]:
    groups = body.get("filterGroups") or []
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
        raise BadSearchError(f"filterGroups must be a list of at most {MAX_GROUPS}")
    tests = []
    for group in groups:
        filters = group.get("filters") if isinstance(group, dict) else None
        if not isinstance(filters, list) or not 1 <= len(filters) <= MAX_FILTERS:
            raise BadSearchError(f"a filter group must have 1 to {MAX_FILTERS} filters")
        tests.append([_test(kind, wanted) for wanted in filters])
    return tests


def _order(kind: str, body: Json) -> tuple[Callable[[Item], Any], bool]:
    sorts = body.get("sorts") or ["createdate"]
    if not isinstance(sorts, list) or len(sorts) > 1:
        raise BadSearchError("only one sort is applied")
    rule = sorts[0]
    if isinstance(rule, dict):
        name = str(rule.get("propertyName", ""))
        down = str(rule.get("direction", "ASCENDING")).upper().startswith("DESC")
    else:
        name, down = str(rule).removeprefix("-"), str(rule).startswith("-")
    _known(kind, name)

    def key(item: Item) -> tuple[bool, float, str]:
        value = _read(name, item.properties.get(name))
        number = value if isinstance(value, float) else 0.0
        return value is not None, number, value if isinstance(value, str) else ""

    return key, down


def _test(kind: str, wanted: Any) -> Test:
    if not isinstance(wanted, dict):
        raise BadSearchError("a filter must be an object")
    name, operator = str(wanted.get("propertyName", "")), str(wanted.get("operator", ""))
    _known(kind, name)
    compare = OPERATORS.get(operator)
    if compare is None:
        raise BadSearchError(f"{operator} is not an operator: {', '.join(OPERATORS)}")
    given: list[Value] = []
    if operator in ("IN", "NOT_IN"):
        if not isinstance(wanted.get("values"), list):
            raise BadSearchError(f"{operator} needs values")
        given = [_must_read(name, value) for value in wanted["values"]]
    elif operator == "BETWEEN":
        given = [_must_read(name, wanted.get(side)) for side in ("value", "highValue")]
    elif "TOKEN" in operator:
        given = [str(wanted.get("value", "")).casefold()]
    elif not operator.endswith("HAS_PROPERTY"):
        given = [_must_read(name, wanted.get("value"))]
    return lambda properties: compare(_read(name, properties.get(name)), given)


def _known(kind: str, name: str) -> None:
    if name not in PROPERTIES[kind]:
        raise BadSearchError(f"{kind} have no property {name!r}")


def _must_read(name: str, value: Any) -> Value:
    read = _read(name, None if value is None else str(value))
    if read is None:
        raise BadSearchError(f"{value!r} is no value for {name}")
    return read


def _read(name: str, text: str | None) -> Value | None:
    """A property's value as it is compared: numbers, times in epoch milliseconds, plain text."""
    if text is None or text == "":
        return None
    if name not in NUMBERS and name not in TIMES:
        return text.casefold()
    try:
        return float(text)
    except ValueError:
        return _milliseconds(text) if name in TIMES else None


def _milliseconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return float(round(aware.timestamp() * 1000))


def _tokens(value: Value | None) -> list[str]:
    return re.findall(r"\w+", str(value)) if value is not None else []


def _contains(value: Value | None, given: list[Value]) -> bool:
    wanted = str(given[0])
    return any(fnmatchcase(token, wanted) for token in (*_tokens(value), str(value or "")))


def _mentions(properties: Properties, words: str) -> bool:
    text = " ".join(str(properties.get(name) or "") for name in TEXTS).casefold()
    return all(word in text for word in words.split())


def _whole(value: Any, name: str) -> int:
    if not re.fullmatch(r"\d{1,9}", str(value)):
        raise BadSearchError(f"{name} must be a whole number, it was {str(value)[:20]!r}")
    return int(value)


# A property without a value meets only NOT_HAS_PROPERTY and the negations.
OPERATORS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "EQ": lambda value, given: value is not None and value == given[0],
    "NEQ": lambda value, given: value != given[0],
    "LT": lambda value, given: value is not None and value < given[0],
    "LTE": lambda value, given: value is not None and value <= given[0],
    "GT": lambda value, given: value is not None and value > given[0],
    "GTE": lambda value, given: value is not None and value >= given[0],
    "BETWEEN": lambda value, given: value is not None and given[0] <= value <= given[1],
    "IN": lambda value, given: value in given,
    "NOT_IN": lambda value, given: value not in given,
    "HAS_PROPERTY": lambda value, given: value is not None,
    "NOT_HAS_PROPERTY": lambda value, given: value is None,
    "CONTAINS_TOKEN": _contains,
    "NOT_CONTAINS_TOKEN": lambda value, given: not _contains(value, given),
}
