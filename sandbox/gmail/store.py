"""A Gmail mailbox in memory: messages, threads, labels, and the history of all that changed."""

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from random import Random

from sandbox.gmail.messages import Part, envelope, packed, payload, render, snippet
from sandbox.kernel.clock import Clock
from sandbox.kernel.values import Json

# How long a history id can be started from.
HISTORY_KEPT = 7 * 86_400.0
# A mailbox's history id moves on without anything to see, now and then.
QUIET_MOVE = 3_600.0

SYSTEM_LABELS = (
    *("CHAT", "SENT", "INBOX", "IMPORTANT", "TRASH", "DRAFT", "SPAM"),
    *("CATEGORY_FORUMS", "CATEGORY_UPDATES", "CATEGORY_PERSONAL", "CATEGORY_PROMOTIONS"),
    *("CATEGORY_SOCIAL", "STARRED", "UNREAD"),
)
HIDDEN = frozenset(["CHAT", "CATEGORY_FORUMS", "CATEGORY_UPDATES", "CATEGORY_PERSONAL"])
HIDDEN = HIDDEN | {"CATEGORY_PROMOTIONS", "CATEGORY_SOCIAL"}
# Gmail itself puts these on; nobody else may.
FIXED = frozenset(["SENT", "DRAFT", "CHAT"])


@dataclass
class Message:
    """An e-mail in the mailbox. `raw` is kept only of what a client wrote."""

    id: str
    thread_id: str
    at: int
    labels: list[str]
    part: Part
    raw: bytes | None
    size: int
    snippet: str
    history_id: int = 0

    @property
    def text(self) -> bytes:
        """The raw text."""
        return render(self.part) if self.raw is None else self.raw

    @property
    def hidden(self) -> bool:
        return "TRASH" in self.labels or "SPAM" in self.labels


@dataclass
class Thread:
    """A conversation: its messages from the first to the last."""

    id: str
    messages: list[str] = field(default_factory=list)
    history_id: int = 0


@dataclass
class Mailbox:
    """One user's mailbox.

    `issued` are all history ids there were, each with its time; `records` the history, of which
    the API tells only what begins after an id that is still known.
    """

    address: str
    owner: str
    clock: Clock
    random: Random
    messages: dict[str, Message] = field(default_factory=dict)
    threads: dict[str, Thread] = field(default_factory=dict)
    labels: dict[str, Json] = field(default_factory=dict)
    order: list[tuple[int, str]] = field(default_factory=list)
    issued: list[tuple[int, float]] = field(default_factory=list)
    records: list[Json] = field(default_factory=list)
    record_ids: list[int] = field(default_factory=list)
    expired_through: int = 0
    last_label: int = 0
    watch: Json | None = None
    quota_status: int = 429
    tell: Callable[[Json], None] = lambda what: None


def issue(mailbox: Mailbox, at: float | None = None, *, gap: int | None = None) -> int:
    """The next history id: they only grow, with gaps."""
    last = mailbox.issued[-1][0] if mailbox.issued else 0
    number = last + (gap or mailbox.random.randint(1, 40))
    mailbox.issued.append((number, mailbox.clock.time() if at is None else at))
    return number


def current(mailbox: Mailbox) -> int:
    """The mailbox's history id of now."""
    number, at = mailbox.issued[-1]
    return issue(mailbox) if mailbox.clock.time() - at > QUIET_MOVE else number


def is_known(mailbox: Mailbox, start: int) -> bool:
    """Whether history can be told from that id on: neither too old nor never given out."""
    if start <= mailbox.expired_through or start > mailbox.issued[-1][0]:
        return False
    place = bisect_right(mailbox.issued, (start, float("inf")))
    return place > 0 and mailbox.issued[place - 1][1] >= mailbox.clock.time() - HISTORY_KEPT


def expire(mailbox: Mailbox) -> None:
    """No history id that was given out so far can be started from."""
    mailbox.expired_through = mailbox.issued[-1][0]
    issue(mailbox)


def new_message_id(mailbox: Mailbox, at: int) -> str:
    """Sixteen hexadecimal digits that grow with the time."""
    while True:
        made = f"{at << 20 | mailbox.random.getrandbits(20):016x}"
        if made not in mailbox.messages and made not in mailbox.threads:
            return made


def put(
    mailbox: Mailbox,
    part: Part,
    at: int,
    labels: Iterable[str],
    *,
    thread_id: str | None = None,
    raw: bytes | None = None,
) -> Message:
    """A message that is in the mailbox, without a word about it in the history."""
    id_ = new_message_id(mailbox, at)
    thread = mailbox.threads.setdefault(thread_id or id_, Thread(thread_id or id_))
    size = len(render(part) if raw is None else raw)
    message = Message(id_, thread.id, at, list(labels), part, raw, size, snippet(part))
    mailbox.messages[id_] = message
    thread.messages.append(id_)
    thread.messages.sort(key=lambda each: (mailbox.messages[each].at, each))
    insort(mailbox.order, (at, id_))
    return message


def add(
    mailbox: Mailbox,
    part: Part,
    at: int,
    labels: Iterable[str],
    *,
    thread_id: str | None = None,
    raw: bytes | None = None,
) -> Message:
    """A message that arrives, or is written, now."""
    message = put(mailbox, part, at, labels, thread_id=thread_id, raw=raw)
    _note(mailbox, message, {"messagesAdded": [{"message": stub(message)}]})
    return message


def relabel(
    mailbox: Mailbox, message: Message, put_on: Collection[str], taken_off: Collection[str]
) -> bool:
    """Labels put on and taken off; whether that changed anything."""
    added = [label for label in put_on if label not in message.labels]
    removed = [label for label in message.labels if label in taken_off and label not in put_on]
    if not added and not removed:
        return False
    message.labels = [label for label in message.labels if label not in removed] + added
    shown = stub(message)
    changes: Json = {}
    if added:
        changes["labelsAdded"] = [{"message": shown, "labelIds": added}]
    if removed:
        changes["labelsRemoved"] = [{"message": shown, "labelIds": removed}]
    _note(mailbox, message, changes)
    return True


def trash(mailbox: Mailbox, message: Message) -> bool:
    return relabel(mailbox, message, ["TRASH"], ["INBOX", "SPAM"])


def delete(mailbox: Mailbox, message: Message) -> None:
    """The message is gone for good; so is a thread with its last one."""
    thread = mailbox.threads[message.thread_id]
    _note(mailbox, message, {"messagesDeleted": [{"message": stub(message)}]})
    del mailbox.messages[message.id]
    mailbox.order.remove((message.at, message.id))
    thread.messages.remove(message.id)
    if not thread.messages:
        del mailbox.threads[thread.id]


def _note(mailbox: Mailbox, message: Message, changes: Json) -> None:
    number = issue(mailbox)
    message.history_id = number
    mailbox.threads[message.thread_id].history_id = number
    changed = [{"id": message.id, "threadId": message.thread_id}]
    mailbox.records.append({"id": str(number), "messages": changed, **changes})
    mailbox.record_ids.append(number)
    touched = {label for entry in changes.get("labelsRemoved", ()) for label in entry["labelIds"]}
    if _is_watched(mailbox, touched.union(message.labels)):
        mailbox.tell({"historyId": number})


def live_watch(mailbox: Mailbox) -> Json | None:
    """The mailbox's watch, unless there is none or it has ended."""
    watch = mailbox.watch
    return watch if watch and int(watch["expiration"]) > mailbox.clock.time() * 1000 else None


def _is_watched(mailbox: Mailbox, labels: Collection[str]) -> bool:
    """Whether a change of a message with these labels is notified."""
    watch = live_watch(mailbox)
    if watch is None:
        return False
    named = any(label in labels for label in watch["labelIds"])
    includes = str(watch["labelFilterBehavior"]).lower() == "include"
    return not watch["labelIds"] or named == includes


def system_labels() -> dict[str, Json]:
    """The labels that every mailbox has."""
    return {name: _system_label(name) for name in SYSTEM_LABELS}


def _system_label(name: str) -> Json:
    if name in HIDDEN:
        shown = {"messageListVisibility": "hide", "labelListVisibility": "labelHide"}
    else:
        shown = {}
    return {"id": name, "name": name, **shown, "type": "system"}


def is_taken(mailbox: Mailbox, name: str, but: str = "") -> bool:
    """Whether another label has that name; case makes no other name."""
    return any(
        label["name"].lower() == name.lower() and id_ != but
        for id_, label in mailbox.labels.items()
    )


def add_label(mailbox: Mailbox, name: str, fields: Json) -> Json:
    """A label of the user's own."""
    mailbox.last_label += 1
    id_ = f"Label_{mailbox.last_label}"
    shown = {"messageListVisibility": "show", "labelListVisibility": "labelShow"}
    mailbox.labels[id_] = {"id": id_, "name": name, **shown, "type": "user", **fields}
    if mailbox.issued:
        issue(mailbox)
    return mailbox.labels[id_]


def remove_label(mailbox: Mailbox, id_: str) -> None:
    """A label goes, and goes off every message that had it."""
    for message in mailbox.messages.values():
        relabel(mailbox, message, [], [id_])
    del mailbox.labels[id_]
    issue(mailbox)


def own_labels(mailbox: Mailbox) -> list[str]:
    """The ids of the labels that are not Gmail's."""
    return [id_ for id_, label in mailbox.labels.items() if label["type"] == "user"]


def counted(mailbox: Mailbox, label: Json) -> Json:
    """A label as `labels.get` gives it: with its counters."""
    held = [each for each in mailbox.messages.values() if label["id"] in each.labels]
    unread = [each for each in held if "UNREAD" in each.labels]
    return {
        **label,
        "messagesTotal": len(held),
        "messagesUnread": len(unread),
        "threadsTotal": len({each.thread_id for each in held}),
        "threadsUnread": len({each.thread_id for each in unread}),
    }


def stub(message: Message) -> Json:
    """A message as history and the answers to changes give it."""
    labels = {"labelIds": list(message.labels)} if message.labels else {}
    return {"id": message.id, "threadId": message.thread_id, **labels}


def view(message: Message, format_: str = "full", only: Iterable[str] = ()) -> Json:
    """A message as `messages.get` gives it."""
    shown = {
        **stub(message),
        "snippet": message.snippet,
        "sizeEstimate": message.size,
        "historyId": str(message.history_id),
        "internalDate": str(message.at),
    }
    match format_:
        case "full":
            shown["payload"] = payload(message.part, message.id)
        case "metadata":
            shown["payload"] = envelope(message.part, only)
        case "raw":
            shown["raw"] = packed(message.text)
    return shown


def view_thread(
    mailbox: Mailbox, thread: Thread, format_: str = "full", only: Iterable[str] = ()
) -> Json:
    """A thread as `threads.get` gives it: with all its messages, also those in the bin."""
    messages = [view(mailbox.messages[id_], format_, only) for id_ in thread.messages]
    return {"id": thread.id, "historyId": str(thread.history_id), "messages": messages}


def store(mailbox: Mailbox, stream: str) -> dict[str, Json]:
    """What is live, as the API gives it."""
    match stream:
        case "messages":
            return {id_: view(message) for id_, message in mailbox.messages.items()}
        case "threads":
            return {
                id_: view_thread(mailbox, thread, "minimal")
                for id_, thread in mailbox.threads.items()
            }
        case "history":
            return {record["id"]: record for record in mailbox.records}
        case _:
            return {id_: dict(label) for id_, label in mailbox.labels.items()}


def alterable(mailbox: Mailbox, stream: str) -> list[str]:
    """What may be changed or deleted: of the labels, only the user's own."""
    return own_labels(mailbox) if stream == "labels" else list(mailbox.messages)
