"""What GitHub lists of each repository, and how its changes are found.

Repositories are asked for by their number, which stays when they are renamed or transferred; so do
GitHub's own links to further pages and its redirects (`/repositories/{id}/…`,
https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api, 2026-11).

No listing is paged by a number where its order changes while it is read. A first page is asked for
with its ETag: where nothing changed the answer is 304 and is not counted by the hour
(https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api, 2026-11).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ListedKeys,
    Page,
    Position,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    ask,
    ask_all,
)
from connectors.kernel.paging import Read, batches, next_link, rows_of
from connectors.kernel.parts import OF_A_PART, Parts, ask_each, each_part
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import parse_time

PER_PAGE, AT_ONCE = 100, 20
UNCHANGED, EMPTY = 304, 409
# The status of what does not change any more; rows of most listings have none.
OVER = "completed"
# How much later than its time a change may show: commits of GitHub's databases are copied first.
LAG = timedelta(hours=1)
# Of a listing that has several pages, the first tells at once what is new; the rest is looked at:
DAILY = timedelta(days=1)
# A transferred issue is elsewhere (301), a deleted one was (410); ids that no commit has are 422.
GONE = (301, 404, 410, 422)

ReadPart: TypeAlias = Callable[[str], Read]


def page_of(
    path: str, params: Mapping[str, Any], etag: str = "", expect: tuple[int, ...] = ()
) -> Calls[Response]:
    """A page of a listing; 304 where it is still as it was under that ETag."""
    request = Request.get(path, params={"per_page": PER_PAGE, **params}, expect=expect)
    if not etag:
        return (yield from ask(request))
    asked = {"if-none-match": etag}
    known = replace(request, headers=asked, expect=(UNCHANGED, *expect), budget="conditional")
    return (yield from ask(known))


def of(part: str) -> str:
    return f"/repositories/{part}"


def tagged(part: str, rows: Sequence[Record], tag: str = "repository_id") -> list[Record]:
    """With what the rows were listed of, which they do not all say by themselves."""
    return [{**row, tag: int(part)} for row in rows]


# -- Which repositories there are -----------------------------------------------------------------


def every(path: str, params: Mapping[str, Any]) -> Calls[tuple[list[Record], Response]]:
    """All rows of a listing, and its first page's answer."""
    first = response = yield from page_of(path, params)
    rows, page = rows_of(response, ""), 1
    while next_link(response):
        page += 1
        response = yield from page_of(path, {**params, "page": page})
        rows += rows_of(response, "")
    return rows, first


def in_repositories(read: ReadPart, *, with_issues: bool = False) -> Read:
    """Repository by repository; `with_issues`, those where they are switched on. Of others, which
    answer 410, what was read before stays.

    What a list leaves out is asked for by itself: it may be of an organisation that wants a
    sign-in, or have moved to another page. What is not found may be deleted or only hidden.
    """

    def listed(context: Context) -> Steps[Parts]:
        rows, _ = yield from every("/user/repos", BY_AGE)
        return _parts(rows, with_issues)

    return each_part(listed, read, prefix=lambda part: f"{part}/", alone=True)


def _parts(rows: Sequence[Record], with_issues: bool) -> Parts:
    def check(parts: Sequence[str]) -> Calls[Parts]:
        found, kept = [], []
        for part in parts:
            try:
                answer = yield from ask(Request.get(of(part), expect=(404,)))
            except OF_A_PART:
                kept.append(part)
                continue
            if answer.status == 200:
                found.append(answer.json)
        listed = _parts(found, with_issues)
        return replace(listed, kept=[*listed.kept, *kept])

    off = [str(row["id"]) for row in rows if with_issues and row.get("has_issues") is False]
    present = [id for row in rows if (id := str(row["id"])) not in off]
    return Parts(present, off, hidden=True, check=check)


BY_AGE = {"sort": "created", "direction": "desc"}


def repositories(at: Checkpoint, context: Context) -> Reader:
    """All that the person may see. An organisation that wants a sign-in has its own left out, which
    only a header tells: then nothing counts as gone.

    https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api (2026-11)
    """
    place = Whole.of(at)
    if (yield from place.stands("/user/repos", BY_AGE, context.now, timedelta())):
        yield Page((), place.saved())
        return
    rows, first = yield from every("/user/repos", BY_AGE)
    if "x-github-sso" in first.headers:
        yield Page(rows, Whole(looked=_iso(vendor_time(first))).saved(), unseen=[""])
        return
    # A scan finds by itself what is gone.
    keys = [str(row["id"]) for row in rows]
    gone = [ListedKeys("", keys, first.sent_at, hidden=True)] if at else []
    yield Page(rows, Whole.after(first).saved(), listed_keys=gone)


def organizations(context: Context) -> Steps[Parts]:
    rows, _ = yield from every("/user/orgs", {})
    return Parts([str(row["id"]) for row in rows], hidden=True)


# -- Listings that are read whole -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Whole(Position):
    """A listing that was read to its end, by the ETag of its first page; `more` followed it."""

    etag: str = ""
    more: bool = False
    looked: str = ""

    @classmethod
    def after(cls, first: Response) -> "Whole":
        etag = first.headers.get("etag", "")
        return cls(etag=etag, more=bool(next_link(first)), looked=_iso(vendor_time(first)))

    def stands(
        self, path: str, params: Mapping[str, Any], now: datetime, each: timedelta
    ) -> Calls[bool]:
        """Whether the listing is as it was, as far as its first page tells."""
        if not self.etag or (self.more and now - parse_time(self.looked) >= each):
            return False
        return (yield from page_of(path, params, self.etag)).status == UNCHANGED


def whole(
    path: str,
    *,
    place: str = "repositories",
    tag: str = "repository_id",
    each: timedelta = DAILY,
    **params: Any,
) -> ReadPart:
    """A listing without times to ask by, of a repository or another `place`: read to its end where
    its first page changed, and where it has several, after so long."""

    def of_part(part: str) -> Read:
        here = f"/{place}/{part}{path}"

        def read(at: Checkpoint, context: Context) -> Reader:
            stood = Whole.of(at)
            if (yield from stood.stands(here, params, context.now, each)):
                yield Page((), stood.saved())
                return
            rows, first = yield from every(here, params)
            keys = [f"{part}/{row['id']}" for row in rows]
            yield Page(
                tagged(part, rows, tag),
                Whole.after(first).saved(),
                listed_keys=[ListedKeys(f"{part}/", keys, first.sent_at)],
            )

        return read

    return of_part


def is_own(row: Record) -> bool:
    """Lists of issues have the pull requests in them, which come from a list of their own."""
    return "pull_request" not in row


# -- What changed since a time, oldest first ------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Window(Position):
    """All that changed `since` then is read, again and again, for as long as its ETag stands.

    In a read: what changed `after` then is to come, on a `page` of its own where one second has
    more than fits, and when the read `started`.
    """

    since: str | None = None
    etag: str = ""
    after: str | None = None
    page: int = 1
    started: str | None = None

    def moved(self, rows: Sequence[Record], started: str, etag: str) -> "Window":
        """Where the next look begins. The window stays while that would leave nothing out of it:
        so its address stays, and the ETag with it."""
        begin = _late(started)
        if self.since and etag and all(row["updated_at"] >= begin for row in rows):
            return Window(since=self.since, etag=etag)
        return Window(since=begin)


def changed_since(path: str, **more: str) -> ReadPart:
    """By `since`, which moves with what was read: whatever changes meanwhile comes at the end, and
    nothing that is deleted meanwhile shifts a page."""

    def of_part(part: str) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            place = Window.of(at)
            begins = place.after is None
            place = replace(place, after=place.after or place.since)
            while True:
                params: dict[str, Any] = {**ASCENDING, **more, "page": place.page}
                if place.after:
                    params["since"] = place.after
                etag = place.etag if begins else ""
                response = yield from page_of(of(part) + path, params, etag)
                if response.status == UNCHANGED:
                    yield Page((), Checkpoint(at))
                    return
                rows = rows_of(response, "")
                started = place.started or _iso(vendor_time(response))
                found = tagged(part, [row for row in rows if is_own(row)])
                if not next_link(response):
                    etag = response.headers.get("etag", "") if begins else ""
                    yield Page(found, place.moved(rows, started, etag).saved())
                    return
                place = replace(_further(place, rows), started=started)
                begins = False
                yield Page(found, place.saved())

        return read

    return of_part


ASCENDING = {"sort": "updated", "direction": "asc"}


def _further(place: Window, rows: Sequence[Record]) -> Window:
    last = rows[-1]["updated_at"]
    if last == place.after:
        return replace(place, page=place.page + 1)
    return replace(place, after=last, page=1)


# -- Newest first, down to what is known ----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Newest(Position):
    """All that is older than `until` is known, and so is a first page of that ETag.

    In a read: the `page` that comes next, of what was made `before` then; when it `started`, the
    ETag `seen`, and the oldest row that is `open`, as a run is that goes on.
    """

    until: str | None = None
    etag: str = ""
    page: int = 1
    before: str | None = None
    started: str | None = None
    seen: str = ""
    open_: str | None = None

    def begun(self, first: Response, newest: str) -> "Newest":
        """A look begins. A second change within one second leaves the page as it is, and its ETag:
        that tells nothing while there is something new on it."""
        started = _iso(vendor_time(first))
        seen = first.headers.get("etag", "") if newest < _late(started) else ""
        return replace(self, started=started, seen=seen)

    def further(self, rows: Sequence[Record], time: str, search: str) -> "Newest":
        """The next page: by its number, or of what is as old as the last row, and older."""
        oldest = rows[-1][time]
        if not search or oldest == self.before:
            return replace(self, page=self.page + 1)
        return replace(self, before=oldest, page=1)

    def ended(self) -> "Newest":
        """Where the next look ends. The ETag of the first page tells nothing of what is open
        further down."""
        until, is_first = _late(self.started), self.before is None and self.page == 1
        etag = self.seen if is_first or self.open_ is None else ""
        return Newest(until=min(until, self.open_ or until), etag=etag)


# Of a page's rows, those that are read in their place: the records, and which keys there are.
Instead: TypeAlias = Callable[
    [str, list[Record], str | None], Steps[tuple[list[Record], list[ListedKeys]]]
]


def _themselves(
    part: str, rows: list[Record], until: str | None
) -> Steps[tuple[list[Record], list[ListedKeys]]]:
    yield from ()
    return tagged(part, rows), []


def newest_first(
    path: str,
    *,
    time: str,
    records: str = "",
    search: str = "",
    params: Mapping[str, Any] | None = None,
    instead: Instead = _themselves,
) -> ReadPart:
    """Listings that take no `since`. What comes to their front while they are read is of the next
    look; pages that shift by that show some rows twice. A `search` by time gives a thousand rows at
    most: each page of it is of what was made before the last one."""

    def of_part(part: str) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            place = Newest.of(at)
            begins = place.started is None
            while True:
                asked = {**(params or {}), "page": place.page}
                if place.before:
                    asked[search] = f"<={place.before}"
                etag = place.etag if begins else ""
                response = yield from page_of(of(part) + path, asked, etag)
                if response.status == UNCHANGED:
                    yield Page((), Checkpoint(at))
                    return
                rows = rows_of(response, records)
                if begins:
                    place, begins = place.begun(response, rows[0][time] if rows else ""), False
                still = [row[time] for row in rows if row.get("status", OVER) != OVER]
                oldest_open = min([*still, *filter(None, [place.open_])], default=None)
                place = replace(place, open_=oldest_open)
                found, listed = yield from instead(part, rows, place.until)
                if not next_link(response) or (place.until and rows[-1][time] < place.until):
                    yield Page(found, place.ended().saved(), listed_keys=listed)
                    return
                place = place.further(rows, time, search)
                yield Page(found, place.saved(), listed_keys=listed)

        return read

    return of_part


def reviews_of(
    part: str, rows: list[Record], until: str | None
) -> Steps[tuple[list[Record], list[ListedKeys]]]:
    """All of each pull request that changed: submitting or dismissing one moves it."""
    found: list[Record] = []
    listed: list[ListedKeys] = []
    moved = [row for row in rows if not until or row["updated_at"] >= until]
    for some in batches(moved, AT_ONCE):
        paths = [f"{of(part)}/pulls/{row['number']}/reviews" for row in some]
        full = {"per_page": PER_PAGE}
        answers = yield from ask_all(Request.get(path, params=full) for path in paths)
        for row, path, answer in zip(some, paths, answers, strict=True):
            reviews, page, last = rows_of(answer, ""), 1, answer
            while next_link(last):
                page += 1
                last = yield from page_of(path, {"page": page})
                reviews += rows_of(last, "")
            prefix = f"{part}/{row['number']}/"
            found += tagged(part, reviews)
            keys = [f"{prefix}{review['id']}" for review in reviews]
            listed.append(ListedKeys(prefix, keys, answer.sent_at))
    return found, listed


# -- Commits --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Branch(Position):
    """The default branch was read as of its `head`, and its first page had that ETag.

    In a read: from there, or from the beginning, to the `target`; the `page` that comes next, and
    the ETag `seen`.
    """

    head: str = ""
    etag: str = ""
    target: str = ""
    page: int = 1
    seen: str = ""


def commits(part: str) -> Read:
    """What came into the default branch, by comparing where it stands with where it stood.

    A commit has its own date, and may be pushed or merged long after: a listing by `since` never
    shows it. A listing of a fixed commit never changes, so its pages can be counted.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        place = Branch.of(at)
        if not place.target:
            response = yield from page_of(f"{of(part)}/commits", {}, place.etag, (EMPTY,))
            if response.status in (UNCHANGED, EMPTY):
                yield Page((), Checkpoint(at))
                return
            rows, seen = rows_of(response, ""), response.headers.get("etag", "")
            top = str(rows[0]["sha"])
            if top == place.head or (not place.head and not next_link(response)):
                yield Page(tagged(part, rows), Branch(head=top, etag=seen).saved())
                return
            place = Branch(head=place.head, target=top, seen=seen)
        if place.head:
            yield from _compared(part, place)
        else:
            yield from _from_the_beginning(part, place)

    return read


def _from_the_beginning(part: str, place: Branch) -> Reader:
    while True:
        params = {"sha": place.target, "page": place.page}
        response = yield from page_of(f"{of(part)}/commits", params, expect=(404, EMPTY, 422))
        if response.status != 200:
            raise CheckpointExpiredError("GitHub no longer has the commit that was read from")
        rows = tagged(part, rows_of(response, ""))
        if not next_link(response):
            yield Page(rows, Branch(head=place.target, etag=place.seen).saved())
            return
        place = replace(place, page=place.page + 1)
        yield Page(rows, place.saved())


def _compared(part: str, place: Branch) -> Reader:
    """What was added, page by page; and what a force push took out of the branch."""
    while True:
        response = yield from _comparison(part, place.head, place.target, place.page)
        rows = tagged(part, rows_of(response, "commits"))
        if not next_link(response):
            break
        place = replace(place, page=place.page + 1)
        yield Page(rows, place.saved())
    lost: list[str] = []
    if response.json["behind_by"]:
        page, more = 1, True
        while more:
            back = yield from _comparison(part, place.target, place.head, page)
            lost += [f"{part}/{row['sha']}" for row in rows_of(back, "commits")]
            page, more = page + 1, next_link(back) is not None
    yield Page(rows, Branch(head=place.target, etag=place.seen).saved(), deleted=lost)


def _comparison(part: str, base: str, head: str, page: int) -> Calls[Response]:
    """Commits that nothing leads to are cleared away in the end, and histories may have nothing in
    common: then there is no way but to read all."""
    path = f"{of(part)}/compare/{base}...{head}"
    response = yield from page_of(path, {"page": page}, expect=(404, EMPTY, 422))
    if response.status != 200:
        raise CheckpointExpiredError("GitHub no longer has the commit that was read up to")
    return response


# -- One by one -----------------------------------------------------------------------------------


def again(path: str, *, without: Sequence[str] = ()) -> Callable[[Sequence[str], Context], Reader]:
    """Records of these keys; `path` takes what stands in them after the repository. An answer about
    one has fields `without` which lists show it."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        refused: Exception | None = None
        for some in batches(keys, AT_ONCE):
            found: list[Record] = []
            missing: list[str] = []
            asked = [_request(path, key) for key in some]
            for key, answer in zip(some, (yield from ask_each(asked)), strict=True):
                if isinstance(answer, Exception):
                    refused = answer
                elif answer.status == 200 and is_own(answer.json):
                    row = {k: v for k, v in answer.json.items() if k not in without}
                    found += tagged(key.partition("/")[0], [row])
                else:
                    missing.append(key)
            yield from _gone(found, missing)
        if refused is not None:
            raise refused

    return fetch


def _request(path: str, key: str) -> Request:
    part, *rest = key.split("/")
    return Request.get(of(part) + path.format(*rest), expect=GONE)


def _gone(found: list[Record], missing: list[str]) -> Reading[None]:
    """Where the repository is shown, what is not found in it is deleted; else it may be there."""
    parts = list(dict.fromkeys(key.partition("/")[0] for key in missing))
    answers = yield from ask_each([Request.get(of(part), expect=(404,)) for part in parts])
    shown = {
        part: answer.status if isinstance(answer, Response) else 0
        for part, answer in zip(parts, answers, strict=True)
    }
    yield Page(
        found,
        Checkpoint(),
        deleted=[key for key in missing if shown[key.partition("/")[0]] == 200],
        hidden=[key for key in missing if shown[key.partition("/")[0]] == 404],
    )


def _late(started: str | None) -> str:
    """What is stamped before then shows by now."""
    return _iso(parse_time(started or "") - LAG)


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
