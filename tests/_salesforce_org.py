"""An org of the sandbox that readers are driven over, and what a test orders of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would

import sandbox
from connectors import Checkpoint, Page, Request, Response, load
from tests._driving import drive
from tests._judging import as_the_client

SALESFORCE = load("salesforce")


@dataclass
class Org:
    """Answers requests as the vendor does; `alter` may change an answer, `asked` is what was."""

    client: httpx.Client
    id: str
    instance: str
    token: str
    asked: list[Request] = field(default_factory=list)
    alter: Callable[[Request, Any], Any] = lambda request, body: body
    ahead: timedelta = timedelta()
    config: dict[str, Any] = field(default_factory=dict)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.client.request(
            request.method,
            f"/{self.instance}/services/data/v67.0{request.path}",
            params={name: str(value) for name, value in request.params.items()},
            json=request.json,
            headers={"authorization": f"Bearer {self.token}", **request.headers},
        )
        is_json = "json" in answer.headers.get("content-type", "")
        return Response(
            status=answer.status_code,
            headers=dict(answer.headers),
            json=self.alter(request, answer.json()) if is_json else None,
            url=str(answer.url),
            sent_at=self.now,
            content=b"" if is_json else answer.content,
        )

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def read(self, stream: str, at: Mapping[str, Any] | None = None) -> list[Page]:
        """All pages of a stream's read from that checkpoint."""
        found = SALESFORCE.stream(stream)

        def read(at: Checkpoint, context: Any) -> Any:
            return found.read(
                at, type(context)(now=self.now, account_id=self.id, config=self.config)
            )

        return drive(read, as_the_client(SALESFORCE, self), at)

    def queries(self) -> list[str]:
        return [str(one.params["q"]) for one in self.asked if "q" in one.params]

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(
            f"/_control/salesforce/{action}", json={"account": self.id, **body}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **body: Any) -> str:
        return str(self.control(f"records/{stream}?account={self.id}", op=op, **body)["id"])

    def store(self, stream: str) -> dict[str, Any]:
        params = {"account": self.id, "stream": stream}
        answer = self.client.get("/_control/salesforce/store", params=params)
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def advance(self, by: timedelta, *, vendor_only: bool = False) -> None:
        """Time passes, for the vendor and for us; the token is renewed."""
        self.ahead += timedelta() if vendor_only else by
        self.client.post("/_control/clock", json={"advance": by.total_seconds()})
        self.token = self.control("grant")["access_token"]


@contextmanager
def opened(*, size: int = 20) -> Iterator[Org]:
    """A new org of a new sandbox."""
    with (
        sandbox.start(["salesforce"]) as origin,
        httpx.Client(base_url=origin, timeout=60) as client,
    ):
        account = client.post("/_control/salesforce/accounts", json={"size": size}).json()["id"]
        granted = client.post("/_control/salesforce/grant", json={"account": account}).json()
        instance = granted["instance_url"].removeprefix("https://")
        yield Org(client, account, instance, granted["access_token"])
