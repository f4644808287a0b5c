"""monday.com on loopback, over real HTTP: what it documents, or refuses, is what a client gets."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import orjson
import pytest

from sandbox import start
from tests._delivered import sandboxed
from tests._receiver import OK, Answering, Received

ITEMS = """query($b: ID!, $n: Int!) { boards(ids: [$b]) {
    items_page(limit: $n) { cursor items { id } } } }"""
NEXT = "query($c: String!) { next_items_page(cursor: $c, limit: 10) { cursor items { id } } }"


class Desk:
    """One account, a client of the sandbox and a token to read the account with."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.described = client.get("/_control").json()["monday"]
        self.id = str(self.control("accounts", size=60)["id"])
        self.token = self.control("grant", account=self.id)["access_token"]

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/monday/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, query: str, token: str = "", **variables: Any) -> httpx.Response:
        body = {"query": query, "variables": variables}
        headers = {"authorization": token or self.token}
        return self.client.post("/api.monday.com/v2", json=body, headers=headers)

    def data(self, query: str, **variables: Any) -> Any:
        answer = self.ask(query, **variables).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def refused(self, query: str, **variables: Any) -> tuple[int, str]:
        """The status, and the code of the first error."""
        answer = self.ask(query, **variables)
        return answer.status_code, answer.json()["errors"][0]["extensions"]["code"]

    def board(self) -> str:
        """A board that has a subitem."""
        query = (
            "{ boards(limit: 50) { id items_page(limit: 100) { items { id subitems { id } } } } }"
        )
        for board in self.data(query)["boards"]:
            if any(item["subitems"] for item in board["items_page"]["items"]):
                return str(board["id"])
        raise LookupError("no board has a subitem")

    def boards(self) -> list[str]:
        return [board["id"] for board in self.data("{ boards { id } }")["boards"]]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with start(["monday"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield client


@pytest.fixture
def desk(client: httpx.Client) -> Desk:
    return Desk(client)


def test_a_token_comes_bare_or_with_bearer_and_no_other_is_taken(desk: Desk) -> None:
    assert desk.data("{ me { account { id } } }")["me"]["account"]["id"] == desk.id
    assert desk.ask("{ me { id } }", f"Bearer {desk.token}").status_code == 200
    assert desk.ask("{ me { id } }", "another").status_code == 401


def test_what_is_wrong_with_a_query_is_told_with_200(desk: Desk) -> None:
    assert desk.refused("{ boards { nothing } }") == (200, "GRAPHQL_VALIDATION_FAILED")
    assert desk.refused("{ boards") == (200, "GRAPHQL_PARSE_FAILED")
    assert desk.refused("{ items(ids: [1], limit: 101) { id } }") == (200, "INVALID_ARGUMENT")
    dear = (
        "{ boards(limit: 500) { items_page(limit: 500) { items { column_values { id text } } } } }"
    )
    assert desk.refused(dear) == (200, "MAX_COMPLEXITY_EXCEEDED")


def test_a_cursor_lives_for_an_hour_from_the_first_page(client: httpx.Client, desk: Desk) -> None:
    found = [(b, desk.data(ITEMS, b=b, n=2)["boards"][0]["items_page"]) for b in desk.boards()]
    board, page = next((b, page) for b, page in found if page["cursor"])
    assert desk.data(NEXT, c=page["cursor"])["next_items_page"]["items"]
    client.post("/_control/clock", json={"advance": 3_601})
    assert desk.refused(NEXT, c=page["cursor"]) == (200, "CursorExpiredError")
    assert desk.refused(ITEMS, b=board, n=501) == (200, "INVALID_ARGUMENT")


def test_a_budget_that_is_spent_says_when_it_is_full_again(desk: Desk) -> None:
    dear = "{ boards(limit: 100) { items_page(limit: 500) { items { id name state } } } }"
    codes = {desk.refused(dear)[1] for _ in range(30) if "errors" in desk.ask(dear).json()}
    assert codes == {"COMPLEXITY_BUDGET_EXHAUSTED"}
    error = desk.ask(dear).json()["errors"][0]
    assert "reset in 60 seconds" in error["message"]


def test_a_classic_token_does_not_end_and_one_of_the_new_flow_does(
    client: httpx.Client, desk: Desk
) -> None:
    classic = connect(desk)
    assert "refresh_token" not in classic
    desk.control("promote", account=desk.id)
    first = connect(desk)
    client.post("/_control/clock", json={"advance": 3_600})
    assert desk.ask("{ me { id } }", classic["access_token"]).status_code == 200
    assert desk.ask("{ me { id } }", first["access_token"]).status_code == 401
    fields = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert _token(desk, "/oauth2/token", **fields)[1]["error"] == "unsupported_grant_type"
    status, second = _token(desk, "/oauth_ms/oauth/token", **fields)
    assert status == 200
    assert second["refresh_token"] != first["refresh_token"]
    assert desk.ask("{ me { id } }", second["access_token"]).status_code == 200
    assert _token(desk, "/oauth_ms/oauth/token", **fields)[0] == 400


MAKE = """mutation($b: ID!, $u: String!, $e: WebhookEventType!) {
    create_webhook(board_id: $b, url: $u, event: $e) { id board_id event config } }"""
STANDING = "query($b: ID!) { webhooks(board_id: $b, app_webhooks_only: true) { id event } }"
END = "mutation($id: ID!) { delete_webhook(id: $id) { id } }"


def echoing(call: Received) -> Answering:
    return Answering(body=call.body) if b"challenge" in call.body else OK


def test_a_webhook_is_of_one_board_and_one_event_and_wants_its_challenge_back() -> None:
    with sandboxed("monday") as place:
        desk, url = Desk(place.client), place.receiver.url
        on_board = {"b": desk.board(), "u": url}
        assert desk.refused(MAKE, **on_board, e="create_item") == (200, "InvalidArgumentException")
        place.receiver.answer = echoing
        made = desk.data(MAKE, **on_board, e="change_name")["create_webhook"]
        assert (made["board_id"], made["event"]) == (on_board["b"], "change_name")
        assert desk.data(STANDING, b=on_board["b"])["webhooks"] == [
            {"id": made["id"], "event": "change_name"}
        ]
        place.receiver.calls.clear()
        items = place.store(desk.id)["items"]
        on = next(key for key in items if key.startswith(f"{on_board['b']}/"))
        off = next(key for key in items if not key.startswith(f"{on_board['b']}/"))
        for item in (on, off):
            place.change(desk.id, "items", "change", id=item, record={"name": "another"})
        place.change(desk.id, "items", "add", record={"board_id": on_board["b"]})
        later = place.change(desk.id, "boards", "add")
        place.change(desk.id, "items", "add", record={"board_id": later})
        place.standing(idle=True)
        (call,) = place.receiver.calls
        told = orjson.loads(call.body)["event"]
        assert (told["type"], told["boardId"]) == ("update_name", int(on_board["b"]))
        assert told["pulseId"] == int(on.split("/")[1])
        assert not call.headers["authorization"].startswith("Bearer")
        desk.data(END, id=made["id"])
        assert desk.refused(END, id=made["id"]) == (200, "ResourceNotFoundException")
        assert desk.data(STANDING, b=on_board["b"])["webhooks"] == []


def test_what_is_refused_of_a_mutation_leaves_the_rest_of_it_done() -> None:
    with sandboxed("monday") as place:
        desk, url = Desk(place.client), place.receiver.url
        place.receiver.answer = echoing
        board = place.change(desk.id, "boards", "add")
        query = """mutation($b: ID!, $u: String!) {
            one: create_webhook(board_id: $b, url: $u, event: create_item) { id }
            two: create_webhook(board_id: $b, url: $u, event: create_subitem) { id } }"""
        answer = desk.ask(query, b=board, u=url)
        assert answer.status_code == 200
        body = answer.json()
        assert body["data"]["one"]["id"]
        assert body["data"]["two"] is None
        assert [error["path"] for error in body["errors"]] == [["two"]]
        assert desk.refused(MAKE, b=board, u=f"{url}/{'x' * 255}", e="create_item")[1] == (
            "InvalidArgumentException"
        )
        sub = str(int(board) + 1)
        assert desk.refused(MAKE, b=sub, u=url, e="create_item")[1] == "InvalidArgumentException"
        assert desk.refused(MAKE, b="1", u=url, e="create_item")[1] == "InvalidBoardIdException"
        reading = connect(desk)["access_token"]
        refused = desk.ask(MAKE, reading, b=board, u=url, e="create_item").json()["errors"][0]
        assert refused["extensions"]["code"] == "UNAUTHORIZED_FIELD_OR_TYPE"


def _token(desk: Desk, path: str, **fields: str) -> tuple[int, Any]:
    known = {name: desk.described[name] for name in ("client_id", "client_secret")}
    answer = desk.client.post(f"/auth.monday.com{path}", data={**known, **fields})
    return answer.status_code, answer.json()


def connect(desk: Desk) -> Any:
    back = "http://127.0.0.1/back"
    params = {"client_id": desk.described["client_id"], "redirect_uri": back, "state": "s"}
    params |= {"scope": "me:read boards:read", "response_type": "code"}
    answer = desk.client.post(
        "/auth.monday.com/oauth2/authorize",
        params=params,
        data={"decision": "allow", "account": desk.id},
    )
    code = httpx.URL(answer.headers["location"]).params["code"]
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    status, body = _token(desk, "/oauth2/token", **fields)
    assert status == 200, body
    return body
