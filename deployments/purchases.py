"""Buying at Stripe: links to its pages for a tenant, and the end of what a tenant pays for."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import stripe

from connectors import ContractError
from deployments._stripe import asking, read_customer
from deployments.billing import UNKNOWN, Billing, settle_now
from settings import SettingsError
from storage import Tier, tenants
from storage import billing as ledger
from storage.billing import Customer
from storage.subscriptions import NEVER_BEGAN
from storage.tenants import Tenant

OVER = NEVER_BEGAN | {"canceled"}


class PurchaseError(Exception):
    """What was asked cannot be done as things stand; the message says why, and what can."""


@dataclass(frozen=True)
class Link:
    """A page of Stripe's for one person's browser; not every one says until when."""

    url: str
    expires_at: datetime | None = None


async def checkout(
    billing: Billing,
    tenant_id: UUID,
    tier: Tier,
    *,
    success_url: str,
    cancel_url: str,
    key: str | None = None,
) -> Link:
    """A page on which a tenant buys a tier. The same `key` gives the same page.

    PurchaseError where there is a subscription already: a second would be paid as well.
    """
    price = billing.offers.get(tier)
    if price is None:
        raise SettingsError(f"{tier} is not for sale: set STRIPE_PRICE_ID_{tier}")
    customer = await _customer(billing, await tenants.get(billing.database, tenant_id))
    for each in customer.subscriptions:
        if each.status not in OVER:
            raise PurchaseError(
                f"there is a subscription already, which is {each.status}: change it in the portal"
            )
    tenant = {"tenant_id": str(tenant_id)}
    asked: Any = {
        "mode": "subscription",
        "customer": customer.id,
        "client_reference_id": str(tenant_id),
        "line_items": [{"price": price, "quantity": 1}],
        "metadata": tenant,
        "subscription_data": {"metadata": tenant},
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    async with asking():
        try:
            session = await billing.client.v1.checkout.sessions.create_async(
                asked, {"idempotency_key": f"checkout:{tenant_id}:{key}"} if key else None
            )
        except stripe.IdempotencyError:
            raise PurchaseError("something else was asked for with this key before") from None
    if not session.url:
        raise ContractError("Stripe made a checkout session without an address")
    return Link(session.url, datetime.fromtimestamp(session.expires_at, UTC))


async def portal(billing: Billing, tenant_id: UUID, *, return_url: str) -> Link:
    """A page on which a tenant changes or ends what it pays for; PurchaseError if it is nothing."""
    tenant = await tenants.get(billing.database, tenant_id)
    payer = await ledger.payer(billing.database, tenant_id)
    if payer is None:
        raise PurchaseError(f"{tenant.slug} has bought nothing yet: ask for a checkout link")
    if payer.livemode is not None and (objection := billing.objection(payer.livemode)):
        raise SettingsError(f"{tenant.slug} is a customer already, but {objection}")
    async with asking():
        session = await billing.client.v1.billing_portal.sessions.create_async(
            {"customer": payer.customer_id, "return_url": return_url}
        )
    return Link(session.url)


async def end(billing: Billing, tenant_id: UUID) -> int:
    """Cancel at once whatever a tenant pays for, as it is about to be erased; how much it was."""
    payer = await ledger.payer(billing.database, tenant_id)
    if payer is None:
        return 0
    if payer.livemode is not None and (objection := billing.objection(payer.livemode)):
        if payer.livemode:
            raise SettingsError(f"{payer.slug} may be paying, but {objection}")
        return 0  # nobody is charged in test mode
    found = await read_customer(billing.client, payer.customer_id)
    # One whose first payment is under way would begin when that goes through.
    over = OVER - {"incomplete"}
    running = [each for each in found.subscriptions if each.status not in over] if found else []
    for each in running:
        async with asking():
            await billing.client.v1.subscriptions.cancel_async(each.id)
    return len(running)


async def _customer(billing: Billing, tenant: Tenant) -> Customer:
    """The tenant's customer at Stripe, made if there is none that could pay."""
    payer = await ledger.payer(billing.database, tenant.id)
    if payer is not None and payer.livemode in (None, billing.livemode):
        found = await read_customer(billing.client, payer.customer_id)
        if found is None:
            raise SettingsError(f"{tenant.slug}: {UNKNOWN}")
        if not found.deleted:
            return found
        await settle_now(billing, payer.customer_id)
    elif payer is not None and payer.livemode:
        # One that really pays is not given up for a test.
        raise SettingsError(f"{tenant.slug} is a customer already, but {billing.objection(True)}")
    former = payer.customer_id if payer else None
    made = await _made(billing, tenant, former)
    linked = await ledger.link(
        billing.database, tenant.id, made, former=former, livemode=billing.livemode,
        now=billing.clock.now(),
    )  # fmt: skip
    return Customer(id=linked)


async def _made(billing: Billing, tenant: Tenant, former: str | None) -> str:
    """The id of a new customer; asked for twice within an hour, it is the same one.

    Not for longer: what Stripe answered first, be it an error, it repeats for a day or more.
    https://docs.stripe.com/api/idempotent_requests (2026-11)
    """
    asked: Any = {"name": tenant.name, "metadata": {"tenant_id": str(tenant.id)}}
    if tenant.contact_email:
        asked["email"] = tenant.contact_email
    hour = f"{billing.clock.now():%Y%m%d%H}"
    digest = hashlib.sha256(json.dumps([asked, former, hour]).encode()).hexdigest()
    async with asking():
        made = await billing.client.v1.customers.create_async(
            asked, {"idempotency_key": f"customer:{tenant.id}:{digest[:32]}"}
        )
    return made.id
