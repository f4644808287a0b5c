"""How a mailbox is read: its messages and threads listed once, then derived from the history.

https://developers.google.com/workspace/gmail/api/guides/sync
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    ask,
    ask_all,
    column,
    columns,
)
from connectors.kernel.paging import LAPSED, ask_page, batches, cursor_pages, rows_of
from connectors.kernel.parts import ask_each
from connectors.kernel.positions import Position
from connectors.kernel.versions import integer

USER = "/users/me"
PAGE = 500
# Details are fetched and handed on so many at a time: a message may have some megabytes.
DETAILS = 50
# Quota units that a call costs: those of a message and a thread by Google's table of 2026, the
# others by the one before.
PROFILE, HISTORY, LABELS, MESSAGE, THREAD, WATCH = 1, 2, 1, 20, 40, 100
LIST = {"messages": 5, "threads": 10}
KINDS = ("messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved")


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a mailbox stands: at a page of its history since `history_id`; in the first listing at
    a page of that, which the history since `start` follows."""

    start: str = ""
    history_id: str = ""
    page: str | None = None


# The requests for the details of those ids.
Details: TypeAlias = Callable[[Sequence[str]], tuple[Request, ...]]


def mailbox_stream(name: str, *, detail: str, cost: int, changed: str, title: str) -> Stream:
    """Messages or threads: listed once, then derived from the history.

    `changed` names the field of a message, in the history, that says what to fetch again.
    """
    path = f"{USER}/{name}"

    def details(ids: Sequence[str]) -> tuple[Request, ...]:
        return tuple(
            Request.get(
                f"{path}/{quote(one, safe='')}", params={"format": detail}, cost=cost, expect=(404,)
            )
            for one in ids
        )

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if here.history_id:
            yield from _delta(here, details, changed)
        else:
            yield from _backfill(_list(name), here, details)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for chunk in batches(keys, DETAILS):
            answers = dict(zip(chunk, (yield from ask_all(details(chunk))), strict=True))
            gone = [one for one, answer in answers.items() if answer.status == 404]
            found = [answer.json for answer in answers.values() if answer.status != 404]
            yield Page(found, Checkpoint(), deleted=gone)

    return Stream(
        name=name,
        title=title,
        read=read,
        fetch=fetch,
        listing=cursor_pages(
            _list(name), records=name, cursor="nextPageToken", param="pageToken", sparse=True
        ),
        version=integer("historyId"),
        columns={
            "history_id": column("historyId", "bigint"),
            **(COLUMNS if name == "messages" else {}),
        },
    )


COLUMNS = columns(
    "snippet thread_id=threadId label_ids=labelIds:jsonb internal_date_ms=internalDate:bigint "
    "size_bytes=sizeEstimate:bigint mime_type=payload.mimeType headers=payload.headers:jsonb"
)


def _list(name: str) -> Request:
    # Trash and spam are labels: without them a message would vanish here, not in the history.
    params = {"maxResults": PAGE, "includeSpamTrash": True}
    return Request.get(f"{USER}/{name}", params=params, cost=LIST[name])


def _backfill(listing: Request, here: Place, details: Details) -> Reader:
    if not here.start:
        # Taken before the listing: what happens meanwhile is in the history after it.
        here = Place(start=(yield from profile())["historyId"])
    known = here.page is None
    while True:
        params = {**listing.params, **({"pageToken": here.page} if here.page else {})}
        response = yield from ask_page(replace(listing, params=params), resumed=not known)
        records = listing.path.rpartition("/")[2]
        ids = [row["id"] for row in rows_of(response, records, sparse=True)]
        page = response.json.get("nextPageToken")
        after = replace(here, page=page) if page else Place(history_id=here.start)
        yield from _details(ids, details, here, after)
        if not page:
            return
        here, known = after, True


def _details(
    ids: Sequence[str],
    details: Details,
    here: Place,
    after: Place,
    deleted: Sequence[str] = (),
    doomed: Collection[str] = (),
) -> Reader:
    """The records of those ids, in pages; only the last of them moves the checkpoint.

    One that Gmail names and does not show is read again some minutes later: after a push it may
    take seconds until it can be read (byeokim/gmailpush#10, 2020-12). Of the `doomed` the history
    names a deletion last: they are gone.
    """
    for first in range(0, len(ids), DETAILS):
        chunk = ids[first : first + DETAILS]
        answers = dict(zip(chunk, (yield from ask_each(details(chunk))), strict=True))
        found = [one.json for one in answers.values() if isinstance(one, Response) and _is(one)]
        away = [key for key, one in answers.items() if isinstance(one, Exception) or not _is(one)]
        last = first + DETAILS >= len(ids)
        yield Page(
            found,
            (after if last else here).saved(),
            deleted=[*(deleted if last else ()), *(key for key in away if key in doomed)],
            unsettled=[key for key in away if key not in doomed],
        )
    if not ids:
        yield Page((), after.saved(), deleted=deleted)


def _is(response: Response) -> bool:
    return response.status != 404


def _delta(here: Place, details: Details, changed: str) -> Reader:
    while True:
        response = yield from _history(here)
        if response is None:
            here = replace(here, page=None)  # only the page has lapsed
            continue
        # What we read again, and whether a deletion is the last change that the history names.
        ids: dict[str, bool] = {}
        deleted: dict[str, None] = {}
        for kind, message in _changes(rows_of(response, "history", sparse=True)):
            one = message[changed]
            gone = kind == "messagesDeleted"
            if gone and changed == "id":
                deleted[one] = None
            else:
                ids[one] = gone
        after = _after(here, response)
        alive = [one for one in ids if one not in deleted]
        doomed = [one for one in alive if ids[one]]
        yield from _details(alive, details, here, after, list(deleted), doomed)
        if not after.page:
            return
        here = after


def _changes(records: list[Record]) -> Iterator[tuple[str, Record]]:
    """Each change of a message: its kind, and the message as far as the history shows it. Some
    records only name messages, and not what happened to them."""
    for record in records:
        changes = [(kind, change["message"]) for kind in KINDS for change in record.get(kind, ())]
        yield from changes or [("messages", message) for message in record.get("messages", ())]


def history(at: Checkpoint, context: Context) -> Reader:
    """The changes of the mailbox from our first read on. A gap that Gmail no longer knows stays."""
    here = Place.of(at)
    if not here.history_id:
        here = Place(history_id=(yield from profile())["historyId"])
        yield Page((), here.saved())
    while True:
        response = yield from _history(here)
        if response is None:
            here = replace(here, page=None)
            continue
        here = _after(here, response)
        yield Page(rows_of(response, "history", sparse=True), here.saved())
        if not here.page:
            return


def labels(at: Checkpoint, context: Context) -> Reader:
    """All labels, in one answer; what a label counts is not in it."""
    response = yield from ask(Request.get(f"{USER}/labels", cost=LABELS))
    yield Page(rows_of(response, "labels", sparse=True), Checkpoint())


def _history(here: Place) -> Calls[Response | None]:
    """A page of the history; None where only the page has lapsed.

    Of a mailbox in which nothing happens, the history id is in the end too old for its own history
    (gauteh/lieer#203, 2021-09): as long as it is the mailbox's, there is nothing new.
    """
    params: dict[str, Any] = {"startHistoryId": here.history_id, "maxResults": PAGE}
    expect: tuple[int, ...] = (404,)
    if here.page is not None:
        params["pageToken"], expect = here.page, LAPSED
    response = yield from ask(
        Request.get(f"{USER}/history", params=params, cost=HISTORY, expect=expect)
    )
    if response.status == 404:
        now = (yield from profile())["historyId"]
        if int(now) != int(here.history_id):
            raise CheckpointExpiredError("Gmail no longer keeps the history that far back")
        return replace(response, status=200, json={"historyId": here.history_id})
    return response if response.status == 200 else None


def _after(here: Place, response: Response) -> Place:
    page = response.json.get("nextPageToken")
    return replace(here, page=page) if page else Place(history_id=response.json["historyId"])


def profile() -> Calls[Record]:
    response = yield from ask(Request.get(f"{USER}/profile", cost=PROFILE))
    profile: Record = response.json
    return profile
