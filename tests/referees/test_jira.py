"""Two clients of Jira against the sandbox, with only their address set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from atlassian.jira import JiraCloud, JiraSoftware
from jira import JIRA, JIRAError

from sandbox import start

pytestmark = pytest.mark.referee

ALL = "project is not EMPTY ORDER BY created ASC"
HOOK = "https://atom.test/webhooks/jira"


class Referee:
    """The clients, signed in to a site of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, origin: str) -> None:
        self.control = control
        self.account = control.post("/_control/jira/accounts", json={"size": 120}).json()["id"]
        tokens = control.post("/_control/jira/grant", json={"account": self.account}).json()
        token = tokens["access_token"]
        server = f"{origin}/api.atlassian.com/ex/jira/{self.account}"
        self.sdk = JIRA(server, token_auth=token, options={"rest_api_version": "3"}, max_retries=0)
        self.cloud: Any = JiraCloud(server, token=token)
        self.software: Any = JiraSoftware(server, token=token)

    def store(self, stream: str) -> dict[str, Any]:
        params = {"account": self.account, "stream": stream}
        answer = self.control.get("/_control/jira/store", params=params)
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found


@pytest.fixture(scope="module")
def referee() -> Iterator[Referee]:
    with start(["jira"]) as origin, httpx.Client(base_url=origin, timeout=60) as control:
        control.post("/_control/jira/limits", json={"scale": 100})
        yield Referee(control, origin)


def test_the_sdk_knows_it_for_jira_cloud_and_pages_through_every_issue(referee: Referee) -> None:
    assert referee.sdk._is_cloud
    found = referee.sdk.enhanced_search_issues(ALL, maxResults=0, fields="*all,-lastViewed")
    store = referee.store("issues")
    assert [one.id for one in found] == list(store)
    for one in found:
        assert one.key == store[one.id]["key"]
        assert one.fields.status.name == store[one.id]["fields"]["status"]["name"]


def test_the_sdk_follows_an_issue_to_its_comments_and_finds_it_by_its_key(
    referee: Referee,
) -> None:
    key, record = next(iter(referee.store("comments").items()))
    issue = referee.sdk.issue(record["issue_id"])
    comments = referee.sdk.comments(issue, max_results=100)
    assert key.partition("/")[2] in {comment.id for comment in comments}
    assert referee.sdk.issue(issue.key).id == issue.id
    with pytest.raises(JIRAError) as refused:
        referee.sdk.issue("NONE-1")
    assert refused.value.status_code == 404


def test_one_client_makes_an_issue_and_the_other_deletes_it(referee: Referee) -> None:
    project = next(iter(referee.store("projects").values()))
    made = referee.sdk.create_issue(
        project={"key": project["key"]}, summary="From outside", issuetype={"name": "Bug"}
    )
    fields = referee.store("issues")[made.id]["fields"]
    assert (fields["summary"], fields["issuetype"]["name"]) == ("From outside", "Bug")
    referee.cloud.delete_issue(made.id)
    assert made.id not in referee.store("issues")


def test_the_sdk_lists_boards_and_their_sprints(referee: Referee) -> None:
    boards = referee.sdk.boards(maxResults=0)
    assert {str(board.id) for board in boards} == set(referee.store("boards"))
    scrum = next(board for board in boards if board.type == "scrum")
    sprints = referee.sdk.sprints(scrum.id, maxResults=0)
    shown = {key for key in referee.store("sprints") if key.startswith(f"{scrum.id}/")}
    assert {f"{scrum.id}/{sprint.id}" for sprint in sprints} == shown


def test_the_sdk_reads_fields_statuses_and_who_it_is(referee: Referee) -> None:
    assert {field["id"] for field in referee.sdk.fields()} == set(referee.store("fields"))
    assert {status.id for status in referee.sdk.statuses()} == set(referee.store("statuses"))
    assert referee.sdk.myself()["accountId"] in referee.store("users")


def test_the_other_client_pages_by_tokens_too(referee: Referee) -> None:
    found = referee.cloud.enhanced_jql_get_list_of_tickets(ALL, fields="summary")
    assert [one["id"] for one in found] == list(referee.store("issues"))


def test_the_other_client_reads_what_our_reader_reads(referee: Referee) -> None:
    ids = list(referee.store("issues"))[:3]
    body = {"issueIdsOrKeys": [*ids, "1"], "fields": ["summary"]}
    found = referee.cloud.bulk_fetch_issues(data=body)
    assert [one["id"] for one in found["issues"]] == ids
    feed = referee.cloud.get_ids_of_worklogs_modified_since(since=0)
    listed = [one["worklogId"] for one in feed["values"]]
    rows = referee.cloud.get_worklogs_for_ids(data={"ids": listed})
    assert {row["id"]: row for row in rows} == referee.store("worklogs")
    projects = referee.cloud.search_projects(expand="description,lead")["values"]
    assert {one["id"]: one for one in projects} == referee.store("projects")
    users = referee.cloud.get_all_users(start_at=0, max_results=1_000)
    assert {one["accountId"]: one for one in users} == referee.store("users")
    assert referee.software.get_all_boards()["total"] == len(referee.store("boards"))


def test_the_other_client_keeps_a_webhook(referee: Referee) -> None:
    asked = [{"events": ["jira:issue_created"], "jqlFilter": "project != null"}]
    answer = referee.cloud.register_dynamic_webhooks(data={"url": HOOK, "webhooks": asked})
    (made,) = answer["webhookRegistrationResult"]
    ids = {"webhookIds": [made["createdWebhookId"]]}
    assert referee.cloud.refresh_webhooks(data=ids)["expirationDate"].endswith(
        ("+0000", "+0900", "-0700", "+0400")
    )
    (listed,) = referee.cloud.get_dynamic_webhooks_for_app()["values"]
    assert listed["id"] == made["createdWebhookId"]
