"""Where vendors send browsers back to: both addresses that apps are registered with."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse

from connectors import Connector, ConnectorError, say
from integrations import load
from settings import SettingsError
from storage import StorageError, connect_sessions
from storage.connect_sessions import PendingConsent, Return, Session
from web._consent import exchange_failed, failed, finish, refusal, tokens_of
from web._look import HEADERS
from web._notes import Note, note
from web._page_request import PageRequest, Visiting
from web._pages import PageError, PageRoute
from web._state import State

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MAX_VALUE = 4_000
# For the first of two returns: as long as a vendor's calls may take.
PATIENCE, POLL = 60.0, 0.2
CHOOSE = note("choose")
BROKEN_OFF = note("problem", say("That failed on our side. It may not be connected: try again."))
NOTHING = say("Nothing was connected")


@router.get("/api/integrations/callback")
async def callback(visit: Visiting) -> Response:
    """An answer whose state says which integration it is of."""
    return await _returned(visit, None)


@router.get("/api/integrations/{integration}/callback")
async def callback_of(
    integration: Annotated[str, Path(max_length=60)], visit: Visiting
) -> Response:
    """An answer at an integration's own address, or that of the vendor's app (`google`)."""
    return await _returned(visit, integration)


async def _returned(visit: PageRequest, named: str | None) -> Response:
    """Reads an answer on its first return, and shows the same outcome on each later return."""
    values = _values(visit.request.query_params)
    state = _state(visit, values, named)
    database = visit.shared.database
    back = await connect_sessions.redeem(
        database,
        tenant_id=state.tenant_id,
        state_id=state.id,
        nonce=state.nonce,
        integration=state.integration,
        browser=visit.require_browser(),
    )
    session = back.session
    visit.is_of(session)
    if not back.is_first:
        return await _seen(
            visit, session, state, back.outcome or await _awaited(visit, back, state)
        )
    try:
        outcome = await _outcome(visit, session, load(state.integration), state, values)
    except Exception:
        with suppress(StorageError):  # they would wait for nothing
            await connect_sessions.settle(database, session, state.id, BROKEN_OFF)
        raise
    await connect_sessions.settle(database, session, state.id, outcome)
    return await _seen(visit, session, state, outcome)


async def _outcome(
    visit: PageRequest,
    session: Session,
    connector: Connector,
    state: State,
    values: Mapping[str, str],
) -> Note:
    shared = visit.shared
    if "error" in values:
        reason, told = refusal(connector, values)
        return await failed(shared, session, state.integration, "denied", reason, *told)
    if not values.get("code"):
        words = say(
            "%(title)s sent no authorisation, so nothing was connected. Try again.",
            title=connector.title,
        )
        return await failed(shared, session, state.integration, "no_code", str(words), words)
    return await _granted(visit, session, connector, state, values)


async def _granted(
    visit: PageRequest,
    session: Session,
    connector: Connector,
    state: State,
    values: Mapping[str, str],
) -> Note:
    """The person said yes: exchange the code, and connect what it opens."""
    shared = visit.shared
    try:
        tokens, accounts = await tokens_of(shared, visit.signer, state, values)
        if len(accounts) > 1:
            held = PendingConsent(state.integration, tokens, accounts)
            await connect_sessions.hold(shared.database, shared.vault, session, state.id, held)
            return CHOOSE
        outcome = await finish(shared, session, state.integration, tokens, accounts)
    except ConnectorError as error:
        reason, told = exchange_failed(connector, error)
        return await failed(shared, session, state.integration, "exchange", reason, *told)
    except SettingsError:
        gone = say("%(title)s cannot be connected here any more.", title=connector.title)
        return note("problem", gone)
    visit.request.app.state.wake_owed()
    return outcome


async def _awaited(visit: PageRequest, back: Return, state: State) -> Note:
    """What comes of the first return, which is under way in this moment."""
    for _ in range(int(PATIENCE / POLL)):
        await asyncio.sleep(POLL)
        outcome = await connect_sessions.outcome(visit.shared.database, back.session, state.id)
        if outcome is not None:
            return outcome
    return note("doubt", say("This is still under way: load this page again in a moment."))


async def _seen(
    visit: PageRequest, session: Session, state: State, outcome: Note
) -> RedirectResponse:
    """On to the page that shows the outcome, the same for each return."""
    if outcome == CHOOSE:
        where = f"/connect/{session.id}/accounts/{state.id}"
        return RedirectResponse(where, 303, HEADERS)
    await connect_sessions.put_note(visit.shared.database, session, outcome)
    return RedirectResponse(f"/connect/{session.id}", 303, HEADERS)


def _state(visit: PageRequest, values: Mapping[str, str], named: str | None) -> State:
    """The state that we signed for this browser, and for the integration that the path names."""
    if "state" not in values and values.get("error"):
        raise PageError(
            400,
            NOTHING,
            say("The app ended this without saying what it belongs to. Go back and start again."),
        )
    state = visit.signer.open_state(values.get("state", ""), visit.require_browser())
    if state is None or not _is_at_home(state, named):
        raise PageError(
            400,
            NOTHING,
            say(
                "This answer does not belong to anything that was begun in this browser. Go back "
                "to where you came from and start again."
            ),
        )
    return state


def _is_at_home(state: State, named: str | None) -> bool:
    """One app may serve several integrations; its callback is then called by the app's name."""
    try:
        auth = load(state.integration).oauth
    except LookupError:
        return False
    return named is None or named.lower() in (state.integration, auth.env.lower())


def _values(query: QueryParams) -> dict[str, str]:
    """The parameters; one that stands there twice means different things to different readers."""
    pairs = query.multi_items()
    values = dict(pairs)
    if len(values) != len(pairs) or any(len(value) > MAX_VALUE for value in values.values()):
        raise PageError(400, NOTHING, say("The app's answer cannot be read."))
    return values
