"""`python -m benchmarks.scale`: what grows with what is stored, at a small and at a big size.

The small one has 100 tenants, 1,200 connections and 200,000 records of 700 bytes, the big one fifty
times as much; one tenant has a fifth of all records. Both are built by SQL on an embedded
PostgreSQL with its ordinary settings, and measured by our own code. `--scale 0.3` makes the big one
smaller; `--home FOLDER` keeps both, but a run ends with erasing tenants, so the next builds anew.
"""

import argparse
import asyncio
import io
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from accounts.erasure import erase
from benchmarks import _machine
from benchmarks._stocked import Size, big, fill, small
from cli.status import _rows, show_status
from connectors import all_connectors
from servers import postgresql
from storage import (
    changes,
    connections,
    inbox,
    metrics,
    readers,
    records,
    standing,
    sweeping,
)
from storage.database import Database
from storage.migrate import migrate

MOST_GROWTH = 1.5
MOST_SECONDS = {"status": 2.0, "/metrics": 2.0}
# What is faster than this does not grow in a way that anybody notices.
UNNOTICED_MS = 5.0
ROUNDS = 5
out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)


@dataclass
class Measured:
    """Of one size: medians in milliseconds, what was told beside them, and bytes on disk."""

    size: Size
    machine: dict[str, str]
    ms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the big size: 1 is 10 million")
    parser.add_argument("--sizes", default="small,big", help="which are measured")
    parser.add_argument("--home", type=Path, help="where both are kept, and found again")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args()
    sizes = {"small": small(), "big": big(options.scale)}
    measured = []
    with _folder(options.home) as home:
        for name in options.sizes.split(","):
            with _server(home / name, sizes[name]) as url:
                measured.append(asyncio.run(_measure(url, sizes[name])))
    if options.json:
        sys.stdout.write(json.dumps([asdict(each) for each in measured], indent=2) + "\n")
    else:
        _show(measured)
    return 0


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    with (
        tempfile.TemporaryDirectory(prefix="atom-bench-") if given is None else nullcontext(given)
    ) as folder:
        home = Path(folder).resolve()
        home.mkdir(exist_ok=True)
        home.chmod(0o711)
        yield home


@contextmanager
def _server(home: Path, size: Size) -> Iterator[str]:
    home.mkdir(exist_ok=True)
    home.chmod(0o711)
    server = postgresql.start(home)
    try:
        known = _is_whole(server)
        if not known:
            with psycopg.connect(server.url("postgres"), autocommit=True) as sql:
                sql.execute("DROP DATABASE IF EXISTS atom_saas")
                sql.execute("CREATE DATABASE atom_saas")
        asyncio.run(migrate(server.url(), connectors=all_connectors()))
        if not known:
            fill(server.url(), size, err.print)
        yield server.url()
    finally:
        server.stop()


def _is_whole(server: postgresql.Postgres) -> bool:
    """Whether it is built already, and no run has erased its tenants."""
    try:
        with psycopg.connect(server.url()) as sql:
            found = sql.execute("SELECT FROM tenants WHERE slug = 'tenant-1'").fetchone()
            return found is not None
    except psycopg.Error:
        return False


def _id(kind: str, number: int, name: str = "") -> UUID:
    return UUID(md5(f"{kind}{number}{name}".encode(), usedforsecurity=False).hexdigest())


async def _timed(work: Callable[[], Awaitable[Any]], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


READER = "bench_reader"
VIEWS = {
    "view: ORDER BY updated_at DESC LIMIT 10": "SELECT email, lifecyclestage, updated_at"
    " FROM hubspot_contacts ORDER BY updated_at DESC LIMIT 10",
    "view: count(*)": "SELECT count(*) FROM hubspot_contacts",
    "view: by id": "SELECT * FROM hubspot_contacts WHERE record_id = '000000001'",
    "view: join of two": "SELECT count(*) FROM hubspot_contacts a JOIN hubspot_deals b"
    " ON a.record_id = b.record_id",
}


async def _measure(url: str, size: Size) -> Measured:
    done = Measured(size, _machine.describe(url))
    database = Database.connect(url)
    try:
        for part in (_reads, _looks, _status, _updates, _sweeps, _erasures):
            err.print(f"{size.name}: {part.__name__.strip('_')}", highlight=False)
            await part(database, url, done)
        done.disk = _disk(url)
    finally:
        await database.close()
    return done


async def _reads(database: Database, url: str, done: Measured) -> None:
    """What an ordinary tenant asks, of which there is as much at both sizes."""
    tenant = _id("t", 7)
    for name, query in VIEWS.items():

        async def view(query: str = query) -> None:
            async with database.transaction(tenant) as session:
                (await session.execute(text(query))).all()

        done.ms[name] = await _timed(view)
    await _reads_as_reader(url, tenant, done)
    connection = await connections.get(database, _id("c", 7, "hubspot"))
    first = lambda: changes.read(database, connection, "contacts")  # noqa: E731
    done.ms["records: first page"] = await _timed(first)
    since = datetime.now(UTC) - timedelta(minutes=1)
    large = await connections.get(database, _id("c", 1, "hubspot"))
    done.ms["changed_since a minute"] = await _timed(
        lambda: changes.read(database, connection, "contacts", since=since)
    )
    # What a poll asks of the big connection, too.
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("SET ROLE atom_owner")
        sql.execute(
            "UPDATE records SET changed_at = now() WHERE stream = 'hubspot.contacts'"
            " AND connection_id = %s AND record_id = ANY(ARRAY(SELECT lpad(n::text, 9, '0')"
            " FROM generate_series(1000001, 1000050) n))",
            [large.id],
        )
    done.ms["big tenant: changed_since a minute"] = await _timed(
        lambda: changes.read(database, large, "contacts", since=since)
    )
    done.ms["big tenant: first page"] = await _timed(
        lambda: changes.read(database, large, "contacts")
    )


async def _reads_as_reader(url: str, tenant: UUID, done: Measured) -> None:
    """The same, asked by a database user of the tenant's."""
    with psycopg.connect(url) as sql:
        (slug,) = sql.execute("SELECT slug FROM tenants WHERE id = %s", [tenant]).fetchone() or (
            "",
        )
    await readers.add(url, "public", READER, slug)
    async with await psycopg.AsyncConnection.connect(make_conninfo(url, user=READER)) as reader:
        for name, query in VIEWS.items():

            async def view(query: str = query) -> None:
                await (await reader.execute(query.encode())).fetchall()

            done.ms[f"reader's {name}"] = await _timed(view)
    await readers.remove(url, "public", READER)


async def _looks(database: Database, url: str, done: Measured) -> None:
    done.ms["a drain's look"] = await _timed(lambda: inbox.waiting(database))
    done.ms["/metrics"] = await _timed(lambda: metrics.measure(database), 3)


async def _status(database: Database, url: str, done: Measured) -> None:
    written = io.StringIO()
    showing = lambda: show_status(database, Console(file=written, width=100))  # noqa: E731
    done.ms["status"] = await _timed(showing, 3)
    done.notes["status"] = f"{len(written.getvalue().splitlines()) // 3:,} lines"
    started, rows = time.perf_counter(), 0
    async for _ in _rows(database, await standing.ids(database)):
        rows += 1
    done.ms["status --json, every row"] = 1000 * (time.perf_counter() - started)
    done.notes["status --json, every row"] = f"{rows:,} rows"


async def _updates(database: Database, url: str, done: Measured) -> None:
    """A batch of an ordinary connection that changes all it has; how many updates were HOT."""
    ids: dict[str, Any] = {"tenant_id": _id("t", 8), "connection_id": _id("c", 8, "hubspot")}

    async def batch() -> None:
        mark = uuid4().hex
        rows = [
            records.Row(f"{n:09}", json.dumps({"id": n, "notes": mark * 20}).encode(), None,
                        datetime.now(UTC), mark.encode()[:16], False)
            for n in range(500)
        ]  # fmt: skip
        async with database.transaction(ids["tenant_id"]) as session:
            await records.write(session, stream="hubspot.contacts", rows=rows, **ids)

    done.ms["a batch of 500 changed records"] = await _timed(batch)


async def _sweeps(database: Database, url: str, done: Measured) -> None:
    """A full read of the big connection has shown all but each hundredth record, and ends.

    What it saw was written a moment ago: there are no statistics of it.
    """
    scan_id = uuid4()
    ids: dict[str, Any] = {"tenant_id": _id("t", 1), "connection_id": _id("c", 1, "hubspot")}
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("ALTER TABLE seen SET (autovacuum_enabled = off)")
        sql.execute("TRUNCATE seen; ANALYZE seen")
        seen = sql.execute(
            "INSERT INTO seen (connection_id, scan_id, stream, record_id, tenant_id)"
            " SELECT connection_id, %s, stream, record_id, tenant_id FROM records"
            " WHERE stream = 'hubspot.contacts' AND connection_id = %s"
            " AND right(record_id, 2) <> '77'",
            [scan_id, ids["connection_id"]],
        ).rowcount
    started, gone, longest = time.perf_counter(), 0, 0.0
    last: str | None = ""
    while last is not None:
        begun = time.perf_counter()
        async with database.transaction(ids["tenant_id"]) as session:
            swept = await sweeping.sweep(
                session, stream="hubspot.contacts", scan_id=scan_id, started_at=datetime.now(UTC),
                after=last, **ids,
            )  # fmt: skip
        gone, last = gone + len(swept.gone), swept.last
        longest = max(longest, time.perf_counter() - begun)
    more = True
    while more:
        async with database.transaction(ids["tenant_id"]) as session:
            more = await sweeping.forget(
                session, connection_id=ids["connection_id"], scan_id=scan_id
            )
    done.ms["a full read's end"] = 1000 * (time.perf_counter() - started)
    done.notes["a full read's end"] = (
        f"{seen:,} seen, {gone:,} gone; longest transaction {longest:.2f} s"
    )
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("ALTER TABLE seen RESET (autovacuum_enabled)")


async def _erasures(database: Database, url: str, done: Measured) -> None:
    """An ordinary tenant, then the big one, while another writes all the time."""
    slugs = {"erase a tenant": f"tenant-{done.size.tenants}", "erase the big tenant": "tenant-1"}
    for name, slug in slugs.items():
        times: list[float] = []
        writing = asyncio.create_task(_write_on(database, times))
        started = time.perf_counter()
        await erase(database, slug)
        done.ms[name] = 1000 * (time.perf_counter() - started)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        if len(times) > 20:
            p99 = quantiles(times, n=100)[98]
            done.notes[name] = f"others' writes meanwhile: {len(times):,}, p99 {p99:.0f} ms"


async def _write_on(database: Database, times: list[float]) -> None:
    ids: dict[str, Any] = {"tenant_id": _id("t", 9), "connection_id": _id("c", 9, "hubspot")}
    while True:
        started, mark = time.perf_counter(), uuid4().hex.encode()
        row = records.Row("000000001", b'{"id": 1}', None, datetime.now(UTC), mark[:16], False)
        async with database.transaction(ids["tenant_id"]) as session:
            await records.write(session, stream="hubspot.contacts", rows=[row], **ids)
        times.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(0.02)


def _disk(url: str) -> dict[str, float]:
    """Bytes for each byte of JSON, and of what: heap and each index of the records, in MB."""
    with psycopg.connect(url) as sql:
        ((heap, toast, pkey, changed, rows),) = sql.execute(
            """
            SELECT sum(pg_relation_size(p.oid)),
                sum(coalesce(pg_total_relation_size(nullif(p.reltoastrelid, 0)), 0)),
                sum((SELECT sum(pg_relation_size(indexrelid)) FROM pg_index
                    WHERE indrelid = p.oid AND indisprimary)),
                sum((SELECT sum(pg_relation_size(indexrelid)) FROM pg_index
                    WHERE indrelid = p.oid AND NOT indisprimary)),
                sum(greatest(p.reltuples, 0))
            FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid
            WHERE h.inhparent = 'records'::regclass
            """
        ).fetchall()
        ((json_bytes,),) = sql.execute(
            "SELECT avg(length(data::text)) FROM records_hubspot_contacts TABLESAMPLE SYSTEM (1)"
        ).fetchall()
        ((events,),) = sql.execute("SELECT pg_relation_size('events_connection_id_idx')").fetchall()
    total = float(heap + toast + pkey + changed)
    return {
        "records": float(rows),
        "JSON, bytes each": float(json_bytes or 0),
        "heap, MB": float(heap) / 1e6,
        "primary key, MB": float(pkey) / 1e6,
        "index of changes, MB": float(changed) / 1e6,
        "events (connection_id), MB": float(events) / 1e6,
        "bytes on disk for each of JSON": total / (float(rows) * float(json_bytes or 1)),
    }


def _show(measured: Sequence[Measured]) -> None:
    table = Table("milliseconds, median", *(each.size.name for each in measured), "times", "")
    for column in table.columns[1:3]:
        column.justify = "right"
    for name in measured[-1].ms:
        values = [each.ms.get(name, 0.0) for each in measured]
        note = measured[-1].notes.get(name, "")
        table.add_row(name, *(f"{value:,.1f}" for value in values), *_verdict(name, values), note)
    out.print(table)
    disk = Table("on disk", *(each.size.name for each in measured))
    for name in measured[-1].disk:
        disk.add_row(name, *(f"{each.disk[name]:,.2f}" for each in measured))
    out.print(disk)
    for each in measured:
        told = each.machine
        out.print(f"{each.size.name}: {told['date']}, {told['cpu']}, load {told['load']}")


def _verdict(name: str, values: Sequence[float]) -> tuple[str, ...]:
    if name in MOST_SECONDS:
        is_met = values[-1] < 1000 * MOST_SECONDS[name]
    elif name.startswith(("a full", "erase", "status --json", "big tenant")):
        return (f"{values[-1] / values[0]:.1f}",) if values[0] else ("",)
    else:
        is_met = values[-1] <= max(MOST_GROWTH * values[0], UNNOTICED_MS)
    word = "met" if is_met else "MISSED"
    return (f"{values[-1] / values[0]:.1f} {word}",) if values[0] else (word,)


if __name__ == "__main__":
    raise SystemExit(main())
