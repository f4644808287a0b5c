"""How fresh each stream is against its tier's promise, and why one is late."""

from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console
from sqlalchemy import text

from cli.status import print_status, status_rows
from connectors import load
from deployments import freshness_targets
from settings import Settings, read
from storage import freshness
from storage.database import Database
from storage.freshness import Interval
from tests._fleet import Fleet
from tests._sandboxed import KEY

HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
CONTACTS = Interval("hubspot", "TEAM", "contacts", HOUR, HOUR)


@pytest.fixture
async def fleet(database: Database, database_url: str) -> Fleet:
    await freshness.keep_intervals(database, [CONTACTS])
    return Fleet(database_url, database)


def settings(fleet: Fleet, **more: str) -> Settings:
    return read(_env_file=None, database_url=fleet.url, encryption_keys=KEY, **more)


def synced(fleet: Fleet, connection_id: UUID, ago: str, stream: str = "contacts") -> None:
    fleet.sql(
        "INSERT INTO checkpoints (connection_id, tenant_id, stream, last_synced_at)"
        " SELECT id, tenant_id, %s, now() - %s::interval FROM connections WHERE id = %s"
        " ON CONFLICT (connection_id, stream) DO UPDATE SET last_synced_at ="
        " excluded.last_synced_at",
        (stream, ago, connection_id),
    )


async def reason(fleet: Fleet) -> str | None:
    (found,) = (await freshness.of_streams(fleet.database)).values()
    return found.reason


@pytest.mark.parametrize(
    ("every", "in_time", "late"),
    [("5 min", "7 min", "8 min"), ("1 hour", "89 min", "91 min"), ("7 days", "168 hours 50 min",
     "169 hours 10 min")],
)  # fmt: skip
async def test_a_stream_is_late_past_its_interval_by_half_or_by_an_hour(
    fleet: Fleet, every: str, in_time: str, late: str
) -> None:
    (connection_id,) = fleet.make(1)
    fleet.sql("UPDATE sync_intervals SET every = %s, every_watched = %s", (every, every))
    synced(fleet, connection_id, in_time)
    assert await reason(fleet) is None
    synced(fleet, connection_id, late)
    assert await reason(fleet) == "backlog"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE connections SET status = 'paused'", "paused"),
        ("UPDATE connections SET status = 'needs_reauth', failures = 1, failure = 'broken'",
         "token"),
        ("UPDATE connections SET failures = 1, failure = 'rate_limited'", "vendor limit"),
        ("UPDATE connections SET failures = 1, failure = 'contract'", "failing"),
        ("INSERT INTO breakers (integration, opened_at) VALUES ('hubspot', now())",
         "breaker open"),
        ("INSERT INTO breakers (integration, closed_at) VALUES ('hubspot', now())", "backlog"),
        ("INSERT INTO leases SELECT id, 'sync', tenant_id, 1, now() + interval '1 minute'"
         " FROM connections", "syncing"),
        ("INSERT INTO leases SELECT id, 'sync', tenant_id, 1, now() - interval '1 minute'"
         " FROM connections", "backlog"),
        ("UPDATE checkpoints SET last_synced_at = NULL; UPDATE connections SET created_at ="
         " now() - interval '2 hours'", "never synced"),
    ],
)  # fmt: skip
async def test_why_a_stream_is_late(fleet: Fleet, change: str, why: str) -> None:
    (connection_id,) = fleet.make(1)
    synced(fleet, connection_id, "2 hours")
    fleet.sql(change)
    assert await reason(fleet) == why
    synced(fleet, connection_id, "1 minute")
    assert await reason(fleet) is None


async def test_a_live_watch_changes_what_is_promised(fleet: Fleet) -> None:
    watched = Interval("hubspot", "TEAM", "contacts", HOUR, WEEK)
    await freshness.keep_intervals(fleet.database, [watched])
    (connection_id,) = fleet.make(1)
    synced(fleet, connection_id, "2 hours")
    assert await reason(fleet) == "backlog"
    fleet.sql(
        "INSERT INTO watches (id, tenant_id, connection_id, vendor_id, resource, expires_at)"
        " SELECT gen_random_uuid(), tenant_id, id, 'w', 'r', now() + interval '1 day'"
        " FROM connections"
    )
    assert await reason(fleet) is None
    fleet.sql("UPDATE watches SET expires_at = now()")
    assert await reason(fleet) == "backlog"


async def test_the_database_knows_what_the_tiers_promise_and_nothing_else(fleet: Fleet) -> None:
    assert await freshness_targets.save(settings(fleet), fleet.database)
    assert not await freshness_targets.save(settings(fleet), fleet.database)
    query = "SELECT every FROM sync_intervals WHERE integration = 'gmail' AND tier = %s"
    assert fleet.sql(query, ("SOLO",)) == [(timedelta(days=1),)] * len(load("gmail").streams)
    assert await freshness_targets.save(
        settings(fleet, sync_intervals="SOLO.PULL=6h"), fleet.database
    )
    assert fleet.sql(query, ("SOLO",)) == [(timedelta(hours=6),)] * len(load("gmail").streams)


async def test_a_tenant_sees_its_own_freshness_alone(fleet: Fleet) -> None:
    ours, _ = fleet.make(2)
    tenant_id = (await fleet.get(ours)).tenant_id
    async with fleet.database.transaction(tenant_id) as session:
        found = await session.scalars(text("SELECT connection_id FROM freshness"))
        assert list(found) == [ours]


async def test_status_tells_it_of_each_stream(fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1)
    synced(fleet, connection_id, "2 hours")
    rows = {row["stream"]: row for row in await status_rows(fleet.database)}
    assert rows["contacts"]["late"] == "backlog"
    assert rows["contacts"]["every_seconds"] == 3600
    assert 7200 <= rows["contacts"]["age_seconds"] < 7260
    assert rows["deals"]["late"] is rows["deals"]["every_seconds"] is None
    shown = StringIO()
    print_status(list(rows.values()), Console(file=shown, width=80))
    assert "    late: contacts (backlog)\n" in shown.getvalue()
    assert shown.getvalue().endswith("connections as they should be: 0 of 1\n")


async def test_status_says_what_is_wrong_and_what_to_do_in_words_that_are_no_markup(
    fleet: Fleet,
) -> None:
    broken, refused = fleet.make(2)
    fleet.sql(
        "UPDATE connections SET status = 'needs_reauth', status_reason = '[red]no[/red] token'"
        " WHERE id = %s", (broken,),
    )  # fmt: skip
    fleet.sql(
        "UPDATE connections SET failure = 'not_allowed', failures = 1,"
        " status_reason = 'owners: nobody may' WHERE id = %s", (refused,),
    )  # fmt: skip
    shown = StringIO()
    print_status(await status_rows(fleet.database), Console(file=shown, width=80))
    said = shown.getvalue()
    assert "    needs_reauth: [red]no[/red] token\n    → its tenant connects it again" in said
    assert "`atom-sync connect t-1 hubspot`" in said
    assert "    active: owners: nobody may\n    → the tenant's administrator" in said
