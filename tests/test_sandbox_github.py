"""GitHub on loopback, over real HTTP: it refuses what GitHub refuses, and pages as it pages."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

API = "/api.github.com"
TOKEN = "/github.com/login/oauth/access_token"


class Hub:
    """One account, and a client that reads it."""

    def __init__(self, client: httpx.Client, size: int = 60) -> None:
        self.client = client
        self.described = client.get("/_control").json()["github"]
        self.id = self.control("accounts", size=size)["id"]
        token = self.control("grant", account=self.id)["access_token"]
        self.headers = {"authorization": f"Bearer {token}"}
        # The one that has most of everything.
        self.repo = next(iter(self.store("repositories").values()))
        self.at = f"/repositories/{self.repo['id']}"

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/github/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ordered(self, action: str, **body: Any) -> Any:
        return self.control(action, account=self.id, **body)

    def record(self, stream: str, op: str, **body: Any) -> str:
        answer = self.client.post(
            f"/_control/github/records/{stream}", params={"account": self.id},
            json={"op": op, **body},
        )  # fmt: skip
        return str(answer.json()["id"])

    def store(self, stream: str) -> dict[str, Any]:
        path = "/_control/github/store"
        answer = self.client.get(path, params={"account": self.id, "stream": stream})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def get(
        self, path: str, headers: dict[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        return self.client.get(
            API + path, params=params, headers={**self.headers, **(headers or {})}
        )

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.client.post(API + path, json=body, headers={**self.headers, **headers})


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["github"]) as origin:
        yield origin


@pytest.fixture
def hub(origin: str) -> Iterator[Hub]:
    with httpx.Client(base_url=origin, timeout=60) as client:
        yield Hub(client)


def test_pages_hold_a_hundred_at_most_and_links_name_a_repository_by_its_number(hub: Hub) -> None:
    path = f"/repos/{hub.repo['full_name']}/commits"
    assert len(hub.get(path).json()) == 30
    first = hub.get(path, per_page=20)
    link = re.findall(r'<([^>]*)>; rel="next"', first.headers["link"])[0]
    assert urlsplit(link).path.endswith(f"{hub.at}/commits")
    assert parse_qs(urlsplit(link).query)["page"] == ["2"]
    second = hub.client.get(link, headers=hub.headers).json()
    assert not {row["sha"] for row in first.json()} & {row["sha"] for row in second}


def test_what_did_not_change_is_304_and_is_not_counted_by_the_hour(hub: Hub) -> None:
    first = hub.get(f"{hub.at}/issues", state="all")
    known = {"if-none-match": first.headers["etag"]}
    again = hub.get(f"{hub.at}/issues", known, state="all")
    assert (again.status_code, again.content) == (304, b"")
    left = int(first.headers["x-ratelimit-remaining"])
    assert int(hub.get("/user").headers["x-ratelimit-remaining"]) == left - 1
    here = f"{hub.repo['id']}/"
    hub.record("issues", "change", id=next(k for k in hub.store("issues") if k.startswith(here)))
    assert hub.get(f"{hub.at}/issues", known, state="all").status_code == 200


def test_issues_have_the_pull_requests_among_them_and_are_filtered_by_change_time(hub: Hub) -> None:
    rows = hub.get(f"{hub.at}/issues", state="all", per_page=100, sort="updated").json()
    assert any("pull_request" in row for row in rows)
    assert [row["updated_at"] for row in rows] == sorted(
        (row["updated_at"] for row in rows), reverse=True
    )
    since = rows[3]["updated_at"]
    later = hub.get(f"{hub.at}/issues", state="all", per_page=100, since=since).json()
    assert all(row["updated_at"] >= since for row in later)
    assert len(later) >= 4
    assert hub.get(f"{hub.at}/issues", since="yesterday").status_code == 422


def test_a_single_pull_request_has_more_than_lists_show(hub: Hub) -> None:
    listed = hub.get(f"{hub.at}/pulls", state="all").json()[0]
    single = hub.get(f"{hub.at}/pulls/{listed['number']}").json()
    assert "additions" in single.keys() - listed.keys()
    assert {name: single[name] for name in listed} == listed


def test_a_former_name_leads_to_the_number_and_what_is_hidden_is_not_found(hub: Hub) -> None:
    former = f"/repos/{hub.repo['full_name']}"
    hub.record("repositories", "change", id=str(hub.repo["id"]), record={"name": "renamed"})
    moved = hub.get(f"{former}/issues")
    assert moved.status_code == 301
    assert urlsplit(moved.headers["location"]).path.endswith(f"{hub.at}/issues")
    assert hub.client.get(moved.headers["location"], headers=hub.headers).status_code == 200
    hub.ordered("hide", stream="repositories")
    assert hub.get(hub.at).status_code == 404
    assert hub.repo["id"] not in {row["id"] for row in hub.get("/user/repos").json()}


def test_it_refuses_what_github_refuses(hub: Hub) -> None:
    missing = hub.get("/user", {"authorization": "Bearer gho_wrong"})
    assert (missing.status_code, missing.json()["message"]) == (401, "Bad credentials")
    empty = list(hub.store("repositories"))[-1]
    assert hub.get(f"/repositories/{empty}/commits").status_code == 409
    number = hub.record("issues", "add").partition("/")
    hub.record("issues", "delete", id="/".join((number[0], number[2])))
    assert hub.get(f"/repositories/{number[0]}/issues/{number[2]}").status_code == 410
    hub.record("repositories", "change", id=str(hub.repo["id"]), record={"has_issues": False})
    assert hub.get(f"{hub.at}/issues").status_code == 410
    hub.ordered("refuse_part", stream="commits")
    refused = hub.get(f"{hub.at}/commits")
    assert refused.status_code == 403
    assert refused.headers["x-github-sso"].startswith("required; url=")
    hub.ordered("app", partial=True)
    partial = hub.get("/user/repos")
    assert partial.headers["x-github-sso"].startswith("partial-results")
    assert all(row["owner"]["type"] == "User" for row in partial.json())


def test_commits_are_compared_whatever_their_dates(hub: Hub) -> None:
    before = hub.get(f"{hub.at}/commits", per_page=1).json()[0]["sha"]
    known = {key.partition("/")[2] for key in hub.store("commits")}
    for _ in range(12):
        hub.record("commits", "add")
    after = hub.get(f"{hub.at}/commits", per_page=1).json()[0]["sha"]
    found = hub.get(f"{hub.at}/compare/{before}...{after}", per_page=100).json()
    made = {
        row["sha"]
        for key, row in hub.store("commits").items()
        if key.startswith(f"{hub.repo['id']}/") and row["sha"] not in known
    }
    assert {row["sha"] for row in found["commits"]} == made
    assert (found["ahead_by"], found["behind_by"]) == (len(made), 0)
    assert hub.get(f"{hub.at}/compare/{'0' * 40}...{after}").status_code == 404


def test_a_search_of_runs_ends_after_a_thousand(origin: str) -> None:
    with httpx.Client(base_url=origin, timeout=60) as client:
        hub = Hub(client, size=2_600)
        path = f"{hub.at}/actions/runs"
        total = hub.get(path, per_page=100).json()["total_count"]
        assert total < 1_000 or hub.get(path, per_page=100, page=11).json()["workflow_runs"]
        searched = hub.get(path, per_page=100, page=11, created=">=2000-01-01").json()
        assert searched["workflow_runs"] == []


def test_a_limit_on_bursts_is_a_403_without_a_word_in_its_headers(hub: Hub) -> None:
    hub.control("faults", kind="429", count=1)
    limited = hub.get("/user")
    assert limited.status_code == 403
    assert "retry-after" not in limited.headers
    assert "secondary rate limit" in limited.json()["message"]


# -- Tokens and hooks -----------------------------------------------------------------------------


def test_tokens_come_as_a_form_unless_json_is_asked_for_and_errors_with_200(hub: Hub) -> None:
    fields = {
        "client_id": hub.described["client_id"],
        "client_secret": hub.described["client_secret"],
        "code": "never given",
    }
    form = hub.client.post(TOKEN, data=fields)
    assert form.status_code == 200
    assert dict(parse_qsl(form.text))["error"] == "bad_verification_code"
    asked = {"accept": "application/json"}
    wrong = hub.client.post(TOKEN, data={**fields, "client_secret": "x"}, headers=asked)
    assert (wrong.status_code, wrong.json()["error"]) == (200, "incorrect_client_credentials")
    dead = {**fields, "grant_type": "refresh_token", "refresh_token": "ghr_dead"}
    assert hub.client.post(TOKEN, data=dead, headers=asked).json()["error"] == "bad_refresh_token"


def test_a_refresh_ends_the_pair_before(hub: Hub) -> None:
    hub.ordered("app", expires=True)
    first = hub.ordered("grant")
    fields = {
        "client_id": hub.described["client_id"], "client_secret": hub.described["client_secret"],
        "grant_type": "refresh_token", "refresh_token": first["refresh_token"],
    }  # fmt: skip
    asked = {"accept": "application/json"}
    second = hub.client.post(TOKEN, data=fields, headers=asked).json()
    assert second["expires_in"] == 28_800
    assert hub.client.post(TOKEN, data=fields, headers=asked).json()["error"] == "bad_refresh_token"
    former = {"authorization": f"Bearer {first['access_token']}"}
    assert hub.get("/user", former).status_code == 401


def test_a_token_is_given_back_by_the_app_alone(hub: Hub) -> None:
    path = f"{API}/applications/{hub.described['client_id']}/token"
    given = {"access_token": hub.headers["authorization"].partition(" ")[2]}
    app = (hub.described["client_id"], hub.described["client_secret"])
    assert hub.client.request("DELETE", path, json=given).status_code == 404
    assert hub.client.request("DELETE", path, json=given, auth=app).status_code == 204
    assert hub.get("/user").status_code == 401
    assert hub.client.request("DELETE", path, json=given, auth=app).status_code == 404


def test_hooks_need_their_scope_an_own_address_and_known_events(hub: Hub) -> None:
    config = {"url": "http://127.0.0.1:9/hook", "content_type": "json", "secret": "s"}
    body = {"name": "web", "events": ["issues"], "config": config}
    made = hub.post(f"{hub.at}/hooks", body)
    assert made.status_code == 201
    assert made.json()["config"]["secret"] == "********"
    assert hub.post(f"{hub.at}/hooks", body).status_code == 422
    assert hub.post(f"{hub.at}/hooks", {**body, "events": ["nothing"]}).status_code == 422
    poor = hub.ordered("grant", scopes=["repo"])["access_token"]
    refused = hub.post(f"{hub.at}/hooks", body, authorization=f"Bearer {poor}")
    assert refused.status_code == 404
