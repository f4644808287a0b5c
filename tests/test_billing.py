"""Who pays what: real subscriptions at localstripe, events in any order, Stripe away and back."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from billing import stripe_api
from billing.cancellation import end
from billing.customers import Billing, opened, settle_due, settle_now
from billing.stripe_api import read_customer
from connectors import ContractError, ProviderUnavailableError, RateLimitedError
from settings import Settings, SettingsError, read
from storage import Tier, check, migrate, tenants
from storage import billing as ledger
from storage.database import Database
from storage.subscriptions import Standing
from tests._localstripe import (
    BAD_CARD,
    BILLING,
    GOOD_CARD,
    LocalStripe,
    event,
    hint,
    local_stripe,
    running,
)
from tests._migrated import migrate_to
from tests._stored import stock
from tests._vendor import Answer, PlayedClock, Vendor, serve


@pytest.fixture(scope="session")
def stripe_origin() -> Iterator[str]:
    with running() as origin:
        yield origin


def settings_of(origin: str, **more: Any) -> Settings:
    return read(_env_file=None, **{**BILLING, "atom_sandbox_url": origin, **more})


@pytest.fixture
async def stripe(stripe_origin: str) -> AsyncIterator[LocalStripe]:
    async with local_stripe(stripe_origin, settings_of(stripe_origin)) as local:
        yield local


@dataclass(frozen=True)
class Till:
    """Billing on a clock that a test moves, and what it made of things."""

    billing: Billing
    clock: PlayedClock

    @property
    def database(self) -> Database:
        return self.billing.database

    async def told(self, *events: dict[str, Any]) -> None:
        """Events come in, and whatever is due is read."""
        for each in events:
            await ledger.receive(self.database, hint(each), now=self.clock.now())
        await self.settled()

    async def settled(self) -> int:
        return await settle_due(self.billing)

    async def tier(self, slug: str = "acme") -> Tier:
        return (await tenants.by_slug(self.database, slug)).tier

    async def passes(self, **time: float) -> None:
        self.clock.at += timedelta(**time)
        await self.settled()

    async def problems(self) -> dict[str, str]:
        return (await ledger.troubles(self.database))[0]


@asynccontextmanager
async def till_of(settings: Settings, database: Database) -> AsyncIterator[Till]:
    clock = PlayedClock(datetime.now(UTC))
    async with opened(settings, database, clock=clock) as billing:
        assert billing is not None
        yield Till(billing, clock)


@pytest.fixture
async def till(stripe: LocalStripe, database: Database) -> AsyncIterator[Till]:
    async with till_of(settings_of(stripe.origin), database) as made:
        yield made


async def tenant(till: Till, slug: str = "acme", tier: str = "FREE") -> UUID:
    return (await tenants.create(till.database, slug, slug.title(), tier)).id


async def subscribed(
    till: Till, stripe: LocalStripe, price: str = "price_team", slug: str = "acme"
) -> tuple[str, str]:
    """A tenant that pays: its customer and its subscription."""
    tenant_id = await tenant(till, slug)
    customer = await stripe.customer(tenant_id)
    subscription = await stripe.subscribe(customer, price)
    await till.told(await stripe.updated(subscription))
    return customer, subscription


async def test_what_is_paid_for_is_given_and_taken(till: Till, stripe: LocalStripe) -> None:
    customer, subscription = await subscribed(till, stripe, "price_solo")
    assert await till.tier() is Tier.SOLO
    await stripe.move(subscription, "price_enterprise")
    await till.told(await stripe.updated(subscription))
    assert await till.tier() is Tier.ENTERPRISE
    payer = await ledger.payer(till.database, (await tenants.by_slug(till.database, "acme")).id)
    assert payer is not None
    assert (payer.customer_id, payer.subscription_id) == (customer, subscription)
    await stripe.cancel(subscription)
    await till.told(*await stripe.events("customer.subscription.deleted"))
    assert await till.tier() is Tier.FREE


async def test_a_former_price_of_a_tier_counts_the_same(till: Till, stripe: LocalStripe) -> None:
    rules = replace(till.billing.rules, prices={"price_odd": Tier.ENTERPRISE})
    till = replace(till, billing=replace(till.billing, rules=rules))
    await subscribed(till, stripe, "price_odd")
    assert await till.tier() is Tier.ENTERPRISE
    assert till.billing.offers[Tier.ENTERPRISE] == "price_enterprise"


async def test_an_event_is_taken_once(till: Till, stripe: LocalStripe) -> None:
    _, subscription = await subscribed(till, stripe)
    again = hint(await stripe.updated(subscription))
    assert await ledger.receive(till.database, again, now=till.clock.now())
    assert await till.settled() == 1
    assert not await ledger.receive(till.database, again, now=till.clock.now())
    assert await till.settled() == 0


async def test_one_event_that_comes_many_times_at_once_is_taken_once(
    till: Till, stripe: LocalStripe
) -> None:
    told = hint(event("customer.subscription.updated", {"customer": "cus_1"}))
    taken = await asyncio.gather(
        *(ledger.receive(till.database, told, now=till.clock.now()) for _ in range(8))
    )
    assert sorted(taken) == [False] * 7 + [True]


async def a_years_steps(stripe: LocalStripe, customer: str) -> AsyncIterator[dict[str, Any]]:
    """Bought, moved, not paid, paid, ended, bought again; after each the event that tells of it."""
    first = await stripe.subscribe(customer, "price_solo")
    yield await stripe.updated(first)
    await stripe.move(first, "price_team")
    yield await stripe.updated(first)
    await stripe.bill(customer, first, BAD_CARD)
    yield (await stripe.events("invoice.payment_failed"))[-1]
    await stripe.bill(customer, first, GOOD_CARD)
    yield await stripe.updated(first)
    await stripe.cancel(first)
    yield (await stripe.events("customer.subscription.deleted"))[-1]
    await stripe.subscribe(customer, "price_enterprise")
    yield (await stripe.events("customer.subscription.created"))[-1]


STEPS = 6


async def test_in_whatever_order_and_however_often_events_come_the_end_is_the_same(
    till: Till, stripe: LocalStripe
) -> None:
    loop, number = asyncio.get_running_loop(), iter(range(1_000))
    # How many steps late each event is, and how late its second copy, if there is one.
    late = st.lists(st.integers(0, STEPS), min_size=STEPS, max_size=STEPS)
    again = st.lists(st.none() | st.integers(0, STEPS), min_size=STEPS, max_size=STEPS)

    async def ends(late: list[int], again: list[int | None]) -> None:
        await stripe.sells()
        slug = f"tenant-{next(number)}"
        customer = await stripe.customer(await tenant(till, slug))
        arriving: dict[int, list[dict[str, Any]]] = {}
        step = 0
        async for told in a_years_steps(stripe, customer):
            for delay in (late[step], again[step]):
                if delay is not None:
                    arriving.setdefault(step + delay, []).append(told)
            await till.told(*reversed(arriving.pop(step, [])))
            step += 1
        for step in sorted(arriving):
            await till.told(*reversed(arriving[step]))
        assert await till.tier(slug) is Tier.ENTERPRISE
        assert await till.settled() == 0

    # Each example takes a good part of a second: none is spent on making a failure smaller.
    phases = (Phase.explicit, Phase.generate)

    @settings(max_examples=8, database=None, phases=phases)
    @given(late, again)
    def any_order(late: list[int], again: list[int | None]) -> None:
        asyncio.run_coroutine_threadsafe(ends(late, again), loop).result(60)

    await asyncio.to_thread(any_order)


async def test_an_answer_that_was_overtaken_is_not_written(till: Till, stripe: LocalStripe) -> None:
    customer, subscription = await subscribed(till, stripe)
    database, now = till.database, till.clock.now()
    slow = await ledger.claim(database, customer, livemode=False, now=now)
    old = await read_customer(stripe.client, customer)
    assert old is not None
    await stripe.cancel(subscription)
    assert await settle_now(till.billing, customer)
    assert await till.tier() is Tier.FREE
    assert await ledger.settle(database, slow, old, till.billing.rules, now=now) is None
    await ledger.put_off(database, slow, now=now)
    assert not await ledger.set_aside(database, slow, "overtaken", now=now)
    assert await till.tier() is Tier.FREE
    assert await till.problems() == {}


async def test_an_event_that_comes_while_its_customer_is_read_is_not_lost(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    database, now = till.database, till.clock.now()
    reading = await ledger.claim(database, customer, livemode=False, now=now)
    old = await read_customer(stripe.client, customer)
    assert old is not None
    await stripe.cancel(subscription)
    (ended,) = await stripe.events("customer.subscription.deleted")
    await till.told(ended)
    assert await till.tier() is Tier.TEAM  # nobody reads it twice at once
    assert await ledger.settle(database, reading, old, till.billing.rules, now=now)
    assert await till.settled() == 1
    assert await till.tier() is Tier.FREE


async def test_a_customer_that_gets_its_tenant_while_it_is_read_is_not_forgotten(
    till: Till, stripe: LocalStripe
) -> None:
    tenant_id, customer = await tenant(till), await stripe.customer()
    await stripe.subscribe(customer, "price_team")
    database, now = till.database, till.clock.now()
    reading = await ledger.claim(database, customer, livemode=False, now=now)
    unsold = replace(till.billing.rules, prices={})
    found = await read_customer(stripe.client, customer)
    assert found is not None
    async with database.owning() as session:
        # As a checkout does, in the moment after nobody was found to have it.
        await session.execute(
            text("UPDATE billing_customers SET tenant_id = :tenant"), {"tenant": tenant_id}
        )
    assert await ledger.settle(database, reading, found, unsold, now=now)
    async with database.owning() as session:
        await session.execute(
            text("UPDATE tenants SET stripe_customer_id = :customer"), {"customer": customer}
        )
    assert await till.settled() == 1
    assert await till.tier() is Tier.TEAM


async def test_whoever_dies_while_reading_is_followed_by_another(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.cancel(subscription)
    await ledger.claim(till.database, customer, livemode=False, now=till.clock.now())
    await till.told(*await stripe.events("customer.subscription.deleted"))
    assert await till.tier() is Tier.TEAM
    await till.passes(seconds=ledger.CLAIM.total_seconds() + 1)
    assert await till.tier() is Tier.FREE


async def test_a_failed_payment_is_borne_for_a_week_and_then_the_tier_is_free(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.told(*await stripe.events("invoice.payment_failed"))
    await till.passes(days=6, hours=23)
    assert await till.tier() is Tier.TEAM
    # Another event about the same does not begin the week anew.
    await till.told(await stripe.updated(subscription))
    await till.passes(minutes=61)
    assert await till.tier() is Tier.FREE
    await stripe.bill(customer, subscription, GOOD_CARD)
    await till.told(await stripe.updated(subscription))
    assert await till.tier() is Tier.TEAM


async def test_who_pays_within_the_time_of_grace_never_loses_the_tier(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.told(*await stripe.events("invoice.payment_failed"))
    await till.passes(days=5)
    await stripe.bill(customer, subscription, GOOD_CARD)
    # The event that tells of it is lost: it is read again when the time is over, at the latest.
    await till.passes(days=2, minutes=1)
    assert await till.tier() is Tier.TEAM
    for _ in range(8):
        await till.passes(days=1)
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.passes(days=1)
    await till.passes(days=6)
    assert await till.tier() is Tier.TEAM  # the second failure has a week of its own


async def test_an_upgrade_of_which_the_payment_failed_gives_nothing_until_it_is_paid(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe, "price_solo")
    await stripe.move(subscription, "price_enterprise")
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.told(*await stripe.events("invoice.payment_failed"))
    assert await till.tier() is Tier.SOLO
    # It is paid after all, and the next payment fails soon: the week is counted from the first.
    await till.passes(days=3)
    await stripe.bill(customer, subscription, GOOD_CARD)
    await till.told(await stripe.updated(subscription))
    assert await till.tier() is Tier.ENTERPRISE
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.told(await stripe.updated(subscription))
    await till.passes(days=3)
    assert await till.tier() is Tier.ENTERPRISE
    await till.passes(days=1)
    assert await till.tier() is Tier.FREE


async def test_another_product_on_the_same_customer_gives_and_holds_nothing(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe, "price_enterprise")
    other = await stripe.subscribe(customer, "price_odd")
    await till.told(await stripe.updated(other))
    assert await ledger.unknown_prices(till.database) == {"price_odd": 1}
    await stripe.cancel(subscription)
    await till.told(*await stripe.events("customer.subscription.deleted"))
    assert await till.tier() is Tier.FREE
    await till.passes(days=60)
    assert await till.tier() is Tier.FREE
    assert "price_odd" in (await till.problems())[customer]
    # Once the operator has said that it is none of ours, nothing is told of it.
    rules = replace(till.billing.rules, ignored=frozenset({"price_odd"}))
    till = replace(till, billing=replace(till.billing, rules=rules))
    await till.passes(days=1)
    assert await till.problems() == {}
    assert await ledger.unknown_prices(till.database) == {}


async def test_a_customer_that_is_replaced_by_hand_pays_on_at_once(
    till: Till, stripe: LocalStripe
) -> None:
    first, _ = await subscribed(till, stripe, "price_enterprise")
    acme = (await tenants.by_slug(till.database, "acme")).id
    second = await stripe.customer(acme)
    subscription = await stripe.subscribe(second, "price_team")
    await till.told(await stripe.updated(subscription))
    assert "has another customer" in (await till.problems())[second]
    await stripe.client.v1.customers.delete_async(first)
    await till.told(*await stripe.events("customer.deleted"))
    assert await till.tier() is Tier.TEAM
    payer = await ledger.payer(till.database, acme)
    assert payer is not None
    assert payer.customer_id == second
    assert await till.problems() == {}


async def test_an_event_that_is_lost_is_made_up_for_within_a_day(
    till: Till, stripe: LocalStripe
) -> None:
    _, subscription = await subscribed(till, stripe)
    await stripe.cancel(subscription)
    await till.passes(hours=23)
    assert await till.tier() is Tier.TEAM
    await till.passes(hours=1)
    assert await till.tier() is Tier.FREE


async def test_an_unknown_price_changes_nothing_until_the_operator_names_it(
    till: Till, stripe: LocalStripe, caplog: pytest.LogCaptureFixture
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.move(subscription, "price_odd")
    for _ in range(2):
        await till.told(await stripe.updated(subscription))
    assert await till.tier() is Tier.TEAM
    assert "price_odd" in (await till.problems())[customer]
    assert caplog.text.count("price_odd") == 1  # told once, not at each event
    await stripe.move(subscription, "price_solo")
    await till.told(await stripe.updated(subscription))
    assert await till.tier() is Tier.SOLO
    assert await till.problems() == {}


async def test_a_tenant_that_never_bought_keeps_the_tier_it_was_given(
    till: Till, stripe: LocalStripe
) -> None:
    tenant_id = await tenant(till, tier="ENTERPRISE")
    customer = await stripe.customer(tenant_id)
    await till.told(event("checkout.session.completed", {"customer": customer}))
    assert await till.tier() is Tier.ENTERPRISE


async def test_a_deleted_customer_pays_for_nothing(till: Till, stripe: LocalStripe) -> None:
    customer, _ = await subscribed(till, stripe)
    await stripe.client.v1.customers.delete_async(customer)
    (told,) = await stripe.events("customer.deleted")
    await till.told(told)
    assert await till.tier() is Tier.FREE
    assert await ledger.payers(till.database) == []
    # What comes late about it finds nobody, and leaves nothing.
    await till.told(event("customer.subscription.updated", {"customer": customer}), told)
    assert await till.problems() == {}
    assert await till.settled() == 0


async def test_a_customer_that_stripe_does_not_know_changes_nothing_and_is_told(
    till: Till, stripe: LocalStripe
) -> None:
    customer, _ = await subscribed(till, stripe)
    await stripe.sells()  # another account's key sees none of ours
    await till.passes(days=1)
    assert await till.tier() is Tier.TEAM
    assert "another account" in (await till.problems())[customer]


async def test_metadata_joins_a_customer_to_its_tenant_and_no_other(
    till: Till, stripe: LocalStripe
) -> None:
    await subscribed(till, stripe, "price_team", "ours")
    theirs = await tenant(till, "theirs")
    # A second customer that names a tenant who has one already.
    ours = (await tenants.by_slug(till.database, "ours")).id
    second = await stripe.customer(ours)
    subscription = await stripe.subscribe(second, "price_enterprise")
    await till.told(await stripe.updated(subscription))
    assert await till.tier("ours") is Tier.TEAM
    assert "ours, which its metadata names, has another customer" in (await till.problems())[second]
    assert (await tenants.get(till.database, theirs)).tier is Tier.FREE


async def test_nothing_that_an_event_says_gives_a_subscription_to_another_tenant(
    till: Till, stripe: LocalStripe
) -> None:
    victim = await tenant(till, "victim")
    customer, subscription = await subscribed(till, stripe, "price_enterprise", "buyer")
    hostile = {"tenant_id": str(victim)}
    await till.told(
        event(
            "checkout.session.completed",
            {
                "id": "cs_1", "customer": customer, "client_reference_id": str(victim),
                "metadata": hostile, "subscription": subscription,
            },
        ),
        event(
            "customer.subscription.updated",
            {"id": subscription, "customer": customer, "metadata": hostile},
        ),
    )  # fmt: skip
    assert await till.tier("buyer") is Tier.ENTERPRISE
    assert await till.tier("victim") is Tier.FREE
    # Even metadata at Stripe itself takes no customer from its tenant: that is for a person.
    metadata = {"tenant_id": str(victim)}
    await stripe.client.v1.customers.update_async(customer, {"metadata": metadata})
    await stripe.cancel(subscription)
    await till.told(*await stripe.events("customer.subscription.deleted"))
    assert (await till.tier("buyer"), await till.tier("victim")) == (Tier.ENTERPRISE, Tier.FREE)
    assert "names another tenant" in (await till.problems())[customer]


async def test_a_checkout_by_a_link_that_anyone_can_alter_gives_nothing_to_whom_it_names(
    till: Till, stripe: LocalStripe
) -> None:
    victim = await tenant(till, "victim")
    stranger = await stripe.customer()  # a payment link makes customers without our metadata
    subscription = await stripe.subscribe(stranger, "price_team")
    session = {"customer": stranger, "client_reference_id": str(victim)}
    await till.told(event("checkout.session.completed", session))
    assert await till.tier("victim") is Tier.FREE
    assert await till.problems() == {
        stranger: f"{subscription} is paid for, and no tenant here has its customer"
    }


async def test_customers_of_other_products_are_no_matter(till: Till, stripe: LocalStripe) -> None:
    customer = await stripe.customer(uuid4())
    subscription = await stripe.subscribe(customer, "price_odd")
    await till.told(await stripe.updated(subscription))
    assert await till.problems() == {}
    async with till.database.owning() as session:
        assert await session.scalar(text("SELECT count(*) FROM billing_customers")) == 0


async def test_a_higher_tier_counts_at_once_for_what_waits(till: Till, stripe: LocalStripe) -> None:
    stocked = await stock(till.database, "acme")
    await tenants.set_tier(till.database, "acme", "FREE")
    async with till.database.owning() as session:
        await session.execute(
            text("UPDATE connections SET next_due_at = now() + interval '5 days'")
        )
    customer = await stripe.customer(stocked.tenant_id)
    subscription = await stripe.subscribe(customer, "price_team")
    await till.told(await stripe.updated(subscription))
    async with till.database.owning() as session:
        assert await session.scalar(text("SELECT next_due_at <= now() FROM connections"))


@pytest.fixture
def unrepeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own repetitions wait for seconds."""
    monkeypatch.setattr(stripe_api, "REPEATS", 0)


@pytest.mark.usefixtures("unrepeated")
async def test_while_stripe_is_away_events_wait_and_nobody_loses_a_tier(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.bill(customer, subscription, BAD_CARD)
    await till.told(*await stripe.events("invoice.payment_failed"))
    await stripe.cancel(subscription)
    with serve(Vendor()) as vendor:
        async with till_of(settings_of(vendor.origin), till.database) as cut_off:
            vendor.will(Answer(status=503, body={}))
            with pytest.raises(ProviderUnavailableError, match="503"):
                await cut_off.told(*await stripe.events("customer.subscription.deleted"))
            for answer in (
                Answer(raw=b"<html>maintenance</html>"), Answer(cut=True, body={}),
                Answer(status=500, body={"error": {"type": "api_error"}}),
            ):  # fmt: skip
                vendor.reset()
                vendor.will(answer)
                with pytest.raises(ProviderUnavailableError):
                    await cut_off.passes(minutes=10)
            # The time of grace is over, but nobody can say that it was not paid.
            with pytest.raises(ProviderUnavailableError):
                await cut_off.passes(days=30)
            calls = len(vendor.calls)
            assert await cut_off.settled() == 0  # it waits between its attempts
            assert len(vendor.calls) == calls
        assert await till.tier() is Tier.TEAM
        till.clock.at = cut_off.clock.at
        await till.passes(minutes=6)
    assert await till.tier() is Tier.FREE


@pytest.mark.usefixtures("unrepeated")
@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (Answer(status=401, body={"error": {"message": "canary"}}), SettingsError, "not accept"),
        (Answer(status=403, body={"error": {"message": "canary"}}), SettingsError, "restricted"),
        (Answer(status=429, body={"error": {"message": "canary"}}), RateLimitedError, "wait"),
        (Answer(status=400, body={"error": {"message": "canary"}}), ContractError, "refused"),
        (Answer(body={"id": "cus_1", "metadata": "canary"}), ContractError, "form"),
    ],
)
async def test_what_stripe_says_of_our_key_or_a_person_goes_no_further(
    database: Database, answer: Answer, error: type[Exception], told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with serve(Vendor()) as vendor:
        vendor.will(answer)
        async with till_of(settings_of(vendor.origin), database) as till:
            with pytest.raises(error, match=told) as caught:
                await till.told(event("customer.subscription.updated", {"customer": "cus_1"}))
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "canary" not in shown


async def test_one_that_cannot_be_read_keeps_no_other_waiting(
    till: Till, stripe: LocalStripe
) -> None:
    _, subscription = await subscribed(till, stripe)
    await stripe.cancel(subscription)
    odd = event("customer.subscription.updated", {"customer": "cus_unknown"})
    await till.told(odd, *await stripe.events("customer.subscription.deleted"))
    assert await till.tier() is Tier.FREE


async def test_a_customer_of_the_other_mode_is_left_alone_and_told(
    till: Till, stripe: LocalStripe
) -> None:
    customer, subscription = await subscribed(till, stripe)
    await stripe.cancel(subscription)
    live = replace(till, billing=replace(till.billing, livemode=True))
    await live.passes(days=1)
    assert await till.tier() is Tier.TEAM
    assert "is of test mode, and STRIPE_SECRET_KEY of live" in (await till.problems())[customer]


async def test_events_are_forgotten_when_stripe_no_longer_repeats_them(
    till: Till, stripe: LocalStripe
) -> None:
    await subscribed(till, stripe)
    for days, left in ((59, 1), (61, 0)):
        await ledger.sweep(till.database, now=till.clock.now() + timedelta(days=days))
        async with till.database.owning() as session:
            assert await session.scalar(text("SELECT count(*) FROM billing_events")) == left


async def test_a_tenant_that_is_erased_leaves_nothing_of_its_billing(
    till: Till, stripe: LocalStripe
) -> None:
    _, subscription = await subscribed(till, stripe)
    ended = await end(till.billing, (await tenants.by_slug(till.database, "acme")).id)
    assert (ended.count, ended.owed) == (1, None)
    assert await tenants.delete(till.database, "acme")
    await till.told(await stripe.updated(subscription))
    found = await stripe.client.v1.subscriptions.retrieve_async(subscription)
    assert found.status == "canceled"
    assert await till.problems() == {}


async def test_the_migration_takes_over_what_subscriptions_paid_before(postgres_url: str) -> None:
    await migrate_to(postgres_url, "0011")
    with psycopg.connect(postgres_url) as sql:
        for slug, past_due in (("paid", "{}"), ("owing", '{"sub_owing": "2026-11-01T00:00:00Z"}')):
            tenant_id = uuid4()
            sql.execute(
                "INSERT INTO tenants (id, slug, name, tier, stripe_customer_id,"
                " stripe_subscription_id) VALUES (%s, %s, %s, 'TEAM', %s, %s)",
                (tenant_id, slug, slug, f"cus_{slug}", f"sub_{slug}"),
            )
            sql.execute(
                "INSERT INTO billing_customers (customer_id, tenant_id, livemode, tier, past_due)"
                " VALUES (%s, %s, true, 'TEAM', %s)",
                (f"cus_{slug}", tenant_id, past_due),
            )
    await migrate(postgres_url)
    await check(postgres_url)
    database = Database.connect(postgres_url)
    owing, paid = await ledger.payers(database)
    assert (dict(owing.standing), set(owing.past_due)) == ({}, {"sub_owing"})
    assert paid.standing == {"sub_paid": Standing(paid=Tier.TEAM)}
    await database.close()
