"""Notices to tenants: we tell each that its grant is over, once, and again if it stays so.

A notice is written in the transaction that breaks a connection, and ends when nothing of its grant
waits for the tenant any more. Who sends takes some under a claim, commits, and only then speaks to
the mail server, so that two senders never tell the same; a claim of one that died runs out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.models import Connection, Notice, Status, Tenant
from storage.oauth_log import record

AGAIN_AFTER = timedelta(days=3)
AT_MOST = 2
# Far longer than a mail server takes.
CLAIM = timedelta(minutes=10)
# After each attempt that failed for a reason that passes, the next waits twice as long.
RETRY_AFTER, MAX_RETRY_AFTER = timedelta(minutes=1), timedelta(hours=1)

_BROKEN = (
    select(Connection.id)
    .where(
        Connection.grant_id == Notice.grant_id,
        or_(
            Connection.status == Status.NEEDS_REAUTH,
            # Revoked at the vendor. A tenant who disconnects here has another reason: no notice.
            and_(Connection.status == Status.REVOKED, Connection.status_reason == Notice.reason),
        ),
    )
    .correlate(Notice)
    .exists()
)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A notice that is ours to send, and what it tells of."""

    id: UUID
    claim_id: UUID
    tenant_id: UUID
    tenant_name: str
    contact_email: str | None
    grant_id: UUID
    integration: str
    accounts: tuple[str, ...]
    reason: str
    broke_at: datetime
    number: int
    attempts: int


async def announce(
    session: AsyncSession, *, tenant_id: UUID, grant_id: UUID, integration: str, reason: str
) -> None:
    """Makes a notice that this grant is over, unless the tenant has an open one already."""
    notice = insert(Notice).values(
        id=uuid4(), tenant_id=tenant_id, grant_id=grant_id, integration=integration, reason=reason
    )
    # An update, not nothing: it waits for a sender that is about to end the former notice.
    await session.execute(
        notice.on_conflict_do_update(
            index_elements=["grant_id"],
            index_where=Notice.ended_at.is_(None),
            set_={"reason": notice.excluded.reason},
        )
    )


async def cancel(session: AsyncSession, grant_id: UUID) -> None:
    """The grant works again: there is nothing left to tell."""
    await session.execute(
        update(Notice)
        .where(Notice.grant_id == grant_id, Notice.ended_at.is_(None))
        .values(ended_at=func.now(), outcome="cancelled", due_at=None, claim_id=None)
        .execution_options(synchronize_session=False)
    )


async def claim(database: Database, *, now: datetime, at_most: int) -> list[Due]:
    """Takes what is due, so that no other sender does; ends notices that nobody needs any more."""
    claim_id = uuid4()
    async with database.dispatching() as session:
        found = await session.scalars(
            select(Notice)
            .where(
                Notice.ended_at.is_(None),
                or_(Notice.claimed_until.is_(None), Notice.claimed_until < now),
                or_(Notice.due_at <= now, ~_BROKEN),
            )
            .order_by(Notice.due_at)
            .limit(at_most)
            .with_for_update(skip_locked=True, key_share=True)
        )
        notices = list(found)
        # Looked at once more now that the rows are ours: a grant may just have broken again.
        broken = set(
            await session.scalars(
                select(Notice.id).where(Notice.id.in_([each.id for each in notices]), _BROKEN)
            )
        )
        due = []
        for notice in notices:
            if notice.id not in broken:
                notice.ended_at, notice.outcome, notice.due_at = now, "cancelled", None
            elif notice.due_at is not None and notice.due_at <= now:
                notice.claim_id, notice.claimed_until = claim_id, now + CLAIM
                notice.attempts += 1
                due.append(notice)
        return await _described(session, due, claim_id)


async def _described(session: AsyncSession, due: Sequence[Notice], claim_id: UUID) -> list[Due]:
    tenants = {
        tenant.id: tenant
        for tenant in await session.scalars(
            select(Tenant).where(Tenant.id.in_([notice.tenant_id for notice in due]))
        )
    }
    accounts: dict[UUID, list[str]] = {}
    for grant_id, name, account_id in await session.execute(
        select(Connection.grant_id, Connection.account_name, Connection.account_id)
        .where(
            Connection.grant_id.in_([notice.grant_id for notice in due]),
            Connection.status.in_((Status.NEEDS_REAUTH, Status.REVOKED)),
        )
        .order_by(Connection.account_name, Connection.account_id)
    ):
        accounts.setdefault(grant_id, []).append(name or account_id)
    return [
        Due(
            id=notice.id,
            claim_id=claim_id,
            tenant_id=notice.tenant_id,
            tenant_name=tenants[notice.tenant_id].name,
            contact_email=tenants[notice.tenant_id].contact_email,
            grant_id=notice.grant_id,
            integration=notice.integration,
            accounts=tuple(accounts.get(notice.grant_id, ())),
            reason=notice.reason,
            broke_at=notice.broke_at,
            number=notice.told + 1,
            attempts=notice.attempts,
        )
        for notice in due
    ]


async def sent(database: Database, due: Due, *, now: datetime) -> bool:
    """A mail server took it. We send it once more, after three days."""
    again = now + AGAIN_AFTER if due.number < AT_MOST else None
    how = "first" if due.number == 1 else "reminder"
    return await _settle(
        database, due, "sent", f"the {how} mail was sent", again, times_notified=due.number
    )


async def refused(database: Database, due: Due, why: str, *, now: datetime) -> bool:
    """A mail server will never take it: it counts as sent, or we would try for ever."""
    again = now + AGAIN_AFTER if due.number < AT_MOST else None
    return await _settle(database, due, "refused", why, again, times_notified=due.number)


async def logged(database: Database, due: Due, why: str) -> bool:
    """There is no way to send it: we write it to the log instead, once."""
    return await _settle(
        database, due, "logged", f"{why}: {due.reason}", None, times_notified=due.number
    )


async def put_off(database: Database, due: Due, why: str, *, now: datetime) -> bool:
    """Not now: tried again later, each time after a longer pause."""
    doublings: int = 2 ** min(due.attempts - 1, 10)
    again = now + min(MAX_RETRY_AFTER, RETRY_AFTER * doublings)
    return await _settle(database, due, "put_off", why, again, times_notified=due.number - 1)


async def _settle(
    database: Database,
    due: Due,
    outcome: str,
    message: str,
    again: datetime | None,
    *,
    times_notified: int,
) -> bool:
    """Write down how it went. False if the claim ran out, or the notice ended meanwhile."""
    attempts = due.attempts if outcome == "put_off" else 0
    async with database.transaction(due.tenant_id) as session:
        settled = await session.scalar(
            update(Notice)
            .where(and_(Notice.id == due.id, Notice.claim_id == due.claim_id))
            .values(
                told=times_notified, due_at=again, attempts=attempts, outcome=outcome,
                claim_id=None, claimed_until=None,
            )
            .returning(Notice.id)
        )  # fmt: skip
        record(
            session,
            tenant_id=due.tenant_id,
            grant_id=due.grant_id,
            integration=due.integration,
            event="notice",
            outcome=outcome,
            message=message,
            notice_id=str(due.id),
            number=due.number,
        )
    return settled is not None
