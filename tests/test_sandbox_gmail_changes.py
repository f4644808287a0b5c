"""Gmail on loopback: what changes in a mailbox, and how its history tells of it."""

from collections.abc import Iterator

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._gmailbox import ME, Box, calm, reason

WEEK = 7 * 86_400


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


def test_history_tells_every_kind_of_change_and_ids_grow_with_gaps(box: Box) -> None:
    before = box.now()
    made = box.order("messages", "add").json()["id"]
    box.order("messages", "change", made, addLabelIds=["STARRED"], removeLabelIds=["UNREAD"])
    box.post(f"/messages/{made}/trash")
    box.order("messages", "delete", made)
    body = box.get("/history", startHistoryId=before).json()
    records = body["history"]
    kinds = [sorted(record.keys() - {"id", "messages"}) for record in records]
    assert kinds == [
        ["messagesAdded"],
        ["labelsAdded", "labelsRemoved"],
        ["labelsAdded", "labelsRemoved"],
        ["messagesDeleted"],
    ]
    assert records[1]["labelsAdded"][0]["labelIds"] == ["STARRED"]
    assert records[2]["labelsAdded"][0]["labelIds"] == ["TRASH"]
    assert records[3]["messagesDeleted"][0]["message"]["id"] == made
    ids = [int(record["id"]) for record in records]
    assert ids == sorted(set(ids))
    assert all(isinstance(record["id"], str) for record in records)
    assert int(body["historyId"]) >= ids[-1] > int(before)
    assert {record["id"]: record for record in records} == box.store("history")


def test_history_can_be_narrowed_to_kinds_and_a_label(box: Box) -> None:
    before = box.now()
    made = box.order("messages", "add", labelIds=["INBOX"]).json()["id"]
    box.order("messages", "change", made, addLabelIds=["Label_1"])
    box.order("messages", "delete", made)
    asked = {"startHistoryId": before}
    some = box.all("/history", "history", **asked, historyTypes=["messageAdded", "messageDeleted"])
    assert [(r.keys() - {"id", "messages"}) for r in some] == [
        {"messagesAdded"},
        {"messagesDeleted"},
    ]
    labelled = box.all("/history", "history", **asked, labelId="Label_1")
    assert [(r.keys() - {"id", "messages"}) for r in labelled] == [
        {"labelsAdded"},
        {"messagesDeleted"},
    ]
    assert reason(box.get("/history", **asked, historyTypes="everything"))[0] == 400


def test_history_comes_in_pages(box: Box) -> None:
    before = box.now()
    box.control("mutate", count=80, seed=11)
    stored = list(box.store("history").values())
    assert box.all("/history", "history", startHistoryId=before, maxResults=7) == stored
    page = box.get("/history", startHistoryId=before, maxResults=7).json()
    assert len(page["history"]) == 7
    assert len(box.get("/history", startHistoryId=before).json()["history"]) == min(
        100, len(stored)
    )
    done = box.get("/history", startHistoryId=page["historyId"]).json()
    assert done.keys() == {"historyId"}


def test_a_message_has_the_id_of_its_last_change(box: Box) -> None:
    made = box.order("messages", "add", labelIds=["INBOX"]).json()["id"]
    before = box.now()
    path = f"/messages/{made}/modify"
    assert box.post(path, {"addLabelIds": ["STARRED"]}).json()["labelIds"] == ["INBOX", "STARRED"]
    assert box.post(path, {"addLabelIds": ["STARRED"]}).status_code == 200
    records = box.all("/history", "history", startHistoryId=before)
    assert len(records) == 1
    shown = box.get(f"/messages/{made}", format="minimal").json()
    assert shown["historyId"] == records[0]["id"]
    after = box.get("/history", startHistoryId=shown["historyId"]).json()
    assert "history" not in after


def test_a_history_id_needs_to_be_given_and_to_be_a_known_one(box: Box) -> None:
    assert reason(box.get("/history"))[0] == 400
    assert reason(box.get("/history", startHistoryId="soon"))[0] == 400
    told = (404, "notFound", "NOT_FOUND")
    assert reason(box.get("/history", startHistoryId="1")) == told
    assert reason(box.get("/history", startHistoryId=str(int(box.now()) + 1_000_000))) == told


def test_expired_history_is_404_until_a_fresh_id_is_taken(box: Box) -> None:
    before = box.now()
    box.control("expire_checkpoints")
    assert reason(box.get("/history", startHistoryId=before)) == (404, "notFound", "NOT_FOUND")
    fresh = box.now()
    assert box.get("/history", startHistoryId=fresh).status_code == 200


def test_history_is_forgotten_after_a_week_of_the_clock() -> None:
    with start(["gmail"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        box = Box(client, size=20)
        before = box.now()
        box.order("messages", "add")
        client.post("/_control/clock", json={"advance": WEEK - 3600})
        box.headers = {"Authorization": f"Bearer {box.grant()['access_token']}"}
        assert len(box.get("/history", startHistoryId=before).json()["history"]) == 1
        fresh = box.now()
        assert int(fresh) > int(before)
        client.post("/_control/clock", json={"advance": 7200})
        box.headers = {"Authorization": f"Bearer {box.grant()['access_token']}"}
        assert box.get("/history", startHistoryId=before).status_code == 404
        assert box.get("/history", startHistoryId=fresh).status_code == 200
        assert len(box.store("history")) == 1


def test_labels_are_listed_whole_and_counted_only_alone(box: Box) -> None:
    listed = box.get("/labels").json()["labels"]
    assert all("messagesTotal" not in label for label in listed)
    inbox = box.get("/labels/INBOX").json()
    held = [m for m in box.store("messages").values() if "INBOX" in m.get("labelIds", [])]
    assert inbox["messagesTotal"] == len(held)
    assert inbox["threadsTotal"] == len({m["threadId"] for m in held})
    assert inbox["messagesUnread"] == len([m for m in held if "UNREAD" in m["labelIds"]])
    assert reason(box.get("/labels/Label_999"))[0] == 404


def test_labels_are_made_renamed_and_taken_off_when_deleted(box: Box) -> None:
    made = box.post("/labels", {"name": "Board"}).json()
    assert made["type"] == "user"
    assert reason(box.post("/labels", {"name": "board"}))[0] == 409
    path = f"/labels/{made['id']}"
    renamed = box.client.patch(f"{ME}{path}", json={"name": "Council"}, headers=box.headers)
    assert renamed.json()["name"] == "Council"
    message = box.get("/messages").json()["messages"][0]["id"]
    box.post(f"/messages/{message}/modify", {"addLabelIds": [made["id"]]})
    before = box.now()
    assert box.delete(path).status_code == 204
    assert made["id"] not in box.store("labels")
    assert made["id"] not in box.store("messages")[message].get("labelIds", [])
    taken_off = box.all("/history", "history", startHistoryId=before)
    assert taken_off[0]["labelsRemoved"][0]["labelIds"] == [made["id"]]
    assert reason(box.delete("/labels/INBOX"))[0] == 400
    assert box.order("labels", "delete", "INBOX").status_code == 400


def test_a_label_that_is_not_there_or_gmails_own_is_not_put_on(box: Box) -> None:
    message = box.get("/messages").json()["messages"][0]["id"]
    for label in ("Label_999", "SENT", "DRAFT"):
        answer = box.post(f"/messages/{message}/modify", {"addLabelIds": [label]})
        assert reason(answer) == (400, "invalidArgument", "INVALID_ARGUMENT")


def test_mutate_changes_messages_and_labels_in_every_way(client: httpx.Client) -> None:
    box = Box(client, size=100)
    before = box.now()
    changes = box.control("mutate", count=200, seed=2)["changes"]
    assert {(change["stream"], change["op"]) for change in changes} == {
        (stream, op) for stream in ("messages", "labels") for op in ("add", "change", "delete")
    }
    records = box.all("/history", "history", startHistoryId=before, maxResults=500)
    assert {record["id"]: record for record in records} == box.store("history")
    kinds = {kind for record in records for kind in record.keys() - {"id", "messages"}}
    assert kinds == {"messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved"}
    put_on = {label for r in records for e in r.get("labelsAdded", []) for label in e["labelIds"]}
    assert "TRASH" in put_on


def test_replaying_history_over_an_old_copy_gives_the_mailbox_of_now(box: Box) -> None:
    copy = {id_: m.get("labelIds", []) for id_, m in box.store("messages").items()}
    before = box.now()
    box.control("mutate", count=150, seed=9)
    for record in box.all("/history", "history", startHistoryId=before):
        for entry in record.get("messagesAdded", []):
            copy[entry["message"]["id"]] = entry["message"].get("labelIds", [])
        for entry in record.get("labelsRemoved", []):
            held = copy[entry["message"]["id"]]
            copy[entry["message"]["id"]] = [x for x in held if x not in entry["labelIds"]]
        for entry in record.get("labelsAdded", []):
            copy[entry["message"]["id"]] = [*copy[entry["message"]["id"]], *entry["labelIds"]]
        for entry in record.get("messagesDeleted", []):
            del copy[entry["message"]["id"]]
    assert copy == {id_: m.get("labelIds", []) for id_, m in box.store("messages").items()}


def test_the_same_seed_gives_the_same_mail() -> None:
    def told(seed: int) -> list[str]:
        with (
            start(["gmail"], seed=seed) as origin,
            httpx.Client(base_url=origin, timeout=60) as client,
        ):
            account = client.get("/_control").json()["gmail"]["account_id"]
            store = client.get("/_control/gmail/store", params={"account": account}).json()
            return [message["snippet"] for message in store["streams"]["messages"].values()]

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_a_watch_lasts_a_week_and_is_renewed_in_place(box: Box) -> None:
    topic = box.client.get("/_control").json()["gmail"]["topic_name"]
    began = box.post("/watch", {"topicName": topic, "labelIds": ["INBOX"]}).json()
    assert began.keys() == {"historyId", "expiration"}
    assert began["historyId"] == box.now()
    renewed = box.post("/watch", {"topicName": topic}).json()
    assert int(renewed["expiration"]) >= int(began["expiration"])
    held = box.control("watches")[box.id]
    assert (held["labelIds"], held["expiration"]) == ([], renewed["expiration"])
    assert box.post("/stop").status_code == 204
    assert box.control("watches")[box.id] is None


def test_a_watch_needs_a_topic_on_which_gmail_may_publish(box: Box) -> None:
    assert reason(box.post("/watch", {}))[0] == 400
    assert reason(box.post("/watch", {"topicName": "mine"}))[0] == 400
    for topic in ("projects/atom-sandbox/topics/other", "projects/theirs/topics/gmail"):
        refused = reason(box.post("/watch", {"topicName": topic}))
        assert refused[::2] == (403, "PERMISSION_DENIED")
