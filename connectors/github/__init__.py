"""GitHub: repositories and their issues, pull requests, reviews, comments, commits, releases and
workflow runs; members of organizations (REST API, version 2022-11-28).

https://docs.github.com/en/rest

Longer than 450 lines: what changed is found in four ways, since each kind of listing has another;
and hooks are made, looked at and proven one by one.
"""

from collections.abc import Mapping
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
    again,
    changed_since,
    commits,
    in_repositories,
    newest_first,
    organizations,
    repositories,
    reviews_of,
    whole,
    workflow_runs,
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
REPOSITORY = columns("repository_id:bigint")
TIMES = columns("created_at:timestamptz updated_at:timestamptz")


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


connector = Connector(
    name="github",
    title="GitHub",
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
        "A GitHub App's own webhook is not read: hooks are made on repositories and organizations, "
        "which takes an OAuth app, or a GitHub App that may administrate hooks.",
    ),
    streams=(
        Stream(
            name="repositories",
            title="Repositories",
            read=repositories,
            key=lambda record: str(record["id"]),
            columns={
                **columns(
                    "full_name description owner=owner.login private:boolean archived:boolean "
                    "fork:boolean default_branch language stars=stargazers_count:bigint "
                    "open_issues=open_issues_count:bigint pushed_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="issues",
            title="Issues",
            read=in_repositories(changed_since("/issues", state="all"), with_issues=True),
            key=numbered,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/issues/{}"),
            columns={
                **REPOSITORY,
                **columns(
                    "number:bigint title state user=user.login assignee=assignee.login "
                    "comments:bigint labels:jsonb closed_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="pull_requests",
            title="Pull requests",
            read=in_repositories(
                newest_first(
                    "/pulls",
                    time="updated_at",
                    params={"state": "all", "sort": "updated", "direction": "desc"},
                )
            ),
            key=numbered,
            version=CHANGED,
            fetch=again("/pulls/{}", without=STATISTICS),
            columns={
                **REPOSITORY,
                **columns(
                    "number:bigint title state draft:boolean user=user.login head=head.ref "
                    "base=base.ref merged_at:timestamptz closed_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="issue_comments",
            title="Comments on issues and pull requests",
            read=in_repositories(changed_since("/issues/comments"), with_issues=True),
            key=under,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/issues/comments/{}"),
            columns={**REPOSITORY, **columns("issue_url user=user.login body"), **TIMES},
        ),
        Stream(
            name="reviews",
            title="Reviews",
            read=in_repositories(
                newest_first(
                    "/pulls",
                    time="updated_at",
                    params={"state": "all", "sort": "updated", "direction": "desc"},
                    besides=reviews_of,
                )
            ),
            key=review_key,
            fetch=again("/pulls/{}/reviews/{}"),
            columns={
                **REPOSITORY,
                **columns(
                    "pull_request_url user=user.login state body commit_id submitted_at:timestamptz"
                ),
            },
        ),
        Stream(
            name="review_comments",
            title="Comments in reviews",
            read=in_repositories(changed_since("/pulls/comments")),
            key=under,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/pulls/comments/{}"),
            columns={
                **REPOSITORY,
                **columns("pull_request_url user=user.login path line:bigint body"),
                **TIMES,
            },
        ),
        Stream(
            name="commits",
            title="Commits",
            read=in_repositories(commits),
            key=lambda record: f"{record['repository_id']}/{record['sha']}",
            columns={
                **REPOSITORY,
                **columns(
                    "sha message=commit.message author=author.login author_name=commit.author.name "
                    "author_email=commit.author.email authored_at=commit.author.date:timestamptz "
                    "committed_at=commit.committer.date:timestamptz"
                ),
            },
        ),
        Stream(
            name="releases",
            title="Releases",
            read=in_repositories(whole("/releases")),
            key=under,
            fetch=again("/releases/{}"),
            columns={
                **REPOSITORY,
                **columns(
                    "tag_name name body author=author.login draft:boolean prerelease:boolean "
                    "published_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="workflow_runs",
            title="Workflow runs",
            read=in_repositories(workflow_runs),
            key=under,
            version=CHANGED,
            hides_deletes=True,
            fetch=again("/actions/runs/{}"),
            columns={
                **REPOSITORY,
                **columns(
                    "name event status conclusion head_branch head_sha run_number:bigint "
                    "run_attempt:bigint actor=actor.login run_started_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="issue_events",
            title="Events of issues",
            read=in_repositories(
                newest_first("/issues/events", time="created_at"), with_issues=True
            ),
            key=under,
            fetch=again("/issues/events/{}"),
            columns={
                **REPOSITORY,
                **columns("event actor=actor.login issue=issue.number:bigint"),
                **columns("created_at:timestamptz"),
            },
        ),
        Stream(
            name="labels",
            title="Labels",
            read=in_repositories(whole("/labels")),
            key=under,
            columns={**REPOSITORY, **columns("name color description")},
        ),
        Stream(
            name="milestones",
            title="Milestones",
            read=in_repositories(whole("/milestones", state="all")),
            key=under,
            version=CHANGED,
            columns={
                **REPOSITORY,
                **columns(
                    "number:bigint title description state due_on:timestamptz closed_at:timestamptz"
                ),
                **TIMES,
            },
        ),
        Stream(
            name="organization_members",
            title="Members of organizations",
            read=each_part(
                organizations,
                whole(
                    "/members",
                    place="organizations",
                    tag="organization_id",
                    each=timedelta(),
                ),
                prefix=lambda part: f"{part}/",
                alone=True,
            ),
            key=lambda record: f"{record['organization_id']}/{record['id']}",
            columns=columns("organization_id:bigint login type site_admin:boolean"),
        ),
    ),
)
