"""How Box is read: a walk through all folders once, then the person's stream of events.

Events say which item something happened to, twice at times and in any order: the item is read as
it is now. Of a folder that goes, only the folder is told, and nothing lists what was in it: all
folders are walked through again, once an hour at most.
https://developer.box.com/guides/events/user-events/for-user/ (2026-11)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    ListedKeys,
    Page,
    ProviderUnavailableError,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    Unread,
    ask,
)
from connectors.kernel.paging import Read, batches, mapped, rows_of
from connectors.kernel.parts import AWAY_IN_A_ROW, OF_A_PART, ask_each
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time

ROOT, LIMIT, EVENTS = "0", 1000, 500
# Events are kept for two weeks at least; the margin is for clocks that differ.
KEPT = timedelta(days=14) - timedelta(hours=1)
# How often all folders are walked through for what went with one, and what was refused is tried.
RHYTHM = timedelta(hours=1)
# Folders or items that are asked for at a time.
FOLDERS, ITEMS = 4, 100
# Records of one read of changes that are not stored twice.
REMEMBERED = 10_000
PLURAL = {"file": "files", "folder": "folders", "web_link": "web_links"}
# These change nothing.
LOOKED = ("ITEM_DOWNLOAD", "ITEM_PREVIEW", "ITEM_OPEN")
# With these a folder comes with all that is in it.
BROUGHT = ("ITEM_COPY", "ITEM_MOVE", "ITEM_UNDELETE_VIA_TRASH")
# Of other objects what stays the same: no event of the item tells that the rest has changed.
OF_OTHERS = dict.fromkeys(("parent", "item"), ("type", "id")) | dict.fromkeys(
    ("created_by", "modified_by", "owned_by", "accessible_by"), ("type", "id", "login")
)
# How often a link was followed changes without an event.
COUNTED = ("download_count", "preview_count")
Kinds = Literal["changes", "all"]


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where events are read on from, and when they were `asked` for last. When the walk began that
    all is from, and the folders it has `todo`, each with its marker after a blank. What was
    `refused` since when it was `tried`; whether something is `lost` that no event will name."""

    position: str = ""
    asked: str = ""
    walked: str = ""
    first: bool = False
    todo: Sequence[str] = ()
    refused: Mapping[str, dict[str, str]] = field(default_factory=dict)
    tried: str = ""
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is to be stored of some items."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    hidden: Sequence[str] = ()
    unsettled: Sequence[str] = ()
    listed_keys: Sequence[ListedKeys] = ()
    refused: Mapping[str, dict[str, str]] = field(default_factory=dict)
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a stream keeps of items of these types: themselves, or what is `under` each of them, of
    those whose field `marked` says that there is something."""

    types: tuple[str, ...]
    fields: str
    key: Callable[[str, str], str] = lambda type, id: f"{type}_{id}"
    under: str = ""
    marked: str = ""

    def key_of(self, record: Record) -> str:
        return under_key(record) if self.under else self.key(record["type"], record["id"])

    @property
    def params(self) -> dict[str, str]:
        return {"fields": self.fields}


def shaped(item: Record) -> Record:
    """An item without what changes untold."""
    kept = dict(item)
    for name, names in OF_OTHERS.items():
        if isinstance(kept.get(name), dict):
            kept[name] = {each: kept[name][each] for each in names if each in kept[name]}
    if isinstance(link := kept.get("shared_link"), dict):
        kept["shared_link"] = {name: link[name] for name in link if name not in COUNTED}
    return kept


def following(kind: Kind) -> Read:
    """The stream of that kind. Its position is taken before the first folder is listed."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if not here.position:
            here = Place(
                position=(yield from _now()), asked=_iso(context), walked=_iso(context),
                first=True, todo=[ROOT], tried=_iso(context),
            )  # fmt: skip
            yield Page((), here.saved())
        if here.first:
            yield from _walk(kind, here, context)
            return
        _check(here, context)
        yield from mapped(_changes(kind, here, context), only_new(kind))

    return read


def _changes(kind: Kind, here: Place, context: Context) -> Reader:
    """What was refused before, what events tell, and the folders that came by them."""
    here, refused = _tried(here, context)
    if refused:
        found = yield from _read(kind, dict.fromkeys(refused, ""), context)
        here = _noted(here, found)
        yield _page(found, here)
    here = yield from _told(kind, here, context)
    yield from _walk(kind, here, context)


def only_new(kind: Kind) -> Callable[[Page], Page]:
    """Leaves out what this read has stored already just as it is: a busy item is named by many
    pages of events, and pages that are all alike would count as a listing that does not end."""
    stored: dict[str, Record] = {}

    def rest(page: Page) -> Page:
        gone = {*page.deleted, *page.hidden}
        for listed in page.listed_keys:
            under = {key for key in stored if key.startswith(listed.prefix)}
            gone |= under - set(listed.keys)
        for key in gone:
            stored.pop(key, None)
        rows = {kind.key_of(row): row for row in page.records}
        new = {key: row for key, row in rows.items() if stored.get(key) != row}
        if len(stored) > REMEMBERED:
            stored.clear()
        stored.update(new)
        return replace(page, records=list(new.values()))

    return rest


def _check(here: Place, context: Context) -> None:
    """CheckpointExpiredError where all folders are to be walked through again."""
    if context.now - parse_time(here.asked) > KEPT:
        raise CheckpointExpiredError("Box keeps events for two weeks")
    if here.lost and not here.refused and context.now - parse_time(here.walked) >= RHYTHM:
        raise CheckpointExpiredError("something went at Box with what was in it")


def _tried(here: Place, context: Context) -> tuple[Place, list[tuple[str, str]]]:
    """What was refused is tried again: folders are walked through, other items read."""
    if not here.refused or context.now - parse_time(here.tried) < RHYTHM:
        return here, []
    parts = [_item(part) for part in here.refused]
    folders = [id for type, id in parts if type == "folder"]
    todo = list(dict.fromkeys([*here.todo, *folders]))
    return replace(here, refused={}, tried=_iso(context), todo=todo), parts


def _told(kind: Kind, here: Place, context: Context) -> Reading[Place]:
    """All that events tell. A page that is not full is no end, one without any is; a position that
    does not move is one, too (box/box-node-sdk#110, 2017-05: 0 where there is nothing new)."""
    while True:
        request = _events_from(here.position, "all")
        try:
            response = yield from ask(request)
        except ContractError as error:
            raise CheckpointExpiredError("Box does not know our place in its events") from error
        entries, position = rows_of(response, "entries"), _next(response)
        moved = bool(entries) and position not in ("", "0", "-1", here.position)
        touched, brought, lost = _touched(entries)
        found = yield from _read(kind, touched, context)
        todo = list(dict.fromkeys([*here.todo, *brought]))
        here = replace(here, todo=todo, lost=here.lost or lost, asked=_iso(context))
        here = _noted(replace(here, position=position) if moved else here, found)
        yield _page(found, here)
        if not moved:
            return here


def _touched(
    entries: Iterable[Record],
) -> tuple[dict[tuple[str, str], str], list[str], bool]:
    """The items that events name, each with what befell it at last; the folders that came with what
    is in them; whether something went that is not named. An item that was trashed and not brought
    back counts as trashed, in whichever order that came."""
    touched: dict[tuple[str, str], str] = {}
    brought, lost = list[str](), False
    for event in entries:
        if event["event_type"] in LOOKED:
            continue
        kind, source = str(event["event_type"]), event.get("source") or {}
        item = source if source.get("type") in PLURAL else source.get("item") or {}
        if item.get("type") not in PLURAL:
            # A deletion for good may name nothing.
            lost = lost or (kind.startswith(("ITEM_", "COLLAB_")) and not source)
            continue
        place = (str(item["type"]), str(item["id"]))
        if place not in touched or kind in ("ITEM_TRASH", "COLLAB_REMOVE_COLLABORATOR"):
            touched[place] = kind
        if place[0] == "folder":
            lost = lost or kind == "ITEM_TRASH"
            if kind in BROUGHT or kind.startswith("COLLAB_"):
                brought.append(place[1])
    return touched, brought, lost


def _read(kind: Kind, touched: Mapping[tuple[str, str], str], context: Context) -> Steps[Found]:
    """These items as they are now, or what is under them, each with the event that named it."""
    found = Found()
    wanted = [place for place in touched if place[0] in kind.types]
    for places in batches(wanted, ITEMS):
        if kind.under:
            found = _both(found, (yield from _all_under(kind, places)))
            continue
        answers = yield from ask_each([_one(kind, *place) for place in places])
        for place, answer in zip(places, answers, strict=True):
            found = _both(found, _become(kind, place, answer, touched[place]))
    return found


def _one(kind: Kind, type: str, id: str) -> Request:
    return Request.get(f"/{PLURAL[type]}/{id}", params=kind.params, expect=(404,))


def _become(kind: Kind, place: tuple[str, str], answer: Response | Exception, event: str) -> Found:
    """What has become of an item. One that is not found, though no event says that it went, may be
    too new to be shown."""
    if isinstance(answer, Exception):
        return Found(refused=_refusal("_".join(place), answer))
    if answer.status != 404:
        return Found(records=[shaped(answer.json)])
    key, is_folder = kind.key(*place), place[0] == "folder"
    if event == "ITEM_TRASH" or answer.json.get("code") == "trashed":
        return Found(deleted=[key], lost=is_folder)
    if event == "COLLAB_REMOVE_COLLABORATOR":
        return Found(hidden=[key], lost=is_folder)
    return Found(unsettled=[key])


def _all_under(kind: Kind, places: Sequence[tuple[str, str]]) -> Steps[Found]:
    """All that is under each of these items."""
    found = Found()
    answers = yield from ask_each([_under(kind, *place) for place in places])
    for place, answer in zip(places, answers, strict=True):
        part = "_".join(place)
        if isinstance(answer, Exception):
            found = _both(found, Found(refused=_refusal(part, answer)))
            continue
        rows = [] if answer.status == 404 else (yield from _rest(kind, place, answer))
        # Of collaborations those that a folder above hands down are shown, too. A file and a folder
        # may have one number.
        own = [row for row in rows if _is_of(row.get("item"), place)]
        records = [{**shaped(row), "item_type": place[0], "item_id": place[1]} for row in own]
        keys = [under_key(row) for row in records]
        listing = ListedKeys(f"{part}/", keys, answer.sent_at)
        found = _both(found, Found(records=records, listed_keys=[listing]))
    return found


def _is_of(item: Record | None, place: tuple[str, str]) -> bool:
    """Whether a row's item is the one that was asked about; some rows do not say it."""
    return not item or (item.get("type", place[0]), item["id"]) == place


def under_key(row: Record) -> str:
    return f"{row['item_type']}_{row['item_id']}/{row['id']}"


def _under(kind: Kind, type: str, id: str, **more: Any) -> Request:
    params = {"limit": LIMIT, **more}
    return Request.get(f"/{PLURAL[type]}/{id}/{kind.under}", params=params, expect=(404,))


def _rest(kind: Kind, place: tuple[str, str], answer: Response) -> Calls[list[Record]]:
    """All pages of what is under an item: by marker, or by offset where there is a total."""
    rows = rows_of(answer, "entries")
    while True:
        body = answer.json
        # By the limit that was kept, not by what came: rows may be held back.
        offset = body.get("offset", 0) + body.get("limit", LIMIT)
        more: dict[str, Any] = {}
        if marker := body.get("next_marker"):
            more = {"marker": marker}
        elif "offset" in body and offset < body["total_count"]:
            more = {"offset": offset}
        if not more:
            return rows
        answer = yield from ask(_under(kind, *place, **more))
        rows += rows_of(answer, "entries") if answer.status != 404 else []


def fetcher(kind: Kind) -> Callable[[Sequence[str], Context], Reader]:
    """Reads items of these keys again; what Box does not show is gone."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        # The key of what is under an item begins with the item's.
        parts = dict.fromkeys(key.partition("/")[0] for key in keys)
        places = [_item(part if "_" in part else f"{kind.types[0]}_{part}") for part in parts]
        found = yield from _read(kind, dict.fromkeys(places, "ITEM_TRASH"), context)
        for refused in found.refused.values():
            raise _error(refused)
        # What is under an item comes as a whole: only what was asked for is told.
        records = {kind.key_of(row): row for row in found.records}
        gone = [key for key in keys if key not in records]
        yield Page([records[key] for key in keys if key in records], Checkpoint(), deleted=gone)

    return fetch


# -- The walk -------------------------------------------------------------------------------------


def _walk(kind: Kind, here: Place, context: Context) -> Reader:
    """Lists the folders that are to be listed, and those in them. One that refuses is kept apart;
    while one does, nothing of the stream counts as gone because it was not listed."""
    away = 0
    while here.todo:
        asked = here.todo[:FOLDERS]
        answers = yield from ask_each([_listed(kind, each) for each in asked])
        again, items, refused, lost = list[str](), list[Record](), dict[str, Any](), False
        for each, answer in zip(asked, answers, strict=True):
            folder, _, marker = each.partition(" ")
            if isinstance(answer, Exception):
                away = away + 1 if isinstance(answer, ProviderUnavailableError) else 0
                if folder == ROOT or away >= AWAY_IN_A_ROW:
                    raise answer
                refused |= _refusal(f"folder_{folder}", answer)
                continue
            away = 0
            if answer.status == 400:  # its marker lapsed
                again.append(folder)
            elif answer.status == 404:
                lost = not here.first
            else:
                rows = rows_of(answer, "entries")
                items += rows
                if following := answer.json.get("next_marker"):
                    again.append(f"{folder} {_onward(marker, following)}")
                again += [row["id"] for row in rows if row["type"] == "folder"]
        here = replace(here, todo=list(dict.fromkeys([*again, *here.todo[FOLDERS:]])))
        found = _both(Found(refused=refused, lost=lost), (yield from _of_items(kind, items, here)))
        here = _noted(here, found)
        if here.todo:
            yield _page(found, here)
        else:
            unseen = [""] if here.first and here.refused else []
            # While something refuses, a walk cannot say what is gone: another one will.
            here = replace(here, first=False, lost=here.lost or bool(unseen))
            yield replace(_page(found, here), unread=_unread(here), unseen=unseen)
            return
    yield Page((), here.saved(), unread=_unread(here))


def _listed(kind: Kind, place: str) -> Request:
    folder, _, marker = place.partition(" ")
    params: dict[str, Any] = {**kind.params, "usemarker": True, "limit": LIMIT}
    if marker:
        params["marker"] = marker
    return Request.get(
        f"/folders/{folder}/items", params=params, expect=(400, 404) if marker else (404,)
    )


def _onward(marker: str, following: str) -> str:
    if following == marker:
        raise ContractError("Box's listing of a folder does not go on")
    return following


def _of_items(kind: Kind, items: Iterable[Record], here: Place) -> Steps[Found]:
    """What the stream keeps of items that were listed."""
    kept = [item for item in items if item["type"] in kind.types]
    if not kind.under:
        return Found(records=[shaped(item) for item in kept])
    found = Found()
    # One that is not marked has nothing, and is asked about only where it might have had.
    asked = [
        (item["type"], item["id"])
        for item in kept
        if not here.first or not kind.marked or item.get(kind.marked)
    ]
    for places in batches(asked, ITEMS):
        found = _both(found, (yield from _all_under(kind, places)))
    return found


# -- Events ---------------------------------------------------------------------------------------


def log(at: Checkpoint, context: Context) -> Reader:
    """The events themselves, from the oldest that Box keeps."""
    position, told = Place.of(at).position or "0", True
    while told:
        try:
            response = yield from ask(_events_from(position, "changes"))
        except ContractError as error:
            if not at:
                raise
            raise CheckpointExpiredError("Box does not know our place in its events") from error
        entries, following = rows_of(response, "entries"), _next(response)
        told = bool(entries) and following not in ("", "0", "-1", position)
        position = following if told else position
        once = {event["event_id"]: event for event in entries}
        yield Page(list(once.values()), Place(position=position).saved())


def _events_from(position: str, kinds: Kinds) -> Request:
    params = {"stream_type": kinds, "stream_position": position, "limit": EVENTS}
    return Request.get("/events", params=params)


def _now() -> Calls[str]:
    return _next((yield from ask(_events_from("now", "all"))))


def _next(response: Response) -> str:
    """A number or a text: it has more digits than some numbers can hold."""
    return str(response.json["next_stream_position"])


# -- What could not be read -----------------------------------------------------------------------


def _refusal(part: str, error: Exception) -> dict[str, dict[str, str]]:
    return {part: {"kind": type(error).__name__, "error": str(error)}}


def _error(refused: Mapping[str, str]) -> Any:
    kinds = {kind.__name__: kind for kind in OF_A_PART}
    return kinds.get(refused["kind"], ContractError)(refused["error"])


def _unread(here: Place) -> list[Unread]:
    return [Unread(part, _error(refused)) for part, refused in here.refused.items()]


def _noted(here: Place, found: Found) -> Place:
    """What was read is refused no more, what was refused now is."""
    return replace(here, refused={**here.refused, **found.refused}, lost=here.lost or found.lost)


def _page(found: Found, here: Place) -> Page:
    return Page(
        found.records, here.saved(), deleted=found.deleted, hidden=found.hidden,
        unsettled=found.unsettled, listed_keys=found.listed_keys,
    )  # fmt: skip


def _both(one: Found, other: Found) -> Found:
    return Found(
        records=[*one.records, *other.records],
        deleted=[*one.deleted, *other.deleted],
        hidden=[*one.hidden, *other.hidden],
        unsettled=[*one.unsettled, *other.unsettled],
        listed_keys=[*one.listed_keys, *other.listed_keys],
        refused={**one.refused, **other.refused},
        lost=one.lost or other.lost,
    )


def _item(part: str) -> tuple[str, str]:
    type, _, id = part.rpartition("_")
    return type, id


def _iso(context: Context) -> str:
    return context.now.isoformat()
