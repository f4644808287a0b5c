"""Google Calendar on loopback: a person's calendars, their events, and who may see them.

https://developers.google.com/workspace/calendar/api/v3/reference

Longer than 700 lines: series and their exceptions, sync tokens, access by calendar, channels, and
batches.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias
from urllib.parse import quote

from starlette.responses import Response

from sandbox._google import (
    AUTH,
    SCOPE,
    older_trouble,
    project,
    quota_status,
    refused,
    served,
)
from sandbox._google.batch import batch
from sandbox._google.channels import Lasting, open_channel, sender, stop_channel
from sandbox.google_calendar import api as reading
from sandbox.google_calendar import writes as writing
from sandbox.google_calendar.seed import MUTATIONS, new
from sandbox.google_calendar.store import Diary, alterable, expire, listed, store
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Limit, Route, Vendor

HOST = "www.googleapis.com"
PATH = "/calendar/v3"
ME = "/users/me"

CALENDAR = f"{SCOPE}calendar"
READ = f"{CALENDAR}.readonly"


def _scopes(*names: str) -> tuple[str, ...]:
    return (CALENDAR, *(f"{CALENDAR}.{name}" for name in names))


# By the discovery document of revision 20261030. To read who may see a calendar, `readonly` is not
# enough.
ENTRIES = (*_scopes("calendarlist", "calendarlist.readonly"), READ)
CALENDARS = (*_scopes("calendars", "calendars.readonly"), READ)
EVENTS = (
    *_scopes("events", "events.freebusy", "events.owned", "events.owned.readonly"),
    *(f"{CALENDAR}.events.public.readonly", f"{CALENDAR}.events.readonly", READ),
)
RULES = _scopes("acls", "acls.readonly")
SETTINGS = (*_scopes("settings", "settings.readonly"), READ)
WRITE_ENTRIES = _scopes("calendarlist")
WRITE_CALENDARS = _scopes("calendars")
WRITE_EVENTS = _scopes("events", "events.owned")
WRITE_RULES = _scopes("acls")

# A project's usual quota; the vendor gives its figures in the Cloud console only.
A_MINUTE = 600

Handler: TypeAlias = Callable[[Call, Diary], Response]
# About a week, unless it is asked for less.
LASTING = Lasting(usual=timedelta(days=7), longest=timedelta(days=7))


def watch_entries(call: Call, diary: Diary) -> Response:
    uri = f"https://{HOST}{PATH}{ME}/calendarList?alt=json"
    return open_channel(call, diary.entries.name, uri, LASTING)


def watch_settings(call: Call, diary: Diary) -> Response:
    uri = f"https://{HOST}{PATH}{ME}/settings?alt=json"
    return open_channel(call, diary.settings.name, uri, LASTING)


def watch_events(call: Call, diary: Diary) -> Response:
    """A calendar of holidays changes for everybody, and tells nobody."""
    calendar = reading.found_calendar(call, diary)
    if calendar.id.endswith("@group.v.calendar.google.com"):
        message = "Push notifications are not supported by this resource."
        raise refused(400, "pushNotSupportedForRequestedResource", message, domain="calendar")
    uri = f"https://{HOST}{PATH}/calendars/{quote(calendar.id, safe='@')}/events?alt=json"
    return open_channel(call, calendar.events.name, uri, LASTING)


def watch_rules(call: Call, diary: Diary) -> Response:
    calendar = reading.found_calendar(call, diary, "owner")
    uri = f"https://{HOST}{PATH}/calendars/{quote(calendar.id, safe='@')}/acl?alt=json"
    return open_channel(call, calendar.acl.name, uri, LASTING)


def stop(call: Call, diary: Diary) -> Response:
    return stop_channel(call)


TABLE: tuple[tuple[str, str, Handler, tuple[str, ...]], ...] = (
    ("GET", f"{ME}/calendarList", reading.list_entries, ENTRIES),
    ("POST", f"{ME}/calendarList", writing.insert_entry, WRITE_ENTRIES),
    ("GET", f"{ME}/calendarList/{{calendar}}", reading.get_entry, ENTRIES),
    ("PATCH", f"{ME}/calendarList/{{calendar}}", writing.patch_entry, WRITE_ENTRIES),
    ("PUT", f"{ME}/calendarList/{{calendar}}", writing.patch_entry, WRITE_ENTRIES),
    ("DELETE", f"{ME}/calendarList/{{calendar}}", writing.delete_entry, WRITE_ENTRIES),
    ("GET", f"{ME}/settings", reading.list_settings, SETTINGS),
    ("GET", f"{ME}/settings/{{setting}}", reading.get_setting, SETTINGS),
    ("POST", "/calendars", writing.insert_calendar, WRITE_CALENDARS),
    ("GET", "/calendars/{calendar}", reading.get_calendar, CALENDARS),
    ("PATCH", "/calendars/{calendar}", writing.patch_calendar, WRITE_CALENDARS),
    ("PUT", "/calendars/{calendar}", writing.patch_calendar, WRITE_CALENDARS),
    ("DELETE", "/calendars/{calendar}", writing.delete_calendar, WRITE_CALENDARS),
    ("GET", "/calendars/{calendar}/events", reading.list_events, EVENTS),
    ("POST", "/calendars/{calendar}/events", writing.insert_event, WRITE_EVENTS),
    ("GET", "/calendars/{calendar}/events/{event}", reading.get_event, EVENTS),
    ("PATCH", "/calendars/{calendar}/events/{event}", writing.patch_event, WRITE_EVENTS),
    ("PUT", "/calendars/{calendar}/events/{event}", writing.patch_event, WRITE_EVENTS),
    ("DELETE", "/calendars/{calendar}/events/{event}", writing.delete_event, WRITE_EVENTS),
    ("GET", "/calendars/{calendar}/events/{event}/instances", reading.list_instances, EVENTS),
    ("GET", "/calendars/{calendar}/acl", reading.list_rules, RULES),
    ("POST", "/calendars/{calendar}/acl", writing.insert_rule, WRITE_RULES),
    ("GET", "/calendars/{calendar}/acl/{rule}", reading.get_rule, RULES),
    ("PATCH", "/calendars/{calendar}/acl/{rule}", writing.patch_rule, WRITE_RULES),
    ("PUT", "/calendars/{calendar}/acl/{rule}", writing.patch_rule, WRITE_RULES),
    ("DELETE", "/calendars/{calendar}/acl/{rule}", writing.delete_rule, WRITE_RULES),
    ("POST", f"{ME}/calendarList/watch", watch_entries, ENTRIES),
    ("POST", f"{ME}/settings/watch", watch_settings, SETTINGS),
    ("POST", "/calendars/{calendar}/events/watch", watch_events, EVENTS),
    ("POST", "/calendars/{calendar}/acl/watch", watch_rules, RULES),
    ("POST", "/channels/stop", stop, (*ENTRIES, *EVENTS, *RULES, *SETTINGS)),
)


def refuse_part(diary: Diary, body: Json) -> Json:
    """A control: of one calendar on the list nothing is shown, 404 or 403, or it is again."""
    stream = str(body.get("stream", ""))
    if stream not in ("events", "acl"):
        return {"keys": []}
    if not body.get("on", True):
        diary.refused = {one for one in diary.refused if one[0] != stream}
    keys = sorted(store(diary, stream))
    # The one that has most, so that there is something to lose.
    parts = sorted({key.rpartition("/")[0] for key in keys})
    part = max(parts, key=lambda one: sum(key.startswith(f"{one}/") for key in keys), default="")
    if body.get("on", True) and part:
        diary.refused.add((stream, part))
    return {"keys": [key for key in keys if key.startswith(f"{part}/")], "part": part}


def hide(diary: Diary, body: Json) -> Json:
    """A control: an event vanishes, and no delta tells of it, as it is with contacts' birthdays."""
    if body.get("stream") != "events":
        return {"keys": []}
    for calendar in listed(diary):
        for id_, event in list(calendar.events.live()):
            if not {"recurrence", "recurringEventId"} & set(event):
                calendar.events.forget(id_)
                return {"keys": [f"{calendar.id}/{id_}"]}
    return {"keys": []}


def extras(account_id: str, origin: str) -> Json:
    """What a client of Google's SDK is told."""
    return {
        "api_endpoint": f"{origin}/{HOST}{PATH}/",
        "batch_url": f"{origin}/{HOST}/batch{PATH}",
    }


vendor = Vendor(
    name="google_calendar",
    title="Google Calendar",
    base_url=f"https://{HOST}{PATH}",
    auth=AUTH,
    routes=(
        *(
            Route(method, HOST, f"{PATH}{path}", served("Google Calendar", handler), scopes=scopes)
            for method, path, handler, scopes in TABLE
        ),
        # Each part of a batch brings its own token.
        Route("POST", HOST, "/batch/calendar/v3", batch, open=True),
    ),
    streams=("calendars", "events", "acl"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=older_trouble,
    limits=(Limit("queries per minute per user", A_MINUTE, 60.0),),
    expire_checkpoints=expire,
    controls={"quota_status": quota_status, "project": project},
    account_controls={"refuse_part": refuse_part, "hide": hide},
    webhook=sender("google_calendar"),
    extras=extras,
)
