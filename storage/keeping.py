"""Storing what may be the only copy: a database that is away is waited for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from storage.errors import DatabaseUnavailableError

# Proxies give a page up after a minute.
WHILE_A_PERSON_WAITS = timedelta(seconds=30)
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
log = logging.getLogger(__name__)

T = TypeVar("T")


async def until_stored(
    store: Callable[[], Awaitable[T]],
    *,
    patience: timedelta | None,
    waits: str = "new tokens wait in this process to be stored",
) -> T:
    """What `store` returns, once the database takes it; DatabaseUnavailableError where that takes
    longer than `patience`. With None it is tried for as long as this process lives.

    `store` is called anew each time: a commit whose answer was lost may have been one. `waits` is
    what the log says of the first time that fails.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = None if patience is None else clock() + patience.total_seconds()
    pause = FIRST_PAUSE
    while True:
        try:
            return await store()
        except DatabaseUnavailableError as error:
            if give_up_at is not None and clock() > give_up_at:
                raise
            if pause == FIRST_PAUSE:
                log.warning("%s: %s", waits, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
