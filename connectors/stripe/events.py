"""Stripe's events: which record of ours each is about, and what a delivery of one asks for."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from connectors import Delivery, Effect, Event, each_event
from connectors.kernel.versions import EPOCH

# One account's test data is kept apart from its live data: it is another account to us.
TEST = ":test"

DEAUTHORIZED = "account.application.deauthorized"
# A preview of an invoice that there is not yet.
PREVIEW = "invoice.upcoming"
STREAM_OF = {
    "customer": "customers",
    "charge": "charges",
    "payment_intent": "payment_intents",
    "invoice": "invoices",
    "subscription": "subscriptions",
}
# Groups of events about what changes another object: a charge tells what was refunded of it
# (`refund.failed` takes that back), and an invoice holds its items as lines
# (https://docs.stripe.com/refunds, https://docs.stripe.com/api/events/types, 2026-11).
OWNER_OF = {"refund": "charge", "invoiceitem": "invoice"}


def concerned(event: Mapping[str, Any]) -> tuple[str, str]:
    """The stream and the key of the record that an event is about; empty where there is none.

    By the object that it holds, for its type says less: `charge.dispute.created` holds a dispute,
    which names its charge, and `customer.source.updated` a card, which names its customer.
    """
    about, group = event["data"]["object"], event["type"].partition(".")[0]
    if event["type"] == PREVIEW:
        return "", ""
    stream, key = STREAM_OF.get(about.get("object")), about.get("id")
    if stream is None:
        owner = OWNER_OF.get(group, group)
        stream, key = STREAM_OF.get(owner), about.get(owner)
    return (stream, key) if stream and isinstance(key, str) else ("", "")


def events(delivery: Delivery) -> Iterator[Event]:
    """That something happened in an account: it is read again, and so is the list of events.

    Stripe sends live endpoints the events of test mode, too (unproven, 2026-11), so each event
    names its mode's account. Without an account it is about our own, and billing's; of another form
    (v2) it is thin.
    """
    yield from each_event([delivery.json], _of_one, _account)


def _of_one(body: Mapping[str, Any]) -> Iterator[Event]:
    if body.get("object") != "event" or not body.get("account"):
        return
    account_id = _account(body)
    if body["type"] == DEAUTHORIZED:
        yield Event(
            id=body["id"],
            type=DEAUTHORIZED,
            effect=Effect.REVOKED,
            account_id=account_id,
            at=EPOCH + timedelta(seconds=body["created"]),
        )
        return
    stream, key = concerned(body)
    if stream:
        yield Event(
            id=body["id"],
            type=body["type"],
            effect=Effect.READ,
            account_id=account_id,
            streams=(stream,),
            key=key,
        )
    yield Event(
        id=f"{body['id']}:events",
        type=body["type"],
        effect=Effect.HINT,
        account_id=account_id,
        streams=("events",),
    )


def _account(body: Mapping[str, Any]) -> str:
    return account_id(body["account"], live=body["livemode"])


def account_id(account: str, *, live: bool) -> str:
    """An account as we name it: one for each of its modes."""
    return account if live else f"{account}{TEST}"
