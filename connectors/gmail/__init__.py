"""Gmail: a mailbox's messages, threads and labels, and the history of their changes (API v1).

https://developers.google.com/workspace/gmail/api/guides/sync

Longer than 300 lines: the history names messages that may be gone or not shown yet, and labels
and threads follow from it; the push of Pub/Sub is proven by a token of its own.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    RateLimit,
    Record,
    Request,
    Stream,
    SyncType,
    Watch,
    WatchRequest,
    Webhook,
    ask,
    columns,
    one_resource,
)
from connectors._google import SCOPE, SCOPE_REASONS, auth, classify, reasons
from connectors.gmail.reading import (
    MESSAGE,
    THREAD,
    USER,
    WATCH,
    history,
    labels,
    mailbox_stream,
    profile,
)
from connectors.kernel.body import parse_json
from connectors.kernel.jwts import google_push_token
from connectors.kernel.versions import EPOCH, MILLISECOND, integer
from connectors.kernel.webhooks import WatchSteps, each_event


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
    address = (yield from profile())["emailAddress"]
    return (Account(address.lower(), name=address),)


connector = Connector(
    name="gmail",
    title="Gmail",
    category="Email",
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
            columns=columns(
                "messages:jsonb messages_added=messagesAdded:jsonb "
                "messages_deleted=messagesDeleted:jsonb labels_added=labelsAdded:jsonb "
                "labels_removed=labelsRemoved:jsonb"
            ),
        ),
        Stream(
            name="labels",
            title="Labels",
            read=labels,
            snapshot=True,
            columns=columns(
                "name type message_list_visibility=messageListVisibility "
                "label_list_visibility=labelListVisibility"
            ),
        ),
        mailbox_stream(
            "threads", title="Threads", detail="minimal", cost=THREAD, changed="threadId"
        ),
    ),
)
