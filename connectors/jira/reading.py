"""How a Jira site is read: issues and what hangs on them by search, worklogs by feeds, lists whole.

Times of a search are milliseconds of the epoch: one in quotes has no seconds, and is read in the
time zone of the person who connected (airbytehq/airbyte#48492, 2024-11). A search goes by when
issues were created, which no change moves, and has no end in time. Its index lags: two hours were
found to be too few (estuary/connectors#3486, 2025-11). It knows nothing of deletions, nor of issues
in archived projects; issues by id come from the database.
https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search (2026-11)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from connectors import (
    Calls,
    Checkpoint,
    Context,
    ListedKeys,
    NotAllowedError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors.kernel.looks import Look, Looks, is_under_way
from connectors.kernel.messages import Params
from connectors.kernel.paging import Read, batches, onward, rows_of
from connectors.kernel.parts import Parts, each_part
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import EPOCH, MILLISECOND, epoch_ms, parse_time

API = "/rest/api/3"
BOARDS = "/rest/agile/1.0/board"
# Comments and worklogs are streams of their own; when it was last viewed is the viewer's.
FIELDS = "*all,-comment,-worklog,-lastViewed"
PAGE, MOST_IDS, MOST_ISSUES, MOST_WORKLOGS = 100, 5_000, 100, 1_000
LOOKS = Looks(lag=timedelta(hours=12), every=timedelta(minutes=90))
# The feeds leave the last minute out.
FEEDS = Looks(overlap=timedelta(minutes=6))
# Of a time that the search may take to the minute.
MINUTE = 60_000
REFUSED = (403, 404)
NO_SPRINTS, NO_COLUMNS = 400, 422
NO_SOFTWARE = (
    "Jira does not show this board, or none of this site: the person who connected needs access to "
    "Jira Software, and to the project that the board is of"
)

# The records that an issue of a search gives.
Rows: TypeAlias = Callable[[Record, Look], Steps[list[Record]]]


# -- By search -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a search stands, beside its look: at a `page` of the issues created `from_` on; the
    last one that it showed was created at `last`. A page token lives for seven days."""

    page: str | None = None
    from_: int | None = None
    last: int | None = None


def searched(params: Params, rows: Rows, *, size: int = PAGE) -> Read:
    """All issues, then those that changed, with the fields that `params` asks for; `created` must
    be among them. A page may have fewer than `size`, or none, and not be the last."""

    def read(at: Checkpoint, context: Context) -> Reader:
        look, here = LOOKS.begin(at, context.now), Place.of(at)
        latest = None if is_under_way(at) else context.now
        while True:
            response = yield from ask(_search(look, here, params, size))
            if response.status == 400:
                here = Place(from_=here.last or here.from_)
                continue
            look, latest = _not_ahead(look, latest, response), None
            issues, records = rows_of(response, "issues"), []
            for issue in issues:
                records += yield from rows(issue, look)
            token = response.json.get("nextPageToken")
            if token is None:
                unseen = () if look.since else (yield from _beyond_search())
                yield Page(records, Checkpoint(look.checkpoint), unseen=unseen)
                return
            last = _created_ms(issues[-1]) - MINUTE if issues else here.last
            here = replace(here, page=onward(here.page, token), last=last)
            yield Page(records, here.beside(look.saved))

    return read


def _search(look: Look, here: Place, params: Params, size: int) -> Request:
    # A search without a condition is refused.
    terms = [f"updated >= {epoch_ms(look.since)}" if look.since else "project is not EMPTY"]
    if here.from_ is not None:
        terms.append(f"created >= {here.from_}")
    asked = {**params, "maxResults": size, "jql": f"{' AND '.join(terms)} ORDER BY created ASC"}
    if here.page is None:
        return Request.get(f"{API}/search/jql", params=asked)
    asked["nextPageToken"] = here.page
    return Request.get(f"{API}/search/jql", params=asked, expect=(400,))


def _not_ahead(look: Look, latest: datetime | None, response: Response) -> Look:
    """The look, which is not ahead of the vendor's clock where it begins now."""
    if latest is None:
        return look
    now = min(latest, vendor_time(response))
    return replace(look, looked=min(look.looked, now), late=min(look.late, now))


def _created_ms(issue: Record) -> int:
    return epoch_ms(parse_time(issue["fields"]["created"]))


def _beyond_search() -> Calls[Sequence[str]]:
    """Which keys a search of everything says nothing of: where projects are archived, any key."""
    asked = {"status": "archived", "maxResults": 1}
    response = yield from ask(Request.get(f"{API}/project/search", params=asked))
    return [""] if rows_of(response, "values") else ()


def issue_rows(issue: Record, look: Look) -> Steps[list[Record]]:
    yield from ()
    return [_plain(issue)]


def comment_rows(issue: Record, look: Look) -> Steps[list[Record]]:
    """The search shows the first comments of an issue; of one that has more they are listed."""
    found = issue["fields"]["comment"]
    rows: list[Record] = found["comments"]
    if found["total"] > len(rows):
        more, _ = yield from every(f"{API}/issue/{issue['id']}/comment", "comments")
        rows = more or rows
    return [_of_issue(issue["id"], row) for row in rows]


def change_rows(issue: Record, look: Look) -> Steps[list[Record]]:
    """The search shows the newest changes of an issue: they do, if they go back to where the look
    begins."""
    found = issue["changelog"]
    rows: list[Record] = found["histories"]
    times = [parse_time(row["created"]) for row in rows]
    if found["total"] > len(rows) and not (look.since and min(times, default=EPOCH) < look.since):
        more, _ = yield from every(f"{API}/issue/{issue['id']}/changelog", "values")
        rows = more or rows
    return [_of_issue(issue["id"], row) for row in rows]


def _plain(issue: Record) -> Record:
    """Without the list of what else could be asked for: it differs from call to call."""
    return {name: value for name, value in issue.items() if name != "expand"}


def _of_issue(issue: str, row: Record) -> Record:
    return {**row, "issue_id": issue}


def in_issue(record: Record) -> str:
    return f"{record['issue_id']}/{record['id']}"


# -- By id -----------------------------------------------------------------------------------------


def issues_again(keys: Sequence[str], context: Context) -> Reader:
    """Jira leaves out issues that are deleted and those that the person may not see, and does not
    tell them apart; it names those that it cannot give now."""
    for some in batches(keys, MOST_ISSUES):
        body = {"issueIdsOrKeys": list(some), "fields": FIELDS.split(",")}
        response = yield from ask(Request.post(f"{API}/issue/bulkfetch", json=body))
        rows = [_plain(row) for row in rows_of(response, "issues")]
        failed = {str(each["id"]) for each in response.json.get("issueErrors") or ()}
        missing = {*some} - {row["id"] for row in rows} - failed
        yield Page(rows, Checkpoint(), hidden=sorted(missing), unsettled=sorted(failed & {*some}))


def children_again(what: str, records: str) -> Callable[[Sequence[str], Context], Reader]:
    """Reads records by `issue/id`; the key `issue/` stands for all of that issue."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for issue in dict.fromkeys(key.partition("/")[0] for key in keys):
            asked = {key for key in keys if key.partition("/")[0] == issue}
            named, prefix = asked - {f"{issue}/"}, f"{issue}/"
            rows, status = yield from every(f"{API}/issue/{issue}/{what}", records)
            found = {in_issue(row): row for row in (_of_issue(issue, row) for row in rows)}
            is_gone = status in REFUSED
            shown = found if prefix in asked else {key: found[key] for key in named & found.keys()}
            yield Page(
                list(shown.values()),
                Checkpoint(),
                hidden=sorted(named - found.keys()),
                listed_keys=[ListedKeys(prefix, found.keys(), context.now, hidden=is_gone)],
            )

    return fetch


def every(
    path: str, records: str, refused: tuple[int, ...] = REFUSED
) -> Calls[tuple[list[Record], int]]:
    """The rows of every page of what hangs on one record, and the status: where it is one of those
    `refused`, there are none."""
    found: list[Record] = []
    while True:
        params = {"startAt": len(found), "maxResults": PAGE}
        response = yield from ask(Request.get(path, params=params, expect=refused))
        if response.status in refused:
            return [], response.status
        rows = rows_of(response, records)
        found += rows
        if not rows or _is_last(response, len(found)):
            return found, response.status


def _is_last(response: Response, so_far: int) -> bool:
    """Whether a listing ends there. `maxResults` may be cut down, so that no page need be full."""
    body = response.json
    if isinstance(body, list):
        return False
    return so_far >= body["total"] if "total" in body else body.get("isLast") is True


# -- Lists -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offset(Position):
    """The rows of a list that were read."""

    offset: int = 0


def listed(
    path: str,
    records: str = "values",
    params: Params | None = None,
    *,
    paged: bool = True,
    software: bool = False,
) -> Read:
    """A list that is read whole; a bare one ends with a page that is empty. One of Jira `software`
    is not there on a site without it."""

    def read(at: Checkpoint, context: Context) -> Reader:
        offset = Offset.of(at).offset
        while True:
            place = {"startAt": offset, "maxResults": PAGE} if paged else {}
            request = Request.get(path, params={**(params or {}), **place})
            response = yield from ask(replace(request, expect=(404,)) if software else request)
            if response.status == 404:
                raise NotAllowedError(NO_SOFTWARE)
            rows = rows_of(response, records)
            offset += len(rows)
            if not paged or not rows or _is_last(response, offset):
                yield Page(rows, Checkpoint())
                return
            yield Page(rows, Offset(offset).saved())

    return read


# -- Sprints, board by board -----------------------------------------------------------------------


def _boards(context: Context) -> Steps[Parts]:
    """Those that may have sprints, `simple` ones too: team-managed projects have such
    (airbytehq/airbyte#25798, 2023-05)."""
    rows, status = yield from every(BOARDS, "values")
    if status in REFUSED:
        raise NotAllowedError(NO_SOFTWARE)
    return Parts([str(row["id"]) for row in rows if row["type"] != "kanban"], hidden=True)


def _sprints_of(board: str) -> Read:
    """Those that a board shows; one whose sprints are switched off has none."""

    def read(at: Checkpoint, context: Context) -> Reader:
        refused = (*REFUSED, NO_SPRINTS, NO_COLUMNS)
        rows, status = yield from every(f"{BOARDS}/{board}/sprint", "values", refused)
        if status in REFUSED:
            raise NotAllowedError(NO_SOFTWARE)
        if status == NO_COLUMNS:
            raise NotAllowedError(
                "Jira shows no sprints of this board as long as none of its columns has a status: "
                "its administrator has to map one (estuary/connectors#4848)"
            )
        yield Page([{**row, "board_id": int(board)} for row in rows], Checkpoint())

    return read


def on_board(record: Record) -> str:
    """A board shows the sprints of others, too (airbytehq/airbyte#24981, 2023-04)."""
    return f"{record['board_id']}/{record['id']}"


sprints = each_part(_boards, _sprints_of, prefix=lambda board: f"{board}/")


# -- Worklogs --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InFeed(Position):
    """Where a look stands: in which feed, and since which time in milliseconds it is read on."""

    feed: str = "updated"
    since: int | None = None


def worklogs(at: Checkpoint, context: Context) -> Reader:
    """Which were changed, then which were deleted. Those of a deleted issue are in neither feed."""
    look, here = FEEDS.begin(at, context.now), InFeed.of(at)
    latest = None if is_under_way(at) else context.now
    while True:
        since = here.since
        if since is None:
            since = (look.since - EPOCH) // MILLISECOND if look.since else 0
        request = Request.get(f"{API}/worklog/{here.feed}", params={"since": since})
        response = yield from ask(request)
        look, latest = _not_ahead(look, latest, response), None
        ids = [str(each["worklogId"]) for each in rows_of(response, "values")]
        page = yield from _told(here.feed, ids)
        if not response.json["lastPage"]:
            here = replace(here, since=onward(since, response.json["until"]))
        elif here.feed == "updated" and look.since is not None:
            here = InFeed(feed="deleted")
        else:
            yield replace(page, checkpoint=Checkpoint(look.checkpoint))
            return
        yield replace(page, checkpoint=here.beside(look.saved))


def _told(feed: str, ids: Sequence[str]) -> Calls[Page]:
    """What a page of a feed comes to, on a page without a checkpoint."""
    if feed == "deleted":
        return Page((), Checkpoint(), deleted=ids)
    rows: list[Record] = []
    for some in batches(ids, MOST_WORKLOGS):
        body: Mapping[str, list[int]] = {"ids": [int(id_) for id_ in some]}
        rows += rows_of((yield from ask(Request.post(f"{API}/worklog/list", json=body))), "")
    return Page(rows, Checkpoint())
