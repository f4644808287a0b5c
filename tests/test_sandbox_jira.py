"""Jira on loopback, over real HTTP: it refuses what Atlassian refuses."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

HOST = "/api.atlassian.com"
HOOK = "https://atom.test/webhooks/jira"
ALL = "project is not EMPTY"
DAY = 86_400


class Site:
    """One site, a client of the sandbox and the token to read the site with."""

    def __init__(self, client: httpx.Client, size: int) -> None:
        self.client = client
        self.id = str(self.control("accounts", size=size)["id"])
        self.sign_in(self.control("grant", account=self.id))

    def sign_in(self, tokens: Any) -> None:
        self.tokens = tokens
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/jira/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **body: Any) -> str:
        return str(self.control(f"records/{stream}?account={self.id}", op=op, **body)["id"])

    def store(self, stream: str) -> dict[str, Any]:
        params = {"account": self.id, "stream": stream}
        streams = self.client.get("/_control/jira/store", params=params).json()["streams"]
        found: dict[str, Any] = streams[stream]
        return found

    def ask(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        api = path if path.startswith("/agile/") else f"/api/3{path}"
        return self.client.request(
            method, f"{HOST}/ex/jira/{self.id}/rest{api}", json=body, params=params,
            headers=self.headers,
        )  # fmt: skip

    def get(self, path: str, **params: Any) -> Any:
        answer = self.ask("GET", path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def search(self, jql: str, **params: Any) -> Any:
        return self.get("/search/jql", jql=jql, **params)

    def advance(self, seconds: float) -> None:
        self.client.post("/_control/clock", json={"advance": seconds})
        self.sign_in(self.control("grant", account=self.id))


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with start(["jira"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/jira/limits", json={"scale": 100})
        yield client


@pytest.fixture
def site(client: httpx.Client) -> Site:
    return Site(client, size=120)


@pytest.mark.parametrize(
    ("jql", "said"),
    [
        ("", "Unbounded"),
        ("ORDER BY created ASC", "Unbounded"),
        ("nonsense = 1", "does not exist"),
        ("updated >= 'yesterday'", "invalid"),
        ("updated >= 1 AND", "Error in the JQL"),
        ("updated >= 1 ORDER BY status", "sort"),
    ],
)
def test_a_query_that_is_none_is_refused(site: Site, jql: str, said: str) -> None:
    answer = site.ask("GET", "/search/jql", jql=jql)
    assert answer.status_code == 400
    assert said in answer.json()["errorMessages"][0]


def test_a_time_in_quotes_is_read_in_the_zone_of_the_person(site: Site) -> None:
    id_ = site.change("issues", "add")
    updated = datetime.fromisoformat(site.store("issues")[id_]["fields"]["updated"])
    hours = {"Asia/Tokyo": 9, "America/Phoenix": -7, "Etc/UTC": 0, "Asia/Dubai": 4}
    zone = timezone(timedelta(hours=hours[site.get("/myself")["timeZone"]]))
    to_the_minute = updated.astimezone(zone).strftime("%Y/%m/%d %H:%M")
    for since in (f'"{to_the_minute}"', str(int(updated.timestamp() * 1000))):
        found = site.search(f"updated >= {since}", fields="updated")["issues"]
        assert id_ in {row["id"] for row in found}
    assert site.search(f"updated > {int(updated.timestamp() * 1000) + 1}") == {
        "issues": [],
        "isLast": True,
    }


def test_a_search_gives_ids_only_unless_fields_are_named_and_then_fewer(site: Site) -> None:
    ids = site.search(ALL, maxResults=5_000)
    assert len(ids["issues"]) == 120
    assert all(row.keys() == {"id"} for row in ids["issues"])
    assert len(site.search(ALL, maxResults=5_000, fields="*all")["issues"]) == 100
    assert len(site.search(ALL, maxResults=5_000, expand="changelog")["issues"]) == 50
    (row, *_) = site.search(ALL, fields="*all,-comment")["issues"]
    assert {"worklog", "lastViewed"} <= row["fields"].keys()
    assert "comment" not in row["fields"]


def test_a_page_token_is_good_for_its_query_and_for_seven_days(site: Site) -> None:
    first = site.search(ALL)
    token = first["nextPageToken"]
    second = site.search(ALL, nextPageToken=token)
    assert not {row["id"] for row in first["issues"]} & {row["id"] for row in second["issues"]}
    other = site.ask("GET", "/search/jql", jql=f"{ALL} ORDER BY created", nextPageToken=token)
    site.advance(7 * DAY + 1)
    late = site.ask("GET", "/search/jql", jql=ALL, nextPageToken=token)
    assert (other.status_code, late.status_code) == (400, 400)


def test_an_issue_that_is_moved_is_found_by_its_former_key(site: Site) -> None:
    id_ = site.change("issues", "add")
    key = site.store("issues")[id_]["key"]
    other = next(one for one in site.store("projects").values() if not key.startswith(one["key"]))
    site.change("issues", "change", id=id_, record={"project": other["id"]})
    found = site.get(f"/issue/{key}")
    assert found["id"] == id_
    assert found["key"].startswith(other["key"])
    site.change("issues", "delete", id=id_)
    assert site.ask("GET", f"/issue/{key}").status_code == 404


def test_the_feeds_leave_the_last_minute_out(site: Site) -> None:
    issue = next(iter(site.store("issues")))
    made = site.ask("POST", f"/issue/{issue}/worklog", {"timeSpentSeconds": 60}).json()

    def listed() -> set[str]:
        feed = site.get("/worklog/updated", since=0)
        assert feed["lastPage"]
        return {str(row["worklogId"]) for row in feed["values"]}

    assert made["id"] not in listed()
    site.advance(61)
    assert made["id"] in listed()


def test_archived_projects_and_their_issues_are_not_shown_by_themselves(site: Site) -> None:
    project = next(iter(site.store("issues").values()))["fields"]["project"]["id"]
    site.change("projects", "change", id=project, record={"archived": True})
    assert project not in {row["id"] for row in site.get("/project/search")["values"]}
    archived = site.get("/project/search", status="archived")["values"]
    assert [row["id"] for row in archived] == [project]
    assert site.search(f"project = {project}")["issues"] == []


def test_a_kanban_board_has_no_sprints_and_a_list_of_people_ends_empty(site: Site) -> None:
    boards = site.get("/agile/1.0/board")["values"]
    kanban = next(board["id"] for board in boards if board["type"] == "kanban")
    assert site.ask("GET", f"/agile/1.0/board/{kanban}/sprint").status_code == 400
    people = site.get("/users/search", startAt=0, maxResults=5_000)
    assert site.get("/users/search", startAt=len(people)) == []


def test_a_scope_that_is_missing_is_a_401_of_the_gateway(site: Site) -> None:
    site.sign_in(site.control("grant", account=site.id, scopes=["read:jira-work"]))
    answer = site.ask("GET", "/agile/1.0/board")
    assert (answer.status_code, "scope does not match" in answer.text) == (401, True)
    assert site.ask("GET", "/field").status_code == 200


def test_a_grant_is_good_for_every_site_that_was_picked_and_for_no_other(
    client: httpx.Client, site: Site
) -> None:
    other = Site(client, size=3)
    own, site_headers = site.id, site.headers
    site.id = other.id
    assert site.ask("GET", "/field").status_code == 404
    site.control("sites", account=own, beside=[other.id])
    assert site.ask("GET", "/field").status_code == 200
    listed = client.get(f"{HOST}/oauth/token/accessible-resources", headers=site_headers).json()
    of_jira = [one["id"] for one in listed if "read:jira-work" in one["scopes"]]
    assert of_jira == [own, other.id]
    assert len(listed) == 4


def test_a_refresh_token_is_good_for_one_use(client: httpx.Client, site: Site) -> None:
    described = client.get("/_control").json()["jira"]
    body = {
        "grant_type": "refresh_token", "refresh_token": site.tokens["refresh_token"],
        "client_id": described["client_id"], "client_secret": described["client_secret"],
    }  # fmt: skip
    first = client.post("/auth.atlassian.com/oauth/token", json=body)
    second = client.post("/auth.atlassian.com/oauth/token", json=body)
    assert first.status_code == 200
    assert first.json()["refresh_token"] != body["refresh_token"]
    assert (second.status_code, second.json()["error"]) == (403, "invalid_grant")


def hooks(site: Site, *filters: str, url: str = HOOK) -> Any:
    asked = [{"events": ["jira:issue_created"], "jqlFilter": one} for one in filters]
    return site.ask("POST", "/webhook", {"url": url, "webhooks": asked})


def test_a_filter_that_jira_does_not_take_is_refused_with_200(site: Site) -> None:
    refused = hooks(site, "", "project is not EMPTY", "summary = 1", "project != null")
    assert refused.status_code == 200
    empty, operator, field, taken = refused.json()["webhookRegistrationResult"]
    assert "Empty JQL" in empty["errors"][0]
    assert "unsupported" in operator["errors"][0]
    assert "unsupported" in field["errors"][0]
    assert taken.keys() == {"createdWebhookId"}
    assert hooks(site, "project != null", url="https://other.test").status_code == 400


def test_there_are_five_webhooks_and_they_end_after_thirty_days(site: Site) -> None:
    *made, sixth = hooks(site, *["project != null"] * 6).json()["webhookRegistrationResult"]
    ids = [one["createdWebhookId"] for one in made]
    assert "errors" in sixth
    site.advance(20 * DAY)
    answer = site.ask("PUT", "/webhook/refresh", {"webhookIds": [ids[0], 1]})
    assert answer.status_code == 200
    site.advance(20 * DAY)
    assert [one["id"] for one in site.get("/webhook")["values"]] == ids[:1]
    assert site.ask("DELETE", "/webhook", {"webhookIds": [ids[0], 1]}).status_code == 202
    assert site.get("/webhook")["values"] == []
