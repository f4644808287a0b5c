"""The measurement: floor and flow in turn, on the same servers, in one run."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from benchmarks import _machine
from benchmarks._floor import TABLE as FLOOR
from benchmarks._process import BenchmarkError, Process
from benchmarks._vendor import INTEGRATION, PATH, STREAM, register
from connectors import Account
from connectors.kernel.token_answers import Tokens
from flows._reading import BATCH_RECORDS
from servers import local, postgresql
from servers.database import database_url_of, opened
from settings import Settings, read, variables_of
from storage import grants, tenants
from storage.migrate import migrate
from storage.vault import Vault

PARTITION = f"records_{INTEGRATION}_{STREAM}"
WARM_UP = 1
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """How much there is to read, and how it is served."""

    title: str
    records: int
    page_size: int
    latency: float


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often each of it counts."""

    scenarios: tuple[Scenario, ...]
    rounds: int
    no_change_rounds: int


FULL = Plan(
    (
        Scenario("100,000 records, 1,000 a page, no latency", 100_000, 1_000, 0.0),
        Scenario("10,000 records, 100 a page, 50 ms latency", 10_000, 100, 0.05),
    ),
    rounds=3,
    no_change_rounds=9,
)
QUICK = Plan(
    (
        Scenario("2,000 records, 500 a page, no latency", 2_000, 500, 0.0),
        Scenario("500 records, 100 a page, 50 ms latency", 500, 100, 0.05),
    ),
    rounds=1,
    no_change_rounds=1,
)


@dataclass
class Series:
    """One contestant's counted rounds. CPU seconds are by who used them: `own` is the process."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[_machine.Cpu] = field(default_factory=list)
    idle_bytes: int = 0
    peak_bytes: int = 0


@dataclass
class Compared:
    """The floor and the flow on one scenario."""

    scenario: Scenario
    floor: Series
    flow: Series


@dataclass
class Results:
    """All that a run measured, and on what."""

    machine: dict[str, str]
    compared: list[Compared] = field(default_factory=list)
    empty: Series = field(default_factory=Series)
    no_change: Series = field(default_factory=Series)


@dataclass(frozen=True)
class Bench:
    """The servers that everything is measured on."""

    settings: Settings
    home: Path
    servers: dict[str, int]
    environment: dict[str, str]
    say: Say

    @property
    def database_url(self) -> str:
        return database_url_of(self.settings)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []


def measure(plan: Plan, say: Say) -> Results:
    """Everything of the plan, on servers that are started for it and stopped after it."""
    with servers(say) as bench:
        _machine.settle(bench.servers)
        results = Results(_machine.describe(bench.database_url))
        for scenario in plan.scenarios:
            _compare(bench, plan, scenario, results)
        return results


def measure_memory(scenarios: Sequence[Scenario], say: Say) -> tuple[dict[str, str], list[Series]]:
    """The machine, and what the flow's process held at most in one sync of each."""
    found = []
    with servers(say) as bench:
        for scenario in scenarios:
            say(f"[bold]{scenario.title}[/bold]")
            with pages(bench, scenario) as origin, flow_of(bench, origin) as flow:
                series = _idle(flow)
                connection_id = _connect(bench)
                _round(bench, flow, series, True, "sync", connection_id=str(connection_id))
            ((stored,),) = bench.execute(f"SELECT count(*) FROM {PARTITION}")
            if stored != scenario.records:
                raise BenchmarkError(f"{stored:,} records were stored, not {scenario.records:,}")
            found.append(series)
        return _machine.describe(bench.database_url), found


@contextmanager
def servers(say: Say) -> Iterator[Bench]:
    """PostgreSQL, Redis and Prefect, started for the block and stopped after it."""
    connector = register()
    with tempfile.TemporaryDirectory(prefix="atom-bench-") as folder, chdir(folder):
        home = Path(folder)
        client_id, client_secret, callback = variables_of(INTEGRATION)
        own = {client_id: "id", client_secret: "secret", callback: "http://127.0.0.1/callback"}
        given = read(
            atom_home=home, database_url=None, redis_url=None, prefect_api_url=None,
            encryption_keys=None, prefect_api_database_connection_url=None, atom_schema="public",
        )  # fmt: skip
        with local.supervised(given, say) as services:
            say("starting PostgreSQL, Redis and Prefect …")
            services.start_database()
            services.start_redis()
            services.start_prefect()
            url = database_url_of(services.settings)
            asyncio.run(migrate(url, connectors=[connector]))
            bench = Bench(
                services.settings,
                home,
                pids(home),
                services.settings.environment() | services.prefect_environment() | own,
                say,
            )
            _make_floor_table(bench)
            yield bench


def pids(home: Path) -> dict[str, int]:
    """The servers that a supervisor of this home has started, by name."""
    processes = json.loads((home / "services.json").read_text())["processes"]
    postmaster = postgresql.locate(home).data / "postmaster.pid"
    return {
        "postgresql": int(postmaster.read_text().split()[0]),
        **{name: process["pid"] for name, process in processes.items()},
    }


def _make_floor_table(bench: Bench) -> None:
    # The same columns and primary key; what the floor does not fill may be empty.
    bench.execute(f"CREATE TABLE {FLOOR} (LIKE records)")
    bench.execute(f"ALTER TABLE {FLOOR} ADD PRIMARY KEY (connection_id, record_id, stream)")
    bench.execute(f"ALTER TABLE {FLOOR} ALTER content_hash DROP NOT NULL")


def _compare(bench: Bench, plan: Plan, scenario: Scenario, results: Results) -> None:
    """Floor, flow, floor, flow …; the first of each does not count."""
    bench.say(f"[bold]{scenario.title}[/bold]")
    with pages(bench, scenario) as origin, _floor(bench) as floor, flow_of(bench, origin) as flow:
        compared = Compared(scenario, _idle(floor), _idle(flow))
        for number in range(WARM_UP + plan.rounds):
            counts = number >= WARM_UP
            connection_id = _connect(bench)
            loaded = _round(
                bench, floor, compared.floor, counts, "load", url=f"{origin}{PATH}",
                database_url=bench.database_url, batch_size=BATCH_RECORDS,
                connection_id=str(connection_id),
            )  # fmt: skip
            synced = _round(
                bench, flow, compared.flow, counts, "sync", connection_id=str(connection_id)
            )
            _check(bench, scenario)
            which = f"round {number - WARM_UP + 1} of {plan.rounds}" if counts else "warm-up"
            bench.say(
                f"  {which}: floor {loaded:.2f} s, flow {synced:.2f} s ({synced / loaded:.2f}x)"
            )
        results.compared.append(compared)
        if not scenario.latency:
            _no_change(bench, plan, flow, connection_id, results)


def _no_change(
    bench: Bench, plan: Plan, flow: Process, connection_id: UUID, results: Results
) -> None:
    """A sync that finds nothing new, beside a flow of three empty tasks, in the same process."""
    bench.say("[bold]no change[/bold]")
    for number in range(WARM_UP + plan.no_change_rounds):
        counts = number >= WARM_UP
        _round(bench, flow, results.empty, counts, "empty")
        _round(bench, flow, results.no_change, counts, "sync", connection_id=str(connection_id))
    for name, series in (("empty flow", results.empty), ("no-change sync", results.no_change)):
        bench.say(f"  {name}: " + ", ".join(f"{seconds:.2f}" for seconds in series.seconds) + " s")


def _round(
    bench: Bench, process: Process, series: Series, counts: bool, order: str, **arguments: object
) -> float:
    """One order, once the servers are quiet. The CPU they use for it afterwards counts, too."""
    _machine.settle(bench.servers)
    roots = bench.servers | {"own": process.pid}
    before = _machine.used(roots)
    answer = process.ask(order, **arguments)
    _machine.settle(bench.servers)
    after = _machine.used(roots)
    seconds: float = answer["seconds"]
    series.peak_bytes = max(series.peak_bytes, answer["peak_bytes"])
    if counts:
        series.seconds.append(seconds)
        series.cpu.append({name: after[name] - before[name] for name in roots})
    return seconds


@contextmanager
def pages(bench: Bench, scenario: Scenario) -> Iterator[str]:
    arguments = (
        "--records", str(scenario.records), "--page-size", str(scenario.page_size),
        "--latency", str(scenario.latency),
    )  # fmt: skip
    log = bench.home / "logs" / "pages.log"
    with Process("benchmarks._server", log, arguments) as server:
        yield str(server.answer()["origin"])


def _floor(bench: Bench) -> Process:
    return Process("benchmarks._floor", bench.home / "logs" / "floor.log")


def flow_of(bench: Bench, origin: str) -> Process:
    log = bench.home / "logs" / "flow.log"
    environment = bench.environment | {"ATOM_SANDBOX_URL": origin}
    return Process("benchmarks._flow", log, environment=environment)


def _idle(process: Process) -> Series:
    return Series(idle_bytes=process.ask("idle")["idle_bytes"])


def _connect(bench: Bench) -> UUID:
    """Both tables empty, and a connection that was never synced."""
    bench.execute(f"TRUNCATE {FLOOR}")
    bench.execute(f"TRUNCATE {PARTITION}")
    connection_id = asyncio.run(_new_connection(bench.settings))
    bench.execute("CHECKPOINT")
    return connection_id


async def _new_connection(settings: Settings) -> UUID:
    assert settings.encryption_keys is not None
    async with opened(settings) as database:
        await tenants.delete(database, "bench")
        tenant = await tenants.create(database, "bench", "Bench", "TEAM")
        (connection_id,) = await grants.connect(
            database,
            Vault.parse(settings.encryption_keys.get_secret_value()),
            tenant_id=tenant.id,
            integration=INTEGRATION,
            tokens=Tokens("access", "refresh", datetime.now(UTC) + timedelta(days=1), ("read",)),
            accounts=[Account("benchmark")],
        )
    return connection_id


def _check(bench: Bench, scenario: Scenario) -> None:
    """Both tables hold every record, and the same ones; else there is nothing to compare."""
    ((floor, flow, equal),) = bench.execute(
        f"SELECT (SELECT count(*) FROM {FLOOR}),"
        f" (SELECT count(*) FROM {PARTITION} WHERE deleted_at IS NULL), count(*)"
        f" FROM {FLOOR} f JOIN {PARTITION} r USING (connection_id, record_id)"
        " WHERE f.data = r.data"
    )
    if not floor == flow == equal == scenario.records:
        raise BenchmarkError(
            f"of {scenario.records:,} records the floor stored {floor:,} and the flow {flow:,};"
            f" {equal:,} are equal"
        )
