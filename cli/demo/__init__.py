"""The demo: four tenants, sandboxed vendors, real flow runs; at the end an honest comparison."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient

from cli.connect import link_for
from cli.demo import comparison, vendors
from cli.demo.display import Display
from cli.demo.tenants import NEWCOMER, connect_all
from cli.services import start_services, tell_addresses
from cli.status import print_status, status_rows
from cli.terminal import err, pasted, print_json, say
from connectors import SyncType
from connectors.kernel.cancellation import end
from deployments.prefect_api import connected, patiently
from deployments.triggers import each_ended, start_sync
from integrations import load
from servers import local
from servers.database import opened
from servers.revival import Revival
from settings import Settings
from storage import Status, connections, inbox, records
from storage.database import Database

WORKERS = 4
AUDIT = "audit"
# Seconds that webhooks get, and that nothing more comes for.
APPLIED_WITHIN, CALM = 60, 3
# How long the newcomer's link can be opened.
LINK_LIFE = timedelta(days=1)


@dataclass
class Result:
    """What a demo found out: the runs the worker ran, and where tables and sandbox differ.

    `events` counts those that vendors' webhooks delivered, and that a drain applied.
    """

    runs: list[dict[str, str]] = field(default_factory=list)
    events: int = 0
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        ran = bool(self.runs) and all(run["state"] == "Completed" for run in self.runs)
        return ran and bool(self.tables) and all(table["equal"] for table in self.tables)


@dataclass(frozen=True)
class Demo:
    """A demo that is up: everything that its steps need."""

    services: local.Services
    client: PrefectClient
    database: Database
    display: Display
    result: Result

    @property
    def settings(self) -> Settings:
        return self.services.settings


def run(settings: Settings, given: str | None, *, leave: bool, as_json: bool) -> int:
    """Bring everything up, show it, and take it down; the exit status."""
    names = vendors.chosen(given)
    try:
        result = _run(settings, names, leave=leave)
    except KeyboardInterrupt:
        if leave:  # nothing was compared
            raise
        return 0
    if as_json:
        print_json({"equal": result.equal, **vars(result)})
    return 0 if result.equal else 1


def _run(settings: Settings, names: Sequence[str], *, leave: bool) -> Result:
    with local.supervised(settings, say) as services:
        with err.status("starting PostgreSQL, Redis, Prefect, a worker and the sandbox …"):
            start_services(services, limit=WORKERS, sandbox=lambda: vendors.start(services, names))
        vendors.tell_our_addresses(services.settings, names)
        return asyncio.run(_shown(services, names, leave=leave))


async def _shown(services: local.Services, names: Sequence[str], *, leave: bool) -> Result:
    """The demo, beside what starts parts again that end by themselves."""
    display = Display()
    services.say = display.note
    reviving = asyncio.create_task(_revive(services))
    showing = asyncio.create_task(_show(services, names, display, leave=leave))
    try:
        await asyncio.wait([reviving, showing], return_when=asyncio.FIRST_COMPLETED)
        if reviving.done():
            reviving.result()  # why nothing is started again any more
        return await showing
    finally:
        await end(reviving, showing)


async def _revive(services: local.Services) -> None:
    revival = Revival(services)
    while True:
        await asyncio.sleep(1)
        revival.look()


async def _show(
    services: local.Services, names: Sequence[str], display: Display, *, leave: bool
) -> Result:
    """Connect, backfill, and then either compare once or go on until Ctrl-C."""
    async with opened(services.settings) as database, connected(services.settings) as client:
        demo = Demo(services, client, database, display, Result())
        linked = await connect_all(demo.settings, database, names)
        await _tell_where_to_look(demo, linked, leave=leave)
        with demo.display.shown():
            await _sync_all(demo, linked, "backfill")
            if not leave:
                await _go_on(demo, linked)
            vendors.change(demo.settings, linked)
            demo.result.events = await _webhooks_applied(demo, linked)
            await _sync_all(demo, linked, "changes")
            demo.result.tables = comparison.compare(demo.settings, linked)
            if late := comparison.only_audits_find(demo.result.tables, linked):
                # What hung on a deleted record is gone without a word at some vendors.
                names = ", ".join(map(str, late))
                demo.display.note(f"audited today and not next week, for deletions untold: {names}")
                await _sync_all(demo, late, AUDIT)
                demo.result.tables = comparison.compare(demo.settings, linked)
        print_status(await status_rows(database), err)
        comparison.tell(demo.result.tables)
        return demo.result


async def _tell_where_to_look(
    demo: Demo, linked: Sequence[connections.Connection], *, leave: bool
) -> None:
    tell_addresses(demo.services)
    of = {one.integration for one in linked}
    say(f"{len(linked)} connections of 4 tenants are made, of {', '.join(sorted(of))}")
    if leave:
        return
    link = await link_for(demo.settings, demo.database, NEWCOMER, life=LINK_LIFE)
    say(f"connect an account by hand, as a fifth tenant: {link.url}")
    home = demo.settings.home
    say(f"another link:   {pasted(home, 'connect', NEWCOMER)}")
    say(f"look closer:    {pasted(home, 'status')}")
    say(f"with SQL:       {pasted(home, 'sql')}")
    say("Ctrl-C stops everything")


async def _sync_all(demo: Demo, linked: Sequence[connections.Connection], trigger: str) -> None:
    """One flow run for each connection, picked up by the worker."""
    by_run = {(await _begin(demo, connection, trigger)): connection for connection in linked}
    once_more: list[connections.Connection] = []
    ended = 0
    counting = asyncio.create_task(_count(demo))
    try:
        async for run in each_ended(demo.client, list(by_run)):
            ended += 1
            demo.display.say(now=f"{trigger}: {ended} of {len(by_run)} flow runs have ended")
            state = run.state
            # Its schedule had just begun to sync it, and may have read what was there before; or
            # what ran it has died.
            if state is not None and (state.name == "Skipped" or state.is_crashed()):
                once_more.append(by_run[run.id])
                continue
            demo.result.runs.append(
                {
                    "id": str(run.id),
                    "name": run.name,
                    "worker": str(run.work_pool_name),
                    "state": state.name if state and state.name else "unknown",
                    "message": (state.message if state else None) or "",
                }
            )
            if state and not state.is_completed():
                demo.display.note(f"{state.name} {run.name}: {state.message}", style="red")
    finally:
        await end(counting)
    if once_more:
        await _sync_all(demo, once_more, trigger)


async def _begin(demo: Demo, connection: connections.Connection, trigger: str) -> UUID:
    key = f"demo:{uuid4()}"
    run = await patiently(
        lambda: start_sync(
            demo.client, connection, trigger=trigger, audit=trigger == AUDIT, idempotency_key=key
        )
    )
    return run.id


async def _count(demo: Demo) -> None:
    """The lines that count, for as long as it is let."""
    while True:
        counts = await records.counts(demo.database)
        events = await inbox.counts(demo.database)
        done = sum(run["state"] == "Completed" for run in demo.result.runs)
        failed = len(demo.result.runs) - done
        demo.display.say(
            records=f"{sum(found.rows for found in counts.values()):,}",
            runs=f"{done:,} completed" + (f", {failed:,} not" if failed else ""),
            webhooks=f"{events['applied']:,} events applied, {events['pending']:,} wait",
        )
        await asyncio.sleep(1)


async def _webhooks_applied(demo: Demo, linked: Sequence[connections.Connection]) -> int:
    """Wait for what webhooks tell of, where any do; how many events were applied."""
    if not any(load(connection.integration).webhook for connection in linked):
        return 0
    before = calm = 0
    demo.display.say(now="webhooks tell of the changes, and a drain applies them")
    for _ in range(APPLIED_WITHIN):
        await asyncio.sleep(1)
        counted = await inbox.counts(demo.database)
        # What a vendor does not show yet is asked for again in a minute.
        left = counted["pending"] - counted["later"]
        calm = calm + 1 if counted["applied"] == before and not left else 0
        before = counted["applied"]
        if before and calm >= CALM:
            break
    return before


async def _go_on(demo: Demo, linked: Sequence[connections.Connection]) -> None:
    """Change a few accounts and sync them, round after round, until Ctrl-C."""
    demo.display.note("every connection was read whole; now data changes in the sandbox")
    broken: set[str] = set()
    while True:
        chosen = random.sample(list(linked), min(3, len(linked)))
        names = ", ".join(str(connection) for connection in chosen)
        demo.display.say(changed=f"{vendors.CHANGES} records each of {names}")
        vendors.change(demo.settings, chosen)
        await _webhooks_applied(demo, chosen)
        # What webhooks tell of is there by now; the rest is polled.
        polled = [one for one in chosen if load(one.integration).sync_type is SyncType.PULL]
        await _sync_all(demo, polled, "changes")
        for connection in await connections.listing(demo.database):
            name = str(connection)
            if connection.status is Status.ACTIVE:
                broken.discard(name)
            elif name not in broken:
                broken.add(name)
                demo.display.note(f"{name}: {connection.status_reason}", style="red")
