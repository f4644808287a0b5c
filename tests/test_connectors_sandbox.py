"""The promises that every connector keeps, each stream read from its sandbox."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import pytest

import sandbox
from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    Context,
    ContractError,
    all_connectors,
    load,
)
from connectors._budget import Budget
from connectors._client import Client, Transport
from connectors._types import Page, Stream
from tests._vendor import PlayedClock

STREAMS = [
    pytest.param(connector, stream, id=f"{connector.name}.{stream.name}")
    for connector in all_connectors()
    for stream in connector.streams
]


class Sandbox:
    """One vendor of the sandbox, as its controls show it."""

    def __init__(self, origin: str, name: str) -> None:
        self.origin, self.name = origin, name

    def control(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        with urlopen(UrlRequest(f"{self.origin}/_control/{self.name}{path}", data=content)) as got:  # noqa: S310
            return json.load(got)

    def account(self, size: int = 250) -> tuple[str, str]:
        self.control("/limits", {"scale": 1000})
        account_id = self.control("/accounts", {"size": size, "seed": 7})["id"]
        grant = self.control("/grant", {"account": account_id})
        return account_id, grant["access_token"]

    def store(self, account_id: str, stream: str) -> dict[str, Any]:
        found: dict[str, Any] = self.control(f"/store?account={account_id}")["streams"][stream]
        return found

    def mutate(self, account_id: str, seed: int, count: int = 60) -> None:
        self.control("/mutate", {"account": account_id, "seed": seed, "count": count})


class Shelf:
    """Records as our storage merges them: by version, then by when they were true."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.rows: dict[str, tuple[int | None, datetime, Any]] = {}

    def put(self, page: Page, observed_at: datetime) -> None:
        for record in page.records:
            key = self.stream.key
            record_id = key(record) if callable(key) else record[key]
            version = self.stream.version(record)
            former = self.rows.get(record_id)
            if former is None or _wins(version, observed_at, former):
                self.rows[record_id] = (version, observed_at, record)
        for record_id in page.deleted:
            former = self.rows.get(record_id)
            version = former[0] if former else None
            self.rows[record_id] = (version, observed_at, None)
        for whole in page.whole:
            for record_id, (version, seen_at, _) in self.rows.items():
                under = record_id.startswith(whole.prefix) and record_id not in whole.keys
                if under and seen_at < whole.at:
                    self.rows[record_id] = (version, whole.at, None)

    @property
    def records(self) -> dict[str, Any]:
        return {key: row[2] for key, row in self.rows.items() if row[2] is not None}


def _wins(version: int | None, at: datetime, former: tuple[int | None, datetime, Any]) -> bool:
    if version is not None and former[0] is not None and version != former[0]:
        return version > former[0]
    return at >= former[1]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start() as started:
        yield started


@pytest.fixture
async def transport(origin: str) -> AsyncIterator[Transport]:
    opened = Transport(sandbox_url=origin)
    yield opened
    await opened.close()


def client_for(
    connector: Connector,
    transport: Transport,
    account_id: str,
    token: str,
    budget: Budget | None = None,
) -> Client:
    async def access_token(refused: bool) -> str:
        return token

    return Client(
        # Nobody waits for a minute of the wall clock to pass: limits are tried by other tests.
        replace(connector, rate_limits=()),
        transport=transport,
        account_id=account_id,
        config={},
        token=access_token,
        budget=budget or Budget(None),
    )


async def run(
    client: Client, stream: Stream, at: Checkpoint, *, pages: int | None = None
) -> list[tuple[Page, datetime]]:
    context = Context(now=datetime.now(UTC), account_id=client.account_id)
    read: list[tuple[Page, datetime]] = []
    reader = client.read(stream.read(Checkpoint(json.loads(json.dumps(at))), context))
    async for found in reader:
        read.append(found)
        if pages is not None and len(read) == pages:
            break
    await reader.aclose()
    return read


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
async def test_a_stream_is_read_to_its_end_and_follows_every_change(
    connector: Connector, stream: Stream, origin: str, transport: Transport
) -> None:
    vendor = Sandbox(origin, connector.name)
    account_id, token = vendor.account()
    client = client_for(connector, transport, account_id, token)
    shelf = Shelf(stream)
    at = Checkpoint()
    for round_ in range(4):
        pages = await run(client, stream, at)
        if stream.snapshot:
            shelf = Shelf(stream)
        for page, observed_at in pages:
            shelf.put(page, observed_at)
        at = pages[-1][0].checkpoint
        expected = vendor.store(account_id, stream.name)
        if stream.append_only:
            assert shelf.records.items() <= expected.items()
        else:
            assert shelf.records == expected
            assert expected
        vendor.mutate(account_id, seed=round_)
    assert shelf.records


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
async def test_each_checkpoint_inside_a_read_resumes_it(
    connector: Connector, stream: Stream, origin: str, transport: Transport
) -> None:
    vendor = Sandbox(origin, connector.name)
    account_id, token = vendor.account(size=130)
    client = client_for(connector, transport, account_id, token)
    at = Checkpoint()
    for seed in (1, 2):
        whole = await run(client, stream, at)
        for stop in range(1, len(whole)):
            shelf = Shelf(stream)
            for page, observed_at in whole[:stop]:
                shelf.put(page, observed_at)
            for page, observed_at in await run(client, stream, whole[stop - 1][0].checkpoint):
                shelf.put(page, observed_at)
            full = Shelf(stream)
            for page, observed_at in whole:
                full.put(page, observed_at)
            assert shelf.records == full.records
        at = whole[-1][0].checkpoint
        vendor.mutate(account_id, seed)


@pytest.mark.parametrize(
    ("name", "stream"),
    [(c.name, s.name) for c in all_connectors() for s in c.streams if not s.snapshot],
)
async def test_an_expired_position_restarts_the_stream_by_itself(
    name: str, stream: str, origin: str, transport: Transport
) -> None:
    connector = load(name)
    read = connector.stream(stream)
    vendor = Sandbox(origin, name)
    account_id, token = vendor.account(size=30)
    client = client_for(connector, transport, account_id, token)
    shelf = Shelf(read)
    for page, observed_at in await run(client, read, Checkpoint()):
        shelf.put(page, observed_at)
        at = page.checkpoint
    vendor.mutate(account_id, seed=3)
    if "since" in at:  # a time: HubSpot looks back as far as one likes, QuickBooks does not
        at = Checkpoint(since=(datetime.now(UTC) - timedelta(days=31)).isoformat())
    else:
        vendor.control("/expire_checkpoints", {"account": account_id})
    try:
        pages = await run(client, read, at)
    except CheckpointExpiredError:
        return  # the whole stream is read again
    for page, observed_at in pages:
        shelf.put(page, observed_at)
    if read.append_only:
        assert pages[-1][0].checkpoint != at
    else:
        assert shelf.records == vendor.store(account_id, stream)


@pytest.mark.parametrize(
    "name", [connector.name for connector in all_connectors() if connector.streams]
)
async def test_a_vendor_that_misbehaves_for_a_while_is_read_all_the_same(
    name: str, origin: str
) -> None:
    clock = PlayedClock(datetime.now(UTC))
    transport = Transport(sandbox_url=origin, clock=clock, timeout=timedelta(seconds=1))
    connector = load(name)
    stream = next(one for one in connector.streams if not one.append_only and not one.snapshot)
    vendor = Sandbox(origin, name)
    account_id, token = vendor.account(size=20)
    for fault in (
        {"kind": "429", "retry_after": 120},
        {"kind": "500"},
        {"kind": "503"},
        {"kind": "cut"},
        {"kind": "garbage"},
        {"kind": "unauthorized"},
        {"kind": "hang", "seconds": 2},
    ):
        vendor.control("/faults", fault)
        client = client_for(
            connector, transport, account_id, token, budget=Budget(None, clock=clock)
        )
        shelf = Shelf(stream)
        for page, observed_at in await run(client, stream, Checkpoint()):
            shelf.put(page, observed_at)
        assert shelf.records == vendor.store(account_id, stream.name)
    vendor.control("/faults", {"kind": "huge", "count": 9})
    with pytest.raises(ContractError, match="64 MiB"):
        await run(client, stream, Checkpoint())
    await transport.close()
