"""Watches over sixty days, on a clock that is played: no gap that is not written down, no leak, and
no more calls than that takes."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from accounts import watching
from accounts.watching import Looked, Station
from connectors import (
    Calls,
    CheckpointExpiredError,
    Connector,
    Context,
    MadeWatch,
    NoWatch,
    Request,
    Response,
    Watch,
    WatchRequest,
    ask,
    load,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from storage import connections, watches
from storage.database import Database
from storage.vault import Vault
from tests._sandboxed import KEY
from tests._stored import Stocked, stock
from tests._vendor import PlayedClock, Vendor, made_up, serve

ADDRESS = "https://app.example.com/api/webhooks/made_up"
DAYS = timedelta(days=60)


@dataclass
class Subscriptions(Vendor):
    """A vendor whose subscriptions end: it counts calls, and knows which stand at any time."""

    clock: PlayedClock = field(default_factory=PlayedClock)
    lifetime: timedelta = timedelta(days=1)
    ends: dict[str, datetime] = field(default_factory=dict)
    made: int = 0
    renewed: int = 0
    deleted: int = 0
    refuses: bool = False

    def standing(self) -> set[str]:
        return {name for name, ends in self.ends.items() if ends > self.clock.at}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        name = scope["path"].rpartition("/")[2]
        status, answer = self._answer(scope["method"], name, json.loads(body or b"{}"))
        content = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            self.made += 1
            if self.refuses:
                return 402, {}
            name = body["id"]
        elif name not in self.standing():
            return 404, {}
        elif method == "DELETE":
            self.deleted += 1
            del self.ends[name]
            return 200, {}
        else:
            self.renewed += 1
        self.ends[name] = self.clock.at + self.lifetime
        return 200, {"id": name, "ends": self.ends[name].isoformat()}


def create(wanted: WatchRequest) -> Calls[MadeWatch | NoWatch]:
    body = {"id": wanted.id, "address": wanted.address, "token": wanted.secret}
    response = yield from ask(Request.post("/watches", json=body, expect=(402,)))
    return NoWatch("paid plans only") if response.status == 402 else _watched(response)


def renew(wanted: WatchRequest, former: MadeWatch) -> Calls[MadeWatch]:
    response = yield from ask(Request("PATCH", f"/watches/{former.vendor_id}", expect=(404,)))
    if response.status == 404:
        raise CheckpointExpiredError("the vendor does not know this watch")
    return _watched(response)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    yield Request("DELETE", f"/watches/{watched.vendor_id}", expect=(404,))


def _watched(response: Response) -> MadeWatch:
    ends = datetime.fromisoformat(response.json["ends"])
    return MadeWatch(vendor_id=response.json["id"], expires_at=ends)


def resources(context: Context) -> Calls[tuple[str, ...]]:
    yield from ()
    return tuple(context.config.get("calendars", ("one",)))


RENEWED = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: ("contacts",),
    lifetime=timedelta(days=1),
    overlap=timedelta(minutes=30),
)
REPLACED = replace(RENEWED, renew=None)


@dataclass
class Walk:
    """A connection, its vendor, and the clock that both live by."""

    vendor: Subscriptions
    database: Database
    url: str
    stocked: Stocked
    transport: Transport

    async def station(self, watch: Watch, **config: Any) -> Station:
        return await self.of(made_up(watch=watch), **config)

    async def of(self, connector: Connector, **config: Any) -> Station:
        async def token(refused: bool) -> str:
            return "token"

        connection = await connections.get(self.database, self.stocked.connection_id)
        context = Context(now=self.vendor.clock.at, account_id="me@example.com", config=config)
        return Station(
            database=self.database,
            vault=Vault.parse(KEY),
            client=Client(
                connector, transport=self.transport, account_id="me@example.com", config=config,
                token=token, budget=Budget(None, clock=self.vendor.clock),
            ),
            context=context,
            connection=connection,
            address=ADDRESS,
            variables={"GMAIL_PUBSUB_TOPIC": "projects/p/topics/t"},
        )  # fmt: skip

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as sql:
            return sql.execute(query.encode()).fetchall()

    async def look(self, station: Station) -> Looked:
        return await watching.look_after(station, self.vendor.clock.at)

    async def steps(self, station: Station, days: timedelta = DAYS) -> AsyncIterator[Looked]:
        """As the scheduled flow does: every five minutes, if something is due."""
        until = self.vendor.clock.at + days
        while self.vendor.clock.at < until:
            looked = await self.look(station)
            yield looked
            assert looked.next_at is not None
            self.vendor.clock.at = max(
                self.vendor.clock.at + timedelta(minutes=5), looked.next_at
            ) + timedelta(minutes=4)


@pytest.fixture
async def walk(database: Database, database_url: str) -> AsyncIterator[Walk]:
    with _served() as vendor:
        transport = Transport(sandbox_url=vendor.origin, clock=vendor.clock)
        yield Walk(vendor, database, database_url, await stock(database), transport)
        await transport.close()


@contextlib.contextmanager
def _served() -> Iterator[Subscriptions]:
    vendor = Subscriptions(clock=PlayedClock(datetime.now(UTC)))
    with serve(vendor):
        yield vendor


async def test_a_watch_is_renewed_at_half_of_its_life(walk: Walk) -> None:
    station = await walk.station(RENEWED)
    async for _ in walk.steps(station):
        assert len(walk.vendor.standing()) == 1
    assert walk.vendor.made == 1
    assert 100 <= walk.vendor.renewed <= 135, "about every twelve hours of a day"
    assert walk.rows("SELECT count(*) FROM gaps") == [(0,)]


async def test_a_watch_that_cannot_be_renewed_is_replaced_and_the_former_one_ended(
    walk: Walk,
) -> None:
    station = await walk.station(REPLACED)
    async for _ in walk.steps(station):
        assert 1 <= len(walk.vendor.standing()) <= 2
    assert walk.vendor.renewed == 0
    assert 100 <= walk.vendor.made <= 135
    assert walk.vendor.made - walk.vendor.deleted <= 2, "nothing is left behind"
    assert walk.rows("SELECT count(*) FROM gaps") == [(0,)]


async def test_a_watch_that_the_vendor_dropped_is_made_again_and_the_time_is_written_down(
    walk: Walk,
) -> None:
    station = await walk.station(RENEWED)
    dropped: list[datetime] = []
    async for _ in walk.steps(station):
        if walk.vendor.renewed % 20 == 7 and len(dropped) < 3:
            dropped.append(walk.vendor.clock.at)
            walk.vendor.ends.clear()
    gaps = walk.rows("SELECT since, until, streams, reason FROM gaps ORDER BY id")
    assert len(gaps) == len(dropped) == 3
    for at, (since, until, streams, reason) in zip(dropped, gaps, strict=True):
        assert since <= at <= until
        assert streams == ["contacts"]
        assert reason == "the vendor had dropped the watch"
    assert len(walk.vendor.standing()) == 1


async def test_after_an_absence_what_was_missed_is_the_time_since_the_watch_had_ended(
    walk: Walk,
) -> None:
    station = await walk.station(RENEWED)
    await walk.look(station)
    ended = next(iter(walk.vendor.ends.values()))
    walk.vendor.clock.at += timedelta(days=9)
    looked = await walk.look(station)
    assert (looked.made, looked.missed) == (1, 1)
    assert walk.rows("SELECT since, until FROM gaps") == [(ended, walk.vendor.clock.at)]


async def test_a_vendor_that_refuses_is_asked_again_each_week_and_no_more(walk: Walk) -> None:
    walk.vendor.refuses = True
    station = await walk.station(RENEWED)
    async for _ in walk.steps(station):
        if walk.vendor.clock.at > datetime.now(UTC) + timedelta(days=40):
            walk.vendor.refuses = False
    assert 6 <= walk.vendor.made <= 7
    assert len(walk.vendor.standing()) == 1
    assert walk.rows("SELECT status FROM watches") == [("active",)]


async def test_what_is_not_to_be_watched_any_more_is_ended(walk: Walk) -> None:
    both = await walk.station(RENEWED, calendars=("one", "two"))
    await walk.look(both)
    assert len(walk.vendor.standing()) == 2
    looked = await walk.look(await walk.station(RENEWED, calendars=("two",)))
    assert looked.ended == 1
    assert walk.rows("SELECT resource FROM watches") == [("two",)]
    assert await watching.end_all(both) == 1
    assert walk.vendor.standing() == set()


async def test_a_lifecycle_notice_renews_at_once_and_a_lost_watch_is_replaced(walk: Walk) -> None:
    station = await walk.station(RENEWED)
    await walk.look(station)
    (vendor_id,) = walk.vendor.standing()
    tenant_id, connection_id = walk.stocked.tenant_id, walk.stocked.connection_id
    async with walk.database.transaction(tenant_id) as session:
        await watches.note_lifecycle(session, connection_id, vendor_id, lost=False)
    walk.vendor.clock.at = datetime.now(UTC) + timedelta(minutes=1)
    assert (await walk.look(station)).renewed == 1
    walk.vendor.ends.clear()
    async with walk.database.transaction(tenant_id) as session:
        await watches.note_lifecycle(session, connection_id, vendor_id, lost=True)
    looked = await walk.look(station)
    assert (looked.made, looked.missed) == (1, 1)


async def test_what_changed_before_a_watch_stood_is_read_after(walk: Walk) -> None:
    await walk.look(await walk.station(RENEWED))
    query = "SELECT stream FROM checkpoints WHERE dirty_generation > read_generation"
    assert walk.rows(query) == [("contacts",)]


async def test_a_watchs_secret_is_sealed_and_proves_deliveries(walk: Walk) -> None:
    await walk.look(await walk.station(RENEWED))
    (vendor_id,) = walk.vendor.standing()
    (sealed,) = walk.rows("SELECT sealed_secret FROM watches")[0]
    known = await watches.known(walk.database, Vault.parse(KEY), "hubspot", vendor_id)
    assert known is not None
    assert known.connection_id == walk.stocked.connection_id
    assert len(known.secret) >= 43
    assert known.secret not in sealed
    assert await watches.known(walk.database, Vault.parse(KEY), "gmail", vendor_id) is None


async def test_due_connections_are_claimed_once_and_again_when_their_claim_ran_out(
    walk: Walk,
) -> None:
    now = datetime.now(UTC) + timedelta(seconds=5)
    ids = [walk.stocked.connection_id]
    assert await watches.claim(walk.database, ["hubspot"], now=now) == ids
    assert await watches.claim(walk.database, ["hubspot"], now=now) == []
    later = now + watches.CLAIM
    assert await watches.claim(walk.database, ["gmail"], now=later) == []
    assert await watches.claim(walk.database, ["hubspot"], now=later) == ids


async def test_gmails_watch_is_asked_for_again_and_again(walk: Walk) -> None:
    class Mailbox(Subscriptions):
        def _answer(
            self, method: str, name: str, body: dict[str, Any]
        ) -> tuple[int, dict[str, Any]]:
            assert (method, name, body) == ("POST", "watch", {"topicName": "projects/p/topics/t"})
            self.made += 1
            self.ends["mailbox"] = self.clock.at + timedelta(days=7)
            ends = int(self.ends["mailbox"].timestamp() * 1000)
            return 200, {"historyId": "7", "expiration": str(ends)}

    with serve(Mailbox(clock=walk.vendor.clock)) as vendor:
        assert isinstance(vendor, Mailbox)
        walk.transport = Transport(sandbox_url=vendor.origin, clock=vendor.clock)
        station = await walk.of(load("gmail"))
        async for _ in walk.steps(station):
            assert vendor.standing() == {"mailbox"}
        assert 15 <= vendor.made <= 20
        await walk.transport.close()
