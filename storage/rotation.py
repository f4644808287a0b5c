"""Changing the master key: every tenant's data key is put under the current one, as syncs go on.

Secrets stay as they are sealed; only what wraps their keys changes. Nothing is remembered between
runs: what is left to do is what the database shows, so that a rotation may stop at any time.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.models import Connection, Installation, Status, Tenant, TenantSetting
from storage.vault import Vault, VaultError, check_keys

BATCH = 200
PAUSE = 0.2
# A row that somebody holds for longer is left for the next run.
PATIENCE = timedelta(seconds=60)
ABANDONED = "the key to its stored tokens was lost: connect again"
_FIRST = UUID(int=0)


@dataclass(frozen=True)
class Fault:
    """A secret that does not open. `setting` is empty where it is the tenant's own data key."""

    tenant: str
    setting: str
    reason: str


@dataclass(frozen=True)
class Keys:
    """Which master keys the database's secrets need, and which of them this process has.

    `tenants` counts data keys by the fingerprint of what wraps them; `plaintext` are settings that
    are not sealed at all, as tenant and setting.
    """

    current: str
    known: tuple[str, ...]
    recorded: tuple[str, ...]
    tenants: dict[str, int]
    plaintext: tuple[tuple[str, str], ...]

    @property
    def missing(self) -> list[str]:
        return sorted({*self.recorded[:1], *self.tenants}.difference(self.known))

    @property
    def left(self) -> int:
        """How many data keys are still under another key than the current one."""
        return sum(self.tenants.values()) - self.tenants.get(self.current, 0)

    @property
    def retired(self) -> list[str]:
        """Older keys of this process that nothing needs any more."""
        needed = {self.current, *self.recorded[:1], *self.tenants}
        return [known for known in self.known if known not in needed]


@dataclass
class Rotated:
    """What a rotation did: data keys it put under the current key, and what kept it from others."""

    done: int = 0
    held: int = 0
    faults: list[Fault] = field(default_factory=list)


async def survey(database: Database, vault: Vault) -> Keys:
    """The keys as they stand; nothing is changed, and nothing opened."""
    wrapped_by = _wrapped_by()
    async with database.owning() as session:
        recorded = await session.scalar(select(Installation.key_fingerprints)) or []
        counted = await session.execute(
            select(wrapped_by, func.count())
            .where(Tenant.data_key.is_not(None))
            .group_by(wrapped_by)
            .order_by(wrapped_by)
        )
        plaintext = await session.execute(
            select(Tenant.slug, TenantSetting.setting_key)
            .join(Tenant, Tenant.id == TenantSetting.tenant_id)
            .where(TenantSetting.encrypted.is_(False))
            .order_by(Tenant.slug, TenantSetting.setting_key)
        )
        return Keys(
            current=vault.fingerprints[0],
            known=vault.fingerprints,
            recorded=tuple(recorded),
            tenants={name: count for name, count in counted},
            plaintext=tuple((slug, key) for slug, key in plaintext),
        )


async def rotate(
    database: Database,
    vault: Vault,
    *,
    batch: int = BATCH,
    patience: timedelta = PATIENCE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rotated:
    """Put every data key under the current master key; repeating it finds nothing to do.

    Rows that others hold are skipped and come to their turn later; several rotations share the
    work. VaultError when this process lacks a key, before anything is changed.
    """
    await check_keys(database, vault)
    rotated, failed = Rotated(), set[UUID]()
    waiting_since = time.monotonic()
    while True:
        left = (await survey(database, vault)).left - len(failed)
        progress(rotated.done, rotated.done + left)
        waited = time.monotonic() - waiting_since
        if left <= 0 or waited > patience.total_seconds():
            rotated.held = max(0, left)
            return rotated
        before, after = rotated.done, _FIRST
        while last := await _rewrap_some(database, vault, rotated, failed, after, batch):
            after = last
            progress(rotated.done, max(rotated.done, before + left))
        if rotated.done > before:
            waiting_since = time.monotonic()
        else:
            await asyncio.sleep(PAUSE)


async def _rewrap_some(
    database: Database,
    vault: Vault,
    rotated: Rotated,
    failed: set[UUID],
    after: UUID,
    batch: int,
) -> UUID | None:
    """A batch in a transaction of its own; the last tenant of it, None when there was none."""
    fresh = []
    async with database.owning() as session:
        found = await _to_rewrap(session, vault, after, batch)
        for tenant_id, slug, wrapped in found:
            if tenant_id in failed:
                continue
            try:
                data_key = vault.rewrap(wrapped.decode(), tenant_id).encode()
                fresh.append({"id": tenant_id, "data_key": data_key})
            except VaultError as error:
                failed.add(tenant_id)
                rotated.faults.append(Fault(slug, "", str(error)))
        if fresh:
            await session.execute(update(Tenant), fresh)
    rotated.done += len(fresh)
    return found[-1][0] if found else None


async def _to_rewrap(
    session: AsyncSession, vault: Vault, after: UUID, batch: int
) -> Sequence[tuple[UUID, str, bytes]]:
    found = await session.execute(
        select(Tenant.id, Tenant.slug, Tenant.data_key)
        .where(
            Tenant.data_key.is_not(None),
            _wrapped_by() != vault.fingerprints[0],
            Tenant.id > after,
        )
        .order_by(Tenant.id)
        .limit(batch)
        # Syncs only read the key, and what refers to the tenant is not kept waiting.
        .with_for_update(key_share=True, skip_locked=True)
    )
    return [(tenant_id, slug, wrapped or b"") for tenant_id, slug, wrapped in found]


async def try_all(
    database: Database,
    vault: Vault,
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda opened: None,
) -> list[Fault]:
    """Open every data key and every sealed setting, and report what does not open."""
    faults = []
    opened, after = 0, _FIRST
    while True:
        query = select(Tenant.id, Tenant.slug, Tenant.data_key).where(
            Tenant.data_key.is_not(None), Tenant.id > after
        )
        async with database.owning() as session:
            tenants = (await session.execute(query.order_by(Tenant.id).limit(batch))).all()
        for after, slug, wrapped in tenants:
            try:
                vault.rewrap(wrapped.decode(), after)
            except VaultError as error:
                faults.append(Fault(slug, "", str(error)))
        opened += len(tenants)
        progress(opened)
        if not tenants:
            break
    return faults + await _try_settings(database, vault, batch, opened, progress)


async def _try_settings(
    database: Database, vault: Vault, batch: int, opened: int, progress: Callable[[int], None]
) -> list[Fault]:
    faults = []
    place = tuple_(TenantSetting.tenant_id, TenantSetting.setting_key)
    after: tuple[UUID, str] = (_FIRST, "")
    while True:
        query = (
            select(
                TenantSetting.tenant_id, TenantSetting.setting_key, TenantSetting.setting_value,
                Tenant.slug, Tenant.data_key,
            )
            .join(Tenant, Tenant.id == TenantSetting.tenant_id)
            .where(TenantSetting.encrypted.is_(True), place > after)
            .order_by(TenantSetting.tenant_id, TenantSetting.setting_key)
            .limit(batch)
        )  # fmt: skip
        async with database.owning() as session:
            rows = (await session.execute(query)).all()
        for tenant_id, key, sealed, slug, wrapped in rows:
            after = (tenant_id, key)
            if wrapped is None:
                faults.append(Fault(slug, key, "the tenant's data key was deleted"))
                continue
            try:
                vault.open(wrapped.decode(), tenant_id, key, sealed)
            except VaultError as error:
                faults.append(Fault(slug, key, str(error)))
        opened += len(rows)
        progress(opened)
        if not rows:
            return faults


async def abandon(database: Database, vault: Vault, lost: str) -> list[str]:
    """Give up what a lost master key wrapped: its tenants connect and bring their keys again.

    Their slugs are returned. VaultError for a key that this process has.
    """
    if lost in vault.fingerprints:
        raise VaultError(f"the key {lost} is here: what it wraps can be rotated, and is kept")
    async with database.owning() as session:
        found = await session.execute(
            update(Tenant)
            .where(Tenant.data_key.is_not(None), _wrapped_by() == lost)
            .values(data_key=None)
            .returning(Tenant.id, Tenant.slug)
        )
        tenants = {tenant_id: slug for tenant_id, slug in found}
        settings = delete(TenantSetting).where(
            TenantSetting.tenant_id.in_(tenants), TenantSetting.encrypted.is_(True)
        )
        await session.execute(settings)
        await session.execute(
            update(Connection)
            .where(Connection.tenant_id.in_(tenants), Connection.status == Status.ACTIVE)
            .values(status=Status.NEEDS_REAUTH, status_reason=ABANDONED)
        )
        installation = await session.scalar(select(Installation).with_for_update())
        if installation is not None:
            kept = [known for known in installation.key_fingerprints if known != lost]
            installation.key_fingerprints = kept
    return sorted(tenants.values())


def _wrapped_by() -> ColumnElement[str]:
    """The fingerprint of the master key that a data key is wrapped by."""
    return func.split_part(func.convert_from(Tenant.data_key, "UTF8"), ".", 2)
