"""Gmail: a mailbox's messages, threads and labels, and the history of their changes (API v1).

https://developers.google.com/workspace/gmail/api/guides/sync
"""

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Account,
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Watch,
    WatchRequest,
    Webhook,
    ask,
    ask_all,
    column,
    one_resource,
)
from connectors._google import SCOPE, SCOPE_REASONS, auth, classify, reasons
from connectors.kernel.body import parse_json
from connectors.kernel.jwts import google_push_token
from connectors.kernel.paging import LAPSED, ask_page, cursor_pages, rows_of
from connectors.kernel.parts import ask_each
from connectors.kernel.versions import EPOCH, MILLISECOND, integer
from connectors.kernel.webhooks import WatchSteps, each_event

USER = "/users/me"
PAGE = 500
# Details are fetched and handed on so many at a time: a message may have some megabytes.
DETAILS = 50
# Quota units that a call costs: those of a message and a thread by Google's table of 2026, the
# others by the one before.
PROFILE, HISTORY, LABELS, MESSAGE, THREAD, WATCH = 1, 2, 1, 20, 40, 100
LIST = {"messages": 5, "threads": 10}
KINDS = ("messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved")

# The requests for the details of those ids.
Details: TypeAlias = Callable[[Sequence[str]], tuple[Request, ...]]


def mailbox_stream(name: str, *, detail: str, cost: int, changed: str, title: str) -> Stream:
    """Messages or threads: listed once, then derived from the history.

    `changed` names the field of a message, in the history, that says what to fetch again.
    """
    path = f"{USER}/{name}"

    def details(ids: Sequence[str]) -> tuple[Request, ...]:
        return tuple(
            Request.get(
                f"{path}/{quote(one, safe='')}", params={"format": detail}, cost=cost, expect=(404,)
            )
            for one in ids
        )

    def read(at: Checkpoint, context: Context) -> Reader:
        if "history_id" in at:
            yield from _delta(at, details, changed)
        else:
            yield from _backfill(_list(name), at, details)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for first in range(0, len(keys), DETAILS):
            chunk = keys[first : first + DETAILS]
            answers = dict(zip(chunk, (yield from ask_all(details(chunk))), strict=True))
            gone = [one for one, answer in answers.items() if answer.status == 404]
            found = [answer.json for answer in answers.values() if answer.status != 404]
            yield Page(found, Checkpoint(), deleted=gone)

    return Stream(
        name=name,
        title=title,
        read=read,
        fetch=fetch,
        listing=cursor_pages(
            _list(name), records=name, cursor="nextPageToken", param="pageToken", sparse=True
        ),
        version=integer("historyId"),
        columns={
            "history_id": column("historyId", "bigint"),
            **(COLUMNS if name == "messages" else {}),
        },
    )


COLUMNS = {
    "snippet": column("snippet"),
    "thread_id": column("threadId"),
    "label_ids": column("labelIds", "jsonb"),
    "internal_date_ms": column("internalDate", "bigint"),
    "size_bytes": column("sizeEstimate", "bigint"),
    "mime_type": column("payload.mimeType"),
    "headers": column("payload.headers", "jsonb"),
}


def _list(name: str) -> Request:
    # Trash and spam are labels: without them a message would vanish here, not in the history.
    params = {"maxResults": PAGE, "includeSpamTrash": True}
    return Request.get(f"{USER}/{name}", params=params, cost=LIST[name])


def _backfill(listing: Request, at: Checkpoint, details: Details) -> Reader:
    start, page = at.get("start"), at.get("page")
    if start is None:
        # Taken before the listing: what happens meanwhile is in the history after it.
        start = (yield from _profile())["historyId"]
    known = page is None
    while True:
        params = {**listing.params, **({"pageToken": page} if page else {})}
        response = yield from ask_page(replace(listing, params=params), resumed=not known)
        records = listing.path.rpartition("/")[2]
        ids = [row["id"] for row in rows_of(response, records, sparse=True)]
        here = Checkpoint(start=start, page=page) if page else Checkpoint(start=start)
        page, known = response.json.get("nextPageToken"), True
        after = Checkpoint(start=start, page=page) if page else Checkpoint(history_id=start)
        yield from _details(ids, details, here, after)
        if not page:
            return


def _details(
    ids: Sequence[str],
    details: Details,
    here: Checkpoint,
    after: Checkpoint,
    deleted: Sequence[str] = (),
    doomed: Collection[str] = (),
) -> Reader:
    """The records of those ids, in pages; only the last of them moves the checkpoint.

    One that Gmail names and does not show is read again some minutes later: after a push it may
    take seconds until it can be read (byeokim/gmailpush#10, 2020-12). Of the `doomed` the history
    names a deletion last: they are gone.
    """
    for first in range(0, len(ids), DETAILS):
        chunk = ids[first : first + DETAILS]
        answers = dict(zip(chunk, (yield from ask_each(details(chunk))), strict=True))
        found = [one.json for one in answers.values() if isinstance(one, Response) and _is(one)]
        away = [key for key, one in answers.items() if isinstance(one, Exception) or not _is(one)]
        last = first + DETAILS >= len(ids)
        yield Page(
            found,
            after if last else here,
            deleted=[*(deleted if last else ()), *(key for key in away if key in doomed)],
            unsettled=[key for key in away if key not in doomed],
        )
    if not ids:
        yield Page((), after, deleted=deleted)


def _is(response: Response) -> bool:
    return response.status != 404


def _delta(at: Checkpoint, details: Details, changed: str) -> Reader:
    start, page = at["history_id"], at.get("page")
    while True:
        response = yield from _history(start, page)
        if response is None:
            start, page = at["history_id"], None  # only the page has lapsed
            continue
        # What we read again, and whether a deletion is the last change that the history names.
        ids: dict[str, bool] = {}
        deleted: dict[str, None] = {}
        for kind, message in _changes(rows_of(response, "history", sparse=True)):
            one = message[changed]
            gone = kind == "messagesDeleted"
            if gone and changed == "id":
                deleted[one] = None
            else:
                ids[one] = gone
        here = _position(start, page)
        page = response.json.get("nextPageToken")
        after = _position(start, page) if page else _position(response.json["historyId"], None)
        alive = [one for one in ids if one not in deleted]
        doomed = [one for one in alive if ids[one]]
        yield from _details(alive, details, here, after, list(deleted), doomed)
        if not page:
            return


def _changes(records: list[Record]) -> Iterator[tuple[str, Record]]:
    """Each change of a message: its kind, and the message as far as the history shows it. Some
    records only name messages, and not what happened to them."""
    for record in records:
        changes = [(kind, change["message"]) for kind in KINDS for change in record.get(kind, ())]
        yield from changes or [("messages", message) for message in record.get("messages", ())]


def history(at: Checkpoint, context: Context) -> Reader:
    """The changes of the mailbox from our first read on. A gap that Gmail no longer knows stays."""
    start, page = at.get("history_id"), at.get("page")
    if start is None:
        start = (yield from _profile())["historyId"]
        yield Page((), _position(start, None))
    while True:
        response = yield from _history(start, page)
        if response is None:
            page = None
            continue
        page = response.json.get("nextPageToken")
        after = _position(start, page) if page else _position(response.json["historyId"], None)
        yield Page(rows_of(response, "history", sparse=True), after)
        if not page:
            return


def labels(at: Checkpoint, context: Context) -> Reader:
    """All labels, in one answer; what a label counts is not in it."""
    response = yield from ask(Request.get(f"{USER}/labels", cost=LABELS))
    yield Page(rows_of(response, "labels", sparse=True), Checkpoint())


def _history(start: str, page: str | None) -> Calls[Response | None]:
    """A page of the history; None where only the page has lapsed.

    Of a mailbox in which nothing happens, the history id is in the end too old for its own history
    (gauteh/lieer#203, 2021-09): as long as it is the mailbox's, there is nothing new.
    """
    params: dict[str, Any] = {"startHistoryId": start, "maxResults": PAGE}
    expect: tuple[int, ...] = (404,)
    if page is not None:
        params["pageToken"], expect = page, LAPSED
    response = yield from ask(
        Request.get(f"{USER}/history", params=params, cost=HISTORY, expect=expect)
    )
    if response.status == 404:
        now = (yield from _profile())["historyId"]
        if int(now) != int(start):
            raise CheckpointExpiredError("Gmail no longer keeps the history that far back")
        return replace(response, status=200, json={"historyId": start})
    return response if response.status == 200 else None


def _position(start: str, page: str | None) -> Checkpoint:
    return Checkpoint(history_id=start, page=page) if page else Checkpoint(history_id=start)


def _profile() -> Calls[Record]:
    response = yield from ask(Request.get(f"{USER}/profile", cost=PROFILE))
    profile: Record = response.json
    return profile


def events(delivery: Delivery) -> Sequence[Event]:
    return tuple(each_event([delivery.json["message"]], _event))


def _event(message: Record) -> tuple[Event, ...]:
    """A push of Pub/Sub: that the mailbox changed. What changed is in the history after our own
    position; the id that the push tells may be before or after it."""
    data = message["data"].replace("-", "+").replace("_", "/")
    notification = parse_json(base64.b64decode(data + "=" * (-len(data) % 4)))
    event = Event(
        id=message["messageId"],
        type="history",
        effect=Effect.HINT,
        account_id=notification["emailAddress"].lower(),
    )
    return (event,)


def watch_mailbox(wanted: WatchRequest, former: MadeWatch | None = None) -> WatchSteps:
    """Asking again puts the end off: there is one watch for a mailbox. Google refuses a topic that
    it may not publish to with a 403, which is the operator's to mend."""
    topic = wanted.variables["GMAIL_PUBSUB_TOPIC"]
    response = yield from ask(
        Request.post(f"{USER}/watch", json={"topicName": topic}, cost=WATCH, expect=(403,))
    )
    if response.status == 403:
        if reasons(response) & SCOPE_REASONS:
            return NoWatch("Gmail was connected without the permission to watch the mailbox")
        raise ContractError("Gmail does not take GMAIL_PUBSUB_TOPIC: Gmail must be its publisher")
    ends = EPOCH + int(response.json["expiration"]) * MILLISECOND
    return MadeWatch(vendor_id=wanted.context.account_id, expires_at=ends)


def stop_watching(watched: MadeWatch, context: Context) -> Calls[None]:
    yield Request.post(f"{USER}/stop", cost=WATCH)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
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
        verified_by="GMAIL_PUBSUB_ACCOUNT",
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
    sync_method="history ids",
    referees=("google-api-python-client",),
    limitations=(
        "Attachments are named in a message, and not fetched.",
        "Labels that are made or renamed come by polls: no history tells of them.",
        "An audit checks which messages there are, and not their labels: Gmail lists only ids.",
        "A person whose address at Google changed, and who connects again, is a second connection.",
    ),
    streams=(
        mailbox_stream("messages", title="Messages", detail="full", cost=MESSAGE, changed="id"),
        Stream(
            name="history",
            title="History",
            read=history,
            version=integer("id"),
            append_only=True,
            from_now_on=True,
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
