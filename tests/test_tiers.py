"""How often a connection syncs, and when: the table, floors, webhooks that work, and the grid."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from benchmarks._month import month
from connectors import Checkpoint, Context, Reader, Stream, SyncType, Webhook
from connectors.kernel.webhooks import Watch, one_resource
from deployments.tiers import AHEAD, EPOCH, PollPlan, PollPolicy
from settings import SettingsError, read
from settings.intervals import SYNC_INTERVALS, read_intervals
from settings.webhooks import unset
from storage.database import Database
from storage.models import Connection, Tier
from storage.shards import in_shard, shard_of
from tests._stored import stock
from tests._vendor import made_up

MINUTE, HOUR, DAY, WEEK = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days", "weeks"))
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def nothing(at: Checkpoint, context: Context) -> Reader:
    yield from ()


def nobody(*given: Any) -> Any:
    yield from ()


CONTACTS, OWNERS = (Stream(name=n, read=nothing) for n in ("contacts", "owners"))
WEBHOOK = Webhook(
    events=lambda delivery: (), covers=("contacts",), verified_by="MADE_UP_WEBHOOK_SECRET"
)
WATCH = Watch(
    resources=one_resource("all"),
    create=nobody,
    delete=nobody,
    streams=lambda resource: ("contacts",) if resource == "all" else (),
    lifetime=DAY,
)


def policy(tier: Tier, *, configured: bool = True, table: Any = None, **changes: Any) -> PollPolicy:
    connector = made_up(**{"streams": (CONTACTS, OWNERS), **changes})
    return PollPolicy(
        connector=connector, tier=tier, configured=configured, table=table or SYNC_INTERVALS
    )


def ids(count: int, seed: int = 1) -> list[UUID]:
    chance = Random(seed)
    return [UUID(int=chance.getrandbits(128), version=4) for _ in range(count)]


@pytest.mark.parametrize(
    ("tier", "pull", "hybrid", "push"),
    [
        (Tier.FREE, WEEK, WEEK, WEEK),
        (Tier.SOLO, DAY, DAY, WEEK),
        (Tier.TEAM, HOUR, HOUR, WEEK),
        (Tier.ENTERPRISE, 5 * MINUTE, 15 * MINUTE, HOUR),
    ],
)
def test_a_tier_decides_how_often_each_kind_of_integration_is_polled(
    tier: Tier, pull: timedelta, hybrid: timedelta, push: timedelta
) -> None:
    expected = {SyncType.PULL: pull, SyncType.HYBRID: hybrid, SyncType.PUSH: push}
    for kind, interval in expected.items():
        told = policy(tier, sync_type=kind, webhook=WEBHOOK).intervals({"contacts"})
        assert told == {"contacts": interval, "owners": pull}, "no event covers owners"


@pytest.mark.parametrize("kind", [SyncType.PUSH, SyncType.HYBRID])
def test_an_integration_whose_webhooks_do_not_work_is_polled_like_any_other(kind: SyncType) -> None:
    of_secret: dict[str, Any] = {"sync_type": kind, "webhook": WEBHOOK}
    assert policy(Tier.TEAM, **of_secret).covered_streams(()) == {"contacts"}
    assert policy(Tier.TEAM, configured=False, **of_secret).covered_streams(()) == frozenset()
    assert policy(Tier.TEAM, sync_type=kind).covered_streams(()) == frozenset()
    of_watch = policy(Tier.ENTERPRISE, **of_secret, watch=WATCH)
    assert of_watch.covered_streams(["all"]) == {"contacts"}
    assert of_watch.covered_streams(["something else"]) == frozenset()
    watched, lost = (PollPlan(of_watch, ids(1)[0], w).intervals for w in (["all"], []))
    assert watched["contacts"] == SYNC_INTERVALS[Tier.ENTERPRISE][kind]
    assert lost["contacts"] == 5 * MINUTE


def test_no_tier_polls_more_often_than_the_vendor_allows() -> None:
    floored = policy(Tier.ENTERPRISE, floor=HOUR)
    assert set(floored.intervals(()).values()) == {HOUR}
    assert set(policy(Tier.FREE, floor=HOUR).intervals(()).values()) == {WEEK}
    assert floored.tick == HOUR


def test_the_schedule_ticks_as_often_as_any_of_its_connections_may_be_polled() -> None:
    push: dict[str, Any] = {"sync_type": SyncType.PUSH, "webhook": WEBHOOK}
    assert policy(Tier.TEAM, **push).tick == HOUR, "for owners"
    assert policy(Tier.TEAM, **push, streams=(CONTACTS,)).tick == WEEK
    assert policy(Tier.TEAM, **push, streams=(CONTACTS,), configured=False).tick == HOUR
    assert policy(Tier.TEAM, **push, streams=(CONTACTS,), watch=WATCH).tick == HOUR, "if it is lost"


def test_what_the_operator_has_set_decides_whether_webhooks_work() -> None:
    secret = made_up(webhook=Webhook(events=lambda _: (), covers=(), verified_by="JWT_SECRET"))
    nothing_set, given = read(_env_file=None), read(_env_file=None, jwt_secret="x" * 32)
    assert unset(nothing_set, secret) == ["JWT_SECRET"]
    assert not PollPolicy.of(nothing_set, secret, Tier.TEAM).configured
    assert PollPolicy.of(given, secret, Tier.TEAM).configured
    watched = Webhook(events=lambda delivery: (), covers=())
    assert unset(nothing_set, made_up(webhook=watched, watch=WATCH)) == []
    needy = replace(WATCH, needs=("NEXTAUTH_URL",))
    assert unset(nothing_set, made_up(webhook=watched, watch=needy)) == ["NEXTAUTH_URL"]


def test_an_operator_may_change_cells_of_the_table() -> None:
    settings = read(_env_file=None, sync_intervals="TEAM.PULL=30m, FREE.PUSH = 2w,SOLO.HYBRID=6h")
    changed = {
        (Tier.TEAM, SyncType.PULL): 30 * MINUTE,
        (Tier.FREE, SyncType.PUSH): 2 * WEEK,
        (Tier.SOLO, SyncType.HYBRID): 6 * HOUR,
    }
    for tier, row in SYNC_INTERVALS.items():
        for kind, interval in row.items():
            assert settings.intervals[tier][kind] == changed.get((tier, kind), interval)
    assert read(_env_file=None).intervals == SYNC_INTERVALS
    assert settings.environment()["SYNC_INTERVALS"].startswith("TEAM.PULL=30m")


@pytest.mark.parametrize(
    "wrong",
    ["TEAM=1h", "GOLD.PULL=1h", "TEAM.NONE=1h", "TEAM.PULL=1", "TEAM.PULL=0m", "TEAM.PULL=53w"],
)
def test_a_cell_that_cannot_be_read_is_told_with_what_it_should_look_like(wrong: str) -> None:
    with pytest.raises(SettingsError, match=rf"^SYNC_INTERVALS: '{wrong}' (should look|is not)"):
        read(_env_file=None, sync_intervals=f"SOLO.PULL=1h,{wrong}")


def test_due_times_are_the_connections_own_and_stay_where_they_are() -> None:
    for tier in Tier:
        for connection_id in ids(20):
            plan = PollPlan(policy(tier), connection_id, shards=3)
            first = plan.next_due(NOW)
            assert NOW < first <= NOW + 2 * plan.interval
            for moment in (0 * MINUTE, 0.3 * plan.interval, plan.interval - MINUTE):
                assert plan.next_due(first + moment) == first + plan.interval
                assert plan.last_due("owners", first + moment) == first
            shard = shard_of(connection_id, 3)
            assert policy(tier).ticks(shard).last(first) == first, "it is a tick of its schedule"


@pytest.mark.parametrize(
    "intervals", ["", "TEAM.PULL=7m, TEAM.PUSH=50m", "TEAM.PULL=50m,TEAM.PUSH=7m"]
)
def test_every_stream_is_synced_once_in_its_interval_for_a_month(intervals: str) -> None:
    """The dispatcher's rules under a fake clock: each tick comes some seconds late."""
    table = read_intervals(intervals)
    chance = Random(5)
    for tier in Tier:
        pushed = policy(tier, sync_type=SyncType.PUSH, webhook=WEBHOOK, table=table, watch=WATCH)
        for connection_id in ids(1 if tier is Tier.ENTERPRISE else 5):
            plan = PollPlan(pushed, connection_id, watched=["all"])
            synced = dispatched(plan, chance)
            for stream, interval in plan.intervals.items():
                wanted = (30 * DAY) // interval
                assert wanted <= len(synced[stream]) <= wanted + 1, (tier, stream)
                gaps = [b - a for a, b in zip(synced[stream], synced[stream][1:], strict=False)]
                # A slot between two ticks waits for the second.
                slack = AHEAD + (timedelta(0) if not interval % pushed.tick else plan.interval)
                assert all(abs(gap - interval) <= slack for gap in gaps), (tier, stream)


def dispatched(plan: PollPlan, chance: Random) -> dict[str, list[datetime]]:
    """When each stream is synced in a month of ticks, by what the dispatcher does at each."""
    ticks = plan.policy.ticks()
    tick, due_at = ticks.first(EPOCH), EPOCH
    last: dict[str, datetime | None] = dict.fromkeys(plan.intervals, EPOCH)
    synced: dict[str, list[datetime]] = {stream: [] for stream in plan.intervals}
    while tick < EPOCH + 30 * DAY:
        # Of a run that starts early, too, since clocks differ.
        now = tick + chance.uniform(-0.1, 0.9) * AHEAD
        if due_at <= now + AHEAD:
            for stream in plan.due(now + AHEAD, last):
                synced[stream].append(now)
                last[stream] = now + AHEAD
            due_at = plan.next_due(now + AHEAD)
        tick = ticks.next(tick)
    return synced


def test_no_minute_of_a_month_has_twice_the_load_of_its_hour() -> None:
    """60,000 connections in 4 tiers and 20 integrations, as in `benchmarks`."""
    found = month(60_000, [f"made_up_{number:02}" for number in range(1, 21)])
    assert not found.off
    assert sum(found.minutes) == 15_000 * (1 + 7 + 7 * 24 + 7 * 24 * 12)
    assert found.worst <= 2


async def test_python_and_sql_agree_on_a_connections_shard(database: Database) -> None:
    stocked = [await stock(database, f"tenant-{number}") for number in range(8)]
    by_shard: dict[int, set[UUID]] = {}
    for shard in range(3):
        async with database.dispatching() as session:
            found = await session.scalars(select(Connection.id).where(in_shard(shard, 3)))
            by_shard[shard] = set(found)
    for one in stocked:
        assert one.connection_id in by_shard[shard_of(one.connection_id, 3)]
    assert sum(len(found) for found in by_shard.values()) == len(stocked)
