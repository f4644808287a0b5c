"""How well an integration is known to work: a number, and what it stands for."""

from collections.abc import Mapping

from connectors import Connector, SyncType

UNKNOWN, CONNECTS, READS, FOLLOWS, TOLD, ACTS = range(6)
MEANING: Mapping[int, str] = {
    UNKNOWN: "unknown: nothing of it was measured",
    CONNECTS: "connects: a tenant can connect it, and what it needs is kept",
    READS: "reads: a full read ends equal with the vendor, in a test",
    FOLLOWS: "follows: changes and deletions are found, without reading everything again",
    TOLD: "is told: the vendor tells of changes, and they are applied within seconds",
    ACTS: "acts: things are written at the vendor",
}


def of(connector: Connector) -> int:
    """The level of a connector that is built in, from what it declares.

    The suite holds all of it: every stream is read to equality at the sandbox, follows its changes,
    and every webhook is applied (tests/test_connectors.py).
    """
    if not connector.streams:
        return CONNECTS
    is_told = connector.webhook is not None or connector.feed is not None
    return TOLD if is_told and connector.sync_type is not SyncType.PULL else FOLLOWS


def said(level: int) -> str:
    """`3 follows`."""
    return f"{level} {MEANING[level].partition(':')[0]}"
