"""pg_dump and pg_restore: a database into a file, and a file into statements.

Passwords go by the environment, where `ps` does not show them.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from servers import postgresql
from storage.migrations import VERSION_TABLE

_OURS = re.compile(rf"^\d+; \d+ \d+ TABLE ([a-z_][a-z0-9_]*) {VERSION_TABLE} ", re.MULTILINE)
_CONTENT = re.compile(r"FROM stdin;\n(\w+)\n")


class BackupError(Exception):
    """A backup that was not made or cannot be used; the message says what is left as it was."""


@dataclass(frozen=True)
class Archive:
    """A backup of ours: of which schema, and at which revision that was."""

    file: Path
    schema: str
    revision: str

    def script(self) -> Generator[bytes]:
        """The lines of what makes the schema's tables and rows, without the schema itself.

        BackupError at its end if the file is cut off or damaged.
        """
        # Whoever runs it is the owner of what it makes.
        program = str(postgresql.program("pg_restore"))
        words = [program, "--no-owner", "--schema", self.schema, "--file=-", str(self.file)]
        with (
            tempfile.TemporaryFile() as told,
            subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                start_new_session=True,  # Ctrl-C is ours: else the file would seem cut off
            ) as process,
        ):
            try:
                yield from process.stdout or ()
            finally:
                if process.stdout is not None:
                    process.stdout.close()  # it writes no more, and ends
            if process.wait() != 0:
                told.seek(0)
                raise _unusable(self.file, told.read())


def existing(file: Path) -> Archive:
    """The backup in that file; BackupError if it is none of ours. Nothing is connected to."""
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    listed = _OURS.findall(_told(file, "--list"))
    if len(listed) != 1:
        what = f"backups of {len(listed)} schemas" if listed else "a backup of another database"
        raise BackupError(
            f"{file} is {what}: `atom-sync backup` makes what can be restored. Nothing was written"
        )
    (schema,) = listed
    told = _told(file, "--data-only", "--schema", schema, "--table", VERSION_TABLE, "--file=-")
    revision = _CONTENT.search(told)
    if revision is None:
        raise BackupError(f"{file} does not say which version it is of. Nothing was written")
    return Archive(file, schema, revision[1])


def read_through(archive: Archive) -> None:
    """BackupError if the file is cut off or damaged."""
    _told(archive.file, "--schema", archive.schema, f"--file={os.devnull}")


def dump(url: str, schema: str, file: Path, *, server: int, over_tls: bool) -> int:
    """Write a backup of that schema to that file, whole or not at all; its bytes.

    `server` is the server's version as libpq has it. A former file stays as it was until the new
    one is on the disk. BackupError for what pg_dump or the disk says.
    """
    program, needed = _dumper(server, over_tls=over_tls)
    try:
        with _beside(file) as draft:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
                [
                    program, "--no-password", "--format=custom", "--strict-names",
                    f"--schema={schema}", f"--file={draft}",
                ],
                env=os.environ | postgresql.environment_of(url) | needed,
                stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                ended = f"pg_dump was ended by signal {-done.returncode}"
                reason = ended if done.returncode < 0 else _reason(done.stderr)
                raise BackupError(f"no backup was made: {reason}")
            _keep(draft)
            size = draft.stat().st_size
            draft.replace(file)
            _keep(file.parent)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from None
    return size


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """An empty file that only we may read, in the same folder; gone afterwards if left there."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _keep(path: Path) -> None:
    """On the disk, whatever happens to the machine."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _dumper(server: int, *, over_tls: bool) -> tuple[str, dict[str, str]]:
    """A pg_dump that reaches such a server, and what it needs in its environment for that."""
    own = str(postgresql.program("pg_dump"))
    if not over_tls:
        # The wheel's libpq knows no other, not even to refuse it.
        return own, {"PGSSLMODE": "disable"}
    found, wanted = which("pg_dump"), server // 10_000
    version = _version(found) if found else 0
    if found is not None and version >= wanted:
        return found, {}
    if library := _libpq_with_tls():
        return own, {"LD_PRELOAD": library}
    has = f"the one here is {version}" if found else "there is none here"
    raise BackupError(
        f"the server is reached over TLS, which takes a pg_dump of version {wanted} or newer,"
        f" and {has}: install postgresql-client-{wanted}, or make the backup by a hosting"
        " company's own means"
    )


def _libpq_with_tls() -> str | None:
    """psycopg's own libpq, of the same version as the wheel's; that one is built without TLS."""
    spec = find_spec("psycopg_binary")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return None
    libraries = Path(spec.origin).parent.with_name("psycopg_binary.libs")
    found = [str(path) for path in libraries.glob("libpq-*.so.*")]
    # The linker splits what it is given at these.
    usable = [path for path in found if not re.search(r"[\s:]", path)]
    return usable[0] if usable else None


def _version(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r" (\d+)", done.stdout)
    return int(found[1]) if found else 0


def _told(file: Path, *options: str) -> str:
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [str(postgresql.program("pg_restore")), *options, str(file)],
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise _unusable(file, done.stderr)
    return done.stdout.decode(errors="replace")


def _unusable(file: Path, told: bytes) -> BackupError:
    return BackupError(
        f"{file} is no backup, or is cut off or damaged ({_reason(told)}). Nothing was written"
    )


def _reason(told: bytes) -> str:
    """The first error that one of PostgreSQL's programs tells; lines below it may quote rows."""
    lines = told.decode(errors="replace").strip().splitlines() or ["no reason given"]
    told_first = next((line for line in lines if " error: " in line), lines[0])
    return re.sub(r"^pg_\w+: (error: )?", "", told_first)[:300]
