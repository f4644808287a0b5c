"""Graph's change notifications, and the subscriptions behind them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    CheckpointExpiredError,
    Context,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Request,
    SignatureError,
    WatchRequest,
    one_resource,
)
from connectors._microsoft.watches import graph_watch, graph_webhook, hint
from connectors.kernel.statuses import PARSE_ERRORS
from tests._driving import NOW, response

WEBHOOK = graph_webhook(means=hint("files"), covers=("files",))
WATCH = graph_watch(
    resources=one_resource("/me/drive/root"),
    streams=lambda resource: ("files",),
    lifetime=timedelta(days=3),
    change_type="updated",
)
WANTED = WatchRequest(
    id="ours",
    resource="/me/drive/root",
    address="https://atom.test/hook/1",
    secret="canary-secret",
    lifetime=timedelta(days=3),
    context=Context(now=NOW, account_id="acme"),
)


def delivery(body: Any, *, at: datetime = NOW, **query: str) -> Delivery:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(
        method="POST",
        url="https://atom.test/hook/1",
        headers={"content-type": "application/json"},
        query=query,
        body=content,
        received_at=at,
    )


def events(*notifications: dict[str, Any], at: datetime = NOW) -> list[Event]:
    return list(WEBHOOK.events(delivery({"value": list(notifications)}, at=at)))


def notification(**fields: Any) -> dict[str, Any]:
    plain = {"subscriptionId": "s1", "clientState": "canary-secret", "changeType": "updated"}
    return {**plain, "resource": "me/drive/root", **fields}


def run(steps: Any, *answers: Any) -> tuple[Any, list[Request]]:
    asked: list[Request] = []
    sent = None
    answered = iter(answers)
    while True:
        try:
            asked.append(steps.send(sent))
        except StopIteration as stop:
            return stop.value, asked
        sent = next(answered)


def test_the_validation_token_comes_back_decoded_and_as_plain_text() -> None:
    token = "Validation: Testing <app> + é for Request-Id: 1"
    reply = WEBHOOK.handshake(delivery(b"", validationToken=token))
    assert reply
    assert (reply.body, reply.content_type, reply.status) == (token, "text/plain", 200)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert WEBHOOK.handshake(delivery({"value": []})) is None


def test_one_delivery_may_hold_notifications_of_several_watches() -> None:
    first, second = events(notification(), notification(subscriptionId="s2", clientState="other"))
    assert [first.watch_id, second.watch_id] == ["s1", "s2"]
    assert first.effect is Effect.HINT
    assert first.streams == ("files",)
    verify = WEBHOOK.verify_event
    assert verify
    arrived = delivery({})
    verify(arrived, first, "canary-secret")
    for secret in ("canary-secreT", "", "é"):
        with pytest.raises(SignatureError):
            verify(arrived, first, secret)
    with pytest.raises(SignatureError):
        verify(arrived, second, "canary-secret")


@pytest.mark.parametrize("secret", ["", None, 7, "x", "\ud800"])
def test_a_notification_without_the_secret_is_not_proven(secret: Any) -> None:
    (event,) = events(notification(clientState=secret))
    assert WEBHOOK.verify_event
    with pytest.raises(SignatureError):
        WEBHOOK.verify_event(delivery({}), event, "canary-secret")
    # A watch without a secret proves nothing, whatever comes.
    with pytest.raises(SignatureError):
        WEBHOOK.verify_event(delivery({}), event, "")


@pytest.mark.parametrize("body", [b"", b"{", {}, {"value": {}}, {"value": ["x"]}, []])
def test_what_is_no_notification_is_not_read_as_none(body: Any) -> None:
    with pytest.raises(PARSE_ERRORS):
        WEBHOOK.events(delivery(body))


@pytest.mark.parametrize(
    ("lifecycle", "effect"),
    [
        ("reauthorizationRequired", Effect.RENEW),
        ("subscriptionRemoved", Effect.LOST),
        ("missed", Effect.MISSED),
    ],
)
def test_a_lifecycle_notification_says_what_to_do_about_the_watch(
    lifecycle: str, effect: Effect
) -> None:
    (event,) = events(
        {"subscriptionId": "s1", "clientState": "x", "lifecycleEvent": lifecycle, "changeType": ""}
    )
    assert (event.effect, event.watch_id, event.type, event.token) == (
        effect,
        "s1",
        lifecycle,
        "x",
    )


def test_a_lifecycle_notification_that_is_not_known_is_no_event() -> None:
    assert events({"subscriptionId": "s1", "lifecycleEvent": "new"}) == []


def test_a_notification_of_a_version_is_one_event_however_often_it_comes() -> None:
    later = NOW + timedelta(seconds=5)
    data = {"id": "m1", "@odata.etag": "W/1"}
    first, again = (events(notification(resourceData=data), at=at)[0].id for at in (NOW, later))
    assert first == again
    other = {"id": "m1", "@odata.etag": "W/2"}
    assert events(notification(resourceData=other))[0].id != first


def test_a_notification_that_names_no_version_counts_anew_each_time() -> None:
    later = NOW + timedelta(seconds=5)
    for data in (None, {"id": "m1"}):
        first, again = (events(notification(resourceData=data), at=at)[0].id for at in (NOW, later))
        assert first != again


def test_a_watch_is_made_with_its_secret_and_an_address_for_lifecycle_events() -> None:
    made = response({"id": "s1", "expirationDateTime": "2026-11-04T12:00:00.1234567Z"}, 201)
    watched, (asked,) = run(WATCH.create(WANTED), made)
    assert (asked.method, asked.path) == ("POST", "/subscriptions")
    assert asked.json == {
        "changeType": "updated",
        "notificationUrl": WANTED.address,
        "lifecycleNotificationUrl": WANTED.address,
        "resource": "/me/drive/root",
        "expirationDateTime": "2026-11-04T12:00:00.000000Z",
        "clientState": "canary-secret",
    }
    assert watched == MadeWatch(
        vendor_id="s1", expires_at=datetime(2026, 11, 4, 12, 0, 0, 123456, tzinfo=UTC)
    )


@pytest.mark.parametrize(("status", "code"), [(403, "ExtensionError"), (409, "")])
def test_an_account_that_gets_no_watch_is_polled(status: int, code: str) -> None:
    refused, _ = run(WATCH.create(WANTED), response({"error": {"code": code}}, status))
    assert isinstance(refused, NoWatch)
    assert (code.lower() or "409") in refused.reason


def test_a_watch_is_renewed_by_patch() -> None:
    assert WATCH.renew
    old = MadeWatch(vendor_id="s/1", expires_at=NOW)
    made = response({"id": "s/1", "expirationDateTime": "2026-11-04T12:00:00Z"})
    watched, (asked,) = run(WATCH.renew(WANTED, old), made)
    assert (asked.method, asked.path) == ("PATCH", "/subscriptions/s%2F1")
    assert asked.json == {"expirationDateTime": "2026-11-04T12:00:00.000000Z"}
    assert watched.expires_at == NOW + timedelta(days=3)


def test_a_watch_that_graph_no_longer_has_is_made_anew() -> None:
    assert WATCH.renew
    with pytest.raises(CheckpointExpiredError):
        run(WATCH.renew(WANTED, MadeWatch(vendor_id="s1", expires_at=NOW)), response({}, 404))


def test_deleting_a_watch_that_is_gone_is_no_error() -> None:
    steps = WATCH.delete(MadeWatch(vendor_id="s1", expires_at=NOW), WANTED.context)
    _, (asked,) = run(steps, response({}, 404))
    assert (asked.method, asked.path, asked.expect) == ("DELETE", "/subscriptions/s1", (404,))
