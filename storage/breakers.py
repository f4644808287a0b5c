"""Breakers: an integration whose vendor is away as a whole is left alone, and asked now and then.

One opens when most of an integration's latest syncs, of several connections, found the vendor
away. While it is open, nothing of the integration is dispatched but a few probes: the first that
comes through closes it, and while none does, each pause is twice as long. One row for all
processes; all times are the database's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from sqlalchemy import Interval, func, literal, select, text, update

from storage.database import Database
from storage.models import Breaker

# Of the last ten syncs that ended within ten minutes, six or more, of five connections or more.
LATEST, WINDOW = 10, timedelta(minutes=10)
AWAY, CONNECTIONS = 6, 5
# How many connections a probe syncs, and how long its outcome is waited for.
PROBES, PROBE_PATIENCE = 3, timedelta(minutes=5)
PAUSE, MAX_PAUSE = timedelta(minutes=1), timedelta(minutes=30)

Admission: TypeAlias = Literal["closed", "probe", "open"]

_LATEST = text(
    """
    SELECT count(*), count(DISTINCT connection_id) FROM (
        SELECT r.connection_id, r.failure
        FROM sync_runs r JOIN connections c ON c.id = r.connection_id
        LEFT JOIN breakers b ON b.integration = c.integration
        WHERE c.integration = :integration AND r.status IN ('completed', 'failed')
            AND r.ended_at > greatest(now() - :within, b.closed_at)
        ORDER BY r.ended_at DESC LIMIT :latest
    ) latest WHERE failure = 'unavailable'
    """
)

_OPEN = text(
    """
    INSERT INTO breakers AS b (integration, opened_at, probe_at, trips, reason)
    VALUES (:integration, clock_timestamp(), clock_timestamp() + :pause, 1, :reason)
    ON CONFLICT (integration) DO UPDATE SET opened_at = excluded.opened_at,
        probe_at = excluded.probe_at, trips = 1, reason = excluded.reason, closed_at = NULL
    WHERE b.opened_at IS NULL
    """
)


@dataclass(frozen=True)
class Open:
    """An open breaker, and when the vendor is asked next."""

    integration: str
    opened_at: datetime
    probe_at: datetime
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.integration} is away since {self.opened_at:%H:%M} UTC ({self.reason});"
            f" it is asked again at {self.probe_at:%H:%M}"
        )


async def admit(database: Database, integration: str) -> Admission:
    """Whether its connections may be synced: all, a few as a probe (which is ours), or none."""
    now = func.clock_timestamp()
    async with database.dispatching() as session:
        taken = await session.scalar(
            update(Breaker)
            .where(Breaker.integration == integration, Breaker.opened_at.is_not(None))
            .where(Breaker.probe_at <= now)
            .values(probe_at=now + PROBE_PATIENCE)
            .returning(Breaker.integration)
            .execution_options(synchronize_session=False)
        )
        if taken is not None:
            return "probe"
        opened = await session.scalar(
            select(Breaker.opened_at).where(Breaker.integration == integration)
        )
    return "closed" if opened is None else "open"


async def look(database: Database, integration: str, reason: str) -> bool:
    """Opens the breaker if most of the latest syncs found the vendor away; whether it is open."""
    async with database.dispatching() as session:
        values = {"integration": integration, "within": WINDOW, "latest": LATEST}
        away, connections = (await session.execute(_LATEST, values)).one()
        if away >= AWAY and connections >= CONNECTIONS:
            await session.execute(_OPEN, {"integration": integration, "reason": reason,
                                          "pause": PAUSE})  # fmt: skip
        opened = await session.scalar(
            select(Breaker.opened_at).where(Breaker.integration == integration)
        )
    return opened is not None


async def close(database: Database, integration: str) -> None:
    """A probe came through: everything is synced again."""
    now = func.clock_timestamp()
    await _set(database, integration, opened_at=None, probe_at=None, closed_at=now, trips=0)


async def stay_open(database: Database, integration: str) -> None:
    """No probe came through: asked again after twice the pause."""
    doublings = func.least(Breaker.trips, 10)
    pause = func.least(literal(PAUSE) * func.power(2, doublings), MAX_PAUSE, type_=Interval())
    await _set(
        database, integration,
        probe_at=func.clock_timestamp() + pause, trips=Breaker.trips + 1,
    )  # fmt: skip


async def give_probe_back(database: Database, integration: str) -> None:
    """There was nothing to probe with: whoever has something due may."""
    await _set(database, integration, probe_at=func.clock_timestamp())


async def _set(database: Database, integration: str, **values: Any) -> None:
    async with database.dispatching() as session:
        await session.execute(
            update(Breaker)
            .where(Breaker.integration == integration)
            .values(**values)
            .execution_options(synchronize_session=False)
        )


async def standing_open(database: Database) -> dict[str, Open]:
    """The open breakers, by integration."""
    query = select(Breaker).where(Breaker.opened_at.is_not(None))
    async with database.dispatching() as session:
        return {
            row.integration: Open(row.integration, row.opened_at, row.probe_at, row.reason)
            for row in await session.scalars(query)
            if row.opened_at is not None and row.probe_at is not None
        }
