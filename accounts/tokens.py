"""Token life: a consent is stored, its access token renewed by one process at a time.

A refresh takes two transactions with the vendor's call between them, which holds no connection of
the database: the first writes down the intent, the second stores what came. What was never stored
is never used. A process that dies in between leaves its intent behind, and another takes it over.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import (
    BrokenConnectionError,
    Connector,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel import oauth as oauth
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp
from connectors.kernel.token_answers import Tokens
from integrations import load
from storage import tenant_settings
from storage.database import Database
from storage.errors import NotFoundError
from storage.grants import connect, need_consent, put_tokens, restore, update_configs
from storage.keeping import until_stored
from storage.models import Connection, Grant
from storage.oauth_log import failure_of, record_failure, record_refresh
from storage.vault import Vault

__all__ = ["access_token", "connect"]

AHEAD = timedelta(minutes=5)
# One refresh with all its attempts. An intent of twice that age belongs to no living process.
TIMEOUT = timedelta(seconds=30)
POLL, MAX_POLL = 0.05, 0.5
# How long a caller waits for others' refreshes, and for a vendor that says to wait.
PATIENCE = timedelta(minutes=2)
NEWER = "a newer token was stored meanwhile"

T = TypeVar("T")


@dataclass(frozen=True)
class _Wanted:
    """What makes a token good enough for who asks."""

    refused: str | None
    renewed_after: datetime | None
    ahead: timedelta


class _Busy:
    """Another process is at it."""


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A refresh that is ours to carry out, and what it starts from."""

    refresh_id: UUID
    connector: Connector
    app: OAuthApp = field(repr=False)
    account_id: str
    tokens: dict[str, Any] = field(repr=False)
    interrupted_for: timedelta | None


async def access_token(
    database: Database,
    vault: Vault,
    apps: Callable[[str], OAuthApp],
    transport: Transport,
    budget: Budget,
    *,
    grant_id: UUID,
    tenant_id: UUID,
    refused: str | None = None,
    renewed_after: datetime | None = None,
    ahead: timedelta = AHEAD,
    timeout: timedelta = TIMEOUT,
    patience: timedelta = PATIENCE,
    find: Callable[[str], Connector] = load,
) -> str:
    """What calls for a grant carry: its access token, refreshed first if it ends soon or is the one
    a vendor `refused`; our app's secret, where the vendor takes that (`OAuth2.bearer`).

    With `renewed_after`, also if it is older than that, or if a refresh of it was interrupted. A
    vendor that says to wait is waited for as long as `patience` lasts.
    """
    renewal = _Renewal(database, vault, apps, transport, budget, grant_id, tenant_id, timeout, find)
    # Grants that were made together would otherwise all come due together.
    wanted = _Wanted(refused, renewed_after, ahead * _spread(1.0, 1.3))
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    give_up_at = asked_at + patience.total_seconds()
    pause = POLL
    while True:
        try:
            found = await _to_its_end(renewal.attempt(wanted, asked_at))
        except RateLimitedError as error:
            wait = max(1.0, error.retry_after.total_seconds()) * _spread(1.0, 1.1)
            if clock() + wait > give_up_at:
                raise
            await transport.clock.sleep(wait)
            asked_at = clock()
            continue
        if isinstance(found, str):
            return found
        if clock() > give_up_at:
            raise ProviderUnavailableError(
                "the access token is being refreshed by others, and that takes too long"
            )
        await asyncio.sleep(pause * _spread(0.5, 1.5))
        pause = min(pause * 1.5, MAX_POLL)


@dataclass(frozen=True)
class _Renewal:
    """One grant, and all that a refresh of it needs."""

    database: Database
    vault: Vault
    apps: Callable[[str], OAuthApp]
    transport: Transport
    budget: Budget
    grant_id: UUID
    tenant_id: UUID
    timeout: timedelta
    find: Callable[[str], Connector]

    async def attempt(self, wanted: _Wanted, asked_at: float) -> str | _Busy | None:
        """The token, or that others are refreshing it; None: it is to be looked at once more.

        Who began to ask, by the loop's clock, before a refresh failed does not repeat it.
        """
        found = await self._look(wanted, asked_at)
        if isinstance(found, ConnectorError):
            raise found
        return await self._carry_out(found) if isinstance(found, _Claim) else found

    async def _look(
        self, wanted: _Wanted, asked_at: float
    ) -> str | _Busy | _Claim | ConnectorError:
        """The first transaction. Nothing is locked unless there is something to refresh."""
        async with self.database.transaction(self.tenant_id) as session:
            for lock in (False, True):
                grant, held = await self._read(session, lock=lock)
                if held and self.find(grant.integration).oauth.bearer == "app":
                    return self.apps(grant.integration).client_secret
                if held and _usable(held, grant, wanted, self.transport.clock.now()):
                    token: str = held["access_token"]
                    return token
                asked_for = timedelta(seconds=asyncio.get_running_loop().time() - asked_at)
                if failure := await failure_of(session, grant, asked_for):
                    return failure
                age = await _age_of_intent(session, grant)
                if grant.refresh_id and age is not None and age < 2 * self.timeout:
                    return _Busy()
            return await self._claim(session, grant, held, age)

    async def _read(
        self, session: AsyncSession, *, lock: bool = True
    ) -> tuple[Grant, dict[str, Any] | None]:
        asked = select(Grant).where(Grant.id == self.grant_id)
        if lock:
            asked = asked.with_for_update(key_share=True).execution_options(populate_existing=True)
        grant = await session.scalar(asked)
        if grant is None:
            raise NotFoundError(f"there is no grant {self.grant_id}: it was replaced or removed")
        held = await tenant_settings.get_json(
            session, self.vault, self.tenant_id, grant.setting_key
        )
        return grant, held

    async def _claim(
        self,
        session: AsyncSession,
        grant: Grant,
        held: dict[str, Any] | None,
        interrupted_for: timedelta | None,
    ) -> _Claim | ConnectorError:
        connector = self.find(grant.integration)
        if not held or not held.get("refresh_token"):
            error = BrokenConnectionError(
                f"{connector.title} no longer accepts our access, and gave no way to renew it: "
                "connect again"
            )
            record_failure(session, grant, error, refresh_id=None)
            await need_consent(session, grant, str(error))
            return error
        claim = _Claim(
            refresh_id=uuid4(),
            connector=connector,
            app=self.apps(grant.integration),
            account_id=await _account_of(session, grant),
            tokens=held,
            interrupted_for=interrupted_for,
        )
        if grant.refresh_id:
            since = f"{grant.refresh_started_at:%Y-%m-%d %H:%M:%S} UTC"
            message = f"the refresh begun at {since} was interrupted; it is taken over"
            record_refresh(session, grant, "failure", "interrupted", message, grant.refresh_id)
        grant.refresh_id = claim.refresh_id
        grant.refresh_started_at = func.clock_timestamp()
        return claim

    async def _carry_out(self, claim: _Claim) -> str | None:
        """The vendor's call, with no transaction and no connection of the database held."""
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                fresh = await oauth.refresh(
                    claim.connector,
                    oauth.app_of_grant(claim.connector, claim.app, claim.tokens),
                    refresh_token=claim.tokens["refresh_token"],
                    account_id=claim.account_id,
                    transport=self.transport,
                    budget=self.budget,
                )
        except ConnectorError as error:
            failure = _explained(error, claim)
        except TimeoutError:
            failure = ProviderUnavailableError(
                f"{claim.connector.title} did not renew our access in time"
            )
        except Exception as error:
            # A fault of ours. Nobody is to wait for this refresh, and its text may hold anything.
            fault = f"{claim.connector.title}: a refresh failed ({type(error).__name__})"
            await self._fail(claim, ContractError(fault))
            raise
        else:
            return await self._keep(claim, fresh)
        if await self._fail(claim, failure):
            return None
        raise failure

    async def _keep(self, claim: _Claim, fresh: Tokens) -> str | None:
        """Store what came. With a new refresh token it may be the only copy that there is."""
        patience = None if fresh.refresh_token else self.timeout
        return await until_stored(partial(self._store, claim, fresh), patience=patience)

    async def _store(self, claim: _Claim, fresh: Tokens) -> str | None:
        """The second transaction."""
        async with self.database.transaction(self.tenant_id) as session:
            grant, held = await self._read(session)
            ours = grant.refresh_id == claim.refresh_id
            if held is None or (not ours and held != claim.tokens):
                # Somebody connected again, or took over: what they stored is newer.
                record_refresh(session, grant, "refresh", "superseded", NEWER, claim.refresh_id)
                return None
            await put_tokens(
                session, self.vault, grant, fresh, kept=held, at=self.transport.clock.now()
            )
            await update_configs(session, grant, claim.connector, fresh)
            if ours:
                grant.refresh_id = grant.refresh_started_at = None
            else:
                # Our claim ran out and another process took over. It has only the former tokens.
                await restore(session, grant)
            record_refresh(session, grant, "refresh", "refreshed", "", claim.refresh_id)
            return fresh.access_token

    async def _fail(self, claim: _Claim, error: ConnectorError) -> bool:
        """Write the failure down. True when another's answer decides: theirs, or a newer pair."""
        async with self.database.transaction(self.tenant_id) as session:
            grant, held = await self._read(session)
            ours = grant.refresh_id == claim.refresh_id
            if ours:
                grant.refresh_id = grant.refresh_started_at = None
            if held != claim.tokens:
                message = f"{error}; {NEWER}"
                record_refresh(session, grant, "refresh", "superseded", message, claim.refresh_id)
                return True
            record_failure(session, grant, error, claim.refresh_id)
            if ours and isinstance(error, BrokenConnectionError):
                await need_consent(session, grant, str(error))
            return not ours


def _usable(held: dict[str, Any], grant: Grant, wanted: _Wanted, now: datetime) -> bool:
    if held["access_token"] == wanted.refused:
        return False
    # Without a way to renew it, the vendor's refusal is the only end that counts.
    if not held.get("refresh_token"):
        return True
    renewed_at = grant.refreshed_at or grant.created_at
    if wanted.renewed_after and (grant.refresh_id or renewed_at < wanted.renewed_after):
        return False
    if grant.expires_at is None:
        return True
    return grant.expires_at - now > min(wanted.ahead, (grant.expires_at - renewed_at) / 4)


def _explained(error: ConnectorError, claim: _Claim) -> ConnectorError:
    """Says so where a tenant must connect again only because a refresh was interrupted."""
    auth, silence = claim.connector.oauth, claim.interrupted_for
    if not isinstance(error, BrokenConnectionError) or not auth.rotates or silence is None:
        return error
    if auth.grace is not None and silence <= auth.grace:
        return error
    return BrokenConnectionError(
        f"{error}; an earlier refresh was interrupted and its new tokens were lost: connect again"
    )


async def _age_of_intent(session: AsyncSession, grant: Grant) -> timedelta | None:
    if grant.refresh_id is None or grant.refresh_started_at is None:
        return None
    now = await session.scalar(select(func.clock_timestamp()))
    return now - grant.refresh_started_at if now else None


async def _account_of(session: AsyncSession, grant: Grant) -> str:
    asked = select(func.min(Connection.account_id)).where(Connection.grant_id == grant.id)
    return await session.scalar(asked) or ""


def _spread(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311 - it only spreads load


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits what must not be broken off in the middle: a cancellation takes effect after it."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()
    raise cancelled
