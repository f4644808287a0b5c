"""Why a connection syncs as often as it does, and when it will next: for people."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors import SyncType
from deployments.tiers import PollPlan, PollPolicy, shards_of
from integrations import load
from settings import Settings
from settings.intervals import in_words
from settings.webhooks import unset
from storage import Status, checkpoints, feeds, gaps, schedules
from storage.connections import Connection
from storage.database import Database
from storage.schedules import Timing


@dataclass(frozen=True)
class Explained:
    """How often each stream is polled and why, when that is next, whether webhooks work, and in
    which times we may have missed changes. `feed` is there where its tenant wants us to listen.
    `unread`, `refused` and `refills` say what of the streams is not there yet; see
    `storage.checkpoints`.

    `next_at` is a tick of its schedule; None while it is not synced at all. `webhooks` is the end
    of a sentence.
    """

    connection: Connection
    intervals: Mapping[str, timedelta]
    because: Mapping[str, str]
    due_at: datetime | None
    next_at: datetime | None
    covered_streams: frozenset[str]
    webhooks: str
    watched_until: datetime | None
    open_gaps: Sequence[gaps.Open]
    feed: feeds.State | None
    unread: Mapping[str, Sequence[Mapping[str, str]]]
    refused: Mapping[str, checkpoints.Saved]
    refills: Sequence[str]

    def lines(self, now: datetime) -> Iterator[str]:
        """`hourly, because TEAM and PULL`, and so on."""
        reasons: dict[str, list[str]] = {}
        for stream, interval in self.intervals.items():
            why = f"{in_words(interval)}, because {self.because[stream]}"
            reasons.setdefault(why, []).append(stream)
        if len(reasons) > 1:
            yield from (f"{', '.join(streams)}: {why}" for why, streams in reasons.items())
        else:
            yield from reasons
        yield f"next {self._next(now)}"
        yield f"webhooks: {self.webhooks}"
        if self.feed is not None:
            yield f"listening: {self._listening(self.feed, now)}"
        yield from self._gaps(now)
        for stream, parts in self.unread.items():
            yield from (f"{stream}: {one['part']} cannot be read: {one['error']}" for one in parts)
        for stream, saved in self.refused.items():
            again = self._again(saved.refused_until, now)
            yield f"{stream} is refused, and asked for again {again}: {saved.refusal}"
        if self.refills:
            yield f"older rows are given the fields that they lack: {', '.join(self.refills)}"

    def _gaps(self, now: datetime) -> Iterator[str]:
        """A line for all that have the same reason."""
        alike: dict[tuple[str, tuple[str, ...]], list[gaps.Open]] = {}
        for gap in self.open_gaps:
            alike.setdefault((gap.reason, gap.streams), []).append(gap)
        for (reason, streams), found in alike.items():
            count = "a gap" if len(found) == 1 else f"{len(found):,} gaps"
            since, until = min(gap.since for gap in found), max(gap.until for gap in found)
            yield (
                f"{count} from {in_utc(since, now)} to {in_utc(until, now)}, not read again yet:"
                f" {reason} ({', '.join(streams)})"
            )

    def _listening(self, feed: feeds.State, now: datetime) -> str:
        if feed.reason:
            return f"no, {feed.reason}; tried again at {in_utc(feed.due_at, now)}"
        heard = f", last heard at {in_utc(feed.heard_at, now)}" if feed.heard_at else ""
        return f"yes{heard}" if feed.is_listening else f"not now{heard}"

    def _next(self, now: datetime) -> str:
        if self.connection.status is not Status.ACTIVE:
            return f"not while it is {self.connection.status}"
        if self.next_at is None:
            return "is not known: nothing has made it due"
        late = self.due_at is not None and self.due_at < now
        since = f", it is due since {in_utc(self.due_at, now)}" if late and self.due_at else ""
        return f"at {in_utc(self.next_at, now)}{since}"

    def _again(self, until: datetime | None, now: datetime) -> str:
        return f"at {in_utc(until, now)}" if until and until > now else "by the next sync"

    def as_json(self) -> dict[str, Any]:
        return {
            "tenant": self.connection.tenant_slug,
            "integration": self.connection.integration,
            "account": self.connection.account_id,
            "tier": self.connection.tier,
            "status": self.connection.status,
            "streams": [
                {
                    "stream": stream,
                    "interval_seconds": int(interval.total_seconds()),
                    "because": self.because[stream],
                }
                for stream, interval in self.intervals.items()
            ],
            "due_at": self.due_at,
            "next_at": self.next_at,
            "webhooks": {
                "streams": sorted(self.covered_streams),
                "state": self.webhooks,
                "valid_until": self.watched_until,
            },
            "feed": asdict(self.feed) if self.feed else None,
            "gaps": [
                {
                    "since": gap.since,
                    "until": gap.until,
                    "streams": list(gap.streams),
                    "reason": gap.reason,
                }
                for gap in self.open_gaps
            ],
            "unread": {stream: list(parts) for stream, parts in self.unread.items()},
            "refused": {
                stream: {"reason": saved.refusal, "until": saved.refused_until}
                for stream, saved in self.refused.items()
            },
            "refills": list(self.refills),
        }


async def explain(
    settings: Settings, database: Database, connection: Connection, now: datetime
) -> Explained:
    """What a connection's tier, kind, floor and webhooks make of it."""
    connector = load(connection.integration)
    if not connector.streams:
        raise LookupError(f"{connector.title} has no streams: nothing of it is synced")
    policy = PollPolicy.of(settings, connector, connection.tier)
    timing = await schedules.timing(database, connection)
    size = await schedules.group_size(database, connection.integration, connection.tier)
    plan = PollPlan(policy, connection.id, tuple(timing.watches), shards_of(size))
    covered = policy.covered_streams(plan.watched)
    ends = [until for until in timing.watches.values() if until is not None]
    due = timing.next_due_at
    active = connection.status is Status.ACTIVE
    async with database.transaction(connection.tenant_id) as session:
        saved = await checkpoints.load(session, connection.id)
    return Explained(
        connection=connection,
        intervals=plan.intervals,
        because={stream: because(policy, stream, covered) for stream in plan.intervals},
        due_at=due,
        next_at=plan.ticks.first(max(due, now)) if due is not None and active else None,
        covered_streams=covered,
        webhooks=_webhooks(settings, policy, timing, now),
        watched_until=min(ends, default=None),
        open_gaps=await gaps.of_connection(database, connection.id),
        feed=await feeds.state(database, connection.id),
        unread={name: one.unread for name, one in sorted(saved.items()) if one.unread},
        refused={name: one for name, one in sorted(saved.items()) if one.refusal is not None},
        refills=sorted(name for name, one in saved.items() if one.refill is not None),
    )


def because(policy: PollPolicy, stream: str, covered_streams: Collection[str]) -> str:
    """Why a stream is polled as often as it is, by a connection whose webhooks cover these."""
    connector, tier = policy.connector, policy.tier
    kind = connector.sync_type if stream in covered_streams else SyncType.PULL
    asked = policy.table[tier][kind]
    if asked < connector.floor:
        return f"{connector.title} allows no more ({tier} would have it {in_words(asked)})"
    if stream in covered_streams or connector.sync_type is SyncType.PULL:
        return f"{tier} and {kind.upper()}"
    covered = connector.webhook.covers if connector.webhook else ()
    why = "its webhooks do not work now" if stream in covered else "no webhook covers it"
    return f"{tier} and {why}"


def _webhooks(settings: Settings, policy: PollPolicy, timing: Timing, now: datetime) -> str:
    connector = policy.connector
    if connector.webhook is None:
        return f"no, there are none for {connector.title}"
    if missing := unset(settings, connector):
        return f"no, {' and '.join(missing)} is not set"
    if connector.watch is None:
        return "yes"
    if not timing.watches:
        refused = f": {timing.refused}" if timing.refused else ""
        return f"no, it has no live watch{refused}"
    ends = [until for until in timing.watches.values() if until is not None]
    return f"yes, watch valid until {in_utc(min(ends), now)}" if ends else "yes, watch without end"


def in_utc(at: datetime, now: datetime) -> str:
    """The hour, with the date where that is not today's."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
