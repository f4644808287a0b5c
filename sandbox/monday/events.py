"""monday.com's webhooks: made by the API for one event of one board, and told with a token.

https://developer.monday.com/api-reference/reference/webhooks
https://developer.monday.com/apps/docs/integration-authorization

How deliveries look is documented of five events, and of the others as users saw them (2025). Made
up are the codes of refusals, and that each webhook tells of a change under an id of its own.
"""

import hmac
import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    OperationDefinitionNode,
    StringValueNode,
    VariableNode,
)

from sandbox.kernel.jwt import packed, unpadded
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json
from sandbox.kernel.webhooks import (
    AppResponse,
    CallbackFlow,
    Delivery,
    Event,
    Message,
    Notice,
    Receivers,
    Sender,
    again_after,
)
from sandbox.monday.errors import refused
from sandbox.monday.store import Desk

SIGNING_SECRET = "monday-sandbox-signing-secret"  # pragma: allowlist secret
LONGEST_URL, TOKEN_LIVES = 255, 300
OF_SUBITEMS = {
    "create_subitem", "change_subitem_column_value", "change_subitem_name", "move_subitem",
    "subitem_archived", "subitem_deleted", "create_subitem_update",
}  # fmt: skip
# Events that are told of a part of what another one is told of.
NARROWER = {"change_status_column_value": "status", "change_specific_column_value": None}


def challenged(document: DocumentNode, variables: Json) -> CallbackFlow[list[bool]]:
    """Asks the address of each webhook that is to be made for what it is sent, in their order."""
    answered: list[bool] = []
    for url in _urls(document, variables):
        token = uuid4().hex + uuid4().hex[:20]
        body, headers = orjson.dumps({"challenge": token}), {"Content-Type": "application/json"}
        given = yield Message(url=url, headers=headers, body=body)
        answered.append(_echoes(given, token))
    return answered


def _urls(document: DocumentNode, variables: Json) -> Iterator[str]:
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            for each in definition.selection_set.selections:
                if isinstance(each, FieldNode) and each.name.value == "create_webhook":
                    given = next(
                        one.value for one in each.arguments or () if one.name.value == "url"
                    )
                    if isinstance(given, VariableNode):
                        yield str(variables.get(given.name.value))
                    elif isinstance(given, StringValueNode):
                        yield given.value


def _echoes(given: AppResponse, token: str) -> bool:
    try:
        body = orjson.loads(given.body)
    except orjson.JSONDecodeError:
        return False
    return given.status == 200 and isinstance(body, dict) and body.get("challenge") == token


# -- The API --------------------------------------------------------------------------------------


def listed(call: Call, asked: Json) -> list[Json]:
    """Those of a board. Whose they are besides the app's own is not known here: all are."""
    board = _board(call, asked)
    return [_shown(each) for each in _of(call) if each.about["board"] == board]


def create(call: Call, asked: Json, answered: bool) -> Json:
    """One that repeats another's address and event is a webhook of its own."""
    desk: Desk = call.state
    board, event, url = _board(call, asked), str(asked["event"]), str(asked["url"])
    if board in desk.refused:
        text = "User unauthorized to perform action"
        raise refused(text, "UserUnauthorizedException", 403)
    row = desk.tables["boards"][board]
    if row["type"] != "board":
        raise refused("Use the main board's id", "InvalidArgumentException", 400)
    if event in OF_SUBITEMS and not _had_subitems(desk, board):
        text = "The board has no subitems column"
        raise refused(text, "InvalidArgumentException", 400)
    # The sandbox's clients are on this machine.
    if len(url) > LONGEST_URL or not url.startswith(("https://", "http://127.0.0.1")):
        raise refused("The url is not valid", "InvalidArgumentException", 400)
    if not answered:
        text = "The url did not answer with the challenge"
        raise refused(text, "InvalidArgumentException", 400)
    config = asked.get("config")
    hook = Address(
        url=url, secret=SIGNING_SECRET, id=desk.next_id(), account_id=desk.id, grant=call.grant,
        about={"board": board, "event": event, "config": config},
    )  # fmt: skip
    call.server.watches.add(hook)
    return _shown(hook)


def delete(call: Call, asked: Json) -> Json:
    for hook in _of(call):
        if hook.id == str(asked["id"]):
            call.server.watches.remove(hook.id)
            return _shown(hook)
    raise refused("Webhook not found", "ResourceNotFoundException", 404)


def _had_subitems(desk: Desk, board: str) -> bool:
    items = desk.tables["items"]
    return any(
        items[row["parent_id"]]["board_id"] == board for row in desk.tables["subitems"].values()
    )


def _of(call: Call) -> Iterable[Address]:
    return call.server.watches.of(call.state.id)


def _board(call: Call, asked: Json) -> str:
    board = str(asked["board_id"])
    shown = {row["id"] for row in call.state.shown("boards") if row["state"] != "deleted"}
    if board not in shown:
        text = "This board does not exist or you don't have permissions for it"
        raise refused(text, "InvalidBoardIdException", 404)
    return board


def _shown(hook: Address) -> Json:
    config = hook.about["config"]
    shown = config if config is None or isinstance(config, str) else json.dumps(config)
    board, event = hook.about["board"], hook.about["event"]
    return {"id": hook.id, "board_id": board, "event": event, "config": shown}


# -- What is told ---------------------------------------------------------------------------------


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """To each webhook of the board and event; to the app's address as if it were all webhooks of
    each board."""
    if receivers.app:
        yield Notice(event=event, address=receivers.app)
    for hook in receivers.watches.of(event.account_id):
        if hook.about["board"] == event.what["on"] and _is_of(hook, event.what):
            yield Notice(event=event, address=hook)


def _is_of(hook: Address, what: Json) -> bool:
    wanted, told = hook.about["event"], what["event"]
    if wanted not in NARROWER or told != "change_column_value":
        return bool(wanted == told)
    if type_ := NARROWER[wanted]:
        return bool(what["about"]["columnType"] == type_)
    config = hook.about["config"]
    config = json.loads(config) if isinstance(config, str) else config or {}
    return bool(what["about"]["columnId"] == config.get("columnId"))


def compose(delivery: Delivery) -> Message:
    (event,) = delivery.events
    hook = delivery.address
    told: dict[str, Any] = {
        "app": "monday", "type": event.what["type"], "userId": 1,
        "triggerTime": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subscriptionId": int(hook.id or 0), "isRetry": delivery.attempt > 1,
        "originalTriggerUuid": None, "boardId": int(event.what["on"]), **event.what["about"],
        "triggerUuid": uuid5(NAMESPACE_URL, f"{event.id} {hook.id}").hex,
    }  # fmt: skip
    now = int(delivery.now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "Authorization": _token(hook, event.account_id, now),
    }
    return Message(url=hook.url, headers=headers, body=orjson.dumps({"event": told}))


def _token(hook: Address, account: str, now: int) -> str:
    """Without the word Bearer; it holds a token for the API besides."""
    claims = {
        "accountId": int(account), "userId": 1, "aud": hook.url, "exp": now + TOKEN_LIVES,
        "shortLivedToken": "not-for-the-sandbox", "iat": now,
    }  # fmt: skip
    signed = f"{packed({'alg': 'HS256', 'typ': 'JWT'})}.{packed(claims)}"
    mac = hmac.digest(hook.secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{unpadded(mac)}"


SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=10.0,
    retry=again_after(*[60.0] * 30),
    secret=SIGNING_SECRET,
)
