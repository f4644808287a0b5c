"""Deployments as they should stand on the Prefect server, and how what stands there differs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from deployments import WORK_POOL

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

MANAGED = "managed-by:atom-sync"
TIERS = "sync-tier"  # the flow of the deployments that are made from the database


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """A schedule, known by its slug: Prefect deletes those that have none."""

    slug: str
    interval: timedelta
    anchor: datetime
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A deployment that should stand. Without a version, any will do.

    `parameter_schema` is what Prefect derives from the flow's signature.
    """

    entrypoint: str
    name: str
    description: str
    tags: frozenset[str]
    job_variables: Mapping[str, Any]
    parameter_schema: Mapping[str, Any]
    schedules: tuple[Scheduled, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None

    @property
    def flow(self) -> str:
        """`flows.sync.sync` is the flow `sync`: ours are named as their functions, with dashes."""
        return self.entrypoint.rsplit(".", 1)[1].replace("_", "-")

    def __str__(self) -> str:
        return f"{self.flow}/{self.name}"


def tier_name(integration: str, tier: str) -> str:
    """`sync-tier/hubspot-TEAM`"""
    return f"{TIERS}/{integration}-{tier}"


def shard_slug(shard: int) -> str:
    """What a tier deployment's schedule is known by."""
    return f"shard-{shard}"


def differences(wanted: Deployment, standing: "DeploymentResponse") -> Iterator[str]:
    """What is to be changed of one that stands, in words.

    Whether it is paused, or a schedule of it, is the operator's to say; so are further tags. A
    schedule that was paused or resumed in the Prefect UI has lost its parameters (3.8.8).
    """
    if (standing.description or "").strip() != wanted.description.strip():
        yield "description"
    if missing := sorted(wanted.tags - set(standing.tags)):
        yield f"tags {', '.join(missing)}"
    if wanted.version is not None and standing.version != wanted.version:
        yield f"version {standing.version or 'none'} → {wanted.version}"
    if standing.entrypoint != wanted.entrypoint:
        yield f"entrypoint {standing.entrypoint} → {wanted.entrypoint}"
    if standing.parameters != wanted.parameters:
        yield "parameters"
    if _schema(standing.parameter_openapi_schema or {}) != _schema(wanted.parameter_schema):
        yield "parameter schema"
    if not standing.enforce_parameter_schema:
        yield "parameters are not enforced"
    if standing.work_pool_name != WORK_POOL:
        yield f"work pool {standing.work_pool_name} → {WORK_POOL}"
    if standing.job_variables != wanted.job_variables:
        yield "job variables"
    if standing.pull_steps:
        yield "pull steps"
    if standing.global_concurrency_limit is not None:
        yield "concurrency limit"
    yield from _of_schedules(wanted, standing)


def _of_schedules(wanted: Deployment, standing: "DeploymentResponse") -> Iterator[str]:
    there = {schedule.slug: schedule for schedule in standing.schedules}
    for schedule in wanted.schedules:
        found = there.pop(schedule.slug, None)
        if found is None:
            yield f"new schedule {schedule.slug}"
        elif not _same(schedule, found):
            yield f"schedule {schedule.slug}"
    for slug in there:
        yield f"no schedule {slug or 'without a slug'}"


def _same(wanted: Scheduled, standing: "DeploymentSchedule") -> bool:
    kept = standing.schedule
    return (
        getattr(kept, "interval", None) == wanted.interval
        and getattr(kept, "anchor_date", None) == wanted.anchor
        and standing.parameters == wanted.parameters
    )


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is left out where it is empty, or not, by whoever writes it."""
    return {name: value for name, value in schema.items() if name != "definitions" or value}
