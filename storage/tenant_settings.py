"""A tenant's secret settings: OAuth tokens and keys of its own, each sealed for its place."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import delete as delete_from
from sqlalchemy import func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.errors import NotFoundError
from storage.models import Tenant, TenantSetting
from storage.vault import Vault, VaultError


def tokens_key(integration: str, label: str | None = None) -> str:
    """The setting that holds a grant's tokens; a second grant of one integration has a label."""
    return f"{integration}_tokens:{label}" if label else f"{integration}_tokens"


async def seal(session: AsyncSession, vault: Vault, tenant_id: UUID, name: str, value: str) -> str:
    """A secret of the tenant that is kept elsewhere, bound to that name."""
    return vault.seal(await _data_key_to_write(session, vault, tenant_id), tenant_id, name, value)


async def unseal(
    session: AsyncSession, vault: Vault, tenant_id: UUID, name: str, sealed: str
) -> str:
    """What `seal` was given."""
    wrapped = await _data_key(session, tenant_id)
    if wrapped is None:
        raise VaultError(f"the data key of tenant {tenant_id} was deleted: its secrets are gone")
    return vault.open(wrapped, tenant_id, name, sealed)


async def put(
    session: AsyncSession,
    vault: Vault,
    tenant_id: UUID,
    key: str,
    value: str,
    *,
    unproven: Mapping[str, str] | None = None,
) -> None:
    """Seal and store a setting; the tenant's data key is made with its first one."""
    sealed = await seal(session, vault, tenant_id, key, value)
    row = insert(TenantSetting).values(
        tenant_id=tenant_id, setting_key=key, setting_value=sealed, encrypted=True,
        unproven=null() if unproven is None else dict(unproven),
    )  # fmt: skip
    written = {
        "setting_value": sealed,
        "encrypted": True,
        "updated_at": func.now(),
        "unproven": row.excluded.unproven,
    }
    await session.execute(
        row.on_conflict_do_update(index_elements=["tenant_id", "setting_key"], set_=written)
    )


async def get(session: AsyncSession, vault: Vault, tenant_id: UUID, key: str) -> SecretStr | None:
    """A setting's value, or None where there is no such setting."""
    found = await session.execute(
        select(TenantSetting.setting_value, TenantSetting.encrypted, Tenant.data_key)
        .join(Tenant, Tenant.id == TenantSetting.tenant_id)
        .where(TenantSetting.tenant_id == tenant_id, TenantSetting.setting_key == key)
    )
    row = found.one_or_none()
    if row is None:
        return None
    stored, encrypted, wrapped = row
    if not encrypted:
        return SecretStr(stored)
    if wrapped is None:
        raise VaultError(f"the data key of tenant {tenant_id} was deleted: its secrets are gone")
    return SecretStr(vault.open(wrapped.decode(), tenant_id, key, stored))


async def delete(session: AsyncSession, tenant_id: UUID, key: str) -> bool:
    """Forget a setting; False where there was none."""
    gone = await session.execute(
        delete_from(TenantSetting)
        .where(TenantSetting.tenant_id == tenant_id, TenantSetting.setting_key == key)
        .returning(TenantSetting.setting_key)
    )
    return gone.one_or_none() is not None


async def unproven(session: AsyncSession, *, at_most: int) -> list[tuple[str, str, str]]:
    """The keys that no vendor has accepted yet: whose by slug, which, and what the vendor said."""
    found = await session.execute(
        select(Tenant.slug, TenantSetting.setting_key, TenantSetting.unproven["message"].astext)
        .join(Tenant, Tenant.id == TenantSetting.tenant_id)
        .where(TenantSetting.unproven.is_not(None))
        .order_by(Tenant.slug, TenantSetting.setting_key)
        .limit(at_most)
    )
    return [(slug, key, message) for slug, key, message in found]


async def put_json(
    session: AsyncSession, vault: Vault, tenant_id: UUID, key: str, value: Mapping[str, Any]
) -> None:
    """Store a JSON object, as the tokens of a grant are kept."""
    await put(session, vault, tenant_id, key, json.dumps(dict(value)))


async def get_json(
    session: AsyncSession, vault: Vault, tenant_id: UUID, key: str
) -> dict[str, Any] | None:
    """The JSON object of a setting, or None where there is no such setting."""
    secret = await get(session, vault, tenant_id, key)
    if secret is None:
        return None
    try:
        value = json.loads(secret.get_secret_value())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        # Not chained: a parser's error carries the whole text.
        raise VaultError(f"the setting {key!r} of tenant {tenant_id} is not a JSON object")
    return value


async def _data_key(session: AsyncSession, tenant_id: UUID) -> str | None:
    wrapped = await session.scalar(select(Tenant.data_key).where(Tenant.id == tenant_id))
    return wrapped.decode() if wrapped else None


async def _data_key_to_write(session: AsyncSession, vault: Vault, tenant_id: UUID) -> str:
    if wrapped := await _data_key(session, tenant_id):
        return wrapped
    # Of two first writers the second waits here for the first, then finds its key.
    await session.execute(
        update(Tenant)
        .where(Tenant.id == tenant_id, Tenant.data_key.is_(None))
        .values(data_key=vault.new_data_key(tenant_id).encode())
    )
    if wrapped := await _data_key(session, tenant_id):
        return wrapped
    raise NotFoundError(f"there is no tenant {tenant_id}")
