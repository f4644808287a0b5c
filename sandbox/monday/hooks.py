"""monday.com's webhooks: one for each board and event, with a challenge, signed for OAuth apps.

https://developer.monday.com/api-reference/reference/webhooks
"""

import hmac

import orjson
from graphql import GraphQLError

from sandbox.kernel.jwt import packed, unpadded
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json
from sandbox.kernel.webhooks import (
    Delivery,
    Event,
    Message,
    Sender,
    again_after,
    to_watches,
)
from sandbox.monday.auth import SIGNING_SECRET

# How what happens is called where hooks are made, by its name in a delivery.
ASKED_FOR = {
    "create_pulse": "create_item",
    "change_name": "change_name",
    "change_column_value": "change_column_value",
    "delete_pulse": "item_deleted",
    "archive_pulse": "item_archived",
    "create_update": "create_update",
    "edit_update": "edit_update",
    "delete_update": "delete_update",
}


def _refused(message: str, code: str, status: int) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code, "status_code": status})


def _allowed(call: Call, scope: str) -> None:
    if call.grant is None or scope not in call.grant.scopes:
        raise _refused("Missing required permissions", "missingRequiredPermissions", 403)


def create_webhook(call: Call, asked: Json) -> Json:
    _allowed(call, "webhooks:write")
    board = call.state.tables["boards"].get(str(asked["board_id"]))
    if board is None or board["id"] in call.state.hidden:
        raise _refused("Board not found", "ResourceNotFoundException", 404)
    id = call.state.next_id()
    about = {"board": board["id"], "event": asked["event"]}
    call.server.watches.add(
        Address(
            url=asked["url"],
            secret=SIGNING_SECRET,
            id=id,
            account_id=call.account.id,
            about=about,
            grant=call.grant,
        )
    )
    return {"id": id, "board_id": board["id"], "event": asked["event"], "config": None}


def delete_webhook(call: Call, asked: Json) -> Json:
    _allowed(call, "webhooks:write")
    found = call.server.watches.remove(str(asked["id"]))
    if found is None or found.account_id != call.account.id:
        raise _refused("Webhook not found", "ResourceNotFoundException", 404)
    return _shown(found)


def webhooks(call: Call, asked: Json) -> list[Json]:
    _allowed(call, "webhooks:read")
    hooks = call.server.watches.of(call.account.id)
    return [_shown(each) for each in hooks if each.about["board"] == str(asked["board_id"])]


def _shown(hook: Address) -> Json:
    return {"id": hook.id, "board_id": hook.about["board"], "event": hook.about["event"]}


def concerns(event: Event, hook: Address) -> bool:
    board, name = str(event.what["boardId"]), ASKED_FOR.get(event.what["type"])
    return bool(hook.about["board"] == board and hook.about["event"] == name)


def compose(delivery: Delivery) -> Message:
    """The token covers who is told, not what: the body is not signed."""
    (event,) = delivery.events
    now = int(delivery.now.timestamp())
    what = {**event.what, "triggerUuid": event.id, "triggerTime": event.at.isoformat()}
    claims = {"accountId": int(event.account_id), "userId": 1, "aud": delivery.address.url}
    token = hs256(delivery.address.secret, {**claims, "iat": now, "exp": now + 300})
    headers = {"Content-Type": "application/json", "Authorization": token}
    return Message(url=delivery.address.url, headers=headers, body=orjson.dumps({"event": what}))


def hs256(secret: str, claims: Json) -> str:
    signed = f"{packed({'alg': 'HS256', 'typ': 'JWT'})}.{packed(claims)}"
    return f"{signed}.{unpadded(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


SENDER = Sender(
    compose=compose,
    deadline=10.0,
    # Once a minute for half an hour.
    retry=again_after(*[60.0] * 30),
    notices=to_watches(concerns),
    secret=SIGNING_SECRET,
)
