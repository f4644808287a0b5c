"""QuickBooks' webhooks: one address for an app, ids of what changed in all its companies.

https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC

import orjson

from sandbox.kernel.clock import stamp
from sandbox.kernel.signing import base64_signature
from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import Delivery, Event, Message, Notice, Sender, again_after

SOURCE = f"intuit.{base64.b64encode(hashlib.sha256(b'sandbox').digest()).decode()}"
# How the form before CloudEvents calls what happened.
FORMER = {
    "created": "Create",
    "updated": "Update",
    "deleted": "Delete",
    "merged": "Merge",
    "voided": "Void",
}
RETRIES = (10, 20, 30, 300, 1_200, 7_200, 14_400, 21_600)
EVERY_SIX_HOURS = 21_600


def compose(delivery: Delivery) -> Message:
    """CloudEvents, or as Intuit wrote until 2026-07-31; both are signed in the same way."""
    address, events = delivery.address, delivery.events
    told = _former(events) if address.about["legacy"] else [_cloud_event(each) for each in events]
    body = orjson.dumps(told)
    signature = base64_signature(address.secret, body)
    headers = {"Content-Type": "application/json", "intuit-signature": signature}
    return Message(url=address.url, headers=headers, body=body)


def _cloud_event(event: Event) -> Json:
    drawn = int(event.id[:8], 16)
    shown = {
        "specversion": "1.0",
        "id": event.id,
        "source": SOURCE,
        "type": f"qbo.{event.what['entity'].lower()}.{event.what['operation']}.v1",
        "datacontenttype": "application/json",
        # Intuit writes nanoseconds.
        "time": f"{event.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"{drawn % 10**6:06}Z",
        "intuitentityid": event.what["id"],
        "intuitaccountid": event.account_id,
    }
    if "deleted_id" in event.what:
        return {**shown, "data": {"deletedid": event.what["deleted_id"]}}
    # It says nothing, or is not there.
    return {**shown, "data": {}} if drawn % 2 else shown


def _former(events: Sequence[Event]) -> Json:
    companies: dict[str, list[Json]] = {}
    for event in events:
        entity = {
            "name": event.what["entity"],
            "id": event.what["id"],
            "operation": FORMER[event.what["operation"]],
            "lastUpdated": stamp(event.at),
        }
        if "deleted_id" in event.what:
            entity["deletedId"] = event.what["deleted_id"]
        companies.setdefault(event.account_id, []).append(entity)
    return {
        "eventNotifications": [
            {"realmId": realm, "dataChangeEvent": {"entities": entities}}
            for realm, entities in companies.items()
        ]
    }


def together(notice: Notice) -> str:
    """Of the former bodies Intuit says that they hold one company; of CloudEvents nobody says how
    many, so they are mixed (2026-11)."""
    return notice.event.account_id if notice.address.about["legacy"] else ""


SENDER = Sender(
    compose=compose,
    deadline=3.0,
    retry=again_after(*RETRIES, then=EVERY_SIX_HOURS),
    acknowledges=lambda answered: answered.status == 200,
    # Intuit knows no limit; ours keeps a body within what servers take.
    batch=1000,
    together=together,
    holds_back=True,
    secret="sandbox-quickbooks-verifier-token",  # pragma: allowlist secret
    # `legacy`: the body from before CloudEvents.
    settings={"legacy": False},
)
