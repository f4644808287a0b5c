"""Tenants, their connections, how far these were read, and what each sync did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from connectors import Checkpoint, Unread
from storage import NotFoundError, Status, Tier, checkpoints, connections, runs, tenants
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import Failure
from tests._stored import Stocked, at, stock


@dataclass
class Outcome:
    """What a sync did to a stream, as `runs` is told it."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    pages: int = 1
    done: bool = True
    error: str | None = None
    unread: Sequence[Unread] = ()


async def _get(database: Database, stocked: Stocked) -> connections.Connection:
    return await connections.get(database, stocked.connection_id)


async def _another_account(database: Database, stocked: Stocked, account_id: str) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        session.add(
            ConnectionRow(
                tenant_id=stocked.tenant_id,
                grant_id=stocked.grant_id,
                integration="hubspot",
                account_id=account_id,
            )
        )


async def test_a_tenant_is_made_once(database: Database) -> None:
    made = await tenants.create(database, "acme", "Acme", "TEAM", contact_email="ops@acme.example")
    assert (made.slug, made.name, made.tier, made.contact_email) == (
        "acme", "Acme", Tier.TEAM, "ops@acme.example",
    )  # fmt: skip
    assert await tenants.create(database, "acme", "Another", "FREE") == made
    assert await tenants.by_slug(database, "acme") == made
    assert await tenants.all(database) == [made]


async def test_a_tier_changes_in_one_way_alone(database: Database) -> None:
    await tenants.create(database, "acme", "Acme", "FREE")
    assert (await tenants.set_tier(database, "acme", "ENTERPRISE")).tier is Tier.ENTERPRISE
    with pytest.raises(ValueError, match="PLATINUM"):
        await tenants.set_tier(database, "acme", "PLATINUM")
    with pytest.raises(NotFoundError, match="no tenant 'acne'; there are: acme"):
        await tenants.set_tier(database, "acne", "FREE")


async def test_what_waits_for_a_slot_is_due_at_once_on_a_higher_tier_alone(
    database: Database,
) -> None:
    stocked, other = await stock(database, "acme"), await stock(database, "other")

    async def waiting(tier: str, status: str = "active") -> bool:
        async with database.owning() as session:
            await session.execute(
                text("UPDATE connections SET next_due_at = now() + interval '5 days', status = :s"),
                {"s": status},
            )
        await tenants.set_tier(database, "acme", tier)
        async with database.owning() as session:
            due = dict(
                tuple(row)
                for row in await session.execute(
                    text("SELECT id, next_due_at <= now() FROM connections")
                )
            )
        assert due[other.connection_id] is False
        return not due[stocked.connection_id]

    assert await waiting("SOLO")  # lower: it was TEAM
    assert not await waiting("ENTERPRISE")
    assert await waiting("ENTERPRISE")  # no change
    assert await waiting("FREE")
    assert await waiting("TEAM", "paused")


@pytest.mark.parametrize("slug", ["", "a/b", "A", "-a", "a b", "a\n", "x" * 64])
async def test_a_slug_that_could_not_stand_in_a_url_is_refused(
    database: Database, slug: str
) -> None:
    with pytest.raises(ValueError, match="a tenant's slug has"):
        await tenants.create(database, slug, "Name")


async def test_an_unknown_tenant_is_met_with_those_there_are(database: Database) -> None:
    with pytest.raises(NotFoundError, match="no tenant 'x'; there are: none"):
        await tenants.by_slug(database, "x")
    for number in range(22):
        await tenants.create(database, f"t{number:02}", "T")
    with pytest.raises(NotFoundError, match=r"there are: t00, t01, .* t19 and 2 more"):
        await tenants.by_slug(database, "x")


async def test_a_connection_is_found_by_tenant_and_integration(database: Database) -> None:
    stocked = await stock(database, "acme")
    found = await connections.find(database, "acme", "hubspot")
    assert found == await _get(database, stocked)
    assert (str(found), found.tier, found.status) == ("acme/hubspot", "TEAM", Status.ACTIVE)
    assert (found.grant_id, found.tenant_id) == (stocked.grant_id, stocked.tenant_id)
    assert (found.account_id, found.config, found.last_synced_at) == ("42", {}, None)


async def test_a_connection_that_is_not_there_is_met_with_those_there_are(
    database: Database,
) -> None:
    await stock(database, "acme")
    with pytest.raises(NotFoundError, match="acme has no connection to 'gmail'; it has: hubspot"):
        await connections.find(database, "acme", "gmail")
    with pytest.raises(NotFoundError, match="no tenant 'acne'; there are: acme"):
        await connections.find(database, "acne", "hubspot")
    with pytest.raises(NotFoundError, match="there is no connection"):
        await connections.get(database, uuid4())


async def test_of_several_accounts_one_is_to_be_named(database: Database) -> None:
    stocked = await stock(database, "acme")
    await _another_account(database, stocked, "43")
    with pytest.raises(NotFoundError, match="acme has several accounts at hubspot; it has: 42, 43"):
        await connections.find(database, "acme", "hubspot")
    assert (await connections.find(database, "acme", "hubspot", "43")).account_id == "43"
    with pytest.raises(NotFoundError, match="acme has no account '44' at hubspot"):
        await connections.find(database, "acme", "hubspot", "44")


async def test_connections_are_listed_in_the_order_of_tenants(database: Database) -> None:
    zeta, acme = await stock(database, "zeta"), await stock(database, "acme")
    await _another_account(database, acme, "41")
    listed = await connections.listing(database)
    assert [(each.tenant_slug, each.account_id) for each in listed] == [
        ("acme", "41"), ("acme", "42"), ("zeta", "42"),
    ]  # fmt: skip
    assert listed[-1].id == zeta.connection_id


async def test_a_connections_status_is_set_with_its_reason(database: Database) -> None:
    stocked = await stock(database)
    async with database.transaction(stocked.tenant_id) as session:
        await connections.set_status(session, stocked.connection_id, "paused", "holidays")
    found = await _get(database, stocked)
    assert (found.status, found.status_reason) == (Status.PAUSED, "holidays")
    async with database.dispatching() as session:
        await connections.set_status(session, stocked.connection_id, "active")
        with pytest.raises(ValueError, match="asleep"):
            await connections.set_status(session, stocked.connection_id, "asleep")
    found = await _get(database, stocked)
    assert (found.status, found.status_reason) == (Status.ACTIVE, None)


async def test_a_checkpoint_is_saved_and_loaded(database: Database) -> None:
    stocked = await stock(database)
    state = Checkpoint(since="2026-11-01", after="a\u00e9", nested={"n": [1, None]})
    async with database.transaction(stocked.tenant_id) as session:
        assert await checkpoints.load(session, stocked.connection_id) == {}
        await checkpoints.save(session, stream="contacts", state=state, done=False, **stocked.ids)
    async with database.transaction(stocked.tenant_id) as session:
        saved = (await checkpoints.load(session, stocked.connection_id))["contacts"]
        assert isinstance(saved.state, Checkpoint)
        assert (saved.state, saved.last_synced_at, saved.scan_id) == (state, None, None)
        await checkpoints.save(session, stream="contacts", state={}, done=True, **stocked.ids)
    async with database.transaction(stocked.tenant_id) as session:
        saved = (await checkpoints.load(session, stocked.connection_id))["contacts"]
        assert (saved.state, saved.dirty_generation) == ({}, 0)
        assert saved.last_synced_at is not None


async def test_a_scan_begins_at_the_start_and_ends_with_the_read(database: Database) -> None:
    stocked = await stock(database)
    scan_id = uuid4()
    async with database.transaction(stocked.tenant_id) as session:
        await checkpoints.save(session, stream="s", state={"since": 1}, done=True, **stocked.ids)
        await checkpoints.begin_scan(
            session, stream="s", scan_id=scan_id, started_at=at(5), **stocked.ids
        )
        begun = (await checkpoints.load(session, stocked.connection_id))["s"]
        assert (begun.state, begun.scan_id, begun.scan_started_at) == ({}, scan_id, at(5))
        await checkpoints.save(session, stream="s", state={"after": 1}, done=False, **stocked.ids)
    async with database.transaction(stocked.tenant_id) as session:
        resumed = (await checkpoints.load(session, stocked.connection_id))["s"]
        assert (resumed.state, resumed.scan_id) == ({"after": 1}, scan_id)
        await checkpoints.save(session, stream="s", state={"since": 2}, done=True, **stocked.ids)
    async with database.transaction(stocked.tenant_id) as session:
        ended = (await checkpoints.load(session, stocked.connection_id))["s"]
        assert (ended.state, ended.scan_id, ended.scan_started_at) == ({"since": 2}, None, None)


async def _ended(database: Database, stocked: Stocked, **how: Any) -> dict[str, Any]:
    connection = await _get(database, stocked)
    flow_run_id = uuid4()
    run_id = await runs.start(database, connection, trigger="schedule", flow_run_id=flow_run_id)
    outcomes = {"contacts": Outcome(inserted=3, updated=2, deleted=1, pages=4)}
    await runs.finish(database, run_id, connection, outcomes=outcomes, requests=7, **how)
    query = text("SELECT * FROM sync_runs WHERE id = :id")
    async with database.transaction(stocked.tenant_id) as session:
        found = dict((await session.execute(query, {"id": run_id})).mappings().one())
    assert (found["trigger"], found["flow_run_id"]) == ("schedule", flow_run_id)
    return found


async def _failures(database: Database, stocked: Stocked) -> int:
    query = text("SELECT failures FROM connections WHERE id = :connection_id")
    async with database.dispatching() as session:
        found: int = (
            await session.execute(query, {"connection_id": stocked.connection_id})
        ).scalar_one()
    return found


async def test_a_sync_that_went_through_is_noted_on_its_connection(database: Database) -> None:
    stocked = await stock(database)
    await _ended(database, stocked, error="hubspot is away")
    await _ended(database, stocked, error="hubspot is away still")
    found = await _get(database, stocked)
    assert (found.status, found.status_reason) == (Status.ACTIVE, "hubspot is away still")
    assert (await _failures(database, stocked), found.last_synced_at) == (2, None)
    run = await _ended(database, stocked)
    assert (run["status"], run["message"], run["requests"]) == ("completed", "", 7)
    counts: dict[str, Any] = {"rows": 5, "deletes": 1, "pages": 4, "error": None, "unread": []}
    assert run["streams"] == {"contacts": counts}
    assert run["ended_at"] > run["started_at"]
    assert run["seconds"] > 0
    found = await _get(database, stocked)
    assert (found.status_reason, await _failures(database, stocked)) == (None, 0)
    assert found.last_synced_at is not None


async def test_a_sync_that_was_stopped_says_nothing_of_its_connection(database: Database) -> None:
    stocked = await stock(database)
    assert (await _ended(database, stocked, stopped="told to stop"))["status"] == "stopped"
    assert (await _get(database, stocked)).last_synced_at is None


async def test_a_broken_connection_waits_for_its_tenant(database: Database) -> None:
    stocked = await stock(database)
    run = await _ended(database, stocked, error="access was taken back", failure=Failure.BROKEN)
    assert (run["status"], run["message"]) == ("failed", "access was taken back")
    found = await _get(database, stocked)
    assert (found.status, found.status_reason) == (Status.NEEDS_REAUTH, "access was taken back")


async def test_a_connection_that_was_paused_meanwhile_stays_paused(database: Database) -> None:
    stocked = await stock(database)
    async with database.dispatching() as session:
        await connections.set_status(session, stocked.connection_id, "paused", "by its tenant")
    await _ended(database, stocked, error="access was taken back", failure=Failure.BROKEN)
    found = await _get(database, stocked)
    assert (found.status, found.status_reason) == (Status.PAUSED, "by its tenant")
