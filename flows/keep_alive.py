"""Keeps grants alive that nobody would use in time, and brings interrupted refreshes to their end.

A vendor forgets a refresh token that is not used for long: QuickBooks after 100 days. A connection
that is paused, or whose tenant syncs rarely, would find it gone.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from accounts import tokens
from accounts.expiring_grants import Lapsing, lapsing
from accounts.runtime import Runtime
from connectors import (
    BrokenConnectionError,
    ConnectorError,
    OAuth2,
    RetryableError,
    all_connectors,
)
from flows._passing import ends_well
from flows._results import NOWHERE
from flows._runtime import runtime
from settings import SettingsError
from storage import StorageError
from storage.vault import VaultError

AT_ONCE = 4
ARTIFACT = "keep-alive"
# The outcomes of one grant, as the summary names them.
KEPT, RECOVERED = "kept alive", "interrupted refresh completed"
BROKEN, LATER, FAILED = "waits for its tenant", "tried again later", "failed"
LEFT = "left for the next run"


@dataclass(frozen=True)
class _Outcome:
    grant: Lapsing
    what: str
    reason: str = ""


@flow(
    name="keep-alive",
    flow_run_name="grants · kept alive",
    persist_result=False,
    result_storage=NOWHERE,
)
@ends_well
async def keep_alive(at_most: int = 500, spread_seconds: float = 300) -> State[None]:
    """Refresh the grants at risk: unused for half of what their vendor allows, or interrupted.

    At most so many in a run, the ones most at risk first, spread over some time. The log names what
    goes wrong with one grant; the others go on.
    """
    idle_lifetime = {
        connector.name: connector.auth.idle_lifetime
        for connector in all_connectors()
        if isinstance(connector.auth, OAuth2) and connector.auth.idle_lifetime
    }
    async with runtime() as shared:
        now = shared.clock.now()
        found = await lapsing(shared.database, idle_lifetime, now=now, at_most=at_most)
        if not found:
            return Completed(message="no grant is at risk")
        outcomes = await _keep_all(shared, found, spread_seconds)
        await _publish(outcomes)
    counts = Counter(outcome.what for outcome in outcomes)
    return Completed(message="; ".join(f"{count:,} {what}" for what, count in counts.items()))


async def _keep_all(
    shared: Runtime, found: Sequence[Lapsing], spread_seconds: float
) -> list[_Outcome]:
    """A few at a time; the others wait for their turn, about one a second."""
    slots = asyncio.Semaphore(AT_ONCE)
    # One vendor's token endpoint is not to see them all in the same second.
    spread = min(spread_seconds, float(len(found) - 1))

    async def keep(grant: Lapsing) -> _Outcome:
        if not grant.interrupted:
            await asyncio.sleep(random.uniform(0, spread))  # noqa: S311 - it only spreads load
        async with slots:
            outcome = await _keep(shared, grant)
        if outcome.reason:
            line = "%s, grant %s: %s: %s"
            get_run_logger().warning(line, grant, grant.grant_id, outcome.what, outcome.reason)
        return outcome

    return list(await asyncio.gather(*(keep(grant) for grant in found)))


async def _keep(shared: Runtime, grant: Lapsing) -> _Outcome:
    try:
        if told := await shared.told_to_stop():
            return _Outcome(grant, LEFT, told)
        await tokens.access_token(
            shared.database,
            shared.vault,
            shared.settings.app,
            shared.transport,
            shared.budget,
            grant_id=grant.grant_id,
            tenant_id=grant.tenant_id,
            renewed_after=grant.renewed_after,
            patience=timedelta(seconds=30),
        )
    except BrokenConnectionError as error:
        return _Outcome(grant, BROKEN, str(error))
    except (RetryableError, StorageError) as error:
        return _Outcome(grant, LATER, str(error))
    except (ConnectorError, SettingsError, VaultError, LookupError) as error:
        return _Outcome(grant, FAILED, str(error))
    except Exception as error:
        # A fault of ours with one grant, whose text may hold anything: the others are kept.
        return _Outcome(grant, FAILED, f"a fault of ours ({type(error).__name__})")
    return _Outcome(grant, RECOVERED if grant.interrupted else KEPT)


async def _publish(outcomes: Sequence[_Outcome]) -> None:
    """The newest table shows what the last run that had something to do did."""
    await acreate_table_artifact(
        key=ARTIFACT,
        description="Grants that were at risk, and what became of them.",
        table=[
            {
                "connection": str(outcome.grant),
                "grant": str(outcome.grant.grant_id),
                "outcome": outcome.what,
                "reason": outcome.reason,
            }
            for outcome in outcomes
        ],
    )
