"""What is on a new person's calendars, and what happens there when a change is ordered."""

from collections.abc import Collection
from datetime import datetime, timedelta
from random import Random

from sandbox.google_calendar.series import instance, instance_id, starts
from sandbox.google_calendar.store import (
    BUSY_ONLY,
    Calendar,
    Diary,
    alterable,
    cancel_event,
    close_calendar,
    open_calendar,
    put_behind,
    put_entry,
    put_event,
    put_rule,
    reassign,
    rule_of,
)
from sandbox.kernel.clock import stamp
from sandbox.kernel.data import PLACES, TOPICS, domain, firm, person, plain, sentence
from sandbox.kernel.fields import only, without
from sandbox.kernel.mutations import Mutations, refuse_unknown
from sandbox.kernel.values import Change, Json, RefusedError, Seed

# Letters and digits of base32hex: what an event's id may be made of.
LETTERS = "0123456789abcdefghijklmnopqrstuv"
COLORS = ("#ac725e", "#d06b64", "#f83a22", "#fa573c", "#ff7537", "#16a765", "#9fc6e7")
SUBJECTS = ("Stand-up", "Review", "Lunch", "Interview", "Workshop", "1:1", "Demo", "Planning")
ANSWERS = ("accepted", "declined", "needsAction", "tentative")
ROLES = ("freeBusyReader", "reader", "writer")
SETTINGS = {"locale": "en", "timezone": "UTC", "weekStart": "1", "format24HourTime": "true"}
ENTRY_FIELDS = ("summaryOverride", "colorId", "backgroundColor", "selected", "hidden")
EVENT_FIELDS = (
    *("summary", "description", "location", "start", "end", "attendees", "recurrence", "status"),
    *("visibility", "transparency", "colorId", "extendedProperties", "reminders"),
)
# From so many events on there is one of each kind.
ENOUGH = 100


def _there(diary: Diary, stream: str) -> Collection[str]:
    return diary.entries.items if stream == "calendars" else alterable(diary, stream)


MUTATIONS = Mutations[Diary](there=_there)


def new(seed: Seed) -> Diary:
    """A diary filled from the seed. A primary calendar is always there."""
    random = Random(seed.random.random())
    diary = Diary(seed.account_id, seed.name, seed.clock, random, tell=seed.tell)
    for name, value in SETTINGS.items():
        diary.settings.put(name, {"kind": "calendar#setting", "id": name, "value": value})
    _add_primary(diary)
    if seed.size:
        for _ in range(3):
            _add_own(diary, seed.random)
        _add_foreign(diary, seed.random, "reader", public=True)
        for role in (BUSY_ONLY, "reader"):
            _add_foreign(diary, seed.random, role)
    calendars = list(diary.calendars.values())
    # Half of them on the primary one, and those on one side of it in its past.
    weights = [len(calendars), *(1 for _ in calendars[1:])]
    for _ in range(seed.size):
        _add_event(diary, seed.random.choices(calendars, weights)[0], seed.random)
    for _ in range(seed.size // 20):
        _except(diary, seed.random)
    for calendar in calendars:
        if diary.role(calendar.id) == "owner":
            for _ in range(seed.random.randint(0, 3) if seed.size else 0):
                _add_rule(diary, calendar, seed.random, {})
    if seed.size >= ENOUGH:
        _add_whole_days(diary, calendars[0], seed.random)
    return diary


def _add_whole_days(diary: Diary, calendar: Calendar, random: Random) -> None:
    """A series of whole days, and an instance that is not as the others."""
    today = diary.clock.now().date()
    days = [{"date": (today + timedelta(days=after)).isoformat()} for after in (0, 1)]
    whole = {"start": days[0], "end": days[1], "recurrence": ["RRULE:FREQ=DAILY;COUNT=10"]}
    id_ = _add_event(diary, calendar, random, whole)
    _except_of(diary, calendar, calendar.events.items[id_], random)


def _add_primary(diary: Diary) -> None:
    resource = {"id": diary.address, "summary": diary.address, "timeZone": "UTC"}
    shown = {"primary": True, "selected": True, "colorId": "14", "backgroundColor": COLORS[0]}
    open_calendar(diary, resource, "owner", {**shown, **_entry()})


def _entry() -> Json:
    return {
        "defaultReminders": [{"method": "popup", "minutes": 10}],
        "conferenceProperties": {"allowedConferenceSolutionTypes": ["hangoutsMeet"]},
        "foregroundColor": "#000000",
    }


def _add_own(diary: Diary, random: Random) -> Calendar:
    """A secondary calendar that the person made."""
    id_ = f"c_{random.getrandbits(160):040x}@group.calendar.google.com"
    topic = random.choice(TOPICS)
    about = {"summary": topic.capitalize(), "description": f"All dates of the {topic}."}
    resource = {"id": id_, **about, "timeZone": "UTC", "dataOwner": diary.address}
    return open_calendar(diary, resource, "owner", look(random))


def _add_foreign(diary: Diary, random: Random, role: str, *, public: bool = False) -> Calendar:
    """Somebody else's calendar; the id of a public one has a sign that addresses must escape."""
    id_ = f"en.{plain(random.choice(PLACES)[1])}#holiday@group.v.calendar.google.com"
    while not public or id_ in diary.calendars:
        first, last = person(random)
        id_, public = f"{plain(first)}.{plain(last)}@{domain(firm(random))}", True
    resource = {"id": id_, "summary": id_, "timeZone": "UTC"}
    return open_calendar(diary, resource, role, look(random))


def look(random: Random) -> Json:
    """How an entry looks on the person's list."""
    number = random.randrange(len(COLORS))
    shown: Json = {"colorId": str(number + 1), "backgroundColor": COLORS[number]}
    if random.random() < 0.7:
        shown["selected"] = True
    if random.random() < 0.2:
        shown["hidden"] = True
    return {**shown, **_entry()}


def _new_id(random: Random) -> str:
    return "".join(random.choice(LETTERS) for _ in range(26))


def event(diary: Diary, calendar: Calendar, given: Json, random: Random) -> Json:
    """A new event of those fields, the rest as Google fills it in."""
    id_, now = str(given.get("id") or _new_id(random)), stamp(diary.clock.now())
    made = {
        "kind": "calendar#event",
        "id": id_,
        "status": "confirmed",
        "htmlLink": f"https://www.google.com/calendar/event?eid={id_}",
        "created": now,
        "updated": now,
        "creator": {"email": diary.address, "self": True},
        "organizer": {"email": calendar.id, "displayName": calendar.resource["summary"]},
        "iCalUID": f"{id_}@google.com",
        "sequence": 0,
        "reminders": {"useDefault": True},
        "eventType": "default",
    }
    return made | only(given, *EVENT_FIELDS)


def _add_event(diary: Diary, calendar: Calendar, random: Random, given: Json | None = None) -> str:
    """A made-up event: one in four is a series."""
    given = given or {}
    now = diary.clock.now()
    start = (now + timedelta(days=random.randint(-200, 90))).replace(
        hour=random.randint(7, 17), minute=random.choice((0, 15, 30)), second=0, microsecond=0
    )
    made: Json = {
        "summary": f"{random.choice(SUBJECTS)}: {random.choice(TOPICS)}",
        **_times(start, timedelta(minutes=random.choice((30, 45, 60, 120))), random),
    }
    if random.random() < 0.5:
        made["description"] = sentence(random)
    if random.random() < 0.3:
        made["location"] = random.choice(PLACES)[0]
    if random.random() < 0.4:
        made["attendees"] = [_attendee(random) for _ in range(random.randint(1, 4))]
    if random.random() < 0.1:
        made["visibility"] = "private"
    if random.random() < 0.25:
        made["recurrence"] = [_rule(random)]
    whole = event(diary, calendar, made | given, random)
    put_event(diary, calendar, whole)
    return str(whole["id"])


def _times(start: datetime, length: timedelta, random: Random) -> Json:
    if random.random() < 0.15:
        day = start.date()
        return {
            "start": {"date": day.isoformat()},
            "end": {"date": (day + timedelta(days=1)).isoformat()},
        }
    return {"start": _at(start), "end": _at(start + length)}


def _at(moment: datetime) -> Json:
    return {"dateTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "timeZone": "UTC"}


def _rule(random: Random) -> str:
    rule = f"RRULE:FREQ={random.choice(('DAILY', 'WEEKLY'))}"
    if random.random() < 0.3:
        rule += ";INTERVAL=2"
    return rule if random.random() < 0.4 else f"{rule};COUNT={random.randint(4, 20)}"


def _attendee(random: Random) -> Json:
    first, last = person(random)
    address = f"{plain(first)}.{plain(last)}@{domain(firm(random))}"
    return {"email": address, "displayName": f"{first} {last}", "responseStatus": "needsAction"}


def _except(diary: Diary, random: Random) -> bool:
    """An instance of some series is moved or cancelled; False where no series is left for that."""
    series = [
        (calendar, one)
        for calendar in diary.calendars.values()
        for _, one in calendar.events.live()
        if "recurrence" in one and one["status"] != "cancelled"
    ]
    if not series:
        return False
    return _except_of(diary, *random.choice(series), random)


def _except_of(diary: Diary, calendar: Calendar, series: Json, random: Random) -> bool:
    free = [
        start
        for start in list(starts(series))[:30]
        if instance_id(series, start) not in calendar.events.items
    ]
    if not free:
        return False
    one = instance(series, random.choice(free))
    changed = random.choice(({"status": "cancelled"}, {"summary": f"{one['summary']} (moved)"}))
    put_event(diary, calendar, {**one, **changed})
    return True


@MUTATIONS.of(("events", "acl"), "add")
def _add(diary: Diary, change: Change) -> str:
    """A new event, or a new rule, on a calendar that the order names or on some calendar."""
    record = {**change.record}
    writable = [id_ for id_, _ in diary.entries.live() if diary.calendars[id_].exists]
    if change.stream == "acl":
        writable = [id_ for id_ in writable if diary.role(id_) == "owner"]
    # Of a calendar that is refused now nothing would be told.
    writable = [id_ for id_ in writable if (change.stream, id_) not in diary.refused]
    if not writable:
        raise RefusedError("there is no calendar for that now", status=409)
    calendar_id = record.pop("calendar_id", None) or change.random.choice(writable)
    if calendar_id not in writable:
        raise RefusedError(f"there is no calendar {calendar_id!r} for that; there are: {writable}")
    calendar = diary.calendars[calendar_id]
    make = _add_event if change.stream == "events" else _add_rule
    return f"{calendar_id}/{make(diary, calendar, change.random, record)}"


def _place(diary: Diary, change: Change) -> tuple[Calendar, str]:
    """The calendar that an order names, and what on it."""
    calendar_id, _, one = str(change.id).partition("/")
    return diary.calendars[calendar_id], one


@MUTATIONS.of("events", "delete")
def _cancel(diary: Diary, change: Change) -> None:
    cancel_event(diary, *_place(diary, change), told=change.random.random() < 0.5)


@MUTATIONS.of("events", "change")
def _change_event(diary: Diary, change: Change) -> None:
    calendar, one = _place(diary, change)
    held, random = calendar.events.items[one], change.random
    refuse_unknown("events", change.record, EVENT_FIELDS)
    if change.record:
        put_event(diary, calendar, {**held, **change.record})
    elif "recurrence" in held and random.random() < 0.5:
        if not _except_of(diary, calendar, held, random):
            _rename(diary, calendar, held, random)
    elif random.random() < 0.2:
        minutes = held["reminders"].get("overrides", [{"minutes": 5}])[0]["minutes"] + 5
        overrides = [{"method": "popup", "minutes": minutes}]
        reminders = {"useDefault": False, "overrides": overrides}
        put_event(diary, calendar, {**held, "reminders": reminders}, touched=False)
    elif held.get("attendees") and random.random() < 0.5:
        first, *rest = held["attendees"]
        others = [answer for answer in ANSWERS if answer != first["responseStatus"]]
        answered = {**first, "responseStatus": random.choice(others)}
        put_event(diary, calendar, {**held, "attendees": [answered, *rest]})
    else:
        _rename(diary, calendar, held, random)


def _rename(diary: Diary, calendar: Calendar, held: Json, random: Random) -> None:
    put_event(
        diary,
        calendar,
        {
            **held,
            "summary": f"{held['summary'].partition(' #')[0]} #{random.getrandbits(24)}",
            "sequence": held["sequence"] + 1,
        },
    )


@MUTATIONS.of("calendars")
def _apply_calendar(diary: Diary, change: Change) -> str:
    random, record, id_ = change.random, change.record, str(change.id)
    if change.op == "add":
        role = record.get("accessRole") or random.choice(("owner", *ROLES))
        own = role == "owner"
        calendar = _add_own(diary, random) if own else _add_foreign(diary, random, role)
        for _ in range(random.randint(0, 8)):
            _add_event(diary, calendar, random)
        return calendar.id
    held = diary.entries.items[id_]
    if change.op == "delete":
        if held.get("primary"):
            raise RefusedError("nobody takes the primary calendar off the list", status=400)
        close_calendar(diary, id_)
    elif record:
        mine = only(record, *ENTRY_FIELDS)
        put_behind(diary, id_, without(record, *mine))
        if mine:
            put_entry(diary, {**diary.entries.items[id_], **mine})
    elif diary.role(id_) != "owner" and random.random() < 0.3:
        reassign(diary, id_, random.choice([role for role in ROLES if role != diary.role(id_)]))
    elif random.random() < 0.4:
        put_behind(diary, id_, {"summary": f"{held['summary'][:40]} {random.getrandbits(16)}"})
    else:
        put_entry(diary, {**held, "summaryOverride": f"Mine {random.getrandbits(24)}"})
    return id_


def _add_rule(diary: Diary, calendar: Calendar, random: Random, given: Json) -> str:
    first, last = person(random)
    address = f"{plain(first)}.{plain(last)}{random.randint(1, 999)}@{domain(firm(random))}"
    scope = given.get("scope", {"type": "user", "value": address})
    role = given.get("role", random.choice(ROLES))
    made = rule_of(scope["type"], scope.get("value", ""), role)
    put_rule(diary, calendar, made)
    return str(made["id"])


@MUTATIONS.of("acl", "change", "delete")
def _change_rule(diary: Diary, change: Change) -> None:
    calendar, one = _place(diary, change)
    held = calendar.acl.items[one]
    if change.op == "delete":
        put_rule(diary, calendar, {**held, "role": "none"})
        return
    others = [role for role in ROLES if role != held["role"]]
    put_rule(
        diary, calendar, {**held, "role": change.record.get("role", change.random.choice(others))}
    )
