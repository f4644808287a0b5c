"""The end of what a tenant pays for, as it is erased; what could not be ended is tried again."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import stripe

from billing.customers import UNKNOWN, Billing
from billing.stripe_api import asking, read_customer
from connectors import ConnectorError
from connectors.kernel.clock import SYSTEM_CLOCK
from settings import SettingsError
from storage import billing as ledger
from storage import endings
from storage.billing import Payer
from storage.database import Database
from storage.endings import Owed
from storage.subscriptions import NONE_KNOWN, OVER, Subscription

# What becomes of what is owed.
AGAIN = "it is tried again every hour; atom-sync billing reconcile tries now, and tells of it"
NO_KEY = "billing is off: STRIPE_SECRET_KEY is not set"
log = logging.getLogger("atom-sync.billing")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How many subscriptions were ended, and why the others could not be."""

    count: int = 0
    owed: str | None = None


async def end_or_owe(billing: Billing | None, database: Database, tenant_id: UUID) -> Ended:
    """Before a tenant is erased; without a key, whatever it pays for is owed an end."""
    if billing is not None:
        return await end(billing, tenant_id)
    payer = await ledger.payer(database, tenant_id)
    if payer is None or payer.livemode is False:
        return Ended()
    await _owe(database, payer, NO_KEY, now=SYSTEM_CLOCK.now())
    return Ended(owed=NO_KEY)


async def end(billing: Billing, tenant_id: UUID) -> Ended:
    """Cancel at once whatever a tenant pays for, as it is about to be erased.

    What Stripe cannot end for us is kept as owed, and does not keep the tenant from being erased.
    While Stripe is away, or refuses the key, that is raised instead.
    """
    payer = await ledger.payer(billing.database, tenant_id)
    if payer is None:
        return Ended()
    if payer.livemode is not None and (objection := billing.objection(payer.livemode)):
        if payer.livemode:
            raise SettingsError(f"{payer.slug} may be paying, but {objection}")
        return Ended()  # nobody is charged in test mode
    known = {id for id, each in payer.standing.items() if each.paid is not None}
    ended = await _end(billing, payer.customer_id, known)
    if ended.owed is not None:
        await _owe(billing.database, payer, ended.owed, now=billing.clock.now())
    else:
        await endings.settled(billing.database, payer.customer_id)
    return ended


async def end_owed(billing: Billing, *, all: bool = False) -> list[Owed]:
    """Try again what is owed and due, or all of it; what is done with now."""
    due = None if all else billing.clock.now()
    return [
        each
        for each in await endings.owed(billing.database, due=due)
        if await _is_ended(billing, each)
    ]


async def _is_ended(billing: Billing, owed: Owed) -> bool:
    problem = billing.objection(owed.livemode) if owed.livemode is not None else ""
    if not problem:
        try:
            problem = (await _end(billing, owed.customer_id, set())).owed or ""
        except (ConnectorError, SettingsError) as error:
            problem = str(error)
    if problem:
        await endings.put_off(billing.database, owed.customer_id, problem, now=billing.clock.now())
        return False
    log.info("%s: what its erased tenant paid for is ended", owed.customer_id)
    return await endings.settled(billing.database, owed.customer_id)


async def _end(billing: Billing, customer_id: str, known: Iterable[str]) -> Ended:
    """End what is ours of a customer's subscriptions; `known` are those that once had our price."""
    found = await read_customer(billing.client, customer_id)
    if found is None:
        return Ended(owed=UNKNOWN)
    if found.deleted:
        return Ended()
    try:
        await _close_pages(billing, customer_id)
    except (ConnectorError, SettingsError) as error:
        # What is paid for already is ended all the same; a page closes by itself within a day.
        log.warning("%s: its checkout pages could not be closed: %s", customer_id, error)
    # One whose first payment is under way would begin when that goes through.
    running = [each for each in billing.rules.ours(found.subscriptions) if each.status not in OVER]
    ours = [each for each in running if each.id in known or _has_our_price(billing, each)]
    for each in ours:
        await _cancel(billing, each)
    others = [each for each in running if each not in ours]
    return Ended(count=len(ours), owed="; ".join(map(_doubt, others)) or None)


def _has_our_price(billing: Billing, subscription: Subscription) -> bool:
    return subscription.tier(billing.rules.prices) is not None


def _doubt(subscription: Subscription) -> str:
    """What is not known to be ours is not cancelled: that could not be taken back."""
    prices = ", ".join(subscription.all_prices) or "none"
    return f"{subscription.id} {NONE_KNOWN}: {prices}; it goes on"


async def _cancel(billing: Billing, subscription: Subscription) -> None:
    async with asking():
        try:
            await billing.client.v1.subscriptions.cancel_async(subscription.id)
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:  # it ended meanwhile
                raise


async def _close_pages(billing: Billing, customer_id: str) -> None:
    """A page that is open could still be paid, for nobody."""
    async with asking():
        found = await billing.client.v1.checkout.sessions.list_async(
            {"customer": customer_id, "status": "open", "limit": 100}
        )
        async for each in found.auto_paging_iter():
            try:
                await billing.client.v1.checkout.sessions.expire_async(each.id)
            except stripe.InvalidRequestError:
                continue  # it was used, or closed by itself, meanwhile


async def _owe(database: Database, payer: Payer, problem: str, *, now: datetime) -> None:
    await endings.owe(
        database, payer.customer_id, livemode=payer.livemode, problem=problem, now=now
    )
    log.warning("%s: what it pays for could not be ended: %s", payer.customer_id, problem)
