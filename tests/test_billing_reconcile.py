"""`atom-sync billing reconcile` as it is typed: every tenant compared with Stripe."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx  # noqa: TID251 - a test orders at the sandbox's controls
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

import sandbox
from billing.stripe_api import connected, read_customer
from cli import app
from cli.doctor.stripe import billing as examined
from settings import SettingsError, read
from storage import Tier, tenants
from storage.database import Database
from tests._sandboxed import KEY

SOLO, TEAM, ENTERPRISE = "price_1SandboxSolo", "price_1SandboxTeam", "price_1SandboxEnterprise"
UNKNOWN = "price_1SandboxSeat"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start(["stripe"]) as started:
        yield started


@dataclass(frozen=True)
class Desk:
    """Stripe on one side, our tenants on the other."""

    http: httpx.Client
    account: str
    key: str
    database: Database

    def order(self, control: str, **body: Any) -> Any:
        path = f"/_control/stripe/{control}"
        answer = self.http.post(path, json={"account": self.account, **body})
        answer.raise_for_status()
        return answer.json()

    def customer(self, tenant_id: UUID | None = None) -> str:
        headers = {"authorization": f"Bearer {self.key}"}
        data = {"metadata[tenant_id]": str(tenant_id)} if tenant_id else {}
        answer = self.http.post("/api.stripe.com/v1/customers", data=data, headers=headers)
        return str(answer.json()["id"])

    def create(self, customer: str, price: str, *, quantity: int) -> str:
        headers = {"authorization": f"Bearer {self.key}"}
        data = {
            "customer": customer, "items[0][price]": price, "items[0][quantity]": str(quantity),
        }  # fmt: skip
        answer = self.http.post("/api.stripe.com/v1/subscriptions", data=data, headers=headers)
        return str(answer.json()["id"])

    def delete(self, customer: str) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        path = f"/api.stripe.com/v1/customers/{customer}"
        self.http.delete(path, headers=headers).raise_for_status()

    def subscribe(self, customer: str, *prices: str, status: str = "active") -> str:
        made = self.order("subscribe", customer=customer, prices=list(prices), status=status)
        return str(made["id"])

    async def tenant(self, slug: str, tier: str, customer: str | None = None) -> UUID:
        made = await tenants.create(self.database, slug, slug.title(), tier)
        async with self.database.owning() as session:
            await session.execute(
                text("UPDATE tenants SET stripe_customer_id = :customer WHERE id = :id"),
                {"customer": customer, "id": made.id},
            )
        return made.id

    async def tiers(self) -> dict[str, Tier]:
        return {each.slug: each.tier for each in await tenants.all(self.database)}

    def asked(self) -> int:
        return int(self.http.get("/_control/stripe/requests").json()["total"])


@pytest.fixture
def desk(
    origin: str, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Desk]:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with httpx.Client(base_url=origin, timeout=60) as http:
        account = http.post("/_control/stripe/accounts", json={}).json()["id"]
        grant = http.post("/_control/stripe/grant", json={"account": account})
        key = grant.json()["access_token"]
        for name, value in {
            "DATABASE_URL": database_url,
            "ENCRYPTION_KEYS": KEY,
            "ATOM_SANDBOX_URL": origin,
            "STRIPE_SECRET_KEY": key,
            "STRIPE_PRICE_ID_SOLO": SOLO,
            "STRIPE_PRICE_ID_TEAM": f"{TEAM},price_1SandboxFormer",
            "STRIPE_PRICE_ID_ENTERPRISE": ENTERPRISE,
            "COLUMNS": "200",
        }.items():
            monkeypatch.setenv(name, value)
        yield Desk(http, account, key, database)


async def typed(*words: str) -> Any:
    """A command, which runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(words))


async def reconciled(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what it told of each tenant or, where it is nobody's, customer."""
    ended = await typed("billing", "reconcile", "--json", *words)
    told = json.loads(ended.stdout)
    assert told["ok"] is (ended.exit_code == 0)
    return ended.exit_code, {
        each["tenant"] or each["customer"]: each for each in told["differences"]
    }


async def test_where_all_is_equal_nothing_is_told_and_nothing_changed(desk: Desk) -> None:
    await desk.tenant("by-hand", "ENTERPRISE")
    customer = desk.customer()
    await desk.tenant("never-bought", "TEAM", customer)
    desk.subscribe(customer, SOLO, status="incomplete_expired")
    assert await reconciled() == (0, {})
    assert await desk.tiers() == {"by-hand": Tier.ENTERPRISE, "never-bought": Tier.TEAM}
    ended = await typed("billing", "reconcile")
    assert (ended.exit_code, ended.stdout) == (0, "every tenant is what Stripe says\n")


async def test_what_differs_is_shown_and_only_then_repaired(desk: Desk) -> None:
    customers = {slug: desk.customer() for slug in ("raised", "ended", "owing")}
    for slug, customer in customers.items():
        await desk.tenant(slug, "SOLO", customer)
    bought = desk.subscribe(customers["raised"], ENTERPRISE, UNKNOWN)
    desk.subscribe(customers["ended"], SOLO, status="canceled")
    desk.subscribe(customers["owing"], "price_1SandboxTeam", status="past_due")
    status, told = await reconciled("--dry-run")
    assert status == 1
    assert {slug: (each["ours"], each["stripes"]) for slug, each in told.items()} == {
        "raised": ("SOLO", "ENTERPRISE"), "ended": ("SOLO", "FREE"), "owing": ("SOLO", "TEAM"),
    }  # fmt: skip
    assert {each["outcome"] for each in told.values()} == {"differs"}
    assert set((await desk.tiers()).values()) == {Tier.SOLO}
    status, told = await reconciled()
    assert status == 0
    assert {each["outcome"] for each in told.values()} == {"repaired"}
    assert told["raised"]["subscription"] == bought
    assert await desk.tiers() == {
        "raised": Tier.ENTERPRISE, "ended": Tier.FREE, "owing": Tier.TEAM,
    }  # fmt: skip
    assert await reconciled() == (0, {})


async def test_what_needs_a_person_is_told_again_and_changes_nothing(desk: Desk) -> None:
    odd, twice = desk.customer(), desk.customer()
    await desk.tenant("odd", "TEAM", odd)
    desk.subscribe(odd, UNKNOWN)
    await desk.tenant("twice", "SOLO", twice)
    for price in (SOLO, TEAM):
        desk.subscribe(twice, price)
    stranger = desk.customer()
    desk.subscribe(stranger, TEAM)
    for words in (("--dry-run",), (), ()):
        status, told = await reconciled(*words)
        assert status == 1
        assert told.keys() == {"odd", "twice", stranger}
        assert {each["outcome"] for each in told.values()} == {"attention"}
    assert UNKNOWN in told["odd"]["problem"]
    assert "2 subscriptions are paid at once" in told["twice"]["problem"]
    assert "no tenant here has its customer" in told[stranger]["problem"]
    assert await desk.tiers() == {"odd": Tier.TEAM, "twice": Tier.TEAM}
    ended = await typed("billing", "reconcile")
    assert ended.exit_code == 1
    assert "nobody's" in ended.stdout
    rows = {row.what: row for row in await examined(read())}
    assert rows["customers"].failed
    assert UNKNOWN in rows["customers"].found
    assert "billing reconcile" in rows["customers"].remedy


async def test_what_was_seen_to_at_stripe_is_told_no_more(desk: Desk) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "SOLO", customer)
    odd, paid = desk.subscribe(customer, UNKNOWN), desk.subscribe(customer, SOLO)
    assert (await reconciled())[0] == 1
    desk.order("turn", subscription=odd, status="canceled")
    assert (await reconciled("--dry-run"))[0] == 1  # nothing was read again
    status, told = await reconciled()
    assert (status, told["acme"]["outcome"], told["acme"]["problem"]) == (0, "repaired", None)
    assert told["acme"]["subscription"] == paid
    assert await reconciled() == (0, {})


async def test_a_customer_that_names_its_tenant_is_joined_to_it(desk: Desk) -> None:
    tenant_id = await desk.tenant("acme", "FREE")
    customer = desk.customer(tenant_id)
    desk.subscribe(customer, TEAM)
    _, told = await reconciled("--dry-run")
    assert told["acme"]["customer"] == customer
    assert await reconciled() == (0, {"acme": {**told["acme"], "outcome": "repaired"}})
    assert await desk.tiers() == {"acme": Tier.TEAM}


async def test_a_customer_that_was_deleted_at_stripe_pays_for_nothing(desk: Desk) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "FREE", customer)
    desk.subscribe(customer, TEAM)
    assert (await reconciled())[0] == 0
    desk.delete(customer)
    status, told = await reconciled()
    assert (status, told["acme"]["outcome"]) == (0, "repaired")
    assert await desk.tiers() == {"acme": Tier.FREE}


async def test_all_pages_are_read_and_a_customer_only_where_it_differs(desk: Desk) -> None:
    customers = [desk.customer() for _ in range(3)]
    for number, customer in enumerate(customers):
        await desk.tenant(f"tenant-{number}", "SOLO", customer)
        for _ in range(60):
            desk.subscribe(customer, SOLO, status="canceled")
        desk.subscribe(customer, SOLO)
    assert (await reconciled())[0] == 0
    before = desk.asked()
    assert await reconciled() == (0, {})
    assert desk.asked() - before == 2  # 183 subscriptions, 100 a page


async def test_what_is_owed_to_an_erased_tenant_is_tried_again_and_told_until_it_is_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "TEAM", customer)
    desk.subscribe(customer, TEAM)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "")
    erased = await typed("tenants", "delete", "acme", "--yes")
    assert erased.exit_code == 0
    assert "what it pays for at Stripe is not ended: billing is off" in " ".join(
        erased.output.split()
    )
    monkeypatch.setenv("STRIPE_SECRET_KEY", desk.key)
    status, told = await reconciled("--dry-run")
    assert (status, told[customer]["outcome"]) == (1, "attention")
    assert "its tenant was erased" in told[customer]["problem"]
    status, told = await reconciled()
    assert (status, told[customer]["outcome"], told[customer]["problem"]) == (0, "repaired", None)
    assert await reconciled() == (0, {})


async def test_the_operator_dismisses_what_is_owed_and_cannot_be_done(desk: Desk) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "TEAM", customer)
    desk.subscribe(customer, UNKNOWN)
    assert (await reconciled())[0] == 1
    erased = await typed("tenants", "delete", "acme", "--yes")
    assert f"has no price that STRIPE_PRICE_ID_… names: {UNKNOWN}" in " ".join(
        erased.output.split()
    )
    for _ in range(2):
        status, told = await reconciled()
        assert (status, set(told)) == (1, {customer})
        assert UNKNOWN in told[customer]["problem"]
    assert (await typed("billing", "dismiss", customer)).exit_code == 0
    assert await reconciled() == (0, {})
    assert isinstance((await typed("billing", "dismiss", customer)).exception, LookupError)


async def test_prices_of_another_product_are_told_until_they_are_ignored(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "FREE", customer)
    desk.subscribe(customer, UNKNOWN)
    ours = desk.subscribe(customer, ENTERPRISE)
    status, told = await reconciled()
    assert (status, told["acme"]["stripes"]) == (1, "ENTERPRISE")
    rows = {row.what: row for row in await examined(read())}
    assert rows["unknown prices"].found == f"{UNKNOWN} (1 paying)"
    desk.order("turn", subscription=ours, status="canceled")
    status, told = await reconciled()
    assert (status, await desk.tiers()) == (1, {"acme": Tier.FREE})
    assert UNKNOWN in told["acme"]["problem"]
    monkeypatch.setenv("STRIPE_PRICE_IDS_IGNORED", UNKNOWN)
    await reconciled()
    assert await reconciled() == (0, {})


async def test_an_item_of_the_quantity_0_is_not_taken_for_paid(desk: Desk) -> None:
    customer = desk.customer()
    await desk.tenant("acme", "FREE", customer)
    desk.create(customer, ENTERPRISE, quantity=0)
    status, told = await reconciled()
    assert (status, await desk.tiers()) == (1, {"acme": Tier.FREE})
    assert "is of the quantity 0" in told["acme"]["problem"]
    paid = desk.create(customer, TEAM, quantity=3)
    await reconciled()
    assert await desk.tiers() == {"acme": Tier.TEAM}
    desk.order("turn", subscription=paid, status="canceled")
    async with connected(read(), desk.key) as client:
        found = await read_customer(client, customer)
    assert found is not None
    idle, ended = sorted(found.subscriptions, key=lambda each: each.status)
    assert (idle.prices, idle.idle, idle.ended) == ((), (ENTERPRISE,), None)
    assert (ended.prices, ended.idle) == ((TEAM,), ())
    assert ended.began is not None
    assert ended.ended is not None
    assert ended.began == ended.period_began
    assert ended.began <= ended.ended


async def test_while_stripe_is_away_or_refuses_the_key_it_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.tenant("acme", "TEAM", desk.customer())
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_canarycanary")
    ended = await typed("billing", "reconcile")
    assert isinstance(ended.exception, SettingsError)
    assert "does not accept STRIPE_SECRET_KEY" in str(ended.exception)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "")
    ended = await typed("billing", "reconcile")
    assert "billing is off" in str(ended.exception)
    assert await desk.tiers() == {"acme": Tier.TEAM}
