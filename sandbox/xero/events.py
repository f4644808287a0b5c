"""Xero's webhooks: one address for an app, ids of what changed in all its organisations.

https://developer.xero.com/documentation/guides/webhooks/overview
"""

from hashlib import sha256

import orjson

from sandbox.kernel.signing import base64_signature
from sandbox.kernel.values import Address, Json, RefusedError
from sandbox.kernel.webhooks import CallbackFlow, Delivery, Event, Message, Sender, again_after

API = "https://api.xero.com/api.xro/2.0"
PATHS = {"CONTACT": "Contacts", "INVOICE": "Invoices", "CREDITNOTE": "CreditNotes"}


def compose(delivery: Delivery) -> Message:
    events = [_event(each) for each in delivery.events]
    first = delivery.notices[0].number
    return _signed(delivery.address, events, first, first + len(events) - 1, delivery.id)


def _signed(address: Address, events: list[Json], first: int, last: int, id_: str) -> Message:
    entropy = sha256(id_.encode()).hexdigest()[:20].upper()
    body = {"events": events, "firstEventSequence": first, "lastEventSequence": last}
    raw = orjson.dumps({**body, "entropy": entropy})
    signature = base64_signature(address.secret, raw)
    headers = {"Content-Type": "application/json", "x-xero-signature": signature}
    return Message(url=address.url, headers=headers, body=raw)


def _event(event: Event) -> Json:
    what = event.what
    shown = {
        "resourceUrl": f"{API}/{PATHS[what['category']]}/{what['id']}",
        "resourceId": what["id"],
        "tenantId": event.account_id,
        "tenantType": "ORGANISATION",
        "eventCategory": what["category"],
        "eventType": what["type"],
        "eventDateUtc": what["at"].replace(tzinfo=None).isoformat(timespec="milliseconds"),
    }
    if what["category"] == "CREDITNOTE":
        shown["data"] = {"Type": "ACCRECCREDIT", "Status": "AUTHORISED"}
    return shown


def intent(address: Address) -> CallbackFlow[None]:
    """The intent to receive: calls without events, of which the address tells the wrongly signed
    from the others."""
    if not address.about["intent"]:
        return
    for secret, wanted in (("wrong", 401), (address.secret, 200), ("false", 401)):
        tried = Address(url=address.url, secret=secret)
        answered = yield _signed(tried, [], 0, 0, secret)
        if answered.status != wanted or answered.body:
            text = f"intent to receive: response {answered.status}, not {wanted} and empty"
            raise RefusedError(text, status=400)


SENDER = Sender(
    compose=compose,
    deadline=5.0,
    # With a decreasing frequency, for a day.
    retry=again_after(5, 30, 120, 600, 3_600, 7_200, 14_400, 28_800, 31_000),
    acknowledges=lambda answered: answered.status == 200,
    batch=100,
    secret="sandbox-xero-webhook-key",  # pragma: allowlist secret
    # `intent`: the address has to prove itself now, as after each change of it in the portal.
    settings={"intent": False},
    handshake=intent,
)
