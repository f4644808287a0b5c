"""`aiosfstream-ng`, a client of Salesforce's Streaming API, against the sandbox."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from aiosfstream_ng import Client, ReplayOption
from aiosfstream_ng.auth import AuthenticatorBase
from aiosfstream_ng.exceptions import AuthenticationError, ServerError

from sandbox import start

pytestmark = pytest.mark.referee

CHANNEL = "/data/ChangeEvents"


class Signed(AuthenticatorBase):  # type: ignore[misc]  # the library brings no types
    """Who has a token already."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self._answer = answer

    async def _authenticate(self) -> tuple[int, dict[str, Any]]:
        return 200, self._answer


class Org:
    """An org of the sandbox, and the library that listens to it."""

    def __init__(self, control: httpx.Client) -> None:
        self.control = control
        self.id = self.order("accounts", size=10)["id"]
        granted = self.order("grant", account=self.id)
        # By name: the library's cookie jar takes none from a bare address.
        origin = str(control.base_url).rstrip("/").replace("127.0.0.1", "localhost")
        where = granted["instance_url"].removeprefix("https://")
        self.signed = {**granted, "instance_url": f"{origin}/{where}"}
        self.replay: dict[str, Any] = {}

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/salesforce/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, count: int) -> list[tuple[str, str]]:
        """Made-up changes of leads, on which no other row hangs; what each was, of which row."""
        ordered = {"account": self.id, "count": count, "streams": ["leads"]}
        made = self.order("mutate", **ordered)["changes"]
        kinds = {"add": "CREATE", "change": "UPDATE", "delete": "DELETE"}
        return [(kinds[each["op"]], each["id"]) for each in made]

    def client(self, **options: Any) -> Client:
        return Client(Signed(self.signed), replay=self.replay, **options)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["salesforce"]) as origin:
        yield origin


@pytest.fixture
def org(origin: str) -> Iterator[Org]:
    with httpx.Client(base_url=origin, timeout=60) as control:
        yield Org(control)


async def heard(client: Client, count: int) -> list[tuple[str, str]]:
    found = []
    for _ in range(count):
        message = await asyncio.wait_for(client.receive(), 10)
        header = message["data"]["payload"]["ChangeEventHeader"]
        found.append((header["changeType"], header["recordIds"][0]))
    return found


async def test_it_hears_what_happens_after_it_subscribed(org: Org) -> None:
    org.change(3)
    async with org.client() as client:
        await client.subscribe(CHANNEL)
        made = org.change(10)
        assert await heard(client, len(made)) == made


async def test_it_goes_on_where_it_stood(org: Org) -> None:
    async with org.client() as client:
        await client.subscribe(CHANNEL)
        await heard(client, len(org.change(1)))
    made = org.change(4)
    async with org.client() as client:
        await client.subscribe(CHANNEL)
        assert await heard(client, 4) == made


async def test_a_replay_id_that_is_too_old_is_refused_in_the_words_that_it_looks_for(
    org: Org,
) -> None:
    async with org.client() as client:
        await client.subscribe(CHANNEL)
        await heard(client, len(org.change(1)))
    org.order("change_events", account=org.id, forget=True)
    async with org.client() as client:
        with pytest.raises(ServerError, match="Subscribe request failed"):
            await client.subscribe(CHANNEL)
    async with org.client(replay_fallback=ReplayOption.ALL_EVENTS) as client:
        await client.subscribe(CHANNEL)
        assert await heard(client, len(org.change(1)))


async def test_it_begins_anew_when_its_session_is_dropped(org: Org) -> None:
    async with org.client() as client:
        await client.subscribe(CHANNEL)
        await heard(client, len(org.change(1)))
        org.order("change_events", account=org.id, drop=True)
        assert await heard(client, len(org.change(1)))


async def test_a_token_that_is_over_is_refused_at_the_handshake(org: Org) -> None:
    org.order("tokens", account=org.id, op="expire")
    with pytest.raises((AuthenticationError, ServerError)):
        async with org.client():
            raise AssertionError("it was let in")
