"""How a tenant lets us in: by a consent (OAuth 2), by a key that it brings, or by settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from connectors.kernel.errors import ConnectorError
from connectors.kernel.messages import Calls, Context


@dataclass(frozen=True)
class Account:
    """Who we are at the vendor once authorised: its id there, a name for people, and settings."""

    id: str
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


# Finds the accounts a new grant covers, from the token answer, the callback's parameters and, where
# neither says it, further calls. It yields Requests and returns the accounts.
Identify: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, str]], Calls[tuple[Account, ...]]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a tenant is asked before it is sent to consent, such as its shop's address.

    The answer stands in the vendor's URLs as `{name}`, and in a connection's settings under that
    name. It has no more than lower-case letters, digits, dots, commas, hyphens and underscores, and
    fits `pattern` in full; where none is given, `default` is taken. `hint` says to a person how it
    looks.
    """

    name: str
    title: str
    pattern: str
    hint: str
    default: str = ""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A browser that came back from consent: with what, after which answers, and when."""

    params: Mapping[str, str] = field(repr=False)
    answers: Mapping[str, str]
    client_secret: str = field(repr=False)
    at: datetime


# How a call to an authorisation server shows whose it is: our client id and secret in its body or
# in the header (RFC 6749, 2.3.1), the token that it concerns as a bearer's, or not at all.
ClientAuth: TypeAlias = Literal["body", "basic", "token", "none"]


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """The call by which a consent is given back; `Revocation.rfc7009(url)` is the standard's.

    `gives` are fields of the token answer: the first that is there is given back, in the body's
    `parameter`. An empty one leaves the body empty, of vendors that read the token from the header.
    `more` are further fields. `client_auth` of None is that of token calls. `unknown` are statuses
    that mean that the vendor no longer knows what is given back, whatever else it says.
    """

    url: str
    method: str = "POST"
    gives: tuple[str, ...] = ("refresh_token", "access_token")
    parameter: str = "token"
    more: Mapping[str, str] = field(default_factory=dict)
    body: Literal["form", "json"] = "form"
    client_auth: ClientAuth | None = None
    unknown: frozenset[int] = frozenset({400})

    @classmethod
    def rfc7009(cls, url: str) -> "Revocation":
        return cls(url=url, more={"token_type_hint": "refresh_token"})


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """A vendor's OAuth 2 rules. `env` prefixes the operator's variables: HUBSPOT_CLIENT_ID …

    The URLs may hold our `{client_id}` and settings of the operator, `{MICROSOFT_TENANT_ID}`;
    `url_overrides` says which values of these this integration replaces. They may hold answers
    of the tenant to `questions`, too. `variables` names those of client id and secret where the
    vendor's own words are others, and `console` is where the operator registers the app.
    `scopes` says what each is needed for. `grace` is how long a refresh token still works after
    a newer one was issued; `idle_lifetime` how long an unused one lives. An `access_token_ttl`
    of None: it never ends. `bearer` says what calls carry: the access token of the grant, or
    our app's own secret, of vendors that take it for every account that consented. `revocation`
    is how a consent is ended, at vendors that know such a call. The `body` of token calls is a
    form, or JSON. `normalize_answer` gives a token answer the form of RFC 6749, where the
    vendor's is another. `refused` are error codes of the token endpoint that mean the grant is
    over. `error_from` reads the vendor's own form of a refusal, the parameters of a callback or
    the body of a token answer: an error, or None for the default. `verify_callback` raises
    SignatureError of a callback that the vendor did not make, where it signs them, and gives
    the answers as they stand from then on. `token_params` go with a code. `refresh_url` is where
    refresh tokens are exchanged, where that is not the `token_url`.
    """

    env: str
    authorize_url: str
    token_url: str
    scopes: Mapping[str, str]
    refresh_url: str = ""
    revocation: Revocation | None = None
    client_auth: ClientAuth = "body"
    body: Literal["form", "json"] = "form"
    pkce: bool = False
    questions: tuple[Question, ...] = ()
    verify_callback: Callable[[Callback], Mapping[str, str]] = lambda callback: callback.answers
    scope_separator: str = " "
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    token_headers: Mapping[str, str] = field(default_factory=dict)
    rotates: bool = False
    grace: timedelta | None = None
    idle_lifetime: timedelta | None = None
    access_token_ttl: timedelta | None = timedelta(hours=1)
    bearer: Literal["grant", "app"] = "grant"
    normalize_answer: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda answer: answer
    refused: frozenset[str] = frozenset({"invalid_grant"})
    error_from: Callable[[Mapping[str, Any]], ConnectorError | None] = lambda answer: None
    url_overrides: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, str] | None = None
    console: str = ""


# Why a key is kept that nobody could prove: the vendor did not answer, asked to wait or wants to be
# paid, knows the key and does not let it ask, or answered something else; or it was good once, and
# the vendor has refused it since.
Doubt: TypeAlias = Literal["no_answer", "limited", "not_allowed", "unclear", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What a vendor said of a key. `works` is None where its answer proves neither; `doubt` says
    why, to who brought it."""

    works: bool | None
    message: str
    doubt: Doubt = "unclear"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key that tenants bring. `setting` is the name it is kept under; `verify` asks the vendor.

    `hint` says to a person where keys are made.
    """

    setting: str
    verify: Callable[[], Calls[Verdict]]
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class SettingsForm:
    """Settings that a tenant fills in, secrets among them; the reader itself sends what they hold.

    `schema` is the JSON schema that a form is made from. `secrets` are the fields that no one is
    shown again, each as its path: `("credentials", "api_key")`. `verify` makes a call or two with
    the settings that stand in `context.config`, and raises what is wrong with them.
    """

    schema: Mapping[str, Any]
    secrets: frozenset[tuple[str, ...]]
    verify: Callable[[Context], Calls[None]]
