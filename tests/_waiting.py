"""Waiting for what comes about by itself, for as long as a slow machine may take."""

import asyncio
import time
from collections.abc import Callable


async def until(so: Callable[[], object], *, seconds: float = 60) -> None:
    """Returns once it is so; an assertion fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.05)
