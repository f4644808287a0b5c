"""Connections: looking at them and their streams, pausing, syncing at once, ending them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from accounts import disconnecting
from accounts.runtime import Runtime
from deployments.sync_orders import Order, UnderWayError, order_sync
from integrations import load, streams_of
from settings.webhooks import own_address
from storage import Status, connections, freshness, records
from storage.idempotency import Claim
from web._auth import Caller, Scope, Shared, needs
from web._idempotency import Made, OnceOnly
from web._problems import Problem, invalid, responses
from web._tenants import named as named_tenant
from web.api import runs
from web.api._fields import (
    DEFAULT_LIMIT,
    ConnectionId,
    CursorText,
    Limit,
    Listed,
    TenantName,
    listed,
    named,
    place_of,
)
from web.api.runs import Run

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
            streams=[stream.name for stream in streams_of(found.integration)],
            webhook_url=own_address(shared.settings, found.integration, found.id),
        )


class SyncOrder(BaseModel):
    """How to sync; an empty body brings every stream up to date."""

    model_config = ConfigDict(extra="forbid")

    streams: list[str] | None = Field(
        default=None, max_length=100, description="Only these.", examples=[["contacts"]]
    )
    full: bool = Field(default=False, description="Read everything again.")


class Stream(BaseModel):
    """One kind of record of a connection: how fresh it is, and how much there is of it."""

    name: str = Field(examples=["contacts"])
    records: int = Field(description="Those that are there; deleted ones do not count.")
    last_synced_at: datetime | None = Field(description="When it was last read to its end.")
    age_seconds: float | None = Field(
        description="How old its data may be; null of one that is not polled."
    )
    interval_seconds: float | None = Field(description="How often it is polled, by the tier.")
    late: str | None = Field(
        description="Why it is later than its tier promises: `paused`, `token`, `syncing`, "
        "`breaker open`, `vendor limit`, `failing`, `never synced` or `backlog`. Null: it is not."
    )
    unread: list[str] = Field(
        description="Its parts, such as channels, that could not be read, each with why."
    )
    refusal: str | None = Field(
        description="Why the vendor refuses it until the tenant's administrator acts."
    )


async def visible(shared: Runtime, caller: Caller, connection_id: UUID) -> connections.Connection:
    """The connection, if it is one of a tenant that the caller may act for."""
    found = await connections.get(shared.database, connection_id)
    caller.must_act_for(found.tenant_id, connections.absent(connection_id))
    return found


@router.get("", summary="Connections", responses=responses(404))
async def list_connections(
    shared: Shared,
    caller: Reader,
    tenant_id: TenantName = None,
    integration: Annotated[
        str | None, Query(pattern=r"^[a-z0-9_]{1,63}$", examples=["hubspot"])
    ] = None,
    status: Status | None = None,
    cursor: CursorText = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Listed[Connection]:
    """Those of the tenant that is named; if none is, the token's own, and for `admin` all.

    In the order of tenants' slugs, integrations and accounts.
    """
    if tenant_id is not None:
        whose: UUID | None = (await named_tenant(shared.database, caller, tenant_id)).id
    else:
        whose = None if caller.is_admin else caller.tenant_id
    place = place_of(cursor, 3)
    found = await connections.page(
        shared.database,
        tenant_id=whose,
        integration=integration,
        status=status,
        after=(place[0], place[1], place[2]) if place else None,
        limit=limit + 1,
    )
    return listed(found, limit, lambda one: Connection.of(shared, one), _place)


@router.get("/{connection_id}", summary="One connection", responses=responses(404))
async def get_connection(shared: Shared, caller: Reader, connection_id: ConnectionId) -> Connection:
    return Connection.of(shared, await visible(shared, caller, connection_id))


@router.get(
    "/{connection_id}/streams", summary="Its streams: freshness and counts",
    responses=responses(404),
)  # fmt: skip
async def list_streams(
    shared: Shared,
    caller: Reader,
    connection_id: ConnectionId,
    cursor: CursorText = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Listed[Stream]:
    """Records are counted one by one: of a million that takes about a second."""
    found = await visible(shared, caller, connection_id)
    counts = await records.counts(shared.database, [found.id])
    fresh = await freshness.of_streams(shared.database, [found.id])

    def shown(name: str) -> Stream:
        return _stream(name, counts.get((found.id, name)), fresh.get((found.id, name)))

    names = [stream.name for stream in streams_of(found.integration)]
    return listed(named(names, lambda name: name, cursor, limit), limit, shown, lambda name: [name])


@router.post(
    "/{connection_id}/pause", summary="No syncs until it is resumed", responses=responses(404, 409)
)
async def pause_connection(
    shared: Shared, caller: Writer, connection_id: ConnectionId
) -> Connection:
    found = await visible(shared, caller, connection_id)
    return _switched(shared, await connections.pause(shared.database, found.id), Status.PAUSED)


@router.post(
    "/{connection_id}/resume", summary="Sync again, from now on", responses=responses(404, 409)
)
async def resume_connection(
    shared: Shared, caller: Writer, connection_id: ConnectionId
) -> Connection:
    found = await visible(shared, caller, connection_id)
    return _switched(shared, await connections.resume(shared.database, found.id), Status.ACTIVE)


@router.post(
    "/{connection_id}/sync",
    status_code=202,
    summary="Sync now",
    description="202 with a new run, which waits for a worker. 200 with the run that waits or is "
    "under way already: a connection has one at a time. 409 where that one reads less than was "
    "asked for (`full`, or other `streams`): `run_id` names it, nothing is noted, ask again when "
    "it has ended.",
    response_model=Run,
    responses={
        **responses(404, 409),
        200: {"model": Run, "description": "The run that waits or is under way"},
        202: {"description": "A new run"},
    },
)
async def start_sync(
    shared: Shared,
    caller: Writer,
    once: OnceOnly,
    connection_id: ConnectionId,
    order: Annotated[SyncOrder, Body(default_factory=SyncOrder)],
) -> Response:
    async def make(claim: Claim | None) -> Made:
        found = await visible(shared, caller, connection_id)
        for name in order.streams or ():
            _must_have(found, name)
        if found.status is not Status.ACTIVE:
            raise _stands(found)
        return await _ordered(shared, found, order)

    return await once(caller, make)


async def _ordered(shared: Runtime, found: connections.Connection, order: SyncOrder) -> Made:
    try:
        ordered = await order_sync(
            shared.settings, shared.database, found, Order(order.streams, order.full)
        )
    except UnderWayError as error:
        raise Problem(409, str(error), run_id=str(error.flow_run_id)) from None
    run = await runs.of_id(shared, found, ordered.flow_run_id)
    return Made(run, found.tenant_id, 202 if ordered.is_new else 200)


@router.delete(
    "/{connection_id}",
    status_code=204,
    summary="Disconnect",
    description="The vendor is told, where it can be. The records stay unless `purge` is set; "
    "then nothing of the connection stays.",
    responses=responses(404),
)
async def delete_connection(
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


def _must_have(found: connections.Connection, name: str) -> None:
    try:
        load(found.integration).stream(name)
    except LookupError as error:
        raise invalid("body.streams", str(error)) from None


def _place(one: connections.Connection) -> list[str]:
    return [one.tenant_slug, one.integration, one.account_id]


def _stream(name: str, count: records.Count | None, fresh: freshness.Fresh | None) -> Stream:
    return Stream(
        name=name,
        records=count.rows if count else 0,
        last_synced_at=count.last_synced_at if count else None,
        age_seconds=fresh.age.total_seconds() if fresh else None,
        interval_seconds=fresh.every.total_seconds() if fresh else None,
        late=fresh.reason if fresh else None,
        unread=[str(one) for one in count.unread] if count else [],
        refusal=count.refusal if count else None,
    )


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
