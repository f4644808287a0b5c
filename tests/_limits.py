"""A test that takes too long fails and shows where every thread and every asyncio task waits."""

import asyncio
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import pytest
import pytest_timeout  # type: ignore[import-untyped]

# A test that goes on is failed again after so many seconds, or after its limit where that is less:
# it may block the loop that was told to stop, and what it leaves to clean up may hang too.
AGAIN = 60.0
TOLD_TO_STOP = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Puts our handler in the place of pytest-timeout's, which knows nothing of tasks."""
    done = yield
    if settings.method == "signal":
        signal.signal(signal.SIGALRM, partial(_fail, item, settings.timeout))
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, min(settings.timeout, AGAIN))
    return done


def lift() -> None:
    """What is still to be done of this test may take as long as it takes."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _fail(item: pytest.Item, seconds: float, *_: object) -> None:
    if pytest_timeout.is_debugging():
        return
    message = f"Timeout (>{seconds:g}s): this test has not ended"
    # As a part of the report it is seen where workers of pytest-xdist run the tests, too.
    item.add_report_section("call", "where it waited", "\n".join([message, *_stacks()]))
    loop = asyncio._get_running_loop()
    if loop is None or item.stash.get(TOLD_TO_STOP, False):
        pytest.fail(message)
    # An exception raised here would hit whatever the loop does just now. It could drop another
    # task's next step, and that task would never end: the loop's close would wait for it.
    item.stash[TOLD_TO_STOP] = True
    loop.call_soon_threadsafe(loop.stop)


def _stacks() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs in this thread
        return
    for task in tasks:
        yield f"Task {task.get_name()}:\n{''.join(_awaited(task.get_coro()))}"


def _awaited(awaiting: Any) -> Iterator[str]:
    """The lines at which a coroutine waits, from the outermost call to the innermost."""
    while frame := getattr(awaiting, "cr_frame", None):
        yield from traceback.format_stack(frame, limit=1)
        awaiting = awaiting.cr_await
