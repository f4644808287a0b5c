"""How our application is served: by uvicorn, with bounds on what a client may hold before it has
said what it wants.

A client has so long to send a request's head, so long for its body, and so long to take an answer.
When there are as many connections as the process takes, whoever has kept us waiting longest makes
room for who comes. Addresses are not counted: behind a proxy all clients have one, and a vendor
delivers from few. While a request is ours to answer nothing here ends it, however long it takes.
"""

import json
import math
from asyncio import Transport
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from web._limits import REFUSED
from web._problems import MEDIA_TYPE

# Since when a client keeps us waiting that does not.
OURS = math.inf


class Door(HttpToolsProtocol):
    """One connection. `_since` is when it began to keep us waiting, `_allowed` how long it may."""

    CONNECTIONS: ClassVar = 1_000
    HEAD_SECONDS: ClassVar = 10.0
    BODY_SECONDS: ClassVar = 20.0
    # For each 48 KiB or so of an answer: what is written is taken in such pieces.
    ANSWER_SECONDS: ClassVar = 60.0
    HEAD_BYTES: ClassVar = 64 * 1024
    PIPELINED: ClassVar = 16
    # Who has come just now may have sent everything, and not been read yet.
    SETTLED_SECONDS: ClassVar = 0.2

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._since, self._allowed = OURS, self.HEAD_SECONDS
        self._in_head = False
        self._head_bytes = 0
        self._watch: TimerHandle | None = None

    # What asyncio tells.

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for(self.HEAD_SECONDS)
        self._watch = self.loop.call_later(self.HEAD_SECONDS, self._look)
        if len(self.connections) > self.CONNECTIONS and not self._make_room():
            self._end("crowded", HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.cancel()

    def data_received(self, data: bytes) -> None:
        if self._since == OURS and self.timeout_keep_alive_task is not None:
            # It was idle. Line breaks between two requests begin none, and may not last either.
            self._wait_for(self.HEAD_SECONDS)
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.HEAD_BYTES:
                self._end("large_head", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif len(self.pipeline) > self.PIPELINED:
            self._end("pipelined", None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for(self.ANSWER_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and self.cycle.more_body:
            self._wait_for(self.BODY_SECONDS)
        else:
            self._since = OURS

    # What the parser tells.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._since == OURS:
            self._wait_for(self.HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._wait_for(self.BODY_SECONDS)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._since = OURS

    # What we make of it.

    def _wait_for(self, seconds: float) -> None:
        self._since, self._allowed = self.loop.time(), seconds

    def _look(self) -> None:
        """Once in a while, or when its time is over: a timer for each request would cost more."""
        now, due = self.loop.time(), self._since + self._allowed
        if due > now:
            self._watch = self.loop.call_at(min(due, now + self.HEAD_SECONDS), self._look)
        elif self.flow.write_paused:
            self._end("slow_reader", None)
        elif self.cycle is not None and self.cycle.more_body:
            self._end("slow_body", HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._end("slow_head", HTTPStatus.REQUEST_TIMEOUT if self._in_head else None)

    def _make_room(self) -> bool:
        """End the connection that has kept us waiting longest; those that are idle go first."""
        longest = min((each for each in self.connections if each is not self), key=_waiting_since)
        if _waiting_since(longest) > self.loop.time() - self.SETTLED_SECONDS:
            return False
        longest._end("crowded", HTTPStatus.SERVICE_UNAVAILABLE)  # type: ignore[union-attr]
        return True

    def _end(self, why: str, status: HTTPStatus | None) -> None:
        """Close the connection, with an answer where one was asked for and none was begun."""
        REFUSED.labels(why).inc()
        self.connections.discard(self)
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # an answer that is not taken would keep it open
            return
        if status is not None and not self._is_answering():
            self.transport.write(_answer(status))
        self.transport.close()

    def _is_answering(self) -> bool:
        """Whether an answer has begun, or one to a former request of the connection has to come
        first."""
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and self._in_head):
            return False
        return self._in_head or cycle.response_started or bool(self.pipeline)


def config(app: Any, **options: Any) -> uvicorn.Config:
    """How our application is served, wherever it is."""
    return uvicorn.Config(app, http=Door, ws="none", access_log=False, **options)


def _waiting_since(each: Any) -> float:
    since: float = 0.0 if each.timeout_keep_alive_task is not None else each._since
    return since


def _answer(status: HTTPStatus) -> bytes:
    body = json.dumps({"type": "about:blank", "title": status.phrase, "status": status.value})
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{body}"
    ).encode()
