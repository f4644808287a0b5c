"""`python -m benchmarks.webhooks`: how many deliveries a second one web process commits.

Deliveries of 2 KB, each with one event and an HMAC, come from a second process on loopback over 64
connections that are kept open. Beside it, in the same run, the bare limit: the same server, checks
and parsing, and an inbox that stores nothing.
"""

import argparse
import asyncio
import base64
import hmac
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import quantiles

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import _machine
from benchmarks._process import Process, obey
from servers import local
from servers.database import database_url_of
from servers.ports import free_port
from settings import Settings, read
from storage.migrate import migrate

SECRET = "benchmark-app-secret"
PUBLIC = "https://app.example.com"
PATH = "/api/webhooks/hubspot"
BODY_BYTES = 2_048
CONNECTIONS = 64
ACCOUNTS = 500
WANTED_RATE, WANTED_P99 = 3_000, 60.0
out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)


@dataclass(frozen=True)
class Round:
    """What the client saw."""

    deliveries: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    server_cpu: float
    postgres_cpu: float
    client_cpu: float

    @property
    def rate(self) -> float:
        return self.deliveries / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atom-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        machine, rounds = _measure(home, options.deliveries, options.rounds)
    if options.json:
        found = {name: [asdict(each) for each in of] for name, of in rounds.items()}
        out.print_json(json.dumps({"machine": machine, **found}))
    else:
        _show(machine, rounds)
    return 0


def _measure(
    home: Path, deliveries: int, count: int
) -> tuple[dict[str, str], dict[str, list[Round]]]:
    with _database(home) as settings:
        url = database_url_of(settings)
        machine = _machine.describe(url)
        rounds: dict[str, list[Round]] = {"committed": [], "bare": []}
        for number in range(count):
            for kind, of in rounds.items():
                err.print(f"round {number + 1} of {count}: {kind}")
                of.append(_round(home, settings, kind, number, deliveries))
        with psycopg.connect(url) as sql:
            stored = sql.execute("SELECT count(*) FROM events").fetchone()
        wanted = deliveries * count + WARM_UP * count
        if stored is None or stored[0] != wanted:
            err.print(f"[red]{stored} events are stored, not {wanted}[/red]")
    return machine, rounds


WARM_UP = 500


@contextmanager
def _database(home: Path) -> Iterator[Settings]:
    """A migrated database with many accounts, and Redis."""
    given = read(_env_file=None, atom_home=home, database_url=None, redis_url=None)
    with local.supervised(given, lambda line: None, lasting=False) as services:
        services.start_database()
        services.start_redis()
        services.add_settings(
            nextauth_url=PUBLIC, nextauth_secret="benchmark" * 5, jwt_secret="benchmark" * 5,
            hubspot_client_secret=SECRET,
        )  # fmt: skip
        url = database_url_of(services.settings)
        asyncio.run(migrate(url))
        with psycopg.connect(url, autocommit=True) as sql:
            sql.execute(
                "INSERT INTO tenants (id, slug, name, tier)"
                " SELECT gen_random_uuid(), 't' || n, 't', 'TEAM' FROM generate_series(1, %s) n",
                (ACCOUNTS,),
            )
            sql.execute(
                "INSERT INTO grants (id, tenant_id, integration, setting_key)"
                " SELECT gen_random_uuid(), id, 'hubspot', 'hubspot_tokens' FROM tenants"
            )
            sql.execute(
                "INSERT INTO connections (id, grant_id, tenant_id, integration, account_id)"
                " SELECT gen_random_uuid(), g.id, t.id, 'hubspot', substr(t.slug, 2)"
                " FROM tenants t JOIN grants g ON g.tenant_id = t.id"
            )
            # As autovacuum does within a minute. Until then PostgreSQL takes an index under which
            # it reads every account of the integration, for each event.
            sql.execute("ANALYZE")
        yield services.settings


def _round(home: Path, settings: Settings, kind: str, number: int, deliveries: int) -> Round:
    """One server process, and one client that delivers as fast as it is answered."""
    port = free_port(8700)
    environment = settings.environment() | {"BENCHMARK_BARE": "1" if kind == "bare" else ""}
    postgres = _machine.postmaster(database_url_of(settings))
    server = Process("benchmarks._webhook_server", home / "server.log", (str(port),), environment)
    client = Process("benchmarks._webhook_client", home / "client.log", (str(port),))
    with server, client:
        server.answer()
        client.ask("deliver", count=WARM_UP, first=number * 10_000_000)
        roots = {"server": server.pid, "postgres": postgres, "client": client.pid}
        before = _machine.used(roots)
        answer = client.ask("deliver", count=deliveries, first=number * 10_000_000 + WARM_UP)
        used = {name: now - before[name] for name, now in _machine.used(roots).items()}
    return Round(
        deliveries=deliveries,
        seconds=answer["took"],
        p50_ms=answer["p50_ms"],
        p99_ms=answer["p99_ms"],
        refused=answer["refused"],
        server_cpu=used["server"],
        postgres_cpu=used["postgres"],
        client_cpu=used["client"],
    )


def _show(machine: dict[str, str], rounds: dict[str, list[Round]]) -> None:
    table = Table("", "events/s", "p50 ms", "p99 ms", "of bare", "CPU: web", "PostgreSQL", "client")
    bare = max(each.rate for each in rounds["bare"])
    for kind, of in rounds.items():
        for each in of:
            table.add_row(
                kind, f"{each.rate:,.0f}", f"{each.p50_ms:.1f}", f"{each.p99_ms:.1f}",
                f"{each.rate / bare:.2f}x", f"{each.server_cpu:.1f} s",
                f"{each.postgres_cpu:.1f} s", f"{each.client_cpu:.1f} s",
            )  # fmt: skip
    out.print(table)
    best = sorted(each.rate for each in rounds["committed"])[len(rounds["committed"]) // 2]
    slow = sorted(each.p99_ms for each in rounds["committed"])[len(rounds["committed"]) // 2]
    for what, met, result in (
        (f">= {WANTED_RATE:,} committed events/s", best >= WANTED_RATE, f"{best:,.0f}"),
        (f"p99 < {WANTED_P99:.0f} ms", slow < WANTED_P99, f"{slow:.1f} ms"),
    ):
        out.print(f"{what}: {result} (median) {'met' if met else 'MISSED'}", highlight=False)
    out.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)


def requests(first: int, count: int) -> list[bytes]:
    """Signed deliveries, made before the clock runs."""
    made = []
    sent = str(int(time.time() * 1000))
    for n in range(first, first + count):
        event = {
            "eventId": n, "subscriptionId": 12, "portalId": n % ACCOUNTS + 1, "occurredAt": n,
            "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "objectId": n % 9_999,
            "propertyName": "notes", "propertyValue": "",
        }  # fmt: skip
        event["propertyValue"] = "x" * (BODY_BYTES - len(json.dumps([event])))
        body = json.dumps([event]).encode()
        mac = hmac.new(
            SECRET.encode(), f"POST{PUBLIC}{PATH}".encode() + body + sent.encode(), sha256
        )
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"x-hubspot-request-timestamp: {sent}\r\n"
            f"x-hubspot-signature-v3: {base64.b64encode(mac.digest()).decode()}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def deliver(port: int, count: int, first: int) -> dict[str, float]:
    """All of them over so many connections, each with one delivery under way."""
    left = requests(first, count)
    took: list[float] = []
    refused = 0

    async def connection() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left:
            request = left.pop()
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            took.append(time.perf_counter() - began)
            refused += not head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            if length:
                await reader.readexactly(length)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    seconds = time.perf_counter() - started
    cuts = quantiles(took, n=100)
    return {
        "took": seconds, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "refused": refused,
    }  # fmt: skip


async def client(port: int) -> None:
    async def ordered(count: int, first: int) -> dict[str, float]:
        return await deliver(port, count, first)

    await obey({"deliver": ordered})


if __name__ == "__main__":
    raise SystemExit(main())
