"""The page on which a person fills in what an integration is connected by, and what it sends."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Response
from starlette.responses import RedirectResponse

from accounts import filled
from accounts.filled import Filled
from connectors import BrokenConnectionError, Connector, ConnectorError, Words, say
from integrations import load
from integrations.form import FormError
from storage import Status, connect_sessions, connections
from storage.connect_sessions import Session
from storage.connections import Connection
from storage.errors import ConnectedAlreadyError
from storage.oauth_log import record
from web import _form
from web._look import HEADERS
from web._notes import explained, note
from web._page_request import PageRequest, Visiting
from web._pages import PageError, PageRoute, language_of, page, sentence

router = APIRouter(route_class=PageRoute, include_in_schema=False)

Integration = Annotated[str, Path(max_length=60)]
LONGEST_NAME = 100
NOT_FOUND = say("Not found")


@router.get("/connect/{session_id}/settings/{integration}")
async def ask(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """An empty form."""
    session = await visit.session(session_id)
    connector = _connector(session, integration)
    return _page(visit, session, connector, inputs=_form.inputs(filled.form_of(connector)))


@router.get("/connect/{session_id}/settings/{integration}/{connection_id}")
async def ask_again(
    session_id: UUID, integration: Integration, connection_id: UUID, visit: Visiting
) -> Response:
    """The form of a connection that is changed: with its settings, and without its secrets."""
    session = await visit.session(session_id)
    connector = _connector(session, integration)
    former = await _former(visit, session, connector, connection_id)
    inputs = _form.inputs(filled.form_of(connector), former.config)
    return _page(visit, session, connector, inputs=inputs, former=former)


@router.post("/connect/{session_id}/settings/{integration}")
async def connect(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    session, posted = await visit.session_and_form(session_id)
    return await _connect(visit, session, _connector(session, integration), posted, None)


@router.post("/connect/{session_id}/settings/{integration}/{connection_id}")
async def reconnect(
    session_id: UUID, integration: Integration, connection_id: UUID, visit: Visiting
) -> Response:
    session, posted = await visit.session_and_form(session_id)
    connector = _connector(session, integration)
    former = await _former(visit, session, connector, connection_id)
    return await _connect(visit, session, connector, posted, former)


async def _connect(
    visit: PageRequest,
    session: Session,
    connector: Connector,
    posted: dict[str, list[str]],
    former: Connection | None,
) -> Response:
    """Checked here, then at the vendor, and kept where both find nothing wrong."""
    shared, auth = visit.shared, filled.form_of(connector)
    name = (posted.get(_form.NAME) or [""])[0].strip()[:LONGEST_NAME]
    kept = await _kept(visit, connector, former)
    answers = _form.read(auth, posted, kept)

    def again(words: Words) -> Response:
        tell = language_of(visit.request).tell
        inputs = _form.inputs(auth, answers.settings, answers.problems)
        left = _form.unplaced(inputs, answers.problems)
        texts = [sentence(tell(words)), *(f"{'.'.join(p.path)}: {tell(p.words)}" for p in left)]
        return _page(visit, session, connector, inputs=inputs, former=former, status=422,
                     name=name, problems=texts)  # fmt: skip

    if answers.problems:
        return again(say("Something is missing or has another form: see below."))
    try:
        await filled.check(
            connector, answers.settings, transport=shared.transport, budget=shared.budget
        )
        await filled.connect(
            shared.database,
            shared.vault,
            connector,
            Filled(answers.settings, name),
            tenant_id=session.tenant_id,
            label=session.label,
            replaces=former.id if former else None,
        )
    except ConnectorError as error:
        await _log_failure(visit, session, connector, error)
        return again(refusal(connector, error))
    except ConnectedAlreadyError as error:
        return again(error.words)
    visit.request.app.state.wake_owed()
    done = say("%(title)s is connected. Its data is being read now.", title=connector.title)
    outcome = note("done", done)
    await connect_sessions.put_note(shared.database, session, outcome)
    return RedirectResponse(f"/connect/{session.id}", 303, HEADERS)


def refusal(connector: Connector, error: ConnectorError) -> Words:
    """Why settings were not taken, and by whom that is to be mended."""
    if isinstance(error, BrokenConnectionError) and not error.words:
        return say(
            "%(title)s does not accept these settings: check them, and try again.",
            title=connector.title,
        )
    return explained(connector.title, error)


async def _log_failure(
    visit: PageRequest, session: Session, connector: Connector, error: ConnectorError
) -> None:
    async with visit.shared.database.transaction(session.tenant_id) as transaction:
        record(
            transaction,
            tenant_id=session.tenant_id,
            grant_id=None,
            integration=connector.name,
            event="failure",
            outcome="not_connected",
            message=str(error),
        )


def _page(
    visit: PageRequest,
    session: Session,
    connector: Connector,
    *,
    inputs: tuple[_form.Input, ...],
    former: Connection | None = None,
    status: int = 200,
    name: str | None = None,
    problems: list[str] | None = None,
) -> Response:
    if name is None:
        own = former is not None and former.account_name != connector.title
        name = former.account_name if former is not None and own else ""
    return page(
        visit.request,
        "fields.html",
        status,
        title=connector.title,
        session=session,
        action=f"/connect/{session.id}/settings/{connector.name}"
        + (f"/{former.id}" if former else ""),
        token=visit.form_token(session),
        inputs=inputs,
        former=former,
        name=name,
        problems=problems or [],
    )


async def _kept(
    visit: PageRequest, connector: Connector, former: Connection | None
) -> dict[str, Any] | None:
    """The settings that a connection has, where they are still there."""
    if former is None or former.status == Status.REVOKED:
        return None
    try:
        return await visit.shared.config_of(connector, former)
    except BrokenConnectionError:
        return None


async def _former(
    visit: PageRequest, session: Session, connector: Connector, connection_id: UUID
) -> Connection:
    # Only the tenant's own are found, whatever id the address names.
    mine = await connections.of_tenant(
        visit.shared.database, session.tenant_id, integration=connector.name
    )
    found = next((each for each in mine if each.id == connection_id), None)
    if found is None:
        raise PageError(404, NOT_FOUND, say("There is no such connection: it was removed."))
    return found


def _connector(session: Session, integration: str) -> Connector:
    """The connector, of which a form can be made."""
    session.must_cover(integration)
    try:
        connector = load(integration)
        _form.inputs(filled.form_of(connector))
    except FormError:
        title = say("Not set up yet")
        text = say("This cannot be connected: whoever runs this service has to look at it.")
        raise PageError(409, title, text) from None
    except LookupError:
        raise PageError(404, NOT_FOUND, say("There is no such form.")) from None
    return connector
