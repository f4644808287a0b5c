"""What bases there are, and the tables, fields and views of each.

https://airtable.com/developers/web/api/list-bases
https://airtable.com/developers/web/api/get-base-schema
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from connectors import (
    Calls,
    Checkpoint,
    Context,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors.kernel.paging import Read, onward, rows_of
from connectors.kernel.parts import Parts, each_part

BASES = Request.get("/meta/bases")


def bases() -> Calls[list[Record]]:
    """Those that who connected has ticked at consent."""
    found: list[Record] = []
    request, offset = BASES, None
    while True:
        response = yield from ask(request)
        found += rows_of(response, "bases")
        if not response.json.get("offset"):
            return found
        offset = onward(offset, response.json["offset"])
        request = replace(BASES, params={"offset": offset})


def readable(base: Record) -> bool:
    """Who only sees interfaces of a base has no right to the base itself; it is listed all the
    same (airbytehq/airbyte#31215, 2023-10)."""
    return base.get("permissionLevel") != "none"


def tables_of(base: str) -> Calls[Response]:
    path = f"/meta/bases/{base}/tables"
    return (yield from ask(Request.get(path, params={"include": "visibleFieldIds"})))


def listed_bases(context: Context) -> Steps[Parts]:
    """A base that was deleted and one that is no longer shared with us look alike."""
    found = yield from bases()
    present = [base["id"] for base in found if readable(base)]
    return Parts(present, [base["id"] for base in found if not readable(base)], hidden=True)


def in_schema(what: Literal["tables", "fields", "views"]) -> Read:
    """What a base's schema says of its tables, base by base."""

    def of_base(base: str) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            tables = rows_of((yield from tables_of(base)), "tables")
            yield Page([row for one in tables for row in _rows(what, base, one)], Checkpoint())

        return read

    return each_part(listed_bases, of_base, prefix=lambda base: f"{base}/")


def _rows(what: str, base: str, table: Record) -> list[Record]:
    """Fields and views are streams of their own: to rename one is no change of its table."""
    if what == "tables":
        kept = {name: value for name, value in table.items() if name not in ("fields", "views")}
        return [{"base_id": base, **kept}]
    return [{"base_id": base, "table_id": table["id"], **one} for one in table[what]]


def marks(fields: Sequence[Record]) -> list[str]:
    """What cells depend on besides what is typed into them, as short digests: which fields there
    are, their types and formulas, and the names of choices. No record counts as changed for these.
    Names of fields do not matter."""
    found = set()
    for one in fields:
        found.add(f"f{_digest(one['id'], one['type'], _without_choices(one.get('options')))}")
        found |= {f"c{_digest(one['id'], choice)}" for choice in _choices(one.get("options"))}
    return sorted(found)


def differ(former: Collection[str], now: Collection[str]) -> bool:
    """Whether cells may be others than they were. A choice that is added changes none."""
    gone, new = set(former) - set(now), set(now) - set(former)
    return bool(gone) or any(one.startswith("f") for one in new)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _choices(options: Any) -> Iterator[tuple[str, str]]:
    """Those of a field, or of the field that it looks up."""
    if isinstance(options, dict):
        for name, value in options.items():
            if name == "choices":
                yield from ((choice["id"], choice["name"]) for choice in value)
            else:
                yield from _choices(value)


def _without_choices(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {name: _without_choices(one) for name, one in options.items() if name != "choices"}
