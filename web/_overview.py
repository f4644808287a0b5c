"""What a connect page lists: each integration with its state, and the accounts behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from accounts import api_keys
from accounts.runtime import Runtime
from connectors import ApiKey, Connector, OAuth2, Question, all_connectors
from settings import SettingsError
from storage import Status, connections
from storage.connect_sessions import Session
from storage.connections import Connection

State = Literal["connected", "attention", "paused", "none", "not_configured"]
STATES: dict[State, str] = {
    "connected": "Connected",
    "attention": "Needs attention",
    "paused": "Paused",
    "none": "Not connected",
    "not_configured": "Not configured",
}
# The worst of its accounts is an integration's own state.
_ORDER: tuple[State, ...] = ("attention", "connected", "paused", "none")
_OF_STATUS: dict[Status, State] = {
    Status.ACTIVE: "connected",
    Status.NEEDS_REAUTH: "attention",
    Status.PAUSED: "paused",
    Status.REVOKED: "none",
}


@dataclass(frozen=True)
class Linked:
    """An account that the tenant connected."""

    id: UUID
    title: str
    state: State
    reason: str
    answers: Mapping[str, str]

    @property
    def said(self) -> str:
        return STATES[self.state]


@dataclass(frozen=True)
class Entry:
    """An integration as the page shows it."""

    name: str
    title: str
    kind: Literal["oauth", "key"]
    state: State
    accounts: tuple[Linked, ...] = ()
    masked: str | None = None
    hint: str = ""
    questions: tuple[Question, ...] = ()

    @property
    def said(self) -> str:
        return STATES[self.state]


async def entries(shared: Runtime, session: Session) -> list[Entry]:
    """What this session may connect, by title; what is not configured comes last."""
    known = await connections.of_tenant(shared.database, session.tenant_id)
    kept = await api_keys.listing(shared.database, shared.vault, session.tenant_id)
    keys = {each.setting: each.masked for each in kept}
    found = [
        _of_key(connector, connector.auth, keys)
        if isinstance(connector.auth, ApiKey)
        else _of_oauth(shared, connector, [c for c in known if c.integration == connector.name])
        for connector in all_connectors()
        if session.integration in (None, connector.name)
    ]
    return sorted(found, key=lambda entry: (entry.state == "not_configured", entry.title.lower()))


def is_configured(shared: Runtime, connector: Connector) -> bool:
    """Whether the operator set up our app at the vendor."""
    if not isinstance(connector.auth, OAuth2):
        return True
    try:
        shared.settings.app(connector.name)
    except SettingsError:
        return False
    return True


def _of_oauth(shared: Runtime, connector: Connector, known: Sequence[Connection]) -> Entry:
    linked = tuple(_linked(connector, connection) for connection in known if _is_shown(connection))
    states = {each.state for each in linked}
    state: State = next((each for each in _ORDER if each in states), "none")
    if not linked and not is_configured(shared, connector):
        state = "not_configured"
    questions = connector.oauth.questions
    return Entry(connector.name, connector.title, "oauth", state, linked, questions=questions)


def _of_key(connector: Connector, auth: ApiKey, keys: dict[str, str | None]) -> Entry:
    state: State = "none"
    if auth.setting in keys:
        state = "connected" if keys[auth.setting] else "attention"
    return Entry(
        connector.name, connector.title, "key", state, masked=keys.get(auth.setting), hint=auth.hint
    )


def _is_shown(connection: Connection) -> bool:
    return connection.status != Status.REVOKED


def _linked(connector: Connector, connection: Connection) -> Linked:
    reason = connection.status_reason or ""
    if connection.status == Status.NEEDS_REAUTH and not reason:
        reason = "the authorisation is over"
    return Linked(
        connection.id,
        connection.account_name or connection.account_id,
        _OF_STATUS[connection.status],
        reason,
        {q.name: str(connection.config.get(q.name, "")) for q in connector.oauth.questions},
    )
