"""Processes that are measured: started once, then given one order after the other.

An order is a line of JSON on the process's input, its answer a line on its output; so what is timed
happens in a process that is already running.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import psutil

ROOT = Path(__file__).parent.parent
Answer: TypeAlias = dict[str, Any]


class BenchmarkError(Exception):
    """A process did not do what it was told; says which, and what its log ends with."""


class Process:
    """A module run as a child; it ends when its input does."""

    def __init__(
        self,
        module: str,
        log: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = module
        self._log = log
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._child.pid

    def ask(self, order: str, **arguments: Any) -> Answer:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            self._child.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
            self._child.stdin.flush()
        return self.answer()

    def answer(self) -> Answer:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self._name} ended early:\n{self._log.read_text()[-3000:]}")
        answer: Answer = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()


async def obey(orders: Mapping[str, Callable[..., Awaitable[Answer]]]) -> None:
    """The child's side: carry orders out, until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        told: Answer = json.loads(line)
        carry_out = orders[told.pop("order")]
        started = time.perf_counter()
        answer = await carry_out(**told)
        answer["seconds"] = time.perf_counter() - started
        answer["peak_bytes"] = peak_bytes()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def resident_bytes() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss


def peak_bytes() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's ru_maxrss begins with what the parent held when it started us; this does not.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
