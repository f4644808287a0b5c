"""Idempotency keys: what a request made under one is answered again for a day, and made once.

Who comes first holds a claim while it works; a claim whose process died runs out, and the next one
goes on under the same id. Answers are sealed for the tenant that they are about, whatever they
hold, and go with it.
"""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import orjson
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import and_, case, or_

from storage import tenant_settings
from storage.database import Database
from storage.errors import StorageError
from storage.models import IdempotencyKey, Tenant
from storage.vault import Vault, VaultError

KEPT = timedelta(days=1)
# Longer than any request of ours takes.
CLAIM = timedelta(minutes=2)


class KeyUnderWayError(StorageError):
    """The first request under the key has not been answered yet."""


class KeyReusedError(StorageError):
    """The key stood for another request, or its answer is lost: another key is to be taken."""


@dataclass(frozen=True)
class Claim:
    """The right to do what a key asks for. `again`: somebody may have done a part of it before."""

    id: UUID
    tenant_id: UUID
    again: bool


@dataclass(frozen=True)
class Answer:
    """What was answered, its body JSON."""

    status: int
    body: str


async def claim(
    database: Database, vault: Vault, *, tenant_id: UUID, subject: str, key: str, request: bytes
) -> Claim | Answer:
    """The claim to a key of that token's, or what was answered to the same request.

    KeyReusedError if the key can no longer be used, KeyUnderWayError if it is being answered.
    """
    key_hash = sha256(orjson.dumps([subject, key])).digest()
    fingerprint = sha256(request).digest()
    fresh = uuid4()
    new = insert(IdempotencyKey).values(
        id=fresh, tenant_id=tenant_id, key_hash=key_hash, fingerprint=fingerprint,
        claimed_until=func.now() + CLAIM,
        about_tenant_id=select(Tenant.id).where(Tenant.id == tenant_id).scalar_subquery(),
    )  # fmt: skip
    is_old = IdempotencyKey.created_at < func.now() - KEPT
    was_left = and_(
        IdempotencyKey.sealed_answer.is_(None),
        IdempotencyKey.claimed_until < func.now(),
        IdempotencyKey.fingerprint == fingerprint,
    )
    claiming = new.on_conflict_do_update(
        index_elements=["tenant_id", "key_hash"],
        where=or_(is_old, was_left),
        set_={
            "id": case((is_old, new.excluded.id), else_=IdempotencyKey.id),
            "created_at": case((is_old, func.now()), else_=IdempotencyKey.created_at),
            "fingerprint": new.excluded.fingerprint,
            "claimed_until": new.excluded.claimed_until,
            "about_tenant_id": new.excluded.about_tenant_id,
            "status": None,
            "sealed_answer": None,
        },
    ).returning(IdempotencyKey.id)
    async with database.transaction(tenant_id) as session:
        id = await session.scalar(claiming)
        if id is not None:
            return Claim(id, tenant_id, again=id != fresh)
        found = (
            await session.execute(
                select(IdempotencyKey).where(
                    IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key_hash == key_hash
                )
            )
        ).scalar_one_or_none()
    if found is not None and found.fingerprint != fingerprint:
        raise KeyReusedError("this key stood for another request before")
    if found is None or found.sealed_answer is None or found.about_tenant_id is None:
        raise KeyUnderWayError("the first request under this key is still being answered")
    try:
        async with database.transaction(found.about_tenant_id) as session:
            body = await tenant_settings.unseal(
                session, vault, found.about_tenant_id, _name(found.id), found.sealed_answer
            )
    except VaultError as error:
        raise KeyReusedError("what was answered under this key no longer opens") from error
    return Answer(found.status or 200, body)


async def settle(
    database: Database, vault: Vault, claim: Claim, answer: Answer, *, about: UUID
) -> None:
    """From now on the key is answered so; `about` is the tenant that the answer is about."""
    async with database.transaction(about) as session:
        sealed = await tenant_settings.seal(session, vault, about, _name(claim.id), answer.body)
    async with database.transaction(claim.tenant_id) as session:
        await session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.id == claim.id, IdempotencyKey.sealed_answer.is_(None))
            .values(sealed_answer=sealed, status=answer.status, about_tenant_id=about)
        )


async def release(database: Database, claim: Claim, *, nothing_made: bool) -> None:
    """The key stands for nothing; or else whoever asks the same next goes on at once."""
    mine = (IdempotencyKey.id == claim.id, IdempotencyKey.sealed_answer.is_(None))
    lapse = update(IdempotencyKey).where(*mine).values(claimed_until=func.clock_timestamp())
    async with database.transaction(claim.tenant_id) as session:
        await session.execute(delete(IdempotencyKey).where(*mine) if nothing_made else lapse)


def _name(id: UUID) -> str:
    return f"idempotency:{id}"
