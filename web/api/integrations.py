"""Integrations: what can be connected, how, and which records come of it."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from connectors import Category, Connector, OAuth2, SyncType, all_connectors, load
from settings import Settings
from storage import NotFoundError
from web._auth import Caller, Scope, Shared, needs
from web._problems import responses
from web.api._fields import (
    DEFAULT_LIMIT,
    CursorText,
    IntegrationName,
    Limit,
    Listed,
    listed,
    named,
)

router = APIRouter(prefix="/api/integrations", tags=["integrations"])
Reader = Annotated[Caller, needs(Scope.CONNECTIONS_READ)]


class StreamKind(BaseModel):
    """One kind of record of an integration."""

    name: str = Field(examples=["contacts"])
    columns: dict[str, str] = Field(
        description="Of its SQL view: name and PostgreSQL type. Records have all fields.",
        examples=[{"email": "text", "created_at": "timestamptz"}],
    )


class Integration(BaseModel):
    """What a tenant can connect."""

    name: str = Field(examples=["hubspot"])
    title: str = Field(examples=["HubSpot"])
    category: Category = Field(description="What it is for.")
    sign_in: Literal["consent", "key"] = Field(
        description="On the vendor's page, or by a key that the tenant brings."
    )
    sync_type: SyncType = Field(
        description="How changes reach us: the vendor tells us (`push`), both (`hybrid`), we ask "
        "(`pull`), or nothing is synced (`none`)."
    )
    streams: list[StreamKind]
    configured: bool = Field(description="Whether it can be connected here.")
    missing_settings: list[str] | None = Field(
        description="The operator's settings that it still needs; null without the scope `admin`.",
        examples=[["HUBSPOT_CLIENT_ID"]],
    )


@router.get("", summary="What can be connected, by name")
async def list_integrations(
    shared: Shared, caller: Reader, cursor: CursorText = None, limit: Limit = DEFAULT_LIMIT
) -> Listed[Integration]:
    found = named(all_connectors(), _name, cursor, limit)
    return listed(
        found, limit, lambda one: described(shared.settings, caller, one), lambda one: [one.name]
    )


@router.get("/{integration}", summary="One integration", responses=responses(404))
async def get_integration(
    shared: Shared, caller: Reader, integration: IntegrationName
) -> Integration:
    try:
        connector = load(integration)
    except LookupError as error:
        raise NotFoundError(str(error)) from None
    return described(shared.settings, caller, connector)


def described(settings: Settings, caller: Caller, connector: Connector) -> Integration:
    missing = missing_settings(settings, connector)
    return Integration(
        name=connector.name,
        title=connector.title,
        category=connector.category,
        sign_in="consent" if isinstance(connector.auth, OAuth2) else "key",
        sync_type=connector.sync_type,
        streams=[
            StreamKind(
                name=stream.name,
                columns={name: column.type for name, column in stream.columns.items()},
            )
            for stream in connector.streams
        ],
        configured=not missing,
        missing_settings=missing if caller.is_admin else None,
    )


def missing_settings(settings: Settings, connector: Connector) -> list[str]:
    """What the operator has to set before it can be connected."""
    return settings.missing(connector.name) if isinstance(connector.auth, OAuth2) else []


def _name(connector: Connector) -> str:
    return connector.name
