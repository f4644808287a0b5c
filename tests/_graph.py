"""An account of Microsoft's sandbox, its tokens, and its controls, for the tests of it."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would

from connectors import Request, Response

GRAPH = "/graph.microsoft.com/v1.0"
LOGIN = "/login.microsoftonline.com"
BACK = "http://127.0.0.1:9/callback"
IDENTITY = "offline_access openid profile User.Read"


@contextmanager
def calm(origin: str, vendor: str) -> Iterator[httpx.Client]:
    """A client of the sandbox, after the orders of earlier tests are taken back."""
    with httpx.Client(base_url=origin, timeout=60) as client:
        client.delete(f"/_control/{vendor}/faults")
        client.post(f"/_control/{vendor}/limits", json={"scale": 1000})
        yield client


@dataclass
class Person:
    """One account, a client of the sandbox and a token to call Graph with."""

    client: httpx.Client
    vendor: str
    size: int = 30
    personal: bool = False
    scopes: list[str] | None = None
    id: str = field(init=False)
    tokens: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.id = uuid4().hex[:16] if self.personal else str(uuid4())
        self.client.post(
            f"/_control/{self.vendor}/accounts", json={"id": self.id, "size": self.size}
        )
        self.tokens = self.grant(self.scopes)

    def grant(self, scopes: list[str] | None = None) -> dict[str, Any]:
        order = {"account": self.id, **({"scopes": scopes} if scopes else {})}
        answer = self.client.post(f"/_control/{self.vendor}/grant", json=order)
        found: dict[str, Any] = answer.json()
        return found

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A call of Graph; a path that is a link is called as it is."""
        url = path if path.startswith("http") else f"{GRAPH}{path}"
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        headers |= options.pop("headers", {})
        return self.client.request(method, url, headers=headers, **options)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.call("GET", path, params=params or None)

    def all(self, path: str, **params: Any) -> tuple[list[dict[str, Any]], list[int], str]:
        """The rows of every page, the sizes of the pages, and the delta link at their end."""
        rows: list[dict[str, Any]] = []
        sizes: list[int] = []
        body = self.get(path, **params).json()
        while True:
            rows += body["value"]
            sizes.append(len(body["value"]))
            if "@odata.nextLink" not in body:
                return rows, sizes, body.get("@odata.deltaLink", "")
            body = self.get(body["@odata.nextLink"]).json()

    def order(self, stream: str, op: str, id_: str | None = None, **record: Any) -> httpx.Response:
        path = f"/_control/{self.vendor}/records/{stream}"
        body = {"op": op, "id": id_, "record": record}
        return self.client.post(path, params={"account": self.id}, json=body)

    def control(self, name: str, **body: Any) -> dict[str, Any]:
        path = f"/_control/{self.vendor}/{name}"
        answer = self.client.post(path, json={"account": self.id, **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def store(self, stream: str) -> dict[str, Any]:
        path = f"/_control/{self.vendor}/store"
        answer = self.client.get(path, params={"account": self.id}).json()
        found: dict[str, Any] = answer["streams"][stream]
        return found

    def consent(
        self, scope: str = f"{IDENTITY} Files.Read", *, tenant: str = "common", **more: str
    ) -> httpx.Response:
        """What the person is shown, or where they are sent, when they allow it."""
        asked = {
            "client_id": self.app["client_id"],
            "redirect_uri": BACK,
            "response_type": "code",
            "response_mode": "query",
            "scope": scope,
            **more,
        }
        url = f"{LOGIN}/{tenant}/oauth2/v2.0/authorize"
        return self.client.post(url, params=asked, data={"account": self.id, "decision": "allow"})

    def token(self, *, tenant: str = "common", **fields: str) -> httpx.Response:
        url = f"{LOGIN}/{tenant}/oauth2/v2.0/token"
        return self.client.post(url, data={**self.app, "redirect_uri": BACK, **fields})

    def exchange(self, scope: str = f"{IDENTITY} Files.Read", **more: str) -> dict[str, Any]:
        code = query(self.consent(scope, **more))["code"]
        answer = self.token(grant_type="authorization_code", code=code)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refresh(self, token: str, **more: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", refresh_token=token, **more)

    def answer(self, request: Request) -> Response:
        """The sandbox's answer to what a reader asks, as our client would hand it on."""
        answer = self.call(
            request.method,
            request.path,
            params=dict(request.params) or None,
            json=request.json,
            headers=dict(request.headers),
        )
        asked = request.path if request.path.startswith("http") else f"{GRAPH}{request.path}"
        return Response(
            status=answer.status_code,
            headers=dict(answer.headers),
            json=answer.json() if answer.content else None,
            url=f"https:/{asked.removeprefix(str(self.client.base_url).rstrip('/'))}",
            sent_at=datetime.now(UTC),
        )

    @property
    def app(self) -> dict[str, str]:
        about = self.client.get("/_control").json()[self.vendor]
        return {"client_id": about["client_id"], "client_secret": about["client_secret"]}


def query(answer: httpx.Response) -> dict[str, str]:
    """The parameters of the redirect back."""
    assert answer.status_code == 302, answer.text
    found = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in found.items()}


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a Graph error, whose form is checked."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "innerError"}
    assert set(error["innerError"]) == {"date", "request-id", "client-request-id"}
    return answer.status_code, error["code"]
