"""Reading a mailbox: profile, messages, threads, labels, attachments.

https://developers.google.com/workspace/gmail/api/reference/rest
"""

from starlette.responses import Response

from sandbox._google import (
    MAIL,
    SCOPE,
    flag,
    forbidden,
    invalid,
    missing,
    page_size,
    page_token,
    position,
)
from sandbox._google.fields import answered
from sandbox.gmail.messages import attachments, packed
from sandbox.gmail.query import Query, query
from sandbox.gmail.store import Mailbox, Message, counted, current, view, view_thread
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

DEFAULT, MOST = 100, 500
METADATA = f"{SCOPE}gmail.metadata"
# Scopes that show more than headers and labels.
READ_TEXT = (f"{SCOPE}gmail.readonly", f"{SCOPE}gmail.modify", MAIL)


def profile(call: Call, mailbox: Mailbox) -> Response:
    return answered(
        call,
        {
            "emailAddress": mailbox.address,
            "messagesTotal": len(mailbox.messages),
            "threadsTotal": len(mailbox.threads),
            "historyId": str(current(mailbox)),
        },
    )


def list_messages(call: Call, mailbox: Mailbox) -> Response:
    """The newest first; only ids."""
    found = [(message.at, message.id) for message in _matching(call, mailbox)]
    page, body = _page(call, found)
    shown = [mailbox.messages[id_] for id_ in page]
    if shown:
        body["messages"] = [{"id": each.id, "threadId": each.thread_id} for each in shown]
    return answered(call, {**body, "resultSizeEstimate": len(found)})


def list_threads(call: Call, mailbox: Mailbox) -> Response:
    """Threads of which a message fits, the one with the newest such message first."""
    newest: dict[str, int] = {}
    for message in _matching(call, mailbox):
        newest.setdefault(message.thread_id, message.at)
    found = [(at, id_) for id_, at in newest.items()]
    page, body = _page(call, found)
    threads = [mailbox.threads[id_] for id_ in page]
    if threads:
        body["threads"] = [
            {
                "id": thread.id,
                "snippet": mailbox.messages[thread.messages[-1]].snippet,
                "historyId": str(thread.history_id),
            }
            for thread in threads
        ]
    return answered(call, {**body, "resultSizeEstimate": len(found)})


def _matching(call: Call, mailbox: Mailbox) -> list[Message]:
    """The messages that a listing is about, the newest first."""
    asked = Query((), False)
    if "q" in call.query:
        if _metadata_only(call):
            raise forbidden("Metadata scope does not support 'q' parameter")
        asked = query(call.query["q"], mailbox)
    labels = call.query.getlist("labelIds")
    for label in labels:
        if label not in mailbox.labels:
            raise invalid(f"Invalid label: {label}")
    hidden = flag(call, "includeSpamTrash") or asked.hidden or {"SPAM", "TRASH"} & set(labels)
    newest_first = (mailbox.messages[id_] for _, id_ in reversed(mailbox.order))
    return [
        message
        for message in newest_first
        if (hidden or not message.hidden)
        and all(label in message.labels for label in labels)
        and asked.matches(message)
    ]


def _page(call: Call, found: list[tuple[int, str]]) -> tuple[list[str], Json]:
    """The ids of one page, and the token of the next if there is one.

    The token is a place in time, so that what comes or goes meanwhile shifts nothing.
    """
    size, place = page_size(call, default=DEFAULT, most=MOST), position(call, int, str)
    if place:
        found = [each for each in found if each < place]
    body = {"nextPageToken": page_token(*found[size - 1])} if len(found) > size else {}
    return [id_ for _, id_ in found[:size]], body


def get_message(call: Call, mailbox: Mailbox) -> Response:
    format_ = _format(call, ("full", "metadata", "minimal", "raw"))
    return answered(call, view(found_message(call, mailbox), format_, _only(call)))


def get_thread(call: Call, mailbox: Mailbox) -> Response:
    format_ = _format(call, ("full", "metadata", "minimal"))
    thread = mailbox.threads.get(_id(call))
    if thread is None:
        raise missing()
    return answered(call, view_thread(mailbox, thread, format_, _only(call)))


def get_attachment(call: Call, mailbox: Mailbox) -> Response:
    message = found_message(call, mailbox)
    data = attachments(message.part, message.id).get(call.params["attachment"])
    if data is None:
        raise invalid("Invalid attachment token")
    return answered(call, {"size": len(data), "data": packed(data)})


def _format(call: Call, known: tuple[str, ...]) -> str:
    format_ = call.query.get("format", "full").lower()
    if format_ not in known:
        raise invalid(f"Invalid value at 'format' (Format), \"{format_}\"")
    if format_ in ("full", "raw") and _metadata_only(call):
        raise forbidden(f"Metadata scope doesn't allow format {format_.upper()}")
    return format_


def _only(call: Call) -> list[str]:
    return call.query.getlist("metadataHeaders")


def _metadata_only(call: Call) -> bool:
    scopes = call.grant.scopes if call.grant else ()
    return METADATA in scopes and not set(READ_TEXT) & set(scopes)


def _id(call: Call) -> str:
    id_ = call.params["id"]
    if not all(letter in "0123456789abcdef" for letter in id_) or len(id_) > 16:
        raise invalid("Invalid id value")
    return id_


def found_message(call: Call, mailbox: Mailbox) -> Message:
    message = mailbox.messages.get(_id(call))
    if message is None:
        raise missing()
    return message


def list_labels(call: Call, mailbox: Mailbox) -> Response:
    """All at once, and without counters."""
    return answered(call, {"labels": list(mailbox.labels.values())})


def get_label(call: Call, mailbox: Mailbox) -> Response:
    return answered(call, counted(mailbox, found_label(call, mailbox)))


def found_label(call: Call, mailbox: Mailbox) -> Json:
    label = mailbox.labels.get(call.params["label"])
    if label is None:
        raise missing()
    return label
