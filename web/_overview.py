"""What a connect page lists: each integration with its state, and the accounts behind it."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from accounts import api_keys
from accounts.api_keys import MaskedKey
from accounts.runtime import Runtime
from connectors import ApiKey, Category, Connector, OAuth2, Question, Words, all_connectors, say
from integrations import added
from settings import SettingsError, listed_of
from storage import Status, connections
from storage.connect_sessions import Session
from storage.connections import Connection
from storage.models import Failure
from web._languages import Language
from web._marks import Mark, mark
from web._notes import doubted

State = Literal["attention", "unverified", "connected", "paused", "none", "not_configured"]
STATES: dict[State, Words] = {
    "attention": say("Needs attention"),
    "unverified": say("Saved, not verified yet"),
    "connected": say("Connected"),
    "paused": say("Paused"),
    "none": say("Not connected"),
    "not_configured": say("Not configured"),
}
CATEGORIES: dict[Category, Words] = {
    "Accounting": say("Accounting"),
    "AI": say("AI"),
    "Analytics": say("Analytics"),
    "Calendar": say("Calendar"),
    "Communication": say("Communication"),
    "CRM": say("CRM"),
    "Customer support": say("Customer support"),
    "Databases": say("Databases"),
    "Design": say("Design"),
    "Developer tools": say("Developer tools"),
    "E-commerce": say("E-commerce"),
    "Email": say("Email"),
    "Events": say("Events"),
    "Files": say("Files"),
    "Forms and surveys": say("Forms and surveys"),
    "Human resources": say("Human resources"),
    "Legal": say("Legal"),
    "Marketing": say("Marketing"),
    "Meetings": say("Meetings"),
    "Monitoring": say("Monitoring"),
    "Notes and documents": say("Notes and documents"),
    "Payments": say("Payments"),
    "Project management": say("Project management"),
    "Sales": say("Sales"),
    "Security": say("Security"),
    "Social media": say("Social media"),
    "Spreadsheets": say("Spreadsheets"),
    "Time tracking": say("Time tracking"),
    "Other": say("Other"),
}
# The worst of its accounts is an integration's own state.
_ORDER: tuple[State, ...] = ("attention", "connected", "paused", "none")
_OF_STATUS: dict[Status, State] = {
    Status.ACTIVE: "connected",
    Status.NEEDS_REAUTH: "attention",
    Status.PAUSED: "paused",
    Status.REVOKED: "none",
}
_OF_FAILURE = {
    Failure.NOT_ALLOWED: say(
        "A part of this account cannot be read. Its administrator may have to allow it; or "
        "reconnect, and allow all that is asked for."
    ),
    Failure.UNAVAILABLE: say(
        "New data is late: the app does not answer. It is tried again by itself; you need not do "
        "anything."
    ),
    Failure.RATE_LIMITED: say(
        "New data is late: the app asks us to wait. It is tried again by itself; you need not do "
        "anything."
    ),
}
_LATE = say("New data is late. It is tried again by itself; you need not do anything.")


@dataclass(frozen=True)
class Linked:
    """An account that the tenant connected. `reason` says what is wrong with it, if anything is."""

    id: UUID
    title: str
    state: State
    reason: Words | None
    answers: Mapping[str, str]

    @property
    def said(self) -> Words:
        return STATES[self.state]


@dataclass(frozen=True)
class Entry:
    """An integration as the page shows it.

    Of a key, `masked` is what may be shown of it and `doubt` why it is not verified. `missing` says
    what the operator has to set, of what is not configured.
    """

    name: str
    title: str
    kind: Literal["oauth", "key", "form"]
    state: State
    accounts: tuple[Linked, ...] = ()
    masked: str | None = None
    hint: str = ""
    questions: tuple[Question, ...] = ()
    category: Category = "Other"
    doubt: Words | None = None
    missing: str = ""

    @property
    def said(self) -> Words:
        return STATES[self.state]

    @property
    def about(self) -> Words:
        return CATEGORIES[self.category]

    @property
    def mark(self) -> Mark:
        return mark(self.name, self.title)

    @property
    def starts_at_once(self) -> bool:
        """Whether nothing is asked before the vendor's own page."""
        return self.kind == "oauth" and not self.questions


@dataclass(frozen=True)
class Section:
    """Entries that belong together on the page; `found` are those that a search leaves."""

    name: str
    title: Words
    entries: Sequence[Entry]
    found: frozenset[str]

    @property
    def shown(self) -> int:
        """How many a search leaves."""
        return sum(entry.name in self.found for entry in self.entries)


@dataclass(frozen=True)
class Search:
    """What a person looks for: words that a title or a category has, in a category."""

    text: str = ""
    category: str = ""

    def finds(self, entry: Entry, language: Language) -> bool:
        if self.category not in ("", entry.category):
            return False
        place = _plain(f"{entry.title} {language.tell(entry.about)}")
        return all(word in place for word in _plain(self.text).split())


async def entries(shared: Runtime, session: Session) -> list[Entry]:
    """What this session may connect, and what the tenant has connected, in the order of the page.

    What the operator did not set up is no entry, unless the session shows that, or is for that
    alone.
    """
    known = await connections.of_tenant(shared.database, session.tenant_id)
    kept = await api_keys.listing(shared.database, shared.vault, session.tenant_id)
    by_setting = {each.setting: each for each in kept}
    by_name: dict[str, list[Connection]] = {}
    for connection in known:
        by_name.setdefault(connection.integration, []).append(connection)
    found = [
        of_key(connector, connector.auth, by_setting.get(connector.auth.setting))
        if isinstance(connector.auth, ApiKey)
        else of_oauth(connector, by_name.get(connector.name, ()), missing(shared, connector))
        for connector in all_connectors()
        if not session.offered or connector.name in session.offered
    ]
    found += [
        of_form(each.slug, each.title, by_name.get(each.slug, ()))
        for each in added()
        if not session.offered or each.slug in session.offered
    ]
    # The operator's choice hides nothing that is connected: it could not be disconnected any more.
    listed = listed_of(shared.settings.connect_integrations) if not session.offered else []
    shown = [
        entry
        for entry in found
        if (not listed or entry.name in listed or entry.state not in ("none", "not_configured"))
        and (entry.state != "not_configured" or session.shows_unconfigured or session.integration)
    ]
    return in_order(shown, session.offered or listed)


def in_order(entries: Iterable[Entry], names: Sequence[str]) -> list[Entry]:
    """By the given names; the rest by title."""
    places = {name: place for place, name in enumerate(names)}
    return sorted(
        entries, key=lambda each: (places.get(each.name, len(places)), each.title.casefold())
    )


def sections(entries: Sequence[Entry], search: Search, language: Language) -> list[Section]:
    """What needs attention, what is connected, what may be, and what nobody set up; the empty ones
    are left out."""
    found = frozenset(each.name for each in entries if search.finds(each, language))
    divided: tuple[tuple[str, Words, tuple[State, ...]], ...] = (
        ("attention", say("Needs attention"), ("attention",)),
        ("connected", say("Connected apps"), ("connected", "unverified", "paused")),
        ("available", say("Available apps"), ("none",)),
        ("unconfigured", say("Not set up yet"), ("not_configured",)),
    )
    made = [
        Section(name, title, [each for each in entries if each.state in states], found)
        for name, title, states in divided
    ]
    return [section for section in made if section.entries]


def categories(entries: Sequence[Entry], language: Language) -> list[tuple[Category, str]]:
    """Those that the entries have, as a reader of that language finds them."""
    there = {each.category: language.tell(each.about) for each in entries}
    return sorted(there.items(), key=lambda each: (each[0] == "Other", _plain(each[1])))


def missing(shared: Runtime, connector: Connector) -> str:
    """What the operator has to set before it can be connected; nothing where all is set."""
    if not isinstance(connector.auth, OAuth2):
        return ""
    try:
        shared.settings.app(connector.name)
    except SettingsError as error:
        return str(error)
    return ""


def of_oauth(connector: Connector, known: Sequence[Connection], missing: str = "") -> Entry:
    asked = [question.name for question in connector.oauth.questions]
    linked = tuple(
        _linked(connector.title, each, {name: str(each.config.get(name, "")) for name in asked})
        for each in known
        if _is_shown(each)
    )
    states = {each.state for each in linked}
    state: State = next((each for each in _ORDER if each in states), "none")
    if not linked and missing:
        state = "not_configured"
    return Entry(
        connector.name, connector.title, "oauth", state, linked,
        questions=connector.oauth.questions, category=connector.category, missing=missing,
    )  # fmt: skip


def of_form(name: str, title: str, known: Sequence[Connection]) -> Entry:
    """An integration that was added: its manifest is not read until somebody connects it."""
    linked = tuple(_linked(title, each, {}) for each in known if _is_shown(each))
    states = {each.state for each in linked}
    state: State = next((each for each in _ORDER if each in states), "none")
    return Entry(name, title, "form", state, linked)


def of_key(connector: Connector, auth: ApiKey, kept: MaskedKey | None) -> Entry:
    doubt = doubted(connector.title, kept.doubt) if kept and kept.doubt else None
    return Entry(
        connector.name, connector.title, "key", _of_kept(kept),
        masked=kept.masked if kept else None, hint=auth.hint, category=connector.category,
        doubt=doubt,
    )  # fmt: skip


def _of_kept(kept: MaskedKey | None) -> State:
    if kept is None:
        return "none"
    if kept.masked is None or kept.doubt == "refused":
        return "attention"
    return "unverified" if kept.doubt else "connected"


def _is_shown(connection: Connection) -> bool:
    return connection.status != Status.REVOKED


def _linked(title: str, connection: Connection, answers: Mapping[str, str]) -> Linked:
    return Linked(
        connection.id,
        connection.account_name or connection.account_id,
        _OF_STATUS[connection.status],
        _reason(title, connection),
        answers,
    )


def _reason(title: str, connection: Connection) -> Words | None:
    """For the tenant: what a vendor called it is for the operator, in `status_reason`."""
    match connection.status:
        case Status.NEEDS_REAUTH:
            return say(
                "%(title)s no longer lets us read this account. Reconnect it to go on; what was "
                "read before is kept.",
                title=title,
            )
        case Status.PAUSED:
            return say("Nothing is read at the moment. Whoever runs this service has paused it.")
        case Status.ACTIVE if connection.status_reason and connection.failure:
            return _OF_FAILURE.get(connection.failure, _LATE)
    return None


def _plain(text: str) -> str:
    """In lower case and without accents, so that people find what they type in a hurry."""
    parts = unicodedata.normalize("NFD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()
