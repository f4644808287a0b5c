"""Box's webhooks (v2): one on each folder at the top, told of all that happens below it.

A delivery names an item; what became of it is read from the stream of events, which is the truth.
https://developer.box.com/guides/webhooks/v2/ (2026-11)
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Request,
    Watch,
    WatchRequest,
    Webhook,
    ask,
    each_event,
)
from connectors.box.reading import LIMIT, ROOT
from connectors.kernel.paging import rows_of
from connectors.kernel.signatures import box_signature
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import WatchSteps

SECRET = "BOX_WEBHOOK_SECRET"  # noqa: S105
# A webhook has no end of its own. Box deletes one that was not answered for a month.
LIFETIME = timedelta(days=7)
# Of at most 1,000 of an app and a person; a folder more is found by polling.
MOST = 200
# NO_ACTIVE_SESSION is sent, and is not among those that can be asked for.
TRIGGERS = [
    f"{subject}.{verb}"
    for subject, verbs in {
        "FILE": "UPLOADED TRASHED DELETED RESTORED COPIED MOVED LOCKED UNLOCKED RENAMED",
        "FOLDER": "CREATED RENAMED DELETED RESTORED COPIED MOVED TRASHED",
        "COLLABORATION": "CREATED ACCEPTED REMOVED UPDATED",
        "SHARED_LINK": "CREATED UPDATED DELETED",
        "COMMENT": "CREATED UPDATED DELETED",
        "TASK_ASSIGNMENT": "CREATED UPDATED",
        "WEBHOOK": "DELETED",
    }.items()
    for verb in verbs.split()
]
ITEMS = ("folder_items", "files", "events")
ALL = (*ITEMS, "collaborations", "comments", "tasks", "trash")
# By the first word of a trigger.
STREAMS = {
    "FILE": ALL,
    "FOLDER": ALL,
    "SHARED_LINK": ITEMS,
    "COLLABORATION": ALL,
    "COMMENT": ("comments", "events"),
    "TASK_ASSIGNMENT": ("tasks", "events"),
}


def resources(context: Context) -> Calls[Sequence[str]]:
    """The folders at the top: the root itself cannot be watched."""
    params = {"fields": "type,id", "usemarker": True, "limit": LIMIT}
    response = yield from ask(Request.get(f"/folders/{ROOT}/items", params=params))
    found = [row["id"] for row in rows_of(response, "entries") if row["type"] == "folder"]
    return found[:MOST]


def create(wanted: WatchRequest) -> WatchSteps:
    """A folder has one webhook of an app and a person: one that stands is turned to us."""
    body = {
        "target": {"id": wanted.resource, "type": "folder"},
        "address": wanted.address,
        "triggers": TRIGGERS,
    }
    refused = (400, 403, 404, 409)
    answer = yield from ask(Request.post("/webhooks", json=body, expect=refused))
    if answer.status == 409 and (id := (yield from _standing(wanted.resource))):
        more = {"address": wanted.address, "triggers": TRIGGERS}
        answer = yield from ask(Request("PUT", f"/webhooks/{id}", json=more, expect=refused))
    if answer.status in refused:
        return NoWatch(f"Box takes no webhook on this folder ({answer.status})")
    return _stands(str(answer.json["id"]), wanted)


def _standing(folder: str) -> Calls[str]:
    """The webhook of ours that is on a folder, if there is one."""
    params: dict[str, Any] = {"limit": LIMIT}
    while True:
        answer = yield from ask(Request.get("/webhooks", params=params))
        for row in rows_of(answer, "entries"):
            if row["target"]["id"] == folder and row["target"]["type"] == "folder":
                return str(row["id"])
        if not (marker := answer.json.get("next_marker")):
            return ""
        params = {**params, "marker": marker}


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """Looks whether it is still there."""
    answer = yield from ask(Request.get(f"/webhooks/{watched.vendor_id}", expect=(403, 404)))
    if answer.status != 200:
        raise CheckpointExpiredError("the webhook was deleted at Box")
    return _stands(watched.vendor_id, wanted)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    yield Request("DELETE", f"/webhooks/{watched.vendor_id}", expect=(403, 404))


def _stands(id: str, wanted: WatchRequest) -> MadeWatch:
    return MadeWatch(vendor_id=id, expires_at=wanted.context.now + LIFETIME)


def stands(context: Context) -> Calls[None]:
    """Whether our token still works: a 401 is raised as what it is."""
    yield from ask(Request.get("/users/me", params={"fields": "id"}))


def events(delivery: Delivery) -> Sequence[Event]:
    """What one delivery is about. Its own id stays the same when it is sent again."""
    return tuple(each_event([delivery.json], _event))


def _event(body: Mapping[str, Any]) -> Iterator[Event]:
    trigger = str(body["trigger"])
    told: dict[str, Any] = {"id": str(body["id"]), "type": trigger}
    watch_id = str(body["webhook"]["id"])
    subject = trigger.partition(".")[0]
    if trigger == "NO_ACTIVE_SESSION":
        yield Event(effect=Effect.REVOKED, watch_id=watch_id, **told)
    elif trigger == "WEBHOOK.DELETED":
        yield Event(effect=Effect.LOST, watch_id=watch_id, **told)
    elif subject in STREAMS:
        at = parse_time(body["created_at"]) if body.get("created_at") else None
        yield Event(effect=Effect.HINT, watch_id=watch_id, streams=STREAMS[subject], at=at, **told)
    if trigger == "COMMENT.UPDATED":
        # Of this no event of the stream tells.
        source, item = body["source"], body["source"]["item"]
        key = f"{item['type']}_{item['id']}/{source['id']}"
        told["id"] = f"{told['id']}:comment"
        yield Event(effect=Effect.READ, watch_id=watch_id, streams=("comments",), key=key, **told)


watch = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: ALL,
    lifetime=LIFETIME,
    needs=(SECRET,),
)
webhook = Webhook(
    events=events,
    verified_by=SECRET,
    verify=box_signature,
    # Hints, for not all is told: not what lies in the root, nor web links, nor a description.
    covers=(),
    stands=stands,
    setup="Webhooks on folders are made by themselves. Generate the primary and the secondary "
    "signature key in the developer console, under Webhooks, and set both, with a comma between.",
    proof="The body and when it was sent, by either of the app's two keys.",
)
