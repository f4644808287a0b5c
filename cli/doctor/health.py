"""Whether the database is well, and what our processes say of themselves in it."""

from collections.abc import Sequence
from datetime import timedelta

from cli.doctor.row import Row, State
from servers.database import opened
from settings import Settings
from storage import DatabaseUnavailableError, heartbeats
from storage.heartbeats import GONE, Heartbeat

# A web process that was stopped on purpose is forgotten after so long.
FORGOTTEN = timedelta(days=1)


async def rows(settings: Settings) -> list[Row]:
    """Whether the database takes writes, and whether all that goes on in the background does."""
    async with opened(settings) as database:
        heard = await heartbeats.heard(database)
        try:
            await heartbeats.try_to_beat(database)
        except DatabaseUnavailableError as error:
            takes_writes = unwell(error)
        else:
            takes_writes = Row("database", "health", State.OK, "it takes writes")
    return [takes_writes, *_processes(heard)]


def unwell(error: DatabaseUnavailableError) -> Row:
    remedy = "mend that, or have its host do so: all that waits for it goes on by itself"
    return Row("database", "health", State.WRONG, str(error), remedy)


def _processes(heard: Sequence[Heartbeat]) -> list[Row]:
    """The newest web process, and every task that fails in one that is there."""
    found = []
    web = next((one for one in heard if one.kind == "web" and one.age < FORGOTTEN), None)
    if web is not None and web.age > GONE:
        found.append(
            Row(
                "database", "web", State.WRONG, f"not heard of for {_minutes(web.age)} min",
                "if it is to run, start it; its log tells why it does not beat", required=False,
            )
        )  # fmt: skip
    failing = [one for one in heard if one.age < GONE and one.troubles]
    for process in failing:
        for task, why in process.troubles.items():
            remedy = "it is tried again by itself; the log of the process says more"
            found.append(Row("database", f"{process.kind}: {task}", State.WRONG, why, remedy))
    if heard and not found:
        found.append(Row("database", "background", State.OK, "all tasks of our processes work"))
    return found


def _minutes(age: timedelta) -> int:
    return int(age.total_seconds() // 60)
