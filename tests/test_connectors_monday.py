"""monday.com's two flows of consent, at the sandbox; and a log that is read in two goes."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import BrokenConnectionError, Request, Response, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, refresh
from connectors.monday.reading import ENTRIES, OVERLAP, log
from sandbox import start
from tests._driving import NOW, drive, response
from tests.test_sandbox_monday import Desk, connect

MONDAY = load("monday")


@pytest.fixture
def desk() -> Iterator[Desk]:
    with start(["monday"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield Desk(client)


async def test_a_token_of_the_new_flow_is_refreshed_at_its_own_address(desk: Desk) -> None:
    """The answer says nothing of its life: that stands in the token. Refresh tokens rotate."""
    desk.control("promote", account=desk.id)
    first = connect(desk)
    app = OAuthApp(desk.described["client_id"], desk.described["client_secret"], "http://a.test")
    transport = Transport(sandbox_url=str(desk.client.base_url).rstrip("/"))
    known = {"account_id": desk.id, "transport": transport, "budget": Budget(None)}
    try:
        second = await refresh(MONDAY, app, refresh_token=first["refresh_token"], **known)  # type: ignore[arg-type]
        assert second.expires_at is not None
        assert second.refresh_token != first["refresh_token"]
        with pytest.raises(BrokenConnectionError):
            await refresh(MONDAY, app, refresh_token=first["refresh_token"], **known)  # type: ignore[arg-type]
    finally:
        await transport.close()


@pytest.mark.parametrize("looked", [None, NOW - timedelta(hours=2)])
def test_a_log_that_was_left_in_its_middle_goes_on_there(looked: Any) -> None:
    asked: list[Any] = []

    def answer(request: Request) -> Response:
        given = request.json["variables"]
        asked.append((given["page"], given["from"]))
        count = ENTRIES if given["page"] == 1 else 3
        entries = [{"id": f"{given['page']}-{n}"} for n in range(count)]
        return response({"data": {"boards": [{"activity_logs": entries}]}})

    stood = {"looked": looked.isoformat()} if looked else {}
    whole = drive(log("1", ("mark",)), answer, stood)
    since = asked[0][1]
    assert (since is None) == (looked is None)
    rest = drive(log("1", ("later",)), answer, whole[0].checkpoint, now=NOW + OVERLAP)
    assert asked[2:] == [(2, since)]
    assert [page.records for page in rest] == [whole[1].records]
    assert dict(rest[-1].checkpoint) == {**whole[-1].checkpoint, "marks": ["mark"]}
