"""How the records of a HubSpot portal are read: listed once, then searched by when they changed.

The search index is used for ids only, and each record is then read by its id: the index may show a
change up to an hour late (estuary/connectors#1861, 2024-08), and a record that is archived already.
No search shows archived records, and their listing knows no filter: a long one is read once a day,
and webhooks tell of deletions in between.
https://developers.hubspot.com/docs/api-reference (version 2026-03)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from connectors.kernel.looks import Look, Looks, has_looked, is_under_way, looked_until
from connectors.kernel.paging import Read, ask_page, batches, onward, rows_of
from connectors.kernel.positions import Position
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


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a reader stands, beside its look, which is saved in the same checkpoint.

    A listing stands at a `page` of so many rows, since it `started`; a search at a page `after` of
    those with ids from `after_id` on. In the `phase` "archived" that listing has read some `pages`;
    `archived` says when it was read the last time, and how many pages it had.
    """

    page: str | None = None
    limit: int = LIST_PAGE
    started: str | None = None
    after_id: str | None = None
    after: str = "0"
    phase: str = ""
    pages: int = 0
    archived: Mapping[str, Any] = field(default_factory=dict)


ARCHIVED = Place(phase="archived")


def reader(path: str, names: list[str], changed: str) -> Read:
    """Reads a kind of CRM object; `changed` names the property with the time of the last change."""

    def read(at: Checkpoint, context: Context) -> Reader:
        at = _renewed(at)
        if has_looked(at):
            yield from _delta(path, names, changed, at, context)
        else:
            yield from _backfill(path, names, Place.of(at), context)

    return read


def fetcher(path: str, names: list[str]) -> Callable[[Sequence[str], Context], Reader]:
    """Reads records of these ids."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for some in batches(keys, SEARCH_PAGE):
            yield (yield from _by_id(path, some, names))

    return fetch


def owners_reader(path: str) -> Read:
    """The users of the portal. Few, and without a filter by time: read whole every time.

    Those who left are listed by themselves; deals go on naming them, so they are kept as archived.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if not here.phase:
            yield from _pages(path, {}, here, _owners_page(ARCHIVED))
            here = ARCHIVED
        yield from _pages(path, {"archived": True}, here, _owners_page(Place()))

    return read


# Makes the page of some rows, of the place where the listing goes on (None: it has ended), and of
# the answer that showed them (None: there was none).
MakePage = Callable[[list[Record], Place | None, Response | None], Page]


def _pages(path: str, params: Mapping[str, Any], place: Place, page: MakePage) -> Reader:
    """A listing, page by page.

    A full page of some portals is more than HubSpot can answer: 500, each time, and smaller ones
    come (singer-io/tap-hubspot#234, 2023-07). So the next try asks for half of it.
    """
    known = place.page is None
    while True:
        asked = {**params, "limit": place.limit, **({"after": place.page} if place.page else {})}
        try:
            response = yield from ask_page(Request.get(path, params=asked), resumed=not known)
        except ProviderUnavailableError:
            if place.limit > LEAST_PAGE:
                yield page([], replace(place, limit=max(place.limit // 2, LEAST_PAGE)), None)
            raise
        rows, following = rows_of(response, "results"), find(response.json, NEXT)
        if following is None:
            yield page(rows, None, response)
            return
        place, known = replace(place, page=onward(place.page, following)), True
        yield page(rows, place, response)


def _owners_page(done: Place) -> MakePage:
    return lambda rows, place, response: Page(rows, (place or done).saved())


def _backfill(path: str, names: list[str], here: Place, context: Context) -> Reader:
    started = here.started

    def page(rows: list[Record], place: Place | None, response: Response | None) -> Page:
        nonlocal started
        if started is None and response is not None:
            started = min(context.now, vendor_time(response)).isoformat()
        if place is None:
            return Page(rows, Checkpoint(looked=started, late=started))
        return Page(rows, replace(place, started=started).saved())

    yield from _pages(path, {"properties": ",".join(names)}, here, page)


def _delta(path: str, names: list[str], changed: str, at: Checkpoint, context: Context) -> Reader:
    look, here = LOOKS.begin(at, context.now), Place.of(at)
    if not here.phase:
        # A look that begins now is not ahead of the vendor's clock.
        latest = None if is_under_way(at) else context.now
        look = yield from _search(path, names, changed, look, here, latest)
        here = Place(archived=here.archived)
    if _is_due(here.archived, look.looked):
        yield from _archived(path, look, here)


def _search(
    path: str, names: list[str], changed: str, look: Look, here: Place, latest: datetime | None
) -> Reading[Look]:
    """All that changed since the look begins; the look, by the vendor's clock if it is new.

    A query pages no further than 10,000 hits, so each page is a query of its own: by id, from the
    last id on. A record that is changed meanwhile keeps its place in that order. A page may be
    empty though others follow it (airbytehq/airbyte#80745, 2026-06): then the same query goes on.
    """
    while True:
        query = _query(changed, look, here)
        response = yield from ask(Request.post(f"{path}/search", json=query, budget="search"))
        if latest:
            now, latest = min(latest, vendor_time(response)), None
            look = replace(look, looked=min(look.looked, now), late=min(look.late, now))
        ids = [str(row["id"]) for row in rows_of(response, "results")]
        following = find(response.json, NEXT)
        page = yield from _by_id(path, ids, names)
        if following is None:
            is_due = _is_due(here.archived, look.looked)
            done = replace(ARCHIVED if is_due else Place(), archived=here.archived)
            yield replace(page, checkpoint=done.beside(look.saved if is_due else look.checkpoint))
            return look
        if ids:
            here = replace(here, after_id=str(max(map(int, ids))), after="0")
        else:
            here = replace(here, after=onward(here.after, following))
        yield replace(page, checkpoint=here.beside(look.saved))


def _query(changed: str, look: Look, here: Place) -> dict[str, Any]:
    since = str(epoch_ms(look.since or EPOCH))
    filters = [{"propertyName": changed, "operator": "GTE", "value": since}]
    if here.after_id is not None:
        following = str(int(here.after_id) + 1)
        filters.append({"propertyName": "hs_object_id", "operator": "GTE", "value": following})
    return {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": ["hs_object_id"],
        "limit": SEARCH_PAGE,
        "after": here.after,
    }


def _by_id(path: str, ids: Sequence[str], names: list[str]) -> Steps[Page]:
    """The records of these ids as they are now, on a page without a checkpoint."""
    of_batches = yield from ask_all(
        Request.post(
            f"{path}/batch/read",
            json={"inputs": [{"id": id_} for id_ in some], "properties": names},
        )
        for some in batches(ids, BATCH)
    )
    rows = [row for answer in of_batches for row in rows_of(answer, "results")]
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


def _archived(path: str, look: Look, here: Place) -> Reader:
    """Deletes: a whole listing of what is archived."""
    count = here.pages

    def page(rows: list[Record], place: Place | None, response: Response | None) -> Page:
        nonlocal count
        count += response is not None
        if place is None:
            listed = {"looked": look.looked.isoformat(), "pages": count}
            checkpoint = Place(archived=listed).beside(look.checkpoint)
        else:
            checkpoint = replace(place, phase="archived", pages=count).beside(look.saved)
        return Page((), checkpoint, deleted=[str(row["id"]) for row in rows])

    yield from _pages(path, {"archived": True}, here, page)


def _is_due(archived: Mapping[str, Any], now: datetime) -> bool:
    if not archived or archived["pages"] <= FEW_PAGES:
        return True
    return now - datetime.fromisoformat(archived["looked"]) >= ARCHIVED_EVERY


@dataclass(frozen=True, kw_only=True)
class _Former(Position):
    """Times as they were written until 2026-11: in milliseconds."""

    since: int | str | None = None
    started: int | str | None = None


def _renewed(at: Checkpoint) -> Checkpoint:
    """A checkpoint as it was written until 2026-11, in the form of today."""
    former = _Former.of(at)
    if isinstance(former.since, int):
        return looked_until(EPOCH + former.since * MILLISECOND)
    if isinstance(former.started, int):
        started = (EPOCH + former.started * MILLISECOND).isoformat()
        return replace(former, started=started).beside(at)
    return at
