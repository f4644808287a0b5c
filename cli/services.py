"""Bringing up a machine, for `up` and for the demo."""

import asyncio
from collections.abc import Callable

from cli.terminal import say
from servers import local
from servers.database import migrated, opened
from servers.ports import LOOPBACK
from settings import Settings
from storage.vault import Vault, check_keys


def start_services(
    services: local.Services,
    *,
    limit: int,
    host: str = LOOPBACK,
    sandbox: Callable[[], None] | None = None,
) -> None:
    """Bring up a machine in order; the schema is current before anything runs."""
    services.start_database()
    asyncio.run(migrate(services.settings))
    services.start_redis()
    if sandbox is not None:
        sandbox()
    services.start_prefect()
    asyncio.run(services.deploy())
    asyncio.run(services.settle())
    services.start_web(host)
    services.start_worker(limit)


def tell_addresses(services: local.Services) -> None:
    """Where a person looks next."""
    api, public = services.settings.prefect_api_url or "", services.settings.nextauth_url
    say(f"Prefect UI: {api.removesuffix('/api')}")
    say(f"web and API: {services.web} (documentation at /docs)")
    if public != services.web:
        say(f"public address: {public}")


async def migrate(settings: Settings) -> None:
    """The schema is current, and we hold the keys that what is in it needs."""
    await migrated(settings)
    if settings.encryption_keys is not None:
        async with opened(settings) as database:
            await check_keys(database, Vault.parse(settings.encryption_keys.get_secret_value()))
