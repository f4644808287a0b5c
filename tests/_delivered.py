"""A sandbox whose vendor delivers to a receiver, and what a test orders of it and asks it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would

import sandbox
from sandbox.kernel.app import build
from sandbox.kernel.serve import run
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Vendor
from sandbox.kernel.world import World
from tests._receiver import PATIENCE, Receiver, receiving


@dataclass
class Place:
    """One vendor of a running sandbox, and what it delivers to."""

    client: httpx.Client
    receiver: Receiver
    name: str

    def control(self, method: str, action: str, **body: Any) -> Any:
        answer = self.client.request(method, f"/_control/{self.name}/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def order(self, **orders: Any) -> Any:
        return self.control("POST", "deliveries", **orders)

    def point(self, **more: Any) -> Any:
        return self.control("POST", "webhook", url=self.receiver.url, **more)

    def connect(self, *, size: int = 3) -> str:
        """A new account that lets the app see it."""
        account = str(self.control("POST", "accounts", size=size)["id"])
        self.token(account)
        return account

    def token(self, account: str) -> str:
        return str(self.control("POST", "grant", account=account)["access_token"])

    def call(self, account: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """A call of the vendor's own API, by the account's client."""
        headers = {"authorization": f"Bearer {self.token(account)}", "accept": "application/json"}
        return self.client.request(method, path, json=body, headers=headers)

    def change(self, account: str, stream: str, op: str, **more: Any) -> str:
        path = f"records/{stream}?account={account}"
        return str(self.control("POST", path, op=op, **more)["id"])

    def store(self, account: str) -> dict[str, Json]:
        answer = self.client.get(f"/_control/{self.name}/store", params={"account": account})
        streams: dict[str, Json] = answer.json()["streams"]
        return streams

    def advance(self, seconds: float) -> None:
        assert self.client.post("/_control/clock", json={"advance": seconds}).status_code == 200

    def standing(self, **expected: Any) -> Any:
        """How the deliveries stand, once they do so."""
        until = time.monotonic() + PATIENCE
        while True:
            found = self.control("GET", "deliveries")
            if all(found[name] == value for name, value in expected.items()):
                return found
            if time.monotonic() > until:
                raise AssertionError(f"wanted {expected}, stands at {found}")
            time.sleep(0.02)


@contextmanager
def placed(vendor: Vendor) -> Iterator[Place]:
    """A sandbox of a made-up vendor."""
    with run(build(World([vendor], seed=3))) as origin, _at(origin, vendor.name) as place:
        yield place


@contextmanager
def sandboxed(slug: str) -> Iterator[Place]:
    """A sandbox of a real one."""
    with sandbox.start([slug]) as origin, _at(origin, slug) as place:
        yield place


@contextmanager
def _at(origin: str, name: str) -> Iterator[Place]:
    with receiving() as receiver, httpx.Client(base_url=origin, timeout=PATIENCE) as client:
        yield Place(client, receiver, name)
