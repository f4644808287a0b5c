"""What was deleted where a vendor tells nobody is found by reading everything, within a budget."""

from typing import Any

from prefect.client.schemas.objects import State

from flows.sweep import sweep_deletes
from flows.sync import sync
from storage import connections, runs
from storage.locks import locked
from tests._sandboxed import Sandboxed

GHOST = (
    "INSERT INTO records SELECT connection_id, '999999', stream, tenant_id, data, version,"
    " observed_at, content_hash, NULL FROM records WHERE stream = 'hubspot.{}' AND connection_id ="
    " '{}' LIMIT 1"
)


async def swept(**options: int) -> State[Any]:
    state: State[Any] = await sweep_deletes(return_state=True, **options)
    return state


async def aged(world: Sandboxed, slug: str, days: int) -> connections.Connection:
    """A connection that was made so long ago, is synced, and holds what is gone at the vendor."""
    connection = await world.connect("hubspot", tenant=slug, size=10)
    await sync(connection.id, return_state=True)
    world.run(
        f"UPDATE connections SET created_at = now() - interval '{days} days'"
        f" WHERE id = '{connection.id}'"
    )
    world.run(GHOST.format("contacts", connection.id))
    return connection


def is_haunted(world: Sandboxed, connection: connections.Connection) -> bool:
    return "999999" in world.stored(connection)["contacts"]


async def test_what_is_gone_is_found_once_a_week_in_streams_that_hide_it(world: Sandboxed) -> None:
    old, young = await aged(world, "old", 8), await aged(world, "young", 6)
    world.run(GHOST.format("deals", old.id))
    state = await swept()
    assert state.message == "1 swept"
    assert not is_haunted(world, old)
    assert "999999" in world.stored(old)["deals"]
    assert is_haunted(world, young)
    assert world.one("SELECT trigger FROM sync_runs ORDER BY started_at DESC LIMIT 1") == "sweep"
    assert (await swept()).message == "nothing is to be swept"
    world.run("UPDATE checkpoints SET swept_at = swept_at - interval '8 days'")
    assert (await swept()).message == "1 swept"


async def test_the_longest_wait_comes_first_and_a_spent_budget_ends_it(world: Sandboxed) -> None:
    first, second = await aged(world, "first", 30), await aged(world, "second", 20)
    third = await aged(world, "third", 10)
    state = await swept(calls=1)
    assert state.message == "1 left for later: the calls are spent; 2 swept"
    assert [is_haunted(world, each) for each in (first, second, third)] == [False, False, True]
    assert (await swept()).message == "1 swept"


async def test_what_fails_or_rests_or_is_away_is_not_swept(world: Sandboxed) -> None:
    await aged(world, "paused", 8)
    await aged(world, "failing", 8)
    world.run(
        "UPDATE connections SET status = CASE WHEN t.slug = 'paused' THEN 'paused' ELSE 'active'"
        " END, failures = CASE WHEN t.slug = 'failing' THEN 1 ELSE 0 END"
        " FROM tenants t WHERE t.id = tenant_id"
    )
    assert (await swept()).message == "nothing is to be swept"
    away = await aged(world, "away", 8)
    world.run("INSERT INTO breakers (integration, opened_at, probe_at) VALUES"
              " ('hubspot', now(), now() + interval '1 hour')")  # fmt: skip
    assert (await swept()).message == "nothing is to be swept"
    world.run("DELETE FROM breakers")
    await runs.request_stop(world.database, "local")
    assert (await swept()).message == "1 left for later: told to stop"
    assert is_haunted(world, away)


async def test_one_sweep_at_a_time(world: Sandboxed) -> None:
    async with locked(world.database_url, "sweep public"):
        assert (await swept()).name == "Skipped"
