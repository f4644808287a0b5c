"""Stripe as `localstripe` plays it: a server that remembers, in a process of its own.

It knows no Checkout and no portal, tells of no `customer.subscription.updated`, and asks for plans
where Stripe has prices by now; a plan's id is a price's id at Stripe, too.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx  # noqa: TID251 - a test speaks to what stands for Stripe
import stripe

from billing.events import read
from billing.stripe_api import connected
from settings import Settings
from storage.billing import Hint

KEY = "sk_test_canarycanarycanary"  # pragma: allowlist secret
WEBHOOK_SECRET = "whsec_canarycanarycanary"  # pragma: allowlist secret
PRICES = {"price_solo": 1_900, "price_team": 9_900, "price_enterprise": 49_900, "price_odd": 100}
# The second one wants its holder to confirm each payment, who does not.
GOOD_CARD, BAD_CARD = "4242424242424242", "4000000000003220"
BILLING = {
    "stripe_secret_key": KEY,
    "stripe_webhook_secret": WEBHOOK_SECRET,
    "stripe_price_id_solo": "price_solo",
    "stripe_price_id_team": "price_team",
    "stripe_price_id_enterprise": "price_enterprise,price_former",
}

# On loopback alone, under the host's name as in our sandbox, and keeping nothing on the disk.
PROGRAM = """
import sys
from aiohttp import web
from localstripe.resources import store
store.dump_to_disk = lambda: None
from localstripe.server import app
root = web.Application()
root.add_subapp("/api.stripe.com/", app)
web.run_app(root, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""


@contextmanager
def running() -> Iterator[str]:
    """Its origin, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)])
    origin = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{origin}/api.stripe.com/v1/balance", auth=(KEY, ""))
                break
            except httpx.ConnectError:
                assert process.poll() is None, "localstripe ended by itself"
                assert time.monotonic() < deadline, "localstripe did not start"
                time.sleep(0.05)
        yield origin
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class LocalStripe:
    """What a test does at Stripe, through Stripe's own library."""

    origin: str
    client: stripe.StripeClient

    async def sells(self) -> None:
        """Begin from nothing but what there is to buy."""
        async with httpx.AsyncClient(timeout=60) as http:
            url = f"{self.origin}/api.stripe.com/_config/data"
            (await http.delete(url, auth=(KEY, ""))).raise_for_status()
        for price, amount in PRICES.items():
            plan: Any = {
                "id": price, "amount": amount, "currency": "usd", "interval": "month",
                "product": {"name": price},
            }  # fmt: skip
            await self.client.v1.plans.create_async(plan)

    async def customer(self, tenant_id: UUID | None = None) -> str:
        """A customer that can pay, of that tenant if one is named."""
        metadata = {"tenant_id": str(tenant_id)} if tenant_id else {}
        made = await self.client.v1.customers.create_async({"metadata": metadata})
        await self.pays_with(made.id, GOOD_CARD)
        return made.id

    async def pays_with(self, customer: str, number: str) -> None:
        card: Any = {
            "type": "card",
            "card": {"number": number, "exp_month": 12, "exp_year": 2039, "cvc": "123"},
        }
        method = await self.client.v1.payment_methods.create_async(card)
        await self.client.v1.payment_methods.attach_async(method.id, {"customer": customer})
        await self.client.v1.customers.update_async(
            customer, {"invoice_settings": {"default_payment_method": method.id}}
        )

    async def subscribe(self, customer: str, price: str) -> str:
        asked: Any = {"customer": customer, "items": [{"plan": price}]}
        return (await self.client.v1.subscriptions.create_async(asked)).id

    async def move(self, subscription: str, price: str) -> None:
        asked: Any = {"items": [{"plan": price}]}
        await self.client.v1.subscriptions.update_async(subscription, asked)

    async def cancel(self, subscription: str) -> None:
        await self.client.v1.subscriptions.cancel_async(subscription)

    async def bill(self, customer: str, subscription: str, card: str) -> None:
        """The next month's invoice, to be paid with that card."""
        await self.pays_with(customer, card)
        invoice = await self.client.v1.invoices.create_async(
            {"customer": customer, "subscription": subscription}
        )
        intent = (await self.client.v1.invoices.pay_async(invoice.id)).to_dict()["payment_intent"]
        if card == BAD_CARD:
            found = await self.client.v1.payment_intents.retrieve_async(intent)
            await self.client.raw_request_async(
                "post", f"/v1/payment_intents/{intent}/_authenticate",
                client_secret=found.client_secret, success=False,
            )  # fmt: skip

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """What it told so far."""
        page = await self.client.v1.events.list_async({"limit": 100})
        found = [event.to_dict() async for event in page.auto_paging_iter()]
        return [event for event in found if not types or event["type"] in types]

    async def updated(self, subscription: str) -> dict[str, Any]:
        """The event that it leaves out: a subscription as it is now."""
        found = await self.client.v1.subscriptions.retrieve_async(subscription)
        return event("customer.subscription.updated", found.to_dict())


_made = iter(range(1, 1_000_000))


def event(type: str, about: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An event of Stripe's that tells of something as it is."""
    return {
        "id": f"evt_made{next(_made)}",
        "object": "event",
        "created": int(time.time()),
        "data": {"object": dict(about)},
        "livemode": False,
        "type": type,
        **more,
    }


def signed(
    event: Mapping[str, Any], secret: str = WEBHOOK_SECRET, at: int | None = None
) -> tuple[bytes, str]:
    """An event's bytes and their signature, by Stripe's own library."""
    body = json.dumps(event)
    return body.encode(), stripe.WebhookSignature.generate_signature_header(body, secret, at)


def hint(event: Mapping[str, Any]) -> Hint:
    """An event as our endpoint reads it."""
    found = read(*signed(event), [WEBHOOK_SECRET])
    assert found is not None
    return found


@asynccontextmanager
async def local_stripe(origin: str, settings: Settings) -> AsyncIterator[LocalStripe]:
    async with connected(settings, KEY) as client:
        local = LocalStripe(origin, client)
        await local.sells()
        yield local
