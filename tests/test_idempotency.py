"""Idempotency keys: one request makes, the others are answered so; nothing is kept in clear."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from storage import idempotency, pruning, tenants
from storage.database import Database
from storage.idempotency import Answer, Claim, KeyReusedError, KeyUnderWayError
from storage.vault import Vault
from tests._sandboxed import KEY
from tests._stored import stock

VAULT = Vault.parse(KEY)
OPERATOR = UUID(int=0)
ANSWER = Answer(201, '{"url":"https://sync.example/connect/canary"}')


async def ask(
    database: Database,
    *,
    tenant_id: UUID = OPERATOR,
    subject: str = "backend",
    key: str = "order-17",
    request: bytes = b"POST /api/tenants {}",
) -> Claim | Answer:
    return await idempotency.claim(
        database, VAULT, tenant_id=tenant_id, subject=subject, key=key, request=request
    )


async def claimed(database: Database, **asked: object) -> Claim:
    found = await ask(database, **asked)  # type: ignore[arg-type]
    assert isinstance(found, Claim)
    return found


async def kept(database: Database) -> str:
    async with database.owning() as session:
        return str(list(await session.execute(text("SELECT * FROM idempotency_keys"))))


async def change(database: Database, **values: str) -> None:
    told = ", ".join(f"{name} = {value}" for name, value in values.items())
    async with database.owning() as session:
        await session.execute(text(f"UPDATE idempotency_keys SET {told}"))


async def test_of_many_at_once_one_may_make_and_the_others_get_its_answer(
    database: Database,
) -> None:
    acme = await stock(database, "acme")
    found = await asyncio.gather(*(ask(database) for _ in range(5)), return_exceptions=True)
    (won,) = [one for one in found if isinstance(one, Claim)]
    assert sum(isinstance(one, KeyUnderWayError) for one in found) == 4
    await idempotency.settle(database, VAULT, won, ANSWER, about=acme.tenant_id)
    assert await ask(database) == ANSWER
    with pytest.raises(KeyReusedError):
        await ask(database, request=b"POST /api/tenants {...}")


async def test_a_key_is_its_tokens_own(database: Database) -> None:
    await claimed(database)
    for other in ({"subject": "another"}, {"tenant_id": uuid4()}, {"key": "order-18"}):
        await claimed(database, **other)


async def test_after_a_failure_the_key_stands_for_nothing(database: Database) -> None:
    await idempotency.release(database, await claimed(database), nothing_made=True)
    await claimed(database, request=b"another")


async def test_who_goes_on_after_one_that_died_has_the_same_claim(database: Database) -> None:
    first = await claimed(database)
    assert not first.again
    await change(database, claimed_until="now() - interval '1 second'")
    second = await claimed(database)
    assert (second.id, second.again) == (first.id, True)
    # So too where it failed midway, and may have made something.
    await idempotency.release(database, second, nothing_made=False)
    third = await claimed(database)
    assert (third.id, third.again) == (first.id, True)


async def test_an_answer_is_kept_sealed_for_a_day_and_goes_with_its_tenant(
    database: Database,
) -> None:
    acme, bolt = await stock(database, "acme"), await stock(database, "bolt", account_id="43")
    for key, about in (("a", acme), ("b", bolt)):
        made = await claimed(database, key=key)
        await idempotency.settle(database, VAULT, made, ANSWER, about=about.tenant_id)
    there = await kept(database)
    assert "canary" not in there
    assert "backend" not in there
    await tenants.delete(database, "acme")
    await claimed(database, key="a")
    assert await ask(database, key="b") == ANSWER
    with pytest.raises(KeyReusedError, match="no longer opens"):
        await idempotency.claim(
            database, Vault([b"k" * 32]), tenant_id=OPERATOR, subject="backend", key="b",
            request=b"POST /api/tenants {}",
        )  # fmt: skip

    almost = idempotency.KEPT - timedelta(minutes=1)
    age = "now() - interval '{} seconds'"
    await change(database, created_at=age.format(almost.total_seconds()))
    assert "idempotency keys" not in await pruning.prune(database)
    await change(database, created_at=age.format(idempotency.KEPT.total_seconds() + 1))
    assert not (await claimed(database, key="b", request=b"another")).again
    assert (await pruning.prune(database))["idempotency keys"] == 1
