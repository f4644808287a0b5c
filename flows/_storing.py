"""Storing a batch: records, deletes, checkpoint and what an audit found, in one transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Record
from connectors.kernel.cancellation import end
from flows._batches import Audit, Batch, Outcome, Part, Scan
from storage import (
    DatabaseUnavailableError,
    LeaseLostError,
    RefusedError,
    audits,
    checkpoints,
    inbox,
    leases,
    records,
    sweeping,
)
from storage.background import repeated
from storage.database import Database
from storage.keeping import until_stored
from storage.models import Failure

LEASE_TTL = timedelta(seconds=60)
# So long a sync that is under way waits for a database that is not well.
PATIENCE = timedelta(minutes=1)
OF_OURS = (Failure.CONTRACT, Failure.OURS)


async def store(
    database: Database,
    lease: leases.Lease,
    integration: str,
    batch: Batch,
    outcomes: Mapping[str, Outcome],
) -> None:
    """Records, deletes and checkpoints of a batch in one transaction that the lease guards; tried
    again for a while where the database is not well.

    Where a full read of a large stream ends, what it did not see is buried in as many transactions
    as it takes, and its checkpoint is committed with the last: until then it is not whole. A
    process that dies in between has the batch read again, and the rest buried.
    """
    # Whether a commit whose answer was lost was one is not known, and an audit counts once.
    has_audit = any(part.audit is not None for part in batch.parts)
    patience = timedelta() if has_audit else PATIENCE
    try:
        counted = await until_stored(
            partial(_store, database, lease, integration, batch),
            patience=patience,
            waits="a batch waits to be stored",
        )
        batch.parts.clear()  # Prefect keeps what a task returned for as long as the flow runs
        for stored in counted:  # only what has been committed counts
            _count(outcomes[stored.part.stream.name], stored)
        for stored in counted:
            if stored.rest is not None:
                outcome = outcomes[stored.part.stream.name]
                async for swept in _end_scan(database, lease, integration, stored, patience):
                    outcome.deleted += swept
                outcome.done = True
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(cause, "sqlstate", None) or type(cause).__name__
        # Not chained: PostgreSQL's own message may quote the row, and Prefect stores it.
        raise RefusedError(f"PostgreSQL does not take the batch ({state})") from None


@dataclass(frozen=True, slots=True)
class _Stored:
    """A part that is stored. After the key `rest` its scan's sweep is still to go on."""

    part: Part
    written: records.Written
    swept: int = 0
    rest: str | None = None


def _count(outcome: Outcome, stored: _Stored) -> None:
    written, part = stored.written, stored.part
    outcome.inserted += written.inserted
    outcome.updated += written.updated
    outcome.deleted += written.deleted + stored.swept
    outcome.unchanged += written.unchanged
    outcome.pages += part.pages
    outcome.done = outcome.done or (part.done and stored.rest is None)
    outcome.unread = outcome.unread if part.unread is None else part.unread


async def _store(
    database: Database, lease: leases.Lease, integration: str, batch: Batch
) -> list[_Stored]:
    counted: list[_Stored] = []
    ids = {"tenant_id": lease.tenant_id, "connection_id": lease.connection_id}
    async with database.transaction(lease.tenant_id) as session:
        await leases.hold(session, lease)
        # In the order in which streams are marked dirty: two that lock their rows never wait for
        # each other.
        for part in sorted(_joined(batch.parts), key=lambda part: part.stream.name):
            name = part.stream.name
            if part.begins and part.scan is not None:
                await checkpoints.begin_scan(
                    session, stream=name, scan_id=part.scan.id, started_at=part.scan.started_at,
                    restarted=part.restarted, **ids,
                )  # fmt: skip
            counts = part.audit is not None and not part.stream.snapshot
            if part.audit is not None and part.audit.begins:
                await audits.begin(session, audit_id=part.audit.id, stream=name, **ids)
            written = await records.write(
                session, batch.turn, stream=f"{integration}.{name}", rows=part.rows,
                scan_id=part.scan.id if part.scan else None, quiet=True, tell_keys=counts, **ids,
            )  # fmt: skip
            if part.listed and part.scan is not None:
                await records.see(
                    session, stream=f"{integration}.{name}", scan_id=part.scan.id,
                    keys=part.listed, **ids,
                )  # fmt: skip
            if unsettled := [*part.unsettled, *written.missing]:
                await inbox.ask_again(
                    session, integration=integration, stream=name, keys=unsettled, **ids
                )
            if part.audit is not None:
                await _note_differences(session, part.audit, part, written)
            stored = _Stored(part, written)
            if part.done and part.scan is not None:
                stored = await _sweep(session, lease, integration, stored, part.scan, after="")
            else:
                await _save_progress(session, lease, part)
            counted.append(stored)
    return counted


async def _sweep(
    session: AsyncSession,
    lease: leases.Lease,
    integration: str,
    stored: _Stored,
    scan: Scan,
    *,
    after: str,
) -> _Stored:
    """Buries what the scan did not see of the next keys; with the last ones goes its checkpoint."""
    part = stored.part
    swept = await sweeping.sweep(
        session, stream=f"{integration}.{part.stream.name}", scan_id=scan.id,
        started_at=scan.started_at, after=after, unseen=part.unseen, was_shown=_was_shown(part),
        connection_id=lease.connection_id, tenant_id=lease.tenant_id,
    )  # fmt: skip
    if part.audit is not None and not part.stream.snapshot:
        await audits.note(session, part.audit.id, audits.Differences(extra=swept.gone))
    if swept.last is None:
        await _save_progress(session, lease, part)
        await sweeping.forget(session, connection_id=lease.connection_id, scan_id=scan.id)
    else:  # its rows are of no further use, and may be many
        part = replace(part, rows=(), listed=(), unsettled=())
    return replace(stored, part=part, swept=len(swept.gone), rest=swept.last)


async def _sweep_on(
    database: Database,
    lease: leases.Lease,
    integration: str,
    stored: _Stored,
    scan: Scan,
    after: str,
) -> _Stored:
    async with database.transaction(lease.tenant_id) as session:
        await leases.hold(session, lease)
        return await _sweep(session, lease, integration, stored, scan, after=after)


async def _end_scan(
    database: Database,
    lease: leases.Lease,
    integration: str,
    stored: _Stored,
    patience: timedelta,
) -> AsyncIterator[int]:
    """Goes on with the sweep, in transactions of their own; how many are gone, some at a time."""
    scan = stored.part.scan
    assert scan is not None  # noqa: S101 - there is no sweep without
    while stored.rest is not None:
        stored = await until_stored(
            partial(_sweep_on, database, lease, integration, stored, scan, stored.rest),
            patience=patience,
            waits="the end of a full read waits to be stored",
        )
        yield stored.swept
    more = True
    while more:
        async with database.transaction(lease.tenant_id) as session:
            more = await sweeping.forget(
                session, connection_id=lease.connection_id, scan_id=scan.id
            )


async def _save_progress(session: AsyncSession, lease: leases.Lease, part: Part) -> None:
    """How far the stream is read once this part is stored, and what came of its audit."""
    if part.audit is not None and part.changed_since is not None:
        await audits.end(
            session, part.audit.id, changed_keys=part.changed_since, every=part.audit.every
        )
    connection_id, stream = lease.connection_id, part.stream.name
    if part.refill:
        await checkpoints.refill(
            session,
            state=None if part.done else part.checkpoint,
            connection_id=connection_id,
            stream=stream,
        )
    if part.aside:
        return
    await checkpoints.save(
        session, tenant_id=lease.tenant_id, state=part.checkpoint, done=part.done,
        unread=part.unread, connection_id=connection_id, stream=stream,
    )  # fmt: skip
    if part.done:
        await checkpoints.note_shape(
            session,
            shape=_shape(part),
            refills=not part.stream.snapshot,
            connection_id=connection_id,
            stream=stream,
        )
    if part.done and part.generation:
        await checkpoints.mark_read(
            session, generation=part.generation, connection_id=connection_id, stream=stream
        )


async def _note_differences(
    session: AsyncSession, audit: Audit, part: Part, written: records.Written
) -> None:
    """Counts what an audit found, in the transaction that puts it right."""
    found = audits.Differences(len(part.listed) or len(part.rows), *written.keys)
    await audits.note(session, audit.id, found)


def _was_shown(part: Part) -> Callable[[Record], bool] | None:
    """Whether a stored record is one that the vendor showed in this listing, if it was there."""
    made_at, shown_from = part.stream.made_at, part.shown_from
    if made_at is None or shown_from is None:
        return None
    return lambda record: made_at(record) >= shown_from


def _shape(part: Part) -> str:
    """Which fields the stream's records have: what its view shows, and what the vendor gives."""
    return f"{sorted(part.stream.columns)} {part.shape or ''}"


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts of one read as one: a COPY for each small page would cost more."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if (
            last
            and last.stream is part.stream
            and last.scan == part.scan
            and last.refill == part.refill
            and last.audit == part.audit
            and not part.begins
        ):
            joined[-1] = replace(
                part,
                rows=[*last.rows, *part.rows],
                pages=last.pages + part.pages,
                begins=last.begins,
                restarted=last.restarted,
                unsettled=[*last.unsettled, *part.unsettled],
                unread=last.unread if part.unread is None else part.unread,
                shape=part.shape or last.shape,
                listed=[*last.listed, *part.listed],
            )
        else:
            joined.append(part)
    return joined


async def note_failures(
    database: Database, tenant_id: UUID, connection_id: UUID, outcomes: Mapping[str, Outcome]
) -> None:
    """Counts, for each stream, the reads in a row that failed for a reason only we can mend; and
    notes what the vendor refuses."""
    failed = {
        name: one
        for name, one in outcomes.items()
        if one.error and one.failure in (*OF_OURS, Failure.NOT_ALLOWED)
    }
    if not failed:
        return
    async with database.transaction(tenant_id) as session:
        for name, one in failed.items():
            if one.failure in OF_OURS:
                await checkpoints.stumbled(session, connection_id=connection_id, stream=name)
            else:
                await checkpoints.refuse(
                    session, tenant_id=tenant_id, connection_id=connection_id, stream=name,
                    reason=one.error or "",
                )  # fmt: skip


@asynccontextmanager
async def renewed(database: Database, lease: leases.Lease) -> AsyncIterator[None]:
    """Keeps a lease alive while the work lasts, also when Prefect's server is away.

    A lease that was lost anyway is noticed by the next commit, which it refuses.
    """

    async def renew() -> None:
        with suppress(LeaseLostError):
            await leases.renew(database, lease, LEASE_TTL)

    every = LEASE_TTL.total_seconds() / 4
    renewing = asyncio.create_task(repeated("leases", renew, every, begins_after=every))
    try:
        yield
    finally:
        await end(renewing)
        with suppress(DatabaseUnavailableError):  # it runs out by itself
            await asyncio.shield(leases.release(database, lease))
