"""Deltas by time: where they begin, so that what a vendor shows late is found as well.

A vendor stamps a change with one time and shows it at another: some seconds later as a rule, up to
an hour later when its search index lags. So there are two looks. The fresh one begins a few minutes
before the last look did. The late one, now and then in its place, begins as long ago as the vendor
may lag. What they read twice is not written twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kernel.messages import Checkpoint

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Looks:
    """`overlap` is how far a fresh look goes back before the last one, `lag` how late a change may
    show, `every` how often there is a late look."""

    overlap: timedelta = timedelta(minutes=5)
    lag: timedelta = timedelta(hours=1)
    every: timedelta = timedelta(minutes=30)

    def begin(self, at: Mapping[str, Any], now: datetime) -> "Look":
        """The look that is under way, or where the next one begins, by the checkpoint.

        `now` is by the vendor's clock, or by one that is behind it: see `vendor_time`.
        """
        if is_under_way(at):
            return Look.resumed(at)
        if "looked" not in at:
            return Look(None, now, now)
        looked = min(_time(at["looked"]), now)  # a clock that was put back
        late = min(_time(at["late"]), now) if "late" in at else None
        if late is None or now - late >= self.every:
            since = min(looked - self.overlap, (late or looked) - self.lag)
            return Look(since, now, now)
        return Look(looked - self.overlap, now, late)


@dataclass(frozen=True)
class Look:
    """One look: all that changed from `since` on is to be read; None is everything.

    `checkpoint` is what the next look needs, saved once this one was read to its end.
    """

    since: datetime | None
    looked: datetime
    late: datetime

    @property
    def checkpoint(self) -> dict[str, str]:
        return {"looked": self.looked.isoformat(), "late": self.late.isoformat()}

    @classmethod
    def resumed(cls, at: Mapping[str, Any]) -> "Look":
        """The look that was under way, from what `saved` put into the checkpoint."""
        since = _time(at["since"]) if at.get("since") else None
        return cls(since, _time(at["looking"]), _time(at["late_looking"]))

    @property
    def saved(self) -> dict[str, str | None]:
        """This look while it is under way."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "looking": self.looked.isoformat(),
            "late_looking": self.late.isoformat(),
        }


def is_under_way(at: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is one of a look that has not come to its end."""
    return "looking" in at


def has_looked(at: Mapping[str, Any]) -> bool:
    """Whether there was a look before: without one, everything is to be read."""
    return "looked" in at or is_under_way(at)


def looked_until(at: datetime) -> Checkpoint:
    """The checkpoint by which all that changed since then is read."""
    return Checkpoint(looked=at.isoformat())


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
