"""The deployments of prefect.yaml, made to stand on a Prefect server."""

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.callables import parameter_schema_from_entrypoint

from deployments import WORK_POOL

_DECLARED = Path(__file__).parent.parent / "prefect.yaml"


def declared() -> list[dict[str, Any]]:
    """The deployments as prefect.yaml declares them."""
    deployments: list[dict[str, Any]] = yaml.safe_load(_DECLARED.read_text())["deployments"]
    return deployments


async def deploy(client: PrefectClient) -> None:
    """Create or update the work pool and every declared deployment; repeating changes nothing."""
    with suppress(ObjectAlreadyExists):  # it may carry an operator's own settings
        await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    for deployment in declared():
        entrypoint = deployment["entrypoint"]
        flow = _flow_name(entrypoint)
        flow_id = await client.create_flow_from_name(flow)
        await client.create_deployment(
            flow_id=flow_id,
            name=deployment["name"],
            entrypoint=entrypoint,
            description=deployment["description"],
            tags=deployment["tags"],
            work_pool_name=deployment["work_pool"]["name"],
            job_variables=deployment["work_pool"]["job_variables"],
            parameter_openapi_schema=parameter_schema_from_entrypoint(
                entrypoint
            ).model_dump_for_openapi(),
            enforce_parameter_schema=True,
            schedules=_schedules(deployment, await _paused(client, f"{flow}/{deployment['name']}")),
        )


def _schedules(deployment: dict[str, Any], paused: set[str]) -> list[DeploymentScheduleCreate]:
    """As declared, each under its slug: Prefect deletes those that have none."""
    return [
        DeploymentScheduleCreate(
            slug=declared["slug"],
            schedule=IntervalSchedule(
                interval=timedelta(seconds=declared["interval"]),
                anchor_date=datetime.fromisoformat(declared["anchor_date"]),
                timezone=declared["timezone"],
            ),
            active=declared["slug"] not in paused,
        )
        for declared in deployment.get("schedules", ())
    ]


async def _paused(client: PrefectClient, name: str) -> set[str]:
    """The schedules that an operator has paused in the Prefect UI: they stay so."""
    try:
        standing = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        return set()
    return {each.slug for each in standing.schedules if each.slug and not each.active}


def _flow_name(entrypoint: str) -> str:
    """`flows.sync.sync` is the flow `sync`: ours are named as their functions, with dashes."""
    return entrypoint.rsplit(".", 1)[1].replace("_", "-")
