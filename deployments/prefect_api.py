"""Our deployments on a Prefect server: read in bulk, and each written by one call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import httpx  # noqa: TID251 - only for the errors that Prefect's client raises
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from pydantic import ValidationError

from deployments import WORK_POOL
from deployments.desired import Deployment
from deployments.errors import PrefectUnavailableError
from settings import Settings

T = TypeVar("T")
Say = Callable[[str], None]

PATIENCE_SECONDS = 60.0
SILENT_SECONDS = 3.0
_AMISS = "the Prefect server does not answer as it should; try again"
_NOT_THERE = (
    "no Prefect server answers at PREFECT_API_URL: start `atom-sync up`, or compare the address"
)
_PAGE = 200  # as many as a Prefect server gives at once (3.8)


@asynccontextmanager
async def connected(settings: Settings, trouble: str = "") -> AsyncIterator[PrefectClient]:
    """A client of the settings' Prefect server; PrefectUnavailableError for all that goes wrong.

    `trouble` says what that means to the caller, where it is not the caller who can mend it.
    """
    if settings.prefect_api_url is None:
        raise PrefectUnavailableError("no Prefect server: set PREFECT_API_URL")
    password = settings.prefect_password
    try:
        async with PrefectClient(
            settings.prefect_api_url,
            auth_string=password.get_secret_value() if password else None,
        ) as client:
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.UNAUTHORIZED:
            trouble = (
                "the Prefect server does not accept our password: set PREFECT_API_AUTH_STRING to"
                " the server's PREFECT_SERVER_API_AUTH_STRING"
            )
        raise PrefectUnavailableError(trouble or _AMISS) from error
    except httpx.ConnectError as error:
        raise PrefectUnavailableError(trouble or _NOT_THERE) from error
    except (httpx.HTTPError, PrefectException, ValidationError) as error:
        raise PrefectUnavailableError(trouble or _AMISS) from error


@asynccontextmanager
async def answering(say: Say | None = None) -> AsyncIterator[None]:
    """What a server has a minute for; after some seconds of silence `say` gets a line."""
    line = f"the Prefect server does not answer; waiting up to {PATIENCE_SECONDS:.0f} s for it …"
    loop = asyncio.get_running_loop()
    saying = loop.call_later(SILENT_SECONDS, say or (lambda line: None), line)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError:
        trouble = f"the Prefect server has not answered for {PATIENCE_SECONDS:.0f} s"
        raise PrefectUnavailableError(f"{trouble}: `atom-sync doctor` says more") from None
    finally:
        saying.cancel()


async def patiently(call: Callable[[], Awaitable[T]], say: Say | None = None) -> T:
    """What a server answers that may be away for a minute, as one is that is started again."""
    async with answering(say):
        while True:
            with suppress(httpx.TransportError):
                return await call()
            await asyncio.sleep(0.5)


@dataclass(frozen=True)
class Standing:
    """What stands on the server: flows by name, and their deployments by `flow/name`."""

    flows: Mapping[str, UUID]
    deployments: Mapping[str, DeploymentResponse]


async def standing(client: PrefectClient, flows: Iterable[str]) -> Standing:
    """Those of these flows, whoever made them."""
    named = FlowFilter(name=FlowFilterName(any_=sorted(flows)))
    found = {flow.id: flow.name for flow in await client.read_flows(flow_filter=named)}
    deployments: dict[str, DeploymentResponse] = {}
    while True:
        page = await client.read_deployments(
            flow_filter=named, limit=_PAGE, offset=len(deployments)
        )
        for deployment in page:
            deployments[f"{found[deployment.flow_id]}/{deployment.name}"] = deployment
        if len(page) < _PAGE:
            return Standing({name: id for id, name in found.items()}, deployments)


async def make_pool(client: PrefectClient) -> None:
    """Sees to it that our work pool is there; if it is, it may carry an operator's settings."""
    try:
        await client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        with suppress(ObjectAlreadyExists):  # by another process, just now
            await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))


async def put(
    client: PrefectClient, wanted: Deployment, flow_id: UUID, former: DeploymentResponse | None
) -> None:
    """Makes a deployment what it should be, all at once.

    Schedules that an operator has paused stay so.
    """
    paused = {each.slug for each in former.schedules if not each.active} if former else set()
    await client.create_deployment(
        flow_id=flow_id,
        name=wanted.name,
        version=wanted.version,
        entrypoint=wanted.entrypoint,
        description=wanted.description,
        tags=sorted(wanted.tags | set(former.tags if former else ())),
        parameters=dict(wanted.parameters),
        work_pool_name=WORK_POOL,
        job_variables=dict(wanted.job_variables),
        parameter_openapi_schema=dict(wanted.parameter_schema),
        enforce_parameter_schema=True,
        pull_steps=[],
        schedules=[
            DeploymentScheduleCreate(
                slug=schedule.slug,
                schedule=IntervalSchedule(
                    interval=schedule.interval, anchor_date=schedule.anchor, timezone="UTC"
                ),
                parameters=dict(schedule.parameters),
                active=schedule.slug not in paused,
            )
            for schedule in wanted.schedules
        ],
    )


async def remove(client: PrefectClient, deployment_id: UUID) -> None:
    """Takes a deployment away, and the runs that it had scheduled."""
    with suppress(ObjectNotFound):  # somebody else was faster
        await client.delete_deployment(deployment_id)
