"""`tenants`: who they are, and what they pay for."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich import box
from rich.table import Column, Table

from accounts import erasure
from accounts.runtime import opened
from billing import cancellation, customers
from cli.terminal import JsonOption, err, example, out, plain, print_json
from servers import local
from servers.database import database_url_of, ready
from settings import Settings, read
from storage import (
    NotFoundError,
    SchemaError,
    Tier,
    readers,
    tenants,
)
from storage import check as check_schema

commands = typer.Typer(help="Tenants: who they are, and what they pay for.")


VENDOR_WAIT = timedelta(seconds=5)


SlugArgument = Annotated[str, typer.Argument(metavar="SLUG")]


@commands.command("list", epilog=example("tenants list --json"))
def list_tenants(as_json: JsonOption = False) -> None:
    """Every tenant."""
    with local.attached(read()) as settings:
        found = asyncio.run(_tenants(settings))
    if as_json:
        print_json([asdict(tenant) for tenant in found])
        return
    slugs = max((len(each.slug) for each in found), default=0)
    table = Table(
        # What is copied from here is never cut off.
        Column("slug", no_wrap=True, min_width=slugs),
        Column("tier", no_wrap=True, min_width=10),
        Column("id", no_wrap=True, min_width=36),
        Column("name, contact", overflow="fold"),
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for tenant in found:
        about = ", ".join(filter(None, (tenant.name, tenant.contact_email)))
        table.add_row(tenant.slug, tenant.tier, str(tenant.id), plain(about))
    out.print(table)


@commands.command(epilog=example('tenants create acme --name "Acme Inc." --tier TEAM'))
def create(
    slug: SlugArgument,
    name: Annotated[str, typer.Option(help="For people; the slug if not given.")] = "",
    tier: Annotated[Tier, typer.Option()] = Tier.FREE,
    contact_email: Annotated[str | None, typer.Option(help="Who is told of problems.")] = None,
    tenant_id: Annotated[
        UUID | None, typer.Option("--id", help="The id it has in the SaaS's own database.")
    ] = None,
) -> None:
    """Make a tenant; one that is there stays as it is."""

    async def work(settings: Settings) -> tenants.Tenant:
        async with ready(settings) as database:
            return await tenants.create(
                database, slug, name or slug, tier, contact_email, tenant_id=tenant_id
            )

    with local.attached(read()) as settings:
        try:
            made = asyncio.run(work(settings))
        except ValueError as error:
            raise LookupError(str(error)) from error
    out.print(f"{made.slug} ({made.tier}): {made.id}", highlight=False)


@commands.command("set-tier", epilog=example("tenants set-tier acme ENTERPRISE"))
def set_tier(slug: SlugArgument, tier: Annotated[Tier, typer.Argument()]) -> None:
    """Change how often a tenant's connections sync."""

    async def work(settings: Settings) -> tenants.Tenant:
        async with ready(settings) as database:
            return await tenants.set_tier(database, slug, tier)

    with local.attached(read()) as settings:
        changed = asyncio.run(work(settings))
    out.print(f"{changed.slug} is {changed.tier} now", highlight=False)


@commands.command("delete", epilog=example("tenants delete acme"))
def delete_tenant(
    slug: SlugArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a tenant: payments end, authorisations are given back, then secrets and data go."""
    if not yes:
        typer.confirm(f"Erase {slug} with all its connections, records and secrets?", abort=True)
    with local.attached(read()) as settings, err.status(f"erasing {slug} …") as shown:
        gone, ended = asyncio.run(
            _delete(settings, slug, lambda n: shown.update(f"erasing {slug}: {n:,} records …"))
        )
    if not gone:
        raise LookupError(f"there is no tenant {slug!r}")
    out.print(f"{slug} is erased", highlight=False)
    if ended.owed is not None:
        warning = f"what it pays for at Stripe is not ended: {ended.owed}; {cancellation.AGAIN}"
        err.print(warning, markup=False, highlight=False)


async def _tenants(settings: Settings) -> list[tenants.Tenant]:
    async with ready(settings) as database:
        return await tenants.all(database)


async def _delete(
    settings: Settings, slug: str, progress: Callable[[int], None]
) -> tuple[bool, cancellation.Ended]:
    await check_schema(database_url_of(settings), settings.atom_schema)
    async with (
        opened(settings) as runtime,
        customers.opened(settings, runtime.database, clock=runtime.clock) as selling,
    ):
        ended = cancellation.Ended()
        with suppress(NotFoundError):
            tenant = await tenants.by_slug(runtime.database, slug)
            ended = await cancellation.end_or_owe(selling, runtime.database, tenant.id)
        try:
            await readers.remove_all_of(database_url_of(settings), settings.atom_schema, slug)
        except SchemaError as error:  # they see nothing once the tenant is gone
            err.print(f"its readers' database users stay: {error}", markup=False, highlight=False)
        gone = await erasure.delete_tenant(
            runtime.disconnector(), slug, wait=VENDOR_WAIT, progress=progress
        )
        return gone, ended
