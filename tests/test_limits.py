"""Tests that hang are ended by pytest, wherever they hang, and show where."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HANGING = """
import asyncio, subprocess, sys, threading
import pytest

async def waits_in_a_test():
    await asyncio.Event().wait()

async def test_hangs():
    await waits_in_a_test()

async def waits_beside_a_busy_task():
    await asyncio.Event().wait()

async def test_hangs_beside():
    async def work():
        while True:
            await asyncio.sleep(0)
    working = asyncio.create_task(work())
    await waits_beside_a_busy_task()

async def waits_in_a_fixture():
    await asyncio.Event().wait()

@pytest.fixture
async def stuck():
    await waits_in_a_fixture()

async def test_hangs_before(stuck):
    pass

def waits_at_a_fixtures_end():
    threading.Event().wait()

@pytest.fixture
def stuck_at_its_end():
    yield
    waits_at_a_fixtures_end()

def test_hangs_after(stuck_at_its_end):
    pass

def waits_for_a_child():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])

def test_hangs_on_a_child():
    waits_for_a_child()
"""
PLACES = re.findall(r"def (waits_\w+)", HANGING)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of tests that hang, run by a worker with our options and a short limit."""
    folder = tmp_path_factory.mktemp("hanging")
    (folder / "conftest.py").write_text("from tests._limits import pytest_timeout_set_timer\n")
    (folder / "test_it.py").write_text(HANGING)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(folder), "-p", "no:cacheprovider", "-n", "1", "-o", "timeout=4"),
            str(folder),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_a_test_that_hangs_shows_where(said: str, place: str) -> None:
    assert f", in {place}\n" in said


def test_each_that_hangs_fails_in_its_time(said: str) -> None:
    assert said.count("Timeout (>4s): this test has not ended") >= len(PLACES)
    ended = re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", said, re.MULTILINE)
    assert sorted(ended) == sorted(re.findall(r"def (test_\w+)", HANGING))


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("timeout")) > 0
