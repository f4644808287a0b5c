"""Xero's webhooks: one address for an app, ids of what changed in all its organisations.

https://developer.xero.com/documentation/guides/webhooks/overview (2026-11)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors import Delivery, Effect, Event, each_event

STREAM_OF = {"CONTACT": "contacts", "INVOICE": "invoices", "CREDITNOTE": "credit_notes"}


def events(delivery: Delivery) -> Iterator[Event]:
    """One event for each record that changed. A delivery that only proves the address has none."""
    return each_event(delivery.json["events"], _event, lambda each: str(each["tenantId"]))


def _event(each: Mapping[str, Any]) -> Iterator[Event]:
    stream = STREAM_OF.get(each["eventCategory"])
    if stream is None:  # SUBSCRIPTION: what the app sells in Xero's store
        return
    kind, key = f"{each['eventCategory']}.{each['eventType']}", str(each["resourceId"])
    yield Event(
        # Xero gives an event no id of its own.
        id=f"{each['tenantId']}:{key}:{kind}:{each['eventDateUtc']}",
        type=kind,
        effect=Effect.READ,
        account_id=str(each["tenantId"]),
        streams=(stream,),
        key=key,
    )
