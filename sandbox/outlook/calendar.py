"""The calendar of a mailbox: events, series and their occurrences."""

from datetime import timedelta
from random import Random

from sandbox.kernel.clock import stamp_in_seconds as stamp
from sandbox.kernel.data import PLACES, TOPICS
from sandbox.kernel.values import Change, Json, RefusedError
from sandbox.outlook.store import (
    Mailbox,
    filled,
    moment,
    new_id,
    noted,
    removed,
    versioned,
    when,
)

# How far from now events are made up.
NEAR = timedelta(days=180)
WEEK = timedelta(days=7)


def add_event(mailbox: Mailbox, random: Random, record: Json) -> str:
    """An event, one in five of them a weekly series."""
    now = mailbox.clock.now().replace(minute=0, second=0, microsecond=0)
    start = now + NEAR * (2 * random.random() - 1)
    if "start" in record:
        start = moment(record["start"])
    event = {
        "id": new_id(random.randbytes(25)),
        "createdDateTime": stamp(mailbox.clock.now()),
        "iCalUId": f"{random.getrandbits(96):x}",
        "subject": str(record.get("subject", random.choice(TOPICS).capitalize())),
        "bodyPreview": "",
        "body": {"contentType": "text", "content": random.choice(TOPICS)},
        "isAllDay": False,
        "isCancelled": False,
        "isOrganizer": True,
        "showAs": "busy",
        "type": "singleInstance",
        "seriesMasterId": None,
        "recurrence": None,
        "start": when(start),
        "end": when(start + timedelta(hours=1)),
        "location": {"displayName": random.choice(PLACES)[0]},
        "attendees": [],
        "organizer": {"emailAddress": {"address": mailbox.person.address}},
    }
    if not record and random.random() < 0.2:
        return _add_series(mailbox, random, event)
    return _put(mailbox, event, "created")


def _add_series(mailbox: Mailbox, random: Random, event: Json) -> str:
    """A delta gives its master in full, and of each occurrence no more than when it is."""
    start = moment(event["start"]) - 8 * WEEK
    times = [start + WEEK * number for number in range(random.randint(2, 6))]
    span = {"type": "endDate", "startDate": f"{start:%Y-%m-%d}", "endDate": f"{times[-1]:%Y-%m-%d}"}
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": [f"{start:%A}".lower()]}
    recurrence = {"pattern": pattern, "range": span}
    first = {"start": when(start), "end": when(start + timedelta(hours=1))}
    _put(mailbox, {**event, **first, "type": "seriesMaster", "recurrence": recurrence}, "created")
    for at in times:
        occurrence = {
            "id": new_id(random.randbytes(25)),
            "type": "occurrence",
            "seriesMasterId": event["id"],
            "start": when(at),
            "end": when(at + timedelta(hours=1)),
        }
        mailbox.events[occurrence["id"]] = occurrence
        mailbox.event_feed.put(occurrence["id"], occurrence)
    return str(event["id"])


def alter_event(mailbox: Mailbox, change: Change) -> str:
    """An occurrence that is changed is an exception from then on: it has all of its fields."""
    event, random = mailbox.events[str(change.id)], change.random
    if event["type"] == "occurrence":
        event = {**filled(mailbox, event), "type": "exception"}
    given = change.record or {"subject": f"{random.choice(TOPICS)} {random.getrandbits(24):x}"}
    if "start" in given:
        if event["type"] == "seriesMaster":
            raise RefusedError("a series stays where it is", status=409)
        given = {**given, "end": when(moment(given["start"]) + timedelta(hours=1))}
    changed = _put(mailbox, {**event, **given}, "updated")
    if event["type"] == "seriesMaster":
        _tell_occurrences(mailbox, changed)
    return changed


def _tell_occurrences(mailbox: Mailbox, series_id: str) -> None:
    """They come again with their series: microsoft-graph-docs#6353, 2019-11."""
    for one in mailbox.events.values():
        if one["type"] == "occurrence" and one["seriesMasterId"] == series_id:
            mailbox.event_feed.put(one["id"], one)


def delete_event(mailbox: Mailbox, change: Change) -> None:
    """A series goes with all that is of it, and with its last occurrence (unproven, 2026-11: no
    view of a calendar shows such a series). Of an occurrence that is taken out nothing is told but
    that its series changed: microsoft-graph-docs#4501, 2019-04."""
    id_ = str(change.id)
    series_id = mailbox.events[id_]["seriesMasterId"]
    if mailbox.events[id_]["type"] == "occurrence":
        del mailbox.events[id_]
        mailbox.event_feed.forget(id_)
        _put(mailbox, mailbox.events[series_id], "updated")
        _tell_occurrences(mailbox, series_id)
    else:
        _delete_whole(mailbox, id_)
    if series_id and all(one["seriesMasterId"] != series_id for one in mailbox.events.values()):
        _delete_whole(mailbox, series_id)


def _delete_whole(mailbox: Mailbox, id_: str) -> None:
    gone = [one["id"] for one in mailbox.events.values() if one["seriesMasterId"] == id_]
    for each in [*gone, id_]:
        event = mailbox.events.pop(each)
        mailbox.event_feed.drop(each, removed(each))
        if event["type"] != "occurrence":
            mailbox.tell(noted(mailbox, "deleted", "Event", each, event))


def _put(mailbox: Mailbox, event: Json, change_type: str) -> str:
    id_ = str(event["id"])
    version = versioned(id_, mailbox.event_feed.position + 1)
    shown = {**event, **version, "lastModifiedDateTime": stamp(mailbox.clock.now())}
    mailbox.events[id_] = shown
    mailbox.event_feed.put(id_, shown)
    mailbox.tell(noted(mailbox, change_type, "Event", id_, shown))
    return id_
