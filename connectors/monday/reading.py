"""How boards are read: each once, item by item, then what their logs say was touched.

Nothing filters items by the time of their change. A board's activity log names those that were
touched; one query looks at the newest entries of fifty boards, and only boards with news are read.
A cursor lives for an hour and items have no order that stays, so a board whose cursor was lost is
begun again (airbytehq/airbyte#66724, 2025-09).

https://developer.monday.com/api-reference/reference/items-page
https://developer.monday.com/api-reference/reference/activity-logs (2026-11)
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    Calls,
    Checkpoint,
    Context,
    ListedKeys,
    NotAllowedError,
    Page,
    Position,
    Reader,
    Record,
    ask,
)
from connectors.kernel.paging import Read, batches, onward
from connectors.kernel.parts import Parts, Round, each_part
from connectors.kernel.statuses import vendor_time
from connectors.monday.query import CursorExpiredError, data_of, graphql

# A log is read again from so long before it was last read, and not relied on for more than a week:
# the smallest plan keeps it no longer.
OVERLAP, KEPT = timedelta(minutes=15), timedelta(days=7)
BOARDS, NEWEST, ITEMS, ENTRIES = 50, 10, 100, 500

FIELDS = """id name state created_at updated_at creator_id board { id } group { id }
    parent_item { id } column_values { id type text value
    ... on BoardRelationValue { linked_item_ids } ... on DependencyValue { linked_item_ids } }"""
FIRST = f"""query($board: ID!, $size: Int!) {{ boards(ids: [$board]) {{
    items_page(limit: $size) {{ cursor items {{ {FIELDS} }} }} }} }}"""
NEXT = f"""query($cursor: String!, $size: Int!) {{
    next_items_page(limit: $size, cursor: $cursor) {{ cursor items {{ {FIELDS} }} }} }}"""
AGAIN = f"""query($ids: [ID!], $size: Int!) {{ items(ids: $ids, limit: $size) {{
    {FIELDS} of: board {{ state type }} }} }}"""
NEWS = """query($size: Int!, $page: Int!, $from: ISO8601DateTime, $newest: Int!) {
    boards(limit: $size, page: $page, state: all) { id state type
    activity_logs(from: $from, limit: $newest) { id } } }"""
LISTED = """query($size: Int!, $page: Int!) {
    boards(limit: $size, page: $page, state: all) { id state type } }"""
KNOWN = (
    "query($ids: [ID!], $size: Int!) { boards(ids: $ids, limit: $size, state: all) { id state } }"
)
LOG = """query($board: ID!, $from: ISO8601DateTime, $size: Int!, $page: Int!) {
    boards(ids: [$board], state: all) {
    activity_logs(from: $from, limit: $size, page: $page) {
    id event entity data user_id account_id created_at } } }"""

BOARD, SUBITEMS = "board", "sub_items_board"
Unfold = Callable[[Record], list[Record]]


@dataclass(frozen=True)
class Place(Position):
    """Where a board stands: until when its log was read, and the newest entries then. While it is
    read for the first time, the cursor of its next page; while its log is, the page and its end."""

    looked: str | None = None
    marks: Sequence[str] = ()
    cursor: str | None = None
    page: int = 1
    until: str | None = None


def itself(item: Record) -> list[Record]:
    return [item]


def values(item: Record) -> list[Record]:
    """The values of an item's columns, each with where it stands."""
    place = {"board_id": item["board"]["id"], "item_id": item["id"]}
    return [{**place, **value} for value in item["column_values"]]


def key_of(row: Record) -> str:
    """The key of an item, or of a value of one: with its board, whose rows go with it."""
    if "item_id" in row:
        return f"{row['board_id']}/{row['item_id']}/{row['id']}"
    return f"{row['board']['id']}/{row['id']}"


def of_boards(read: Callable[[str, Sequence[str]], Read], *types: str, prefix: bool = True) -> Read:
    """A stream of the boards of those types, of which each fails by itself."""

    def stream(at: Checkpoint, context: Context) -> Reader:
        saved = Round.of(at)
        marks: dict[str, Sequence[str]] = {}
        listed = Parts(())
        if not saved.todo:
            listed, marks, now = yield from _with_news(saved, types, context, ended=not prefix)
            known = {**saved.parts}
            for board in listed.kept:
                if board in known and board in marks:
                    known[board] = {**known[board], "looked": now.isoformat()}
            at = replace(saved, parts=known).saved()

        def listing(context: Context) -> Calls[Parts]:
            yield from ()
            return listed

        def of_board(board: str) -> Read:
            return read(board, marks.get(board, ()))

        under = (lambda board: f"{board}/") if prefix else None
        yield from each_part(listing, of_board, prefix=under)(at, context)

    return stream


def _with_news(
    saved: Round, types: Sequence[str], context: Context, *, ended: bool
) -> Calls[tuple[Parts, dict[str, Sequence[str]], datetime]]:
    """The boards that are to be read, the newest entries of each that is active, and when these
    were asked for. An archived board is no longer looked at; what was read of it stays. With
    `ended` every board counts."""
    stood = [state["looked"] for state in saved.parts.values() if state.get("looked")]
    oldest = min((datetime.fromisoformat(one) for one in stood), default=context.now)
    since = max(min(oldest, context.now), context.now - KEPT) - OVERLAP
    present: list[str] = []
    kept: list[str] = []
    marks: dict[str, Sequence[str]] = {}
    page, now = 1, context.now
    while True:
        asked = {"size": BOARDS, "page": page, "from": _iso(since), "newest": NEWEST}
        found, at = yield from _looked_at(asked)
        now = min(now, at)
        for board in found:
            id = str(board["id"])
            if board["type"] not in types or (board["state"] == "deleted" and not ended):
                continue
            if board["state"] != "active" and not ended:
                kept.append(id)
                continue
            if (newest := board.get("activity_logs")) is None:
                present.append(id)
                continue
            marks[id] = [entry["id"] for entry in newest]
            state = saved.parts.get(id, {})
            quiet = set(marks[id]) <= set(state.get("marks", ())) and _is_recent(state, context)
            (kept if quiet and id not in saved.failed else present).append(id)
        if len(found) < BOARDS:
            return Parts(present, kept, hidden=True, check=_asked_for), marks, now
        page += 1


def _looked_at(asked: dict[str, Any]) -> Calls[tuple[list[Record], datetime]]:
    """A page of boards, each with the newest entries of its log, and the vendor's time; without
    the entries where one board refuses, for then the whole query is refused."""
    try:
        response = yield from ask(graphql(NEWS, asked))
    except NotAllowedError:
        listed = {name: asked[name] for name in ("size", "page")}
        response = yield from ask(graphql(LISTED, listed))
    found: list[Record] = data_of(response)["boards"]
    return found, vendor_time(response)


def _is_recent(state: Mapping[str, Any], context: Context) -> bool:
    """Whether a board was read to its end, and its log since then is kept."""
    looked, under_way = state.get("looked"), state.get("cursor") or state.get("until")
    if not looked or under_way:
        return False
    return context.now - datetime.fromisoformat(looked) < KEPT


def _asked_for(boards: Sequence[str]) -> Calls[Parts]:
    """A listing by pages may pass over a board that moves while it is read."""
    present: list[str] = []
    kept: list[str] = []
    for ids in batches(boards, BOARDS):
        asked = {"ids": list(ids), "size": BOARDS}
        for board in data_of((yield from ask(graphql(KNOWN, asked))))["boards"]:
            if board["state"] != "deleted":
                (present if board["state"] == "active" else kept).append(str(board["id"]))
    return Parts(present, kept)


# -- Items ----------------------------------------------------------------------------------------


def items(unfold: Unfold) -> Callable[[str, Sequence[str]], Read]:
    def of_board(board: str, marks: Sequence[str]) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            stood = Place.of(at)
            ended = Place(context.now.isoformat(), marks)
            if stood.looked is None or stood.cursor:
                begun = stood if stood.cursor else ended
                yield from _whole(board, unfold, begun)
                return
            looked = datetime.fromisoformat(stood.looked)
            touched = None
            if context.now - looked < KEPT:
                touched, began = yield from _touched(board, looked - OVERLAP)
                ended = _no_later(ended, began)
            if touched is None:
                yield from _whole(board, unfold, ended, stood)
                return
            for ids in batches(touched, ITEMS):
                yield from _again(board, ids, unfold, stood.saved(), context.now)
            yield Page((), ended.saved())

        return read

    return of_board


def _whole(board: str, unfold: Unfold, place: Place, stood: Place | None = None) -> Reader:
    """All items of a board. Where it was read before (`stood`), what is not listed is gone, and
    an interrupted read begins again."""
    cursor, again, keys = place.cursor, False, set[str]()
    while True:
        try:
            response = yield from ask(_page_request(board, cursor))
        except CursorExpiredError:
            if cursor is None or again:
                raise
            cursor, again, keys = None, True, set()
            continue
        found = data_of(response)
        if cursor is None and not found["boards"]:
            raise NotAllowedError("monday.com does not show this board to who connected")
        page = found["next_items_page"] if cursor else found["boards"][0]["items_page"]
        place = place if place.cursor or cursor else _no_later(place, vendor_time(response))
        rows = [row for item in page["items"] for row in unfold(item)]
        keys |= {key_of(row) for row in rows}
        if not page["cursor"]:
            listed = [ListedKeys(f"{board}/", keys, response.sent_at)] if stood else ()
            yield Page(rows, replace(place, cursor=None).saved(), listed_keys=listed)
            return
        cursor = onward(cursor, page["cursor"])
        here = stood or replace(place, cursor=cursor)
        yield Page(rows, here.saved())


def _page_request(board: str, cursor: str | None) -> Any:
    if cursor is None:
        return graphql(FIRST, {"board": board, "size": ITEMS}, rows=ITEMS)
    return graphql(NEXT, {"cursor": cursor, "size": ITEMS}, rows=ITEMS)


def _no_later(place: Place, at: datetime) -> Place:
    """The place, looked at no later than that: of the vendor's clock and ours the one behind."""
    looked = datetime.fromisoformat(place.looked) if place.looked else at
    return replace(place, looked=min(looked, at).isoformat())


def _touched(board: str, since: datetime) -> Calls[tuple[list[str] | None, datetime]]:
    """The ids of items that the log names, and the vendor's time then; no ids where an entry is of
    the board as a whole: a column that is gone, or a group with its items."""
    ids: dict[str, None] = {}
    page, began = 1, datetime.max.replace(tzinfo=UTC)
    while True:
        entries, at = yield from _entries(board, since, page)
        began = min(began, at)
        for entry in entries:
            named = list(_items_in(entry))
            if not named and entry["entity"] == "board":
                return None, began
            ids |= dict.fromkeys(named)
        if len(entries) < ENTRIES:
            return list(ids), began
        page += 1


def _items_in(entry: Record) -> Iterator[str]:
    """The items that an entry is about; its data is JSON in a text."""
    data = json.loads(entry["data"])
    if data.get("pulse_id"):
        yield str(data["pulse_id"])
    for id in data.get("pulse_ids") or ():
        yield str(id)


def _entries(board: str, since: datetime | None, page: int) -> Calls[tuple[list[Record], datetime]]:
    """Newest first, up to now, and the vendor's time: what is new meanwhile only moves the others
    down."""
    asked = {"board": board, "from": _iso(since) if since else None}
    request = graphql(LOG, {**asked, "size": ENTRIES, "page": page})
    response = yield from ask(request)
    found = data_of(response)["boards"]
    if not found:
        raise NotAllowedError("monday.com does not show this board to who connected")
    entries: list[Record] = found[0]["activity_logs"]
    return entries, vendor_time(response)


def _live(ids: Sequence[str], *types: str, told: bool = False) -> Calls[list[Record]]:
    """Of those items the ones that a board of those types lists: not what is archived, deleted, or
    went with its board."""
    request = graphql(AGAIN, {"ids": list(ids), "size": len(ids)}, rows=len(ids), told=told)
    found = data_of((yield from ask(request)))["items"]
    live = []
    for one in found:
        board = one.pop("of")
        if one["state"] == "active" and board["state"] != "deleted" and board["type"] in types:
            live.append(one)
    return live


def _again(board: str, ids: Sequence[str], unfold: Unfold, at: Checkpoint, now: datetime) -> Reader:
    """Items that were touched, or what is in them; they may be on another board by now."""
    rows: dict[str, list[Record]] = {id: [] for id in ids}
    found = yield from _live(ids, BOARD, SUBITEMS)
    rows |= {one["id"]: unfold(one) for one in found if one["board"]["id"] == board}
    if unfold is itself:
        gone = sorted(f"{board}/{id}" for id in ids if not rows[id])
        yield Page([row for each in rows.values() for row in each], at, deleted=gone)
        return
    listed = [
        ListedKeys(f"{board}/{id}/", [key_of(row) for row in each], now)
        for id, each in rows.items()
    ]
    yield Page([row for each in rows.values() for row in each], at, listed_keys=listed)


def by_key(unfold: Unfold, *types: str) -> Callable[[Sequence[str], Context], Reader]:
    """Reads the items of those keys again, or the values of theirs; `board/item/` is all values of
    one. Only webhooks tell of keys."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        wanted: dict[str, set[str]] = {}
        for key in keys:
            wanted.setdefault(key.split("/")[1], set()).add(key)
        for ids in batches(list(wanted), ITEMS):
            asked = {key for id in ids for key in wanted[id]}
            whole = {key for key in asked if key.endswith("/")}
            items = yield from _live(ids, *types, told=True)
            rows = {key_of(row): row for one in items for row in unfold(one)}
            under = {place: [key for key in rows if key.startswith(place)] for place in whole}
            shown = asked.union(*under.values())
            yield Page(
                [row for key, row in rows.items() if key in shown],
                Checkpoint(),
                deleted=sorted(asked - whole - rows.keys()),
                listed_keys=[ListedKeys(p, held, context.now) for p, held in under.items()],
            )

    return fetch


# -- Logs -----------------------------------------------------------------------------------------


def log(board: str, marks: Sequence[str]) -> Read:
    """What a board's log has, or had since it was last read."""

    def read(stood: Checkpoint, context: Context) -> Reader:
        here = Place.of(stood)
        since = datetime.fromisoformat(here.looked) - OVERLAP if here.looked else None
        while True:
            entries, at = yield from _entries(board, since, here.page)
            if here.until is None:
                here = replace(here, until=min(at, context.now).isoformat(), marks=marks)
            if len(entries) < ENTRIES:
                yield Page(entries, Place(here.until, here.marks).saved())
                return
            here = replace(here, page=here.page + 1)
            yield Page(entries, here.saved())

    return read


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
