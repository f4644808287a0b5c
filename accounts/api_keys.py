"""Keys that tenants bring: verified with the vendor, sealed, and from then on shown masked."""

import asyncio
import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import null, select, update

from connectors import (
    ApiKey,
    Connector,
    ConnectorError,
    Doubt,
    ProviderUnavailableError,
    RateLimitedError,
    Verdict,
    all_connectors,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from storage import tenant_settings
from storage.database import Database
from storage.errors import NotFoundError
from storage.models import TenantSetting
from storage.vault import Vault, VaultError

# A person waits for the answer.
TIMEOUT = timedelta(seconds=15)
_KEY = re.compile(r"[\x21-\x7e]*")
SHORTEST, LONGEST = 8, 1_000
_SHOWN = 4
log = logging.getLogger("atom-sync.keys")


@dataclass(frozen=True)
class MaskedKey:
    """A key that is kept. `masked` is None where it no longer opens; `doubt` says why its vendor
    has not accepted it yet, and is None once it has."""

    setting: str
    masked: str | None
    updated_at: datetime
    doubt: Doubt | None = None


def settings() -> dict[str, Connector]:
    """The names that keys may be kept under, each with what they are for."""
    found = [each for each in all_connectors() if isinstance(each.auth, ApiKey)]
    return {connector.api_key.setting: connector for connector in found}


def connector_of(setting: str) -> Connector:
    """What a key of that name is for; NotFoundError names those there are."""
    known = settings()
    if setting not in known:
        raise NotFoundError(f"no key is called {setting!r}; there are: {', '.join(known)}")
    return known[setting]


async def verify(
    connector: Connector, key: str, *, transport: Transport, budget: Budget
) -> Verdict:
    """What the vendor says of a key. Whatever keeps it from answering proves nothing."""
    if objection := _objection(key):
        return Verdict(False, f"this cannot be a key of {connector.title}: {objection}")

    async def bearer(refused: bool) -> str:
        return key

    client = Client(
        connector, transport=transport, account_id="", config={}, token=bearer, budget=budget
    )
    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            return await client.run(connector.api_key.verify())
    except TimeoutError:
        reason = f"{connector.title} did not answer in time"
        doubt: Doubt = "no_answer"
    except ConnectorError as error:
        reason, doubt = str(error), _doubt(error)
    return Verdict(None, f"the key could not be verified ({reason})", doubt)


def is_possible(key: str) -> bool:
    """Whether it looks like a key of anybody: 8 to 1,000 characters of ASCII, and no blank."""
    return not _objection(key)


def _doubt(error: ConnectorError) -> Doubt:
    match error:
        case RateLimitedError():
            return "limited"
        case ProviderUnavailableError():
            return "no_answer"
    return "unclear"


def _objection(key: str) -> str:
    """Why no vendor can have made such a key."""
    if not _KEY.fullmatch(key):
        return "it has a blank, or another character that stands in no key"
    if len(key) < SHORTEST:
        return f"it has fewer than {SHORTEST} characters"
    return f"it has more than {LONGEST:,} characters" if len(key) > LONGEST else ""


async def put(
    database: Database,
    vault: Vault,
    transport: Transport,
    budget: Budget,
    *,
    tenant_id: UUID,
    setting: str,
    value: str,
) -> Verdict:
    """Verify a key, and keep it unless it is proven wrong."""
    connector = connector_of(setting)
    key = value.strip()
    verdict = await verify(connector, key, transport=transport, budget=budget)
    if verdict.works is not False:
        unproven = _unproven(verdict, tenant_id, setting)
        async with database.transaction(tenant_id) as session:
            await tenant_settings.put(session, vault, tenant_id, setting, key, unproven=unproven)
    return verdict


async def check(
    database: Database,
    vault: Vault,
    transport: Transport,
    budget: Budget,
    *,
    tenant_id: UUID,
    setting: str,
) -> Verdict:
    """Ask the vendor again about a key that is kept, and note what it says; NotFoundError where
    there is none that opens."""
    connector = connector_of(setting)
    row = (TenantSetting.tenant_id == tenant_id, TenantSetting.setting_key == setting)
    async with database.transaction(tenant_id) as session:
        sealed = await session.scalar(select(TenantSetting.setting_value).where(*row))
        try:
            secret = await tenant_settings.get(session, vault, tenant_id, setting)
        except VaultError:
            secret = None
    if secret is None:
        raise NotFoundError(f"no {setting} is kept that could be checked")
    key = secret.get_secret_value()
    verdict = await verify(connector, key, transport=transport, budget=budget)
    unproven = _unproven(verdict, tenant_id, setting)
    async with database.transaction(tenant_id) as session:
        # Not of a key that was replaced while the vendor was asked.
        await session.execute(
            update(TenantSetting)
            .where(*row, TenantSetting.setting_value == sealed)
            .values(unproven=null() if unproven is None else unproven)
        )
    return verdict


def _unproven(verdict: Verdict, tenant_id: UUID, setting: str) -> dict[str, str] | None:
    """What is noted beside a key, and told to the operator; None of one that works."""
    if verdict.works:
        return None
    log.warning("%s of tenant %s: %s", setting, tenant_id, verdict.message)
    doubt: Doubt = "refused" if verdict.works is False else verdict.doubt
    return {"doubt": doubt, "message": verdict.message}


async def listing(database: Database, vault: Vault, tenant_id: UUID) -> list[MaskedKey]:
    """The keys that a tenant has brought; none of them can be read from this."""
    query = select(
        TenantSetting.setting_key, TenantSetting.updated_at, TenantSetting.unproven
    ).where(TenantSetting.tenant_id == tenant_id, TenantSetting.setting_key.in_(settings()))
    kept = []
    async with database.transaction(tenant_id) as session:
        for setting, updated_at, unproven in await session.execute(
            query.order_by(TenantSetting.setting_key)
        ):
            try:
                secret = await tenant_settings.get(session, vault, tenant_id, setting)
            except VaultError:
                secret = None
            masked = mask(secret.get_secret_value()) if secret else None
            doubt = unproven["doubt"] if unproven else None
            kept.append(MaskedKey(setting, masked, updated_at, doubt))
    return kept


def mask(key: str) -> str:
    """Its last characters, so that a person can tell which key it is; nothing of a short one."""
    return f"…{key[-_SHOWN:]}" if len(key) >= 5 * _SHOWN else "…"
