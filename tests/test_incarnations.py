"""Two `atom-sync up` under one name: each is told to stop by itself alone."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State

from cli.doctor import services
from settings import INCARNATION, read
from storage import heartbeats, incarnations, pruning
from storage.database import Database
from storage.incarnations import Incarnation
from tests._fleet import Fleet
from tests._sandboxed import KEY, Sandboxed
from tests._waiting import found, until
from tests.test_events import changed, told


def incarnation(host: str = "web-1") -> Incarnation:
    return Incarnation(uuid4(), "local", host, 4711)


async def test_of_two_under_one_name_only_the_one_that_ends_is_told_to_stop(
    database: Database,
) -> None:
    older, newer = incarnation("web-1"), incarnation("web-2")
    await incarnations.beat(database, older)
    await asyncio.gather(*(incarnations.tell_to_stop(database, older) for _ in range(3)))
    await incarnations.beat(database, newer)
    assert await incarnations.told_to_stop(database, newer.id) == ""
    told = await incarnations.told_to_stop(database, older.id)
    assert told == f"told to stop: {older} is ending"
    assert "worker 'local' on web-1, process 4711" in told
    # A beat that came late is no new start.
    await incarnations.beat(database, older)
    assert await incarnations.told_to_stop(database, older.id) == told


async def test_a_stop_asked_by_a_former_release_stops_nothing_of_this_one(
    database: Database, database_url: str
) -> None:
    one = incarnation()
    await incarnations.beat(database, one)
    Fleet(database_url, database).sql(
        "INSERT INTO workers (name, stopping_at) VALUES ('local', now())"
    )
    assert await incarnations.told_to_stop(database, one.id) == ""


async def test_doctor_shows_each_of_two_under_one_name(
    database: Database, database_url: str
) -> None:
    older, newer, gone = incarnation("web-1"), incarnation("web-2"), incarnation("web-3")
    for one in (older, newer, gone):
        await incarnations.beat(database, one)
    await incarnations.tell_to_stop(database, older)
    Fleet(database_url, database).sql(
        "UPDATE incarnations SET heartbeat_at = now() - interval '2 min' WHERE host = 'web-3'"
    )
    rows = await services.ups(
        read(_env_file=None, database_url=database_url, encryption_keys=KEY, atom_home=Path())
    )
    assert [(row.area, row.what) for row in rows] == [("atom-sync up", "local")] * 2
    assert "process 4711 on web-1, since 20" in rows[0].found
    assert rows[0].found.endswith(" UTC, is ending")
    assert rows[1].found.endswith(" UTC")


async def test_those_that_are_long_gone_are_forgotten_and_the_last_web_process_is_not(
    database: Database, database_url: str
) -> None:
    sql = Fleet(database_url, database).sql
    there, gone = incarnation(), incarnation()
    for one in (there, gone):
        await incarnations.beat(database, one)
    sql("UPDATE incarnations SET heartbeat_at = now() - interval '8 days' WHERE id = %s", [gone.id])
    assert await pruning.prune(database) == {"ended `up`s": 1}
    assert [one.incarnation for one in await incarnations.living(database)] == [there]
    # Since when there has been no web process tells which webhooks were missed.
    sql(
        "INSERT INTO workers (name, heartbeat_at) VALUES ('local', now()),"
        " ('web:a:1', now() - interval '9 days'), ('web:a:2', now() - interval '8 days')"
    )
    assert await heartbeats.forget_gone(database) == 1
    assert sql("SELECT name FROM workers ORDER BY name") == [("local",), ("web:a:2",)]
    assert await heartbeats.arrive(database, "web:a:3", "web:") is not None


def _made(home: Path) -> Path:
    home.mkdir()
    return home


@asynccontextmanager
async def up(home: Path, prefect_url: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`atom-sync up` in a home of its own, on the database, Redis and Prefect that are there."""
    said = home / "said"
    environment = {name: value for name, value in os.environ.items() if name != INCARNATION}
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up"],
            env=environment | {"ATOM_HOME": str(home), "PREFECT_API_URL": prefect_url},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        await until(
            lambda: process.poll() is not None or "Ctrl-C stops everything" in said.read_text()
        )
        assert process.poll() is None, said.read_text()
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if _lives(process) else []
        await asyncio.to_thread(_end, process)
        assert not [each for each in psutil.wait_procs(children, timeout=30)[1]]
    assert process.returncode == 0, said.read_text()


def _lives(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _end(process: subprocess.Popen[bytes]) -> None:
    if _lives(process):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=90)
    finally:
        process.kill()


async def _drains(prefect_url: str) -> list[FlowRun]:
    named = FlowFilter(name=FlowFilterName(any_=["drain-events"]))
    async with PrefectClient(prefect_url) as client:
        return await client.read_flow_runs(flow_filter=named, limit=200)


async def test_after_a_rolling_restart_the_newer_one_applies_what_comes(
    world: Sandboxed, prefect_url: str, tmp_path: Path
) -> None:
    hubspot = await world.connect("hubspot", size=3)
    before = {run.id for run in await _drains(prefect_url)}

    async def applied(number: int) -> None:
        contacts = world.vendor(hubspot)["contacts"]
        key = sorted(contacts)[number]
        await told(world, hubspot, changed(key))
        await until(lambda: world.stored(hubspot).get("contacts", {}).get(key) == contacts[key])

    async def ended() -> State[Any] | None:
        (run,) = [run for run in await _drains(prefect_url) if run.id not in before]
        return run.state if run.state is not None and run.state.is_final() else None

    async with up(_made(tmp_path / "older"), prefect_url) as older:
        await applied(0)
        async with up(_made(tmp_path / "newer"), prefect_url) as newer:
            names = world.all("SELECT worker, pid FROM incarnations ORDER BY started_at")
            assert names == [("local", older.pid), ("local", newer.pid)]
            await asyncio.to_thread(_end, older)
            drain = await found(ended)
            assert drain is not None
            assert drain.is_cancelled(), drain
            assert f"process {older.pid}) is ending" in (drain.message or "")
            await applied(1)
            assert world.all("SELECT pid FROM incarnations WHERE stopping_at IS NOT NULL") == [
                (older.pid,)
            ]
