"""Keys that tenants bring for vendors they pay themselves: written, never read back."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from accounts import api_keys
from storage import tenant_settings
from web._auth import Caller, Scope, Shared, needs
from web._problems import Problem, invalid, responses
from web.api._fields import DEFAULT_LIMIT, CursorText, Limit, Listed, TenantId, listed, named
from web.api.tenants import visible

router = APIRouter(prefix="/api/tenants/{tenant_id}/settings", tags=["settings"])
Writer = Annotated[Caller, needs(Scope.SETTINGS_WRITE)]
KeyName = Annotated[str, Path(pattern=r"^[A-Z][A-Z0-9_]{0,62}$", examples=["OPENAI_API_KEY"])]


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    value: SecretStr = Field(min_length=1, max_length=1_000, examples=["sk-proj-…"])


class Setting(BaseModel):
    """A key that is kept."""

    key: str = Field(examples=["OPENAI_API_KEY"])
    masked: str | None = Field(
        description="Its last characters; null where it can no longer be opened.",
        examples=["…h7Qw"],
    )
    updated_at: datetime


class KeptKey(BaseModel):
    """What the vendor said of the key; one that it refused is not kept."""

    key: str = Field(examples=["OPENAI_API_KEY"])
    verdict: Literal["valid", "inconclusive"]
    message: str = Field(examples=["OpenAI accepts this key"])


@router.get("", summary="The keys a tenant has brought, masked", responses=responses(404))
async def list_settings(
    shared: Shared,
    caller: Annotated[Caller, needs(Scope.SETTINGS_READ)],
    tenant_id: TenantId,
    cursor: CursorText = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Listed[Setting]:
    tenant = await visible(shared, caller, tenant_id)
    kept = await api_keys.listing(shared.database, shared.vault, tenant.id)
    found = named(kept, _key, cursor, limit)
    return listed(found, limit, _shown, lambda one: [one.setting])


@router.put(
    "/{key}",
    summary="Bring a key",
    description="The vendor is asked first. What it refuses is answered with 422 and `verdict: "
    "invalid`, and not kept; what it neither accepts nor refuses is kept as `inconclusive`.",
    responses=responses(404),
)
async def put_setting(
    shared: Shared, caller: Writer, tenant_id: TenantId, key: KeyName, given: NewKey
) -> KeptKey:
    tenant = await visible(shared, caller, tenant_id)
    verdict = await api_keys.put(
        shared.database,
        shared.vault,
        shared.transport,
        shared.budget,
        tenant_id=tenant.id,
        setting=key,
        value=given.value.get_secret_value(),
    )
    if verdict.works is False:
        raise invalid("body.value", verdict.message, verdict="invalid")
    return KeptKey(
        key=key, verdict="valid" if verdict.works else "inconclusive", message=verdict.message
    )


@router.delete("/{key}", status_code=204, summary="Forget a key", responses=responses(404))
async def delete_setting(
    shared: Shared, caller: Writer, tenant_id: TenantId, key: KeyName
) -> Response:
    tenant = await visible(shared, caller, tenant_id)
    api_keys.connector_of(key)
    async with shared.database.transaction(tenant.id) as session:
        gone = await tenant_settings.delete(session, tenant.id, key)
    if not gone:
        raise Problem(404, f"{tenant.slug} has no {key}")
    return Response(status_code=204)


def _key(one: api_keys.MaskedKey) -> str:
    return one.setting


def _shown(one: api_keys.MaskedKey) -> Setting:
    return Setting(key=one.setting, masked=one.masked, updated_at=one.updated_at)
