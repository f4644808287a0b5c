"""`status`: every connection and stream, or one connection in full."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.terminal import JsonOption, out, plain, print_json, target_of
from connectors import load
from deployments.schedule_report import Explained, explain
from servers import local
from servers.database import ready
from settings import Settings, read
from storage import Status, audits, connections, freshness, records
from storage.database import Database
from storage.models import Failure


def status(
    target: Annotated[
        str | None, typer.Argument(metavar="[TENANT/INTEGRATION]", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every connection and stream: rows, last sync, whether that is in time, and what is wrong.

    Of one connection: how often it is synced and why, when next, whether webhooks work, and of
    which times they may not have told.
    """
    with local.attached(read()) as settings:
        if target is not None:
            _status_of(settings, target, account, as_json=as_json)
            return
        rows = asyncio.run(_status(settings))
    if as_json:
        print_json(rows)
    elif not rows:
        out.print("no connections yet: docs/connecting.md says how a tenant makes one")
    else:
        print_status(rows, out)


async def _status(settings: Settings) -> list[dict[str, Any]]:
    async with ready(settings) as database:
        return await status_rows(database)


async def status_rows(database: Database) -> list[dict[str, Any]]:
    """A row for each connection's stream, in the order of tenants and integrations."""
    counts = await records.counts(database)
    fresh = await freshness.of_streams(database)
    checked = await audits.of_all(database)
    rows = []
    for connection in await connections.listing(database):
        for stream in load(connection.integration).streams:
            found = counts.get((connection.id, stream.name))
            promised = fresh.get((connection.id, stream.name))
            checked_at, drift = checked.get((connection.id, stream.name), (None, None))
            rows.append(
                {
                    "tenant": connection.tenant_slug,
                    "tier": connection.tier,
                    "integration": connection.integration,
                    "account": connection.account_id,
                    "stream": stream.name,
                    "rows": found.rows if found else 0,
                    "last_sync": found.last_synced_at if found else None,
                    "every_seconds": promised.every.total_seconds() if promised else None,
                    "age_seconds": promised.age.total_seconds() if promised else None,
                    "late": promised.reason if promised else None,
                    "checked_at": checked_at,
                    "drift": drift,
                    "unread": list(found.unread) if found else [],
                    "refusal": found.refusal if found else None,
                    "refills": found.refills if found else False,
                    "status": connection.status,
                    "failure": connection.failure,
                    "reason": connection.status_reason,
                }
            )
    return rows


def print_status(rows: list[dict[str, Any]], console: Console) -> None:
    """Every stream in a table, then what is wrong with what to do, and how many are well."""
    console.print(_table(rows))
    linked = [list(group) for _, group in groupby(rows, key=_connection_of)]
    wrong = [card for group in linked if (card := list(_card(group)))]
    for card in wrong:
        for line in card:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
    well = len(linked) - len(wrong)
    line = f"connections as they should be: {well:,} of {len(linked):,}"
    console.print(line, highlight=False)


def _connection_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["tenant"], row["integration"], row["account"]


def _table(rows: list[dict[str, Any]]) -> Table:
    """A line for each tenant, one for each integration with its state, one for each stream."""
    # What repeats stands once: 80 columns have to be enough.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("tenant, integration, stream", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("last sync", no_wrap=True)
    table.add_column("state", ratio=1)
    for tenant, of_tenant in groupby(rows, key=lambda row: row["tenant"]):
        group = list(of_tenant)
        table.add_section()
        table.add_row(Text(f"{tenant} ({group[0]['tier']})", style="bold"))
        for (_, integration, _), streams in groupby(group, key=_connection_of):
            for n, row in enumerate(streams):
                if n == 0:
                    good = row["status"] == Status.ACTIVE and not row["reason"]
                    state = Text(row["status"], style="" if good else "red")
                    table.add_row(Text(f"  {integration}"), "", "", state)
                table.add_row(
                    Text(f"    {row['stream']}"), f"{row['rows']:,}", _ago(row["last_sync"]),
                    Text(", ").join(_remarks(row)),
                )  # fmt: skip
    return table


def _remarks(row: dict[str, Any]) -> Iterator[Text]:
    """In time or not, what of a stream is not there yet, and what its last audit found."""
    if row["late"] is not None:
        yield Text("late", style="red")
    elif row["age_seconds"] is not None:
        yield Text("in time", style="green")
    if row["refusal"]:
        yield Text("refused", style="red")
    if row["unread"]:
        yield Text(f"{len(row['unread']):,} unread", style="red")
    if row["refills"]:
        yield Text("filling in fields")
    if row["drift"]:
        yield Text(f"{row['drift']:,} off {_ago(row['checked_at'])}", style="red")
    elif row["checked_at"] is not None:
        yield Text(f"checked {_ago(row['checked_at'])}")


def _card(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with a connection, and what to do; nothing of one that is well."""
    first = rows[0]
    target = f"{first['tenant']}/{first['integration']}"
    wrong = [f"{first['status']}: {first['reason']}"] if first["reason"] else []
    late: dict[str, list[str]] = {}
    for row in rows:
        if row["late"] is not None:
            late.setdefault(row["late"], []).append(row["stream"])
    wrong += [f"late: {', '.join(streams)} ({why})" for why, streams in late.items()]
    for row in rows:
        wrong += [f"{row['stream']}: {one['part']}: {one['error']}" for one in row["unread"][:3]]
        if len(row["unread"]) > 3:
            wrong.append(f"{row['stream']}: and {len(row['unread']) - 3:,} parts more")
    if not wrong or first["status"] == Status.PAUSED:
        return
    yield f"✗ {target}, account {first['account']}"
    yield from (f"    {line}" for line in wrong)
    worst = next((row for row in rows if row["late"] is not None), first)
    yield f"    → {_remedy(worst, target)}"
    yield ""


def _remedy(row: dict[str, Any], target: str) -> str:
    """What whoever reads this can do."""
    match row["status"], row["failure"]:
        case Status.NEEDS_REAUTH | Status.REVOKED, _:
            link = f"atom-sync connect {target.replace('/', ' ')}"
            return f"its tenant connects it again; `{link}` prints a link for that"
        case _, Failure.NOT_ALLOWED:
            return (
                "the tenant's administrator at the vendor allows it; it is asked for once a day,"
                f" and by `atom-sync sync {target}`"
            )
        case _, Failure.UNAVAILABLE | Failure.RATE_LIMITED:
            return "nobody has to act: it is tried again by itself"
    if row["late"] in ("backlog", "never synced"):
        return "is a worker running? `atom-sync up` starts one; docs/scaling.md tells of more"
    return f"`atom-sync status {target}` says more"


def _ago(at: datetime | None) -> str:
    if at is None:
        return "never"
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _status_of(settings: Settings, target: str, account: str | None, *, as_json: bool) -> None:
    """How often TENANT/INTEGRATION is synced and why, and when it will be next."""
    tenant, integration = target_of(target)
    now = datetime.now(UTC)
    found = asyncio.run(_explained(settings, tenant, integration, account, now))
    if as_json:
        print_json(found.as_json())
        return
    connection = found.connection
    name = f" ({connection.account_name})" if connection.account_name else ""
    out.print(
        f"{connection}, account {connection.account_id}{name}: {connection.status}", highlight=False
    )
    if connection.status_reason:
        out.print(f"  {plain(connection.status_reason)}", highlight=False, soft_wrap=True)
    for line in found.lines(now):
        out.print(f"  {plain(line)}", highlight=False, soft_wrap=True)


async def _explained(
    settings: Settings, tenant: str, integration: str, account: str | None, now: datetime
) -> Explained:
    async with ready(settings) as database:
        connection = await connections.find(database, tenant, integration, account)
        return await explain(settings, database, connection, now)
