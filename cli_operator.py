"""The operator's commands: `doctor`, `keys`, `tenants`, `events`, `import`."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from deployments import billing, billing_endings, local
from deployments import doctor as examination
from deployments.runtime import opened
from settings import Settings, SettingsError, read
from storage import NotFoundError, Tier, erasure, importing, inbox, privacy, rotation, tenants
from storage import check as check_schema
from storage.vault import WHERE_OLD_ONES_LIE, Vault

out = Console()
err = Console(stderr=True)
COLOURS = {"ok": "green", "missing": "red", "wrong": "red", "optional": "dim"}
VENDOR_WAIT = timedelta(seconds=5)

keys = typer.Typer(help="The master keys that tenants' secrets are sealed under.")
tenant_commands = typer.Typer(help="Tenants: who they are, and what they pay for.")
event_commands = typer.Typer(help="What vendors' webhooks told us, and could not be applied.")
imports = typer.Typer(help="Take over what another system has kept.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
SlugArgument = Annotated[str, typer.Argument(metavar="SLUG")]


def add_to(app: typer.Typer) -> None:
    """Make these commands of the program."""
    app.command()(doctor)
    app.add_typer(keys, name="keys")
    app.add_typer(tenant_commands, name="tenants")
    app.add_typer(event_commands, name="events", invoke_without_command=True)
    app.add_typer(imports, name="import")


def doctor(as_json: JsonOption = False) -> None:
    """Look at all that is set, live, and say what to do; exit status 1 if anything must be."""
    try:
        given = read()
        embedded = given.database_url is None
        with local.attached(given) as settings, err.status("looking …"):
            rows = asyncio.run(examination.examine(settings, embedded=embedded))
    except SettingsError as error:
        rows = examination.unreadable(error)
    failed = [row for row in rows if row.failed]
    if as_json:
        _print_json({"ok": not failed, "rows": [asdict(row) for row in rows]})
    else:
        out.print(_rows_table(rows))
        _print_apps(rows)
        out.print()
        if failed:
            out.print(f"[red]{len(failed)} to do[/red]: {', '.join(row.what for row in failed)}")
        else:
            out.print("[green]all that is needed is there[/green]")
    sys.exit(1 if failed else 0)


def _rows_table(rows: Iterable[examination.Row]) -> Table:
    table = Table("", "what", "state")
    table.add_column("found, and what to do", overflow="fold")
    former = ""
    for row in rows:
        if former not in ("", row.area):
            table.add_section()
        area = row.area if row.area != former else ""
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        finding = _plain(row.found) + (f"\n→ {_plain(row.remedy)}" if row.remedy else "")
        table.add_row(area, _plain(row.what), state, finding)
        former = row.area
    return table


def _print_apps(rows: Iterable[examination.Row]) -> None:
    """What is to be pasted into each vendor's console, in lines that can be copied."""
    for row in rows:
        if "callback" not in row.details:
            continue
        out.print(f"\n[bold]{_plain(row.what)}[/bold]", highlight=False)
        lines = {"console": row.details["console"], "callback": row.details["callback"]}
        for name, value in lines.items():
            out.print(f"  {name:9} {value or '?'}", highlight=False, soft_wrap=True, markup=False)
        for address, setup in row.details["webhooks"].items():
            line = f"  webhooks  {address}\n            {setup}"
            out.print(line, highlight=False, soft_wrap=True, markup=False)
        for scope, why in row.details["scopes"].items():
            line = f"  scope     {scope}  ({why})"
            out.print(line, highlight=False, soft_wrap=True, markup=False)


@event_commands.callback()
def events(
    context: typer.Context,
    failed: Annotated[
        bool, typer.Option("--failed", help="List those that were set aside.")
    ] = False,
    duties: Annotated[
        bool, typer.Option("--duties", help="List what the law asks for and is not done yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How many events wait, and how many were set aside after their last attempt."""
    if context.invoked_subcommand is not None:
        return
    with local.attached(read()) as settings:
        counted, aside, owed = asyncio.run(_events(settings))
    if as_json:
        listed = {
            "set_aside": [_dated(one) for one in aside] if failed else None,
            "duties": [_dated(one) for one in owed] if duties else None,
        }
        _print_json({**counted, **listed})
        return
    out.print(f"{counted['pending']:,} events wait, {counted['failed']:,} were set aside")
    if counted["unreadable"]:
        out.print(f"{counted['unreadable']:,} had a form that we cannot read (their type names it)")
    if owed and not duties:
        out.print(f"{len(owed):,} of those that wait are duties: atom-sync events --duties")
    if owed and duties:
        table = Table("event", "tenant", "integration")
        table.add_column("type", no_wrap=True)
        table.add_column("received")
        table.add_column("done after")
        for duty in owed:
            times = (f"{at:%Y-%m-%d %H:%M}" for at in (duty.received_at, duty.due_at))
            table.add_row(
                str(duty.id), *map(_plain, (duty.tenant, duty.integration, duty.type)), *times
            )
        out.print(table)
        out.print("one that is not to be done: atom-sync events withdraw EVENT …")
    if failed and aside:
        table = Table("event", "tenant", "integration", "type", "received", "attempts")
        table.add_column("reason", overflow="fold")
        for one in aside:
            received = f"{one.received_at:%Y-%m-%d %H:%M:%S}"
            cells = (one.tenant, one.integration, one.type, received, one.attempts, one.reason)
            table.add_row(str(one.id), *(_plain(str(value)) for value in cells))
        out.print(table)
        out.print("try them again: atom-sync events retry [EVENT …]")


def _dated(row: inbox.SetAside | privacy.Duty) -> dict[str, Any]:
    times = {name: at.isoformat() for name, at in asdict(row).items() if name.endswith("_at")}
    return {**asdict(row), **times}


async def _events(
    settings: Settings,
) -> tuple[dict[str, int], list[inbox.SetAside], list[privacy.Duty]]:
    async with local.ready(settings) as database:
        return (
            await inbox.counts(database),
            await inbox.set_aside(database),
            await privacy.waiting(database),
        )


@event_commands.command()
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[EVENT]…")] = None,
) -> None:
    """Try events again that were set aside: those named, or all."""

    async def again(settings: Settings) -> int:
        async with local.ready(settings) as database:
            return await inbox.retry(database, ids or None)

    with local.attached(read()) as settings:
        count = asyncio.run(again(settings))
    out.print(f"{count:,} events are tried again")
    if ids and count < len(ids):
        err.print(f"{len(ids) - count:,} of those named are not set aside")
        sys.exit(1)


@event_commands.command()
def withdraw(ids: Annotated[list[int], typer.Argument(metavar="EVENT…")]) -> None:
    """Never do what a vendor's delivery asked to erase: the duties named, of those not done yet."""

    async def never(settings: Settings) -> int:
        async with local.opened(settings) as database:
            return await privacy.withdraw(database, ids)

    with local.attached(read()) as settings:
        count = asyncio.run(never(settings))
    out.print(f"{count:,} duties were withdrawn")
    if count < len(ids):
        err.print(f"{len(ids) - count:,} of those named are no duties, or done already")
        sys.exit(1)


@keys.command()
def rotate() -> None:
    """Put every tenant's data key under the current master key, while syncs run.

    It may be stopped and started again. First put the new key in front in ENCRYPTION_KEYS, and
    restart every process.
    """
    with local.attached(read()) as settings, _bar("data keys") as step:
        rotated = asyncio.run(_rotate(settings, step))
    out.print(f"{rotated.done:,} data keys were put under the current key")
    _tell_faults(rotated.faults)
    if rotated.held:
        err.print(f"{rotated.held:,} were held by others all the while: run it again")
    if rotated.faults or rotated.held:
        sys.exit(1)


@keys.command()
def check(as_json: JsonOption = False) -> None:
    """Which master keys are needed, and whether every secret opens; changes nothing."""
    with local.attached(read()) as settings:
        found, faults = asyncio.run(_check(settings))
    if as_json:
        _print_json(
            {
                **asdict(found),
                "missing": found.missing,
                "left": found.left,
                "retired": found.retired,
                "faults": [asdict(fault) for fault in faults],
            }
        )
    else:
        table = Table("key", "place", "tenants under it")
        for name in dict.fromkeys((*found.known, *found.recorded[:1], *found.tenants)):
            place = "current" if name == found.current else "older"
            place = place if name in found.known else "[red]missing here[/red]"
            place = "not needed any more" if name in found.retired else place
            table.add_row(name, place, f"{found.tenants.get(name, 0):,}")
        out.print(table)
        _tell_faults(faults)
        for tenant, setting in found.plaintext:
            err.print(f"[red]{tenant}: {_plain(setting)} is not sealed[/red]", highlight=False)
    if found.missing or faults or found.plaintext:
        sys.exit(1)


@keys.command()
def abandon(
    fingerprint: Annotated[str, typer.Argument(help="Of the lost key, as `keys check` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up what a lost master key wrapped; its tenants are asked to connect again."""
    if not yes:
        typer.confirm(f"Give up every secret that only {fingerprint} can open?", abort=True)

    async def work(settings: Settings) -> list[str]:
        async with local.ready(settings) as database:
            return await rotation.abandon(database, _vault(settings), fingerprint)

    with local.attached(read()) as settings:
        found = asyncio.run(work(settings))
    out.print(f"given up: the secrets of {', '.join(found) or 'nobody'}", highlight=False)


@tenant_commands.command("list")
def list_tenants(as_json: JsonOption = False) -> None:
    """Every tenant."""
    with local.attached(read()) as settings:
        found = asyncio.run(_tenants(settings))
    if as_json:
        _print_json([asdict(tenant) for tenant in found])
        return
    table = Table("slug", "name", "tier", "contact", "id")
    for tenant in found:
        table.add_row(
            tenant.slug, _plain(tenant.name), tenant.tier, tenant.contact_email or "",
            str(tenant.id),
        )  # fmt: skip
    out.print(table)


@tenant_commands.command()
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
        async with local.ready(settings) as database:
            return await tenants.create(
                database, slug, name or slug, tier, contact_email, tenant_id=tenant_id
            )

    with local.attached(read()) as settings:
        try:
            made = asyncio.run(work(settings))
        except ValueError as error:
            raise LookupError(str(error)) from error
    out.print(f"{made.slug} ({made.tier}): {made.id}", highlight=False)


@tenant_commands.command("set-tier")
def set_tier(slug: SlugArgument, tier: Annotated[Tier, typer.Argument()]) -> None:
    """Change how often a tenant's connections sync."""

    async def work(settings: Settings) -> tenants.Tenant:
        async with local.ready(settings) as database:
            return await tenants.set_tier(database, slug, tier)

    with local.attached(read()) as settings:
        changed = asyncio.run(work(settings))
    out.print(f"{changed.slug} is {changed.tier} now", highlight=False)


@tenant_commands.command("delete")
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
        warning = f"what it pays for at Stripe is not ended: {ended.owed}; {billing_endings.AGAIN}"
        err.print(warning, markup=False, highlight=False)


@imports.command("tenant-settings")
def tenant_settings(
    url: Annotated[
        str,
        typer.Option(
            "--from", envvar="ATOM_IMPORT_URL", help="The other database; it is only read."
        ),
    ],
    schema: Annotated[str, typer.Option(help="Where the table is there.")] = "public",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal the `tenant_settings` rows of another database; none of ours is overwritten.

    The URL may stand in ATOM_IMPORT_URL instead, where no list of processes shows it.
    """
    with local.attached(read()) as settings:
        rows = asyncio.run(_import(settings, url, schema, dry_run=dry_run))
    if as_json:
        _print_json([asdict(row) for row in rows])
    else:
        table = Table("tenant", "setting", "outcome", "what to do")
        for row in rows:
            colour = "red" if row.outcome.needs_attention else "green"
            outcome = f"[{colour}]{row.outcome}[/]"
            table.add_row(_plain(row.tenant), _plain(row.setting), outcome, row.remedy)
        out.print(table)
        if dry_run:
            out.print("nothing was written")
    if any(row.outcome.needs_attention for row in rows):
        sys.exit(1)


async def _rotate(settings: Settings, step: Callable[[int, int], None]) -> rotation.Rotated:
    async with local.ready(settings) as database:
        return await rotation.rotate(database, _vault(settings), progress=step)


async def _check(settings: Settings) -> tuple[rotation.Keys, list[rotation.Fault]]:
    vault = _vault(settings)
    async with local.ready(settings) as database:
        found = await rotation.survey(database, vault)
        return found, await rotation.try_all(database, vault)


async def _tenants(settings: Settings) -> list[tenants.Tenant]:
    async with local.ready(settings) as database:
        return await tenants.all(database)


async def _delete(
    settings: Settings, slug: str, progress: Callable[[int], None]
) -> tuple[bool, billing_endings.Ended]:
    from web._disconnector import disconnector

    await check_schema(local.database_url_of(settings), settings.atom_schema)
    async with (
        opened(settings) as runtime,
        billing.opened(settings, runtime.database) as selling,
    ):
        ended = billing_endings.Ended()
        with suppress(NotFoundError):
            tenant = await tenants.by_slug(runtime.database, slug)
            ended = await billing_endings.end_or_owe(selling, runtime.database, tenant.id)
        gone = await erasure.delete_tenant(
            disconnector(runtime), slug, wait=VENDOR_WAIT, progress=progress
        )
        return gone, ended


async def _import(
    settings: Settings, url: str, schema: str, *, dry_run: bool
) -> list[importing.Imported]:
    async with local.ready(settings) as database:
        return await importing.read_settings(
            database, _vault(settings), url, schema=schema, dry_run=dry_run
        )


def _vault(settings: Settings) -> Vault:
    if settings.encryption_keys is None:
        raise SettingsError(f"ENCRYPTION_KEYS is not set; {WHERE_OLD_ONES_LIE}")
    return Vault.parse(settings.encryption_keys.get_secret_value())


def _tell_faults(faults: Iterable[rotation.Fault]) -> None:
    for fault in faults:
        what = f"{fault.tenant}: {fault.setting}" if fault.setting else fault.tenant
        err.print(f"[red]{_plain(what)}[/red]: {_plain(fault.reason)}", highlight=False)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
