"""Dropbox on loopback, over real HTTP: a client gets what Dropbox documents, or refuses."""

import json
from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

API = "/api.dropboxapi.com/2"


class Box:
    """One account, and a client with its token."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.id = str(self.control("accounts", size=30)["id"])
        self.tokens = self.control("grant", account=self.id)
        self.bearer = {"authorization": f"Bearer {self.tokens['access_token']}"}

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/dropbox/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, op: str, id: str | None = None, **record: Any) -> str:
        path = f"records/files?account={self.id}"
        return str(self.control(path, op=op, id=id, record=record)["id"])

    def ask(self, route: str, **arguments: Any) -> httpx.Response:
        return self.client.post(f"{API}{route}", json=arguments, headers=self.rooted())

    def rooted(self) -> dict[str, str]:
        account = self.client.post(f"{API}/users/get_current_account", headers=self.bearer).json()
        root = {".tag": "root", "root": account["root_info"]["root_namespace_id"]}
        return {**self.bearer, "dropbox-api-path-root": json.dumps(root)}

    def entries(self, cursor: str) -> list[tuple[str, str]]:
        found = self.ask("/files/list_folder/continue", cursor=cursor).json()["entries"]
        return [(entry[".tag"], entry["path_display"]) for entry in found]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with start(["dropbox"]) as origin, httpx.Client(base_url=origin) as client:
        yield Box(client)


def cursor_of(box: Box) -> str:
    page = box.ask("/files/list_folder", path="", recursive=True).json()
    assert not page["has_more"]
    return str(page["cursor"])


@pytest.mark.parametrize("body", [b"{}", b"[]", b"oops"])
def test_a_route_without_arguments_takes_null_or_nothing(box: Box, body: bytes) -> None:
    route, kind = f"{API}/users/get_current_account", {"content-type": "application/json"}
    assert box.client.post(route, headers=box.bearer).status_code == 200
    null = box.client.post(route, content=b"null", headers={**box.bearer, **kind})
    assert null.status_code == 200
    answer = box.client.post(route, content=body, headers={**box.bearer, **kind})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "arguments",
    [{"path": "/"}, {"path": "", "limit": 2_001}, {"path": "", "limit": 0}, {"path": "", "x": 1}],
)
def test_a_request_of_the_wrong_form_is_refused(box: Box, arguments: dict[str, Any]) -> None:
    assert box.ask("/files/list_folder", **arguments).status_code == 400


def test_of_a_deleted_folder_one_path_is_told_and_no_id(box: Box) -> None:
    box.change("add", path="/Gone", folder=True)
    box.change("add", path="/Gone/a.txt", folder=False)
    cursor = cursor_of(box)
    box.change("delete", "/gone")
    (entry,) = box.ask("/files/list_folder/continue", cursor=cursor).json()["entries"]
    assert entry == {
        ".tag": "deleted", "name": "Gone", "path_lower": "/gone", "path_display": "/Gone"
    }  # fmt: skip


def test_a_move_tells_of_both_paths_and_a_rename_in_other_letters_of_one(box: Box) -> None:
    box.change("add", path="/From", folder=True)
    box.change("add", path="/From/a.txt", folder=False)
    cursor = cursor_of(box)
    box.change("change", "/from", path="/To")
    assert box.entries(cursor) == [
        ("deleted", "/From"), ("folder", "/To"), ("file", "/To/a.txt")
    ]  # fmt: skip
    cursor = cursor_of(box)
    box.change("change", "/to", path="/TO")
    assert box.entries(cursor) == [("folder", "/TO"), ("file", "/TO/a.txt")]


def test_another_root_and_a_former_cursor_are_refused(box: Box) -> None:
    wrong = {**box.bearer, "dropbox-api-path-root": '{".tag": "root", "root": "1"}'}
    answer = box.client.post(f"{API}/files/list_folder", json={"path": ""}, headers=wrong)
    assert (answer.status_code, answer.json()["error"][".tag"]) == (422, "invalid_root")
    cursor = cursor_of(box)
    box.control("expire_checkpoints", account=box.id)
    answer = box.ask("/files/list_folder/continue", cursor=cursor)
    assert (answer.status_code, answer.json()["error"]) == (409, {".tag": "reset"})


def test_a_token_without_the_scope_is_told_which(box: Box) -> None:
    tokens = box.control("grant", account=box.id, scopes=["account_info.read"])
    answer = box.client.post(
        f"{API}/sharing/list_folders",
        json={},
        headers={"authorization": f"Bearer {tokens['access_token']}"},
    )
    assert answer.status_code == 401
    assert answer.json()["error"] == {".tag": "missing_scope", "required_scope": "sharing.read"}
