"""`connect`: a link on which a tenant connects an account in a browser."""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from cli.terminal import JsonOption, out, print_json
from integrations import load
from servers import local
from servers.database import ready
from settings import Settings, SettingsError, read
from storage import connect_sessions, tenants
from storage.connect_sessions import LINK_LIFE
from storage.database import Database
from web.connect_sessions import ConnectLink


def connect(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Its slug.")],
    integration: Annotated[
        str | None, typer.Argument(metavar="[INTEGRATION]", help="Only this one; or all there are.")
    ] = None,
    unconfigured: Annotated[
        bool, typer.Option(help="Show also what is not set up yet, and what to set.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a link on which a tenant connects an account in a browser. It opens once, soon."""
    with local.attached(read()) as settings:
        link = asyncio.run(_link(settings, tenant, integration, unconfigured))
    if as_json:
        print_json({"url": link.url, "expires_at": link.expires_at})
        return
    out.print(link.url, highlight=False, soft_wrap=True)
    minutes = LINK_LIFE // timedelta(minutes=1)
    out.print(f"It opens once, within {minutes} minutes, for the browser that opens it.")


async def link_for(
    settings: Settings,
    database: Database,
    slug: str,
    integration: str | None = None,
    *,
    shows_unconfigured: bool = False,
    life: timedelta = LINK_LIFE,
) -> ConnectLink:
    """A link for that tenant; SettingsError where nobody could open it."""
    if settings.nextauth_url is None:
        raise SettingsError(
            "no page of ours can be reached: start `atom-sync up`, or set NEXTAUTH_URL to the"
            " address of the web server"
        )
    tenant = await tenants.by_slug(database, slug)
    made, secret = await connect_sessions.create(
        database,
        tenant.id,
        integration=integration,
        shows_unconfigured=shows_unconfigured,
        life=life,
    )
    return ConnectLink.of(settings.nextauth_url, secret, made.expires_at)


async def _link(
    settings: Settings, slug: str, integration: str | None, unconfigured: bool
) -> ConnectLink:
    async with ready(settings) as database:
        if integration is not None:
            load(integration)
        return await link_for(
            settings, database, slug, integration, shows_unconfigured=unconfigured
        )
