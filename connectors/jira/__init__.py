"""Jira Cloud: issues with their comments, changes and worklogs, projects, people, boards, sprints
(platform API, version 3; agile API, version 1.0).

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro

Longer than 300 lines: issues come by a search whose index lags, what hangs on them in pages of its
own, worklogs by two feeds, sprints board by board, and webhooks have to be kept alive.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    Connector,
    ConnectorError,
    NotAllowedError,
    OAuth2,
    RateLimit,
    Request,
    Response,
    Stream,
    SyncType,
    Webhook,
    ask,
    columns,
    say,
)
from connectors.jira.events import COVERED, events
from connectors.jira.reading import (
    API,
    BOARDS,
    FIELDS,
    MOST_IDS,
    change_rows,
    children_again,
    comment_rows,
    in_issue,
    issue_rows,
    issues_again,
    listed,
    on_board,
    searched,
    sprints,
    worklogs,
)
from connectors.jira.watches import watch
from connectors.kernel.jwts import hs256_token
from connectors.kernel.looks import looked_until
from connectors.kernel.messages import Params
from connectors.kernel.paging import Read
from connectors.kernel.versions import epoch_us

SITES = "https://api.atlassian.com/oauth/token/accessible-resources"
READ = "read:jira-work"


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Every site that the grant is good for: nothing says which one the person has picked.

    A site with Confluence is listed once more, with the scopes of that
    (https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps, 2026-11).
    """
    response = yield from ask(Request.get(SITES))
    sites = {each["id"]: each for each in response.json if READ in each["scopes"]}
    if not sites:
        raise NotAllowedError(
            say(
                "no Jira site was allowed: the person who connects needs access to one, and has to "
                "pick it on Atlassian's page"
            )
        )
    return tuple(
        Account(id_, name=site["name"], config={"host": urlsplit(site["url"]).netloc})
        for id_, site in sites.items()
    )


def classify(response: Response) -> ConnectorError | None:
    """A scope that is missing comes as a 401 of the gateway, like a token that has ended. The
    agile API may refuse so where it takes no token of the kind at all."""
    if response.status != 401:
        return None
    body = response.json if isinstance(response.json, dict) else {}
    refused = NotAllowedError(
        "Jira does not let the app read this: it was not allowed when the site was connected, or "
        "the site has no Jira Software"
    )
    if "scope does not match" in str(body.get("message")):
        return refused
    if "/rest/agile/" in response.url:
        return BrokenConnectionError("Jira refuses our authorisation (401)", lasting=refused)
    return None


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """A refresh token that was used or has ended is also refused as if our app were not allowed to
    ask (raycast/extensions#11836, 2024-04)."""
    if answer.get("error") == "unauthorized_client" and "refresh_token" in str(
        answer.get("error_description")
    ):
        return BrokenConnectionError("Jira no longer accepts this authorisation (refresh_token)")
    return None


def whole(name: str, read: Read, shown: str) -> Stream:
    """A list that is short enough to be read whole each time."""
    return Stream(name=name, read=read, snapshot=True, columns=columns(shown))


COMMENTS: Params = {"fields": "comment,created"}
CHANGES: Params = {"fields": "created", "expand": "changelog"}
PROJECTS: Params = {"status": ["live", "archived"], "expand": "description,lead"}

connector = Connector(
    name="jira",
    title="Jira",
    category="Project management",
    sync_type=SyncType.PUSH,
    base_url="https://api.atlassian.com/ex/jira/{account_id}",
    auth=OAuth2(
        env="JIRA",
        authorize_url="https://auth.atlassian.com/authorize",
        token_url="https://auth.atlassian.com/oauth/token",  # noqa: S106
        console="https://developer.atlassian.com/console/myapps",
        authorize_params={"audience": "api.atlassian.com", "prompt": "consent"},
        scopes={
            READ: "the sites, and every stream but users, boards and sprints",
            "read:jira-user": "the stream users",
            "manage:jira-webhook": "to be told of changes",
            "read:board-scope:jira-software": "the streams boards and sprints",
            "read:project:jira": "the projects that boards are of",
            "read:sprint:jira-software": "the stream sprints",
            "offline_access": "to stay connected for longer than an hour",
        },
        body="json",
        rotates=True,
        # Documented as a leeway for answers that were lost; not tried (2026-11).
        grace=timedelta(minutes=10),
        idle_lifetime=timedelta(days=90),
        error_from=error_from,
    ),
    # Documented: a hundred a second of each address. The hourly quota is in points that only the
    # answer settles: Jira then says how long to wait.
    rate_limits=(RateLimit(20, per=timedelta(seconds=1)),),
    identify=identify,
    classify=classify,
    webhook=Webhook(
        verified_by="JIRA_CLIENT_SECRET",
        verify=hs256_token,
        events=lambda delivery: tuple(events(delivery)),
        covers=COVERED,
        setup="Nothing is to be set: the app registers its webhook at each site that is connected. "
        "As long as the app is not shared, Jira delivers only what concerns its owner's sites.",
        proof="That Jira sent a delivery, and when; neither body nor address. The body names the "
        "site and the record, which is read again, and no more.",
    ),
    watch=watch,
    sync_method="search by change time, worklog feeds, issues by id, whole lists",
    referees=("jira", "atlassian-python-api"),
    limitations=(
        "What an issue shows of others (the name of its project, its people, its parent) is as of "
        "its own last change; the lists have it as it is.",
        "Deleted comments, and what hung on a deleted issue, are told of by webhooks; what they "
        "missed is found by the weekly audit.",
        "A site that has archived projects hides their issues from searches: there only webhooks "
        "tell of deletions.",
        "Worklogs and lists are polled: an app gets no webhooks for them.",
        "Components, versions, labels, attachments and links between issues are read as fields of "
        "issues only.",
    ),
    streams=(
        Stream(
            name="issues",
            read=searched({"fields": FIELDS}, issue_rows),
            listing=searched({"fields": "updated,created"}, issue_rows, size=MOST_IDS),
            fetch=issues_again,
            window=looked_until,
            hides_deletes=True,
            version=epoch_us("fields.updated"),
            columns=columns(
                "key summary=fields.summary type=fields.issuetype.name status=fields.status.name "
                "status_category=fields.status.statusCategory.key priority=fields.priority.name "
                "project_id=fields.project.id project_key=fields.project.key "
                "parent_key=fields.parent.key assignee_id=fields.assignee.accountId "
                "reporter_id=fields.reporter.accountId resolution=fields.resolution.name "
                "due_date=fields.duedate:date resolved_at=fields.resolutiondate:timestamptz "
                "created_at=fields.created:timestamptz updated_at=fields.updated:timestamptz"
            ),
        ),
        Stream(
            name="comments",
            read=searched(COMMENTS, comment_rows),
            fetch=children_again("comment", "comments"),
            window=looked_until,
            hides_deletes=True,
            key=in_issue,
            version=epoch_us("updated"),
            columns=columns(
                "issue_id author_id=author.accountId author=author.displayName body:jsonb "
                "created_at=created:timestamptz updated_at=updated:timestamptz"
            ),
        ),
        Stream(
            name="changelogs",
            title="Changes of issues",
            read=searched(CHANGES, change_rows),
            fetch=children_again("changelog", "values"),
            window=looked_until,
            hides_deletes=True,
            key=in_issue,
            columns=columns(
                "issue_id author_id=author.accountId created_at=created:timestamptz items:jsonb"
            ),
        ),
        Stream(
            name="worklogs",
            read=worklogs,
            hides_deletes=True,
            version=epoch_us("updated"),
            columns=columns(
                "issue_id=issueId author_id=author.accountId seconds=timeSpentSeconds:bigint "
                "started_at=started:timestamptz created_at=created:timestamptz "
                "updated_at=updated:timestamptz"
            ),
        ),
        whole(
            "projects",
            listed(f"{API}/project/search", params=PROJECTS),
            "key name type=projectTypeKey style lead_id=lead.accountId "
            "is_private=isPrivate:boolean",
        ),
        Stream(
            name="users",
            read=listed(f"{API}/users/search", ""),
            key="accountId",
            snapshot=True,
            columns=columns(
                "name=displayName email=emailAddress type=accountType active:boolean "
                "time_zone=timeZone"
            ),
        ),
        whole(
            "boards",
            listed(BOARDS, software=True),
            "name type project_id=location.projectId project_key=location.projectKey",
        ),
        Stream(
            name="sprints",
            read=sprints,
            key=on_board,
            snapshot=True,
            columns=columns(
                "sprint_id=id board_id origin_board_id=originBoardId name state goal "
                "starts_at=startDate:timestamptz ends_at=endDate:timestamptz "
                "completed_at=completeDate:timestamptz"
            ),
        ),
        whole("priorities", listed(f"{API}/priority/search"), "name description"),
        whole(
            "fields",
            listed(f"{API}/field", "", paged=False),
            "key name is_custom=custom:boolean type=schema.type kind=schema.custom",
        ),
        whole(
            "statuses",
            listed(f"{API}/status", "", paged=False),
            "name description category=statusCategory.key",
        ),
        whole(
            "issue_types",
            listed(f"{API}/issuetype", "", paged=False),
            "name description is_subtask=subtask:boolean level=hierarchyLevel:bigint",
        ),
        whole("resolutions", listed(f"{API}/resolution/search"), "name description"),
        whole(
            "link_types",
            listed(f"{API}/issueLinkType", "issueLinkTypes", paged=False),
            "name inward outward",
        ),
    ),
)
