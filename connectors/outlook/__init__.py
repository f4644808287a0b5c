"""Outlook: a person's mail, calendar and contacts, through Microsoft Graph (v1.0).

https://learn.microsoft.com/graph/delta-query-messages

Longer than 300 lines: each folder has a delta, in which a message that was moved looks deleted;
attachments, occurrences of series and contacts are each found by other calls than their delta.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    Context,
    RateLimit,
    Request,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors._microsoft import GRAPH, auth, classify, me, no_licence
from connectors._microsoft.watches import Meaning, graph_watch, graph_webhook
from connectors.kernel.versions import find
from connectors.kernel.webhooks import Effect
from connectors.outlook.attachments import attachment_key, attachments
from connectors.outlook.calendar import events, events_by_id, events_listed
from connectors.outlook.reading import (
    FOLDERS,
    IMMUTABLE,
    contacts,
    contacts_by_id,
    folders_by_id,
    mail_folders,
    message_key,
    messages,
    messages_by_id,
    messages_listed,
)

STREAMS = {
    "/me/messages": ("messages", "attachments"),
    "/me/events": ("events",),
    "/me/contacts": ("contacts",),
}
KINDS = {
    "message": STREAMS["/me/messages"],
    "event": STREAMS["/me/events"],
    "contact": STREAMS["/me/contacts"],
}


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Whose mailbox it is; an account without one gets an error that says so."""
    accounts = yield from me(answer, callback)
    inbox = yield from ask(Request.get(f"{FOLDERS}/inbox", params={"$select": "id"}, expect=(404,)))
    if inbox.status == 404:
        raise no_licence("Outlook")
    return accounts


def means(notification: Mapping[str, Any]) -> Meaning:
    """A notification names the kind of thing that changed and its id, but not its folder. So we
    read the deltas: of that kind, or of all that we watch where it names no kind."""
    kind = str(find(notification, ("resourceData", "@odata.type"))).rpartition(".")[2].lower()
    return Meaning(Effect.HINT, KINDS.get(kind, ()))


def watched(context: Context) -> Calls[Sequence[str]]:
    """What notifications are asked of; Microsoft does not report changes of folders themselves."""
    yield from ()
    return tuple(STREAMS)


connector = Connector(
    name="outlook",
    title="Outlook",
    category="Email",
    sync_type=SyncType.HYBRID,
    base_url=GRAPH,
    headers={"prefer": IMMUTABLE},
    auth=auth(
        {
            "Mail.Read": "mail_folders, messages and attachments",
            "Calendars.Read": "events",
            "Contacts.Read": "contacts",
        }
    ),
    rate_limits=(RateLimit(10_000, per=timedelta(minutes=10)),),
    # Of one mailbox at once. Whether that is counted for the mailbox or for our app as a whole, the
    # documentation says in two ways (2026-11); what is refused all the same is asked again.
    concurrency=4,
    identify=identify,
    classify=classify("Outlook"),
    webhook=graph_webhook(
        means=means,
        covers=("messages", "attachments", "events", "contacts"),
    ),
    watch=graph_watch(
        resources=watched,
        streams=lambda resource: STREAMS[resource],
        # The most is 10,080 minutes: a week.
        lifetime=timedelta(days=6),
    ),
    sync_method="delta links, of messages one for each folder",
    referees=("msgraph-sdk",),
    limitations=(
        "Contacts are those of the default folder.",
        "What is in attachments is not fetched; pictures inside a text are listed only where the "
        "message has other attachments as well.",
        "Folders that Microsoft's folder delta leaves out, if it does (unproven), have their "
        "messages read, and no row of their own.",
        "How many messages a folder holds is not kept: that a change of it is told is not sure.",
        "A notification does not say in which folder a message is: the delta of each is asked.",
    ),
    streams=(
        Stream(
            name="mail_folders",
            title="Mail folders",
            read=mail_folders,
            fetch=folders_by_id,
            columns=columns("name=displayName parent_id=parentFolderId is_hidden=isHidden:boolean"),
        ),
        Stream(
            name="messages",
            title="Messages",
            read=messages,
            fetch=messages_by_id,
            listing=messages_listed,
            key=message_key,
            columns=columns(
                "message_id=id folder_id conversation_id=conversationId subject "
                "from_address=from.emailAddress.address from_name=from.emailAddress.name "
                "to=toRecipients:jsonb is_read=isRead:boolean "
                "has_attachments=hasAttachments:boolean importance "
                "received_at=receivedDateTime:timestamptz "
                "updated_at=lastModifiedDateTime:timestamptz"
            ),
        ),
        Stream(
            name="attachments",
            title="Attachments",
            read=attachments,
            key=attachment_key,
            columns=columns(
                "attachment_id=id message_id folder_id name content_type=contentType size:bigint "
                "is_inline=isInline:boolean updated_at=lastModifiedDateTime:timestamptz"
            ),
        ),
        Stream(
            name="events",
            title="Calendar events",
            read=events,
            fetch=events_by_id,
            listing=events_listed,
            # Programs missed deletions of events that no delta reported
            # (microsoft-graph-docs#11728, 2021-02; nylas/sync-engine#438, 2017-02).
            hides_deletes=True,
            columns=columns(
                "subject type series_id=seriesMasterId",
                # Written without a zone: UTC, unless another is asked for.
                "start_utc=start.dateTime:timestamp end_utc=end.dateTime:timestamp "
                "location=location.displayName is_all_day=isAllDay:boolean "
                "is_cancelled=isCancelled:boolean updated_at=lastModifiedDateTime:timestamptz",
            ),
        ),
        Stream(
            name="contacts",
            title="Contacts",
            read=contacts,
            fetch=contacts_by_id,
            columns=columns(
                "name=displayName company=companyName job_title=jobTitle "
                "emails=emailAddresses:jsonb mobile_phone=mobilePhone "
                "updated_at=lastModifiedDateTime:timestamptz"
            ),
        ),
    ),
)
