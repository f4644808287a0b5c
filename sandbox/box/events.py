"""Box's webhooks (v2): made by the API on a file or folder, told of what happens in it.

https://developer.box.com/guides/webhooks/v2/
"""

import json
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from sandbox.box.api import listing, no
from sandbox.box.store import PACIFIC, ROOT, Drive
from sandbox.kernel.oauth import Call
from sandbox.kernel.signing import base64_signature
from sandbox.kernel.values import Address, Json, reply
from sandbox.kernel.webhooks import Delivery, Event, Message, Sender, again_after, to_watches

KEYS = "sandbox-box-primary-key,sandbox-box-secondary-key"
MOST = 1_000
SUBJECTS = {"file": "FILE", "folder": "FOLDER"}
TRIGGERS = {
    "FILE": "UPLOADED PREVIEWED DOWNLOADED TRASHED DELETED RESTORED COPIED MOVED LOCKED UNLOCKED "
    "RENAMED",
    "FOLDER": "CREATED RENAMED DOWNLOADED RESTORED DELETED COPIED MOVED TRASHED",
    "COMMENT": "CREATED UPDATED DELETED",
    "TASK_ASSIGNMENT": "CREATED UPDATED",
    "METADATA_INSTANCE": "CREATED UPDATED DELETED",
    "WEBHOOK": "DELETED",
    "COLLABORATION": "CREATED ACCEPTED REJECTED REMOVED UPDATED",
    "SHARED_LINK": "DELETED CREATED UPDATED",
    "SIGN_REQUEST": "COMPLETED DECLINED EXPIRED SIGNER_EMAIL_BOUNCED",
}
KNOWN = {f"{subject}.{verb}" for subject, verbs in TRIGGERS.items() for verb in verbs.split()}
OF_ITEMS = {
    "ITEM_UPLOAD": "UPLOADED", "ITEM_CREATE": "CREATED", "ITEM_TRASH": "TRASHED",
    "ITEM_RENAME": "RENAMED", "ITEM_MOVE": "MOVED", "ITEM_UNDELETE_VIA_TRASH": "RESTORED",
    "LOCK_CREATE": "LOCKED",
}  # fmt: skip
OTHERS = {
    "COLLAB_ADD_COLLABORATOR": "COLLABORATION.CREATED",
    "COLLAB_ROLE_CHANGE": "COLLABORATION.UPDATED",
    "COLLAB_REMOVE_COLLABORATOR": "COLLABORATION.REMOVED",
    "COMMENT_CREATE": "COMMENT.CREATED",
    "COMMENT_DELETE": "COMMENT.DELETED",
    "TASK_CREATE": "TASK_ASSIGNMENT.CREATED",
    "TASK_UPDATE": "TASK_ASSIGNMENT.UPDATED",
    "ITEM_SHARED_CREATE": "SHARED_LINK.CREATED",
    "ITEM_SHARED_UNSHARE": "SHARED_LINK.DELETED",
}


def trigger_of(what: Json) -> str:
    """Of a web link no webhook tells."""
    if (event := what["event"]) in OTHERS or "." in event or event == "NO_ACTIVE_SESSION":
        return str(OTHERS.get(event, event))
    subject, verb = SUBJECTS.get(what["type"]), OF_ITEMS.get(event)
    return f"{subject}.{verb}" if subject and verb else ""


def concerns(event: Event, watch: Address) -> bool:
    what, about = event.what, watch.about
    if only := what.get("webhook"):
        return bool(only == watch.id)
    source = what["source"] or {}
    inside = (
        about["id"] in what["folders"]
        if about["type"] == "folder"
        else source.get("id") == about["id"]
    )
    return inside and trigger_of(what) in about["triggers"]


def compose(delivery: Delivery) -> Message:
    """The body is ASCII, and signed with the time under both keys of the app."""
    (event,) = delivery.events
    hook = delivery.address
    body = {
        "type": "webhook_event", "id": event.id,
        "created_at": event.at.astimezone(PACIFIC).isoformat(timespec="seconds"),
        "trigger": trigger_of(event.what), "webhook": {"id": hook.id, "type": "webhook"},
        "created_by": event.what.get("created_by"), "source": event.what["source"],
        "additional_info": event.what.get("additional_info", []),
    }  # fmt: skip
    raw = json.dumps(body).encode()
    stamp = delivery.now.astimezone(PACIFIC).isoformat(timespec="seconds")
    primary, _, secondary = hook.secret.partition(",")
    headers = {
        "content-type": "application/json; charset=utf-8",
        "box-delivery-id": f"{delivery.id}-{delivery.attempt}",
        "box-delivery-timestamp": stamp,
        "box-signature-version": "1",
        "box-signature-algorithm": "HmacSHA256",
        "box-signature-primary": base64_signature(primary, raw + stamp.encode()),
        "box-signature-secondary": base64_signature(secondary or primary, raw + stamp.encode()),
    }
    return Message(url=hook.url, headers=headers, body=raw)


SENDER = Sender(
    compose=compose,
    notices=to_watches(concerns),
    deadline=30.0,
    retry=again_after(*[60.0, 120.0, 300.0] + [600.0] * 8),
    secret=KEYS,
)


# -- The API --------------------------------------------------------------------------------------


def _shown(hook: Address) -> Json:
    target = {"id": hook.about["id"], "type": hook.about["type"]}
    return {
        "id": hook.id, "type": "webhook", "target": target, "address": hook.url,
        "triggers": list(hook.about["triggers"]), "created_at": hook.about["created_at"],
        "created_by": hook.about["created_by"],
    }  # fmt: skip


def _address(body: Json) -> str:
    url = str(body.get("address", ""))
    # The sandbox's clients are on this machine; others have https and its port.
    if not url.startswith(("https://", "http://127.0.0.1")):
        raise no(400, "bad_request", "The address must be https on port 443", name="address")
    return url


def _triggers(body: Json) -> list[str]:
    asked = body.get("triggers")
    if not isinstance(asked, list) or not asked or not set(asked) <= KNOWN:
        raise no(400, "bad_request", "Invalid value for triggers", name="triggers")
    return asked


def create(drive: Drive, call: Call) -> Response:
    body = call.json() or {}
    target = body.get("target") or {}
    kind, id = target.get("type"), str(target.get("id"))
    if kind not in SUBJECTS or id == ROOT:
        raise no(400, "bad_request", "The root folder cannot be a target", name="target")
    item = drive.items.get(f"{kind}_{id}")
    if item is None or not drive.is_shown(item):
        raise no(404, "not_found", "Not Found")
    standing = call.server.watches.of(call.account.id)
    if any((each.about["type"], each.about["id"]) == (kind, id) for each in standing):
        raise no(409, "conflict", "Webhook already exists on the specified target")
    if len(standing) >= MOST:
        raise no(400, "bad_request", "Too many webhooks")
    about: dict[str, Any] = {
        "type": kind, "id": id, "triggers": _triggers(body), "created_at": drive.now(),
        "created_by": drive.mini_user(drive.me["id"]),
    }  # fmt: skip
    hook = Address(
        url=_address(body), secret=KEYS, id=drive.number("webhook"),
        account_id=call.account.id, about=about, grant=call.grant,
    )  # fmt: skip
    call.server.watches.add(hook)
    return reply(_shown(hook), 201)


def _hook(call: Call) -> Address:
    hook = call.server.watches.get(call.params["id"])
    if hook is None or hook.account_id != call.account.id:
        raise no(404, "not_found", "Not Found")
    return hook


def listed(drive: Drive, call: Call) -> Response:
    hooks: Iterable[Address] = call.server.watches.of(call.account.id)
    return listing(drive, call, [(each.id, _shown(each)) for each in hooks], most=1000)


def one(drive: Drive, call: Call) -> Response:
    return reply(_shown(_hook(call)))


def update(drive: Drive, call: Call) -> Response:
    hook, body = _hook(call), call.json() or {}
    triggers = _triggers(body) if "triggers" in body else hook.about["triggers"]
    url = _address(body) if "address" in body else hook.url
    turned = {**vars(hook), "url": url, "about": {**hook.about, "triggers": triggers}}
    call.server.watches.add(Address(**turned))
    return reply(_shown(_hook(call)))


def remove(drive: Drive, call: Call) -> Response:
    call.server.watches.remove(_hook(call).id)
    return Response(status_code=204)


def tell(drive: Drive, body: Json) -> Json:
    """To one webhook, of what no change of data causes: `{"webhook": id, "trigger":
    "NO_ACTIVE_SESSION" | "WEBHOOK.DELETED"}`."""
    what = {"event": str(body["trigger"]), "webhook": str(body["webhook"]), "source": None}
    drive.seed.tell({**what, "type": "", "folders": []})
    return {"told": what["event"]}
