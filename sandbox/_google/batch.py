"""Google's batch endpoint: many requests in one multipart body, each answered for itself.

https://developers.google.com/workspace/gmail/api/guides/batch
"""

import secrets
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from sandbox._google import invalid
from sandbox.kernel.oauth import Call

# More calls in one batch are refused.
MOST = 100


def batch(call: Call) -> Response:
    """Answers every part in its order; the batch itself is always 200."""
    kind = call.headers.get("content-type", "")
    whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + call.body)
    if whole.get_content_type() != "multipart/mixed" or not whole.is_multipart():
        raise invalid("Failed to parse batch request: the body is not multipart/mixed.")
    parts = [part for part in whole.walk() if part is not whole]
    if len(parts) > MOST:
        raise invalid(f"The batch has {len(parts)} calls; at most {MOST} are allowed.")
    boundary = f"batch_{secrets.token_urlsafe(18)}"
    pieces = [_answered(call, part, boundary) for part in parts]
    body = b"".join(pieces) + f"--{boundary}--\r\n".encode()
    return Response(body, headers={"content-type": f"multipart/mixed; boundary={boundary}"})


def _answered(call: Call, part: Message, boundary: str) -> bytes:
    response = call.inner(_inner(call, part))
    name = " ".join(part.get("Content-ID", "").split())  # a long one comes folded
    called = f"Content-ID: <response-{name[1:]}\r\n" if name.startswith("<") else ""
    lines = [
        f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}",
        *(f"{header.title()}: {value}" for header, value in response.headers.items()),
    ]
    head = f"--{boundary}\r\nContent-Type: application/http\r\n{called}\r\n"
    told = "\r\n".join(lines)
    return f"{head}{told}\r\n\r\n".encode() + bytes(response.body) + b"\r\n"


def _inner(call: Call, part: Message) -> Call:
    """The request that a part holds, as a call of its own."""
    content = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(content, bytes):
        raise invalid("Failed to parse batch request: a part is not application/http.")
    line, _, rest = content.lstrip().replace(b"\r\n", b"\n").partition(b"\n")
    words = line.decode("ascii", "replace").split()
    if len(words) < 2:
        raise invalid("Failed to parse batch request: a part has no request line.")
    head, _, body = rest.partition(b"\n\n")
    given = {name.lower(): str(value) for name, value in message_from_bytes(head).items()}
    if "authorization" in call.headers:
        given.setdefault("authorization", call.headers["authorization"])
    target = urlsplit(words[1])
    path = unquote(target.path).removeprefix(f"/{call.host}")
    if path.startswith("/batch"):
        raise invalid("A batch may not hold a batch.")
    return replace(
        call,
        method=words[0].upper(),
        path=path,
        params={},
        query=QueryParams(parse_qsl(target.query, True)),
        headers=Headers(given),
        body=body,
        grant=None,
    )
