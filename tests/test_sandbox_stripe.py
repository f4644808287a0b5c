"""Stripe's sandbox for billing, judged by Stripe's own library and by a browser's requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - a test is the browser, and orders at the sandbox's controls
import pytest
import stripe

import sandbox
from billing.stripe_api import connected
from settings import read
from tests._vendor import Answer, Vendor, serve

SOLO, TEAM, SEAT = "price_1SandboxSolo", "price_1SandboxTeam", "price_1SandboxSeat"
BACK = "https://app.example.com/billing"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start(["stripe"]) as started:
        yield started


@dataclass(frozen=True)
class Place:
    client: stripe.StripeClient
    browser: httpx.AsyncClient
    account: str

    async def order(self, control: str, **body: Any) -> Any:
        answer = await self.browser.post(
            f"/_control/stripe/{control}", json={"account": self.account, **body}
        )
        answer.raise_for_status()
        return answer.json()

    async def checkout(self, customer: str, **more: Any) -> Any:
        asked: Any = {
            "mode": "subscription",
            "customer": customer,
            "line_items": [{"price": TEAM, "quantity": 1}],
            "success_url": f"{BACK}?session={{CHECKOUT_SESSION_ID}}",
            "cancel_url": BACK,
            **more,
        }
        return await self.client.v1.checkout.sessions.create_async(asked)

    async def customer(self) -> str:
        return (await self.client.v1.customers.create_async({"name": "Acme"})).id

    async def events(self) -> list[str]:
        page = await self.client.v1.events.list_async({"limit": 100})
        return [str(event.type) for event in page.data][::-1]


@pytest.fixture
async def place(origin: str) -> AsyncIterator[Place]:
    async with httpx.AsyncClient(base_url=origin, timeout=60) as browser:
        account = (await browser.post("/_control/stripe/accounts", json={})).json()["id"]
        granted = await browser.post("/_control/stripe/grant", json={"account": account})
        settings = read(_env_file=None, atom_sandbox_url=origin)
        async with connected(settings, granted.json()["access_token"]) as client:
            yield Place(client, browser, account)


async def test_a_customer_is_made_changed_and_deleted_with_all_it_pays_for(place: Place) -> None:
    customers = place.client.v1.customers
    made = await customers.create_async({"name": "Acme", "metadata": {"tenant_id": "t", "x": "1"}})
    assert (made.name, made.to_dict()["metadata"]) == ("Acme", {"tenant_id": "t", "x": "1"})
    await customers.update_async(made.id, {"metadata": {"x": ""}})
    found = await customers.retrieve_async(made.id)
    assert found.to_dict()["metadata"] == {"tenant_id": "t"}
    paid = await place.client.v1.subscriptions.create_async(
        {"customer": made.id, "items": [{"price": SOLO}]}
    )
    assert (await customers.delete_async(made.id)).deleted
    assert (await customers.retrieve_async(made.id)).deleted
    assert (await place.client.v1.subscriptions.retrieve_async(paid.id)).status == "canceled"
    assert await place.events() == [
        "customer.created", "customer.updated", "customer.subscription.created",
        "customer.subscription.deleted", "customer.deleted",
    ]  # fmt: skip


async def test_what_is_not_there_or_not_understood_is_refused_as_stripe_does(place: Place) -> None:
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await place.client.v1.customers.retrieve_async("cus_unknown")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as named:
        await place.client.v1.subscriptions.list_async({"customer": "cus_unknown"})
    assert (named.value.http_status, named.value.param) == (400, "customer")
    odd: Any = {"nickname": "x"}
    with pytest.raises(stripe.InvalidRequestError) as parameter:
        await place.client.v1.customers.create_async(odd)
    assert parameter.value.code == "parameter_unknown"
    archived: Any = [{"price": "price_1SandboxFormer"}]
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        await place.checkout(await place.customer(), line_items=archived)


async def test_a_key_that_is_none_is_refused(origin: str) -> None:
    settings = read(_env_file=None, atom_sandbox_url=origin)
    async with connected(settings, "sk_test_canary") as client:
        with pytest.raises(stripe.AuthenticationError):
            await client.v1.balance.retrieve_async()


async def test_subscriptions_are_listed_by_pages_and_ended_ones_only_when_asked_for(
    place: Place,
) -> None:
    customer, subscriptions = await place.customer(), place.client.v1.subscriptions
    made = [
        (await place.order("subscribe", customer=customer, prices=[SOLO, SEAT], status=status))
        for status in ("canceled", "active", "unpaid", "past_due", "incomplete_expired")
    ]
    newest_first = [each["id"] for each in made][::-1]
    page = await subscriptions.list_async({"customer": customer, "status": "all", "limit": 2})
    assert page.has_more
    assert [each.id async for each in page.auto_paging_iter()] == newest_first
    shown = await subscriptions.list_async({"customer": customer})
    assert [each.status for each in shown.data] == ["past_due", "unpaid", "active"]
    items = await place.client.v1.subscription_items.list_async({"subscription": made[1]["id"]})
    assert [each.price.id for each in items.data] == [SOLO, SEAT]


async def test_a_repeated_key_gives_the_first_answer_and_other_parameters_an_error(
    place: Place,
) -> None:
    customers = place.client.v1.customers
    first = await customers.create_async({"name": "Acme"}, {"idempotency_key": "once"})
    again = await customers.create_async({"name": "Acme"}, {"idempotency_key": "once"})
    assert (first.id, await place.events()) == (again.id, ["customer.created"])
    with pytest.raises(stripe.IdempotencyError):
        await customers.create_async({"name": "Other"}, {"idempotency_key": "once"})


async def test_who_pays_at_a_checkout_is_subscribed_and_sent_back(place: Place) -> None:
    customer = await place.customer()
    session = await place.checkout(
        customer, client_reference_id="t", subscription_data={"metadata": {"tenant_id": "t"}}
    )
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert TEAM in (await place.browser.get(session.url)).text
    paid = await place.browser.post(session.url, data={"decision": "pay"})
    assert paid.status_code == 303
    assert paid.headers["location"] == f"{BACK}?session={session.id}"
    found = await place.client.v1.checkout.sessions.retrieve_async(session.id)
    assert (found.status, found.payment_status, found.url) == ("complete", "paid", None)
    (subscription,) = (await place.client.v1.subscriptions.list_async({"customer": customer})).data
    assert subscription.id == found.subscription
    assert (subscription.status, subscription.to_dict()["metadata"]) == (
        "active",
        {"tenant_id": "t"},
    )
    assert (await place.events())[-2:] == [
        "customer.subscription.created", "checkout.session.completed",
    ]  # fmt: skip
    assert (await place.browser.post(session.url, data={"decision": "pay"})).status_code == 410


async def test_who_leaves_a_checkout_or_comes_too_late_buys_nothing(place: Place) -> None:
    customer = await place.customer()
    session = await place.checkout(customer)
    left = await place.browser.post(session.url, data={"decision": "cancel"})
    assert left.headers["location"] == BACK
    await place.browser.post("/_control/clock", json={"advance": 86_401})
    assert (await place.browser.get(session.url)).status_code == 410
    assert (await place.browser.post(session.url, data={"decision": "pay"})).status_code == 410
    assert (await place.client.v1.subscriptions.list_async({"customer": customer})).data == []


async def test_in_the_portal_a_subscription_is_changed_and_ended(place: Place) -> None:
    customer = await place.customer()
    made = await place.order("subscribe", customer=customer, prices=[SOLO])
    session = await place.client.v1.billing_portal.sessions.create_async(
        {"customer": customer, "return_url": BACK}
    )
    page = (await place.browser.get(session.url)).text
    assert made["id"] in page
    assert BACK in page
    change = {"subscription": made["id"], "price": TEAM}
    assert (await place.browser.post(session.url, data=change)).status_code == 303
    found = await place.client.v1.subscriptions.retrieve_async(made["id"])
    assert [item["price"]["id"] for item in found.to_dict()["items"]["data"]] == [TEAM]
    end = {"subscription": made["id"], "decision": "cancel"}
    await place.browser.post(session.url, data=end)
    assert (await place.client.v1.subscriptions.retrieve_async(made["id"])).status == "canceled"
    other = {"subscription": "sub_of_another", "decision": "cancel"}
    assert (await place.browser.post(session.url, data=other)).status_code == 404


async def test_an_endpoint_hears_of_what_it_asked_for_signed_with_its_secret(place: Place) -> None:
    endpoints: Any = place.client.v1.webhook_endpoints
    with serve(Vendor()) as app:
        app.will(Answer(body={}))
        made = await endpoints.create_async(
            {"url": f"{app.origin}/hooks", "enabled_events": ["customer.subscription.created"]}
        )
        assert not hasattr(await endpoints.retrieve_async(made.id), "secret")
        customer = await place.customer()
        await place.order("subscribe", customer=customer, prices=[SOLO])
        deadline = time.monotonic() + 30
        while not app.calls:
            assert time.monotonic() < deadline, "nothing was delivered"
            await asyncio.sleep(0.02)
        await endpoints.delete_async(made.id)
        (call,) = app.calls
    event = stripe.Webhook.construct_event(call.body, call.headers["stripe-signature"], made.secret)
    assert event.type == "customer.subscription.created"
    assert event.to_dict()["data"]["object"]["customer"] == customer
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(call.body, call.headers["stripe-signature"], "whsec_other")
    with pytest.raises(stripe.InvalidRequestError):
        await endpoints.retrieve_async(made.id)


async def test_one_business_sees_nothing_of_another(place: Place, origin: str) -> None:
    customer = await place.customer()
    async with httpx.AsyncClient(base_url=origin, timeout=60) as http:
        key = (await http.get("/_control")).json()["stripe"]["access_token"]
    settings = read(_env_file=None, atom_sandbox_url=origin)
    async with connected(settings, key) as client:
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.retrieve_async(customer)
        assert (await client.v1.events.list_async({})).data == []


@pytest.mark.parametrize(
    ("control", "body"),
    [
        ("subscribe", {"customer": "cus_1", "prices": ["price_none"]}),
        ("subscribe", {"customer": "cus_1", "prices": [SOLO], "status": "none"}),
        ("turn", {"subscription": "sub_none", "status": "unpaid"}),
    ],
)
async def test_a_wrong_order_is_refused(place: Place, control: str, body: dict[str, Any]) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        await place.order(control, **body)
