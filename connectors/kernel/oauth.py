"""OAuth 2: where a tenant is sent to consent, and the calls that get, renew and revoke tokens.

Authlib writes the requests (RFC 6749, 7636); they are sent through our own transport, which keeps
the rules that all calls obey. A refresh token that is good for one use is never sent twice: after
an outcome we do not know, the caller decides.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode

from authlib.oauth2.auth import encode_client_secret_basic  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import (  # type: ignore[import-untyped]
    create_s256_code_challenge,
)

from connectors.kernel.auth import Account, Callback, ClientAuth, OAuth2, Question
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport, check_host
from connectors.kernel.connector import Connector
from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.messages import Request, Response
from connectors.kernel.retry import Patience
from connectors.kernel.statuses import PARSE_ERRORS, error_by_status, retry_after, unreadable
from connectors.kernel.token_answers import Tokens, read_tokens

# These are the operator's: a wrong client id, secret or redirect address of our app at the vendor.
OPERATOR_ERRORS = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "redirect_uri_mismatch",
        "invalid_redirect_uri",
        "deleted_client",
        "invalid_scope",
    }
)
_CONTENT_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,40}")
_SETTING = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_PLACED = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")
# What cannot mean anything in a URL, whatever a pattern allows.
_PART = r"[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?"
_ANSWER = re.compile(rf"{_PART}(,{_PART}){{0,99}}")


@dataclass(frozen=True)
class OAuthApp:
    """Our app as it is registered at a vendor; `settings` are the operator's that stand in its
    URLs, `answers` the tenant's."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    settings: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


def settings_in(auth: OAuth2) -> tuple[str, ...]:
    """The operator's settings that stand in the vendor's URLs."""
    urls = (auth.authorize_url, *_urls(auth))
    return tuple(dict.fromkeys(name for url in urls for name in _SETTING.findall(url)))


def _urls(auth: OAuth2) -> list[str]:
    """Where token calls go."""
    revocation = auth.revocation.url if auth.revocation else ""
    return [url for url in (auth.token_url, auth.refresh_url, revocation) if url]


def validated_answers(auth: OAuth2, given: Mapping[str, Any]) -> dict[str, str]:
    """What a tenant answered, as it is used; ValueError, to be read by a person, of what does not
    fit."""
    return {question.name: _answer(question, given) for question in auth.questions}


def wrong_answers(auth: OAuth2, given: Mapping[str, Any]) -> tuple[Question, ...]:
    """The questions whose answers do not fit."""
    return tuple(question for question in auth.questions if _fitting(question, given) is None)


def answered(auth: OAuth2, app: OAuthApp, given: Mapping[str, Any]) -> OAuthApp:
    """Our app as a tenant that answered so finds it; ValueError as of `validated_answers`."""
    return replace(app, answers=validated_answers(auth, given))


def app_of_grant(connector: Connector, app: OAuthApp, held: Mapping[str, Any]) -> OAuthApp:
    """Our app for a consent that was stored; BrokenConnectionError where its answers are not."""
    try:
        return answered(connector.oauth, app, held)
    except ValueError:
        raise BrokenConnectionError(
            f"it is not known any more where at {connector.title} this was allowed: connect again"
        ) from None


def app_of_callback(
    connector: Connector, app: OAuthApp, params: Mapping[str, str], at: datetime
) -> OAuthApp:
    """Our app for the tenant that came back; SignatureError where the vendor did not send it."""
    auth = connector.oauth
    callback = Callback(params=params, answers=app.answers, client_secret=app.client_secret, at=at)
    try:
        return answered(auth, app, auth.verify_callback(callback))
    except PARSE_ERRORS as error:
        raise unreadable(connector.title, error) from error


def _answer(question: Question, given: Mapping[str, Any]) -> str:
    answer = _fitting(question, given)
    if answer is None:
        raise ValueError(f"{question.title}: {question.hint}")
    return answer


def _fitting(question: Question, given: Mapping[str, Any]) -> str | None:
    # People paste addresses.
    text = str(given.get(question.name) or "").strip().lower()
    text = text.removeprefix("https://").removesuffix("/") or question.default
    fits = _ANSWER.fullmatch(text) and re.fullmatch(question.pattern, text, re.ASCII)
    return text if fits else None


def _expanded(auth: OAuth2, app: OAuthApp, url: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        known = {**app.answers, "client_id": app.client_id}
        given = app.settings[name] if name.isupper() else known[name]
        return quote(auth.url_overrides.get(given, given), safe="")

    return _PLACED.sub(value, url)


def authorize_url(
    auth: OAuth2, app: OAuthApp, *, state: str, code_verifier: str | None = None
) -> str:
    """Where the tenant's browser is sent to consent; PKCE (S256) where a verifier is given."""
    challenge: dict[str, str] = {}
    if code_verifier:
        challenge = {
            "code_challenge": create_s256_code_challenge(code_verifier),
            "code_challenge_method": "S256",
        }
    url: str = prepare_grant_uri(
        _expanded(auth, app, auth.authorize_url),
        app.client_id,
        "code",
        redirect_uri=app.redirect_uri,
        scope=auth.scope_separator.join(auth.scopes),
        state=state,
        **{**auth.authorize_params, **challenge},
    )
    return url


async def exchange(
    connector: Connector,
    app: OAuthApp,
    *,
    code: str,
    code_verifier: str | None = None,
    transport: Transport,
    budget: Budget,
) -> Tokens:
    """The tokens for an authorization code, which is good for one attempt."""
    body = prepare_token_request(
        "authorization_code",
        redirect_uri=app.redirect_uri,
        code=code,
        code_verifier=code_verifier,
        **connector.oauth.token_params,
    )
    call = _Call(connector, app, transport, budget, account_id="")
    return await call.tokens(body, attempts=1)


async def refresh(
    connector: Connector,
    app: OAuthApp,
    *,
    refresh_token: str,
    account_id: str,
    transport: Transport,
    budget: Budget,
) -> Tokens:
    """New tokens. Tried again after a failure only where the vendor's refresh tokens stay good."""
    body = prepare_token_request("refresh_token", refresh_token=refresh_token)
    call = _Call(connector, app, transport, budget, account_id)
    url = connector.oauth.refresh_url
    return await call.tokens(body, attempts=1 if connector.oauth.rotates else 3, url=url)


async def revoke(
    connector: Connector, app: OAuthApp, *, token: str, transport: Transport, budget: Budget
) -> None:
    """Give a refresh token, or what else the vendor ends a consent by, back. One that it no longer
    knows is as good as revoked."""
    auth = connector.oauth
    if (how := auth.revocation) is None:
        return
    call = _Call(connector, app, transport, budget, account_id="")
    fields = {how.parameter: token, **how.more} if how.parameter else dict(how.more)
    response = await call.send(
        how.url, fields, method=how.method, body=how.body, attempts=3, token=token,
        client_auth=how.client_auth or auth.client_auth,
    )  # fmt: skip
    code = _code(response)
    if code in auth.refused or (response.status in how.unknown and code not in OPERATOR_ERRORS):
        return
    if error := _refusal(connector, response, "revocation"):
        raise error


async def identify(
    connector: Connector,
    tokens: Tokens,
    callback: Mapping[str, str],
    *,
    transport: Transport,
    budget: Budget,
) -> tuple[Account, ...]:
    """The accounts that a new grant covers."""

    async def token(refused: bool) -> str:
        if refused:
            raise BrokenConnectionError(f"{connector.title} refuses the token it has just given")
        return tokens.access_token

    client = Client(
        connector, transport=transport, account_id="", config=tokens.extra, token=token,
        budget=budget,
    )  # fmt: skip
    try:
        steps = connector.identify(tokens.extra, callback)
    except PARSE_ERRORS as error:
        raise unreadable(connector.title, error) from error
    accounts = await client.run(steps)
    if not all(isinstance(account.id, str) and account.id.strip() for account in accounts):
        raise ContractError(f"{connector.title} did not say which account was connected")
    names = [question.name for question in connector.oauth.questions]
    kept = {name: tokens.extra[name] for name in names}
    return tuple(replace(account, config={**kept, **account.config}) for account in accounts)


@dataclass(frozen=True)
class _Call:
    """A call to a vendor's authorisation server."""

    connector: Connector
    app: OAuthApp
    transport: Transport
    budget: Budget
    account_id: str

    async def tokens(self, form: str, *, attempts: int, url: str = "") -> Tokens:
        auth = self.connector.oauth
        response = await self.send(
            url or auth.token_url, dict(parse_qsl(form)), method="POST", body=auth.body,
            attempts=attempts, client_auth=auth.client_auth,
        )  # fmt: skip
        # Before anything else is made of the answer: it may be the only copy.
        if tokens := read_tokens(self.connector, response, self.app.answers):
            return tokens
        raise _refusal(self.connector, response, "token call") or ContractError(
            f"{self.connector.title} answered a token call without an access token"
        )

    def _signed(
        self, fields: Mapping[str, str], client_auth: ClientAuth, token: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The fields and headers that show whose call it is."""
        app = self.app
        if client_auth == "none":
            return dict(fields), {}
        if client_auth == "token":
            return dict(fields), {"authorization": f"Bearer {token}"}
        # The secret of such an app is the key to its API as well.
        headers = {}
        if self.connector.oauth.bearer == "app":
            headers["authorization"] = f"Bearer {app.client_secret}"
        if client_auth == "basic":
            _, basic, _ = encode_client_secret_basic(app, "", "", {}, "")
            return dict(fields), {"authorization": basic["Authorization"], **headers}
        client = {"client_id": app.client_id, "client_secret": app.client_secret}
        return {**fields, **client}, headers

    async def send(
        self,
        url: str,
        fields: Mapping[str, str],
        *,
        method: str,
        body: Literal["form", "json"],
        attempts: int,
        client_auth: ClientAuth,
        token: str = "",
    ) -> Response:
        """The answer, unless it says to wait; what fails is tried again `attempts` - 1 times."""
        auth, title = self.connector.oauth, self.connector.title
        url = _expanded(auth, self.app, url)
        known = _urls(auth)
        check_host(title, url, tuple(_expanded(auth, self.app, one) for one in known))
        fields, signature = self._signed(fields, client_auth, token)
        content = json.dumps(fields) if body == "json" else urlencode(fields)
        headers = {"accept": "application/json", **auth.token_headers, **signature}
        if fields:
            headers["content-type"] = _CONTENT_TYPES[body]
        patience = Patience(attempts)
        while True:
            await self.budget.spend(self.connector, self.account_id, Request.post(url))
            requested_pause: timedelta | None = None
            try:
                response = await self.transport.call(
                    title, method, url, headers, content.encode() if fields else b""
                )
                requested_pause = retry_after(response, self.transport.clock.now())
                if response.status < 500 and response.status != 429:
                    return response
                failure = error_by_status(title, "its authorisation server", response)
            except ProviderUnavailableError as error:
                failure = error
            if isinstance(failure, RateLimitedError):
                failure.retry_after = patience.after_rate_limit(failure, requested_pause)
                await self.budget.close_until(self.connector, self.account_id, failure.retry_after)
                raise failure
            if isinstance(failure, ProviderUnavailableError):
                pause = patience.after_failure(failure, requested_pause)
                await self.transport.clock.sleep(pause.total_seconds())


def _refusal(connector: Connector, response: Response, what: str) -> ConnectorError | None:
    """An error answer of an authorisation server, which may come with any status, 200 too."""
    code = _code(response)
    title = connector.title
    if code is None and 200 <= response.status < 300:
        return None
    if isinstance(response.json, dict):
        try:
            explanation = connector.oauth.error_from(response.json)
        except PARSE_ERRORS as error:
            return unreadable(connector.title, error)
        if explanation:
            return explanation
    if code is None:
        return ContractError(f"{title} refused a {what} ({response.status}) and did not say why")
    if code in connector.oauth.refused:
        return BrokenConnectionError(f"{title} no longer accepts this authorisation ({code})")
    if code in OPERATOR_ERRORS:
        return ContractError(
            f"{title} does not accept our app ({code}): compare {connector.oauth.env}_CLIENT_ID, "
            "its secret and the redirect address with the app's settings there"
        )
    return ContractError(f"{title} refused a {what} ({response.status}, {code})")


def _code(response: Response) -> str | None:
    """The answer's error code, where it is one word; None of a good answer."""
    body = response.json
    if not isinstance(body, dict):
        return None
    names = ("error",) if 200 <= response.status < 300 else ("error", "status", "errorType")
    for name in names:
        value = body.get(name)
        if isinstance(value, str) and value != "error" and _CODE.fullmatch(value):
            return value
    return None
