"""An e-mail as a tree of parts: as its raw text (RFC 5322), and as Gmail's `payload` shows it."""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from email import message_from_bytes
from email.header import Header, decode_header, make_header
from email.message import Message
from email.utils import formataddr, getaddresses
from html import escape, unescape

from sandbox.kernel.values import Json

ADDRESSES = frozenset(["from", "to", "cc", "bcc", "reply-to", "sender"])
SNIPPET_LENGTH = 200


@dataclass(frozen=True)
class Part:
    """A part of an e-mail; the outermost one holds the e-mail's own headers."""

    type: str
    headers: tuple[tuple[str, str], ...]
    data: bytes = b""
    filename: str = ""
    parts: tuple["Part", ...] = ()

    def header(self, name: str) -> str:
        """The first header of that name, or nothing."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")


def leaf(type_: str, text: str) -> Part:
    """A part of text."""
    headers = (
        ("Content-Type", f'{type_}; charset="UTF-8"'),
        ("Content-Transfer-Encoding", "base64"),
    )
    return Part(type_, headers, text.encode())


def attachment(type_: str, filename: str, data: bytes) -> Part:
    headers = (
        ("Content-Type", f'{type_}; name="{filename}"'),
        ("Content-Disposition", f'attachment; filename="{filename}"'),
        ("Content-Transfer-Encoding", "base64"),
    )
    return Part(type_, headers, data, filename)


def compose(
    headers: Iterable[tuple[str, str]], text: str, html: str, attached: Part | None = None
) -> Part:
    """An e-mail of a text with its HTML twin, and maybe something attached."""
    named = tuple(headers)
    mark = hashlib.sha256(repr(named).encode()).hexdigest()[:28]
    twins = (leaf("text/plain", text), leaf("text/html", html))
    mixed = attached is not None
    kind = "multipart/mixed" if mixed else "multipart/alternative"
    outer = (*named, ("MIME-Version", "1.0"), ("Content-Type", f'{kind}; boundary="{mark}"'))
    if attached is None:
        return Part(kind, outer, parts=twins)
    inner = (("Content-Type", f'multipart/alternative; boundary="{mark}a"'),)
    return Part(kind, outer, parts=(Part("multipart/alternative", inner, parts=twins), attached))


def payload(part: Part, message_id: str, part_id: str = "") -> Json:
    """A part as the API shows it, with all below it."""
    shown = {
        "partId": part_id,
        "mimeType": part.type,
        "filename": part.filename,
        "headers": _headers(part),
        "body": _body(part, message_id, part_id),
    }
    if part.parts:
        joint = f"{part_id}." if part_id else ""
        shown["parts"] = [
            payload(inner, message_id, f"{joint}{number}")
            for number, inner in enumerate(part.parts)
        ]
    return shown


def envelope(part: Part, only: Iterable[str] = ()) -> Json:
    """What `format=metadata` shows; `only` names the headers to show, when not all."""
    return {"mimeType": part.type, "headers": _headers(part, {name.lower() for name in only})}


def _headers(part: Part, only: Collection[str] = ()) -> list[Json]:
    return [
        {"name": name, "value": value}
        for name, value in part.headers
        if not only or name.lower() in only
    ]


def attachments(part: Part, message_id: str, part_id: str = "") -> dict[str, bytes]:
    """What is attached to an e-mail, by the ids that its payload names."""
    found: dict[str, bytes] = {}
    if part.filename and part.data:
        found[_attachment_id(message_id, part_id)] = part.data
    joint = f"{part_id}." if part_id else ""
    for number, inner in enumerate(part.parts):
        found |= attachments(inner, message_id, f"{joint}{number}")
    return found


def _body(part: Part, message_id: str, part_id: str) -> Json:
    if part.parts or not part.data:
        return {"size": 0}
    if part.filename:
        return {"attachmentId": _attachment_id(message_id, part_id), "size": len(part.data)}
    return {"size": len(part.data), "data": packed(part.data)}


def _attachment_id(message_id: str, part_id: str) -> str:
    digest = hashlib.sha512(f"{message_id}/{part_id}".encode()).digest()
    return f"ANGjdJ{packed(digest).rstrip('=')}"


def packed(data: bytes) -> str:
    """Bytes as the API puts them into JSON."""
    return base64.urlsafe_b64encode(data).decode()


def unpacked(text: str) -> bytes:
    """The bytes of a client, with padding or without; ValueError when they are none."""
    raw = text.encode("ascii") + b"=" * (-len(text) % 4)
    return base64.b64decode(raw.translate(bytes.maketrans(b"-_", b"+/")), validate=True)


def snippet(part: Part) -> str:
    """How an e-mail begins, in the escaped form in which Gmail gives it."""
    words = " ".join(plain_text(part).split())[:SNIPPET_LENGTH].rstrip()
    return escape(words).replace("&#x27;", "&#39;")


def plain_text(part: Part) -> str:
    """What an e-mail says, from its text or else from its HTML."""
    leaves = {inner.type: inner for inner in reversed([*_leaves(part)]) if not inner.filename}
    if "text/plain" in leaves:
        return leaves["text/plain"].data.decode("utf-8", "replace")
    if "text/html" in leaves:
        return unescape(
            re.sub(r"<[^>]*>", " ", leaves["text/html"].data.decode("utf-8", "replace"))
        )
    return ""


def _leaves(part: Part) -> Iterable[Part]:
    if not part.parts:
        yield part
    for inner in part.parts:
        yield from _leaves(inner)


def render(part: Part) -> bytes:
    """The raw text of a part that `compose` made."""
    lines = [f"{name}: {_spelled(name, value)}\r\n" for name, value in part.headers]
    head = "".join(lines).encode() + b"\r\n"
    if not part.parts:
        return head + base64.encodebytes(part.data).replace(b"\n", b"\r\n")
    mark = part.header("Content-Type").rpartition('boundary="')[2].rstrip('"').encode()
    inner = b"".join(b"--" + mark + b"\r\n" + render(each) + b"\r\n" for each in part.parts)
    return head + inner + b"--" + mark + b"--\r\n"


def _spelled(name: str, value: str) -> str:
    """A header in ASCII."""
    if value.isascii():
        return value
    if name.lower() in ADDRESSES:
        return ", ".join(formataddr(pair) for pair in getaddresses([value]))
    return Header(value, "utf-8").encode(linesep="\r\n")


def parse(raw: bytes) -> Part:
    """The tree of an e-mail that a client wrote."""
    return _parsed(message_from_bytes(raw))


def _parsed(message: Message) -> Part:
    headers = tuple((name, _unfolded(str(value))) for name, value in message.items())
    type_ = message.get_content_type()
    if message.is_multipart():
        inner = [each for each in message.get_payload() if isinstance(each, Message)]
        return Part(type_, headers, parts=tuple(_parsed(each) for each in inner))
    data = message.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    return Part(type_, headers, content, _clean(message.get_filename() or ""))


def _unfolded(value: str) -> str:
    try:
        decoded = str(make_header(decode_header(value)))
    except (LookupError, UnicodeError):
        decoded = value
    return _clean(re.sub(r"\r?\n\s*", " ", decoded))


def _clean(text: str) -> str:
    """JSON has no room for half a character, which badly encoded headers hold."""
    return text.encode("utf-8", "replace").decode()
