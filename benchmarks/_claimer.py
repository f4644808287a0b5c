"""One dispatcher of the benchmark of claims: takes what is due, scope after scope."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from benchmarks._process import Answer, obey
from storage import Tier, due
from storage.database import Database
from storage.due import Claim, Scope


async def run(url: str, integrations: list[str], first: int) -> Answer:
    """Claims batches until nothing is due anywhere; each claim's time, and what was taken."""
    database = Database.connect(url, pool_size=1, max_overflow=0)
    now = datetime.now(UTC)

    def slot(claim: Claim) -> datetime:
        return now + timedelta(hours=1)

    scopes = [Scope(name, tier) for name in integrations for tier in Tier]
    taken: list[str] = []
    times: list[float] = []
    try:
        # A dispatcher's connection is open, too, before it claims.
        await due.resting(database, Scope("none", Tier.FREE), by=now)
        for scope in scopes[first:] + scopes[:first]:
            while True:
                started = time.perf_counter()
                claims = await due.claim(database, scope, by=now, slot=slot)
                if not claims:
                    break
                times.append(time.perf_counter() - started)
                taken += [str(claim.connection.id) for claim in claims]
    finally:
        await database.close()
    return {"times": times, "taken": taken}


if __name__ == "__main__":
    asyncio.run(obey({"run": run}))
