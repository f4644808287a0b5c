"""What a data engineer finds on a connection's artifact page, as of the last change."""

from prefect.artifacts import acreate_table_artifact

from accounts.runtime import Runtime
from flows._reading import Reading
from storage import checkpoints, connections


def key_of(connection: connections.Connection) -> str:
    """Stable, so that the newest version stands: an artifact key has a-z, 0-9 and dashes."""
    name = f"{connection.integration}-{connection.tenant_slug}".lower().replace("_", "-")
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    return f"sync-{kept}-{connection.id.hex[:8]}"


async def publish(
    shared: Runtime, connection: connections.Connection, reading: Reading, problem: str
) -> None:
    """One short table, written only when something changed or failed."""
    outcomes = reading.outcomes
    if not problem and not any(outcome.changed for outcome in outcomes.values()):
        return
    async with shared.database.transaction(connection.tenant_id) as session:
        saved = await checkpoints.load(session, connection.id)
    now = shared.clock.now()
    table = []
    for name, outcome in outcomes.items():
        synced_at = saved[name].last_synced_at if name in saved else None
        table.append(
            {
                "stream": name,
                "changed": outcome.inserted + outcome.updated,
                "deletes": outcome.deleted,
                "unchanged": outcome.unchanged,
                "checkpoint age": f"{(now - synced_at).total_seconds():.0f} s"
                if synced_at
                else "none",
                "error": outcome.error or "",
            }
        )
    await acreate_table_artifact(
        key=key_of(connection),
        table=table,
        description=(
            f"**{connection}** ({connection.tier}), account `{connection.account_id}`: "
            f"{reading.requests:,} API calls in {reading.seconds:.1f} s."
            + (f"\n\nFailed: {problem}" if problem else "")
        ),
    )
