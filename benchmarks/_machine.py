"""The machine: what it is, what processes on it have used, and when it is quiet."""

import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import psutil
import psycopg

Cpu: TypeAlias = dict[str, float]

_QUIET_SHARE = 0.15  # of one core, for the servers together
_LOOK_SECONDS = 0.5
_LONGEST_WAIT = 20.0


def describe(database_url: str) -> dict[str, str]:
    """What the numbers depend on."""
    with psycopg.connect(database_url) as sql:
        row = sql.execute("SHOW server_version").fetchone()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": f"{psutil.cpu_count()} cores, {_cpu_model()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": str(row[0]).split()[0] if row else "unknown",
        "prefect": version("prefect"),
        "load": f"{os.getloadavg()[0]:.1f}",
        "nice": str(os.nice(0)),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def postmaster(url: str) -> int:
    """The process of PostgreSQL that all of its others are below."""
    with psycopg.connect(url) as sql:
        row = sql.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    return int(str(row[0]).split()[0]) if row else 0


def used(roots: Mapping[str, int]) -> Cpu:
    """CPU seconds of each root process and of all it ever started, so far."""
    return {name: _tree_seconds(psutil.Process(pid)) for name, pid in roots.items()}


def _tree_seconds(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            # Those of children count once they have ended: until then they are in the list.
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def settle(servers: Mapping[str, int]) -> None:
    """Wait until the servers have finished what the last round left them to do."""
    deadline = time.monotonic() + _LONGEST_WAIT
    before = sum(used(servers).values())
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = sum(used(servers).values())
        if now - before < _QUIET_SHARE * _LOOK_SECONDS:
            return
        before = now
