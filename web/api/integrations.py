"""Integrations: what can be connected, how, and which records come of it."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

import integrations
from connectors import ApiKey, Category, Connector, OAuth2, SyncType
from integrations import load
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
    sign_in: Literal["consent", "key", "form"] = Field(
        description="On the vendor's page, by a key that the tenant brings, or by a form of ours "
        "that it fills in."
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
    # By their names: of those that were added only the page's are read.
    found = named(integrations.names(), str, cursor, limit)
    return listed(
        found, limit, lambda one: _described(shared.settings, caller, one), lambda one: [one]
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


def _described(settings: Settings, caller: Caller, name: str) -> Integration:
    """As `described`; one whose manifest cannot be read cannot be connected, and is listed."""
    try:
        return described(settings, caller, load(name))
    except LookupError:
        return Integration(
            name=name, title=name, category="Other", sign_in="form", sync_type=SyncType.PULL,
            streams=[], configured=False, missing_settings=[] if caller.is_admin else None,
        )  # fmt: skip


def described(settings: Settings, caller: Caller, connector: Connector) -> Integration:
    missing = missing_settings(settings, connector)
    return Integration(
        name=connector.name,
        title=connector.title,
        category=connector.category,
        sign_in=_sign_in(connector),
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


def _sign_in(connector: Connector) -> Literal["consent", "key", "form"]:
    if isinstance(connector.auth, OAuth2):
        return "consent"
    return "key" if isinstance(connector.auth, ApiKey) else "form"
