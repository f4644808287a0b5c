"""How a mailbox is made up, and what an ordered change does to it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from sandbox._microsoft import Person
from sandbox._microsoft.odata import Feed
from sandbox.kernel.clock import stamp_in_seconds as stamp
from sandbox.kernel.data import JOBS, TOPICS, domain, firm, moment, person, phone, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.outlook.calendar import add_event, alter_event, delete_event
from sandbox.outlook.store import (
    Folder,
    Mailbox,
    Message,
    Told,
    folder_told,
    message_shown,
    new_id,
    noted,
    removed,
    versioned,
)
from sandbox.outlook.store import store as held

KNOWN = {
    "inbox": "Inbox",
    "drafts": "Drafts",
    "sentitems": "Sent Items",
    "deleteditems": "Deleted Items",
    "archive": "Archive",
}
OWN = ("Clients", "Invoices", "Travel")
FILES = (("offer.pdf", "application/pdf"), ("plan.xlsx", "application/vnd.ms-excel"))
# What a folder tells of a message that was marked as read, beside its id.
MARKED = ("isRead", "parentFolderId", "@odata.etag", "changeKey", "lastModifiedDateTime")
CATEGORIES = ("Blue category", "Red category")
MUTATIONS = Mutations[Mailbox](
    settable={
        "mail_folders": ("displayName", "parentFolderId"),
        "messages": ("folder_id", "subject", "isRead", "receivedDateTime", "files"),
        "attachments": ("message_id", "name", "isInline"),
        "events": ("subject", "start"),
        "contacts": ("displayName", "jobTitle", "companyName"),
    },
    there=held,
    unknown=404,
)


def new(seed: Seed) -> Mailbox:
    """A mailbox with about so many messages, a calendar and contacts."""
    who: Person = seed.shared
    random = seed.random
    mailbox = Mailbox(who, seed.clock, seed.tell, new_id(random.randbytes(25)))
    for known_as, name in KNOWN.items():
        _place_folder(mailbox, random, name, mailbox.root_id, known_as=known_as)
    inbox = next(iter(mailbox.folders.values()))
    if seed.size:
        for name in OWN:
            _place_folder(mailbox, random, name, inbox.id)
        _place_folder(mailbox, random, "Conversation Action Settings", mailbox.root_id, hidden=True)
    places = [inbox.id, inbox.id, inbox.id, *mailbox.folders]
    for _ in range(seed.size):
        _place_message(mailbox, random, random.choice(places), moment(random, seed.clock.now()))
    for _ in range(seed.size // 6):
        add_event(mailbox, random, {})
    for _ in range(seed.size // 3):
        _place_contact(mailbox, random, {})
    return mailbox


def alterable(mailbox: Mailbox, stream: str) -> list[str]:
    """The folders that every mailbox has stay as they are."""
    if stream == "mail_folders":
        return [folder.id for folder in mailbox.folders.values() if not folder.known_as]
    return list(held(mailbox, stream))


# -- folders


@MUTATIONS.of("mail_folders", "add")
def _add_folder(mailbox: Mailbox, change: Change) -> str:
    parent = change.record.get("parentFolderId") or change.random.choice(
        [mailbox.root_id, *mailbox.folders]
    )
    _folder(mailbox, parent)
    name = str(change.record.get("displayName", firm(change.random)))
    return _place_folder(mailbox, change.random, name, parent).id


@MUTATIONS.of("mail_folders", "change")
def _alter_folder(mailbox: Mailbox, change: Change) -> None:
    folder = mailbox.folders[str(change.id)]
    below = {folder.id, *(each.id for each in _below(mailbox, folder))}
    parent = change.record.get("parentFolderId", folder.parent_id)
    if parent in below or parent not in {mailbox.root_id, *mailbox.folders}:
        raise RefusedError("a folder cannot be moved there", status=409)
    folder.parent_id = parent
    name = f"{firm(change.random)} {change.random.getrandbits(16)}"
    folder.name = str(change.record.get("displayName", name if not change.record else folder.name))
    mailbox.folder_feed.put(folder.id, folder_told(folder))


@MUTATIONS.of("mail_folders", "delete")
def _delete_folder(mailbox: Mailbox, change: Change) -> None:
    """For good, with all that is in it: of the messages nothing more is told."""
    folder = mailbox.folders[str(change.id)]
    for each in [*_below(mailbox, folder), folder]:
        del mailbox.folders[each.id], mailbox.message_feeds[each.id]
        inside = [one.id for one in mailbox.messages.values() if one.folder_id == each.id]
        for id_ in inside:
            del mailbox.messages[id_]
        mailbox.folder_feed.drop(each.id, removed(each.id))


def _below(mailbox: Mailbox, folder: Folder) -> list[Folder]:
    found = []
    for each in mailbox.within(folder.id):
        found += [*_below(mailbox, each), each]
    return found


def _folder(mailbox: Mailbox, id_: object) -> None:
    if id_ not in {mailbox.root_id, *mailbox.folders}:
        raise RefusedError(f"the mailbox has no folder {id_!r}")


def _place_folder(
    mailbox: Mailbox,
    random: Random,
    name: str,
    parent: str,
    *,
    known_as: str = "",
    hidden: bool = False,
) -> Folder:
    folder = Folder(new_id(random.randbytes(25)), name, parent, known_as, hidden)
    mailbox.folders[folder.id] = folder
    mailbox.message_feeds[folder.id] = Feed(mailbox.clock)
    mailbox.folder_feed.put(folder.id, folder_told(folder))
    return folder


# -- messages


@MUTATIONS.of("messages", "add")
def _add_message(mailbox: Mailbox, change: Change) -> str:
    folder_id = change.record.get("folder_id") or change.random.choice(list(mailbox.folders))
    if folder_id not in mailbox.folders:
        raise RefusedError(f"the mailbox has no folder {folder_id!r}")
    message = _place_message(mailbox, change.random, folder_id, mailbox.clock.now(), change.record)
    _tell(mailbox, message, "created")
    return f"{message.folder_id}/{message.id}"


@MUTATIONS.of("messages", "change")
def _alter_message(mailbox: Mailbox, change: Change) -> str:
    message, random, record = _message(mailbox, change), change.random, change.record
    others = [id_ for id_ in mailbox.folders if id_ != message.folder_id]
    target = record.get("folder_id") or (
        random.choice(others) if not record and random.random() < 0.4 else message.folder_id
    )
    if target not in mailbox.folders:
        raise RefusedError(f"the mailbox has no folder {target!r}")
    set_ = {name: record[name] for name in record if name not in ("folder_id", "files")}
    if not record and target == message.folder_id:
        set_ = random.choice(
            (
                {"isRead": not message.body["isRead"]},
                {"subject": f"{random.choice(TOPICS)} {random.getrandbits(24):x}"},
                {"categories": [random.choice(CATEGORIES), f"{random.getrandbits(24):x}"]},
            )
        )
    message.body |= set_
    if target != message.folder_id:
        _move(mailbox, message, target)
    # Of a message that is marked as read no more is told: microsoft-graph-docs#7776.
    _touch(mailbox, message, part=MARKED if set(set_) == {"isRead"} else ())
    _tell(mailbox, message, "updated")
    return f"{message.folder_id}/{message.id}"


def _move(mailbox: Mailbox, message: Message, target: str) -> None:
    """Out of one folder and into the other; which of the two is read first, a client decides."""
    stub = removed(message.id, "changed")
    mailbox.message_feeds[message.folder_id].drop(message.id, {**stub, "_moves": message.moves})
    message.folder_id = target
    message.moves += 1


@MUTATIONS.of("messages", "delete")
def _delete_message(mailbox: Mailbox, change: Change) -> None:
    message = _message(mailbox, change)
    del mailbox.messages[message.id]
    stub = {**removed(message.id), "_moves": message.moves}
    mailbox.message_feeds[message.folder_id].drop(message.id, stub)
    _tell(mailbox, message, "deleted")


def _message(mailbox: Mailbox, change: Change) -> Message:
    return mailbox.messages[str(change.id).split("/")[1]]


def _touch(mailbox: Mailbox, message: Message, *, part: Sequence[str] = ()) -> None:
    message.modified_at = mailbox.clock.now()
    message.revision += 1
    _put(mailbox, message, part)


def _put(mailbox: Mailbox, message: Message, part: Sequence[str] = ()) -> None:
    shown = {**message_shown(message), "_moves": message.moves}
    feed = mailbox.message_feeds[message.folder_id]
    if part:
        feed.put_part(message.id, shown, part)
    else:
        feed.put(message.id, shown)


def there_and_back(mailbox: Mailbox, key: str) -> str:
    """A message is moved to another folder and back: with immutable ids its folder tells that it is
    removed, and no more (microsoft-graph-docs-contrib#72, 2023-06)."""
    message = mailbox.messages[key.split("/")[1]]
    feed = mailbox.message_feeds[message.folder_id]
    _put(mailbox, message)
    # Who begins now sees it; who knew it is told that it is gone.
    there = feed.position
    feed.drop(message.id, {**removed(message.id), "_moves": message.moves}, repeats=True)
    feed.latest[message.id] = there
    return key


def _tell(mailbox: Mailbox, message: Message, change_type: str) -> None:
    folder = mailbox.folders[message.folder_id]
    told = noted(mailbox, change_type, "Message", message.id, message_shown(message))
    mailbox.tell(Told(told.change_type, told.resource, told.data, (folder.id, folder.known_as)))


def _place_message(
    mailbox: Mailbox, random: Random, folder_id: str, at: datetime, record: Json | None = None
) -> Message:
    given = record or {}
    first, last = person(random)
    sender = {"name": f"{first} {last}", "address": f"{plain(first)}@{domain(firm(random))}"}
    text = sentence(random)
    own = {"name": mailbox.person.name, "address": mailbox.person.address}
    body: Json = {
        "createdDateTime": stamp(at),
        "receivedDateTime": str(given.get("receivedDateTime", stamp(at))),
        "sentDateTime": stamp(at - timedelta(seconds=2)),
        "categories": [],
        "internetMessageId": f"<{random.getrandbits(64):x}@mail.example>",
        "conversationId": new_id(random.randbytes(12)),
        "subject": str(given.get("subject", random.choice(TOPICS).capitalize())),
        "bodyPreview": text[:40],
        "importance": random.choice(("normal", "normal", "high")),
        "isRead": bool(given.get("isRead", random.random() < 0.6)),
        "isDraft": mailbox.folders[folder_id].known_as == "drafts",
        "body": {"contentType": "text", "content": text},
        "sender": {"emailAddress": sender},
        "from": {"emailAddress": sender},
        "toRecipients": [{"emailAddress": own}],
        "ccRecipients": [],
        "flag": {"flagStatus": "notFlagged"},
    }
    message = Message(new_id(random.randbytes(25)), folder_id, at + timedelta(seconds=1), body)
    for number in range(int(given.get("files", random.choice((0, 0, 0, 1, 2))))):
        _place_file(mailbox, random, message, {"isInline": number == 1})
    mailbox.messages[message.id] = message
    _put(mailbox, message)
    return message


# -- attachments


@MUTATIONS.of("attachments", "add")
def _add_file(mailbox: Mailbox, change: Change) -> str:
    asked = change.record.get("message_id") or change.random.choice([*mailbox.messages, ""])
    if asked not in mailbox.messages:
        raise RefusedError("the mailbox has no such message")
    message = mailbox.messages[asked]
    file = _place_file(mailbox, change.random, message, {"isInline": False, **change.record})
    _touch(mailbox, message)
    _tell(mailbox, message, "updated")
    return f"{message.folder_id}/{message.id}/{file['id']}"


@MUTATIONS.of("attachments", "delete")
def _delete_file(mailbox: Mailbox, change: Change) -> None:
    message = _message(mailbox, change)
    del message.files[str(change.id).split("/")[2]]
    _touch(mailbox, message)
    _tell(mailbox, message, "updated")


def _place_file(mailbox: Mailbox, random: Random, message: Message, given: Json) -> Json:
    name, media = random.choice(FILES)
    id_ = f"{message.id}{random.getrandbits(40):x}"
    file = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "@odata.mediaContentType": media,
        "id": id_,
        "lastModifiedDateTime": stamp(mailbox.clock.now()),
        "name": str(given.get("name", name)),
        "contentType": media,
        "size": random.randint(900, 90_000),
        "isInline": bool(given["isInline"]),
        "contentId": None,
        "contentBytes": "AAAA",
    }
    message.files[id_] = file
    return file


# -- contacts and events


@MUTATIONS.of("events", "add")
def _add_event(mailbox: Mailbox, change: Change) -> str:
    return add_event(mailbox, change.random, change.record)


MUTATIONS.of("events", "change")(alter_event)
MUTATIONS.of("events", "delete")(delete_event)


@MUTATIONS.of("contacts", "add")
def _add_contact(mailbox: Mailbox, change: Change) -> str:
    return _place_contact(mailbox, change.random, change.record)


def _place_contact(mailbox: Mailbox, random: Random, record: Json) -> str:
    first, last = person(random)
    company = firm(random)
    now = stamp(mailbox.clock.now())
    contact = {
        "id": new_id(random.randbytes(25)),
        "createdDateTime": now,
        "displayName": f"{first} {last}",
        "givenName": first,
        "surname": last,
        "companyName": company,
        "jobTitle": random.choice(JOBS),
        "emailAddresses": [{"name": first, "address": f"{plain(first)}@{domain(company)}"}],
        "businessPhones": [phone(random)],
        "mobilePhone": phone(random),
        "categories": [],
    }
    return _put_contact(mailbox, {**contact, **record}, "created")


@MUTATIONS.of("contacts", "change")
def _alter_contact(mailbox: Mailbox, change: Change) -> str:
    contact = mailbox.contacts[str(change.id)]
    drawn = {"companyName": f"{firm(change.random)} {change.random.getrandbits(16)}"}
    return _put_contact(mailbox, {**contact, **(change.record or drawn)}, "updated")


def _put_contact(mailbox: Mailbox, contact: Json, change_type: str) -> str:
    id_ = str(contact["id"])
    version = versioned(id_, mailbox.contact_feed.position + 1)
    shown = {**contact, **version, "lastModifiedDateTime": stamp(mailbox.clock.now())}
    mailbox.contacts[id_] = shown
    mailbox.contact_feed.put(id_, shown)
    mailbox.tell(noted(mailbox, change_type, "Contact", id_, shown))
    return id_


@MUTATIONS.of("contacts", "delete")
def _delete_contact(mailbox: Mailbox, change: Change) -> None:
    shown = mailbox.contacts.pop(str(change.id))
    mailbox.contact_feed.drop(shown["id"], removed(shown["id"]))
    mailbox.tell(noted(mailbox, "deleted", "Contact", shown["id"], shown))
