"""`python -m benchmarks.dispatch`: runs of `sync` a minute that one worker process sustains.

One scheduled run syncs many connections that have nothing new, from a vendor that takes 50 ms for
an answer. Beside it, in the same process, as many flows of three empty tasks: what Prefect takes
by itself. CPU seconds are by who used them, so they show where the time goes.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import _machine
from benchmarks._process import BenchmarkError, Process
from benchmarks._run import Bench, Scenario, flow_of, pages, servers
from benchmarks._vendor import INTEGRATION, STREAM
from connectors import Account
from connectors.kernel.token_answers import Tokens
from servers.database import opened
from settings import Settings
from storage import grants, tenants
from storage.vault import Vault

RECORDS, LATENCY = 100, 0.05
WANTED_A_MINUTE, WANTED_RATIO = 120, 0.7
out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)


@dataclass
class Series:
    """The rounds of one contestant."""

    count: int
    seconds: list[float] = field(default_factory=list)
    cpu: list[_machine.Cpu] = field(default_factory=list)
    # What Prefect's database grew by: events, which it keeps for hours, and all else, for weeks.
    grew: list[tuple[int, int]] = field(default_factory=list)

    @property
    def a_minute(self) -> float:
        return 60 * self.count / median(self.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument("--connections", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, nargs="+", help="what to set the concurrency to")
    options = parser.parse_args()
    nothing_new = Scenario("nothing new", RECORDS, RECORDS, LATENCY)
    try:
        with servers(err.print) as bench, pages(bench, nothing_new) as origin:
            asyncio.run(_connect(bench.settings, options.connections))
            default = bench.settings.atom_dispatch_concurrency
            machine = _machine.describe(bench.database_url)
            for at_once in options.at_once or [default]:
                bench.environment["ATOM_DISPATCH_CONCURRENCY"] = str(at_once)
                with flow_of(bench, origin) as process:
                    _show(at_once, *_measure(bench, process, options, at_once))
    except BenchmarkError as error:
        err.print(f"[red]error:[/red] {error}")
        return 1
    out.print(
        f"{machine['date']}, {machine['cpu']}, Prefect {machine['prefect']},"
        f" load at the start {machine['load']}"
    )
    return 0


async def _connect(settings: Settings, count: int) -> None:
    """So many tenants, each with a connection."""
    keys = settings.encryption_keys
    vault = Vault.parse(keys.get_secret_value() if keys else "")
    async with opened(settings) as database:
        for number in range(count):
            tenant = await tenants.create(database, f"bench-{number}", "Bench", "TEAM")
            await grants.connect(
                database, vault, tenant_id=tenant.id, integration=INTEGRATION,
                tokens=Tokens("access", None, datetime.now(UTC) + timedelta(days=1), ("read",)),
                accounts=[Account(f"account-{number}")],
            )  # fmt: skip


def _make_due(bench: Bench) -> None:
    """As after a week in which nothing happened at the vendor."""
    bench.execute(
        "INSERT INTO checkpoints (connection_id, tenant_id, stream, state, last_synced_at)"
        f" SELECT id, tenant_id, '{STREAM}', '{{\"after\": {RECORDS}}}',"
        " now() - interval '8 days' FROM connections ON CONFLICT (connection_id, stream)"
        " DO UPDATE SET last_synced_at = now() - interval '8 days'"
    )
    bench.execute("UPDATE connections SET next_due_at = now() - interval '1 minute'")


def _measure(
    bench: Bench, process: Process, options: argparse.Namespace, at_once: int
) -> tuple[Series, Series]:
    syncs, empties = Series(options.connections), Series(options.connections)
    process.ask("idle")
    for number in range(1 + options.rounds):
        _make_due(bench)
        wanted = f"{options.connections} synced"
        told = _round(bench, process, syncs, number > 0, "tier", tier="TEAM")
        if told != wanted:
            raise BenchmarkError(f"the run says {told!r}, not {wanted!r}")
        _round(
            bench, process, empties, number > 0, "empties", count=options.connections,
            at_once=at_once,
        )  # fmt: skip
        err.print(f"  round {number} of {options.rounds}" if number else "  warm-up")
    return syncs, empties


def _round(
    bench: Bench, process: Process, series: Series, counts: bool, order: str, **arguments: object
) -> str:
    roots = bench.servers | {"own": process.pid}
    before, held = _machine.used(roots), _held(bench)
    answer = process.ask(order, **arguments)
    after = _machine.used(roots)
    if counts:
        events, rest = _held(bench)
        series.grew.append((events - held[0], rest - held[1]))
        series.seconds.append(answer["seconds"])
        series.cpu.append({name: after[name] - before[name] for name in roots})
    return str(answer.get("message", ""))


def _held(bench: Bench) -> tuple[int, int]:
    """Bytes of Prefect's tables with their indexes: those of events, and the others."""
    with psycopg.connect(bench.database_url, dbname="prefect") as sql:
        row = sql.execute(
            """
            SELECT sum(size) FILTER (WHERE relname LIKE 'event%'),
                sum(size) FILTER (WHERE relname NOT LIKE 'event%')
            FROM (SELECT relname, pg_total_relation_size(relid) AS size FROM pg_stat_user_tables) t
            """
        ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _show(at_once: int, syncs: Series, empties: Series) -> None:
    table = Table(
        "",
        "a minute",
        "CPU ms a run: ours",
        "Prefect",
        "PostgreSQL",
        "kB a run: events",
        "the rest",
    )
    for name, series in (("sync with nothing new", syncs), ("three empty tasks", empties)):
        cpu = [
            f"{1000 * median(each[who] for each in series.cpu) / series.count:.0f}"
            for who in ("own", "prefect", "postgresql")
        ]
        runs = 1000 * series.count * len(series.grew)
        grew = [f"{sum(each[which] for each in series.grew) / runs:.0f}" for which in (0, 1)]
        table.add_row(name, f"{series.a_minute:.0f}", *cpu, *grew)
    out.print(f"[bold]{at_once} at once[/bold]", table)
    ratio = syncs.a_minute / empties.a_minute
    met = syncs.a_minute >= WANTED_A_MINUTE or ratio >= WANTED_RATIO
    word = "[green]met[/green]" if met else "[red]missed[/red]"
    out.print(
        f"wanted: {WANTED_A_MINUTE} a minute, or {WANTED_RATIO} of what empty flows do;"
        f" result: {syncs.a_minute:.0f} a minute, {ratio:.2f}: {word}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
