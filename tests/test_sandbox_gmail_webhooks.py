"""Gmail's notifications from the sandbox: of mailboxes with a watch, pushed as Pub/Sub does."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from sandbox.gmail import vendor
from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import AppResponse, Delivery
from tests._delivered import Place, sandboxed
from tests._receiver import OK, Answering, Received

ME = "/gmail.googleapis.com/gmail/v1/users/me"
TOPIC = "projects/atom-sandbox/topics/gmail"
SIGNER = "gmail-push@atom-sandbox.iam.gserviceaccount.com"
WEEK = 7 * 86_400


@dataclass
class Box:
    """A mailbox whose user lets the app see it, in a sandbox that knows the app's address."""

    place: Place
    account: str

    def watch(self, **more: Any) -> Json:
        answer = self.place.call(self.account, "POST", f"{ME}/watch", {"topicName": TOPIC, **more})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def arrive(self, *labels: str) -> str:
        """A message comes, more than a second after the last."""
        self.place.advance(2)
        record = {"record": {"labelIds": list(labels)}} if labels else {}
        return self.place.change(self.account, "messages", "add", **record)

    def settled(self) -> list[Received]:
        self.place.standing(idle=True)
        return self.place.receiver.calls


@pytest.fixture
def box() -> Iterator[Box]:
    with sandboxed("gmail") as place:
        place.point()
        yield Box(place, place.connect(size=8))


def message(call: Received) -> Json:
    found: Json = json.loads(call.body)["message"]
    return found


def told(call: Received) -> Json:
    data: Json = json.loads(base64.b64decode(message(call)["data"], validate=True))
    return data


def claims(box: Box, call: Received) -> Json:
    """What the token of a call says, once it is proven by the published keys."""
    scheme, _, token = call.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    keys = KeySet.import_key_set(box.place.client.get("/www.googleapis.com/oauth2/v3/certs").json())
    found = jwt.decode(token, keys, algorithms=["RS256"])
    assert found.header["typ"] == "JWT"
    return found.claims


def test_only_a_mailbox_with_a_watch_is_told_of(box: Box) -> None:
    box.arrive()
    box.place.standing(events=0, made=0, idle=True)
    began = box.watch()
    box.arrive()
    (call,) = box.settled()
    assert told(call)["emailAddress"] == box.account
    assert int(told(call)["historyId"]) > int(began["historyId"])
    assert box.place.call(box.account, "POST", f"{ME}/stop").status_code == 204
    box.arrive()
    box.place.standing(made=1, idle=True)


def test_a_push_is_pubsubs_envelope(box: Box) -> None:
    box.watch()
    box.arrive()
    (call,) = box.settled()
    assert (call.method, call.path) == ("POST", "/hooks")
    assert call.headers["content-type"] == "application/json"
    body = json.loads(call.body)
    assert set(body) == {"message", "subscription"}
    assert body["subscription"].startswith("projects/atom-sandbox/subscriptions/")
    pushed = message(call)
    assert set(pushed) == {"data", "messageId", "message_id", "publishTime", "publish_time"}
    assert pushed["messageId"] == pushed["message_id"]
    assert pushed["messageId"].isdecimal()
    published_at = datetime.fromisoformat(pushed["publishTime"])
    assert abs(published_at.timestamp() - time.time()) < 60


def test_the_history_id_comes_as_a_number_and_as_text(box: Box) -> None:
    box.watch()
    kinds = set()
    for _ in range(60):
        box.arrive()
        kinds.add(type(told(box.settled()[-1])["historyId"]))
        if len(kinds) == 2:
            break
    assert kinds == {int, str}


def test_a_push_is_proven_by_a_token_of_googles_for_its_address(box: Box) -> None:
    box.watch()
    box.arrive()
    (call,) = box.settled()
    said = claims(box, call)
    assert said["iss"] == "https://accounts.google.com"
    assert said["aud"] == box.place.receiver.url
    assert (said["email"], said["email_verified"]) == (SIGNER, True)
    assert said["exp"] - said["iat"] == 3600
    assert said["iat"] <= time.time() + 60
    assert said["exp"] > time.time() + 1800
    described = box.place.client.get("/_control").json()["gmail"]
    assert (described["push_account"], described["topic_name"]) == (SIGNER, TOPIC)


def test_the_tokens_audience_and_account_are_set_with_the_address(box: Box) -> None:
    box.place.point(audience="our-app", account="other@example.iam.gserviceaccount.com")
    box.watch()
    box.arrive()
    said = claims(box, box.settled()[0])
    assert (said["aud"], said["email"]) == ("our-app", "other@example.iam.gserviceaccount.com")
    wrong = {"url": box.place.receiver.url, "audience": 7}
    assert box.place.client.post("/_control/gmail/webhook", json=wrong).status_code == 400


def test_the_token_of_a_forged_push_names_the_key_and_is_not_signed_by_it(box: Box) -> None:
    box.watch()
    box.place.order(forge=1, retry_scale=0)
    answers = iter([Answering(401), OK])
    box.place.receiver.answer = lambda call: next(answers)
    box.arrive()
    forged, genuine = box.settled()
    with pytest.raises(BadSignatureError):
        claims(box, forged)
    assert claims(box, genuine)["email"] == SIGNER
    assert message(forged)["messageId"] == message(genuine)["messageId"]


def test_a_watch_is_over_after_a_week_unless_it_was_asked_for_again(box: Box) -> None:
    began = box.watch()
    assert int(began["expiration"]) / 1000 - time.time() == pytest.approx(WEEK, abs=60)
    box.place.advance(WEEK - 3600)
    again = box.watch()
    assert int(again["expiration"]) > int(began["expiration"])
    box.place.advance(7200)
    box.arrive()
    box.place.standing(made=1, idle=True)
    box.place.advance(WEEK)
    box.arrive()
    box.place.standing(made=1, idle=True)


def test_a_topic_that_gmail_may_not_publish_to_is_refused_and_nothing_is_pushed(box: Box) -> None:
    body = {"topicName": "projects/other/topics/gmail"}
    assert box.place.call(box.account, "POST", f"{ME}/watch", body).status_code == 403
    box.arrive()
    box.place.standing(made=0, idle=True)


def test_the_end_of_the_consent_ends_the_pushes(box: Box) -> None:
    box.watch()
    box.place.control("POST", "tokens", account=box.account, op="revoke")
    box.arrive()
    box.place.standing(made=0, idle=True)


def test_more_than_one_change_a_second_of_a_mailbox_is_dropped_and_stands_in_the_history(
    box: Box,
) -> None:
    began = box.watch()
    other = Box(box.place, box.place.connect(size=8))
    other.watch()
    box.arrive()
    box.place.control("POST", "mutate", account=other.account, count=20, streams=["messages"])
    found = box.place.standing(made=2, idle=True)
    assert found["dropped"] >= 15
    assert {told(call)["emailAddress"] for call in box.settled()} == {box.account, other.account}
    start = {"startHistoryId": began["historyId"]}
    token = {"authorization": f"Bearer {box.place.token(box.account)}"}
    listed = box.place.client.get(f"{ME}/history", params=start, headers=token).json()
    assert [each["id"] for each in listed["history"]] == [str(told(box.settled()[0])["historyId"])]


@pytest.mark.parametrize(
    ("behavior", "labels", "heard"),
    [
        ("include", ["INBOX"], ["INBOX"]),
        ("exclude", ["INBOX"], ["SPAM"]),
        ("include", [], ["INBOX", "SPAM"]),
    ],
)
def test_a_watch_may_be_for_some_labels_only(
    box: Box, behavior: str, labels: list[str], heard: list[str]
) -> None:
    box.watch(labelIds=labels, labelFilterBehavior=behavior)
    history = {}
    for label in ("INBOX", "SPAM"):
        id_ = box.arrive(label)
        shown = box.place.store(box.account)["messages"][id_]
        history[str(shown["historyId"])] = label
        box.place.standing(idle=True)
    assert [history[str(told(call)["historyId"])] for call in box.settled()] == heard


def test_a_label_taken_off_counts_for_a_watch_on_it(box: Box) -> None:
    id_ = box.arrive("INBOX", "STARRED")
    box.watch(labelIds=["STARRED"])
    box.place.advance(2)
    path = f"{ME}/messages/{id_}/modify"
    box.place.call(box.account, "POST", path, {"removeLabelIds": ["STARRED"]})
    box.place.standing(made=1, acknowledged=1, idle=True)


def test_a_change_through_the_api_is_pushed(box: Box) -> None:
    box.watch()
    raw = base64.urlsafe_b64encode(b"To: a@b.example\r\nSubject: x\r\n\r\nhello").decode()
    assert box.place.call(box.account, "POST", f"{ME}/messages/send", {"raw": raw}).is_success
    box.place.standing(made=1, acknowledged=1, idle=True)


def _answer(status: int, call: Received) -> Answering:
    return Answering(status)


def test_what_pubsub_takes_for_an_acknowledgement(box: Box) -> None:
    sender = vendor.webhook
    assert sender
    assert sender.deadline == 10
    box.watch()
    for status, taken in ((200, 1), (201, 2), (202, 3), (204, 4), (203, 4), (302, 4)):
        box.place.receiver.answer = partial(_answer, status)
        box.arrive()
        box.place.standing(acknowledged=taken, in_flight=0, waiting=0)
    box.place.standing(retrying=2)


def test_a_retry_is_the_same_message_with_growing_gaps_until_a_week_is_over(box: Box) -> None:
    box.watch()
    box.place.receiver.answer = lambda call: Answering(503)
    box.arrive()
    for attempt in (1, 2, 3):
        box.place.standing(sent=attempt, retrying=1, in_flight=0)
        box.place.advance(600)
    box.place.standing(sent=4, retrying=1, in_flight=0)
    assert len({message(call)["messageId"] for call in box.place.receiver.calls}) == 1
    box.place.advance(WEEK)
    box.place.standing(sent=5, failed=1, idle=True)
    sender = vendor.webhook
    assert sender
    made_at = datetime.now(UTC)
    new = [Delivery(notices=(), made_at=made_at, now=made_at, attempt=n) for n in range(1, 20)]
    waits = [sender.retry(delivery, AppResponse(status=503)) for delivery in new]
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == 600
