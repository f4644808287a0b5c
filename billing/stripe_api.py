"""Stripe's own library, held at arm's length: what it raises goes no further than this module.

Its errors quote vendor bodies, and its messages parts of our key; what we raise instead is grouped
by who must act. Documented at https://docs.stripe.com/api (2026-11).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import stripe

from connectors import ContractError, ProviderUnavailableError, RateLimitedError
from connectors.kernel.statuses import PARSE_ERRORS
from settings import Settings, SettingsError
from storage.billing import Customer
from storage.subscriptions import Subscription

SECONDS = 10  # for one call
WHOLE_SECONDS = 40  # with the calls that are repeated
REPEATS = 2
PAGE = 100
WAIT = timedelta(seconds=5)

# Its INFO lines hold addresses, and Stripe's own words.
logging.getLogger("stripe").setLevel(logging.WARNING)


@asynccontextmanager
async def connected(settings: Settings, key: str) -> AsyncIterator[stripe.StripeClient]:
    """A client on the platform's key, for as long as the block lasts."""
    http = stripe.HTTPXClient(timeout=SECONDS)
    try:
        yield stripe.StripeClient(
            key,
            base_addresses={"api": settings.stripe_api_base},
            http_client=http,
            max_network_retries=REPEATS,
        )
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def asking(seconds: float | None = WHOLE_SECONDS) -> AsyncIterator[None]:
    """Around calls of the library: whatever goes wrong becomes an error of ours."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ProviderUnavailableError("Stripe did not answer in time") from None
    except stripe.StripeError as error:
        raise _ours(error) from None
    except PARSE_ERRORS:
        raise ContractError("Stripe answered in a form that is not documented") from None


def _ours(error: stripe.StripeError) -> Exception:
    match error:
        case stripe.RateLimitError():
            return RateLimitedError("Stripe asks us to wait", retry_after=WAIT)
        case stripe.AuthenticationError():
            return SettingsError("Stripe does not accept STRIPE_SECRET_KEY")
        case stripe.PermissionError():
            return SettingsError("STRIPE_SECRET_KEY is a restricted key that may not do this")
        case stripe.APIConnectionError():
            return ProviderUnavailableError("Stripe cannot be reached")
        case stripe.APIError():
            status = error.http_status or "nothing"
            return ProviderUnavailableError(f"Stripe answers {status}")
    what = getattr(error, "param", None) or error.code or type(error).__name__
    return ContractError(f"Stripe refused what we asked ({error.http_status}, {what})")


async def read_customer(
    client: stripe.StripeClient, customer_id: str, *, gone: bool = False
) -> Customer | None:
    """A customer with all its subscriptions; None where Stripe does not know it.

    `gone` says that an event reported it deleted: then one that Stripe does not know is deleted.
    """
    async with asking():
        try:
            found = (await client.v1.customers.retrieve_async(customer_id)).to_dict()
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return Customer(id=customer_id, deleted=True) if gone else None
        if found.get("deleted"):
            return Customer(id=customer_id, deleted=True)
        held = [each async for _, each in subscriptions(client, customer=customer_id)]
        return Customer(
            id=customer_id, names=_tenant(found.get("metadata")), subscriptions=tuple(held)
        )


async def subscriptions(
    client: stripe.StripeClient, **which: str
) -> AsyncIterator[tuple[str, Subscription]]:
    """Every subscription there is or was, the newest first, each with its customer's id."""
    asked: Any = {"status": "all", "limit": PAGE, **which}
    page = await client.v1.subscriptions.list_async(asked)
    async for each in page.auto_paging_iter():
        found = each.to_dict()
        items = found["items"]["data"]
        if found["items"].get("has_more"):
            more = await client.v1.subscription_items.list_async(
                {"subscription": found["id"], "limit": PAGE}
            )
            items = [item.to_dict() async for item in more.auto_paging_iter()]
        customer = found["customer"]
        yield (
            customer if isinstance(customer, str) else customer["id"],
            _subscription(found, items),
        )


def _subscription(found: Mapping[str, Any], items: list[Mapping[str, Any]]) -> Subscription:
    # An item that is metered has no quantity; one with the quantity 0 is charged nothing.
    charged = [item for item in items if item.get("quantity") != 0]
    # Since 2025-03-31.basil each item has a period of its own.
    periods = [each.get("current_period_start") for each in (found, *items)]
    return Subscription(
        id=found["id"],
        status=found["status"],
        prices=tuple(_prices(charged)),
        idle=tuple(_prices(item for item in items if item not in charged)),
        began=_time(found.get("created")),
        ended=_time(found.get("ended_at")),
        period_began=max((at for at in map(_time, periods) if at), default=None),
    )


def _time(stamp: int | None) -> datetime | None:
    return datetime.fromtimestamp(stamp, UTC) if stamp else None


def _prices(items: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for item in items:
        # Versions of the API before prices know a plan instead, under the same id.
        yield (item.get("price") or item["plan"])["id"]


def _tenant(metadata: Mapping[str, str] | None) -> UUID | None:
    try:
        return UUID((metadata or {}).get("tenant_id", ""))
    except ValueError:
        return None
