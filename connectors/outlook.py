"""Outlook: a person's mail, calendar and contacts, through Microsoft Graph (v1.0).

https://learn.microsoft.com/graph/delta-query-messages
"""

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    Context,
    ContractError,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Whole,
    column,
)
from connectors._microsoft import (
    GRAPH,
    NEXT,
    auth,
    classify,
    code_of,
    delta_of_each,
    delta_stream,
    me,
)
from connectors._microsoft_watches import Meaning, graph_watch, graph_webhook, iso
from connectors._paging import rows_of
from connectors._versions import find, parse_time
from connectors._webhooks import Effect

# Ids that stay when an item is moved. A link does not hold it: it goes with every request, and
# with those for watches, whose notifications name ids too.
IMMUTABLE = 'IdType="ImmutableId"'
FOLDERS = "/me/mailFolders"
GONE = "erroritemnotfound"
# Whose messages are those of other folders.
SEARCH_FOLDER = "#microsoft.graph.mailSearchFolder"
LISTED = {
    "$select": "id,childFolderCount",
    "$top": 100,
    # Whether the delta of folders has nested and hidden ones is not documented (2026-11), so the
    # folders whose messages are read are found by going down through all of them.
    "includeHiddenFolders": "true",
}
# Of an attachment all but its content, which only a file has: that would be 3 MB and more.
ATTACHMENT = "id,name,contentType,size,isInline,lastModifiedDateTime"
MANY, LETTERS, FILED = 200, 50, 100
# The calendar from a year back to a year ahead; it is read anew when that is a month off.
BACK = AHEAD = timedelta(days=365)
MOVES_AFTER = timedelta(days=30)

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


def paged(path: str, size: int, params: Mapping[str, Any] | None = None) -> Request:
    """The first request of a delta; the size of its pages is a preference, too."""
    prefer = f"{IMMUTABLE}, odata.maxpagesize={size}"
    return Request.get(path, params=params or {}, headers={"prefer": prefer})


def folders(context: Context) -> Generator[Any, Any, Sequence[str]]:
    """The ids of all folders that hold messages, nested and hidden ones too."""
    paths, found = [FOLDERS], list[str]()
    while paths:
        # Only what is inside of another may be gone by now.
        expect = () if paths == [FOLDERS] else (404,)
        answers = yield tuple(Request.get(path, params=LISTED, expect=expect) for path in paths)
        paths = []
        for answer in answers:
            rows = yield from _all(answer)
            for row in rows:
                if row.get("@odata.type") == SEARCH_FOLDER:
                    continue
                found.append(row["id"])
                if row["childFolderCount"]:
                    paths.append(f"{_folder(row['id'])}/childFolders")
    return found


def _all(answer: Response) -> Generator[Request, Response, list[Record]]:
    """All rows of a listing that begins with that answer; none of one that is gone by now."""
    if answer.status == 404:
        if code_of(answer) != GONE:
            raise ContractError(f"Outlook has no such listing ({answer.status})")
        return []
    rows = rows_of(answer, "value")
    while following := answer.json.get(NEXT):
        answer = yield Request.get(following)
        rows += rows_of(answer, "value")
    return rows


def _folder(id_: str) -> str:
    return f"{FOLDERS}/{quote(id_, safe='')}"


def in_folder(folder_id: str, row: Record) -> Record:
    return {**row, "folder_id": folder_id}


def message_key(record: Record) -> str:
    """A message in its folder. What is moved is told as removed by the one and as new by the other,
    in whichever order they are read: by its id alone, it might be taken for deleted."""
    return f"{record['folder_id']}/{record['id']}"


def attachment_key(record: Record) -> str:
    return f"{record['folder_id']}/{record['message_id']}/{record['id']}"


# Without a filter: one would cap the backfill of a folder at 5,000 messages.
messages = delta_of_each(
    folders,
    lambda folder_id: paged(f"{_folder(folder_id)}/messages/delta", LETTERS),
    key=lambda folder_id, id_: f"{folder_id}/{id_}",
    shape=in_folder,
    prefix=lambda folder_id: f"{folder_id}/",
    refused=(404,),
)
_letters_with_files = delta_of_each(
    folders,
    lambda folder_id: paged(
        f"{_folder(folder_id)}/messages/delta",
        FILED,
        {"$select": "id,hasAttachments,lastModifiedDateTime"},
    ),
    key=lambda folder_id, id_: f"{folder_id}/{id_}",
    shape=in_folder,
    prefix=lambda folder_id: f"{folder_id}/",
    refused=(404,),
)


def attachments(at: Checkpoint, context: Context) -> Reader:
    """Of every message that says it has some, whenever the message changed; the rest have none."""
    letters, answer, told_at = _letters_with_files(at, context), None, context.now
    while True:
        try:
            step = letters.send(answer)
        except StopIteration:
            return
        if not isinstance(step, Page):
            answer = yield step
            told_at = answer.sent_at if isinstance(answer, Response) else told_at
            continue
        yield (yield from _attached(step, told_at))
        answer = None


def _attached(page: Page, told_at: datetime) -> Generator[Any, Any, Page]:
    """A page of messages as one of their attachments."""
    full = [letter for letter in page.records if letter["hasAttachments"]]
    bare = [message_key(letter) for letter in page.records if not letter["hasAttachments"]]
    whole = [Whole(f"{key}/", (), told_at) for key in (*page.deleted, *bare)]
    found: list[Record] = []
    answers = yield tuple(_files(letter["id"]) for letter in full)
    for letter, answer in zip(full, answers, strict=True):
        where = {"folder_id": letter["folder_id"], "message_id": letter["id"]}
        rows = yield from _all(answer)
        records = [{**row, **where} for row in rows]
        keys = [attachment_key(record) for record in records]
        whole.append(Whole(f"{message_key(letter)}/", keys, answer.sent_at))
        found += records
    return Page(found, page.checkpoint, whole=[*page.whole, *whole])


def _files(message_id: str) -> Request:
    path = f"/me/messages/{quote(message_id, safe='')}/attachments"
    return Request.get(path, params={"$select": ATTACHMENT, "$top": 100}, expect=(404,))


def events(at: Checkpoint, context: Context) -> Reader:
    """The calendar in a window that the first request fixes.

    Of an event outside of it a delta says that it is removed, whether it was moved there, changed
    or deleted: it is not in the window, and one that we never had is no error.
    """
    begun = parse_time(at["begun"]) if "begun" in at else context.now
    if context.now - begun > MOVES_AFTER:
        raise CheckpointExpiredError("the window of this calendar has to move on")
    # No $select, $filter or $orderby: this delta takes none of them.
    window = {"startDateTime": iso(begun - BACK), "endDateTime": iso(begun + AHEAD)}
    read = delta_stream(paged("/me/calendarView/delta", MANY, window))
    pages, answer = read(at, context), None
    while True:
        try:
            step = pages.send(answer)
        except StopIteration:
            return
        if isinstance(step, Page):
            here = Checkpoint({**step.checkpoint, "begun": iso(begun)})
            step = Page(step.records, here, deleted=step.deleted)
        answer = yield step


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """Whose mailbox it is; an account that has none is told so."""
    accounts = yield from me(answer, callback)
    yield Request.get(f"{FOLDERS}/inbox", params={"$select": "id"})
    return accounts


def means(notification: Mapping[str, Any]) -> Meaning:
    """What kind of thing changed is told, and its id; not in which folder it is. So the deltas are
    read, of all that we watch where there is no kind."""
    kind = str(find(notification, ("resourceData", "@odata.type"))).rpartition(".")[2].lower()
    return Meaning(Effect.HINT, KINDS.get(kind, ()))


def watched(context: Context) -> Generator[Request, Response, Sequence[str]]:
    """What notifications are asked of; changes of folders themselves are not told."""
    yield from ()
    return tuple(STREAMS)


connector = Connector(
    name="outlook",
    title="Outlook",
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
    follows="delta links, of messages one for each folder",
    judged_by=("msgraph-sdk",),
    gaps=(
        "The person's own mailbox only: no shared ones, and no archive beside it.",
        "Events are those of the primary calendar, from a year back to a year ahead of when that "
        "window last moved (it does once a month); of an occurrence of a series Microsoft gives "
        "the times only, and all else with the series.",
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
            read=delta_stream(
                paged(f"{FOLDERS}/delta", MANY, {"$select": "displayName,parentFolderId,isHidden"})
            ),
            columns={
                "name": column("displayName"),
                "parent_id": column("parentFolderId"),
                "is_hidden": column("isHidden", "boolean"),
            },
        ),
        Stream(
            name="messages",
            title="Messages",
            read=messages,
            key=message_key,
            columns={
                "message_id": column("id"),
                "folder_id": column("folder_id"),
                "conversation_id": column("conversationId"),
                "subject": column("subject"),
                "from_address": column("from.emailAddress.address"),
                "from_name": column("from.emailAddress.name"),
                "to": column("toRecipients", "jsonb"),
                "is_read": column("isRead", "boolean"),
                "has_attachments": column("hasAttachments", "boolean"),
                "importance": column("importance"),
                "received_at": column("receivedDateTime", "timestamptz"),
                "updated_at": column("lastModifiedDateTime", "timestamptz"),
            },
        ),
        Stream(
            name="attachments",
            title="Attachments",
            read=attachments,
            key=attachment_key,
            columns={
                "attachment_id": column("id"),
                "message_id": column("message_id"),
                "folder_id": column("folder_id"),
                "name": column("name"),
                "content_type": column("contentType"),
                "size": column("size", "bigint"),
                "is_inline": column("isInline", "boolean"),
                "updated_at": column("lastModifiedDateTime", "timestamptz"),
            },
        ),
        Stream(
            name="events",
            title="Calendar events",
            read=events,
            columns={
                "subject": column("subject"),
                "type": column("type"),
                "series_id": column("seriesMasterId"),
                # Written without a zone: UTC, unless another is asked for.
                "start_utc": column("start.dateTime", "timestamp"),
                "end_utc": column("end.dateTime", "timestamp"),
                "location": column("location.displayName"),
                "is_all_day": column("isAllDay", "boolean"),
                "is_cancelled": column("isCancelled", "boolean"),
                "updated_at": column("lastModifiedDateTime", "timestamptz"),
            },
        ),
        Stream(
            name="contacts",
            title="Contacts",
            read=delta_stream(paged("/me/contacts/delta", MANY)),
            columns={
                "name": column("displayName"),
                "company": column("companyName"),
                "job_title": column("jobTitle"),
                "emails": column("emailAddresses", "jsonb"),
                "mobile_phone": column("mobilePhone"),
                "updated_at": column("lastModifiedDateTime", "timestamptz"),
            },
        ),
    ),
)
