"""Real PostgreSQL and Redis for every test; only vendors and the clock are ever played."""

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import certifi
import hypothesis
import pytest
import redis
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    temporary_settings,
)

import sandbox
from connectors import all_connectors
from servers import local, postgresql, redis_server
from settings import INCARNATION, asyncpg_url, read
from storage.database import Database
from storage.migrate import migrate
from tests import HERE, _databases
from tests._conformance import Bench, opened
from tests._conformance_which import SYNCED
from tests._limits import lift
from tests._limits import pytest_timeout_set_timer as pytest_timeout_set_timer
from tests._sandboxed import INTEGRATIONS, KEY, RoomyBudget, Sandboxed, environment

END = "-----END CERTIFICATE-----"

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left alone with one at the end.

    What takes long is what may: by its limit of time, and by how many tests there are.
    """
    limits: Counter[Path] = Counter()
    for item in items:
        for mark in item.iter_markers("timeout"):
            limits[item.path] = max(limits[item.path], int(mark.args[0]))
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (-limits[item.path], -sizes[item.path], item.path))


def pytest_collection_finish() -> None:
    """Prefect goes on reading files of the working folder; all tests are found by now."""
    os.chdir(HERE)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's own user may pass through, also when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="atom-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
        # The last test pays for it: files of a thousand databases, on a disk that others use too.
        lift()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fresh folder of a test's own, which PostgreSQL's own user may pass through as well."""
    with tempfile.TemporaryDirectory(prefix="atom-folder-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(scope="session")
def postgres(home: Path) -> Iterator[postgresql.Postgres]:
    server = postgresql.start(home, options=("fsync=off", "full_page_writes=off"))
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: postgresql.Postgres) -> str:
    """A fresh, empty database, as its superuser."""
    return postgres.url(_databases.create(postgres))


@pytest.fixture(scope="session")
async def template(postgres: postgresql.Postgres) -> str:
    """A migrated database that each test gets a copy of."""
    name = _databases.create(postgres)
    await migrate(postgres.url(name), connectors=all_connectors())
    return name


@pytest.fixture(scope="session")
def _pool(postgres: postgresql.Postgres, template: str) -> _databases.Pool:
    return _databases.Pool(postgres, template)


@pytest.fixture
def database_url(postgres: postgresql.Postgres, _pool: _databases.Pool) -> Iterator[str]:
    """A fresh, migrated database."""
    name = _pool.take()
    yield postgres.url(name)
    _pool.give_back(name)


@pytest.fixture(scope="module")
def shared_database_url(postgres: postgresql.Postgres, template: str) -> str:
    """One migrated database for all tests of a module, which keep to tenants of their own."""
    return postgres.url(_databases.create(postgres, template))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    connected = Database.connect(database_url)
    yield connected
    await connected.close()


@pytest.fixture(scope="session")
def _redis_server(home: Path) -> Iterator[str]:
    process = redis_server.start(home, home / "redis.log")
    yield redis_server.url_of(home)
    process.terminate()
    process.wait()


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(_redis_server) as client:
        client.flushall()
    return _redis_server


@pytest.fixture(scope="session")
def prefect_database(postgres: postgresql.Postgres) -> str:
    """Prefect's own database, for tests that look at what reached it."""
    return postgres.url(_databases.create(postgres))


@pytest.fixture(scope="session")
def prefect_url(home: Path, prefect_database: str) -> Iterator[str]:
    """A real Prefect server; flows called in a test run against it."""
    local.prepare(home)
    name = prefect_database.partition("?")[0].rpartition("/")[2]
    settings = read(
        _env_file=None,
        atom_home=home,
        database_url=prefect_database,
        encryption_keys=KEY,
        prefect_api_database_connection_url=asyncpg_url(prefect_database, database=name),
    )
    services = local.Services(settings, lambda line: None)
    try:
        services.start_prefect()
        url = services.settings.prefect_api_url
        assert url is not None
        # Each client of Prefect's reads the certificates that it would trust, of a server with TLS.
        all_trusted = Path(certifi.where()).read_text()
        one = home / "certificate.pem"
        one.write_text(all_trusted[: all_trusted.index(END) + len(END)] + "\n")
        told = {
            PREFECT_API_URL: url,
            PREFECT_API_SSL_CERT_FILE: str(one),
            PREFECT_RESULTS_PERSIST_BY_DEFAULT: False,
        }
        with temporary_settings(told):
            yield url
    finally:
        services.stop()


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    with sandbox.start() as address:
        yield address


@pytest.fixture(scope="module")
async def bench(shared_database_url: str) -> AsyncIterator[Bench]:
    """What the promises of every connector are tried on."""
    async with opened(shared_database_url, [connector.name for connector in SYNCED]) as made:
        yield made


@pytest.fixture
async def world(
    origin: str,
    database: Database,
    database_url: str,
    redis_url: str,
    prefect_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[Sandboxed]:
    """A sandbox of all vendors, against which nothing waits as long as against the real ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("accounts.runtime.Budget", RoomyBudget)
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta(milliseconds=20))
    for name, value in environment(origin, database_url, redis_url, INTEGRATIONS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(INCARNATION, str(uuid4()))
    made = Sandboxed(origin, read(), database, database_url)
    made.control("POST", "/limits", {"scale": 1000})
    yield made
    made.control("DELETE", "/faults")
