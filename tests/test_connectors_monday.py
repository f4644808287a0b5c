"""monday.com's two flows of consent, at the sandbox; and a log that is read in two goes."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import BrokenConnectionError, Request, Response, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, refresh
from connectors.monday.reading import BOARD, ENTRIES, OVERLAP, items, itself, log, of_boards
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


def test_where_a_board_stands_is_told_by_the_clock_that_is_behind() -> None:
    """Ours is an hour ahead: what the log stamps with the vendor's next hour is not passed over."""
    theirs = NOW - timedelta(hours=1)

    def answer(request: Request) -> Response:
        query = request.json["query"]
        if "items_page" in query:
            board: Any = {"items_page": {"cursor": None, "items": []}}
        elif "entity" in query:
            board = {"activity_logs": []}
        else:
            board = {"id": "1", "state": "active", "type": BOARD, "activity_logs": news}
        headers = {"date": format_datetime(theirs, usegmt=True)}
        return response({"data": {"boards": [board]}}, headers=headers)

    def stands(checkpoint: Any) -> datetime:
        (part,) = checkpoint["parts"].values()
        return datetime.fromisoformat(part["looked"])

    stream, news = of_boards(items(itself), BOARD), [{"id": "e1"}]
    first = drive(stream, answer)[-1].checkpoint
    assert stands(first) == theirs
    theirs, now = theirs + timedelta(minutes=10), NOW + timedelta(minutes=10)
    quiet = drive(stream, answer, first, now=now)[-1].checkpoint
    assert stands(quiet) == theirs
    theirs, now, news = theirs + timedelta(minutes=10), now + timedelta(minutes=10), [{"id": "e2"}]
    touched = drive(stream, answer, quiet, now=now)[-1].checkpoint
    assert stands(touched) == theirs
    logged = drive(log("1", ()), answer, now=now)[-1].checkpoint
    assert datetime.fromisoformat(logged["looked"]) == theirs
