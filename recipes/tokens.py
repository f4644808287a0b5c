"""Tokens that are asked for with a read's first request, kept for as long as it lasts, and asked
for again once they ended or were refused.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors import (
    BrokenConnectionError,
    Calls,
    ConnectorError,
    ContractError,
    Request,
    Response,
    ask,
)
from connectors.kernel.statuses import error_by_status
from recipes import datetimes
from recipes.manifest import Component, UnsupportedError
from recipes.options import Options, RequestOption, as_form, as_params
from recipes.runs import Run, Token
from recipes.templates import CONFIG, Template, Tree
from recipes.values import get

if TYPE_CHECKING:
    from recipes.requests import Requester

# A token is asked for again so long before it ends.
MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, eq=False)
class Asked(ABC):
    """A token that is asked for with the first request, and again once it ended."""

    def options(self, run: Run) -> Calls[Options]:
        known = run.tokens.get(id(self))
        if known is None or (known.until is not None and known.until - MARGIN <= run.scope.now):
            known = yield from self.fetched(run)
            run.tokens[id(self)] = known
        return self.carried(run, known.text)

    def forget(self, run: Run) -> bool:
        run.refused.add(id(self))
        return run.tokens.pop(id(self), None) is not None

    @abstractmethod
    def fetched(self, run: Run) -> Calls[Token]:
        """Asks for a token."""

    @abstractmethod
    def addresses(self) -> list[Template]:
        """Where it is asked for."""

    def carried(self, run: Run, token: str) -> Options:
        return Options(header={"Authorization": f"Bearer {token}"})


@dataclass(frozen=True, eq=False)
class OAuth(Asked):
    """An access token for the client and refresh token of the settings."""

    url: Template
    grant: Template
    names: Mapping[str, Template]
    values: Mapping[str, Template]
    body: Tree
    headers: Tree
    scopes: tuple[str, ...]
    token_name: Template
    expires_name: Template
    given: Template | None
    in_query: bool

    def fetched(self, run: Run) -> Calls[Token]:
        scope = run.scope
        text = self.given.option(scope) if self.given is not None else None
        if text and id(self) not in run.refused:
            return Token(str(text))
        headers = {str(k): str(v) for k, v in (self.headers.value(scope) or {}).items()}
        form = self._form(run, "authorization" in {name.lower() for name in headers})
        url, where = self.url.text_of(scope), "its token address"

        def judge(response: Response) -> ConnectorError | None:
            if response.status in (400, 401, 403):
                return BrokenConnectionError(
                    f"{run.title} gives no access token ({response.status}): client id, client "
                    "secret or refresh token of the settings are not, or no longer, good"
                )
            return error_by_status(run.title, where, response)

        place: dict[str, Any] = {"params": as_params(form)} if self.in_query else as_form(form)
        headers = {**place.pop("headers", {}), **headers}
        response = yield from ask(Request.post(url, **place, headers=headers, judge=judge))
        made = _anywhere(response.json, self.token_name.text_of(scope))
        if not isinstance(made, str) or not made:
            raise ContractError(f"{run.title} answered without an access token")
        lifetime = _anywhere(response.json, self.expires_name.text_of(scope))
        return Token(made, _until(response, lifetime))

    def addresses(self) -> list[Template]:
        return [self.url]

    def _form(self, run: Run, has_header: bool) -> dict[str, Any]:
        scope = run.scope
        grant = self.grant.text_of(scope)
        made: dict[str, Any] = {self.names["grant_type"].text_of(scope): grant}
        if not has_header:
            for name in ("client_id", "client_secret"):
                if name in self.values:
                    made[self.names[name].text_of(scope)] = self.values[name].value(scope)
        if "refresh_token" in self.values:
            found = self.values["refresh_token"].value(scope)
            made[self.names["refresh_token"].text_of(scope)] = found
        if self.scopes:
            made["scopes"] = list(self.scopes)
        for name, value in (self.body.value(scope) or {}).items():
            made.setdefault(name, value)
        return made


def _until(response: Response, lifetime: Any) -> datetime | None:
    try:
        return response.sent_at + timedelta(seconds=min(float(lifetime), 10**9))
    except (TypeError, ValueError):
        pass
    try:
        return datetimes.from_iso(str(lifetime))
    except ValueError:
        return None


def _anywhere(body: Any, name: str, depth: int = 0) -> Any:
    """The value of that name, wherever in an answer it stands."""
    if depth > 5:
        return None
    if isinstance(body, dict):
        if name in body:
            return body[name]
        body = list(body.values())
    if isinstance(body, list):
        for each in body:
            if (found := _anywhere(each, name, depth + 1)) is not None:
                return found
    return None


@dataclass(frozen=True, eq=False)
class Session(Asked):
    """A token that a login answers with."""

    login: "Requester"
    path: tuple[str, ...]
    lifetime: timedelta | None
    option: RequestOption | None
    wording: Template | None

    def fetched(self, run: Run) -> Calls[Token]:
        response = yield from self.login.ask(run)
        bodies = self.login.bodies(response) if response is not None else []
        text = get(bodies[0] if bodies else None, self.path)
        if response is None or not isinstance(text, str | int):
            raise ContractError(f"{run.title} answered to a login without a token")
        return Token(str(text), response.sent_at + self.lifetime if self.lifetime else None)

    def addresses(self) -> list[Template]:
        return self.login.addresses()

    def carried(self, run: Run, token: str) -> Options:
        made = Options()
        text = self.wording.text_of(run.scope, session_token=token) if self.wording else token
        if self.option is None:
            return super().carried(run, text)
        self.option.put(text, made, run.scope)
        return made


@dataclass(frozen=True, eq=False)
class LegacySession(Asked):
    """A session token of the settings, or one for a name and password."""

    url: Template
    header: Template
    given: Template | None
    login: Mapping[str, Template]
    field: str

    def fetched(self, run: Run) -> Calls[Token]:
        scope = run.scope
        text = self.given.option(scope) if self.given is not None else None
        if text and id(self) not in run.refused:
            return Token(str(text))
        url = f"{self.url.text_of(scope)}{self.login['url'].text_of(scope)}"
        pair = {name: self.login[name].value(scope) for name in ("username", "password")}

        def judge(response: Response) -> ConnectorError | None:
            if response.status in (400, 401, 403):
                return BrokenConnectionError(f"{run.title} refuses the name and password")
            return error_by_status(run.title, "its login", response)

        response = yield from ask(Request.post(url, json=pair, judge=judge))
        return Token(str(response.json[self.field]))

    def addresses(self) -> list[Template]:
        return [self.url]

    def carried(self, run: Run, token: str) -> Options:
        return Options(header={self.header.text_of(run.scope): token})


def key_option(component: Component) -> RequestOption:
    """Where a key goes: to the place that is described, or to a header."""
    if (option := component.part("inject_into")) is not None:
        made = RequestOption.of(option)
        assert made is not None  # noqa: S101 - there is a component
        return made
    return RequestOption("header", (Template.of(component, component.text("header"), CONFIG),))


def oauth_of(component: Component) -> OAuth:
    """The token that a component describes; UnsupportedError where it changes with each use."""
    component.without("profile_assertion", "use_profile_assertion", "refresh_token_updater")

    def template(name: str, default: str = "") -> Template:
        return Template.of(component, component.text(name, default), CONFIG)

    names = {
        name: template(f"{name}_name", name)
        for name in ("client_id", "client_secret", "refresh_token", "grant_type")
    }
    values = {
        name: template(name)
        for name in ("client_id", "client_secret", "refresh_token")
        if component.get(name) is not None
    }
    grant = component.text("grant_type", "refresh_token")
    if not component.get("token_refresh_endpoint"):
        raise UnsupportedError("OAuthAuthenticator without a token address", component.line)
    return OAuth(
        template("token_refresh_endpoint"),
        Template.of(component, grant, CONFIG),
        names,
        values,
        Tree.of(component, component.get("refresh_request_body") or {}, CONFIG),
        Tree.of(component, component.get("refresh_request_headers") or {}, CONFIG),
        tuple(map(str, component.get("scopes") or ())),
        template("access_token_name", "access_token"),
        template("expires_in_name", "expires_in"),
        template("access_token_value") if component.get("access_token_value") else None,
        component.flag("send_refresh_request_as_query_params"),
    )


def session_of(component: Component) -> Session:
    """The session that a component describes."""
    from recipes.requests import Requester  # which carries tokens itself

    how = component.need("request_authentication", "Bearer", "ApiKey")
    option = key_option(how) if how.type == "ApiKey" else None
    lifetime = component.get("expiration_duration")
    length = datetimes.duration(str(lifetime)) if lifetime else None
    wording = how.get("api_token")
    return Session(
        Requester.of(component.need("login_requester"), component.part("decoder")),
        tuple(map(str, component.get("session_token_path") or ())),
        length if isinstance(length, timedelta) else None,
        option,
        Template.of(how, wording, CONFIG | {"session_token"}) if wording else None,
    )
