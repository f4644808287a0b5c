"""The page on which a person connects accounts: `/connect/{link}`, then `/connect/{session}`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import RedirectResponse

from accounts import api_keys, disconnecting
from connectors import ApiKey, Connector, load
from connectors.kernel.oauth import answered, authorize_url
from settings import SettingsError
from storage import connect_sessions, connections, reconnect_links, tenant_settings, tenants
from storage.connect_sessions import Session
from web import _overview, _return_url
from web._consent import finish, note
from web._page_request import PageRequest, Visiting
from web._pages import HEADERS, PageError, PageRoute, page, sentence
from web._state import State

router = APIRouter(route_class=PageRoute, include_in_schema=False)

Link = Annotated[str, Path(max_length=200)]
Integration = Annotated[str, Path(max_length=60)]


@router.get("/connect/{link}")
async def show(link: Link, visit: Visiting) -> Response:
    """The session's page; a link that a browser follows is opened, and leads there."""
    if session_id := _uuid(link):
        return await _page(visit, await visit.session(session_id))
    if _is_followed(visit.request):
        return await _open(visit, link)
    # Programs that look at links in messages must not use them up.
    return page("open.html")


@router.post("/connect/{link}")
async def open_link(link: Link, visit: Visiting) -> Response:
    return await _open(visit, link)


@router.get("/reconnect/{signed}")
async def reconnect(signed: Link, visit: Visiting) -> Response:
    """A link in a mail: it opens a session for the grant that is broken, if it still is."""
    return await _reconnect(visit, signed) if _is_followed(visit.request) else page("open.html")


@router.post("/reconnect/{signed}")
async def open_reconnect(signed: Link, visit: Visiting) -> Response:
    return await _reconnect(visit, signed)


@router.post("/connect/{session_id}/start/{integration}")
async def start(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """On to the vendor's own page, where the person consents."""
    session, fields = await visit.session_and_form(session_id)
    connector = _connector(session, integration)
    shared = visit.shared
    try:
        auth, app = connector.oauth, shared.settings.app(integration)
    except (LookupError, SettingsError):
        raise PageError(
            409, "Not set up yet", f"{connector.title} cannot be connected here yet."
        ) from None
    try:
        given = {name: values[0] for name, values in fields.items() if values[0].strip()}
        app = answered(auth, app, {**session.answers, **given})
    except ValueError as error:
        return await _back(visit, session, note("problem", sentence(error)))
    state_id, nonce = await connect_sessions.begin(shared.database, session, integration)
    state = visit.signer.state(
        State(state_id, session.tenant_id, nonce, integration, app.answers), visit.require_browser()
    )
    verifier = visit.signer.code_verifier(nonce) if auth.pkce else None
    url = authorize_url(auth, app, state=state, code_verifier=verifier)
    # Not a redirect: a browser holds one to the form-action of the page that sent the form, also
    # where the vendor redirects on to hosts that we cannot know.
    return page("leaving.html", title=connector.title, url=shared.transport.address(url))


@router.get("/connect/{session_id}/accounts/{state_id}")
async def ask_accounts(session_id: UUID, state_id: UUID, visit: Visiting) -> Response:
    """Which of the accounts that one consent covers are to be connected."""
    session = await visit.session(session_id)
    shared = visit.shared
    held = await connect_sessions.held(shared.database, shared.vault, session, state_id, take=False)
    return await _choices(visit, session, state_id, held, problem="")


@router.post("/connect/{session_id}/accounts/{state_id}")
async def choose_accounts(session_id: UUID, state_id: UUID, visit: Visiting) -> Response:
    session, fields = await visit.session_and_form(session_id)
    shared, chosen = visit.shared, set(fields.get("account", []))
    held = await connect_sessions.held(shared.database, shared.vault, session, state_id, take=False)
    accounts = [account for account in held.accounts if account.id in chosen]
    if not accounts:
        return await _choices(visit, session, state_id, held, problem="Choose at least one.")
    held = await connect_sessions.held(shared.database, shared.vault, session, state_id, take=True)
    outcome = await finish(shared, session, held.integration, held.tokens, accounts)
    await connect_sessions.settle(shared.database, session, state_id, outcome)
    visit.request.app.state.wake_owed()
    return await _back(visit, session, outcome)


@router.post("/connect/{session_id}/key/{integration}")
async def keep_key(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """A key that the person brought: verified, and kept unless it is proven wrong."""
    session, fields = await visit.session_and_form(session_id)
    shared, connector = visit.shared, _connector(session, integration)
    verdict = await api_keys.put(
        shared.database,
        shared.vault,
        shared.transport,
        shared.budget,
        tenant_id=session.tenant_id,
        setting=_setting(connector),
        value=(fields.get("key") or [""])[0],
    )
    if verdict.works is False:
        outcome = note("problem", f"{verdict.message}. It was not stored.")
    elif verdict.works is None:
        outcome = note("doubt", f"{sentence(verdict.message)} It was stored all the same.")
    else:
        outcome = note("done", f"{verdict.message}. It is stored, encrypted.")
    return await _back(visit, session, outcome)


@router.post("/connect/{session_id}/forget/{integration}")
async def forget_key(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    session, _ = await visit.session_and_form(session_id)
    connector = _connector(session, integration)
    async with visit.shared.database.transaction(session.tenant_id) as transaction:
        await tenant_settings.delete(transaction, session.tenant_id, _setting(connector))
    return await _back(visit, session, note("done", f"The key of {connector.title} was removed."))


@router.post("/connect/{session_id}/disconnect/{connection_id}")
async def disconnect(session_id: UUID, connection_id: UUID, visit: Visiting) -> Response:
    session, fields = await visit.session_and_form(session_id)
    shared, purge = visit.shared, fields.get("purge") == ["yes"]
    # Only the tenant's own are found, whatever id the form names.
    mine = await connections.of_tenant(shared.database, session.tenant_id)
    found = next((each for each in mine if each.id == connection_id), None)
    if found is None:
        raise PageError(404, "Not found", "There is no such connection: it was removed.")
    connector = _connector(session, found.integration)
    await disconnecting.disconnect(
        shared.disconnector(), tenant_id=session.tenant_id, connection_id=connection_id, purge=purge
    )
    name = found.account_name or found.account_id
    kept = "Its data was deleted." if purge else "The data that was read stays."
    outcome = note("done", f"{connector.title} is disconnected: {name}. {kept}")
    return await _back(visit, session, outcome)


async def _open(visit: PageRequest, secret: str) -> Response:
    cookie = visit.request.cookies.get(visit.signer.cookie)
    if visit.browser is None or cookie is None:
        cookie = visit.signer.new_browser()
    browser = visit.signer.browser(cookie) or ""
    session = await connect_sessions.open_link(visit.shared.database, secret, browser)
    response = _seen(session)
    visit.remember(response, cookie)
    return response


async def _reconnect(visit: PageRequest, signed: str) -> Response:
    shared = visit.shared
    secret = shared.settings.nextauth_secret
    link = reconnect_links.read(
        secret.get_secret_value() if secret else "", signed, now=shared.clock.now()
    )
    broken = await reconnect_links.broken(shared.database, link) if link else None
    if broken is None:
        raise PageError(
            410,
            "Nothing to reconnect",
            "This link is over, or the connection works again in the meantime.",
        )
    _, opening = await connect_sessions.create(
        shared.database, broken.tenant_id, integration=broken.integration, label=broken.label
    )
    return await _open(visit, opening)


async def _page(visit: PageRequest, session: Session) -> Response:
    shared = visit.shared
    tenant = await tenants.get(shared.database, session.tenant_id)
    shown = await connect_sessions.take_note(shared.database, session)
    return page(
        "connect.html",
        tenant=tenant.name,
        session=session,
        entries=await _overview.entries(shared, session),
        note=shown,
        token=visit.form_token(session),
        return_host=_return_url.host_of(session.return_url or ""),
    )


async def _choices(
    visit: PageRequest,
    session: Session,
    state_id: UUID,
    held: connect_sessions.PendingConsent,
    *,
    problem: str,
) -> Response:
    mine = await connections.of_tenant(
        visit.shared.database, session.tenant_id, integration=held.integration
    )
    return page(
        "accounts.html",
        400 if problem else 200,
        title=load(held.integration).title,
        session=session,
        state_id=state_id,
        accounts=held.accounts,
        known={each.account_id for each in mine if each.status != "revoked"},
        token=visit.form_token(session),
        problem=problem,
    )


async def _back(visit: PageRequest, session: Session, outcome: dict[str, str]) -> Response:
    """To the session's page, which shows the outcome."""
    await connect_sessions.put_note(visit.shared.database, session, outcome)
    return _seen(session)


def _seen(session: Session) -> RedirectResponse:
    return RedirectResponse(f"/connect/{session.id}", 303, HEADERS)


def _connector(session: Session, integration: str) -> Connector:
    session.must_cover(integration)
    try:
        return load(integration)
    except LookupError:
        raise PageError(404, "Not found", "There is no such integration.") from None


def _setting(connector: Connector) -> str:
    if isinstance(connector.auth, ApiKey):
        return connector.auth.setting
    raise PageError(404, "Not found", f"{connector.title} takes no key.")


def _is_followed(request: Request) -> bool:
    """Whether a person's browser came here by a link, rather than a program that looks at it."""
    headers = request.headers
    return (
        headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and "sec-purpose" not in headers
        and "purpose" not in headers
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
