"""Linear's webhooks: one address for the app, told of every workspace that allows it.

https://linear.app/developers/webhooks
"""

import orjson

from sandbox.kernel.clock import stamp
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import Delivery, Message, Sender, again_after
from sandbox.linear.auth import AUTH, WEBHOOK_SECRET

# The streams whose rows are told of, by the name that they have there.
TOLD = {
    "issues": "Issue",
    "comments": "Comment",
    "projects": "Project",
    "cycles": "Cycle",
    "users": "User",
    "issue_labels": "IssueLabel",
    "attachments": "Attachment",
    "initiatives": "Initiative",
    "project_updates": "ProjectUpdate",
}


def compose(delivery: Delivery) -> Message:
    """What is sent again is what was sent, byte by byte (vercel/eve#1570, 2026-08)."""
    (event,) = delivery.events
    body = orjson.dumps(
        {
            **event.what,
            "organizationId": event.account_id,
            "createdAt": event.what.get("createdAt") or stamp(event.at),
            "webhookTimestamp": int(delivery.made_at.timestamp() * 1_000),
            "webhookId": "000042e3-d123-4980-b49f-8e140eef9329",
        }
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Linear-Delivery": delivery.id,
        "Linear-Event": event.what["type"],
        "Linear-Signature": hex_signature(delivery.address.secret, body),
        "User-Agent": "Linear-Webhook",
    }
    return Message(url=delivery.address.url, headers=headers, body=body)


def told(stream: str, action: str, row: Json, former: Json | None = None) -> Json:
    """What a change of a row is to `tell`: what it refers to stands there by its id alone."""
    data = {}
    for name, value in row.items():
        is_reference = isinstance(value, dict) and set(value) == {"id"}
        data.update({f"{name}Id": value["id"]} if is_reference else {name: value})
    what: Json = {"type": TOLD[stream], "action": action, "data": data}
    if former is not None:
        what["updatedFrom"] = {name: former[name] for name in row if former[name] != row[name]}
    return what


def revoked() -> Json:
    return {"type": "OAuthApp", "action": "revoked", "oauthClientId": AUTH.client_id}


SENDER = Sender(
    compose=compose,
    deadline=5.0,
    retry=again_after(60.0, 3_600.0, 21_600.0),
    acknowledges=lambda answered: answered.status == 200,
    secret=WEBHOOK_SECRET,
)
