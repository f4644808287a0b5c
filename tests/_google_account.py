"""An account of one of Google's sandboxed vendors, its tokens, and its controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would

from sandbox import start

SCOPE = "https://www.googleapis.com/auth/"
_numbers = count(1)


@contextmanager
def alone(vendor: str) -> Iterator[httpx.Client]:
    """A client of a sandbox of that vendor, whose limits are no matter."""
    with start([vendor]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post(f"/_control/{vendor}/limits", json={"scale": 1000})
        yield client


class GoogleAccount:
    """One account, a client of the sandbox, and a token."""

    def __init__(
        self, client: httpx.Client, vendor: str, *, size: int, scopes: list[str] | None = None
    ) -> None:
        self.client, self.vendor = client, vendor
        self.id = f"person{next(_numbers)}@firm.example"
        client.post(f"/_control/{vendor}/accounts", json={"id": self.id, "size": size})
        order = {"account": self.id, **({"scopes": scopes} if scopes else {})}
        tokens = client.post(f"/_control/{vendor}/grant", json=order).json()
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        base = client.get("/_control").json()[vendor]["base_url"]
        self.base = str(base).removeprefix(str(client.base_url).rstrip("/"))

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        url = f"{self.base}{path}"
        return self.client.request(method, url, params=params, json=body, headers=self.headers)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.call("GET", path, **params)

    def post(self, path: str, body: Any = None, **params: Any) -> httpx.Response:
        return self.call("POST", path, body, **params)

    def all(self, path: str, key: str, **params: Any) -> tuple[list[dict[str, Any]], str]:
        """Every page of a listing, and what the last one gives to go on from."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.get(path, **params)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found += body[key]
            if "nextPageToken" not in body:
                return found, body.get("nextSyncToken", "")
            params["pageToken"] = body["nextPageToken"]

    def order(self, stream: str, op: str, id_: str | None = None, **record: Any) -> str:
        """An ordered change; gives the id."""
        path = f"/_control/{self.vendor}/records/{stream}"
        body = {"op": op, "id": id_, "record": record}
        answer = self.client.post(path, params={"account": self.id}, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def store(self, stream: str) -> dict[str, dict[str, Any]]:
        path = f"/_control/{self.vendor}/store"
        answer = self.client.get(path, params={"account": self.id}).json()
        found: dict[str, dict[str, Any]] = answer["streams"][stream]
        return found

    def control(self, name: str, **body: Any) -> dict[str, Any]:
        path = f"/_control/{self.vendor}/{name}"
        answer = self.client.post(path, json={"account": self.id, **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def escaped(id_: str) -> str:
    return quote(id_, safe="")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the reason of an error in the form of the older APIs."""
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "errors"}
    assert error["code"] == answer.status_code
    (detail,) = error["errors"]
    assert detail["message"] == error["message"]
    assert detail["domain"]
    return error["code"], detail["reason"]
