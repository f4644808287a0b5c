"""Graph's subscriptions in the sandbox, and the notifications that reach their addresses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests._delivered import Place, sandboxed
from tests._graph import GRAPH
from tests._receiver import Answering, Received

SUBSCRIPTIONS = f"{GRAPH}/subscriptions"


@pytest.fixture
def place() -> Iterator[Place]:
    with sandboxed("onedrive") as made:
        made.receiver.answer = proven
        yield made


def proven(call: Received) -> Answering:
    """An app that proves its address, and takes what it is told."""
    token = call.query.get("validationToken")
    if token is None:
        return Answering(202)
    return Answering(200, token.encode(), {"content-type": "text/plain; charset=utf-8"})


def wanted(place: Place, **more: Any) -> dict[str, Any]:
    until = datetime.now(UTC) + timedelta(days=3)
    body = {
        "changeType": "updated",
        "notificationUrl": place.receiver.url,
        "lifecycleNotificationUrl": f"{place.receiver.url}/life?of=1",
        "resource": "/me/drive/root",
        "expirationDateTime": until.isoformat().replace("+00:00", "Z"),
        "clientState": "canary",
    }
    return {**body, **more}


def subscribed(place: Place, account: str, **more: Any) -> dict[str, Any]:
    answer = place.call(account, "POST", SUBSCRIPTIONS, wanted(place, **more))
    assert answer.status_code == 201, answer.text
    place.receiver.calls.clear()
    found: dict[str, Any] = answer.json()
    return found


def notifications(calls: list[Received]) -> list[dict[str, Any]]:
    return [one for call in calls for one in json.loads(call.body)["value"]]


def minutes(subscription: dict[str, Any]) -> float:
    until = datetime.fromisoformat(subscription["expirationDateTime"])
    return (until - datetime.now(UTC)) / timedelta(minutes=1)


def test_both_addresses_are_proven_while_the_call_is_open(place: Place) -> None:
    account = place.connect()
    answer = place.call(account, "POST", SUBSCRIPTIONS, wanted(place))
    assert answer.status_code == 201
    first, second = place.receiver.calls
    assert [first.path, second.path] == ["/hooks", "/hooks/life"]
    assert second.query["of"] == "1"
    for call in (first, second):
        assert call.method == "POST"
        assert call.headers["content-type"].startswith("text/plain")
        assert call.query["validationToken"].startswith("Validation: ")
    assert first.query["validationToken"] != second.query["validationToken"]
    shown = answer.json()
    assert shown["clientState"] == "canary"
    assert shown["resource"] == "/me/drive/root"


@pytest.mark.parametrize("wrong", ["status", "type", "token", "encoded"])
def test_an_address_that_does_not_prove_itself_is_refused(place: Place, wrong: str) -> None:
    def answer(call: Received) -> Answering:
        right = proven(call)
        return {
            "status": Answering(202, right.body, right.headers),
            "type": Answering(200, right.body, {"content-type": "application/json"}),
            "token": Answering(200, b"another", right.headers),
            "encoded": Answering(200, right.body.replace(b" ", b"+"), right.headers),
        }[wrong]

    place.receiver.answer = answer
    refused = place.call(place.connect(), "POST", SUBSCRIPTIONS, wanted(place))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "ValidationError"


def test_only_the_lifecycle_address_of_the_two_may_be_left_out(place: Place) -> None:
    account = place.connect()
    subscribed(place, account, lifecycleNotificationUrl=None)
    body = wanted(place)
    for name in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
        without = {key: value for key, value in body.items() if key != name}
        assert place.call(account, "POST", SUBSCRIPTIONS, without).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"changeType": "created"},
        {"changeType": "updated,deleted"},
        {"resource": "/me/drive/items/x"},
        {"resource": "/me/calendar"},
        {"clientState": "x" * 129},
        {"notificationUrl": "ftp://x"},
        {"expirationDateTime": "soon"},
        {"expirationDateTime": "2020-01-01T00:00:00Z"},
    ],
)
def test_what_a_subscription_may_not_be(place: Place, wrong: dict[str, str]) -> None:
    answer = place.call(place.connect(), "POST", SUBSCRIPTIONS, wanted(place, **wrong))
    assert answer.status_code == 400, answer.text
    assert place.receiver.calls == []


def test_a_subscription_lasts_from_45_minutes_to_its_resources_most(place: Place) -> None:
    account, now = place.connect(), datetime.now(UTC)

    def lasting(least: float) -> dict[str, str]:
        return {"expirationDateTime": (now + timedelta(minutes=least)).isoformat()}

    assert 44 < minutes(subscribed(place, account, **lasting(5))) <= 45
    longest = subscribed(place, account, **lasting(42_299))
    assert 42_290 < minutes(longest) < 42_300
    too_long = wanted(place, **lasting(42_400))
    assert place.call(account, "POST", SUBSCRIPTIONS, too_long).status_code == 400
    path = f"{SUBSCRIPTIONS}/{longest['id']}"
    renewed = place.call(account, "PATCH", path, lasting(100))
    assert renewed.status_code == 200
    assert 98 < minutes(renewed.json()) < 100
    assert place.call(account, "PATCH", path, lasting(42_400)).status_code == 400
    assert place.call(account, "PATCH", path, {"resource": "x"}).status_code == 400


def test_chat_messages_need_a_lifecycle_address_for_more_than_an_hour(place: Place) -> None:
    account, now = place.connect(), datetime.now(UTC)
    chat = {"resource": "/chats/1/messages", "changeType": "created"}
    for least, lifecycle, status in (
        (59, None, 201),
        (70, None, 400),
        (70, place.receiver.url, 201),
        (4_319, place.receiver.url, 201),
        (4_330, place.receiver.url, 400),
    ):
        until = (now + timedelta(minutes=least)).isoformat()
        asked = wanted(place, **chat, lifecycleNotificationUrl=lifecycle, expirationDateTime=until)
        assert place.call(account, "POST", SUBSCRIPTIONS, asked).status_code == status, least


def test_a_scope_that_was_not_given_allows_no_subscription(place: Place) -> None:
    account = place.connect()
    grant = place.control("POST", "grant", account=account, scopes=["User.Read"])
    headers = {"authorization": f"Bearer {grant['access_token']}"}
    answer = place.client.post(SUBSCRIPTIONS, json=wanted(place), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ExtensionError")


def test_a_change_is_told_with_the_secret_and_without_saying_what_it_was(place: Place) -> None:
    account = place.connect()
    made = subscribed(place, account)
    place.control("POST", "mutate", account=account, count=1, seed=1)
    place.standing(acknowledged=1, idle=True)
    (told,) = notifications(place.receiver.calls)
    assert told == {
        "subscriptionId": made["id"],
        "subscriptionExpirationDateTime": made["expirationDateTime"],
        "tenantId": told["tenantId"],
        "clientState": "canary",
        "changeType": "updated",
        "resource": "me/drive/root",
    }
    assert place.receiver.calls[0].path == "/hooks"


def test_one_call_may_hold_notifications_of_several_accounts(place: Place) -> None:
    accounts = [place.connect(), place.connect()]
    made = {subscribed(place, account)["id"] for account in accounts}
    place.order(paused=True)
    for account in accounts:
        place.change(account, "drive_items", "add")
    place.order(paused=False)
    place.standing(acknowledged=1, idle=True)
    (call,) = place.receiver.calls
    assert {one["subscriptionId"] for one in notifications([call])} == made


def test_a_subscription_that_ended_is_gone_and_told_nothing(place: Place) -> None:
    account = place.connect()
    made = subscribed(place, account)
    path = f"{SUBSCRIPTIONS}/{made['id']}"
    assert place.call(account, "GET", path).json()["id"] == made["id"]
    other = place.connect()
    assert place.call(other, "GET", path).status_code == 404
    place.advance(3 * 86_400 + 60)
    assert place.call(account, "PATCH", path, wanted(place)).status_code == 404
    deleted = subscribed(place, account, expirationDateTime=_in(place, 5))
    path = f"{SUBSCRIPTIONS}/{deleted['id']}"
    assert place.call(account, "GET", SUBSCRIPTIONS).json()["value"] == [
        place.call(account, "GET", path).json() | {}
    ]
    assert place.call(account, "DELETE", path).status_code == 204
    assert place.call(account, "DELETE", path).status_code == 404
    place.change(account, "drive_items", "add")
    place.standing(made=0, idle=True)


def _in(place: Place, days: int) -> str:
    now = datetime.fromisoformat(place.client.post("/_control/clock", json={}).json()["now"])
    return (now + timedelta(days=days)).isoformat()


def test_a_drive_that_wants_its_authorisation_renewed_is_silent_until_then(place: Place) -> None:
    account = place.connect()
    made = subscribed(place, account)
    place.control("POST", "lifecycle", account=account, event="reauthorizationRequired")
    place.standing(acknowledged=1, idle=True)
    (call,) = place.receiver.calls
    assert call.path == "/hooks/life"
    (told,) = notifications([call])
    assert told["lifecycleEvent"] == "reauthorizationRequired"
    assert (told["subscriptionId"], told["clientState"]) == (made["id"], "canary")
    assert "changeType" not in told
    place.change(account, "drive_items", "add")
    place.standing(acknowledged=1, idle=True)
    until = {"expirationDateTime": made["expirationDateTime"]}
    for method, path, body in (
        ("PATCH", f"{SUBSCRIPTIONS}/{made['id']}", until),
        ("POST", f"{SUBSCRIPTIONS}/{made['id']}/reauthorize", None),
    ):
        place.control("POST", "lifecycle", account=account, event="reauthorizationRequired")
        assert place.call(account, method, path, body).status_code in (200, 204)
        place.receiver.calls.clear()
        place.change(account, "drive_items", "add")
        place.standing(idle=True)
        assert "changeType" in notifications(place.receiver.wait(1))[-1]


@pytest.mark.parametrize("event", ["subscriptionRemoved", "missed"])
def test_of_drives_no_other_lifecycle_event_is_told(place: Place, event: str) -> None:
    account = place.connect()
    made = subscribed(place, account)
    place.control("POST", "lifecycle", account=account, event=event)
    place.change(account, "drive_items", "add")
    place.standing(acknowledged=1, idle=True)
    assert "lifecycleEvent" not in notifications(place.receiver.calls)[0]
    path = f"{SUBSCRIPTIONS}/{made['id']}"
    assert place.call(account, "GET", path).status_code == 200


def test_what_is_not_acknowledged_is_told_again_for_up_to_four_hours(place: Place) -> None:
    account = place.connect()
    subscribed(place, account)
    place.receiver.answer = lambda call: Answering(503)
    place.change(account, "drive_items", "add")
    for attempt in range(1, 12):
        found = place.standing(in_flight=0, waiting=0)
        if found["failed"]:
            break
        place.standing(sent=attempt, in_flight=0)
        place.advance(10 * 2 ** (attempt - 1) + 1)
    assert place.standing(failed=1, idle=True)["sent"] == 11
