"""What is in a new mailbox, and what comes into it when a change is ordered."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from html import escape
from random import Random

from sandbox.gmail.messages import Part, attachment, compose
from sandbox.gmail.store import (
    FIXED,
    Mailbox,
    Message,
    add,
    add_label,
    delete,
    is_taken,
    issue,
    own_labels,
    put,
    relabel,
    remove_label,
    system_labels,
)
from sandbox.kernel.data import TOPICS, domain, firm, moment, person, plain, sentence
from sandbox.kernel.mutations import Mutations, refuse_unknown
from sandbox.kernel.values import Change, Json, RefusedError, Seed

LABELS = ("Clients", "Clients/Renewals", "Invoices", "Travel", "Newsletters")
COLOR = {"textColor": "#ffffff", "backgroundColor": "#16a765"}
# How many messages a thread has, and how many threads of a hundred have so many.
LENGTHS, LENGTH_WEIGHTS = (1, 2, 3, 4, 5), (45, 25, 15, 10, 5)
FIELDS = ("subject", "from", "to", "text", "html", "labelIds", "threadId")
LABEL_FIELDS = ("name", "messageListVisibility", "labelListVisibility", "color")
TOGGLED = ("UNREAD", "STARRED", "IMPORTANT", "INBOX")
MUTATIONS = Mutations[Mailbox](settable={"labels": LABEL_FIELDS})


@dataclass(frozen=True)
class Talk:
    """A conversation: with whom, and about what."""

    partner: str
    subject: str


def new(seed: Seed) -> Mailbox:
    """A mailbox filled from the seed. Its history begins now: of how it came to be it is silent."""
    random = seed.random
    drawn = Random(random.random())
    mailbox = Mailbox(seed.account_id, seed.name, seed.clock, drawn, tell=seed.tell)
    mailbox.labels = system_labels()
    if seed.size:
        for name in LABELS:
            add_label(mailbox, name, {"color": COLOR} if name == "Clients" else {})
    letters = _letters(seed)
    # The ids are about to get one digit more: who orders them as text goes wrong.
    digits = max(6, len(str(len(letters) * 40)))
    gaps = [random.randint(1, 40) for _ in letters]
    first = 10**digits - random.randint(20, 120) - sum(gaps)
    issue(mailbox, (letters[0][0] if letters else seed.clock.now()).timestamp(), gap=first)
    started: dict[int, Message] = {}
    for (at, number, talk), gap in zip(letters, gaps, strict=True):
        former = started.get(number)
        part, sent = _letter(mailbox, talk, at, random, former)
        message = put(
            mailbox,
            part,
            _milliseconds(at),
            _first_labels(mailbox, random, former, sent=sent),
            thread_id=former.thread_id if former else None,
        )
        started[number] = message
        message.history_id = issue(mailbox, at.timestamp(), gap=gap)
        mailbox.threads[message.thread_id].history_id = message.history_id
    return mailbox


def _letters(seed: Seed) -> list[tuple[datetime, int, Talk]]:
    """When each message came, of which conversation, from the first to the last."""
    now, random = seed.clock.now(), seed.random
    letters: list[tuple[datetime, int, Talk]] = []
    number = 0
    while len(letters) < seed.size:
        # The first conversation is of today: a mailbox in use has fresh mail.
        at = moment(random, now, days=400 if number else 1)
        talk = _talk(random)
        length = random.choices(LENGTHS, LENGTH_WEIGHTS)[0]
        for _ in range(min(length, seed.size - len(letters))):
            letters.append((at, number, talk))
            left = now - timedelta(minutes=1) - at
            at += min(timedelta(minutes=random.randint(3, 4000)), left * random.random())
        number += 1
    return sorted(letters, key=lambda letter: (letter[0], letter[1]))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _talk(random: Random) -> Talk:
    first, last = person(random)
    company = firm(random)
    partner = f"{first} {last} <{plain(first)}.{plain(last)}@{domain(company)}>"
    return Talk(partner, f"{random.choice(TOPICS).capitalize()} · {company}")


def _letter(
    mailbox: Mailbox, talk: Talk, at: datetime, random: Random, former: Message | None
) -> tuple[Part, bool]:
    """An e-mail of a conversation, and whether the owner wrote it."""
    sent = random.random() < (0.4 if former else 0.15)
    owner = f"{mailbox.owner} <{mailbox.address}>"
    sender, receiver = (owner, talk.partner) if sent else (talk.partner, owner)
    subject = f"Re: {talk.subject}" if former else talk.subject
    text = "\n\n".join(sentence(random) for _ in range(random.randint(1, 4)))
    attached = None
    if random.random() < 0.08:
        data = random.randbytes(random.randint(400, 4000))
        attached = attachment("application/pdf", f"offer-{random.randint(100, 999)}.pdf", data)
    headers = _headers(mailbox, sender, receiver, subject, at, random, former)
    return compose(headers, text, _html(text), attached), sent


def _headers(
    mailbox: Mailbox,
    sender: str,
    receiver: str,
    subject: str,
    at: datetime,
    random: Random,
    former: Message | None,
) -> list[tuple[str, str]]:
    date = format_datetime(at.replace(microsecond=0))
    host = sender.rpartition("@")[2].rstrip(">")
    headers = []
    if mailbox.address not in sender:
        headers = [
            ("Delivered-To", mailbox.address),
            ("Received", f"from mail.{host} by mx.google.example with ESMTPS; {date}"),
            ("Return-Path", f"<{sender.rpartition('<')[2].rstrip('>')}>"),
        ]
    headers += [("From", sender), ("To", receiver), ("Subject", subject), ("Date", date)]
    headers.append(("Message-ID", f"<{random.getrandbits(96):024x}@{host}>"))
    if former:
        answered = former.part.header("Message-ID")
        known = former.part.header("References")
        headers += [("In-Reply-To", answered), ("References", f"{known} {answered}".strip())]
    return headers


def _html(text: str) -> str:
    paragraphs = "".join(
        f"<p>{escape(each, quote=False).replace(chr(10), '<br>')}</p>"
        for each in text.split("\n\n")
    )
    return f'<html><body><div dir="ltr">{paragraphs}</div></body></html>'


def _first_labels(
    mailbox: Mailbox, random: Random, former: Message | None, *, sent: bool
) -> list[str]:
    """Where a message of the past is by now."""
    if sent:
        return ["SENT"]
    fate = random.random()
    if fate < 0.04 and former is None:
        return ["SPAM", "UNREAD"]
    if fate < 0.08:
        return ["CATEGORY_PERSONAL", "TRASH"]
    labels = ["INBOX"] if fate < 0.65 else []
    labels += ["UNREAD"] if random.random() < 0.3 else []
    labels += ["IMPORTANT"] if random.random() < 0.3 else []
    labels += ["STARRED"] if random.random() < 0.07 else []
    if random.random() < 0.85:
        labels.append(f"CATEGORY_{random.choice(('PERSONAL', 'UPDATES', 'PROMOTIONS', 'FORUMS'))}")
    own = own_labels(mailbox)
    if own and random.random() < 0.35:
        labels.append(random.choice(own))
    return labels


@MUTATIONS.of("messages", "add")
def _receive(mailbox: Mailbox, change: Change) -> str:
    return _arrive(mailbox, change.record, change.random).id


@MUTATIONS.of("messages", "change")
def _relabel(mailbox: Mailbox, change: Change) -> None:
    message = mailbox.messages[str(change.id)]
    put_on, taken_off = _ordered(message, change.record) or _drawn(mailbox, message, change.random)
    _known(mailbox, put_on)
    if not relabel(mailbox, message, put_on, taken_off):
        raise RefusedError("the message has these labels already", status=409)


@MUTATIONS.of("messages", "delete")
def _delete(mailbox: Mailbox, change: Change) -> None:
    delete(mailbox, mailbox.messages[str(change.id)])


def _known(mailbox: Mailbox, labels: Collection[str]) -> None:
    if unknown := sorted(set(labels) - set(mailbox.labels)):
        known = ", ".join(mailbox.labels)
        raise RefusedError(f"there are no labels {unknown}; there are: {known}", status=400)


def _arrive(mailbox: Mailbox, record: Json, random: Random) -> Message:
    """A new message, of a new conversation or an answer in an old one."""
    refuse_unknown("messages", record, FIELDS)
    now = mailbox.clock.now()
    thread_id = record.get("threadId")
    if thread_id is None and not record and mailbox.threads and random.random() < 0.4:
        thread_id = random.choice(list(mailbox.threads))
    if thread_id is not None and thread_id not in mailbox.threads:
        raise RefusedError(f"there is no thread {thread_id!r}")
    former = mailbox.messages[mailbox.threads[thread_id].messages[-1]] if thread_id else None
    talk = _continued(mailbox, former) if former else _talk(random)
    owner = f"{mailbox.owner} <{mailbox.address}>"
    sender, receiver = record.get("from", talk.partner), record.get("to", owner)
    subject = record.get("subject", f"Re: {talk.subject}" if former else talk.subject)
    text = record.get("text", sentence(random))
    headers = _headers(mailbox, sender, receiver, subject, now, random, former)
    part = compose(headers, text, record.get("html", _html(text)))
    labels = record.get("labelIds", ["UNREAD", "CATEGORY_PERSONAL", "INBOX"])
    _known(mailbox, labels)
    return add(mailbox, part, _milliseconds(now), labels, thread_id=thread_id)


def _continued(mailbox: Mailbox, former: Message) -> Talk:
    sender, receiver = former.part.header("From"), former.part.header("To")
    partner = receiver if mailbox.address in sender else sender
    return Talk(partner, former.part.header("Subject").removeprefix("Re: "))


def _ordered(message: Message, record: Json) -> tuple[list[str], list[str]] | None:
    """The labels to put on and take off that an order names."""
    refuse_unknown("messages", record, ("labelIds", "addLabelIds", "removeLabelIds"))
    if "labelIds" in record:
        wanted = list(record["labelIds"])
        return wanted, [label for label in message.labels if label not in wanted]
    if record:
        return list(record.get("addLabelIds", ())), list(record.get("removeLabelIds", ()))
    return None


def _drawn(mailbox: Mailbox, message: Message, random: Random) -> tuple[list[str], list[str]]:
    """What a user may do to a message: read, star, file, bin it or report it as spam."""
    if "TRASH" in message.labels:
        return [], ["TRASH"]
    if "SPAM" in message.labels:
        return ["INBOX"], ["SPAM"]
    fate = random.random()
    if fate < 0.15:
        return ["TRASH"], ["INBOX"]
    if fate < 0.2 and not FIXED & set(message.labels):
        return ["SPAM"], ["INBOX"]
    chosen = random.choice([*TOGGLED, *own_labels(mailbox)])
    return ([], [chosen]) if chosen in message.labels else ([chosen], [])


@MUTATIONS.of("labels")
def _apply_label(mailbox: Mailbox, change: Change) -> str:
    record, id_ = change.record, str(change.id)
    if change.op != "add" and mailbox.labels[id_]["type"] == "system":
        raise RefusedError(f"{id_} is Gmail's own label: nobody changes it", status=400)
    if change.op == "delete":
        remove_label(mailbox, id_)
        return id_
    name = str(record["name"]) if "name" in record else _free_name(mailbox, change.random)
    if is_taken(mailbox, name, but=id_):
        raise RefusedError(f"there is a label {name!r} already", status=409)
    if change.op == "add":
        return str(add_label(mailbox, name, {**record, "name": name})["id"])
    # An order that sets other fields leaves the name.
    told = record or {"name": name}
    if told.items() <= mailbox.labels[id_].items():
        raise RefusedError("the label is like this already", status=409)
    mailbox.labels[id_] |= told
    issue(mailbox)
    return id_


def _free_name(mailbox: Mailbox, random: Random) -> str:
    while True:
        name = f"{random.choice(TOPICS).capitalize()} {random.randint(10, 9999)}"
        if not is_taken(mailbox, name):
            return name
