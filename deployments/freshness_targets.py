"""What the tiers promise, kept in the database, where the view `freshness` compares with it."""

from collections.abc import Iterable

from connectors import Connector
from deployments.tiers import PollPolicy
from integrations import all_of
from settings import Settings
from storage import Tier, freshness, integrations
from storage.database import Database
from storage.freshness import Interval


def intervals(settings: Settings, connectors: Iterable[Connector]) -> list[Interval]:
    """How often each stream of these is polled, by tier, as the settings have it."""
    found = []
    for connector in connectors:
        for tier in Tier:
            policy = PollPolicy.of(settings, connector, tier)
            polled, watched = policy.covered_streams(()), policy.covered_streams(())
            if connector.webhook is not None and policy.configured:
                watched = frozenset(connector.webhook.covers)
            every, every_watched = policy.intervals(polled), policy.intervals(watched)
            found += [
                Interval(connector.name, tier, stream, every[stream], every_watched[stream])
                for stream in every
            ]
    return found


async def save(settings: Settings, database: Database) -> bool:
    """The database knows what is promised; whether that is anything new."""
    connectors = all_of(await integrations.in_use(database))
    return await freshness.keep_intervals(database, intervals(settings, connectors))
