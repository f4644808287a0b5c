"""Connect sessions: links by which a tenant's browser connects accounts, and consents under way.

A link opens once: the browser that opened it is bound to it, and nothing that it started can be
finished by another. Of links, browsers and nonces only hashes are stored.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Account, Words, say
from connectors.kernel.token_answers import Tokens
from storage import tenant_settings
from storage.database import Database
from storage.errors import StorageError
from storage.keeping import WHILE_A_PERSON_WAITS, until_stored
from storage.models import ConnectSession, OAuthState
from storage.vault import Vault

LINK_LIFE = timedelta(minutes=10)
# From its opening on, for the browser that opened it: people read consent pages.
PAGE_LIFE = timedelta(minutes=30)
STATE_LIFE = timedelta(minutes=10)
# What takes longer to come of an answer will not come any more: its process ended.
UNDER_WAY = timedelta(minutes=2)
# A page that is over can still say so for a while.
SWEPT_AFTER = timedelta(hours=1)

Reason = Literal["unknown", "over", "other_browser", "used", "not_covered"]


class LinkRefusedError(StorageError):
    """A link, a page or a consent that may not be used, with what a person should do."""

    def __init__(self, reason: Reason, words: Words) -> None:
        super().__init__(str(words))
        self.reason = reason
        self.words = words


@dataclass(frozen=True)
class Session:
    """A link that a browser opened, or may still open. `answers` are known before it is asked.

    `integrations` are those that it offers, in that order; where there are none it offers all.
    """

    id: UUID
    tenant_id: UUID
    integration: str | None
    label: str | None
    return_url: str | None
    expires_at: datetime
    answers: Mapping[str, str] = field(default_factory=dict)
    integrations: tuple[str, ...] = ()
    shows_unconfigured: bool = False
    language: str | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """The only ones that it is for; none where it is for all."""
        return self.integrations if self.integration is None else (self.integration,)

    def must_cover(self, integration: str) -> None:
        """LinkRefusedError where the link was made for another integration only."""
        if self.offered and integration not in self.offered:
            raise LinkRefusedError("not_covered", say("this link was made for another integration"))


@dataclass(frozen=True)
class Return:
    """A browser that came back from a vendor. `outcome` is what came of it the first time, None
    while that is under way."""

    session: Session
    is_first: bool
    outcome: dict[str, Any] | None = None


@dataclass(frozen=True)
class PendingConsent:
    """A consent that covers several accounts, until a person has said which to connect."""

    integration: str
    tokens: Tokens = field(repr=False)
    accounts: tuple[Account, ...]


async def create(
    database: Database,
    tenant_id: UUID,
    *,
    integration: str | None = None,
    label: str | None = None,
    return_url: str | None = None,
    answers: Mapping[str, str] | None = None,
    integrations: Sequence[str] = (),
    shows_unconfigured: bool = False,
    language: str | None = None,
    life: timedelta = LINK_LIFE,
) -> tuple[Session, str]:
    """A new session, and the secret of its link, which is not to be had again."""
    secret = secrets.token_urlsafe(32)
    async with database.transaction(tenant_id) as session:
        row = ConnectSession(
            tenant_id=tenant_id,
            token_hash=hashed(secret),
            integration=integration,
            label=label,
            return_url=return_url,
            answers=dict(answers or {}),
            integrations=list(integrations) or None,
            shows_unconfigured=shows_unconfigured,
            language=language,
            expires_at=func.now() + life,
        )
        session.add(row)
        await session.flush()
        await session.refresh(row)
        return _session(row), secret


async def open_link(database: Database, secret: str, browser: str) -> Session:
    """The session of a link, from now on this browser's alone."""
    tenant_id = await _tenant(database, ConnectSession.token_hash == hashed(secret))
    async with database.transaction(tenant_id) as session:
        found = ConnectSession.token_hash == hashed(secret)
        row = (await session.scalars(select(ConnectSession).where(found).with_for_update())).one()
        await _must_live(session, row)
        if row.browser_hash is None:
            row.browser_hash, row.bound_at = hashed(browser), func.now()
            row.expires_at = func.now() + PAGE_LIFE
            await session.flush()
            await session.refresh(row)
        _must_be_of(row, browser)
        return _session(row)


async def of_browser(database: Database, session_id: UUID, browser: str) -> Session:
    """The session that this browser opened."""
    tenant_id = await _tenant(database, ConnectSession.id == session_id)
    async with database.transaction(tenant_id) as session:
        row = await session.get_one(ConnectSession, session_id)
        _must_be_of(row, browser)
        await _must_live(session, row)
        return _session(row)


async def put_note(database: Database, connect_session: Session, note: dict[str, Any]) -> None:
    """What the session's page tells when it is shown next."""
    async with database.transaction(connect_session.tenant_id) as session:
        row = await session.get_one(ConnectSession, connect_session.id, with_for_update=True)
        row.note = note


async def take_note(database: Database, connect_session: Session) -> dict[str, Any] | None:
    async with database.transaction(connect_session.tenant_id) as session:
        row = await session.get_one(ConnectSession, connect_session.id, with_for_update=True)
        note, row.note = row.note, None
        return note


async def begin(database: Database, connect_session: Session, integration: str) -> tuple[UUID, str]:
    """Notes that the browser is sent to a vendor; the state's id, and its nonce."""
    connect_session.must_cover(integration)
    nonce = secrets.token_urlsafe(16)
    async with database.transaction(connect_session.tenant_id) as session:
        state = OAuthState(
            tenant_id=connect_session.tenant_id,
            session_id=connect_session.id,
            integration=integration,
            nonce_hash=hashed(nonce),
            expires_at=func.now() + STATE_LIFE,
        )
        session.add(state)
        await session.flush()
        return state.id, nonce


async def redeem(
    database: Database,
    *,
    tenant_id: UUID,
    state_id: UUID,
    nonce: str,
    integration: str,
    browser: str,
) -> Return:
    """The session to which the browser came back. A state's answer is read at the first return;
    people reload, and programs look at addresses before them."""
    async with database.transaction(tenant_id) as session:
        state = await session.get(OAuthState, state_id, with_for_update=True)
        if state is None or state.integration != integration or state.nonce_hash != hashed(nonce):
            raise LinkRefusedError(
                "unknown", say("this answer belongs to nothing that was begun here")
            )
        row = await session.get_one(ConnectSession, state.session_id)
        _must_be_of(row, browser)
        now = await _now(session)
        if state.used_at is not None:
            if state.outcome is None and state.used_at < now - UNDER_WAY:
                raise LinkRefusedError("used", say("this answer was used already: start again"))
            return Return(_session(row), is_first=False, outcome=state.outcome)
        if state.expires_at <= now:
            raise LinkRefusedError(
                "over", say("that took longer than ten minutes: nothing was connected, start again")
            )
        state.used_at = now
        # Whoever came back in time gets to see how it went.
        row.expires_at = max(row.expires_at, now + STATE_LIFE)
        return Return(_session(row), is_first=True)


async def settle(
    database: Database, connect_session: Session, state_id: UUID, outcome: dict[str, Any]
) -> None:
    """What came of a return, for those that follow it."""
    async with database.transaction(connect_session.tenant_id) as session:
        await session.execute(
            update(OAuthState).where(OAuthState.id == state_id).values(outcome=outcome)
        )


async def outcome(
    database: Database, connect_session: Session, state_id: UUID
) -> dict[str, Any] | None:
    """What came of it; None while it is under way."""
    async with database.transaction(connect_session.tenant_id) as session:
        found: dict[str, Any] | None = await session.scalar(
            select(OAuthState.outcome).where(OAuthState.id == state_id)
        )
        return found


async def hold(
    database: Database, vault: Vault, connect_session: Session, state_id: UUID, held: PendingConsent
) -> None:
    """Keep a consent, sealed, until its accounts are chosen."""
    tenant_id = connect_session.tenant_id

    async def store() -> None:
        async with database.transaction(tenant_id) as session:
            sealed = await tenant_settings.seal(
                session, vault, tenant_id, _held_name(state_id), _dump(held)
            )
            await session.execute(
                update(OAuthState).where(OAuthState.id == state_id).values(held=sealed)
            )

    await until_stored(store, patience=WHILE_A_PERSON_WAITS)


async def held(
    database: Database, vault: Vault, connect_session: Session, state_id: UUID, *, take: bool
) -> PendingConsent:
    """The consent that is held; who takes it is the only one to use it."""
    tenant_id = connect_session.tenant_id
    async with database.transaction(tenant_id) as session:
        state = await session.get(OAuthState, state_id, with_for_update=True)
        if state is None or state.session_id != connect_session.id or state.held is None:
            raise LinkRefusedError(
                "used", say("these accounts were chosen already, or too long ago")
            )
        text = await tenant_settings.unseal(
            session, vault, tenant_id, _held_name(state_id), state.held
        )
        if take:
            state.held = None
        return _load(state.integration, text)


async def sweep(database: Database) -> int:
    """Forget the sessions that are over, and what was held for them; how many there were."""
    async with database.dispatching() as session:
        gone = await session.scalars(
            delete(ConnectSession)
            .where(ConnectSession.expires_at < func.now() - SWEPT_AFTER)
            .returning(ConnectSession.id)
        )
        return len(gone.all())


def hashed(secret: str) -> bytes:
    # What is hashed is random and long, so that a plain hash cannot be guessed back.
    return sha256(secret.encode()).digest()


async def _tenant(database: Database, found: Any) -> UUID:
    async with database.dispatching() as session:
        tenant_id = await session.scalar(select(ConnectSession.tenant_id).where(found))
    if tenant_id is None:
        raise LinkRefusedError("unknown", say("there is no such link, or it was used long ago"))
    return tenant_id


async def _must_live(session: AsyncSession, row: ConnectSession) -> None:
    if row.expires_at <= await _now(session):
        raise LinkRefusedError(
            "over", say("this link is over: ask for a new one where it came from")
        )


def _must_be_of(row: ConnectSession, browser: str) -> None:
    if row.browser_hash is None or not secrets.compare_digest(row.browser_hash, hashed(browser)):
        raise LinkRefusedError(
            "other_browser",
            say("this link was opened in another browser, and works in that one only"),
        )


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now


def _session(row: ConnectSession) -> Session:
    return Session(
        row.id, row.tenant_id, row.integration, row.label, row.return_url, row.expires_at,
        row.answers, tuple(row.integrations or ()), row.shows_unconfigured, row.language,
    )  # fmt: skip


def _held_name(state_id: UUID) -> str:
    return f"oauth_state:{state_id}"


def _dump(held: PendingConsent) -> str:
    tokens = held.tokens
    return json.dumps(
        {
            "access_token": tokens.access_token,
            "refresh_token": tokens.refresh_token,
            "expires_at": tokens.expires_at.isoformat() if tokens.expires_at else None,
            "scope": list(tokens.scope),
            "extra": dict(tokens.extra),
            "accounts": [[a.id, a.name, dict(a.config)] for a in held.accounts],
        }
    )


def _load(integration: str, text: str) -> PendingConsent:
    value = json.loads(text)
    ends = value["expires_at"]
    tokens = Tokens(
        access_token=value["access_token"],
        refresh_token=value["refresh_token"],
        expires_at=datetime.fromisoformat(ends) if ends else None,
        scope=tuple(value["scope"]),
        extra=value["extra"],
    )
    return PendingConsent(integration, tokens, _accounts(value["accounts"]))


def _accounts(rows: Sequence[Sequence[Any]]) -> tuple[Account, ...]:
    return tuple(Account(id, name=name, config=config) for id, name, config in rows)
