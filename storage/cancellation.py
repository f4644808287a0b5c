"""What is taken by a commit, and whose taker may be cancelled while it commits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def take(taking: Coroutine[Any, Any, T], give_back: Callable[[T], Awaitable[object]]) -> T:
    """Takes it; a caller that is cancelled meanwhile leaves nothing taken.

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
