"""Salesforce's change events: how a session goes, what is heard, and what was missed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    Context,
    ContractError,
    Effect,
    EventBatch,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    load,
)
from tests._driving import NOW

SALESFORCE = load("salesforce")
CHANNEL = "/data/ChangeEvents"
ACCOUNT, OTHER = "001000000000001AAA", "001000000000002AAA"
EVERY = {"accounts", "contacts", "leads", "opportunities", "users", "custom_objects"}


def change(replay: int = 1001, ids: Sequence[str] = (ACCOUNT,), **header: Any) -> dict[str, Any]:
    """An event as Salesforce tells it."""
    told = {
        "entityName": "Account",
        "recordIds": list(ids),
        "changeType": "UPDATE",
        "changeOrigin": "",
        "transactionKey": "00000000-0000-0000-0000-000000000001",
        "sequenceNumber": 1,
        "commitTimestamp": int(NOW.timestamp() * 1000) - 5_000,
        "commitNumber": 10_900_000_000_001,
        "commitUser": "005000000000001AAA",
        **header,
    }
    payload = {"ChangeEventHeader": told, "Phone": "555"}
    data = {"schema": "s", "payload": payload, "event": {"replayId": replay}}
    return {"data": data, "channel": CHANNEL}


class Vendor:
    """Plays Salesforce: for each channel what its next answers are, then good ones."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.events: list[list[dict[str, Any]]] = []
        self.status = 200

    def will(self, channel: str, error: str = "", **more: Any) -> None:
        answer = {"successful": not error, **({"error": error} if error else {}), **more}
        self.answers.setdefault(f"/meta/{channel}", []).append(answer)

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        (message,) = request.json
        self.sent.append(message)
        channel = message["channel"]
        planned = self.answers.get(channel)
        answer = planned.pop(0) if planned else {"successful": True}
        if channel == "/meta/handshake" and answer["successful"]:
            answer = {"clientId": f"client{len(self.sent)}", **answer}
        told = self.events.pop(0) if channel == "/meta/connect" and self.events else []
        response = Response(
            status=200 if answer["successful"] else self.status,
            headers={},
            json=[*told, {"channel": channel, **answer}],
            url="https://x.salesforce.com/cometd/67.0",
            sent_at=NOW,
        )
        if (error := SALESFORCE.classify(response)) is not None:
            raise error
        return response

    def channels(self) -> list[str]:
        return [message["channel"].removeprefix("/meta/") for message in self.sent]


class Listening:
    """Listens until so many things were heard."""

    def __init__(self, vendor: Vendor, **config: Any) -> None:
        self.vendor = vendor
        self.waits: list[timedelta] = []
        self.context = Context(now=NOW, account_id="00D", config=config)

    def hear(self, count: int, at: dict[str, Any] | None = None) -> list[EventBatch]:
        assert SALESFORCE.feed
        listener = SALESFORCE.feed.listen(Checkpoint(at or {}), self.context)
        heard: list[EventBatch] = []
        answer: Any = None
        while len(heard) < count:
            action = listener.send(answer)
            answer = None
            if isinstance(action, EventBatch):
                heard.append(action)
            elif isinstance(action, timedelta):
                self.waits.append(action)
            else:
                answer = self.vendor(action)
        listener.close()
        return heard


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def listening(vendor: Vendor) -> Listening:
    return Listening(vendor)


def test_a_session_is_a_handshake_a_subscription_and_calls_that_are_held(
    vendor: Vendor, listening: Listening
) -> None:
    vendor.events = [[], [change()]]
    (heard,) = listening.hear(1)
    assert vendor.channels() == ["handshake", "subscribe", "connect", "connect"]
    assert vendor.sent[1]["subscription"] == CHANNEL
    assert vendor.sent[1]["ext"] == {"replay": {CHANNEL: -1}}, "only what happens from now on"
    assert {one["clientId"] for one in vendor.sent[1:]} == {"client1"}
    assert all(len(one.json) == 1 and not one.renews for one in vendor.requests)
    (event,) = heard.events
    assert (event.effect, event.streams, event.key) == (Effect.READ, ("accounts",), ACCOUNT)
    assert event.at == NOW - timedelta(seconds=5)
    assert heard.checkpoint == {"replay": 1001, "until": "2026-11-01T11:59:55.000Z"}
    assert not heard.missed


def test_it_goes_on_after_the_last_event_that_was_stored(
    vendor: Vendor, listening: Listening
) -> None:
    listening.hear(1, {"replay": 1001, "until": "2026-11-01T11:00:00Z"})
    assert vendor.sent[1]["ext"] == {"replay": {CHANNEL: 1001}}


def test_all_is_known_to_have_been_told_only_where_nothing_more_came(
    vendor: Vendor, listening: Listening
) -> None:
    """Else the time that is read, should a replay id be lost, would begin too late."""
    at = {"replay": 1001, "until": "2026-11-01T11:00:00.000Z"}
    vendor.events = [[], [change(1004, commitTimestamp=1_793_532_000_000)], []]
    heard = listening.hear(2, at)
    assert [one.checkpoint["until"] for one in heard] == [
        "2026-11-01T11:20:00.000Z",  # as far as the event that came; the first call ends at once
        "2026-11-01T12:00:00.000Z",  # nothing more: all of it
    ]


def test_a_replay_id_that_is_too_old_leaves_the_time_since_then_to_be_read(
    vendor: Vendor, listening: Listening
) -> None:
    vendor.will("subscribe", "400::The replayId {1001} you provided was invalid.  Please provide")
    (heard,) = listening.hear(1, {"replay": 1001, "until": "2026-11-01T11:00:00Z"})
    assert [one["ext"] for one in vendor.sent[1:3]] == [
        {"replay": {CHANNEL: 1001}},
        {"replay": {CHANNEL: -1}},
    ]
    (missed,) = heard.missed
    assert missed.since == datetime(2026, 11, 1, 11, tzinfo=UTC)
    assert missed.until == NOW
    assert set(missed.streams) == EVERY
    assert "replay" not in heard.checkpoint, "that id is never tried again"


def test_what_was_missed_is_told_once_a_session_works_and_all_of_it(
    vendor: Vendor, listening: Listening
) -> None:
    """Else sessions that end at once would each have the same time read."""
    for _ in range(2):
        vendor.will("connect", "403::Unknown client", advice={"reconnect": "handshake"})
    (heard,) = listening.hear(1, {"until": "2026-11-01T11:00:00Z"})
    assert vendor.channels().count("handshake") == 3
    assert [one.since for one in heard.missed] == [datetime(2026, 11, 1, 11, tzinfo=UTC)]


def test_where_no_event_has_come_yet_the_time_between_two_sessions_is_read(
    vendor: Vendor, listening: Listening
) -> None:
    for _ in range(2):
        vendor.will("connect")
    vendor.will("connect", "403::Unknown client", advice={"reconnect": "handshake"})
    first, second = listening.hear(2)
    assert not first.missed
    assert [one.since for one in second.missed] == [NOW]
    assert vendor.channels()[5:] == ["handshake", "subscribe", "connect", "connect"]


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("CREATE", Effect.READ),
        ("UNDELETE", Effect.READ),
        ("GAP_UPDATE", Effect.READ),
        # What a gap event names is read: a row that is not there any more is gone.
        ("GAP_DELETE", Effect.READ),
        ("DELETE", Effect.DELETED),
    ],
)
def test_each_row_that_an_event_names_is_an_event_of_its_own(
    vendor: Vendor, listening: Listening, kind: str, effect: Effect
) -> None:
    vendor.events = [[change(ids=[ACCOUNT, OTHER], changeType=kind)]]
    (heard,) = listening.hear(1)
    assert [(event.key, event.effect) for event in heard.events] == [
        (ACCOUNT, effect),
        (OTHER, effect),
    ]
    assert len({event.id for event in heard.events}) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"ids": ["no id"]},
        {"entityName": None},
        {"commitTimestamp": "yesterday"},
        {"commitTimestamp": 10**30},
        {"transactionKey": ...},
    ],
)
def test_an_event_that_cannot_be_read_keeps_back_none_that_comes_after_it(
    vendor: Vendor, listening: Listening, broken: dict[str, Any]
) -> None:
    unreadable = change(1001, **broken)
    header = unreadable["data"]["payload"]["ChangeEventHeader"]
    for name in [name for name, value in header.items() if value is ...]:
        del header[name]
    vendor.events = [[unreadable, change(1004, ids=[OTHER])]]
    (heard,) = listening.hear(1, {"replay": 7, "until": "2026-11-01T11:00:00Z"})
    assert [event.key for event in heard.events] == [OTHER]
    assert heard.checkpoint["replay"] == 1004
    (missed,) = heard.missed
    assert (set(missed.streams), missed.since) == (EVERY, datetime(2026, 11, 1, 11, tzinfo=UTC))


def test_an_event_is_the_same_whatever_replay_id_it_comes_with(
    vendor: Vendor, listening: Listening
) -> None:
    vendor.events = [[change(1001)], [change(7)]]
    first, second = listening.hear(2)
    assert [one.id for one in first.events] == [one.id for one in second.events]
    assert second.checkpoint["replay"] == 7


@pytest.mark.parametrize(
    "header",
    [
        {"changeType": "GAP_OVERFLOW", "ids": ()},
        {"changeType": "GAP_UPDATE", "ids": ("001*",)},
        {"changeType": "GAP_CREATE", "ids": ()},
    ],
)
def test_an_event_that_does_not_say_which_rows_leaves_its_stream_to_be_read_from_then_on(
    vendor: Vendor, listening: Listening, header: dict[str, Any]
) -> None:
    vendor.events = [[change(**header)]]
    (heard,) = listening.hear(1)
    assert heard.events == []
    (missed,) = heard.missed
    assert (missed.streams, missed.since) == (("accounts",), NOW - timedelta(seconds=5))
    assert heard.checkpoint["replay"] == 1001


def test_objects_of_the_org_are_told_under_their_names_and_what_we_do_not_read_is_passed_over(
    vendor: Vendor,
) -> None:
    row = "a0B000000000001AAA"
    vendor.events = [
        [
            change(1, [row], entityName="Invoice__c"),
            change(2, [row], entityName="Shipment__c"),
            change(3, entityName="Account"),
            change(4, entityName="Task"),
        ]
    ]
    (heard,) = Listening(vendor, objects="invoice__c").hear(1)
    assert [(one.streams, one.key) for one in heard.events] == [
        (("custom_objects",), f"Invoice__c:{row}")
    ]
    assert heard.checkpoint["replay"] == 4, "they were heard all the same"


@pytest.mark.parametrize("status", [200, 401, 403])
def test_a_refused_token_is_renewed_once_and_the_session_begins_anew(
    vendor: Vendor, listening: Listening, status: int
) -> None:
    vendor.status = status
    vendor.will("connect")
    vendor.will(
        "connect",
        "401::Authentication invalid",
        advice={"reconnect": "none", "interval": 0},
    )
    vendor.events = [[change(1001)]]
    listening.hear(2)
    assert vendor.channels() == [
        *("handshake", "subscribe", "connect", "connect"),
        *("handshake", "subscribe", "connect", "connect"),
    ]
    assert [one.renews for one in vendor.requests] == [*[False] * 4, True, *[False] * 3]
    assert vendor.sent[5]["ext"] == {"replay": {CHANNEL: 1001}}


def denied(reason: str) -> dict[str, Any]:
    return {
        "error": "403::Handshake denied",
        "ext": {"sfdc": {"failureReason": reason}, "replay": True, "payload.format": True},
        "advice": {"reconnect": "none"},
    }


@pytest.mark.parametrize("status", [200, 401, 403])
def test_a_token_that_is_refused_just_after_it_was_renewed_breaks_the_connection(
    vendor: Vendor, listening: Listening, status: int
) -> None:
    vendor.status = status
    for _ in range(2):
        vendor.will("handshake", **denied("401::Authentication invalid"))
    with pytest.raises(BrokenConnectionError):
        listening.hear(1)
    assert [one.renews for one in vendor.requests] == [False, True]


@pytest.mark.parametrize(
    ("channel", "error"),
    [
        ("subscribe", "403::User not allowed to subscribe CDC without View All Data permissions"),
        ("subscribe", "400::The channel you requested to subscribe to does not exist {x}"),
        ("connect", "403::Subscriber does not have access to the entity in this topic"),
        ("handshake", "403::User not enabled for streaming"),
    ],
)
def test_what_the_org_does_not_allow_is_told_and_no_token_is_renewed_for_it(
    vendor: Vendor, listening: Listening, channel: str, error: str
) -> None:
    vendor.will(channel, error)
    with pytest.raises(NotAllowedError, match=r"Salesforce (user|org)"):
        listening.hear(5)
    assert not any(one.renews for one in vendor.requests)


def test_a_refusal_that_nobody_foresaw_is_told_without_the_vendor_s_words(
    vendor: Vendor, listening: Listening
) -> None:
    vendor.will("subscribe", "400::Unsupported API version canary")
    with pytest.raises(ContractError) as raised:
        listening.hear(1)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("advice", [{}, {"reconnect": "retry"}])
def test_a_session_of_another_user_is_begun_anew(
    vendor: Vendor, listening: Listening, advice: dict[str, str]
) -> None:
    error = "400::Authenticated user id does not match the session's user id"
    vendor.will("connect", error, advice=advice)
    listening.hear(1)
    assert vendor.channels()[:4] == ["handshake", "subscribe", "connect", "handshake"]


@pytest.mark.parametrize(
    "error",
    [
        "403::Organization concurrent user limit exceeded",
        "403::Organization total events daily limit exceeded",
    ],
)
def test_an_allowance_that_is_used_up_is_waited_for(
    vendor: Vendor, listening: Listening, error: str
) -> None:
    vendor.will("connect", error)
    with pytest.raises(RateLimitedError) as raised:
        listening.hear(5)
    assert raised.value.retry_after == timedelta(minutes=30)


def test_a_server_that_is_too_busy_passes_by_itself(vendor: Vendor, listening: Listening) -> None:
    vendor.will("handshake", **denied("503::Server is too busy. Please try your request again"))
    with pytest.raises(ProviderUnavailableError):
        listening.hear(1)


@pytest.mark.parametrize("answered", [0, 1])
def test_sessions_that_end_at_once_are_begun_later_and_later_and_then_given_up(
    vendor: Vendor, listening: Listening, answered: int
) -> None:
    """Also where the first call, which is not held, is answered each time."""
    for _ in range(9):
        for _ in range(answered):
            vendor.will("connect")
        vendor.will("connect", "403::Unknown client", advice={"reconnect": "handshake"})
    with pytest.raises(ProviderUnavailableError):
        listening.hear(99)
    assert listening.waits == [timedelta(seconds=seconds) for seconds in (4, 8)]


def test_the_time_that_the_advice_gives_is_waited(vendor: Vendor, listening: Listening) -> None:
    vendor.will("connect", advice={"reconnect": "retry", "interval": 2_000})
    listening.hear(1)
    assert listening.waits == [timedelta(seconds=2)]


@pytest.mark.parametrize(
    "body",
    [None, [], {}, [{"channel": "/meta/connect"}], [1], [{"errorCode": "X"}], "text"],
)
def test_an_answer_that_is_none_is_told_as_such(body: Any) -> None:
    assert SALESFORCE.feed
    listener = SALESFORCE.feed.listen(Checkpoint(), Context(now=NOW, account_id="00D"))
    next(listener)
    answer = Response(status=200, headers={}, json=body, url="https://x", sent_at=NOW)
    SALESFORCE.classify(answer)
    with pytest.raises(ContractError):
        listener.send(answer)
