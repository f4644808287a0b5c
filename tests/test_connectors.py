"""The promises that every connector keeps, each stream read from its sandbox and stored."""

from collections.abc import AsyncIterator

import pytest

import sandbox
from connectors import Connector, Stream, all_connectors
from settings import read
from storage.database import Database
from tests._conformance import Bench, Controls, SandboxClock
from tests._sandboxed import environment

CONNECTORS = [
    pytest.param(connector, id=connector.name)
    for connector in all_connectors()
    if connector.streams
]
STREAMS = [
    pytest.param(connector, stream, id=f"{connector.name}.{stream.name}")
    for connector in all_connectors()
    for stream in connector.streams
]


@pytest.fixture(scope="module")
async def bench(shared_database_url: str) -> AsyncIterator[Bench]:
    names = [connector.name for connector in all_connectors() if connector.streams]
    database = Database.connect(shared_database_url)
    with sandbox.start() as origin, Controls(origin) as controls:
        values = environment(origin, shared_database_url, "", names)
        settings = read(_env_file=None, **{name.lower(): v for name, v in values.items() if v})
        yield Bench(controls, SandboxClock(controls), database, shared_database_url, settings)
    await database.close()


@pytest.mark.parametrize("connector", CONNECTORS)
def test_a_connector_is_named_after_its_file_and_its_sandbox_has_its_streams(
    connector: Connector, bench: Bench
) -> None:
    described = bench.controls("")[connector.name]
    assert {stream.name for stream in connector.streams} == set(described["streams"])


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
async def test_a_stream_is_read_to_its_end_and_follows_every_change(
    connector: Connector, stream: Stream, bench: Bench
) -> None:
    tried = await bench.connect(connector)
    before = tried.vendor(stream)
    await tried.sync(stream)
    assert not tried.outdone(stream, before)
    for seed in (1, 2):
        tried.change(200, seed=seed)
        await tried.sync(stream)
        assert not tried.outdone(stream, before)
    assert tried.stored(stream)


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
async def test_a_read_that_is_stopped_after_any_page_goes_on_from_there(
    connector: Connector, stream: Stream, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    tried = await bench.connect(connector)
    before = tried.vendor(stream)
    for seed in (1, 2):
        for _ in range(50):
            if (await tried.sync(stream, stop=True))[stream.name].done:
                break
        assert not tried.outdone(stream, before)
        tried.change(200, seed=seed)
