"""Consents: the token set that a tenant's authorisation gave, and the connections it serves."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Account, BrokenConnectionError, Connector, ContractError, say
from connectors.kernel.hosts import check_account
from connectors.kernel.token_answers import Tokens
from integrations import load
from storage import checkpoints, notices, privacy, tenant_settings
from storage.database import Database
from storage.errors import ConnectedAlreadyError, NotFoundError
from storage.integrations import must_stay
from storage.keeping import WHILE_A_PERSON_WAITS, until_stored
from storage.models import CheckpointRow, Connection, Grant, Lease, OAuthLog, Status, Tenant
from storage.rows import is_storable, stored_json, stored_text
from storage.vault import Vault


async def connect(
    database: Database,
    vault: Vault,
    *,
    tenant_id: UUID,
    integration: str,
    tokens: Tokens,
    accounts: Sequence[Account],
    label: str | None = None,
    owe_backfill: bool = False,
) -> list[UUID]:
    """Store a consent and its connections, whose ids are returned in the order of the accounts.

    An account that is connected already gets the new tokens, and is active again if it waited for
    them. An account that is not gets a grant of its own, under the `label` if that one is free.
    A backfill that is owed is committed with the connection, and started by who finds it.
    A code is good once, so a database that is away is waited for, as long as a person would wait.
    """
    if not accounts:
        raise BrokenConnectionError(
            f"this authorisation covers no account of {integration}: "
            "connect as a user who may see one"
        )
    store = partial(
        _connect,
        database,
        vault,
        tenant_id=tenant_id,
        integration=integration,
        tokens=tokens,
        accounts=[_storable(integration, account) for account in accounts],
        label=label,
        owe_backfill=owe_backfill,
    )
    return await until_stored(store, patience=WHILE_A_PERSON_WAITS)


async def keep_settings(
    database: Database,
    vault: Vault,
    *,
    tenant_id: UUID,
    integration: str,
    secrets: Mapping[str, Any],
    account: Account,
    label: str | None = None,
    replaces: UUID | None = None,
) -> UUID:
    """Store what a tenant filled in, its backfill owed; the id of the connection.

    The account's settings are those that are no secrets. The same ones connect once, and are active
    again if they waited. `replaces` is the connection that has these from now on, and reads anew
    what they changed. ConnectedAlreadyError where another connection has the same settings.
    """
    store = partial(
        _keep_settings,
        database,
        vault,
        tenant_id=tenant_id,
        integration=integration,
        secrets=secrets,
        account=_storable(integration, account),
        label=label,
        replaces=replaces,
    )
    return await until_stored(store, patience=WHILE_A_PERSON_WAITS)


async def _keep_settings(
    database: Database,
    vault: Vault,
    *,
    tenant_id: UUID,
    integration: str,
    secrets: Mapping[str, Any],
    account: Account,
    label: str | None,
    replaces: UUID | None,
) -> UUID:
    async with database.transaction(tenant_id) as session:
        await must_stay(session, integration)
        known = await _begin(session, tenant_id, integration)
        former = known.get(account.id)
        if replaces is not None:
            if former is not None and former.id != replaces:
                raise ConnectedAlreadyError(
                    say("Another account is connected with these settings.")
                )
            former = next((one for one in known.values() if one.id == replaces), None)
            if former is None:
                raise NotFoundError("there is no such connection: it was removed")
            known = {account.id: former}
        key = tenant_settings.tokens_key(integration, label)
        grant = await _grant(session, tenant_id, integration, key, known, [account])
        held = await tenant_settings.get_json(session, vault, tenant_id, grant.setting_key)
        if former is not None and replaces is None and former.status == Status.ACTIVE:
            if held != secrets:
                raise ConnectedAlreadyError(
                    say(
                        "An account with these settings is connected already: give this one a name "
                        "of its own, or reconnect that one."
                    )
                )
            return former.id
        await tenant_settings.put_json(session, vault, tenant_id, grant.setting_key, secrets)
        grant.refreshed_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        if former is not None and former.account_id != account.id:
            await _begin_anew(session, former)
            former.account_id, former.config = account.id, {}
        link = _link(session, grant, account, former)
        link.config = dict(account.config)
        _owe_backfill(link)
        await session.flush()
        await checkpoints.ask_for_refused(session, [link.id])
        await notices.cancel(session, grant.id)
        session.add(_log_entry(grant, [account]))
        return link.id


async def setting_key(session: AsyncSession, grant_id: UUID) -> str:
    """Where what a grant holds is kept."""
    key = await session.scalar(select(Grant.setting_key).where(Grant.id == grant_id))
    if key is None:
        raise NotFoundError(f"there is no grant {grant_id}: it was replaced or removed")
    return key


async def _begin_anew(session: AsyncSession, connection: Connection) -> None:
    """What a connection has read may be another account's: it is read from the start, and checked
    for what is too much. A sync under way has lost its lease, and stores nothing more."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id == connection.id)
        .values(state={}, scan_id=None, scan_started_at=None, refill=None,
                audit_due_at=func.now())
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    await session.execute(
        update(Lease)
        .where(Lease.connection_id == connection.id)
        .values(epoch=Lease.epoch + 1, expires_at=None)
        .execution_options(synchronize_session=False)
    )


def _owe_backfill(link: Connection) -> None:
    link.backfill_owed_at = func.clock_timestamp()
    link.backfill_run_id, link.backfill_tries = None, 0


async def _begin(session: AsyncSession, tenant_id: UUID, integration: str) -> dict[str, Connection]:
    """The connections that there are, which stay so until the transaction ends."""
    # Two consents at once would both find the same setting free.
    line = func.hashtextextended(f"connect:{tenant_id}:{integration}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(line)))
    # A change of tier locks the tenant before its connections. What is new here locks it, too.
    tenant = select(Tenant.id).where(Tenant.id == tenant_id)
    await session.execute(tenant.with_for_update(key_share=True))
    return await _known(session, tenant_id, integration)


async def _connect(
    database: Database,
    vault: Vault,
    *,
    tenant_id: UUID,
    integration: str,
    tokens: Tokens,
    accounts: Sequence[Account],
    label: str | None,
    owe_backfill: bool,
) -> list[UUID]:
    async with database.transaction(tenant_id) as session:
        known = await _begin(session, tenant_id, integration)
        key = tenant_settings.tokens_key(integration, label)
        grant = await _grant(session, tenant_id, integration, key, known, accounts)
        same = any(known[a.id].grant_id == grant.id for a in accounts if a.id in known)
        former: Mapping[str, Any] = {}
        if same:
            former = (
                await tenant_settings.get_json(session, vault, tenant_id, grant.setting_key) or {}
            )
        # Some vendors give a refresh token with the first consent only.
        kept = former if tokens.refresh_token is None else {}
        now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        await put_tokens(session, vault, grant, tokens, kept=kept, at=now)
        grant.refresh_id = grant.refresh_started_at = None
        links = [_link(session, grant, account, known.get(account.id)) for account in accounts]
        if owe_backfill:
            for link in links:
                _owe_backfill(link)
        await session.flush()
        if _allows_more(tokens, former):
            streams = [stream.name for stream in load(integration).streams if not stream.snapshot]
            await checkpoints.refill_all(
                session, connection_ids=[link.id for link in links], streams=streams
            )
        await checkpoints.ask_for_refused(session, [link.id for link in links])
        await _leave_out(session, grant, [link.id for link in links])
        await notices.cancel(session, grant.id)
        await _drop_unused(session, tenant_id, integration)
        if await privacy.reconnected(session, [link.id for link in links]):
            session.add(_kept_entry(grant))
        session.add(_log_entry(grant, accounts))
        return [link.id for link in links]


def _allows_more(tokens: Tokens, former: Mapping[str, Any]) -> bool:
    """Whether the tenant has allowed something that the former consent did not."""
    return "scope" in former and not set(tokens.scope) <= set(former["scope"])


def _storable(integration: str, account: Account) -> Account:
    """As PostgreSQL can hold it: a NUL in a name costs no consent. ContractError where its id would
    become that of another."""
    if not is_storable(account.id):
        raise ContractError(f"{integration} names an account by what cannot be stored")
    config = json.loads(stored_json(dict(account.config)))
    return Account(account.id, stored_text(account.name), config)


def _log_entry(grant: Grant, accounts: Sequence[Account]) -> OAuthLog:
    return OAuthLog(
        tenant_id=grant.tenant_id,
        grant_id=grant.id,
        integration=grant.integration,
        event="connect",
        message=f"connected {', '.join(account.name or account.id for account in accounts)}",
        detail={"accounts": [account.id for account in accounts]},
    )


def _kept_entry(grant: Grant) -> OAuthLog:
    return OAuthLog(
        tenant_id=grant.tenant_id,
        grant_id=grant.id,
        integration=grant.integration,
        event="privacy",
        message=f"the account was to be forgotten; {privacy.RECONNECTED}",
        detail={"outcome": "withdrawn"},
    )


async def put_tokens(
    session: AsyncSession,
    vault: Vault,
    grant: Grant,
    tokens: Tokens,
    *,
    kept: Mapping[str, Any],
    at: datetime,
) -> None:
    """Seal a token answer over what is `kept` of a former one, such as its refresh token."""
    value = {**kept, **tokens.extra, "access_token": tokens.access_token}
    value["expires_at"] = tokens.expires_at.isoformat() if tokens.expires_at else None
    if tokens.refresh_token:
        value["refresh_token"] = tokens.refresh_token
    if tokens.scope:
        value["scope"] = list(tokens.scope)
    await tenant_settings.put_json(session, vault, grant.tenant_id, grant.setting_key, value)
    grant.refreshed_at, grant.expires_at = at, tokens.expires_at


async def update_configs(
    session: AsyncSession, grant: Grant, connector: Connector, tokens: Tokens
) -> None:
    """Settings of the grant's connections that a token answer names anew, such as the address of
    an org that was moved. One that is none of the vendor's, or no text that can be stored, is left
    out: the tokens are good."""
    found = await session.scalars(select(Connection).where(Connection.grant_id == grant.id))
    for connection in found:
        updates = {
            name: value
            for name, former in connection.config.items()
            if isinstance(value := tokens.extra.get(name), str)
            and isinstance(former, str)
            and stored_text(value) == value
        }
        config = {**connection.config, **updates}
        with suppress(ContractError):
            check_account(connector, Account(connection.account_id, config=config))
            connection.config = config


async def need_consent(session: AsyncSession, grant: Grant, reason: str) -> None:
    """The grant is over: its connections wait for the tenant, whom we ask to connect again."""
    broken = await session.scalars(
        update(Connection)
        .where(Connection.grant_id == grant.id, Connection.status == Status.ACTIVE)
        .values(status=Status.NEEDS_REAUTH, status_reason=reason)
        .returning(Connection.id)
    )
    if broken.all():
        await notices.announce(
            session,
            tenant_id=grant.tenant_id,
            grant_id=grant.id,
            integration=grant.integration,
            reason=reason,
        )


async def restore(session: AsyncSession, grant: Grant) -> None:
    """The grant works after all: what waited for a new one is active again."""
    await session.execute(
        update(Connection)
        .where(Connection.grant_id == grant.id, Connection.status == Status.NEEDS_REAUTH)
        .values(status=Status.ACTIVE, status_reason=None)
    )
    await notices.cancel(session, grant.id)


async def _known(session: AsyncSession, tenant_id: UUID, integration: str) -> dict[str, Connection]:
    found = await session.scalars(
        select(Connection).where(
            Connection.tenant_id == tenant_id, Connection.integration == integration
        )
    )
    return {connection.account_id: connection for connection in found}


async def _grant(
    session: AsyncSession,
    tenant_id: UUID,
    integration: str,
    key: str,
    known: Mapping[str, Connection],
    accounts: Sequence[Account],
) -> Grant:
    """The grant to hold the tokens: never one that serves other accounts only.

    A sync under way for such an account would go on with tokens of this one. All the grants are
    locked, before any connection is: refreshes lock in that order, too.
    """
    found = await session.scalars(
        select(Grant)
        .where(Grant.tenant_id == tenant_id, Grant.integration == integration)
        .order_by(Grant.id)
        .with_for_update(key_share=True)
    )
    grants = {grant.id: grant for grant in found}
    for account in accounts:
        if account.id in known:
            return grants[known[account.id].grant_id]
    serving = {connection.grant_id for connection in known.values()}
    if any(grant.setting_key == key and grant.id in serving for grant in grants.values()):
        key = f"{key}:{accounts[0].id}"
    for grant in grants.values():
        if grant.setting_key == key:
            return grant
    grant = Grant(tenant_id=tenant_id, integration=integration, setting_key=key)
    session.add(grant)
    await session.flush()
    return grant


def _link(
    session: AsyncSession, grant: Grant, account: Account, connection: Connection | None
) -> Connection:
    if connection is None:
        connection = Connection(
            tenant_id=grant.tenant_id,
            integration=grant.integration,
            account_id=account.id,
            config={},
            next_due_at=func.now(),
        )
        session.add(connection)
    elif connection.status in (Status.NEEDS_REAUTH, Status.REVOKED):
        connection.status, connection.status_reason = Status.ACTIVE, None
        connection.failures, connection.next_due_at = 0, func.now()
    connection.grant_id = grant.id
    connection.account_name = account.name
    connection.config = {**connection.config, **account.config}
    return connection


async def _leave_out(session: AsyncSession, grant: Grant, covered: Sequence[UUID]) -> None:
    """Connections that the grant served and no longer covers must not use its new tokens."""
    await session.execute(
        update(Connection)
        .where(Connection.grant_id == grant.id, Connection.id.not_in(covered))
        .values(
            status=Status.REVOKED,
            status_reason="the latest authorisation does not cover this account: connect it again",
        )
    )


async def _drop_unused(session: AsyncSession, tenant_id: UUID, integration: str) -> None:
    """A grant whose accounts all moved to another is forgotten, its tokens with it."""
    used = select(Connection.grant_id).where(Connection.tenant_id == tenant_id)
    unused = await session.scalars(
        delete(Grant)
        .where(
            Grant.tenant_id == tenant_id, Grant.integration == integration, Grant.id.not_in(used)
        )
        .returning(Grant.setting_key)
    )
    for key in unused.all():
        await tenant_settings.delete(session, tenant_id, key)
