"""No feed is believed for ever: what drifted from the vendor is found, counted and put right."""

from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import State

from flows.audit import ARTIFACT, audit
from flows.sync import sync
from storage import audits, connections
from storage.locks import locked
from tests._sandboxed import Sandboxed

GHOST = (
    "INSERT INTO records SELECT connection_id, '999999', stream, tenant_id, data, version,"
    " observed_at, content_hash, NULL FROM records WHERE stream = 'hubspot.{}' AND connection_id ="
    " '{}' LIMIT 1"
)


async def checked(**options: int) -> State[Any]:
    state: State[Any] = await audit(return_state=True, **options)
    return state


async def synced(world: Sandboxed, slug: str, integration: str = "hubspot") -> Any:
    connection = await world.connect(integration, tenant=slug, size=10)
    state: State[Any] = await sync(connection.id, return_state=True)
    assert state.is_completed(), state.message
    return connection


def aged(world: Sandboxed, connection: connections.Connection, days: int) -> None:
    world.run(
        f"UPDATE connections SET created_at = now() - interval '{days} days'"
        f" WHERE id = '{connection.id}'"
    )


def drift(world: Sandboxed, connection: connections.Connection, stream: str) -> None:
    """One record lost, one changed and one that is not there, behind everybody's back."""
    where = f"connection_id = '{connection.id}' AND stream = 'hubspot.{stream}'"
    first, second = world.all(f"SELECT record_id FROM records WHERE {where} ORDER BY 1 LIMIT 2")
    world.run(f"DELETE FROM records WHERE {where} AND record_id = '{first[0]}'")
    world.run(
        "UPDATE records SET data = jsonb_set(data, '{properties}', '{}'), content_hash = '\\x00',"
        " version = version - 1, observed_at = observed_at - interval '1 day'"
        f" WHERE {where} AND record_id = '{second[0]}'"
    )
    world.run(GHOST.format(stream, connection.id))
    world.run(
        f"UPDATE records SET observed_at = observed_at - interval '1 day' WHERE {where}"
        " AND record_id = '999999'"
    )


async def latest(world: Sandboxed, connection: connections.Connection) -> dict[str, audits.Result]:
    async with world.database.transaction(connection.tenant_id) as session:
        return await audits.latest(session, connection.id)


async def test_what_drifted_is_found_counted_and_put_right(world: Sandboxed) -> None:
    connection = await synced(world, "acme")
    drift(world, connection, "contacts")
    drift(world, connection, "deals")
    state = await sync(connection.id, trigger="audit", audit=True, return_state=True)
    assert state.is_completed(), state.message
    assert world.stored(connection) == world.vendor(connection)
    found = await latest(world, connection)
    for name in ("contacts", "deals"):
        counts = (found[name].missing, found[name].stale, found[name].extra)
        assert counts == (1, 1, 1), name
        assert found[name].keys["extra"] == ["999999"]
    assert found["companies"].drift == 0
    assert found["companies"].checked == len(world.vendor(connection)["companies"])


async def test_an_audit_of_what_is_right_finds_nothing_and_writes_nothing(
    world: Sandboxed,
) -> None:
    connection = await synced(world, "acme")
    before = world.all("SELECT record_id, stream, xmin::text FROM records ORDER BY 1, 2")
    await sync(connection.id, trigger="audit", audit=True, return_state=True)
    assert all(one.drift == 0 for one in (await latest(world, connection)).values())
    assert world.all("SELECT record_id, stream, xmin::text FROM records ORDER BY 1, 2") == before


async def test_each_stream_is_checked_once_in_its_interval_and_sooner_where_it_drifted(
    world: Sandboxed,
) -> None:
    old, young = await synced(world, "old"), await synced(world, "young")
    aged(world, old, 31)
    aged(world, young, 3)
    drift(world, old, "deals")
    state = await checked()
    assert state.message == "1 checked; 3 records differed"
    artifact = await Artifact.aget(ARTIFACT)
    assert "old/hubspot" in str(artifact.data if artifact else None)
    assert (await checked()).message == "nothing is to be checked"
    every = dict(
        world.all(
            "SELECT stream, extract(epoch FROM audit_every)::int / 3600 FROM checkpoints"
            f" WHERE connection_id = '{old.id}'"
        )
    )
    # Contacts hide deletes; deals drifted; nothing was wrong with companies.
    assert (every["contacts"], every["deals"], every["companies"]) == (7 * 24, 7 * 24 + 12, 720)
    world.run("UPDATE checkpoints SET audit_due_at = audit_due_at - interval '8 days'")
    assert (await checked()).message == "1 checked; 0 records differed"
    assert not await latest(world, young)


async def test_the_longest_wait_comes_first_and_a_spent_budget_ends_it(world: Sandboxed) -> None:
    made = [await synced(world, slug) for slug in ("first", "second", "third")]
    for connection, days in zip(made, (90, 80, 70), strict=True):
        aged(world, connection, days)
    state = await checked(calls=1)
    assert state.message is not None
    assert state.message.startswith("2 checked; 1 left for later: the calls are spent")
    assert [bool(await latest(world, each)) for each in made] == [True, True, False]


async def test_what_fails_or_rests_or_is_away_is_not_checked(world: Sandboxed) -> None:
    paused, failing = await synced(world, "paused"), await synced(world, "failing")
    for connection in (paused, failing):
        aged(world, connection, 90)
    world.run(f"UPDATE connections SET status = 'paused' WHERE id = '{paused.id}'")
    world.run(f"UPDATE checkpoints SET failures = 1 WHERE connection_id = '{failing.id}'")
    assert (await checked()).message == "nothing is to be checked"
    away = await synced(world, "away")
    aged(world, away, 90)
    world.run("INSERT INTO breakers (integration, opened_at, probe_at) VALUES"
              " ('hubspot', now(), now() + interval '1 hour')")  # fmt: skip
    assert (await checked()).message == "nothing is to be checked"
    world.run("DELETE FROM breakers")
    ending = await world.tell_to_stop()
    told = f"1 left for later, told to stop: {ending} is ending"
    assert (await checked()).message == told


async def test_one_audit_at_a_time(world: Sandboxed) -> None:
    async with locked(world.database_url, "audit public"):
        assert (await checked()).name == "Skipped"


@pytest.mark.parametrize("setting", ["TEAM.AUDIT=1d", "ENTERPRISE.AUDIT=1d"])
async def test_a_tier_has_an_interval_of_its_own(
    setting: str, world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await synced(world, "acme")
    aged(world, connection, 2)
    monkeypatch.setenv("SYNC_INTERVALS", setting)
    expected = "1 checked" if "TEAM" in setting else "nothing is to be checked"
    assert str((await checked()).message).startswith(expected)
