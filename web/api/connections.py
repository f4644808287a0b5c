"""Connections: looking at them, pausing, syncing at once, ending them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from accounts import disconnecting
from accounts.runtime import Runtime
from connectors import load
from deployments.triggers import started_sync
from settings.webhooks import own_address
from storage import Status, connections, tenants
from web._auth import Caller, Scope, Shared, needs
from web._problems import Problem, responses
from web.api._fields import ConnectionId, Items

router = APIRouter(prefix="/api/connections", tags=["connections"])
Reader = Annotated[Caller, needs(Scope.CONNECTIONS_READ)]
Writer = Annotated[Caller, needs(Scope.CONNECTIONS_WRITE)]


class Connection(BaseModel):
    """A tenant's authorised link to one account at a vendor."""

    id: UUID
    tenant_id: UUID
    integration: str = Field(examples=["hubspot"])
    account_id: str = Field(description="The vendor's own id.", examples=["9182736"])
    account_name: str = Field(examples=["Acme's portal"])
    status: Status
    status_reason: str | None = Field(description="For people: what is wrong, what to do.")
    last_synced_at: datetime | None
    streams: list[str] = Field(examples=[["companies", "contacts", "deals"]])
    webhook_url: str | None = Field(
        description="Where the vendor is to deliver, if it takes an address from its own "
        "administrators. It is a secret: who knows it can have the connection read again."
    )

    @classmethod
    def of(cls, shared: Runtime, found: connections.Connection) -> "Connection":
        return cls(
            id=found.id,
            tenant_id=found.tenant_id,
            integration=found.integration,
            account_id=found.account_id,
            account_name=found.account_name,
            status=found.status,
            status_reason=found.status_reason,
            last_synced_at=found.last_synced_at,
            streams=[stream.name for stream in load(found.integration).streams],
            webhook_url=own_address(shared.settings, found.integration, found.id),
        )


class SyncOrder(BaseModel):
    """How to sync; an empty body brings every stream up to date."""

    model_config = ConfigDict(extra="forbid")

    streams: list[str] | None = Field(
        default=None, max_length=100, description="Only these.", examples=[["contacts"]]
    )
    full: bool = Field(default=False, description="Read everything again.")


class StartedSync(BaseModel):
    flow_run_id: UUID = Field(description="The run in the Prefect UI.")


async def visible(shared: Runtime, caller: Caller, connection_id: UUID) -> connections.Connection:
    """The connection, if it is one of a tenant that the caller may act for."""
    found = await connections.get(shared.database, connection_id)
    caller.must_act_for(found.tenant_id, connections.absent(connection_id))
    return found


@router.get("", summary="A tenant's connections", responses=responses(404))
async def list_connections(
    shared: Shared,
    caller: Reader,
    tenant_id: Annotated[UUID | None, Query(description="The token's own if not given.")] = None,
    integration: Annotated[str | None, Query(pattern=r"^[a-z0-9_]{1,63}$")] = None,
    status: Status | None = None,
) -> Items[Connection]:
    whose = tenant_id or caller.tenant_id
    caller.must_act_for(whose, tenants.absent(whose))
    found = await connections.of_tenant(
        shared.database, whose, integration=integration, status=status
    )
    return Items(items=[Connection.of(shared, one) for one in found])


@router.get("/{connection_id}", summary="One connection", responses=responses(404))
async def read_connection(
    shared: Shared, caller: Reader, connection_id: ConnectionId
) -> Connection:
    return Connection.of(shared, await visible(shared, caller, connection_id))


@router.post(
    "/{connection_id}/pause", summary="No syncs until it is resumed", responses=responses(404, 409)
)
async def pause(shared: Shared, caller: Writer, connection_id: ConnectionId) -> Connection:
    found = await visible(shared, caller, connection_id)
    return _switched(shared, await connections.pause(shared.database, found.id), Status.PAUSED)


@router.post(
    "/{connection_id}/resume", summary="Sync again, from now on", responses=responses(404, 409)
)
async def resume(shared: Shared, caller: Writer, connection_id: ConnectionId) -> Connection:
    found = await visible(shared, caller, connection_id)
    return _switched(shared, await connections.resume(shared.database, found.id), Status.ACTIVE)


@router.post(
    "/{connection_id}/sync",
    status_code=202,
    summary="Sync now",
    description="Answers once Prefect has taken the run; a sync under way is not doubled.",
    responses=responses(404, 409),
)
async def sync_now(
    shared: Shared, caller: Writer, connection_id: ConnectionId, given: SyncOrder | None = None
) -> StartedSync:
    found = await visible(shared, caller, connection_id)
    order = given or SyncOrder()
    for name in order.streams or ():
        known_stream(found, name, status=422)
    if found.status is not Status.ACTIVE:
        raise _stands(found)
    run_id = await started_sync(
        shared.settings, found, trigger="api", streams=order.streams, full=order.full
    )
    return StartedSync(flow_run_id=run_id)


@router.delete(
    "/{connection_id}",
    status_code=204,
    summary="Disconnect",
    description="The vendor is told, where it can be. The records stay unless `purge` is set; "
    "then nothing of the connection stays.",
    responses=responses(404),
)
async def disconnect(
    shared: Shared,
    caller: Writer,
    connection_id: ConnectionId,
    purge: Annotated[bool, Query(description="Remove its records, too.")] = False,
) -> Response:
    found = await visible(shared, caller, connection_id)
    await disconnecting.disconnect(
        shared.disconnector(), tenant_id=found.tenant_id, connection_id=found.id, purge=purge
    )
    return Response(status_code=204)


def known_stream(found: connections.Connection, name: str, *, status: int) -> None:
    try:
        load(found.integration).stream(name)
    except LookupError as error:
        raise Problem(status, str(error)) from error


def _switched(shared: Runtime, found: connections.Connection, wanted: Status) -> Connection:
    if found.status is not wanted:
        raise _stands(found)
    return Connection.of(shared, found)


def _stands(found: connections.Connection) -> Problem:
    remedy = {
        Status.NEEDS_REAUTH: "its tenant must connect it again",
        Status.PAUSED: "resume it first",
        Status.REVOKED: "it is over until its tenant connects it again",
    }.get(found.status, "it changed in this very moment: look again")
    return Problem(409, f"{found} is {found.status}: {remedy}")
