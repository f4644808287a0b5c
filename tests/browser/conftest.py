"""Chromium, driven over its own protocol. Where there is none these tests are skipped."""

import shutil
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, async_playwright

from storage import tenants
from storage.database import Database
from tests._connecting import Connecting, connecting

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # Loopback is not reached through a proxy that the environment names.
    "--no-proxy-server",
)  # fmt: skip
TIMEOUT_MS = 15_000


@pytest.fixture(scope="session")
def executable() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the PATH")
    return found


@pytest.fixture(scope="session")
async def chromium(executable: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A browser of a person who was never here."""
    context = await chromium.new_context(
        viewport={"width": 900, "height": 360}, device_scale_factor=2, locale="en-GB"
    )
    context.set_default_timeout(TIMEOUT_MS)
    yield await context.new_page()
    await context.close()


@pytest.fixture
def ours(origin: str, database_url: str) -> Iterator[Connecting]:
    with connecting(origin, database_url) as application:
        yield application


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme Bakery", "TEAM")).id
