"""The life of a connection's watches: made, renewed or replaced, ended; and what was missed noted.

Whatever a vendor does with a watch, one of three things holds at any time: it stands, a gap is
written down for a read to close, or the vendor refuses and the connection is polled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_urlsafe
from uuid import UUID, uuid4

from connectors import (
    CheckpointExpiredError,
    Connector,
    Context,
    MadeWatch,
    NoWatch,
    Watch,
    WatchRequest,
)
from connectors.kernel.client import Client
from storage import checkpoints, gaps, watches
from storage.connections import Connection
from storage.database import Database
from storage.vault import Vault
from storage.watches import Kept

ASKED_AGAIN = timedelta(days=7)
# What is to be watched, a calendar say, may come and go.
LISTED_AGAIN = timedelta(days=1)
# Of a watch whose end the vendor does not tell.
ENDLESS = timedelta(days=7)
# Renewed between 0.45 and 0.55 of its life.
JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Station:
    """What looking after a connection's watches takes."""

    database: Database
    vault: Vault
    client: Client
    context: Context
    connection: Connection
    address: str
    variables: dict[str, str] = field(repr=False)

    @property
    def connector(self) -> Connector:
        return self.client.connector

    @property
    def watch(self) -> Watch:
        if self.connector.watch is None:
            raise LookupError(f"{self.connector.title} has no watches")
        return self.connector.watch

    @property
    def ids(self) -> dict[str, UUID]:
        return {"tenant_id": self.connection.tenant_id, "connection_id": self.connection.id}


@dataclass(slots=True)
class Looked:
    """What was done, and when to look again."""

    made: int = 0
    renewed: int = 0
    ended: int = 0
    refused: int = 0
    missed: int = 0
    next_at: datetime | None = None

    def __str__(self) -> str:
        names = ("made", "renewed", "ended", "refused", "missed")
        counts = [f"{getattr(self, name)} {name}" for name in names if getattr(self, name)]
        return ", ".join(counts) or "all stand"


async def look_after(station: Station, now: datetime) -> Looked:
    """Make what is missing, renew what is half over, end what is not wanted any more.

    What the vendor answers to one step is stored before the next is taken.
    """
    looked = Looked(next_at=now + LISTED_AGAIN)
    kept = await _kept(station)
    resources = await station.client.run(station.watch.resources(station.context))
    for resource in dict.fromkeys(resources):
        await _look_after_one(
            station, resource, [one for one in kept if one.resource == resource], looked, now
        )
    for one in kept:
        unwanted = one.resource not in resources
        if unwanted or (one.status == "retiring" and one.renew_at and one.renew_at <= now):
            await _end(station, one)
            looked.ended += 1
    due = [one.renew_at for one in await _kept(station) if one.renew_at is not None]
    looked.next_at = min([*due, now + LISTED_AGAIN])
    return looked


async def end_all(station: Station) -> int:
    """End every watch of a connection at its vendor; how many there were."""
    kept = await _kept(station)
    for one in kept:
        await _end(station, one)
    return len(kept)


async def _look_after_one(
    station: Station, resource: str, kept: Sequence[Kept], looked: Looked, now: datetime
) -> None:
    refused = [one for one in kept if one.status == "refused"]
    if any(one.renew_at and one.renew_at > now for one in refused):
        return
    active = [one for one in kept if one.status == "active"]
    if not active:
        await _make(station, resource, None, looked, now)
        return
    *former, newest = active
    for one in former:  # two that were made at once: the newer one stays
        await _retire(station, one, now)
    if newest.expires_at is not None and newest.expires_at <= now:
        await _missed(station, newest, newest.expires_at, looked, now, "the watch had ended")
        await _make(station, resource, newest, looked, now)
    elif newest.renew_at is None or newest.renew_at <= now:
        await _renew(station, newest, looked, now)


async def _make(
    station: Station, resource: str, former: Kept | None, looked: Looked, now: datetime
) -> None:
    """A new watch. We read what changed before it stood, unless a former watch reported it."""
    id, secret = uuid4(), token_urlsafe(32)
    answer = await station.client.run(station.watch.create(_wanted(station, id, resource, secret)))
    async with station.database.transaction(station.connection.tenant_id) as session:
        if isinstance(answer, NoWatch):
            await watches.keep_refusal(
                session, id=id, resource=resource, reason=answer.reason,
                again_at=now + ASKED_AGAIN, **station.ids,
            )  # fmt: skip
            looked.refused += 1
            return
        await watches.forget_refusals(session, station.connection.id, resource)
        await watches.save(
            session, station.vault, id=id, resource=resource, watched=answer,
            secret=answer.secret or secret, renew_at=_renew_at(answer, now), now=now, **station.ids,
        )  # fmt: skip
        if former is None or (former.expires_at and former.expires_at <= now):
            streams = station.watch.streams(resource)
            await checkpoints.mark_dirty(session, streams=streams, **station.ids)
        if former is not None:
            await watches.retire(session, former.id, now + station.watch.overlap)
    looked.made += 1


async def _renew(station: Station, one: Kept, looked: Looked, now: datetime) -> None:
    if station.watch.renew is None:
        await _make(station, one.resource, one, looked, now)
        return
    wanted = _wanted(station, one.id, one.resource, one.secret)
    try:
        answer = await station.client.run(station.watch.renew(wanted, one.watched))
    except CheckpointExpiredError:
        reason = "the vendor had dropped the watch"
        await _missed(station, one, one.confirmed_at, looked, now, reason)
        async with station.database.transaction(station.connection.tenant_id) as session:
            await watches.forget(session, one.id)
        await _make(station, one.resource, None, looked, now)
        return
    if isinstance(answer, NoWatch):
        async with station.database.transaction(station.connection.tenant_id) as session:
            await watches.keep_refusal(
                session, id=uuid4(), resource=one.resource, reason=answer.reason,
                again_at=now + ASKED_AGAIN, **station.ids,
            )  # fmt: skip
            await watches.retire(session, one.id, one.expires_at or now)
        looked.refused += 1
        return
    async with station.database.transaction(station.connection.tenant_id) as session:
        await watches.save(
            session, station.vault, id=one.id, resource=one.resource, watched=answer,
            secret=answer.secret or one.secret, renew_at=_renew_at(answer, now), now=now,
            **station.ids,
        )  # fmt: skip
    looked.renewed += 1


async def _end(station: Station, one: Kept) -> None:
    """Gone at the vendor first: what is forgotten here nobody would ever end there."""
    over = one.status == "refused"
    if not over:
        await station.client.run(station.watch.delete(one.watched, station.context))
    async with station.database.transaction(station.connection.tenant_id) as session:
        await watches.forget(session, one.id)


async def _retire(station: Station, one: Kept, now: datetime) -> None:
    async with station.database.transaction(station.connection.tenant_id) as session:
        await watches.retire(session, one.id, now)


async def _missed(
    station: Station, one: Kept, since: datetime, looked: Looked, now: datetime, reason: str
) -> None:
    async with station.database.transaction(station.connection.tenant_id) as session:
        await gaps.note(
            session, streams=station.watch.streams(one.resource), since=since, until=now,
            reason=reason, **station.ids,
        )  # fmt: skip
    looked.missed += 1


async def _kept(station: Station) -> list[Kept]:
    tenant_id, connection_id = station.connection.tenant_id, station.connection.id
    async with station.database.transaction(tenant_id) as session:
        return await watches.of_connection(session, station.vault, tenant_id, connection_id)


def _wanted(station: Station, id: UUID, resource: str, secret: str) -> WatchRequest:
    return WatchRequest(
        id=id.hex,
        resource=resource,
        address=station.address,
        secret=secret,
        lifetime=station.watch.lifetime,
        context=station.context,
        variables=station.variables,
    )


def _renew_at(watched: MadeWatch, now: datetime) -> datetime:
    life = watched.expires_at - now if watched.expires_at else ENDLESS
    spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - it only spreads load
    return now + max(life, timedelta()) / 2 * spread
