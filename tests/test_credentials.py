"""The operator's variables: declared once, and the same in settings, `.env.example` and docs."""

import re

import pytest

from cli import documents
from connectors import OAuth2, all_connectors
from settings import SettingsError, read, variables_of
from settings.apps import KNOWN, apps
from tests._vendor import made_up

GUIDE = (
    "DATABASE_URL", "REDIS_URL", "JWT_SECRET", "NEXTAUTH_URL", "NEXTAUTH_SECRET",
    "STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY", "STRIPE_WEBHOOK_SECRET",
    "STRIPE_PRICE_ID_SOLO", "STRIPE_PRICE_ID_TEAM", "STRIPE_PRICE_ID_ENTERPRISE", "SMTP_HOST",
    "SMTP_USER", "SMTP_PASS", "FROM_EMAIL", "ENCRYPTION_KEYS", "SLACK_SIGNING_SECRET",
    "MICROSOFT_TENANT_ID", "SHOPIFY_API_KEY", "SHOPIFY_API_SECRET", "SHOPIFY_SCOPES",
    "STRIPE_CONNECT_CLIENT_ID", "STRIPE_CONNECT_WEBHOOK_SECRET", "PREFECT_API_URL",
    "PREFECT_SERVER_API_AUTH_STRING",
)  # fmt: skip
NAMED_BY_THE_GUIDE = (
    "SALESFORCE",
    "HUBSPOT",
    "ZOHO",
    "SLACK",
    "GOOGLE",
    "MICROSOFT",
    "QUICKBOOKS",
    "XERO",
)
NAMED_BY_SLUG = ("JIRA", "NOTION", "GITHUB", "LINEAR", "MONDAY", "AIRTABLE", "DROPBOX", "BOX")


def names_in(text: str) -> list[str]:
    return re.findall(r"^([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)


@pytest.mark.parametrize("path", documents.written(), ids=lambda path: path.name)
def test_what_is_written_from_the_declarations_is_current(path: object) -> None:
    written = documents.written()
    found = next(each for each in written if each == path)
    assert found.read_text() == written[found], f"run {documents.COMMAND}"


def test_every_variable_of_the_guide_is_a_setting_and_stands_in_the_example() -> None:
    wanted = list(GUIDE)
    for prefix in (*NAMED_BY_THE_GUIDE, *NAMED_BY_SLUG):
        wanted += [f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET", f"{prefix}_CALLBACK_URL"]
    wanted += [f"{prefix}_WEBHOOK_SECRET" for prefix in NAMED_BY_SLUG]
    listed = names_in(documents.env_example())
    assert set(wanted) <= set(listed)
    assert len(listed) == len(set(listed))
    settings = {name.upper() for name in type(read(_env_file=None)).model_fields}
    assert settings == set(listed)


def test_there_is_no_registration_of_a_vendor_without_a_connector_and_one_for_each() -> None:
    """Nor one that only looks like a connector's: Zoho's would not be found under another name."""
    declared = {c.auth.env for c in all_connectors() if isinstance(c.auth, OAuth2)}
    assert {app.prefix for app in KNOWN} <= declared
    served = [name for app in apps() for name in app.integrations]
    assert len(served) == len(set(served))


def test_every_scope_is_asked_for_with_a_reason() -> None:
    for connector in all_connectors():
        if isinstance(connector.auth, OAuth2):
            assert all(connector.auth.scopes.values()), connector.name


def test_a_connector_brings_its_variables_along() -> None:
    declared = {app.prefix: app for app in apps([made_up()])}["MADE_UP"]
    assert list(declared.variables()) == [
        "MADE_UP_CLIENT_ID",
        "MADE_UP_CLIENT_SECRET",
        "MADE_UP_CALLBACK_URL",
    ]
    google = next(app for app in apps() if app.prefix == "GOOGLE")
    assert google.integrations == ("gmail", "google_calendar", "google_drive")
    quickbooks = next(app for app in apps() if app.prefix == "QUICKBOOKS")
    assert "QUICKBOOKS_WEBHOOK_SECRET" in quickbooks.variables()


def test_the_callback_address_follows_our_public_one() -> None:
    given = {"hubspot_client_id": "id", "hubspot_client_secret": "secret"}
    with pytest.raises(SettingsError, match="set HUBSPOT_CALLBACK_URL in"):
        read(_env_file=None, **given).app("hubspot")
    ours = read(_env_file=None, nextauth_url="https://atom.test/", **given)
    expected = "https://atom.test/api/integrations/callback"
    assert ours.app("hubspot").redirect_uri == expected
    other = read(_env_file=None, hubspot_callback_url="https://else.test/cb", **given)
    assert other.app("hubspot").redirect_uri == "https://else.test/cb"
    assert variables_of("hubspot")[2] == "HUBSPOT_CALLBACK_URL"


def test_stripes_library_is_pointed_into_the_sandbox_where_there_is_one() -> None:
    assert read(_env_file=None).stripe_api_base == "https://api.stripe.com"
    sandboxed = read(_env_file=None, atom_sandbox_url="http://127.0.0.1:4010")
    assert sandboxed.stripe_api_base == "http://127.0.0.1:4010/api.stripe.com"
