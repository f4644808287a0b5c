"""What is cancelled ends, also where a cancel is lost, and leaves nothing taken."""

import asyncio
from contextlib import suppress

import pytest

from connectors.kernel import cancellation
from connectors.kernel.cancellation import end, take


async def _loses(cancels: int) -> None:
    while cancels:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        cancels -= 1
    await asyncio.Event().wait()


async def test_a_task_that_lost_a_cancel_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancellation, "AGAIN", 0.01)
    tasks = [asyncio.create_task(_loses(cancels)) for cancels in range(3)]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_what_ended_by_itself_is_left_as_it_is() -> None:
    async def fails() -> None:
        raise ValueError

    tasks = [asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(0, "done"))]
    await asyncio.wait(tasks)
    await end(*tasks)
    assert isinstance(tasks[0].exception(), ValueError)
    assert tasks[1].result() == "done"


async def test_who_is_cancelled_while_taking_gives_back_what_it_took() -> None:
    going, taken = asyncio.Event(), []

    async def taking() -> str:
        taken.append("it")
        await going.wait()
        return "it"

    async def give_back(it: str) -> None:
        taken.remove(it)

    task = asyncio.create_task(take(taking(), give_back))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    going.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert taken == []
