"""`python -m benchmarks.claims`: taking what is due at 60,000 connections, by eight at once.

Every connection of 20 integrations and 4 tiers is due. Eight processes take them, in batches of
50; two begin with each scope, so that they meet. Beside it, what counting for `/metrics` takes.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import psycopg
from rich.console import Console

from benchmarks import _machine
from benchmarks._process import Answer, Process
from servers import local
from servers.database import database_url_of
from settings import read
from storage.database import Database
from storage.metrics import measure
from storage.migrate import migrate

INTEGRATIONS = [f"integration-{number}" for number in range(1, 21)]
CLAIMERS = 8
WANTED_MS = 50.0
out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)

_MAKE = """
WITH made AS (
    INSERT INTO tenants (id, slug, name, tier)
    SELECT gen_random_uuid(), 't-' || n, 't',
        (ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE'])[n %% 4 + 1]
    FROM generate_series(1, %(tenants)s) n RETURNING id
), granted AS (
    INSERT INTO grants (id, tenant_id, integration, setting_key)
    SELECT gen_random_uuid(), id, i, i || '_tokens' FROM made, unnest(%(integrations)s::text[]) i
    RETURNING id, tenant_id, integration
)
INSERT INTO connections (id, tenant_id, grant_id, integration, account_id, next_due_at)
SELECT gen_random_uuid(), tenant_id, id, integration, 'a', now() - random() * interval '1 hour'
FROM granted
"""
_STREAMS = """
INSERT INTO sync_intervals (integration, tier, stream, every, every_watched)
SELECT i, t, 's' || s, interval '1 hour', interval '1 hour'
FROM unnest(%(integrations)s::text[]) i, unnest(ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE']) t,
    generate_series(1, 5) s;
"""
_READ = """
INSERT INTO checkpoints (connection_id, tenant_id, stream, last_synced_at)
SELECT id, tenant_id, 's' || s, now() - random() * interval '3 hours'
FROM connections, generate_series(1, 5) s
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--connections", type=int, default=60_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atom-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        with _database(home) as url:
            values = {"tenants": options.connections // 20, "integrations": INTEGRATIONS}
            with psycopg.connect(url, autocommit=True) as sql:
                for statement in (_MAKE, _STREAMS, _READ):
                    sql.execute(statement, values)
                sql.execute("VACUUM ANALYZE")
            machine = _machine.describe(url)
            claiming = _claim_all(home, url)
            counting = asyncio.run(_count(url))
    _show(machine, options.connections, claiming, counting)
    return 0


@contextmanager
def _database(home: Path) -> Iterator[str]:
    given = read(_env_file=None, atom_home=home, database_url=None, redis_url=None)
    with local.supervised(given, lambda line: None, lasting=False) as services:
        services.start_database()
        url = database_url_of(services.settings)
        asyncio.run(migrate(url))
        yield url


@dataclass(frozen=True)
class _Claiming:
    """What every claimer answered, how long they took together, and the CPU seconds by whose."""

    answers: list[Answer]
    seconds: float
    cpu: _machine.Cpu


def _claim_all(home: Path, url: str) -> _Claiming:
    with ExitStack() as stack:
        claimers = [
            stack.enter_context(Process("benchmarks._claimer", home / "logs" / "claimers.log"))
            for _ in range(CLAIMERS)
        ]
        for claimer in claimers:  # started, and connected once
            claimer.ask("run", url=url, integrations=[], first=0)
        roots = {f"{number}": claimer.pid for number, claimer in enumerate(claimers)}
        roots["postgresql"] = _machine.postmaster(url)
        before, started = _machine.used(roots), time.perf_counter()
        with ThreadPoolExecutor(CLAIMERS) as threads:
            answers = list(
                threads.map(
                    lambda numbered: numbered[1].ask(
                        "run", url=url, integrations=INTEGRATIONS, first=numbered[0] // 2 * 20
                    ),
                    enumerate(claimers),
                )
            )
        seconds, after = time.perf_counter() - started, _machine.used(roots)
        return _Claiming(answers, seconds, {name: after[name] - before[name] for name in roots})


async def _count(url: str) -> float:
    database = Database.connect(url)
    try:
        started = time.perf_counter()
        await measure(database)
        return time.perf_counter() - started
    finally:
        await database.close()


def _show(machine: dict[str, str], wanted: int, claiming: _Claiming, counting: float) -> None:
    times = [1000 * each for answer in claiming.answers for each in answer["times"]]
    taken = [id for answer in claiming.answers for id in answer["taken"]]
    p50, p99 = quantiles(times, n=100)[49], quantiles(times, n=100)[98]
    word = "[green]met[/green]" if p99 < WANTED_MS else "[red]missed[/red]"
    out.print(
        f"{len(times):,} claims of up to 50 by {CLAIMERS} at once in {claiming.seconds:.1f} s:"
        f" p50 {p50:.1f} ms, p99 {p99:.1f} ms (wanted: under {WANTED_MS:g}), {word}"
    )
    cpu = {name: 1000 * each / len(times) for name, each in claiming.cpu.items()}
    postgres = cpu.pop("postgresql")
    out.print(f"CPU ms a claim: ours {sum(cpu.values()):.1f}, PostgreSQL {postgres:.1f}")
    twice = len(taken) - len(set(taken))
    out.print(f"of {wanted:,} connections {len(set(taken)):,} were taken, {twice} of them twice")
    out.print(f"counting for /metrics, 5 streams a connection: {counting:.2f} s")
    out.print(f"{machine['date']}, {machine['cpu']}, load at the start {machine['load']}")


if __name__ == "__main__":
    raise SystemExit(main())
