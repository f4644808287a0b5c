"""10,000 webhooks of 500 connections, while Prefect is away and the worker dies: none is lost."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the test is the vendor that delivers
import psycopg
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from connectors import Account, load
from connectors.kernel.token_answers import Tokens
from servers import local
from servers.database import database_url_of
from settings import untouched
from settings.webhooks import address_of
from storage import grants, tenants
from storage.database import Database
from storage.migrate import migrate
from storage.vault import Vault
from tests._delivering import hubspot_event, hubspot_headers
from tests._sandboxed import HTTP

# Connections and events.
# Connections and events: each contact of every account is named by one at least.
SMALL, LARGE, WHOLE = (35, 700), (100, 2_000), (500, 10_000)
AT_ONCE = 64
PREFECT_AWAY_SECONDS = 20


@dataclass
class Machine:
    """Everything of `up` on this machine, and the sandboxed vendor beside it."""

    services: local.Services
    database: Database
    origin: str

    def control(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        address = f"{self.origin}/_control/hubspot{path}"
        answer = HTTP.request(method, address, json=body, params=query)
        answer.raise_for_status()
        return answer.json()

    def one(self, query: str) -> Any:
        with psycopg.connect(database_url_of(self.services.settings)) as sql:
            row = sql.execute(query.encode()).fetchone()
        return row[0] if row else None

    def kill(self, name: str) -> None:
        """SIGKILL to a process of ours and all that it started."""
        process = self.services._started[name]
        for each in [*process.children(recursive=True), process]:
            each.kill()
        process.wait()

    def start(self, name: str) -> None:
        self.services.start_again(name)


@pytest.fixture
def services(home: Path, origin: str, request: pytest.FixtureRequest) -> Iterator[local.Services]:
    # One for each size: what the storm before it left is not to be counted with it.
    connections, _ = request.getfixturevalue("size")
    settings = untouched(home / f"storm{connections}")
    with local.supervised(settings, lambda line: None) as services:
        services.start_database()
        url = database_url_of(services.settings)
        asyncio.run(migrate(url, connectors=[load("hubspot")]))
        services.start_redis()
        described = HTTP.get(f"{origin}/_control").json()["hubspot"]
        services.add_settings(
            atom_sandbox_url=origin,
            hubspot_client_id=described["client_id"],
            hubspot_client_secret=described["client_secret"],
        )
        services.start_prefect()
        asyncio.run(services.deploy())
        services.start_web()
        services.start_worker(4)
        yield services


@pytest.fixture
async def machine(services: local.Services, origin: str) -> AsyncIterator[Machine]:
    database = Database.connect(database_url_of(services.settings))
    yield Machine(services, database, origin)
    await database.close()


async def connect_all(machine: Machine, count: int) -> list[str]:
    """So many accounts at HubSpot, each with its connection; as if each had been backfilled."""
    keys = machine.services.settings.encryption_keys
    vault = Vault.parse(keys.get_secret_value() if keys else "")
    accounts = []
    for number in range(count):
        account = str(machine.control("POST", "/accounts", {"size": 20, "seed": number})["id"])
        granted = machine.control("POST", "/grant", {"account": account})
        tenant = await tenants.create(machine.database, f"t{number}", "T", "TEAM")
        tokens = Tokens(granted["access_token"], granted.get("refresh_token"), None, ())
        await grants.connect(
            machine.database, vault, tenant_id=tenant.id, integration="hubspot", tokens=tokens,
            accounts=[Account(account)],
        )  # fmt: skip
        accounts.append(account)
    return accounts


async def deliver_all(machine: Machine, accounts: list[str], count: int) -> None:
    """As fast as they are answered; a delivery that is not acknowledged is made again."""
    settings = machine.services.settings
    secret = settings.app("hubspot").client_secret
    address = address_of(settings, "hubspot")
    left: list[dict[str, Any]] = [
        {"account": account, "number": number}
        for number in range(count // len(accounts))
        for account in accounts
    ]
    ids = {
        account: list(machine.control("GET", "/store", account=account)["streams"]["contacts"])
        for account in accounts
    }

    async def sender(http: httpx.AsyncClient) -> None:
        while left:
            one = left.pop()
            of = ids[one["account"]]
            event = hubspot_event(
                int(of[one["number"] % len(of)]), portal=one["account"], eventId=len(left)
            )
            body = httpx.Request("POST", address, json=[event]).content
            headers = hubspot_headers(body, secret=secret, url=address)
            try:
                answer = await http.post(address, content=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is None or answer.status_code != 200:
                left.append(one)
                await asyncio.sleep(0.2)

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as http:
        await asyncio.gather(*(sender(http) for _ in range(AT_ONCE)))


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "size",
    [
        SMALL,
        pytest.param(LARGE, marks=pytest.mark.thorough),
        pytest.param(
            WHOLE,
            marks=pytest.mark.skipif(
                "ATOM_WHOLE_STORM" not in os.environ,
                reason="takes minutes of two cores: set ATOM_WHOLE_STORM=1",
            ),
        ),
    ],
)
async def test_every_event_is_applied_whatever_goes_down_meanwhile(
    machine: Machine, size: tuple[int, int]
) -> None:
    linked, events = size
    accounts = await connect_all(machine, linked)
    for account in accounts:
        machine.control("POST", "/mutate", {"account": account, "count": 5, "seed": 3})
    before = machine.one("SELECT count(*) FROM events")
    delivering = asyncio.create_task(deliver_all(machine, accounts, events))
    await _reached(machine, "SELECT count(*) FROM events", events // 5)
    machine.kill("prefect")
    away_since = time.monotonic()
    machine.kill("worker")
    await delivering
    assert machine.one("SELECT count(*) FROM events") - before == events, "stored while it was away"
    await asyncio.sleep(max(0.0, PREFECT_AWAY_SECONDS - (time.monotonic() - away_since)))
    machine.start("prefect")
    machine.start("worker")
    await _reached(machine, "SELECT count(*) FROM events WHERE applied_at IS NOT NULL", events // 3)
    machine.kill("worker")
    machine.start("worker")
    await _reached(machine, "SELECT count(*) FROM events WHERE applied_at IS NOT NULL", events)
    await _check_tables(machine, accounts)
    async with PrefectClient(machine.services.settings.prefect_api_url or "") as client:
        named = FlowFilterName(any_=["sync-events", "drain-events"])
        runs = await client.read_flow_runs(flow_filter=FlowFilter(name=named), limit=200)
    assert len(runs) < 200


async def _reached(machine: Machine, query: str, count: int) -> None:
    deadline = time.monotonic() + 600
    while (reached := machine.one(query)) < count:
        assert time.monotonic() < deadline, f"{reached:,} of {count:,}"
        await asyncio.sleep(0.2)


async def _check_tables(machine: Machine, accounts: list[str]) -> None:
    """Every contact that an event named is as the vendor has it."""
    with psycopg.connect(database_url_of(machine.services.settings)) as sql:
        rows = sql.execute(
            "SELECT c.account_id, r.record_id, r.data FROM records r"
            " JOIN connections c ON c.id = r.connection_id"
            " WHERE r.stream = 'hubspot.contacts' AND r.deleted_at IS NULL"
        ).fetchall()
    ours: dict[str, dict[str, Any]] = {account: {} for account in accounts}
    for account, record_id, data in rows:
        ours[account][record_id] = data
    for account in accounts:
        theirs = machine.control("GET", "/store", account=account)["streams"]["contacts"]
        assert ours[account] == theirs
