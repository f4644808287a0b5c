"""The vendors' own SDKs sign deliveries and judge them: what they say of one, we say."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import stripe
from box_sdk_gen.internal.utils import compute_webhook_signature
from box_sdk_gen.managers.webhooks import WebhooksManager
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import id_token
from hubspot.exceptions import InvalidSignatureTimestampError
from hubspot.utils.signature import Signature
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from jwt.exceptions import PyJWTError
from quickbooks import QuickBooks
from slack_sdk.signature import SignatureVerifier

from connectors import Delivery, SignatureError, VerificationKeys
from connectors.kernel.jwts import google_push_token
from connectors.kernel.signatures import (
    box_signature,
    hmac_signature,
    hubspot_signature,
    slack_signature,
    stripe_signature,
)
from connectors.kernel.webhooks import Verify

pytestmark = pytest.mark.referee

SECRET = "canary-signing-secret"
URL = "https://atom.test/api/webhooks/vendor?a=b%3Ac"
BODY = '{"name":"\\u30b9 · ス","text":"a\\\\b"}'


@dataclass(frozen=True)
class Judged:
    """How a vendor's SDK signs a body at a time, and what it says of a body and its headers."""

    signs: Callable[[str, datetime], dict[str, str]]
    judges: Callable[[str, Mapping[str, str]], bool]
    verify: Verify


def hubspot_signs(body: str, at: datetime) -> dict[str, str]:
    sent = str(int(at.timestamp() * 1000))
    signed = Signature.get_signature(SECRET, body, "v3", URL, "POST", sent)
    return {"x-hubspot-signature-v3": signed, "x-hubspot-request-timestamp": sent}


def hubspot_judges(body: str, headers: Mapping[str, str]) -> bool:
    signed, sent = headers["x-hubspot-signature-v3"], headers["x-hubspot-request-timestamp"]
    try:
        return bool(Signature.is_valid(signed, SECRET, body, URL, "POST", "v3", sent))
    except InvalidSignatureTimestampError:
        return False


def slack_signs(body: str, at: datetime) -> dict[str, str]:
    sent = str(int(at.timestamp()))
    signed = SignatureVerifier(SECRET).generate_signature(timestamp=sent, body=body)
    assert signed is not None
    return {"x-slack-signature": signed, "x-slack-request-timestamp": sent}


def slack_judges(body: str, headers: Mapping[str, str]) -> bool:
    return bool(SignatureVerifier(SECRET).is_valid_request(body, headers))


def stripe_signs(body: str, at: datetime) -> dict[str, str]:
    signed = stripe.WebhookSignature.generate_signature_header(body, SECRET, int(at.timestamp()))
    return {"stripe-signature": signed}


def stripe_judges(body: str, headers: Mapping[str, str]) -> bool:
    with suppress(stripe.SignatureVerificationError):
        signed = headers["stripe-signature"]
        return bool(stripe.WebhookSignature.verify_header(body, signed, SECRET, 300))
    return False


def box_signs(body: str, at: datetime) -> dict[str, str]:
    headers = {
        "box-delivery-timestamp": at.isoformat(timespec="seconds"),
        "box-signature-version": "1",
        "box-signature-algorithm": "HmacSHA256",
    }
    signed = compute_webhook_signature(body, headers, SECRET, escape_body=False)
    assert signed is not None
    return headers | {"box-signature-primary": signed}


def box_judges(body: str, headers: Mapping[str, str]) -> bool:
    return bool(WebhooksManager.validate_message(body, dict(headers), SECRET))


HUBSPOT = Judged(hubspot_signs, hubspot_judges, hubspot_signature)
SLACK = Judged(slack_signs, slack_judges, slack_signature)
STRIPE = Judged(stripe_signs, stripe_judges, stripe_signature)
BOX = Judged(box_signs, box_judges, box_signature)
each = pytest.mark.parametrize(
    "judged", [HUBSPOT, SLACK, STRIPE, BOX], ids=["hubspot", "slack", "stripe", "box"]
)


def proven(verify: Verify, body: str, headers: Mapping[str, str], proof: VerificationKeys) -> bool:
    delivery = Delivery(
        method="POST",
        url=URL,
        headers=headers,
        query={},
        body=body.encode(),
        received_at=datetime.now(UTC),
    )
    try:
        verify(delivery, proof)
    except SignatureError:
        return False
    return True


@each
@pytest.mark.parametrize("age", [timedelta(), timedelta(minutes=4), timedelta(days=1)])
@pytest.mark.parametrize("changed", ["", " "])
def test_what_an_sdk_signs_is_judged_alike(judged: Judged, age: timedelta, changed: str) -> None:
    headers = judged.signs(BODY, datetime.now(UTC) - age)
    theirs = judged.judges(BODY + changed, headers)
    assert theirs == (not changed and age < timedelta(days=1))
    assert (
        proven(judged.verify, BODY + changed, headers, VerificationKeys(secrets=(SECRET,)))
        == theirs
    )


@each
def test_what_an_sdk_signs_is_refused_under_another_secret(judged: Judged) -> None:
    headers = judged.signs(BODY, datetime.now(UTC))
    assert not proven(judged.verify, BODY, headers, VerificationKeys(secrets=(SECRET + " ",)))


@pytest.mark.parametrize("changed", ["", " "])
def test_intuits_example_is_judged_alike(changed: str) -> None:
    body = (
        '[{"specversion":"1.0","id":"e-1","type":"qbo.customer.updated.v1","intuitentityid":"1",'
        '"intuitaccountid":"310687"}]' + changed
    )
    signature = "+XkOAPw+XEgZ9HCUBtyRFW6EFbJW6IUvrhhZ56ubv2U="
    theirs = QuickBooks(minorversion=75).validate_webhook_signature(
        body, signature, "verifier-token"
    )
    assert theirs == (not changed)
    ours = hmac_signature("intuit-signature", encoding="base64")
    headers = {"intuit-signature": signature}
    assert proven(ours, body, headers, VerificationKeys(secrets=("verifier-token",))) == theirs


KEY = RSAKey.generate_key(2048, {"kid": "key-1", "use": "sig", "alg": "RS256"})
STRANGER = RSAKey.generate_key(2048, {"kid": "key-1", "use": "sig", "alg": "RS256"})
KEYS = {"keys": [KEY.as_dict(private=False)]}


def published(url: str, method: str) -> Any:
    """Google's keys, as google-auth would fetch them."""
    return SimpleNamespace(status=200, data=json.dumps(KEYS).encode())


@pytest.mark.parametrize("key", [KEY, STRANGER])
@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"aud": "https://other.test"}, False),
        ({"exp": -600}, False),
        ({"iat": 600}, False),
    ],
)
def test_a_token_of_google_is_judged_alike(
    key: RSAKey, changed: dict[str, Any], good: bool
) -> None:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "aud": changed.get("aud", URL),
        "email": "push@atom.test",
        "email_verified": True,
        "exp": now + changed.get("exp", 3600),
        "iat": now + changed.get("iat", 0),
        "iss": "https://accounts.google.com",
    }
    token = joserfc_jwt.encode({"alg": "RS256", "kid": "key-1"}, claims, key)
    try:
        theirs = bool(id_token.verify_token(token, published, audience=URL))
    except (GoogleAuthError, PyJWTError, ValueError):
        theirs = False
    assert theirs == (good and key is KEY)
    proof = VerificationKeys(keys=KEYS, variables={"ACCOUNT": "push@atom.test"})
    verify = google_push_token(account="ACCOUNT", audience="AUDIENCE")
    assert proven(verify, BODY, {"authorization": f"Bearer {token}"}, proof) == theirs
