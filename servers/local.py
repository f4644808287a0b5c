"""Everything on one machine: the servers, the Prefect API and a worker, as children of one process.

`Services` starts what the settings do not point elsewhere, in order, writes down what it started in
`ATOM_HOME/services.json`, and stops it again in reverse, so that no process stays behind.
"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from uuid import UUID

import psutil

from deployments import WORK_POOL, freshness_targets
from deployments.errors import PrefectUnavailableError
from servers import environment, postgresql, redis_server
from servers.database import create, database_url_of, opened, ready
from servers.heartbeat import Heartbeat
from servers.ports import LOOPBACK, free_port
from servers.processes import (
    ServiceError,
    alive,
    end,
    identity,
    is_that_one_alive,
    locked,
    unbroken,
    uninterrupted,
    wait_for,
)
from settings import INCARNATION, SUPERVISED, Settings, is_alone, read
from storage import StorageError, incarnations
from storage.incarnations import Incarnation
from storage.vault import load_or_create_key_file

_PREFECT_PORT = 4200
_WEB_PORT = 8000
_CODE = Path(__file__).parent.parent
_GRACE_SECONDS = 20  # what batches under way get to end in
_ANSWERING_SECONDS = 120
_PATIENCE_SECONDS = 60  # with another process that makes schedules now


class NoDatabaseError(ServiceError):
    """No database was set, and none was made here yet."""


@dataclass
class Services:
    """What was started here. `settings` are those of the operator with the addresses filled in."""

    settings: Settings
    say: Callable[[str], None]
    lasting: bool = True
    web: str = ""  # where it listens
    _started: dict[str, psutil.Process] = field(default_factory=dict)
    _again: dict[str, Callable[[], psutil.Process]] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)
    _server: postgresql.Postgres | None = None
    _heartbeat: Heartbeat | None = None

    def __post_init__(self) -> None:
        self.incarnation = Incarnation.begin(self.settings.atom_worker)

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def started(self) -> list[str]:
        """The names of the parts that were started, in order."""
        return list(self._started)

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def add_settings(self, **known: str) -> None:
        """Settings that only became known while starting; children are given them."""
        self.settings = read(**_given(self.settings) | known)
        self._known |= known

    async def deploy(self) -> None:
        """Register our deployments, and say from now on that we are there."""
        # Importing Prefect takes over a second, which `atom-sync status` need not wait for.
        from deployments.reconcile import reconcile

        async with ready(self.settings) as database:
            await reconcile(self.settings, database, whole=True, patience=_PATIENCE_SECONDS)
            await incarnations.beat(database, self.incarnation)
        self._heartbeat = self._heartbeat or Heartbeat(self.settings, self.incarnation)

    async def settle(self) -> None:
        """Before runs are started: those that were missed meanwhile are not all to be caught up."""
        from deployments.prefect_api import connected
        from deployments.stale_runs import forget_missed

        async with connected(self.settings) as client:
            await forget_missed(client)
        async with ready(self.settings) as database:
            await freshness_targets.save(self.settings, database)

    def start_database(self) -> None:
        if self.settings.database_url is None:
            server = self._start_postgresql()
            create(server.url("postgres"), "atom_saas")
            keys = self.settings.encryption_keys
            self.add_settings(
                database_url=server.url(),
                encryption_keys=keys.get_secret_value()
                if keys
                else load_or_create_key_file(self.home / "keys"),
            )
            self._record()

    def _start_postgresql(self) -> postgresql.Postgres:
        with unbroken():
            self._server = postgresql.start(self.home)
            self._started["postgresql"] = self._server.process()
            self._again["postgresql"] = lambda: postgresql.start(self.home).process()
        return self._server

    def start_redis(self) -> None:
        if self.settings.redis_url is None:
            self._again["redis"] = lambda: redis_server.start(self.home, self.log_of("redis"))
            self.start_again("redis")
            self.add_settings(redis_url=redis_server.url_of(self.home))
            self._record()

    def start_prefect(self) -> None:
        """The Prefect server, its database beside ours; elsewhere if PREFECT_API_URL is set."""
        if self.settings.prefect_api_url is None:
            if self.settings.prefect_api_database_connection_url is None:
                create(database_url_of(self.settings), "prefect")
            port = free_port(_PREFECT_PORT)
            if port != _PREFECT_PORT:
                self.say(f"port {_PREFECT_PORT} is taken: Prefect listens on {port}")
            api = f"http://{LOOPBACK}:{port}/api"
            self.add_settings(prefect_api_url=api)
            self.start_process(
                "prefect",
                ["prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)],
                {
                    # Of its two names for this, Prefect takes this one first.
                    "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.settings.prefect_database_url(
                        database_url_of(self.settings)
                    ),
                    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                    # By itself Prefect 3.8 deletes events only, and keeps runs for ever.
                    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
                    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(
                        self.settings.atom_prefect_retention_days * 86_400
                    ),
                    # Events were three quarters of what it kept after four hours (2026-11). We
                    # look at those of the last hour only (deployments.stale_runs).
                    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "PT2H",
                    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "900",
                    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
                },
            )
            self.wait_until_answers("prefect", f"{api}/health")

    def start_web(self, host: str = LOOPBACK) -> None:
        """The HTTP surface: connect pages and the JSON API."""
        port = free_port(_WEB_PORT)
        if port != _WEB_PORT:
            self.say(f"port {_WEB_PORT} is taken: the web server listens on {port}")
        self.web = f"http://{LOOPBACK}:{port}"
        missing: dict[str, str] = {}
        if self.settings.nextauth_url is None:
            missing["nextauth_url"] = self.web
        for name in ("jwt_secret", "nextauth_secret"):
            if getattr(self.settings, name) is None:
                missing[name] = load_or_create_key_file(self.home / name.replace("_", "-"))
        self.add_settings(**missing)
        self.start_process(
            "web",
            ["web", "--host", host, "--port", str(port)],
            {},
        )
        self.wait_until_answers("web", f"{self.web}/healthz")

    def start_worker(self, limit: int) -> None:
        self.start_process(
            "worker",
            [
                "prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process",
                "--name", self.settings.atom_worker, "--limit", str(limit),
            ],
            {"PREFECT_WORKER_QUERY_SECONDS": "1"},
        )  # fmt: skip

    def prefect_environment(self) -> dict[str, str]:
        """What makes a process of ours speak to our Prefect server."""
        password = self.settings.prefect_password
        known = {"PREFECT_API_URL": self.settings.prefect_api_url}
        known["PREFECT_API_AUTH_STRING"] = password.get_secret_value() if password else None
        variables = {name: value for name, value in known.items() if value}
        # Prefect lists all time zones for each schedule that it reads or writes (3.8.8). From the
        # wheel `tzdata` that takes 0.2 ms, from the system's folders 10.
        return (
            environment.environment_of(environment.folder_of(self.home))
            | variables
            | {"PYTHONTZPATH": ""}
        )

    def start_process(
        self, name: str, command: list[str], variables: dict[str, str], *, again: bool = True
    ) -> None:
        """Start a Python module as a child in a session of its own, its output in a log file.

        `again` says that it may be started anew where it ends by itself.
        """

        def start() -> psutil.Process:
            with self.log_of(name).open("ab") as output:
                return psutil.Popen(
                    [sys.executable, "-m", *command],
                    stdin=DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    cwd=environment.folder_of(self.home),
                    env=self._environment() | variables,
                )  # fmt: skip

        if again:
            self._again[name] = start
        with unbroken():
            self._started[name] = start()
        self._record()

    def _environment(self) -> dict[str, str]:
        binaries = str(Path(sys.executable).parent)
        return (
            _inherited(self.settings)
            | self.settings.environment()
            | self.prefect_environment()
            | {"PATH": _before(os.environ.get("PATH", os.defpath), binaries)}
            # The code that we are, also where it is not installed.
            | {"PYTHONPATH": _before(os.environ.get("PYTHONPATH"), str(_CODE))}
            | {SUPERVISED: "1", INCARNATION: str(self.incarnation.id)}
        )

    def log_of(self, name: str) -> Path:
        """Where that part writes its log."""
        if name == "postgresql" and self._server is not None:
            return self._server.log
        return self.logs / f"{name}.log"

    def can_start_again(self, name: str) -> bool:
        return name in self._again

    def start_again(self, name: str) -> None:
        """Start a part as it was started; PostgresError or RedisError if one of these does not."""
        with unbroken():
            if former := self._started.get(name):
                with suppress(psutil.Error):
                    former.wait(0)  # no zombie stays behind
            self._started[name] = self._again[name]()
        self._record()

    def wait_until_answers(self, name: str, url: str) -> None:
        deadline = time.monotonic() + _ANSWERING_SECONDS
        while time.monotonic() < deadline and self.alive(name):
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - loopback
                return
            time.sleep(0.1)
        raise ServiceError(f"{name} did not start; its log is {self.log_of(name)}")

    def alive(self, name: str) -> bool:
        return alive(self._started[name])

    def runs_under_way(self) -> list[psutil.Process]:
        """The processes of flow runs that the worker started."""
        with suppress(psutil.NoSuchProcess):
            if worker := self._started.get("worker"):
                return list(worker.children(recursive=True))
        return []

    def stop(self) -> None:
        """Stop what was started, the newest first; batches under way get time to end."""
        if self._heartbeat is not None:
            self._heartbeat.end()
        self._stop_worker()
        for name in reversed(self._started):
            if name != "postgresql":  # which its own program stops
                end([self._started[name]], seconds=10)
        if self._server is not None:
            self._server.stop()
        (self.home / "services.json").unlink(missing_ok=True)

    def _stop_worker(self) -> None:
        """Flow runs stop between batches by a flag in the database; then we end those left.

        A SIGTERM to a run rolls its batch back, and one to the worker kills its runs (Prefect
        3.8.8). So the worker stands still first: it takes nothing more, and its runs go on.
        """
        worker = self._started.get("worker")
        if worker is None:
            return
        self.say("stopping: batches under way are finished first")
        with suppress(psutil.NoSuchProcess):
            worker.suspend()
        runs = self.runs_under_way()
        ours = _flow_runs_in(runs)
        with suppress(StorageError):  # the database is away: the runs notice that by themselves
            asyncio.run(_tell_runs_to_stop(self.settings, self.incarnation))
        began = datetime.now(UTC)
        end(wait_for(runs, seconds=_GRACE_SECONDS), seconds=10)
        with suppress(psutil.NoSuchProcess):
            worker.resume()
        end([worker], seconds=5)
        if "prefect" in self._started and self.alive("prefect"):
            with suppress(PrefectUnavailableError, StorageError, OSError):  # upkeep does it later
                asyncio.run(_cancel_stopped(self.settings, self.incarnation, began, ours))

    def _record(self) -> None:
        """Write down who we are and what we started: for other commands, and after a kill."""
        if not self.lasting:
            return
        record = {
            "supervisor": identity(psutil.Process()),
            "processes": {
                name: identity(process)
                for name, process in self._started.items()
                if name != "postgresql" and self.alive(name)
            },
            "database_url": self._server.url() if self._server else None,
            "redis_url": redis_server.url_of(self.home) if "redis" in self._started else None,
            "prefect_api_url": self.settings.prefect_api_url,
            "atom_sandbox_url": self.settings.atom_sandbox_url,
            "web": self.web,
            # A demo's home knows nothing of the operator's, and its vendors' secrets are made up.
            "apps": self._known if is_alone(self.home) else {},
        }
        path = self.home / "services.json"
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(record))
        new.rename(path)


@contextmanager
def supervised(
    settings: Settings, say: Callable[[str], None], *, lasting: bool = True, wait: float = 0
) -> Iterator[Services]:
    """The one supervisor of this home: clears what a killed one left, stops all it started.

    A `lasting` one is there to be used by commands that are run beside it.
    """
    prepare(settings.home)
    with locked(settings.home, wait=wait), environment.apart(settings.home):
        _clear_leftovers(settings.home)
        services = Services(settings, say, lasting=lasting)
        try:
            yield services
        finally:
            with uninterrupted():
                services.stop()


@contextmanager
def attached(settings: Settings, *, makes: bool = False) -> Iterator[Settings]:
    """Settings for a command run alone: those of a running supervisor, or its own database.

    Where there is no database yet one is only made for a command that `makes` it; ServiceError
    says to the others what does.
    """
    running = _running(settings.home)
    if running is not None:
        names = ("database_url", "redis_url", "prefect_api_url", "atom_sandbox_url")
        unset = {name: running[name] for name in names if getattr(settings, name) is None}
        if settings.nextauth_url is None and running["web"]:
            unset["nextauth_url"] = running["web"]
        unset = running.get("apps", {}) | unset
        keys = settings.encryption_keys or load_or_create_key_file(settings.home / "keys")
        with environment.apart(settings.home):
            yield read(**_given(settings) | unset | {"encryption_keys": keys})
    elif settings.database_url is not None:
        with environment.apart(settings.home):
            yield settings
    elif makes or postgresql.exists(settings.home):
        with supervised(settings, lambda line: None, lasting=False, wait=30) as services:
            services.start_database()
            yield services.settings
    else:
        raise NoDatabaseError(
            "there is no database yet: start `atom-sync up` (or `atom-sync demo`), or set"
            " DATABASE_URL"
        )


async def _cancel_stopped(
    settings: Settings, incarnation: Incarnation, since: datetime, ours: Collection[UUID]
) -> None:
    """A run that a stop cut off is nobody's failure; those of another `up` go on."""
    from deployments.prefect_api import connected
    from deployments.stale_runs import cancel_stopped

    async with opened(settings) as database:
        there = [one.incarnation.id for one in await incarnations.living(database)]
    alone = set(there) <= {incarnation.id}
    async with connected(settings) as client:
        await cancel_stopped(client, since, among=None if alone else ours)


async def _tell_runs_to_stop(settings: Settings, incarnation: Incarnation) -> None:
    async with opened(settings) as database:
        await incarnations.tell_to_stop(database, incarnation)


def _flow_runs_in(processes: Iterable[psutil.Process]) -> set[UUID]:
    """The flow runs that these processes were started for, as their environment says."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            if given := process.environ().get("PREFECT__FLOW_RUN_ID"):
                found.add(UUID(given))
    return found


def web_address(settings: Settings) -> str:
    """Where browsers and vendors reach us: NEXTAUTH_URL, or else where `up` lets the web listen."""
    if settings.nextauth_url is not None:
        return settings.nextauth_url
    known = (_running(settings.home) or {}).get("web")
    return str(known or f"http://{LOOPBACK}:{_WEB_PORT}")


def prepare(home: Path) -> None:
    """Make the home: closed to others, but PostgreSQL's own user may pass when we are root."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for folder in (home / "logs", environment.folder_of(home)):
        folder.mkdir(mode=0o700, exist_ok=True)


def _inherited(settings: Settings) -> dict[str, str]:
    """Our own environment without what is a setting: those are passed on as they were decided."""
    decided = {name.upper() for name in type(settings).model_fields}
    return {name: value for name, value in os.environ.items() if name not in decided}


def _before(path: str | None, first: str) -> str:
    return os.pathsep.join((first, path)) if path else first


def _given(settings: Settings) -> dict[str, object]:
    return {name: value for name, value in settings if value is not None}


def _running(home: Path) -> dict[str, Any] | None:
    """What a living supervisor of this home wrote down."""
    record = _read_record(home)
    if record is None or not is_that_one_alive(record["supervisor"]):
        return None
    return record


def _read_record(home: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((home / "services.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record


def _clear_leftovers(home: Path) -> None:
    """End what a killed supervisor left behind, so that ports and sockets are free again."""
    record = _read_record(home)
    if record is None:
        return
    processes = record["processes"]
    assert isinstance(processes, dict)  # noqa: S101 - we wrote it
    left = [
        psutil.Process(known["pid"]) for known in processes.values() if is_that_one_alive(known)
    ]
    children = [child for process in left for child in process.children(recursive=True)]
    end(left + children, seconds=10)
