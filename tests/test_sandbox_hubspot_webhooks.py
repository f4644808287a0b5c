"""HubSpot's webhooks from the sandbox: bodies, signatures and retries as documented."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from sandbox.hubspot import vendor
from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import AppResponse, Delivery
from tests._delivered import Place, sandboxed
from tests._receiver import OK, Answering, Received

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
CONTACTS = "/api.hubapi.com/crm/objects/2026-03/contacts"
DOWN = Answering(500)
NOWHERE = AppResponse()


def signature_v3(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    signed = method.encode() + url.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()


def signature_v1(secret: str, body: bytes) -> str:
    return hashlib.sha256(secret.encode() + body).hexdigest()


@pytest.fixture
def place() -> Iterator[Place]:
    with sandboxed("hubspot") as made:
        made.control("POST", "limits", scale=1000)
        made.point(secret=SECRET)
        yield made


def events(calls: list[Received]) -> list[Json]:
    return [event for call in calls for event in json.loads(call.body)]


def of(calls: list[Received], type_: str) -> list[Json]:
    return [event for event in events(calls) if event["subscriptionType"] == type_]


def settled(place: Place) -> list[Received]:
    """All calls, once nothing is left to send."""
    place.standing(idle=True)
    return place.receiver.calls


def test_the_judge_of_signatures_agrees_with_the_documented_vectors() -> None:
    body = b"{'example_field':'example_value'}"
    url = "https://www.example.com/webhook_uri"
    expected = "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="
    assert signature_v3(SECRET, "POST", url, body, "1693657560000") == expected
    expected = "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750"
    assert signature_v1(SECRET, body) == expected


def test_a_delivery_carries_version_3_and_version_1_of_the_signature(place: Place) -> None:
    account = place.connect()
    place.change(account, "contacts", "change", id=min(place.store(account)["contacts"]))
    (call,) = settled(place)
    assert (call.method, call.path) == ("POST", "/hooks")
    assert call.headers["content-type"] == "application/json"
    sent_at = call.headers["x-hubspot-request-timestamp"]
    assert abs(int(sent_at) / 1000 - time.time()) < 60
    expected = signature_v3(SECRET, "POST", place.receiver.url, call.body, sent_at)
    assert call.headers["x-hubspot-signature-v3"] == expected
    assert call.headers["x-hubspot-signature-version"] == "v1"
    assert call.headers["x-hubspot-signature"] == signature_v1(SECRET, call.body)


def test_the_address_is_signed_as_it_was_given_query_and_all(place: Place) -> None:
    url = f"{place.receiver.url}/deep?app=1&x=%C3%A4"
    place.control("POST", "webhook", url=url)
    account = place.connect()
    place.change(account, "contacts", "add")
    call = settled(place)[0]
    assert (call.path, call.query) == ("/hooks/deep", {"app": "1", "x": "ä"})
    timestamp = call.headers["x-hubspot-request-timestamp"]
    secret = vendor.auth.client_secret
    expected = signature_v3(secret, "POST", url, call.body, timestamp)
    assert call.headers["x-hubspot-signature-v3"] == expected


def test_a_creation_comes_with_the_properties_that_were_set(place: Place) -> None:
    account = place.connect()
    properties = {"email": "Ada@Firm.example", "firstname": "Ada", "city": ""}
    made = place.call(account, "POST", CONTACTS, {"properties": properties}).json()
    calls = settled(place)
    (created,) = of(calls, "contact.creation")
    assert created == {
        "eventId": created["eventId"],
        "subscriptionId": created["subscriptionId"],
        "portalId": int(account),
        "appId": created["appId"],
        "occurredAt": round(datetime.fromisoformat(made["createdAt"]).timestamp() * 1000),
        "attemptNumber": 0,
        "objectId": int(made["id"]),
        "changeSource": "CRM",
        "changeFlag": "NEW",
        "subscriptionType": "contact.creation",
    }
    changed = of(calls, "contact.propertyChange")
    assert {each["propertyName"]: each["propertyValue"] for each in changed} == {
        "email": "ada@firm.example",
        "firstname": "Ada",
    }
    assert {each["occurredAt"] for each in changed} == {created["occurredAt"]}
    assert "changeFlag" not in changed[0]
    assert len({each["subscriptionId"] for each in (created, *changed)}) == 3


def test_a_change_names_each_property_that_has_another_value_now(place: Place) -> None:
    account = place.connect()
    id_, contact = next(iter(place.store(account)["contacts"].items()))
    same = {"lastname": contact["properties"]["lastname"]}
    given = {**same, "firstname": "Grace", "phone": ""}
    answer = place.call(account, "PATCH", f"{CONTACTS}/{id_}", {"properties": given})
    assert answer.status_code == 200
    changed = events(settled(place))
    told = {each["propertyName"]: each["propertyValue"] for each in changed}
    told.pop("phone", None)  # where there was none before
    assert told == {"firstname": "Grace"}
    updated_at = datetime.fromisoformat(answer.json()["updatedAt"])
    assert {each["occurredAt"] for each in changed} == {round(updated_at.timestamp() * 1000)}
    assert {each["subscriptionType"] for each in changed} == {"contact.propertyChange"}


def test_an_archived_object_is_a_deletion(place: Place) -> None:
    account = place.connect()
    id_ = min(place.store(account)["contacts"])
    for _ in range(2):  # the second time there is nothing left to delete
        assert place.call(account, "DELETE", f"{CONTACTS}/{id_}").status_code == 204
    (deleted,) = events(settled(place))
    assert (deleted["subscriptionType"], deleted["changeFlag"]) == ("contact.deletion", "DELETED")
    assert deleted["objectId"] == int(id_)


def test_events_of_many_portals_share_a_call_of_at_most_a_hundred(place: Place) -> None:
    accounts = [place.connect() for _ in range(20)]
    streams = ["contacts", "companies", "deals", "tickets"]
    place.order(paused=True)
    place.control("POST", "burst", accounts=accounts, count=200, streams=streams)
    waiting = place.standing()["waiting"]
    assert waiting > 200
    place.order(paused=False)
    calls = settled(place)
    sizes = [len(json.loads(call.body)) for call in calls]
    assert sum(sizes) == waiting
    assert max(sizes) == 100
    assert any(len({event["portalId"] for event in json.loads(call.body)}) > 1 for call in calls)
    assert {event["portalId"] for event in events(calls)} == {int(each) for each in accounts}
    # What the documentation offers to tell events apart by does so.
    names = ("portalId", "subscriptionId", "eventId", "objectId", "occurredAt")
    keys = {tuple(event[name] for name in names) for event in events(calls)}
    assert len(keys) == waiting


def test_every_change_of_an_object_is_told(place: Place) -> None:
    account = place.connect(size=40)
    streams = ["contacts", "companies", "deals", "tickets"]
    changes = place.control("POST", "mutate", account=account, count=150, streams=streams)
    words = {"add": "creation", "change": "propertyChange", "delete": "deletion"}
    kinds = {"contacts": "contact", "companies": "company", "deals": "deal", "tickets": "ticket"}
    wanted = {
        (f"{kinds[each['stream']]}.{words[each['op']]}", int(each["id"]))
        for each in changes["changes"]
    }
    told = {(event["subscriptionType"], event["objectId"]) for event in events(settled(place))}
    assert wanted <= told


def test_owners_have_no_webhooks(place: Place) -> None:
    account = place.connect(size=40)
    place.control("POST", "mutate", account=account, count=10, streams=["owners"])
    place.standing(events=0, made=0, idle=True)


def test_a_portal_that_uninstalls_is_not_heard_of_again(place: Place) -> None:
    account = place.connect()
    path = "/api.hubapi.com/appinstalls/2026-03/external-install"
    assert place.call(account, "DELETE", path).status_code == 204
    place.change(account, "contacts", "add")
    place.standing(events=0, made=0, idle=True)


def test_merged_contacts_are_told_once_and_the_primary_one_stays(place: Place) -> None:
    account = place.connect()
    primary, other = list(place.store(account)["contacts"])[:2]
    body = {"primaryObjectId": primary, "objectIdToMerge": other}
    assert place.call(account, "POST", f"{CONTACTS}/merge", body).json()["id"] == primary
    calls = settled(place)
    (merged,) = of(calls, "contact.merge")
    assert merged["objectId"] == merged["primaryObjectId"] == merged["newObjectId"] == int(primary)
    assert merged["mergedObjectIds"] == [int(other)]
    moved = of(calls, "contact.propertyChange")
    assert len(moved) == merged["numberOfPropertiesMoved"] == len(events(calls)) - 1
    assert other not in place.store(account)["contacts"]
    # Asked for the one that is no more, HubSpot answers with the one that took it in.
    assert place.call(account, "GET", f"{CONTACTS}/{other}").json()["id"] == primary


def test_a_new_company_takes_the_place_of_merged_ones(place: Place) -> None:
    account = place.connect(size=12)
    before = place.store(account)["companies"]
    primary, other = list(before)[:2]
    body = {"primaryObjectId": primary, "objectIdToMerge": other}
    path = CONTACTS.replace("contacts", "companies")
    made = place.call(account, "POST", f"{path}/merge", body).json()["id"]
    after = place.store(account)["companies"]
    assert set(before) - set(after) == {primary, other}
    assert set(after) - set(before) == {made}
    (merged,) = events(settled(place))
    assert merged["subscriptionType"] == "company.merge"
    assert merged["newObjectId"] == int(made)
    again = place.call(account, "POST", f"{path}/merge", body)
    assert again.status_code == 404


def test_a_contact_that_is_forgotten_cannot_be_read_again(place: Place) -> None:
    account = place.connect(size=20)
    (one, _), (two, contact) = list(place.store(account)["contacts"].items())[:2]
    by_email = {"objectId": contact["properties"]["email"], "idProperty": "email"}
    for body in ({"objectId": one}, by_email):
        answer = place.call(account, "POST", f"{CONTACTS}/gdpr-delete", body)
        assert answer.status_code == 204
    told = events(settled(place))
    assert [event["objectId"] for event in told] == [int(one), int(two)]
    assert {event["subscriptionType"] for event in told} == {"contact.privacyDeletion"}
    listed = place.call(account, "GET", f"{CONTACTS}?archived=true&limit=100").json()["results"]
    assert not {one, two} & {row["id"] for row in listed}
    tickets = place.call(account, "GET", f"{CONTACTS[:-8]}tickets?associations=contacts")
    assert tickets.status_code == 200


def test_an_object_that_was_archived_is_restored(place: Place) -> None:
    account = place.connect()
    id_ = min(place.store(account)["contacts"])
    place.call(account, "DELETE", f"{CONTACTS}/{id_}")
    place.control("POST", "restore", account=account, stream="contacts", id=id_)
    told = [event["subscriptionType"] for event in events(settled(place))]
    assert told == ["contact.deletion", "contact.restore"]
    assert place.call(account, "GET", f"{CONTACTS}/{id_}").json()["archived"] is False
    live = {"account": account, "stream": "contacts", "id": id_}
    assert place.client.post("/_control/hubspot/restore", json=live).status_code == 404


def test_an_association_is_told_of_by_an_event_of_two_objects(place: Place) -> None:
    account = place.connect()
    id_ = min(place.store(account)["deals"])
    place.control("POST", "associate", account=account, stream="deals", id=id_, to=77)
    (told,) = of(settled(place), "deal.associationChange")
    assert (told["fromObjectId"], told["toObjectId"]) == (int(id_), 77)
    assert "objectId" not in told


def test_generic_subscriptions_name_the_type_of_the_object(place: Place) -> None:
    place.point(generic=True)
    account = place.connect()
    place.change(account, "deals", "add", record={"dealname": "A deal"})
    calls = settled(place)
    (created,) = of(calls, "object.creation")
    assert created["objectTypeId"] == "0-3"
    assert {each["objectTypeId"] for each in of(calls, "object.propertyChange")} == {"0-3"}
    forgotten = {"objectId": min(place.store(account)["contacts"])}
    place.call(account, "POST", f"{CONTACTS}/gdpr-delete", forgotten)
    assert "objectTypeId" not in of(settled(place), "contact.privacyDeletion")[0]


def test_a_retry_has_the_same_events_the_next_number_and_a_new_signature(place: Place) -> None:
    account = place.connect()
    answers = iter([DOWN, Answering(404), OK])
    place.receiver.answer = lambda call: next(answers)
    place.order(retry_scale=0)
    place.change(account, "contacts", "change", id=min(place.store(account)["contacts"]))
    calls = settled(place)
    place.standing(made=1, sent=3, acknowledged=1, failed=0)
    assert [{event["attemptNumber"] for event in json.loads(call.body)} for call in calls] == [
        *({0}, {1}, {2})
    ]
    bare = [[{**event, "attemptNumber": 0} for event in json.loads(call.body)] for call in calls]
    assert bare[0] == bare[1] == bare[2]
    for call in calls:
        timestamp = call.headers["x-hubspot-request-timestamp"]
        expected = signature_v3(SECRET, "POST", place.receiver.url, call.body, timestamp)
        assert call.headers["x-hubspot-signature-v3"] == expected


def test_ten_attempts_are_spread_over_a_day(place: Place) -> None:
    account = place.connect()
    place.receiver.answer = lambda call: DOWN
    place.order(retry_scale=0)
    place.change(account, "contacts", "change", id=min(place.store(account)["contacts"]))
    place.standing(made=1, sent=10, failed=1, idle=True)
    sender = vendor.webhook
    assert sender
    waits = []
    for attempt in range(1, 11):
        wait = sender.retry(_attempt(attempt), NOWHERE)
        waits.append(wait)
    assert waits[-1] is None
    assert 20 * 3600 < sum(wait for wait in waits if wait) <= 24 * 3600


def test_any_2xx_within_five_seconds_acknowledges() -> None:
    sender = vendor.webhook
    assert sender
    assert sender.deadline == 5
    taken = [status for status in (200, 202, 204, 299, 301, 400, 404, 500) if _takes(status)]
    assert taken == [200, 202, 204, 299]


def _takes(status: int) -> bool:
    assert vendor.webhook
    return vendor.webhook.acknowledges(AppResponse(status=status))


def _attempt(number: int) -> Delivery:
    now: Any = datetime.now().astimezone()
    return Delivery(notices=(), made_at=now, now=now, attempt=number)
