"""`atom-sync billing reconcile`: every tenant compared with Stripe, and put right.

The comparison is made on one listing of all subscriptions. What differs is then read again by
itself, as after an event, so that nothing is written from a listing that took its time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from billing.cancellation import end_owed
from billing.customers import AT_ONCE, Billing, settle_now
from billing.stripe_api import asking, read_customer, subscriptions
from storage import NotFoundError, Tier, endings, tenants
from storage import billing as ledger
from storage.billing import NOBODY, Payer
from storage.endings import Owed
from storage.subscriptions import Subscription, Worth, worth


class Outcome(StrEnum):
    """How a difference ended: it stays, it was put right, or the operator has to act."""

    DIFFERS = "differs"
    REPAIRED = "repaired"
    ATTENTION = "attention"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A customer of whom Stripe says something else than we do; no tenant, if it is nobody's."""

    tenant: str | None
    customer: str
    subscription: str | None
    status: str | None
    ours: Tier | None
    stripes: Tier | None
    outcome: Outcome
    problem: str | None = None


async def reconcile(
    billing: Billing, *, dry_run: bool, progress: Callable[[int], None] = lambda read: None
) -> list[Difference]:
    """All that differs, in the order of tenants; repaired, unless it is a `dry_run`."""
    payers = await ledger.payers(billing.database)
    held = await _listing(billing, progress)
    owed = await endings.owed(billing.database)
    erased = {each.customer_id for each in owed}
    nobodys = {id: each for id, each in held.items() if id not in erased}
    found = [*_of_payers(billing, payers, held), *_of_nobody(billing, payers, nobodys)]
    holders = {payer.customer_id: payer for payer in payers}
    problems, _ = await ledger.troubles(billing.database)
    for customer in problems.keys() - {each.customer for each in found} - erased:
        found.append(_troubled(customer, holders.get(customer)))
    if dry_run:
        found = [await _named(billing, each) if each.tenant is None else each for each in found]
    else:
        found = await _repaired(billing, found)
        problems, _ = await ledger.troubles(billing.database)
    differences = [
        replace(each, outcome=Outcome.ATTENTION, problem=problems[each.customer])
        if each.customer in problems
        else each
        for each in found
    ]
    differences += [_owed(each) for each in owed] if dry_run else await _ended(billing, owed)
    return sorted(differences, key=lambda each: (each.tenant is None, each.tenant, each.customer))


async def _listing(
    billing: Billing, progress: Callable[[int], None]
) -> Mapping[str, Sequence[Subscription]]:
    held: dict[str, list[Subscription]] = defaultdict(list)
    read = 0
    async with asking(None):  # each page has its own time
        async for customer, subscription in subscriptions(billing.client):
            held[customer].append(subscription)
            read += 1
            progress(read)
    return held


def _of_payers(
    billing: Billing, payers: Sequence[Payer], held: Mapping[str, Sequence[Subscription]]
) -> Iterator[Difference]:
    for payer in payers:
        if payer.livemode not in (None, billing.livemode):
            yield _difference(payer, Worth(problems=(billing.objection(bool(payer.livemode)),)))
            continue
        given = _worth(billing, held.get(payer.customer_id, ()), payer)
        subscription_id = given.subscription.id if given.subscription else None
        same = given.tier in (None, payer.tier) and subscription_id == payer.subscription_id
        if not same or given.problems:
            yield _difference(payer, given)


def _of_nobody(
    billing: Billing, payers: Sequence[Payer], held: Mapping[str, Sequence[Subscription]]
) -> Iterator[Difference]:
    """Customers who pay for one of our tiers, and are no tenant's."""
    for customer in held.keys() - {each.customer_id for each in payers}:
        given = _worth(billing, held[customer], None)
        if given.subscription is not None:
            yield Difference(
                tenant=None, customer=customer, subscription=given.subscription.id,
                status=given.subscription.status, ours=None, stripes=given.tier,
                outcome=Outcome.DIFFERS, problem=f"it is paid for, and {NOBODY}",
            )  # fmt: skip


def _worth(billing: Billing, held: Sequence[Subscription], payer: Payer | None) -> Worth:
    return worth(
        held,
        billing.rules,
        current=payer.tier if payer else Tier.FREE,
        past_due=payer.past_due if payer else {},
        standing=payer.standing if payer else {},
        now=billing.clock.now(),
    )


def _difference(payer: Payer, given: Worth) -> Difference:
    problem = "; ".join(given.problems) or None
    return Difference(
        tenant=payer.slug,
        customer=payer.customer_id,
        subscription=given.subscription.id if given.subscription else None,
        status=given.subscription.status if given.subscription else None,
        ours=payer.tier,
        stripes=given.tier,
        outcome=Outcome.ATTENTION if problem else Outcome.DIFFERS,
        problem=problem,
    )


async def _named(billing: Billing, found: Difference) -> Difference:
    """Whose a repair would make it, as the customer's own metadata says."""
    customer = await read_customer(billing.client, found.customer)
    if customer is None or customer.names is None:
        return replace(found, outcome=Outcome.ATTENTION)
    try:
        tenant = await tenants.get(billing.database, customer.names)
    except NotFoundError:
        return replace(found, outcome=Outcome.ATTENTION)
    return replace(found, tenant=tenant.slug, ours=tenant.tier, problem=None)


async def _repaired(billing: Billing, found: Sequence[Difference]) -> list[Difference]:
    """Reads each of these again; the ledger holds the problems that remain."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def repaired(each: Difference) -> Difference:
        async with turns:
            settled = await settle_now(billing, each.customer)
        each = replace(each, outcome=Outcome.REPAIRED, problem=None)
        if settled is None or settled.slug is None:
            return each
        return replace(each, tenant=settled.slug, ours=settled.former)

    return list(await asyncio.gather(*(repaired(each) for each in found)))


def _troubled(customer: str, payer: Payer | None) -> Difference:
    """A customer that the listing says nothing new about."""
    return Difference(
        tenant=payer.slug if payer else None,
        customer=customer,
        subscription=payer.subscription_id if payer else None,
        status=None,
        ours=payer.tier if payer else None,
        stripes=None,
        outcome=Outcome.ATTENTION,
    )


async def _ended(billing: Billing, owed: Sequence[Owed]) -> list[Difference]:
    """What erased tenants paid for: tried again now, as after an hour."""
    done = {each.customer_id for each in await end_owed(billing, all=True)}
    left = {each.customer_id: each for each in await endings.owed(billing.database)}
    return [
        replace(_owed(each), outcome=Outcome.REPAIRED, problem=None)
        if each.customer_id in done
        else _owed(left.get(each.customer_id, each))
        for each in owed
    ]


def _owed(owed: Owed) -> Difference:
    return Difference(
        tenant=None,
        customer=owed.customer_id,
        subscription=None,
        status=None,
        ours=None,
        stripes=None,
        outcome=Outcome.ATTENTION,
        problem=f"its tenant was erased, and what it pays for is not ended: {owed.problem}",
    )
