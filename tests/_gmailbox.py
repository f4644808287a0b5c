"""A mailbox of the Gmail sandbox, its tokens, and its controls, for the tests of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would

ME = "/gmail.googleapis.com/gmail/v1/users/me"
SCOPE = "https://www.googleapis.com/auth/"
_numbers = count(1)


@contextmanager
def calm(origin: str) -> Iterator[httpx.Client]:
    """A client of the sandbox, after the orders of earlier tests are taken back."""
    with httpx.Client(base_url=origin, timeout=60) as client:
        client.delete("/_control/gmail/faults")
        client.post("/_control/gmail/limits", json={"scale": 1000})
        client.post("/_control/gmail/quota_status", json={"status": 429})
        yield client


class Box:
    """One account, a client of the sandbox and a token to read the mailbox with."""

    def __init__(self, client: httpx.Client, *, size: int, scopes: list[str] | None = None) -> None:
        self.client = client
        self.id = f"user{next(_numbers)}@firm.example"
        client.post("/_control/gmail/accounts", json={"id": self.id, "size": size})
        self.tokens = self.grant(scopes)
        self.headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def grant(self, scopes: list[str] | None = None) -> dict[str, Any]:
        order = {"account": self.id, **({"scopes": scopes} if scopes else {})}
        tokens: dict[str, Any] = self.client.post("/_control/gmail/grant", json=order).json()
        return tokens

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.client.get(f"{ME}{path}", params=params, headers=self.headers)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.client.post(f"{ME}{path}", json=body, headers=self.headers)

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(f"{ME}{path}", headers=self.headers)

    def now(self) -> str:
        return str(self.get("/profile").json()["historyId"])

    def order(self, stream: str, op: str, id_: str | None = None, **record: Any) -> httpx.Response:
        body = {"op": op, "id": id_, "record": record}
        path = f"/_control/gmail/records/{stream}"
        return self.client.post(path, params={"account": self.id}, json=body)

    def store(self, stream: str) -> dict[str, Any]:
        path = "/_control/gmail/store"
        answer = self.client.get(path, params={"account": self.id}).json()
        found: dict[str, Any] = answer["streams"][stream]
        return found

    def all(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """Every page of a listing."""
        found: list[dict[str, Any]] = []
        while True:
            body = self.get(path, **params).json()
            found += body.get(key, [])
            if "nextPageToken" not in body:
                return found
            params["pageToken"] = body["nextPageToken"]

    def control(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/_control/gmail/{name}", json={"account": self.id, **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def reason(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error["code"], error["errors"][0]["reason"], error["status"]
