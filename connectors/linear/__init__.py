"""Linear: issues, their comments, history and attachments, projects, cycles, teams and users.

https://linear.app/developers/graphql (GraphQL without versions; as of @linear/sdk 98.0.0, 2026-11)

What is computed, such as the progress of a project or whether a cycle is the active one, is not
read: it changes without a change of the row's updatedAt.

Longer than 450 lines with its modules: there are thirteen streams, cursors and sizes of pages may
be refused, issues have a history, and what can be seen depends on teams.
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
    Revocation,
    Stream,
    SyncType,
    ask,
)
from connectors.kernel.looks import looked_until
from connectors.kernel.versions import epoch_us
from connectors.linear.errors import classify, data_of
from connectors.linear.events import webhook
from connectors.linear.query import HISTORY, Rows, columns_of, graphql
from connectors.linear.reading import ENTRIES, HISTORIES, entries, read_again, scan

TIMES = "createdAt updatedAt archivedAt"


def stream(
    name: str,
    connection: str,
    fields: str,
    *,
    many: bool = False,
    snapshot: bool = False,
    **rules: Any,
) -> Stream:
    """Rows by the time of their change, which webhooks tell, and deletions too. Nothing else tells
    of these, nor that a row was archived, unless its filter knows that: so an audit reads all, but
    where there are `many` rows only their versions. What no webhook tells of is a `snapshot`."""
    rows = Rows(connection, f"{fields} {TIMES}", **rules)
    shown = columns_of(rows.fields)
    shown.pop("trashed", None)  # what is in the trash is no row
    return Stream(
        name=name,
        read=lambda at, context: scan(rows, at, context),
        listing=(lambda at, context: scan(rows.bare, at, context)) if many else None,
        fetch=lambda keys, context: read_again(rows, keys, context),
        window=None if snapshot else looked_until,
        version=epoch_us("updatedAt"),
        snapshot=snapshot,
        hides_deletes=not snapshot,
        columns=shown,
    )


STREAMS = (
    stream(
        "issues",
        "issues",
        "identifier number:bigint title description priority:bigint priorityLabel estimate:numeric "
        "dueDate:date url branchName labelIds:jsonb previousIdentifiers:jsonb trashed:boolean "
        "startedAt completedAt canceledAt autoArchivedAt autoClosedAt startedTriageAt triagedAt "
        "snoozedUntilAt slaStartedAt slaBreachesAt state.id team.id creator.id assignee.id "
        "delegate.id project.id projectMilestone.id cycle.id parent.id",
        archived=True,
        many=True,
    ),
    stream(
        "comments",
        "comments",
        "body quotedText url editedAt resolvedAt issueId parentId projectUpdateId "
        "initiativeUpdateId documentContentId user.id externalUser.id",
        many=True,
    ),
    stream(
        "projects",
        "projects",
        "name description content slugId url color icon priority:bigint health healthUpdatedAt "
        "startDate:date targetDate:date labelIds:jsonb trashed:boolean startedAt completedAt "
        "canceledAt autoArchivedAt status.id status.name status.type lead.id leadTeamId creator.id",
    ),
    stream(
        "cycles",
        "cycles",
        "number:bigint name description startsAt endsAt completedAt autoArchivedAt team.id",
    ),
    stream(
        "teams",
        "teams",
        "key name displayName description icon color visibility timezone cyclesEnabled:boolean "
        "cycleDuration:bigint triageEnabled:boolean issueEstimationType retiredAt parent.id",
        snapshot=True,
        of_teams=False,
    ),
    stream(
        "users",
        "users",
        "name displayName email active:boolean admin:boolean owner:boolean guest:boolean "
        "app:boolean title description timezone url",
        arguments=", includeDisabled: true",
        of_teams=False,
    ),
    stream(
        "workflow_states",
        "workflowStates",
        "name type color description position:numeric team.id inheritedFrom.id",
        snapshot=True,
        of_teams=False,
    ),
    stream(
        "issue_labels",
        "issueLabels",
        "name color description isGroup:boolean retiredAt team.id parent.id creator.id",
    ),
    Stream(
        name="issue_history",
        read=lambda at, context: scan(HISTORIES, at, context, entries),
        version=epoch_us("updatedAt"),
        append_only=True,
        keeps_hidden=True,
        columns=columns_of(f"issueId {ENTRIES}"),
    ),
    stream(
        "attachments",
        "attachments",
        "title subtitle url sourceType metadata:jsonb groupBySource:boolean issue.id creator.id",
        many=True,
    ),
    stream(
        "project_milestones",
        "projectMilestones",
        "name description targetDate:date sortOrder:numeric project.id",
        snapshot=True,
        of_teams=False,
    ),
    stream(
        "initiatives",
        "initiatives",
        "name description content slugId url color icon status health healthUpdatedAt "
        "targetDate:date trashed:boolean startedAt completedAt owner.id creator.id",
        of_teams=False,
    ),
    stream(
        "project_updates",
        "projectUpdates",
        "body health slugId url editedAt project.id user.id",
    ),
)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The workspace, by the id that webhooks name; the token answer does not say it."""
    response = yield from ask(graphql("{ organization { id name } }", {}))
    workspace = data_of(response)["organization"]
    return (Account(str(workspace["id"]), name=str(workspace["name"])),)


connector = Connector(
    name="linear",
    title="Linear",
    category="Project management",
    sync_type=SyncType.PUSH,
    base_url="https://api.linear.app",
    auth=OAuth2(
        env="LINEAR",
        authorize_url="https://linear.app/oauth/authorize",
        token_url="https://api.linear.app/oauth/token",  # noqa: S106
        # Whoever gives back an access token leaves the refresh token (ReviewStage/luke#261).
        revocation=Revocation(
            url="https://api.linear.app/oauth/revoke",
            gives=("refresh_token",),
            parameter="refresh_token",
            unknown=frozenset({400, 401}),
        ),
        console="https://linear.app/settings/api/applications",
        scopes={"read": "all streams, as far as the person who connects sees them"},
        scope_separator=",",
        # So that a person can choose another workspace than the one that was allowed before.
        authorize_params={"prompt": "consent"},
        pkce=True,
        rotates=True,
        access_token_ttl=timedelta(hours=24),
    ),
    rate_limits=(
        # Of 200,000 points an hour for each person the history of issues has its half.
        RateLimit(100_000, per=timedelta(hours=1)),
        RateLimit(100_000, per=timedelta(hours=1), name=HISTORY),
    ),
    identify=identify,
    classify=classify,
    webhook=webhook,
    sync_method="filter by change time, newest first",
    referees=("@linear/sdk",),
    limitations=(
        "What Linear shows no more it may have deleted, or moved into a private team that the "
        "person who connected is not in: it does not tell which. Either is gone from the tables.",
        "What goes with an issue that is deleted, its comments and attachments, is found gone by "
        "the weekly audit. So is, but for issues, what was archived where no webhook told of it.",
        "That an issue was taken out of the archive a webhook tells, or its next change.",
        "Older rows of a private team that is joined come within an hour, in a workspace of more "
        "than 100 teams within a week.",
        "The history of issues is read for some 1,500 issues an hour, newest first: Linear allows "
        "an app not much more. What was read of it stays, whatever becomes of its issue.",
        "Computed fields, such as the progress of a project, and the teams and members of one.",
    ),
    streams=STREAMS,
)
