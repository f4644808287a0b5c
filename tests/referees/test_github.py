"""PyGithub against the sandbox, with only its base URL set."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from github import Auth, Github, GithubException, RateLimitExceededException

from sandbox import start

pytestmark = pytest.mark.referee


class Referee:
    """The SDK with a token of an account of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 120) -> None:
        self.http = control
        self.described = control.get("/_control").json()["github"]
        self.account = self.control("accounts", size=size)["id"]
        # It reads on at the addresses that rows have.
        self.control("app", account=self.account, links=True)
        self.github = self.client(self.control("grant", account=self.account)["access_token"])

    def client(self, token: str) -> Github:
        return Github(
            auth=Auth.Token(token), base_url=self.described["base_url"], per_page=20, retry=None,
            seconds_between_requests=None, seconds_between_writes=None,
        )  # fmt: skip

    def control(self, action: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/github/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.http.get("/_control/github/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["github"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield Referee(client)


def test_the_person_and_the_repositories_are_found(referee: Referee) -> None:
    assert str(referee.github.get_user().id) == referee.account
    repos = {str(repo.id): repo.full_name for repo in referee.github.get_user().get_repos()}
    assert repos == {id: row["full_name"] for id, row in referee.store("repositories").items()}
    (org,) = referee.github.get_user().get_orgs()
    members = {f"{org.id}/{one.id}" for one in org.get_members()}
    assert members == referee.store("organization_members").keys()


def test_everything_of_a_repository_is_walked_to_its_end(referee: Referee) -> None:
    found: dict[str, set[str]] = {}
    for repo in referee.github.get_user().get_repos():
        lists: dict[str, set[str]] = {
            "issues": {
                str(one.number) for one in repo.get_issues(state="all") if not one.pull_request
            },
            "pull_requests": {str(one.number) for one in repo.get_pulls(state="all")},
            "issue_comments": {str(one.id) for one in repo.get_issues_comments()},
            "review_comments": {str(one.id) for one in repo.get_pulls_comments()},
            "reviews": {
                f"{pull.number}/{one.id}"
                for pull in repo.get_pulls(state="all")
                for one in pull.get_reviews()
            },
            "releases": {str(one.id) for one in repo.get_releases()},
            "workflow_runs": {str(one.id) for one in repo.get_workflow_runs()},
            "issue_events": {str(one.id) for one in repo.get_issues_events()},
            "labels": {str(one.id) for one in repo.get_labels()},
            "milestones": {str(one.id) for one in repo.get_milestones(state="all")},
        }
        try:
            lists["commits"] = {one.sha for one in repo.get_commits()}
        except GithubException as error:
            assert error.status == 409  # noqa: PT017 - one repository is empty
        for stream, keys in lists.items():
            found.setdefault(stream, set()).update(f"{repo.id}/{key}" for key in keys)
    for stream, keys in found.items():
        assert keys == referee.store(stream).keys(), stream


def test_a_repository_is_found_by_its_number_and_by_a_former_name(referee: Referee) -> None:
    (id, row), *_ = referee.store("repositories").items()
    path = f"/_control/github/records/repositories?account={referee.account}"
    body = {"op": "change", "id": id, "record": {"name": "renamed"}}
    assert referee.http.post(path, json=body).status_code == 200
    assert referee.github.get_repo(int(id)).name == "renamed"
    assert referee.github.get_repo(row["full_name"]).id == int(id)


def test_commits_are_compared_and_listed_since_a_time(referee: Referee) -> None:
    repo = referee.github.get_repo(int(next(iter(referee.store("repositories")))))
    before = repo.get_commits()[0].sha
    for seed in range(4):
        order = {"count": 5, "streams": ["commits"], "seed": seed}
        referee.control("mutate", account=referee.account, **order)
    after = repo.get_commits()[0].sha
    compared = repo.compare(before, after)
    assert compared.ahead_by == compared.total_commits == len(list(compared.commits))
    since = datetime(2000, 1, 1, tzinfo=UTC)
    assert len(list(repo.get_commits(since=since))) == len(list(repo.get_commits()))


def test_limits_and_missing_rights_are_told_apart(referee: Referee) -> None:
    referee.control("faults", kind="429", count=1)
    with pytest.raises(RateLimitExceededException):
        referee.github.get_user().login  # noqa: B018
    referee.control("faults", kind="forbidden", count=1)
    with pytest.raises(GithubException) as refused:
        referee.github.get_user().login  # noqa: B018
    assert not isinstance(refused.value, RateLimitExceededException)
    assert refused.value.status == 403


def test_hooks_are_made_listed_and_deleted(referee: Referee) -> None:
    repo = next(iter(referee.github.get_user().get_repos()))
    config = {"url": "http://127.0.0.1:9/hook", "content_type": "json", "secret": "s"}
    hook = repo.create_hook("web", config, ["issues", "push"], active=True)
    assert [one.id for one in repo.get_hooks()] == [hook.id]
    assert list(repo.get_hook_deliveries(hook.id)) is not None
    hook.delete()
    assert list(repo.get_hooks()) == []


def test_a_code_is_exchanged_and_a_token_that_ends_is_refreshed(referee: Referee) -> None:
    referee.control("app", account=referee.account, expires=True)
    query = {
        "client_id": referee.described["client_id"],
        "scope": "repo read:org",
        "redirect_uri": "http://127.0.0.1:9/callback",
    }
    page = referee.described["authorize_url"]
    form = {"decision": "allow", "account": referee.account}
    answer = referee.http.post(page, params=query, data=form)
    code = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
    body = {
        "client_id": referee.described["client_id"], "code": code,
        "client_secret": referee.described["client_secret"], "redirect_uri": query["redirect_uri"],
    }  # fmt: skip
    asked = {"accept": "application/json"}
    pair = referee.http.post(referee.described["token_url"], data=body, headers=asked).json()
    assert str(referee.client(pair["access_token"]).get_user().id) == referee.account
