"""Billing over HTTP: what Stripe delivers, and links to its pages, with its own library between."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx  # noqa: TID251 - a test is the browser, and Stripe
import pytest
import stripe
from sqlalchemy import text

import sandbox
from billing import cancellation, checkout
from billing.customers import Billing, opened, settle_due, settle_now
from billing.events import TYPES
from billing.stripe_api import connected, read_customer
from settings import Settings, SettingsError, read
from storage import Tier, endings, tenants
from storage import billing as ledger
from storage.database import Database
from tests._localstripe import (
    BILLING,
    KEY,
    WEBHOOK_SECRET,
    event,
    hint,
    local_stripe,
    running,
    signed,
)
from tests._sandboxed import KEY as MASTER_KEY
from tests._serving import serving
from tests._vendor import Answer, PlayedClock, Vendor, serve
from tests._waiting import found
from tests._web import JWT_SECRET, Api, problem, serving_api, web_process
from web.app import create_app

BACK = "http://127.0.0.1:3000/billing"
ORDER = {"tier": "TEAM", "success_url": BACK, "cancel_url": BACK}
TOLD = event("customer.subscription.updated", {"customer": "cus_1"})


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start(["stripe"]) as started:
        yield started


@dataclass(frozen=True)
class Business:
    """The platform's account at Stripe's sandbox, and what a person's browser does there."""

    settings: Settings
    client: stripe.StripeClient
    browser: httpx.AsyncClient
    account: str

    async def pays(self, page: str) -> None:
        paid = await self.browser.post(page, data={"decision": "pay"})
        assert paid.headers["location"] == BACK

    async def turn(self, subscription: str, status: str) -> None:
        """Brings a subscription to another status."""
        order = {"account": self.account, "subscription": subscription, "status": status}
        (await self.browser.post("/_control/stripe/turn", json=order)).raise_for_status()

    async def customers(self) -> int:
        events = await self.client.v1.events.list_async({"limit": 100})
        return sum(event.type == "customer.created" for event in events.data)


def settings_of(database_url: str, **more: Any) -> Settings:
    return read(
        _env_file=None,
        **{
            "database_url": database_url,
            "encryption_keys": MASTER_KEY,
            "jwt_secret": JWT_SECRET,
            "nextauth_url": "http://127.0.0.1:3000",
            **more,
        },
    )


@pytest.fixture
async def business(origin: str, database_url: str) -> AsyncIterator[Business]:
    async with httpx.AsyncClient(base_url=origin, timeout=60) as browser:
        account = (await browser.post("/_control/stripe/accounts", json={})).json()["id"]
        granted = await browser.post("/_control/stripe/grant", json={"account": account})
        key = granted.json()["access_token"]
        settings = settings_of(
            database_url, atom_sandbox_url=origin, stripe_secret_key=key,
            stripe_webhook_secret=WEBHOOK_SECRET, stripe_price_id_solo="price_1SandboxSolo",
            stripe_price_id_team="price_1SandboxTeam,price_1SandboxFormer",
            stripe_price_id_enterprise="price_1SandboxEnterprise",
        )  # fmt: skip
        async with connected(settings, key) as client:
            yield Business(settings, client, browser, account)


@pytest.fixture
async def api(business: Business) -> AsyncIterator[Api]:
    async with serving_api(business.settings) as served:
        yield served


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme", "FREE", "ops@acme.example")).id


async def becomes(database: Database, tenant_id: UUID, tier: Tier) -> None:
    """Within ten seconds on a machine that has nothing else to do."""

    async def it_is() -> bool:
        return (await tenants.get(database, tenant_id)).tier is tier

    await found(it_is)


async def delivered(api: Api, told: Any, **options: Any) -> httpx.Response:
    body, signature = signed(told, **options)
    headers = {"stripe-signature": signature, "content-type": "application/json"}
    return await api.http.post("/api/billing/stripe", content=body, headers=headers)


async def events_of(database: Database) -> list[str]:
    async with database.owning() as session:
        return list(await session.scalars(text("SELECT event_id FROM billing_events")))


async def test_an_event_is_stored_before_it_is_answered_and_once(
    api: Api, database: Database
) -> None:
    first = await delivered(api, TOLD)
    assert (first.status_code, first.json()) == (200, {"status": "taken"})
    assert await events_of(database) == [TOLD["id"]]
    assert (await delivered(api, TOLD)).json() == {"status": "known"}
    assert (await delivered(api, event("product.created", {}))).json() == {"status": "ignored"}
    assert await events_of(database) == [TOLD["id"]]


async def test_what_is_not_proven_is_refused_and_stores_nothing(
    api: Api, database: Database
) -> None:
    problem(await delivered(api, TOLD, secret="whsec_strangerstranger"), 401)
    problem(await delivered(api, TOLD, at=int(time.time()) - 3_600), 401)
    problem(await api.http.post("/api/billing/stripe", content=b"{}"), 401)
    body, signature = signed(TOLD)
    headers = {"stripe-signature": signature}
    changed = body.replace(b"cus_1", b"cus_2")
    problem(await api.http.post("/api/billing/stripe", content=changed, headers=headers), 401)
    assert await events_of(database) == []


async def test_what_is_proven_and_no_event_of_ours_is_told_apart(
    api: Api, database: Database
) -> None:
    problem(await delivered(api, {"object": "v2.core.event", "id": "evt_1"}), 400)
    detail = problem(await delivered(api, {**TOLD, "livemode": True}), 400)["detail"]
    assert "another mode" in detail
    assert await events_of(database) == []


async def test_a_body_has_a_limit_that_events_do_not_reach(api: Api) -> None:
    big = {**TOLD, "data": {"object": {"customer": "cus_1", "lines": ["x" * 200] * 2_000}}}
    assert (await delivered(api, big)).status_code == 200
    problem(await api.http.post("/api/billing/stripe", content=b" " * (4 * 1024 * 1024 + 1)), 413)


async def test_without_a_secret_events_are_not_taken(
    business: Business, database: Database
) -> None:
    for secret in (None, "", " , "):
        closed = read(
            _env_file=None,
            **dict(business.settings) | {"stripe_webhook_secret": secret},
        )
        async with serving_api(closed) as api:
            problem(await delivered(api, TOLD, secret=secret or "x"), 404)


async def test_without_a_key_billing_is_off(database_url: str, acme: UUID) -> None:
    settings = settings_of(database_url, stripe_webhook_secret=WEBHOOK_SECRET)
    async with serving_api(settings) as api:
        answers = [
            await delivered(api, TOLD),
            await api.as_(acme).post("/api/billing/checkout", ORDER),
            await api.as_(acme).post("/api/billing/portal", {"return_url": BACK}),
        ]
    for answer in answers:
        assert "STRIPE_SECRET_KEY" in problem(answer, 503)["detail"]


async def test_a_tenant_buys_at_stripe_changes_and_ends_it_in_the_portal(
    business: Business, database: Database, acme: UUID
) -> None:
    endpoints: Any = business.client.v1.webhook_endpoints
    made = await endpoints.create_async(
        {"url": "https://app.example.com", "enabled_events": list(TYPES)}
    )
    settings = read(
        _env_file=None, **dict(business.settings) | {"stripe_webhook_secret": made.secret}
    )
    async with serving_api(settings) as api:
        url = f"{str(api.http.base_url).rstrip('/')}/api/billing/stripe"
        await endpoints.update_async(made.id, {"url": url})
        link = (await api.as_(acme).post("/api/billing/checkout", ORDER)).json()
        assert link["expires_at"]
        await business.pays(link["url"])
        await becomes(database, acme, Tier.TEAM)
        again = await api.as_(acme).post("/api/billing/checkout", ORDER)
        assert "change it in the portal" in problem(again, 409)["detail"]
        portal = await api.as_(acme).post("/api/billing/portal", {"return_url": BACK})
        assert portal.status_code == 201
        first, again = [
            await api.as_(acme).call(
                "POST", "/api/billing/portal", json={"return_url": BACK},
                headers={"idempotency-key": "portal-1"},
            )
            for _ in range(2)
        ]  # fmt: skip
        assert first.json() == again.json()
        assert first.json()["url"] != portal.json()["url"]
        payer = await ledger.payer(database, acme)
        assert payer is not None
        change = {"subscription": payer.subscription_id, "price": "price_1SandboxEnterprise"}
        await business.browser.post(portal.json()["url"], data=change)
        await becomes(database, acme, Tier.ENTERPRISE)
        end = {"subscription": payer.subscription_id, "decision": "cancel"}
        await business.browser.post(portal.json()["url"], data=end)
        await becomes(database, acme, Tier.FREE)
        assert (await api.as_(acme).post("/api/billing/checkout", ORDER)).status_code == 201


async def test_a_customer_is_made_once_and_says_whose_it_is(
    api: Api, business: Business, database: Database, acme: UUID
) -> None:
    answers = await asyncio.gather(
        *(api.as_(acme).post("/api/billing/checkout", ORDER) for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert await business.customers() == 1
    payer = await ledger.payer(database, acme)
    assert payer is not None
    found = (await business.client.v1.customers.retrieve_async(payer.customer_id)).to_dict()
    assert (found["metadata"], found["email"]) == ({"tenant_id": str(acme)}, "ops@acme.example")
    sessions = {answer.json()["url"].rpartition("/")[2] for answer in answers}
    for id in sessions:
        session = await business.client.v1.checkout.sessions.retrieve_async(id)
        assert (session.client_reference_id, session.customer) == (str(acme), payer.customer_id)


async def test_the_same_idempotency_key_gives_the_same_link(api: Api, acme: UUID) -> None:
    async def link(key: str, **more: str) -> httpx.Response:
        return await api.as_(acme).call(
            "POST", "/api/billing/checkout", json={**ORDER, **more},
            headers={"idempotency-key": key},
        )  # fmt: skip

    first, again, other = await link("order-1"), await link("order-1"), await link("order-2")
    assert first.json() == again.json()
    assert other.json()["url"] != first.json()["url"]
    assert "with this key" in problem(await link("order-1", tier="SOLO"), 409)["detail"]
    problem(await link("not a key"), 422)


async def test_a_key_stands_for_a_purchase_that_is_still_open(
    api: Api, business: Business, database: Database, acme: UUID
) -> None:
    async def link(**more: str) -> httpx.Response:
        return await api.as_(acme).call(
            "POST", "/api/billing/checkout", json={**ORDER, **more},
            headers={"idempotency-key": "order-1"},
        )  # fmt: skip

    first = (await link()).json()["url"]
    await business.pays(first)
    assert (await business.browser.get(first)).status_code == 410
    async with billing_of(business, database) as billing:
        payer = await ledger.payer(database, acme)
        assert payer is not None
        await cancellation.end(billing, acme)
    answers = await asyncio.gather(*(link(tier="SOLO") for _ in range(3)))
    (second,) = {answer.json()["url"] for answer in answers}
    assert second != first
    assert (await business.browser.get(second)).status_code == 200
    assert "still open" in problem(await link(), 409)["detail"]
    await business.client.v1.checkout.sessions.expire_async(second.rpartition("/")[2])
    third = (await link()).json()["url"]
    assert third not in {first, second}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("incomplete", "first payment of sub_"), ("past_due", "in the portal"),
        ("unpaid", "in the portal"), ("paused", "in the portal"),
    ],
)  # fmt: skip
async def test_nothing_is_sold_beside_a_subscription_that_may_be_paid(
    api: Api, business: Business, database: Database, acme: UUID, status: str, told: str
) -> None:
    async with billing_of(business, database) as billing:
        customer = await buy(billing, acme)
    bought: Any = {"customer": customer, "items": [{"price": "price_1SandboxSolo"}]}
    made = await business.client.v1.subscriptions.create_async(bought)
    await business.turn(made.id, status)
    answer = await api.as_(acme).post("/api/billing/checkout", ORDER)
    assert told in problem(answer, 409)["detail"]
    await business.turn(made.id, "incomplete_expired")
    assert (await api.as_(acme).post("/api/billing/checkout", ORDER)).status_code == 201


async def test_another_product_does_not_keep_a_tenant_from_buying_nor_is_it_ended(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        customer = await buy(billing, acme)
        bought: Any = {"customer": customer, "items": [{"price": "price_1SandboxSeat"}]}
        other = await business.client.v1.subscriptions.create_async(bought)
        with pytest.raises(checkout.PurchaseError, match="already"):
            await buy(billing, acme)
        # What is not known to be ours is not ended: that could not be taken back.
        ended = await cancellation.end(billing, acme)
        assert f"{other.id} has no price that STRIPE_PRICE_ID_… names" in (ended.owed or "")
        rules = replace(billing.rules, ignored=frozenset({"price_1SandboxSeat"}))
        billing = replace(billing, rules=rules)
        assert await buy(billing, acme) == customer
        assert await cancellation.end(billing, acme) == cancellation.Ended()
        assert await endings.owed(database) == []
    assert (await business.client.v1.subscriptions.retrieve_async(other.id)).status == "active"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("checkout", {**ORDER, "success_url": "https://evil.example/"}, "success_url"),
        ("checkout", {**ORDER, "cancel_url": "javascript:alert(1)"}, "cancel_url"),
        ("portal", {"return_url": "https://127.0.0.1:3000@evil.example"}, "return_url"),
        ("checkout", {**ORDER, "tier": "FREE"}, "tier"),
        ("checkout", {**ORDER, "tenant_id": "another"}, "tenant_id"),
    ],
)
async def test_where_a_page_leads_back_to_and_what_is_bought_is_looked_at(
    api: Api, acme: UUID, path: str, body: dict[str, str], field: str
) -> None:
    answer = await api.as_(acme).post(f"/api/billing/{path}", body)
    assert field in problem(answer, 422)["detail"]


async def test_a_link_takes_a_scope_of_its_own_and_is_for_the_tokens_tenant(
    api: Api, business: Business, acme: UUID
) -> None:
    for path, body in (("checkout", ORDER), ("portal", {"return_url": BACK})):
        others = "connections:write settings:write"
        problem(await api.as_(acme, others).post(f"/api/billing/{path}", body), 403)
        problem(await api.post(f"/api/billing/{path}", body), 401)
        problem(await api.as_(UUID(int=9)).post(f"/api/billing/{path}", body), 404)
    assert await business.customers() == 0


async def test_who_has_bought_nothing_has_no_portal(api: Api, acme: UUID) -> None:
    answer = await api.as_(acme).post("/api/billing/portal", {"return_url": BACK})
    assert "bought nothing yet" in problem(answer, 409)["detail"]


async def test_why_there_is_no_portal_is_told(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        customer = await buy(billing, acme)
        async with of_another_account(business) as client:
            with pytest.raises(SettingsError, match=r"acme: .* of another account"):
                await checkout.portal(replace(billing, client=client), acme, return_url=BACK)
        await business.client.v1.customers.delete_async(customer)
        with pytest.raises(checkout.PurchaseError, match="deleted at Stripe: ask for a checkout"):
            await checkout.portal(billing, acme, return_url=BACK)
        with pytest.raises(checkout.PurchaseError, match="bought nothing yet"):
            await checkout.portal(billing, acme, return_url=BACK)
        await buy(billing, acme)
    with serve(Vendor()) as vendor:
        refused = Answer(status=400, body={"error": {"type": "invalid_request_error"}})
        nobody: Any = {"object": "list", "data": [], "has_more": False, "url": "/v1/subscriptions"}
        vendor.will(
            refused, Answer(body={"id": customer, "object": "customer"}), Answer(body=nobody)
        )
        settings = read(
            _env_file=None, **dict(business.settings) | {"atom_sandbox_url": vendor.origin}
        )
        async with opened(settings, database) as unset:
            assert unset is not None
            with pytest.raises(SettingsError, match="save the customer portal's settings of test"):
                await checkout.portal(unset, acme, return_url=BACK)


async def test_a_price_that_stripe_does_not_sell_is_named_with_its_setting(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        for price in ("price_1SandboxFormer", "price_of_another_account"):
            unsold = replace(billing, offers={Tier.TEAM: price})
            with pytest.raises(SettingsError, match=f"{price}: see STRIPE_PRICE_ID_TEAM"):
                await buy(unsold, acme)


async def test_a_customer_takes_the_place_of_one_that_is_gone_though_its_end_was_not_told(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        await business.client.v1.customers.delete_async(first)
        other: Any = {"metadata": {"tenant_id": str(acme)}}
        second = (await business.client.v1.customers.create_async(other)).id
        bought: Any = {"customer": second, "items": [{"price": "price_1SandboxSolo"}]}
        await business.client.v1.subscriptions.create_async(bought)
        told = event("customer.subscription.created", {"customer": second})
        await ledger.receive(database, hint(told), now=billing.clock.now())
        assert await settle_due(billing) == 1
        assert await settle_due(billing) == 1  # the first is looked at again
    assert (await tenants.get(database, acme)).tier is Tier.SOLO


async def test_a_customer_that_is_deleted_within_the_hour_is_made_anew(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        await business.client.v1.customers.delete_async(first)
        assert await settle_now(billing, first)
        # Stripe repeats its answer, which is a customer that is there no more.
        assert await buy(billing, acme) != first


async def test_a_customer_that_was_replaced_by_hand_is_not_sold_a_second_subscription(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        other: Any = {"metadata": {"tenant_id": str(acme)}}
        second = (await business.client.v1.customers.create_async(other)).id
        bought: Any = {"customer": second, "items": [{"price": "price_1SandboxSolo"}]}
        await business.client.v1.subscriptions.create_async(bought)
        assert await settle_now(billing, second)
        await business.client.v1.customers.delete_async(first)
        with pytest.raises(checkout.PurchaseError, match="there is a subscription already"):
            await buy(billing, acme)
    payer = await ledger.payer(database, acme)
    assert payer is not None
    assert (payer.customer_id, payer.tier) == (second, Tier.SOLO)


async def test_a_tier_that_is_not_for_sale_is_told(
    business: Business, database: Database, acme: UUID
) -> None:
    settings = read(_env_file=None, **dict(business.settings) | {"stripe_price_id_team": None})
    async with serving_api(settings) as api:
        answer = await api.as_(acme).post("/api/billing/checkout", ORDER)
    assert "STRIPE_PRICE_ID_TEAM" in problem(answer, 503)["detail"]


async def test_while_stripe_is_away_no_link_is_made_and_nothing_is_deleted(
    api: Api, business: Business, database: Database, acme: UUID
) -> None:
    assert (await api.as_(acme).post("/api/billing/checkout", ORDER)).status_code == 201
    await business.browser.post("/_control/stripe/faults", json={"kind": "503", "count": 100})
    try:
        answers = await asyncio.gather(
            api.as_(acme).post("/api/billing/checkout", ORDER),
            api.as_(scope="admin").call("DELETE", f"/api/tenants/{acme}"),
        )
    finally:
        await business.browser.delete("/_control/stripe/faults")
    for answer in answers:
        assert "Stripe answers 503" in problem(answer, 503)["detail"]
        assert answer.headers["retry-after"]
    assert await tenants.get(database, acme)


async def test_a_tenant_that_is_deleted_pays_no_more(
    api: Api, business: Business, database: Database, acme: UUID
) -> None:
    link = (await api.as_(acme).post("/api/billing/checkout", ORDER)).json()
    await business.pays(link["url"])
    payer = await ledger.payer(database, acme)
    assert payer is not None
    gone = await api.as_(scope="admin").call("DELETE", f"/api/tenants/{acme}")
    assert gone.status_code == 204
    found = await read_customer(business.client, payer.customer_id)
    assert found is not None
    assert [each.status for each in found.subscriptions] == ["canceled"]


async def test_what_an_erased_tenant_pays_for_is_owed_its_end_until_that_is_done(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        link = await checkout.checkout(billing, acme, Tier.TEAM, success_url=BACK, cancel_url=BACK)
        await business.pays(link.url)
        payer = await ledger.payer(database, acme)
        assert payer is not None
        other = (await business.browser.get("/_control")).json()["stripe"]["access_token"]
        settings = read(_env_file=None, **dict(business.settings) | {"stripe_secret_key": other})
        async with serving_api(settings) as api:
            gone = await api.as_(scope="admin").call("DELETE", f"/api/tenants/{acme}")
        assert gone.status_code == 202
        assert "of another account" in gone.json()["owed"]
        assert await tenants.all(database) == []
        (owed,) = await endings.owed(database)
        assert (owed.customer_id, owed.livemode) == (payer.customer_id, False)
        clock = PlayedClock(billing.clock.now())
        async with of_another_account(business) as client:
            cut_off = replace(billing, client=client, clock=clock)
            clock.at += timedelta(hours=2)
            assert await cancellation.end_owed(cut_off) == []
            assert await cancellation.end_owed(replace(billing, clock=clock)) == []
        clock.at += timedelta(hours=1)
        assert await cancellation.end_owed(replace(billing, clock=clock)) == [owed]
        assert await endings.owed(database) == []
    found = await read_customer(business.client, payer.customer_id)
    assert found is not None
    assert [each.status for each in found.subscriptions] == ["canceled"]


async def test_without_a_key_what_an_erased_tenant_pays_for_is_owed_its_end(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        customer = await buy(billing, acme)
    async with database.owning() as session:
        await session.execute(text("UPDATE billing_customers SET livemode = true"))
    settings = read(_env_file=None, **dict(business.settings) | {"stripe_secret_key": None})
    async with serving_api(settings) as api:
        gone = await api.as_(scope="admin").call("DELETE", f"/api/tenants/{acme}")
    assert (gone.status_code, gone.json()) == (202, {"owed": cancellation.NO_KEY})
    assert [each.customer_id for each in await endings.owed(database)] == [customer]


async def test_nothing_is_ended_of_a_tenant_that_is_there_still(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        customer = await buy(billing, acme)
        await endings.owe(
            database, customer, livemode=False, problem="it began", now=billing.clock.now()
        )
        assert await cancellation.end_owed(billing, all=True) == []
        assert await endings.owed(database) == []


async def test_a_page_that_is_open_cannot_be_paid_once_its_tenant_is_erased(
    api: Api, business: Business, database: Database, acme: UUID
) -> None:
    link = (await api.as_(acme).post("/api/billing/checkout", ORDER)).json()
    gone = await api.as_(scope="admin").call("DELETE", f"/api/tenants/{acme}")
    assert gone.status_code == 204
    assert (await business.browser.get(link["url"])).status_code == 410


async def test_a_tenant_that_is_erased_twice_at_once_is_erased(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        link = await checkout.checkout(billing, acme, Tier.TEAM, success_url=BACK, cancel_url=BACK)
        await business.pays(link.url)
        # All read what is paid for before one of them has ended it.
        ended = await asyncio.gather(*(cancellation.end(billing, acme) for _ in range(4)))
    assert [each.owed for each in ended] == [None] * 4


@contextlib.asynccontextmanager
async def of_another_account(business: Business) -> AsyncIterator[stripe.StripeClient]:
    other = (await business.browser.get("/_control")).json()["stripe"]["access_token"]
    async with connected(business.settings, other) as client:
        yield client


@contextlib.asynccontextmanager
async def billing_of(business: Business, database: Database) -> AsyncIterator[Billing]:
    async with opened(business.settings, database) as billing:
        assert billing is not None
        yield billing


async def buy(billing: Billing, tenant_id: UUID) -> str:
    link = await checkout.checkout(billing, tenant_id, Tier.TEAM, success_url=BACK, cancel_url=BACK)
    payer = await ledger.payer(billing.database, tenant_id)
    assert payer is not None
    assert link.url
    return payer.customer_id


async def test_a_customer_that_was_deleted_is_replaced_and_pays_for_nothing(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        await tenants.set_tier(database, "acme", "TEAM")
        async with database.owning() as session:
            await session.execute(text("UPDATE tenants SET stripe_subscription_id = 'sub_1'"))
        await business.client.v1.customers.delete_async(first)
        assert await buy(billing, acme) != first
    assert (await tenants.get(database, acme)).tier is Tier.FREE


async def test_a_test_customer_makes_room_for_a_live_one_and_never_the_other_way(
    business: Business, database: Database, acme: UUID
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        live = replace(billing, livemode=True)
        assert (
            await cancellation.end(live, acme) == cancellation.Ended()
        )  # nobody is charged for a test
        second = await buy(live, acme)
        assert second != first
        assert await buy(live, acme) == second
        with pytest.raises(SettingsError, match="of live mode, and STRIPE_SECRET_KEY of test"):
            await buy(billing, acme)
        with pytest.raises(SettingsError, match="of live mode"):
            await checkout.portal(billing, acme, return_url=BACK)
        with pytest.raises(SettingsError, match="acme may be paying"):
            await cancellation.end(billing, acme)


async def test_a_key_of_another_account_replaces_no_customer(
    business: Business, database: Database, acme: UUID, origin: str
) -> None:
    async with billing_of(business, database) as billing:
        first = await buy(billing, acme)
        async with of_another_account(business) as client:
            with pytest.raises(SettingsError, match="another account"):
                await buy(replace(billing, client=client), acme)
        assert await buy(billing, acme) == first


async def test_what_localstripe_delivers_by_itself_is_taken(
    database: Database, database_url: str, acme: UUID
) -> None:
    with running() as at:
        settings = settings_of(database_url, **BILLING, atom_sandbox_url=at)
        async with serving(create_app(settings)) as ours, local_stripe(at, settings) as local:
            async with httpx.AsyncClient(
                base_url=f"{at}/api.stripe.com", auth=(KEY, ""), timeout=60
            ) as http:
                hook = {"url": f"{ours}/api/billing/stripe", "secret": WEBHOOK_SECRET}
                (await http.post("/_config/webhooks/ours", json=hook)).raise_for_status()
            subscription = await local.subscribe(await local.customer(acme), "price_team")
            await becomes(database, acme, Tier.TEAM)
            await local.cancel(subscription)
            await becomes(database, acme, Tier.FREE)
            stored = await events_of(database)
            told = {each["id"] for each in await local.events(*TYPES)}
    assert set(stored) == told


async def test_killed_after_the_commit_the_next_process_carries_the_event_out(
    business: Business, database: Database, acme: UUID, tmp_path: Path
) -> None:
    async with billing_of(business, database) as billing:
        link = await checkout.checkout(billing, acme, Tier.TEAM, success_url=BACK, cancel_url=BACK)
    await business.pays(link.url)
    payer = await ledger.payer(database, acme)
    assert payer is not None
    told = event("checkout.session.completed", {"customer": payer.customer_id})
    # Every read hangs, so that the process is killed between the commit and its effect.
    await business.browser.post(
        "/_control/stripe/faults", json={"kind": "hang", "count": 100, "seconds": 60}
    )
    try:
        async with web_process(business.settings, tmp_path) as (process, api):
            assert (await delivered(api, told)).json() == {"status": "taken"}
            process.kill()
    finally:
        await business.browser.delete("/_control/stripe/faults")
    assert await events_of(database) == [told["id"]]
    assert (await tenants.get(database, acme)).tier is Tier.FREE
    async with database.owning() as session:
        # The claim of the dead runs out in two minutes.
        await session.execute(text("UPDATE billing_customers SET claimed_until = now()"))
    async with serving_api(business.settings):
        await becomes(database, acme, Tier.TEAM)
