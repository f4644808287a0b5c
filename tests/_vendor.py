"""A made-up vendor on loopback, for the kernel's tests: it answers what a test tells it to."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import uvicorn

from connectors import Account, Connector, OAuth2, RateLimit, Revocation, SyncType
from connectors.kernel.clock import Clock

HOST = "api.made-up.test"


class PlayedClock(Clock):
    """A clock on which sleeping takes no time; it remembers how long it was told to sleep."""

    def __init__(self, at: datetime = datetime(2026, 11, 1, 12, tzinfo=UTC)) -> None:
        self.at = at
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class Call:
    """A request that arrived."""

    method: str
    host: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What to say to a request; `pieces` are sent one by one, `cut` breaks off before the end."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    pieces: Callable[[], Iterator[bytes]] | None = None
    cut: bool = False
    hang: float = 0.0


@dataclass
class Vendor:
    """The server's side: the answers to come (the last one stays), and the calls that came."""

    origin: str = ""
    answers: deque[Answer] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def will(self, *answers: Answer) -> None:
        self.answers.extend(answers)

    def reset(self) -> None:
        self.answers.clear()
        self.calls.clear()
        self.most_under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        host, _, path = scope["raw_path"].decode().lstrip("/").partition("/")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        self.calls.append(Call(scope["method"], host, f"/{path}", query, headers, body))
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(answer.hang)
        finally:
            self.under_way -= 1
        await self._reply(answer, send)

    async def _reply(self, answer: Answer, send: Any) -> None:
        content = orjson.dumps(answer.body) if answer.raw is None else answer.raw
        headers = {"content-type": "application/json", **answer.headers}
        if answer.cut:
            headers["content-length"] = str(len(content) + 100)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        if answer.pieces:
            for piece in answer.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": content, "more_body": answer.cut})


@contextlib.contextmanager
def serve(vendor: Vendor) -> Iterator[Vendor]:
    """The vendor on a free port, in a thread of its own, as long as the block lasts."""
    config = uvicorn.Config(
        vendor, port=0, log_config=None, lifespan="off", ws="none", date_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    vendor.origin = f"http://127.0.0.1:{port}"
    try:
        yield vendor
    finally:
        server.should_exit = True
        thread.join(10)


def made_up(**changes: Any) -> Connector:
    """A connector for the made-up vendor."""

    def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Any:
        return (Account(str(answer["team"])),)
        yield

    values: dict[str, Any] = {
        "name": "made_up",
        "title": "Made Up",
        "sync_type": SyncType.PULL,
        "base_url": f"https://{HOST}/v1",
        "auth": OAuth2(
            env="MADE_UP",
            authorize_url="https://made-up.test/authorize",
            token_url="https://made-up.test/token",
            revocation=Revocation.rfc7009("https://made-up.test/revoke"),
            scopes={"read": "everything", "offline": "access that lasts"},
        ),
        "streams": (),
        "rate_limits": (RateLimit(1000, timedelta(seconds=1)),),
        "identify": identify,
    }
    return Connector(**{**values, **changes})
