"""Tenants: the operator makes and changes them, a tenant's own token reads its own."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from accounts import erasure
from billing import cancellation
from storage import NotFoundError, Tier, tenants
from storage.idempotency import Claim
from web._auth import Caller, Scope, Shared, needs
from web._idempotency import Made, OnceOnly
from web._problems import Problem, invalid, responses
from web.api._fields import (
    DEFAULT_LIMIT,
    CursorText,
    Email,
    Limit,
    Line,
    Listed,
    Slug,
    TenantId,
    listed,
    place_of,
)

router = APIRouter(prefix="/api/tenants", tags=["tenants"])
# For each account; whoever deletes a tenant of many waits for all of them.
VENDOR_WAIT = timedelta(seconds=2)
Operator = Annotated[Caller, needs(Scope.ADMIN)]


class NewTenant(BaseModel):
    """What a tenant starts with."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = Field(
        default=None, description="The id that it has in your own database; made if not given."
    )
    slug: Slug = Field(description="Its name in links, tags and commands.", examples=["acme"])
    name: Line = Field(examples=["Acme Inc."])
    tier: Tier = Tier.FREE
    contact_email: Email | None = Field(
        default=None,
        description="Who is told when a connection needs its tenant.",
        examples=["ops@acme.example"],
    )


class TenantChange(BaseModel):
    """Only what is given changes."""

    model_config = ConfigDict(extra="forbid")

    name: Line | None = Field(default=None, examples=["Acme Ltd."])
    tier: Tier | None = Field(default=None, examples=["TEAM"])
    contact_email: Email | None = None


class Tenant(BaseModel):
    """A customer of the SaaS."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    slug: str = Field(examples=["acme"])
    name: str = Field(examples=["Acme Inc."])
    tier: Tier
    contact_email: str | None


class Owed(BaseModel):
    """What a deleted tenant paid for, and Stripe could not end."""

    owed: str = Field(
        description="Why; `atom-sync billing reconcile` tells of it until it is done."
    )


async def visible(shared: Shared, caller: Caller, tenant_id: UUID) -> tenants.Tenant:
    """The tenant, if the caller may act for it; else it is as if there were none."""
    caller.must_act_for(tenant_id, tenants.absent(tenant_id))
    return await tenants.get(shared.database, tenant_id)


@router.get("", summary="All tenants, by slug")
async def list_tenants(
    shared: Shared, caller: Operator, limit: Limit = DEFAULT_LIMIT, cursor: CursorText = None
) -> Listed[Tenant]:
    place = place_of(cursor, 1)
    found = await tenants.page(shared.database, after=place[0] if place else "", limit=limit + 1)
    return listed(found, limit, Tenant.model_validate, lambda one: [one.slug])


@router.post(
    "", status_code=201, summary="Create a tenant", response_model=Tenant, responses=responses(409)
)
async def create_tenant(
    shared: Shared, caller: Operator, once: OnceOnly, given: NewTenant
) -> Response:
    async def make(claim: Claim | None) -> Made:
        made = await _created(shared, given, claim)
        return Made(Tenant.model_validate(made), made.id, 201)

    return await once(caller, make)


async def _created(shared: Shared, given: NewTenant, claim: Claim | None) -> tenants.Tenant:
    """Under a claim the tenant has its id, so that who goes on for one that died knows it."""
    wanted = given.id or (claim.id if claim else None)
    made = await tenants.add(
        shared.database, given.slug, given.name, given.tier, given.contact_email, wanted
    )
    if made is not None:
        return made
    try:
        there = await tenants.by_slug(shared.database, given.slug)
    except NotFoundError:
        raise Problem(409, f"there is a tenant with the id {wanted} already") from None
    if claim is not None and claim.again and there.id == wanted:
        return there
    raise Problem(409, f"there is a tenant {given.slug!r} already")


@router.get("/{tenant_id}", summary="One tenant", responses=responses(404))
async def get_tenant(
    shared: Shared, caller: Annotated[Caller, needs(Scope.TENANTS_READ)], tenant_id: TenantId
) -> Tenant:
    return Tenant.model_validate(await visible(shared, caller, tenant_id))


@router.patch("/{tenant_id}", summary="Change name, tier or contact", responses=responses(404))
async def update_tenant(
    shared: Shared, caller: Operator, tenant_id: TenantId, given: TenantChange
) -> Tenant:
    found = await tenants.get(shared.database, tenant_id)
    if given.tier is not None:
        found = await tenants.set_tier(shared.database, found.slug, given.tier)
    named = given.model_dump(include={"name", "contact_email"}, exclude_unset=True)
    if "name" in named and named["name"] is None:
        raise invalid("body.name", "a tenant has a name")
    if named:
        found = await tenants.change(shared.database, tenant_id, **named)
    return Tenant.model_validate(found)


@router.delete(
    "/{tenant_id}",
    status_code=204,
    summary="Delete a tenant, its data and its secrets",
    description="What it pays for is ended at Stripe first: while Stripe is away nothing is "
    "deleted. Its authorisations are given back to the vendors, as far as these answer. 202 where "
    "it is deleted and Stripe could not end all it paid for: `owed` says why; it is tried again.",
    responses={**responses(404, 502), 202: {"model": Owed, "description": "Something is owed"}},
)
async def delete_tenant(
    request: Request, shared: Shared, caller: Operator, tenant_id: TenantId
) -> Response:
    found = await tenants.get(shared.database, tenant_id)
    selling = request.app.state.billing
    ended = await cancellation.end_or_owe(selling, shared.database, tenant_id)
    await erasure.delete_tenant(shared.disconnector(), found.slug, wait=VENDOR_WAIT)
    if ended.owed is not None:
        return JSONResponse(Owed(owed=ended.owed).model_dump(), status_code=202)
    return Response(status_code=204)
