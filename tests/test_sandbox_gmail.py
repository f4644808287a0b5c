"""Gmail on loopback, over real HTTP: what its documentation promises is what a client gets."""

import base64
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._gmailbox import ME, SCOPE, Box, calm, reason


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["gmail"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin) as client:
        yield client


@pytest.fixture
def box(client: httpx.Client) -> Box:
    """A fresh mailbox, with room for as many calls as a test makes."""
    return Box(client, size=60)


def test_an_expired_or_missing_token_is_401(box: Box) -> None:
    box.control("tokens", op="expire")
    answer = box.get("/profile")
    assert reason(answer) == (401, "authError", "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert reason(box.client.get(f"{ME}/profile"))[0] == 401


def test_a_missing_scope_is_403_insufficient_permissions(box: Box) -> None:
    narrow = Box(box.client, size=5, scopes=["openid", f"{SCOPE}gmail.labels"])
    assert narrow.get("/labels").status_code == 200
    told = (403, "insufficientPermissions", "PERMISSION_DENIED")
    assert reason(narrow.get("/messages")) == told
    readonly = Box(box.client, size=5, scopes=[f"{SCOPE}gmail.readonly"])
    message = readonly.get("/messages").json()["messages"][0]["id"]
    assert reason(readonly.post(f"/messages/{message}/trash")) == told


def test_the_metadata_scope_refuses_text_and_search(box: Box) -> None:
    narrow = Box(box.client, size=5, scopes=[f"{SCOPE}gmail.metadata"])
    message = narrow.get("/messages").json()["messages"][0]
    path = f"/messages/{message['id']}"
    assert narrow.get(path, format="metadata").status_code == 200
    assert narrow.get(path, format="minimal").status_code == 200
    for refused in (
        narrow.get(path),
        narrow.get(path, format="raw"),
        narrow.get(f"/threads/{message['threadId']}"),
        narrow.get("/messages", q="in:inbox"),
    ):
        assert refused.status_code == 403


def test_a_user_reads_their_own_mailbox_only(box: Box) -> None:
    users = "/gmail.googleapis.com/gmail/v1/users"
    own = box.client.get(f"{users}/{box.id.upper()}/profile", headers=box.headers)
    assert own.json()["emailAddress"] == box.id
    other = box.client.get(f"{users}/someone@else.example/profile", headers=box.headers)
    assert other.status_code == 403


def test_an_ordinary_mailbox_has_messages_threads_and_labels(client: httpx.Client) -> None:
    box = Box(client, size=250)
    profile = box.get("/profile").json()
    assert profile["messagesTotal"] == 250
    assert 95 <= profile["threadsTotal"] <= 150
    assert 16 <= len(box.get("/labels").json()["labels"]) <= 20
    assert box.store("history") == {}
    assert box.get("/history", startHistoryId=profile["historyId"]).json().keys() == {"historyId"}


def test_an_empty_mailbox_lists_without_the_key(client: httpx.Client) -> None:
    box = Box(client, size=0)
    assert box.get("/messages").json() == {"resultSizeEstimate": 0}
    assert box.get("/threads").json() == {"resultSizeEstimate": 0}
    assert box.get("/history", startHistoryId=box.now()).json().keys() == {"historyId"}
    assert all(label["type"] == "system" for label in box.get("/labels").json()["labels"])


def test_messages_are_listed_newest_first_in_pages_that_shift_with_nothing(box: Box) -> None:
    listed = box.all("/messages", "messages", includeSpamTrash="true")
    store = box.store("messages")
    dates = [int(store[each["id"]]["internalDate"]) for each in listed]
    assert dates == sorted(dates, reverse=True)
    assert {each["id"] for each in listed} == set(store)
    assert all(each.keys() == {"id", "threadId"} for each in listed)
    first = box.get("/messages", includeSpamTrash="true", maxResults=20).json()
    box.order("messages", "add")
    box.order("messages", "delete", first["messages"][3]["id"])
    rest = box.all(
        "/messages",
        "messages",
        includeSpamTrash="true",
        maxResults=20,
        pageToken=first["nextPageToken"],
    )
    assert first["messages"] + rest == listed


def test_page_sizes_are_100_by_default_and_500_at_most(client: httpx.Client) -> None:
    box = Box(client, size=560)
    for path in ("/messages", "/threads"):
        key = path.removeprefix("/")
        default = box.get(path, includeSpamTrash="true").json()[key]
        most = box.get(path, includeSpamTrash="true", maxResults=5000).json()[key]
        assert (len(default), len(most)) == (100, min(500, len(box.store(key))))
    assert reason(box.get("/messages", maxResults="many"))[0] == 400
    assert reason(box.get("/messages", pageToken="nonsense"))[0] == 400


def test_spam_and_the_bin_are_left_out_unless_asked_for(box: Box) -> None:
    message = box.get("/messages", labelIds="INBOX").json()["messages"][0]
    trashed = box.post(f"/messages/{message['id']}/trash").json()
    assert "TRASH" in trashed["labelIds"]
    assert "INBOX" not in trashed["labelIds"]
    shown = [each["id"] for each in box.all("/messages", "messages")]
    assert message["id"] not in shown
    for asked in ({"includeSpamTrash": "true"}, {"labelIds": "TRASH"}, {"q": "in:trash"}):
        assert message["id"] in [each["id"] for each in box.all("/messages", "messages", **asked)]
    assert box.post(f"/messages/{message['id']}/untrash").status_code == 200
    assert message["id"] in [each["id"] for each in box.all("/messages", "messages")]


def test_label_ids_must_all_fit(box: Box) -> None:
    store = box.store("messages")
    wanted = {id_ for id_, m in store.items() if {"INBOX", "UNREAD"} <= set(m.get("labelIds", []))}
    listed = box.all("/messages", "messages", labelIds=["INBOX", "UNREAD"])
    assert {each["id"] for each in listed} == wanted
    assert wanted
    assert reason(box.get("/messages", labelIds="Label_999"))[0] == 400


def test_a_search_knows_places_labels_senders_and_subjects(box: Box) -> None:
    record: dict[str, Any] = {
        "subject": "Quarterly Zebra figures",
        "from": "Zoë <zoe@zebra.example>",
        "labelIds": ["INBOX", "Label_2"],
        "text": "The numbers you asked for.",
    }
    made = box.order("messages", "add", **record).json()["id"]
    for q in (
        "in:inbox zebra",
        "label:clients-renewals",
        "from:zoe@zebra.example",
        'subject:"zebra figures"',
        "numbers subject:quarterly",
        "in:anywhere from:zebra -in:sent",
        "newer_than:1d subject:zebra",
        "after:2020/01/01 from:zoe@zebra",
    ):
        found = [each["id"] for each in box.all("/messages", "messages", q=q)]
        assert made in found, q
    for q in ("in:sent zebra", "-from:zebra zebra", "before:2020/01/01", "is:starred zebra"):
        assert box.get("/messages", q=q).json()["resultSizeEstimate"] == 0, q


def test_a_message_is_shown_in_four_formats(box: Box) -> None:
    id_ = box.order("messages", "add", subject="Grüße", text="One & two\nthree").json()["id"]
    full = box.get(f"/messages/{id_}").json()
    assert full == box.store("messages")[id_]
    assert full["snippet"] == "One &amp; two three"
    assert full["payload"]["mimeType"] == "multipart/alternative"
    headers = {each["name"]: each["value"] for each in full["payload"]["headers"]}
    assert headers["Subject"] == "Grüße"
    assert {"From", "To", "Date", "Message-ID"} <= headers.keys()
    text = full["payload"]["parts"][0]
    assert text["mimeType"] == "text/plain"
    assert base64.urlsafe_b64decode(text["body"]["data"]).decode() == "One & two\nthree"
    minimal = box.get(f"/messages/{id_}", format="minimal").json()
    assert minimal == {name: value for name, value in full.items() if name != "payload"}
    asked = {"format": "metadata", "metadataHeaders": ["subject", "to"]}
    metadata = box.get(f"/messages/{id_}", **asked).json()
    assert [each["name"] for each in metadata["payload"]["headers"]] == ["To", "Subject"]
    raw = box.get(f"/messages/{id_}", format="raw").json()
    written = base64.urlsafe_b64decode(raw["raw"])
    assert len(written) == full["sizeEstimate"]
    parsed = message_from_bytes(written)
    assert parsed["Message-ID"] == headers["Message-ID"]
    assert parsed.get_payload(0).get_payload(decode=True) == b"One & two\nthree"  # type: ignore[union-attr]
    assert reason(box.get(f"/messages/{id_}", format="prose"))[0] == 400


def test_what_is_attached_is_fetched_by_its_id(client: httpx.Client) -> None:
    box = Box(client, size=120)
    found = box.all("/messages", "messages", q="has:attachment")
    message = box.get(f"/messages/{found[0]['id']}").json()
    part = message["payload"]["parts"][-1]
    assert part["filename"].endswith(".pdf")
    assert "data" not in part["body"]
    path = f"/messages/{message['id']}/attachments/{part['body']['attachmentId']}"
    got = box.get(path).json()
    assert len(base64.urlsafe_b64decode(got["data"])) == got["size"] == part["body"]["size"]


def test_unknown_and_impossible_ids_are_told_apart(box: Box) -> None:
    assert reason(box.get("/messages/18aaaaaaaaaaaaaa")) == (404, "notFound", "NOT_FOUND")
    assert reason(box.get("/threads/18aaaaaaaaaaaaaa")) == (404, "notFound", "NOT_FOUND")
    assert reason(box.get("/messages/not-an-id")) == (400, "invalidArgument", "INVALID_ARGUMENT")
    assert reason(box.get("/nothing"))[0] == 404


def test_a_thread_goes_with_its_last_message_and_has_the_id_of_its_last_change(box: Box) -> None:
    thread = next(each for each in box.store("threads").values() if len(each["messages"]) == 2)
    first, last = (each["id"] for each in thread["messages"])
    shown = box.get(f"/threads/{thread['id']}", format="minimal").json()
    assert shown == thread
    assert int(shown["historyId"]) == max(int(each["historyId"]) for each in shown["messages"])
    assert box.delete(f"/messages/{first}").status_code == 204
    left = box.get(f"/threads/{thread['id']}", format="minimal").json()
    assert [each["id"] for each in left["messages"]] == [last]
    assert int(left["historyId"]) > int(shown["historyId"])
    assert box.delete(f"/messages/{last}").content == b""
    assert box.get(f"/threads/{thread['id']}").status_code == 404
    assert thread["id"] not in box.store("threads")


def test_the_store_is_what_the_api_gives(box: Box) -> None:
    box.control("mutate", count=60, seed=5)
    for id_, message in box.store("messages").items():
        assert box.get(f"/messages/{id_}", format="full").json() == message
    for id_, thread in box.store("threads").items():
        assert box.get(f"/threads/{id_}", format="minimal").json() == thread
    listed = box.get("/labels").json()["labels"]
    assert {label["id"]: label for label in listed} == box.store("labels")


def test_what_is_inserted_or_sent_is_a_message_with_labels(box: Box) -> None:
    raw = base64.urlsafe_b64encode(b"To: a@b.example\r\nSubject: Hi\r\n\r\nThere").decode()
    before = box.now()
    sent = box.post("/messages/send", {"raw": raw.rstrip("=")}).json()
    assert sent["labelIds"] == ["SENT"]
    inserted = box.post("/messages", {"raw": raw, "labelIds": ["INBOX", "UNREAD"]}).json()
    shown = box.get(f"/messages/{inserted['id']}").json()
    assert shown["snippet"] == "There"
    assert {"name": "From", "value": box.id} in shown["payload"]["headers"]
    records = box.all("/history", "history", startHistoryId=before)
    added = [entry["message"]["id"] for r in records for entry in r.get("messagesAdded", [])]
    assert added == [sent["id"], inserted["id"]]
    assert box.post("/messages", {"raw": "***"}).status_code == 400
    assert box.post("/messages/send", {}).status_code == 400
