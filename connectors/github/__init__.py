"""GitHub: repositories and their issues, pull requests, reviews, comments, commits, releases and
workflow runs; members of organizations (REST API, version 2022-11-28).

https://docs.github.com/en/rest

Longer than 450 lines: what changed is found in four ways, since each kind of listing has another;
and hooks are made, looked at and proven one by one.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    OAuth2,
    RateLimit,
    Record,
    Request,
    Revocation,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.github.errors import classify, error_from
from connectors.github.reading import (
    ReadPart,
    again,
    changed_since,
    commits,
    in_repositories,
    newest_first,
    organizations,
    repositories,
    reviews_of,
    whole,
)
from connectors.github.watches import watch, webhook
from connectors.kernel.parts import each_part
from connectors.kernel.versions import epoch_us

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CHANGED = epoch_us("updated_at")
# What only the answer about a single pull request has.
STATISTICS = (
    "merged", "mergeable", "rebaseable", "mergeable_state", "merged_by", "comments",
    "review_comments", "maintainer_can_modify", "commits", "additions", "deletions",
    "changed_files",
)  # fmt: skip
TIMES = "created_at:timestamptz updated_at:timestamptz"
PULLS = {"state": "all", "sort": "updated", "direction": "desc"}


def numbered(record: Record) -> str:
    """Issues and pull requests are asked for by their number, which is their repository's."""
    return f"{record['repository_id']}/{record['number']}"


def under(record: Record) -> str:
    return f"{record['repository_id']}/{record['id']}"


def review_key(record: Record) -> str:
    number = record["pull_request_url"].rpartition("/")[2]
    return f"{record['repository_id']}/{number}/{record['id']}"


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The person, by a number that stays when the login changes."""
    user = (yield from ask(Request.get("/user"))).json
    return (Account(str(user["id"]), name=str(user["login"])),)


def of_repositories(
    name: str,
    title: str,
    read: ReadPart,
    shown: str,
    *,
    key: Callable[[Record], str] = under,
    with_issues: bool = False,
    **more: Any,
) -> Stream:
    """What is read repository by repository."""
    return Stream(
        name=name,
        title=title,
        read=in_repositories(read, with_issues=with_issues),
        key=key,
        columns=columns("repository_id:bigint", shown),
        **more,
    )


connector = Connector(
    name="github",
    title="GitHub",
    category="Developer tools",
    sync_type=SyncType.PUSH,
    base_url="https://api.github.com",
    headers={"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"},
    auth=OAuth2(
        env="GITHUB",
        authorize_url="https://github.com/login/oauth/authorize",
        token_url="https://github.com/login/oauth/access_token",  # noqa: S106
        revocation=Revocation(
            url="https://api.github.com/applications/{client_id}/token",
            method="DELETE",
            gives=("access_token",),
            parameter="access_token",
            body="json",
            client_auth="basic",
            unknown=frozenset({404, 422}),
        ),
        console="https://github.com/settings/developers",
        pkce=True,
        scopes={
            "repo": "all streams of repositories, private ones too (GitHub has no read-only scope)",
            "read:org": "the stream organization_members",
            "admin:repo_hook": "hooks on repositories",
            "admin:org_hook": "hooks on organizations",
        },
        # Tokens of an OAuth app do not end; those of a GitHub App do, and its answer says so.
        access_token_ttl=None,
        rotates=True,
        refused=frozenset({"bad_refresh_token", "bad_verification_code"}),
        error_from=error_from,
    ),
    rate_limits=(
        RateLimit(5_000, per=HOUR),
        # 900 points a minute, of which reading takes one, shared by the two.
        RateLimit(450, per=MINUTE),
        # What did not change is not counted by the hour.
        RateLimit(450, per=MINUTE, name="conditional"),
    ),
    identify=identify,
    classify=classify,
    webhook=webhook,
    watch=watch,
    sync_method="conditional requests, lists by change time, comparison of commits",
    referees=("PyGithub",),
    limitations=(
        "The first read of reviews takes a call for each pull request.",
        "Commits are those of each repository's default branch; of a pull request, not what it "
        "changes.",
        "Where issues are switched off in a repository, its issues and all comments are not read; "
        "what was read before stays.",
        "Deleted issues, comments and workflow runs come as events; the weekly audit finds those "
        "that were missed.",
        "A workflow run that is run again comes as an event, or by a poll while it is among the "
        "newest hundred of its repository; the weekly audit finds others.",
        "Of releases, labels and milestones beyond the first hundred of a repository, changes show "
        "within a day.",
        "Of a GitHub App's own webhook, events of repositories that an organization owns name "
        "nobody who connected: hooks, which are made where the person administrates, do.",
    ),
    streams=(
        Stream(
            name="repositories",
            title="Repositories",
            read=repositories,
            key=lambda record: str(record["id"]),
            columns=columns(
                "full_name description owner=owner.login private:boolean archived:boolean "
                "fork:boolean default_branch language stars=stargazers_count:bigint "
                "open_issues=open_issues_count:bigint pushed_at:timestamptz",
                TIMES,
            ),
        ),
        of_repositories(
            "issues",
            "Issues",
            changed_since("/issues", state="all"),
            "number:bigint title state user=user.login assignee=assignee.login comments:bigint "
            f"labels:jsonb closed_at:timestamptz {TIMES}",
            key=numbered,
            with_issues=True,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/issues/{}"),
        ),
        of_repositories(
            "issue_comments",
            "Comments on issues and pull requests",
            changed_since("/issues/comments"),
            f"issue_url user=user.login body {TIMES}",
            with_issues=True,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/issues/comments/{}"),
        ),
        of_repositories(
            "reviews",
            "Reviews",
            newest_first("/pulls", time="updated_at", params=PULLS, instead=reviews_of),
            "pull_request_url user=user.login state body commit_id submitted_at:timestamptz",
            key=review_key,
            fetch=again("/pulls/{}/reviews/{}"),
        ),
        of_repositories(
            "review_comments",
            "Comments in reviews",
            changed_since("/pulls/comments"),
            f"pull_request_url user=user.login path line:bigint body {TIMES}",
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/pulls/comments/{}"),
        ),
        of_repositories(
            "pull_requests",
            "Pull requests",
            newest_first("/pulls", time="updated_at", params=PULLS),
            "number:bigint title state draft:boolean user=user.login head=head.ref base=base.ref "
            f"merged_at:timestamptz closed_at:timestamptz {TIMES}",
            key=numbered,
            version=CHANGED,
            fetch=again("/pulls/{}", without=STATISTICS),
        ),
        of_repositories(
            "commits",
            "Commits",
            commits,
            "sha message=commit.message author=author.login author_name=commit.author.name "
            "author_email=commit.author.email authored_at=commit.author.date:timestamptz "
            "committed_at=commit.committer.date:timestamptz",
            key=lambda record: f"{record['repository_id']}/{record['sha']}",
        ),
        of_repositories(
            "releases",
            "Releases",
            whole("/releases"),
            "tag_name name body author=author.login draft:boolean prerelease:boolean "
            f"published_at:timestamptz {TIMES}",
            fetch=again("/releases/{}"),
        ),
        of_repositories(
            "workflow_runs",
            "Workflow runs",
            newest_first(
                "/actions/runs", time="created_at", records="workflow_runs", search="created"
            ),
            "name event status conclusion head_branch head_sha run_number:bigint "
            f"run_attempt:bigint actor=actor.login run_started_at:timestamptz {TIMES}",
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/actions/runs/{}"),
        ),
        of_repositories(
            "issue_events",
            "Events of issues",
            newest_first("/issues/events", time="created_at"),
            "event actor=actor.login issue=issue.number:bigint created_at:timestamptz",
            with_issues=True,
            fetch=again("/issues/events/{}"),
        ),
        of_repositories("labels", "Labels", whole("/labels"), "name color description"),
        of_repositories(
            "milestones",
            "Milestones",
            whole("/milestones", state="all"),
            "number:bigint title description state due_on:timestamptz closed_at:timestamptz "
            f"{TIMES}",
            version=CHANGED,
        ),
        Stream(
            name="organization_members",
            title="Members of organizations",
            read=each_part(
                organizations,
                whole("/members", place="organizations", tag="organization_id", each=timedelta()),
                prefix=lambda part: f"{part}/",
                alone=True,
            ),
            key=lambda record: f"{record['organization_id']}/{record['id']}",
            columns=columns("organization_id:bigint login type site_admin:boolean"),
        ),
    ),
)
