"""Where deltas by time begin: a fresh look each time, a late one now and then."""

from datetime import UTC, datetime, timedelta

import pytest

from connectors import Response
from connectors.kernel.looks import Look, Looks
from connectors.kernel.statuses import retry_after, vendor_time, wait_in_words
from tests._driving import NOW, response

LOOKS = Looks()
MINUTE = timedelta(minutes=1)


def follow(lag: timedelta, *, every: timedelta = 5 * MINUTE, skew: timedelta = timedelta()) -> bool:
    """Whether a change that shows so much later is found by polls of three hours; `skew` is how far
    our own clock runs ahead of the vendor's, whose time is what looks are given."""
    made = NOW + timedelta(seconds=30)
    at: dict[str, str] = dict(LOOKS.begin({}, NOW).checkpoint)
    now = NOW
    while now < NOW + timedelta(hours=3):
        now += every
        look = LOOKS.begin(at, now)
        if now >= made + lag and look.since is not None and look.since <= made:
            return True
        at = look.checkpoint
    return False


@pytest.mark.parametrize("minutes", [0, 4, 20, 45, 59])
def test_a_change_that_shows_up_to_an_hour_late_is_found(minutes: int) -> None:
    assert follow(minutes * MINUTE)
    assert follow(minutes * MINUTE, every=timedelta(hours=1))


def test_most_looks_are_fresh() -> None:
    at, backs = LOOKS.begin({}, NOW).checkpoint, []
    for n in range(1, 13):
        now = NOW + n * 5 * MINUTE
        look = LOOKS.begin(at, now)
        assert look.since is not None
        backs.append(now - look.since)
        at = look.checkpoint
    assert sorted(set(backs))[0] == 10 * MINUTE, "five minutes and the overlap"
    assert sum(back > timedelta(hours=1) for back in backs) == 2


def test_a_first_look_is_at_everything_and_a_clock_that_was_put_back_skips_nothing() -> None:
    first = LOOKS.begin({}, NOW)
    assert first.since is None
    earlier = NOW - timedelta(hours=2)
    again = LOOKS.begin(first.checkpoint, earlier)
    assert again.since is not None
    assert again.since <= earlier


def test_a_look_that_was_interrupted_goes_on_as_the_same() -> None:
    look = LOOKS.begin(LOOKS.begin({}, NOW).checkpoint, NOW + 5 * MINUTE)
    assert Look.resumed(look.saved) == look
    first = LOOKS.begin({}, NOW)
    assert Look.resumed(first.saved) == first


def test_the_vendors_clock_is_the_one_that_it_names() -> None:
    date = {"date": "Sun, 01 Nov 2026 11:00:00 GMT"}
    assert vendor_time(response({}, headers=date)) == datetime(2026, 11, 1, 11, tzinfo=UTC)
    assert vendor_time(response({}, headers={"date": "soon"})) == NOW
    assert vendor_time(response({})) == NOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("User-rate limit exceeded.  Retry after 2026-11-01T12:15:00.000Z", 900),
        ("Please retry after 2026-11-01 12:00:30", 30),
        ("Too many requests, try again in 30 seconds", 30),
        ("wait 5 min before the next call", 300),
        ("retry in 1500 ms", 1.5),
        ("Retry after 2026-11-01T11:00:00Z", 0),
        ("retry after 99999999 hours", 0),
        ("nothing of the kind", 0),
        (None, 0),
        ({"not": "text"}, 0),
    ],
)
def test_how_long_to_wait_is_read_from_words(text: object, seconds: float) -> None:
    assert wait_in_words(text, response({})) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["-5", "nan", "inf", "1e400", "soon", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_makes_no_sense_does_not_stop_anything(value: str) -> None:
    found: Response = response({}, 429, {"retry-after": value})
    wait = retry_after(found, NOW)
    assert wait is None or timedelta() <= wait <= timedelta(days=1)
