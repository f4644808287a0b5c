"""OAuth 2: where a tenant is sent to consent, and the calls that get, renew and revoke tokens.

Authlib writes the requests (RFC 6749, 7636); they are sent through our own transport, which keeps
the rules that all calls obey. A refresh token that is good for one use is never sent twice: after
an outcome we do not know, the caller decides.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import (  # type: ignore[import-untyped]
    create_s256_code_challenge,
)

from connectors._answers import SHAPE_ERRORS, error_by_status, retry_after, unreadable
from connectors._budget import Budget
from connectors._client import Client, Transport, check_host
from connectors._errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors._patience import Patience
from connectors._types import Account, Connector, OAuth2, Request, Response

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
_CLIENT_AUTH = {"body": "client_secret_post", "basic": "client_secret_basic"}
FORM = "application/x-www-form-urlencoded"
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,40}")
_SETTING = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True)
class OAuthApp:
    """Our app as it is registered at a vendor; `settings` are those that stand in its URLs."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tokens:
    """What a token endpoint gave; `extra` holds the other fields of its answer."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    scope: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def settings_in(auth: OAuth2) -> tuple[str, ...]:
    """The operator's settings that stand in the vendor's URLs."""
    urls = (auth.authorize_url, auth.token_url, auth.revoke_url or "")
    return tuple(dict.fromkeys(name for url in urls for name in _SETTING.findall(url)))


def _filled(auth: OAuth2, app: OAuthApp, url: str) -> str:
    def value(match: re.Match[str]) -> str:
        given = app.settings[match[1]]
        return quote(auth.instead.get(given, given), safe="")

    return _SETTING.sub(value, url)


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
        _filled(auth, app, auth.authorize_url),
        app.client_id,
        "code",
        redirect_uri=app.redirect_uri,
        scope=list(auth.scopes),
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
        "authorization_code", redirect_uri=app.redirect_uri, code=code, code_verifier=code_verifier
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
    return await call.tokens(body, attempts=1 if connector.oauth.rotates else 3)


async def revoke(
    connector: Connector, app: OAuthApp, *, token: str, transport: Transport, budget: Budget
) -> None:
    """Give a refresh token, or what else the vendor ends a consent by, back. One that it no longer
    knows is as good as revoked."""
    auth = connector.oauth
    if auth.revoke_url is None:
        return
    call = _Call(connector, app, transport, budget, account_id="")
    if auth.revoke_body == "json":
        content = json.dumps({"token": token})
        response = await call.send(auth.revoke_url, content, "application/json", attempts=3)
    else:
        form = {auth.gives_back or "token": token}
        if auth.revoke_body == "rfc7009" and not auth.gives_back:
            form["token_type_hint"] = "refresh_token"  # noqa: S105 - RFC 7009's word
        signed = auth.revoke_body == "rfc7009"
        response = await call.send(
            auth.revoke_url, urlencode(form), FORM, attempts=3, signed=signed
        )
    if response.status == 400 and _code(response) not in OPERATOR_ERRORS:
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
        connector, transport=transport, account_id="", config={}, token=token, budget=budget
    )
    try:
        steps = connector.identify(tokens.extra, callback)
    except SHAPE_ERRORS as error:
        raise unreadable(connector, error) from error
    return await client.run(steps)


@dataclass(frozen=True)
class _Call:
    """A call to a vendor's authorisation server."""

    connector: Connector
    app: OAuthApp
    transport: Transport
    budget: Budget
    account_id: str

    async def tokens(self, body: str, *, attempts: int) -> Tokens:
        auth = self.connector.oauth
        response = await self.send(auth.token_url, body, FORM, attempts=attempts)
        if error := _refusal(self.connector, response, "token call"):
            raise error
        try:
            return _tokens(auth, response)
        except SHAPE_ERRORS as shape:
            raise unreadable(self.connector, shape) from shape

    async def send(
        self, url: str, body: str, content_type: str, *, attempts: int, signed: bool = True
    ) -> Response:
        """The answer, unless it says to wait; what fails is tried again `attempts` - 1 times."""
        auth, title = self.connector.oauth, self.connector.title
        url = _filled(auth, self.app, url)
        check_host(title, url, (auth.token_url, *([auth.revoke_url] if auth.revoke_url else [])))
        headers = {
            "accept": "application/json",
            "content-type": content_type,
            **auth.token_headers,
        }
        if signed:
            signer = ClientAuth(
                self.app.client_id, self.app.client_secret, _CLIENT_AUTH[auth.client_auth]
            )
            _, headers, body = signer.prepare("POST", url, headers, body)
            if auth.bearer == "app":
                headers["authorization"] = f"Bearer {self.app.client_secret}"
        patience = Patience(attempts)
        while True:
            await self.budget.spend(self.connector, self.account_id, Request.post(url))
            told: timedelta | None = None
            try:
                response = await self.transport.call(title, "POST", url, headers, body.encode())
                told = retry_after(response, self.transport.clock.now())
                if response.status < 500 and response.status != 429:
                    return response
                failure = error_by_status(title, "its authorisation server", response)
            except ProviderUnavailableError as error:
                failure = error
            if isinstance(failure, RateLimitedError):
                failure.retry_after = patience.after_rate_limit(failure, told)
                await self.budget.close_until(self.connector, self.account_id, failure.retry_after)
                raise failure
            if isinstance(failure, ProviderUnavailableError):
                pause = patience.after_failure(failure, told)
                await self.transport.clock.sleep(pause.total_seconds())


def _refusal(connector: Connector, response: Response, what: str) -> ConnectorError | None:
    """An error answer of an authorisation server, which may come with any status, 200 too."""
    code = _code(response)
    title = connector.title
    if code is None and 200 <= response.status < 300:
        return None
    if isinstance(response.json, dict) and (told := connector.oauth.explain(response.json)):
        return told
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


def _tokens(auth: OAuth2, response: Response) -> Tokens:
    answer = dict(response.json)
    access_token = answer.pop("access_token")
    refresh_token = answer.pop("refresh_token", None) or None
    if not isinstance(access_token, str) or not access_token.strip():
        raise ValueError("no access token")
    lifetime = answer.pop("expires_in", None)
    ttl = auth.access_token_ttl if lifetime is None else timedelta(seconds=int(lifetime))
    expires_at = None if ttl is None else response.sent_at + ttl
    granted = answer.get("scope") or answer.get("scopes") or ""
    scope = granted.replace(",", " ").split() if isinstance(granted, str) else granted
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_at=expires_at,
        scope=tuple(str(one) for one in scope),
        extra=answer,
    )
