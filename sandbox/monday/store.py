"""A monday.com account in memory: boards and what is in them, as the API shows it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock, stamp, stamp_in_seconds
from sandbox.kernel.data import TOPICS, firm, moment, person, plain, sentence
from sandbox.kernel.fields import words
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

STREAMS = words(
    "boards items subitems column_values columns groups activity_logs updates users workspaces"
    " teams tags"
)
BOARDS, EDITED = 4, timedelta(days=6)
LABELS = ("Done", "Stuck", "Working on it")
COLORS = ("#037f4c", "#e2445c", "#fdab3d")
# An account's columns: of each board, and of each of subitems.
TYPES = ("status", "text", "numbers", "date", "people", "board_relation", "dependency")


@dataclass
class Desk:
    """One account. Nothing of what is on the `hidden` boards is shown to who consented, and the
    `refused` ones answer with an error."""

    id: str
    name: str
    clock: Clock
    tables: dict[str, dict[str, Json]]
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    promoted: bool = False
    # The plan's name; None on a trial.
    tier: str | None = "standard"
    tell: Callable[[Any], None] = lambda what: None
    numbers: int = 0
    ticks: int = 0
    # When each cursor was handed out, and what it stands for.
    cursors: dict[str, tuple[datetime, Json]] = field(default_factory=dict)

    def next_id(self) -> str:
        self.numbers += 1
        return str(int(self.id) * 1_000_000 + self.numbers)

    def board_of(self, stream: str, row: Json) -> str:
        return str(row["id"] if stream == "boards" else row["board_id"])

    def shown(self, stream: str) -> Iterator[Json]:
        """What the API may show, also what was archived or deleted."""
        for row in self.tables[stream].values():
            if "board_id" in row or stream == "boards":
                if self.board_of(stream, row) in self.hidden:
                    continue
            elif stream == "updates":
                item = self.tables["items"].get(row["item_id"])
                if item is None or item["board_id"] in self.hidden:
                    continue
            yield row

    def live(self, stream: str) -> Iterator[Json]:
        """The items that a board lists."""
        for row in self.shown(stream):
            if row["state"] == "active" and self.tables["boards"][row["board_id"]]["state"] == (
                "active"
            ):
                yield row


ITEMS = ("items", "subitems")
MUTATIONS = Mutations[Desk](
    settable={
        **dict.fromkeys(ITEMS, ("name", "board_id")),
        "boards": ("name", "description", "state"),
        "updates": ("body",),
        "users": ("name", "enabled", "title"),
        "groups": ("title",),
        "columns": ("title",),
        **dict.fromkeys(("workspaces", "teams", "tags"), ("name",)),
    },
    there=lambda desk, stream: alterable(desk, stream),
)


def alterable(desk: Desk, stream: str) -> list[str]:
    """What people change. An update is edited in the days after it was written, not ever after."""
    if stream == "updates":
        oldest = stamp_in_seconds(desk.clock.now() - EDITED)
        return [row["id"] for row in desk.shown(stream) if row["created_at"] > oldest]
    if stream in ITEMS:
        items = (row for row in desk.live(stream) if row["board_id"] not in desk.refused)
        return [_key(row) for row in items]
    if stream == "boards":
        rows = [row for row in desk.shown(stream) if row["state"] == "active"]
        kept = {row["id"] for row in rows if _sub_board(row["id"]) in desk.refused} | desk.refused
        return [row["id"] for row in rows if row["type"] == "board" and row["id"] not in kept]
    return list(store(desk, stream))


def new(seed: Seed) -> Desk:
    tables: dict[str, dict[str, Json]] = {stream: {} for stream in STREAMS}
    desk = Desk(seed.account_id, seed.name, seed.clock, tables, tell=seed.tell)
    random, now = seed.random, seed.clock.now()
    if not seed.size:
        return desk
    for _ in range(2):
        _add(desk, "workspaces", {}, random, now)
    for stream in ("users", "tags", "teams"):
        for _ in range(min(60, seed.length(0.2))):
            _add(desk, stream, {}, random, moment(random, now))
    for user in list(tables["users"].values())[-1:]:
        user["enabled"] = False
    for _ in range(BOARDS):
        _add(desk, "boards", {}, random, moment(random, now))
    for stream, share in {"items": 1.0, "subitems": 0.4, "updates": 0.3}.items():
        for at in sorted(moment(random, now) for _ in range(seed.length(share))):
            _add(desk, stream, {}, random, at)
    for at in sorted(moment(random, now, 5) for _ in range(seed.length(0.05))):
        _add(desk, "updates", {}, random, at)
    return desk


def store(desk: Desk, stream: str) -> dict[str, Json]:
    """What is there, by the keys that it has with its board."""
    if stream in ITEMS:
        return {_key(row): item(desk, row) for row in desk.live(stream)}
    if stream == "column_values":
        found = {}
        for each in ITEMS:
            for row in desk.live(each):
                place = {"board_id": row["board_id"], "item_id": row["id"]}
                for value in row["column_values"]:
                    key = f"{row['board_id']}/{row['id']}/{value['id']}"
                    found[key] = {**place, **value}
        return found
    rows = list(desk.shown(stream))
    if stream == "boards":
        return {row["id"]: _without(row) for row in rows if row["state"] != "deleted"}
    if stream in ("columns", "groups"):
        there = {row["id"] for row in desk.shown("boards") if row["state"] != "deleted"}
        return {f"{r['board_id']}/{r['id']}": dict(r) for r in rows if r["board_id"] in there}
    if stream == "activity_logs":
        return {row["id"]: _without(row, "board_id", "at") for row in rows}
    return {row["id"]: dict(row) for row in rows}


def item(desk: Desk, row: Json) -> Json:
    """An item as a query shows it that asks for all its fields."""
    shown = _without(row, "board_id", "group_id", "parent_id")
    parent = row["parent_id"]
    return {
        **shown,
        "board": {"id": row["board_id"]},
        "group": {"id": row["group_id"]},
        "parent_item": {"id": parent} if parent else None,
    }


def _without(row: Json, *names: str) -> Json:
    return {name: value for name, value in row.items() if name not in names}


def _key(row: Json) -> str:
    return f"{row['board_id']}/{row['id']}"


# -- Changes --------------------------------------------------------------------------------------


@MUTATIONS.of(("boards", *ITEMS, "updates", "users", "tags", "teams", "columns", "groups"), "add")
def add(desk: Desk, change: Change) -> str:
    row = _add(desk, change.stream, change.record, change.random, desk.clock.now())
    if change.stream in ITEMS:
        _note(desk, row["board_id"], "create_pulse", {"pulse_id": int(row["id"])})
        _tell(desk, change.stream, "create", row)
        return _key(row)
    if change.stream in ("columns", "groups"):
        name = "create_column" if change.stream == "columns" else "create_group"
        _note(desk, row["board_id"], name, {})
        if name == "create_column":
            about = {"columnId": row["id"], "columnTitle": row["title"], "columnType": row["type"]}
            desk.tell({"on": row["board_id"], "event": name, "type": name, "about": about})
        return f"{row['board_id']}/{row['id']}"
    if change.stream == "updates":
        _tell_of_update(desk, "create", row)
    return str(row["id"])


@MUTATIONS.of(ITEMS, "change")
def change_item(desk: Desk, change: Change) -> str:
    """A name, the value of a column, or another group; one in ten moves to another board."""
    row, random = _item_at(desk, change), change.random
    row["updated_at"] = _later(desk, row["updated_at"])
    id = int(row["id"])
    others = [b for b in _boards(desk, "board") if b != row["board_id"]]
    if change.stream == "items" and not change.record and others and random.random() < 0.1:
        former, board = row["board_id"], random.choice(others)
        row |= {"board_id": board, "group_id": _group(desk, board, random)}
        row["column_values"] = _values(desk, board, random)
        _note(desk, former, "move_pulse_from_board", {"pulse_id": id})
        _note(desk, board, "move_pulse_into_board", {"pulse_id": id})
    elif change.record or random.random() < 0.4:
        row["name"] = change.record.get(
            "name", f"{sentence(random)[:40]} {random.randrange(10**6)}"
        )
        _note(desk, row["board_id"], "update_name", {"pulse_id": id})
        _tell(desk, change.stream, "name", row, value={"name": row["name"]})
    else:
        value = random.choice([each for each in row["column_values"]])
        fresh = _value(desk, value["id"], value["type"], random)
        if fresh == value:
            fresh["text"] = f"{random.randrange(10**9)}"
        value |= fresh
        about = {"pulse_id": id, "column_id": value["id"]}
        _note(desk, row["board_id"], "update_column_value", about)
        told = {"columnId": value["id"], "columnType": value["type"], "value": value["value"]}
        _tell(desk, change.stream, "column", row, **told)
    return _key(row)


@MUTATIONS.of(ITEMS, "delete")
def delete_item(desk: Desk, change: Change) -> None:
    """Deleted, or archived; with an item go its subitems, and its updates, of which no webhook
    tells."""
    row = _item_at(desk, change)
    archives = change.random.random() < 0.3
    _end(desk, row, archives=archives)
    _tell(desk, change.stream, "archive" if archives else "delete", row)
    for sub in list(desk.tables["subitems"].values()):
        if sub["parent_id"] == row["id"] and sub["state"] == "active":
            _end(desk, sub, archives=archives)


def _end(desk: Desk, row: Json, *, archives: bool) -> None:
    row |= {"state": "archived" if archives else "deleted"}
    row["updated_at"] = _later(desk, row["updated_at"])
    name = "archive_pulse" if archives else "delete_pulse"
    _note(desk, row["board_id"], name, {"pulse_id": int(row["id"])})
    if not archives:
        for update in [u for u in desk.tables["updates"].values() if u["item_id"] == row["id"]]:
            del desk.tables["updates"][update["id"]]


@MUTATIONS.of("boards", "change")
def change_board(desk: Desk, change: Change) -> None:
    row = desk.tables["boards"][str(change.id)]
    given = change.record or {"description": sentence(change.random)}
    row |= {**given, "updated_at": _later(desk, row["updated_at"])}
    _note(desk, row["id"], "board_description_changed", {})


@MUTATIONS.of("boards", "delete")
def delete_board(desk: Desk, change: Change) -> None:
    """With its board of subitems. The last one stays."""
    if len(_boards(desk, "board")) < 2:
        raise RefusedError("the last board stays", status=409)
    id = str(change.id)
    for one in (id, _sub_board(id)):
        row = desk.tables["boards"][one]
        row |= {"state": "deleted", "updated_at": _later(desk, row["updated_at"])}
    items = {row["id"] for row in desk.tables["items"].values() if row["board_id"] == id}
    for update in [u for u in desk.tables["updates"].values() if u["item_id"] in items]:
        del desk.tables["updates"][update["id"]]


@MUTATIONS.of("updates", "change")
def edit_update(desk: Desk, change: Change) -> None:
    row = desk.tables["updates"][str(change.id)]
    body = change.record.get("body", f"{sentence(change.random)} {change.random.randrange(10**6)}")
    now = _later(desk, row["updated_at"])
    row |= {"body": f"<p>{body}</p>", "text_body": body, "updated_at": now, "edited_at": now}
    _tell_of_update(desk, "edit", row)


@MUTATIONS.of("updates", "delete")
def delete_update(desk: Desk, change: Change) -> None:
    _tell_of_update(desk, "delete", desk.tables["updates"].pop(str(change.id)))


@MUTATIONS.of(("users", "workspaces", "teams", "tags"), "change")
def rename(desk: Desk, change: Change) -> None:
    row = desk.tables[change.stream][str(change.id)]
    row |= change.record or {"name": f"{firm(change.random)} {change.random.randrange(10**6)}"}


@MUTATIONS.of(("teams", "tags"), "delete")
def remove(desk: Desk, change: Change) -> None:
    row = desk.tables[change.stream].pop(str(change.id))
    for user in desk.tables["users"].values():
        user["teams"] = [each for each in user["teams"] if each["id"] != row["id"]]


@MUTATIONS.of(("columns", "groups"), "change")
def retitle(desk: Desk, change: Change) -> None:
    row = desk.tables[change.stream][str(change.id)]
    row |= change.record or {"title": f"{firm(change.random)} {change.random.randrange(10**6)}"}
    _note(desk, row["board_id"], "board_change", {})


def _item_at(desk: Desk, change: Change) -> Json:
    return desk.tables[change.stream][str(change.id).split("/")[1]]


def _note(desk: Desk, board: str, event: str, about: Json) -> None:
    """An entry of a board's log, counted in ten-millionths of a second."""
    now = desk.clock.now()
    desk.ticks += 1
    ticks = int(now.timestamp() * 1_000) * 10_000 + desk.ticks % 10_000
    users = list(desk.tables["users"])
    entry = {
        "id": f"{desk.id}-{board}-{ticks}-{desk.ticks}",
        "event": event,
        "entity": "pulse" if about else "board",
        "data": json.dumps({"board_id": int(board), **about}),
        "user_id": users[0] if users else "-1",
        "account_id": desk.id,
        "created_at": str(ticks),
        "board_id": board,
        "at": stamp(now),
    }
    desk.tables["activity_logs"][entry["id"]] = entry


# By what happens: the events of items and of subitems, and the name that both are told under.
TOLD = {
    "create": ("create_item", "create_subitem", "create_pulse"),
    "name": ("change_name", "change_subitem_name", "update_name"),
    "column": ("change_column_value", "change_subitem_column_value", "update_column_value"),
    "archive": ("item_archived", "subitem_archived", "archive_pulse"),
    "delete": ("item_deleted", "subitem_deleted", "delete_pulse"),
}


def _tell(desk: Desk, stream: str, what: str, row: Json, **more: Any) -> None:
    """What webhooks on the item's board, or on that of a subitem's parent, tell."""
    of_item, of_subitem, type_ = TOLD[what]
    id = int(row["id"])
    ends = what in ("archive", "delete")
    about: Json = {"boardId": int(row["board_id"]), **more}
    about |= {"itemId": id, "itemName": row["name"]} if ends else {"pulseId": id}
    on = row["board_id"]
    if stream == "subitems":
        on = desk.tables["items"][row["parent_id"]]["board_id"]
        about |= {"pulseId": id, "itemId": id, "parentItemId": row["parent_id"]}
        about |= {"parentBoardId" if ends else "parentItemBoardId": on}
    event = of_subitem if stream == "subitems" else of_item
    desk.tell({"on": on, "event": event, "type": type_, "about": about})


def _tell_of_update(desk: Desk, what: str, row: Json) -> None:
    if (item := desk.tables["items"].get(row["item_id"])) is None:
        return
    about = {"boardId": int(item["board_id"]), "pulseId": int(item["id"]), "body": row["body"]}
    about |= {"textBody": row["text_body"], "updateId": int(row["id"]), "replyId": None}
    event = f"{what}_update"
    desk.tell({"on": item["board_id"], "event": event, "type": event, "about": about})


def _later(desk: Desk, former: str) -> str:
    return stamp_in_seconds(max(desk.clock.now(), _second_after(former)))


def _second_after(former: str) -> datetime:
    return datetime.fromisoformat(former) + timedelta(seconds=1)


# -- How rows are made ----------------------------------------------------------------------------


def _boards(desk: Desk, type_: str) -> list[str]:
    rows = desk.tables["boards"].values()
    return [r["id"] for r in rows if r["type"] == type_ and r["state"] == "active"]


def _sub_board(board: str) -> str:
    """Made after its board, with the number that follows."""
    return str(int(board) + 1)


def _group(desk: Desk, board: str, random: Random) -> str:
    rows = [row["id"] for row in desk.tables["groups"].values() if row["board_id"] == board]
    return str(random.choice(rows))


def _any(desk: Desk, stream: str, random: Random) -> str | None:
    rows = list(desk.tables[stream])
    return random.choice(rows) if rows else None


def _add(desk: Desk, stream: str, given: Json, random: Random, at: datetime) -> Json:
    id, now = desk.next_id(), stamp_in_seconds(at)
    name = given.get("name", f"{firm(random)}: {random.choice(TOPICS)}")
    match stream:
        case "boards":
            return _add_board(desk, id, name, given, random, now)
        case "items" | "subitems":
            row = _new_item(desk, stream, given, random)
            row |= {"id": id, "name": name, "state": "active", "created_at": now, "updated_at": now}
            row["creator_id"] = _any(desk, "users", random) or "-1"
        case "updates":
            items = [r for r in desk.live("items")]
            if not items:
                raise RefusedError("there is no item to write about", status=409)
            body = given.get("body", sentence(random))
            who = _any(desk, "users", random)
            row = {"id": id, "body": f"<p>{body}</p>", "text_body": body, "created_at": now}
            row |= {"updated_at": now, "edited_at": now, "creator_id": who}
            row |= {"item_id": random.choice(items)["id"], "replies": []}
            if random.random() < 0.3:
                reply = {"id": desk.next_id(), "body": sentence(random), "creator_id": who}
                row["replies"] = [{**reply, "created_at": now, "updated_at": now}]
        case "users":
            row = _new_user(id, random, now)
        case "workspaces":
            row = {"id": id, "name": name, "kind": "open", "description": sentence(random)}
            row |= {"state": "active", "created_at": now}
        case "teams":
            users = random.sample(list(desk.tables["users"]), min(2, len(desk.tables["users"])))
            row = {"id": id, "name": name, "picture_url": f"https://files.example/{id}.png"}
            row |= {"is_guest": False, "users": [{"id": user} for user in users]}
            for user in users:
                desk.tables["users"][user]["teams"].append({"id": id})
        case "tags":
            row = {"id": id, "name": name, "color": random.choice(COLORS)}
        case _:
            boards = _boards(desk, "board")
            return _add_inside(desk, stream, random.choice(boards), given, random)
    desk.tables[stream][id] = row
    return row


def _add_board(desk: Desk, id: str, name: str, given: Json, random: Random, now: str) -> Json:
    who = _any(desk, "users", random)
    if who is None:
        raise RefusedError("an account without people makes no board", status=409)
    sub = desk.next_id()
    for number, type_ in ((id, "board"), (sub, "sub_items_board")):
        desk.tables["boards"][number] = {
            "id": number,
            "name": name if type_ == "board" else f"Subitems of {name}",
            "description": given.get("description", sentence(random)),
            "state": "active",
            "type": type_,
            "board_kind": random.choice(("public", "private")),
            "board_folder_id": None,
            "workspace_id": _any(desk, "workspaces", random),
            "permissions": "everyone",
            "item_terminology": "Item",
            "updated_at": now,
            "url": f"https://sandbox.monday.com/boards/{number}",
            "creator": {"id": who},
        }
        for _ in range(2):
            _add_inside(desk, "groups", number, {}, random)
        for type_ in TYPES:
            _add_inside(desk, "columns", number, {"type": type_}, random)
    return desk.tables["boards"][id]


def _add_inside(desk: Desk, stream: str, board: str, given: Json, random: Random) -> Json:
    id = f"{stream[:5]}_{desk.next_id()[-7:]}"
    title = given.get("title", random.choice(TOPICS))
    if stream == "groups":
        row = {"id": id, "title": title, "color": random.choice(COLORS)}
        row |= {"position": f"{random.randrange(10**6)}.0", "archived": False, "deleted": False}
    else:
        row = {"id": id, "title": title, "description": None, "type": given.get("type", "text")}
        row |= {"archived": False, "settings_str": json.dumps({"labels": list(LABELS)})}
    row = {"board_id": board, **row}
    desk.tables[stream][f"{board}/{id}"] = row
    if stream == "columns":
        for table in ITEMS:
            for one in desk.tables[table].values():
                if one["board_id"] == board:
                    one["column_values"].append(_value(desk, id, row["type"], random))
    return row


def _new_item(desk: Desk, stream: str, given: Json, random: Random) -> Json:
    parent = None
    if stream == "items":
        board = given.get("board_id") or random.choice(_boards(desk, "board"))
    else:
        parents = list(desk.live("items"))
        if not parents:
            raise RefusedError("there is no item that it could be under", status=409)
        of = random.choice(parents)
        parent, board = of["id"], _sub_board(of["board_id"])
    group = _group(desk, board, random)
    values = _values(desk, board, random)
    return {"board_id": board, "group_id": group, "parent_id": parent, "column_values": values}


def _values(desk: Desk, board: str, random: Random) -> list[Json]:
    columns = [row for row in desk.tables["columns"].values() if row["board_id"] == board]
    return [_value(desk, row["id"], row["type"], random) for row in columns]


def _value(desk: Desk, id: str, type_: str, random: Random) -> Json:
    """A value as a query shows it; what links items has no `value` since 2025-04."""
    shown: Json = {"id": id, "type": type_}
    match type_:
        case "status":
            index = random.randrange(len(LABELS))
            return {**shown, "text": LABELS[index], "value": json.dumps({"index": index})}
        case "numbers":
            number = str(random.randrange(10_000))
            return {**shown, "text": number, "value": json.dumps(number)}
        case "date":
            day = moment(random, desk.clock.now()).date().isoformat()
            return {**shown, "text": day, "value": json.dumps({"date": day})}
        case "people":
            who = _any(desk, "users", random)
            people = [{"id": int(who), "kind": "person"}] if who else []
            text = desk.tables["users"][who]["name"] if who else ""
            return {**shown, "text": text, "value": json.dumps({"personsAndTeams": people})}
        case "board_relation" | "dependency":
            linked = random.sample(list(desk.tables["items"]), min(2, len(desk.tables["items"])))
            return {**shown, "text": None, "value": None, "linked_item_ids": linked}
    text = sentence(random)
    return {**shown, "text": text, "value": json.dumps(text)}


def _new_user(id: str, random: Random, now: str) -> Json:
    first, last = person(random)
    flags = {"enabled": True, "is_admin": False, "is_guest": False, "is_pending": False}
    return {
        "id": id,
        "name": f"{first} {last}",
        "email": f"{plain(first)}.{plain(last)}.{id}@mail.example",
        **flags,
        **{"is_view_only": random.random() < 0.2, "is_verified": True, "title": "Buyer"},
        **{"location": "Berlin", "time_zone_identifier": "Europe/Berlin", "created_at": now},
        **{"join_date": None, "url": f"https://sandbox.monday.com/users/{id}", "teams": []},
    }


def hide(desk: Desk, body: Json) -> Json:
    """A board is private now, without who consented: what of the `stream` is hidden by it."""
    stream = str(body.get("stream"))
    before = set(store(desk, stream))
    type_ = "sub_items_board" if stream == "subitems" else "board"
    board = max(_boards(desk, type_), key=lambda one: sum(k.startswith(one) for k in before))
    desk.hidden.add(board)
    return {"keys": sorted(before - set(store(desk, stream)))}


def refuse_part(desk: Desk, body: Json) -> Json:
    """One board answers with an error, or no longer does."""
    if not body.get("on", True):
        desk.refused.clear()
        return {}
    stream = str(body.get("stream"))
    if stream not in ("column_values", *ITEMS):
        return {"part": "", "keys": []}
    type_ = "sub_items_board" if stream == "subitems" else "board"
    board = min(_boards(desk, type_))
    desk.refused.add(board)
    keys = [key for key in store(desk, stream) if key.startswith(f"{board}/")]
    return {"part": board, "keys": sorted(keys)}
