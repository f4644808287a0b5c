"""What clients may hold before anything of them is proven: bytes, sockets and time."""

import asyncio
import json
import logging
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - a test is a vendor that calls us
import psutil
import psycopg
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from settings import Settings
from storage.database import Database
from tests._delivering import (
    HUBSPOT_SECRET,
    PATH,
    PUBLIC,
    from_hubspot,
    hubspot_event,
    hubspot_headers,
)
from tests._stored import stock
from tests._waiting import until
from tests._web import Api, serving_api, web_process, web_settings
from web import _limits
from web._door import Door
from web._limits import MAX_DELIVERY, MAX_HELD, HeldBody

BILLING = "/api/billing/stripe"
MIB = 2**20
# Far more than anything here takes on a busy machine.
PATIENCE = 60.0


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return web_settings(
        database_url,
        redis_url=redis_url,
        nextauth_url=PUBLIC,
        nextauth_secret="canary-nextauth-secret-of-enough-characters",
        hubspot_client_secret=HUBSPOT_SECRET,
        stripe_webhook_secret="canary-stripe-secret",
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """In this process, with a real port."""
    async with serving_api(settings) as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients have half a second for whatever is asked of them."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(Door, name, 0.5)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Client:
    """A socket, and whatever is sent on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, api: Api) -> "Client":
        url = api.http.base_url
        return cls(*await asyncio.open_connection(url.host, url.port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that still comes, until the server closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


async def leave(*clients: Client) -> None:
    for each in clients:
        each.writer.transport.abort()
    for each in clients:
        with suppress(ConnectionError):
            await each.writer.wait_closed()


@asynccontextmanager
async def client(api: Api) -> AsyncIterator[Client]:
    made = await Client.of(api)
    try:
        yield made
    finally:
        await leave(made)


def head(path: str, length: int, method: str = "POST") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nhost: us\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def refused(why: str) -> float:
    return REGISTRY.get_sample_value("atom_web_refused_total", {"why": why}) or 0.0


def deliveries(outcome: str) -> float:
    labels = {"integration": "hubspot", "outcome": outcome}
    return REGISTRY.get_sample_value("atom_webhook_deliveries_total", labels) or 0.0


async def counted(api: Api) -> dict[tuple[str, ...], float]:
    """What /metrics tells of the process: {(name, label, …): value}."""
    text = (await api.as_(scope="metrics:read").get("/metrics")).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- Bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, BILLING])
async def test_unproven_bodies_hold_no_more_memory_than_is_set_aside_for_them(
    path: str, settings: Settings, database: Database, tmp_path: Path
) -> None:
    await stock(database, account_id="4711")
    async with web_process(settings, tmp_path) as (process, api):
        assert (await from_hubspot(api.http, hubspot_event(1))).status_code == 200
        memory = psutil.Process(process.pid).memory_info
        before = highest = memory().rss
        clients = [await Client.of(api) for _ in range(150)]
        # All but the last byte: nothing can be proven of it yet.
        body = head(path, MAX_DELIVERY) + b"x" * (MAX_DELIVERY - 1)
        sending = asyncio.gather(*(each.send(body) for each in clients))
        async with asyncio.timeout(PATIENCE):
            while not sending.done():
                highest = max(highest, memory().rss)
                await asyncio.sleep(0.01)
        await sending
        highest = max(highest, memory().rss)
        found = await counted(api)
        assert found["atom_web_held_bytes",] <= MAX_HELD
        assert found["atom_web_refused_total", "room"] > len(clients) / 2
        assert highest - before < 2.5 * MAX_HELD < len(clients) * MAX_DELIVERY / 3
        # Small ones, as nearly all are, are let in all the while.
        assert (await from_hubspot(api.http, hubspot_event(2))).status_code == 200
        await leave(*clients)
        async with asyncio.timeout(PATIENCE):
            while (await counted(api))["atom_web_held_bytes",]:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
        assert "error" not in (tmp_path / "web.log").read_text().lower()


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body[:1000]
    yield body[1000:]


@pytest.mark.parametrize("whole", [True, False])
async def test_what_there_is_no_room_for_is_to_be_sent_again(
    whole: bool, api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(database, account_id="4711")
    body = json.dumps([hubspot_event(1, propertyValue="x" * MIB)]).encode()

    async def delivered() -> httpx.Response:
        content = body if whole else in_pieces(body)
        return await api.http.post(PATH, content=content, headers=hubspot_headers(body))

    with monkeypatch.context() as patched:
        patched.setattr(_limits, "MAX_HELD", MIB)
        before = deliveries("room")
        answer = await delivered()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert deliveries("room") == before + 1
        billed = await api.http.post(BILLING, content=body if whole else in_pieces(body))
        assert (billed.status_code, billed.headers["retry-after"]) == (503, "5")
        assert (await from_hubspot(api.http, hubspot_event(2))).status_code == 200
    assert (await delivered()).status_code == 200
    assert HeldBody.total == 0


# -- Sockets ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_files")
async def test_sockets_that_say_nothing_or_little_are_closed_and_keep_nobody_out(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    await stock(database, account_id="4711")
    slow = 1_500
    async with web_process(settings, tmp_path) as (process, api):
        opened = asyncio.get_running_loop().time()
        clients = []
        for number in range(slow):
            clients.append(await Client.of(api))
            if number % 2:
                await clients[-1].send(b"POST /api/webhooks/hubspot HTTP/1.1\r\nhost:")
        answer = await from_hubspot(api.http, hubspot_event(1))
        assert answer.status_code == 200
        held = len(psutil.Process(process.pid).net_connections())
        assert held < Door.CONNECTIONS + 50
        async with asyncio.timeout(PATIENCE):
            ends = await asyncio.gather(*(each.rest() for each in clients))
        await leave(*clients)
        assert asyncio.get_running_loop().time() - opened < Door.HEAD_SECONDS + PATIENCE / 2
        assert any(end.startswith(b"HTTP/1.1 408 ") for end in ends)
        found = await counted(api)
        crowded = found["atom_web_refused_total", "crowded"]
        assert crowded >= slow - Door.CONNECTIONS
        assert crowded + found["atom_web_refused_total", "slow_head"] >= slow
        assert (tmp_path / "web.log").read_text().lower().count("error") == 0


async def test_where_all_are_being_answered_who_comes_is_told_to_come_again(
    api: Api, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(database, account_id="4711")
    before = refused("crowded")
    with psycopg.connect(database_url) as lock:
        lock.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        waiting = [asyncio.create_task(from_hubspot(api.http, hubspot_event(n))) for n in range(3)]
        await until(lambda: len(being_answered()) == 3)
        monkeypatch.setattr(Door, "CONNECTIONS", 3)
        async with client(api) as one:
            end = await one.rest()
        assert end.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in end
        assert refused("crowded") == before + 1
        assert not any(task.done() for task in waiting)
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}


def being_answered() -> list[asyncio.Task[Any]]:
    return [each for each in asyncio.all_tasks() if "run_asgi" in repr(each.get_coro())]


# -- Time ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("sent", "why", "status"),
    [
        (b"", "slow_head", b""),
        (b"GET /healthz HTTP/1.1\r\nhost: us\r\n", "slow_head", b"408"),
        (head(PATH, 100) + b"x" * 99, "slow_body", b"408"),
        (head("/api/tenants", 100) + b"x" * 99, "slow_body", b"408"),
        (head(BILLING, 100) + b"x" * 99, "slow_body", b"408"),
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_ended(
    sent: bytes, why: str, status: bytes, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    before = refused(why)
    async with client(api) as one:
        await one.send(sent)
        end = await one.rest()
    assert end.partition(b" ")[2][:3] == status
    assert refused(why) == before + 1
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "pieces",
    [
        # A whole request, and then line breaks that are none; or a body after its answer.
        (head("/healthz", 0, "GET"), b"\r\n"),
        (head(PATH, MAX_DELIVERY + 1), b"x"),
        (b"GET /healthz HTTP/1.1\r\n", b"x: y\r\n"),
    ],
)
async def test_who_sends_a_little_now_and_then_is_ended_as_well(
    pieces: tuple[bytes, bytes], api: Api
) -> None:
    async with client(api) as one:
        await one.send(pieces[0])

        async def drip() -> None:
            while True:
                await one.send(pieces[1])
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        await one.rest()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.usefixtures("quick")
async def test_who_does_not_take_an_answer_is_ended(api: Api) -> None:
    script = "/docs/static/swagger-ui-bundle.js"
    size = len((await api.http.get(script)).content)
    asked = Door.PIPELINED
    assert size * asked > 16 * MIB, "more than two sockets hold"
    before = refused("slow_reader")
    async with client(api) as one:
        await one.send(head(script, 0, "GET") * asked)
        await until(lambda: refused("slow_reader") > before)
        await until(lambda: not being_answered())


@pytest.mark.usefixtures("quick")
async def test_a_request_that_is_ours_to_answer_is_not_ended_however_long_it_takes(
    api: Api, database: Database, database_url: str
) -> None:
    await stock(database, account_id="4711")
    with psycopg.connect(database_url) as lock:
        lock.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        waiting = asyncio.create_task(from_hubspot(api.http, hubspot_event(1)))
        await asyncio.sleep(2)
        assert not waiting.done()
    assert (await waiting).status_code == 200
    # Nor is a connection that is kept for the next.
    assert (await from_hubspot(api.http, hubspot_event(2))).status_code == 200


async def test_a_head_without_end_and_requests_without_end_are_ended(api: Api) -> None:
    before = refused("large_head"), refused("pipelined")
    async with client(api) as one:
        await one.send(b"GET /healthz HTTP/1.1\r\n")
        with suppress(ConnectionError):
            for _ in range(20_000):
                await one.send(b"x-more: " + b"y" * 100 + b"\r\n")
        end = await one.rest()
    assert not end or end.startswith(b"HTTP/1.1 431 ")
    async with client(api) as one:
        await one.send(head("/healthz", 0, "GET") * 1_000)
        await one.rest()
    assert (refused("large_head"), refused("pipelined")) == (before[0] + 1, before[1] + 1)


# -- A client that leaves -----------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, BILLING, "/api/connect-sessions", "/connect/x/open"])
async def test_a_client_that_leaves_in_mid_body_is_no_error_of_ours(
    path: str, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = deliveries("left")
    async with client(api) as one:
        await one.send(head(path, 1_000) + b"x" * 500)
        if path != PATH:
            await asyncio.sleep(0.2)
    await until(
        lambda: (
            deliveries("left") > before
            or [each for each in caplog.records if each.name == "atom-sync.access"]
        )
    )
    assert (deliveries("left") > before) == (path == PATH)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert HeldBody.total == 0
