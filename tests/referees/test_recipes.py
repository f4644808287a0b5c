"""Airbyte's own CDK reads the sample's manifests as we do: the same requests, the same records.

The vendors are made up, and so are their answers, see `player`: both sides get the same answer to
the same request. A manifest's first lines say what it is there for, and which reports it plays.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.referees._cdk import PYTHON, Cdk, cdk
from tests.referees._judge import judge

pytestmark = pytest.mark.referee

MANIFESTS = sorted((Path(__file__).parent / "manifests").glob("*.yaml"))
# What we say that we do not read, by manifest.
UNREAD = {"yonder_maps": ["dynamic"]}


@pytest.fixture(scope="module")
def referee() -> Iterator[Cdk]:
    if not PYTHON.exists():
        pytest.skip("the CDK is not here: `make referees` installs it")
    with cdk() as referee:
        yield referee


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_the_cdk_asks_and_gets_the_same(manifest: Path, referee: Cdk) -> None:
    verdict = judge(manifest.read_text(), referee)

    said = [f"{one.stream} ({one.run}) {one.kind}: {one.text}" for one in verdict.differences]
    assert not said, "\n".join(said)
    assert [stream for stream, _, _ in verdict.unread] == UNREAD.get(manifest.stem, [])
    assert verdict.unplayable == {}
    assert verdict.why == ""
    assert verdict.equal > 0
    if manifest.stem not in UNREAD:
        assert verdict.equal >= verdict.streams
