"""`atom-sync doctor`: what an operator has set, looked at live, each with what to do about it."""

import asyncio

from cli.doctor import apps as apps
from cli.doctor import secrets as own
from cli.doctor import services as services
from cli.doctor.row import Row, State
from cli.doctor.stripe import billing
from settings import Settings, SettingsError

__all__ = ["Row", "State", "examine", "unreadable"]


async def examine(settings: Settings, *, embedded: bool = False) -> list[Row]:
    """Every row of the checklist, in the order in which an operator sets things up.

    `embedded` says that the database is the one that we start, and so all is on this machine.
    """
    database, ups, keys, cache, prefect, stripe, mail = await asyncio.gather(
        services.database(settings),
        services.ups(settings),
        own.master_keys(settings, embedded=embedded),
        services.cache(settings),
        services.prefect(settings),
        billing(settings),
        services.mail(settings),
    )
    secrets = own.secrets(settings, embedded=embedded)
    integrations = apps.integrations(settings)
    return [
        *database, *ups, *cache, *secrets, *keys, *prefect, *mail, *stripe, *integrations,
    ]  # fmt: skip


def unreadable(error: SettingsError) -> list[Row]:
    """Settings that could not even be read: the rest cannot be looked at until they can."""
    rows = []
    for line in str(error).splitlines():
        name, colon, problem = line.partition(": ")
        what, found = (name, problem) if colon and name.isupper() else ("settings", line)
        rows.append(Row("settings", what, State.WRONG, found, "see docs/credentials.md"))
    return rows
