"""monday.com's two flows of consent, at the sandbox."""

from collections.abc import Iterator

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import BrokenConnectionError, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, refresh
from sandbox import start
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
