"""Writing to a mailbox: messages, labels, and the watch on it.

https://developers.google.com/workspace/gmail/api/reference/rest
"""

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from uuid import uuid4

from starlette.responses import Response

from sandbox._google import PROJECT, forbidden, invalid, missing, problem
from sandbox._google.fields import answered
from sandbox.gmail.api import found_label, found_message
from sandbox.gmail.messages import parse, unpacked
from sandbox.gmail.store import (
    FIXED,
    Mailbox,
    add,
    add_label,
    current,
    delete,
    is_taken,
    issue,
    relabel,
    remove_label,
    stub,
    trash,
)
from sandbox.kernel.fields import only
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json

# The one topic on which Gmail's push account may publish.
TOPIC = f"projects/{PROJECT}/topics/gmail"
WATCH_LASTS = 7 * 86_400_000  # milliseconds


def modify(call: Call, mailbox: Mailbox) -> Response:
    message, body = found_message(call, mailbox), _body(call)
    put_on, taken_off = _names(body, "addLabelIds"), _names(body, "removeLabelIds")
    _check_labels(mailbox, {*put_on, *taken_off})
    relabel(mailbox, message, put_on, taken_off)
    return answered(call, stub(message))


def trash_message(call: Call, mailbox: Mailbox) -> Response:
    message = found_message(call, mailbox)
    trash(mailbox, message)
    return answered(call, stub(message))


def untrash_message(call: Call, mailbox: Mailbox) -> Response:
    message = found_message(call, mailbox)
    relabel(mailbox, message, [], ["TRASH"])
    return answered(call, stub(message))


def delete_message(call: Call, mailbox: Mailbox) -> Response:
    """For good: not by way of the bin."""
    delete(mailbox, found_message(call, mailbox))
    return Response(status_code=204)


def insert(call: Call, mailbox: Mailbox) -> Response:
    """Puts a message into the mailbox as it is."""
    return _write(call, mailbox, _names(_body(call), "labelIds"), sent=False)


def send(call: Call, mailbox: Mailbox) -> Response:
    return _write(call, mailbox, ["SENT"], sent=True)


def _write(call: Call, mailbox: Mailbox, labels: list[str], *, sent: bool) -> Response:
    body, now = _body(call), call.clock.now()
    if not sent:
        _check_labels(mailbox, set(labels), but=FIXED)
    try:
        raw = unpacked(str(body.get("raw", "")))
    except ValueError as error:
        raise invalid("Invalid value at 'message.raw' (TYPE_BYTES)") from error
    part = parse(raw)
    if not part.headers:
        raise invalid("'raw' RFC822 payload message string or uploading message is required")
    if sent and not any(part.header(name) for name in ("To", "Cc", "Bcc")):
        raise invalid("Recipient address required")
    thread_id = body.get("threadId") or None
    if thread_id is not None and thread_id not in mailbox.threads:
        raise missing()
    extra = _missing_headers(mailbox, part.header, now)
    head = "".join(f"{name}: {value}\r\n" for name, value in extra).encode()
    raw = head + raw
    at = int(now.timestamp() * 1000)
    message = add(mailbox, parse(raw), at, labels, thread_id=thread_id, raw=raw)
    return answered(call, stub(message))


def _missing_headers(
    mailbox: Mailbox, header: Callable[[str], str], now: datetime
) -> list[tuple[str, str]]:
    """What Gmail adds to an e-mail that lacks it."""
    defaults = {
        "From": mailbox.address,
        "Date": format_datetime(now.replace(microsecond=0)),
        "Message-ID": f"<{uuid4().hex}@mail.gmail.example>",
    }
    return [(name, value) for name, value in defaults.items() if not header(name)]


def _check_labels(mailbox: Mailbox, labels: set[str], but: frozenset[str] = frozenset()) -> None:
    for label in sorted(labels):
        if label not in mailbox.labels or label in FIXED - but:
            raise invalid(f"Invalid label: {label}")


def create_label(call: Call, mailbox: Mailbox) -> Response:
    fields = _label_fields(call)
    name = _label_name(mailbox, fields)
    return answered(call, add_label(mailbox, name, fields))


def update_label(call: Call, mailbox: Mailbox) -> Response:
    label, fields = _own_label(call, mailbox), _label_fields(call)
    if "name" in fields or call.method == "PUT":
        _label_name(mailbox, fields, but=label["id"])
    label |= fields
    issue(mailbox)
    return answered(call, label)


def delete_label(call: Call, mailbox: Mailbox) -> Response:
    remove_label(mailbox, str(_own_label(call, mailbox)["id"]))
    return Response(status_code=204)


def _own_label(call: Call, mailbox: Mailbox) -> Json:
    label = found_label(call, mailbox)
    if label["type"] == "system":
        raise invalid("Invalid update request: this label is Gmail's own")
    return label


def _label_fields(call: Call) -> Json:
    known = ("name", "messageListVisibility", "labelListVisibility", "color")
    return only(_body(call), *known)


def _label_name(mailbox: Mailbox, fields: Json, but: str = "") -> str:
    name = str(fields.get("name") or "")
    if not name:
        raise invalid("Invalid label name")
    if is_taken(mailbox, name, but):
        conflict = problem(409, "aborted", "Label name exists or conflicts", "ABORTED")
        raise Answer(conflict)
    return name


def watch(call: Call, mailbox: Mailbox) -> Response:
    """A mailbox has one watch: a second call renews or replaces it."""
    body = _body(call)
    topic, behavior = str(body.get("topicName", "")), body.get("labelFilterBehavior", "include")
    if len(topic.split("/")) != 4 or topic.split("/")[::2] != ["projects", "topics"]:
        raise invalid("Invalid topicName: it must be projects/PROJECT/topics/TOPIC")
    if str(behavior).lower() not in ("include", "exclude"):
        raise invalid("Invalid labelFilterBehavior")
    labels = _names(body, "labelIds")
    for label in labels:
        if label not in mailbox.labels:
            raise invalid(f"Invalid label: {label}")
    if topic != TOPIC:
        raise forbidden("User not authorized to perform this action.")
    ends = int(call.clock.now().timestamp() * 1000) + WATCH_LASTS
    began = {"historyId": str(current(mailbox)), "expiration": str(ends)}
    filter_ = {"labelIds": labels, "labelFilterBehavior": behavior}
    mailbox.watch = {"topicName": topic, **filter_, **began}
    return answered(call, began)


def stop(call: Call, mailbox: Mailbox) -> Response:
    mailbox.watch = None
    return Response(status_code=204)


def _body(call: Call) -> Json:
    body = call.json() if call.body else {}
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received.")
    return body


def _names(body: Json, name: str) -> list[str]:
    names = body.get(name, [])
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise invalid(f"Invalid value at '{name}'")
    return list(dict.fromkeys(names))
