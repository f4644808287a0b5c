"""Keys that tenants bring, verified with the sandboxed vendor and sealed in a real database."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import psycopg
import pytest

import sandbox
from accounts import api_keys
from connectors import Verdict, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from settings import variables_of
from storage import NotFoundError, tenants
from storage.database import Database
from storage.tenants import Tenant
from storage.vault import Vault

SETTING = "OPENAI_API_KEY"
VAULT = Vault([b"k" * 32])


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start(["openai"]) as started:
        yield started


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await tenants.create(database, "north", "North", "TEAM")


@pytest.fixture
async def transport(origin: str) -> AsyncIterator[Transport]:
    opened = Transport(sandbox_url=origin)
    yield opened
    await opened.close()


def control(
    origin: str, path: str, body: dict[str, Any] | None = None, method: str = "POST"
) -> Any:
    answer = httpx.request(method, f"{origin}/_control/openai{path}", json=body)
    answer.raise_for_status()
    return answer.json()


def new_key(origin: str, **options: Any) -> tuple[str, str]:
    account = control(origin, "/accounts", {})["id"]
    return account, control(origin, "/grant", {"account": account, **options})["access_token"]


async def put(database: Database, transport: Transport, tenant: Tenant, value: str) -> Verdict:
    return await api_keys.put(
        database, VAULT, transport, Budget(None),
        tenant_id=tenant.id, setting=SETTING, value=value,
    )  # fmt: skip


async def masked(database: Database, tenant: Tenant) -> list[str | None]:
    return [key.masked for key in await api_keys.listing(database, VAULT, tenant.id)]


async def test_a_key_that_the_vendor_accepts_is_sealed_and_shown_masked(
    database: Database, database_url: str, transport: Transport, tenant: Tenant, origin: str
) -> None:
    _, key = new_key(origin)
    verdict = await put(database, transport, tenant, f"  {key}\n")
    assert (verdict.works, verdict.message) == (True, "OpenAI accepts this key")
    assert await masked(database, tenant) == [f"…{key[-4:]}"]
    with psycopg.connect(database_url) as sql:
        ((stored, encrypted),) = sql.execute(
            "SELECT setting_value, encrypted FROM tenant_settings"
        ).fetchall()
    assert encrypted
    assert key not in stored


async def test_a_key_that_is_proven_wrong_is_not_kept(
    database: Database, transport: Transport, tenant: Tenant, origin: str
) -> None:
    account, key = new_key(origin)
    assert (await put(database, transport, tenant, key)).works
    verdict = await put(database, transport, tenant, "sk-proj-nobody-ever-made-this-one")
    assert verdict.works is False
    assert "mistyped, or was revoked" in verdict.message
    control(origin, "/tokens", {"account": account, "op": "revoke"})
    assert (await put(database, transport, tenant, key)).works is False
    assert await masked(database, tenant) == [f"…{key[-4:]}"]


@pytest.mark.parametrize("value", ["", "   ", "sk-proj-ключ-которого-нет", "sk\r\nx-evil: 1 23456"])
async def test_what_cannot_be_a_key_is_not_even_sent(
    database: Database, transport: Transport, tenant: Tenant, origin: str, value: str
) -> None:
    control(origin, "/requests", method="DELETE")
    assert (await put(database, transport, tenant, value)).works is False
    assert control(origin, "/requests", method="GET")["total"] == 0
    assert await masked(database, tenant) == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalid_organization"),
        (401, None),
        (403, "unsupported_country_region_territory"),
        (429, "insufficient_quota"),
        (429, "rate_limit_exceeded"),
        (500, None),
        (503, None),
    ],
)
async def test_an_answer_that_proves_nothing_keeps_the_key_and_says_so(
    database: Database,
    transport: Transport,
    tenant: Tenant,
    origin: str,
    status: int,
    code: str | None,
) -> None:
    account, key = new_key(origin)
    message = f"Not with {key} today."
    ordered = {"account": account, "status": status, "code": code, "message": message}
    control(origin, "/answer", ordered)
    verdict = await put(database, transport, tenant, key)
    assert verdict.works is None
    expected = f"the key could not be verified (OpenAI answered {status}: Not with … today.)"
    assert verdict.message == expected
    assert await masked(database, tenant) == [f"…{key[-4:]}"]


async def test_a_restricted_key_and_a_vendor_that_breaks_off_prove_nothing(
    database: Database, transport: Transport, tenant: Tenant, origin: str
) -> None:
    _, key = new_key(origin, scopes=["model.request"])
    assert (await put(database, transport, tenant, key)).works is None
    _, key = new_key(origin)
    control(origin, "/faults", {"kind": "garbage", "count": 9})
    verdict = await put(database, transport, tenant, key)
    control(origin, "/faults", method="DELETE")
    assert verdict.works is None
    assert "instead of JSON" in verdict.message
    assert await masked(database, tenant) == [f"…{key[-4:]}"]


async def test_a_vendor_that_is_away_proves_nothing(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "TIMEOUT", api_keys.TIMEOUT / 30)
    transport = Transport(sandbox_url="http://127.0.0.1:9")
    try:
        verdict = await put(database, transport, tenant, "sk-proj-canary-canary-canary")
    finally:
        await transport.close()
    assert verdict.works is None
    assert "canary" not in verdict.message
    assert await masked(database, tenant) == ["…nary"]


async def test_only_keys_that_something_is_for_are_kept(
    database: Database, transport: Transport, tenant: Tenant
) -> None:
    with pytest.raises(NotFoundError, match=f"there are: {SETTING}"):
        await api_keys.put(
            database, VAULT, transport, Budget(None),
            tenant_id=tenant.id, setting="hubspot_tokens", value=json.dumps({"access_token": "x"}),
        )  # fmt: skip


async def test_a_key_that_no_longer_opens_is_listed_all_the_same(
    database: Database, transport: Transport, tenant: Tenant, origin: str
) -> None:
    await put(database, transport, tenant, new_key(origin)[1])
    (found,) = await api_keys.listing(database, Vault([b"o" * 32]), tenant.id)
    assert (found.setting, found.masked) == (SETTING, None)


def test_a_short_key_shows_nothing() -> None:
    assert api_keys.mask("12345678") == "…"


def test_a_key_is_no_consent_and_a_consent_no_key() -> None:
    with pytest.raises(LookupError, match="OpenAI takes an API key"):
        variables_of("openai")
    with pytest.raises(LookupError, match="HubSpot is connected by consent"):
        _ = load("hubspot").api_key


def test_the_sandbox_refuses_orders_that_it_cannot_carry_out(origin: str) -> None:
    for path, body, status in (
        ("/answer", {"account": "proj_nobody"}, 404),
        ("/answer", {"status": 200}, 400),
        ("/mutate", {"account": new_key(origin)[0]}, 404),
    ):
        answer = httpx.post(f"{origin}/_control/openai{path}", json=body)
        assert answer.status_code == status, answer.text
