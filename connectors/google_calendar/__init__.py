"""Google Calendar: the calendars on a person's list, their events, and who may see them (API v3).

https://developers.google.com/workspace/calendar/api/guides/sync

Longer than 300 lines: each calendar has a sync token of its own, an instance of a series is told
in three ways, and some changes of access no feed tells.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from connectors import (
    Account,
    Calls,
    Connector,
    Context,
    RateLimit,
    Record,
    Request,
    Stream,
    SyncType,
    Watch,
    WatchRequest,
    ask,
    columns,
)
from connectors._google import SCOPE, auth, classify
from connectors._google.channels import LIFETIME, channel_webhook, open_channel, stop_channel
from connectors.google_calendar.reading import (
    LIST,
    TITLE,
    Kind,
    PageContent,
    all_instances,
    entries,
    key_of,
    of_calendars,
    rows_in,
)
from connectors.kernel.paging import cursor_pages
from connectors.kernel.webhooks import WatchSteps

SHARED_WITH = "who calendars are shared with"


def _is_owned(entry: Record) -> bool:
    return bool(entry["accessRole"] == "owner")


def _is_cancelled(event: Record) -> bool:
    """Whether the event is deleted. A cancelled instance of a series is not: it says that the
    series has no such instance, for as long as there is the series."""
    return event.get("status") == "cancelled" and "recurringEventId" not in event


def tell_events(
    calendar: str, rows: list[Record], kept: Mapping[str, list[str]], at: datetime
) -> PageContent:
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
    keys = [key_of(calendar, one) for one in sorted(alive)]
    return PageContent(
        rows_in(calendar, records),
        [key_of(calendar, one) for one in deleted],
        [whole for one in sorted(gone) for whole in all_instances(calendar, one, keys, at)],
        {"gone": sorted(gone), "alive": sorted(alive)} if gone or alive else {},
    )


def ended_series(rows: list[Record]) -> list[str]:
    """The series of a delta that have an end: there may have been a later one before."""
    return [
        row["id"]
        for row in rows
        if row.get("status") != "cancelled"
        and any("UNTIL=" in rule or "COUNT=" in rule for rule in row.get("recurrence") or ())
    ]


def tell_rules(
    calendar: str, rows: list[Record], kept: Mapping[str, list[str]], at: datetime
) -> PageContent:
    """Who may see a calendar; a rule that was taken back has the role `none`."""
    records = [row for row in rows if row["role"] != "none"]
    deleted = [key_of(calendar, row["id"]) for row in rows if row["role"] == "none"]
    return PageContent(rows_in(calendar, records), deleted)


def resources(context: Context) -> Calls[Sequence[str]]:
    """What has a channel of its own: the list, the events of each calendar, and who may see it."""
    listed = yield from entries()
    return [
        "calendarList",
        *(f"events/{entry['id']}" for entry in listed),
        *(f"acl/{entry['id']}" for entry in listed if _is_owned(entry)),
    ]


def watch(wanted: WatchRequest) -> WatchSteps:
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


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The person, by the address that is the id of their primary calendar."""
    address = (yield from ask(Request.get(f"{LIST.path}/primary"))).json["id"]
    return (Account(address.lower(), name=address),)


connector = Connector(
    name="google_calendar",
    title=TITLE,
    category="Calendar",
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
    sync_method="a sync token for each calendar",
    referees=("google-api-python-client",),
    limitations=(
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
            columns=columns(
                "summary summary_override=summaryOverride description time_zone=timeZone "
                "access_role=accessRole is_primary=primary:boolean is_hidden=hidden:boolean"
            ),
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
                ended=ended_series,
            ),
            columns(
                "status summary description location starts_at=start.dateTime:timestamptz "
                "starts_on=start.date:date ends_at=end.dateTime:timestamptz ends_on=end.date:date "
                "recurrence:jsonb recurring_event_id=recurringEventId "
                "original_starts_at=originalStartTime.dateTime:timestamptz "
                "original_starts_on=originalStartTime.date:date organizer_email=organizer.email "
                "attendees:jsonb event_type=eventType created_at=created:timestamptz "
                "updated_at=updated:timestamptz"
            ),
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
            ),
            columns("role scope_type=scope.type scope_value=scope.value"),
        ),
    ),
)
