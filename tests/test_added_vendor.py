"""A vendor that is added by the words of docs/connectors.md alone passes the whole suite."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE = re.compile(r"^`((?:connectors|sandbox)/\w+\.py)`:\n\n```python\n(.*?)^```$", re.M | re.S)
# Puts the folder's files beside ours, before anything asks which integrations there are.
PLUGIN = """
from pathlib import Path
import connectors, sandbox
connectors.__path__.append(str(Path(__file__).parent / "connectors"))
sandbox.__path__.append(str(Path(__file__).parent / "sandbox"))
"""
SUITE = ("test_connectors.py", "test_connectors_faults.py", "test_connectors_rules.py")


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """A folder with the files that stand in the document, and nothing else."""
    found = FILE.findall((ROOT / "docs/connectors.md").read_text())
    assert [name for name, _ in found] == ["connectors/fjord.py", "sandbox/fjord.py"]
    for name, content in found:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    (tmp_path / "added.py").write_text(PLUGIN)
    return tmp_path


@pytest.mark.timeout(600)
def test_a_vendor_that_is_added_by_the_document_passes_the_suite(added: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "added", "-k", "fjord",
            *(str(ROOT / "tests" / name) for name in SUITE),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{added}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 25
