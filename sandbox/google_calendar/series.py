"""Recurring events and their instances, as far as the sandbox's own rules go.

Days and weeks, with INTERVAL, COUNT and UNTIL; all in UTC. RFC 5545 knows a lot more.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from sandbox.kernel.fields import without
from sandbox.kernel.values import Json

STEPS = {"DAILY": timedelta(days=1), "WEEKLY": timedelta(days=7)}
# A series without an end is shown this far.
HORIZON = timedelta(days=730)
INSTANCE = re.compile(r"(?P<series>.+)_(?P<start>\d{8}(?:T\d{6}Z)?)")


def moment(when: Json) -> datetime:
    """When an event starts or ends; a whole day does so at midnight."""
    if "date" in when:
        return datetime.combine(date.fromisoformat(when["date"]), datetime.min.time(), UTC)
    return datetime.fromisoformat(when["dateTime"]).astimezone(UTC)


def written(at: datetime, like: Json) -> Json:
    """A time in the form of another."""
    if "date" in like:
        return {"date": at.date().isoformat()}
    return {**like, "dateTime": at.strftime("%Y-%m-%dT%H:%M:%SZ")}


def starts(series: Json) -> Iterator[datetime]:
    """When each instance of a series starts by its rule."""
    rule = _rule(series)
    step = STEPS[rule["FREQ"]] * int(rule.get("INTERVAL", 1))
    start = moment(series["start"])
    until = start + HORIZON
    if "UNTIL" in rule:
        until = min(until, _compact(rule["UNTIL"]))
    left = int(rule.get("COUNT", 10_000))
    while start <= until and left:
        yield start
        start, left = start + step, left - 1


def instance_id(series: Json, start: datetime) -> str:
    return f"{series['id']}_{start.strftime('%Y%m%d' if _is_whole_day(series) else _COMPACT)}"


def instance(series: Json, start: datetime) -> Json:
    """An instance as it is without an exception."""
    length = moment(series["end"]) - moment(series["start"])
    kept = without(series, "recurrence")
    return {
        **kept,
        "id": instance_id(series, start),
        "start": written(start, series["start"]),
        "end": written(start + length, series["end"]),
        "recurringEventId": series["id"],
        "originalStartTime": written(start, series["start"]),
    }


def instance_of(items: dict[str, Json], id_: str) -> Json | None:
    """The instance of that id, by the rule of a series of these events."""
    named = INSTANCE.fullmatch(id_)
    series = items.get(named["series"]) if named else None
    if named is None or series is None or "recurrence" not in series:
        return None
    start = _compact(named["start"])
    return instance(series, start) if start in starts(series) else None


_COMPACT = "%Y%m%dT%H%M%SZ"


def _is_whole_day(event: Json) -> bool:
    return "date" in event["start"]


def _compact(text: str) -> datetime:
    return datetime.strptime(text, _COMPACT if "T" in text else "%Y%m%d").replace(tzinfo=UTC)


def _rule(series: Json) -> dict[str, str]:
    (line,) = (line for line in series["recurrence"] if line.startswith("RRULE:"))
    pairs = (part.partition("=") for part in line.removeprefix("RRULE:").split(";"))
    return {name: value for name, _, value in pairs}
