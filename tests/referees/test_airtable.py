"""The SDK of Airtable's users, pyairtable, against the sandbox, with only its address set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from pyairtable import Api, retry_strategy
from pyairtable.formulas import match
from pyairtable.models import WebhookNotification
from requests import HTTPError

from sandbox import start
from tests._receiver import receiving
from tests._stopped import stopped

pytestmark = pytest.mark.referee


class Referee:
    """The SDK, signed in to an account of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, origin: str) -> None:
        self.control = control
        made = control.post("/_control/airtable/accounts", json={"size": 250}).json()
        self.account = made["id"]
        tokens = self.order("grant", account=self.account)
        self.sdk = Api(tokens["access_token"], endpoint_url=f"{origin}/api.airtable.com")

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/airtable/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> Any:
        params = {"account": self.account, "stream": stream}
        answer = self.control.get("/_control/airtable/store", params=params)
        return answer.json()["streams"][stream]

    def tables(self) -> list[Any]:
        return [
            table
            for base in self.sdk.bases()
            if base.permission_level != "none"
            for table in base.tables()
        ]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["airtable"]) as origin:
        yield origin


@pytest.fixture
def referee(origin: str) -> Iterator[Referee]:
    with httpx.Client(base_url=origin, timeout=60) as control:
        control.post("/_control/airtable/limits", json={"scale": 100})
        yield Referee(control, origin)


def without_links(fields: dict[str, Any]) -> dict[str, Any]:
    """Cells without the links of attachments, which are others each time."""

    def plain(one: Any) -> Any:
        gone = ("url", "thumbnails")
        return {k: v for k, v in one.items() if k not in gone} if isinstance(one, dict) else one

    return {
        name: [plain(one) for one in cell] if isinstance(cell, list) else cell
        for name, cell in fields.items()
    }


def test_the_sdk_says_who_it_is_and_what_there_is(referee: Referee) -> None:
    assert referee.sdk.whoami()["id"] == referee.account
    shown = {base.id: base.name for base in referee.sdk.bases()}
    assert shown == {id_: row["name"] for id_, row in referee.store("bases").items()}
    fields = {
        f"{table.base.id}/{table.id}/{one.id}": (one.name, one.type)
        for table in referee.tables()
        for one in table.schema().fields
    }
    stored = referee.store("fields")
    assert fields == {key: (row["name"], row["type"]) for key, row in stored.items()}
    views = {one.id: one.visible_field_ids for t in referee.tables() for one in t.schema().views}
    assert views == {row["id"]: row["visibleFieldIds"] for row in referee.store("views").values()}


def test_the_sdk_reads_every_record_by_ids_and_by_names(referee: Referee) -> None:
    found = {
        f"{table.base.id}/{table.id}/{one['id']}": without_links(one["fields"])
        for table in referee.tables()
        for one in table.all(use_field_ids=True)
    }
    assert found == {key: row["fields"] for key, row in referee.store("records").items()}
    table = referee.tables()[0]
    page = next(iter(table.iterate(page_size=10, fields=["Name", "Status"])))
    assert len(page) == 10
    assert set(page[0]["fields"]) == {"Name", "Status"}
    one = table.get(page[0]["id"])
    assert one["fields"]["Name"] == page[0]["fields"]["Name"]
    assert [each["id"] for each in table.all(formula=match({"Name": one["fields"]["Name"]}))] == [
        one["id"]
    ]
    with pytest.raises(HTTPError, match="404"):
        table.get("recAAAAAAAAAAAAAA")


def test_the_sdk_follows_a_webhook(referee: Referee) -> None:
    table = next(one for one in referee.tables() if one.base.webhooks())
    with receiving() as receiver:
        specification = {"options": {"filters": {"dataTypes": ["tableData"]}}}
        made = table.base.add_webhook(receiver.url, specification)
        key = f"{table.base.id}/{table.id}/{table.all()[0]['id']}"
        for op in ("change", "delete"):
            path = f"records/records?account={referee.account}"
            referee.order(path, op=op, id=key, record={})
        receiver.wait(2)
        call = receiver.calls[0]
        told = WebhookNotification.from_request(
            call.body.decode(), call.headers["x-airtable-content-mac"], made.mac_secret_base64
        )
        assert (told.base.id, told.webhook.id) == (table.base.id, made.id)
    webhook = table.base.webhook(made.id)
    payloads = list(webhook.payloads())
    assert len(payloads) == webhook.cursor_for_next_payload - 1
    changed = [one.changed_tables_by_id[table.id] for one in payloads]
    assert any(key.rpartition("/")[2] in one.destroyed_record_ids for one in changed)
    webhook.disable_notifications()
    assert not table.base.webhook(made.id).are_notifications_enabled
    webhook.enable_notifications()
    webhook.extend_expiration()
    webhook.delete()
    assert made.id not in [one.id for one in table.base.webhooks()]


def test_the_sdk_is_told_to_wait(referee: Referee, origin: str) -> None:
    referee.order("limits", scale=1)
    token = referee.order("grant", account=referee.account)["access_token"]
    strategy = retry_strategy(total=0)
    sdk = Api(token, endpoint_url=f"{origin}/api.airtable.com", retry_strategy=strategy)
    with stopped(referee.control):
        for _ in range(5):
            sdk.whoami()
        with pytest.raises(Exception, match="429"):
            sdk.whoami()
