"""Gmail's search box, as far as clients use it in `q`.

https://support.google.com/mail/answer/7190
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from sandbox.gmail.messages import attachments, plain_text
from sandbox.gmail.store import Mailbox, Message

Test: TypeAlias = Callable[[Message], bool]

PLACES = {"drafts": "DRAFT", "draft": "DRAFT", "bin": "TRASH"}
HIDDEN = frozenset(["trash", "bin", "spam", "anywhere"])
STATES = {"unread": "UNREAD", "starred": "STARRED", "important": "IMPORTANT"}
UNITS = {"d": 1, "m": 30, "y": 365}
WORD = re.compile(r'(-?)(?:(\w+):)?(?:"([^"]*)"|(\(?)([^\s")]+)\)?)')


@dataclass(frozen=True)
class Query:
    """What a `q` asks for. `hidden`: it names spam or the bin, so these are looked through too."""

    tests: tuple[Test, ...]
    hidden: bool

    def matches(self, message: Message) -> bool:
        return all(test(message) for test in self.tests)


def query(text: str, mailbox: Mailbox) -> Query:
    """Words and operators, all of which must fit; `-` turns one round."""
    tests: list[Test] = []
    hidden = False
    for minus, operator, quoted, _, bare in WORD.findall(text):
        value, name = (quoted or bare).lower(), operator.lower()
        if name in ("in", "label") and value in HIDDEN and not minus:
            hidden = True
        test = _test(name, value, mailbox)
        tests.append(_not(test) if minus else test)
    return Query(tuple(tests), hidden)


def _not(test: Test) -> Test:
    return lambda message: not test(message)


def _test(name: str, value: str, mailbox: Mailbox) -> Test:
    match name:
        case "in" if value == "anywhere":
            return lambda message: True
        case "in" | "label" | "category":
            label = _label(name, value, mailbox)
            return lambda message: label in message.labels
        case "is" if value == "read":
            return lambda message: "UNREAD" not in message.labels
        case "is":
            return lambda message: STATES.get(value, value.upper()) in message.labels
        case "from" | "to" | "cc" | "subject":
            return lambda message: value in message.part.header(name).lower()
        case "rfc822msgid":
            return lambda message: value in message.part.header("Message-ID").lower()
        case "has":
            return lambda message: (
                value == "attachment" and bool(attachments(message.part, message.id))
            )
        case "after" | "newer" | "before" | "older" | "newer_than" | "older_than":
            return _time(name, value, mailbox)
        case _:
            return lambda message: value in _said(message)


def _label(name: str, value: str, mailbox: Mailbox) -> str:
    """The id of a label; in a search its spaces and slashes are written as hyphens."""
    if name == "category":
        return f"CATEGORY_{value.upper()}"
    value = PLACES.get(value, value)
    for id_, label in mailbox.labels.items():
        if value.lower() in (id_.lower(), re.sub(r"[\s/]", "-", label["name"].lower())):
            return id_
        if value == label["name"].lower():
            return id_
    return ""


def _time(name: str, value: str, mailbox: Mailbox) -> Test:
    moment = _moment(value, mailbox)
    if moment is None:
        return lambda message: False
    at = moment.timestamp() * 1000
    if name in ("after", "newer", "newer_than"):
        return lambda message: message.at >= at
    return lambda message: message.at < at


def _moment(value: str, mailbox: Mailbox) -> datetime | None:
    """A day (2026/03/31), a time in seconds since 1970, or how long ago (7d, 2m, 1y)."""
    if value.isdecimal() and len(value) > 8:
        return datetime.fromtimestamp(int(value), UTC)
    if ago := re.fullmatch(r"(\d+)([dmy])", value):
        return mailbox.clock.now() - timedelta(days=int(ago[1]) * UNITS[ago[2]])
    try:
        return datetime.strptime(value.replace("-", "/"), "%Y/%m/%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _said(message: Message) -> str:
    told = [message.part.header(name) for name in ("Subject", "From", "To")]
    return " ".join([*told, plain_text(message.part)]).lower()
