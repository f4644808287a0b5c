"""The scheduled flow that keeps us subscribed, and closes the gaps in what we were told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from accounts.disconnecting import disconnect
from accounts.runtime import opened
from flows.sync import sync
from flows.watches import renew_watches
from settings import read
from storage import gaps
from tests._sandboxed import Sandboxed


@pytest.fixture
def public(world: Sandboxed, monkeypatch: pytest.MonkeyPatch) -> Sandboxed:
    """The operator has an address, and a topic at Google."""
    described = world.control("GET", "")["gmail"]
    monkeypatch.setenv("NEXTAUTH_URL", "https://app.example.com")
    monkeypatch.setenv("NEXTAUTH_SECRET", "canary-nextauth-secret-of-enough-characters")
    for name, value in described["variables"].items():
        monkeypatch.setenv(name, value)
    return world


async def renewed() -> State[Any]:
    state: State[Any] = await renew_watches(return_state=True)
    return state


def watch_of(world: Sandboxed, account: str) -> Any:
    return world.control("POST", "/gmail/watches", {})[account]


async def test_a_new_connection_is_watched_and_its_watch_ends_with_it(public: Sandboxed) -> None:
    connection = await public.connect("gmail")
    assert watch_of(public, connection.account_id) is None
    state = await renewed()
    assert state.message == "1 connections, 1 made"
    assert watch_of(public, connection.account_id) is not None
    assert (await renewed()).message == "all watches stand"
    async with opened(read()) as runtime:
        await disconnect(
            runtime.disconnector(), tenant_id=connection.tenant_id, connection_id=connection.id
        )
    assert watch_of(public, connection.account_id) is None
    assert public.one("SELECT count(*) FROM watches") == 0


async def test_without_what_it_needs_there_is_no_watch(
    public: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAIL_PUBSUB_TOPIC", "")
    connection = await public.connect("gmail")
    assert (await renewed()).message == "all watches stand"
    assert watch_of(public, connection.account_id) is None


async def test_a_gap_is_closed_by_a_read_of_just_that_time(public: Sandboxed) -> None:
    connection = await public.connect("hubspot")
    await sync(connection.id, return_state=True)
    checkpoints = "SELECT string_agg(state::text, ' ' ORDER BY stream) FROM checkpoints"
    before = public.one(checkpoints)
    since = datetime.now(UTC)
    public.change(connection, 20)
    async with public.database.transaction(connection.tenant_id) as session:
        await gaps.note(
            session, tenant_id=connection.tenant_id, connection_id=connection.id,
            streams=["contacts"], since=since, until=datetime.now(UTC), reason="away",
        )  # fmt: skip
    public.control("DELETE", "/hubspot/requests")
    assert (await renewed()).message == "1 gaps closed"
    asked = public.control("GET", "/hubspot/requests")["by_path"]
    assert all("contacts" in path for path in asked), asked
    assert public.stored(connection)["contacts"] == public.vendor(connection)["contacts"]
    assert public.one(checkpoints) == before, "the stream's own progress is another matter"
    assert public.one("SELECT count(*) FROM gaps WHERE closed_at IS NULL") == 0


async def test_a_gap_stays_open_while_the_vendor_cannot_be_asked(public: Sandboxed) -> None:
    connection = await public.connect("hubspot")
    now = datetime.now(UTC)
    async with public.database.transaction(connection.tenant_id) as session:
        await gaps.note(
            session, tenant_id=connection.tenant_id, connection_id=connection.id,
            streams=["contacts"], since=now - timedelta(hours=1), until=now, reason="away",
        )  # fmt: skip
    public.fault("hubspot", "429", retry_after=3_600, count=50)
    assert (await renewed()).message == "all watches stand"
    assert public.one("SELECT count(*) FROM gaps WHERE closed_at IS NULL") == 1
