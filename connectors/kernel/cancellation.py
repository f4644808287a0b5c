"""Ending tasks for certain, and taking what a cancelled taker must not leave taken.

A cancel can be lost: psycopg waits by `asyncio.wait_for`, which on Python 3.11 returns its result
where that comes at the moment of the cancel (python/cpython#86296; found 2026-11-29 by cancelling
syncs at every moment of their start: one in six went on).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# Long enough for what a cancelled task has to clean up, which a second cancel would cut short.
AGAIN = 5.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks until each has ended, whatever it ended with."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # as seen: it is not reported as forgotten


async def take(taking: Coroutine[Any, Any, T], give_back: Callable[[T], Awaitable[object]]) -> T:
    """Takes it by a commit; a caller that is cancelled meanwhile leaves nothing taken.

    A cancelled commit may have happened all the same. So it goes on to its end, and what it took is
    given back.
    """
    task = asyncio.ensure_future(taking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await give_back(await task)
        raise
