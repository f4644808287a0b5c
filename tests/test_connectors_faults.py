"""What every connector gets over: faults, positions that lapse, and limits that are reached.

There is no line here for any one of them; docs/connectors.md tells what is proven how.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from connectors import Checkpoint, Connector, RateLimitedError, Stream
from tests._conformance import Bench, Tried
from tests._conformance_line import Ledger, at
from tests._conformance_which import (
    EACH_CONNECTOR,
    EACH_READER,
    EACH_STREAM,
    EACH_WITH_POSITIONS,
    FEW,
    SMALL,
    TINY,
    Of,
)

# Faults that pass; one that hangs does so for longer than the short line waits.
FAULTS = ("429", "500", "503", "cut", "garbage", "hang")


# -- Faults -------------------------------------------------------------------------------------


def in_turn(connector: Connector) -> Connector:
    """Its requests are sent one after the other, so that each has its place among them."""
    return replace(connector, concurrency=1)


def positions(requests: int) -> list[int]:
    """The first, a middle and the last request."""
    return sorted({0, requests // 2, requests - 1})


def faults_of(of: Of) -> list[str]:
    """All faults, in another order for each stream: so the streams of a vendor together meet each
    fault at the first, a middle and the last request."""
    connector, stream = of
    turn = connector.streams.index(stream) % len(FAULTS)
    return [*FAULTS[turn:], *FAULTS[:turn]]


async def follow_through(tried: Tried, stream: Stream, faults: Iterable[tuple[int, str]]) -> str:
    """Follows a stream while faults strike, each at its request."""
    line = tried.bench.line
    for number, kind in faults:
        line = tried.bench.short_line if kind == "hang" else line
        fault = {"kind": kind, "skip": number, "seconds": 30}
        tried.bench.controls(f"/{tried.connector.name}/faults", fault)
    problem = await tried.follow(stream, line=line)
    left = tried.bench.controls.clear(f"/{tried.connector.name}/faults")["cleared"]
    return problem or (f"{left} faults did not strike" if left else "")


@EACH_READER
async def test_a_fault_at_the_first_a_middle_and_the_last_request_passes(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(in_turn(connector), size=SMALL)
    for changes in (0, FEW):
        left = faults_of(of)
        while left:
            if changes:
                tried.change(changes)
            else:
                tried.forget()
            _, requests = await tried.measure(stream)
            faults = dict(zip(positions(requests), left, strict=False))
            left = left[len(faults) :]
            assert not await follow_through(tried, stream, faults.items()), faults


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@EACH_STREAM
async def test_a_fault_at_every_request_passes(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(in_turn(connector), size=TINY)
    for kind in FAULTS:
        tried.forget()
        for _ in range(2):
            _, requests = await tried.measure(stream)
            faults = ((number, kind) for number in range(requests))
            assert not await follow_through(tried, stream, faults), kind
            tried.change(TINY)


@EACH_WITH_POSITIONS
async def test_a_position_that_lapses_at_the_first_a_middle_or_the_last_request_is_made_anew(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    _, requests = await tried.measure(stream)
    for number in positions(requests):
        tried.forget()
        assert not await tried.follow(stream, before=at(number, tried.lapse))
    for which in range(3):
        tried.change(FEW)
        _, requests = await tried.measure(stream)
        assert not await lapse_at(tried, stream, (0, requests // 2, requests - 1)[which])


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@EACH_WITH_POSITIONS
async def test_a_position_that_lapses_at_any_request_is_made_anew(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=TINY)
    _, requests = await tried.measure(stream)
    for number in range(requests):
        tried.forget()
        assert not await lapse_at(tried, stream, number)
    number = 0
    while number < requests:
        tried.change(TINY)
        _, requests = await tried.measure(stream)
        assert not await lapse_at(tried, stream, number)
        number += 1


async def lapse_at(tried: Tried, stream: Stream, request: int) -> str:
    """Follows a stream while the vendor forgets every position before that request."""
    problem = await tried.follow(stream, before=at(request, tried.lapse))
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
    slept, put_off, refused, requests = bench.clock.slept, 0, 0, 0
    with bench.clock.stopped():
        bench.clock.advance(timedelta(days=1))  # what was spent so far counts no more
        while requests < 2 * ENOUGH:
            for stream, at in product(connector.streams, (Checkpoint(), None)):
                try:
                    await tried.measure(stream, at)
                except RateLimitedError as error:  # of our own budget: a sync would come again
                    bench.clock.advance(error.retry_after)
                    put_off += 1
                refused += bench.line.limited
                requests += bench.line.asked
    assert refused == 0
    # Nobody sleeps for what is counted by the day: it is put off.
    assert bench.clock.slept > slept or put_off, "no limit was reached"
