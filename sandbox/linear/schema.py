"""The part of Linear's GraphQL schema that the sandbox serves, and what a query costs.

https://linear.app/developers/rate-limiting#understanding-query-complexity
Each type, argument and value is as in @linear/sdk 98.0.0 (2026-11); a referee compares them.
"""

import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    build_schema,
    get_named_type,
    is_leaf_type,
)

TIMES = "createdAt: DateTime! updatedAt: DateTime! archivedAt: DateTime"
# Of each stream: the connection that lists it, if one does, its type, and the fields of that.
ROWS = {
    stream: (connection.strip("-"), type_, " ".join(fields.split()))
    for stream, connection, type_, fields in re.findall(
        r"^(\w+) (\S+) (\w+)\n((?: .*\n)+)",
        """
teams teams Team
    key: String! name: String! displayName: String! description: String icon: String color: String
    visibility: TeamVisibility! timezone: String! cyclesEnabled: Boolean! cycleDuration: Float!
    triageEnabled: Boolean! issueEstimationType: String! retiredAt: DateTime parent: Team
users users User
    name: String! displayName: String! email: String! active: Boolean! admin: Boolean!
    owner: Boolean! guest: Boolean! app: Boolean! title: String description: String
    timezone: String url: String!
workflow_states workflowStates WorkflowState
    name: String! type: String! color: String! description: String position: Float! team: Team!
    inheritedFrom: WorkflowState
issue_labels issueLabels IssueLabel
    name: String! color: String! description: String isGroup: Boolean! retiredAt: DateTime
    team: Team parent: IssueLabel creator: User
cycles cycles Cycle
    number: Float! name: String description: String startsAt: DateTime! endsAt: DateTime!
    completedAt: DateTime autoArchivedAt: DateTime team: Team!
initiatives initiatives Initiative
    name: String! description: String content: String slugId: String! url: String! color: String
    icon: String status: InitiativeStatus! health: InitiativeUpdateHealthType
    healthUpdatedAt: DateTime targetDate: TimelessDate trashed: Boolean startedAt: DateTime
    completedAt: DateTime owner: User creator: User
projects projects Project
    name: String! description: String! content: String slugId: String! url: String! icon: String
    color: String! priority: Int! health: ProjectUpdateHealthType healthUpdatedAt: DateTime
    startDate: TimelessDate targetDate: TimelessDate labelIds: [String!]! trashed: Boolean
    startedAt: DateTime completedAt: DateTime canceledAt: DateTime autoArchivedAt: DateTime
    status: ProjectStatus! lead: User leadTeamId: String! creator: User
project_milestones projectMilestones ProjectMilestone
    name: String! description: String targetDate: TimelessDate sortOrder: Float! project: Project!
project_updates projectUpdates ProjectUpdate
    body: String! health: ProjectUpdateHealthType! slugId: String! url: String! editedAt: DateTime
    project: Project! user: User!
issues issues Issue
    identifier: String! number: Float! title: String! description: String priority: Float!
    priorityLabel: String! estimate: Float dueDate: TimelessDate url: String! branchName: String!
    labelIds: [String!]! previousIdentifiers: [String!]! trashed: Boolean startedAt: DateTime
    completedAt: DateTime canceledAt: DateTime autoArchivedAt: DateTime autoClosedAt: DateTime
    startedTriageAt: DateTime triagedAt: DateTime snoozedUntilAt: DateTime slaStartedAt: DateTime
    slaBreachesAt: DateTime state: WorkflowState! team: Team! creator: User assignee: User
    delegate: User project: Project projectMilestone: ProjectMilestone cycle: Cycle parent: Issue
comments comments Comment
    body: String! quotedText: String url: String! editedAt: DateTime resolvedAt: DateTime
    issueId: String parentId: String projectUpdateId: String initiativeUpdateId: String
    documentContentId: String user: User externalUser: ExternalUser
attachments attachments Attachment
    title: String! subtitle: String url: String! sourceType: String metadata: JSONObject!
    groupBySource: Boolean! issue: Issue! creator: User
issue_history - IssueHistory
    fromStateId: String toStateId: String fromAssigneeId: String toAssigneeId: String
    fromTeamId: String toTeamId: String fromProjectId: String toProjectId: String
    fromCycleId: String toCycleId: String fromPriority: Float toPriority: Float fromEstimate: Float
    toEstimate: Float fromTitle: String toTitle: String actorId: String addedLabelIds: [String!]
    removedLabelIds: [String!] archived: Boolean trashed: Boolean
""",
        re.MULTILINE,
    )
}
TYPES = {stream: type_ for stream, (_, type_, _) in ROWS.items()}
CONNECTIONS = {connection: stream for stream, (connection, _, _) in ROWS.items() if connection}
# The fields of each stream's rows with their types, without those that every row has.
FIELDS = {
    stream: dict(re.findall(r"(\w+): (\[?\w+!?\]?!?)", fields))
    for stream, (_, _, fields) in ROWS.items()
}
PAGES = (
    "first: Int after: String last: Int before: String orderBy: PaginationOrderBy"
    " includeArchived: Boolean"
)
# Issues and projects are found by comparators of their own.
ID_COMPARATORS = {
    "Issue": "IssueIdComparator",
    "Project": "EntityIdentifierIdComparator",
    "Initiative": "EntityIdentifierIdComparator",
}


def _row_types(stream: str) -> str:
    _, name, fields = ROWS[stream]
    more = f" history({PAGES}): IssueHistoryConnection!" if name == "Issue" else ""
    return (
        f"type {name} implements Node {{ id: ID! {TIMES} {fields}{more} }}"
        f" type {name}Edge {{ cursor: String! node: {name}! }}"
        f" type {name}Connection {{ edges: [{name}Edge!]! nodes: [{name}!]! pageInfo: PageInfo! }}"
    )


def _filter(name: str) -> str:
    archived = " archivedAt: NullableDateComparator" if name == "Issue" else ""
    comparator = ID_COMPARATORS.get(name, "IdComparator")
    return (
        f"input {name}Filter {{ and: [{name}Filter!] or: [{name}Filter!] id: {comparator}"
        f" createdAt: DateComparator updatedAt: DateComparator{archived} }}"
    )


def _root(connection: str, stream: str) -> str:
    more = " includeDisabled: Boolean" if stream == "users" else ""
    name = TYPES[stream]
    return f"{connection}({PAGES} filter: {name}Filter{more}): {name}Connection!"


_IDS = "eq: ID neq: ID in: [ID!] nin: [ID!]"
_DATES = " ".join(
    [f"{sign}: DateTimeOrDuration" for sign in ("eq", "neq", "gt", "gte", "lt", "lte")]
    + [f"{sign}: [DateTimeOrDuration!]" for sign in ("in", "nin")]
)
SDL = "\n".join(
    [
        "scalar DateTime scalar DateTimeOrDuration scalar TimelessDate scalar JSONObject",
        "interface Node { id: ID! }",
        "enum PaginationOrderBy { createdAt updatedAt }",
        "enum TeamVisibility { private public restricted }",
        "enum ProjectUpdateHealthType { atRisk offTrack onTrack }",
        "enum InitiativeUpdateHealthType { atRisk offTrack onTrack }",
        "enum InitiativeStatus { Active Canceled Completed Planned Proposed }",
        "enum ProjectStatusType { backlog canceled completed paused planned started }",
        "type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String"
        " endCursor: String }",
        "type ProjectStatus implements Node { id: ID! name: String! type: ProjectStatusType! }",
        "type ExternalUser implements Node { id: ID! name: String! displayName: String! }",
        "type Organization implements Node { id: ID! name: String! urlKey: String!"
        " createdAt: DateTime! }",
        *(_row_types(stream) for stream in ROWS),
        f"input IdComparator {{ {_IDS} }} input IssueIdComparator {{ {_IDS} }}"
        f" input EntityIdentifierIdComparator {{ {_IDS} }}",
        f"input DateComparator {{ {_DATES} }}",
        f"input NullableDateComparator {{ {_DATES} null: Boolean }}",
        *(_filter(TYPES[stream]) for stream in CONNECTIONS.values()),
        "type Query { viewer: User! organization: Organization! issue(id: String!): Issue!",
        *(_root(connection, stream) for connection, stream in CONNECTIONS.items()),
        "}",
    ]
)
SCHEMA: GraphQLSchema = build_schema(SDL)
DEFAULT_PAGE = 50


def complexity_of(document: DocumentNode, variables: Mapping[str, Any]) -> int:
    """A tenth of a point for a plain field, one for an object; a connection multiplies what is in
    it by the size of its page."""
    fragments = {
        each.name.value: each.selection_set
        for each in document.definitions
        if isinstance(each, FragmentDefinitionNode)
    }

    def of(selections: SelectionSetNode | None, parent: GraphQLObjectType) -> float:
        total = 0.0
        for each in selections.selections if selections else ():
            if isinstance(each, FieldNode):
                total += of_field(each, parent)
            elif isinstance(each, FragmentSpreadNode):
                total += of(fragments.get(each.name.value), parent)
            elif isinstance(each, InlineFragmentNode):
                total += of(each.selection_set, parent)
        return total

    def of_field(field: FieldNode, parent: GraphQLObjectType) -> float:
        known = parent.fields.get(field.name.value)
        if known is None:  # __typename
            return 0.1
        type_ = get_named_type(known.type)
        if is_leaf_type(type_):
            return 0.1
        assert isinstance(type_, GraphQLObjectType)  # noqa: S101 - nothing is of an interface
        inner = of(field.selection_set, type_)
        if type_.name.endswith("Connection"):
            return _page_size(field, variables) * inner
        return 1 + inner

    query = SCHEMA.query_type
    assert query  # noqa: S101 - the schema has one
    total = sum(
        of(each.selection_set, query)
        for each in document.definitions
        if isinstance(each, OperationDefinitionNode)
    )
    return max(1, ceil(total - 1e-9))


def _page_size(field: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in field.arguments or ():
        if argument.name.value in ("first", "last"):
            value = argument.value
            if isinstance(value, IntValueNode):
                return int(value.value)
            if isinstance(value, VariableNode):
                given = variables.get(value.name.value)
                return given if isinstance(given, int) else DEFAULT_PAGE
    return DEFAULT_PAGE
