"""`atom-sync up` against a database as hosting companies give it: TLS, a password, no superuser."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from servers import postgresql
from tests._sandboxed import KEY

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture(scope="module")
def hosted() -> Iterator[str]:
    """The URL of a database behind TLS and a password, whose user may make databases and roles.

    The embedded build has no TLS, so something in front of it speaks that, as pgbouncer would.
    """
    with TemporaryDirectory(prefix="atom-hosted-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        server = postgresql.start(home)
        with psycopg.connect(server.url("postgres"), autocommit=True) as sql:
            sql.execute("CREATE ROLE tenant_db LOGIN CREATEDB CREATEROLE PASSWORD 'canary-pw-81c'")
            sql.execute("CREATE DATABASE atom_saas OWNER tenant_db")
        server.stop()
        (server.data / "pg_hba.conf").write_text(
            "local all postgres trust\nlocal all all scram-sha-256\n"
        )
        server = postgresql.start(home, options=("fsync=off",))
        with _tls(_certified(home), server.sockets / ".s.PGSQL.5432") as port:
            yield f"postgresql://tenant_db:canary-pw-81c@127.0.0.1:{port}/atom_saas?sslmode=require"
        server.stop()


@contextmanager
def _tls(certificate: Path, socket: Path) -> Iterator[int]:
    """A listener that answers PostgreSQL's request for TLS and passes the plain bytes on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == SSL_REQUEST, "a connection without TLS"
        writer.write(b"S")
        await writer.start_tls(context)
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
        await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certified(folder: Path) -> Path:
    """A certificate for this machine, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def environment(home: Path, url: str, key: str = KEY) -> dict[str, str]:
    return os.environ | {"ATOM_HOME": str(home), "DATABASE_URL": url, "ENCRYPTION_KEYS": key}


def test_it_comes_up_works_and_goes_down_leaving_nothing(hosted: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "up"],
        env=environment(home, hosted), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "ready" in line:
            break
    assert "ready" in said, said
    children = psutil.Process(process.pid).children(recursive=True)
    assert {"prefect", "redis-server"} <= {_kind(child) for child in children}
    status = subprocess.run(
        [sys.executable, "-m", "cli", "status"],
        env=environment(home, hosted), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "no connections yet" in status.stdout
    process.send_signal(signal.SIGINT)
    said += process.stderr.read()
    assert process.wait(timeout=60) == 0, said
    process.stderr.close()
    deadline = time.monotonic() + 60
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if child.is_running()]
    logs = "".join(path.read_text() for path in (home / "logs").iterdir())
    assert "canary-pw-81c" not in logs + said + status.stdout + status.stderr
    assert KEY not in logs + said
    with psycopg.connect(hosted) as sql:
        found = sql.execute("SELECT datname FROM pg_database WHERE datname = 'prefect'")
        assert found.fetchone() == ("prefect",)


def _kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((name for name in ("redis-server", "prefect", "web") if name in command), command)


def test_a_process_without_the_stored_key_refuses_to_start(hosted: str, tmp_path: Path) -> None:
    other = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="  # pragma: allowlist secret
    first = subprocess.run(
        [sys.executable, "-m", "cli", "migrate"],
        env=environment(tmp_path, hosted), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    for command in ("up", "migrate"):
        refused = subprocess.run(
            [sys.executable, "-m", "cli", command],
            env=environment(tmp_path, hosted, other),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 1
        told = " ".join(refused.stderr.split())
        assert "add it to ENCRYPTION_KEYS, after the current one; it lies in the file" in told
        assert "openssl" not in told
        assert other not in refused.stderr


def test_a_user_without_rights_is_told_what_an_administrator_must_run(
    hosted: str, tmp_path: Path
) -> None:
    with psycopg.connect(hosted, autocommit=True) as sql:
        sql.execute("CREATE ROLE bare LOGIN PASSWORD 'bare-password'")
        sql.execute("CREATE DATABASE bare_db")
    url = hosted.replace("tenant_db:canary-pw-81c", "bare:bare-password").replace(
        "atom_saas", "bare_db"
    )
    refused = subprocess.run(
        [sys.executable, "-m", "cli", "migrate"],
        env=environment(tmp_path, url), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "GRANT" in refused.stderr
    assert "Traceback" not in refused.stderr
