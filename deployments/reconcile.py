"""Makes the Prefect server match what the database says: schedules for those who are connected.

`sync-tier/<integration>-<tier>` stands for each integration and tier with active connections. What
is right is not touched, and neither is what somebody else made.
"""

import asyncio
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from prefect.client.orchestration import PrefectClient

from deployments import prefect_api, prefect_yaml
from deployments.desired import MANAGED, TIERS, Deployment, Scheduled, shard_slug, tier_name
from deployments.plan import Plan, carry_out, planned
from deployments.tiers import EPOCH, PollPolicy, shards_of
from integrations import load
from settings import Settings
from settings.intervals import in_words
from storage import schedules
from storage.database import Database
from storage.schedules import Group

ENTRYPOINT = "flows.dispatch.sync_tier"
_ROOT = Path(__file__).parent.parent


async def reconcile(
    settings: Settings,
    database: Database,
    *,
    whole: bool = False,
    missing: bool = False,
    dry_run: bool = False,
    show: Callable[[Plan], None] = lambda plan: None,
    patience: float = 0.0,
) -> Plan | None:
    """Makes the tier deployments what they should be; with `whole`, those of prefect.yaml, too.

    With `missing`, of those of prefect.yaml only what somebody deleted is put back: while releases
    change, another's may stand there.

    `show` gets the plan before we carry it out. None if another process was at it for all of
    `patience` seconds. A stop half-way leaves whole deployments, and the next run does the rest.
    """
    async with prefect_api.connected(settings) as client:
        while True:
            async with schedules.alone(database) as alone:
                if alone:
                    return await _reconcile(
                        settings, database, client, whole=whole, missing=missing,
                        dry_run=dry_run, show=show,
                    )  # fmt: skip
            if patience <= 0:
                return None
            patience -= 0.5
            await asyncio.sleep(0.5)


async def _reconcile(
    settings: Settings,
    database: Database,
    client: PrefectClient,
    *,
    whole: bool,
    missing: bool,
    dry_run: bool,
    show: Callable[[Plan], None],
) -> Plan:
    marks = await schedules.marks(database)  # before what they mark is read
    found = await schedules.groups(database)
    # Reading a flow's signature from its source takes a while.
    tiers, problems = await asyncio.to_thread(tier_deployments, settings, found)
    declared = await asyncio.to_thread(prefect_yaml.declared) if whole or missing else []
    there = await prefect_api.standing(client, {TIERS, *(each.flow for each in declared)})
    if not whole:
        declared = [each for each in declared if str(each) not in there.deployments]
    wanted = [*declared, *tiers]
    plan = planned(wanted, there.deployments, problems)
    show(plan)
    if not dry_run:
        await carry_out(client, plan, there)
        if marks is not None:
            await schedules.unmark(database, marks)
    return plan


def tier_deployments(
    settings: Settings, groups: Iterable[Group]
) -> tuple[list[Deployment], dict[str, str]]:
    """The deployments for these groups; and those that cannot be made here, with the reason."""
    wanted, problems = [], {}
    for group in groups:
        try:
            connector = load(group.integration)
        except LookupError as error:
            # Another version of us may know it: what it has made is left alone.
            problems[tier_name(group.integration, group.tier)] = str(error)
            continue
        if connector.streams:
            wanted.append(tier_deployment(PollPolicy.of(settings, connector, group.tier), group))
    return wanted, problems


def tier_deployment(policy: PollPolicy, group: Group) -> Deployment:
    """The deployment for one integration and tier: a schedule for each shard."""
    shards = shards_of(group.connections)
    return Deployment(
        entrypoint=ENTRYPOINT,
        name=tier_name(group.integration, group.tier).partition("/")[2],
        description=_description(policy, group.connections, shards),
        tags=frozenset({MANAGED, f"integration:{group.integration}", f"tier:{group.tier}"}),
        version=version(),
        parameters={"integration": group.integration, "tier": str(group.tier)},
        job_variables=prefect_yaml.job_variables(),
        parameter_schema=prefect_yaml.parameter_schema(ENTRYPOINT),
        schedules=tuple(
            Scheduled(
                slug=shard_slug(shard),
                interval=policy.tick,
                anchor=EPOCH + policy.ticks(shard).offset,
                parameters={"shard": shard, "shards": shards},
            )
            for shard in range(shards)
        ),
    )


def _description(policy: PollPolicy, connections: int, shards: int) -> str:
    title, tier = policy.connector.title, policy.tier
    many = "1 connection" if connections == 1 else f"{how_many(connections)} connections"
    parts = f", in {shards} parts at different times" if shards > 1 else ""
    return "\n".join(
        (
            f"Syncs what is due of {title}, for tenants on {tier}: {many}{parts}.",
            "",
            f"It looks {in_words(policy.tick)}.",
            *(f"* {line}" for line in _polls(policy)),
            "",
            "Made from the database by `atom-sync deploy`, which undoes other changes made here; a"
            " paused schedule stays paused.",
        )
    )


def _polls(policy: PollPolicy) -> Iterator[str]:
    """Which streams are read how often, in words."""
    connector = policy.connector
    covered = connector.webhook.covers if connector.webhook and policy.configured else ()
    polled, pushed = policy.intervals(()), policy.intervals(covered)
    lines: dict[str, list[str]] = {}
    for stream in connector.streams:
        line = f"read {in_words(pushed[stream.name])}"
        if stream.name in covered:
            line += ", changes come by webhook"
            if connector.watch is not None:
                line += f" (without a live watch: {in_words(polled[stream.name])})"
        lines.setdefault(line, []).append(stream.name)
    for line, streams in lines.items():
        yield f"{', '.join(streams)}: {line}"


def how_many(count: int) -> str:
    """`7`, `701 to 800`: so that the text does not change with each one who comes or goes.

    Prefect drops and remakes a deployment's scheduled runs whenever it is written.
    """
    if count <= 20:
        return str(count)
    step = 20 if count <= 100 else 100 if count <= 1_000 else 1_000
    least = (count - 1) // step * step
    return f"{least + 1:,} to {least + step:,}"


@cache
def version() -> str | None:
    """What is checked out; None where the package was installed without its repository."""
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--tags"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except OSError:  # there is no git
        return None
    return found.stdout.strip() or None
