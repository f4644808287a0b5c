"""HubSpot's webhooks: one address for an app, events of all its portals, up to 100 in a call.

https://developers.hubspot.com/docs/api-reference/webhooks-webhooks-v3/guide
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import orjson

from sandbox.hubspot.auth import APP_ID, AUTH
from sandbox.hubspot.kinds import PROPERTIES, SINGULAR, modified
from sandbox.kernel.fields import only
from sandbox.kernel.signing import base64_signature
from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import Delivery, Event, Message, Notice, Receivers, Sender, again_after

TYPE_IDS = {"contacts": "0-1", "companies": "0-2", "deals": "0-3", "tickets": "0-5"}
# Nine retries that end near 24 hours. HubSpot says so much and no more of its schedule.
RETRIES = (60, 300, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 36_000)
FLAGS = {"creation": "NEW", "deletion": "DELETED"}
# Only these have kept their old name in the generic form.
NEVER_GENERIC = ("privacyDeletion",)


def _subscribed() -> Iterable[tuple[str, str, str]]:
    for kind, properties in PROPERTIES.items():
        for what in ("creation", "deletion", "merge", "restore", "associationChange"):
            yield kind, what, ""
        # Those that HubSpot keeps itself cannot be subscribed to.
        own = ("hs_object_id", "createdate", modified(kind))
        for name in properties:
            if name not in own:
                yield kind, "propertyChange", name
    yield "contacts", "privacyDeletion", ""


# The app is subscribed to all there is; every property has a subscription of its own.
SUBSCRIPTIONS = {each: 2_804_117 + 31 * number for number, each in enumerate(_subscribed())}


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """What one change of an object is to the subscriptions: itself, and each property it set."""
    if receivers.app is None:
        return
    changed = event.what["changed"]
    whats: list[Json] = [] if event.what["what"] == "propertyChange" else [event.what]
    for name, value in changed.items():
        one = {"propertyName": name, "propertyValue": value or ""}
        whats.append({**event.what, "what": "propertyChange", **one})
    for what in whats:
        if (what["kind"], what["what"], what.get("propertyName", "")) in SUBSCRIPTIONS:
            yield Notice(event=replace(event, what=what), address=receivers.app)


def compose(delivery: Delivery) -> Message:
    """Signed in two ways: version 3, and beside it version 1, which has no time in it."""
    address, generic = delivery.address, delivery.address.about["generic"] is True
    shown = [_shown(event, delivery.attempt - 1, generic) for event in delivery.events]
    body = orjson.dumps(shown)
    sent_at = str(round(delivery.now.timestamp() * 1000))
    signed = f"POST{address.url}".encode() + body + sent_at.encode()
    headers = {
        "Content-Type": "application/json",
        "X-HubSpot-Request-Timestamp": sent_at,
        "X-HubSpot-Signature-v3": base64_signature(address.secret, signed),
        "X-HubSpot-Signature-Version": "v1",
        "X-HubSpot-Signature": hashlib.sha256(address.secret.encode() + body).hexdigest(),
    }
    return Message(url=address.url, headers=headers, body=body)


def _shown(event: Event, attempt_number: int, generic: bool) -> Json:
    what = event.what
    kind, name = what["kind"], what.get("propertyName", "")
    subject = SINGULAR[kind]
    shown: Json = {
        # HubSpot does not promise that this is unique: all that came of one change shares it.
        "eventId": int(event.id[:8], 16),
        "subscriptionId": SUBSCRIPTIONS[kind, what["what"], name],
        "portalId": int(event.account_id),
        "appId": APP_ID,
        "occurredAt": what["at"],
        "attemptNumber": attempt_number,
        "objectId": int(what["id"]),
        "changeSource": "CRM",
        **only(what, "propertyName", "propertyValue"),
        **what.get("more", {}),
    }
    if what["what"] == "associationChange":
        del shown["objectId"]  # it names two
    if what["what"] in FLAGS:
        shown["changeFlag"] = FLAGS[what["what"]]
    if generic and what["what"] not in NEVER_GENERIC:
        subject = "object"
        shown["objectTypeId"] = TYPE_IDS[kind]
    return {**shown, "subscriptionType": f"{subject}.{what['what']}"}


SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=5.0,
    retry=again_after(*RETRIES),
    batch=100,
    secret=AUTH.client_secret,
    # `generic`: the newer form of events, `object.creation` and the like with an objectTypeId.
    settings={"generic": False},
)
