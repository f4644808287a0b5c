"""Google's own SDK, signed in to an account of the sandbox, and the orders to that."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from sandbox import start


@contextmanager
def alone(vendor: str) -> Iterator[httpx.Client]:
    """A sandbox of that vendor, whose limits are no matter."""
    with start([vendor]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post(f"/_control/{vendor}/limits", json={"scale": 1000})
        yield client


class Referee:
    """The SDK with only its endpoint set; `api` is the service that it builds."""

    def __init__(self, control: httpx.Client, vendor: str, name: str, version: str) -> None:
        self.control, self.vendor = control, vendor
        self.described = control.get("/_control").json()[vendor]
        number = len(control.get(f"/_control/{vendor}/accounts").json()["accounts"])
        made = {"id": f"referee{number}@firm.example", "size": 120}
        self.account = control.post(f"/_control/{vendor}/accounts", json=made).json()["id"]
        order = {"account": self.account}
        tokens = control.post(f"/_control/{vendor}/grant", json=order).json()
        self.credentials = Credentials(  # type: ignore[no-untyped-call, unused-ignore]
            tokens["access_token"],
            refresh_token=tokens["refresh_token"],
            token_uri=self.described["token_url"],
            client_id=self.described["client_id"],
            client_secret=self.described["client_secret"],
        )
        self.api = build(
            name,
            version,
            client_options={"api_endpoint": self.described["api_endpoint"]},
            credentials=self.credentials,
            static_discovery=True,
        )

    def store(self, stream: str) -> dict[str, Any]:
        path = f"/_control/{self.vendor}/store"
        answer = self.control.get(path, params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def order(self, control: str, **body: Any) -> Any:
        path = f"/_control/{self.vendor}/{control}"
        answer = self.control.post(path, json={"account": self.account, **body})
        answer.raise_for_status()
        return answer.json()

    def change(self, stream: str, op: str, id_: str | None = None, **record: Any) -> str:
        path = f"/_control/{self.vendor}/records/{stream}"
        body = {"op": op, "id": id_, "record": record}
        answer = self.control.post(path, params={"account": self.account}, json=body)
        answer.raise_for_status()
        return str(answer.json()["id"])


def pages(resource: Any, **asked: Any) -> list[dict[str, Any]]:
    """Every page, by the SDK's own `list_next`."""
    found = []
    request = resource.list(**asked)
    while request is not None:
        found.append(request.execute())
        request = resource.list_next(request, found[-1])
    return found


def refused(request: Any) -> tuple[int, str]:
    """The status and the reason with which a request fails, as the SDK's users read them."""
    with pytest.raises(HttpError) as error:
        request.execute()
    (detail,) = json.loads(error.value.content)["error"]["errors"]
    assert error.value.error_details == [detail]
    return int(error.value.resp.status), str(detail["reason"])
