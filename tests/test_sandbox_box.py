"""Box on loopback, over real HTTP: what Box documents, or refuses, is what a client gets."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

API = "/api.box.com"
REFUSED = 400


class Person:
    """One account, a client of the sandbox and a token of the person's."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.described = client.get("/_control").json()["box"]
        self.id = str(self.control("accounts", size=120)["id"])
        self.tokens = self.control("grant", account=self.id)

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/box/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **more: Any) -> str:
        return str(self.control(f"records/{stream}?account={self.id}", op=op, **more)["id"])

    def ask(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens['access_token']}"}
        return self.client.request(method, f"{API}/2.0{path}", headers=headers, **options)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.ask(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
        answer = self.ask(path, method, **options)
        return answer.status_code, answer.json()["code"]

    def token(self, path: str = "token", **fields: str) -> httpx.Response:
        known = {name: self.described[name] for name in ("client_id", "client_secret")}
        return self.client.post(f"{API}/oauth2/{path}", data={**known, **fields})


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with start(["box"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return Person(client)


def test_a_listing_is_of_minis_and_of_no_more_than_a_thousand(person: Person) -> None:
    first = person.get("/folders/0/items", limit=1)
    assert {"total_count", "offset", "limit", "entries"} == set(first)
    assert {"type", "id", "etag", "name"} <= set(first["entries"][0])
    assert "modified_at" not in first["entries"][0]
    for wrong in ({"limit": 1_001}, {"offset": 10_001}, {"usemarker": "true", "marker": "made-up"}):
        assert person.refused("/folders/0/items", params=wrong) == (REFUSED, "bad_request")


def test_a_marker_lapses(person: Person) -> None:
    asked = {"usemarker": "true", "limit": 5, "fields": "name"}
    page = person.get("/folders/0/items", **asked)
    assert len(page["entries"]) == 5
    more = {**asked, "marker": page["next_marker"]}
    assert person.get("/folders/0/items", **more)["entries"] != page["entries"]
    person.control("expire_checkpoints", account=person.id)
    assert person.refused("/folders/0/items", params=more) == (REFUSED, "bad_request")


def test_what_is_trashed_and_what_is_not_there_are_told_apart(person: Person) -> None:
    id = person.change("files", "add", record={"name": "a"})
    assert person.get(f"/files/{id}")["item_status"] == "active"
    person.change("files", "delete", id=id)
    assert person.refused(f"/files/{id}") == (404, "trashed")
    assert person.refused("/files/12") == (404, "not_found")
    assert id in {row["id"] for row in person.get("/folders/trash/items", limit=1000)["entries"]}


def test_of_a_trashed_folder_only_itself_is_told_and_nothing_lists_it(person: Person) -> None:
    folder = person.change("folder_items", "add", record={"type": "folder", "parent": "0"})
    id = folder.removeprefix("folder_")
    file = person.change("files", "add", record={"parent": id})
    position = person.get("/events", stream_position="now")["next_stream_position"]
    person.change("folder_items", "delete", id=folder)
    told = person.get("/events", stream_position=position)["entries"]
    assert [(one["event_type"], one["source"]["id"]) for one in told] == [("ITEM_TRASH", id)]
    assert person.refused(f"/folders/{id}/items") == (404, "trashed")
    assert person.refused(f"/files/{file}") == (404, "trashed")
    trash = {row["id"] for row in person.get("/folders/trash/items", limit=1000)["entries"]}
    assert id in trash
    assert file not in trash


def test_events_come_twice_out_of_order_and_end_with_a_page_of_none(person: Person) -> None:
    position, ids, times, kinds = "0", list[str](), list[str](), set[type]()
    while True:
        page = person.get("/events", stream_position=position, limit=500)
        assert page["chunk_size"] == len(page["entries"]) <= 501
        kinds.add(type(page["next_stream_position"]))
        if not page["entries"]:
            break
        ids += [event["event_id"] for event in page["entries"]]
        times += [event["event_id"] for event in page["entries"]]
        position = str(page["next_stream_position"])
    assert len(set(ids)) < len(ids)
    assert times != sorted(times)
    for wrong in ("x", "-7", "7"):
        asked = {"stream_position": wrong}
        assert person.refused("/events", params=asked) == (REFUSED, "bad_request")


def test_events_are_gone_after_two_weeks(person: Person, client: httpx.Client) -> None:
    position = person.get("/events", stream_position="now")["next_stream_position"]
    person.change("files", "add")
    assert person.get("/events", stream_position=position)["entries"]
    client.post("/_control/clock", json={"advance": 15 * 86_400})
    person.tokens = person.control("grant", account=person.id)
    assert not person.get("/events", stream_position=position)["entries"]


def test_changes_leave_out_what_moves_nothing_in_the_tree(person: Person) -> None:
    position = person.get("/events", stream_position="now")["next_stream_position"]
    person.change("comments", "add")
    for kinds, times in (("all", 1), ("changes", 0)):
        page = person.get("/events", stream_position=position, stream_type=kinds)
        assert len(page["entries"]) == times


def test_a_refresh_token_is_good_once_and_revoking_ends_all(person: Person) -> None:
    spent = person.tokens["refresh_token"]
    renewed = person.token(grant_type="refresh_token", refresh_token=spent)
    assert renewed.json()["refresh_token"] != spent
    again = person.token(grant_type="refresh_token", refresh_token=spent)
    assert (again.status_code, again.json()["error"]) == (REFUSED, "invalid_grant")
    assert person.token("revoke", token=renewed.json()["refresh_token"]).status_code == 200
    assert person.ask("/users/me").status_code == 401


def test_a_webhook_is_one_for_each_item_and_none_for_the_root(person: Person) -> None:
    folder = person.change("folder_items", "add", record={"type": "folder", "parent": "0"})
    target = {"type": "folder", "id": folder.removeprefix("folder_")}
    body = {"target": target, "address": "https://a.test/b", "triggers": ["FILE.UPLOADED"]}
    made = person.ask("/webhooks", "POST", json=body)
    assert made.status_code == 201
    assert person.refused("/webhooks", "POST", json=body) == (409, "conflict")
    for wrong in (
        {"target": {"type": "folder", "id": "0"}},
        {"address": "http://a.test/b"},
        {"triggers": ["NO_ACTIVE_SESSION"]},
    ):
        found = person.refused("/webhooks", "POST", json={**body, **wrong})
        assert found in ((REFUSED, "bad_request"), (409, "conflict"))
    assert [hook["id"] for hook in person.get("/webhooks")["entries"]] == [made.json()["id"]]
    assert person.ask(f"/webhooks/{made.json()['id']}", "DELETE").status_code == 204
    assert person.refused(f"/webhooks/{made.json()['id']}") == (404, "not_found")
