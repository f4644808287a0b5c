"""Tells tenants by mail which of their connections wait for them, with a link to reconnect."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from accounts.runtime import Runtime
from deployments.mail import MailError, MailServer, RefusedMailError, Session
from flows._passing import ends_well
from flows._reconnect_email import letter
from flows._results import NOWHERE
from flows._runtime import runtime
from settings import Settings, SettingsError
from storage import notices
from storage.notices import Due
from storage.reconnect_links import LIFE, Link, sign

BATCH = 20
NO_SERVER = "no mail is sent without SMTP_HOST"
NO_CONTACT = "the tenant has no contact_email"


@flow(
    name="notify",
    flow_run_name="tenants · told what waits for them",
    persist_result=False,
    result_storage=NOWHERE,
)
@ends_well
async def notify(at_most: int = 500) -> State[None]:
    """Send what is due: a mail once a connection breaks, and again after three days.

    Without SMTP settings each break is logged once instead. While the mail server is away, what is
    due is tried again later.
    """
    async with runtime() as shared:
        try:
            return await send_due(shared, now=shared.clock.now(), at_most=at_most)
        except SettingsError as error:
            return Failed(message=str(error))


async def send_due(shared: Runtime, *, now: datetime, at_most: int = 500) -> State[None]:
    """What `notify` does, at that time."""
    server = MailServer.of(shared.settings)
    if server is not None:
        _signing(shared.settings)  # before anything is claimed
    counts: Counter[str] = Counter()
    problem: MailError | None = None
    told = ""
    while problem is None and counts.total() < at_most:
        if told := await shared.told_to_stop():
            break
        due = await notices.claim(shared.database, now=now, at_most=BATCH)
        if not due:
            break
        if server is None:
            for one in due:
                counts[await _log(shared, one, NO_SERVER)] += 1
        else:
            problem = await _send(shared, server, due, now, counts)
    parts = [f"{count:,} {what}" for what, count in counts.items()]
    message = "; ".join([*parts, told] if told else parts)
    if problem is not None:
        return Failed(message=f"{message}: {problem}")
    return Completed(message=message or "nobody is to be told anything")


async def _send(
    shared: Runtime, server: MailServer, due: Sequence[Due], now: datetime, counts: Counter[str]
) -> MailError | None:
    """Send these over one session; a server that is away puts off all that is left."""
    left = list(due)
    session: Session | None = None
    try:
        while left:
            one = left[0]
            if one.contact_email is None:
                counts[await _log(shared, one, NO_CONTACT)] += 1
            else:
                if session is None:
                    session = await asyncio.to_thread(server.open)
                counts[await _mail(shared, session, one, now)] += 1
            left.pop(0)
    except MailError as error:
        for one in left:
            await notices.put_off(shared.database, one, str(error), now=now)
        counts["put off"] += len(left)
        return error
    finally:
        if session is not None:
            await asyncio.to_thread(session.close)
    return None


async def _mail(shared: Runtime, session: Session, due: Due, now: datetime) -> str:
    link = _link(shared.settings, due, now)
    try:
        message = letter(session.server.sender, due, link, good_for=LIFE, now=now)
        await asyncio.to_thread(session.send, message)
    except RefusedMailError as error:
        await notices.refused(shared.database, due, str(error), now=now)
        return "refused"
    await notices.sent(shared.database, due, now=now)
    return "sent"


async def _log(shared: Runtime, due: Due, why: str) -> str:
    await notices.logged(shared.database, due, why)
    return "logged"


def _link(settings: Settings, due: Due, now: datetime) -> str:
    address, secret = _signing(settings)
    link = Link(due.tenant_id, due.grant_id, now + LIFE)
    return f"{address}/reconnect/{sign(secret, link)}"


def _signing(settings: Settings) -> tuple[str, str]:
    """Our public address, and what signs links under it."""
    if settings.nextauth_url is None or settings.nextauth_secret is None:
        raise SettingsError(
            "NEXTAUTH_URL and NEXTAUTH_SECRET: set both, mails to tenants link to our address"
        )
    return settings.nextauth_url, settings.nextauth_secret.get_secret_value()
