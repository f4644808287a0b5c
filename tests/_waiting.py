"""Waiting for what comes about by itself, for as long as a slow machine may take."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(so: Callable[[], object], *, seconds: float = 120) -> None:
    """Returns once it is so; an assertion fails when that takes too long."""

    async def is_so() -> object:
        return so()

    await found(is_so, seconds=seconds)


async def found(asking: Callable[[], Awaitable[T]], *, seconds: float = 120) -> T:
    """What is asked for, once it is there; an assertion fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := await asking()):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.05)
    return answer
