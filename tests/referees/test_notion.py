"""Notion's community SDK against the sandbox, with only its base URL set."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from notion_client import APIResponseError, Client
from notion_client.helpers import collect_paginated_api, is_full_page_or_data_source

from sandbox import start

pytestmark = pytest.mark.referee

BACK = "http://127.0.0.1:9/callback"


class Referee:
    """The SDK with a token of a workspace of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 100) -> None:
        self.http = control
        self.clients: list[Any] = []
        self.described = control.get("/_control").json()["notion"]
        self.account = self.control("accounts", size=size)["id"]
        self.notion = self.client(self.control("grant", account=self.account)["access_token"])

    def client(self, token: str | None = None, **options: Any) -> Any:
        base = self.described["base_url"].removesuffix("/v1")
        client = Client(auth=token, base_url=base, **options)
        self.clients.append(client)
        return client

    def control(self, action: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/notion/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.http.get("/_control/notion/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["notion"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        made = Referee(client)
        yield made
        for each in made.clients:
            each.close()


def test_the_sdk_collects_all_pages_and_data_sources(referee: Referee) -> None:
    search = referee.notion.search
    for value, stream in (("page", "pages"), ("data_source", "data_sources")):
        wanted = {"property": "object", "value": value}
        rows = collect_paginated_api(search, filter=wanted, page_size=7)
        assert {row["id"] for row in rows} == set(referee.store(stream))
        assert all(row["archived"] is row["in_trash"] is False for row in rows)  # its own version
        assert all(is_full_page_or_data_source(row) for row in rows)


def test_the_sdk_queries_a_data_source_and_finds_it_by_its_database(referee: Referee) -> None:
    id_, database = next(iter(referee.store("databases").items()))
    (found,) = referee.notion.databases.retrieve(id_)["data_sources"]
    rows = collect_paginated_api(
        referee.notion.data_sources.query,
        data_source_id=found["id"],
        sorts=[{"timestamp": "created_time", "direction": "ascending"}],
        page_size=3,
    )
    kept = [key for key in referee.store("data_source_rows") if key.startswith(found["id"])]
    assert {f"{found['id']}/{row['id']}" for row in rows} == set(kept)
    title = referee.notion.data_sources.retrieve(found["id"])["title"]
    assert title == database["title"]


def test_the_sdk_reads_blocks_properties_comments_users_and_markdown(referee: Referee) -> None:
    notion = referee.notion
    block = next(iter(referee.store("blocks").values()))
    found = collect_paginated_api(notion.blocks.children.list, block_id=block["page_id"])
    assert block["id"] in {each["id"] for each in found}
    assert notion.blocks.retrieve(block["id"])["type"] == block["type"]
    held = next(iter(referee.store("page_property_items").values()))
    items = collect_paginated_api(
        notion.pages.properties.retrieve,
        page_id=held["page_id"],
        property_id=held["property_id"],
        page_size=11,
    )
    assert len(items) > 25
    comment = next(iter(referee.store("comments").values()))
    listed = collect_paginated_api(notion.comments.list, block_id=comment["page_id"])
    assert comment["id"] in {each["id"] for each in listed}
    assert notion.comments.retrieve(comment["id"])["rich_text"] == comment["rich_text"]
    assert len(collect_paginated_api(notion.users.list)) == len(referee.store("users"))
    assert notion.users.me()["bot"]["workspace_id"] == referee.account
    page = next(iter(referee.store("page_markdown")))
    assert notion.pages.retrieve_markdown(page)["object"] == "page_markdown"


def test_the_sdk_renames_trashes_and_restores_a_page_and_comments_on_it(referee: Referee) -> None:
    pages = referee.notion.pages
    id_ = list(referee.store("pages"))[-1]
    cells = referee.store("pages")[id_]["properties"]
    name = next(name for name, cell in cells.items() if cell["id"] == "title")
    renamed = {name: {"title": [{"text": {"content": "Another name"}}]}}
    pages.update(id_, properties=renamed)
    assert referee.store("pages")[id_]["plain_title"] == "Another name"
    assert pages.update(id_, in_trash=True)["in_trash"] is True
    assert id_ not in referee.store("pages")
    assert pages.retrieve(id_)["in_trash"] is True
    pages.update(id_, in_trash=False)
    text = [{"text": {"content": "Well done"}}]
    made = referee.notion.comments.create(parent={"page_id": id_}, rich_text=text)
    assert f"{id_}/{made['id']}" in referee.store("comments")


def test_the_sdk_knows_the_refusals(referee: Referee) -> None:
    nowhere = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(APIResponseError) as refused:
        referee.notion.pages.retrieve(nowhere)
    assert (refused.value.status, refused.value.code) == (404, "object_not_found")
    with pytest.raises(APIResponseError) as refused:
        referee.notion.search(start_cursor="made up")
    assert refused.value.code == "validation_error"
    referee.control("app", account=referee.account, lacking=["read_users"])
    with pytest.raises(APIResponseError) as refused:
        referee.notion.users.list()
    assert (refused.value.status, refused.value.code) == (403, "restricted_resource")
    referee.control("tokens", account=referee.account, op="revoke")
    with pytest.raises(APIResponseError) as refused:
        referee.notion.users.me()
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")


def test_the_sdk_is_told_how_long_to_wait(referee: Referee) -> None:
    token = referee.control("grant", account=referee.account)["access_token"]
    impatient = referee.client(token, retry=False)
    referee.control("faults", kind="429", retry_after=7)
    with pytest.raises(APIResponseError) as refused:
        impatient.users.me()
    assert refused.value.code == "rate_limited"
    assert refused.value.headers["retry-after"] == "7"
    assert referee.notion.users.me()["type"] == "bot"


def test_the_sdk_exchanges_renews_introspects_and_revokes(referee: Referee) -> None:
    described = referee.described
    client = {name: described[name] for name in ("client_id", "client_secret")}
    asked = {"client_id": client["client_id"], "response_type": "code", "redirect_uri": BACK}
    form = {"decision": "allow", "account": referee.account}
    back = referee.http.post(described["authorize_url"], params=asked, data=form)
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    oauth = referee.client().oauth
    tokens = oauth.token(**client, grant_type="authorization_code", code=code, redirect_uri=BACK)
    assert tokens["workspace_id"] == referee.account
    renewed = oauth.token(
        **client, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert referee.client(renewed["access_token"]).users.me()["type"] == "bot"
    assert oauth.introspect(**client, token=renewed["access_token"])["active"] is True
    oauth.revoke(**client, token=renewed["access_token"])
    assert oauth.introspect(**client, token=renewed["access_token"])["active"] is False
