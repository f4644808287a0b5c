"""Linear on loopback, over real HTTP: what Linear documents, or refuses, is what a client gets."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._delivered import sandboxed
from tests._receiver import Answering

API = "/api.linear.app"
PAGE = "pageInfo { hasNextPage endCursor }"


class Workspace:
    """One workspace, a client of the sandbox and the tokens to read the workspace with."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.described = client.get("/_control").json()["linear"]
        self.id = str(self.control("accounts", size=120)["id"])
        self.tokens = self.control("grant", account=self.id)
        self.bearer = self.tokens["access_token"]

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/linear/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **more: Any) -> str:
        path = f"records/{stream}?account={self.id}"
        return str(self.control(path, op=op, **more)["id"])

    def ask(self, query: str, **variables: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.bearer}"}
        body = {"query": query, "variables": variables}
        return self.client.post(f"{API}/graphql", json=body, headers=headers)

    def rows(self, query: str, **variables: Any) -> list[Any]:
        answer = self.ask(query, **variables)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["data"].values()
        nodes: list[Any] = found["nodes"]
        return nodes

    def refused(self, query: str, **variables: Any) -> tuple[int, str]:
        """The status, and the code of the first error."""
        answer = self.ask(query, **variables)
        return answer.status_code, answer.json()["errors"][0]["extensions"]["code"]

    def token(self, **fields: str) -> httpx.Response:
        known = {name: self.described[name] for name in ("client_id", "client_secret")}
        return self.client.post(f"{API}/oauth/token", data={**known, **fields})


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with start(["linear"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield client


@pytest.fixture
def space(client: httpx.Client) -> Workspace:
    return Workspace(client)


def test_lists_are_newest_first_fifty_rows_unless_asked_and_without_archived_ones(
    space: Workspace,
) -> None:
    assert len(space.rows("{ issues { nodes { id } } }")) == 50
    made = [one["createdAt"] for one in space.rows("{ issues { nodes { createdAt } } }")]
    assert made == sorted(made, reverse=True)
    query = "{ issues(orderBy: updatedAt) { nodes { updatedAt } } }"
    changed = [one["updatedAt"] for one in space.rows(query)]
    assert changed == sorted(changed, reverse=True)
    for archived in ("", ", includeArchived: true"):
        query = f"{{ issues(first: 250{archived}) {{ nodes {{ archivedAt }} }} }}"
        assert any(one["archivedAt"] for one in space.rows(query)) == bool(archived)


def test_a_page_follows_its_cursor_for_as_long_as_that_row_is_there(space: Workspace) -> None:
    query = f"""query($after: String) {{ comments(first: 40, after: $after) {{
        {PAGE} nodes {{ id }} }} }}"""
    first = space.ask(query).json()["data"]["comments"]
    cursor = first["pageInfo"]["endCursor"]
    following = space.rows(query, after=cursor)
    assert not {one["id"] for one in following} & {one["id"] for one in first["nodes"]}
    space.change("comments", "delete", id=cursor)
    assert space.refused(query, after=cursor) == (400, "INPUT_ERROR")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ issues { nodes { colour } } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ issues { nodes { id }", "GRAPHQL_PARSE_FAILED"),
        ("{ issues(first: 251) { nodes { id } } }", "INPUT_ERROR"),
        ('{ issues(filter: {updatedAt: {gte: "soon"}}) { nodes { id } } }', "INPUT_ERROR"),
        ('{ issue(id: "ENG-0") { id } }', "INPUT_ERROR"),
        ("{ issues(first: 200) { nodes { history { nodes { id } } } } }", "INPUT_ERROR"),
    ],
)
def test_a_query_that_is_wrong_is_refused_with_400(space: Workspace, query: str, code: str) -> None:
    assert space.refused(query) == (400, code)


@pytest.mark.parametrize(
    ("query", "points"),
    [
        # The examples of the documents, in words of the part of the schema that there is.
        ("{ viewer { name } }", 2),
        ("{ comments { nodes { id body createdAt } } }", 65),
        ("{ comments(first: 10) { nodes { id body createdAt } } }", 13),
        ("query($n: Int) { issues(first: $n) { nodes { id team { id } } } }", 22),
    ],
)
def test_a_query_costs_what_is_documented(space: Workspace, query: str, points: int) -> None:
    answer = space.ask(query, n=10)
    assert int(answer.headers["x-complexity"]) == points
    assert int(answer.headers["x-ratelimit-complexity-remaining"]) == 200_000 - points


def test_a_limit_is_answered_with_400_and_the_time_of_its_end(space: Workspace) -> None:
    dear = "{ issues(first: 250) { nodes { id history(first: 30) { nodes { id } } } } }"
    for _ in range(30):
        answer = space.ask(dear)
        if answer.status_code != 200:
            break
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "RATELIMITED"
    told = answer.headers
    assert int(told["x-ratelimit-complexity-remaining"]) < int(told["x-complexity"])
    assert answer.headers["x-ratelimit-complexity-reset"].isdecimal()


def test_the_trash_leaves_the_time_of_change_and_is_emptied_after_thirty_days(
    space: Workspace,
) -> None:
    # A sub-issue changes when its parent is deleted for good.
    ids = [one["id"] for one in space.rows(ALL) if not one["archivedAt"] and not one["parent"]]
    since = space.client.post("/_control/clock", json={"advance": 60.0}).json()["now"]
    for id in ids[:10]:  # some are deleted for good at once
        space.change("issues", "delete", id=id)
    trashed = space.rows(ALL, filter={"archivedAt": {"gte": since}})
    assert trashed
    assert all(one["trashed"] and one["updatedAt"] < since for one in trashed)
    changed = {one["id"] for one in space.rows(ALL, filter={"updatedAt": {"gte": since}})}
    assert not changed & {one["id"] for one in trashed}
    space.client.post("/_control/clock", json={"advance": 31 * 86_400.0})
    space.bearer = space.control("grant", account=space.id)["access_token"]
    assert not space.rows(ALL, filter={"archivedAt": {"gte": since}})


ALL = """query($filter: IssueFilter) { issues(first: 250, includeArchived: true, filter: $filter) {
    nodes { id updatedAt archivedAt trashed parent { id } } } }"""


def test_a_refresh_token_works_once_and_ends_the_grant_when_it_is_given_back(
    space: Workspace,
) -> None:
    first = space.tokens["refresh_token"]
    renewed = space.token(grant_type="refresh_token", refresh_token=first).json()
    assert renewed["expires_in"] == 86_399
    assert renewed["refresh_token"] != first
    again = space.token(grant_type="refresh_token", refresh_token=first)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    revoke = f"{API}/oauth/revoke"
    # An access token takes only itself away.
    space.bearer = renewed["access_token"]
    assert space.client.post(revoke, data={"access_token": space.bearer}).status_code == 200
    assert space.refused("{ viewer { id } }") == (401, "AUTHENTICATION_ERROR")
    last = space.token(grant_type="refresh_token", refresh_token=renewed["refresh_token"]).json()
    assert space.client.post(revoke, data={"refresh_token": first}).status_code == 400
    given = {"refresh_token": last["refresh_token"]}
    assert space.client.post(revoke, data=given).status_code == 200
    space.bearer = last["access_token"]
    assert space.refused("{ viewer { id } }") == (401, "AUTHENTICATION_ERROR")


def test_a_private_team_hides_what_is_in_it(space: Workspace) -> None:
    before = {one["id"] for one in space.rows("{ issues(first: 250) { nodes { id } } }")}
    hidden = set(space.control("hide", account=space.id, stream="issues")["keys"])
    assert hidden
    after = {one["id"] for one in space.rows("{ issues(first: 250) { nodes { id } } }")}
    assert after == before - hidden


def test_a_delivery_that_fails_comes_again_as_it_was() -> None:
    with sandboxed("linear") as place:
        place.point()
        account = place.connect()
        place.order(retry_scale=0.00001)  # of six hours, too
        place.receiver.answer = lambda call: Answering(500)
        place.change(account, "issues", "add")
        place.standing(sent=4, idle=True)
        first, *others = place.receiver.calls
        assert len(others) == 3
        assert {call.body for call in others} == {first.body}
        assert {call.headers["linear-signature"] for call in others} == {
            first.headers["linear-signature"]
        }
