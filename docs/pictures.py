"""The pictures of these pages: of the Prefect UI of a running `make demo`, and of connect pages.

    python -m docs.pictures prefect http://127.0.0.1:4200
    python -m docs.pictures connect

Needs Playwright (the extra `dev`) and Chromium on the PATH. Ends with an error where a page does
not show what its picture is there to show.
"""

import asyncio
import itertools
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from playwright.async_api import Browser, Page, async_playwright, expect
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from sqlalchemy import update

from connectors import Account, OAuth2, all_connectors
from connectors.kernel.token_answers import Tokens
from servers import postgresql
from settings import Settings, read, variables_of
from storage import connect_sessions, grants, tenant_settings, tenants
from storage.database import Database
from storage.migrate import migrate
from storage.models import Connection, Status
from storage.vault import Vault
from tests._sandboxed import KEY
from tests._serving import serving
from web.app import create_app

TENANT, INTEGRATION = "acme", "hubspot"
FOLDER = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 60_000
TALLEST = 1_500  # of a list that goes on as it begins
SIZE = {"width": 1360, "height": 860}


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        sys.exit(f"no browser is installed: none of {', '.join(BROWSERS)} is on the PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_path,
            args=["--no-sandbox", "--no-proxy-server"],
        )
        yield browser
        await browser.close()


async def take_prefect(address: str) -> None:
    """All of the Prefect UI, into this folder."""
    run, artifact = await _newest(address)
    async with _chromium() as browser:
        page = await browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        await page.goto(f"{address}/runs")
        await page.get_by_text("All tags").click()
        await page.keyboard.type(f"tenant:{TENANT}")
        await page.locator(".p-select-option", has_text=f"tenant:{TENANT}").click()
        await page.get_by_text("Date Range").click()  # closes the list of tags
        await expect(page.get_by_text("· initech ·")).to_have_count(0)
        await _save(page, "runs", f"{INTEGRATION} · {TENANT}")
        await page.goto(f"{address}/runs/flow-run/{run}")
        await _save(page, "run", "refresh", "fetch", "persist")
        await page.goto(f"{address}/deployments")
        await _save(page, "deployments", f"{INTEGRATION}-TEAM", "sync-tier", "Hourly")
        await page.goto(f"{address}/artifacts/artifact/{artifact}")
        await _save(page, "artifact", "contacts", "companies")


async def _newest(address: str) -> tuple[str, str]:
    """The ids of the first sync of the connection that is shown, and of its newest artifact."""
    async with PrefectClient(f"{address}/api") as client:
        tags = [f"tenant:{TENANT}", f"integration:{INTEGRATION}", "trigger:backfill"]
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tags)),
            sort=FlowRunSort.START_TIME_ASC,
        )
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_=f"{INTEGRATION}-{TENANT}")),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    if not runs or not artifacts:
        sys.exit(f"{TENANT}/{INTEGRATION} has not been synced yet: wait for the demo's table")
    return str(runs[0].id), str(artifacts[0].id)


async def _save(page: Page, name: str, *shown: str) -> None:
    for words in shown:
        await expect(page.get_by_text(words).first).to_be_visible()
    await page.wait_for_timeout(2_000)  # lines and dots of a graph are drawn little by little
    await page.screenshot(path=FOLDER / f"prefect-{name}.png", animations="disabled")


async def take_connect() -> None:
    """The list of a connect page, with many apps set up, with some and with none."""
    oauth = [each.name for each in all_connectors() if isinstance(each.auth, OAuth2)]
    some = ("google_drive", "hubspot", "slack")
    with tempfile.TemporaryDirectory(prefix="atom-pictures-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # noqa: ASYNC240 - PostgreSQL's own user passes through
        server = postgresql.start(home, options=("fsync=off",))
        try:
            url = server.url("postgres")
            await migrate(url, connectors=all_connectors())
            async with _chromium() as browser:
                await _take_list(browser, url, "22-configured", oauth, "Salesforce")
                await _take_list(browser, url, "3-configured", some, "HubSpot", only=some)
                await _take_list(browser, url, "none-configured", (), "nothing", only=some)
        finally:
            server.stop()


async def _take_list(
    browser: Browser,
    url: str,
    name: str,
    configured: Sequence[str],
    shown: str,
    only: Sequence[str] = (),
) -> None:
    """In both sizes and colour schemes; `only` those integrations are offered, or all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = _settings(url, origin, configured, only)
        async with serving(create_app(settings), listening):
            database = Database.connect(url)
            tenant = await tenants.create(database, name, "Bakehouse & Sons", "TEAM")
            if configured:
                await _stocked(database, tenant.id, many=len(configured) > len(only))
            sizes: tuple[int, ...] = (375, 1280)
            schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
            for width, scheme in itertools.product(sizes, schemes):
                _, secret = await connect_sessions.create(
                    database, tenant.id, return_url="https://app.example.com/settings"
                )
                page = await browser.new_page(
                    viewport={"width": width, "height": 760}, color_scheme=scheme, locale="en-GB"
                )
                await page.goto(f"{origin}/connect/{secret}")
                await expect(page.get_by_text(shown).first).to_be_visible()
                path = FOLDER / f"connect-{name}-{width}-{scheme}.png"
                height = min(TALLEST, await page.evaluate("document.documentElement.scrollHeight"))
                await page.screenshot(
                    path=path,
                    full_page=True,
                    animations="disabled",
                    clip={"x": 0, "y": 0, "width": width, "height": height},
                )
                await page.close()
            await database.close()


def _settings(url: str, origin: str, configured: Sequence[str], only: Sequence[str]) -> Settings:
    """With app ids that nobody has: no vendor is asked anything."""
    ids: dict[str, Any] = {
        variable.lower(): "made-up" for each in configured for variable in variables_of(each)
    }
    return read(
        _env_file=None,
        database_url=url,
        encryption_keys=KEY,
        nextauth_url=origin,
        nextauth_secret="of-these-pictures-and-nothing-else",  # noqa: S106
        connect_app_name="Bluebird",
        connect_integrations=",".join(only) or None,
        **ids,
    )


async def _stocked(database: Database, tenant_id: UUID, *, many: bool) -> None:
    """Some accounts that are connected, and where there are many apps one that is broken."""
    vault = Vault.parse(KEY)
    accounts = {"hubspot": ["Bakehouse & Sons", "Bakehouse Wholesale"]}
    if many:
        accounts |= {"slack": ["Bakehouse"], "gmail": ["orders@bakehouse.example"]}
    for integration, names in accounts.items():
        await grants.connect(
            database, vault, tenant_id=tenant_id, integration=integration,
            tokens=Tokens("made-up", "made-up", None, (), {}),
            accounts=[Account(f"{tenant_id}-{name}", name) for name in names],
        )  # fmt: skip
    async with database.transaction(tenant_id) as session:
        if many:
            await tenant_settings.put(
                session, vault, tenant_id, "OPENAI_API_KEY", "sk-made-up-0123456789-abcd",
                unproven={"doubt": "limited", "message": "OpenAI answered 429"},
            )  # fmt: skip
            broken = update(Connection).where(Connection.integration == "gmail")
            await session.execute(broken.values(status=Status.NEEDS_REAUTH, status_reason="over"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prefect", address]:
            asyncio.run(take_prefect(address.rstrip("/")))
        case ["connect"]:
            asyncio.run(take_connect())
        case _:
            sys.exit("usage: python -m docs.pictures (prefect ADDRESS-OF-THE-PREFECT-UI | connect)")
