"""What is to be changed on the Prefect server, and the changing of it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from deployments import prefect_api
from deployments.desired import MANAGED, TIERS, Deployment, differences
from settings.intervals import in_words

_AT_ONCE = 8


@dataclass(frozen=True)
class Change:
    """What is to be done about one deployment, and what of it is not as it should be."""

    action: Literal["create", "update", "delete"]
    deployment: str
    what: tuple[str, ...]
    wanted: Deployment | None = None
    former: DeploymentResponse | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be changed, how many deployments are right, and what is in the way of others."""

    changes: tuple[Change, ...]
    unchanged: int
    problems: tuple[str, ...] = ()


def planned(
    wanted: Sequence[Deployment],
    there: Mapping[str, DeploymentResponse],
    unknown: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """What is to be done so that these stand, and no other tier deployment of ours does."""
    changes, unchanged = [], 0
    problems = [f"{name}: {reason}" for name, reason in unknown.items()]
    for each in wanted:
        name, former = str(each), there.get(str(each))
        if former is None:
            changes.append(Change("create", name, tuple(_schedule_details(each)), each))
        elif MANAGED not in former.tags:
            problems.append(f"{name}: it stands without the tag {MANAGED}, and is left as it is")
        elif what := tuple(differences(each, former)):
            changes.append(Change("update", name, what, each, former))
        else:
            unchanged += 1
    kept = {str(each) for each in wanted} | set(unknown)
    for name, former in there.items():
        ours = name.startswith(f"{TIERS}/") and MANAGED in former.tags
        if ours and name not in kept:
            changes.append(Change("delete", name, ("no connection needs it",), former=former))
    return Plan(tuple(changes), unchanged, tuple(problems))


def _schedule_details(wanted: Deployment) -> Iterator[str]:
    if wanted.schedules:
        many = f"{len(wanted.schedules)} schedules, " if len(wanted.schedules) > 1 else ""
        yield many + in_words(wanted.schedules[0].interval)


async def carry_out(client: PrefectClient, plan: Plan, there: prefect_api.Standing) -> None:
    """All of it, some at once. If one fails the others are done; then that is raised."""
    flows = dict(there.flows)
    written = [change.wanted for change in plan.changes if change.wanted is not None]
    if written:
        await prefect_api.make_pool(client)
    for flow in sorted({wanted.flow for wanted in written} - set(flows)):
        flows[flow] = await client.create_flow_from_name(flow)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def change_one(change: Change) -> None:
        async with slots:
            if change.wanted is not None:
                flow_id = flows[change.wanted.flow]
                await prefect_api.put(client, change.wanted, flow_id, change.former)
            elif change.former is not None:
                await prefect_api.remove(client, change.former.id)

    outcomes = await asyncio.gather(*map(change_one, plan.changes), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
