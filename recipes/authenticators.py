"""How a request shows whose it is: keys and passwords of the settings, tokens that we sign, and
those of `tokens`, which are asked for.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from joserfc import jwt as jose
from joserfc.jwk import import_key

from connectors import BrokenConnectionError, Calls
from recipes import datetimes
from recipes.manifest import Component, UnsupportedError, unsupported
from recipes.options import Options, RequestOption
from recipes.runs import Run
from recipes.templates import CONFIG, Template, Tree
from recipes.tokens import LegacySession, key_option, oauth_of, session_of
from recipes.values import get


class Authenticator(Protocol):
    """Gives what a request carries. `forget` drops a token that was refused, and says whether
    another one may be had."""

    def options(self, run: Run) -> Calls[Options]: ...

    def forget(self, run: Run) -> bool: ...

    def addresses(self) -> list[Template]: ...


@dataclass(frozen=True)
class Plain:
    """What the settings hold already."""

    def options(self, run: Run) -> Calls[Options]:
        yield from ()
        return self.of(run)

    def of(self, run: Run) -> Options:
        return Options()

    def forget(self, run: Run) -> bool:
        return False

    def addresses(self) -> list[Template]:
        return []


@dataclass(frozen=True)
class Nobody(Plain):
    """Nothing shows whose a request is."""


@dataclass(frozen=True)
class KeyOf(Plain):
    """A key, at a place of its own."""

    option: RequestOption
    token: Template

    def of(self, run: Run) -> Options:
        made = Options()
        self.option.put(str(self.token.value(run.scope)), made, run.scope)
        return made


@dataclass(frozen=True)
class Bearer(Plain):
    token: Template

    def of(self, run: Run) -> Options:
        return Options(header={"Authorization": f"Bearer {self.token.value(run.scope)}"})


@dataclass(frozen=True)
class Basic(Plain):
    username: Template
    password: Template

    def of(self, run: Run) -> Options:
        pair = f"{self.username.value(run.scope)}:{self.password.value(run.scope)}"
        return Options(
            header={"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        )


@dataclass(frozen=True)
class Jwt(Plain):
    """A token that we sign ourselves."""

    key: Template
    algorithm: str
    is_base64: bool
    headers: Tree
    claims: Tree
    lifetime: int
    prefix: Template
    option: RequestOption | None

    def of(self, run: Run) -> Options:
        now = int((run.scope.now - datetimes.EPOCH).total_seconds())
        claims = {
            **{k: v for k, v in self.claims.value(run.scope).items() if v not in (None, "")},
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
        }
        headers = self.headers.value(run.scope)
        headers = {k: v for k, v in headers.items() if v not in (None, "")}
        secret = self.key.text_of(run.scope)
        try:
            token = self._signed(secret, {**headers, "alg": self.algorithm}, claims)
        except Exception:
            # Whatever the library says of it may quote the key: nothing of that is shown.
            raise BrokenConnectionError(
                f"{run.title}: the key of the settings signs no {self.algorithm} token"
            ) from None
        made, prefix = Options(), self.prefix.option(run.scope)
        text = f"{prefix} {token}" if prefix else token
        if self.option is None:
            made.header["Authorization"] = text
        else:
            self.option.put(text, made, run.scope)
        return made

    def _signed(self, secret: str, headers: dict[str, Any], claims: dict[str, Any]) -> str:
        raw = base64.b64encode(secret.encode()) if self.is_base64 else secret.encode()
        key: Any
        match self.algorithm[0]:
            case "H":
                key = import_key(raw, "oct")
            case "E":
                key = import_key(secret.encode(), "EC")
            case _:
                key = import_key(secret.encode(), "RSA")
        return jose.encode(headers, claims, key, algorithms=[self.algorithm])


@dataclass(frozen=True)
class Selective:
    """One of several, by a value of the settings."""

    path: tuple[str, ...]
    choices: Mapping[str, Authenticator] = field(repr=False)

    def options(self, run: Run) -> Calls[Options]:
        return (yield from self._chosen(run).options(run))

    def forget(self, run: Run) -> bool:
        return self._chosen(run).forget(run)

    def addresses(self) -> list[Template]:
        return [each for one in self.choices.values() for each in one.addresses()]

    def _chosen(self, run: Run) -> Authenticator:
        found = self.choices.get(str(get(run.config, self.path)))
        if found is None:
            where = ".".join(self.path)
            raise BrokenConnectionError(f"{run.title}: the setting {where} names no way to log in")
        return found


def authenticator(component: Component | None, url: Template) -> Authenticator:
    """The authenticator that a component describes, of requests below that address;
    UnsupportedError of one that we lack."""
    if component is None:
        return Nobody()

    def template(name: str, default: str = "") -> Template:
        return Template.of(component, component.text(name, default), CONFIG)

    match component.type:
        case "NoAuth":
            return Nobody()
        case "ApiKeyAuthenticator":
            return KeyOf(key_option(component), template("api_token"))
        case "BearerAuthenticator":
            return Bearer(template("api_token"))
        case "BasicHttpAuthenticator":
            return Basic(template("username"), template("password"))
        case "OAuthAuthenticator":
            return oauth_of(component)
        case "JwtAuthenticator":
            return _jwt(component)
        case "SessionTokenAuthenticator":
            return session_of(component)
        case "LegacySessionTokenAuthenticator":
            login = {"url": template("login_url")}
            login |= {name: template(name) for name in ("username", "password")}
            given = template("session_token") if component.get("session_token") else None
            return LegacySession(
                url,
                template("header"),
                given,
                login,
                component.text("session_token_response_key"),
            )
        case "SelectiveAuthenticator":
            path = tuple(map(str, component.get("authenticator_selection_path") or ()))
            choices = component.get("authenticators") or {}
            names = [name for name, each in choices.items() if isinstance(each, Component)]
            return Selective(path, {name: authenticator(choices[name], url) for name in names})
    raise unsupported(component)


def _jwt(component: Component) -> Jwt:
    algorithm = component.text("algorithm")
    if algorithm[:2] not in ("HS", "RS", "PS", "ES") or algorithm[2:] not in ("256", "384", "512"):
        raise UnsupportedError(f"JwtAuthenticator.algorithm {algorithm}", component.line)
    component.without("passphrase")
    headers, claims = component.get("jwt_headers") or {}, component.get("jwt_payload") or {}
    return Jwt(
        Template.of(component, component.text("secret_key"), CONFIG),
        algorithm,
        component.flag("base64_encode_secret_key"),
        Tree.of(component, {**headers, **(component.get("additional_jwt_headers") or {})}, CONFIG),
        Tree.of(component, {**claims, **(component.get("additional_jwt_payload") or {})}, CONFIG),
        component.number("token_duration", 1200),
        Template.of(component, component.text("header_prefix"), CONFIG),
        RequestOption.of(component.part("request_option")),
    )
