"""Webhooks on bases: how they are made, proven and kept.

https://airtable.com/developers/web/guides/webhooks-api
"""

from collections.abc import Sequence
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
)
from connectors.airtable.errors import code_of
from connectors.airtable.payloads import MANAGE, REFUSED
from connectors.airtable.schema import bases, readable
from connectors.kernel.paging import rows_of
from connectors.kernel.signatures import base64_key, hmac_signature, per_watch
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import WatchSteps

COVERED = ("records", "attachments", "record_links", "webhook_payloads", "revisions")
SPECIFICATION = {
    "options": {
        "filters": {"dataTypes": ["tableData"]},
        "includes": {"includePreviousCellValues": True},
    }
}


def events(delivery: Delivery) -> Sequence[Event]:
    """That there is something new in the log of a webhook; not what."""
    body = delivery.json
    hook = body["webhook"]["id"]
    event = Event(
        id=f"{hook}:{body['timestamp']}",
        type="ping",
        effect=Effect.HINT,
        watch_id=hook,
        streams=COVERED,
    )
    return (event,)


def resources(context: Context) -> Calls[Sequence[str]]:
    """Every base, where webhooks were allowed at consent."""
    if MANAGE not in context.config.get("scopes", (MANAGE,)):
        return ()
    return [base["id"] for base in (yield from bases()) if readable(base)]


def create(wanted: WatchRequest) -> WatchSteps:
    body = {"notificationUrl": wanted.address, "specification": SPECIFICATION}
    path = f"/bases/{wanted.resource}/webhooks"
    response = yield from ask(Request.post(path, json=body, expect=REFUSED))
    if response.status in REFUSED:
        # Not in this plan, not for this person, or the base has as many as it may have.
        return NoWatch(f"Airtable makes no webhook here ({code_of(response) or response.status})")
    # The secret is shown this once.
    return _made(wanted.resource, response.json["id"], response.json)


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """A week more. One whose log was switched off is made anew; one that only stopped calling, as
    they do when calls failed for long, is told to go on."""
    base, hook = watched.state["base"], watched.vendor_id
    response = yield from ask(Request.get(f"/bases/{base}/webhooks", expect=REFUSED))
    found = [] if response.status in REFUSED else rows_of(response, "webhooks")
    known = next((one for one in found if one["id"] == hook), None)
    if known is None or not known["isHookEnabled"]:
        raise CheckpointExpiredError("Airtable no longer keeps this webhook")
    path = f"/bases/{base}/webhooks/{hook}"
    if not known["areNotificationsEnabled"]:
        yield from ask(Request.post(f"{path}/enableNotifications", json={"enable": True}))
    response = yield from ask(Request.post(f"{path}/refresh"))
    return _made(base, hook, response.json)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    path = f"/bases/{watched.state['base']}/webhooks/{watched.vendor_id}"
    yield from ask(Request("DELETE", path, expect=REFUSED))


def _made(base: str, hook: str, body: Any) -> MadeWatch:
    ends = body.get("expirationTime")
    return MadeWatch(
        vendor_id=hook,
        expires_at=parse_time(ends) if ends else None,
        state={"base": base},
        secret=body.get("macSecretBase64", ""),
    )


webhook = Webhook(
    events=events,
    covers=COVERED,
    verify_event=per_watch(
        hmac_signature("x-airtable-content-mac", prefix="hmac-sha256=", key=base64_key)
    ),
    proof="The body, under a secret of each webhook's own. It names the webhook and the base, and "
    "holds a time; nothing of what changed. So a delivery is a hint to read what is new.",
)

watch = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: COVERED,
    lifetime=timedelta(days=7),
)
