"""What public bug reports of programs like this one taught, asked of every stream.

There is no line here for any one of them; docs/connectors.md tells what is proven how.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module

import pytest

from connectors import Connector, Stream
from flows._batches import Outcome
from tests._conformance import Bench, Tried
from tests._conformance_which import FEW, MEDIUM, SMALL, Of, readers

# What is put into the place of a record's content, so that it must be read again.
BLANK = "{}"
GHOST = "no-such-record"


# Streams of which each look reads the newest part whole, since no delta tells of edits: what it
# costs grows with that part, and what drifted in it is right again before an audit counts it.
READ_AGAIN = {
    "slack.thread_replies": "an edited reply changes nothing in its thread: threads of the last "
    "week are read again at each look",
    "ms_teams.channels": "no delta tells of channels: each look lists those of every team",
}


@dataclass
class Rest:
    """A stream that was read and followed, and then looked at with nothing new."""

    tried: Tried
    stream: Stream
    idle: Outcome = field(default_factory=Outcome)
    before: dict[str, tuple[str, bool]] = field(default_factory=dict)
    after: dict[str, tuple[str, bool]] = field(default_factory=dict)
    requests: int = 0


@pytest.fixture(scope="module", params=readers())
async def rest(request: pytest.FixtureRequest, bench: Bench) -> Rest:
    connector, stream = request.param
    tried = await bench.connect(connector, size=SMALL)
    await settle(tried, stream)
    rest = Rest(tried, stream, before=tried.written(stream))
    rest.idle = await tried.sync(stream)
    rest.requests = bench.line.asked - bench.line.limited
    rest.after = tried.written(stream)
    return rest


def named(rest: Rest) -> str:
    return f"{rest.tried.connector.name}.{rest.stream.name}"


async def settle(tried: Tried, stream: Stream) -> None:
    """Reads, changes and follows it until there is nothing new."""
    assert not await tried.follow(stream)
    tried.change(FEW)
    assert not await tried.follow(stream)
    tried.bench.clock.advance(timedelta(days=1))
    outcome = await tried.sync(stream)
    assert outcome.error is None, outcome.error


def test_a_look_that_finds_nothing_new_writes_no_row(rest: Rest) -> None:
    assert rest.idle.error is None
    assert rest.after == rest.before


async def test_a_look_that_finds_nothing_new_costs_the_same_whatever_is_stored_and_was_deleted(
    rest: Rest, bench: Bench
) -> None:
    if named(rest) in READ_AGAIN:
        pytest.skip(READ_AGAIN[named(rest)])
    large = await bench.connect(rest.tried.connector, size=MEDIUM)
    await settle(large, rest.stream)
    await large.sync(rest.stream)
    # Of parts, such as calendars, an account has as many as it happens to have: a call for each.
    more = await parts_of(large, rest.stream) - await parts_of(rest.tried, rest.stream)
    assert bench.line.asked - bench.line.limited <= rest.requests + 1 + max(0, more)


async def parts_of(tried: Tried, stream: Stream) -> int:
    return len((await tried.saved(stream)).get("parts", ()))


# -- Checked against what the vendor lists -------------------------------------------------------


# Whose listing shows ids, and no version: what a stored row says is not checked.
IDS_ONLY = {("gmail", "messages"), ("outlook", "messages"), ("outlook", "events")}


async def test_an_audit_finds_what_drifted_and_puts_it_right(rest: Rest) -> None:
    tried, stream = rest.tried, rest.stream
    if named(rest) in READ_AGAIN:
        pytest.skip(READ_AGAIN[named(rest)])
    checks_rows = (tried.connector.name, stream.name) not in IDS_ONLY
    if stream.append_only:
        pytest.skip("what is only ever added to may not be shown by the vendor any more")
    keys = sorted(tried.stored(stream))
    if len(keys) < 2 and stream.snapshot:
        pytest.skip("this account has too few of them")
    lost, changed = keys[0], keys[1]
    tried.tamper(stream, "DELETE FROM records WHERE record_id = %s AND", lost)
    if checks_rows:
        tried.tamper(
            stream,
            "UPDATE records SET data = '{}', content_hash = '', version = version - 1,"
            " observed_at = observed_at - interval '400 days' WHERE record_id = %s AND",
            changed,
        )
    tried.tamper(
        stream,
        "INSERT INTO records (connection_id, record_id, stream, tenant_id, data, version,"
        " observed_at, content_hash) SELECT connection_id, %s, stream, tenant_id, data, version,"
        " observed_at - interval '400 days', content_hash FROM records WHERE record_id = %s AND",
        GHOST,
        changed,
    )
    found = await tried.audit(stream)
    assert not tried.difference(stream)
    if not stream.snapshot:  # each read of a snapshot is a check of it
        assert (found.missing, found.stale, found.extra) == (1, int(checks_rows), 1)


async def test_an_audit_of_what_is_right_finds_nothing(rest: Rest) -> None:
    if rest.stream.from_now_on:
        pytest.skip("there is nothing to check it against")
    found = await rest.tried.audit(rest.stream)
    assert found.drift == 0
    assert found.ended_at is not None


# -- Fields that come from now on ----------------------------------------------------------------


async def test_fields_that_come_from_now_on_are_filled_into_older_rows(rest: Rest) -> None:
    tried, stream = rest.tried, rest.stream
    if named(rest) in READ_AGAIN:
        pytest.skip(READ_AGAIN[named(rest)])
    if stream.snapshot or stream.append_only:
        pytest.skip("it is read whole each time, or its older records are not shown any more")
    tried.tamper(stream, "UPDATE records SET data = '{}', content_hash = '' WHERE")
    await tried.sync(stream)
    blank = [key for key, data in tried.stored(stream).items() if data == {}]
    tried.bench.sql.execute(
        "UPDATE checkpoints SET shape = 'former', refill = NULL WHERE connection_id = %s"
        " AND stream = %s",
        (tried.connection.id, stream.name),
    )
    await tried.sync(stream)  # notices that its fields are others
    await tried.sync(stream)
    assert blank
    assert not tried.difference(stream, deletes=False)


# -- A listing that leads in a circle ------------------------------------------------------------


async def test_a_listing_that_leads_in_a_circle_ends(
    rest: Rest, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await bench.connect(rest.tried.connector, size=MEDIUM)
    calls = 0

    def count(number: int) -> None:
        nonlocal calls
        calls = number
        assert number < 3_000, "it is followed without end"

    monkeypatch.setattr(bench.line, "circles", True, raising=False)
    outcome = await tried.sync(rest.stream, before=count)
    monkeypatch.setattr(bench.line, "circles", False)
    # Nobody has to act but us; and once the vendor's listing is right again, so are we.
    assert outcome.failure.value != "broken"
    bench.clock.advance(timedelta(days=2))
    for _ in range(5):
        # The line has given answers to other questions: what was stored of them is read again.
        if not (problem := await tried.follow(rest.stream, full=not rest.stream.append_only)):
            break
        bench.clock.advance(timedelta(days=2))
    assert not problem


# -- One part that fails, and what is only no longer shown ---------------------------------------


def controlled(name: str) -> object:
    def has(connector: Connector, stream: Stream) -> bool:
        return name in import_module(f"sandbox.{connector.name}").vendor.controls

    return pytest.mark.parametrize("of", readers(has))


@controlled("refuse_part")  # type: ignore[operator]
async def test_a_part_that_is_refused_keeps_its_records_and_the_others_are_read(
    of: Of, bench: Bench
) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    assert not await tried.follow(stream)
    refused = tried.order("refuse_part", stream=stream.name, on=True)
    kept = refused["keys"]
    if not kept:
        pytest.skip("it has no parts, or this account has none that may be refused")
    before = tried.stored(stream)
    tried.change(FEW)
    for full in (False, True):
        outcome = await tried.sync(stream, full=full)
        stored = tried.stored(stream)
        assert {key: stored.get(key) for key in kept} == {key: before[key] for key in kept}
        owed = {
            key: data
            for key, data in tried.vendor(stream).items()
            if key not in kept and not key.startswith(refused["part"])
        }
        assert {key: stored.get(key) for key in owed} == owed
        assert outcome.unread or outcome.error
        assert tried.status() == "active"
    tried.order("refuse_part", stream=stream.name, on=False)
    bench.clock.advance(timedelta(days=2))
    assert not await tried.follow(stream)


@controlled("hide")  # type: ignore[operator]
async def test_what_is_no_longer_shown_is_found_by_an_audit(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    assert not await tried.follow(stream)
    hidden = set(tried.order("hide", stream=stream.name)["keys"])
    if not hidden:
        pytest.skip("nothing of it can be hidden")
    await tried.audit(stream)
    live = set(tried.stored(stream))
    assert hidden <= live if stream.keeps_hidden else not hidden & live


@controlled("lag")  # type: ignore[operator]
async def test_a_change_that_shows_half_an_hour_late_is_found(of: Of, bench: Bench) -> None:
    connector, stream = of
    tried = await bench.connect(connector, size=SMALL)
    assert not await tried.follow(stream)
    tried.order("lag", seconds=1_800)
    tried.change(FEW)
    for _ in range(12):  # as a poll every ten minutes
        bench.clock.advance(timedelta(minutes=10))
        await tried.sync(stream)
    tried.order("lag", seconds=0)
    assert not tried.difference(stream, deletes=not stream.hides_deletes)
