"""What a data engineer finds on a tier's artifact page: what ran, what was left out, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect.artifacts import acreate_table_artifact

from storage import Status
from storage.due import Claim, Scope
from storage.freshness import Promise
from storage.models import Failure

# What became of a connection that was due, as the summary names it.
SYNCED, FAILED = "synced", "failed"
FRESH, LEASED = "synced since they were due", "being synced by another run"
RELEASED = "given back"
UNWELL = "put off by the database"
RESTING = {
    Status.PAUSED: "paused",
    Status.NEEDS_REAUTH: "waiting for their tenant",
    Status.REVOKED: "revoked",
}
# What is wrong comes first: a longer table is not read, and every run has a page of its own.
SHOWN = 200
_ORDER = (FAILED, UNWELL, RELEASED, LEASED, SYNCED, FRESH)
_SUMMARY_ORDER = (SYNCED, FAILED, UNWELL, RELEASED, LEASED, FRESH)


@dataclass(frozen=True)
class Outcome:
    """A connection that was due, and what became of it."""

    claim: Claim
    what: str
    why: str = ""
    failure: Failure | None = None


def summary(lines: Sequence[Outcome], resting: Mapping[Status, int]) -> str:
    """`42 synced; 3 failed; 2 paused`."""
    counts = Counter(line.what for line in lines)
    counted = [f"{counts[what]:,} {what}" for what in _SUMMARY_ORDER if counts[what]]
    counted += [f"{count:,} {RESTING.get(status, status)}" for status, count in resting.items()]
    return "; ".join(counted) or "nothing is due"


async def publish(
    scope: Scope,
    lines: Sequence[Outcome],
    resting: Mapping[Status, int],
    kept: Sequence[Promise],
    *,
    now: datetime,
    over: str = "",
) -> None:
    """The newest version stands; those of earlier runs are found through it."""
    shown = sorted(lines, key=lambda line: (_ORDER.index(line.what), line.claim.due_at))[:SHOWN]
    notes = [f"**{scope}**: {summary(lines, resting)}.", freshness_sentence(kept)]
    if over:
        notes.insert(1, f"It ended early: {over}.")
    if len(lines) > SHOWN:
        notes.append(f"The table shows {SHOWN} of {len(lines):,}.")
    await acreate_table_artifact(
        key=key_of(scope),
        description="\n\n".join(notes),
        table=[
            {
                "connection": str(line.claim.connection),
                "account": line.claim.connection.account_id,
                "outcome": line.what,
                "was due": f"{spoken(now - line.claim.due_at)} ago",
                "reason": line.why,
            }
            for line in shown
        ]
        or [{"connection": "none was due", "outcome": summary(lines, resting)}],
    )


def key_of(scope: Scope) -> str:
    """An artifact's key has a-z, 0-9 and dashes."""
    shard = f"-{scope.shard + 1}-of-{scope.shards}" if scope.shards > 1 else ""
    return f"sync-tier-{scope.integration}-{scope.tier}{shard}".lower().replace("_", "-")


def freshness_sentence(kept: Sequence[Promise]) -> str:
    """`Freshness: 950 of 960 streams are in time; 10 late: 7 vendor limit (3 h at worst), …`."""
    streams = sum(one.streams for one in kept)
    late = [one for one in kept if one.reason is not None]
    in_time = streams - sum(one.streams for one in late)
    reasons = ", ".join(
        f"{one.streams:,} {one.reason} ({spoken(one.worst)} old at worst)" for one in late
    )
    sentence = f"Freshness against the tier: {in_time:,} of {streams:,} streams are in time"
    return f"{sentence}; late are {reasons}." if reasons else f"{sentence}."


def spoken(age: timedelta) -> str:
    """`3 d`, `2 h`, `5 min`, `20 s`."""
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "min"):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
