"""Runs: what a sync was started for, what it is at, and what it did to each stream."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import BaseModel, Field

from accounts.runtime import Runtime
from deployments import sync_orders
from deployments.triggers import PrefectUnavailableError
from settings import Settings
from storage import NotFoundError, connections, history
from storage.history import Noted
from storage.models import Failure
from web._auth import Caller, Scope, Shared, needs
from web._problems import invalid, responses
from web.api._fields import (
    DEFAULT_LIMIT,
    NO_CURSOR,
    ConnectionId,
    CursorText,
    Limit,
    Listed,
    cursor_of,
    place_of,
)

router = APIRouter(prefix="/api", tags=["runs"])
Reader = Annotated[Caller, needs(Scope.CONNECTIONS_READ)]

State = Literal["waiting", "running", "done", "failed", "cancelled", "put_off"]
Reason = Literal["schedule", "event", "person", "connection", "audit"]
Actor = Literal["nobody", "tenant", "tenant_administrator", "operator"]
REASONS: Mapping[str, Reason] = {
    "schedule": "schedule", "webhook": "event", "connect": "connection", "audit": "audit",
}  # fmt: skip
ACTORS: Mapping[Failure, Actor] = {
    Failure.BROKEN: "tenant",
    Failure.NOT_ALLOWED: "tenant_administrator",
    Failure.UNAVAILABLE: "nobody",
    Failure.RATE_LIMITED: "nobody",
    Failure.CONTRACT: "operator",
    Failure.OURS: "operator",
}
AWAY = (Failure.UNAVAILABLE, Failure.RATE_LIMITED)
SHORTEST = timedelta(microseconds=1)  # as PostgreSQL keeps times
CANCELLED_BY_HAND = "cancelled"  # what a sync notes of it (`flows.sync`)


class Counts(BaseModel):
    """What a run did to a stream's records."""

    changed: int = Field(examples=[12])
    deleted: int = Field(examples=[1])
    error: str | None = Field(default=None, description="Why it was not read to its end.")


class RunError(BaseModel):
    """Why a run did not do what it was to do."""

    message: str = Field(examples=["HubSpot refused the token; its tenant must connect it again"])
    who_acts: Actor = Field(description="`nobody`: what is due is tried again by itself.")


class Run(BaseModel):
    """A sync of a connection."""

    id: UUID = Field(description="Its flow run at Prefect, too.")
    connection_id: UUID
    state: State = Field(
        description="`waiting` for a worker, `running`, `done`, `failed`, `cancelled` by a person, "
        "or `put_off`: it could not be done now, and nobody has to act. The last four are ends."
    )
    reason: Reason = Field(
        description="What it was started for: its `schedule`, an `event` of the vendor's, a "
        "`person` or this API, a new `connection`, or an `audit`."
    )
    started_at: datetime | None = Field(description="Null while it waits.")
    ended_at: datetime | None
    changed: int = Field(description="Records, of all streams.", examples=[12])
    deleted: int = Field(examples=[1])
    streams: dict[str, Counts] = Field(
        description="Those that it has read; known once it has ended.",
        examples=[{"contacts": {"changed": 12, "deleted": 1}}],
    )
    error: RunError | None
    prefect_url: str | None = Field(
        description="The run in the Prefect UI, as this service reaches it.",
        examples=["http://127.0.0.1:4200/runs/flow-run/0c9f6a5e-8b7d-4c43-8a0e-6f1d2c3b4a59"],
    )


class Runs(Listed[Run]):
    """A page of a connection's runs."""

    complete: bool = Field(
        description="False where Prefect did not answer: runs that only wait may be missing."
    )


@router.get("/runs/{run_id}", summary="One run", responses=responses(404))
async def get_run(
    shared: Shared,
    caller: Reader,
    run_id: Annotated[UUID, Path(examples=["5f3a9e0c-2f63-4a5e-9d0b-7f6b1b1f3f7a"])],
) -> Run:
    """Also one that waits and has begun nothing."""
    absent = f"there is no run {run_id}"
    noted = await history.of_flow_run(shared.database, run_id)
    if noted is not None:
        caller.must_act_for(noted.tenant_id, absent)
        return of_noted(shared.settings, noted)
    found = await sync_orders.read_run(shared.settings, run_id)
    connection_id = _connection_id(found) if found else None
    if found is None or connection_id is None:
        raise NotFoundError(absent)
    try:
        connection = await connections.get(shared.database, connection_id)
    except NotFoundError:
        raise NotFoundError(absent) from None
    caller.must_act_for(connection.tenant_id, absent)
    return of_flow_run(shared.settings, found, connection_id)


@router.get(
    "/connections/{connection_id}/runs",
    summary="A connection's runs, the newest first",
    responses=responses(404),
)
async def list_runs(
    shared: Shared,
    caller: Reader,
    connection_id: ConnectionId,
    cursor: CursorText = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Runs:
    """Those that wait come first, on the first page. Runs are kept for 90 days."""
    found = await connections.get(shared.database, connection_id)
    caller.must_act_for(found.tenant_id, connections.absent(connection_id))
    before = _before(cursor)
    waiting, complete = ([], True) if before else await _waiting(shared, found.id)
    waiting = waiting[:limit]
    room = limit - len(waiting)
    noted = await history.page(shared.database, found.id, before=before, limit=room + 1)
    return Runs(
        items=[*waiting, *(of_noted(shared.settings, one) for one in noted[:room])],
        next_cursor=_after(noted, room),
        complete=complete,
    )


def _after(noted: Sequence[Noted], room: int) -> str | None:
    """The cursor that leads on from the last of those for which there is room; a page that is full
    of runs that wait has none of them."""
    if len(noted) <= room:
        return None
    if room:
        return cursor_of([noted[room - 1].started_at.isoformat(), str(noted[room - 1].id)])
    return cursor_of([(noted[0].started_at + SHORTEST).isoformat(), str(UUID(int=0))])


async def of_id(shared: Runtime, connection: connections.Connection, run_id: UUID) -> Run:
    """That run of the connection."""
    if noted := await history.of_flow_run(shared.database, run_id):
        return of_noted(shared.settings, noted)
    found = await sync_orders.read_run(shared.settings, run_id)
    if found is None:
        raise NotFoundError(f"there is no run {run_id}")
    return of_flow_run(shared.settings, found, connection.id)


async def _waiting(shared: Runtime, connection_id: UUID) -> tuple[list[Run], bool]:
    """The runs that have begun nothing, and whether Prefect said which there are."""
    try:
        found = await sync_orders.waiting_runs(shared.settings, connection_id)
    except PrefectUnavailableError:
        return [], False
    return [
        of_flow_run(shared.settings, run, connection_id)
        for run in found
        if await history.of_flow_run(shared.database, run.id) is None
    ], True


def _before(cursor: str | None) -> tuple[datetime, UUID] | None:
    place = place_of(cursor, 2)
    if place is None:
        return None
    try:
        at, id = datetime.fromisoformat(place[0]), UUID(place[1])
    except ValueError:
        raise invalid("query.cursor", NO_CURSOR) from None
    if at.tzinfo is None:
        raise invalid("query.cursor", NO_CURSOR)
    return at, id


def of_noted(settings: Settings, noted: Noted) -> Run:
    """A run that has begun, as we noted it."""
    streams = {
        name: Counts(changed=each["rows"], deleted=each["deletes"], error=each["error"])
        for name, each in noted.streams.items()
    }
    state = _state(noted)
    return Run(
        id=noted.flow_run_id,
        connection_id=noted.connection_id,
        state=state,
        reason=REASONS.get(noted.trigger, "person"),
        started_at=noted.started_at,
        ended_at=noted.ended_at,
        changed=sum(each.changed for each in streams.values()),
        deleted=sum(each.deleted for each in streams.values()),
        streams=streams,
        error=_error(noted, state),
        prefect_url=prefect_url(settings, noted.flow_run_id),
    )


def _state(noted: Noted) -> State:
    if noted.ended_at is None:
        return "running"
    if noted.status == "completed":
        return "done"
    if noted.status == "stopped":
        return "cancelled" if noted.message == CANCELLED_BY_HAND else "put_off"
    return "put_off" if noted.failure in AWAY else "failed"


def _error(noted: Noted, state: State) -> RunError | None:
    if state in ("running", "done"):
        return None
    actor = ACTORS.get(noted.failure, "nobody") if noted.failure else "nobody"
    return RunError(message=noted.message, who_acts=actor)


def of_flow_run(settings: Settings, run: FlowRun, connection_id: UUID) -> Run:
    """A run that has begun nothing that we noted, as Prefect has it."""
    state = _prefect_state(run)
    return Run(
        id=run.id,
        connection_id=connection_id,
        state=state,
        reason=REASONS.get(str(run.parameters.get("trigger")), "person"),
        started_at=run.start_time,
        ended_at=run.end_time,
        changed=0,
        deleted=0,
        streams={},
        error=_UNBEGUN.get(state),
        prefect_url=prefect_url(settings, run.id),
    )


# Not Prefect's own words, which may tell of what no tenant is to see.
_UNBEGUN: Mapping[State, RunError] = {
    "failed": RunError(
        message="it ended before it read anything: the Prefect UI says why", who_acts="operator"
    ),
    "cancelled": RunError(message="it was cancelled before it read anything", who_acts="nobody"),
    "put_off": RunError(
        message="it read nothing, since another run was at work or the database was not well; "
        "what is due is read by itself, and what was ordered besides is to be ordered again",
        who_acts="nobody",
    ),
}


def _prefect_state(run: FlowRun) -> State:
    state = run.state
    match state.type if state else StateType.SCHEDULED:
        case StateType.SCHEDULED | StateType.PENDING | StateType.PAUSED:
            return "waiting"
        case StateType.RUNNING | StateType.CANCELLING:
            return "running"
        case StateType.COMPLETED:
            # It would have noted what it did: it found another at work.
            return "put_off"
        case StateType.CANCELLED if state is not None and state.name == PUT_OFF:
            return "put_off"
        case StateType.CANCELLED:
            return "cancelled"
        case _:
            return "failed"


PUT_OFF = "PutOff"  # as `flows._passing` names that state


def prefect_url(settings: Settings, flow_run_id: UUID) -> str | None:
    """Where the UI of a Prefect server of our own shows a run."""
    url = settings.prefect_api_url or ""
    if not url.endswith("/api"):
        return None
    return f"{url.removesuffix('/api')}/runs/flow-run/{flow_run_id}"


def _connection_id(run: FlowRun) -> UUID | None:
    """Whose run it is; None of a run of another flow."""
    given: Any = run.parameters.get("connection_id")
    try:
        return UUID(given) if isinstance(given, str) else None
    except ValueError:
        return None
