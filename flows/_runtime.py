"""What every flow run of a process shares."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from accounts.runtime import Runtime, opened
from flows import _run_log
from settings import Settings, read

_open: ContextVar[Runtime | None] = ContextVar("runtime", default=None)


@asynccontextmanager
async def runtime(settings: Settings | None = None) -> AsyncIterator[Runtime]:
    """The runtime this run stands in; a run that is not inside another's opens its own."""
    if (around := _open.get()) is not None:
        yield around
        return
    _run_log.install()
    async with opened(settings or read()) as own:
        token = _open.set(own)
        try:
            yield own
        finally:
            _open.reset(token)
