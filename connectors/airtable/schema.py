"""What bases there are, and the tables, fields and views of each.

https://airtable.com/developers/web/api/list-bases
https://airtable.com/developers/web/api/get-base-schema
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

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


def digest(fields: Sequence[Record]) -> str:
    """What cells depend on besides what is typed into them: which fields there are, their types,
    formulas and choices. No record counts as changed for these; names do not matter."""
    parts = [[field["id"], field["type"], field.get("options")] for field in fields]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
