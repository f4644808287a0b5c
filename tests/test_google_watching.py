"""Google's channels as we keep them: our web process, the sandbox, and who looks after watches."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import sandbox
from accounts import watching
from accounts.runtime import Runtime, opened
from accounts.watching import Looked
from flows.watches import station
from settings import read
from storage import connections
from storage.database import Database
from tests._sandboxed import Sandboxed, environment
from tests._serving import serving
from tests._waiting import until
from web.app import create_app

SECRET = "canary-nextauth-secret-of-enough-characters"
DAY = timedelta(days=1)
CHANGED = {"google_calendar": "events", "google_drive": "files"}


@dataclass(frozen=True)
class Watching:
    """A connection, what keeps its channels, and the sandbox's side of it."""

    vendor: Sandboxed
    shared: Runtime
    connection: connections.Connection

    @property
    def name(self) -> str:
        return self.connection.integration

    async def look(self, *, later: timedelta = timedelta()) -> Looked:
        """What the scheduled flow does, at a later time perhaps."""
        now = self.shared.transport.clock.now() + later
        return await watching.look_after(station(self.shared, self.connection), now)

    async def control(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        return await asyncio.to_thread(
            self.vendor.control, method, f"/{self.name}{path}", body, **query
        )

    async def change(self) -> None:
        """One change in the account that a channel tells of."""
        record = {"calendar_id": self.connection.account_id}
        if self.name == "google_drive":
            record = {"corpus": "user"}
        path, body = f"/records/{CHANGED[self.name]}", {"op": "add", "record": record}
        await self.control("POST", path, body, account=self.connection.account_id)

    async def settled(self) -> dict[str, Any]:
        """How the deliveries stand, once there are none left to send."""
        while True:
            found: dict[str, Any] = await self.control("GET", "/deliveries")
            if found["idle"]:
                return found
            await asyncio.sleep(0.05)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.vendor.database_url) as sql:
            return sql.execute(query.encode()).fetchall()

    def events(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT type, data->>'effect', data->'streams', connection_id FROM events ORDER BY id"
        )

    def watches(self, status: str) -> dict[str, str]:
        rows = self.rows(f"SELECT resource, vendor_id FROM watches WHERE status = '{status}'")
        return dict(rows)


@pytest.fixture(params=["google_calendar", "google_drive"])
async def watched(
    request: pytest.FixtureRequest, database: Database, database_url: str, redis_url: str
) -> AsyncIterator[Watching]:
    name: str = request.param
    with sandbox.start([name]) as origin:
        given = environment(origin, database_url, redis_url, [name])
        values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
        values |= {"nextauth_secret": SECRET, "jwt_secret": SECRET[::-1]}
        settings = read(_env_file=None, **values)
        vendor = Sandboxed(origin, settings, database, database_url)
        async with serving(create_app(settings)) as ours:
            reached = settings.model_copy(update={"nextauth_url": ours})
            async with opened(reached) as shared:
                yield Watching(vendor, shared, await vendor.connect(name, size=5))


async def test_every_resource_gets_a_channel_and_its_handshake_is_no_event(
    watched: Watching,
) -> None:
    looked = await watched.look()
    held = watched.vendor.vendor(watched.connection)
    if watched.name == "google_drive":
        wanted = {"user", *held["shared_drives"]}
        refused: set[str] = set()
    else:
        entries = held["calendars"]
        refused = {f"events/{id_}" for id_ in entries if "#" in id_}
        owned = {f"acl/{i}" for i, one in entries.items() if one["accessRole"] == "owner"}
        wanted = {"calendarList", *(f"events/{id_}" for id_ in entries), *owned}
    assert set(watched.watches("active")) == wanted - refused
    assert set(watched.watches("refused")) == refused
    assert (looked.made, looked.refused) == (len(wanted - refused), len(refused))
    standing = await watched.settled()
    assert standing["acknowledged"] == standing["sent"] == looked.made
    assert watched.events() == []
    assert str(await watched.look()) == "all stand"


async def test_a_change_is_a_hint_for_its_streams_once_and_a_forged_one_is_none(
    watched: Watching,
) -> None:
    await watched.look()
    await watched.settled()
    await watched.control("POST", "/deliveries", {"forge": 1})
    await watched.change()
    await watched.settled()
    assert watched.events() == []
    await watched.control("POST", "/deliveries", {"duplicate": 1})
    await watched.change()
    await until(watched.events)
    await watched.settled()
    ((kind, effect, streams, connection_id),) = watched.events()
    assert (effect, connection_id) == ("hint", watched.connection.id)
    if watched.name == "google_drive":
        assert kind == "change"
        assert set(streams) == {"files", "changes", "permissions", "shared_drives"}
    else:
        assert (kind, streams) == ("exists", ["events"])


async def test_a_new_channel_comes_first_both_stand_and_then_the_former_is_stopped(
    watched: Watching,
) -> None:
    await watched.look()
    first = watched.watches("active")
    assert str(await watched.look(later=3 * DAY)) == "all stand"
    looked = await watched.look(later=4 * DAY)
    assert (looked.made, looked.ended, looked.missed) == (len(first), 0, 0)
    newer = watched.watches("active")
    assert newer.keys() == first.keys()
    assert not set(newer.values()) & set(first.values())
    assert watched.watches("retiring") == first
    await watched.settled()
    before = len(watched.events())
    await watched.change()  # on both channels, each with an id of its own
    await watched.settled()
    assert len(watched.events()) == before + 2
    looked = await watched.look(later=4 * DAY + timedelta(minutes=6))
    assert (looked.made, looked.ended) == (0, len(first))
    assert watched.watches("retiring") == {}
    await watched.change()
    await watched.settled()
    assert len(watched.events()) == before + 3


async def test_all_channels_are_stopped_when_they_are_not_wanted_any_more(
    watched: Watching,
) -> None:
    await watched.look()
    made = len(watched.watches("active"))
    ended = await watching.end_all(station(watched.shared, watched.connection))
    assert ended >= made
    before = (await watched.settled())["sent"]
    await watched.change()
    assert (await watched.settled())["sent"] == before
    # One that Google no longer knows is no error.
    assert await watching.end_all(station(watched.shared, watched.connection)) == 0
