"""How the records of a HubSpot portal are read: listed once, then searched by when they changed.

The search index is used for ids only, and each record is then read by its id: the index may show a
change up to an hour late (estuary/connectors#1861, 2024-08), and a record that is archived already.
No search shows archived records, and their listing knows no filter: a long one is read once a day,
and webhooks tell of deletions in between.
https://developers.hubspot.com/docs/api-reference (version 2026-03)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Checkpoint,
    Context,
    Page,
    ProviderUnavailableError,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    ask,
    ask_all,
)
from connectors.kernel.looks import Look, Looks
from connectors.kernel.paging import Read, ask_page, onward, rows_of
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import EPOCH, MILLISECOND, epoch_ms, find

LIST_PAGE, LEAST_PAGE = 100, 10
SEARCH_PAGE = 200
BATCH = 100
NEXT = ("paging", "next", "after")
LOOKS = Looks()
# A listing of archived records of no more pages than this is read at every look.
FEW_PAGES = 5
ARCHIVED_EVERY = timedelta(days=1)


def reader(path: str, names: list[str], changed: str) -> Read:
    """Reads a kind of CRM object; `changed` names the property with the time of the last change.

    The checkpoint of a listing under way is {"page", "limit", "started"}, that of a look what
    `_looks` saves, with {"phase", "after_id", "after"}; in between it is the last look, and under
    "archived" when the archived ones were listed, and how many pages that took.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        at = _renewed(at)
        if "looked" in at or "looking" in at:
            yield from _delta(path, names, changed, at, context)
        else:
            yield from _backfill(path, names, at, context)

    return read


def window(since: datetime) -> Checkpoint:
    """Where a look begins that finds all that changed since then."""
    return Checkpoint(looked=since.isoformat())


def fetcher(path: str, names: list[str]) -> Callable[[Sequence[str], Context], Reader]:
    """Reads records of these ids."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for some in _slices(keys, SEARCH_PAGE):
            yield (yield from _by_id(path, some, names))

    return fetch


def owners_reader(path: str) -> Read:
    """The users of the portal. Few, and without a filter by time: read whole every time.

    Those who left are listed by themselves; deals go on naming them, so they are kept as archived.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        if at.get("phase") != "archived":
            yield from _pages(path, {}, at, _owners_page({}, {"phase": "archived"}))
            at = Checkpoint()
        yield from _pages(path, {"archived": True}, at, _owners_page({"phase": "archived"}, {}))

    return read


# Makes the page of some rows, of the place where the listing goes on (None: it has ended), and of
# the answer that showed them (None: there was none).
MakePage = Callable[[list[Record], Mapping[str, Any] | None, Response | None], Page]


def _pages(path: str, params: Mapping[str, Any], at: Checkpoint, page: MakePage) -> Reader:
    """A listing, page by page.

    A full page of some portals is more than HubSpot can answer: 500, each time, and smaller ones
    come (singer-io/tap-hubspot#234, 2023-07). So the next try asks for half of it.
    """
    place = {name: at[name] for name in ("page", "limit") if name in at}
    known = "page" not in place
    while True:
        limit = place.get("limit", LIST_PAGE)
        asked = {**params, "limit": limit, **({"after": place["page"]} if "page" in place else {})}
        try:
            response = yield from ask_page(Request.get(path, params=asked), resumed=not known)
        except ProviderUnavailableError:
            if limit > LEAST_PAGE:
                yield page([], {**place, "limit": max(limit // 2, LEAST_PAGE)}, None)
            raise
        rows, following = rows_of(response, "results"), find(response.json, NEXT)
        if following is None:
            yield page(rows, None, response)
            return
        place, known = {**place, "page": onward(place.get("page"), following)}, True
        yield page(rows, place, response)


def _owners_page(kept: Mapping[str, Any], done: Mapping[str, Any]) -> MakePage:
    return lambda rows, place, response: Page(
        rows, Checkpoint(done if place is None else {**kept, **place})
    )


def _backfill(path: str, names: list[str], at: Checkpoint, context: Context) -> Reader:
    started: str | None = at.get("started")

    def page(
        rows: list[Record], place: Mapping[str, Any] | None, response: Response | None
    ) -> Page:
        nonlocal started
        if started is None and response is not None:
            started = _vendors_now(response, context).isoformat()
        if place is None:
            return Page(rows, Checkpoint(looked=started, late=started))
        kept = {} if started is None else {"started": started}
        return Page(rows, Checkpoint({**place, **kept}))

    yield from _pages(path, {"properties": ",".join(names)}, at, page)


def _delta(path: str, names: list[str], changed: str, at: Checkpoint, context: Context) -> Reader:
    look = Look.resumed(at) if "looking" in at else LOOKS.begin(at, context.now)
    archived: Mapping[str, Any] = at.get("archived") or {}
    if at.get("phase") != "archived":
        look = yield from _search(path, names, changed, look, at, archived, context)
        at = Checkpoint()
    if _is_due(archived, look.looked):
        yield from _archived(path, look, at, archived)


def _search(
    path: str,
    names: list[str],
    changed: str,
    look: Look,
    at: Checkpoint,
    archived: Mapping[str, Any],
    context: Context,
) -> Reading[Look]:
    """All that changed since the look begins; the look, by the vendor's clock.

    A query pages no further than 10,000 hits, so each page is a query of its own: by id, from the
    last id on. A record that is changed meanwhile keeps its place in that order. A page may be
    empty though others follow it (airbytehq/airbyte#80745, 2026-06): then the same query goes on.
    """
    after_id, after = at.get("after_id"), at.get("after", "0")
    fresh = "looking" not in at
    while True:
        query = _query(changed, look, after_id, after)
        response = yield from ask(Request.post(f"{path}/search", json=query, budget="search"))
        if fresh:
            now = _vendors_now(response, context)
            look = replace(look, looked=min(look.looked, now), late=min(look.late, now))
            fresh = False
        ids = [str(row["id"]) for row in rows_of(response, "results")]
        following = find(response.json, NEXT)
        page = yield from _by_id(path, ids, names)
        scan = Checkpoint({**look.saved, "archived": dict(archived)})
        if following is None:
            scan["phase"] = "archived"
            ended = Checkpoint({**look.checkpoint, "archived": dict(archived)})
            done = scan if _is_due(archived, look.looked) else ended
            yield replace(page, checkpoint=done)
            return look
        if ids:
            after_id, after = str(max(map(int, ids))), "0"
        else:
            after = onward(after, following)
        if after_id is not None:
            scan["after_id"] = after_id
        yield replace(page, checkpoint=Checkpoint(scan, after=after))


def _query(changed: str, look: Look, after_id: str | None, after: str) -> dict[str, Any]:
    since = str(epoch_ms(look.since or EPOCH))
    filters = [{"propertyName": changed, "operator": "GTE", "value": since}]
    if after_id is not None:
        following = str(int(after_id) + 1)
        filters.append({"propertyName": "hs_object_id", "operator": "GTE", "value": following})
    return {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": ["hs_object_id"],
        "limit": SEARCH_PAGE,
        "after": after,
    }


def _by_id(path: str, ids: Sequence[str], names: list[str]) -> Steps[Page]:
    """The records of these ids as they are now, on a page without a checkpoint."""
    batches = yield from ask_all(
        Request.post(
            f"{path}/batch/read",
            json={"inputs": [{"id": id_} for id_ in some], "properties": names},
        )
        for some in _slices(ids, BATCH)
    )
    rows = [row for answer in batches for row in rows_of(answer, "results")]
    found = {str(row["id"]) for row in rows}
    # What a batch leaves out is asked for by itself: only a 404 says that it is gone, and another
    # record that it was merged into that one.
    left = [id_ for id_ in ids if id_ not in found]
    params = {"properties": ",".join(names)}
    answers = yield from ask_all(
        Request.get(f"{path}/{quote(id_, safe='')}", params=params, expect=(404,)) for id_ in left
    )
    gone, merged = [], {}
    for id_, answer in zip(left, answers, strict=True):
        if answer.status == 404:
            gone.append(id_)
            continue
        rows.append(answer.json)
        if (survivor := str(answer.json["id"])) != id_:
            merged[id_] = survivor
    return Page(rows, Checkpoint(), deleted=gone, merged=merged)


def _archived(path: str, look: Look, at: Checkpoint, archived: Mapping[str, Any]) -> Reader:
    """Deletes: a whole listing of what is archived."""
    count = at.get("pages", 0)

    def page(
        rows: list[Record], place: Mapping[str, Any] | None, response: Response | None
    ) -> Page:
        nonlocal count
        count += response is not None
        if place is None:
            listed = {"looked": look.looked.isoformat(), "pages": count}
            checkpoint = Checkpoint({**look.checkpoint, "archived": listed})
        else:
            kept = {"phase": "archived", "pages": count, "archived": dict(archived)}
            checkpoint = Checkpoint({**look.saved, **kept, **place})
        return Page((), checkpoint, deleted=[str(row["id"]) for row in rows])

    yield from _pages(path, {"archived": True}, at, page)


def _is_due(archived: Mapping[str, Any], now: datetime) -> bool:
    if not archived or archived["pages"] <= FEW_PAGES:
        return True
    return now - datetime.fromisoformat(archived["looked"]) >= ARCHIVED_EVERY


def _vendors_now(response: Response, context: Context) -> datetime:
    return min(context.now, vendor_time(response))


def _renewed(at: Checkpoint) -> Checkpoint:
    """A checkpoint as it was written until 2026-11, in the form of today."""
    if isinstance(since := at.get("since"), int):
        return window(EPOCH + since * MILLISECOND)
    if isinstance(started := at.get("started"), int):
        return Checkpoint({**at, "started": (EPOCH + started * MILLISECOND).isoformat()})
    return at


def _slices(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), size):
        yield keys[first : first + size]
