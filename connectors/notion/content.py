"""What is read of each page and data source: blocks, comments, Markdown, properties, relations.

https://developers.notion.com/reference/get-block-children
"""

from collections import deque
from collections.abc import Callable, Sequence

from connectors import Calls, ConnectorError, Record, Request
from connectors.notion.errors import NotReadableError, NotShownError, PartlyReadError
from connectors.notion.query import SHOWN, completed, every, one, unsigned

# These are pages and databases of their own: what is in them is not this page's.
APART = ("child_page", "child_database")
# So deep blocks are followed: a block may contain itself, by way of a synced one.
DEEPEST = 30
HOLLOW = ("unsupported", "synced_block")


def under(path: str) -> Callable[[Record], Calls[Sequence[Record]]]:
    """All that a listing shows of a page, and of its blocks as far down as they go."""

    def read(page: Record) -> Calls[Sequence[Record]]:
        found: dict[str, Record] = {}
        todo, met = deque([(page["id"], 0)]), {page["id"]}
        refused: ConnectorError | None = None
        while todo:
            parent, depth = todo.popleft()
            try:
                rows = yield from every(Request.get(path.format(parent)))
            except (NotReadableError, NotShownError) as error:
                if not depth:
                    raise
                # A kind of block that the API lacks holds nothing, nor does the copy of what is not
                # shared with us. Of another one what was read before is kept.
                if found[parent]["type"] not in HOLLOW:
                    refused = error
                continue
            for row in rows:
                found.setdefault(row["id"], {**row, "page_id": page["id"]})
                inner = row.get("has_children") and row["type"] not in APART
                if inner and depth < DEEPEST and row["id"] not in met:
                    met.add(row["id"])
                    todo.append((row["id"], depth + 1))
        if refused is not None:
            raise PartlyReadError(list(found.values()), refused)
        return list(found.values())

    return read


def under_page(row: Record) -> str:
    return f"{row['page_id']}/{row['id']}"


def markdown(page: Record) -> Calls[Sequence[Record]]:
    """A page as Notion writes it in Markdown; links in it to files are kept without their ends."""
    found = yield from one(f"/pages/{page['id']}/markdown")
    return [{**found, "id": page["id"], "markdown": unsigned(found["markdown"])}]


def database(source: Record) -> Calls[Sequence[Record]]:
    """The database that a data source is of."""
    id_ = source["parent"].get("database_id")
    return [(yield from one(f"/databases/{id_}"))] if id_ else []


def as_it_is(found: Record, key: str) -> Calls[Record]:
    yield from ()
    return found


def whole(found: Record, key: str) -> Calls[Record]:
    return (yield from completed(found))


def of_its_page(found: Record, key: str) -> Calls[Record]:
    yield from ()
    return {**found, "page_id": key.partition("/")[0]}


def data_source(source: Record) -> Calls[Sequence[Record]]:
    yield from ()
    return [source]


def page(found: Record) -> Calls[Sequence[Record]]:
    return [(yield from completed(found))]


def properties(source: Record) -> Calls[Sequence[Record]]:
    """The columns of a data source."""
    yield from ()
    return [{"data_source_id": source["id"], **column} for column in source["properties"].values()]


def property_key(row: Record) -> str:
    return f"{row['data_source_id']}/{row['id']}"


def relations(found: Record) -> Calls[Sequence[Record]]:
    """Each page that a cell leads to."""
    cells = (yield from completed(found))["properties"]
    return [
        {
            "page_id": found["id"],
            "property_id": cell["id"],
            "property": name,
            "related_id": related["id"],
        }
        for name, cell in cells.items()
        if cell["type"] == "relation"
        for related in cell["relation"]
    ]


def relation_key(row: Record) -> str:
    return f"{row['page_id']}/{row['property_id']}/{row['related_id']}"


def long_cells(found: Record) -> Calls[Sequence[Record]]:
    """The items of cells that hold more than a page shows of them."""
    cells = (yield from completed(found))["properties"]
    return [
        {
            "page_id": found["id"],
            "property_id": cell["id"],
            "property": name,
            "index": index,
            "type": cell["type"],
            "item": item,
        }
        for name, cell in cells.items()
        if isinstance(items := cell.get(cell["type"]), list) and len(items) > SHOWN
        for index, item in enumerate(items)
    ]


def item_key(row: Record) -> str:
    return f"{row['page_id']}/{row['property_id']}/{row['index']}"
