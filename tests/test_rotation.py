"""Master keys are changed while secrets are read and written; what does not open is found."""

import asyncio
import secrets
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from storage import tenants
from storage.database import Database
from storage.rotation import ABANDONED, Keys, abandon, rotate, survey, try_all
from storage.tenant_settings import get, put
from storage.tenants import Tenant
from storage.vault import Vault, VaultError, check_keys
from tests._stored import stock

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
BOTH = Vault([NEW, OLD])
SOON = timedelta(seconds=0.5)


async def fill(database: Database, count: int, vault: Vault) -> list[Tenant]:
    made = []
    for number in range(count):
        tenant = await tenants.create(database, f"t{number}", f"T{number}", "FREE")
        async with database.transaction(tenant.id) as session:
            await put(session, vault, tenant.id, "OPENAI_API_KEY", f"canary {number}")
        made.append(tenant)
    return made


async def value(database: Database, vault: Vault, tenant: Tenant) -> str:
    async with database.transaction(tenant.id) as session:
        found = await get(session, vault, tenant.id, "OPENAI_API_KEY")
    assert found is not None
    return found.get_secret_value()


async def test_keys_are_rotated_while_secrets_stay_readable(database: Database) -> None:
    old = Vault([OLD])
    await check_keys(database, old)
    made = await fill(database, 3, old)
    with pytest.raises(VaultError, match=old.fingerprints[0]):
        await rotate(database, Vault([NEW]))
    steps: list[tuple[int, int]] = []
    done = await rotate(database, BOTH, progress=lambda *step: steps.append(step))
    assert (done.done, done.held, done.faults) == (3, 0, [])
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert (await rotate(database, BOTH)).done == 0
    with pytest.raises(VaultError, match="lacks an encryption key"):
        await check_keys(database, old)
    for number, tenant in enumerate(made):
        assert await value(database, Vault([NEW]), tenant) == f"canary {number}"


async def test_a_rotation_goes_on_where_it_was_stopped_beside_readers_and_writers(
    database: Database, database_url: str
) -> None:
    made = await fill(database, 40, Vault([OLD]))
    busy = True

    async def work() -> int:
        rounds = 0
        while busy:
            for number, tenant in enumerate(made):
                assert await value(database, BOTH, tenant) == f"canary {number}"
                async with database.transaction(tenant.id) as session:
                    await put(session, BOTH, tenant.id, "OTHER", f"{rounds}")
            rounds += 1
        return rounds

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise StoppedError

    working = asyncio.create_task(work())
    with pytest.raises(StoppedError):
        await rotate(database, BOTH, batch=5, progress=stop)
    found = await survey(database, BOTH)
    assert found.tenants == {Vault([OLD]).fingerprints[0]: 30, BOTH.fingerprints[0]: 10}
    assert (found.left, found.retired, found.missing) == (30, [], [])
    second = Database.connect(database_url)
    rotated = await asyncio.gather(rotate(database, BOTH, batch=3), rotate(second, BOTH, batch=3))
    await second.close()
    busy = False
    assert await working
    assert sum(each.done for each in rotated) == 30
    found = await survey(database, BOTH)
    assert (found.left, found.retired) == (0, [Vault([OLD]).fingerprints[0]])
    assert await try_all(database, Vault([NEW])) == []


async def test_a_row_that_is_held_is_passed_over_and_told(
    database: Database, database_url: str
) -> None:
    made = await fill(database, 3, Vault([OLD]))
    with psycopg.connect(database_url) as sql:
        sql.execute("SELECT 1 FROM tenants WHERE id = %s FOR UPDATE", (made[1].id,))
        rotated = await rotate(database, BOTH, patience=SOON)
        assert (rotated.done, rotated.held) == (2, 1)
    assert (await rotate(database, BOTH)).done == 1


async def test_what_does_not_open_is_named_and_keeps_nobody_else(
    database: Database, database_url: str
) -> None:
    made = await fill(database, 4, Vault([OLD]))
    with psycopg.connect(database_url) as sql:
        # One tenant got another's data key, one setting another's value.
        sql.execute(
            "UPDATE tenants SET data_key = (SELECT data_key FROM tenants WHERE id = %s)"
            " WHERE id = %s",
            (made[0].id, made[1].id),
        )
        sql.execute(
            "UPDATE tenant_settings SET setting_value ="
            " (SELECT setting_value FROM tenant_settings WHERE tenant_id = %s)"
            " WHERE tenant_id = %s",
            (made[0].id, made[2].id),
        )
        sql.execute("UPDATE tenants SET data_key = NULL WHERE id = %s", (made[3].id,))
    rotated = await rotate(database, BOTH, patience=SOON)
    assert rotated.done == 2
    assert rotated.held == 0
    assert [fault.tenant for fault in rotated.faults] == ["t1"]
    faults = await try_all(database, BOTH, batch=1)
    assert {(fault.tenant, fault.setting) for fault in faults} == {
        ("t1", ""), ("t1", "OPENAI_API_KEY"), ("t2", "OPENAI_API_KEY"), ("t3", "OPENAI_API_KEY"),
    }  # fmt: skip
    assert "canary" not in str(faults)


async def test_the_survey_says_which_keys_are_needed_and_what_is_not_sealed(
    database: Database, database_url: str
) -> None:
    stranger = Vault([secrets.token_bytes(32)])
    assert await survey(database, stranger) == Keys(
        current=stranger.fingerprints[0], known=stranger.fingerprints,
        recorded=(), tenants={}, plaintext=(),
    )  # fmt: skip
    await check_keys(database, Vault([OLD]))
    made = await fill(database, 1, Vault([OLD]))
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO tenant_settings VALUES (%s, 'LEGACY', 'open', false)", (made[0].id,)
        )
    found = await survey(database, stranger)
    assert found.missing == list(Vault([OLD]).fingerprints)
    assert found.plaintext == (("t0", "LEGACY"),)


async def test_what_a_lost_key_wrapped_is_given_up_so_that_its_tenants_can_go_on(
    database: Database, database_url: str
) -> None:
    old, new = Vault([OLD]), Vault([NEW])
    await check_keys(database, old)
    stocked = await stock(database, "lost")
    async with database.transaction(stocked.tenant_id) as session:
        await put(session, old, stocked.tenant_id, "hubspot_tokens", "{}")
    (kept,) = await fill(database, 1, new)
    with pytest.raises(VaultError, match="is here"):
        await abandon(database, BOTH, old.fingerprints[0])
    with pytest.raises(VaultError, match="lacks an encryption key"):
        await check_keys(database, new)
    assert await abandon(database, new, old.fingerprints[0]) == ["lost"]
    assert await abandon(database, new, old.fingerprints[0]) == []
    await check_keys(database, new)
    assert await value(database, new, kept) == "canary 0"
    with psycopg.connect(database_url) as sql:
        found = sql.execute("SELECT status, status_reason FROM connections").fetchall()
    assert found == [("needs_reauth", ABANDONED)]
    async with database.transaction(stocked.tenant_id) as session:
        await put(session, new, stocked.tenant_id, "hubspot_tokens", "{}")
    assert await try_all(database, new) == []


async def test_no_tenants_are_no_work(database: Database) -> None:
    assert (await rotate(database, BOTH)).done == 0
    await tenants.create(database, f"t-{uuid4().hex[:6]}", "Without secrets", "FREE")
    assert (await rotate(database, BOTH)).done == 0
