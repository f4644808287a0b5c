"""The operator's registrations at vendors: the variables that each takes, and what they are for.

What a connector declares (`OAuth2.env`, `Connector.variables`) is here by itself. The list below
names registrations that several integrations share, and variables that nothing needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from connectors import Connector, OAuth2, all_connectors

# Where a registration's secret may be left empty, its deliveries are refused until it is set.
WEBHOOK = "Proves that a delivery is the vendor's; while it is empty, deliveries are refused."


@dataclass(frozen=True, kw_only=True)
class App:
    """The operator's app at one vendor. Several integrations may share it, as Google's do."""

    prefix: str
    title: str = ""
    integrations: tuple[str, ...] = ()
    console: str = ""
    names: tuple[str, str] | None = None
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def client_id(self) -> str:
        return self.names[0] if self.names else f"{self.prefix}_CLIENT_ID"

    @property
    def client_secret(self) -> str:
        return self.names[1] if self.names else f"{self.prefix}_CLIENT_SECRET"

    @property
    def callback_url(self) -> str:
        return f"{self.prefix}_CALLBACK_URL"

    def variables(self) -> dict[str, str]:
        """Each variable, and what it is."""
        return {
            self.client_id: f"The client id of our app at {self.title}.",
            self.client_secret: "Its secret.",
            self.callback_url: "Where it sends people back to; unset, it follows NEXTAUTH_URL.",
            **self.further,
        }


KNOWN = (
    App(
        prefix="AIRTABLE",
        further={"AIRTABLE_WEBHOOK_SECRET": "Not needed: each webhook has its own."},
    ),
    App(
        prefix="DROPBOX",
        further={"DROPBOX_WEBHOOK_SECRET": "Not needed: Dropbox signs with the client secret."},
    ),
    App(
        prefix="GOOGLE",
        title="Google",
        console="https://console.cloud.google.com/apis/credentials",
    ),
    App(
        prefix="JIRA",
        further={"JIRA_WEBHOOK_SECRET": "Not needed: Jira signs with the client secret."},
    ),
    App(prefix="MICROSOFT", title="Microsoft"),
    App(prefix="STRIPE_CONNECT", title="Stripe Connect"),
    App(prefix="ZOHO", title="Zoho"),
)


def apps(connectors: Iterable[Connector] | None = None) -> tuple[App, ...]:
    """Every registration there can be, by title: what connectors declare, with what is known."""
    known_by = {app.prefix: app for app in KNOWN}
    found: dict[str, App] = {}
    for connector in all_connectors() if connectors is None else connectors:
        if isinstance(connector.auth, OAuth2):
            declared = _declared(connector, connector.auth)
            known = found.get(declared.prefix) or known_by.get(declared.prefix)
            found[declared.prefix] = _joined(known, declared) if known else declared
    return tuple(sorted(found.values(), key=lambda app: app.title.lower()))


def _declared(connector: Connector, auth: OAuth2) -> App:
    app = App(
        prefix=auth.env,
        title=connector.title,
        integrations=(connector.name,),
        console=auth.console,
        names=auth.variables,
    )
    proves = connector.webhook.verified_by if connector.webhook else ""
    secret = {proves: WEBHOOK} if proves and proves not in app.variables() else {}
    return replace(app, further={**secret, **connector.variables})


def _joined(known: App, declared: App) -> App:
    return replace(
        known,
        title=known.title or declared.title,
        integrations=tuple(dict.fromkeys(known.integrations + declared.integrations)),
        console=declared.console or known.console,
        names=declared.names or known.names,
        further={**known.further, **declared.further},
    )
