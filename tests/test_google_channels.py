"""Google's channels: what their messages say, what proves them, and how they are made and ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Request,
    Response,
    SignatureError,
    Watch,
    WatchRequest,
    Webhook,
    load,
)
from connectors.kernel.signatures import channel_secret
from tests._driving import NOW, response

NAMES = ["google_calendar", "google_drive"]
STREAMS = ("files", "changes", "shared_drives", "permissions")
CALENDAR = "https://www.googleapis.com/calendar/v3"
EXPIRES = NOW + timedelta(days=6)


def webhook(name: str) -> Webhook:
    found = load(name).webhook
    assert found
    return found


def watch(name: str) -> Watch:
    found = load(name).watch
    assert found
    return found


def message(**headers: str) -> Delivery:
    """A message of channel c1, with those of its headers another."""
    given = {
        "channel_id": "c1",
        "channel_token": "secret",
        "resource_id": "r1",
        "resource_uri": f"{CALENDAR}/calendars/ann%40x.test/events?alt=json",
        "resource_state": "exists",
        "message_number": "38",
    } | headers
    return Delivery(
        method="POST",
        url="https://sync.test/api/webhooks/google_calendar",
        headers={f"x-goog-{name.replace('_', '-')}": value for name, value in given.items()},
        query={},
        body=b"",
        received_at=NOW,
    )


def events(name: str, **headers: str) -> list[Event]:
    return list(webhook(name).events(message(**headers)))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_message_of_a_channel_is_a_handshake_and_no_event(name: str) -> None:
    assert events(name, resource_state="sync", message_number="1") == []


@pytest.mark.parametrize(("name", "state"), [*zip(NAMES, ("not_exists", "change"), strict=True)])
def test_a_message_is_known_by_its_channel_and_number(name: str, state: str) -> None:
    (event,) = events(name, resource_state=state)
    assert (event.id, event.type, event.watch_id) == ("c1:38", state, "c1")
    assert event.effect is Effect.HINT
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    ("uri", "streams"),
    [
        (f"{CALENDAR}/calendars/ann%40x.test/events?alt=json", ("events",)),
        (f"{CALENDAR}/calendars/a%23b%40group.v.calendar.google.com/acl?x=/events", ("acl",)),
        (f"{CALENDAR}/users/me/calendarList?alt=json", ("calendars", "events", "acl")),
        (f"{CALENDAR}/users/me/settings", ()),
        ("", ()),
    ],
)
def test_a_message_names_its_streams_by_the_address_of_the_resource(
    uri: str, streams: tuple[str, ...]
) -> None:
    (event,) = events("google_calendar", resource_uri=uri)
    assert event.streams == streams


def test_a_log_is_about_all_that_is_in_drive() -> None:
    (event,) = events("google_drive", resource_state="change")
    assert event.streams == STREAMS


@pytest.mark.parametrize("name", NAMES)
def test_a_message_without_the_headers_is_unreadable(name: str) -> None:
    for header in ("resource_state", "channel_id", "message_number"):
        delivery = message()
        headers = dict(delivery.headers)
        del headers[f"x-goog-{header.replace('_', '-')}"]
        with pytest.raises(KeyError):
            webhook(name).events(
                Delivery(
                    method="POST", url=delivery.url, headers=headers, query={}, body=b"",
                    received_at=NOW,
                )
            )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_proven_by_token_channel_and_resource_together(name: str) -> None:
    verify = webhook(name).verify_event
    assert verify
    secret = channel_secret("secret", "r1")

    def check(**headers: str) -> None:
        delivery = message(**headers)
        (event,) = webhook(name).events(delivery)
        verify(delivery, event, secret)

    check()
    for forged in ({"channel_token": "secreT"}, {"channel_token": ""}, {"resource_id": "r2"}):
        with pytest.raises(SignatureError):
            check(**forged)
    (event,) = events(name)
    with pytest.raises(SignatureError):
        verify(message(channel_id="c2"), event, secret)


def wanted(resource: str) -> WatchRequest:
    return WatchRequest(
        id="0e3b2a52-1f0c-4c55-8d52-4df0e36f8a9b",
        resource=resource,
        address="https://sync.test/api/webhooks/x",
        secret="token",
        lifetime=timedelta(days=7),
        context=Context(now=NOW, account_id="ann@x.test"),
    )


def made(name: str, resource: str, *answers: Response) -> tuple[Any, list[Request]]:
    """What comes of making a watch, and what was asked; the answers come one after the other."""
    steps = watch(name).create(wanted(resource))
    asked: list[Request] = []
    answer: Response | None = None
    for following in (*answers, None):
        try:
            asked.append(steps.send(answer))  # type: ignore[arg-type]
        except StopIteration as stopped:
            return stopped.value, asked
        assert following is not None, "asked for more than there are answers"
        assert following.status == 200 or following.status in asked[-1].expect, following
        answer = following
    raise AssertionError("it does not end")


def channel(**fields: Any) -> Response:
    expiration = str(int(EXPIRES.timestamp() * 1000))
    return response({"id": "c1", "resourceId": "r1", "expiration": expiration, **fields})


def refusal(status: int, reason: str) -> Response:
    return response({"error": {"code": status, "errors": [{"reason": reason}]}}, status=status)


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("calendarList", "/users/me/calendarList/watch"),
        ("events/ann@x.test", "/calendars/ann%40x.test/events/watch"),
        ("acl/a#b@x.test", "/calendars/a%23b%40x.test/acl/watch"),
    ],
)
def test_a_channel_is_opened_under_our_own_id_with_our_own_token(resource: str, path: str) -> None:
    watched, (asked,) = made("google_calendar", resource, channel())
    assert (asked.method, asked.path) == ("POST", path)
    assert asked.json == {
        "id": wanted(resource).id,
        "type": "web_hook",
        "address": "https://sync.test/api/webhooks/x",
        "token": "token",
        "expiration": str(int((NOW + timedelta(days=7)).timestamp() * 1000)),
    }
    assert len(asked.json["id"]) <= 64
    assert watched == MadeWatch(
        vendor_id=asked.json["id"],
        expires_at=EXPIRES.astimezone(UTC),
        state={"resource_id": "r1"},
        secret="token r1",
    )


@pytest.mark.parametrize(("resource", "whose"), [("user", {}), ("d1", {"driveId": "d1"})])
def test_a_channel_on_a_log_begins_at_its_start_token(resource: str, whose: dict[str, str]) -> None:
    start = response({"startPageToken": "17"})
    _, (first, asked) = made("google_drive", resource, start, channel())
    assert first.path == "/changes/startPageToken"
    assert asked.path == "/changes/watch"
    assert asked.params == {
        "pageToken": "17",
        "supportsAllDrives": True,
        "includeItemsFromAllDrives": True,
        "includeRemoved": True,
        **whose,
    }


def test_when_it_ends_is_read_from_the_answer_and_an_hour_where_that_does_not_say() -> None:
    watched, _ = made("google_calendar", "calendarList", response({"resourceId": "r1"}))
    assert watched.expires_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "pushNotSupportedForRequestedResource"),
        refusal(404, "notFound"),
        refusal(403, "forbidden"),
    ],
)
def test_what_cannot_be_watched_is_polled(answer: Response) -> None:
    watched, _ = made("google_calendar", "events/holidays", answer)
    assert isinstance(watched, NoWatch)


def test_what_was_not_allowed_is_not_watched_and_breaks_no_connection() -> None:
    missing = refusal(403, "insufficientPermissions")
    for resource in ("acl/ann@x.test", "events/ann@x.test"):
        watched, _ = made("google_calendar", resource, missing)
        assert isinstance(watched, NoWatch)
        assert "reconnect and allow it" in watched.reason


@pytest.mark.parametrize(
    "answer", [refusal(400, "channelIdNotUnique"), refusal(403, "accessNotConfigured")]
)
def test_what_is_ours_or_the_operators_to_mend_is_no_refusal(answer: Response) -> None:
    with pytest.raises(ContractError):
        made("google_calendar", "calendarList", answer)


def test_an_address_that_google_does_not_take_breaks_no_connection() -> None:
    error = load("google_drive").classify(refusal(401, "push.webhookUrlUnauthorized"))
    assert isinstance(error, ContractError)
    assert load("google_drive").classify(refusal(401, "authError")) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_is_stopped_by_id_and_resource_and_never_renewed(name: str) -> None:
    watched = MadeWatch(vendor_id="c1", expires_at=None, state={"resource_id": "r1"})
    steps = watch(name).delete(watched, Context(now=NOW, account_id="x"))
    asked = next(steps)
    assert (asked.method, asked.path) == ("POST", "/channels/stop")
    assert asked.json == {"id": "c1", "resourceId": "r1"}
    assert 404 in asked.expect  # one that is over is no error
    with pytest.raises(StopIteration):
        steps.send(response(None, status=404))
    assert watch(name).renew is None
    assert watch(name).overlap > timedelta()
    assert watch(name).lifetime == timedelta(days=7)


def resources(name: str, *answers: Response) -> list[str]:
    steps = watch(name).resources(Context(now=datetime.now(UTC), account_id="x"))
    answer: Response | None = None
    for following in (*answers, None):
        try:
            steps.send(answer)  # type: ignore[arg-type]
        except StopIteration as stopped:
            return list(stopped.value)
        answer = following
    raise AssertionError("it does not end")


def test_the_list_and_every_calendar_have_channels_of_their_own() -> None:
    entries = [{"id": "a", "accessRole": "owner"}, {"id": "b", "accessRole": "reader"}]
    found = resources("google_calendar", response({"items": entries}))
    assert found == ["calendarList", "events/a", "events/b", "acl/a"]
    told = [watch("google_calendar").streams(resource) for resource in found]
    assert told == [("calendars", "events", "acl"), ("events",), ("events",), ("acl",)]


def test_every_log_has_a_channel_of_its_own() -> None:
    drives = response({"drives": [{"id": "d1"}, {"id": "d2"}]})
    assert resources("google_drive", drives) == ["user", "d1", "d2"]
    assert resources("google_drive", refusal(403, "insufficientPermissions")) == ["user"]
    assert watch("google_drive").streams("d1") == STREAMS
