"""A workspace's data: what it holds, how the API shows it, and what comes of each change."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.values import Json

# Of these kinds a page shows so many references.
SHOWN = 25
FILES = "https://prod-files-secure.s3.us-west-2.amazonaws.com"
BOT = "8d8b2c1e-7c64-4f0e-9f21-3b6f6f0c2a11"


def new_id(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def in_minutes(at: datetime) -> str:
    """Notion rounds its times down to the minute."""
    return stamp(at.replace(second=0, microsecond=0))


@dataclass
class Workspace:
    """What is shared with the app. Objects in the trash stay, with `in_trash`.

    `blocks` and `comments` are those of each page, by id; blocks stand in their order. What is
    `hidden` is not shown any more, what is `refused` cannot be read. `former` holds what the search
    index had before each change of these days. A cursor stands for a place in a listing. Search and
    queries end after `most` results. The app lacks the capabilities in `lacking`.
    """

    id: str
    name: str
    clock: Clock
    tell: Callable[[Any], None]
    pages: dict[str, Json] = field(default_factory=dict)
    sources: dict[str, Json] = field(default_factory=dict)
    databases: dict[str, Json] = field(default_factory=dict)
    blocks: dict[str, dict[str, Json]] = field(default_factory=dict)
    comments: dict[str, dict[str, Json]] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    home: str = ""
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    former: dict[str, list[tuple[datetime, Json | None]]] = field(default_factory=dict)
    lag: timedelta = timedelta()
    cursors: dict[str, Any] = field(default_factory=dict)
    most: int = 10_000

    def live(self, objects: Mapping[str, Json]) -> dict[str, Json]:
        return {
            id_: each
            for id_, each in objects.items()
            if not each["in_trash"] and id_ not in self.hidden
        }

    def rows(self, source: str) -> dict[str, Json]:
        return {
            id_: page
            for id_, page in self.live(self.pages).items()
            if page["parent"].get("data_source_id") == source
        }

    def edit(self, id_: str, by: str = "", **fields: Any) -> None:
        """Changes a page or a data source, which is edited by it."""
        kept = self.pages if id_ in self.pages else self.sources
        now = self.clock.now()
        if self.lag:
            self.former.setdefault(id_, []).append((now, kept[id_]))
        edited = max(kept[id_]["last_edited_time"], in_minutes(now))
        by_whom = {"object": "user", "id": by or BOT}
        kept[id_] = {**kept[id_], **fields, "last_edited_time": edited, "last_edited_by": by_whom}

    def put(self, objects: dict[str, Json], made: Json) -> None:
        """A new page or data source."""
        objects[made["id"]] = made
        if self.lag:
            self.former.setdefault(made["id"], []).append((self.clock.now(), None))

    def indexed(self, objects: Mapping[str, Json]) -> Iterable[Json]:
        """The objects as the search index has them."""
        seen = self.clock.now() - self.lag
        for id_, each in objects.items():
            before = [former for at, former in self.former.get(id_, ()) if at > seen]
            found = before[0] if before and self.lag else each
            if found is not None and id_ not in self.hidden:
                yield found

    def news(self, kind: str, id_: str, entity: str, **data: Any) -> None:
        self.tell({"type": kind, "entity": {"id": id_, "type": entity}, "data": data})

    def page_news(self, what: str, id_: str, **data: Any) -> None:
        self.news(f"page.{what}", id_, "page", parent=told_parent(self.pages[id_]), **data)


def told_parent(page: Json) -> Json:
    """The parent as events tell it."""
    parent = page["parent"]
    match parent["type"]:
        case "data_source_id":
            source = parent["data_source_id"]
            return {"id": parent["database_id"], "type": "database", "data_source_id": source}
        case "page_id":
            return {"id": parent["page_id"], "type": "page"}
        case _:
            return {"id": BOT, "type": "space"}


def stamped(space: Workspace, kind: str, id_: str, by: str) -> Json:
    """What pages, data sources, databases and blocks have in common."""
    now, user = in_minutes(space.clock.now()), {"object": "user", "id": by}
    return {
        "object": kind,
        "id": id_,
        "created_time": now,
        "last_edited_time": now,
        "created_by": user,
        "last_edited_by": user,
        "in_trash": False,
    }


# -- Values ---------------------------------------------------------------------------------------


def text(content: str) -> list[Json]:
    """A rich text of one run."""
    plain = {"bold": False, "italic": False, "strikethrough": False, "underline": False}
    return [
        {
            "type": "text",
            "text": {"content": content, "link": None},
            "annotations": {**plain, "code": False, "color": "default"},
            "plain_text": content,
            "href": None,
        }
    ]


def mention(page: str, title: str) -> Json:
    (run,) = text(title)
    target = {"type": "page", "page": {"id": page}}
    return {**run, "type": "mention", "mention": target, "text": None}


def plain(texts: Iterable[Json]) -> str:
    return "".join(each["plain_text"] for each in texts)


def title_of(page: Json) -> list[Json]:
    cells = page["properties"].values()
    titles: list[list[Json]] = [cell["title"] for cell in cells if cell["type"] == "title"]
    return titles[0] if titles else []


# -- How the API shows it -------------------------------------------------------------------------


def shown(value: Any, now: datetime) -> Any:
    """Links to files are made at each read, and are good for an hour."""
    if isinstance(value, list):
        return [shown(each, now) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "file" and "key" in value.get("file", {}):
        return {**value, "file": link_to(value["file"]["key"], now)}
    return {name: shown(each, now) for name, each in value.items()}


def link_to(key: str, now: datetime) -> Json:
    ends = now + timedelta(hours=1)
    signature = f"{int(now.timestamp() * 1000):x}"
    url = f"{FILES}/{key}?X-Amz-Expires=3600&X-Amz-Signature={signature}"
    return {"url": url, "expiry_time": stamp(ends)}


def kept(value: Any) -> Any:
    """The same without the links."""
    if isinstance(value, list):
        return [kept(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "file" and "key" in value.get("file", {}):
        return {**value, "file": {}}
    return {name: kept(each) for name, each in value.items()}


def shortened(page: Json) -> Json:
    """A page as it is listed: of its cells, the first references."""
    return {**page, "properties": {name: _short(c) for name, c in page["properties"].items()}}


def _short(cell: Json) -> Json:
    kind = cell["type"]
    if kind == "relation":
        more = len(cell["relation"]) > SHOWN
        return {**cell, "relation": cell["relation"][:SHOWN], "has_more": more}
    if kind == "people":
        return {**cell, "people": cell["people"][:SHOWN]}
    if kind in ("title", "rich_text"):
        runs, mentions = [], 0
        for run in cell[kind]:
            mentions += run["type"] == "mention"
            if mentions > SHOWN:
                break
            runs.append(run)
        return {**cell, kind: runs}
    return cell


def tree(blocks: Mapping[str, Json], parent: str) -> list[Json]:
    """The blocks under a page or block."""
    return [each for each in blocks.values() if each["parent"][each["parent"]["type"]] == parent]


def reachable(space: Workspace, page: str) -> dict[str, Json]:
    """The blocks that can be read: what a kind holds that the API lacks cannot."""
    blocks, found, todo = space.blocks.get(page, {}), {}, [page]
    while todo:
        for block in tree(blocks, todo.pop(0)):
            if block["id"] in found:
                continue
            found[block["id"]] = block
            if block["has_children"] and block["type"] not in ("unsupported", "child_page"):
                todo.append(block["id"])
    return found


def as_markdown(space: Workspace, page: str, now: datetime) -> str:
    """A page in Markdown, with links to its files."""
    lines = []
    for block in reachable(space, page).values():
        kind = block["type"]
        if kind == "image":
            lines.append(f"![]({link_to(block['image']['file']['key'], now)['url']})")
        elif "rich_text" in block.get(kind, {}):
            lines.append(plain(block[kind]["rich_text"]))
    return "\n\n".join(lines)


# -- All of it, as tables are compared with it ----------------------------------------------------


def store(space: Workspace, stream: str) -> dict[str, Json]:
    """Pages with all their references, and the plain text of their title; what is listed under a
    page with its id."""
    pages = {id_: _whole(page) for id_, page in space.live(space.pages).items()}
    match stream:
        case "pages":
            return pages
        case "data_source_rows":
            rows = ((page["parent"].get("data_source_id"), page) for page in pages.values())
            return {f"{source}/{page['id']}": page for source, page in rows if source}
        case "data_sources":
            return {id_: kept(each) for id_, each in space.live(space.sources).items()}
        case "databases":
            return {id_: kept(each) for id_, each in space.live(space.databases).items()}
        case "users":
            return dict(space.users)
        case "blocks":
            return _under(pages, lambda id_: reachable(space, id_))
        case "comments":
            return _under(pages, lambda id_: space.comments.get(id_, {}))
        case "page_markdown":
            now = space.clock.now()
            return {id_: _markdown(as_markdown(space, id_, now), id_) for id_ in pages}
        case "properties_schema":
            sources = space.live(space.sources)
            return {
                f"{id_}/{column['id']}": {"data_source_id": id_, **column}
                for id_, source in sources.items()
                for column in source["properties"].values()
            }
        case "relations":
            return dict(_relations(pages))
        case _:
            return dict(_items(pages))


def _whole(page: Json) -> Json:
    cells = {
        name: {**cell, "has_more": False} if cell["type"] == "relation" else cell
        for name, cell in page["properties"].items()
    }
    whole: Json = kept({**page, "properties": cells, "plain_title": plain(title_of(page))})
    return whole


def _under(pages: Iterable[str], rows: Callable[[str], Mapping[str, Json]]) -> dict[str, Json]:
    return {
        f"{page}/{id_}": kept({**row, "page_id": page})
        for page in pages
        for id_, row in rows(page).items()
    }


def markdown_of(written: str, page: str) -> Json:
    return {
        "object": "page_markdown",
        "id": page,
        "markdown": written,
        "truncated": False,
        "unknown_block_ids": [],
    }


def _markdown(written: str, page: str) -> Json:
    lines = [
        f"{line.partition('?')[0]})" if line.startswith("![](") else line
        for line in written.split("\n")
    ]
    return markdown_of("\n".join(lines), page)


def _cells(pages: Mapping[str, Json]) -> Iterable[tuple[Json, Json]]:
    for page in pages.values():
        for name, cell in page["properties"].items():
            yield {"page_id": page["id"], "property_id": cell["id"], "property": name}, cell


def _relations(pages: Mapping[str, Json]) -> Iterable[tuple[str, Json]]:
    for where, cell in _cells(pages):
        for related in cell["relation"] if cell["type"] == "relation" else ():
            key = f"{where['page_id']}/{where['property_id']}/{related['id']}"
            yield key, {**where, "related_id": related["id"]}


def _items(pages: Mapping[str, Json]) -> Iterable[tuple[str, Json]]:
    for where, cell in _cells(pages):
        items = cell[cell["type"]]
        if not isinstance(items, list) or len(items) <= SHOWN:
            continue
        for index, item in enumerate(items):
            key = f"{where['page_id']}/{where['property_id']}/{index}"
            yield key, {**where, "index": index, "type": cell["type"], "item": item}
