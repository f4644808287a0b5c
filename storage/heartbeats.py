"""Which processes are there: each says so from time to time."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.models import Worker


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
