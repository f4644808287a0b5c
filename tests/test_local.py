"""Servers of our own on one machine: started once, found by others, and all of them stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest
import redis

from servers import local, postgresql
from servers.database import database_url_of
from servers.ports import LOOPBACK, free_port
from servers.processes import ServiceError
from settings import Settings, read


@pytest.fixture
def own_home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="atom-home-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def settings_of(home: Path) -> Settings:
    return read(_env_file=None, atom_home=home)


def quiet(line: str) -> None:
    assert line


def test_servers_start_answer_and_leave_no_process_behind(own_home: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    with local.supervised(settings_of(own_home), quiet) as services:
        services.start_database()
        services.start_redis()
        url = database_url_of(services.settings)
        with psycopg.connect(url) as sql:
            assert sql.execute("SELECT 1").fetchone() == (1,)
        assert services.settings.redis_url is not None
        with redis.Redis.from_url(services.settings.redis_url.get_secret_value()) as client:
            assert client.ping()
        started = set(psutil.Process().children(recursive=True)) - others
        assert started
    assert not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_the_database_keeps_its_data_and_its_key(own_home: Path) -> None:
    for expected in (0, 1):
        with local.supervised(settings_of(own_home), quiet) as services:
            services.start_database()
            keys = services.settings.encryption_keys
            with psycopg.connect(database_url_of(services.settings)) as sql:
                sql.execute("CREATE TABLE IF NOT EXISTS kept (key text)")
                found = sql.execute("SELECT key FROM kept").fetchall()
                assert len(found) == expected
                assert keys is not None
                assert all(key == (keys.get_secret_value(),) for key in found)
                sql.execute("INSERT INTO kept VALUES (%s)", (keys.get_secret_value(),))
    assert (own_home / "keys").stat().st_mode & 0o777 == 0o600


def test_a_second_supervisor_of_a_home_is_refused(own_home: Path) -> None:
    with (
        local.supervised(settings_of(own_home), quiet),
        pytest.raises(ServiceError, match="another atom-sync is running on"),
        local.supervised(settings_of(own_home), quiet),
    ):
        pass


def test_a_command_run_alone_finds_the_running_supervisor(own_home: Path) -> None:
    with local.supervised(settings_of(own_home), quiet) as services:
        services.start_database()
        services.start_redis()
        with local.attached(settings_of(own_home)) as settings:
            assert settings.database_url == services.settings.database_url
            assert settings.encryption_keys == services.settings.encryption_keys
            assert settings.redis_url == services.settings.redis_url


def test_what_a_killed_supervisor_left_is_cleared_by_the_next(own_home: Path) -> None:
    program = (
        "import time\nfrom pathlib import Path\nfrom servers import local\n"
        "from settings import read\n"
        f"home = Path({str(own_home)!r})\n"
        "with local.supervised(read(_env_file=None, atom_home=home), print) as services:\n"
        "    services.start_database()\n    services.start_redis()\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline().strip() == "ready"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    orphans = [p for p in psutil.process_iter(["cmdline"]) if _of(own_home, p)]
    assert any("redis-server" in " ".join(p.info["cmdline"]) for p in orphans)
    with local.supervised(settings_of(own_home), quiet) as services:
        services.start_database()
        services.start_redis()
        with psycopg.connect(database_url_of(services.settings)) as sql:
            assert sql.execute("SELECT 1").fetchone() == (1,)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(_lives(p) for p in orphans):
        time.sleep(0.1)
    assert not [p for p in orphans if _lives(p)]


def _of(home: Path, process: psutil.Process) -> bool:
    return str(home) in " ".join(process.info["cmdline"] or [])


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) <= port + 200


def test_no_folder_closed_to_others_is_opened_for_the_database(own_home: Path) -> None:
    closed = own_home / "closed"
    closed.mkdir(mode=0o700)
    server = postgresql.locate(closed / "home")
    assert closed.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        assert not server.data.is_relative_to(closed)
    else:
        assert server.data.is_relative_to(closed)


def test_sockets_are_closed_to_others(own_home: Path) -> None:
    with local.supervised(settings_of(own_home), quiet) as services:
        services.start_database()
        server = postgresql.locate(own_home)
        assert server.sockets.stat().st_mode & 0o777 == 0o700
