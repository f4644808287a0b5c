"""What happened to a grant: a row of `oauth_log`, and a line for whoever listens to this logger.

Rows and lines hold ids and reasons, never a token. A line is written once its row is committed.
"""

import logging
import os
import socket
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import event as events
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from storage.models import Grant, OAuthLog

FAILURES: dict[str, type[ConnectorError]] = {
    "refused": BrokenConnectionError,
    "rate_limited": RateLimitedError,
    "unavailable": ProviderUnavailableError,
    "contract": ContractError,
}
log = logging.getLogger(__name__)


def record(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    grant_id: UUID | None,
    integration: str,
    event: str,
    outcome: str,
    message: str = "",
    **more: str | float,
) -> None:
    """Add a row, committed with the session or not at all."""
    by = f"{socket.gethostname()}:{os.getpid()}"
    session.add(
        OAuthLog(
            tenant_id=tenant_id,
            grant_id=grant_id,
            integration=integration,
            event=event,
            message=message,
            detail={"outcome": outcome, "by": by, **more},
        )
    )
    wrong = event in ("failure", "privacy") or outcome in ("logged", "refused", "put_off")
    of = f"{integration}, grant {grant_id}" if grant_id else f"{integration}, tenant {tenant_id}"
    line = f"{of}: {event} {outcome}"
    say = partial(
        _say, logging.WARNING if wrong else logging.INFO, f"{line}: {message}" if message else line
    )
    events.listen(session.sync_session, "after_commit", say, once=True)


def record_refresh(
    session: AsyncSession,
    grant: Grant,
    event: str,
    outcome: str,
    message: str,
    refresh_id: UUID | None,
    **more: str | float,
) -> None:
    """A refresh, or a failure of one; rows of one attempt share its `refresh_id`."""
    if refresh_id:
        more["refresh_id"] = str(refresh_id)
    record(
        session,
        tenant_id=grant.tenant_id,
        grant_id=grant.id,
        integration=grant.integration,
        event=event,
        outcome=outcome,
        message=message,
        **more,
    )


def record_failure(
    session: AsyncSession, grant: Grant, error: ConnectorError, refresh_id: UUID | None
) -> None:
    known = (outcome for outcome, kind in FAILURES.items() if isinstance(error, kind))
    more = {}
    if isinstance(error, RateLimitedError):
        more["retry_after"] = error.retry_after.total_seconds()
    record_refresh(session, grant, "failure", next(known, "failed"), str(error), refresh_id, **more)


async def failure_of(
    session: AsyncSession, grant: Grant, asked_for: timedelta
) -> ConnectorError | None:
    """How a refresh failed that ended while we asked, if one did: its failure is ours, too."""
    if grant.refresh_id is not None:
        return None
    found = await session.scalar(
        select(OAuthLog)
        .where(
            OAuthLog.tenant_id == grant.tenant_id,
            OAuthLog.at > func.clock_timestamp() - asked_for,
            OAuthLog.grant_id == grant.id,
            OAuthLog.event == "failure",
            OAuthLog.detail["outcome"].astext.in_(FAILURES),
        )
        .order_by(OAuthLog.id.desc())
        .limit(1)
    )
    if found is None:
        return None
    kind = FAILURES[found.detail["outcome"]]
    if kind is RateLimitedError:
        wait = timedelta(seconds=found.detail.get("retry_after", 0))
        return RateLimitedError(found.message, retry_after=wait)
    return kind(found.message)


def _say(level: int, line: str, _: Session) -> None:
    log.log(level, line)
