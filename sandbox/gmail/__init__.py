"""Gmail on loopback: messages, threads, labels, history and watches of a mailbox.

https://developers.google.com/workspace/gmail/api/reference/rest

Longer than 700 lines: real MIME messages, a search language, history that expires, labels and
threads that follow from messages, batches, and Pub/Sub's pushes.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox import _google
from sandbox._google import AUTH, MAIL, SCOPE, exceeded, forbidden, quota_status
from sandbox._google.batch import batch
from sandbox.gmail import api as reading
from sandbox.gmail import events, history
from sandbox.gmail import writes as writing
from sandbox.gmail.seed import MUTATIONS, new
from sandbox.gmail.store import Mailbox, alterable, expire, live_watch, store
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, Kind
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Vendor

HOST = "gmail.googleapis.com"

FULL = (MAIL,)
MODIFY = (f"{SCOPE}gmail.modify", MAIL)
READ_TEXT = (f"{SCOPE}gmail.readonly", *MODIFY)
READ = (*READ_TEXT, f"{SCOPE}gmail.metadata")
PROFILE = (*READ, f"{SCOPE}gmail.compose")
READ_LABELS = (*READ, f"{SCOPE}gmail.labels")
LABELS = (f"{SCOPE}gmail.labels", *MODIFY)
INSERT = (f"{SCOPE}gmail.insert", *MODIFY)
SEND = (f"{SCOPE}gmail.send", f"{SCOPE}gmail.compose", *MODIFY)

# A user's quota units a minute in a project made since May 2026.
UNITS_A_MINUTE = 6_000

Handler: TypeAlias = Callable[[Call, Mailbox], Response]

# Method, path below the user, handler, scopes, quota units (of the table from before May 2026).
TABLE: tuple[tuple[str, str, Handler, tuple[str, ...], int], ...] = (
    ("GET", "/profile", reading.profile, PROFILE, 1),
    ("GET", "/history", history.listed, READ, 2),
    ("GET", "/messages", reading.list_messages, READ, 5),
    ("POST", "/messages", writing.insert, INSERT, 25),
    ("POST", "/messages/send", writing.send, SEND, 100),
    ("GET", "/messages/{id}", reading.get_message, READ, 20),
    ("DELETE", "/messages/{id}", writing.delete_message, FULL, 10),
    ("POST", "/messages/{id}/modify", writing.modify, MODIFY, 5),
    ("POST", "/messages/{id}/trash", writing.trash_message, MODIFY, 5),
    ("POST", "/messages/{id}/untrash", writing.untrash_message, MODIFY, 5),
    ("GET", "/messages/{id}/attachments/{attachment}", reading.get_attachment, READ_TEXT, 5),
    ("GET", "/threads", reading.list_threads, READ, 10),
    ("GET", "/threads/{id}", reading.get_thread, READ, 40),
    ("GET", "/labels", reading.list_labels, READ_LABELS, 1),
    ("POST", "/labels", writing.create_label, LABELS, 5),
    ("GET", "/labels/{label}", reading.get_label, READ_LABELS, 1),
    ("PUT", "/labels/{label}", writing.update_label, LABELS, 5),
    ("PATCH", "/labels/{label}", writing.update_label, LABELS, 5),
    ("DELETE", "/labels/{label}", writing.delete_label, LABELS, 5),
    ("POST", "/watch", writing.watch, READ, 100),
    ("POST", "/stop", writing.stop, READ, 50),
)


def _own(handler: Handler) -> Callable[[Call], Response]:
    """The handler on the caller's own mailbox: nobody else's may be named."""

    def answer(call: Call) -> Response:
        mailbox: Mailbox = call.state
        user = call.params["user"]
        if user != "me" and user.lower() != mailbox.address.lower():
            raise forbidden(f"Delegation denied for {mailbox.address}")
        return handler(call, mailbox)

    return answer


def _routes() -> tuple[Route, ...]:
    calls = (
        Route(method, HOST, f"/gmail/v1/users/{{user}}{path}", _own(handler), scopes=scopes)
        for method, path, handler, scopes, _ in TABLE
    )
    # Each part of a batch brings its own token.
    batches = (
        Route("POST", HOST, path, batch, open=True) for path in ("/batch", "/batch/gmail/v1")
    )
    return (*calls, *batches)


ROUTES = _routes()
UNITS = {route.handler: row[4] for route, row in zip(ROUTES, TABLE, strict=False)}


def _cost(call: Call) -> int:
    for route in ROUTES:
        if route.method == call.method and route.pattern.fullmatch(call.path):
            return UNITS.get(route.handler, 0)
    return 0


def trouble(trouble: ErrorCase, call: Call) -> Response:
    """Google's troubles; a spent quota is told with the status that a control chose."""
    if trouble.kind is Kind.RATE_LIMITED and trouble.limit and call.grant:
        mailbox: Mailbox = call.state
        return exceeded(mailbox.quota_status)
    return _google.trouble(trouble, call)


def watches(mailboxes: Mapping[str, Any], body: Json) -> Json:
    """The watch on each mailbox; None where there is none, or it has ended."""
    return {address: live_watch(mailbox) for address, mailbox in mailboxes.items()}


def extras(account_id: str, origin: str) -> Json:
    """What a client of Google's SDK is told; the topic that a watch may name, and who signs."""
    return {
        "api_endpoint": f"{origin}/{HOST}/",
        "batch_url": f"{origin}/{HOST}/batch/gmail/v1",
        "topic_name": writing.TOPIC,
        "push_account": events.ACCOUNT,
        "variables": {
            "GMAIL_PUBSUB_TOPIC": writing.TOPIC,
            "GMAIL_PUBSUB_ACCOUNT": events.ACCOUNT,
        },
    }


vendor = Vendor(
    name="gmail",
    title="Gmail",
    base_url=f"https://{HOST}/gmail/v1",
    auth=AUTH,
    routes=(*ROUTES, *events.ROUTES),
    streams=("messages", "history", "labels", "threads"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=(Limit("units per minute per user", UNITS_A_MINUTE, 60.0, _cost),),
    expire_checkpoints=expire,
    controls={"quota_status": quota_status, "watches": watches},
    webhook=events.SENDER,
    extras=extras,
    three_pages_at=130,
)
