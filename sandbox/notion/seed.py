"""A made-up workspace, and what may be ordered of it."""

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

from sandbox.kernel.data import domain, firm, person, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.notion.store import (
    Workspace,
    in_minutes,
    mention,
    new_id,
    reachable,
    stamped,
    text,
)

KINDS = ("paragraph", "heading_2", "to_do", "bulleted_list_item", "toggle")
# Of so many references a page shows only the first.
MANY = 30
DAY = timedelta(days=1)
MUTATIONS = Mutations[Workspace](unknown=400)


def new(seed: Seed) -> Workspace:
    """Four tenths of `size` are pages, and half of these are rows of data sources."""
    space, random = Workspace(seed.account_id, seed.name, seed.clock, seed.tell), seed.random
    if not seed.size:
        return space
    for number in range(max(4, min(MANY, seed.size // 3))):
        add_user(space, random, bot=number == 0)
    space.home = add_page(space, random, {"type": "workspace", "workspace": True}, sentence(random))
    for _ in range(max(2, seed.size // 100)):
        add_source(space, random)
    count = max(6, seed.length(0.4))
    for number in range(1, count):
        source = list(space.sources)[number // 2 % len(space.sources)]
        page = add_row(space, random, source) if number % 2 else _child(space, random)
        _age(space, page, random.randint(1, 400))
        for _ in range(random.randint(0, 2)):
            add_block(space, random, page)
        if number % 4 == 0:
            add_comment(space, random, page)
    for number, page in enumerate(list(space.pages)[1:4]):
        _special_blocks(space, random, page, number)
    for source in list(space.sources)[:2]:
        _long_cells(space, random, source)
    return space


def _age(space: Workspace, page: str, days: int) -> None:
    at = in_minutes(space.clock.now().replace(hour=12) - DAY * days)
    space.pages[page] |= {"created_time": at, "last_edited_time": at}


def _special_blocks(space: Workspace, random: Random, page: str, number: int) -> None:
    """Blocks within blocks, a file, a page of its own, and a kind that the API lacks."""
    outer = add_block(space, random, page, kind="toggle")
    inner = add_block(space, random, page, parent=outer, kind="to_do")
    add_block(space, random, page, parent=inner)
    add_block(space, random, page, kind="image")
    lost = add_block(space, random, page, kind="unsupported")
    space.blocks[page][lost]["has_children"] = True
    if number == 0:
        child = add_block(space, random, page, kind="child_page")
        space.blocks[page][child]["has_children"] = True


def _long_cells(space: Workspace, random: Random, source: str) -> None:
    rows = list(space.rows(source))
    cells = space.pages[rows[0]]["properties"]
    related = [*rows, *(new_id(random) for _ in range(MANY))][:MANY]
    cells["Related"]["relation"] = [{"id": each} for each in related]
    cells["Notes"]["rich_text"] = [mention(each, f"Page {n}") for n, each in enumerate(related)]
    people = [space.users[each] for each in list(space.users)] * MANY
    cells["People"]["people"] = people[: MANY - 2]


# -- What there is --------------------------------------------------------------------------------


def add_user(space: Workspace, random: Random, *, bot: bool = False) -> str:
    first, last = person(random)
    user: Json = {
        "object": "user",
        "id": new_id(random),
        "name": f"{first} {last}",
        "avatar_url": None,
    }
    address = f"{plain(first)}.{plain(last)}@{domain(firm(random))}"
    user |= {"type": "bot", "bot": {}} if bot else {"type": "person", "person": {"email": address}}
    space.users[user["id"]] = user
    return str(user["id"])


def _somebody(space: Workspace, random: Random) -> str:
    return random.choice(list(space.users))


def add_page(
    space: Workspace, random: Random, parent: Json, title: str, cells: Json | None = None
) -> str:
    made = stamped(space, "page", new_id(random), _somebody(space, random))
    made |= {
        "parent": parent,
        "icon": None,
        "cover": _file(random) if random.random() < 0.2 else None,
        "is_archived": False,
        "is_locked": False,
        "properties": cells or {"title": _cell("title", "title", text(title))},
        "url": f"https://www.notion.so/{made['id'].replace('-', '')}",
        "public_url": None,
    }
    space.put(space.pages, made)
    space.blocks[made["id"]], space.comments[made["id"]] = {}, {}
    space.page_news("created", made["id"])
    return str(made["id"])


def _child(space: Workspace, random: Random) -> str:
    parent = {"type": "page_id", "page_id": space.home}
    return add_page(space, random, parent, sentence(random))


def _file(random: Random) -> Json:
    return {"type": "file", "file": {"key": f"{new_id(random)}/photo.png"}}


def _cell(id_: str, kind: str, value: Any) -> Json:
    return {"id": id_, "type": kind, kind: value}


def add_source(space: Workspace, random: Random) -> str:
    by, title = _somebody(space, random), text(firm(random))
    database = stamped(space, "database", new_id(random), by)
    made = stamped(space, "data_source", new_id(random), by)
    where = {"type": "page_id", "page_id": space.home}
    common = {"title": title, "description": [], "icon": None, "cover": None, "is_inline": False}
    database |= {
        **common,
        "parent": where,
        "data_sources": [{"id": made["id"], "name": title[0]["plain_text"]}],
        "url": f"https://www.notion.so/{database['id'].replace('-', '')}",
        "public_url": None,
    }
    made |= {
        **common,
        "parent": {"type": "database_id", "database_id": database["id"]},
        "database_parent": where,
        "properties": _columns(made["id"], database["id"]),
        "url": f"https://www.notion.so/{database['id'].replace('-', '')}?v={made['id']}",
        "public_url": None,
    }
    space.databases[database["id"]] = database
    space.put(space.sources, made)
    source_news(space, "created", made["id"])
    return str(made["id"])


def _columns(source: str, database: str) -> Json:
    ids = {
        "Name": ("title", "title"), "Status": ("a%3Ab", "select"), "Amount": ("%5Exy", "number"),
        "Due": ("dueD", "date"), "People": ("p%7Cq", "people"), "Related": ("r%3D1", "relation"),
        "Notes": ("nOtE", "rich_text"),
    }  # fmt: skip
    settings: Json = {
        "select": {"options": [{"id": "1", "name": "Open", "color": "red"}]},
        "number": {"format": "euro"},
        "relation": {
            "database_id": database, "data_source_id": source,
            "type": "single_property", "single_property": {},
        },
    }  # fmt: skip
    return {
        name: {"id": id_, "name": name, "type": kind, kind: settings.get(kind, {})}
        for name, (id_, kind) in ids.items()
    }


def add_row(space: Workspace, random: Random, source: str) -> str:
    rows, columns = list(space.rows(source)), space.sources[source]["properties"]
    related = random.sample(rows, k=min(len(rows), random.randint(0, 3)))
    values: Json = {
        "Name": text(firm(random)),
        "Status": {"id": "1", "name": "Open", "color": "red"},
        "Amount": random.randint(1, 9_999),
        "Due": {"start": "2027-01-31", "end": None, "time_zone": None},
        "People": [space.users[_somebody(space, random)]],
        "Related": [{"id": each} for each in related],
        "Notes": text(sentence(random)),
    }
    cells = {
        name: _cell(columns[name]["id"], columns[name]["type"], values[name]) for name in values
    }
    database = space.sources[source]["parent"]["database_id"]
    parent = {"type": "data_source_id", "data_source_id": source, "database_id": database}
    return add_page(space, random, parent, "", cells)


def add_block(
    space: Workspace, random: Random, page: str, *, parent: str = "", kind: str = ""
) -> str:
    kind = kind or random.choice(KINDS)
    block = stamped(space, "block", new_id(random), _somebody(space, random))
    where = (
        {"type": "block_id", "block_id": parent} if parent else {"type": "page_id", "page_id": page}
    )
    held: Json = {"rich_text": text(sentence(random)), "color": "default"}
    if kind == "image":
        held = {"caption": [], **_file(random)}
    elif kind == "child_page":
        held = {"title": firm(random)}
    elif kind == "unsupported":
        held = {"block_type": "ai_block"}
    block |= {"parent": where, "has_children": False, "type": kind, kind: held}
    space.blocks[page][block["id"]] = block
    if parent:
        space.blocks[page][parent]["has_children"] = True
    return str(block["id"])


def add_comment(space: Workspace, random: Random, page: str) -> str:
    by, now = _somebody(space, random), in_minutes(space.clock.now())
    made: Json = {
        "object": "comment",
        "id": new_id(random),
        "parent": {"type": "page_id", "page_id": page},
        "discussion_id": new_id(random),
        "created_time": now,
        "last_edited_time": now,
        "created_by": {"object": "user", "id": by},
        "rich_text": text(sentence(random)),
        "display_name": {"type": "user", "resolved_name": space.users[by]["name"]},
    }
    space.comments[page][made["id"]] = made
    comment_news(space, "created", page, made["id"])
    return str(made["id"])


def comment_news(space: Workspace, what: str, page: str, comment: str) -> None:
    parent = {"id": page, "type": "page"}
    space.news(f"comment.{what}", comment, "comment", parent=parent, page_id=page)


def source_news(space: Workspace, what: str, source: str) -> None:
    parent = {"id": space.sources[source]["parent"]["database_id"], "type": "database"}
    space.news(f"data_source.{what}", source, "data_source", parent=parent)


# -- What may be ordered --------------------------------------------------------------------------


def alterable(space: Workspace, stream: str) -> Iterable[str]:
    """Nothing is changed where nobody may look; the first page and data sources stay."""
    match stream:
        case "data_sources":
            return [id_ for id_ in list(space.live(space.sources))[2:] if id_ not in space.refused]
        case "users":
            return list(space.users)[1:]
        case "blocks":
            return [f"{id_}/{one}" for id_ in _open(space) for one in reachable(space, id_)]
        case "comments":
            return [f"{id_}/{one}" for id_ in _open(space) for one in space.comments[id_]]
    sources = {id_: page["parent"].get("data_source_id") for id_, page in _open(space).items()}
    if stream == "pages":
        return [id_ for id_, source in sources.items() if not source and id_ != space.home]
    return [f"{source}/{id_}" for id_, source in sources.items() if source]


def _open(space: Workspace) -> dict[str, Json]:
    """The pages that may be changed."""
    return {
        id_: page
        for id_, page in space.live(space.pages).items()
        if not {id_, page["parent"].get("data_source_id")} & space.refused
    }


def _open_page(space: Workspace, change: Change) -> str:
    """The page that an order names, or any but the first."""
    pages = [id_ for id_ in _open(space) if id_ != space.home]
    if not pages:
        raise RefusedError("there is no page to write on", status=409)
    return str(change.record.get("page") or change.random.choice(pages))


def _there(space: Workspace, key: str, stream: str) -> tuple[str, str]:
    """What an order names, in two parts, if it is still there."""
    outer, _, inner = key.partition("/")
    match stream:
        case "users":
            there = outer in space.users
        case "data_sources":
            there = outer in space.live(space.sources)
        case _:
            page = inner if stream == "data_source_rows" else outer
            there = page in space.live(space.pages)
            if stream in ("blocks", "comments"):
                held = reachable(space, page) if stream == "blocks" else space.comments[page]
                there = there and inner in held
    if not there:
        raise RefusedError("it went with something else", status=409)
    return outer, inner


@MUTATIONS.of("pages", "add")
def _add_page(space: Workspace, change: Change) -> str:
    return _child(space, change.random)


@MUTATIONS.of("pages", "change", "delete")
def _change_page(space: Workspace, change: Change) -> None:
    page, _ = _there(space, str(change.id), "pages")
    edit_page(space, page, change)


@MUTATIONS.of("data_source_rows", "add")
def _add_row(space: Workspace, change: Change) -> str:
    sources = [id_ for id_ in space.live(space.sources) if id_ not in space.refused]
    source = change.random.choice(sources)
    return f"{source}/{add_row(space, change.random, source)}"


@MUTATIONS.of("data_source_rows", "change", "delete")
def _change_row(space: Workspace, change: Change) -> None:
    _, page = _there(space, str(change.id), "data_source_rows")
    edit_page(space, page, change)


def edit_page(space: Workspace, page: str, change: Change) -> None:
    """A new title; or it goes into the trash."""
    by = _somebody(space, change.random)
    if change.op == "delete":
        trash(space, page, by)
        return
    written = (
        change.record.get("title") or f"{sentence(change.random)} {change.random.random():.9f}"
    )
    cells = {
        name: {**cell, "title": text(written)} if cell["type"] == "title" else cell
        for name, cell in space.pages[page]["properties"].items()
    }
    if "Notes" in cells and change.random.random() < 0.2:
        runs = [mention(page, f"Mention {number}") for number in range(MANY)]
        cells["Notes"] = {**cells["Notes"], "rich_text": runs}
    space.edit(page, by, properties=cells)
    space.page_news("properties_updated", page, updated_properties=["title"])


def trash(space: Workspace, page: str, by: str = "") -> None:
    space.edit(page, by, in_trash=True)
    space.page_news("deleted", page)


@MUTATIONS.of("data_sources", "add")
def _add_source(space: Workspace, change: Change) -> str:
    return add_source(space, change.random)


@MUTATIONS.of("data_sources", "change")
def _change_source(space: Workspace, change: Change) -> None:
    """Another name, which its database bears as well, and one more column."""
    source, _ = _there(space, str(change.id), "data_sources")
    title, name = (
        text(f"{firm(change.random)} {change.random.random():.9f}"),
        f"Extra {new_id(change.random)}",
    )
    former = space.sources[source]
    column = {"id": name[-6:], "name": name, "type": "number", "number": {"format": "number"}}
    space.edit(source, title=title, properties={**former["properties"], name: column})
    database = former["parent"]["database_id"]
    space.databases[database] = {**space.databases[database], "title": title}
    source_news(space, "schema_updated", source)


@MUTATIONS.of("data_sources", "delete")
def _drop_source(space: Workspace, change: Change) -> None:
    """Its database and its rows go into the trash with it."""
    source, _ = _there(space, str(change.id), "data_sources")
    for row in space.rows(source):
        trash(space, row)
    space.edit(source, in_trash=True)
    database = space.sources[source]["parent"]["database_id"]
    space.databases[database] = {**space.databases[database], "in_trash": True}
    source_news(space, "deleted", source)


@MUTATIONS.of("blocks", "add")
def _add_block(space: Workspace, change: Change) -> str:
    page = _open_page(space, change)
    outer = [id_ for id_, each in reachable(space, page).items() if each["type"] == "toggle"]
    parent = change.random.choice(["", *outer])
    block = add_block(space, change.random, page, parent=parent)
    _wrote(space, page, block)
    return f"{page}/{block}"


@MUTATIONS.of("blocks", "change")
def _change_block(space: Workspace, change: Change) -> None:
    page, id_ = _there(space, str(change.id), "blocks")
    block = space.blocks[page][id_]
    held = {**block[block["type"]], "color": f"colour {change.random.random():.9f}"}
    edited = {"last_edited_time": in_minutes(space.clock.now()), block["type"]: held}
    space.blocks[page][id_] = {**block, **edited}
    _wrote(space, page, id_)


@MUTATIONS.of("blocks", "delete")
def _drop_block(space: Workspace, change: Change) -> None:
    page, id_ = _there(space, str(change.id), "blocks")
    drop_block(space, page, id_)


def drop_block(space: Workspace, page: str, id_: str) -> None:
    """What is in it goes with it."""
    blocks = space.blocks[page]
    parent = blocks.pop(id_)["parent"].get("block_id")
    if parent in blocks and not any(
        each["parent"].get("block_id") == parent for each in blocks.values()
    ):
        blocks[parent] = {**blocks[parent], "has_children": False}
    _wrote(space, page, id_)


def _wrote(space: Workspace, page: str, block: str) -> None:
    space.edit(page)
    space.page_news("content_updated", page, updated_blocks=[{"id": block, "type": "block"}])


@MUTATIONS.of("comments", "add")
def _add_comment(space: Workspace, change: Change) -> str:
    """Made-up ones are written by who edits the page, which a comment alone is not known to do;
    one that is ordered with `quiet` is that alone."""
    page = _open_page(space, change)
    comment = add_comment(space, change.random, page)
    _commented(space, page, change)
    return f"{page}/{comment}"


@MUTATIONS.of("comments", "change")
def _change_comment(space: Workspace, change: Change) -> None:
    page, id_ = _there(space, str(change.id), "comments")
    written = text(f"{sentence(change.random)} {change.random.random():.9f}")
    now = in_minutes(space.clock.now())
    space.comments[page][id_] |= {"rich_text": written, "last_edited_time": now}
    comment_news(space, "updated", page, id_)
    _commented(space, page, change)


@MUTATIONS.of("comments", "delete")
def _drop_comment(space: Workspace, change: Change) -> None:
    page, id_ = _there(space, str(change.id), "comments")
    del space.comments[page][id_]
    comment_news(space, "deleted", page, id_)
    _commented(space, page, change)


def _commented(space: Workspace, page: str, change: Change) -> None:
    if not change.record.get("quiet"):
        space.edit(page)
        space.page_news("content_updated", page, updated_blocks=[])


@MUTATIONS.of("users", "add")
def _add_user(space: Workspace, change: Change) -> str:
    return add_user(space, change.random)


@MUTATIONS.of("users", "change")
def _change_user(space: Workspace, change: Change) -> None:
    _there(space, str(change.id), "users")
    name = f"{person(change.random)[0]} {change.random.random():.9f}"
    space.users[str(change.id)] = {**space.users[str(change.id)], "name": name}


@MUTATIONS.of("users", "delete")
def _drop_user(space: Workspace, change: Change) -> None:
    _there(space, str(change.id), "users")
    del space.users[str(change.id)]
