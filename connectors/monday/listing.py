"""What is listed whole, page by page: boards and what is in them, people, workspaces, updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors import Checkpoint, Context, Page, Position, Reader, Record, ask
from connectors.kernel.paging import Read, batches
from connectors.kernel.versions import parse_time
from connectors.monday.query import data_of, graphql

PAGE = 100
# An update may be edited long after it was written, and no list tells: so far back each look goes.
EDITED = timedelta(days=7)
UPDATE = """id body text_body created_at updated_at edited_at creator_id item_id
    replies { id body created_at updated_at creator_id }"""
UPDATES = f"""query($size: Int!, $page: Int!, $former: Int!, $again: Boolean!) {{
    former: updates(limit: $size, page: $former) @include(if: $again) {{ {UPDATE} }}
    updates(limit: $size, page: $page) {{ {UPDATE} }} }}"""


@dataclass(frozen=True)
class AtRow(Position):
    """The page that comes next of one listing of several."""

    listing: int = 0
    page: int = 1


@dataclass(frozen=True)
class UpdatesPlace(Position):
    """When the last look began, and the page of the one that is under way."""

    looked: str | None = None
    looking: str | None = None
    page: int = 1


def same(row: Record) -> list[Record]:
    return [row]


def whole(
    field: str,
    fields: str,
    *variants: str,
    size: int = PAGE,
    unfold: Callable[[Record], list[Record]] = same,
) -> Read:
    """All rows of a field, once for each variant of its arguments."""
    each = variants or ("",)

    def read(at: Checkpoint, context: Context) -> Reader:
        here = AtRow.of(at)
        while True:
            query = (
                f"query($size: Int!, $page: Int!) {{ {field}"
                f"(limit: $size, page: $page{each[here.listing]}) {{ {fields} }} }}"
            )
            response = yield from ask(graphql(query, {"size": size, "page": here.page}))
            found = data_of(response)[field]
            rows = [row for one in found for row in unfold(one)]
            following = replace(here, page=here.page + 1)
            if len(found) < size:
                following = AtRow(here.listing + 1)
            if following.listing == len(each):
                yield Page(rows, Checkpoint())
                return
            here = following
            yield Page(rows, here.saved())

    return read


def at_once(field: str, fields: str) -> Read:
    """All rows of a field that has no pages."""

    def read(at: Checkpoint, context: Context) -> Reader:
        response = yield from ask(graphql(f"{{ {field} {{ {fields} }} }}"))
        yield Page(data_of(response)[field], Checkpoint())

    return read


def inside(name: str) -> Callable[[Record], list[Record]]:
    """What stands in a board under that name, with the board's id; nothing of one that is gone."""

    def unfold(board: Record) -> list[Record]:
        if board["state"] == "deleted":
            return []
        return [{"board_id": board["id"], **one} for one in board[name]]

    return unfold


def not_deleted(board: Record) -> list[Record]:
    return [] if board["state"] == "deleted" else [board]


def updates(at: Checkpoint, context: Context) -> Reader:
    """Newest first, until those that were written long before the last look. Each page is read with
    the one before it: rows move up where one is deleted meanwhile."""
    here = UpdatesPlace.of(at)
    if here.looking is None:
        here = replace(here, looking=context.now.isoformat(), page=1)
    since = datetime.fromisoformat(here.looked) - EDITED if here.looked else None
    while True:
        before = max(1, here.page - 1)
        asked = {"size": PAGE, "page": here.page, "former": before, "again": before < here.page}
        data = data_of((yield from ask(graphql(UPDATES, asked, rows=PAGE))))
        rows = data["updates"]
        is_last = len(rows) < PAGE or (since and parse_time(rows[-1]["created_at"]) < since)
        read = [*data.get("former", ()), *rows]
        if since:
            read = [row for row in read if parse_time(row["created_at"]) >= since]
        if is_last:
            yield Page(read, UpdatesPlace(here.looking).saved())
            return
        here = replace(here, page=here.page + 1)
        yield Page(read, here.saved())


def updates_again(keys: Sequence[str], context: Context) -> Reader:
    query = f"query($ids: [ID!], $size: Int!) {{ updates(ids: $ids, limit: $size) {{ {UPDATE} }} }}"
    for ids in batches(keys, PAGE):
        asked = {"ids": list(ids), "size": len(ids)}
        rows = data_of((yield from ask(graphql(query, asked, told=True))))["updates"]
        gone = {*ids} - {row["id"] for row in rows}
        yield Page(rows, Checkpoint(), deleted=sorted(gone))
