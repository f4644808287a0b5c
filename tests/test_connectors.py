"""The promises that every connector keeps, each of its streams synced from its sandbox.

There is no line here for any one of them; docs/connectors.md tells what is proven how.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from math import ceil
from pathlib import Path
from pkgutil import iter_modules
from typing import TypeAlias

import pytest

from connectors import Checkpoint, Connector, Stream, load
from flows._batches import Outcome
from tests._conformance import Bench, Tried
from tests._conformance_line import at
from tests._conformance_which import (
    CHANGES,
    EACH_CONNECTOR,
    EACH_FETCHED,
    EACH_READER,
    EACH_WINDOWED,
    FEW,
    MANY,
    MEDIUM,
    SMALL,
    Of,
    has_tokens_that_end,
    readers,
    streams,
)

# A time by which clocks differ, and by which what a vendor shows lags behind.
LATE = timedelta(seconds=60)
# Longer than most vendors remember what changed; shorter than any forgets an unused consent.
LONG = timedelta(days=40)
MOST_STOPS = 6

# Lists whose records are never deleted, only made inactive.
ONLY_RETIRED = {("quickbooks", "customers"), ("quickbooks", "accounts")}


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


def written_budgets(connector: Connector) -> set[str]:
    """The names of budgets that stand in the connector's files, also where no test may come."""
    found: set[str] = set()
    package = import_module(f"connectors.{connector.name}")
    inner = [one.name for one in iter_modules(getattr(package, "__path__", ()))]
    for module in [package, *(import_module(f"{package.__name__}.{name}") for name in inner)]:
        file = Path(str(module.__file__))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "budget":
                named = getattr(node.value, "value", None) or getattr(
                    module, getattr(node.value, "id", ""), None
                )
                found |= {named} if isinstance(named, str) else set()
    return found


def declared_budgets(connector: Connector) -> set[str]:
    return {limit.name for limit in connector.rate_limits}


@EACH_CONNECTOR
def test_every_budget_that_a_connector_names_is_one_that_it_declares(connector: Connector) -> None:
    assert written_budgets(connector) <= declared_budgets(connector)


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


Lives: TypeAlias = dict[str, dict[str, Life]]


@pytest.fixture(scope="module")
def _lives() -> Lives:
    """Those of each connector that were lived so far."""
    return {}


@pytest.fixture(scope="module", params=streams())
async def life(request: pytest.FixtureRequest, bench: Bench, _lives: Lives) -> Life:
    connector, stream = request.param
    if connector.name not in _lives:
        _lives[connector.name] = await live(await bench.connect(connector, size=MEDIUM))
    return _lives[connector.name][stream.name]


async def live(tried: Tried) -> dict[str, Life]:
    """One account, of which each stream is followed."""
    lives = {stream.name: Life(tried, stream) for stream in tried.connector.streams}
    for life in lives.values():
        life.backfill = await life.follow()
    tried.change(CHANGES)
    for life in lives.values():
        life.incremental = await life.follow()
    tried.change(CHANGES)
    for life in lives.values():
        life.full = await life.follow(full=True)
    for life in lives.values():
        life.idle = await tried.sync(life.stream)
    return lives


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
    # A few records may happen to leave a column out; a path that is wrong leaves it out of all.
    assert not empty or count < 10, empty


def test_no_request_goes_to_a_host_that_the_connector_does_not_name(life: Life) -> None:
    assert life.hosts
    named = life.tried.hosts()
    assert not [host for host in life.hosts if not any(fnmatchcase(host, one) for one in named)]


def test_what_a_stream_spends_is_of_budgets_that_its_connector_declares(life: Life) -> None:
    assert life.tried.budget.requests
    assert set(life.tried.budget.requests) <= declared_budgets(life.tried.connector) | {""}


# -- Stopped, and gone on with ------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_accounts(bench: Bench) -> Callable[[Connector], str]:
    """An account of each vendor whose biggest stream takes three pages; all streams share it."""

    @cache
    def account(name: str) -> str:
        return bench.account(load(name), bench.controls("")[name]["three_pages_at"])

    return lambda connector: account(connector.name)


@EACH_READER
async def test_a_read_that_is_stopped_after_any_page_goes_on_from_there(
    of: Of,
    bench: Bench,
    long_accounts: Callable[[Connector], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    connector, stream = of
    tried = await bench.connect(connector, account=long_accounts(connector))
    hour = timedelta(hours=1)
    bench.clock.advance(hour)  # whatever was spent of the account's budget
    pages, _ = await tried.measure(stream)
    assert not await in_steps(tried, stream, pages)
    tried.forget()
    assert not await in_two(tried, stream, pages)
    for read_on, changes in ((in_steps, MANY), (in_two, CHANGES)):
        bench.clock.advance(hour)
        tried.change(changes, stream)
        pages, _ = await tried.measure(stream)
        assert not await read_on(tried, stream, pages)


async def in_steps(tried: Tried, stream: Stream, pages: int) -> str:
    """Stopped after each page that gets on, or after every so many where there are a lot."""
    steps, stride = 0, ceil(pages / MOST_STOPS)
    while not await tried.step(stream, stride):
        steps += 1
        if steps > 2 * pages:
            return "it comes to no end"
    return tried.difference(stream, deletes=not stream.hides_deletes)


async def in_two(tried: Tried, stream: Stream, pages: int) -> str:
    """Stopped before the last page: a checkpoint must not depend on where the read began."""
    await tried.sync(stream, stop=after(pages - 1))
    return await tried.follow(stream)


@EACH_READER
async def test_what_lay_unread_for_long_is_caught_up_with(
    of: Of, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    for _ in range(2):
        await tried.sync(stream, stop=after(1))
        tried.change(FEW)
        bench.clock.advance(LONG)
        tried.begin(stream)
        await tried.sync(stream)  # ends what was begun
        assert not await tried.follow(stream)
        tried.change(FEW)


def after(some: int) -> Callable[[int, Checkpoint], bool]:
    return lambda batches, at: batches >= some


# -- Changed while it is read, and changes that show late ---------------------------------------


@EACH_READER
async def test_what_changes_while_a_stream_is_read_is_found_by_the_next_sync(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)

    def change() -> None:
        tried.change(10, stream)

    # Of a stream that is only ever added to, what came before its first read is not owed.
    if not stream.append_only:
        _, requests = await tried.measure(stream)
        for number in {1, requests // 2, requests - 1}:
            tried.forget()
            await tried.sync(stream, before=at(number, change))
            assert not await tried.follow(stream)
    await tried.sync(stream)
    for part in (0, 0.5, 1):
        tried.change(FEW, stream)
        _, requests = await tried.measure(stream)
        await tried.sync(stream, before=at(round(part * (requests - 1)), change))
        assert not await tried.follow(stream)


@EACH_READER
async def test_a_change_that_shows_a_minute_after_its_time_is_found(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    assert not await tried.follow(stream)
    for _ in range(2):
        bench.clock.advance(2 * LATE)  # past what changed before: times of one record only grow
        await tried.sync(stream)
        tried.change(FEW, late=LATE)
        assert not await tried.follow(stream)


# -- Read in part -------------------------------------------------------------------------------


@EACH_FETCHED
async def test_records_are_read_again_by_their_keys(of: Of, bench: Bench) -> None:
    connector, stream = of
    assert stream.fetch
    tried = await bench.connect(connector, size=SMALL)
    keys = list(tried.vendor(stream))
    tried.change(CHANGES)
    vendor = tried.vendor(stream)
    records, gone = await tried.read(stream, stream.fetch(keys, tried.context()), keys)
    assert records == {key: vendor[key] for key in keys if key in vendor}
    assert gone == {key for key in keys if key not in vendor}
    mutable = import_module(f"sandbox.{connector.name}").vendor.mutable
    # Of a few records none may be deleted, by chance.
    spared = len(keys) < 10 or (connector.name, stream.name) in ONLY_RETIRED
    assert gone or spared or "delete" not in mutable.get(stream.name, ("delete",))


@EACH_WINDOWED
async def test_a_window_holds_all_that_changed_since_its_time(of: Of, bench: Bench) -> None:
    connector, stream = of
    assert stream.window
    tried = await bench.connect(connector, size=SMALL)
    before, since = tried.vendor(stream), bench.clock.now()
    bench.clock.advance(LATE)
    tried.change(CHANGES)
    vendor = tried.vendor(stream)
    reader = stream.read(stream.window(since), tried.context())
    records, gone = await tried.read(stream, reader, before)
    assert {key for key in vendor if vendor[key] != before.get(key)} <= records.keys()
    assert stream.hides_deletes or before.keys() - vendor.keys() <= gone


# -- Tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", readers(has_tokens_that_end))
async def test_a_token_that_expires_in_mid_read_is_refreshed_once(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)
    refreshes = tried.refreshes()
    expire = at(requests // 2, lambda: tried.order("tokens", op="expire"))
    assert not await tried.follow(stream, before=expire)
    assert tried.refreshes() == refreshes + 1


@EACH_READER
async def test_an_authorisation_that_is_taken_back_in_mid_read_needs_the_tenant(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)
    revoke = at(requests // 2, lambda: tried.order("tokens", op="revoke"))
    outcome = await tried.sync(stream, before=revoke)
    assert outcome.error
    assert tried.status() == "needs_reauth"
