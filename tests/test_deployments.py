"""The deployments stand on a real Prefect server, which schedules what it is told to."""

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule

from deployments.prefect_yaml import declared, deploy
from deployments.triggers import MANUAL_SYNC
from flows.sync import sync
from tests._waiting import found


async def test_deploying_twice_changes_nothing(prefect_url: str) -> None:
    async with PrefectClient(prefect_url) as client:
        await deploy(client)
        first = await client.read_deployment_by_name(MANUAL_SYNC)
        await deploy(client)
        second = await client.read_deployment_by_name(MANUAL_SYNC)
    assert first.id == second.id
    assert first.entrypoint == "flows.sync.sync"
    assert "managed-by:atom-sync" in first.tags
    assert first.model_dump(exclude={"updated", "status", "last_polled"}) == second.model_dump(
        exclude={"updated", "status", "last_polled"}
    )


async def test_the_declared_parameters_are_those_of_the_flow(prefect_url: str) -> None:
    async with PrefectClient(prefect_url) as client:
        await deploy(client)
        deployment = await client.read_deployment_by_name(MANUAL_SYNC)
    described: Any = deployment.parameter_openapi_schema
    assert set(described["properties"]) == set(sync.parameters.properties)
    assert described["required"] == ["connection_id"]


def test_every_declared_flow_is_named_as_prefect_would_name_it() -> None:
    from importlib import import_module

    for deployment in declared():
        module, name = deployment.entrypoint.rsplit(".", 1)
        assert getattr(import_module(module), name).name == deployment.flow


async def test_a_scheduled_run_is_inserted(prefect_url: str) -> None:
    """SQLAlchemy 2.1 broke exactly this, without an error: the pins are held by it."""
    async with PrefectClient(prefect_url) as client:
        flow_id = await client.create_flow_from_name("pinned")
        deployment_id = await client.create_deployment(
            flow_id,
            "scheduled",
            schedules=[
                DeploymentScheduleCreate(
                    schedule=IntervalSchedule(interval=timedelta(hours=1)), slug="hourly"
                )
            ],
        )

        async def inserted() -> list[FlowRun]:
            return await client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
                flow_run_filter=FlowRunFilter(
                    state={"type": FlowRunFilterStateType(any_=[StateType.SCHEDULED])}
                ),
            )

        await found(inserted)
        await client.delete_deployment(deployment_id)
