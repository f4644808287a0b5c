"""Reading a diary: the list of calendars, events, who may see them, settings.

https://developers.google.com/workspace/calendar/api/v3/reference
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from starlette.responses import Response

from sandbox._google import flag, refused, wrong
from sandbox._google.fields import answered
from sandbox.google_calendar.paging import Row, Rules, listed
from sandbox.google_calendar.series import instance, instance_id, instance_of, moment, starts
from sandbox.google_calendar.store import Calendar, Diary, shown_event
from sandbox.kernel.clock import stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

ENTRIES = Rules(
    kind="calendar#calendarList",
    default=100,
    most=250,
    forbidden=frozenset(["minAccessRole", "showOwnOrganizationOnly"]),
)
EVENTS = Rules(
    kind="calendar#events",
    default=250,
    most=2500,
    forbidden=frozenset(
        [
            *("iCalUID", "orderBy", "privateExtendedProperty", "q", "sharedExtendedProperty"),
            *("timeMin", "timeMax", "updatedMin"),
        ]
    ),
)
ACL = Rules(kind="calendar#acl", default=100, most=250)
SETTINGS = Rules(kind="calendar#settings", default=100, most=250)

ROLES = ("freeBusyReader", "reader", "writerWithoutPrivateAccess", "writer", "owner")
# Deleted events can be asked for by the time of their deletion for so long.
DELETES_KEPT = timedelta(days=28)
SEARCHED = ("summary", "description", "location")


def list_entries(call: Call, diary: Diary) -> Response:
    """The person's list; hidden and deleted entries where they are asked for."""
    least = call.query.get("minAccessRole", ROLES[0])
    if least not in ROLES:
        raise wrong(f"Invalid value for: {least} is not a valid role", "minAccessRole")
    hidden, deleted = flag(call, "showHidden"), flag(call, "showDeleted")

    def rows(delta: bool) -> Iterator[Row]:
        for id_, entry in diary.entries.items.items():
            seen = ROLES.index(entry["accessRole"]) >= ROLES.index(least)
            if not delta:
                seen = seen and (deleted or not entry.get("deleted"))
                seen = seen and (hidden or not entry.get("hidden"))
            yield Row(diary.entries.numbers[id_], id_, dict(entry) if seen else None)

    return listed(call, diary.entries, ENTRIES, rows)


def get_entry(call: Call, diary: Diary) -> Response:
    return answered(call, found_entry(call, diary))


def found_entry(call: Call, diary: Diary) -> Json:
    id_ = _calendar_id(call, diary)
    if id_ not in diary.entries.items or id_ in diary.entries.deleted:
        raise refused(404, "notFound", "Not Found")
    return diary.entries.items[id_]


def _calendar_id(call: Call, diary: Diary) -> str:
    id_ = call.params["calendar"]
    return diary.address if id_ == "primary" else id_


def found_calendar(call: Call, diary: Diary, *roles: str) -> Calendar:
    """The calendar that the path names, if the person has one of those roles there."""
    calendar = diary.calendars.get(_calendar_id(call, diary))
    if calendar is None or not calendar.exists:
        raise refused(404, "notFound", "Not Found")
    if roles and diary.role(calendar.id) not in roles:
        message = f"You need to have {roles[-1]} access to this calendar."
        raise refused(403, "requiredAccessLevel", message, domain="calendar")
    return calendar


def get_calendar(call: Call, diary: Diary) -> Response:
    return answered(call, found_calendar(call, diary).resource)


def list_events(call: Call, diary: Diary) -> Response:
    """A calendar's events: series with their exceptions or, on demand, all instances."""
    calendar = found_calendar(call, diary)
    if ("events", calendar.id) in diary.refused:
        raise refused(404, "notFound", "Not Found")
    single, order = flag(call, "singleEvents"), call.query.get("orderBy", "")
    if order not in ("", "startTime", "updated") or (order == "startTime" and not single):
        raise wrong("The requested ordering is not available for this query.", "orderBy")
    fits = _filter(call, diary, calendar)
    role = diary.role(calendar.id)
    deleted = flag(call, "showDeleted")

    def rows(delta: bool) -> Iterator[Row]:
        for number, event in _events(calendar, single=single):
            gone = event["status"] == "cancelled"
            exception = "recurringEventId" in event and not single
            told = delta or deleted or not gone or (exception and event["id"] not in away)
            shown = shown_event(event, role) if told and fits(event) else None
            yield Row(number, event["id"], shown)

    away = calendar.events.deleted
    about = {
        "summary": calendar.resource["summary"],
        "updated": stamp(diary.clock.now()),
        "timeZone": calendar.resource["timeZone"],
        "accessRole": role,
        "defaultReminders": diary.entries.items[calendar.id]["defaultReminders"],
    }
    if order:
        return _ordered(call, calendar, about, list(rows(False)), order)
    # What a search has found cannot be followed.
    tokens = not {"q", "iCalUID", "updatedMin"} & set(call.query)
    return listed(call, calendar.events, EVENTS, rows, about, tokens=tokens)


def _ordered(call: Call, calendar: Calendar, about: Json, rows: list[Row], order: str) -> Response:
    """A listing in an order of its own is given at once, and cannot be followed."""
    if "syncToken" in call.query:
        raise refused(
            400, "syncTokenWithRequestRestrictions", "Sync token cannot be used with orderBy."
        )
    shown = [row.shown for row in rows if row.shown]
    if order == "startTime":
        shown.sort(key=lambda event: moment(event.get("start") or event["originalStartTime"]))
    else:
        shown.sort(key=lambda event: str(event.get("updated", "")))
    body = {"kind": EVENTS.kind, "etag": f'"{calendar.events.last}"', **about, "items": shown}
    return answered(call, body)


def _events(calendar: Calendar, *, single: bool) -> Iterator[tuple[int, Json]]:
    """Each event with the number of its change; with `single`, instances in place of series."""
    shelf = calendar.events
    for id_, event in list(shelf.items.items()):
        number = shelf.numbers[id_]
        if not single or "recurrence" not in event:
            yield number, event
            continue
        for start in starts(event):
            if instance_id(event, start) not in shelf.items:
                yield number, instance(event, start)


def _filter(call: Call, diary: Diary, calendar: Calendar) -> Callable[[Json], bool]:
    """Whether an event is one of those that the query asks for."""
    asked = call.query
    least, most, since = (_time(call, name) for name in ("timeMin", "timeMax", "updatedMin"))
    if since and since < diary.clock.now() - DELETES_KEPT:
        message = "The requested minimum modification time lies too far in the past."
        raise refused(410, "updatedMinTooLongAgo", message, domain="calendar")
    words, uid = asked.get("q", "").lower().split(), asked.get("iCalUID", "")
    kinds = asked.getlist("eventTypes")
    properties = [
        (kind, *pair.partition("=")[::2])
        for kind in ("private", "shared")
        for pair in asked.getlist(f"{kind}ExtendedProperty")
    ]

    def fits(event: Json) -> bool:
        text = " ".join(str(event.get(name, "")) for name in SEARCHED).lower()
        held = event.get("extendedProperties", {})
        return (
            (not least or moment(event.get("end") or event["originalStartTime"]) > least)
            and (not most or moment(event.get("start") or event["originalStartTime"]) < most)
            and (not since or datetime.fromisoformat(event["updated"]) >= since)
            and all(word in text for word in words)
            and (not uid or event["iCalUID"] == uid)
            and (not kinds or event["eventType"] in kinds)
            and all(held.get(kind, {}).get(name) == value for kind, name, value in properties)
        )

    return fits


def _time(call: Call, name: str) -> datetime | None:
    asked = call.query.get(name, "")
    if not asked:
        return None
    try:
        at = datetime.fromisoformat(asked)
    except ValueError as error:
        raise wrong("Bad Request", name) from error
    if at.tzinfo is None:
        raise wrong("Bad Request", name)
    return at


def get_event(call: Call, diary: Diary) -> Response:
    """An event, also one that is deleted."""
    calendar = found_calendar(call, diary)
    return answered(call, shown_event(found_event(call, calendar), diary.role(calendar.id)))


def found_event(call: Call, calendar: Calendar) -> Json:
    """The event that the path names: it may be an instance that is nowhere but in its series."""
    id_ = call.params["event"]
    event = calendar.events.items.get(id_) or instance_of(calendar.events.items, id_)
    if event is None:
        raise refused(404, "notFound", "Not Found")
    return event


def list_instances(call: Call, diary: Diary) -> Response:
    """The instances of one series, its exceptions among them."""
    calendar = found_calendar(call, diary)
    series = found_event(call, calendar)
    deleted, role = flag(call, "showDeleted"), diary.role(calendar.id)

    def rows(delta: bool) -> Iterator[Row]:
        for number, event in _events(calendar, single=True):
            if event.get("recurringEventId") == series["id"]:
                told = deleted or event["status"] != "cancelled"
                yield Row(number, event["id"], shown_event(event, role) if told else None)

    about = {"summary": calendar.resource["summary"], "accessRole": role}
    return listed(call, calendar.events, EVENTS, rows, about, tokens=False)


def list_rules(call: Call, diary: Diary) -> Response:
    calendar = found_calendar(call, diary, "owner")
    if ("acl", calendar.id) in diary.refused:
        raise refused(403, "forbidden", "Forbidden")
    deleted = flag(call, "showDeleted")

    def rows(delta: bool) -> Iterator[Row]:
        for id_, rule in calendar.acl.items.items():
            told = delta or deleted or rule["role"] != "none"
            yield Row(calendar.acl.numbers[id_], id_, dict(rule) if told else None)

    return listed(call, calendar.acl, ACL, rows)


def get_rule(call: Call, diary: Diary) -> Response:
    calendar = found_calendar(call, diary, "owner")
    return answered(call, found_rule(call, calendar))


def found_rule(call: Call, calendar: Calendar) -> Json:
    rule = calendar.acl.items.get(call.params["rule"])
    if rule is None or rule["role"] == "none":
        raise refused(404, "notFound", "Not Found")
    return rule


def list_settings(call: Call, diary: Diary) -> Response:
    def rows(delta: bool) -> Iterator[Row]:
        for id_, setting in diary.settings.live():
            yield Row(diary.settings.numbers[id_], id_, dict(setting))

    return listed(call, diary.settings, SETTINGS, rows)


def get_setting(call: Call, diary: Diary) -> Response:
    setting = diary.settings.items.get(call.params["setting"])
    if setting is None:
        raise refused(404, "notFound", "Not Found")
    return answered(call, setting)
