"""The operator's registrations at vendors: the variables that each takes, and what they are for.

What a connector declares (`OAuth2.env`, `Connector.variables`) is here by itself; the list below
holds the registrations of integrations that have no connector yet.
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
    title: str
    integrations: tuple[str, ...]
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
        title="Airtable",
        integrations=("airtable",),
        console="https://airtable.com/create/oauth",
        further={"AIRTABLE_WEBHOOK_SECRET": "Not needed: each webhook comes with its own."},
    ),
    App(
        prefix="BOX",
        title="Box",
        integrations=("box",),
        console="https://app.box.com/developers/console",
        further={"BOX_WEBHOOK_SECRET": f"The signature keys `primary,secondary`. {WEBHOOK}"},
    ),
    App(
        prefix="DROPBOX",
        title="Dropbox",
        integrations=("dropbox",),
        console="https://www.dropbox.com/developers/apps",
        further={"DROPBOX_WEBHOOK_SECRET": "Not needed: Dropbox signs with the client secret."},
    ),
    App(
        prefix="GITHUB",
        title="GitHub",
        integrations=("github",),
        console="https://github.com/settings/developers",
        further={"GITHUB_WEBHOOK_SECRET": WEBHOOK},
    ),
    App(
        prefix="GOOGLE",
        title="Google",
        integrations=("gmail", "google_calendar", "google_drive"),
        console="https://console.cloud.google.com/apis/credentials",
    ),
    App(
        prefix="JIRA",
        title="Jira",
        integrations=("jira",),
        console="https://developer.atlassian.com/console/myapps",
        further={"JIRA_WEBHOOK_SECRET": "Not needed: Jira signs with the client secret."},
    ),
    App(
        prefix="LINEAR",
        title="Linear",
        integrations=("linear",),
        console="https://linear.app/settings/api",
        further={"LINEAR_WEBHOOK_SECRET": f"The app's signing secret. {WEBHOOK}"},
    ),
    App(
        prefix="MICROSOFT",
        title="Microsoft",
        integrations=("outlook", "ms_teams", "onedrive"),
        console="https://entra.microsoft.com, App registrations",
    ),
    App(
        prefix="MONDAY",
        title="monday.com",
        integrations=("monday",),
        console="the Developer Center of your monday.com account",
        further={"MONDAY_WEBHOOK_SECRET": f"The app's signing secret. {WEBHOOK}"},
    ),
    App(
        prefix="NOTION",
        title="Notion",
        integrations=("notion",),
        console="https://www.notion.so/my-integrations",
        further={"NOTION_WEBHOOK_SECRET": f"The subscription's verification token. {WEBHOOK}"},
    ),
    App(
        prefix="SALESFORCE",
        title="Salesforce",
        integrations=("salesforce",),
        console="Setup of your Salesforce organisation, External Client App Manager",
    ),
    App(
        prefix="SHOPIFY",
        title="Shopify",
        integrations=("shopify",),
        console="https://partners.shopify.com",
        names=("SHOPIFY_API_KEY", "SHOPIFY_API_SECRET"),
    ),
    App(
        prefix="SLACK",
        title="Slack",
        integrations=("slack",),
        console="https://api.slack.com/apps",
        further={"SLACK_SIGNING_SECRET": WEBHOOK},
    ),
    App(
        prefix="STRIPE_CONNECT",
        title="Stripe Connect",
        integrations=("stripe",),
        console="https://dashboard.stripe.com/settings/connect",
        # Connect's secret is the platform's own key.
        names=("STRIPE_CONNECT_CLIENT_ID", "STRIPE_SECRET_KEY"),
        further={"STRIPE_CONNECT_WEBHOOK_SECRET": f"Of tenants' own accounts. {WEBHOOK}"},
    ),
    App(
        prefix="XERO",
        title="Xero",
        integrations=("xero",),
        console="https://developer.xero.com/app/manage",
        further={"XERO_WEBHOOK_SECRET": f"The app's webhooks key. {WEBHOOK}"},
    ),
    App(
        prefix="ZOHO",
        title="Zoho",
        integrations=("zoho_crm",),
        console="https://api-console.zoho.com",
    ),
)


def apps(connectors: Iterable[Connector] | None = None) -> tuple[App, ...]:
    """Every registration there can be, by title: those known, with what connectors declare."""
    found = {app.prefix: app for app in KNOWN}
    for connector in all_connectors() if connectors is None else connectors:
        if isinstance(connector.auth, OAuth2):
            declared = _declared(connector, connector.auth)
            known = found.get(declared.prefix)
            found[declared.prefix] = _joined(known, declared) if known else declared
    return tuple(sorted(found.values(), key=lambda app: app.title.lower()))


def _declared(connector: Connector, auth: OAuth2) -> App:
    return App(
        prefix=auth.env,
        title=connector.title,
        integrations=(connector.name,),
        console=auth.console,
        names=auth.variables,
        further=connector.variables,
    )


def _joined(known: App, declared: App) -> App:
    return replace(
        known,
        integrations=tuple(dict.fromkeys(known.integrations + declared.integrations)),
        console=declared.console or known.console,
        names=declared.names or known.names,
        further={**known.further, **declared.further},
    )
