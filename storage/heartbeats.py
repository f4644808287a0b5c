"""Which processes are there: each says so from time to time, and what fails in its background."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from storage import background
from storage.database import Database
from storage.models import Worker

# The last of a kind (`web`, of `web:host:4711`) tells since when there has been none.
FORGOTTEN_AFTER = timedelta(days=7)
# A process says that it is there every few seconds.
GONE = timedelta(minutes=1)


@dataclass(frozen=True)
class Heartbeat:
    """When a process was heard last, and its background tasks that failed then, with why."""

    name: str
    age: timedelta
    troubles: Mapping[str, str]

    @property
    def kind(self) -> str:
        """`web` or `drain`."""
        return self.name.partition(":")[0]


async def arrive(database: Database, name: str, kind: str) -> datetime | None:
    """Since when no process whose name begins like that was there; None if there never was one."""
    async with database.dispatching() as session:
        last: datetime | None = await session.scalar(
            select(func.max(Worker.heartbeat_at)).where(
                Worker.name.startswith(kind, autoescape=True), Worker.name != name
            )
        )
    return last


async def beat(database: Database, name: str) -> None:
    """It is there; what fails in its background is told with it."""
    failing = {task: str(trouble) for task, trouble in background.troubles().items()}
    row = {"name": name, "heartbeat_at": func.now(), "troubles": failing}
    async with database.dispatching() as session:
        await session.execute(
            insert(Worker).values(row).on_conflict_do_update(index_elements=["name"], set_=row)
        )


async def forget_gone(database: Database) -> int:
    """Deletes those that have not been heard of for long, but the last of a kind; how many."""
    later = aliased(Worker)
    kinds = [func.split_part(each.name, ":", 1) for each in (Worker, later)]
    followed = select(later.name).where(
        kinds[0] == kinds[1], later.heartbeat_at > Worker.heartbeat_at
    )
    async with database.dispatching() as session:
        gone = await session.scalars(
            delete(Worker)
            .where(Worker.heartbeat_at < func.now() - FORGOTTEN_AFTER, followed.exists())
            .returning(Worker.name)
            .execution_options(synchronize_session=False)
        )
        return len(gone.all())


async def try_to_beat(database: Database) -> None:
    """A heartbeat that is rolled back; DatabaseUnavailableError where the database takes none."""
    async with database.dispatching() as session:
        await session.execute(insert(Worker).values(name="tried").on_conflict_do_nothing())
        await session.rollback()


async def heard(database: Database) -> list[Heartbeat]:
    """Of web processes and drains the last that was heard of each, the newest first."""
    beats = select(
        Worker.name, func.clock_timestamp() - Worker.heartbeat_at, Worker.troubles
    ).where(Worker.name.like("web:%") | Worker.name.like("drain:%"))
    async with database.dispatching() as session:
        found = await session.execute(beats.order_by(Worker.heartbeat_at.desc()))
        return [Heartbeat(*row) for row in found]
