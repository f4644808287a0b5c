"""Reads what is in the calendars of a person's list, each with a sync token of its own.

https://developers.google.com/workspace/calendar/api/guides/sync
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    Column,
    Context,
    ListedKeys,
    NotAllowedError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    ask,
    column,
)
from connectors._google import renewed
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.parts import Parts, each_part
from connectors.kernel.positions import Position

TITLE = "Google Calendar"
LIST = Request.get("/users/me/calendarList", params={"maxResults": 250, "showHidden": True})
# The birthdays of one's contacts: of those that are gone, no delta tells (webhookdb/webhookdb#765,
# 2023-08; home-assistant/core#116490, 2024-05).
BIRTHDAYS = "addressbook#contacts@group.v.calendar.google.com"
LIST = Request.get("/users/me/calendarList", params={"maxResults": 250, "showHidden": True})


@dataclass(frozen=True)
class PageContent:
    """What a page of a calendar's listing says. `kept` has to be known at the pages after it."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    listed_keys: Sequence[ListedKeys] = ()
    kept: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a calendar stands: at the sync token of its last listing, or at a page of one, with
    what has to be known at the pages after it. `again` it is listed whole; `listed` says when it
    was, where Google reports no deletions."""

    token: str | None = None
    page: str | None = None
    kept: Mapping[str, list[str]] = field(default_factory=dict)
    again: bool = False
    listed: str | None = None


# Reads the rows of a delta, knowing the calendar, what was kept, and when the rows were true.
Tell: TypeAlias = Callable[[str, list[Record], Mapping[str, list[str]], datetime], PageContent]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing that each calendar has. `ended` finds the series in a delta that may have
    lost instances without the delta saying so."""

    path: str
    params: Mapping[str, str | int | bool]
    of: Callable[[Record], bool]
    there: Callable[[Record], bool]
    tell: Tell
    ended: Callable[[list[Record]], list[str]] = lambda rows: []


def of_calendars(name: str, kind: Kind, columns: Mapping[str, Column]) -> Stream:
    """A stream of what is in calendars, with a sync token for each of these."""

    def listing(context: Context) -> Calls[Parts]:
        listed = yield from entries()
        # One that left the list may have been deleted, or is only no longer this person's to see.
        return Parts([entry["id"] for entry in listed if kind.of(entry)], hidden=True)

    walk = each_part(
        listing, lambda calendar: _calendar(kind, calendar), prefix=lambda one: f"{one}/"
    )

    return Stream(
        name=name,
        read=lambda at, context: walk(renewed(at), context),
        key=lambda record: key_of(record["calendar_id"], record["id"]),
        columns={"calendar_id": column("calendar_id"), **columns},
    )


def entries() -> Calls[list[Record]]:
    """The calendars on the list."""
    found: list[Record] = []
    page: dict[str, str] = {}
    while True:
        response = yield from ask(Request.get(LIST.path, params={**LIST.params, **page}))
        found += rows_of(response, "items")
        if not response.json.get("nextPageToken"):
            return found
        page = {"pageToken": response.json["nextPageToken"]}


def _calendar(kind: Kind, calendar: str) -> Read:
    """Reads a calendar: what changed since its token, or all of it."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        again = _Again() if here.again or _is_hushed(here.listed, context.now) else None
        if again:
            here = Place(listed=here.listed)
        whole_at = None if here.token else context.now.isoformat()
        while True:
            response = yield from ask(_listing(kind, calendar, here))
            if response.status == 404:
                raise NotAllowedError(f"{TITLE} lists a calendar, and does not show what is in it")
            if response.status == 400 and here.token and here.page:
                here = replace(here, page=None, kept={})  # only the page has lapsed
                continue
            if response.status != 200:
                here, again = Place(listed=here.listed), _Again()
                whole_at = context.now.isoformat()
                continue
            rows = rows_of(response, "items")
            if here.token:
                content = kind.tell(calendar, rows, here.kept, response.sent_at)
                ended = yield from _instances(calendar, kind.ended(rows))
            else:
                content = PageContent(rows_in(calendar, [row for row in rows if kind.there(row)]))
                ended = []
            page = response.json.get("nextPageToken")
            here = replace(here, page=page, kept=content.kept)
            all_of_it = again.whole(calendar, content, response, page) if again else ()
            listed_keys = [*content.listed_keys, *ended, *all_of_it]
            if not page:
                saved = _done(calendar, response.json, whole_at or here.listed)
            else:
                # What a listing that starts over has seen is known to this run only.
                saved = Place(again=True) if again else here
            yield Page(
                content.records, saved.saved(), deleted=content.deleted, listed_keys=listed_keys
            )
            if not page:
                return

    return read


def _is_hushed(listed: str | None, now: datetime) -> bool:
    """Whether Google never reports deletions in a calendar, and it is time to look for them."""
    return listed is not None and now - datetime.fromisoformat(listed) >= timedelta(days=1)


def _done(calendar: str, answer: Record, listed: str | None) -> Place:
    """Where the next read of a calendar begins. Now and then a listing ends with no sync token
    (googleapis/google-api-php-client#1141, 2017-01): it is then listed whole once more."""
    token = answer.get("nextSyncToken")
    if not token:
        return Place(again=True)
    return Place(token=token, listed=listed if calendar == BIRTHDAYS else None)


@dataclass
class _Again:
    """All that a calendar has, listed anew because Google forgot where we stood: what it had
    before, and this does not show, is gone."""

    keys: list[str] = field(default_factory=list)
    began_at: datetime | None = None

    def whole(
        self, calendar: str, content: PageContent, response: Response, page: str | None
    ) -> Sequence[ListedKeys]:
        self.began_at = self.began_at or response.sent_at
        self.keys += [key_of(calendar, record["id"]) for record in content.records]
        return () if page else [ListedKeys(f"{calendar}/", self.keys, self.began_at)]


def _instances(calendar: str, series: Sequence[str]) -> Calls[Sequence[ListedKeys]]:
    """Which instances these series have. One that is cut off by "this and following" keeps none
    after its end, and of those that it had, a delta tells nothing (odoo/odoo#287171, 2026-09)."""
    whole: list[ListedKeys] = []
    for one in series:
        path = f"/calendars/{quote(calendar, safe='')}/events/{quote(one, safe='')}/instances"
        params: dict[str, Any] = {"maxResults": 2500, "showDeleted": True}
        keys: list[str] = []
        while True:
            response = yield from ask(Request.get(path, params=params, expect=(404, 410)))
            if response.status != 200:
                break  # it is gone, and the delta says so
            keys += [key_of(calendar, row["id"]) for row in rows_of(response, "items")]
            params = {**params, "pageToken": response.json.get("nextPageToken")}
            if not params["pageToken"]:
                whole += all_instances(calendar, one, keys, response.sent_at)
                break
    return whole


def all_instances(
    calendar: str, series: str, keys: Sequence[str], at: datetime
) -> list[ListedKeys]:
    # An instance's id is that of its series, an underscore, and the year when it was to start.
    # The rest of a series that was split has an id of that kind, too, but with a letter.
    return [ListedKeys(key_of(calendar, f"{series}_{millennium}"), keys, at) for millennium in "12"]


def _listing(kind: Kind, calendar: str, here: Place) -> Request:
    # All but the tokens must be the same in each request; while paging, both are sent.
    params: dict[str, Any] = dict(kind.params)
    if here.token:
        params["syncToken"] = here.token
    if here.page:
        params["pageToken"] = here.page
    # Google may forget a sync token at any time, and a page token until we come back with it.
    lapsed = (400, 410) if here.token or here.page else ()
    path = f"/calendars/{quote(calendar, safe='')}/{kind.path}"
    return Request.get(path, params=params, expect=(404, *lapsed))


def key_of(calendar: str, one: str) -> str:
    return f"{calendar}/{one}"


def rows_in(calendar: str, rows: Sequence[Record]) -> list[Record]:
    """The rows with their calendar, which only the path names."""
    return [{**row, "calendar_id": calendar} for row in rows]
