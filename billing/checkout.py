"""Buying at Stripe: links to its pages for a tenant."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import stripe

from billing.customers import UNKNOWN, Billing, settle_now
from billing.stripe_api import asking, read_customer
from connectors import ContractError
from settings import SettingsError
from storage import Tier, tenants
from storage import billing as ledger
from storage.billing import Customer, Payer
from storage.subscriptions import OVER
from storage.tenants import Tenant

# A page is open for a day; a key that is older than two stands for nothing any more.
KEYS_LAST = timedelta(days=2)
PORTAL_SETTINGS = "https://dashboard.stripe.com/settings/billing/portal"


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
    """A page on which a tenant buys a tier. The same `key` gives the same page while it is open.

    PurchaseError where there is a subscription already: a second would be paid as well.
    """
    price = billing.offers.get(tier)
    if price is None:
        raise SettingsError(f"{tier} is not for sale: set STRIPE_PRICE_ID_{tier}")
    customer = await _customer(billing, await tenants.get(billing.database, tenant_id))
    _refuse_a_second(billing, customer)
    tenant = {"tenant_id": str(tenant_id)}
    order: dict[str, Any] = {
        "mode": "subscription",
        "customer": customer.id,
        "client_reference_id": str(tenant_id),
        "line_items": [{"price": price, "quantity": 1}],
        "metadata": tenant,
        "subscription_data": {"metadata": tenant},
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    if key is None:
        return await _page(billing, tier, order)
    digest = hashlib.sha256(json.dumps(order).encode()).hexdigest()[:32]
    former = await _former_page(billing, customer.id, key)
    if former is not None and former["status"] == "open":
        if former["metadata"].get("order") != digest:
            raise PurchaseError(_OTHER_ORDER)
        return _link(former)
    # Stripe gives one answer for each key of its own, so two requests at once get one page.
    again = f":{former['id']}" if former else ""
    order["metadata"] = {**tenant, "key": key, "order": digest}
    return await _page(billing, tier, order, f"purchase:{customer.id}:{key}{again}")


_OTHER_ORDER = "something else was asked for with this key before, and that page is still open"


def _refuse_a_second(billing: Billing, customer: Customer) -> None:
    for each in billing.rules.ours(customer.subscriptions):
        if each.status == "incomplete":
            raise PurchaseError(
                f"the first payment of {each.id} is under way: confirm or pay it in the portal; "
                "unpaid, it ends within a day, and can be bought anew"
            )
        if each.status not in OVER:
            raise PurchaseError(
                f"there is a subscription already, which is {each.status}: change it in the portal"
            )


async def _former_page(billing: Billing, customer_id: str, key: str) -> Mapping[str, Any] | None:
    """The newest page that was made with a key, whatever became of it."""
    since = int((billing.clock.now() - KEYS_LAST).timestamp())
    asked: Any = {"customer": customer_id, "created": {"gte": since}, "limit": 100}
    async with asking():
        found = await billing.client.v1.checkout.sessions.list_async(asked)
        async for each in found.auto_paging_iter():
            page = each.to_dict()
            if (page["metadata"] or {}).get("key") == key:
                return page
    return None


async def _page(
    billing: Billing, tier: Tier, order: Mapping[str, Any], key: str | None = None
) -> Link:
    asked: Any = order
    async with asking():
        try:
            made = await billing.client.v1.checkout.sessions.create_async(
                asked, {"idempotency_key": key} if key else None
            )
            return _link(made.to_dict())
        except stripe.IdempotencyError:
            raise PurchaseError(_OTHER_ORDER) from None
        except stripe.InvalidRequestError as error:
            if (error.param or "").startswith("line_items"):
                price = order["line_items"][0]["price"]
                raise SettingsError(
                    f"Stripe does not sell {price}: see STRIPE_PRICE_ID_{tier}"
                ) from None
            raise


def _link(page: Mapping[str, Any]) -> Link:
    if not page["url"]:
        raise ContractError("Stripe made a checkout session without an address")
    return Link(page["url"], datetime.fromtimestamp(page["expires_at"], UTC))


async def portal(billing: Billing, tenant_id: UUID, *, return_url: str) -> Link:
    """A page on which a tenant changes or ends what it pays for; PurchaseError if it is nothing."""
    tenant = await tenants.get(billing.database, tenant_id)
    payer = await ledger.payer(billing.database, tenant_id)
    if payer is None:
        raise PurchaseError(f"{tenant.slug} has bought nothing yet: ask for a checkout link")
    if payer.livemode is not None and (objection := billing.objection(payer.livemode)):
        raise SettingsError(f"{tenant.slug} is a customer already, but {objection}")
    try:
        async with asking():
            session = await billing.client.v1.billing_portal.sessions.create_async(
                {"customer": payer.customer_id, "return_url": return_url}
            )
    except ContractError:
        await _say_why_no_portal(billing, payer)
    return Link(session.url)


async def _say_why_no_portal(billing: Billing, payer: Payer) -> NoReturn:
    """Stripe has no code for each of the reasons, so its customer is looked at."""
    found = await read_customer(billing.client, payer.customer_id)
    if found is None:
        raise SettingsError(f"{payer.slug}: {UNKNOWN}")
    if found.deleted:
        await settle_now(billing, payer.customer_id)
        raise PurchaseError(
            f"the customer of {payer.slug} was deleted at Stripe: ask for a checkout link"
        )
    mode = "live" if billing.livemode else "test"
    raise SettingsError(
        f"Stripe makes no portal page: save the customer portal's settings of {mode} mode at "
        f"{PORTAL_SETTINGS}"
    )


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
        replacing = await ledger.payer(billing.database, tenant.id)
        if replacing is not None and replacing.customer_id != payer.customer_id:
            return await _customer(billing, tenant)
    elif payer is not None and payer.livemode:
        # One that really pays is not given up for a test.
        raise SettingsError(f"{tenant.slug} is a customer already, but {billing.objection(True)}")
    former = payer.customer_id if payer else None
    made = await _living(billing, tenant, former)
    linked = await ledger.link(
        billing.database, tenant.id, made, former=former, livemode=billing.livemode,
        now=billing.clock.now(),
    )  # fmt: skip
    return Customer(id=linked)


async def _living(billing: Billing, tenant: Tenant, former: str | None) -> str:
    """The id of a new customer; not of one that was made for the same within the hour, and deleted
    since: Stripe repeats its answer."""
    made = await _made(billing, tenant, former)
    found = await read_customer(billing.client, made)
    if found is not None and found.deleted:
        return await _living(billing, tenant, made)
    return made


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
