"""Notion on loopback, over real HTTP: what Notion documents is what a client gets."""

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._stopped import stopped

API = "/api.notion.com/v1"
BACK = "http://127.0.0.1:9/back"


class Desk:
    """One workspace, and a client of the sandbox that may read it."""

    def __init__(self, client: httpx.Client, *, size: int) -> None:
        self.client = client
        self.described = client.get("/_control").json()["notion"]
        self.id: str = self.order("accounts", size=size)["id"]
        self.tokens = self.order("grant", account=self.id)
        self.headers = {
            "Authorization": f"Bearer {self.tokens['access_token']}",
            "Notion-Version": "2026-03-11",
        }

    def order(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/notion/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        headers = {**self.headers, **options.pop("headers", {})}
        answer = self.client.request(method, f"{API}{path}", headers=headers, **options)
        assert answer.status_code == status, answer.text
        assert answer.json()["request_id"]
        return answer.json()

    def search(self, **body: Any) -> Any:
        return self.ask("POST", "/search", json=body)

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        body = self.ask(method, path, status, **options)
        assert (body["object"], body["status"]) == ("error", status)
        return str(body["code"])

    def store(self) -> dict[str, dict[str, Any]]:
        answer = self.client.get("/_control/notion/store", params={"account": self.id})
        streams: dict[str, dict[str, Any]] = answer.json()["streams"]
        return streams


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with start(["notion"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield client


@pytest.fixture
def desk(client: httpx.Client) -> Desk:
    return Desk(client, size=100)


PAGE = {"property": "object", "value": "page"}


def test_what_notion_refuses_is_refused_in_its_form(desk: Desk) -> None:
    source, page = next(iter(desk.store()["data_source_rows"])).split("/")
    query = f"/data_sources/{source}/query"
    nowhere = "00000000-0000-4000-8000-000000000000"
    version = {"Notion-Version": "1999-01-01"}
    old = {"Notion-Version": "2022-06-28"}
    cases: list[tuple[str, str, int, str, dict[str, Any]]] = [
        ("GET", "/users", 401, "unauthorized", {"headers": {"Authorization": "Bearer nobody"}}),
        ("GET", "/users", 400, "validation_error", {"headers": version}),
        ("GET", "/nothing", 400, "invalid_request_url", {}),
        ("POST", "/search", 400, "validation_error", {"json": {"page_size": 101}}),
        ("POST", "/search", 400, "validation_error", {"json": {"start_cursor": "made up"}}),
        ("POST", "/search", 400, "validation_error", {"json": {"since": "2026"}}),
        ("POST", "/search", 400, "validation_error", {"json": {"filter": {**PAGE, "value": "x"}}}),
        ("POST", query, 400, "validation_error", {"json": {"in_trash": True}}),
        ("POST", query, 400, "invalid_request_url", {"headers": old}),
        ("POST", f"/data_sources/{nowhere}/query", 404, "object_not_found", {}),
        ("GET", f"/pages/{nowhere}", 404, "object_not_found", {}),
        ("GET", f"/blocks/{nowhere}/children", 404, "object_not_found", {}),
        ("GET", f"/pages/{page}/properties/nope", 404, "object_not_found", {}),
        ("GET", "/comments", 400, "validation_error", {}),
    ]  # fmt: skip
    for method, path, status, code, options in cases:
        assert desk.refused(method, path, status, **options) == code, (path, options)
    bare = desk.client.get(f"{API}/users", headers={"Authorization": desk.headers["Authorization"]})
    assert (bare.status_code, bare.json()["code"]) == (400, "missing_version")


def test_search_shows_the_last_edited_first_in_whole_minutes_and_the_trash_by_itself(
    desk: Desk,
) -> None:
    pages, cursor = [], None
    while True:
        more: dict[str, Any] = {"start_cursor": cursor} if cursor else {}
        found = desk.search(filter=PAGE, page_size=7, **more)
        pages += found["results"]
        if not found["has_more"]:
            break
        cursor = found["next_cursor"]
    times = [row["last_edited_time"] for row in pages]
    assert times == sorted(times, reverse=True)
    assert all(time.endswith(":00.000Z") for time in times)
    assert {row["id"] for row in pages} == set(desk.store()["pages"])
    gone = pages[-1]["id"]
    desk.ask("PATCH", f"/pages/{gone}", json={"in_trash": True})
    assert gone not in {row["id"] for row in desk.search(filter=PAGE)["results"]}
    trash = desk.search(filter={**PAGE, "in_trash": True})["results"]
    assert [(row["id"], row["in_trash"]) for row in trash] == [(gone, True)]


def test_search_and_queries_end_after_so_many_and_say_so(desk: Desk) -> None:
    desk.order("app", account=desk.id, most=5)
    found = desk.search(filter=PAGE)
    assert (len(found["results"]), found["has_more"]) == (5, False)
    assert found["request_status"]["type"] == "incomplete"
    source = next(iter(desk.store()["data_sources"]))
    body = {"sorts": [{"timestamp": "created_time", "direction": "ascending"}]}
    rows = desk.ask("POST", f"/data_sources/{source}/query", json=body)
    assert rows["request_status"]["incomplete_reason"] == "query_result_limit_reached"
    since = {"timestamp": "created_time", "created_time": {"on_or_after": "2100-01-01"}}
    none = desk.ask("POST", f"/data_sources/{source}/query", json={**body, "filter": since})
    assert (none["results"], none["request_status"]["type"]) == ([], "complete")


def test_a_page_shows_25_references_and_its_property_all(desk: Desk) -> None:
    held = next(iter(desk.store()["page_property_items"].values()))
    shown = desk.ask("GET", f"/pages/{held['page_id']}")["properties"]
    assert (len(shown["Related"]["relation"]), shown["Related"]["has_more"]) == (25, True)
    assert len(shown["People"]["people"]) == 25
    path = f"/pages/{held['page_id']}/properties/{shown['Related']['id']}"
    items = desk.ask("GET", path)
    assert (len(items["results"]), items["type"]) == (30, "property_item")
    assert desk.ask("GET", f"/pages/{held['page_id']}/properties/title")["object"] == "list"


def test_a_kind_of_block_that_the_api_lacks_has_children_that_it_refuses(desk: Desk) -> None:
    key, _ = next(kv for kv in desk.store()["blocks"].items() if kv[1]["type"] == "unsupported")
    page, id_ = key.split("/")
    shown = {row["id"]: row for row in desk.ask("GET", f"/blocks/{page}/children")["results"]}
    assert shown[id_]["has_children"] is True
    assert desk.refused("GET", f"/blocks/{id_}/children", 400) == "validation_error"


def test_links_to_files_are_others_at_each_read(desk: Desk) -> None:
    id_ = next(id_ for id_, page in desk.store()["pages"].items() if page["cover"])
    first = desk.ask("GET", f"/pages/{id_}")["cover"]["file"]
    desk.client.post("/_control/clock", json={"advance": 60})
    second = desk.ask("GET", f"/pages/{id_}")["cover"]["file"]
    assert first["url"].partition("?")[0] == second["url"].partition("?")[0]
    assert first != second


def test_a_capability_that_the_app_lacks_is_refused(desk: Desk) -> None:
    desk.order("app", account=desk.id, lacking=["read_users", "read_comments"])
    page = next(iter(desk.store()["pages"]))
    assert desk.refused("GET", "/users", 403) == "restricted_resource"
    assert desk.refused("GET", f"/comments?block_id={page}", 403) == "restricted_resource"
    assert desk.ask("GET", "/users/me")["type"] == "bot"


def test_tokens_say_nothing_of_their_end_and_a_refresh_token_is_good_once(desk: Desk) -> None:
    described = desk.described
    client = (described["client_id"], described["client_secret"])
    asked = {"client_id": client[0], "response_type": "code", "owner": "user", "redirect_uri": BACK}
    form = {"decision": "allow", "account": desk.id}
    back = desk.client.post(described["authorize_url"], params=asked, data=form)
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    wanted = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    answer = desk.client.post(described["token_url"], json=wanted, auth=client)
    tokens = answer.json()
    assert tokens["workspace_id"] == desk.id
    assert "expires_in" not in tokens
    again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    in_body = {**again, "client_id": client[0], "client_secret": client[1]}
    assert desk.client.post(described["token_url"], json=in_body).status_code == 401
    renewed = desk.client.post(described["token_url"], json=again, auth=client).json()
    assert renewed["refresh_token"] != tokens["refresh_token"]
    refused = desk.client.post(described["token_url"], json=again, auth=client)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    basic = base64.b64encode(":".join(client).encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    token = {"token": renewed["access_token"]}
    desk.ask("POST", "/oauth/revoke", json=token, headers=headers)
    assert desk.ask("POST", "/oauth/introspect", json=token, headers=headers)["active"] is False


def test_more_than_three_calls_a_second_are_refused_with_a_time_to_wait(desk: Desk) -> None:
    with stopped(desk.client):
        for _ in range(180):
            desk.ask("GET", "/users/me")
        answer = desk.client.get(f"{API}/users/me", headers=desk.headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1
