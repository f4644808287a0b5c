"""`history.list`: what changed in a mailbox since a history id."""

from bisect import bisect_right

from starlette.responses import Response

from sandbox._google import invalid, missing, page_size, page_token, position
from sandbox._google.fields import answered
from sandbox.gmail.store import Mailbox, current, is_known
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

DEFAULT, MOST = 100, 500
TYPES = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


def listed(call: Call, mailbox: Mailbox) -> Response:
    """A page of the history, and the id to go on from once there is no further page."""
    asked = call.query.get("startHistoryId", "")
    if not asked:
        raise invalid("Missing required parameter: startHistoryId")
    if not asked.isdecimal() or int(asked) >= 2**64:
        raise invalid(f"Invalid value at 'start_history_id' (TYPE_UINT64), \"{asked}\"")
    wanted = _wanted(call)
    size = page_size(call, default=DEFAULT, most=MOST)
    now = current(mailbox)
    start = int(asked)
    if not is_known(mailbox, start):
        raise missing()
    place = position(call, int)
    after = max(start, place[0]) if place else start
    label = call.query.get("labelId", "")
    page: list[Json] = []
    body: Json = {}
    for index in range(bisect_right(mailbox.record_ids, after), len(mailbox.records)):
        shown = _shown(mailbox.records[index], wanted, label)
        if shown is None:
            continue
        if len(page) == size:
            body["nextPageToken"] = page_token(int(page[-1]["id"]))
            break
        page.append(shown)
    if page:
        body["history"] = page
    return answered(call, {**body, "historyId": str(now)})


def _wanted(call: Call) -> set[str]:
    asked = call.query.getlist("historyTypes") or list(TYPES)
    for name in asked:
        if name not in TYPES:
            raise invalid(f"Invalid value at 'history_types' (HistoryType), \"{name}\"")
    return {TYPES[name] for name in asked}


def _shown(record: Json, wanted: set[str], label: str) -> Json | None:
    """A record as far as it was asked for; None when nothing of it was."""
    kinds = [kind for kind in TYPES.values() if kind in record and kind in wanted]
    if label:
        kinds = [kind for kind in kinds if any(_has(entry, label) for entry in record[kind])]
    if not kinds:
        return None
    head = {"id": record["id"], "messages": record["messages"]}
    return head | {kind: record[kind] for kind in kinds}


def _has(entry: Json, label: str) -> bool:
    return label in entry["message"].get("labelIds", ()) or label in entry.get("labelIds", ())
