"""Disconnecting: a connection ends here at once, and at the vendor as soon as we reach it.

What is to be given back is taken out of the tenant's settings with the same commit, so that nothing
can use it any more; it waits, sealed, until the vendor took it or was asked often enough.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from accounts import tokens, watching
from accounts.watching import Station
from connectors import BrokenConnectionError, ConnectorError, Context, OAuth2
from connectors.kernel import oauth as oauth
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.oauth import OAuthApp
from integrations import is_built_in, load
from storage import connections, erasing, notices, tenant_settings
from storage.database import Database
from storage.errors import NotFoundError
from storage.models import Connection, Grant, Lease, Revocation, Status
from storage.oauth_log import record
from storage.vault import Vault

log = logging.getLogger(__name__)
DISCONNECTED = "disconnected: connect it again to go on"
MOST_ATTEMPTS = 5
FIRST_PAUSE = timedelta(minutes=1)
TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True)
class Disconnector:
    """All that giving a token back needs."""

    database: Database
    vault: Vault
    apps: Callable[[str], OAuthApp]
    transport: Transport
    budget: Budget


async def disconnect(
    disconnector: Disconnector,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    purge: bool = False,
    wait: timedelta = timedelta(seconds=5),
) -> None:
    """End a connection, and its records with it where `purge` says so: for everybody they are gone
    at once, and where there are many upkeep goes on deleting them.

    Its watches are ended at the vendor first, for that needs its token; those that cannot be end
    there by themselves. So is our access to the account, where the connector has `leave`. The
    grant's tokens go with the last connection that uses them. We tell the vendor at once if it
    answers within `wait`; if not, `revoke_due` goes on trying, and the connection has ended anyway.
    """
    await _leave(disconnector, tenant_id, connection_id, wait)
    async with disconnector.database.transaction(tenant_id) as session:
        grant, connection = await _locked(session, tenant_id, connection_id)
        shared = await _is_shared(session, connection)
        revocation_id = None
        if not shared:
            revocation_id = await _take_tokens(session, disconnector.vault, grant)
            await notices.cancel(session, grant.id)
        _record_end(session, grant, connection, purge=purge, shared=shared)
        connection.status, connection.status_reason = Status.REVOKED, DISCONNECTED
        connection.next_due_at = connection.backfill_owed_at = None
        connection.backfill_run_id = None
        if purge:
            await _owe_purge(session, connection)
    if revocation_id is not None:
        try:
            async with asyncio.timeout(wait.total_seconds()):
                await _attempt(disconnector, tenant_id, revocation_id)
        except TimeoutError:
            log.info("the vendor did not answer in time: it is told again later")
    if purge:
        await erasing.purge(disconnector.database, connection_id)


async def revoke_due(disconnector: Disconnector, *, limit: int = 20) -> int:
    """Tell vendors of what could not be given back before; how many were tried."""
    async with disconnector.database.dispatching() as session:
        due = (
            await session.execute(
                select(Revocation.tenant_id, Revocation.id)
                .where(Revocation.next_attempt_at <= func.now())
                .order_by(Revocation.next_attempt_at)
                .limit(limit)
            )
        ).all()
    for tenant_id, revocation_id in due:
        await _attempt(disconnector, tenant_id, revocation_id)
    return len(due)


async def _leave(
    disconnector: Disconnector, tenant_id: UUID, connection_id: UUID, wait: timedelta
) -> None:
    try:
        connection = await connections.get(disconnector.database, connection_id)
    except NotFoundError:
        return  # `disconnect` raises it in a moment
    if not is_built_in(connection.integration):
        return  # what was added has neither
    connector = load(connection.integration)
    if connection.tenant_id != tenant_id or not (connector.watch or connector.leave):
        return

    async def token(refused: bool) -> str:
        if refused:
            raise BrokenConnectionError(f"{connector.title} takes no token of ours any more")
        return await tokens.access_token(
            disconnector.database, disconnector.vault, disconnector.apps, disconnector.transport,
            disconnector.budget, grant_id=connection.grant_id, tenant_id=tenant_id, patience=wait,
        )  # fmt: skip

    client = Client(
        connector,
        transport=disconnector.transport,
        account_id=connection.account_id,
        config=connection.config,
        token=token,
        budget=disconnector.budget,
    )
    now = disconnector.transport.clock.now()
    context = Context(now=now, account_id=connection.account_id, config=connection.config)
    station = Station(
        database=disconnector.database, vault=disconnector.vault, client=client, context=context,
        connection=connection, address="", variables={},
    )  # fmt: skip
    try:
        async with asyncio.timeout(wait.total_seconds()):
            if connector.watch is not None:
                await watching.end_all(station)
            if connector.leave is not None:
                await client.run(connector.leave(context))
    except (ConnectorError, TimeoutError) as error:
        reason = str(error) or "it did not answer in time"
        log.warning("%s: a watch or our access was left as it is: %s", connection, reason)


async def _locked(
    session: AsyncSession, tenant_id: UUID, connection_id: UUID
) -> tuple[Grant, Connection]:
    """The grant before the connection: refreshes and consents lock in that order, too."""
    absent = NotFoundError(f"there is no connection {connection_id}")
    grant_id = await session.scalar(
        select(Connection.grant_id).where(
            Connection.id == connection_id, Connection.tenant_id == tenant_id
        )
    )
    if grant_id is None:
        raise absent
    grant = await session.get(Grant, grant_id, with_for_update={"key_share": True})
    connection = await session.get(Connection, connection_id, with_for_update=True)
    if grant is None or connection is None or connection.grant_id != grant_id:
        raise absent  # it was reconnected or removed in this very moment
    return grant, connection


async def _is_shared(session: AsyncSession, connection: Connection) -> bool:
    """Whether another connection still lives on the same grant."""
    others = await session.scalar(
        select(func.count())
        .select_from(Connection)
        .where(
            Connection.grant_id == connection.grant_id,
            Connection.id != connection.id,
            Connection.status != Status.REVOKED,
        )
    )
    return bool(others)


async def _take_tokens(session: AsyncSession, vault: Vault, grant: Grant) -> UUID | None:
    """Remove the grant's tokens; the id of the revocation that is owed for them, if one is."""
    held = await tenant_settings.get_json(session, vault, grant.tenant_id, grant.setting_key)
    await tenant_settings.delete(session, grant.tenant_id, grant.setting_key)
    grant.expires_at = grant.refresh_id = grant.refresh_started_at = None
    # Of what was added nothing is given back, also where its manifest cannot be read any more.
    auth = load(grant.integration).auth if is_built_in(grant.integration) else None
    if not held or not isinstance(auth, OAuth2) or auth.revocation is None:
        return None
    token = next((held[name] for name in auth.revocation.gives if held.get(name)), None)
    if token is None:
        return None
    accounts = await session.scalars(
        select(Connection.account_id).where(Connection.grant_id == grant.id)
    )
    revocation_id = uuid4()
    # Where it is given back may depend on what the tenant answered.
    owed = {q.name: held.get(q.name) for q in auth.questions} | {"token": token}
    sealed = await tenant_settings.seal(
        session, vault, grant.tenant_id, _name(revocation_id), json.dumps(owed)
    )
    session.add(
        Revocation(
            id=revocation_id,
            tenant_id=grant.tenant_id,
            grant_id=grant.id,
            integration=grant.integration,
            account_ids=list(accounts),
            sealed_token=sealed,
        )
    )
    return revocation_id


async def _owe_purge(session: AsyncSession, connection: Connection) -> None:
    """Nobody sees it any more or works on it, and its account may be connected anew."""
    connection.purge_owed_at = func.now()
    connection.account_id = f"purged:{connection.id}"
    await session.execute(
        update(Lease)
        .where(Lease.connection_id == connection.id)
        .values(epoch=Lease.epoch + 1, expires_at=None)
        .execution_options(synchronize_session=False)
    )


async def _attempt(disconnector: Disconnector, tenant_id: UUID, revocation_id: UUID) -> None:
    """One try: claimed and committed first, so that two processes never make the same."""
    claimed = await _claim(disconnector, tenant_id, revocation_id)
    if claimed is None:
        return
    row, owed = claimed
    connector = load(row.integration)
    title = connector.title
    if await _still_used(disconnector.database, row):
        message = f"{title} was not told: the same account there is still in use"
        await _settle(disconnector.database, row, "revoke", "kept", message)
        return
    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            await oauth.revoke(
                connector,
                oauth.app_of_grant(connector, disconnector.apps(row.integration), owed),
                token=owed["token"],
                transport=disconnector.transport,
                budget=disconnector.budget,
            )
    except (ConnectorError, TimeoutError) as error:
        reason = str(error) or f"{title} did not answer in time"
        await _fail(disconnector.database, row, title, reason)
    else:
        await _settle(
            disconnector.database, row, "revoke", "revoked", f"{title} took the token back"
        )


async def _claim(
    disconnector: Disconnector, tenant_id: UUID, revocation_id: UUID
) -> tuple[Revocation, dict[str, Any]] | None:
    async with disconnector.database.transaction(tenant_id) as session:
        row = await session.scalar(
            select(Revocation)
            .where(Revocation.id == revocation_id, Revocation.next_attempt_at <= func.now())
            .with_for_update(skip_locked=True)
        )
        if row is None:
            return None
        text = await tenant_settings.unseal(
            session, disconnector.vault, tenant_id, _name(row.id), row.sealed_token
        )
        row.next_attempt_at = func.now() + FIRST_PAUSE * 4**row.attempts
        row.attempts += 1
        await session.flush()
        return row, json.loads(text)


async def _still_used(database: Database, row: Revocation) -> bool:
    """Whether a connection of any tenant uses the account through the same app of ours.

    Google ends every consent that a user gave an app with the first token that is revoked.
    """
    live = (
        select(Connection.integration)
        .where(Connection.account_id.in_(row.account_ids), Connection.status != Status.REVOKED)
        .distinct()
    )
    async with database.dispatching() as session:
        names = (await session.scalars(live)).all()
    env = load(row.integration).oauth.env
    auths = (load(name).auth for name in names if is_built_in(name))
    return any(isinstance(auth, OAuth2) and auth.env == env for auth in auths)


async def _fail(database: Database, row: Revocation, title: str, reason: str) -> None:
    if row.attempts >= MOST_ATTEMPTS:
        message = (
            f"{reason}; it was asked {row.attempts} times: remove our app in {title}'s own settings"
        )
        await _settle(database, row, "failure", "not_revoked", message)
        return
    async with database.transaction(row.tenant_id) as session:
        _record(session, row, "failure", "revoke_again", f"{reason}; it is tried again")


async def _settle(
    database: Database, row: Revocation, event: str, outcome: str, message: str
) -> None:
    async with database.transaction(row.tenant_id) as session:
        await session.execute(delete(Revocation).where(Revocation.id == row.id))
        _record(session, row, event, outcome, message)


def _record(session: AsyncSession, row: Revocation, event: str, outcome: str, message: str) -> None:
    record(
        session,
        tenant_id=row.tenant_id,
        grant_id=row.grant_id,
        integration=row.integration,
        event=event,
        outcome=outcome,
        message=message,
        attempt=row.attempts,
    )


def _record_end(
    session: AsyncSession, grant: Grant, connection: Connection, *, purge: bool, shared: bool
) -> None:
    kept = "; the authorisation serves other accounts and was kept" if shared else ""
    record(
        session,
        tenant_id=grant.tenant_id,
        grant_id=grant.id,
        integration=grant.integration,
        event="disconnect",
        outcome="purged" if purge else "disconnected",
        message=f"disconnected {connection.account_name or connection.account_id}{kept}",
        account=connection.account_id,
    )


def _name(revocation_id: UUID) -> str:
    return f"revocation:{revocation_id}"
