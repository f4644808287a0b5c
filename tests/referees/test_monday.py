"""The SDK of monday.com's users, `monday`, against the sandbox, with only its address set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from monday import MondayClient
from monday.exceptions import MondayQueryError
from monday.resources.types import BoardState

from sandbox import start
from tests._receiver import Answering, receiving

pytestmark = pytest.mark.referee


class Referee:
    """The SDK, signed in to an account of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, origin: str) -> None:
        self.control = control
        self.account = self.order("accounts", size=60)["id"]
        self.sdk = MondayClient(self.order("grant", account=self.account)["access_token"])
        for resource in vars(self.sdk).values():
            resource.client.endpoint = f"{origin}/api.monday.com/v2"

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/monday/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> Any:
        params = {"account": self.account, "stream": stream}
        return self.control.get("/_control/monday/store", params=params).json()["streams"][stream]


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["monday"]) as origin, httpx.Client(base_url=origin, timeout=60) as control:
        yield Referee(control, origin)


def test_the_sdk_reads_every_board_and_item(referee: Referee) -> None:
    boards = referee.sdk.boards.fetch_boards(limit=100, state=BoardState.ALL)["data"]["boards"]
    assert {one["id"]: one["name"] for one in boards} == {
        id: row["name"] for id, row in referee.store("boards").items()
    }
    found = {}
    for board in boards:
        for one in referee.sdk.boards.fetch_all_items_by_board_id(board["id"], limit=3):
            values = {value["id"]: value["text"] for value in one["column_values"]}
            found[f"{board['id']}/{one['id']}"] = (one["name"], one["group"]["id"], values)
    stored = referee.store("items") | referee.store("subitems")
    assert found == {
        key: (
            row["name"],
            row["group"]["id"],
            {value["id"]: value["text"] for value in row["column_values"]},
        )
        for key, row in stored.items()
    }
    (one,) = referee.sdk.items.fetch_items_by_id(
        [int(boards and next(iter(stored)).split("/")[1])]
    )["data"]["items"]
    assert one["name"] == next(iter(stored.values()))["name"]


def test_the_sdk_reads_updates_people_and_what_is_left_of_the_budget(referee: Referee) -> None:
    updates = referee.sdk.updates.fetch_updates(limit=100)["data"]["updates"]
    assert {one["id"] for one in updates} == set(referee.store("updates"))
    users = referee.sdk.users.fetch_users(limit=100)["data"]["users"]
    assert {one["id"] for one in users} == {
        id for id, row in referee.store("users").items() if row["enabled"]
    }
    workspaces = referee.sdk.workspaces.get_workspaces()["data"]["workspaces"]
    assert {one["id"] for one in workspaces} == set(referee.store("workspaces"))
    left = referee.sdk.complexity.get_complexity()["data"]["complexity"]
    assert left["reset_in_x_seconds"] == 60


def test_the_sdk_raises_what_is_refused_with_200(referee: Referee) -> None:
    with pytest.raises(MondayQueryError, match="expired"):
        referee.sdk.boards.fetch_next_items_by_cursor("unknown", limit=10)


def test_the_sdk_makes_a_webhook_finds_it_and_ends_it(referee: Referee) -> None:
    """It has no words of its own for them, but sends what it is given."""
    ask = referee.sdk.custom.execute_custom_query
    board = ask("{ boards(limit: 50) { id type } }")["data"]["boards"][-1]["id"]

    def make(url: str) -> Any:
        return ask(
            f'mutation {{ create_webhook(board_id: {board}, url: "{url}", event: create_item)'
            " { id board_id event config } }"
        )["data"]["create_webhook"]

    with receiving() as receiver:
        with pytest.raises(MondayQueryError, match="challenge"):
            make(receiver.url)
        receiver.answer = lambda call: Answering(body=call.body)
        made = make(receiver.url)
        assert made == {
            "id": made["id"], "board_id": board, "event": "create_item", "config": None,
        }  # fmt: skip
        standing = f"{{ webhooks(board_id: {board}, app_webhooks_only: true) {{ id }} }}"
        assert ask(standing)["data"]["webhooks"] == [{"id": made["id"]}]
        ask(f"mutation {{ delete_webhook(id: {made['id']}) {{ id }} }}")
        assert ask(standing)["data"]["webhooks"] == []
