"""What a database that is not well does not take waits, and goes on by itself; and all can see it.

Deliveries, the web process, its background, commands; `test_sick_runs.py` has the flows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli import run as command
from cli.doctor import services
from cli.doctor.row import Row
from settings import Settings
from storage import DatabaseUnavailableError, background, heartbeats, inbox
from storage.database import Database
from tests import _sick
from tests._delivering import HUBSPOT_SECRET, PUBLIC, from_hubspot, hubspot_event
from tests._sandboxed import KEY
from tests._stored import stock
from tests._waiting import found, until
from tests._web import Api, serving_api, web_settings

Sickness = Callable[[str], AbstractContextManager[None]]
# What each is called, and its SQLSTATE.
SICK: dict[str, tuple[Sickness, str]] = {
    "read-only": (_sick.read_only, "takes no writes: it is read-only (SQLSTATE 25006)"),
    "full": (
        lambda url: _sick.full(url, "events"), "has no room: its disk is full (SQLSTATE 53100)",
    ),
    "locked": (lambda url: _sick.locked(url, "events"), "within lock_timeout (SQLSTATE 55P03)"),
    "slow": (lambda url: _sick.slow(url, "events"), "statement_timeout is (SQLSTATE 57014)"),
}  # fmt: skip


def settings_of(database_url: str, redis_url: str) -> Settings:
    return web_settings(
        database_url,
        redis_url=redis_url,
        nextauth_url=PUBLIC,
        hubspot_client_secret=HUBSPOT_SECRET,
    )


@pytest.fixture
async def api(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """Our web process, whose vendors give up within half a second."""
    monkeypatch.setattr("web._coverage.UNNOTICED", timedelta(seconds=0.5))
    monkeypatch.setattr("web._coverage.EVERY_SECONDS", 0.1)
    monkeypatch.setattr(background, "LONGEST_PAUSE", 0.2)
    given = settings_of(database_url, redis_url)
    async with serving_api(given) as serving:
        yield serving


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as sql:
        return sql.execute(query.encode()).fetchall()


@pytest.mark.parametrize("kind", SICK)
async def test_deliveries_are_put_off_and_the_time_is_a_gap(
    kind: str, api: Api, database: Database, database_url: str
) -> None:
    stocked = await stock(database, account_id="4711")
    assert (await from_hubspot(api.http, hubspot_event(1))).status_code == 200
    sickness, words = SICK[kind]
    with sickness(database_url):
        for n in range(2):
            answer = await from_hubspot(api.http, hubspot_event(2 + n))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            await asyncio.sleep(0.3)
        with pytest.raises(DatabaseUnavailableError) as caught:
            await inbox.retry(database)
        assert words in str(caught.value)
    # The vendor has given up: nothing is delivered again.
    noted = await found(lambda: asyncio.to_thread(rows, database_url, "SELECT * FROM gaps"))
    assert len(noted) == 1
    query = "SELECT connection_id, reason, until - since >= '0.5 s' FROM gaps"
    why = "deliveries could not be taken: the database was away, or not well"
    assert rows(database_url, query) == [(stocked.connection_id, why, True)]
    assert (await from_hubspot(api.http, hubspot_event(9))).status_code == 200


async def test_a_short_while_is_left_to_the_vendors_own_retries(
    api: Api, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web._coverage.UNNOTICED", timedelta(seconds=20))
    await stock(database, account_id="4711")
    with _sick.read_only(database_url):
        assert (await from_hubspot(api.http, hubspot_event(1))).status_code == 503
    assert (await from_hubspot(api.http, hubspot_event(1))).status_code == 200
    monkeypatch.setattr("web._coverage.UNNOTICED", timedelta(0))
    await asyncio.sleep(0.5)
    assert rows(database_url, "SELECT * FROM gaps") == []


@pytest.fixture
def crowd(database_url: str) -> Iterator[str]:
    """A user who is no superuser, as a hosting company gives one."""
    _sick.run(
        database_url,
        "CREATE ROLE crowd LOGIN",
        "GRANT atom_tenant, atom_dispatch, atom_ingress, atom_owner TO crowd",
    )
    yield "crowd"
    _sick.cut(database_url)
    _sick.run(database_url, "DROP OWNED BY crowd", "DROP ROLE crowd")


async def test_without_a_connection_to_spare_deliveries_are_put_off(
    crowd: str, database: Database, database_url: str, redis_url: str
) -> None:
    await stock(database, account_id="4711")
    given = settings_of(database_url.replace("postgres@", f"{crowd}@"), redis_url)
    async with serving_api(given) as api:
        with _sick.crowded(database_url, crowd):
            answer = await from_hubspot(api.http, hubspot_event(1))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await from_hubspot(api.http, hubspot_event(1))).status_code == 200


async def metrics(api: Api) -> dict[tuple[str, ...], float]:
    answer = await api.as_(scope="metrics:read").get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_background_goes_on_and_is_seen_to_fail(
    api: Api, database: Database, database_url: str
) -> None:
    heartbeat = ("atom_background_failing", "heartbeat")
    newest = "SELECT max(heartbeat_at) FROM workers"
    await until(lambda: rows(database_url, newest)[0][0])
    with _sick.read_only(database_url):
        await until(lambda: "heartbeat" in background.troubles())
        seen = await metrics(api)
        assert seen[heartbeat] == 1
        assert seen["atom_background_failures_total", "heartbeat"] >= 1
        assert seen["atom_sync_database_answers",] == 1  # it can be read
        (before,) = rows(database_url, newest)[0]
    await until(lambda: rows(database_url, newest)[0][0] > before)
    # It is written first, and noted as mended a moment later.
    await until(lambda: "heartbeat" not in background.troubles())
    assert heartbeat not in await metrics(api)


async def test_an_error_that_nobody_foresaw_ends_no_background_task(
    api: Api, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = heartbeats.beat

    async def broken(database: Database, name: str) -> None:
        raise ZeroDivisionError("canary-secret")

    monkeypatch.setattr(heartbeats, "beat", broken)
    await until(lambda: "heartbeat" in background.troubles())
    told = str(background.troubles()["heartbeat"])
    assert "ZeroDivisionError" in told
    assert "canary" not in told
    monkeypatch.setattr(heartbeats, "beat", real)
    await until(lambda: "heartbeat" not in background.troubles())


def found_of(rows: list[Row], what: str) -> Row:
    return next(row for row in rows if row.what == what)


async def test_doctor_tells_what_ails_the_database_and_what_fails(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = web_settings(database_url, encryption_keys=KEY)
    troubled = {"backfills": background.Trouble("it is so", datetime.now(UTC))}
    monkeypatch.setattr(background, "_troubles", troubled)
    await heartbeats.beat(database, "web:here:1")
    told = await services.database(given)
    assert found_of(told, "health").state == "ok"
    assert found_of(told, "web: backfills").failed
    assert found_of(told, "web: backfills").found.startswith("it is so (since ")
    with psycopg.connect(database_url) as sql:
        sql.execute("UPDATE workers SET heartbeat_at = now() - interval '12 min', troubles = '{}'")
    assert found_of(await services.database(given), "web").found == "not heard of for 12 min"
    with _sick.read_only(database_url):
        row = found_of(await services.database(given), "health")
    assert row.failed
    assert row.found == "the database takes no writes: it is read-only (SQLSTATE 25006)"


@pytest.mark.parametrize(
    "words", ["status", "events retry", "sync north/hubspot", "deploy", "tenants list"]
)
def test_a_command_ends_in_one_line_with_the_reason(
    words: str,
    database_url: str,
    prefect_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:
    for name, value in (
        ("DATABASE_URL", database_url), ("ENCRYPTION_KEYS", KEY), ("ATOM_HOME", str(tmp_path)),
        ("PREFECT_API_URL", prefect_url),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with _sick.locked(database_url, "connections", "events", "tenants"):
        assert command(words.split()) == 1
    told = capfd.readouterr()
    (line,) = told.err.strip().splitlines()
    assert line == (
        "error: the database is busy: a lock was not free within lock_timeout (SQLSTATE 55P03)"
    )
