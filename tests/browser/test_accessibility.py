"""axe-core finds nothing wrong on any page, in the light and in the dark."""

from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page

from connectors import Account
from connectors.kernel.token_answers import Tokens
from storage import connect_sessions, grants, tenant_settings
from storage.connect_sessions import PendingConsent
from storage.database import Database
from storage.vault import Vault
from tests._connecting import NEXTAUTH_SECRET, Connecting, connecting
from tests._sandboxed import INTEGRATIONS, KEY
from web._state import Signer

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
SOME = ["box", "hubspot", "slack"]
VAULT = Vault.parse(KEY)
TOKENS = Tokens("canary-access", None, None, (), {})


async def judge(page: Page, shown: str) -> None:
    """AssertionError with what axe finds wrong, in either colour scheme: in the dark, the same page
    has other colours, and nothing else."""
    assert shown in await page.locator("body").inner_text()
    await page.evaluate(AXE)
    for scheme, rules in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
        # Colours that are half-way to others are judged as if they stayed.
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        found: dict[str, Any] = await page.evaluate(f"axe.run({rules})")
        wrong = [
            f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
            for one in found["violations"]
        ]
        assert wrong == [], f"{page.url} ({scheme})"
        assert "color-contrast" in [one["id"] for one in found["passes"]]


async def stock(database: Database, tenant_id: UUID) -> None:
    """Accounts that work, one that does not, and a key that nobody could prove."""
    for integration, names in {"hubspot": ["One", "Two"], "gmail": ["three@example.com"]}.items():
        accounts = [Account(name, name) for name in names]
        await grants.connect(
            database, VAULT, tenant_id=tenant_id, integration=integration, tokens=TOKENS,
            accounts=accounts,
        )  # fmt: skip
    async with database.transaction(tenant_id) as session:
        await tenant_settings.put(
            session, VAULT, tenant_id, "OPENAI_API_KEY", "sk-canary-0123456789-0123",
            unproven={"doubt": "not_allowed", "message": "OpenAI answered 403"},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "shown"),
    [(INTEGRATIONS, "Zoho CRM"), (SOME, "HubSpot"), ([], "There is nothing to connect yet")],
    ids=["many", "3", "none"],
)
async def test_the_list_has_no_violation(
    page: Page,
    origin: str,
    database: Database,
    database_url: str,
    acme: UUID,
    names: list[str],
    shown: str,
) -> None:
    only = None if names is INTEGRATIONS else ",".join(SOME)
    with connecting(
        origin, database_url, names, connect_integrations=only, connect_app_name="Bluebird"
    ) as ours:
        if names is INTEGRATIONS:
            await stock(database, acme)
            broken = "UPDATE connections SET status = 'needs_reauth' WHERE integration = 'gmail'"
            ours.rows(broken)
        await page.goto(ours.url(acme, scope="admin", show_unconfigured=names is INTEGRATIONS))
        await judge(page, shown)
        if names is INTEGRATIONS:
            await page.set_viewport_size({"width": 320, "height": 700})
            await page.locator("#gmail summary").click()
            await judge(page, "Also delete the data")


async def test_every_other_page_has_no_violation(
    page: Page, ours: Connecting, database: Database, acme: UUID
) -> None:
    await page.goto(ours.url(acme, integration="openai"))
    await page.get_by_label("API key").fill("sk-mistyped-0123456789")
    await page.get_by_role("button", name="Connect OpenAI").click()
    await judge(page, "does not know this key")
    await page.goto(ours.url(acme))
    session_id = page.url.rpartition("/")[2]
    await page.goto(f"{page.url}/apps/salesforce")
    await page.get_by_label("What is read").fill("*")
    await page.get_by_role("button", name="Connect Salesforce").click()
    await judge(page, "all, or the names of objects")
    await _hold_accounts(page, ours, database, session_id)
    await judge(page, "Which accounts of HubSpot?")
    await page.get_by_label("Two").uncheck()
    await page.get_by_label("One").uncheck()
    await page.get_by_role("button", name="Connect these").click()
    await judge(page, "Choose at least one.")
    await page.goto(f"{ours.origin}/connect/no-such-link")
    await judge(page, "There is no such link")
    await page.goto(f"{ours.origin}/api/integrations/callback?state=x")
    await judge(page, "Nothing was connected")


async def _hold_accounts(page: Page, ours: Connecting, database: Database, session_id: str) -> None:
    """Lead the browser to the choice between two accounts of one consent."""
    (cookie,) = await page.context.cookies()
    browser = Signer(NEXTAUTH_SECRET.encode(), secure=False).browser(cookie["value"]) or ""
    session = await connect_sessions.of_browser(database, UUID(session_id), browser)
    state_id, _ = await connect_sessions.begin(database, session, "hubspot")
    held = PendingConsent("hubspot", TOKENS, (Account("1", "One"), Account("2", "Two")))
    await connect_sessions.hold(database, VAULT, session, state_id, held)
    await page.goto(f"{ours.origin}/connect/{session_id}/accounts/{state_id}")
