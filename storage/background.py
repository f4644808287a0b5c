"""Background tasks: whatever one turn fails with, the next one comes, and it is seen to fail.

A task that ended with an error would end without a word, and what it kept up would stay down until
the process does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors import ConnectorError
from storage.errors import StorageError

# The pause after a turn that failed doubles with each one in a row, up to this.
LONGEST_PAUSE = 15.0
# Errors whose texts are ours, and safe to show.
SAFE: tuple[type[Exception], ...] = (ConnectorError, StorageError)
log = logging.getLogger("atom-sync.background")


@dataclass(frozen=True)
class Trouble:
    """Why a task fails now, since when, and how often in a row."""

    reason: str
    since: datetime
    times: int = 1

    def __str__(self) -> str:
        return f"{self.reason} (since {self.since:%H:%M:%S} UTC, {self.times:,} times)"


_troubles: dict[str, Trouble] = {}
_failures: dict[str, int] = {}


def troubles() -> Mapping[str, Trouble]:
    """The tasks of this process that failed in their last turn, by name."""
    return dict(_troubles)


def failures() -> Mapping[str, int]:
    """How many turns of each task have failed since this process began."""
    return dict(_failures)


async def turn(
    name: str, work: Callable[[], Awaitable[object]], safe: tuple[type[Exception], ...] = SAFE
) -> bool:
    """One turn of a task; whether it went well. It is said once, not each time that it fails."""
    try:
        await work()
    except Exception as error:
        # An error that nobody foresaw may hold anything.
        known = isinstance(error, safe)
        reason = str(error) if known else f"{type(error).__name__}{_place(error)}"
        former = _troubles.get(name)
        if former is None or former.reason != reason:
            log.warning("the task %s fails, and is tried again: %s", name, reason)
        since, times = (former.since, former.times + 1) if former else (datetime.now(UTC), 1)
        _troubles[name] = Trouble(reason, since, times)
        _failures[name] = _failures.get(name, 0) + 1
        return False
    works(name)
    return True


def works(name: str) -> None:
    """A task whose turn goes on has got over what the last one failed with."""
    if (over := _troubles.pop(name, None)) is not None:
        log.info("the task %s works again; it failed: %s", name, over)


async def repeated(
    name: str,
    work: Callable[[], Awaitable[object]],
    every: float,
    *,
    wake: asyncio.Event | None = None,
    pause: float = 0.0,
    begins_after: float = 0.0,
    safe: tuple[type[Exception], ...] = SAFE,
) -> None:
    """Turn after turn, until it is cancelled, with so many seconds between two; sooner where `wake`
    is set, but not within `pause`. What fails is not hurried."""
    called = wake or asyncio.Event()
    wait = every
    try:
        await asyncio.sleep(begins_after)
        while True:
            called.clear()
            if await turn(name, work, safe):
                wait = every
                await asyncio.sleep(pause)
                with suppress(TimeoutError):
                    await asyncio.wait_for(called.wait(), every)
            else:
                wait = longer(wait, every)
                await asyncio.sleep(wait)
    finally:
        _troubles.pop(name, None)


def longer(wait: float, every: float = 0.0) -> float:
    """How long is waited after one more failure in a row, if it was `wait` before."""
    return max(every, min(2 * wait, LONGEST_PAUSE))


def _place(error: Exception) -> str:
    """Where it came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
