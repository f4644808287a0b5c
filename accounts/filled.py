"""Settings that a tenant fills in: tried at the vendor, their secrets sealed, merged to be read.

What is no secret stands in `connections.config`. The secrets are the grant's, sealed as tokens are.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from connectors import (
    Account,
    BrokenConnectionError,
    Connector,
    Context,
    ProviderUnavailableError,
    SettingsForm,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from integrations import form
from storage import grants, tenant_settings
from storage.connections import Connection
from storage.database import Database
from storage.vault import Vault

# A person waits for the answer.
TIMEOUT = timedelta(seconds=20)
SECRETS = "settings"


@dataclass(frozen=True)
class Filled:
    """An account as a tenant describes it; `name` tells it from others of the same settings."""

    settings: Mapping[str, Any] = field(repr=False)
    name: str = ""


async def check(
    connector: Connector, settings: Mapping[str, Any], *, transport: Transport, budget: Budget
) -> None:
    """Makes a call or two at the vendor: ConnectorError where the settings do not work."""
    client = Client(
        connector,
        transport=transport,
        account_id="",
        config=settings,
        token=_no_token,
        budget=budget,
    )
    context = Context(now=transport.clock.now(), account_id="", config=settings)
    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            await client.run(form_of(connector).verify(context))
    except TimeoutError as error:
        raise ProviderUnavailableError(f"{connector.title} did not answer in time") from error


async def connect(
    database: Database,
    vault: Vault,
    connector: Connector,
    filled: Filled,
    *,
    tenant_id: UUID,
    label: str | None = None,
    replaces: UUID | None = None,
) -> UUID:
    """Keeps settings that were checked, as a connection that owes its backfill; its id.

    The same settings connect once. `replaces` is the connection that is to have these from now on.
    """
    shown, kept = form.split(form.secrets(form_of(connector)), filled.settings)
    account = Account(account_id(shown, filled.name), filled.name or connector.title, shown)
    return await grants.keep_settings(
        database,
        vault,
        tenant_id=tenant_id,
        integration=connector.name,
        secrets={SECRETS: kept},
        account=account,
        label=label,
        replaces=replaces,
    )


async def settings_of(
    database: Database, vault: Vault, connector: Connector, connection: Connection
) -> dict[str, Any]:
    """What a reader of the connection gets: all of its settings, secrets among them."""
    async with database.transaction(connection.tenant_id) as session:
        key = await grants.setting_key(session, connection.grant_id)
        held = await tenant_settings.get_json(session, vault, connection.tenant_id, key)
    if held is None:
        raise BrokenConnectionError(
            f"{connector.title}: the settings of this connection are gone: connect it again"
        )
    return form.merged(connection.config, held[SECRETS])


def account_id(shown: Mapping[str, Any], name: str) -> str:
    """Which account settings are for, as far as they tell: the same ones are the same account."""
    text = json.dumps([shown, name], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def form_of(connector: Connector) -> SettingsForm:
    """Its form; LookupError of a connector that is let in otherwise."""
    if isinstance(connector.auth, SettingsForm):
        return connector.auth
    raise LookupError(f"{connector.title} is not connected by settings")


async def _no_token(refused: bool) -> str:
    if refused:
        raise BrokenConnectionError("the vendor does not accept these settings")
    return ""
