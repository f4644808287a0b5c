"""`.env.example`, `docs/credentials.md`, `docs/integrations/` and the README's table of them:
written from what settings and connectors declare; and the catalogues of `web/languages/`.

`python -m cli.documents` writes all again.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accounts import api_keys
from cli.documents import catalogues, integrations
from connectors import OAuth2, all_connectors, load
from settings import CALLBACK_PATH, Settings
from settings.apps import App, apps

ROOT = Path(__file__).parent.parent.parent
COMMAND = "python -m cli.documents"


@dataclass(frozen=True)
class Group:
    """Settings that belong together; `fields` are those of `Settings`, in the order of reading."""

    title: str
    about: str
    fields: tuple[str, ...]


GROUPS = (
    Group(
        "This machine",
        "Everything has a default that works on one machine.",
        (
            "atom_home",
            "atom_schema",
            "atom_worker",
            "atom_dispatch_concurrency",
            "atom_drain_shards",
            "atom_drain_linger_seconds",
            "atom_sandbox_url",
        ),
    ),
    Group(
        "Database and Redis",
        "Unset, embedded servers are started under `ATOM_HOME`.",
        ("database_url", "redis_url"),
    ),
    Group(
        "Our secrets and our public address",
        "Make each secret with `openssl rand -base64 32`, and no two the same.",
        (
            "encryption_keys",
            "jwt_secret",
            "nextauth_url",
            "nextauth_secret",
            "connect_return_hosts",
        ),
    ),
    Group(
        "Connect pages",
        "How the pages look on which your customers connect apps (docs/connecting.md).",
        ("connect_app_name", "connect_colour", "connect_logo_url", "connect_integrations"),
    ),
    Group(
        "Tiers",
        "How often a tenant's connections sync; docs/scheduling.md has the table.",
        ("sync_intervals",),
    ),
    Group(
        "Prefect",
        "Unset, `atom-sync up` starts a server that only this machine reaches.",
        (
            "prefect_api_url",
            "prefect_api_database_connection_url",
            "atom_prefect_retention_days",
            "prefect_server_api_auth_string",
            "prefect_api_auth_string",
        ),
    ),
    Group(
        "Mail",
        "Tells tenants that a connection needs them. Without it, that is only logged.",
        ("smtp_host", "smtp_user", "smtp_pass", "from_email"),
    ),
    Group(
        "Billing",
        "Stripe, for what tenants pay us. Their own Stripe accounts are under Stripe Connect.",
        (
            "stripe_secret_key",
            "stripe_publishable_key",
            "stripe_webhook_secret",
            "stripe_price_id_solo",
            "stripe_price_id_team",
            "stripe_price_id_enterprise",
            "stripe_price_ids_ignored",
            "billing_grace_days",
        ),
    ),
)
NEEDED = {
    "database_url": "in production",
    "redis_url": "in production",
    "encryption_keys": "with DATABASE_URL",
    "jwt_secret": "for the API",
    "nextauth_url": "for connecting accounts",
    "nextauth_secret": "for connecting accounts",
    "prefect_server_api_auth_string": "where others reach Prefect",
    "prefect_api_auth_string": "where PREFECT_SERVER_API_AUTH_STRING is set elsewhere",
}
EXAMPLES = {
    "database_url": "postgresql://user:password@host:5432/atom_saas?sslmode=require",
    "redis_url": "rediss://:password@host:6379/0",
    "nextauth_url": "https://app.example.com",
    "sync_intervals": "TEAM.PULL=30m, FREE.PUSH=2w",
    "smtp_host": "smtp.example.com:587",
    "from_email": "no-reply@example.com",
}
OPENING = f"""\
# Credentials

<!-- Written by `{COMMAND}` from what settings and connectors declare. -->

There are two kinds. **Platform credentials** are the operator's, set in the environment or in
`.env`. **Tenant credentials** are the tenants' own: they come by connecting an account or through
the API, and are kept encrypted in `tenant_settings`. `atom-sync doctor` checks the platform's
live, and says what to do about each.

An empty value is an unset one. The environment goes before `.env`. Paths have to be absolute, such
as `sslrootcert` in `DATABASE_URL`: our processes stand in a folder of their own.

Prefect's own variables (scaling.md names some) may be set in the same places, and what `up` starts
is given them. A `prefect.toml`, `[tool.prefect]` in a `pyproject.toml` and Prefect's profiles are
not read.

## Platform credentials"""
APPS = f"""
## Apps at vendors

Register one app at each vendor that tenants may connect to, and set its variables. What is left
unset is shown to tenants as not configured. As the callback (redirect) address, paste
`NEXTAUTH_URL` followed by `{CALLBACK_PATH}`; `atom-sync doctor` prints it whole. A
`…_CALLBACK_URL` is only needed where the address is another."""
ENDING = """
A second grant of one integration is kept under `<integration>_tokens:<label>`. Each value is
sealed with AES-256-GCM under the tenant's own data key, which a master key of `ENCRYPTION_KEYS`
wraps; tenant and setting are bound in, so that a value moved to another row does not open. Rows of
an existing `tenant_settings` table are taken over with `atom-sync import tenant-settings`.

## Changing a secret

* `ENCRYPTION_KEYS`: put a new key in front (`new,old`) and restart every process. Then `atom-sync
  keys rotate` puts each tenant's data key under it while syncs run; it can be stopped and started
  again. When `atom-sync keys check` says that nothing needs the old key, take it away; keep it
  with the backups that were made under it (see recovery.md).
* `JWT_SECRET`: set `new,former`; tokens signed with either are taken. Drop the former when the
  last of its tokens has expired.
* A vendor's client secret: make a second one in its console where it allows two, set it, restart,
  then delete the first."""
# Settings that belong to a registration, by its prefix.
OF_APPS = {"MICROSOFT": ("microsoft_tenant_id",), "SHOPIFY": ("shopify_scopes",)}


def described(app: App) -> dict[str, str]:
    """A registration's variables, those that are settings of their own included."""
    own = {name.upper(): _about(name) for name in OF_APPS.get(app.prefix, ())}
    return {
        name: about
        for name, about in {**app.variables(), **own}.items()
        if name != "STRIPE_SECRET_KEY"  # it stands under Billing
    }


def _about(field: str) -> str:
    return Settings.model_fields[field].description or ""


def _default(field: str) -> str:
    default = Settings.model_fields[field].default
    return "" if default is None else str(default)


def env_example() -> str:
    """What an operator copies to `.env`."""
    lines = [
        "# Copy to `.env` and fill in. Empty counts as unset. What each is for, and where it comes",
        "# from: docs/credentials.md. `atom-sync doctor` checks what you have set.",
        f"# Written by `{COMMAND}`.",
    ]
    for group in GROUPS:
        lines += ["", f"# {group.title}. {group.about}"]
        for field in group.fields:
            lines.append(f"# {_about(field)}{_needed(field)}")
            if field in EXAMPLES:
                lines.append(f"#   {EXAMPLES[field]}{_pragma(EXAMPLES[field])}")
            lines.append(f"{field.upper()}={_default(field)}")
    for app in apps():
        lines += ["", f"# {app.title}: {', '.join(app.integrations)}."]
        if app.console:
            lines.append(f"# Registered at {app.console}")
        own = [name.upper() for name in OF_APPS.get(app.prefix, ())]
        for name, about in described(app).items():
            if name in (*app.further, *own):
                lines.append(f"# {about}")
            value = _default(name.lower()) if name in own else ""
            lines.append(f"{name}={value}")
    return "\n".join(lines) + "\n"


def _needed(field: str) -> str:
    return f" Needed {NEEDED[field]}." if field in NEEDED else ""


def _pragma(example: str) -> str:
    # A scanner takes an example of a URL with a password for a secret.
    return "  # pragma: allowlist secret" if ":password@" in example else ""


def document() -> str:
    """The guide to credentials."""
    return "\n".join(_document()) + "\n"


def _document() -> Iterator[str]:
    yield OPENING
    for group in GROUPS:
        yield from ("", f"### {group.title}", "", group.about, "")
        yield from _table(
            (f.upper(), _about(f), NEEDED.get(f, "optional"), EXAMPLES.get(f) or _default(f))
            for f in group.fields
        )
    yield APPS
    for app in apps():
        yield from ("", *_app(app))
    yield from ("", "## Tenant credentials", "")
    yield "| setting | what it holds | how it comes |"
    yield "|---|---|---|"
    for connector in all_connectors():
        if isinstance(connector.auth, OAuth2):
            yield (
                f"| `{connector.name}_tokens` | {connector.title}: access and refresh token as JSON"
                " | connecting an account |"
            )
    for setting, connector in api_keys.settings().items():
        yield (
            f"| `{setting}` | {connector.title}: the tenant's own key, verified on entry"
            f" | the API or the connect page; made at {connector.api_key.hint} |"
        )
    yield ENDING


def _app(app: App) -> Iterator[str]:
    yield f"### {app.title}"
    yield ""
    if app.console:
        yield f"Registered at {app.console}."
    built = {connector.name for connector in all_connectors()}
    coming = [name for name in app.integrations if name not in built]
    if coming:
        yield f"No connector yet for: {', '.join(coming)}."
    yield ""
    yield from _table((name, about, "", "") for name, about in described(app).items())
    for name in app.integrations:
        if name in built:
            auth = load(name).oauth
            yield from ("", f"Scopes of {load(name).title}:", "")
            yield from (f"* `{scope}`: {why}" for scope, why in auth.scopes.items())


def _table(rows: Iterator[tuple[str, str, str, str]]) -> Iterator[str]:
    found = list(rows)
    if any(needed for _, _, needed, _ in found):
        yield "| variable | what it is | needed | example or default |"
        yield "|---|---|---|---|"
        for name, about, needed, example in found:
            yield f"| `{name}` | {about} | {needed} | {f'`{example}`' if example else ''} |"
    else:
        yield "| variable | what it is |"
        yield "|---|---|"
        for name, about, _, _ in found:
            yield f"| `{name}` | {about} |"


def written() -> dict[Path, str]:
    """Each file that is generated, and what it has to hold."""
    return {
        ROOT / ".env.example": env_example(),
        ROOT / "docs" / "credentials.md": document(),
        **integrations.written(COMMAND),
        **catalogues.written(),
    }


def main() -> None:
    for path, content in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
