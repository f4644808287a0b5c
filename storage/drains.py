"""Which drain applies events: one is alive for each shard, or none, and who starts the next.

A drain that begins raises the generation, which is its name from then on; it is alive as long as
it says so. Whoever finds events that nobody applies starts a drain under a key made of the
generation, so that many who find it start one.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from storage.database import Database
from storage.feeds import IS_READY, WANTED, naming

ALIVE = timedelta(seconds=30)


async def begin(database: Database, shard: int) -> int | None:
    """The generation under which a drain is alive from now on; None while another is."""
    query = text(
        """
        INSERT INTO drains AS d (shard, generation, alive_until)
        VALUES (:shard, 1, clock_timestamp() + :alive)
        ON CONFLICT (shard) DO UPDATE
            SET generation = d.generation + 1, alive_until = excluded.alive_until
            WHERE d.alive_until IS NULL OR d.alive_until <= clock_timestamp()
        RETURNING generation
        """
    )
    async with database.dispatching() as session:
        found: int | None = await session.scalar(query, {"shard": shard, "alive": ALIVE})
    return found


async def beat(database: Database, shard: int, generation: int) -> bool:
    """Still alive. False if a successor took over: then it is time to leave."""
    query = text(
        "UPDATE drains SET alive_until = clock_timestamp() + :alive"
        " WHERE shard = :shard AND generation = :generation RETURNING 1"
    )
    values = {"shard": shard, "generation": generation, "alive": ALIVE}
    async with database.dispatching() as session:
        return await session.scalar(query, values) is not None


async def is_alive(database: Database, shard: int) -> bool:
    """Whether the shard's drain says that it is."""
    query = text("SELECT alive_until > clock_timestamp() FROM drains WHERE shard = :shard")
    async with database.dispatching() as session:
        return bool(await session.scalar(query, {"shard": shard}))


async def leave(database: Database, shard: int, generation: int, shards: int) -> bool:
    """Gone, unless something came meanwhile: what is stored after this finds nobody alive."""
    async with database.dispatching() as session:
        await session.execute(
            text("SELECT FROM drains WHERE shard = :shard FOR UPDATE"), {"shard": shard}
        )
        values = {"shard": shard, "shards": shards, **naming()}
        if await session.scalar(_PENDING, values):
            return False
        await session.execute(
            text(
                "UPDATE drains SET alive_until = NULL"
                " WHERE shard = :shard AND generation = :generation"
            ),
            {"shard": shard, "generation": generation},
        )
    return True


async def end(database: Database, shard: int, generation: int) -> None:
    """Gone, whatever is pending: another may begin at once."""
    query = text(
        "UPDATE drains SET alive_until = NULL WHERE shard = :shard AND generation = :generation"
    )
    async with database.dispatching() as session:
        await session.execute(query, {"shard": shard, "generation": generation})


_PENDING = text(
    f"""
    SELECT EXISTS (
        SELECT FROM events e JOIN connections c ON c.id = e.connection_id
        WHERE e.applied_at IS NULL AND e.failed_at IS NULL AND e.due_at <= now()
            AND (c.status = 'active' OR e.is_duty)
            AND get_byte(uuid_send(c.id), 15) % :shards = :shard
    ) OR EXISTS (
        SELECT FROM checkpoints p JOIN connections c ON c.id = p.connection_id
        WHERE p.dirty_generation > p.read_generation
            AND (p.dirty_due_at IS NULL OR p.dirty_due_at <= now())
            AND c.status = 'active' AND get_byte(uuid_send(c.id), 15) % :shards = :shard
            AND NOT EXISTS (
                SELECT FROM leases l WHERE l.connection_id = c.id AND l.kind = 'sync'
                    AND l.expires_at > now()
            )
    ) OR EXISTS (
        SELECT FROM {WANTED}
        WHERE c.status = 'active' AND get_byte(uuid_send(c.id), 15) % :shards = :shard
            AND {IS_READY}
    )
    """  # noqa: S608 - constants of ours
)


@dataclass(frozen=True)
class Missing:
    """A shard with something to do and no drain; `generation` is that of the last one."""

    shard: int
    generation: int


async def missing(database: Database, shards: int) -> list[Missing]:
    """The shards for which a drain is to be started."""
    alive = text(
        "SELECT shard, generation, coalesce(alive_until > clock_timestamp(), false) FROM drains"
    )
    found = []
    async with database.dispatching() as session:
        known = {row[0]: (row[1], row[2]) for row in await session.execute(alive)}
        for shard in range(shards):
            generation, lives = known.get(shard, (0, False))
            values = {"shard": shard, "shards": shards, **naming()}
            if not lives and await session.scalar(_PENDING, values):
                found.append(Missing(shard, generation))
    return found


async def give_up(database: Database, shard: int, generation: int) -> None:
    """The drain that was started after this generation will never begin: the next has a new key."""
    query = text(
        """
        INSERT INTO drains AS d (shard, generation) VALUES (:shard, :generation + 1)
        ON CONFLICT (shard) DO UPDATE SET generation = d.generation + 1
            WHERE d.generation = :generation
                AND (d.alive_until IS NULL OR d.alive_until <= clock_timestamp())
        """
    )
    async with database.dispatching() as session:
        await session.execute(query, {"shard": shard, "generation": generation})
