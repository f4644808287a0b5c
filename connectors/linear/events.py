"""What Linear tells: which rows changed, and that the app was taken out of a workspace.

A delivery shows a row in other words than GraphQL, so it is read again. One that is said to be
removed may only be in the trash, and out of it again: it is read until it is gone. Linear tells
nothing of teams, workflow states and milestones.

https://linear.app/developers/webhooks (2026-11)
"""

from collections.abc import Iterator
from typing import Any

from connectors.kernel.messages import Calls, Context, Record, ask
from connectors.kernel.signatures import linear_signature
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import Delivery, Effect, Event, Webhook, each_event
from connectors.linear.errors import data_of
from connectors.linear.query import graphql

STREAM_OF = {
    "Issue": "issues",
    "Comment": "comments",
    "Project": "projects",
    "Cycle": "cycles",
    "User": "users",
    "IssueLabel": "issue_labels",
    "Attachment": "attachments",
    "IssueAttachment": "attachments",
    "Initiative": "initiatives",
    "ProjectUpdate": "project_updates",
}
CHANGES = {"create": Effect.READ, "update": Effect.READ, "remove": Effect.GONE}


def events(delivery: Delivery) -> Iterator[Event]:
    """The event of a delivery; one that cannot be read is kept as it came."""
    return each_event((delivery.json,), _events, lambda body: body["organizationId"])


def _events(body: Record) -> Iterator[Event]:
    """All of it is signed, but for the headers, and so for the delivery's id: ours is made of what
    the body says, which a repeated delivery says again."""
    kind, action, account = body["type"], body["action"], str(body["organizationId"])
    known: dict[str, Any] = {
        "type": f"{kind}.{action}",
        "account_id": account,
        "at": parse_time(body["createdAt"]),
    }
    if (stream := STREAM_OF.get(kind)) and action in CHANGES:
        data = body["data"]
        key = str(data["id"])
        id = f"{account}:{kind}:{action}:{key}:{body['createdAt']}:{data.get('updatedAt')}"
        yield Event(id=id, effect=CHANGES[action], streams=(stream,), key=key, **known)
    elif _ends(body):
        yield Event(
            id=f"{account}:{kind}:{action}:{body['createdAt']}", effect=Effect.REVOKED, **known
        )


def _ends(body: Record) -> bool:
    """The app was taken out of the workspace, or a person has no token of it any more: whether
    that is who consented, Linear is asked."""
    if body["type"] == "OAuthApp":
        return bool(body["action"] == "revoked")
    return body["type"] == "OAuthAuthorization" and body.get("activeTokensForUser") == 0


def stands(context: Context) -> Calls[None]:
    """Any answer for who consented: the app's tokens die with its authorisation."""
    data_of((yield from ask(graphql("{ viewer { id } }", {}))))


webhook = Webhook(
    verified_by="LINEAR_WEBHOOK_SECRET",
    verify=linear_signature,
    events=lambda delivery: tuple(events(delivery)),
    covers=tuple(dict.fromkeys(STREAM_OF.values())),
    setup="In the app's settings turn webhooks on with this address, and select issues, comments, "
    "attachments, labels, projects, project updates, initiatives, cycles, users and OAuthApp "
    "revoked. Linear then tells of every workspace that allows the app.",
    proof="The body, with its time; not the headers. The body names the workspace and the row, "
    "which is read again. Before a connection ends Linear is asked whether it has.",
    stands=stands,
)
