"""A person's Google Calendar in memory: the calendars on their list, events, and who may see them.

https://developers.google.com/workspace/calendar/api/concepts/sharing
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from sandbox._google.channels import Told
from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.fields import only
from sandbox.kernel.values import Json

# Who has these roles sees all of an event; a reader not what is private, others only when it is.
WRITERS = ("owner", "writer")
BUSY_ONLY = "freeBusyReader"
# What is left of an event that the caller may not look into.
OUTSIDE = (
    *("kind", "etag", "id", "status", "created", "updated", "start", "end", "iCalUID", "sequence"),
    *("eventType", "recurrence", "recurringEventId", "originalStartTime"),
)
# All that a cancelled instance is sure to have, and a deleted event.
CANCELLED = ("kind", "etag", "id", "status", "recurringEventId", "originalStartTime")


@dataclass
class Shelf:
    """Things of one kind, the deleted ones too, each with the number of its last change.

    Sync tokens stand for such a number; those up to `expired_through` have expired.
    """

    name: str
    items: dict[str, Json] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    last: int = 0
    expired_through: int = -1

    def put(self, id_: str, item: Json, *, deleted: bool = False) -> None:
        """A thing as it is from now on."""
        self.last += 1
        self.numbers[id_] = self.last
        # Tags of different shelves must differ.
        self.items[id_] = {**item, "etag": f'"{crc32(self.name.encode())}{self.last:06d}"'}
        (self.deleted.add if deleted else self.deleted.discard)(id_)

    def forget(self, id_: str) -> None:
        """A thing vanishes, and no delta tells of it."""
        del self.items[id_], self.numbers[id_]
        self.deleted.discard(id_)

    def live(self) -> Iterator[tuple[str, Json]]:
        return ((id_, item) for id_, item in self.items.items() if id_ not in self.deleted)

    def expire(self) -> None:
        """No sync token that was given out so far can be started from."""
        self.expired_through = self.last
        self.last += 1


@dataclass
class Calendar:
    """A calendar, whoever it belongs to; `resource` is what is the same for all who see it."""

    resource: Json
    events: Shelf
    acl: Shelf
    exists: bool = True

    @property
    def id(self) -> str:
        return str(self.resource["id"])


@dataclass
class Diary:
    """One person's calendars. `tell` takes what happened on a shelf; `channels` are the ids of all
    channels there were."""

    address: str
    owner: str
    clock: Clock
    random: Random
    entries: Shelf = field(default_factory=lambda: Shelf("calendarList"))
    calendars: dict[str, Calendar] = field(default_factory=dict)
    settings: Shelf = field(default_factory=lambda: Shelf("settings"))
    quota_status: int = 403
    switched_on: bool = True
    # Streams and calendars of which nothing is shown, though they are on the list.
    refused: set[tuple[str, str]] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    tell: Callable[[Told], None] = lambda told: None

    def role(self, calendar_id: str) -> str:
        """What the person may do with a calendar."""
        entry = self.entries.items.get(calendar_id, {})
        return str(entry.get("accessRole", "reader"))


def open_calendar(diary: Diary, resource: Json, role: str, shown: Json) -> Calendar:
    """A calendar comes onto the person's list."""
    id_ = resource["id"]
    calendar = Calendar(
        {"kind": "calendar#calendar", **resource}, Shelf(f"events/{id_}"), Shelf(f"acl/{id_}")
    )
    diary.calendars[id_] = calendar
    owner = rule_of("user", diary.address, "owner")
    calendar.acl.put(owner["id"], owner)
    put_entry(diary, {**resource, "kind": "calendar#calendarListEntry", "accessRole": role} | shown)
    return calendar


def put_entry(diary: Diary, entry: Json, *, deleted: bool = False) -> None:
    """An entry of the list as the person sees it from now on."""
    shown = {**entry, "deleted": True} if deleted else entry
    diary.entries.put(entry["id"], shown, deleted=deleted)
    diary.tell(Told(diary.entries.name, "exists"))


def put_behind(diary: Diary, calendar_id: str, fields: Json) -> None:
    """What others set of an entry, or Google: no delta tells of it."""
    diary.entries.items[calendar_id] |= fields


def close_calendar(diary: Diary, calendar_id: str) -> None:
    """Off the list; what was the person's own is gone altogether."""
    own = diary.role(calendar_id) == "owner"
    put_entry(diary, diary.entries.items[calendar_id], deleted=True)
    if own:
        calendar = diary.calendars[calendar_id]
        calendar.exists = False
        for shelf in (calendar.events, calendar.acl):
            diary.tell(Told(shelf.name, "not_exists"))


def reassign(diary: Diary, calendar_id: str, role: str) -> None:
    """The calendar's owner gives the person another role: sync tokens die, and nothing says so."""
    put_behind(diary, calendar_id, {"accessRole": role})
    diary.calendars[calendar_id].events.expire()


def put_event(diary: Diary, calendar: Calendar, event: Json, *, touched: bool = True) -> None:
    """An event as it is from now on. Reminders alone do not touch `updated`."""
    if touched:
        event = {**event, "updated": stamp(diary.clock.now())}
    cancelled = event["status"] == "cancelled"
    # A cancelled instance lives as long as its series.
    calendar.events.put(event["id"], event, deleted=cancelled and "recurringEventId" not in event)
    diary.tell(Told(calendar.events.name, "exists"))


def cancel_event(diary: Diary, calendar: Calendar, id_: str, *, told: bool = True) -> None:
    """Deletes an event; with a series go its exceptions, of which a delta tells or does not."""
    for one, event in list(calendar.events.items.items()):
        if event.get("recurringEventId") == id_ and told:
            calendar.events.put(one, {**event, "status": "cancelled"}, deleted=True)
        elif event.get("recurringEventId") == id_:
            calendar.events.forget(one)
    put_event(diary, calendar, {**calendar.events.items[id_], "status": "cancelled"})


def put_rule(diary: Diary, calendar: Calendar, rule: Json) -> None:
    """Who may see a calendar, or with the role `none` no longer may."""
    calendar.acl.put(rule["id"], rule, deleted=rule["role"] == "none")
    diary.tell(Told(calendar.acl.name, "exists"))


def rule_of(kind: str, who: str, role: str) -> Json:
    scope = {"type": kind, **({"value": who} if who else {})}
    return {
        "kind": "calendar#aclRule",
        "id": f"{kind}:{who}" if who else kind,
        "scope": scope,
        "role": role,
    }


def shown_event(event: Json, role: str) -> Json:
    """An event as who has that role sees it."""
    if event["status"] == "cancelled":
        details = "recurringEventId" not in event and role in WRITERS
        return dict(event) if details else only(event, *CANCELLED)
    if role == BUSY_ONLY or (role == "reader" and event.get("visibility") == "private"):
        return only(event, *OUTSIDE) | {"visibility": "private"}
    return dict(event)


def listed(diary: Diary) -> Iterator[Calendar]:
    """The calendars that are on the list and there."""
    for id_, _ in diary.entries.live():
        if diary.calendars[id_].exists:
            yield diary.calendars[id_]


def owned(diary: Diary) -> Iterator[Calendar]:
    """Those of which the person may see who may see them."""
    return (calendar for calendar in listed(diary) if diary.role(calendar.id) == "owner")


def store(diary: Diary, stream: str) -> dict[str, Json]:
    """What is live, as the API gives it, and the calendar's id where that is in the path only."""
    if stream == "calendars":
        return {id_: dict(entry) for id_, entry in diary.entries.live()}
    if stream == "acl":
        return {
            f"{calendar.id}/{id_}": {**rule, "calendar_id": calendar.id}
            for calendar in owned(diary)
            for id_, rule in calendar.acl.live()
        }
    return {
        f"{calendar.id}/{id_}": {
            **shown_event(event, diary.role(calendar.id)),
            "calendar_id": calendar.id,
        }
        for calendar in listed(diary)
        for id_, event in calendar.events.live()
    }


def alterable(diary: Diary, stream: str) -> list[str]:
    """What may be changed or deleted: not the primary calendar, not the owner's own rule, and no
    instance that is cancelled already."""
    if stream == "calendars":
        refused = {calendar for _, calendar in diary.refused}
        live = diary.entries.live()
        return [id_ for id_, entry in live if not entry.get("primary") and id_ not in refused]
    if stream == "acl":
        own = f"user:{diary.address}"
        return [
            f"{calendar.id}/{id_}"
            for calendar in owned(diary)
            for id_, _ in calendar.acl.live()
            if id_ != own and ("acl", calendar.id) not in diary.refused
        ]
    return [
        f"{calendar.id}/{id_}"
        for calendar in listed(diary)
        for id_, event in calendar.events.live()
        if event["status"] != "cancelled" and ("events", calendar.id) not in diary.refused
    ]


def expire(diary: Diary) -> None:
    """No sync token that was given out so far can be started from."""
    diary.entries.expire()
    for calendar in diary.calendars.values():
        calendar.events.expire()
        calendar.acl.expire()
