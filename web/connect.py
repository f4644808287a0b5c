"""The page on which a person connects accounts: `/connect/{link}`, then `/connect/{session}`."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import RedirectResponse

from accounts import api_keys, disconnecting
from connectors import ApiKey, Connector, Words, say
from connectors.kernel.oauth import answered, authorize_url, wrong_answers
from integrations import load, title_of
from settings import SettingsError
from storage import connect_sessions, connections, reconnect_links, tenant_settings, tenants
from storage.connect_sessions import Session
from web import _overview, _return_url
from web._consent import finish
from web._look import HEADERS, SCRIPT, SCRIPT_PATH
from web._notes import Note, doubted, note, shown
from web._overview import Entry, Search
from web._page_request import PageRequest, Visiting
from web._pages import NOT_SET_UP, PageError, PageRoute, language_of, page
from web._state import State

router = APIRouter(route_class=PageRoute, include_in_schema=False)

Link = Annotated[str, Path(max_length=200)]
Integration = Annotated[str, Path(max_length=60)]
# A list that is seen at a glance needs no search.
SEARCHED_FROM = 7
MAX_SEARCH = 100
NOT_FOUND = say("Not found")


@router.get(SCRIPT_PATH)
async def script() -> Response:
    """The only script that our pages run: it filters the list while a person types."""
    kept = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}
    return Response(SCRIPT, media_type="text/javascript", headers=kept)


@router.get("/connect/{link}")
async def show(
    link: Link,
    visit: Visiting,
    q: Annotated[str, Query()] = "",
    category: Annotated[str, Query()] = "",
) -> Response:
    """The session's page; a link that a browser follows is opened, and leads there."""
    if session_id := _uuid(link):
        session = await visit.session(session_id)
        if len(session.offered) == 1:
            return await _app_page(visit, session, session.offered[0])
        return await _list_page(visit, session, Search(q[:MAX_SEARCH], category[:MAX_SEARCH]))
    if _is_followed(visit.request):
        return await _open(visit, link)
    # Programs that look at links in messages must not use them up.
    return page(visit.request, "open.html")


@router.post("/connect/{link}")
async def open_link(link: Link, visit: Visiting) -> Response:
    return await _open(visit, link)


@router.get("/reconnect/{signed}")
async def reconnect(signed: Link, visit: Visiting) -> Response:
    """A link in a mail: it opens a session for the grant that is broken, if it still is."""
    return (
        await _reconnect(visit, signed)
        if _is_followed(visit.request)
        else page(visit.request, "open.html")
    )


@router.post("/reconnect/{signed}")
async def open_reconnect(signed: Link, visit: Visiting) -> Response:
    return await _reconnect(visit, signed)


@router.get("/connect/{session_id}/apps/{integration}")
async def show_app(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """One integration, with all that can be done about it."""
    session = await visit.session(session_id)
    return await _app_page(visit, session, _connector(session, integration).name)


@router.post("/connect/{session_id}/start/{integration}")
async def start(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """On to the vendor's own page, where the person consents."""
    session, fields = await visit.session_and_form(session_id)
    connector = _connector(session, integration)
    shared = visit.shared
    try:
        auth, app = connector.oauth, shared.settings.app(integration)
    except (LookupError, SettingsError):
        text = say("%(title)s cannot be connected here yet.", title=connector.title)
        raise PageError(409, NOT_SET_UP, text) from None
    given = {name: values[0] for name, values in fields.items() if values[0].strip()}
    try:
        app = answered(auth, app, {**session.answers, **given})
    except ValueError:
        return await _asked_again(visit, session, connector, given)
    state_id, nonce = await connect_sessions.begin(shared.database, session, integration)
    state = visit.signer.state(
        State(state_id, session.tenant_id, nonce, integration, app.answers), visit.require_browser()
    )
    verifier = visit.signer.code_verifier(nonce) if auth.pkce else None
    url = authorize_url(auth, app, state=state, code_verifier=verifier)
    # Not a redirect: a browser holds one to the form-action of the page that sent the form, also
    # where the vendor redirects on to hosts that we cannot know.
    away = shared.transport.address(url)
    return page(visit.request, "leaving.html", title=connector.title, url=away)


@router.get("/connect/{session_id}/accounts/{state_id}")
async def ask_accounts(session_id: UUID, state_id: UUID, visit: Visiting) -> Response:
    """Which of the accounts that one consent covers are to be connected."""
    session = await visit.session(session_id)
    shared = visit.shared
    held = await connect_sessions.held(shared.database, shared.vault, session, state_id, take=False)
    return await _choices(visit, session, state_id, held, problem=None)


@router.post("/connect/{session_id}/accounts/{state_id}")
async def choose_accounts(session_id: UUID, state_id: UUID, visit: Visiting) -> Response:
    session, fields = await visit.session_and_form(session_id)
    shared, chosen = visit.shared, set(fields.get("account", []))
    held = await connect_sessions.held(shared.database, shared.vault, session, state_id, take=False)
    accounts = [account for account in held.accounts if account.id in chosen]
    if not accounts:
        return await _choices(visit, session, state_id, held, problem=say("Choose at least one."))
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
    key = (fields.get("key") or [""])[0]
    verdict = await api_keys.put(
        shared.database,
        shared.vault,
        shared.transport,
        shared.budget,
        tenant_id=session.tenant_id,
        setting=_setting(connector),
        value=key,
    )
    title = connector.title
    if verdict.works is False:
        return await _back(visit, session, _refused(title, key), at=integration)
    if verdict.works is None:
        kept = say("The key is saved, but not verified yet.")
        return await _back(visit, session, note("doubt", kept, doubted(title, verdict.doubt)))
    works = say("%(title)s accepts this key. It is stored, encrypted.", title=title)
    return await _back(visit, session, note("done", works))


@router.post("/connect/{session_id}/check/{integration}")
async def check_key(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    """A key that is kept is tried once more."""
    session, _ = await visit.session_and_form(session_id)
    shared, connector = visit.shared, _connector(session, integration)
    verdict = await api_keys.check(
        shared.database,
        shared.vault,
        shared.transport,
        shared.budget,
        tenant_id=session.tenant_id,
        setting=_setting(connector),
    )
    if verdict.works:
        works = say("%(title)s accepts the key.", title=connector.title)
        return await _back(visit, session, note("done", works))
    doubt = "refused" if verdict.works is False else verdict.doubt
    return await _back(visit, session, note("doubt", doubted(connector.title, doubt)))


@router.post("/connect/{session_id}/forget/{integration}")
async def forget_key(session_id: UUID, integration: Integration, visit: Visiting) -> Response:
    session, _ = await visit.session_and_form(session_id)
    connector = _connector(session, integration)
    async with visit.shared.database.transaction(session.tenant_id) as transaction:
        await tenant_settings.delete(transaction, session.tenant_id, _setting(connector))
    gone = say("The key of %(title)s was removed.", title=connector.title)
    return await _back(visit, session, note("done", gone))


@router.post("/connect/{session_id}/disconnect/{connection_id}")
async def disconnect(session_id: UUID, connection_id: UUID, visit: Visiting) -> Response:
    session, fields = await visit.session_and_form(session_id)
    shared, purge = visit.shared, fields.get("purge") == ["yes"]
    # Only the tenant's own are found, whatever id the form names.
    mine = await connections.of_tenant(shared.database, session.tenant_id)
    found = next((each for each in mine if each.id == connection_id), None)
    if found is None:
        raise PageError(404, NOT_FOUND, say("There is no such connection: it was removed."))
    session.must_cover(found.integration)
    title = title_of(found.integration)
    await disconnecting.disconnect(
        shared.disconnector(), tenant_id=session.tenant_id, connection_id=connection_id, purge=purge
    )
    name = found.account_name or found.account_id
    gone = say("%(title)s is disconnected: %(name)s.", title=title, name=name)
    kept = say("Its data was deleted.") if purge else say("The data that was read stays.")
    return await _back(visit, session, note("done", gone, kept))


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
            say("Nothing to reconnect"),
            say("This link is over, or the connection works again in the meantime."),
        )
    _, opening = await connect_sessions.create(
        shared.database, broken.tenant_id, integration=broken.integration, label=broken.label
    )
    return await _open(visit, opening)


async def _list_page(visit: PageRequest, session: Session, search: Search) -> Response:
    entries = await _overview.entries(visit.shared, session)
    language = language_of(visit.request)
    return page(
        visit.request,
        "connect.html",
        **await _told(visit, session),
        total=len(entries),
        sections=_overview.sections(entries, search, language),
        categories=_overview.categories(entries, language),
        search=search,
        is_searched=len(entries) >= SEARCHED_FROM,
    )


async def _app_page(visit: PageRequest, session: Session, integration: str) -> Response:
    entry = await _entry(visit, session, integration)
    return page(visit.request, "app.html", **await _told(visit, session), **_asked(session, entry))


async def _asked_again(
    visit: PageRequest, session: Session, connector: Connector, given: Mapping[str, str]
) -> Response:
    """The integration's page with what was typed, of which something does not fit."""
    entry = await _entry(visit, session, connector.name)
    language = language_of(visit.request)
    wrong = [
        say(
            "%(question)s: %(hint)s",
            question=language.text(one.title),
            hint=language.text(one.hint),
        )
        for one in wrong_answers(connector.oauth, {**session.answers, **given})
    ]
    told = await _told(visit, session)
    told["note"] = shown(note("problem", *wrong), language)
    return page(visit.request, "app.html", 400, **told, **_asked(session, entry, given))


def _asked(
    session: Session, entry: Entry, given: Mapping[str, str] | None = None
) -> dict[str, Any]:
    known = {question.name: question.default for question in entry.questions}
    return {"entry": entry, "answers": {**known, **session.answers, **(given or {})}}


async def _entry(visit: PageRequest, session: Session, integration: str) -> Entry:
    found = await _overview.entries(visit.shared, session)
    entry = next((each for each in found if each.name == integration), None)
    if entry is None:
        text = say("%(title)s cannot be connected here yet.", title=load(integration).title)
        raise PageError(409, NOT_SET_UP, text)
    return entry


async def _told(visit: PageRequest, session: Session) -> dict[str, Any]:
    """What each page of a session tells: whose it is, what was done last, and where it leads."""
    database, request = visit.shared.database, visit.request
    last = await connect_sessions.take_note(database, session)
    return {
        "tenant": (await tenants.get(database, session.tenant_id)).name,
        "session": session,
        "note": shown(last, language_of(request)),
        "token": visit.form_token(session),
        "return_url": session.return_url,
        "return_host": _return_url.host_of(session.return_url or ""),
    }


def _refused(title: str, key: str) -> Note:
    """Of a key that is proven wrong."""
    why = say("%(title)s does not know this key: it is mistyped, or was revoked.", title=title)
    if not api_keys.is_possible(key.strip()):
        why = say(
            "This cannot be a key of %(title)s: a key has at least 8 characters, and no blanks or "
            "accents.",
            title=title,
        )
    return note("problem", why, say("It was not stored."))


async def _choices(
    visit: PageRequest,
    session: Session,
    state_id: UUID,
    held: connect_sessions.PendingConsent,
    *,
    problem: Words | None,
) -> Response:
    mine = await connections.of_tenant(
        visit.shared.database, session.tenant_id, integration=held.integration
    )
    return page(
        visit.request,
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


async def _back(
    visit: PageRequest, session: Session, outcome: Note, *, at: str | None = None
) -> Response:
    """To the session's page, or to that of the integration `at` which something is still to be
    done; it shows the outcome."""
    await connect_sessions.put_note(visit.shared.database, session, outcome)
    return _seen(session, at)


def _seen(session: Session, at: str | None = None) -> RedirectResponse:
    where = f"/connect/{session.id}" + (f"/apps/{at}" if at else "")
    return RedirectResponse(where, 303, HEADERS)


def _connector(session: Session, integration: str) -> Connector:
    session.must_cover(integration)
    try:
        return load(integration)
    except LookupError:
        raise PageError(404, NOT_FOUND, say("There is no such integration.")) from None


def _setting(connector: Connector) -> str:
    if isinstance(connector.auth, ApiKey):
        return connector.auth.setting
    raise PageError(404, NOT_FOUND, say("%(title)s takes no key.", title=connector.title))


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
