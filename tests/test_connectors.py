"""The promises that every connector keeps, each of its streams synced from its sandbox.

There is no line here for any one of them; docs/connectors.md tells what is proven how.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from itertools import product
from typing import TypeAlias

import psycopg
import pytest

import sandbox
from connectors import Checkpoint, Connector, RateLimitedError, Stream, all_connectors, load
from flows._reading import Outcome
from settings import read
from storage.database import Database
from tests._conformance import Bench, Controls, SandboxClock, Tried
from tests._conformance_line import Ledger, Line
from tests._sandboxed import environment

# Sizes of accounts: about the number of records of the biggest stream.
MEDIUM, SMALL, TINY = 250, 30, 10
CHANGES, FEW = 200, 40
# Faults that pass; one that hangs does so for longer than the short line waits.
FAULTS = ("429", "500", "503", "cut", "garbage", "hang")
IMPATIENT = timedelta(seconds=0.2)
# A time by which clocks differ, and by which what a vendor shows lags behind.
LATE = timedelta(seconds=60)
# Longer than most vendors remember what changed; shorter than any forgets an unused consent.
LONG = timedelta(days=40)

Of: TypeAlias = tuple[Connector, Stream]
SYNCED = [connector for connector in all_connectors() if connector.streams]
CONNECTORS = [pytest.param(connector, id=connector.name) for connector in SYNCED]
EACH_CONNECTOR = pytest.mark.parametrize("connector", CONNECTORS)
STREAMS = [
    pytest.param((connector, stream), id=f"{connector.name}.{stream.name}")
    for connector in SYNCED
    for stream in connector.streams
]
EACH_STREAM = pytest.mark.parametrize("of", STREAMS)
# Those whose vendors hand out positions that they may forget.
EACH_STREAM_BY_POSITION = pytest.mark.parametrize(
    "of",
    [
        pytest.param((connector, stream), id=f"{connector.name}.{stream.name}")
        for connector in SYNCED
        for stream in connector.streams
        if import_module(f"sandbox.{connector.name}").vendor.expire_checkpoints
    ],
)


@pytest.fixture(scope="module")
async def bench(shared_database_url: str) -> AsyncIterator[Bench]:
    names = [connector.name for connector in SYNCED]
    database = Database.connect(shared_database_url)
    with (
        sandbox.start() as origin,
        Controls(origin) as controls,
        psycopg.connect(shared_database_url, autocommit=True) as sql,
    ):
        clock = SandboxClock(controls)
        lines = [
            Line(sandbox_url=origin, clock=clock, timeout=timeout)
            for timeout in (timedelta(seconds=30), IMPATIENT)
        ]
        values = environment(origin, shared_database_url, "", names)
        settings = read(_env_file=None, **{name.lower(): v for name, v in values.items() if v})
        yield Bench(controls, clock, lines[0], lines[1], database, sql, settings)
        for line in lines:
            await line.close()
    await database.close()


# -- What is declared ---------------------------------------------------------------------------


@EACH_CONNECTOR
def test_a_connector_is_named_after_its_file(connector: Connector) -> None:
    assert import_module(f"connectors.{connector.name}").connector is connector


@EACH_CONNECTOR
def test_the_sandbox_has_the_connectors_streams_and_no_others(
    connector: Connector, bench: Bench
) -> None:
    described = bench.controls("")[connector.name]
    assert {stream.name for stream in connector.streams} == set(described["streams"])


# -- One life of each stream: read to its end, changed, followed ----------------------------------


@dataclass
class Life:
    """What came of a stream's syncs, from the first one on."""

    tried: Tried
    stream: Stream
    backfill: str = ""
    incremental: str = ""
    full: str = ""
    idle: Outcome = field(default_factory=Outcome)
    hosts: set[str] = field(default_factory=set)

    async def follow(self, *, full: bool = False) -> str:
        problem = await self.tried.follow(self.stream, full=full)
        self.hosts |= self.tried.bench.line.hosts
        return problem


@pytest.fixture(scope="module", params=STREAMS)
async def life(request: pytest.FixtureRequest, bench: Bench) -> Life:
    connector, stream = request.param
    life = Life(await bench.connect(connector, size=MEDIUM), stream)
    life.backfill = await life.follow()
    life.tried.change(CHANGES)
    life.incremental = await life.follow()
    life.tried.change(CHANGES)
    life.full = await life.follow(full=True)
    life.idle = await life.tried.sync(stream)
    return life


def test_a_stream_is_read_to_its_end(life: Life) -> None:
    assert not life.backfill


def test_a_stream_follows_every_change_and_deletion(life: Life) -> None:
    assert not life.incremental
    assert life.tried.stored(life.stream)


def test_a_full_read_gives_what_the_vendor_has(life: Life) -> None:
    assert not life.full


def test_a_sync_with_nothing_new_changes_nothing(life: Life) -> None:
    assert life.idle.error is None
    assert (life.idle.inserted, life.idle.updated, life.idle.deleted) == (0, 0, 0)


async def test_the_view_of_a_stream_shows_its_records_and_something_in_each_column(
    life: Life,
) -> None:
    count, empty = await life.tried.shown(life.stream)
    assert count == len(life.tried.stored(life.stream))
    assert not empty


def test_no_request_goes_to_a_host_that_the_connector_does_not_name(life: Life) -> None:
    assert life.hosts
    named = life.tried.hosts()
    assert not [host for host in life.hosts if not any(fnmatchcase(host, one) for one in named)]


# -- Stopped, and gone on with ------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_accounts(bench: Bench) -> Callable[[Connector], str]:
    """An account of each vendor whose biggest stream takes three pages; all streams share it."""

    @cache
    def account(name: str) -> str:
        return bench.account(load(name), bench.controls("")[name]["three_pages_at"])

    return lambda connector: account(connector.name)


@EACH_STREAM
async def test_a_read_that_is_stopped_after_any_page_goes_on_from_there(
    of: Of,
    bench: Bench,
    long_accounts: Callable[[Connector], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    connector, stream = of
    tried = await bench.connect(connector, account=long_accounts(connector))
    pages, _ = await tried.measure(stream)
    assert not await in_steps(tried, stream, pages)
    tried.forget()
    assert not await in_two(tried, stream, pages)
    for read_on in (in_steps, in_two):
        tried.change(CHANGES)
        pages, _ = await tried.measure(stream)
        assert not await read_on(tried, stream, pages)


async def in_steps(tried: Tried, stream: Stream, pages: int) -> str:
    """Stopped after each page that gets on."""
    steps = 0
    while not await tried.step(stream):
        steps += 1
        if steps > 2 * pages:
            return "it comes to no end"
    return tried.difference(stream, deletes=not stream.hides_deletes)


async def in_two(tried: Tried, stream: Stream, pages: int) -> str:
    """Stopped before the last page: a checkpoint must not depend on where the read began."""
    await tried.sync(stream, stop=after(pages - 1))
    return await tried.follow(stream)


@EACH_STREAM
async def test_what_lay_unread_for_long_is_caught_up_with(
    of: Of, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    await tried.sync(stream, stop=after(1))
    for _ in range(2):
        tried.change(FEW)
        bench.clock.advance(LONG)
        tried.begin(stream)
        await tried.sync(stream)  # ends what was begun
        assert not await tried.follow(stream)


def after(some: int) -> Callable[[int, Checkpoint], bool]:
    return lambda batches, at: batches >= some


# -- Changed while it is read, and changes that show late ---------------------------------------


@EACH_STREAM
async def test_what_changes_while_a_stream_is_read_is_found_by_the_next_sync(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)

    def change(number: int) -> None:
        if number < 15:
            tried.change(4)

    if stream.append_only:
        await tried.sync(stream)  # what came before its first read is not owed
    for _ in range(3):
        await tried.sync(stream, before=change)
        assert not await tried.follow(stream)


@EACH_STREAM
async def test_a_change_that_shows_a_minute_after_its_time_is_found(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    assert not await tried.follow(stream)
    for _ in range(2):
        bench.clock.advance(2 * LATE)  # past what changed before: times of one record only grow
        await tried.sync(stream)
        tried.change(FEW, late=LATE)
        assert not await tried.follow(stream)


# -- Tokens -------------------------------------------------------------------------------------


@EACH_STREAM
async def test_a_token_that_expires_in_mid_read_is_refreshed_once(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)
    refreshes = tried.refreshes()

    def expire(number: int) -> None:
        if number == requests // 2:
            tried.order("tokens", op="expire")

    assert not await tried.follow(stream, before=expire)
    assert tried.refreshes() == refreshes + 1


@EACH_STREAM
async def test_an_authorisation_that_is_taken_back_in_mid_read_needs_the_tenant(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)

    def revoke(number: int) -> None:
        if number == requests // 2:
            tried.order("tokens", op="revoke")

    outcome = await tried.sync(stream, before=revoke)
    assert outcome.error
    assert tried.status() == "needs_reauth"


# -- Faults -------------------------------------------------------------------------------------


def in_turn(connector: Connector) -> Connector:
    """Its requests are sent one after the other, so that each has its place among them."""
    return replace(connector, concurrency=1)


def positions(requests: int) -> list[int]:
    """The first, a middle and the last request."""
    return sorted({0, requests // 2, requests - 1})


async def follow_through(tried: Tried, stream: Stream, kind: str, at: Iterable[int]) -> str:
    """Follows a stream while that fault strikes at each of those requests."""
    line = tried.bench.short_line if kind == "hang" else tried.bench.line
    for number in at:
        fault = {"kind": kind, "skip": number, "seconds": 30}
        tried.bench.controls(f"/{tried.connector.name}/faults", fault)
    problem = await tried.follow(stream, line=line)
    left = tried.bench.controls.clear(f"/{tried.connector.name}/faults")["cleared"]
    return problem or (f"{left} faults did not strike" if left else "")


@EACH_STREAM
async def test_a_fault_at_the_first_a_middle_and_the_last_request_passes(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(in_turn(connector), size=SMALL)
    _, requests = await tried.measure(stream)
    for kind in FAULTS:
        tried.forget()
        assert not await follow_through(tried, stream, kind, positions(requests)), kind
    for kind in FAULTS:
        tried.change(FEW)
        _, requests = await tried.measure(stream)
        assert not await follow_through(tried, stream, kind, positions(requests)), kind


@pytest.mark.referee
@pytest.mark.parametrize("kind", FAULTS)
@EACH_STREAM
async def test_a_fault_at_every_request_passes(of: Of, kind: str, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(in_turn(connector), size=SMALL)
    for _ in range(2):
        _, requests = await tried.measure(stream)
        assert not await follow_through(tried, stream, kind, range(requests))
        tried.change(FEW)


@EACH_STREAM_BY_POSITION
async def test_a_position_that_lapses_at_the_first_a_middle_or_the_last_request_is_made_anew(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)
    for number in positions(requests):
        tried.forget()
        assert not await lapse_at(tried, stream, number)
    for which in range(3):
        tried.change(FEW)
        _, requests = await tried.measure(stream)
        assert not await lapse_at(tried, stream, (0, requests // 2, requests - 1)[which])


@pytest.mark.referee
@EACH_STREAM_BY_POSITION
async def test_a_position_that_lapses_at_any_request_is_made_anew(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=TINY)
    _, requests = await tried.measure(stream)
    for number in range(requests):
        tried.forget()
        assert not await lapse_at(tried, stream, number)
    number = 0
    while number < requests:
        tried.change(FEW)
        _, requests = await tried.measure(stream)
        assert not await lapse_at(tried, stream, number)
        number += 1


async def lapse_at(tried: Tried, stream: Stream, request: int) -> str:
    """Follows a stream while the vendor forgets every position before that request."""

    def lapse(number: int) -> None:
        if number == request:
            tried.lapse()

    problem = await tried.follow(stream, before=lapse)
    tried.change(5)
    return problem or await tried.follow(stream)


# -- Limits -------------------------------------------------------------------------------------

# Requests in which the widest limit is reached, where narrowing it that far leaves the others room.
ENOUGH = 60


@pytest.fixture
def narrowed(bench: Bench) -> Iterator[Callable[[Tried, float], Tried]]:
    """Narrows the limits of a vendor, and those that its connector keeps, by one factor."""
    names: list[str] = []

    def narrow(tried: Tried, scale: float) -> Tried:
        names.append(tried.connector.name)
        bench.controls(f"/{names[-1]}/limits", {"scale": scale})
        limits = tuple(
            replace(limit, amount=max(1, int(limit.amount * scale)))
            for limit in tried.connector.rate_limits
        )
        return replace(tried, connector=replace(tried.connector, rate_limits=limits))

    yield narrow
    for name in names:
        bench.controls(f"/{name}/limits", {"scale": 1})


def scale_of(connector: Connector, budget: Ledger) -> float:
    """How far limits can be narrowed, by what reading has spent so far."""
    used = [one for one in connector.rate_limits if budget.requests[one.name]]
    account = [one for one in used if one.scope == "account"] or used
    reached = max(
        one.amount * budget.requests[one.name] / budget.spent[one.name] for one in account
    )
    room = max(2 * budget.dearest[one.name] / one.amount for one in account)
    return min(1.0, max(room, ENOUGH / reached))


@EACH_CONNECTOR
async def test_requests_stay_within_the_vendors_limits(
    connector: Connector, bench: Bench, narrowed: Callable[[Tried, float], Tried]
) -> None:
    tried = await bench.connect(in_turn(connector), size=SMALL)
    for stream in connector.streams:
        assert not await tried.follow(stream)
        await tried.measure(stream)
    tried = narrowed(tried, scale_of(connector, tried.budget))
    slept, refused, requests = bench.clock.slept, 0, 0
    with bench.clock.stopped():
        bench.clock.advance(timedelta(days=1))  # what was spent so far counts no more
        while requests < 2 * ENOUGH:
            for stream, at in product(connector.streams, (Checkpoint(), None)):
                try:
                    await tried.measure(stream, at)
                except RateLimitedError as error:  # of our own budget: a sync would come again
                    bench.clock.advance(error.retry_after)
                refused += bench.line.limited
                requests += bench.line.asked
    assert refused == 0
    assert bench.clock.slept > slept, "no limit was reached"
