"""What older rows lack is filled in: fields that the vendor shows from now on."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from connectors import Account
from connectors.kernel.token_answers import Tokens
from storage import checkpoints, grants, tenants
from storage.database import Database
from storage.vault import Vault
from tests._sandboxed import KEY


async def consent(database: Database, tenant_id: UUID, scope: Sequence[str]) -> UUID:
    tokens = Tokens(access_token="a", refresh_token="r", expires_at=None, scope=tuple(scope))
    (connection_id,) = await grants.connect(
        database, Vault.parse(KEY), tenant_id=tenant_id, integration="gmail", tokens=tokens,
        accounts=[Account("one@mail.example")],
    )  # fmt: skip
    return connection_id


@pytest.mark.parametrize(
    ("then", "filled"),
    [
        (["read", "contacts"], ["history", "messages", "threads"]),
        (["contacts", "read", "labels"], ["history", "messages", "threads"]),
        (["read"], []),
        ([], []),
    ],
)
async def test_a_consent_that_allows_more_has_older_rows_filled_in(
    database: Database, then: list[str], filled: list[str]
) -> None:
    tenant = await tenants.create(database, "acme", "Acme", "TEAM")
    connection_id = await consent(database, tenant.id, ["read"])
    async with database.transaction(tenant.id) as session:
        for stream in ("messages", "threads", "history", "labels"):  # the last is a snapshot
            await checkpoints.save(
                session, tenant_id=tenant.id, connection_id=connection_id, stream=stream,
                state={}, done=True,
            )  # fmt: skip
    assert await consent(database, tenant.id, then) == connection_id
    async with database.transaction(tenant.id) as session:
        saved = await checkpoints.load(session, connection_id)
    assert sorted(name for name, one in saved.items() if one.refill is not None) == filled
