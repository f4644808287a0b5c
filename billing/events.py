"""What Stripe sends us: proven by the endpoint's secret, and read for whom it is about alone.

Signatures: https://docs.stripe.com/webhooks#verify-manually (2026-11).
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import stripe

from connectors import SignatureError
from connectors.kernel.statuses import PARSE_ERRORS
from storage.billing import Hint

PATH = "/api/billing/stripe"
TOLERANCE_SECONDS = 300
# After each of these a customer may be worth something else.
TYPES = (
    "checkout.session.completed",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "invoice.payment_failed",
)
_TIME = re.compile(r"(?:^|,)t=([0-9]{1,12})(?:,|$)")
_ID = re.compile(r"[A-Za-z0-9_]{1,255}")


def read(body: bytes, signature: str | None, secrets: Sequence[str]) -> Hint | None:
    """The hint that an event is; None where it is of no interest.

    SignatureError unless it is signed, recently, under one of these secrets; ValueError where what
    is signed is no event of the form that is documented.
    """
    _verify(body, signature, secrets)
    try:
        event = json.loads(body)
        # An event of a tenant's own account at Stripe says nothing of what tenants pay us.
        if event["object"] == "event" and event.get("account"):
            return None
        return _hint(event) if event["type"] in TYPES else None
    except PARSE_ERRORS as error:
        raise ValueError("this is no event of Stripe's") from error


def _hint(event: Mapping[str, Any]) -> Hint | None:
    about, deleted = event["data"]["object"], event["type"] == "customer.deleted"
    customer = about["id"] if deleted else about["customer"]
    if customer is None:
        return None  # a checkout that made no customer
    livemode = event["livemode"]
    if not isinstance(livemode, bool):
        raise TypeError
    return Hint(
        event_id=_id(event["id"]),
        type=event["type"],
        customer_id=_id(customer if isinstance(customer, str) else customer["id"]),
        livemode=livemode,
        created_at=datetime.fromtimestamp(event["created"], UTC),
        deleted=deleted,
    )


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise TypeError
    return value


def _verify(body: bytes, signature: str | None, secrets: Sequence[str]) -> None:
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
        except (stripe.SignatureVerificationError, TypeError, UnicodeDecodeError):
            continue  # its error holds the body
        # The library bounds the past only.
        at = _TIME.search(signature or "")
        if at and int(at[1]) <= time.time() + TOLERANCE_SECONDS:
            return
    raise SignatureError("this is not signed by Stripe, or not now") from None
