"""Pictures of the Prefect UI for these pages, taken of a running `make demo`.

    python docs/pictures.py http://127.0.0.1:4200

Needs Playwright (the extra `dev`) and Chromium on the PATH. Ends with an error where a page does
not show what its picture is there to show.
"""

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Page, async_playwright, expect
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

TENANT, INTEGRATION = "acme", "hubspot"
FOLDER = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 60_000
SIZE = {"width": 1360, "height": 860}


async def take(address: str) -> None:
    """All of them, into this folder."""
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        sys.exit(f"no browser is installed: none of {', '.join(BROWSERS)} is on the PATH")
    run, artifact = await _newest(address)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--no-proxy-server"]
        )
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
        await browser.close()


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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/pictures.py ADDRESS-OF-THE-PREFECT-UI")
    asyncio.run(take(sys.argv[1].rstrip("/")))
