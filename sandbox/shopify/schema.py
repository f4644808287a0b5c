"""The part of Shopify's Admin GraphQL schema that the sandbox serves, and what a query costs.

https://shopify.dev/docs/api/admin-graphql/2026-10
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    build_schema,
)

# Of connections: the stream that holds their nodes, and the field of one node.
CONNECTIONS = {
    "orders": "orders",
    "products": "products",
    "customers": "customers",
    "inventoryItems": "inventory_items",
    "locations": "locations",
}
TYPES = {
    "orders": "Order",
    "products": "Product",
    "customers": "Customer",
    "inventory_items": "InventoryItem",
    "locations": "Location",
}
TOPICS = tuple(
    f"{kind}_{what}"
    for kind, whats in {
        "ORDERS": ("CREATE", "UPDATED", "CANCELLED", "DELETE"),
        "PRODUCTS": ("CREATE", "UPDATE", "DELETE"),
        "CUSTOMERS": ("CREATE", "UPDATE", "DELETE"),
        "INVENTORY_ITEMS": ("CREATE", "UPDATE", "DELETE"),
        "LOCATIONS": ("CREATE", "UPDATE", "DELETE"),
        "INVENTORY_LEVELS": ("CONNECT", "UPDATE", "DISCONNECT"),
    }.items()
    for what in whats
)
PAGES = "first: Int, after: String, last: Int, before: String, reverse: Boolean = false"
ROWS = {
    "Order": """
        legacyResourceId: UnsignedInt64! name: String! email: String phone: String note: String
        createdAt: DateTime! updatedAt: DateTime! processedAt: DateTime! cancelledAt: DateTime
        cancelReason: String closedAt: DateTime displayFinancialStatus: String
        displayFulfillmentStatus: String! currencyCode: String! confirmed: Boolean! test: Boolean!
        tags: [String!]! currentSubtotalLineItemsQuantity: Int!
        totalPriceSet: MoneyBag! currentTotalPriceSet: MoneyBag! customer: Customer
    """,
    "Product": """
        legacyResourceId: UnsignedInt64! title: String! handle: String! status: String!
        vendor: String! productType: String! tags: [String!]! totalInventory: Int!
        createdAt: DateTime! updatedAt: DateTime! publishedAt: DateTime
    """,
    "Customer": """
        legacyResourceId: UnsignedInt64! firstName: String lastName: String displayName: String!
        state: String! note: String tags: [String!]! locale: String! taxExempt: Boolean!
        verifiedEmail: Boolean! numberOfOrders: UnsignedInt64! amountSpent: MoneyV2!
        defaultEmailAddress: CustomerEmailAddress defaultPhoneNumber: CustomerPhoneNumber
        createdAt: DateTime! updatedAt: DateTime!
    """,
    "InventoryItem": """
        legacyResourceId: UnsignedInt64! sku: String tracked: Boolean! requiresShipping: Boolean!
        countryCodeOfOrigin: String harmonizedSystemCode: String unitCost: MoneyV2
        variant: ProductVariant createdAt: DateTime! updatedAt: DateTime!
    """,
    "Location": """
        legacyResourceId: UnsignedInt64! name: String! isActive: Boolean! shipsInventory: Boolean!
        fulfillsOnlineOrders: Boolean! address: LocationAddress! createdAt: DateTime!
        updatedAt: DateTime!
    """,
}
SDL = "\n".join(
    [
        "scalar DateTime scalar UnsignedInt64 scalar URL scalar Decimal",
        "interface Node { id: ID! }",
        "type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! endCursor: String"
        " startCursor: String }",
        "type MoneyV2 { amount: Decimal! currencyCode: String! }",
        "type MoneyBag { shopMoney: MoneyV2! }",
        "type CustomerEmailAddress { emailAddress: String! }",
        "type CustomerPhoneNumber { phoneNumber: String! }",
        "type LocationAddress { address1: String city: String country: String countryCode: String"
        " zip: String }",
        "type Shop implements Node { id: ID! name: String! email: String! myshopifyDomain: String!"
        " currencyCode: String! ianaTimezone: String! }",
        "type Count { count: Int! precision: String! }",
        "type UserError { field: [String!] message: String! }",
        "type BulkOperation implements Node { id: ID! status: String! errorCode: String"
        " objectCount: UnsignedInt64! fileSize: UnsignedInt64 url: URL partialDataUrl: URL"
        " createdAt: DateTime! completedAt: DateTime type: String! query: String! }",
        "type WebhookSubscription implements Node { id: ID! topic: WebhookSubscriptionTopic!"
        " format: String! uri: String! createdAt: DateTime! updatedAt: DateTime! }",
        *(
            f"type {name} implements Node {{ id: ID! {fields} }}"
            f" type {name}Edge {{ cursor: String! node: {name}! }}"
            f" type {name}Connection {{ nodes: [{name}!]! edges: [{name}Edge!]!"
            " pageInfo: PageInfo! }"
            for name, fields in ROWS.items()
        ),
        "type ProductVariant implements Node { id: ID! product: Product! }",
        "type WebhookSubscriptionEdge { cursor: String! node: WebhookSubscription! }",
        "type WebhookSubscriptionConnection { nodes: [WebhookSubscription!]!"
        " edges: [WebhookSubscriptionEdge!]! pageInfo: PageInfo! }",
        f"enum WebhookSubscriptionTopic {{ {' '.join(TOPICS)} APP_UNINSTALLED"
        " BULK_OPERATIONS_FINISH }",
        "enum WebhookSubscriptionFormat { JSON XML }",
        "enum OrderSortKeys { ID CREATED_AT UPDATED_AT }",
        "enum ProductSortKeys { ID CREATED_AT UPDATED_AT }",
        "enum CustomerSortKeys { ID CREATED_AT UPDATED_AT }",
        "enum LocationSortKeys { ID NAME }",
        "input WebhookSubscriptionInput { uri: String callbackUrl: URL format:"
        " WebhookSubscriptionFormat includeFields: [String!] filter: String }",
        "type WebhookSubscriptionCreatePayload { webhookSubscription: WebhookSubscription"
        " userErrors: [UserError!]! }",
        "type WebhookSubscriptionDeletePayload { deletedWebhookSubscriptionId: ID"
        " userErrors: [UserError!]! }",
        "type BulkOperationRunQueryPayload { bulkOperation: BulkOperation"
        " userErrors: [UserError!]! }",
        f"""
        type QueryRoot {{
            shop: Shop!
            node(id: ID!): Node
            nodes(ids: [ID!]!): [Node]!
            orders({PAGES}, query: String, sortKey: OrderSortKeys = ID): OrderConnection!
            products({PAGES}, query: String, sortKey: ProductSortKeys = ID): ProductConnection!
            customers({PAGES}, query: String, sortKey: CustomerSortKeys = ID): CustomerConnection!
            inventoryItems({PAGES}, query: String): InventoryItemConnection!
            locations({PAGES}, query: String, sortKey: LocationSortKeys = ID,
                includeInactive: Boolean = false, includeLegacy: Boolean = false):
                LocationConnection!
            ordersCount(query: String, limit: Int = 10000): Count
            productsCount(query: String, limit: Int = 10000): Count
            customersCount(query: String, limit: Int = 10000): Count
            webhookSubscription(id: ID!): WebhookSubscription
            webhookSubscriptions({PAGES}, topics: [WebhookSubscriptionTopic!]):
                WebhookSubscriptionConnection!
        }}
        type Mutation {{
            webhookSubscriptionCreate(topic: WebhookSubscriptionTopic!,
                webhookSubscription: WebhookSubscriptionInput!): WebhookSubscriptionCreatePayload
            webhookSubscriptionDelete(id: ID!): WebhookSubscriptionDeletePayload
            bulkOperationRunQuery(query: String!, groupObjects: Boolean = false):
                BulkOperationRunQueryPayload
        }}
        schema {{ query: QueryRoot mutation: Mutation }}
        """,
    ]
)
SCHEMA: GraphQLSchema = build_schema(SDL)
# Fields that hold an object of their own, each a point.
OBJECTS = frozenset(
    {
        *("totalPriceSet", "currentTotalPriceSet", "shopMoney", "customer"),
        *("amountSpent", "defaultEmailAddress", "defaultPhoneNumber", "unitCost", "address"),
        *("shop", "variant", "product"),
    }
)
MUTATION_COST = 10


def cost_of(document: DocumentNode, variables: Mapping[str, Any]) -> int:
    """The points a query asks for: a point for an object, for each that a connection may hold, and
    ten for a mutation."""
    fragments = {
        each.name.value: each
        for each in document.definitions
        if isinstance(each, FragmentDefinitionNode)
    }

    def of(selections: SelectionSetNode | None) -> int:
        total = 0
        for each in selections.selections if selections else ():
            if isinstance(each, FragmentSpreadNode):
                found = fragments.get(each.name.value)
                total += of(found.selection_set) if found else 0
            elif isinstance(each, InlineFragmentNode):
                total += of(each.selection_set)
            elif isinstance(each, FieldNode):
                total += of_field(each)
        return total

    def of_field(field: FieldNode) -> int:
        name, inner = field.name.value, of(field.selection_set)
        if name in CONNECTIONS or name == "webhookSubscriptions":
            return 2 + _number(field, ("first", "last"), variables) * (1 + inner)
        if name == "nodes" and field.arguments:
            ids = variables.get("ids")
            return (len(ids) if isinstance(ids, list) else 1) * (1 + inner)
        return inner + (name in OBJECTS or name.endswith("Count"))

    total = 0
    for each in document.definitions:
        if isinstance(each, OperationDefinitionNode):
            calls = len(each.selection_set.selections)
            mutates = each.operation.value == "mutation"
            total += MUTATION_COST * calls if mutates else of(each.selection_set)
    return max(total, 1)


def _number(field: FieldNode, names: tuple[str, ...], variables: Mapping[str, Any]) -> int:
    for argument in field.arguments or ():
        if argument.name.value in names:
            value = argument.value
            if isinstance(value, IntValueNode):
                return int(value.value)
            if isinstance(value, VariableNode):
                given = variables.get(value.name.value)
                return given if isinstance(given, int) else 0
    return 0
