"""A sandbox whose clock stands, for tests that count what happens within a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls


@contextmanager
def stopped(client: httpx.Client) -> Iterator[None]:
    """No time passes at the vendors but what is ordered, however slow this machine is."""
    client.post("/_control/clock", json={"stopped": True}).raise_for_status()
    try:
        yield
    finally:
        client.post("/_control/clock", json={"stopped": False}).raise_for_status()
