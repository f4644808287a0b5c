"""How far each tier may be behind its vendors: the table, and what an operator changes in it."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TypeAlias

from connectors import SyncType
from storage.models import Tier

WEEKLY = timedelta(weeks=1)
DAILY = timedelta(days=1)
HOURLY = timedelta(hours=1)
EVERY_15_MINUTES = timedelta(minutes=15)
REAL_TIME = timedelta(minutes=5)

# How far a tier's connections may be behind the vendor, by how its changes reach us.
Intervals: TypeAlias = Mapping[Tier, Mapping[SyncType, timedelta]]

# A stream that no event covers counts as PULL whatever its connector says. The polls of PUSH are a
# backup: vendors drop webhooks without a word.
SYNC_INTERVALS: Intervals = MappingProxyType(
    {
        Tier.FREE: {SyncType.PULL: WEEKLY, SyncType.HYBRID: WEEKLY, SyncType.PUSH: WEEKLY},
        Tier.SOLO: {SyncType.PULL: DAILY, SyncType.HYBRID: DAILY, SyncType.PUSH: WEEKLY},
        Tier.TEAM: {SyncType.PULL: HOURLY, SyncType.HYBRID: HOURLY, SyncType.PUSH: WEEKLY},
        Tier.ENTERPRISE: {
            SyncType.PULL: REAL_TIME,
            SyncType.HYBRID: EVERY_15_MINUTES,
            SyncType.PUSH: HOURLY,
        },
    }
)
# No feed is believed for ever: so often every stream is checked against what the vendor lists.
AUDIT_INTERVAL = timedelta(days=30)
AUDIT = "audit"
_KINDS = (*SYNC_INTERVALS[Tier.FREE], AUDIT)
SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(weeks=52)
_CELL = re.compile(r"([A-Z]+)\.([A-Z]+)\s*=\s*([1-9]\d{0,5})([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def read_intervals(text: str) -> Intervals:
    """The table with the cells that an operator has changed: `TEAM.PULL=30m, FREE.PUSH=2w`.

    ValueError says what a wrong one should look like.
    """
    table = {tier: dict(row) for tier, row in SYNC_INTERVALS.items()}
    for tier, kind, interval in _cells(text):
        if kind != AUDIT:
            table[tier][SyncType(kind)] = interval
    return table


def read_audit_intervals(text: str) -> Mapping[Tier, timedelta]:
    """How often each tier's streams are checked against what the vendor lists: `TEAM.AUDIT=2w`."""
    changed = {tier: interval for tier, kind, interval in _cells(text) if kind == AUDIT}
    return {tier: changed.get(tier, AUDIT_INTERVAL) for tier in Tier}


def _cells(text: str) -> Iterator[tuple[Tier, str, timedelta]]:
    for cell in filter(None, (part.strip() for part in text.split(","))):
        found = _CELL.fullmatch(cell)
        tier, kind = (found[1], found[2].lower()) if found else ("", "")
        if found is None or tier not in SYNC_INTERVALS or kind not in _KINDS:
            raise ValueError(
                f"{cell!r} should look like TEAM.PULL=30m: one of {', '.join(Tier)}, then PULL,"
                " HYBRID, PUSH or AUDIT, then a number of minutes, hours, days or weeks"
                " (m, h, d, w)"
            )
        interval = int(found[3]) * _UNITS[found[4]]
        if not SHORTEST <= interval <= LONGEST:
            raise ValueError(f"{cell!r} is not between a minute and 52 weeks")
        yield Tier(tier), kind, interval


def in_words(interval: timedelta) -> str:
    """`hourly`, `every 15 minutes`: an interval as people say it."""
    for word, unit in (("weekly", WEEKLY), ("daily", DAILY), ("hourly", HOURLY)):
        if interval == unit:
            return word
    for name, unit in (("weeks", WEEKLY), ("days", DAILY), ("hours", HOURLY)):
        if not interval % unit:
            return f"every {interval // unit} {name}"
    minutes = interval / timedelta(minutes=1)
    return "every minute" if minutes == 1 else f"every {minutes:g} minutes"
