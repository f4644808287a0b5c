"""What a process that does our work opens once: the database, the vault, the pooled transport."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from accounts import filled, tokens
from accounts.disconnecting import Disconnector
from connectors import Connector, ContractError, SettingsForm
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.clock import Clock
from connectors.kernel.oauth import OAuthApp
from integrations import load
from settings import Settings, SettingsError, incarnation
from storage import connections, incarnations, integrations
from storage.clock import DatabaseClock
from storage.database import Database
from storage.vault import Vault, check_keys


@dataclass(frozen=True, kw_only=True)
class Runtime:
    settings: Settings
    database: Database
    vault: Vault
    transport: Transport
    budget: Budget

    @property
    def clock(self) -> Clock:
        """What tells the time: the database's clock, wherever this process runs."""
        return self.transport.clock

    async def told_to_stop(self) -> str:
        """Who told this process to leave between two batches, in words; empty while nobody did.

        That can only be the `up` that it is part of.
        """
        own = incarnation()
        return await incarnations.told_to_stop(self.database, own) if own else ""

    async def access_token(self, connection: connections.Connection) -> str:
        """The connection's access token, for somebody else's calls, renewed if it ends soon.

        LookupError where calls carry our app's own secret: that opens every tenant's account.
        """
        connector = load(connection.integration)
        if connector.oauth.bearer == "app":
            raise LookupError(
                f"{connector.title} gives an account no token of its own: our calls carry our "
                "app's secret, which is never given away. Call it with a key of your own"
            )
        return await self.bearer(connection)

    async def bearer(
        self, connection: connections.Connection, *, refused: str | None = None
    ) -> str:
        """What our calls carry, renewed if it ends soon or is the `refused` one.

        It may be our app's own secret (`OAuth2.bearer`), so it goes to the vendor and nowhere else.
        Nothing, where readers send what a tenant filled in.
        """
        if isinstance(load(connection.integration).auth, SettingsForm):
            return ""
        return await tokens.access_token(
            self.database,
            self.vault,
            self.settings.app,
            self.transport,
            self.budget,
            grant_id=connection.grant_id,
            tenant_id=connection.tenant_id,
            refused=refused,
        )

    async def config_of(
        self, connector: Connector, connection: connections.Connection
    ) -> dict[str, Any]:
        """A connection's settings as its readers get them: with the secrets that a tenant filled
        in, which are for them alone."""
        if not isinstance(connector.auth, SettingsForm):
            return dict(connection.config)
        return await filled.settings_of(self.database, self.vault, connector, connection)

    def disconnector(self) -> Disconnector:
        """What disconnecting needs."""

        def app(integration: str) -> OAuthApp:
            try:
                return self.settings.app(integration)
            except SettingsError as error:
                # The operator took the app away: that must not keep a tenant from disconnecting.
                raise ContractError(str(error)) from error

        return Disconnector(self.database, self.vault, app, self.transport, self.budget)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Runtime]:
    """The settings' runtime, for as long as the block lasts."""
    if settings.database_url is None or settings.encryption_keys is None:
        raise SettingsError("set DATABASE_URL and ENCRYPTION_KEYS; `atom-sync up` does it for you")
    vault = Vault.parse(settings.encryption_keys.get_secret_value())
    database = Database.connect(
        settings.database_url.get_secret_value(), schema=settings.atom_schema
    )
    clock = DatabaseClock()
    transport = Transport(sandbox_url=settings.atom_sandbox_url, clock=clock)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    budget = Budget(redis_url, clock=clock)
    try:
        await check_keys(database, vault)
        async with clock.followed(database), integrations.followed(database):
            yield Runtime(
                settings=settings,
                database=database,
                vault=vault,
                transport=transport,
                budget=budget,
            )
    finally:
        await budget.aclose()
        await transport.close()
        await database.close()
