"""Each app at a vendor: its variables, the callback address to paste, and the scopes with why."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from cli.doctor.row import Row, State, host_of, is_local
from connectors import Connector, all_connectors
from servers.local import web_address
from settings import CALLBACK_PATH, Settings
from settings.apps import App, apps
from settings.webhooks import PATH

PLACEHOLDERS = ("your-", "your_", "changeme", "change-me", "xxxx", "<")


def integrations(settings: Settings) -> list[Row]:
    """A row for each app that has a connector or a variable set, and one for all the others."""
    built = {connector.name: connector for connector in all_connectors()}
    rows: list[Row] = []
    coming: list[str] = []
    for app in apps():
        serves = [built[name] for name in app.integrations if name in built]
        if serves or _set(settings, app):
            rows += _app(settings, app, serves)
        else:
            coming.append(app.title)
    if settings.shopify_scopes:
        rows += _shopify(settings.shopify_scopes)
    if coming:
        found = "not set, and nothing here uses them yet"
        rows.append(Row("apps", ", ".join(coming), State.OPTIONAL, found, required=False))
    return rows


def callback_of(settings: Settings, app: App) -> str:
    """The address to paste into the vendor's console."""
    return _value(settings, app.callback_url) or _expected(settings)


def _expected(settings: Settings) -> str:
    return f"{web_address(settings)}{CALLBACK_PATH}"


def _app(settings: Settings, app: App, serves: list[Connector]) -> Iterator[Row]:
    scopes = {scope: why for each in serves for scope, why in each.oauth.scopes.items()}
    callback = callback_of(settings, app)
    details = {
        "callback": callback,
        "scopes": scopes,
        "console": app.console,
        "webhooks": _webhooks(settings, serves),
    }
    title = f"{app.title} ({', '.join(app.integrations)})"
    console = app.console or f"{app.title}'s console"
    missing = [n for n in (app.client_id, app.client_secret) if not _value(settings, n)]
    if not _set(settings, app):
        remedy = f"to offer it, register an app as below, and set {', '.join(missing)}"
        found = "not set: tenants see it as not configured"
        yield Row("apps", title, State.OPTIONAL, found, remedy, required=False, details=details)
        return
    if missing:
        remedy = f"set {', '.join(missing)}, from {console}"
        yield Row("apps", title, State.MISSING, "half set", remedy, details=details)
    elif problem := _malformed(settings, app) or _callback_problem(settings, app, callback):
        remedy = f"the callback address there and here must be {_expected(settings)}"
        if "CALLBACK" not in problem:
            remedy = f"copy it again from {console}"
        yield Row("apps", title, State.WRONG, problem, remedy, details=details)
    else:
        yield Row("apps", title, State.OK, f"set; sends people back to {callback}", details=details)
    for name, about in app.further.items():
        if not _value(settings, name) and not about.startswith("Not needed"):
            yield Row("apps", name, State.OPTIONAL, "not set", about, required=False)


def _webhooks(settings: Settings, serves: list[Connector]) -> dict[str, str]:
    """What is to be set up at the vendor so that it tells us of changes, by address."""
    found = {}
    for connector in serves:
        if connector.webhook is not None and connector.webhook.setup:
            address = f"{web_address(settings)}{PATH}/{connector.name}"
            found[address] = connector.webhook.setup
    return found


def _set(settings: Settings, app: App) -> bool:
    """Whether anything of the app is set that is not another's as well."""
    names = [app.client_id, app.client_secret, app.callback_url, *app.further]
    return any(_value(settings, name) for name in names if name.startswith(app.prefix))


def _malformed(settings: Settings, app: App) -> str:
    for name in (app.client_id, app.client_secret, app.callback_url):
        value = _value(settings, name)
        if value != value.strip() or value[:1] in ('"', "'"):
            return f"{name} has blanks or quotes around it"
        if any(word in value.lower() for word in PLACEHOLDERS):
            return f"{name} still holds the example"
    return ""


def _callback_problem(settings: Settings, app: App, callback: str) -> str:
    parts = urlsplit(callback)
    own = {f"/api/integrations/{name}/callback" for name in app.integrations}
    if parts.path not in {CALLBACK_PATH, *own}:
        return f"{app.callback_url} does not lead to {CALLBACK_PATH}"
    if parts.scheme != "https" and not is_local(parts.hostname or ""):
        return f"{app.callback_url} is not https"
    if settings.nextauth_url and host_of(callback) != host_of(settings.nextauth_url):
        return f"{app.callback_url} leads to another host than NEXTAUTH_URL"
    return ""


def _shopify(scopes: str) -> Iterator[Row]:
    wide = [scope for scope in scopes.replace(" ", ",").split(",") if "write_" in scope]
    if wide:
        found = f"{', '.join(wide)}: more than is needed, as nothing is ever written"
        remedy = "ask for the read_ scopes alone"
        yield Row("apps", "SHOPIFY_SCOPES", State.WRONG, found, remedy, required=False)


def _value(settings: Settings, name: str) -> str:
    value = getattr(settings, name.lower())
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value.get_secret_value())
