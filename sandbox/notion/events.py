"""Notion's webhooks: one subscription of the app, each call one event, signed with the token that
the first call told.

https://developers.notion.com/reference/webhooks
"""

import orjson

from sandbox.kernel.clock import stamp
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Address, RefusedError
from sandbox.kernel.webhooks import CallbackFlow, Delivery, Message, Sender, again_after
from sandbox.notion.auth import AUTH
from sandbox.notion.store import BOT

VERIFICATION_TOKEN = "secret_sandbox-notion-webhook"  # pragma: allowlist secret
SUBSCRIPTION = "29d75c0d-5546-4414-8459-7b7a92f1fc4b"
# Eight attempts within a day.
WAITS = (60.0, 300.0, 900.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0)


def _message(address: Address, body: bytes) -> Message:
    headers = {
        "Content-Type": "application/json",
        "X-Notion-Signature": f"sha256={hex_signature(address.secret, body)}",
    }
    return Message(url=address.url, headers=headers, body=body)


def compose(delivery: Delivery) -> Message:
    (event,) = delivery.events
    body = {
        "id": event.id,
        "timestamp": stamp(event.at),
        "workspace_id": event.account_id,
        "workspace_name": "A workspace",
        "subscription_id": SUBSCRIPTION,
        "integration_id": AUTH.client_id,
        "authors": [{"id": BOT, "type": "person"}],
        "accessible_by": [{"id": BOT, "type": "bot"}],
        "attempt_number": delivery.attempt,
        "api_version": "2026-03-11",
        **event.what,
    }
    return _message(delivery.address, orjson.dumps(body))


def handshake(address: Address) -> CallbackFlow[None]:
    """Where settings ask for it: the token that proves all further calls comes in the first."""
    if not address.about["verified"]:
        return
    body = orjson.dumps({"verification_token": address.secret})
    answered = yield _message(address, body)
    if answered.status != 200:
        raise RefusedError("the address did not take the verification token", status=400)


SENDER = Sender(
    compose=compose,
    deadline=10.0,
    retry=again_after(*WAITS),
    secret=VERIFICATION_TOKEN,
    # `verified`: the address is sent the token before it is taken.
    settings={"verified": False},
    handshake=handshake,
)
