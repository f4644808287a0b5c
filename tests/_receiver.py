"""A small HTTP server in a thread that vendors deliver to: it keeps what came, answers as told."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from urllib.parse import parse_qsl, urlsplit

PATIENCE = 30.0


@dataclass(frozen=True)
class Received:
    """A call as it came; header names in small letters."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answering:
    """What the receiver answers, after so many seconds."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0


OK = Answering()


class Receiver:
    """What came so far, and how the next calls are answered."""

    def __init__(self) -> None:
        self.calls: list[Received] = []
        self.open = self.most_open = 0
        self.answer: Callable[[Received], Answering] = lambda call: OK
        self.url = ""
        self._changed = Condition()

    def take(self, call: Received) -> Answering:
        with self._changed:
            self.calls.append(call)
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            self._changed.notify_all()
        answering = self.answer(call)
        time.sleep(answering.after)
        with self._changed:
            self.open -= 1
        return answering

    def wait(self, count: int) -> list[Received]:
        """The calls, once there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.calls) >= count, PATIENCE):
                raise AssertionError(f"{len(self.calls)} calls came, not {count}")
            return list(self.calls)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of loopback for as long as the block lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            target = urlsplit(self.path)
            size = int(self.headers.get("content-length", 0))
            answering = receiver.take(
                Received(
                    self.command,
                    target.path,
                    dict(parse_qsl(target.query, keep_blank_values=True)),
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(size),
                )
            )
            self.send_response(answering.status)
            for name, value in answering.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answering.body)))
            self.end_headers()
            self.wfile.write(answering.body)

        do_GET = do_POST = handle_any  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            return None  # a vendor that hung up

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hooks"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
