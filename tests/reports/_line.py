"""A real client of a connector, spoken to by a vendor that answers what a test tells it to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from connectors import Checkpoint, Connector, Context, Page, Stream
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from tests._vendor import Answer, PlayedClock, Vendor, serve


@dataclass(frozen=True)
class Line:
    """One connection's client, and the vendor's side of the line."""

    vendor: Vendor
    clock: PlayedClock
    client: Client
    transport: Transport
    budget: Budget
    renewed: list[bool]

    async def read(self, stream: Stream, at: dict[str, Any] | None = None) -> list[Page]:
        context = Context(
            now=self.clock.now(), account_id=self.client.account_id, config=self.config
        )
        reader = stream.read(Checkpoint(at or {}), context)
        return [page async for page, _ in self.client.read(reader)]

    @property
    def config(self) -> dict[str, Any]:
        return {"shop": self.client.account_id, "scopes": []}


@asynccontextmanager
async def line(connector: Connector, account: str, *answers: Answer) -> AsyncIterator[Line]:
    """A line on which the vendor gives those answers, one after the other."""
    renewed: list[bool] = []

    async def token(refused: bool) -> str:
        if refused:
            renewed.append(True)
        return f"token-{len(renewed)}"

    clock = PlayedClock()
    with serve(Vendor()) as vendor:
        vendor.will(*answers)
        transport = Transport(sandbox_url=vendor.origin, clock=clock, timeout=timedelta(seconds=5))
        budget = Budget(None, clock=clock)
        client = Client(
            connector, transport=transport, account_id=account, config={"shop": account},
            token=token, budget=budget,
        )  # fmt: skip
        yield Line(vendor, clock, client, transport, budget, renewed)
        await transport.close()
