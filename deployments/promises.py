"""What the tiers promise, kept in the database, where the view `freshness` compares with it."""

from connectors import all_connectors
from deployments.tiers import Rhythm
from settings import Settings
from storage import Tier, freshness
from storage.database import Database
from storage.freshness import Interval


def intervals(settings: Settings) -> list[Interval]:
    """How often each stream of each integration is polled, by tier, as the settings have it."""
    found = []
    for connector in all_connectors():
        for tier in Tier:
            rhythm = Rhythm.of(settings, connector, tier)
            polled, watched = rhythm.covered_streams(()), rhythm.covered_streams(())
            if connector.webhook is not None and rhythm.configured:
                watched = frozenset(connector.webhook.covers)
            every, every_watched = rhythm.intervals(polled), rhythm.intervals(watched)
            found += [
                Interval(connector.name, tier, stream, every[stream], every_watched[stream])
                for stream in every
            ]
    return found


async def keep(settings: Settings, database: Database) -> bool:
    """The database knows what is promised; whether that is anything new."""
    return await freshness.keep_intervals(database, intervals(settings))
