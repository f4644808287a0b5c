"""The sandbox as a client: calls the app's addresses over HTTP/1.1 connections that are kept.

A client of its own: with httpx a delivery costs thirty times the CPU (measured 2026-11), and a
burst of them would take from the app that is being tested.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

from sandbox.kernel.webhooks import AppResponse, CallbackFlow, LongPoll, Message

T = TypeVar("T")

# Servers let go of a silent connection after some seconds (uvicorn: 5): we do before them.
KEPT_FOR = 3.0
# An address that is asked while somebody waits has so many seconds to answer.
ASKED_FOR = 10.0
MOST_BYTES = 1_000_000
# Who holds a call looks so often whether something happened.
LOOK = 0.02
USER_AGENT = "atom-sandbox/1.0"
# What comes back in place of an answer when the connection does not hold.
BROKEN = (OSError, EOFError, asyncio.LimitOverrunError)

Place: TypeAlias = tuple[str, int, bool]  # host, port, TLS


@dataclass
class Line:
    """An open connection, and since when it is idle."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    def usable(self, now: float) -> bool:
        broken = self.reader.at_eof() or self.writer.is_closing()
        return not broken and now - self.idle_since < KEPT_FOR


class HttpSender:
    """The client; it lives in one event loop."""

    def __init__(self) -> None:
        self._closed = False
        self._idle: defaultdict[Place, list[Line]] = defaultdict(list)

    async def call(self, message: Message, deadline: float) -> AppResponse:
        """What came back within so many seconds; never raises for what the other side does."""
        try:
            place, head = _place(message.url), _head(message)
        except ValueError:
            return AppResponse(failure="message")
        line = None
        try:
            async with asyncio.timeout(deadline):
                line = self._kept(place) or await _open(place)
                line.writer.write(head + message.body)
                answered, keep = await _answer(line.reader, message.method)
        except TimeoutError:
            return AppResponse(failure="timeout")
        except (*BROKEN, ValueError):
            return AppResponse(failure="connection")
        else:
            if keep:
                line.idle_since = asyncio.get_running_loop().time()
                self._idle[place].append(line)
                line = None
            return answered
        finally:
            if line:
                line.writer.close()

    async def answer(self, asking: CallbackFlow[T]) -> T:
        """Carries out the calls that a generator yields; gives what it returns."""
        answered: AppResponse | None = None
        try:
            while True:
                step = next(asking) if answered is None else asking.send(answered)
                if isinstance(step, LongPoll):
                    answered = await self._hold(step)
                else:
                    answered = await self.call(step, ASKED_FOR)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _hold(self, held: LongPoll) -> AppResponse:
        clock = asyncio.get_running_loop().time
        until = clock() + held.seconds
        while not (held.happened() or self._closed) and clock() < until:  # noqa: ASYNC110
            # What happens is a vendor's own affair: nobody sets an event for it.
            await asyncio.sleep(LOOK)
        return AppResponse()

    def close(self) -> None:
        self._closed = True
        for lines in self._idle.values():
            for line in lines:
                line.writer.close()
        self._idle.clear()

    def _kept(self, place: Place) -> Line | None:
        now, lines = asyncio.get_running_loop().time(), self._idle[place]
        while lines:
            line = lines.pop()
            if line.usable(now):
                return line
            line.writer.close()
        return None


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@cache
def _place(url: str) -> Place:
    target = urlsplit(url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise ValueError(f"not a web address: {target.scheme}")
    secure = target.scheme == "https"
    return target.hostname, target.port or (443 if secure else 80), secure


def _head(message: Message) -> bytes:
    target = urlsplit(message.url)
    asked = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
    headers = {
        "host": target.netloc.rpartition("@")[2],
        "user-agent": USER_AGENT,
        "content-length": str(len(message.body)),
        **{name.lower(): value for name, value in message.headers.items()},
    }
    lines = [f"{message.method} {asked} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(sign in line for line in lines for sign in "\r\n\0"):
        raise ValueError("a line of the message has a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _open(place: Place) -> Line:
    host, port, secure = place
    return Line(*await asyncio.open_connection(host, port, ssl=_tls() if secure else None))


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[AppResponse, bool]:
    """The answer, and whether the connection can be used again."""
    status = 100
    while status < 200:  # what comes before the answer
        version, status, headers = _read_head(await reader.readuntil(b"\r\n\r\n"))
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunks(reader)
    elif "content-length" in headers:
        body = await _exactly(reader, int(headers["content-length"]))
    else:
        body, keep = await reader.read(MOST_BYTES), False
    return AppResponse(status=status, headers=headers, body=body), keep


def _read_head(raw: bytes) -> tuple[str, int, Mapping[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    named = (line.partition(":") for line in lines if line)
    return version, int(rest[:3]), {name.lower(): value.strip() for name, _, value in named}


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"an answer of {size} bytes")
    return await reader.readexactly(size)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await _exactly(reader, size + 2))[:-2]
        if len(body) > MOST_BYTES:
            raise ValueError("an answer without an end")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        continue  # trailers
    return body
