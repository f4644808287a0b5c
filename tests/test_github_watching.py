"""GitHub's hooks as we keep them: our web process, the sandbox, and what is applied of events."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import sandbox
from accounts import watching
from accounts.runtime import opened
from flows.watches import station
from settings import read
from storage.database import Database
from tests._sandboxed import Sandboxed, environment
from tests._serving import serving
from tests._waiting import until
from tests._watched import Watched
from web.app import create_app

SECRET = "canary-nextauth-secret-of-enough-characters"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Watching(Watched):
    """A connection, what keeps its hooks, and the sandbox's side of it."""

    async def order(self, path: str, **body: Any) -> Any:
        return await asyncio.to_thread(
            self.vendor.control, "POST", f"/github{path}", body, account=self.connection.account_id
        )

    async def comment(self) -> str:
        return str((await self.order("/records/issue_comments", op="add"))["id"])

    async def settled(self) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = await asyncio.to_thread(
                self.vendor.control, "GET", "/github/deliveries"
            )
            if found["idle"]:
                return found
            await asyncio.sleep(0.05)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.vendor.database_url) as sql:
            return sql.execute(query.encode()).fetchall()

    def events(self) -> list[tuple[str, str]]:
        return [
            (str(type), str(key))
            for type, key in self.rows("SELECT type, data->>'key' FROM events ORDER BY id")
        ]


@pytest.fixture
async def watched(database: Database, database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    with sandbox.start(["github"]) as origin:
        given = environment(origin, database_url, redis_url, ["github"])
        values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
        values |= {"nextauth_secret": SECRET, "jwt_secret": SECRET[::-1]}
        values |= {"github_webhook_secret": "the app's own"}
        settings = read(_env_file=None, **values)
        vendor = Sandboxed(origin, settings, database, database_url)
        async with serving(create_app(settings)) as ours:
            reached = settings.model_copy(update={"nextauth_url": ours})
            async with opened(reached) as shared:
                yield Watching(vendor, shared, await vendor.connect("github", size=10))


async def test_hooks_stand_on_the_organisation_and_on_each_other_repository(
    watched: Watching,
) -> None:
    looked = await watched.look()
    repos = watched.vendor.vendor(watched.connection)["repositories"]
    own = {id for id, row in repos.items() if row["owner"]["type"] == "User"}
    found = {name for (name,) in watched.rows("SELECT resource FROM watches")}
    assert {name for name in found if name.startswith("repo")} == {f"repositories/{i}" for i in own}
    assert len(found) == looked.made == len(own) + 1
    standing = await watched.settled()
    assert standing["acknowledged"] == standing["sent"] == looked.made  # pings
    assert watched.events() == []
    assert await watching.end_all(station(watched.shared, watched.connection)) == looked.made
    await watched.comment()
    assert (await watched.settled())["sent"] == looked.made


async def test_an_event_comes_once_and_a_forged_one_is_none(watched: Watching) -> None:
    await watched.look()
    await watched.settled()
    await watched.order("/deliveries", forge=1)
    await watched.comment()
    await watched.settled()
    assert watched.events() == []
    await watched.order("/deliveries", duplicate=1)
    key = await watched.comment()
    await until(watched.events)
    await watched.settled()
    assert [event for event in watched.events() if event[1] == key] == [
        ("issue_comment.created", key)
    ]


async def test_what_could_not_be_delivered_is_asked_for_again(watched: Watching) -> None:
    await watched.look()
    await watched.settled()
    await watched.order("/deliveries", paused=True)
    key = await watched.comment()
    watched.rows("SELECT 1")
    with psycopg.connect(watched.vendor.database_url, autocommit=True) as sql:
        sql.execute("ALTER TABLE events RENAME TO events_away")
        await watched.order("/deliveries", paused=False)
        await watched.settled()
        sql.execute("ALTER TABLE events_away RENAME TO events")
    assert watched.events() == []
    looked = await watched.look(later=2 * DAY)
    assert looked.renewed
    await until(watched.events)
    assert ("issue_comment.created", key) in watched.events()
