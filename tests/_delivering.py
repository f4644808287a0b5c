"""Deliveries as vendors send them to us, signed by what the operator has set."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import httpx  # noqa: TID251 - a test is a vendor that calls us

PUBLIC = "https://app.example.com"
HUBSPOT_SECRET = "canary-hubspot-app-secret"  # pragma: allowlist secret
PATH = "/api/webhooks/hubspot"
VERIFIER = "canary-intuit-verifier"  # pragma: allowlist secret


def hubspot_event(object_id: int, portal: str = "4711", **more: Any) -> dict[str, Any]:
    return {
        "eventId": object_id * 7,
        "subscriptionId": 12,
        "portalId": int(portal),
        "occurredAt": 1_763_000_000_000 + object_id,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": object_id,
        "propertyName": "email",
        **more,
    }


def hubspot_headers(
    body: bytes,
    *,
    secret: str = HUBSPOT_SECRET,
    url: str = PUBLIC + PATH,
    ago: float = 0,
) -> dict[str, str]:
    sent = str(int((time.time() - ago) * 1000))
    signed = f"POST{url}".encode() + body + sent.encode()
    mac = hmac.new(secret.encode(), signed, sha256).digest()
    return {
        "content-type": "application/json",
        "x-hubspot-request-timestamp": sent,
        "x-hubspot-signature-v3": base64.b64encode(mac).decode(),
    }


async def from_hubspot(http: httpx.AsyncClient, *events: Mapping[str, Any]) -> httpx.Response:
    body = json.dumps(events).encode()
    return await http.post(PATH, content=body, headers=hubspot_headers(body))


async def from_intuit(
    http: httpx.AsyncClient, body: Any, *, secret: str = VERIFIER, **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    mac = base64.b64encode(hmac.new(secret.encode(), content, sha256).digest()).decode()
    return await http.post(
        "/api/webhooks/quickbooks",
        content=content,
        headers={"content-type": "application/json", "intuit-signature": mac, **headers},
    )
