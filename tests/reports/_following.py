"""Syncs of a stream, one after the other, where a vendor refuses some of what it is asked."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors import (
    Checkpoint,
    Connector,
    ConnectorError,
    Context,
    Page,
    Reader,
    Record,
    Stream,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from tests._driving import NOW, Answer, drive, held
from tests._judging import as_the_client
from tests._vendor import PlayedClock, Vendor


@dataclass
class Followed:
    """What is held of a stream after its syncs, where it stands, and what the last one raised."""

    connector: Connector
    stream: Stream
    answer: Answer
    rows: dict[str, Record] = field(default_factory=dict)
    at: Mapping[str, Any] = field(default_factory=dict)
    error: ConnectorError | None = None

    def sync(self, times: int = 1, *, now: datetime = NOW) -> "Followed":
        for _ in range(times):
            pages: list[Page] = []
            answer = as_the_client(self.connector, self.answer)
            self.error = None
            try:
                drive(_noting(self.stream.read, pages), answer, self.at, now=now)
            except ConnectorError as error:
                self.error = error
            self.rows = held(self.stream, pages, self.rows)
            self.at = pages[-1].checkpoint if pages else self.at
        return self


def _noting(
    read: Callable[[Checkpoint, Context], Reader], pages: list[Page]
) -> Callable[[Checkpoint, Context], Reader]:
    """The same reader; its pages are noted when they come, whatever comes after them."""

    def noting(at: Checkpoint, context: Context) -> Reader:
        reader = read(at, context)
        sent: Any = None
        while True:
            try:
                failed = isinstance(sent, ConnectorError)
                action = reader.throw(sent) if failed else reader.send(sent)
            except StopIteration:
                return
            if isinstance(action, Page):
                pages.append(action)
            try:
                sent = yield action
            except ConnectorError as error:
                sent = error

    return noting


@dataclass
class Line:
    """A real client to a vendor that a test plays, and how often its token was renewed."""

    client: Client
    clock: PlayedClock
    config: dict[str, Any]
    on_renewal: dict[str, Any] = field(default_factory=dict)
    renewals: int = 0

    async def token(self, refused: bool) -> str:
        if refused:
            self.renewals += 1
            self.config.update(self.on_renewal)
        return f"token-{self.renewals}"

    async def pages(self, reader: Reader) -> list[Page]:
        return [page async for page, _ in self.client.read(reader)]


@asynccontextmanager
async def line_to(
    vendor: Vendor,
    connector: Connector,
    *,
    on_renewal: Mapping[str, Any] | None = None,
    **config: Any,
) -> AsyncIterator[Line]:
    clock = PlayedClock()
    transport = Transport(sandbox_url=vendor.origin, clock=clock, timeout=timedelta(seconds=1))
    line: Line

    async def token(refused: bool) -> str:
        return await line.token(refused)

    client = Client(
        connector, transport=transport, token=token, account_id="acme", config=config,
        budget=Budget(None, clock=clock),
    )  # fmt: skip
    line = Line(client, clock, config, dict(on_renewal or {}))
    try:
        yield line
    finally:
        await transport.close()
