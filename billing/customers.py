"""Billing: customers that are due are read again at Stripe, and tenants get what they pay for."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import stripe

from billing.stripe_api import connected, read_customer
from connectors.kernel.clock import SYSTEM_CLOCK, Clock
from settings import Settings, listed_of
from storage import Tier
from storage import billing as ledger
from storage.billing import Claim, Settled
from storage.database import Database
from storage.subscriptions import Rules

AT_ONCE = 8
PAID_TIERS = (Tier.SOLO, Tier.TEAM, Tier.ENTERPRISE)
UNKNOWN = "Stripe does not know this customer: is STRIPE_SECRET_KEY of another account?"
log = logging.getLogger("atom-sync.billing")


@dataclass(frozen=True, kw_only=True)
class Billing:
    """All that billing needs. `offers` are the prices that new subscriptions get."""

    database: Database
    client: stripe.StripeClient
    rules: Rules
    offers: Mapping[Tier, str]
    livemode: bool
    clock: Clock = SYSTEM_CLOCK

    def objection(self, livemode: bool) -> str:
        """What speaks against asking about a customer of that mode; nothing, if it is the key's."""
        if livemode == self.livemode:
            return ""
        modes = {True: "live", False: "test"}
        return f"it is of {modes[livemode]} mode, and STRIPE_SECRET_KEY of {modes[not livemode]}"


@asynccontextmanager
async def opened(
    settings: Settings, database: Database, *, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[Billing | None]:
    """Billing as it is set up, for as long as the block lasts; None without STRIPE_SECRET_KEY."""
    if settings.stripe_secret_key is None:
        yield None
        return
    key, prices = settings.stripe_secret_key.get_secret_value(), prices_of(settings)
    async with connected(settings, key) as client:
        yield Billing(
            database=database,
            client=client,
            rules=Rules(
                prices={price: tier for tier, listed in prices.items() for price in listed},
                grace=timedelta(days=settings.billing_grace_days),
                ignored=frozenset(listed_of(settings.stripe_price_ids_ignored)),
            ),
            offers={tier: listed[0] for tier, listed in prices.items() if listed},
            livemode=re.match(r"[a-z]+_live_", key) is not None,
            clock=clock,
        )


def prices_of(settings: Settings) -> dict[Tier, list[str]]:
    """The prices of each tier, the one for new subscriptions first."""
    return {
        tier: listed_of(getattr(settings, f"stripe_price_id_{tier.lower()}")) for tier in PAID_TIERS
    }


async def settle_due(billing: Billing) -> int:
    """Read the next customers that are due, up to `AT_ONCE`, and make it so; how many there were.

    One that could not be read waits for a while; why is raised once all had their turn.
    """
    due = await ledger.claim_due(billing.database, now=billing.clock.now(), at_most=AT_ONCE)
    ended = await asyncio.gather(
        *(_settle(billing, claim) for claim in due), return_exceptions=True
    )
    if failures := [each for each in ended if isinstance(each, BaseException)]:
        raise failures[0]
    return len(due)


async def settle_now(billing: Billing, customer_id: str) -> Settled | None:
    """Read a customer, due or not. None where it cannot be read, or another has just begun to."""
    claim = await ledger.claim(
        billing.database, customer_id, livemode=billing.livemode, now=billing.clock.now()
    )
    return await _settle(billing, claim)


async def _settle(billing: Billing, claim: Claim) -> Settled | None:
    database, clock = billing.database, billing.clock
    problem = billing.objection(claim.livemode)
    found = None
    if not problem:
        try:
            found = await read_customer(billing.client, claim.customer_id, gone=claim.deleted)
        except BaseException:  # also when this process is stopped: who comes next need not wait
            await ledger.put_off(database, claim, now=clock.now())
            raise
    if found is None:
        problem = problem or UNKNOWN
        if await ledger.set_aside(database, claim, problem, now=clock.now()):
            log.warning("%s: %s", claim.customer_id, problem)
        return None
    settled = await ledger.settle(database, claim, found, billing.rules, now=clock.now())
    if settled and settled.former is not settled.tier:
        log.info("%s was %s and is %s now", settled.slug, settled.former, settled.tier)
    if settled and settled.is_new:
        log.warning("%s: %s", settled.slug or settled.customer_id, settled.problem)
    for other in settled.others if settled else ():
        await settle_now(billing, other)
    return settled
