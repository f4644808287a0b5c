"""Google's own SDK against the sandbox, with only its endpoint set."""

import base64
import gc
import json
from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest

from sandbox import start

pytestmark = pytest.mark.referee


class Referee:
    """The SDK, signed in to a mailbox of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int) -> None:
        self.control = control
        self.described = control.get("/_control").json()["gmail"]
        number = len(control.get("/_control/gmail/accounts").json()["accounts"])
        made = {"id": f"referee{number}@firm.example", "size": size}
        self.account = control.post("/_control/gmail/accounts", json=made).json()["id"]
        tokens = control.post("/_control/gmail/grant", json={"account": self.account}).json()
        self.credentials = Credentials(  # type: ignore[no-untyped-call, unused-ignore]
            tokens["access_token"],
            refresh_token=tokens["refresh_token"],
            token_uri=self.described["token_url"],
            client_id=self.described["client_id"],
            client_secret=self.described["client_secret"],
            scopes=["https://www.googleapis.com/auth/gmail.readonly"],
        )
        self.gmail = build(
            "gmail",
            "v1",
            client_options={"api_endpoint": self.described["api_endpoint"]},
            credentials=self.credentials,
            static_discovery=True,
        )
        self.users = self.gmail.users()

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.control.get("/_control/gmail/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def order(self, control: str, **body: Any) -> None:
        answer = self.control.post(
            f"/_control/gmail/{control}", json={"account": self.account, **body}
        )
        answer.raise_for_status()

    def all(self, resource: Any, key: str, **asked: Any) -> list[dict[str, Any]]:
        """Every page, by the SDK's own `list_next`."""
        found: list[dict[str, Any]] = []
        request = resource.list(userId="me", **asked)
        while request is not None:
            answer = request.execute()
            found += answer.get(key, [])
            request = resource.list_next(request, answer)
        return found


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with start(["gmail"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/gmail/limits", json={"scale": 1000})
        yield client


@pytest.fixture
def referee(control: httpx.Client) -> Iterator[Referee]:
    made = Referee(control, 120)
    yield made
    made.gmail.close()


def status_of(request: Any) -> int:
    with pytest.raises(HttpError) as refused:
        request.execute()
    return int(refused.value.resp.status)


def test_the_profile_names_the_mailbox(referee: Referee) -> None:
    profile = referee.users.getProfile(userId="me").execute()
    assert profile["emailAddress"] == referee.account
    assert profile["messagesTotal"] == len(referee.store("messages"))
    assert profile["threadsTotal"] == len(referee.store("threads"))


def test_all_messages_are_listed_in_pages_and_read_whole(referee: Referee) -> None:
    messages = referee.users.messages()
    listed = referee.all(messages, "messages", maxResults=50, includeSpamTrash=True)
    store = referee.store("messages")
    assert len(listed) == 120
    read = {
        each["id"]: messages.get(userId="me", id=each["id"], format="full").execute()
        for each in listed
    }
    assert read == store


def test_labels_and_words_narrow_a_listing(referee: Referee) -> None:
    listed = referee.all(referee.users.messages(), "messages", labelIds=["INBOX", "UNREAD"])
    searched = referee.all(referee.users.messages(), "messages", q="in:inbox is:unread")
    assert listed == searched
    assert 0 < len(listed) < 120


def test_a_message_comes_in_each_format(referee: Referee) -> None:
    id_, stored = next(iter(referee.store("messages").items()))
    get = referee.users.messages().get
    minimal = get(userId="me", id=id_, format="minimal").execute()
    assert minimal == {name: value for name, value in stored.items() if name != "payload"}
    metadata = get(
        userId="me", id=id_, format="metadata", metadataHeaders=["From", "Subject"]
    ).execute()
    assert {each["name"] for each in metadata["payload"]["headers"]} == {"From", "Subject"}
    raw = get(userId="me", id=id_, format="raw").execute()
    assert b"Message-ID:" in base64.urlsafe_b64decode(raw["raw"])
    assert get(userId="me", id=id_, fields="id,threadId").execute().keys() == {"id", "threadId"}


def test_threads_are_listed_and_read(referee: Referee) -> None:
    threads = referee.users.threads()
    listed = referee.all(threads, "threads", maxResults=20, includeSpamTrash=True)
    store = referee.store("threads")
    assert {each["id"] for each in listed} == set(store)
    for each in listed:
        read = threads.get(userId="me", id=each["id"], format="minimal").execute()
        assert read == store[each["id"]]
        assert read["historyId"] == each["historyId"]


def test_labels_are_listed_read_made_and_deleted(referee: Referee) -> None:
    labels = referee.users.labels()
    listed = labels.list(userId="me").execute()["labels"]
    assert {label["id"]: label for label in listed} == referee.store("labels")
    assert labels.get(userId="me", id="INBOX").execute()["messagesTotal"] > 0
    made = labels.create(userId="me", body={"name": "Refereed"}).execute()
    renamed = labels.patch(userId="me", id=made["id"], body={"name": "Judged"}).execute()
    assert renamed["name"] == "Judged"
    labels.delete(userId="me", id=made["id"]).execute()
    assert status_of(labels.get(userId="me", id=made["id"])) == 404


def test_history_is_followed_through_its_pages(referee: Referee) -> None:
    before = referee.users.getProfile(userId="me").execute()["historyId"]
    referee.order("mutate", count=60, seed=4)
    history = referee.users.history()
    told = referee.all(history, "history", startHistoryId=before, maxResults=10)
    assert {record["id"]: record for record in told} == referee.store("history")
    assert told
    added = referee.all(
        history, "history", startHistoryId=before, historyTypes=["messageAdded", "messageDeleted"]
    )
    assert 0 < len(added) < len(told)


def test_expired_history_is_a_404(referee: Referee) -> None:
    before = referee.users.getProfile(userId="me").execute()["historyId"]
    referee.order("expire_checkpoints")
    assert status_of(referee.users.history().list(userId="me", startHistoryId=before)) == 404


def test_a_message_is_labelled_binned_brought_back_and_deleted(referee: Referee) -> None:
    messages = referee.users.messages()
    raw = base64.urlsafe_b64encode(b"To: a@b.example\r\nSubject: Hi\r\n\r\nThere").decode()
    id_ = messages.insert(userId="me", body={"raw": raw, "labelIds": ["INBOX"]}).execute()["id"]
    body = {"addLabelIds": ["STARRED"], "removeLabelIds": ["INBOX"]}
    assert messages.modify(userId="me", id=id_, body=body).execute()["labelIds"] == ["STARRED"]
    assert "TRASH" in messages.trash(userId="me", id=id_).execute()["labelIds"]
    assert messages.untrash(userId="me", id=id_).execute()["labelIds"] == ["STARRED"]
    assert messages.delete(userId="me", id=id_).execute() == ""
    assert status_of(messages.get(userId="me", id=id_)) == 404
    sent = messages.send(userId="me", body={"raw": raw}).execute()
    assert sent["labelIds"] == ["SENT"]


def test_a_watch_is_made_and_stopped(referee: Referee) -> None:
    topic = referee.described["topic_name"]
    began = referee.users.watch(userId="me", body={"topicName": topic}).execute()
    assert int(began["expiration"]) > 0
    assert began["historyId"] == referee.users.getProfile(userId="me").execute()["historyId"]
    assert referee.users.stop(userId="me").execute() == ""
    foreign = {"topicName": "projects/another/topics/gmail"}
    assert status_of(referee.users.watch(userId="me", body=foreign)) == 403


def test_a_batch_answers_each_request(referee: Referee) -> None:
    store = referee.store("messages")
    answers: dict[str, Any] = {}
    errors: dict[str, Any] = {}

    def keep(request_id: str, answer: Any, error: HttpError | None) -> None:
        if error is None:
            answers[request_id] = answer
        else:
            errors[request_id] = error.resp.status

    # The SDK takes a batch's address from the discovery document, whatever the endpoint is.
    batch = BatchHttpRequest(callback=keep, batch_uri=referee.described["batch_url"])
    for id_ in list(store)[:30]:
        batch.add(referee.users.messages().get(userId="me", id=id_), request_id=id_)
    batch.add(referee.users.messages().get(userId="me", id="18aaaaaaaaaaaaaa"), request_id="none")
    batch.execute()
    assert answers == {id_: store[id_] for id_ in answers}
    assert len(answers) == 30
    assert errors == {"none": 404}


# googleapiclient 2.x refreshes a batch's token over a connection that it never closes.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_batch_with_an_expired_token_is_sent_again(referee: Referee) -> None:
    referee.order("tokens", op="expire")
    answers: list[Any] = []
    batch = BatchHttpRequest(
        callback=lambda _, answer, error: answers.append(error or answer["emailAddress"]),
        batch_uri=referee.described["batch_url"],
    )
    batch.add(referee.users.getProfile(userId="me"))
    batch.execute()
    gc.collect()  # now, while the warning is let through
    assert answers == [referee.account]


def test_an_expired_token_is_refreshed_by_itself(referee: Referee) -> None:
    former = referee.credentials.token
    kept = referee.credentials.refresh_token
    referee.order("tokens", op="expire")
    assert referee.users.getProfile(userId="me").execute()["emailAddress"] == referee.account
    assert referee.credentials.token != former
    assert referee.credentials.refresh_token == kept


def test_a_revoked_grant_is_a_refresh_error(referee: Referee) -> None:
    referee.order("tokens", op="revoke")
    with pytest.raises(RefreshError) as refused:
        referee.users.getProfile(userId="me").execute()
    assert refused.value.args[1]["error"] == "invalid_grant"


def test_a_spent_quota_tells_its_reason(control: httpx.Client) -> None:
    referee = Referee(control, 5)
    referee.order("faults", kind="429", count=1)
    with pytest.raises(HttpError) as refused:
        referee.users.labels().list(userId="me").execute()
    assert refused.value.resp.status == 429
    error = json.loads(refused.value.content)["error"]
    assert error["errors"][0]["reason"] == "rateLimitExceeded"
    referee.gmail.close()
