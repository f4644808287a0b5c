"""Graph's subscriptions as we keep them: our web process, and who makes them, in one event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import psycopg
import pytest

import sandbox
from accounts import watching
from accounts.runtime import Runtime, opened
from accounts.watching import Looked
from connectors import load
from connectors.kernel.client import Client
from flows.watches import station
from settings import read
from storage import connections
from storage.database import Database
from tests._sandboxed import Sandboxed, environment
from tests._serving import serving
from tests._waiting import until
from web.app import create_app

SUBSCRIPTIONS = "/graph.microsoft.com/v1.0/subscriptions"
NEXTAUTH_SECRET = "canary-nextauth-secret-of-enough-characters"


@dataclass(frozen=True)
class Watching:
    """A connection, what keeps its subscription, and the sandbox's side of it."""

    vendor: Sandboxed
    shared: Runtime
    connection: connections.Connection

    @property
    def integration(self) -> str:
        return self.connection.integration

    async def look(self, *, later: timedelta = timedelta()) -> Looked:
        """What the scheduled flow does, at a later time perhaps. A deadlock would end here."""
        now = self.shared.transport.clock.now() + later
        async with asyncio.timeout(60):
            return await watching.look_after(station(self.shared, self.connection), now)

    async def subscriptions(self) -> list[dict[str, Any]]:
        answer = await self.graph("GET", "")
        found: list[dict[str, Any]] = answer.json()["value"]
        return found

    async def graph(self, method: str, path: str) -> httpx.Response:
        token = await self.shared.bearer(self.connection)
        async with httpx.AsyncClient(base_url=self.vendor.origin, timeout=60) as http:
            headers = {"authorization": f"Bearer {token}"}
            return await http.request(method, f"{SUBSCRIPTIONS}{path}", headers=headers)

    async def order(self, path: str, **body: Any) -> Any:
        """A control of the sandbox."""
        return await asyncio.to_thread(
            self.vendor.control, "POST", f"/{self.integration}{path}", body
        )

    async def tell(self, path: str, **body: Any) -> Any:
        """One about our account."""
        return await self.order(path, account=self.connection.account_id, **body)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.vendor.database_url) as sql:
            return sql.execute(query.encode()).fetchall()

    def events(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT type, data->>'effect', connection_id FROM events ORDER BY id")


@asynccontextmanager
async def watching_of(
    integration: str, database: Database, database_url: str, redis_url: str
) -> AsyncIterator[Watching]:
    with sandbox.start([integration]) as origin:
        given = environment(origin, database_url, redis_url, [integration])
        values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
        values |= {"nextauth_secret": NEXTAUTH_SECRET, "jwt_secret": NEXTAUTH_SECRET[::-1]}
        settings = read(_env_file=None, **values)
        vendor = Sandboxed(origin, settings, database, database_url)
        async with serving(create_app(settings)) as ours:
            reached = settings.model_copy(update={"nextauth_url": ours})
            async with opened(reached) as shared:
                yield Watching(vendor, shared, await vendor.connect(integration, size=5))


@pytest.fixture
async def watched(database: Database, database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    async with watching_of("onedrive", database, database_url, redis_url) as watching:
        yield watching


@pytest.fixture
async def teams(database: Database, database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    async with watching_of("ms_teams", database, database_url, redis_url) as watching:
        yield watching


async def test_our_address_is_proven_while_our_own_call_is_open(watched: Watching) -> None:
    looked = await watched.look()
    assert (looked.made, looked.refused) == (1, 0)
    (made,) = await watched.subscriptions()
    assert made["resource"] == "/me/drive/root"
    assert made["changeType"] == "updated"
    assert made["notificationUrl"] == made["lifecycleNotificationUrl"]
    (kept,) = watched.rows("SELECT vendor_id, resource, status FROM watches")
    assert kept == (made["id"], "/me/drive/root", "active")
    dirty = watched.rows("SELECT stream FROM checkpoints WHERE dirty_generation > 0")
    assert {stream for (stream,) in dirty} == {"drive_items", "permissions"}
    assert str(await watched.look()) == "all stand"


async def test_a_change_is_an_event_of_the_connection_and_a_forged_one_is_none(
    watched: Watching,
) -> None:
    await watched.look()
    await watched.order("/deliveries", forge=1)
    await watched.tell("/mutate", count=1, seed=1)
    await until(lambda: watched.vendor.control("GET", "/onedrive/deliveries")["sent"] == 1)
    assert watched.events() == []
    await watched.tell("/mutate", count=1, seed=2)
    await until(watched.events)
    assert watched.events() == [("updated", "hint", watched.connection.id)]
    await watched.tell("/mutate", count=1, seed=3)
    await until(lambda: len(watched.events()) == 2)


async def test_a_subscription_is_renewed_at_half_of_its_life(watched: Watching) -> None:
    await watched.look()
    (made,) = await watched.subscriptions()
    lifetime = load("onedrive").watch.lifetime  # type: ignore[union-attr]
    assert str(await watched.look(later=lifetime * 0.4)) == "all stand"
    await asyncio.sleep(0.05)
    assert str(await watched.look(later=lifetime * 0.6)) == "1 renewed"
    (renewed,) = await watched.subscriptions()
    assert renewed["id"] == made["id"]
    ends = [datetime.fromisoformat(one["expirationDateTime"]) for one in (made, renewed)]
    assert ends[1] > ends[0]


async def test_graph_may_ask_for_our_authorisation_again(watched: Watching) -> None:
    await watched.look()
    await watched.tell("/lifecycle", event="reauthorizationRequired")
    await until(watched.events)
    assert watched.events() == [("reauthorizationRequired", "renew", watched.connection.id)]


async def test_a_subscription_that_graph_no_longer_has_is_made_anew_and_the_gap_noted(
    watched: Watching,
) -> None:
    await watched.look()
    (made,) = await watched.subscriptions()
    assert (await watched.graph("DELETE", f"/{made['id']}")).status_code == 204
    looked = await watched.look(later=timedelta(days=16))
    assert (looked.made, looked.missed) == (1, 1)
    (other,) = await watched.subscriptions()
    assert other["id"] != made["id"]
    ((streams,),) = watched.rows("SELECT streams FROM gaps")
    assert set(streams) == {"drive_items", "permissions"}


async def test_who_may_not_be_watched_is_polled(watched: Watching) -> None:
    grant = await watched.tell("/grant", scopes=["User.Read"])

    async def token(refused: bool) -> str:
        return str(grant["access_token"])

    made = station(watched.shared, watched.connection)
    client = Client(
        load("onedrive"), transport=watched.shared.transport, account_id="", config={},
        token=token, budget=watched.shared.budget,
    )  # fmt: skip
    made = replace(made, client=client)
    looked = await watching.look_after(made, made.context.now)
    assert (looked.made, looked.refused) == (0, 1)
    ((reason,),) = watched.rows("SELECT reason FROM watches WHERE status = 'refused'")
    assert reason == "Microsoft allows no subscription here (extensionerror)"


async def test_a_subscription_is_deleted_when_it_is_not_wanted_any_more(
    watched: Watching,
) -> None:
    await watched.look()
    assert await watching.end_all(station(watched.shared, watched.connection)) == 1
    assert await watched.subscriptions() == []


async def test_each_channel_and_chat_of_teams_is_watched_and_tells_what_is_to_be_read(
    teams: Watching,
) -> None:
    there = teams.vendor.vendor(teams.connection)
    looked = await teams.look()
    assert looked.made == len(there["channels"]) + len(there["chats"])
    assert {made["changeType"] for made in await teams.subscriptions()} == {
        "created,updated,deleted"
    }
    account = teams.connection.account_id
    for stream in ("channel_messages", "message_replies", "chat_messages"):
        key = next(iter(there[stream]))
        teams.vendor.control(
            "POST", f"/ms_teams/records/{stream}",
            {"op": "change", "id": key, "record": {"text": "another"}}, account=account,
        )  # fmt: skip
    query = "SELECT data->'streams'->>0, data->>'key', data->>'effect' FROM events"
    await until(lambda: len(teams.rows(query)) == 3)
    assert set(teams.rows(query)) == {
        (stream, next(iter(there[stream])), "read")
        for stream in ("channel_messages", "message_replies", "chat_messages")
    }


async def test_a_watch_of_teams_that_microsoft_drops_is_told_of(teams: Watching) -> None:
    looked = await teams.look()
    await teams.tell("/lifecycle", event="subscriptionRemoved")
    await until(lambda: len(teams.events()) == looked.made)
    assert {event[:2] for event in teams.events()} == {("subscriptionRemoved", "lost")}
