"""The two answers that hold a secret: a connection's access token, and a key that a tenant brought.

Each has a scope of its own that `admin` does not include, and every use is a row of `oauth_log`.
"""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from accounts import api_keys
from storage import Status, oauth_log, tenant_settings
from storage.models import Grant
from web._auth import Caller, Scope, Shared, needs
from web._problems import Problem, responses
from web.api._fields import ConnectionId, TenantId
from web.api.connections import visible as visible_connection
from web.api.settings import KeyName
from web.api.tenants import visible as visible_tenant

NO_STORE = "no-store"
router = APIRouter(prefix="/api", tags=["secrets"])


class AccessToken(BaseModel):
    """For calling the vendor directly."""

    access_token: str = Field(examples=["CKaT1dfnMhIH…"])
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's word
    expires_at: datetime | None = Field(description="Ask again before then; null: not known.")
    instance_url: str | None = Field(description="Where the vendor gives each account an address.")


class RevealedKey(BaseModel):
    key: str = Field(examples=["OPENAI_API_KEY"])
    value: str = Field(examples=["sk-proj-…"])


@router.post(
    "/connections/{connection_id}/token",
    summary="A valid access token",
    description="Renewed first if it ends soon. The refresh token is never given away. 409 where "
    "the vendor gives an account no token of its own, as Stripe.",
    responses=responses(404, 409, 502),
)
async def get_access_token(
    shared: Shared,
    caller: Annotated[Caller, needs(Scope.TOKENS_READ)],
    connection_id: ConnectionId,
    response: Response,
) -> AccessToken:
    found = await visible_connection(shared, caller, connection_id)
    if found.status in (Status.NEEDS_REAUTH, Status.REVOKED):
        raise Problem(409, f"{found} is {found.status}: its tenant must connect it again")
    try:
        token = await shared.access_token(found)
    except LookupError as error:
        raise Problem(409, str(error)) from None
    async with shared.database.transaction(found.tenant_id) as session:
        expires_at = await session.scalar(
            select(Grant.expires_at).where(Grant.id == found.grant_id)
        )
        oauth_log.record(
            session,
            tenant_id=found.tenant_id,
            grant_id=found.grant_id,
            integration=found.integration,
            event="token",
            outcome="given",
            message="an access token was given to the API's caller",
            subject=caller.subject or "",
        )
    response.headers["cache-control"] = NO_STORE
    instance_url = found.config.get("instance_url")
    return AccessToken(access_token=token, expires_at=expires_at, instance_url=instance_url)


@router.post(
    "/tenants/{tenant_id}/settings/{key}/reveal",
    summary="A key that a tenant brought",
    responses=responses(404),
)
async def reveal_setting(
    shared: Shared,
    caller: Annotated[Caller, needs(Scope.KEYS_READ)],
    tenant_id: TenantId,
    key: KeyName,
    response: Response,
) -> RevealedKey:
    tenant = await visible_tenant(shared, caller, tenant_id)
    connector = api_keys.connector_of(key)
    async with shared.database.transaction(tenant.id) as session:
        secret = await tenant_settings.get(session, shared.vault, tenant.id, key)
        if secret is None:
            raise Problem(404, f"{tenant.slug} has no {key}")
        oauth_log.record(
            session,
            tenant_id=tenant.id,
            grant_id=None,
            integration=connector.name,
            event="reveal",
            outcome="given",
            message=f"{key} was given to the API's caller",
            subject=caller.subject or "",
        )
    response.headers["cache-control"] = NO_STORE
    return RevealedKey(key=key, value=secret.get_secret_value())
