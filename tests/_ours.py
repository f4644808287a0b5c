"""Our side of a made-up vendor: a tenant, its keys, and what is in the database."""

import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from accounts.tokens import connect
from connectors import Account
from connectors.kernel.token_answers import Tokens
from storage import tenants
from storage.database import Database
from storage.tenant_settings import get_json
from storage.vault import Vault
from tests._acme import Acme, Caller, Rules

ONE, TWO = Account("a-1", "Acme One", {"region": "eu"}), Account("a-2", "Acme Two")


@dataclass(frozen=True)
class Ours:
    """Our side: a tenant, its keys, and what is in the database."""

    database: Database
    url: str
    key: bytes
    tenant_id: UUID

    @property
    def vault(self) -> Vault:
        return Vault([self.key])

    async def connect(self, tokens: Tokens, *accounts: Account, **options: Any) -> list[UUID]:
        return await connect(
            self.database,
            self.vault,
            tenant_id=self.tenant_id,
            integration="acme",
            tokens=tokens,
            accounts=accounts or (ONE,),
            **options,
        )

    async def caller(self, vendor: Acme, rules: Rules = "lasting", **options: Any) -> Caller:
        """A grant whose access token has expired, and who asks for it."""
        await self.connect(vendor.consent())
        (grant,) = self.rows("SELECT id FROM grants")
        key = self.key
        return Caller(self.url, vendor.origin, key, grant["id"], self.tenant_id, rules, **options)

    async def held(self, key: str = "acme_tokens") -> dict[str, Any]:
        async with self.database.transaction(self.tenant_id) as session:
            found = await get_json(session, self.vault, self.tenant_id, key)
        assert found is not None
        return found

    def rows(self, query: str, *values: object) -> list[DictRow]:
        with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as sql:
            cursor = sql.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def log(self) -> list[tuple[str, str | None]]:
        """What was logged since the consent: event and outcome."""
        rows = self.rows("SELECT event, detail FROM oauth_log WHERE event <> 'connect' ORDER BY id")
        return [(row["event"], row["detail"].get("outcome")) for row in rows]

    def statuses(self) -> dict[str, str]:
        rows = self.rows("SELECT account_id, status FROM connections")
        return {row["account_id"]: row["status"] for row in rows}

    def age_intent(self) -> None:
        """As if the refresh under way had begun more than twice its time ago."""
        self.rows("UPDATE grants SET refresh_started_at = refresh_started_at - interval '2 min'")

    def intent(self) -> UUID | None:
        (row,) = self.rows("SELECT refresh_id FROM grants")
        found: UUID | None = row["refresh_id"]
        return found


async def ours_of(database: Database, url: str) -> Ours:
    """Our side, with a tenant and a key of its own."""
    tenant = await tenants.create(database, "north", "North", "TEAM")
    return Ours(database, url, secrets.token_bytes(32), tenant.id)
