"""Notion's requests and the pages of its listings, and what records do without.

https://developers.notion.com/reference/intro#pagination
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors import Calls, ContractError, Record, Request, Response, ask
from connectors.kernel.errors import NotAllowedError
from connectors.kernel.paging import onward, rows_of

PAGE = 100
# Of these a page shows 25 references at most; the rest has an endpoint of its own
# (https://developers.notion.com/reference/retrieve-a-page, 2026-11). Only relations tell of it.
SHOWN = 25
REFERENCES = ("title", "rich_text", "people", "relation")
_SIGNED = re.compile(r"(https?://[^\s()<>\"'?]+)\?[^\s()<>\"']*X-Amz-[^\s()<>\"']*")


@dataclass(frozen=True)
class Listed:
    """A page of a listing, and the cursor of the next, None after the last. `cut` says that Notion
    shows no more than so many, however many there are."""

    rows: list[Record]
    cursor: str | None
    cut: bool
    response: Response


def search(kind: str, *, trash: bool = False) -> Request:
    """Pages or data sources, the last edited first; those in the trash are shown by themselves
    (since 2026-07)."""
    found: dict[str, Any] = {"property": "object", "value": kind}
    return Request.post(
        "/search",
        json={
            "filter": {**found, "in_trash": True} if trash else found,
            "sort": {"timestamp": "last_edited_time", "direction": "descending"},
        },
    )


def page_of(request: Request, cursor: str | None, size: int = PAGE) -> Calls[Listed | None]:
    """A page; None where Notion no longer knows the cursor."""
    more: dict[str, Any] = {"page_size": size, **({"start_cursor": cursor} if cursor else {})}
    if request.method == "POST":
        asked = replace(request, json={**request.json, **more})
    else:
        asked = replace(request, params={**request.params, **more})
    response = yield from ask(replace(asked, expect=(400,) if cursor else ()))
    if response.status == 400:
        return None
    body = response.json
    following = onward(cursor, body["next_cursor"]) if body["has_more"] else None
    cut = (body.get("request_status") or {}).get("type") == "incomplete"
    return Listed([lasting(row) for row in rows_of(response, "results")], following, cut, response)


def every(request: Request) -> Calls[list[Record]]:
    """All pages of a listing that is not kept; begun again where its cursor is forgotten."""
    for _ in range(2):
        rows: list[Record] = []
        listed = yield from page_of(request, None)
        while listed is not None:
            rows += listed.rows
            if listed.cursor is None:
                return rows
            listed = yield from page_of(request, listed.cursor)
    raise ContractError("Notion forgets where a listing stands while it is read")


def one(path: str) -> Calls[Record]:
    """An object by its id."""
    response = yield from ask(Request.get(path))
    found: Record = lasting({k: v for k, v in response.json.items() if k != "request_id"})
    return found


def lasting(value: Any) -> Any:
    """A record without links to files, which are good for an hour and others at each read."""
    if isinstance(value, list):
        return [lasting(each) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("expiry_time"), str):
        value = {name: each for name, each in value.items() if name not in ("url", "expiry_time")}
    return {name: lasting(each) for name, each in value.items()}


def unsigned(text: str) -> str:
    """A text in which links to files have lost what ends with the hour."""
    return _SIGNED.sub(r"\1", text)


def completed(page: Record) -> Calls[Record]:
    """A page with all references of its cells, and its title as plain text.

    Of a cell that Notion does not let us read the rest, what the page shows is kept.
    """
    cells: dict[str, Any] = {}
    for name, cell in page["properties"].items():
        kind = cell["type"]
        if _is_short(cell, kind):
            try:
                path = f"/pages/{page['id']}/properties/{cell['id']}"
                items = yield from every(Request.get(path))
                cell = {**cell, kind: [item[kind] for item in items]}
                cell |= {"has_more": False} if "has_more" in cell else {}
            except (NotAllowedError, ContractError):
                pass  # such as a relation to what is not shared with us
        cells[name] = cell
    title: list[Record] = next(
        (cell["title"] for cell in cells.values() if cell["type"] == "title"), []
    )
    return {**page, "properties": cells, "plain_title": plain(title)}


def _is_short(cell: Mapping[str, Any], kind: str) -> bool:
    """Whether there may be more references than are shown."""
    if kind not in REFERENCES:
        return False
    if "has_more" in cell:
        return bool(cell["has_more"])
    texts = kind in ("title", "rich_text")
    counted = [each for each in cell[kind] if not texts or each["type"] == "mention"]
    return len(counted) >= SHOWN


def plain(texts: list[Record]) -> str:
    return "".join(text.get("plain_text") or "" for text in texts)
