"""What an operator sets: one class, read from the environment and from `.env`."""

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors import all_connectors
from connectors.kernel.oauth import OAuthApp, settings_in
from integrations import load
from settings import appearance
from settings.apps import apps
from settings.intervals import Intervals, read_audit_intervals, read_intervals
from storage.models import Tier
from storage.vault import HOW_TO_MAKE_ONE, WHERE_OLD_ONES_LIE, Vault, VaultError

CALLBACK_PATH = "/api/integrations/callback"
STRIPE_API = "https://api.stripe.com"


# Set for the processes that `up` and `demo` start: they were given all they need to know.
SUPERVISED = "ATOM_SUPERVISED"
# Set for them, too: the id of that `up`, by which they are told to stop (`storage.incarnations`).
INCARNATION = "ATOM_INCARNATION"
# A file that marks a home as the demo's: nothing that the operator set holds there.
ALONE = "alone"


class SettingsError(Exception):
    """A setting is missing or malformed; the message names the variable and the remedy."""


def _postgres_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/"):
        raise ValueError(
            "it should look like postgresql://user:password@host:5432/atom_saas?sslmode=require"
        )
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("it should look like redis://:password@host:6379/0")
    return value


def _encryption_keys(value: SecretStr) -> SecretStr:
    try:
        Vault.parse(value.get_secret_value())
    except VaultError as error:
        raise ValueError(str(error)) from None
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("it should look like http://127.0.0.1:4200/api")
    return value.rstrip("/")


def _sync_intervals(value: str) -> str:
    read_intervals(value)
    return value


def _whole(path: Path) -> Path:
    # Processes of a home stand in other folders than the one that the path was given in.
    return path.expanduser().resolve()


def _integrations(value: str) -> str:
    known = {connector.name for connector in all_connectors()}
    if unknown := [name for name in listed_of(value) if name not in known]:
        raise ValueError(f"there is no {', '.join(unknown)}")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Settings(BaseSettings):
    """Everything atom-sync reads from its surroundings. Empty counts as unset."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    atom_home: Annotated[Path, AfterValidator(_whole)] = Field(
        default=Path(".atom"),
        validate_default=True,
        description="Folder for embedded servers, logs and the key file.",
    )
    atom_schema: str = Field(
        default="public",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="PostgreSQL schema that holds our tables.",
    )
    atom_worker: str = Field(
        default="local", description="What this machine's worker is called; it may repeat."
    )
    atom_dispatch_concurrency: int = Field(
        default=8, ge=1, le=64, description="How many connections a tier's run syncs at once."
    )
    atom_drain_shards: int = Field(
        default=1, ge=1, le=64, description="How many drains apply events side by side."
    )
    atom_drain_linger_seconds: int = Field(
        default=600, ge=1, description="How long a drain waits for more events before it leaves."
    )
    atom_sandbox_url: HttpUrl | None = Field(
        default=None, description="Speak to sandboxed vendors there, never to the real ones."
    )
    database_url: Annotated[SecretStr, AfterValidator(_postgres_url)] | None = Field(
        default=None, description="PostgreSQL 16 or newer, as the hosting company gives it."
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, description="Redis, for rate budgets: nothing that may not be lost."
    )
    encryption_keys: Annotated[SecretStr, AfterValidator(_encryption_keys)] | None = Field(
        default=None,
        description="Master keys of 32 bytes in base64, comma separated, newest first.",
    )
    sync_intervals: Annotated[str, AfterValidator(_sync_intervals)] = Field(
        default="",
        description="What differs from the tiers' own intervals (docs/scheduling.md).",
    )
    prefect_api_url: HttpUrl | None = Field(
        default=None, description="Your own Prefect server; unset, `up` and `demo` start one."
    )
    prefect_api_database_connection_url: SecretStr | None = Field(
        default=None, description="Prefect's own database, if not `prefect` beside ours."
    )
    atom_prefect_retention_days: int = Field(
        default=30, ge=1, description="How long a Prefect server that `up` starts keeps its runs."
    )
    prefect_server_api_auth_string: SecretStr | None = Field(
        default=None,
        description="`user:password` that the Prefect server asks its callers for.",
    )
    prefect_api_auth_string: SecretStr | None = Field(
        default=None,
        description="The same, as we send it; unset, we send what our own server asks for.",
    )

    nextauth_url: HttpUrl | None = Field(
        default=None, description="Our public address, as browsers and vendors reach it."
    )
    connect_return_hosts: str | None = Field(
        default=None,
        description="Hosts that a connect page may lead back to besides NEXTAUTH_URL's own, "
        "comma separated.",
    )
    nextauth_secret: SecretStr | None = Field(
        default=None, description="Signs OAuth states and cookies; 32 characters or more."
    )
    connect_app_name: str | None = Field(
        default=None, max_length=60, description="What your product is called, on connect pages."
    )
    connect_colour: Annotated[str, AfterValidator(appearance.colour)] = Field(
        default="#2f55c8",
        description="Colour of their buttons, `#rrggbb`; white text must have a contrast of 4.5:1 "
        "on it.",
    )
    connect_logo_url: Annotated[str, AfterValidator(appearance.logo)] | None = Field(
        default=None, description="Your logo on them, an https address; unset, there is none."
    )
    connect_integrations: Annotated[str, AfterValidator(_integrations)] | None = Field(
        default=None,
        description="What they offer, and in which order: names, comma separated; unset, "
        "everything that is set up, by name.",
    )
    jwt_secret: SecretStr | None = Field(
        default=None,
        description="Signs the API's tokens (HS256); `new,former` while it is being changed.",
    )
    smtp_host: str | None = Field(
        default=None, description="Mail server, `host` or `host:port`; 587 if it names none."
    )
    smtp_user: str | None = Field(default=None, description="Its user.")
    smtp_pass: SecretStr | None = Field(default=None, description="Its password.")
    from_email: str | None = Field(default=None, description="Sender of mails to tenants.")

    stripe_secret_key: SecretStr | None = Field(
        default=None, description="The platform's key, for billing: `sk_live_…` or `sk_test_…`."
    )
    stripe_publishable_key: str | None = Field(
        default=None, description="Its public counterpart, of the same mode: `pk_live_…`."
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs billing events, `new,former` while it is being changed; while it is "
        "empty, they are refused.",
    )
    stripe_price_id_solo: str | None = Field(
        default=None,
        description="The price of SOLO; more after commas (yearly, former ones) count the same.",
    )
    stripe_price_id_team: str | None = Field(default=None, description="The price of TEAM.")
    stripe_price_id_enterprise: str | None = Field(
        default=None, description="The price of ENTERPRISE."
    )
    stripe_price_ids_ignored: str | None = Field(
        default=None,
        description="Prices of other products that the same customers may pay, comma separated: "
        "they give no tier, and are not told as unknown.",
    )
    billing_grace_days: int = Field(
        default=7,
        ge=0,
        le=90,
        description="How long a tier is kept when a payment has failed, before it becomes FREE.",
    )

    microsoft_tenant_id: str = Field(
        default="common",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
        description="Whose users may consent: `common`, or one directory's id.",
    )
    shopify_scopes: str | None = Field(
        default=None,
        description="Comma separated; unset, what is needed. Nothing here is ever written.",
    )

    @model_validator(mode="after")
    def _a_kept_database_needs_kept_keys(self) -> Self:
        if self.database_url is not None and self.encryption_keys is None:
            raise ValueError(
                "ENCRYPTION_KEYS is required with DATABASE_URL. Secrets that are in it already"
                f" open with their own key alone: {WHERE_OLD_ONES_LIE}."
                f" For a new database, {HOW_TO_MAKE_ONE}"
            )
        return self

    @property
    def intervals(self) -> Intervals:
        """How often each tier's connections sync."""
        return read_intervals(self.sync_intervals)

    @property
    def audit_intervals(self) -> Mapping[Tier, timedelta]:
        """How often each tier's streams are checked against what the vendor lists."""
        return read_audit_intervals(self.sync_intervals)

    @model_validator(mode="after")
    def _a_price_is_of_one_tier(self) -> Self:
        given = (
            self.stripe_price_id_solo,
            self.stripe_price_id_team,
            self.stripe_price_id_enterprise,
            self.stripe_price_ids_ignored,
        )
        prices = [price for listed in given for price in listed_of(listed)]
        if twice := sorted({price for price in prices if prices.count(price) > 1}):
            raise ValueError(
                f"STRIPE_PRICE_ID_…, STRIPE_PRICE_IDS_IGNORED: {', '.join(twice)} stands there "
                "more than once"
            )
        return self

    @property
    def home(self) -> Path:
        return self.atom_home

    @property
    def prefect_password(self) -> SecretStr | None:
        """What we give to the Prefect server: unset, what a server of ours asks for."""
        return self.prefect_api_auth_string or self.prefect_server_api_auth_string

    def app(self, integration: str) -> OAuthApp:
        """The operator's OAuth app for an integration; SettingsError names what is missing."""
        if missing := self.missing(integration):
            raise SettingsError(
                f"{load(integration).title} is not configured: set {', '.join(missing)} in .env"
            )
        values = self._app_values(integration).values()
        client_id, client_secret, callback = (value.get_secret_value() for value in values)
        placed = settings_in(load(integration).oauth)
        return OAuthApp(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uri=callback,
            settings={name: str(getattr(self, name.lower())) for name in placed},
        )

    def missing(self, integration: str) -> list[str]:
        """The names of what the operator's OAuth app for an integration still needs."""
        return [name for name, value in self._app_values(integration).items() if value is None]

    def _app_values(self, integration: str) -> dict[str, Any]:
        names = variables_of(integration)
        values = {name: getattr(self, name.lower()) for name in names}
        if values[names[2]] is None and self.nextauth_url:
            values[names[2]] = SecretStr(f"{self.nextauth_url}{CALLBACK_PATH}")
        return values

    def environment(self) -> dict[str, str]:
        """These settings as variables for a child process; what is unset stays away."""
        return {
            name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in self
            if value is not None
        }

    @property
    def stripe_api_base(self) -> str:
        """Where Stripe's own library sends its calls: into the sandbox, where there is one."""
        if self.atom_sandbox_url is None:
            return STRIPE_API
        return f"{self.atom_sandbox_url}/{urlsplit(STRIPE_API).netloc}"

    def prefect_database_url(self, database_url: str) -> str:
        """Where Prefect keeps its runs: the `prefect` database beside ours, unless set."""
        if self.prefect_api_database_connection_url is not None:
            return self.prefect_api_database_connection_url.get_secret_value()
        return asyncpg_url(database_url, database="prefect")


def listed_of(text: str | None) -> list[str]:
    """What stands between the commas of a setting."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def variables_of(integration: str) -> tuple[str, str, str]:
    """The operator's variables of an integration: client id, client secret, callback address."""
    auth = load(integration).oauth
    client_id, secret = auth.variables or (f"{auth.env}_CLIENT_ID", f"{auth.env}_CLIENT_SECRET")
    return client_id, secret, f"{auth.env}_CALLBACK_URL"


@cache
def _complete() -> type[Settings]:
    """Settings with the variables of every registration, so that adding a connector adds its."""
    fields: dict[str, Any] = {
        variable.lower(): (SecretStr | None, None)
        for app in apps()
        for variable in app.variables()
        if variable.lower() not in Settings.model_fields
    }
    return create_model("Settings", __base__=Settings, **fields)


def variables() -> set[str]:
    """The names of all variables that we read."""
    return {name.upper() for name in _complete().model_fields}


def incarnation() -> UUID | None:
    """The `up` that this process is part of; None where it was started apart."""
    given = os.environ.get(INCARNATION)
    return UUID(given) if given else None


def env_file() -> str | None:
    """The file that is read beside the environment, if any."""
    return None if SUPERVISED in os.environ else ".env"


def is_alone(home: Path) -> bool:
    return (home / ALONE).exists()


def read(**given: Any) -> Settings:
    """The settings, or one SettingsError that names every variable that is wrong."""
    home = given.get("atom_home") or os.environ.get("ATOM_HOME")
    if home and SUPERVISED not in os.environ and is_alone(_whole(Path(home))):
        given = _defaults() | {"atom_home": home, "_env_file": None} | given
    given.setdefault("_env_file", env_file())
    try:
        return _complete()(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_explained(e) for e in error.errors())) from None


def untouched(atom_home: Path) -> Settings:
    """The defaults, whatever the environment and `.env` say."""
    return read(_env_file=None, **_defaults() | {"atom_home": atom_home})


def _defaults() -> dict[str, Any]:
    return {name: field.default for name, field in _complete().model_fields.items()}


def _explained(error: Mapping[str, Any]) -> str:
    variable = ".".join(str(part) for part in error["loc"]).upper()
    problem = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {problem}" if variable else problem


def asyncpg_url(url: str, *, database: str) -> str:
    """A libpq URL in the form that Prefect's asyncpg reads, pointed at another database.

    asyncpg's SQLAlchemy dialect calls `sslmode` `ssl` and knows none of libpq's other options.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    options = {"ssl": given["sslmode"]} if "sslmode" in given else {}
    options |= {name: given[name] for name in ("host", "port") if name in given}
    query = f"?{urlencode(options, quote_via=quote, safe='/')}" if options else ""
    return f"postgresql+asyncpg://{parts.netloc}/{database}{query}"
