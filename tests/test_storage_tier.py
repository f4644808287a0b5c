"""A connection's tier is its tenant's: at once, whoever changes what, and however they meet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from connectors import Account
from connectors.kernel.token_answers import Tokens
from storage import Tier, due, grants, migrate, tenants
from storage.database import Database
from storage.due import Scope
from storage.migrate import check
from storage.vault import Vault
from tests._fleet import Fleet
from tests._migrated import migrate_to
from tests._sandboxed import KEY
from tests._stored import stock
from tests._waiting import until

_CONNECT = """
    INSERT INTO connections (id, tenant_id, grant_id, integration, account_id)
    SELECT gen_random_uuid(), tenant_id, grant_id, integration, 'a-2' FROM connections
"""


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


def tiers(fleet: Fleet) -> set[str]:
    return {tier for (tier,) in fleet.sql("SELECT tier FROM connections")}


async def claimed(fleet: Fleet, tier: Tier) -> list[UUID]:
    now = datetime.now(UTC)
    claims = await due.claim(
        fleet.database, Scope("hubspot", tier), by=now, slot=lambda claim: now + timedelta(hours=1)
    )
    assert {claim.connection.tier for claim in claims} <= {tier}
    return [claim.connection.id for claim in claims]


async def test_a_change_of_tier_moves_connections_to_the_other_tiers_claims(fleet: Fleet) -> None:
    (moved,) = fleet.make(1, tier="TEAM", prefix="acme")
    (stays,) = fleet.make(1, tier="TEAM", prefix="other")
    await tenants.set_tier(fleet.database, "acme-1", "FREE")
    assert await claimed(fleet, Tier.TEAM) == [stays]
    assert await claimed(fleet, Tier.FREE) == [moved]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE connections SET tier = 'ENTERPRISE'",
        "UPDATE connections SET tier = NULL",
        _CONNECT.replace("account_id)", "account_id, tier)").replace("'a-2'", "'a-2', 'FREE'"),
    ],
)
async def test_it_is_the_tenants_whatever_a_statement_says(fleet: Fleet, change: str) -> None:
    fleet.make(1, tier="TEAM")
    fleet.sql(change)
    assert tiers(fleet) == {"TEAM"}


async def test_a_tenants_own_transaction_cannot_change_it(database: Database) -> None:
    stocked = await stock(database)
    async with database.transaction(stocked.tenant_id) as session:
        tier = await session.scalar(
            text("UPDATE connections SET tier = 'ENTERPRISE' RETURNING tier")
        )
    assert tier == "TEAM"


@pytest.mark.parametrize("first", ["change", "connect"])
async def test_a_connection_made_while_the_tier_changes_has_the_new_one(
    fleet: Fleet, first: str
) -> None:
    fleet.make(1, tier="TEAM")
    statements = {"change": "UPDATE tenants SET tier = 'SOLO'", "connect": _CONNECT}
    (second,) = statements.keys() - {first}
    async with transaction(fleet) as one, transaction(fleet) as other:
        await one.execute(statements[first])
        waiting = asyncio.create_task(other.execute(statements[second]))
        await until(waits(fleet))
        await one.commit()
        await waiting
        await other.commit()
    assert fleet.one("SELECT count(*) FROM connections") == 2
    assert tiers(fleet) == {"SOLO"}


async def test_a_consent_and_a_change_of_tier_do_not_lock_each_other_out(fleet: Fleet) -> None:
    tenant = await tenants.create(fleet.database, "acme", "Acme", "TEAM")

    async def connect(*accounts: Account) -> list[UUID]:
        tokens = Tokens(access_token="a", refresh_token="r", expires_at=None, scope=())
        return await grants.connect(
            fleet.database, Vault.parse(KEY), tenant_id=tenant.id, integration="hubspot",
            tokens=tokens, accounts=accounts,
        )  # fmt: skip

    await connect(Account("1"))
    async with transaction(fleet) as change:
        # As `change_tier` begins: the tenant is locked, and its connections not yet.
        await change.execute("SELECT FROM tenants FOR NO KEY UPDATE")
        consent = asyncio.create_task(connect(Account("1", name="Known"), Account("2")))
        await until(waits(fleet))
        await change.execute("UPDATE tenants SET tier = 'SOLO'")
        await change.commit()
        assert len(await consent) == 2
    assert tiers(fleet) == {"SOLO"}


async def test_the_migration_gives_connections_the_tier_that_their_tenants_have(
    postgres_url: str,
) -> None:
    await migrate_to(postgres_url, "0009")
    fleet = Fleet(postgres_url, Database.connect(postgres_url))
    for tier in Tier:
        fleet.make(2, tier=tier, prefix=tier.lower())
    await migrate(postgres_url)
    await check(postgres_url)
    query = "SELECT count(*) FROM connections c JOIN tenants t ON t.id = tenant_id AND {}"
    assert fleet.one(query.format("t.tier = c.tier")) == 2 * len(Tier)
    assert len(await claimed(fleet, Tier.SOLO)) == 2
    await fleet.database.close()


@asynccontextmanager
async def transaction(fleet: Fleet) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(fleet.url) as sql:
        yield sql


def waits(fleet: Fleet) -> Callable[[], object]:
    """Whether somebody waits for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    return lambda: fleet.one(query)
