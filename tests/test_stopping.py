"""Long commands end on Ctrl-C and on SIGTERM however they were started, and leave nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from servers import postgresql


def in_the_background(folder: Path, *words: str) -> subprocess.Popen[str]:
    """As a script starts it with `&`: SIGINT is ignored."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "cli", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    process.send_signal(number)
    try:
        return process.communicate(timeout=120)
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_ends_with_status_0(folder: Path, number: signal.Signals) -> None:
    process = in_the_background(folder, "sandbox", "--port", "0", "--integrations", "hubspot")
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C stops it" in line:
            break
    _, errors = ended(process, number)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("reached", ["postgres/data/PG_VERSION", "logs/redis.log"])
def test_up_that_is_stopped_while_it_starts_leaves_nothing(folder: Path, reached: str) -> None:
    home = folder / ".atom"
    process = in_the_background(folder, "up")
    deadline = time.monotonic() + 120
    while not (home / reached).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told, errors = ended(process, signal.SIGINT)
    assert process.returncode == 0, told + errors
    assert "Traceback" not in errors
    assert not [each for each in psutil.process_iter() if _stands_in(home, each)]
    assert not postgresql.locate(home).running()
    assert not (home / "services.json").exists()


def _stands_in(home: Path, process: psutil.Process) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(home)
    except psutil.Error:
        return False
