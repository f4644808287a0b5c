"""`python -m benchmarks.latency`: how long from a webhook to the visible row.

Everything of `up` runs on this machine, with the sandboxed HubSpot beside it. A contact is changed
there, a signed delivery tells of it, and the row is looked for with plain SQL. Warm, a drain is
alive; cold, none is, and the run has to start in a process of its own. Beside the cold ones, in the
same run: a scheduled flow of ours with nothing to do, from its creation to its end.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx  # noqa: TID251 - a benchmark is the vendor that delivers
import psycopg
from prefect.client.orchestration import PrefectClient
from rich.console import Console

import sandbox
from benchmarks import _machine
from connectors import Account, load
from connectors.kernel.token_answers import Tokens
from deployments.triggers import each_ended
from servers import local
from servers.database import database_url_of, opened
from settings import Settings, untouched
from settings.webhooks import address_of
from storage import grants, tenants
from storage.database import Database
from storage.migrate import migrate
from storage.vault import Vault

WARM, COLD = 40, 3
EMPTY = "notify/scheduled"
WANTED_MEDIAN, WANTED_P95, WANTED_COLD = 1.0, 2.0, 2.0
out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--warm", type=int, default=WARM)
    parser.add_argument("--cold", type=int, default=COLD)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="atom-bench-") as folder,
        sandbox.start(["hubspot"]) as origin,
    ):
        home = Path(folder)
        home.chmod(0o711)
        found = _measure(home, origin, options.warm, options.cold)
    if options.json:
        out.print_json(json.dumps(found))
    else:
        _show(found)
    return 0


def _measure(home: Path, origin: str, warm: int, cold: int) -> dict[str, Any]:
    with local.supervised(untouched(home), lambda line: None, lasting=False) as services:
        services.start_database()
        asyncio.run(migrate(database_url_of(services.settings), connectors=[load("hubspot")]))
        services.start_redis()
        described = httpx.get(f"{origin}/_control").json()["hubspot"]
        services.add_settings(
            atom_sandbox_url=origin,
            atom_drain_linger_seconds="5",
            hubspot_client_id=described["client_id"],
            hubspot_client_secret=described["client_secret"],
        )
        services.start_prefect()
        asyncio.run(services.deploy())
        services.start_web()
        services.start_worker(4)
        settings = services.settings
        vendor = _Vendor(settings, origin, asyncio.run(_connect(settings, origin)))
        err.print("the first delivery starts a drain …")
        vendor.round()
        warm_seconds = []
        for number in range(warm):
            err.print(f"warm {number + 1} of {warm}", end="\r")
            warm_seconds.append(vendor.round())
            time.sleep(0.7)
        cold_seconds, empty_seconds = [], []
        for number in range(cold):
            err.print(f"cold {number + 1} of {cold}: waiting for the drain to leave")
            vendor.wait_until_left()
            empty_seconds.append(asyncio.run(_empty_run(settings)))
            cold_seconds.append(vendor.round())
        return {
            "machine": _machine.describe(database_url_of(settings)),
            "warm": warm_seconds,
            "cold": cold_seconds,
            "empty": empty_seconds,
        }


class _Vendor:
    """HubSpot's side: a contact changes, and a delivery tells of it."""

    def __init__(self, settings: Settings, origin: str, account: str) -> None:
        self._settings, self._origin, self._account = settings, origin, account
        self._http = httpx.Client(timeout=60, trust_env=False)
        self._sql = psycopg.connect(database_url_of(settings), autocommit=True)
        address = address_of(settings, "hubspot")
        self._control("webhook", {"url": address})

    def _control(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(f"{self._origin}/_control/hubspot/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def round(self) -> float:
        """Seconds from the vendor's change to the row, which the sandbox's own delivery brings."""
        record = {"properties": {"firstname": f"n{time.time_ns()}"}}
        body = {"op": "add", "record": record}
        began = time.perf_counter()
        key = self._control(f"records/contacts?account={self._account}", body)["id"]
        query = "SELECT 1 FROM records WHERE stream = 'hubspot.contacts' AND record_id = %s"
        while self._sql.execute(query, (key,)).fetchone() is None:
            if time.perf_counter() - began > 120:
                raise TimeoutError("no row within two minutes")
            time.sleep(0.005)
        return time.perf_counter() - began

    def wait_until_left(self) -> None:
        query = "SELECT 1 FROM drains WHERE alive_until IS NOT NULL"
        while self._sql.execute(query).fetchone() is not None:
            time.sleep(0.2)


async def _connect(settings: Settings, origin: str) -> str:
    control = f"{origin}/_control/hubspot"
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        account = str((await http.post(f"{control}/accounts", json={"size": 50})).json()["id"])
        granted = (await http.post(f"{control}/grant", json={"account": account})).json()
    keys = settings.encryption_keys
    async with opened(settings) as database:
        await _keep(
            database, Vault.parse(keys.get_secret_value() if keys else ""), account, granted
        )
    return account


async def _keep(database: Database, vault: Vault, account: str, granted: dict[str, Any]) -> None:
    tenant = await tenants.create(database, "acme", "Acme", "TEAM")
    tokens = Tokens(granted["access_token"], granted["refresh_token"], None, ())
    await grants.connect(
        database, vault, tenant_id=tenant.id, integration="hubspot", tokens=tokens,
        accounts=[Account(account)],
    )  # fmt: skip


async def _empty_run(settings: Settings) -> float:
    """Seconds that a flow of ours takes which has nothing to do, on the same worker."""
    async with PrefectClient(settings.prefect_api_url or "") as client:
        deployment = await client.read_deployment_by_name(EMPTY)
        began = time.perf_counter()
        run = await client.create_flow_run_from_deployment(deployment.id)
        async for _ in each_ended(client, [run.id], every=0.05):
            continue
        return time.perf_counter() - began


def _show(found: dict[str, Any]) -> None:
    warm, cold, empty = found["warm"], found["cold"], found["empty"]
    p95 = quantiles(warm, n=20)[18]
    over = median(cold) - median(empty)
    for what, met, result in (
        (f"warm, median <= {WANTED_MEDIAN:g} s", median(warm) <= WANTED_MEDIAN, median(warm)),
        (f"warm, p95 <= {WANTED_P95:g} s", p95 <= WANTED_P95, p95),
        (f"cold, over an empty run <= {WANTED_COLD:g} s", over <= WANTED_COLD, over),
    ):
        out.print(f"{what}: {result:.2f} s {'met' if met else 'MISSED'}", highlight=False)
    rows = (("warm", warm), ("cold", cold), ("empty run", empty))
    for name, seconds in rows:
        shown = f"{min(seconds):.2f} - {max(seconds):.2f} s, median {median(seconds):.2f} s"
        out.print(f"{name}: {shown} ({len(seconds)})", highlight=False)
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    out.print(machine, highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
