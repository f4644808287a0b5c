"""Billing: `POST /api/billing/stripe` for Stripe, links to its pages for the SaaS's backend."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from billing import checkout, events
from billing.checkout import PurchaseError
from billing.customers import Billing
from settings import SettingsError, listed_of
from storage import Tier
from storage import billing as ledger
from storage.idempotency import Claim
from web import _return_url
from web._auth import Caller, Scope, Shared, needs
from web._idempotency import Made, OnceOnly
from web._problems import Problem, invalid, responses

router = APIRouter(tags=["billing"])
Buyer = Annotated[Caller, needs(Scope.BILLING_WRITE)]
ReturnUrl = Annotated[
    str,
    Field(
        max_length=_return_url.MAX_LENGTH,
        description="https, at NEXTAUTH_URL's host or one of CONNECT_RETURN_HOSTS.",
        examples=["https://app.example.com/settings/billing"],
    ),
]


class Taken(BaseModel):
    """What became of an event."""

    status: Literal["taken", "known", "ignored"]


class NewCheckout(BaseModel):
    """What is to be bought, and where Stripe's page leads back to."""

    model_config = ConfigDict(extra="forbid")

    tier: Literal[Tier.SOLO, Tier.TEAM, Tier.ENTERPRISE]
    success_url: ReturnUrl
    cancel_url: ReturnUrl


class NewPortal(BaseModel):
    """Where Stripe's page leads back to."""

    model_config = ConfigDict(extra="forbid")

    return_url: ReturnUrl


class StripePage(BaseModel):
    """A page of Stripe's, for one browser."""

    model_config = ConfigDict(from_attributes=True)

    url: str = Field(description="Send the browser there.")
    expires_at: datetime | None = Field(description="Until then; null where Stripe does not say.")


def billing(request: Request) -> Billing:
    """Billing as the process opened it at its start."""
    opened: Billing | None = request.app.state.billing
    if opened is None:
        raise SettingsError("billing is off: set STRIPE_SECRET_KEY")
    return opened


Sold = Annotated[Billing, Depends(billing)]


@router.post(
    events.PATH,
    summary="An event of Stripe's",
    description="For Stripe alone: proven by `STRIPE_WEBHOOK_SECRET`, and 404 while that is empty.",
    responses=responses(400, 401, 404, 413, 503),
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def receive_stripe_event(
    request: Request,
    shared: Shared,
    stripe_signature: Annotated[str | None, Header()] = None,
) -> Taken:
    given = shared.settings.stripe_webhook_secret
    secrets = listed_of(given.get_secret_value() if given else None)
    if not secrets:
        raise Problem(404, "events are not taken: STRIPE_WEBHOOK_SECRET is not set")
    body = await request.body()
    try:
        hint = events.read(body, stripe_signature, secrets)
    except ValueError as error:
        raise Problem(400, "this is no event of the form that Stripe documents") from error
    if hint is None:
        return Taken(status="ignored")
    if hint.livemode != billing(request).livemode:
        raise Problem(400, "this event is of another mode than STRIPE_SECRET_KEY")
    is_new = await ledger.receive(shared.database, hint, now=shared.clock.now())
    request.app.state.wake_billing()
    return Taken(status="taken" if is_new else "known")


@router.post(
    "/api/billing/checkout",
    status_code=201,
    summary="A link to buy a tier",
    description="For the token's own tenant. 409 where it has a subscription already: that is "
    "changed in the portal. An `Idempotency-Key` gives the same link again, while it is open.",
    responses=responses(401, 403, 404, 409, 413, 422, 429, 502, 503),
)
async def create_checkout(
    shared: Shared,
    caller: Buyer,
    sold: Sold,
    given: NewCheckout,
    once: OnceOnly,
) -> StripePage:
    success_url = _checked("success_url", given.success_url, shared)
    cancel_url = _checked("cancel_url", given.cancel_url, shared)
    try:
        page = await checkout.checkout(
            sold,
            caller.tenant_id,
            Tier(given.tier),
            success_url=success_url,
            cancel_url=cancel_url,
            key=once.key,
        )
    except PurchaseError as error:
        raise Problem(409, str(error)) from error
    return StripePage.model_validate(page)


@router.post(
    "/api/billing/portal",
    status_code=201,
    summary="A link to change or end what is paid for",
    response_model=StripePage,
    description="For the token's own tenant. 409 where it has bought nothing yet.",
    responses=responses(401, 403, 404, 409, 413, 422, 429, 502, 503),
)
async def create_portal(
    shared: Shared, caller: Buyer, sold: Sold, once: OnceOnly, given: NewPortal
) -> Response:
    async def make(claim: Claim | None) -> Made:
        return_url = _checked("return_url", given.return_url, shared)
        try:
            page = await checkout.portal(sold, caller.tenant_id, return_url=return_url)
        except PurchaseError as error:
            raise Problem(409, str(error)) from error
        return Made(StripePage.model_validate(page), caller.tenant_id, 201)

    return await once(caller, make)


def _checked(field: str, url: str, shared: Shared) -> str:
    try:
        return _return_url.checked(url, shared.settings)
    except ValueError as error:
        raise invalid(f"body.{field}", str(error)) from None
