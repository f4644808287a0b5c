"""The demo: four tenants, sandboxed vendors, real flow runs; and an honest comparison at the end.

The comparison shares no code with the connectors: the sandbox's own store, read through
`/_control`, against plain SQL, every field.
"""

import asyncio
import http.client
import json
import random
import secrets
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from prefect.client.orchestration import PrefectClient
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
)

import sandbox as vendors
from cli.services import start_services, tell_addresses
from cli.status import status_rows, status_table
from connectors import SyncType, all_connectors, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import answered, authorize_url, exchange, identify
from deployments.prefect_api import connected
from deployments.triggers import each_ended, start_sync
from servers import local
from settings import Settings, SettingsError, variables_of
from settings.webhooks import address_of, is_enabled
from storage import connections, grants, inbox, records, tenants
from storage.database import Database
from storage.vault import Vault

SANDBOX_PORT = 4010
TENANTS = (  # slug, name, tier, size of the biggest stream
    ("initech", "Initech", "FREE", 60),
    ("hooli", "Hooli", "SOLO", 120),
    ("acme", "Acme Corporation", "TEAM", 200),
    ("globex", "Globex", "ENTERPRISE", 300),
)
WORKERS = 4
CHANGES = 25  # for each account and round
# Seconds that webhooks get, and that nothing more comes for.
APPLIED_WITHIN, CALM = 60, 3
err = Console(stderr=True)


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


def run(settings: Settings, names: Sequence[str] | None, *, leave: bool, as_json: bool) -> int:
    """Bring everything up, show it, and take it down; the exit status."""
    chosen = _chosen(names)
    try:
        result = _run(settings, chosen, leave=leave)
    except KeyboardInterrupt:
        if leave:  # nothing was compared
            raise
        return 0
    if as_json:
        sys.stdout.write(json.dumps({"equal": result.equal, **vars(result)}, indent=2) + "\n")
    return 0 if result.equal else 1


def _run(settings: Settings, names: Sequence[str], *, leave: bool) -> Result:
    with local.supervised(settings, lambda line: err.print(line, highlight=False)) as services:
        with err.status("starting PostgreSQL, Redis, Prefect, a worker and the sandbox …"):
            start_services(services, limit=WORKERS, sandbox=lambda: _start_sandbox(services, names))
        _tell_vendors_our_addresses(services.settings, names)
        return asyncio.run(_show(services, names, leave=leave))


def _chosen(names: Sequence[str] | None) -> list[str]:
    there = list(vendors.names())
    if unknown := sorted(set(names or ()) - set(there)):
        raise LookupError(f"no sandbox for {', '.join(unknown)}; there are: {', '.join(there)}")
    # What tenants bring a key for has nothing to sync.
    synced = {each.name for each in all_connectors() if each.streams}
    return [name for name in names or there if name in synced]


def _start_sandbox(services: local.Services, names: Sequence[str]) -> None:
    port = local.free_port(SANDBOX_PORT)
    if port != SANDBOX_PORT:
        services.say(f"port {SANDBOX_PORT} is taken: the sandbox listens on {port}")
    origin = f"http://{local.LOOPBACK}:{port}"
    services.start_process(
        "sandbox",
        ["cli", "sandbox", "--port", str(port), "--integrations", ",".join(names), "--json"],
        {},
    )
    services.wait_until_answers("sandbox", f"{origin}/_control")
    described = _control(origin, "GET", "")
    apps: dict[str, str] = {}
    for name in names:
        client_id, client_secret, callback = variables_of(name)
        apps[client_id.lower()] = described[name]["client_id"]
        apps[client_secret.lower()] = described[name]["client_secret"]
        apps[callback.lower()] = f"http://{local.LOOPBACK}/api/integrations/callback"
        apps |= {key.lower(): value for key, value in described[name].get("variables", {}).items()}
        webhook, secret = load(name).webhook, described[name].get("webhook_secret")
        if webhook and webhook.verified_by and secret:
            apps.setdefault(webhook.verified_by.lower(), secret)
    services.add_settings(atom_sandbox_url=origin, **apps)


def _tell_vendors_our_addresses(settings: Settings, names: Sequence[str]) -> None:
    """As an operator does in each vendor's console."""
    for name in names:
        webhook = load(name).webhook
        if webhook is not None and webhook.verified_by and is_enabled(settings, load(name)):
            body = {"url": address_of(settings, name)}
            _control(settings.atom_sandbox_url or "", "POST", f"/{name}/webhook", body)


async def _show(services: local.Services, names: Sequence[str], *, leave: bool) -> Result:
    """Connect, backfill, and then either compare once or go on until Ctrl-C."""
    settings = services.settings
    result = Result()
    async with local.opened(settings) as database, connected(settings) as client:
        linked = await _connect_all(settings, database, names)
        tell_addresses(services)
        err.print(f"look closer: ATOM_HOME={settings.atom_home} atom-sync status")
        await _sync_all(client, database, linked, "backfill", result)
        err.print(status_table(await status_rows(database)))
        if not leave:
            await _go_on(client, settings, database, linked, result)
        _change(settings, linked)
        result.events = await _webhooks_applied(database, linked)
        await _sync_all(client, database, linked, "changes", result)
        result.tables = _compared(settings, linked)
        err.print(status_table(await status_rows(database)))
        _tell(result)
        return result


async def _connect_all(
    settings: Settings, database: Database, names: Sequence[str]
) -> list[connections.Connection]:
    """Every tenant connects every integration, by the vendors' own consent pages."""
    origin = settings.atom_sandbox_url or ""
    keys = settings.encryption_keys
    vault = Vault.parse(keys.get_secret_value() if keys else "")
    transport = Transport(sandbox_url=origin)
    budget = Budget(settings.redis_url.get_secret_value() if settings.redis_url else None)
    try:
        for slug, name, tier, size in TENANTS:
            # The sandbox forgets everything when it ends, so what a former demo knew is stale.
            await tenants.delete(database, slug)
            tenant = await tenants.create(
                database, slug=slug, name=name, tier=tier, contact_email=f"ops@{slug}.example"
            )
            for integration in names:
                connector = load(integration)
                made = _control(
                    origin, "POST", f"/{integration}/accounts",
                    {"size": size, "seed": hash_of(slug, integration)},
                )  # fmt: skip
                account = made["id"]
                answers = made.get("answers", {})
                if connector.feed is not None:  # what can be listened to is
                    answers = {**answers, connector.feed.wanted: "yes"}
                app = answered(connector.oauth, settings.app(integration), answers)
                verifier = secrets.token_urlsafe(48) if connector.oauth.pkce else None
                asked = authorize_url(connector.oauth, app, state=slug, code_verifier=verifier)
                answer = _consent(origin, asked, account)
                granted = await exchange(
                    connector, app, code=answer["code"], code_verifier=verifier,
                    transport=transport, budget=budget,
                )  # fmt: skip
                accounts = await identify(
                    connector, granted, answer, transport=transport, budget=budget
                )
                await grants.connect(
                    database, vault, tenant_id=tenant.id, integration=integration,
                    tokens=granted, accounts=accounts,
                )  # fmt: skip
        return await connections.listing(database)
    finally:
        await budget.aclose()
        await transport.close()


def hash_of(*words: str) -> int:
    """The same seed for the same words in every run."""
    return zlib.crc32("/".join(words).encode())


async def _sync_all(
    client: PrefectClient,
    database: Database,
    linked: Sequence[connections.Connection],
    trigger: str,
    result: Result,
) -> None:
    """One flow run for each connection, picked up by the worker; a bar follows them."""
    by_run = {
        (await start_sync(client, connection, trigger=trigger)).id: connection
        for connection in linked
    }
    skipped: list[connections.Connection] = []
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rows]} rows"),
        console=err,
        transient=True,
    ) as progress:
        bar = progress.add_task(f"{trigger}: flow runs", total=len(by_run), rows="0")
        counting = asyncio.create_task(_count(database, progress, bar))
        try:
            async for ended in each_ended(client, list(by_run)):
                state = ended.state
                progress.advance(bar)
                if state is not None and state.name == "Skipped":
                    skipped.append(by_run[ended.id])
                    continue
                result.runs.append(
                    {
                        "id": str(ended.id),
                        "name": ended.name,
                        "worker": str(ended.work_pool_name),
                        "state": state.name if state and state.name else "unknown",
                        "message": (state.message if state else None) or "",
                    }
                )
                if state and not state.is_completed():
                    progress.console.print(f"[red]{state.name}[/red] {ended.name}: {state.message}")
        finally:
            counting.cancel()
    if skipped:
        # Its schedule had just begun to sync it, and may have read what was there before.
        await _sync_all(client, database, skipped, trigger, result)


async def _webhooks_applied(database: Database, linked: Sequence[connections.Connection]) -> int:
    """Wait for what webhooks tell of, where any do; how many events were applied."""
    if not any(load(connection.integration).webhook for connection in linked):
        return 0
    before = calm = 0
    with err.status("webhooks tell of the changes, and a drain applies them …"):
        for _ in range(APPLIED_WITHIN):
            await asyncio.sleep(1)
            counted = await inbox.counts(database)
            # What a vendor does not show yet is asked for again in a minute.
            left = counted["pending"] - counted["later"]
            calm = calm + 1 if counted["applied"] == before and not left else 0
            before = counted["applied"]
            if before and calm >= CALM:
                break
    err.print(f"{before:,} events that webhooks brought are applied", highlight=False)
    return before


async def _count(database: Database, progress: Progress, bar: TaskID) -> None:
    while True:
        counts = await records.counts(database)
        progress.update(bar, rows=f"{sum(found.rows for found in counts.values()):,}")
        await asyncio.sleep(1)


async def _go_on(
    client: PrefectClient,
    settings: Settings,
    database: Database,
    linked: Sequence[connections.Connection],
    result: Result,
) -> None:
    """Change a few accounts and sync them, round after round, until Ctrl-C."""
    err.print("changing data in the sandbox and syncing it; Ctrl-C stops everything")
    while True:
        chosen = random.sample(list(linked), min(3, len(linked)))
        _change(settings, chosen)
        await _webhooks_applied(database, chosen)
        # What webhooks tell of is there by now; the rest is polled.
        polled = [one for one in chosen if load(one.integration).sync_type is SyncType.PULL]
        await _sync_all(client, database, polled, "changes", result)
        rows = await status_rows(database)
        synced = {(connection.tenant_slug, connection.integration) for connection in chosen}
        shown = [row for row in rows if (row["tenant"], row["integration"]) in synced]
        err.print(status_table(shown))


def _change(settings: Settings, linked: Sequence[connections.Connection]) -> None:
    for connection in linked:
        _control(
            settings.atom_sandbox_url or "", "POST", f"/{connection.integration}/mutate",
            {"account": connection.account_id, "count": CHANGES},
        )  # fmt: skip


def _compared(settings: Settings, linked: Sequence[connections.Connection]) -> list[dict[str, Any]]:
    """Each table against the sandbox's store, every field; an empty side is a difference."""
    tables: dict[str, dict[str, Any]] = {}
    with psycopg.connect(local.database_url_of(settings)) as sql:
        for connection in linked:
            store = _control(
                settings.atom_sandbox_url or "", "GET",
                f"/{connection.integration}/store?account={quote(connection.account_id)}",
            )["streams"]  # fmt: skip
            for stream, theirs in store.items():
                name = f"{connection.integration}.{stream}"
                ours: dict[str, Any] = dict(
                    sql.execute(
                        "SELECT record_id, data FROM records WHERE stream = %s"
                        " AND connection_id = %s AND deleted_at IS NULL",
                        (name, connection.id),
                    ).fetchall()
                )
                table = tables.setdefault(name, {"table": name, "rows": 0, "different": []})
                table["rows"] += len(ours)
                table["different"] += [
                    f"{connection.tenant_slug}: {key}"
                    for key in sorted(ours.keys() | theirs.keys())
                    if ours.get(key) != theirs.get(key)
                ]
    for table in tables.values():
        table["equal"] = bool(table["rows"]) and not table["different"]
    return list(tables.values())


def _tell(result: Result) -> None:
    for table in result.tables:
        verdict = "[green]equal to the sandbox[/green]"
        if table["different"]:
            shown = ", ".join(table["different"][:5])
            verdict = f"[red]{len(table['different'])} records differ[/red]: {shown}"
        elif not table["rows"]:
            verdict = "[red]empty[/red]"
        err.print(f"{table['table']:32} {table['rows']:>7,} rows  {verdict}", highlight=False)


def _consent(origin: str, asked: str, account: str) -> dict[str, str]:
    """Say yes on the vendor's page, as a person would; what the callback would be given."""
    page = asked.replace("https://", f"{origin}/", 1)
    form = urlencode({"decision": "allow", "account": account})
    status, headers, body = _call(page, "POST", form, "application/x-www-form-urlencoded")
    if status not in (302, 303):
        raise SettingsError(f"the sandbox's consent page answered {status}: {body[:200]!r}")
    return dict(parse_qsl(urlsplit(headers["location"]).query))


def _control(origin: str, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body)
    status, _, answer = _call(f"{origin}/_control{path}", method, content, "application/json")
    if status >= 400:
        raise SettingsError(f"the sandbox refused {method} {path}: {answer[:200]!r}")
    return json.loads(answer)


def _call(
    url: str, method: str, content: str | None, content_type: str
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, content, {"content-type": content_type})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()
