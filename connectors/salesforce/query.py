"""Salesforce's objects and how they are asked for: fields, queries in SOQL, ids, times, codes.

https://developer.salesforce.com/docs/platform/api-rest/guide/resources-query.html
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from connectors import (
    Calls,
    Context,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    Record,
    Request,
    Response,
    ask,
)
from connectors.kernel.paging import batches
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import parse_time

PAGE = 2_000
# A row of many fields is put together from several queries: of no more rows than ids fit into one.
# So many, too, where a query of more takes longer than it may.
WIDE_PAGE = 200
# Address and headers may have 16,384 bytes together (platform limits, 2026-11); ids go in, too.
LONGEST_FIELDS = 9_000
# Ids in one query that asks for few fields, and for all.
MANY_IDS, IDS = 400, 100
# Other values for each user and at each look: no changes of the record.
PERSONAL = ("LastViewedDate", "LastReferencedDate")
# Made of other fields, or files of their own.
LEFT_OUT = ("address", "location", "base64")
# What each query of a wide object begins with, and what tells a row's version and fate.
ALWAYS = ("Id", "SystemModstamp", "IsDeleted")
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
_NAME = re.compile(r"[A-Za-z]\w{0,79}", re.ASCII)
_SUFFIXES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class TooSlowError(ProviderUnavailableError):
    """A query took longer than it may: one of fewer rows may not (airbytehq/airbyte#19947,
    2022-11)."""


class TooWideError(ContractError):
    """A query names more fields, or more complicated ones, than Salesforce takes at once."""


@dataclass(frozen=True)
class Sobject:
    """An object, the types of its fields that are read, by name, and when it was described, by
    Salesforce's clock. Its fields are asked for in so many queries as there are `groups`, of a
    `slow` one in small pages; `shape` says which they are, where all of them are read."""

    name: str
    fields: Mapping[str, str]
    now: datetime
    groups: int = 1
    shape: str | None = None
    slow: bool = False

    @property
    def tells_deletions(self) -> bool:
        """Whether its rows can be deleted at all: users are only made inactive."""
        return "IsDeleted" in self.fields

    @property
    def page(self) -> int:
        return WIDE_PAGE if self.groups > 1 or self.slow else PAGE

    def narrow(self) -> "Sobject":
        """What identifies a row and tells its version."""
        kept = {name: self.fields[name] for name in ALWAYS if name in self.fields}
        return replace(self, fields=kept, groups=1, shape=None)

    def wider(self) -> "Sobject":
        """The same in twice as many queries; TooWideError where that is no way any more."""
        if self.groups * 5 > len(self.fields):
            raise TooWideError(f"Salesforce takes no query of the fields of {self.name}")
        return replace(self, groups=self.groups * 2)

    def names(self) -> list[list[str]]:
        """The fields of each query."""
        always = [name for name in ALWAYS if name in self.fields]
        others = [name for name in self.fields if name not in always]
        if self.groups == 1:
            return [list(self.fields)]
        size = -(-len(others) // self.groups)
        return [[*always, *some] for some in batches(others, size)]

    def select(self, where: str, order: str = "", *, names: Sequence[str] = ()) -> str:
        """The query for those rows, with these fields or all; with an order it is for a page."""
        text = f"SELECT {', '.join(names or self.fields)} FROM {self.name}"  # noqa: S608 - SOQL
        text += f" WHERE {where}" if where else ""
        return f"{text} ORDER BY {order} LIMIT {self.page}" if order else text


def described(name: str, context: Context) -> Calls[Sobject]:
    """The object and its fields; NotAllowedError where the user may not see it."""
    if not _NAME.fullmatch(name):
        raise ContractError("Salesforce has no object of such a name")
    response = yield from ask(Request.get(f"/sobjects/{quote(name)}/describe", expect=(404,)))
    if response.status == 404:
        raise NotAllowedError(f"the Salesforce user may not see the object {name}, or has none")
    fields = {
        each["name"]: each["type"]
        for each in response.json["fields"]
        if each["type"] not in LEFT_OUT and each["name"] not in PERSONAL
    }
    if not all(_NAME.fullmatch(each) for each in (response.json["name"], *fields)):
        raise ContractError("Salesforce named a field that cannot stand in a query")
    length = len(quote(", ".join(fields)))
    now = min(context.now, vendor_time(response))
    groups = -(-length // LONGEST_FIELDS)
    return Sobject(response.json["name"], fields, now, groups, shape=digest(fields))


def digest(words: Iterable[str]) -> str:
    return sha256(" ".join(sorted(words)).encode()).hexdigest()[:16]


def rows_by(
    sobject: Sobject, where: str, order: str = "", *, binned: bool = False
) -> Calls[tuple[list[Record], bool, Sobject]]:
    """A page of rows, whether it is the last, and the object as it can be asked for: with `binned`,
    those in the recycle bin are among them."""
    while True:
        first, *others = sobject.names()
        try:
            response = yield from ask(
                _query(sobject.select(where, order, names=first), binned=binned)
            )
            rows = _rows(response)
            for names in others if rows else ():
                yield from _complete(sobject, rows, names, binned=binned)
        except TooWideError:
            sobject = sobject.wider()
        except TooSlowError:
            if not order or sobject.page == WIDE_PAGE:
                raise
            sobject = replace(sobject, slow=True)
        else:
            # Of wide rows the vendor may give fewer than were asked for.
            last = bool(response.json["done"]) and len(rows) < sobject.page
            return rows, last, sobject


def changes_since(name: str, moment: str) -> Request:
    """Asks whether any row was changed since then."""
    if not _NAME.fullmatch(name):
        raise ContractError("Salesforce has no object of such a name")
    text = f"SELECT Id FROM {name} WHERE SystemModstamp >= {literal(moment)} LIMIT 1"  # noqa: S608 - SOQL
    return _query(text, binned=True)


def _complete(
    sobject: Sobject, rows: list[Record], names: Sequence[str], *, binned: bool
) -> Calls[None]:
    """Puts the values of further fields into rows; their version stays that of the first query."""
    wanted = [name for name in names if name not in ALWAYS]
    held = {row["Id"]: row for row in rows}
    for row in rows:
        row.update(dict.fromkeys(wanted))
    for ids in batches(list(held), WIDE_PAGE):
        text = sobject.select(among(ids), names=["Id", *wanted])
        for found in _rows((yield from ask(_query(text, binned=binned)))):
            if found["Id"] in held:
                held[found["Id"]].update(found)


def _query(text: str, *, binned: bool) -> Request:
    return Request.get("/queryAll/" if binned else "/query/", params={"q": text})


def _rows(response: Response) -> list[Record]:
    return [
        {name: value for name, value in row.items() if name != "attributes"}
        for row in response.json["records"]
    ]


def among(ids: Sequence[str]) -> str:
    return f"Id IN ({', '.join(map(quoted, ids))})"


def chosen(context: Context) -> frozenset[str] | None:
    """The objects that the tenant wants, in small letters; None where it wants all."""
    named = str(context.config.get("objects") or "all").lower().replace(",", " ").split()
    return None if "all" in named else frozenset(named)


def is_chosen(sobject: str, context: Context) -> bool:
    wanted = chosen(context)
    return wanted is None or sobject.lower() in wanted


def error_code(response: Response) -> str:
    """The first error's code: the data API answers with a list of them."""
    for error in _errors(response.json):
        return str(error.get("errorCode") or error.get("exceptionCode") or "")
    return ""


def _errors(body: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in body if isinstance(each, dict)) if isinstance(body, list) else ()


def quoted(text: str) -> str:
    """An id as it stands in a query; ContractError of what is none: it is the vendor's text."""
    if not _ID.fullmatch(text):
        raise ContractError("Salesforce named an id that is none")
    return f"'{text}'"


def literal(moment: str) -> str:
    """A time as it stands in a query: without quotes. Parsed, because it is the vendor's text."""
    return written(parse_time(moment))


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def eighteen(id_: str) -> str:
    """An id in the form of 18 characters, which tells upper from lower case by its last three."""
    if not _ID.fullmatch(id_):
        raise ContractError("Salesforce named an id that is none")
    if len(id_) == 18:
        return id_
    parts = (id_[0:5], id_[5:10], id_[10:15])
    marks = (sum(1 << at for at, letter in enumerate(p) if letter.isupper()) for p in parts)
    return id_ + "".join(_SUFFIXES[mark] for mark in marks)
