"""The link that the demo prints: a newcomer connects an account by hand, and its data comes."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.async_api import Page, expect
from prefect.client.orchestration import PrefectClient

from tests.browser.test_connecting import press

SECONDS = 180.0


class Demo:
    """A demo that runs, and what it has printed so far."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "said"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "demo", "--integrations", "hubspot"],
                env=os.environ | {"ATOM_HOME": str(folder)}, stdout=log, stderr=log,
            )  # fmt: skip

    async def said(self, pattern: str) -> str:
        """The group of that pattern in what it prints, as soon as it is there."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self._log.read_text())):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            await asyncio.sleep(0.2)
        return found[1]


@pytest.fixture
def demo() -> Iterator[Demo]:
    with TemporaryDirectory(prefix="atom-demo-") as folder:
        Path(folder).chmod(0o711)
        running = Demo(Path(folder))
        yield running
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(SECONDS) == 0


async def ended(api: str, name: str) -> str:
    """How the run of that name ended."""
    deadline = time.monotonic() + SECONDS
    async with PrefectClient(api) as client:
        while time.monotonic() < deadline:
            for run in await client.read_flow_runs():
                if run.name == name and run.state is not None and run.state.is_final():
                    return f"{run.state.name}: {run.state.message}"
            await asyncio.sleep(0.5)
    raise AssertionError(f"no run {name} has ended")


@pytest.mark.referee
@pytest.mark.timeout(600)
async def test_a_newcomer_connects_an_account_by_the_demos_link(page: Page, demo: Demo) -> None:
    api = await demo.said(r"Prefect UI: (\S+)")
    link = await demo.said(r"as a fifth tenant: (\S+)")
    await page.goto(link)
    await press(page, "Connect HubSpot")
    await expect(page.get_by_role("heading", name="Allow access?")).to_be_visible()
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("alert")).to_contain_text("You did not allow access")
    await press(page, "Connect HubSpot")
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_role("status")).to_contain_text("HubSpot is connected")
    told = await ended(f"{api}/api", "hubspot · newcomer · connect")
    assert re.match(r"Completed: newcomer/hubspot: [1-9][\d,]* records changed", told), told
