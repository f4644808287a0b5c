"""`status`: every connection and stream, or one connection in full."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any
from uuid import UUID

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.terminal import JsonOption, out, plain, print_json, target_of
from deployments.schedule_report import Explained, explain
from integrations import streams_of
from servers import local
from servers.database import ready
from settings import Settings, read
from storage import (
    Status,
    audits,
    connections,
    freshness,
    records,
    standing,
    tenant_settings,
)
from storage.connections import Connection
from storage.database import Database
from storage.models import Failure
from storage.standing import Standing, State

# Of more connections a summary comes first; the table is for those that are asked for.
MOST_AT_ONCE = 100
MOST_CARDS = standing.FIRST
# So many are looked up together: what is printed for machines is printed as it is read.
CHUNK, COUNTED_APART = 500, 1_000


def status(
    target: Annotated[
        str | None, typer.Argument(metavar="[TENANT/INTEGRATION]", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account, where the tenant connected several.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's, by its slug.")] = None,
    integration: Annotated[str | None, typer.Option(help="Only those of this integration.")] = None,
    state: Annotated[State | None, typer.Option(help="Only those that stand so.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every connection and stream: rows, last sync, whether that is in time, and what is wrong.

    Where there are many, a summary of all, and the first of what is wrong; `--tenant`,
    `--integration` and `--state` choose what is listed. Of one connection: how often it is synced
    and why, when next, whether webhooks work, and of which times they may not have told.
    """
    with local.attached(read()) as settings:
        if target is not None:
            _status_of(settings, target, account, as_json=as_json)
            return
        chosen = {"tenant": tenant, "integration": integration, "state": state}
        if as_json:
            asyncio.run(_stream(settings, chosen))
        else:
            asyncio.run(_status(settings, chosen))


async def _status(settings: Settings, chosen: dict[str, Any]) -> None:
    async with ready(settings) as database:
        await show_status(database, out, **chosen)
        if not any(chosen.values()):
            await show_keys(database, out)


async def show_keys(database: Database, console: Console) -> None:
    """Keys that tenants brought and no vendor has accepted yet, with what the vendor said."""
    async with database.owning() as session:
        found = await tenant_settings.unproven(session, at_most=MOST_CARDS)
    for tenant, key, message in found:
        line = f"✗ {tenant}, {key}: {message}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


async def _stream(settings: Settings, chosen: dict[str, Any]) -> None:
    """One row a line, so that neither we nor who reads it holds all of them."""
    async with ready(settings) as database:
        before = "[\n"
        async for row in _rows(database, await standing.ids(database, **chosen)):
            sys.stdout.write(before + json.dumps(row, default=str))
            before = ",\n"
        sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


async def show_status(database: Database, console: Console, **chosen: Any) -> None:
    """The table and what is wrong; of many connections, a summary and the first that are wrong."""
    asked = any(chosen.values())
    if not asked and await standing.count(database) > MOST_AT_ONCE:
        found = await standing.summary(database)
        console.print(_summary(found))
        named = [id for each in found for id in each.first_wrong]
        first = [each.id for each in await standing.listing(database, named)][:MOST_CARDS]
        _print_cards([row async for row in _rows(database, first)], console)
        total, wrong = (sum(getattr(e, name) for e in found) for name in ("connections", "wrong"))
        line = f"connections as they should be: {total - wrong:,} of {total:,}"
        if wrong > MOST_CARDS:
            line += f"; {wrong - MOST_CARDS:,} more are listed by `--state wrong`"
        console.print(line, highlight=False, soft_wrap=True)
        console.print("--tenant, --integration and --state list connections", highlight=False)
        return
    ids = await standing.ids(database, **chosen)
    rows = [row async for row in _rows(database, ids[:MOST_AT_ONCE])]
    if rows:
        print_status(rows, console)
    elif asked:
        console.print("no connection is so", highlight=False)
    else:
        console.print("no connections yet: docs/connecting.md says how a tenant makes one")
    if len(ids) > MOST_AT_ONCE:
        more = f"these are the first {MOST_AT_ONCE} of {len(ids):,}; `--json` has all of them"
        console.print(more, highlight=False)


async def status_rows(database: Database) -> list[dict[str, Any]]:
    """A row for each connection's stream, in the order of tenants and integrations."""
    return [row async for row in _rows(database, await standing.ids(database))]


async def _rows(database: Database, ids: Sequence[UUID]) -> AsyncIterator[dict[str, Any]]:
    # To count a large part of the records, PostgreSQL had better read all of them once.
    every = await records.counts(database) if len(ids) > COUNTED_APART else None
    for first in range(0, len(ids), CHUNK):
        some = ids[first : first + CHUNK]
        counts = await records.counts(database, some) if every is None else every
        fresh = await freshness.of_streams(database, some)
        checked = await audits.of_all(database, some)
        for connection in await standing.listing(database, some):
            for stream in streams_of(connection.integration):
                key = (connection.id, stream.name)
                yield _row(connection, stream.name, counts.get(key), fresh.get(key),
                           checked.get(key, (None, None)))  # fmt: skip


def _row(
    connection: Connection,
    stream: str,
    found: records.Count | None,
    promised: freshness.Fresh | None,
    checked: tuple[datetime | None, int | None],
) -> dict[str, Any]:
    return {
        "tenant": connection.tenant_slug,
        "tier": connection.tier,
        "integration": connection.integration,
        "account": connection.account_id,
        "stream": stream,
        "rows": found.rows if found else 0,
        "last_sync": found.last_synced_at if found else None,
        "every_seconds": promised.every.total_seconds() if promised else None,
        "age_seconds": promised.age.total_seconds() if promised else None,
        "late": promised.reason if promised else None,
        "checked_at": checked[0],
        "drift": checked[1],
        "unread": list(found.unread) if found else [],
        "refusal": found.refusal if found else None,
        "refills": found.refills if found else False,
        "status": connection.status,
        "failure": connection.failure,
        "reason": connection.status_reason,
    }


def _summary(found: Sequence[Standing]) -> Table:
    """A line for each integration, and one for all."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("integration", no_wrap=True)
    for name in ("connections", "wrong", "broken", "paused", "in time", "late", "rows, about"):
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(each.integration, *_counts(each))
    names = ("connections", "wrong", "broken", "paused", "streams", "late", "rows")
    sums = {name: sum(getattr(each, name) for each in found) for name in names}
    table.add_section()
    table.add_row("all", *_counts(Standing("all", **sums)))
    return table


def _counts(each: Standing) -> Iterator[Text]:
    yield Text(f"{each.connections:,}")
    for count in (each.wrong, each.broken):
        yield Text(f"{count:,}", style="red" if count else "")
    yield Text(f"{each.paused:,}")
    yield Text(f"{each.streams - each.late:,}")
    yield Text(f"{each.late:,}", style="red" if each.late else "")
    yield Text(f"{each.rows:,}")


def print_status(rows: list[dict[str, Any]], console: Console) -> None:
    """Every stream in a table, then what is wrong with what to do, and how many are well."""
    console.print(_table(rows))
    wrong, all = _print_cards(rows, console)
    line = f"connections as they should be: {all - wrong:,} of {all:,}"
    console.print(line, highlight=False)


def _print_cards(rows: list[dict[str, Any]], console: Console) -> tuple[int, int]:
    """What is wrong with what to do; of how many connections, and how many there are."""
    linked = [list(group) for _, group in groupby(rows, key=_connection_of)]
    wrong = [card for group in linked if (card := list(_card(group)))]
    for card in wrong:
        for line in card:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
    return len(wrong), len(linked)


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
