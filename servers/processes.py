"""Processes of ours: which of them live, how they end, and that a home has one supervisor."""

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ServiceError(Exception):
    """A server of ours did not start, or another process holds this home; says what to do."""


def identity(process: psutil.Process) -> dict[str, float]:
    return {"pid": process.pid, "created": process.create_time()}


def is_that_one_alive(known: object) -> bool:
    """Whether that very process lives: a pid alone may have been given to another."""
    assert isinstance(known, dict)  # noqa: S101 - we wrote it
    try:
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - float(known["created"])) < 1
        return same and alive(process)
    except psutil.NoSuchProcess:
        return False


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(processes: Sequence[psutil.Process], *, seconds: float) -> None:
    """SIGTERM, then SIGKILL to what has not gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    left = wait_for(processes, seconds=seconds)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for(left, seconds=5)


def wait_for(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Until they have ended, or for so long; those that have not.

    One whose parent does not wait for it has ended, too: so a parent may stand still meanwhile.
    """
    deadline = time.monotonic() + seconds
    while (left := [each for each in processes if alive(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for each in processes:
        if each not in left:
            with suppress(psutil.Error):  # another's child
                each.wait(timeout=0)
    return left


@contextmanager
def locked(home: Path, *, wait: float = 0) -> Iterator[None]:
    """One process at a time for a home; ServiceError after `wait` seconds."""
    deadline = time.monotonic() + wait
    with (home / "lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ServiceError(
                        f"another atom-sync is running on {home}; "
                        "stop it, or set ATOM_HOME elsewhere"
                    ) from None
            time.sleep(0.1)
        yield


def reserved(port: int) -> bool:
    """Keep a port from others like us that start at this moment: a server binds it only later.

    The lock lasts as long as this process; where it cannot be had for another reason, so be it.
    """
    path = Path(tempfile.gettempdir()) / f"atom-sync-port-{port}-{os.geteuid()}"
    try:
        claim = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(claim)
        return False
    except OSError:
        return True
    return True


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C waits until the block is done: what was started is then known, and can be stopped."""
    held: list[int] = []
    former = {
        number: signal.signal(number, lambda number, frame: held.append(number))
        for number in _STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave processes behind."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
