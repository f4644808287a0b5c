"""`python -m benchmarks.schedules`: how soon schedules follow 60,000 connections, and how evenly
the work lies in a month of them.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import _machine
from benchmarks._many import registered
from benchmarks._month import Month, month
from benchmarks._report import Verdict
from benchmarks._run import Say, pids
from connectors import load
from deployments.desired import TIERS
from deployments.prefect_api import connected, standing
from deployments.reconcile import reconcile
from servers import local
from servers.database import database_url_of, opened
from settings import Settings, read
from storage.migrate import migrate

out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False)

TENANTS, QUICK_TENANTS = 3_000, 80
MOST_DEPLOYMENTS, MOST_SCHEDULES = 100, 20
MOST_SECONDS_FIRST, MOST_SECONDS_CHANGES, MOST_TIMES_THE_MEAN = 60, 5, 2.0
# Every tier's interval is another: what an operator may do to all schedules at once.
OTHER = "FREE.PULL=2w, SOLO.PULL=2d, TEAM.PULL=2h, ENTERPRISE.PULL=10m"

_CONNECT = """
WITH made AS (
    INSERT INTO tenants (id, slug, name, tier)
    SELECT gen_random_uuid(), 'tenant-' || n, 'Tenant ' || n,
        (ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE'])[n %% 4 + 1]
    FROM generate_series(1, %(tenants)s) n RETURNING id
), granted AS (
    INSERT INTO grants (id, tenant_id, integration, setting_key)
    SELECT gen_random_uuid(), made.id, name, name || '_tokens'
    FROM made, unnest(CAST(%(names)s AS text[])) name
    RETURNING id, tenant_id, integration
)
INSERT INTO connections (id, tenant_id, grant_id, integration, account_id, next_due_at)
SELECT gen_random_uuid(), tenant_id, id, integration, 'a', now() FROM granted
"""
# A hundred: tenants on other tiers, connections that stop, go and come.
_CHANGES = (
    "UPDATE tenants SET tier = CASE tier WHEN 'FREE' THEN 'SOLO' ELSE 'FREE' END"
    " WHERE id IN (SELECT id FROM tenants ORDER BY md5(slug) LIMIT 25)",
    "UPDATE connections SET status = 'needs_reauth'"
    " WHERE id IN (SELECT id FROM connections ORDER BY md5(id::text) LIMIT 25)",
    "DELETE FROM connections"
    " WHERE id IN (SELECT id FROM connections ORDER BY md5(id::text) DESC LIMIT 25)",
    "INSERT INTO connections (id, tenant_id, grant_id, integration, account_id, next_due_at)"
    " SELECT gen_random_uuid(), tenant_id, grant_id, integration, 'b', now()"
    " FROM connections WHERE status = 'active' ORDER BY md5(id::text || 'b') LIMIT 25",
)
# Two thousand connections that move at once: 40 deployments have other numbers, 20 a schedule more.
_MOVE = (
    "UPDATE tenants SET tier = 'SOLO'"
    " WHERE id IN (SELECT id FROM tenants WHERE tier = 'FREE' ORDER BY md5(slug) DESC LIMIT 100)"
)


@dataclass
class Step:
    """One reconciliation: what it changed, what that took, and what it asked of Prefect."""

    title: str
    changed: int
    seconds: float
    reads: int
    writes: int
    cpu: _machine.Cpu


@dataclass
class Results:
    """All that was measured, and on what."""

    machine: dict[str, str]
    connections: int
    steps: list[Step] = field(default_factory=list)
    deployments: int = 0
    schedules: int = 0
    most_schedules: int = 0
    rest: _machine.Cpu = field(default_factory=dict)
    month: Month = field(default_factory=lambda: Month((), ()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args()
    zoneinfo.reset_tzpath(to=())  # as `atom-sync up` has it, for Prefect and the web process
    results = measure(
        QUICK_TENANTS if options.quick else TENANTS, err.print, rest=5 if options.quick else 60
    )
    if options.json:
        targets = [asdict(verdict) for verdict in verdicts(results)]
        out.print_json(json.dumps({**asdict(results), "targets": targets}))
    else:
        _show(results)
    if options.quick:
        err.print("--quick shows that the benchmark works; its numbers say nothing about speed")
    return 0


class _Calls(logging.Handler):
    """Counts what is asked of the Prefect API, as httpx tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = 0

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        if record.args[0] == "GET" or str(record.args[1]).endswith("/filter"):
            self.reads += 1
        else:
            self.writes += 1


@contextmanager
def _counted() -> Iterator[_Calls]:
    calls, logger = _Calls(), logging.getLogger("httpx")
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(calls)
    try:
        yield calls
    finally:
        logger.removeHandler(calls)
        logger.setLevel(level)
        logger.propagate = propagates


def measure(tenants: int, say: Say, *, rest: float) -> Results:
    """Everything, on servers that are started for it and stopped after it."""
    with registered() as names, _servers(say) as services:
        settings = services.settings
        url = database_url_of(settings)
        asyncio.run(migrate(url, connectors=[load(name) for name in names]))
        _execute(url, _CONNECT, {"tenants": tenants, "names": list(names)})
        servers = pids(services.home)
        results = Results(_machine.describe(url), tenants * len(names))
        _step(results, "from nothing", settings, servers, say)
        _step(results, "nothing has changed", settings, servers, say)
        for statement in _CHANGES:
            _execute(url, statement)
        _step(results, "100 changes", settings, servers, say)
        _execute(url, _MOVE)
        _step(results, "100 tenants from FREE to SOLO", settings, servers, say)
        other = read(**{**dict(settings), "sync_intervals": OTHER})
        _step(results, "every interval is another", other, servers, say)
        _step(results, "and back", settings, servers, say)
        asyncio.run(_count(settings, results))
        say(f"the servers at rest, for {rest:g} s …")
        before = _machine.used(servers)
        time.sleep(rest)
        results.rest = _used_since(before, servers, per=rest / 60)
        say("a month of schedules …")
        results.month = month(results.connections, names)
        return results


@contextmanager
def _servers(say: Say) -> Iterator[local.Services]:
    with tempfile.TemporaryDirectory(prefix="atom-bench-") as folder, chdir(folder):
        given = read(
            atom_home=Path(folder), database_url=None, redis_url=None, prefect_api_url=None,
            encryption_keys=None, prefect_api_database_connection_url=None, atom_schema="public",
            sync_intervals="",
        )  # fmt: skip
        with local.supervised(given, say) as services:
            say("starting PostgreSQL and Prefect …")
            services.start_database()
            services.start_prefect()
            yield services


def _step(
    results: Results, title: str, settings: Settings, servers: dict[str, int], say: Say
) -> None:
    _machine.settle(servers)
    with _counted() as calls:
        before, own, began = _machine.used(servers), time.process_time(), time.perf_counter()
        changed = asyncio.run(_reconcile(settings))
        seconds, own = time.perf_counter() - began, time.process_time() - own
    _machine.settle(servers)
    cpu = {"own": own, **_used_since(before, servers)}
    results.steps.append(Step(title, changed, seconds, calls.reads, calls.writes, cpu))
    say(f"{title}: {changed} deployments written in {seconds:.1f} s")


async def _reconcile(settings: Settings) -> int:
    async with opened(settings) as database:
        plan = await reconcile(settings, database)
    assert plan is not None
    assert not plan.problems
    return len(plan.changes)


def _used_since(before: _machine.Cpu, servers: dict[str, int], per: float = 1.0) -> _machine.Cpu:
    after = _machine.used(servers)
    return {name: (after[name] - before[name]) / per for name in servers}


async def _count(settings: Settings, results: Results) -> None:
    async with connected(settings) as client:
        found = (await standing(client, [TIERS])).deployments.values()
    many = [len(deployment.schedules) for deployment in found]
    results.deployments, results.schedules, results.most_schedules = len(many), sum(many), max(many)


def _execute(url: str, statement: str, values: Any = None) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


def verdicts(results: Results) -> list[Verdict]:
    """The targets, and whether they are met."""
    steps = {step.title: step for step in results.steps}
    first, changes = steps["from nothing"], steps["100 changes"]
    again, loads = steps["nothing has changed"], results.month
    return [
        Verdict(
            f"{results.connections:,} connections: deployments",
            f"under {MOST_DEPLOYMENTS}, of at most {MOST_SCHEDULES} schedules",
            f"{results.deployments}, of at most {results.most_schedules}"
            f" ({results.schedules} in all)",
            results.deployments < MOST_DEPLOYMENTS and results.most_schedules <= MOST_SCHEDULES,
        ),
        Verdict(
            "from nothing", f"under {MOST_SECONDS_FIRST} s", f"{first.seconds:.1f} s",
            first.seconds < MOST_SECONDS_FIRST,
        ),
        Verdict(
            "100 changes", f"under {MOST_SECONDS_CHANGES} s",
            f"{changes.seconds:.1f} s, {changes.changed} deployments written",
            changes.seconds < MOST_SECONDS_CHANGES,
        ),
        Verdict("nothing has changed", "no writing call", str(again.writes), not again.writes),
        Verdict(
            "a month: connections that are synced as often as their tier says", "all",
            f"all but {len(loads.off):,}" if loads.off else "all", not loads.off,
        ),
        Verdict(
            "a month: the highest load of a minute", f"at most {MOST_TIMES_THE_MEAN:g}x its hour's",
            f"{loads.worst:.2f}x", loads.worst <= MOST_TIMES_THE_MEAN,
        ),
    ]  # fmt: skip


COLUMNS = (
    "", "written", "seconds", "reading calls", "writing calls",
    "CPU s, own", "CPU s, Prefect", "CPU s, PostgreSQL",
)  # fmt: skip


def rows(results: Results) -> list[tuple[str, ...]]:
    """What was measured, a line for each reconciliation."""
    found = [
        (step.title, str(step.changed), f"{step.seconds:.1f}", str(step.reads), str(step.writes),
         *_cpu(step.cpu))
        for step in results.steps
    ]  # fmt: skip
    return [*found, ("a minute of rest after that", "", "", "", "", *_cpu(results.rest))]


def _cpu(used: _machine.Cpu) -> tuple[str, ...]:
    names = ("own", "prefect", "postgresql")
    return tuple(f"{used[name]:.1f}" if name in used else "" for name in names)


def _show(results: Results) -> None:
    values, targets = Table(*COLUMNS), Table("target", "wanted", "result", "")
    for column in values.columns[1:]:
        column.justify = "right"
    for row in rows(results):
        values.add_row(*row)
    for verdict in verdicts(results):
        word = f"[{'green' if verdict.met else 'red'}]{verdict.word}[/]"
        targets.add_row(verdict.title, verdict.target, verdict.result, word)
    out.print(values, targets)
    machine = results.machine
    out.print(
        f"{results.connections:,} connections of 20 made-up integrations, a quarter on each tier."
        f" {machine['date']}, {machine['cpu']}, {machine['memory']}, {machine['system']}; Python"
        f" {machine['python']}, PostgreSQL {machine['postgresql']}, Prefect {machine['prefect']}."
        f" Load at the start {machine['load']}, nice {machine['nice']}.",
        highlight=False,
    )


if __name__ == "__main__":
    raise SystemExit(main())
