"""The deployments of prefect.yaml, which need no database."""

import asyncio
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient
from prefect.utilities.callables import parameter_schema_from_entrypoint

from deployments.desired import Deployment, Scheduled
from deployments.plan import carry_out, planned
from deployments.prefect_api import standing

_DECLARED = Path(__file__).parent.parent / "prefect.yaml"


def declared() -> list[Deployment]:
    """The deployments as prefect.yaml declares them."""
    return [_wanted(deployment) for deployment in _read()["deployments"]]


async def deploy(client: PrefectClient) -> None:
    """Makes them stand, changing nothing that is right."""
    wanted = await asyncio.to_thread(declared)
    there = await standing(client, {each.flow for each in wanted})
    await carry_out(client, planned(wanted, there.deployments), there)


def job_variables() -> dict[str, Any]:
    """What every run of ours tells the work pool."""
    found: dict[str, Any] = _read()["definitions"]["work_pool"]["job_variables"]
    return found


@cache
def parameter_schema(entrypoint: str) -> dict[str, Any]:
    """The parameters of a flow, read from its source: nothing here imports flows."""
    return parameter_schema_from_entrypoint(entrypoint).model_dump_for_openapi()


@cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_DECLARED.read_text())
    return found


def _wanted(deployment: dict[str, Any]) -> Deployment:
    return Deployment(
        entrypoint=deployment["entrypoint"],
        name=deployment["name"],
        description=deployment["description"],
        tags=frozenset(deployment["tags"]),
        job_variables=deployment["work_pool"]["job_variables"],
        parameter_schema=parameter_schema(deployment["entrypoint"]),
        schedules=tuple(
            Scheduled(
                slug=schedule["slug"],
                interval=timedelta(seconds=schedule["interval"]),
                anchor=datetime.fromisoformat(schedule["anchor_date"]),
            )
            for schedule in deployment.get("schedules", ())
        ),
    )
