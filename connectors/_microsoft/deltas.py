"""Graph's delta functions: all there is at first, then what changed since the last round.

https://learn.microsoft.com/graph/delta-query-overview
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors._microsoft import changes, get_page, is_removed, onward
from connectors.kernel.paging import Read, batches
from connectors.kernel.parts import ask_each
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time

# A delta link that is never answered is given up after so long: programs were answered 504, or 500
# "nextLink value without skip or skiptoken", at every try for as long as they held on to it
# (microsoft-graph-docs#2531 and #2497, 2018-04).
GIVEN_UP_AFTER = timedelta(hours=6)
# Records that are asked for by their ids at a time.
AT_ONCE = 20
# What could not be had of a record, and is no part of the delta, is asked for again so often.
AGAIN_EVERY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a delta stands: at the link that comes next, whether it leads on or opens a round.

    In the first `listing`, `before` is the link of the delta that was taken before it. `failing` is
    since when the link is not answered.
    """

    link: str | None = None
    before: str | None = None
    listing: bool = False
    failing: str = ""


@dataclass(frozen=True)
class PageContext:
    """Of the answer that a page was made from: when it was asked for, whether it is of the first
    listing, and whether it is the last one of its round."""

    at: datetime
    listing: bool
    ended: bool
    now: datetime

    def is_time_again(self, tried: str) -> bool:
        """Whether to ask again, at the end of a round, for what could not be had when tried."""
        return self.ended and bool(tried) and self.now - parse_time(tried) >= AGAIN_EVERY


# Makes of a page of a delta the one that is stored, and may ask for more. What it adds to the
# checkpoint is handed to it again with the next page.
Settle: TypeAlias = Callable[[Page, PageContext], Steps[Page]]


def as_it_came(page: Page, page_context: PageContext) -> Steps[Page]:
    yield from ()
    return page


def delta_stream(
    request: Request,
    *,
    gone: Callable[[Record], bool] = is_removed,
    shape: Callable[[Record], Record] = lambda row: row,
    key: Callable[[str], str] = lambda id: id,
    settle: Settle = as_it_came,
    begin: Request | None = None,
    smaller: Sequence[Request] = (),
) -> Read:
    """Reads a delta function.

    The checkpoint is a `Place`, beside what `settle` keeps there. `gone` tells a delete from a
    record, `shape` makes of a row what is kept of it, `key` a key of an id. `begin` asks for a
    delta from now on: it is taken before the first listing and followed after it, because no other
    delta reports what goes while that is paged. `smaller` are forms of the request with smaller
    pages, for accounts of which Graph cannot make a large one. A status that the request expects
    means that Graph does not show this collection, or not any more.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        here, kept = Place.of(at), at
        if here.link is None:
            before = (yield from _latest(begin)) if begin is not None else None
            here = Place(listing=True, before=before)
        sizes = [request, *smaller]
        while True:
            try:
                response = yield from _asked(sizes, here.link)
            except ProviderUnavailableError:
                if here.link is None or here.listing:
                    raise
                yield Page((), _failing(here, context.now).beside(kept))
                raise
            if response.status in request.expect:
                raise NotAllowedError(
                    f"Microsoft does not show this ({response.status}): it is gone by now, or an "
                    "administrator has to allow it"
                )
            listing = here.listing
            records, deleted = changes(response, gone, key)
            here, ended = _onward(here, response)
            rows, keys = [shape(row) for row in records], [key(id_) for id_ in deleted]
            page = Page(rows, here.beside(kept), deleted=keys)
            page_context = PageContext(response.sent_at, listing, ended, context.now)
            page = yield from settle(page, page_context)
            kept = page.checkpoint
            yield page
            if ended:
                return

    return read


def _failing(here: Place, now: datetime) -> Place:
    failing = here.failing or now.isoformat()
    if now - parse_time(failing) >= GIVEN_UP_AFTER:
        raise CheckpointExpiredError("Microsoft never answers this delta") from None
    return replace(here, failing=failing)


def _latest(begin: Request) -> Steps[str | None]:
    """The link of a delta that begins now; none where Graph gives none for this collection."""
    try:
        response = yield from ask(begin)
        link, ended = onward(response, None)
        while not ended:
            response = yield from get_page(begin, link)
            link, ended = onward(response, link)
    except ContractError:
        return None
    return link


def _asked(sizes: list[Request], link: str | None) -> Steps[Response]:
    """The answer, of the largest page that Graph manages; larger ones are not tried again."""
    while True:
        try:
            return (yield from get_page(sizes[0], link))
        except ProviderUnavailableError:
            # A link fixes the parameters: only a size that is asked for in a header still counts.
            if len(sizes) == 1 or (link and sizes[1].headers == sizes[0].headers):
                raise
            del sizes[0]


def _onward(here: Place, response: Response) -> tuple[Place, bool]:
    """The place after this answer, and whether its round is over."""
    link, ended = onward(response, here.link)
    if not ended:
        return replace(here, link=link, failing=""), False
    if here.before:
        return Place(link=here.before), False
    return Place(link=link), True


def each_by_id(
    path: str,
    *,
    split: Callable[[str], tuple[str, str]] = lambda key: ("", key),
    shape: Callable[[str, Record], Record | None],
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Callable[[Sequence[str], Context], Reader]:
    """Reads records again by their keys: a `Stream.fetch`.

    `split` makes of a key its parent and its id; `shape` gives the record, and None where the
    answer shows that it is not that parent's any more.
    """

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for some in batches(keys, AT_ONCE):
            found = yield from by_id(path, [split(key)[1] for key in some], params, headers)
            records, deleted = [], []
            for key, answer in zip(some, found, strict=True):
                if isinstance(answer, Exception):
                    raise answer
                record = answer and shape(split(key)[0], answer)
                if record:
                    records.append(record)
                else:
                    deleted.append(key)
            yield Page(records, Checkpoint(), deleted=deleted)

    return fetch


def by_id(
    path: str,
    ids: Sequence[str],
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Steps[list[Record | Exception | None]]:
    """What each id is now: None of one that is gone, an error of one that cannot be read."""
    found: list[Record | Exception | None] = []
    for some in batches(ids, AT_ONCE):
        requests = [
            Request.get(
                f"{path}/{quote(id_, safe='')}",
                params=params or {},
                headers=headers or {},
                expect=(404,),
            )
            for id_ in some
        ]
        for answer in (yield from ask_each(requests)):
            if isinstance(answer, Exception):
                found.append(answer)
            elif answer.status == 404:
                found.append(None)
            else:
                row = dict(answer.json)
                row.pop("@odata.context", None)
                found.append(row)
    return found
