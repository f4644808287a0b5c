"""Writing to a diary: events, calendars, the person's list, and who may see a calendar.

https://developers.google.com/workspace/calendar/api/v3/reference
"""

import re
from random import Random

from starlette.responses import Response

from sandbox._google import refused
from sandbox._google.fields import answered
from sandbox.google_calendar.api import found_calendar, found_entry, found_event, found_rule
from sandbox.google_calendar.seed import ENTRY_FIELDS, EVENT_FIELDS, event, look
from sandbox.google_calendar.series import moment
from sandbox.google_calendar.store import (
    WRITERS,
    Diary,
    cancel_event,
    close_calendar,
    open_calendar,
    put_behind,
    put_entry,
    put_event,
    put_rule,
    rule_of,
    shown_event,
)
from sandbox.kernel.fields import only, without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

ID = re.compile(r"[a-v0-9]{5,1024}")
ROLES = ("none", "freeBusyReader", "reader", "writer", "owner")
CALENDAR_FIELDS = ("summary", "description", "location", "timeZone")
NOTHING = 204


def _body(call: Call) -> Json:
    body = call.json()
    if not isinstance(body, dict):
        raise refused(400, "parseError", "Parse Error")
    return body


def _check_times(given: Json) -> None:
    for name in ("start", "end"):
        if not isinstance(given.get(name), dict) or not {"date", "dateTime"} & set(given[name]):
            raise refused(400, "required", f"Missing {name} time.")
    try:
        ends_first = moment(given["end"]) < moment(given["start"])
    except ValueError as error:
        raise refused(400, "invalid", "Invalid value for a time.") from error
    if ends_first:
        raise refused(
            400, "timeRangeEmpty", "The specified time range is empty.", domain="calendar"
        )


def insert_event(call: Call, diary: Diary) -> Response:
    calendar, body = found_calendar(call, diary, *WRITERS), _body(call)
    _check_times(body)
    if "id" in body and not ID.fullmatch(str(body["id"])):
        raise refused(400, "invalid", "Invalid resource id value.")
    if body.get("id") in calendar.events.items:
        raise refused(409, "duplicate", "The requested identifier already exists.")
    made = event(diary, calendar, body, Random(call.clock.time()))
    put_event(diary, calendar, made)
    return answered(call, calendar.events.items[made["id"]])


def patch_event(call: Call, diary: Diary) -> Response:
    """Some fields of an event; of an instance it makes an exception."""
    calendar, body = found_calendar(call, diary, *WRITERS), _body(call)
    held = found_event(call, calendar)
    kept = held
    if call.method == "PUT":
        kept = without(held, *EVENT_FIELDS)
        kept |= {"status": "confirmed", "reminders": held["reminders"]}
    changed = kept | only(body, *EVENT_FIELDS)
    _check_times(changed)
    if set(body) == {"reminders"}:
        put_event(diary, calendar, changed, touched=False)
    else:
        put_event(diary, calendar, {**changed, "sequence": held["sequence"] + 1})
    return answered(call, shown_event(calendar.events.items[held["id"]], diary.role(calendar.id)))


def delete_event(call: Call, diary: Diary) -> Response:
    calendar = found_calendar(call, diary, *WRITERS)
    held = found_event(call, calendar)
    if held["status"] == "cancelled":
        raise refused(410, "deleted", "Resource has been deleted")
    if held["id"] in calendar.events.items:
        cancel_event(diary, calendar, held["id"])
    else:
        put_event(diary, calendar, {**held, "status": "cancelled"})
    return Response(status_code=NOTHING)


def insert_calendar(call: Call, diary: Diary) -> Response:
    """A secondary calendar, which also comes onto the person's list."""
    body, random = _body(call), Random(call.clock.time())
    if not body.get("summary"):
        raise refused(400, "required", "Missing title.")
    id_ = f"c_{random.getrandbits(160):040x}@group.calendar.google.com"
    given = only(body, *CALENDAR_FIELDS)
    resource = {"timeZone": "UTC", **given, "id": id_}
    return answered(call, open_calendar(diary, resource, "owner", look(random)).resource)


def patch_calendar(call: Call, diary: Diary) -> Response:
    """What is the same for all who see a calendar: on their lists no delta tells of it."""
    calendar, body = found_calendar(call, diary, "owner"), _body(call)
    given = only(body, *CALENDAR_FIELDS)
    calendar.resource |= given
    put_behind(diary, calendar.id, given)
    return answered(call, calendar.resource)


def delete_calendar(call: Call, diary: Diary) -> Response:
    calendar = found_calendar(call, diary, "owner")
    if calendar.id == diary.address:
        raise refused(403, "forbidden", "The primary calendar cannot be deleted.")
    close_calendar(diary, calendar.id)
    return Response(status_code=NOTHING)


def patch_entry(call: Call, diary: Diary) -> Response:
    held, body = found_entry(call, diary), _body(call)
    kept = held
    if call.method == "PUT":
        kept = without(held, *ENTRY_FIELDS)
    put_entry(diary, kept | only(body, *ENTRY_FIELDS))
    return answered(call, diary.entries.items[held["id"]])


def delete_entry(call: Call, diary: Diary) -> Response:
    held = found_entry(call, diary)
    if held.get("primary"):
        raise refused(403, "forbidden", "The primary calendar stays on the list.")
    put_entry(diary, held, deleted=True)
    return Response(status_code=NOTHING)


def insert_entry(call: Call, diary: Diary) -> Response:
    """A calendar that the person once had comes back onto their list."""
    id_ = str(_body(call).get("id", ""))
    calendar = diary.calendars.get(id_)
    if calendar is None or not calendar.exists:
        raise refused(404, "notFound", "Not Found")
    put_entry(diary, without(diary.entries.items[id_], "deleted"))
    return answered(call, diary.entries.items[id_])


def insert_rule(call: Call, diary: Diary) -> Response:
    calendar, body = found_calendar(call, diary, "owner"), _body(call)
    scope, role = body.get("scope"), body.get("role")
    if not isinstance(scope, dict) or "type" not in scope or role not in ROLES:
        raise refused(400, "invalid", "Invalid scope or role value.")
    rule = rule_of(str(scope["type"]), str(scope.get("value", "")), role)
    put_rule(diary, calendar, rule)
    return answered(call, calendar.acl.items[rule["id"]])


def patch_rule(call: Call, diary: Diary) -> Response:
    calendar, body = found_calendar(call, diary, "owner"), _body(call)
    held = found_rule(call, calendar)
    if body.get("role", held["role"]) not in ROLES:
        raise refused(400, "invalid", "Invalid role value.")
    put_rule(diary, calendar, {**held, "role": body.get("role", held["role"])})
    return answered(call, calendar.acl.items[held["id"]])


def delete_rule(call: Call, diary: Diary) -> Response:
    calendar = found_calendar(call, diary, "owner")
    held = found_rule(call, calendar)
    if held["role"] == "owner" and held["scope"].get("value") == diary.address:
        raise refused(403, "cannotChangeOwnAcl", "Cannot change your own access level.")
    put_rule(diary, calendar, {**held, "role": "none"})
    return Response(status_code=NOTHING)
