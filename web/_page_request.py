"""A browser at one of our pages: who it is, and the session that it opened."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Response

from accounts.runtime import Runtime
from connectors import say
from storage import connect_sessions
from storage.connect_sessions import Session
from web import _limits
from web._auth import Shared
from web._pages import FAILED, PageError, form
from web._state import COOKIE_LIFE, Signer

NO_BROWSER = say(
    "This page works in the browser that opened its link, with cookies allowed. Open the link "
    "there, or ask for a new one."
)


@dataclass(frozen=True)
class PageRequest:
    """A request for a page. `browser` is None for one that has no cookie of ours yet."""

    request: Request
    shared: Runtime
    signer: Signer
    browser: str | None

    def require_browser(self) -> str:
        if self.browser is None:
            raise PageError(403, say("This link cannot be used"), NO_BROWSER)
        return self.browser

    async def session(self, session_id: UUID) -> Session:
        """The session, which must be this browser's."""
        found = await connect_sessions.of_browser(
            self.shared.database, session_id, self.require_browser()
        )
        self.is_of(found)
        return found

    def is_of(self, session: Session) -> None:
        """Notes whose request this is: for its line in the log, and the language of its page."""
        self.request.state.tenant_id = str(session.tenant_id)
        self.request.state.language = session.language

    async def session_and_form(self, session_id: UUID) -> tuple[Session, dict[str, list[str]]]:
        """The session and the fields of a form that our own page sent."""
        fields = await form(self.request)
        token = (fields.get("token") or [""])[0]
        if not self.signer.is_our_form(token, session_id, self.require_browser()):
            raise PageError(
                403, FAILED, say("The form is too old or not ours: load the page again.")
            )
        return await self.session(session_id), dict(fields)

    def form_token(self, session: Session) -> str:
        return self.signer.form_token(session.id, self.require_browser())

    def remember(self, response: Response, cookie: str) -> None:
        response.set_cookie(
            self.signer.cookie,
            cookie,
            max_age=COOKIE_LIFE,
            path="/",
            secure=self.signer.secure,
            httponly=True,
            # Lax: the vendor's redirect comes from another site, and must find it.
            samesite="lax",
        )


async def _visit(request: Request, shared: Shared) -> PageRequest:
    signer = Signer.of(shared.settings)
    browser = signer.browser(request.cookies.get(signer.cookie))
    address = request.client.host if request.client else ""
    await _limits.admit(shared.budget, _limits.Rate.PAGES, browser or address)
    return PageRequest(request, shared, signer, browser)


Visiting = Annotated[PageRequest, Depends(_visit)]
