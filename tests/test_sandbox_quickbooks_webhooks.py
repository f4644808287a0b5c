"""QuickBooks' webhooks from the sandbox: CloudEvents, the form before them, their retries."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import pytest

from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import AppResponse, Delivery
from sandbox.quickbooks import vendor
from tests._delivered import Place, sandboxed
from tests._receiver import OK, Answering, Received

TOKEN = "verifier-token"
DOWN = Answering(500)


def signature(token: str, body: bytes) -> str:
    return base64.b64encode(hmac.digest(token.encode(), body, "sha256")).decode()


@pytest.fixture
def place() -> Iterator[Place]:
    with sandboxed("quickbooks") as made:
        made.control("POST", "limits", scale=1000)
        made.point(secret=TOKEN)
        yield made


def settled(place: Place) -> list[Received]:
    """All calls, once nothing is left to send."""
    place.standing(idle=True)
    return place.receiver.calls


def events(calls: list[Received]) -> list[Json]:
    return [event for call in calls for event in json.loads(call.body)]


def told(calls: list[Received]) -> list[tuple[str, str]]:
    return [(event["type"], event["intuitentityid"]) for event in events(calls)]


def api(account: str, path: str) -> str:
    return f"/quickbooks.api.intuit.com/v3/company/{account}{path}"


def test_the_judge_of_signatures_agrees_with_the_known_vector() -> None:
    body = (
        b'[{"specversion":"1.0","id":"e-1","type":"qbo.customer.updated.v1",'
        b'"intuitentityid":"1","intuitaccountid":"310687"}]'
    )
    assert signature(TOKEN, body) == "+XkOAPw+XEgZ9HCUBtyRFW6EFbJW6IUvrhhZ56ubv2U="


def test_a_change_is_a_cloud_event_signed_with_the_verifier_token(place: Place) -> None:
    account = place.connect()
    body = {"DisplayName": "Ada"}
    made = place.call(account, "POST", api(account, "/customer"), body).json()["Customer"]
    (call,) = settled(place)
    assert (call.method, call.path) == ("POST", "/hooks")
    assert call.headers["content-type"] == "application/json"
    assert call.headers["intuit-signature"] == signature(TOKEN, call.body)
    (event,) = json.loads(call.body)
    assert str(UUID(event["id"])) == event["id"]
    assert event["source"].startswith("intuit.")
    at = datetime.fromisoformat(event["time"])
    assert abs(at.timestamp() - time.time()) < 60
    assert len(event["time"].partition(".")[2]) == len("123456789Z")
    event.pop("data", None)
    assert event == {
        "specversion": "1.0",
        "id": event["id"],
        "source": event["source"],
        "type": "qbo.customer.created.v1",
        "datacontenttype": "application/json",
        "time": event["time"],
        "intuitentityid": made["Id"],
        "intuitaccountid": account,
    }


def test_the_data_of_an_event_is_empty_or_not_there(place: Place) -> None:
    account = place.connect(size=10)
    place.control("POST", "mutate", account=account, count=60)
    seen = [event.get("data", "missing") for event in events(settled(place))]
    assert len(seen) > 20
    assert {json.dumps(each) for each in seen} == {"{}", '"missing"'}


def test_each_kind_of_change_has_its_own_word(place: Place) -> None:
    account = place.connect(size=10)
    store = place.store(account)
    invoice, customer = min(store["invoices"]), min(store["customers"])
    made = place.change(account, "bills", "add")
    place.change(account, "bills", "change", id=made, record={"PrivateNote": "paid late"})
    place.change(account, "bills", "delete", id=made)
    place.change(account, "customers", "change", id=customer, record={"Active": True, "Notes": "x"})
    place.change(account, "customers", "delete", id=customer)
    place.control("POST", "void", account=account, id=invoice)
    heard = told(settled(place))
    for what in (
        *(("qbo.bill.created.v1", made), ("qbo.bill.updated.v1", made)),
        *(("qbo.bill.deleted.v1", made), ("qbo.customer.updated.v1", customer)),
        *(("qbo.customer.deleted.v1", customer), ("qbo.invoice.voided.v1", invoice)),
    ):
        assert what in heard
    assert place.store(account)["customers"][customer]["Active"] is False


def test_a_payment_changes_its_invoice_and_not_the_customer(place: Place) -> None:
    account = place.connect(size=10)
    invoice = next(row for row in place.store(account)["invoices"].values() if row["Balance"] > 1)
    line = {"Amount": 1, "LinkedTxn": [{"TxnId": invoice["Id"], "TxnType": "Invoice"}]}
    record = {"CustomerRef": invoice["CustomerRef"], "TotalAmt": 1, "Line": [line]}
    payment = place.change(account, "payments", "add", record=record)
    assert told(settled(place)) == [
        *(("qbo.payment.created.v1", payment), ("qbo.invoice.updated.v1", invoice["Id"]))
    ]


def test_one_delivery_may_hold_several_companies(place: Place) -> None:
    accounts = [place.connect() for _ in range(3)]
    place.order(paused=True)
    for account in accounts:
        place.change(account, "customers", "add")
    place.order(paused=False)
    (call,) = settled(place)
    assert [event["intuitaccountid"] for event in json.loads(call.body)] == accounts


def test_the_form_before_cloud_events_holds_one_company_and_the_former_words(
    place: Place,
) -> None:
    place.point(secret=TOKEN, legacy=True)
    accounts = [place.connect() for _ in range(2)]
    place.order(paused=True)
    made = {account: place.change(account, "bills", "add") for account in accounts}
    for account in accounts:
        place.change(account, "bills", "delete", id=made[account])
    place.order(paused=False)
    calls = settled(place)
    assert len(calls) == 2
    for call in calls:
        assert call.headers["intuit-signature"] == signature(TOKEN, call.body)
        (notification,) = json.loads(call.body)["eventNotifications"]
        assert set(notification) == {"realmId", "dataChangeEvent"}
        bill = made[notification["realmId"]]
        entities = notification["dataChangeEvent"]["entities"]
        assert [(each["name"], each["id"], each["operation"]) for each in entities] == [
            *(("Bill", bill, "Create"), ("Bill", bill, "Delete"))
        ]
        at = datetime.fromisoformat(entities[0]["lastUpdated"])
        assert abs(at.timestamp() - time.time()) < 60


def test_only_a_connected_company_is_heard_of(place: Place) -> None:
    account = place.connect()
    place.control("POST", "tokens", account=account, op="revoke")
    place.change(account, "customers", "add")
    place.standing(events=0, made=0, idle=True)


def test_only_200_acknowledges_and_within_three_seconds(place: Place) -> None:
    sender = vendor.webhook
    assert sender
    assert sender.deadline == 3
    account = place.connect()
    place.receiver.answer = lambda call: Answering(202)
    place.change(account, "customers", "add")
    place.standing(sent=1, acknowledged=0, retrying=1, in_flight=0)
    place.receiver.answer = lambda call: OK
    place.advance(11)
    first, second = settled(place)
    assert first.body == second.body
    place.standing(made=1, sent=2, acknowledged=1, idle=True)


def test_what_happens_later_waits_for_what_is_not_acknowledged(place: Place) -> None:
    account, other = place.connect(), place.connect()
    place.receiver.answer = lambda call: DOWN
    first = place.change(account, "customers", "add")
    place.standing(sent=1, retrying=1, in_flight=0)
    later = [place.change(account, "customers", "add") for _ in range(2)]
    place.standing(sent=1, retrying=1, waiting=2)
    place.receiver.answer = lambda call: OK
    place.change(other, "customers", "add")
    place.standing(sent=2, acknowledged=1)
    place.advance(11)
    calls = settled(place)
    heard = [event["intuitentityid"] for event in events(calls[2:])]
    assert heard == [first, *later]


def test_retries_come_sooner_then_later_and_then_every_six_hours() -> None:
    sender = vendor.webhook
    assert sender
    now = datetime.now(UTC)
    new = (Delivery(notices=(), made_at=now, now=now, attempt=n) for n in range(1, 1000))
    waits = [sender.retry(delivery, AppResponse()) for delivery in islice(new, 12)]
    hour = 3600
    assert waits[:8] == [10, 20, 30, 300, 1200, 2 * hour, 4 * hour, 6 * hour]
    assert set(waits[8:]) == {6 * hour}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_merge_names_who_was_merged_away(place: Place, legacy: bool) -> None:
    place.point(secret=TOKEN, legacy=legacy)
    account = place.connect(size=10)
    ids = list(place.store(account)["customers"])
    place.control("POST", "merge", account=account, id=ids[0], into=ids[1])
    bodies = [json.loads(call.body) for call in settled(place)]
    if legacy:
        companies = [one for body in bodies for one in body["eventNotifications"]]
        told = [e for one in companies for e in one["dataChangeEvent"]["entities"]]
        merged = [(e["id"], e["deletedId"]) for e in told if e["operation"] == "Merge"]
    else:
        told = [event for body in bodies for event in body]
        merged = [
            (event["intuitentityid"], event["data"]["deletedid"])
            for event in told
            if event["type"] == "qbo.customer.merged.v1"
        ]
    assert merged == [(ids[1], ids[0])]
    assert ids[0] not in place.store(account)["customers"]
