"""Google Calendar: the calendars on a person's list, their events, and who may see them (API v3).

https://developers.google.com/workspace/calendar/api/guides/sync
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

from connectors import (
    Account,
    Checkpoint,
    Column,
    Connector,
    Context,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Wanted,
    Watch,
    Whole,
    column,
)
from connectors._google import AWAY, SCOPE, auth, classify, is_away
from connectors._google_channels import LIFETIME, channel_webhook, open_channel, stop_channel
from connectors._paging import cursor_pages, onward, rows_of
from connectors._webhooks import Watching

TITLE = "Google Calendar"
SHARED_WITH = "who calendars are shared with"
LIST = Request.get("/users/me/calendarList", params={"maxResults": 250, "showHidden": True})


@dataclass(frozen=True)
class Told:
    """What a page of a calendar's listing says. `kept` has to be known at the pages after it."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    whole: Sequence[Whole] = ()
    kept: Mapping[str, list[str]] = field(default_factory=dict)


# Reads the rows of a delta, knowing the calendar, what was kept, and when the rows were true.
Tell: TypeAlias = Callable[[str, list[Record], Mapping[str, list[str]], datetime], Told]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing that each calendar has. `without` names it where its scope is missing."""

    path: str
    params: Mapping[str, str | int | bool]
    of: Callable[[Record], bool]
    there: Callable[[Record], bool]
    tell: Tell
    without: str = ""


def of_calendars(name: str, kind: Kind, columns: Mapping[str, Column]) -> Stream:
    """A stream of what is in calendars, with a sync token for each of these.

    The checkpoint holds the tokens and, within a round, which calendars it has yet to come to.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        if "pending" not in at:
            entries, listed_at = yield from _entries()
            ids = [entry["id"] for entry in entries if kind.of(entry)]
            known = at.get("tokens", {})
            tokens = {calendar: token for calendar, token in known.items() if calendar in ids}
            gone = [_all_of(calendar, listed_at) for calendar in known if calendar not in tokens]
            at = _position(tokens, ids)
            yield Page((), at, whole=gone)
        while at.get("pending"):
            at = yield from _calendar(kind, at)

    return Stream(
        name=name,
        read=read,
        key=lambda record: _key(record["calendar_id"], record["id"]),
        columns={"calendar_id": column("calendar_id"), **columns},
    )


def _entries() -> Generator[Request, Response, tuple[list[Record], datetime]]:
    """The calendars on the list, and when it was read."""
    entries: list[Record] = []
    page: dict[str, str] = {}
    times: list[datetime] = []
    while True:
        response = yield Request.get(LIST.path, params={**LIST.params, **page})
        times.append(response.sent_at)
        entries += rows_of(response, "items")
        if "nextPageToken" not in response.json:
            return entries, min(times)
        page = {"pageToken": onward(page.get("pageToken"), response.json["nextPageToken"])}


def _calendar(kind: Kind, at: Checkpoint) -> Generator[Any, Response, Checkpoint]:
    """Reads the calendar that is next: what changed since its token, or all of it."""
    calendar, *rest = at["pending"]
    others = {one: token for one, token in at["tokens"].items() if one != calendar}
    token, page = at["tokens"].get(calendar), at.get("page")
    kept: Mapping[str, list[str]] = at.get("kept", {})
    resumed = page is not None
    again = _Again() if at.get("again") else None
    while True:
        response = yield _listing(kind, calendar, token, page, resumed=resumed)
        if is_away(TITLE, response, without=kind.without):
            done = _position(others, rest)
            yield Page((), done, whole=[_all_of(calendar, response.sent_at)])
            return done
        if response.status == 400 and token:
            page, kept, resumed = None, {}, False  # only the page has lapsed
            continue
        if response.status in (400, 410):
            token, page, kept, resumed, again = None, None, {}, False, _Again()
            continue
        rows = rows_of(response, "items")
        if token:
            told = kind.tell(calendar, rows, kept, response.sent_at)
        else:
            told = Told(_of(calendar, [row for row in rows if kind.there(row)]))
        following = response.json.get("nextPageToken")
        page = onward(page, following) if following else None
        kept, resumed = told.kept, False
        whole = [*told.whole, *(again.whole(calendar, told, response, page) if again else ())]
        if page is None:
            done = _position({**others, calendar: response.json["nextSyncToken"]}, rest)
            yield Page(told.records, done, deleted=told.deleted, whole=whole)
            return done
        # What a listing that starts over has seen is known to this run only.
        more = {"again": True} if again else {"page": page, **({"kept": kept} if kept else {})}
        here = _position(at["tokens"] if token else others, at["pending"], **more)
        yield Page(told.records, here, deleted=told.deleted, whole=whole)


@dataclass
class _Again:
    """All that a calendar has, listed anew because Google forgot where we stood: what it had
    before, and this does not show, is gone."""

    keys: list[str] = field(default_factory=list)
    began_at: datetime | None = None

    def whole(
        self, calendar: str, told: Told, response: Response, page: str | None
    ) -> Sequence[Whole]:
        self.began_at = self.began_at or response.sent_at
        self.keys += [_key(calendar, record["id"]) for record in told.records]
        return () if page else [Whole(f"{calendar}/", self.keys, self.began_at)]


def _listing(
    kind: Kind, calendar: str, token: str | None, page: str | None, *, resumed: bool
) -> Request:
    # All but the tokens must be the same in each request; while paging, both are sent.
    params: dict[str, Any] = dict(kind.params)
    if token:
        params["syncToken"] = token
    if page:
        params["pageToken"] = page
    # Google may forget a sync token at any time, and a page token until we come back with it.
    lapsed = ((410,) if token or resumed else ()) + ((400,) if resumed else ())
    path = f"/calendars/{quote(calendar, safe='')}/{kind.path}"
    return Request.get(path, params=params, expect=(*AWAY, *lapsed))


def _position(tokens: Mapping[str, str], pending: Sequence[str], **more: Any) -> Checkpoint:
    return Checkpoint(tokens=tokens, **({"pending": pending, **more} if pending else {}))


def _all_of(calendar: str, at: datetime) -> Whole:
    return Whole(f"{calendar}/", (), at)


def _key(calendar: str, one: str) -> str:
    return f"{calendar}/{one}"


def _of(calendar: str, rows: Sequence[Record]) -> list[Record]:
    """The rows with their calendar, which only the path names."""
    return [{**row, "calendar_id": calendar} for row in rows]


def _is_owned(entry: Record) -> bool:
    return bool(entry["accessRole"] == "owner")


def _is_cancelled(event: Record) -> bool:
    """Whether the event is deleted. A cancelled instance of a series is not: it says that the
    series has no such instance, for as long as there is the series."""
    return event.get("status") == "cancelled" and "recurringEventId" not in event


def tell_events(
    calendar: str, rows: list[Record], kept: Mapping[str, list[str]], at: datetime
) -> Told:
    """Deletes are cancelled events, of which only the id is sure to be there.

    With a series go its exceptions: a delta may tell of them before, after, or not at all.
    """
    gone = set(kept.get("gone", ())) | {row["id"] for row in rows if _is_cancelled(row)}
    gone -= {row["id"] for row in rows if row.get("status") != "cancelled"}
    # Who was taken out of a series may still be invited to one instance of it.
    alive = set(kept.get("alive", ())) | {
        row["id"] for row in rows if "recurringEventId" in row and row.get("status") != "cancelled"
    }
    dropped = [
        row for row in rows
        if row.get("status") == "cancelled" and row.get("recurringEventId", row["id"]) in gone
    ]  # fmt: skip
    deleted = [row["id"] for row in dropped]
    records = [row for row in rows if row["id"] not in deleted]
    keys = [_key(calendar, one) for one in sorted(alive)]
    return Told(
        _of(calendar, records),
        [_key(calendar, one) for one in deleted],
        # An instance's id is that of its series, an underscore, and the year when it was to start.
        # The rest of a series that was split has an id of that kind, too, but with a letter.
        [
            Whole(_key(calendar, f"{one}_{millennium}"), keys, at)
            for one in sorted(gone)
            for millennium in "12"
        ],
        {"gone": sorted(gone), "alive": sorted(alive)} if gone or alive else {},
    )


def tell_rules(
    calendar: str, rows: list[Record], kept: Mapping[str, list[str]], at: datetime
) -> Told:
    """Who may see a calendar; a rule that was taken back has the role `none`."""
    records = [row for row in rows if row["role"] != "none"]
    deleted = [_key(calendar, row["id"]) for row in rows if row["role"] == "none"]
    return Told(_of(calendar, records), deleted)


def resources(context: Context) -> Generator[Request, Response, Sequence[str]]:
    """What has a channel of its own: the list, the events of each calendar, and who may see it."""
    entries, _ = yield from _entries()
    return [
        "calendarList",
        *(f"events/{entry['id']}" for entry in entries),
        *(f"acl/{entry['id']}" for entry in entries if _is_owned(entry)),
    ]


def watch(wanted: Wanted) -> Watching:
    kind, _, calendar = wanted.resource.partition("/")
    if not calendar:
        return (yield from open_channel(TITLE, f"{LIST.path}/watch", wanted))
    path = f"/calendars/{quote(calendar, safe='')}/{kind}/watch"
    without = SHARED_WITH if kind == "acl" else ""
    return (yield from open_channel(TITLE, path, wanted, without=without))


def streams_of(resource: str) -> tuple[str, ...]:
    # A calendar that came onto the list, or left it, does so with all that is in it.
    kind = resource.partition("/")[0]
    return ("calendars", "events", "acl") if kind == "calendarList" else (kind,)


def streams_at(address: str) -> tuple[str, ...]:
    """What a message is about, by the address of its resource; all, where that is none we know."""
    last = urlsplit(address).path.rpartition("/")[2]
    return streams_of(last) if last in ("calendarList", "events", "acl") else ()


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The person, by the address that is the id of their primary calendar."""
    address = (yield Request.get(f"{LIST.path}/primary")).json["id"]
    return (Account(address.lower(), name=address),)


connector = Connector(
    name="google_calendar",
    title=TITLE,
    sync_type=SyncType.HYBRID,
    base_url="https://www.googleapis.com/calendar/v3",
    auth=auth(
        {
            f"{SCOPE}calendar.events.readonly": "the stream events",
            f"{SCOPE}calendar.calendarlist.readonly": "the stream calendars",
            f"{SCOPE}calendar.acls.readonly": "the stream acl; the others go on without it",
        }
    ),
    rate_limits=(
        # What a project has unless the operator asks for more is 600 and 10,000; Google publishes
        # no figures, and says 403 or 429 where they are others (2026-11). Who consents is asked
        # for before there is an account to count that for: some are left for it.
        RateLimit(580, per=timedelta(minutes=1)),
        RateLimit(9_900, per=timedelta(minutes=1), scope="app"),
    ),
    identify=identify,
    classify=classify(TITLE),
    # What others set of a calendar on the list makes no message: the list is polled as well.
    webhook=channel_webhook(streams=streams_at, covers=("events", "acl")),
    watch=Watch(
        resources=resources,
        create=watch,
        delete=stop_channel,
        streams=streams_of,
        lifetime=LIFETIME,
    ),
    follows="a sync token for each calendar",
    judged_by=("google-api-python-client",),
    gaps=(
        "Calendars that Google opens no channel on, such as those of holidays, are only polled.",
        "Who was invited to one instance of a series, and then taken out of the series, loses that "
        "instance here until it changes or a full read comes, if both did not change together.",
    ),
    streams=(
        Stream(
            name="calendars",
            # A delta leaves out entries of which only that changed which others set, such as the
            # name of a shared calendar. The whole list takes no more calls.
            read=cursor_pages(LIST, records="items", cursor="nextPageToken", param="pageToken"),
            snapshot=True,
            columns={
                "summary": column("summary"),
                "summary_override": column("summaryOverride"),
                "description": column("description"),
                "time_zone": column("timeZone"),
                "access_role": column("accessRole"),
                "is_primary": column("primary", "boolean"),
                "is_hidden": column("hidden", "boolean"),
            },
        ),
        of_calendars(
            "events",
            Kind(
                path="events",
                # Series with their exceptions: the instances of a series have no end. There may be
                # 2,500 on a page, but an event may also have hundreds of guests.
                params={"maxResults": 1000, "singleEvents": False},
                of=lambda calendar: True,
                there=lambda event: not _is_cancelled(event),
                tell=tell_events,
            ),
            {
                "status": column("status"),
                "summary": column("summary"),
                "description": column("description"),
                "location": column("location"),
                "starts_at": column("start.dateTime", "timestamptz"),
                "starts_on": column("start.date", "date"),
                "ends_at": column("end.dateTime", "timestamptz"),
                "ends_on": column("end.date", "date"),
                "recurrence": column("recurrence", "jsonb"),
                "recurring_event_id": column("recurringEventId"),
                "original_starts_at": column("originalStartTime.dateTime", "timestamptz"),
                "organizer_email": column("organizer.email"),
                "attendees": column("attendees", "jsonb"),
                "event_type": column("eventType"),
                "created_at": column("created", "timestamptz"),
                "updated_at": column("updated", "timestamptz"),
            },
        ),
        of_calendars(
            "acl",
            Kind(
                path="acl",
                params={"maxResults": 250},
                # Only owners may see it.
                of=_is_owned,
                there=lambda rule: rule["role"] != "none",
                tell=tell_rules,
                without=SHARED_WITH,
            ),
            {
                "role": column("role"),
                "scope_type": column("scope.type"),
                "scope_value": column("scope.value"),
            },
        ),
    ),
)
