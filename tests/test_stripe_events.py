"""Events of Stripe's: which are proven, and what is read from them."""

import time
from typing import Any

import pytest
import stripe

from billing.events import TOLERANCE_SECONDS, TYPES, read
from connectors import SignatureError
from tests._localstripe import WEBHOOK_SECRET, event, signed

SUBSCRIPTION = {"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active"}
FORMER = "whsec_formerformer"  # pragma: allowlist secret
TOLD = event("customer.subscription.updated", SUBSCRIPTION)


def refused(body: bytes, signature: str | None, *secrets: str) -> bool:
    with pytest.raises(SignatureError) as caught:
        read(body, signature, secrets or (WEBHOOK_SECRET,))
    assert caught.value.__cause__ is None
    assert "cus_1" not in str(caught.value)
    return True


def test_a_signed_event_is_a_hint_about_its_customer() -> None:
    at = int(time.time())
    told = event("customer.subscription.deleted", SUBSCRIPTION, id="evt_1", created=at)
    hint = read(*signed(told), [WEBHOOK_SECRET])
    assert hint is not None
    assert (hint.event_id, hint.type, hint.customer_id) == (
        "evt_1", "customer.subscription.deleted", "cus_1",
    )  # fmt: skip
    assert (hint.livemode, hint.deleted, hint.created_at.timestamp()) == (False, False, at)


def test_forged_ones_are_refused() -> None:
    at = int(time.time())
    body, signature = signed(TOLD, at=at)
    _, stranger = signed(TOLD, "whsec_strangerstranger")
    assert read(body, signature, [WEBHOOK_SECRET])
    assert refused(body, stranger)
    assert refused(body + b" ", signature)
    assert refused(body.replace(b"cus_1", b"cus_2"), signature)
    assert refused(body, None)
    assert refused(body, "")
    assert refused(body, signature.replace("v1=", "v0="))
    assert refused(body, signature.replace(f"t={at}", f"t={at + 1}"))
    assert refused(body, signature.partition(",")[2])
    assert refused(body, f"t={at},v1=é")
    assert refused(b"\xff\xfe", signature)
    # What is signed under nothing is signed by anybody.
    assert refused(body, stripe.WebhookSignature.generate_signature_header(body.decode(), ""), "")


def test_one_from_another_time_is_refused() -> None:
    now = int(time.time())
    assert read(*signed(TOLD, at=now - TOLERANCE_SECONDS + 30), [WEBHOOK_SECRET])
    assert read(*signed(TOLD, at=now + TOLERANCE_SECONDS - 30), [WEBHOOK_SECRET])
    assert refused(*signed(TOLD, at=now - TOLERANCE_SECONDS - 30))
    assert refused(*signed(TOLD, at=now + TOLERANCE_SECONDS + 30))


def test_while_the_secret_is_changed_both_prove_an_event() -> None:
    for secret in (WEBHOOK_SECRET, FORMER):
        assert read(*signed(TOLD, secret), [WEBHOOK_SECRET, FORMER])
    # Stripe signs with both for a day after a roll.
    body, signature = signed(TOLD)
    both = f"{signature},{signed(TOLD, FORMER)[1].partition(',')[2]}"
    assert read(body, both, [FORMER])
    assert refused(*signed(TOLD, FORMER))


@pytest.mark.parametrize("type_", TYPES)
def test_each_type_names_its_customer(type_: str) -> None:
    about = {"id": "cus_1"} if type_ == "customer.deleted" else {"id": "x", "customer": "cus_1"}
    hint = read(*signed(event(type_, about)), [WEBHOOK_SECRET])
    assert hint is not None
    assert (hint.customer_id, hint.deleted) == ("cus_1", type_ == "customer.deleted")


def test_an_expanded_customer_is_read_as_well() -> None:
    about = {"customer": {"id": "cus_1", "object": "customer"}}
    hint = read(*signed(event("invoice.payment_failed", about)), [WEBHOOK_SECRET])
    assert hint is not None
    assert hint.customer_id == "cus_1"


@pytest.mark.parametrize(
    ("type_", "more"),
    [
        ("product.created", {}),
        ("customer.subscription.updated", {"account": "acct_of_a_tenant"}),
        ("checkout.session.completed", {"data": {"object": {"customer": None}}}),
    ],
)
def test_what_says_nothing_of_who_pays_us_is_of_no_interest(
    type_: str, more: dict[str, Any]
) -> None:
    assert read(*signed(event(type_, SUBSCRIPTION, **more)), [WEBHOOK_SECRET]) is None


@pytest.mark.parametrize(
    "told",
    [
        [], None, {}, {"object": "v2.core.event", "id": "evt_1"},
        event("customer.subscription.updated", {}),
        event("customer.subscription.updated", {"customer": ["cus_1"]}),
        event("customer.subscription.updated", {"customer": "cus_1'; --"}),
        event("customer.subscription.updated", SUBSCRIPTION, id="evt\x00"),
        event("customer.subscription.updated", SUBSCRIPTION, id=7),
        event("customer.subscription.updated", SUBSCRIPTION, created=10**20),
        event("customer.subscription.updated", SUBSCRIPTION, livemode="yes"),
        event("customer.subscription.updated", SUBSCRIPTION, data=None),
    ],
)  # fmt: skip
def test_what_is_signed_and_no_event_is_told_apart(told: Any) -> None:
    with pytest.raises(ValueError, match="no event"):
        read(*signed(told), [WEBHOOK_SECRET])


def test_what_is_signed_and_no_json_is_told_apart() -> None:
    for text in ("{", "[" * 100_000):
        header = stripe.WebhookSignature.generate_signature_header(text, WEBHOOK_SECRET)
        with pytest.raises(ValueError, match="no event"):
            read(text.encode(), header, [WEBHOOK_SECRET])
