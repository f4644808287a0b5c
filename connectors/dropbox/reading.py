"""Reads what is in a Dropbox by the cursor of its root, and lists what it shares.

https://www.dropbox.com/developers/documentation/http/documentation#files-list_folder-continue

A deleted entry names a path and no id, and stands for all that was under it. So a row of `files` is
a path: a rename in other letters changes its row, a file that takes a path over takes the row over,
and a move is the end of one row and the beginning of another, with the same id in it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
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
    Request,
    Response,
    Steps,
    Unread,
    ask,
    ask_all,
)
from connectors.dropbox.errors import NotThereError, classify
from connectors.kernel.paging import Read, batches, onward, rows_of
from connectors.kernel.parts import Parts, each_part

# Dropbox gives up to 2,000 entries; smaller pages come sooner, and less is read again.
LISTED, REVISED = 300, 100
# Files whose revisions are asked for side by side.
AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a reader stands: the namespace that its paths begin in, and the cursor of what comes
    next, which is good for that namespace alone."""

    root: str = ""
    cursor: str = ""


def post(route: str, root: str = "", /, **arguments: Any) -> Request:
    """A call of a route that takes arguments, of paths under that root."""
    headers = {}
    if root:
        headers["dropbox-api-path-root"] = json.dumps({".tag": "root", "root": root})
    return Request.post(route, json=arguments, headers=headers)


def bare(route: str) -> Request:
    """A call of a route that takes none: it has no body, for Dropbox refuses `{}` there."""
    return Request.post(route)


def root_of() -> Calls[str]:
    """The namespace in which the account finds everything: that of its team, where it has a team
    space. Without it the folders of the team would not be shown."""
    account = (yield from ask(bare("/users/get_current_account"))).json
    return str(account["root_info"]["root_namespace_id"])


def files(at: Checkpoint, context: Context) -> Reader:
    """All files and folders, and from then on what changes."""
    here = Place.of(at)
    while True:
        known, (here, response) = here, (yield from _next(here, LISTED))
        page = _applied(rows_of(response, "entries"), here, response.sent_at)
        # Nothing is under anything before the first page of all.
        yield page if known.cursor else replace(page, listed_keys=())
        if not response.json["has_more"]:
            return


def revisions(at: Checkpoint, context: Context) -> Reader:
    """Whatever file was ever at a path, for each path that something is told of: Dropbox shows the
    revisions of a deleted file, too, for as long as the plan keeps them."""
    here = Place.of(at)
    while True:
        here, response = yield from _next(here, REVISED)
        entries = rows_of(response, "entries")
        told = [entry.get("path_lower") for entry in entries if entry[".tag"] != "folder"]
        found: list[Record] = []
        refused: list[Unread] = []
        for paths in batches(list(dict.fromkeys(filter(None, told))), AT_ONCE):
            yield from _revisions(paths, here.root, found, refused)
        yield Page(found, here.saved(), unread=refused or None)
        if not response.json["has_more"]:
            return


def _next(here: Place, size: int) -> Calls[tuple[Place, Response]]:
    """The next page of entries, and the place after it."""
    if here.cursor:
        asked = post("/files/list_folder/continue", here.root, cursor=here.cursor)
    else:
        here = Place(root=(yield from root_of()))
        asked = post("/files/list_folder", here.root, path="", recursive=True, limit=size)
    response = yield from ask(asked)
    cursor = response.json["cursor"]
    if response.json["has_more"]:
        onward(here.cursor, cursor)
    return replace(here, cursor=cursor), response


def _applied(entries: Sequence[Record], here: Place, at: datetime) -> Page:
    """What is at each path once the entries were applied, in the order in which they stand."""
    held: dict[str, Record] = {}
    above: set[str] = set()
    cleared: dict[str, None] = {}
    for entry in entries:
        path = entry.get("path_lower")
        if not path:
            continue  # it is not mounted: no path leads to it
        if entry[".tag"] != "folder":
            # A file has nothing under it, and may stand where a folder did.
            for below in _below(path, held) if path in above else ():
                del held[below]
            cleared[path] = None
        held[path] = entry
        above.update(_parents(path))
    live = {path: entry for path, entry in held.items() if entry[".tag"] != "deleted"}
    gone = [path for path, entry in held.items() if entry[".tag"] == "deleted"]
    emptied = [
        ListedKeys(f"{path}/", _below(path, live) if path in above else (), at) for path in cleared
    ]
    return Page(list(live.values()), here.saved(), deleted=gone, listed_keys=emptied)


def _below(path: str, paths: Iterable[str]) -> list[str]:
    return [each for each in paths if each.startswith(f"{path}/")]


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _revisions(
    paths: Sequence[str], root: str, found: list[Record], refused: list[Unread]
) -> Steps[None]:
    """Adds all revisions at those paths, the newest first, and the paths that are not shown."""
    todo: dict[str, str | None] = dict.fromkeys(paths)
    while todo:
        asked = [
            replace(
                post("/files/list_revisions", root, path=path, limit=REVISED, before_rev=rev)
                if rev
                else post("/files/list_revisions", root, path=path, limit=REVISED),
                expect=(409,),
            )
            for path, rev in todo.items()
        ]
        following: dict[str, str | None] = {}
        for (path, rev), answer in zip(todo.items(), (yield from ask_all(asked)), strict=True):
            if isinstance(error := classify(answer), NotThereError):
                continue  # a folder that was deleted, or a file that was so for good
            if isinstance(error, NotAllowedError):
                refused.append(Unread(path, error))
                continue
            if error:
                raise error
            found += (rows := rows_of(answer, "entries"))
            if answer.json["has_more"]:
                following[path] = onward(rev, rows[-1]["rev"])
        todo = following


def listing(path: str, onto: str, records: str, *, rooted: bool = False, **arguments: Any) -> Read:
    """A listing that is read whole each time, each page by the cursor of the one before."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if rooted and not here.root:
            here = replace(here, root=(yield from root_of()))
        while True:
            if here.cursor:
                asked = post(onto, here.root, cursor=here.cursor)
            else:
                asked = post(path, here.root, **arguments)
            response = yield from ask(asked)
            rows = rows_of(response, records)
            # Some listings say that there is more, others by a cursor that there is.
            following = response.json.get("cursor") if response.json.get("has_more", True) else ""
            if not following:
                yield Page(rows, Checkpoint())
                return
            here = replace(here, cursor=onward(here.cursor, following))
            yield Page(rows, here.saved())

    return read


def one(path: str) -> Read:
    """A single record: what the account, or the plan, is."""

    def read(at: Checkpoint, context: Context) -> Reader:
        yield Page([(yield from ask(bare(path))).json], Checkpoint())

    return read


def shared_folders() -> Calls[list[str]]:
    found: list[str] = []
    asked = post("/sharing/list_folders", limit=1_000)
    while True:
        response = yield from ask(asked)
        found += [folder["shared_folder_id"] for folder in rows_of(response, "entries")]
        if not (cursor := response.json.get("cursor")):
            return found
        asked = post("/sharing/list_folders/continue", cursor=cursor)


def _folders(context: Context) -> Calls[Parts]:
    return Parts((yield from shared_folders()))


def _members(folder: str) -> Read:
    """Who may see a shared folder: people, groups, and those who were invited to it."""

    def read(at: Checkpoint, context: Context) -> Reader:
        found: dict[str, Record] = {}
        asked = post("/sharing/list_folder_members", shared_folder_id=folder, limit=1_000)
        cursor = ""
        while True:
            try:
                response = yield from ask(asked)
            except NotThereError:  # it was left since it was listed; the next round ends it
                yield Page((), Checkpoint())
                return
            for kind in ("users", "groups", "invitees"):
                for row in rows_of(response, kind):
                    member = {"shared_folder_id": folder, "kind": kind[:-1], **row}
                    found[member_key(member)] = member
            if not (following := response.json.get("cursor")):
                break
            cursor = onward(cursor, following)
            asked = post("/sharing/list_folder_members/continue", cursor=cursor)
        yield Page(list(found.values()), Checkpoint())

    return read


def member_key(row: Record) -> str:
    match row["kind"]:
        case "user":
            who = row["user"]["account_id"]
        case "group":
            who = row["group"]["group_id"]
        case _:
            who = row["invitee"].get("email") or row["invitee"]["other"]
    return f"{row['shared_folder_id']}/{row['kind']}/{who}"


folder_members = each_part(_folders, _members, prefix=lambda folder: f"{folder}/", alone=True)
