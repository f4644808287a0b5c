"""A vendor that is away as a whole is found by its latest syncs, and asked again now and then."""

from datetime import timedelta
from uuid import UUID

import pytest

from storage import breakers
from storage.database import Database
from tests._fleet import Fleet

HOUR = timedelta(hours=1)


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


def ran(
    fleet: Fleet, ids: list[UUID], failure: str | None, *, ago: timedelta = timedelta()
) -> None:
    """A sync of each of these, which ended so long ago."""
    for connection_id in ids:
        fleet.sql(
            "INSERT INTO sync_runs (id, tenant_id, connection_id, trigger, ended_at, status,"
            " failure) SELECT gen_random_uuid(), tenant_id, id, 'schedule',"
            " clock_timestamp() - %s, %s, %s FROM connections WHERE id = %s",
            (ago, "failed" if failure else "completed", failure, connection_id),
        )


async def look(fleet: Fleet) -> bool:
    return await breakers.look(fleet.database, "hubspot", "HubSpot cannot answer now (503)")


async def test_it_opens_when_most_of_the_latest_syncs_found_the_vendor_away(fleet: Fleet) -> None:
    ids = fleet.make(8)
    ran(fleet, ids, None)
    assert await breakers.admit(fleet.database, "hubspot") == "closed"
    ran(fleet, ids[:5], "unavailable")
    assert not await look(fleet)
    ran(fleet, ids[5:6], "unavailable")
    assert await look(fleet)
    assert await breakers.admit(fleet.database, "hubspot") == "open"
    assert await breakers.admit(fleet.database, "gmail") == "closed"
    found = (await breakers.standing_open(fleet.database))["hubspot"]
    assert "hubspot is away since" in str(found)
    assert "HubSpot cannot answer now (503)" in str(found)


@pytest.mark.parametrize("failure", ["rate_limited", "contract", "ours", None])
async def test_no_other_outcome_opens_it(fleet: Fleet, failure: str | None) -> None:
    ran(fleet, fleet.make(10), failure)
    assert not await look(fleet)


async def test_one_connection_that_fails_again_and_again_does_not_open_it(fleet: Fleet) -> None:
    few = fleet.make(4)
    ran(fleet, few * 3, "unavailable")
    assert not await look(fleet)


async def test_what_is_long_past_or_of_another_vendor_does_not_open_it(fleet: Fleet) -> None:
    ran(fleet, fleet.make(10), "unavailable", ago=HOUR)
    ran(fleet, fleet.make(10, integration="gmail", prefix="g"), "unavailable")
    assert not await look(fleet)


def _is_over(fleet: Fleet) -> None:
    fleet.sql("UPDATE breakers SET probe_at = now() - interval '1 second'")


def _pause(fleet: Fleet) -> float:
    return float(fleet.one("SELECT extract(epoch FROM probe_at - clock_timestamp()) FROM breakers"))


async def _opened(fleet: Fleet) -> list[UUID]:
    ids = fleet.make(10)
    ran(fleet, ids, "unavailable")
    assert await look(fleet)
    return ids


async def test_one_process_probes_at_a_time_and_a_dead_one_is_replaced(fleet: Fleet) -> None:
    await _opened(fleet)
    _is_over(fleet)
    assert await breakers.admit(fleet.database, "hubspot") == "probe"
    assert await breakers.admit(fleet.database, "hubspot") == "open"
    _is_over(fleet)
    assert await breakers.admit(fleet.database, "hubspot") == "probe"
    await breakers.give_probe_back(fleet.database, "hubspot")
    assert await breakers.admit(fleet.database, "hubspot") == "probe"


async def test_each_probe_that_fails_doubles_the_pause_up_to_half_an_hour(fleet: Fleet) -> None:
    await _opened(fleet)
    assert _pause(fleet) <= 60
    for minutes in (2, 4, 8, 16, 30, 30):
        _is_over(fleet)
        assert await breakers.admit(fleet.database, "hubspot") == "probe"
        await breakers.stay_open(fleet.database, "hubspot")
        assert (minutes - 1) * 60 < _pause(fleet) <= minutes * 60
        assert await breakers.admit(fleet.database, "hubspot") == "open"


async def test_a_probe_that_comes_through_closes_it_and_what_was_before_is_forgotten(
    fleet: Fleet,
) -> None:
    ids = await _opened(fleet)
    _is_over(fleet)
    assert await breakers.admit(fleet.database, "hubspot") == "probe"
    await breakers.close(fleet.database, "hubspot")
    assert await breakers.admit(fleet.database, "hubspot") == "closed"
    ran(fleet, ids[:1], "unavailable")
    assert not await look(fleet)
    ran(fleet, ids, "unavailable")
    assert await look(fleet)
    assert 0 < _pause(fleet) <= 60
