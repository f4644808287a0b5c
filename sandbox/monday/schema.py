"""The part of monday.com's schema that the sandbox serves, and what a query costs.

https://developer.monday.com/api-reference/reference (2026-01)
How points are counted is not documented but for the sums: an object is dearer than a plain field,
and a list counts as often as its limit.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLList,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    build_schema,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
)

DEFAULT_LIMIT, UNLIMITED = 25, 10
_VALUE = "id: ID! type: ColumnType! text: String value: JSON"
SCHEMA: GraphQLSchema = build_schema(
    f"""
scalar ISO8601DateTime scalar Date scalar JSON scalar CompareValue
enum State {{ active all archived deleted }}
enum BoardKind {{ private public share }}
enum BoardObjectType {{ board custom_object document sub_items_board }}
enum BoardsOrderBy {{ created_at used_at }}
enum UserKind {{ all guests non_guests non_pending }}
enum WorkspaceKind {{ closed open template }}
enum ColumnType {{ board_relation date dependency numbers people status text }}
enum ItemsOrderByDirection {{ asc desc }}
input ItemsQueryOrderBy {{ column_id: String! direction: ItemsOrderByDirection }}
input ItemsQuery {{ ids: [ID!] order_by: [ItemsQueryOrderBy!] }}
enum WebhookEventType {{ change_column_value change_name change_specific_column_value
  change_status_column_value change_subitem_column_value change_subitem_name create_column
  create_item create_subitem create_subitem_update create_update delete_update edit_update
  item_archived item_deleted item_moved_to_any_group item_moved_to_specific_group item_restored
  move_subitem subitem_archived subitem_deleted }}
type Webhook {{ id: ID! board_id: ID! event: WebhookEventType! config: String }}
type Account {{ id: ID! name: String! slug: String! tier: String }}
type Complexity {{ before: Int! query: Int! after: Int! reset_in_x_seconds: Int! }}
type User {{ id: ID! name: String! email: String! enabled: Boolean! is_admin: Boolean
  is_guest: Boolean is_pending: Boolean is_view_only: Boolean is_verified: Boolean title: String
  location: String time_zone_identifier: String created_at: Date join_date: Date url: String!
  birthday: Date country_code: String mobile_phone: String phone: String photo_original: String
  photo_small: String photo_thumb: String photo_thumb_small: String photo_tiny: String
  teams(ids: [ID!]): [Team] account: Account! }}
type Team {{ id: ID! name: String! picture_url: String is_guest: Boolean users: [User] }}
type Tag {{ id: ID! name: String! color: String! }}
type Workspace {{ id: ID name: String! kind: WorkspaceKind description: String state: State
  created_at: ISO8601DateTime }}
type Group {{ id: ID! title: String! color: String! position: String! archived: Boolean
  deleted: Boolean }}
type Column {{ id: ID! title: String! description: String type: ColumnType! archived: Boolean!
  settings_str: String! }}
interface ColumnValue {{ {_VALUE} }}
type ColumnValueBase implements ColumnValue {{ {_VALUE} }}
type BoardRelationValue implements ColumnValue {{ {_VALUE} linked_item_ids: [ID!]! }}
type DependencyValue implements ColumnValue {{ {_VALUE} linked_item_ids: [ID!]! }}
type Item {{ id: ID! name: String! state: State created_at: Date updated_at: Date
  creator_id: String! board: Board group: Group parent_item: Item
  column_values(ids: [String!]): [ColumnValue!]! subitems: [Item]
  updates(limit: Int = 25, page: Int = 1): [Update!] }}
type ItemsResponse {{ cursor: String items: [Item!]! }}
type ActivityLogType {{ id: String! event: String! entity: String! data: String! user_id: String!
  account_id: String! created_at: String! }}
type Board {{ id: ID! name: String! description: String state: State! type: BoardObjectType
  board_kind: BoardKind! board_folder_id: ID workspace_id: ID permissions: String!
  item_terminology: String updated_at: ISO8601DateTime url: String! creator: User! tags: [Tag]
  groups(ids: [String]): [Group] columns(ids: [String]): [Column]
  items_page(limit: Int! = 25, cursor: String, query_params: ItemsQuery): ItemsResponse!
  activity_logs(limit: Int = 25, page: Int = 1, from: ISO8601DateTime, to: ISO8601DateTime,
    item_ids: [ID!], user_ids: [ID!]): [ActivityLogType] }}
type Reply {{ id: ID! body: String! created_at: Date updated_at: Date creator_id: String
  creator: User }}
type Update {{ id: ID! body: String! text_body: String created_at: Date updated_at: Date
  edited_at: Date! creator_id: String item_id: String creator: User replies: [Reply!] }}
type Query {{
  complexity: Complexity me: User account: Account
  boards(ids: [ID!], limit: Int = 25, page: Int = 1, state: State = active, board_kind: BoardKind,
    order_by: BoardsOrderBy, workspace_ids: [ID]): [Board]
  items(ids: [ID!], limit: Int = 25, page: Int = 1, newest_first: Boolean,
    exclude_nonactive: Boolean): [Item]
  next_items_page(limit: Int! = 25, cursor: String!): ItemsResponse!
  updates(ids: [ID!], limit: Int = 25, page: Int = 1): [Update!]
  users(ids: [ID!], kind: UserKind, limit: Int, page: Int, non_active: Boolean): [User]
  workspaces(ids: [ID!], limit: Int = 25, page: Int = 1, state: State = active): [Workspace]
  teams(ids: [ID!]): [Team] tags(ids: [ID!]): [Tag]
  webhooks(board_id: ID!, app_webhooks_only: Boolean): [Webhook] }}
type Mutation {{
  create_webhook(board_id: ID!, url: String!, event: WebhookEventType!, config: JSON): Webhook
  delete_webhook(id: ID!): Webhook }}
"""
)


def complexity_of(document: DocumentNode, variables: Mapping[str, Any]) -> int:
    """The points of a query."""
    fragments = {
        each.name.value: each.selection_set
        for each in document.definitions
        if isinstance(each, FragmentDefinitionNode)
    }

    def of(selections: SelectionSetNode | None, parent: Any) -> int:
        total = 0
        for each in selections.selections if selections else ():
            if isinstance(each, FieldNode):
                total += of_field(each, parent)
            elif isinstance(each, FragmentSpreadNode):
                total += of(fragments.get(each.name.value), parent)
            elif isinstance(each, InlineFragmentNode):
                named = each.type_condition
                inner = SCHEMA.get_type(named.name.value) if named else parent
                total += of(each.selection_set, inner)
        return total

    def of_field(field: FieldNode, parent: Any) -> int:
        known = getattr(parent, "fields", {}).get(field.name.value)
        if known is None:
            return 0
        type_ = get_named_type(known.type)
        if is_leaf_type(type_):
            return 1
        inner = 1 + of(field.selection_set, type_)
        is_list = isinstance(get_nullable_type(known.type), GraphQLList)
        # The items of a page are counted with it.
        counts = "limit" in known.args or (is_list and parent.name != "ItemsResponse")
        return inner * (_times(field, variables, known.args) if counts else 1)

    total = 0
    for each in document.definitions:
        if isinstance(each, OperationDefinitionNode):
            root = SCHEMA.get_root_type(each.operation)
            total += of(each.selection_set, root)
    return max(1, total)


def _times(field: FieldNode, variables: Mapping[str, Any], known: Mapping[str, Any]) -> int:
    given = {argument.name.value: argument.value for argument in field.arguments or ()}
    ids = given.get("ids")
    if isinstance(ids, ListValueNode):
        return len(ids.values)
    if "limit" not in known:
        return UNLIMITED
    limit = given.get("limit")
    if isinstance(limit, IntValueNode):
        return int(limit.value)
    if isinstance(limit, VariableNode):
        value = variables.get(limit.name.value)
        return value if isinstance(value, int) else DEFAULT_LIMIT
    return DEFAULT_LIMIT
