"""Gmail: a mailbox's messages, threads and labels, and the history of their changes (API v1).

https://developers.google.com/workspace/gmail/api/guides/sync
"""

import base64
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Wanted,
    Watch,
    Watched,
    Webhook,
    column,
    one_resource,
)
from connectors._body import parse_json
from connectors._google import SCOPE, auth, classify
from connectors._jwts import google_push_token
from connectors._paging import LAPSED, ask, rows_of
from connectors._versions import EPOCH, MILLISECOND, integer
from connectors._webhooks import Watching

USER = "/users/me"
PAGE = 500
# Details are fetched and handed on so many at a time: a message may have some megabytes.
DETAILS = 50
# Quota units that a call costs.
PROFILE, HISTORY, LABELS, MESSAGES, THREAD, WATCH = 1, 2, 1, 5, 10, 100


def mailbox_stream(name: str, *, detail: str, cost: int, changed: str, title: str) -> Stream:
    """Messages or threads: listed once, then derived from the history.

    `changed` names the field of a message, in the history, that says what to fetch again.
    """
    path = f"{USER}/{name}"

    def fetch(ids: Sequence[str]) -> tuple[Request, ...]:
        return tuple(
            Request.get(
                f"{path}/{quote(one, safe='')}", params={"format": detail}, cost=cost, expect=(404,)
            )
            for one in ids
        )

    def read(at: Checkpoint, context: Context) -> Reader:
        if "history_id" in at:
            yield from _delta(at, fetch, changed)
        else:
            yield from _backfill(path, name, at, fetch)

    return Stream(
        name=name,
        title=title,
        read=read,
        version=integer("historyId"),
        columns={
            "history_id": column("historyId", "bigint"),
            **(MESSAGE if name == "messages" else {}),
        },
    )


MESSAGE = {
    "snippet": column("snippet"),
    "thread_id": column("threadId"),
    "label_ids": column("labelIds", "jsonb"),
    "internal_date_ms": column("internalDate", "bigint"),
    "size_bytes": column("sizeEstimate", "bigint"),
    "mime_type": column("payload.mimeType"),
    "headers": column("payload.headers", "jsonb"),
}


def _backfill(
    path: str, records: str, at: Checkpoint, fetch: Callable[[Sequence[str]], tuple[Request, ...]]
) -> Reader:
    start, page = at.get("start"), at.get("page")
    if start is None:
        # Taken before the listing: what happens meanwhile is in the history after it.
        start = (yield from _profile())["historyId"]
    known = page is None
    while True:
        # Trash and spam are labels: without them a message would vanish here, not in the history.
        params: dict[str, Any] = {"maxResults": PAGE, "includeSpamTrash": True}
        if page is not None:
            params["pageToken"] = page
        cost = MESSAGES if records == "messages" else THREAD
        response = yield from ask(Request.get(path, params=params, cost=cost), resumed=not known)
        ids = [row["id"] for row in rows_of(response, records, sparse=True)]
        here = Checkpoint(start=start, page=page) if page else Checkpoint(start=start)
        page, known = response.json.get("nextPageToken"), True
        after = Checkpoint(start=start, page=page) if page else Checkpoint(history_id=start)
        yield from _details(ids, fetch, here, after)
        if not page:
            return


def _details(
    ids: Sequence[str],
    fetch: Callable[[Sequence[str]], tuple[Request, ...]],
    here: Checkpoint,
    after: Checkpoint,
    deleted: Sequence[str] = (),
) -> Reader:
    """The records of those ids, in pages; only the last of them moves the checkpoint."""
    for first in range(0, len(ids), DETAILS):
        chunk = ids[first : first + DETAILS]
        responses = yield fetch(chunk)
        gone = [one for one, answer in zip(chunk, responses, strict=True) if answer.status == 404]
        found = [answer.json for answer in responses if answer.status != 404]
        if first + DETAILS >= len(ids):
            yield Page(found, after, deleted=[*deleted, *gone])
        else:
            yield Page(found, here, deleted=gone)
    if not ids:
        yield Page((), after, deleted=deleted)


def _delta(
    at: Checkpoint, fetch: Callable[[Sequence[str]], tuple[Request, ...]], changed: str
) -> Reader:
    start, page = at["history_id"], at.get("page")
    while True:
        response = yield _history(start, page)
        if response.status == 404:
            raise CheckpointExpiredError("Gmail no longer keeps the history that far back")
        if response.status != 200:
            start, page = at["history_id"], None  # only the page has lapsed
            continue
        ids: dict[str, None] = {}
        deleted: dict[str, None] = {}
        for kind, message in _changes(rows_of(response, "history", sparse=True)):
            one = message[changed]
            gone = kind == "messagesDeleted" and changed == "id"
            (deleted if gone else ids)[one] = None
        here = _position(start, page)
        page = response.json.get("nextPageToken")
        after = _position(start, page) if page else _position(response.json["historyId"], None)
        alive = [one for one in ids if one not in deleted]
        yield from _details(alive, fetch, here, after, deleted=list(deleted))
        if not page:
            return


def _changes(records: list[Record]) -> Iterator[tuple[str, Record]]:
    """Each change of a message: its kind, and the message as far as the history shows it."""
    for record in records:
        for kind in ("messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved"):
            for change in record.get(kind, ()):
                yield kind, change["message"]


def history(at: Checkpoint, context: Context) -> Reader:
    """The changes of the mailbox from our first read on. A gap that Gmail no longer knows stays."""
    start, page = at.get("history_id"), at.get("page")
    if start is None:
        start = (yield from _profile())["historyId"]
        yield Page((), _position(start, None))
    while True:
        response = yield _history(start, page)
        if response.status == 404:
            raise CheckpointExpiredError("Gmail no longer keeps the history that far back")
        if response.status != 200:
            page = None
            continue
        page = response.json.get("nextPageToken")
        after = _position(start, page) if page else _position(response.json["historyId"], None)
        yield Page(rows_of(response, "history", sparse=True), after)
        if not page:
            return


def labels(at: Checkpoint, context: Context) -> Reader:
    """All labels, in one answer; what a label counts is not in it."""
    response = yield Request.get(f"{USER}/labels", cost=LABELS)
    yield Page(rows_of(response, "labels", sparse=True), Checkpoint())


def _history(start: str, page: str | None) -> Request:
    params: dict[str, Any] = {"startHistoryId": start, "maxResults": PAGE}
    if page is None:
        return Request.get(f"{USER}/history", params=params, cost=HISTORY, expect=(404,))
    params["pageToken"] = page
    return Request.get(f"{USER}/history", params=params, cost=HISTORY, expect=LAPSED)


def _position(start: str, page: str | None) -> Checkpoint:
    return Checkpoint(history_id=start, page=page) if page else Checkpoint(history_id=start)


def _profile() -> Generator[Request, Response, Record]:
    response = yield Request.get(f"{USER}/profile", cost=PROFILE)
    profile: Record = response.json
    return profile


def events(delivery: Delivery) -> tuple[Event, ...]:
    """A push of Pub/Sub: that the mailbox changed. What changed is in the history after our own
    position; the id that the push tells may be before or after it."""
    message = delivery.json["message"]
    data = message["data"].replace("-", "+").replace("_", "/")
    told = parse_json(base64.b64decode(data + "=" * (-len(data) % 4)))
    event = Event(
        id=message["messageId"],
        type="history",
        effect=Effect.HINT,
        account_id=told["emailAddress"].lower(),
    )
    return (event,)


def watch_mailbox(wanted: Wanted, former: Watched | None = None) -> Watching:
    """Asking again puts the end off: there is one watch for a mailbox. Google refuses a topic that
    it may not publish to with a 403, which is the operator's to mend."""
    topic = wanted.variables["GMAIL_PUBSUB_TOPIC"]
    response = yield Request.post(
        f"{USER}/watch", json={"topicName": topic}, cost=WATCH, expect=(403,)
    )
    if response.status == 403:
        raise ContractError("Gmail does not take GMAIL_PUBSUB_TOPIC: Gmail must be its publisher")
    ends = EPOCH + int(response.json["expiration"]) * MILLISECOND
    return Watched(vendor_id=wanted.context.account_id, expires_at=ends)


def stop_watching(watched: Watched, context: Context) -> Generator[Request, Response, None]:
    yield Request.post(f"{USER}/stop", cost=WATCH)


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The mailbox; its address is compared without regard to case."""
    address = (yield from _profile())["emailAddress"]
    return (Account(address.lower(), name=address),)


connector = Connector(
    name="gmail",
    title="Gmail",
    sync_type=SyncType.HYBRID,
    base_url="https://gmail.googleapis.com/gmail/v1",
    auth=auth({f"{SCOPE}gmail.readonly": "messages, threads, labels and the history of changes"}),
    rate_limits=(
        # In quota units; what a project created since 2026-05-01 gets for each mailbox.
        RateLimit(6_000, per=timedelta(minutes=1)),
        RateLimit(1_200_000, per=timedelta(minutes=1), scope="app"),
    ),
    identify=identify,
    classify=classify("Gmail"),
    concurrency=8,
    variables={
        "GMAIL_PUBSUB_TOPIC": "The Pub/Sub topic that Gmail publishes to: `projects/…/topics/…`.",
        "GMAIL_PUBSUB_ACCOUNT": "The service account by which the topic's push subscription signs; "
        "while it is empty, deliveries are refused.",
        "GMAIL_PUBSUB_AUDIENCE": "The audience of that subscription, if it is not our address.",
    },
    webhook=Webhook(
        proven_by="GMAIL_PUBSUB_ACCOUNT",
        verify=google_push_token(account="GMAIL_PUBSUB_ACCOUNT", audience="GMAIL_PUBSUB_AUDIENCE"),
        keys_url="https://www.googleapis.com/oauth2/v3/certs",
        events=events,
        covers=("messages", "history", "threads"),
        setup="Make a Pub/Sub topic to which gmail-api-push@system.gserviceaccount.com may "
        "publish, and a push subscription of it to this address that authenticates by a service "
        "account.",
        proof="By whom and to which address it was pushed, and until when (a token of Google's); "
        "not the body. So a push is a hint to read the history after our own position, no more.",
    ),
    watch=Watch(
        resources=one_resource("mailbox"),
        create=watch_mailbox,
        renew=watch_mailbox,
        delete=stop_watching,
        streams=lambda resource: ("messages", "history", "threads"),
        lifetime=timedelta(days=7),
        needs=("GMAIL_PUBSUB_TOPIC", "GMAIL_PUBSUB_ACCOUNT"),
    ),
    follows="history ids",
    judged_by=("google-api-python-client",),
    gaps=(
        "Attachments are named in a message, and not fetched.",
        "Labels that are made or renamed come by polls: no history tells of them.",
    ),
    streams=(
        mailbox_stream("messages", title="Messages", detail="full", cost=MESSAGES, changed="id"),
        Stream(
            name="history",
            title="History",
            read=history,
            version=integer("id"),
            append_only=True,
            columns={
                "messages": column("messages", "jsonb"),
                "messages_added": column("messagesAdded", "jsonb"),
                "messages_deleted": column("messagesDeleted", "jsonb"),
                "labels_added": column("labelsAdded", "jsonb"),
                "labels_removed": column("labelsRemoved", "jsonb"),
            },
        ),
        Stream(
            name="labels",
            title="Labels",
            read=labels,
            snapshot=True,
            columns={
                "name": column("name"),
                "type": column("type"),
                "message_list_visibility": column("messageListVisibility"),
                "label_list_visibility": column("labelListVisibility"),
            },
        ),
        mailbox_stream(
            "threads", title="Threads", detail="minimal", cost=THREAD, changed="threadId"
        ),
    ),
)
