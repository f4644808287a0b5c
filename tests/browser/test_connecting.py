"""A person connects accounts in a real browser."""

import os
from pathlib import Path
from uuid import UUID

from playwright.async_api import Browser, FloatRect, Page, expect

from tests._connecting import Connecting


async def consent(page: Page, account: str, decision: str = "Allow") -> None:
    """What a person does on the vendor's own page."""
    await page.locator(f'input[name="account"][value="{account}"]').check()
    await page.get_by_role("button", name=decision).click()


async def press(page: Page, words: str) -> None:
    await page.get_by_role("button", name=words, exact=True).click()


async def picture(page: Page, name: str) -> None:
    """For the README, from what was just tested; kept with `SCREENSHOTS=docs`."""
    folder = os.environ.get("SCREENSHOTS")
    # From the repository's root: tests run in a folder where nothing lies.
    path = Path(__file__).parents[2] / folder / f"connect-{name}.png" if folder else None
    size = await page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    clip: FloatRect = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 800)}
    shot = await page.screenshot(path=path, full_page=True, animations="disabled", clip=clip)
    assert shot


async def test_connect_consent_connected(page: Page, ours: Connecting, acme: UUID) -> None:
    account = ours.account("hubspot")
    await page.goto(ours.url(acme))
    await expect(page.get_by_role("heading", name="Connect your apps")).to_be_visible()
    await press(page, "Connect HubSpot")
    await expect(page.get_by_role("heading", name="Allow access?")).to_be_visible()
    await consent(page, account)
    await expect(page.get_by_role("status")).to_contain_text("HubSpot is connected")
    await expect(page.locator("#hubspot .state").first).to_have_text("Connected")
    await picture(page, "connected")
    (row,) = ours.rows("SELECT account_id, status FROM connections")
    assert row == {"account_id": account, "status": "active"}


async def test_denial_is_told_and_connects_nothing(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    account = ours.account("quickbooks")
    await page.goto(ours.url(acme, integration="quickbooks"))
    await press(page, "Connect QuickBooks Online")
    await consent(page, account, "Deny")
    await expect(page.get_by_role("alert")).to_contain_text("You did not allow access")
    await picture(page, "denied")
    assert ours.rows("SELECT 1 FROM connections") == []


async def test_a_scope_that_a_person_leaves_out_is_named(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    account = ours.account("gmail")
    await page.goto(ours.url(acme, integration="gmail"))
    await press(page, "Connect Gmail")
    await page.locator('input[name$="/gmail.readonly"]').uncheck()
    await consent(page, account)
    await expect(page.get_by_role("alert")).to_contain_text("gmail.readonly")
    assert ours.rows("SELECT 1 FROM connections") == []


async def test_reconnecting_mends_what_needs_attention(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    account = ours.account("gmail")
    await page.goto(ours.url(acme, integration="gmail"))
    await press(page, "Connect Gmail")
    await consent(page, account)
    await expect(page.get_by_role("status")).to_contain_text("Gmail is connected")
    ours.rows(
        "UPDATE connections SET status = 'needs_reauth',"
        " status_reason = 'Gmail no longer accepts this authorisation (invalid_grant)'"
    )
    await page.reload()
    await expect(page.locator("#gmail .state").first).to_have_text("Needs attention")
    await picture(page, "attention")
    await press(page, "Reconnect Gmail")
    await consent(page, account)
    await expect(page.locator("#gmail .state").first).to_have_text("Connected")
    assert ours.rows("SELECT status FROM connections") == [{"status": "active"}]


async def test_an_api_key_is_entered_and_shown_masked(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    key = ours.described("openai")["access_token"]
    await page.goto(ours.url(acme, integration="openai"))
    field = page.get_by_label("API key")
    await field.fill("sk-mistyped-0123456789")
    await press(page, "Connect OpenAI")
    await expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    await field.fill(key)
    await press(page, "Connect OpenAI")
    await expect(page.get_by_role("status")).to_contain_text("stored, encrypted")
    await expect(page.locator("#openai code")).to_have_text(f"…{key[-4:]}")
    assert key not in await page.content()
    await picture(page, "key")


async def test_disconnecting_asks_first_and_tells_the_vendor(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    account = ours.account("hubspot")
    await page.goto(ours.url(acme, integration="hubspot"))
    await press(page, "Connect HubSpot")
    await consent(page, account)
    await page.locator("#hubspot summary").click()
    await picture(page, "disconnect")
    await page.get_by_label("Also delete the data").check()
    await page.locator("#hubspot .danger").click()
    await expect(page.get_by_role("status")).to_contain_text("HubSpot is disconnected")
    await expect(page.locator("#hubspot .state").first).to_have_text("Not connected")
    assert ours.rows("SELECT 1 FROM connections") == []
    assert ours.rows("SELECT event FROM oauth_log ORDER BY id DESC LIMIT 1") == [
        {"event": "revoke"}
    ]


async def focused(page: Page) -> str:
    """The words of what has the focus, or its name where it has none."""
    return str(
        await page.evaluate(
            "(document.activeElement.textContent.trim() || document.activeElement.name)"
        )
    )


async def test_the_page_is_read_on_a_phone_and_by_keyboard(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    await page.set_viewport_size({"width": 320, "height": 740})
    await page.goto(ours.url(acme))
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 320
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to the content"
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    order = []
    for _ in range(4):
        await page.keyboard.press("Tab")
        order.append((await focused(page))[:20])
    assert order == ["Back to app.example.", "q", "All categories\nAccou", "Connect Airtable"]
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Allow access?")).to_be_visible()


async def test_the_list_is_filtered_as_a_person_types(
    page: Page, ours: Connecting, acme: UUID
) -> None:
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if said.type == "error" else None)
    await page.goto(ours.url(acme))
    tiles = page.locator(".tiles > li:visible h3")
    everything = await tiles.count()
    await page.get_by_label("Search apps").press_sequentially("Goo")
    await expect(tiles).to_have_text(["Google Calendar", "Google Drive"])
    # Said to who does not see it.
    await expect(page.locator("#found[aria-live=polite]")).to_have_text("2 apps")
    await page.get_by_label("Category").select_option("Files")
    await expect(tiles).to_have_text(["Google Drive"])
    await expect(page.locator("#found")).to_have_text("1 app")
    await page.reload()
    await expect(tiles).to_have_text(["Google Drive"])
    await page.get_by_label("Search apps").fill("nothing like it")
    await expect(page.locator("#found")).to_have_text("No app was found.")
    await expect(page.locator("section:visible")).to_have_count(0)
    await page.get_by_label("Category").select_option("")
    await page.get_by_label("Search apps").fill("")
    await expect(tiles).to_have_count(everything)
    # The policy let the script run, and there was nothing else to be stopped.
    assert refused == []


async def test_the_list_is_searched_where_scripts_are_off(
    chromium: Browser, ours: Connecting, acme: UUID
) -> None:
    context = await chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = await context.new_page()
    await page.goto(ours.url(acme))
    await page.get_by_label("Search apps").fill("slack")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator(".tiles > li:visible h3")).to_have_text(["Slack"])
    await press(page, "Connect Slack")
    await expect(page.get_by_role("heading", name="Allow access?")).to_be_visible()
    await context.close()
