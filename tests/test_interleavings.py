"""Webhooks, polls, deletions and repeats over the same records: whatever the order, one end.

The source is played; the inbox's rule of when an event was true, and the merge, are the real ones.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Effect
from storage import records
from storage.database import Database
from storage.inbox import Taken
from tests._stored import START, STREAM, Stocked, row, stock, stored, write, write_in

KEYS = ("a", "b", "c")
STEP = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    # Which of those under way arrives, by its place; and whether it comes once more later.
    st.tuples(st.just("deliver"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("ask"), st.booleans()),
    st.tuples(st.just("read"), st.integers(0, 9)),
)


@dataclass
class Source:
    """A vendor's records, what it has told us of and is still on its way, and reads under way.

    With `versions` a record has a counter that only grows; without, only times order writes.
    """

    versions: bool
    now: int = 0
    live: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    under_way: list[tuple[str, int | None, int]] = field(default_factory=list)
    asked: list[tuple[int, dict[str, int], frozenset[str]]] = field(default_factory=list)

    def tick(self) -> int:
        self.now += 1
        return self.now

    def change(self, key: str) -> None:
        self.last[key] = self.live[key] = self.last.get(key, 0) + 1
        self.under_way.append((key, self.live[key], self.tick()))

    def delete(self, key: str) -> None:
        if self.live.pop(key, None) is not None:
            self.under_way.append((key, None, self.tick()))

    def ask(self, *, tells_deletes: bool) -> None:
        """A read is sent: its answer shows this moment, whenever it comes."""
        gone = frozenset(self.last.keys() - self.live.keys()) if tells_deletes else frozenset()
        self.asked.append((self.tick(), dict(self.live), gone))


def at(tick: int) -> datetime:
    return START + timedelta(seconds=tick)


def of_event(source: Source, key: str, content: int | None, happened: int) -> records.Row:
    """As an event is applied: true when it happened, never later than it came."""
    event = Taken(
        id=1, type="t", effect=Effect.RECORD, streams=("s",), key=key, watch_id="", record=None,
        at=at(happened), received_at=at(source.tick()), attempts=1,
    )  # fmt: skip
    seconds = (event.observed_at - START).total_seconds()
    version = content if source.versions and content is not None else None
    return row(key, content, seconds=seconds, version=version, deleted=content is None)


def of_read(
    source: Source, sent: int, live: dict[str, int], gone: frozenset[str]
) -> list[records.Row]:
    """As a page is stored: true when its request was sent."""
    rows = [
        row(key, content, seconds=sent, version=content if source.versions else None)
        for key, content in live.items()
    ]
    return rows + [row(key, seconds=sent, deleted=True) for key in gone]


async def play(
    session: AsyncSession, stocked: Stocked, source: Source, steps: list[tuple[object, ...]]
) -> None:
    for step in steps:
        match step:
            case ("change", str(key)):
                source.change(key)
            case ("delete", str(key)):
                source.delete(key)
            case ("ask", bool(tells_deletes)):
                source.ask(tells_deletes=tells_deletes)
            case ("deliver", int(place), bool(again)) if source.under_way:
                event = source.under_way.pop(place % len(source.under_way))
                await write_in(session, stocked, [of_event(source, *event)])
                if again:
                    source.under_way.append(event)
            case ("read", int(place)) if source.asked:
                answer = source.asked.pop(place % len(source.asked))
                await write_in(session, stocked, of_read(source, *answer))


ANY_ORDER = given(
    steps=st.lists(STEP, max_size=30),
    versions=st.booleans(),
    last=st.randoms(use_true_random=False),
)


@ANY_ORDER
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_the_order_the_tables_end_as_the_source(
    database: Database, steps: list[tuple[object, ...]], versions: bool, last: object
) -> None:
    await end_as_the_source(database, steps, versions, last)


@pytest.mark.thorough
@pytest.mark.timeout(1_800)
@ANY_ORDER
@settings(
    max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_ten_thousand_orders_end_as_the_source(
    database: Database, steps: list[tuple[object, ...]], versions: bool, last: object
) -> None:
    await end_as_the_source(database, steps, versions, last)


async def test_what_happened_before_a_deletion_and_comes_after_it_does_not_bring_a_record_back(
    database: Database,
) -> None:
    """A record of version 5 is deleted by an event without a version; then version 6 arrives."""
    stocked = await stock(database)
    await write(database, stocked, [row("a", 5, version=5, seconds=5)])
    await write(database, stocked, [row("a", seconds=7, deleted=True)])
    await write(database, stocked, [row("a", 6, version=6, seconds=6)])
    assert await stored(database, stocked) == {}
    await write(database, stocked, [row("a", 8, version=8, seconds=8)])
    assert await stored(database, stocked) == {"a": 8}, "it was restored"


async def test_a_page_that_was_read_before_a_deletion_and_is_stored_after_it_changes_nothing(
    database: Database,
) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("a", 4, version=4, seconds=4)])
    page = [row("a", 5, version=5, seconds=6)]  # a sync has read it, and commits it later
    await write(database, stocked, [row("a", seconds=7, deleted=True)])
    async with database.transaction(stocked.tenant_id) as session:
        await records.write(session, stream=STREAM, rows=page, quiet=True, **stocked.ids)
    assert await stored(database, stocked) == {}


async def end_as_the_source(
    database: Database, steps: list[tuple[object, ...]], versions: bool, last: object
) -> None:
    """Plays the steps, then all that is under way, in an order that `last` draws."""
    stocked = await stock(database)
    source = Source(versions)
    # One transaction: what is tried is the merge, and each commit would take longer than that.
    async with database.transaction(stocked.tenant_id) as session:
        await play(session, stocked, source, steps)
        # All that is under way arrives in the end, in some order.
        rest: list[tuple[object, ...]] = [
            ("deliver", n, False) for n in range(len(source.under_way))
        ]
        rest += [("read", n) for n in range(len(source.asked))]
        last.shuffle(rest)  # type: ignore[attr-defined]
        await play(session, stocked, source, rest)
    assert await stored(database, stocked) == source.live
