"""`sync` on the command line, while the Prefect server does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cli.following import sync_now
from deployments import prefect_api
from deployments.errors import PrefectUnavailableError
from settings import Settings
from storage.database import Database
from tests._stored import stock
from tests._web import web_settings


@asynccontextmanager
async def hung_server() -> AsyncIterator[str]:
    """A server that takes calls and never answers one, as a process that was stopped."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"


async def refusal(settings: Settings, said: list[str]) -> str:
    with pytest.raises(PrefectUnavailableError) as refused:
        await sync_now(
            settings, "acme", "hubspot", account=None, streams=None, full=False, say=said.append
        )
    return str(refused.value)


async def test_a_server_that_is_not_there_is_named_at_once(
    database: Database, database_url: str
) -> None:
    await stock(database, "acme")
    settings = web_settings(database_url, prefect_api_url="http://127.0.0.1:9/api")
    said: list[str] = []
    assert "start `atom-sync up`, or compare the address" in await refusal(settings, said)
    assert said == []


async def test_a_server_that_keeps_silent_is_said_to_within_seconds_and_given_up_in_the_end(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prefect_api.SILENT_SECONDS <= 5
    monkeypatch.setattr(prefect_api, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(prefect_api, "PATIENCE_SECONDS", 1.0)
    await stock(database, "acme")
    said: list[str] = []
    async with hung_server() as url:
        trouble = await refusal(web_settings(database_url, prefect_api_url=url), said)
    assert said == ["the Prefect server does not answer; waiting up to 1 s for it …"]
    assert trouble.startswith("the Prefect server has not answered for 1 s")
