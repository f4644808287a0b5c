"""Which `atom-sync up` there are. Each start is an incarnation: that is told to stop, not a name.

A name may repeat: on two machines, or while a new `up` begins before the old one has ended. So the
runs of an incarnation carry its id in their environment, and only its own row tells them to stop.
"""

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.models import Incarnation as Row

# An incarnation is there for so long after it last said so.
ALIVE = timedelta(minutes=1)


@dataclass(frozen=True)
class Incarnation:
    """One start of `atom-sync up`: under which name, on which machine, as which process."""

    id: UUID
    worker: str
    host: str
    pid: int

    @classmethod
    def begin(cls, worker: str) -> Self:
        """This process, under an id that none had before."""
        return cls(uuid4(), worker, socket.gethostname(), os.getpid())

    def __str__(self) -> str:
        return f"`atom-sync up` (worker {self.worker!r} on {self.host}, process {self.pid})"


@dataclass(frozen=True)
class Living:
    """An incarnation that says that it is there, since when, and whether it is ending."""

    incarnation: Incarnation
    started_at: datetime
    stopping: bool


async def beat(database: Database, incarnation: Incarnation) -> None:
    """It is there."""
    await _put(database, incarnation)


async def tell_to_stop(database: Database, incarnation: Incarnation) -> None:
    """Its runs are to leave after the batch they are at; those of no other."""
    await _put(database, incarnation, stopping_at=func.now())


async def told_to_stop(database: Database, id: UUID) -> str:
    """Who told the runs of that incarnation to leave, in words; empty while nobody did."""
    query = select(Row).where(Row.id == id, Row.stopping_at.is_not(None))
    async with database.dispatching() as session:
        found = await session.scalar(query)
    return f"told to stop: {_of(found)} is ending" if found else ""


async def living(database: Database) -> list[Living]:
    """Those that have lately said that they are there, the oldest first."""
    query = (
        select(Row)
        .where(Row.heartbeat_at > func.clock_timestamp() - ALIVE)
        .order_by(Row.started_at)
    )
    async with database.dispatching() as session:
        found = list(await session.scalars(query))
    return [Living(_of(row), row.started_at, row.stopping_at is not None) for row in found]


def _of(row: Row) -> Incarnation:
    return Incarnation(row.id, row.worker, row.host, row.pid)


async def _put(database: Database, incarnation: Incarnation, **changes: Any) -> None:
    changes["heartbeat_at"] = func.clock_timestamp()
    async with database.dispatching() as session:
        await session.execute(
            insert(Row)
            .values(**vars(incarnation), **changes)
            .on_conflict_do_update(index_elements=["id"], set_=changes)
        )
