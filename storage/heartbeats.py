"""Which processes are there: each says so from time to time."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from storage.database import Database
from storage.models import Worker

# The last of a kind (`web`, of `web:host:4711`) tells since when there has been none.
FORGOTTEN_AFTER = timedelta(days=7)


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
    row = {"name": name, "heartbeat_at": func.now()}
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
