"""Secrets and vendors' data stay where they belong, also when syncs go wrong."""

from pathlib import Path
from typing import Any

import pytest
from prefect.logging.handlers import APILogHandler

from flows.sync import sync
from storage import connections, tenant_settings
from storage.vault import Vault
from tests._haystack import files_of, found, texts_of
from tests._sandboxed import KEY, Sandboxed

VENDOR_DATA = "canary-of-the-vendor-7f3a"


async def secrets_of(world: Sandboxed, connection: connections.Connection) -> list[str]:
    """The tokens as stored now, and our apps' own secrets."""
    vault = Vault.parse(KEY)
    async with world.database.transaction(connection.tenant_id) as session:
        held = await tenant_settings.get_json(
            session, vault, connection.tenant_id, f"{connection.integration}_tokens"
        )
    assert held is not None
    tokens = [held[name] for name in ("access_token", "refresh_token") if held.get(name)]
    return [*tokens, world.settings.app(connection.integration).client_secret]


@pytest.mark.parametrize("kind", ["unauthorized", "500", "garbage", "cut", "429", "revoked"])
async def test_a_failing_sync_tells_neither_tokens_nor_vendors_data(
    world: Sandboxed, prefect_database: str, home: Path, kind: str, capfd: Any
) -> None:
    connection = await world.connect("hubspot")
    world.control(
        "POST", "/hubspot/records/contacts",
        {"op": "add", "record": {"lastname": VENDOR_DATA}}, account=connection.account_id,
    )  # fmt: skip
    secrets = await secrets_of(world, connection)
    if kind == "revoked":
        world.control("POST", "/hubspot/tokens", {"account": connection.account_id, "op": "revoke"})
    else:
        options = {"retry_after": 400} if kind == "429" else {}
        world.fault("hubspot", kind, count=3 if kind == "cut" else 40, path="/deals", **options)
        world.fault("hubspot", kind, count=3 if kind == "cut" else 40, path="/0-3", **options)
    state = await sync(connection.id, return_state=True)
    assert not state.is_completed() or kind == "cut"
    world.control("DELETE", "/hubspot/faults")
    secrets += await secrets_of(world, connection) if kind != "revoked" else []
    await APILogHandler.aflush()
    printed = capfd.readouterr()
    logs = [("output", printed.out + printed.err)]
    assert not found([*secrets, VENDOR_DATA], texts_of(prefect_database), files_of(home), logs)
    assert not found(secrets, texts_of(world.database_url))


@pytest.mark.parametrize("kind", ["unauthorized", "garbage"])
async def test_a_failing_sync_does_not_tell_our_own_secret_which_its_calls_carry(
    world: Sandboxed, prefect_database: str, home: Path, kind: str, capfd: Any
) -> None:
    connection = await world.connect("stripe")
    world.fault("stripe", kind, count=40, path="/customers")
    state = await sync(connection.id, return_state=True)
    assert state.is_failed()
    world.control("DELETE", "/stripe/faults")
    await APILogHandler.aflush()
    printed = capfd.readouterr()
    logs = [("output", printed.out + printed.err)]
    secrets = await secrets_of(world, connection)
    assert not found(secrets, texts_of(prefect_database), files_of(home), logs)
    assert not found(secrets, texts_of(world.database_url))


async def test_a_bug_of_ours_tells_neither_tokens_nor_vendors_data(
    world: Sandboxed, prefect_database: str, capfd: Any
) -> None:
    connection = await world.connect("hubspot")
    world.control(
        "POST", "/hubspot/records/contacts",
        {"op": "add", "record": {"lastname": VENDOR_DATA}}, account=connection.account_id,
    )  # fmt: skip
    # The database refuses the batch: PostgreSQL's own message would quote the row.
    world.run(
        "ALTER TABLE records ADD CONSTRAINT refused"
        f" CHECK (strpos(data::text, '{VENDOR_DATA}') = 0)"
    )
    state = await sync(connection.id, return_state=True)
    assert state.is_failed()
    await APILogHandler.aflush()
    printed = capfd.readouterr()
    logs = [("output", printed.out + printed.err)]
    secrets = await secrets_of(world, connection)
    assert not found([*secrets, VENDOR_DATA], texts_of(prefect_database), logs)
    assert VENDOR_DATA not in (state.message or "")
