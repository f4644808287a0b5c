"""What monday.com's webhooks tell: which item or update is to be read again.

A delivery brings a token, signed under the app's signing secret, if its webhook was made with a
token of an app that has an integration feature. The token says of which account it is and until
when it is good, and covers nothing of the body. So the account is the token's, and no event stores
or deletes anything by itself. Whom the token is for (`aud`) is not checked: only of requests to an
app's recipes is it documented to be their address. It holds a key to the API as well, good for five
minutes, which nobody here uses or keeps.
https://developer.monday.com/apps/docs/integration-authorization (2026-11)

A webhook that was asked for as `create_item` tells of a `create_pulse`, one for subitems does so,
too, and adds the parent. The documentation shows three such names; the others were seen by users.
So what is read again is taken from the ids that a delivery holds. Of its name only matters whether
it ends something, and a name that nobody knows leads to a read.
https://developer.monday.com/api-reference/reference/webhooks (2026-11)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from connectors import Delivery, Effect, Event, Reply, SignatureError, each_event
from connectors.kernel.jwts import bearer, claims_in
from connectors.kernel.statuses import PARSE_ERRORS

# A challenge has some fifty characters; anyone may send one, and is answered with it.
LONGEST_CHALLENGE = 1_000
ENDS = {
    "delete_pulse", "archive_pulse", "delete_update", "item_deleted", "item_archived",
    "subitem_deleted", "subitem_archived",
}  # fmt: skip
# No column's value changes with these: the name is none.
OF_ITEM_ALONE = {
    "update_name", "change_name", "change_subitem_name", "move_pulse_into_group",
    "item_moved_to_any_group",
}  # fmt: skip


def challenge(delivery: Delivery) -> Reply | None:
    """A webhook is only made once its address gave back, as JSON, what it was sent."""
    try:
        body = delivery.json
    except ValueError:
        return None
    if not isinstance(body, dict) or set(body) != {"challenge"}:
        return None
    given = body["challenge"]
    if not isinstance(given, str) or len(given) > LONGEST_CHALLENGE:
        return None
    return Reply(json.dumps({"challenge": given}), "application/json")


def events(delivery: Delivery) -> Sequence[Event]:
    """What one delivery asks to be read again; it was proven before."""
    account = _account(delivery)
    stamp = hashlib.sha256(delivery.body).hexdigest()
    return tuple(each_event([delivery.json], partial(_events, account, stamp), lambda _: account))


def _account(delivery: Delivery) -> str:
    """The token's; those of an app's other requests hold it one level deeper."""
    try:
        claims = claims_in(bearer(delivery))
        number = claims["accountId"] if "accountId" in claims else claims["dat"]["account_id"]
        return str(int(number))
    except PARSE_ERRORS:
        raise SignatureError("the token names no account") from None


def _events(account: str, stamp: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Of one that is delivered again the id stays the same, its other fields may not."""
    told = body["event"]
    kind = str(told["type"])
    stamp = str(told.get("triggerUuid") or stamp)
    for effect, stream, key in _asked(kind, told):
        id_ = f"{account}:{stamp}:{kind}:{stream}:{key}"
        yield Event(
            id=id_, type=kind, effect=effect, account_id=account, streams=(stream,), key=key
        )


def _asked(kind: str, told: Mapping[str, Any]) -> Iterator[tuple[Effect, str, str]]:
    """What is to be read. The key `board/item/` is all values of an item."""
    effect = Effect.GONE if kind in ENDS else Effect.READ
    if update := told.get("updateId"):
        # What is said of a reply is a change of what it answers.
        yield Effect.READ if told.get("replyId") else effect, "updates", str(int(update))
        return
    item = told.get("pulseId") or told.get("itemId")
    if not item:
        return
    place = f"{int(told['boardId'])}/{int(item)}"
    yield effect, "subitems" if told.get("parentItemId") else "items", place
    if kind not in OF_ITEM_ALONE:
        yield Effect.READ, "column_values", f"{place}/"
