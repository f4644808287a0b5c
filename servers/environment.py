"""What stands around a process of ours and is not its own: the shell's variables, a folder's files.

Prefect takes its settings from the environment, then from `.env`, `prefect.toml` and
`pyproject.toml` of the working folder, then from a profile in PREFECT_HOME; and an empty value
is a value to it: an empty PREFECT_SERVER_API_AUTH_STRING is a password that no call gives
(prefect/settings/sources.py and prefect/server/api/server.py of 3.8.8, read 2026-11-29).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dotenv import dotenv_values

from settings import INCARNATION, SUPERVISED, env_file, is_alone, variables

_PREFECT = "PREFECT_"
# What leads Prefect to files of its own.
_LEADING = ("PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
_LIBPQ = "PG"  # libpq fills in from these what a URL leaves open


def folder_of(home: Path) -> Path:
    """Where the processes of a home stand: only Prefect writes files there."""
    return home / "prefect"


@contextmanager
def apart(home: Path) -> Iterator[None]:
    """Prefect, here and in all that is started here, reads what the operator set and nothing else.

    It reads files of the working folder when it is imported and again later, so the process
    stands elsewhere for as long as the block lasts.
    """
    former = dict(os.environ)
    chosen = {} if is_alone(home) else _prefects()
    with ExitStack() as stack:
        folder = folder_of(home)
        if not folder.is_dir():  # a command that only looks makes nothing
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="atom-sync-")))
        try:
            if is_alone(home):
                forget()
            _remove(name for name in former if name.startswith(_PREFECT))
            os.environ.update(chosen | environment_of(folder))
            with chdir(folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(former)


def forget() -> None:
    """Take out of this process what the shell has set of ours, of Prefect's and of libpq's.

    Nor does it ask a proxy for what is on this machine.
    """
    own = {*variables(), SUPERVISED, INCARNATION, "ATOM_IMPORT_URL"}
    _remove(
        name
        for name in list(os.environ)
        if name.upper() in own or name.startswith((_PREFECT, _LIBPQ))
    )
    os.environ.update(_unproxied())


def environment_of(folder: Path) -> dict[str, str]:
    """Prefect's variables in every process that stands in that folder."""
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "DO_NOT_TRACK": "1",
        **_unproxied(),
    }


def _unproxied() -> dict[str, str]:
    former = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    hosts = ",".join(filter(None, (former, "127.0.0.1", "localhost")))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def _prefects() -> dict[str, str]:
    """Prefect's own variables as the operator set them, in the environment or in `.env`."""
    file = env_file()
    given = {**(dotenv_values(file) if file else {}), **{n: v for n, v in os.environ.items() if v}}
    return {
        name: value
        for name, value in given.items()
        if value and name.startswith(_PREFECT) and name not in _LEADING
    }


def _remove(names: Iterator[str]) -> None:
    for name in names:
        os.environ.pop(name, None)
