"""Shopify: orders, products, customers, inventory items and locations of a shop (GraphQL, 2026-10).

https://shopify.dev/docs/api/admin-graphql

Longer than 300 lines: long scans go through exports, with a fallback by pages where an export
fails; GraphQL's costs are kept; topics, privacy duties and protected fields have rules of their
own.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from connectors import (
    Account,
    Calls,
    Checkpoint,
    Column,
    Connector,
    Context,
    OAuth2,
    Page,
    Question,
    RateLimit,
    Reader,
    Record,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.kernel.paging import batches
from connectors.kernel.versions import epoch_us, find, parse_time
from connectors.shopify.errors import VERSION, classify, data_of, verify_callback
from connectors.shopify.events import STOCK, webhook
from connectors.shopify.query import Rows, graphql, key_of, number
from connectors.shopify.reading import read_again, scan, since
from connectors.shopify.watches import watch

MONEY = "{ shopMoney { amount currencyCode } }"
ORDERS = Rows(
    "orders",
    "Order",
    "id legacyResourceId name email phone note createdAt updatedAt processedAt cancelledAt "
    "cancelReason closedAt displayFinancialStatus displayFulfillmentStatus currencyCode confirmed "
    "test tags currentSubtotalLineItemsQuantity customer { id } "
    f"totalPriceSet {MONEY} currentTotalPriceSet {MONEY}",
    points=6,
    # 60 days without read_all_orders, by when an order was made; clocks differ.
    shown=timedelta(days=59),
)
PRODUCTS = Rows(
    "products",
    "Product",
    "id legacyResourceId title handle status vendor productType tags totalInventory createdAt "
    "updatedAt publishedAt",
    points=1,
)
CUSTOMERS = Rows(
    "customers",
    "Customer",
    "id legacyResourceId firstName lastName displayName state note tags locale taxExempt "
    "verifiedEmail numberOfOrders createdAt updatedAt amountSpent { amount currencyCode } "
    "defaultEmailAddress { emailAddress } defaultPhoneNumber { phoneNumber }",
    points=4,
)
INVENTORY_ITEMS = Rows(
    "inventoryItems",
    "InventoryItem",
    "id legacyResourceId sku tracked requiresShipping countryCodeOfOrigin harmonizedSystemCode "
    "createdAt updatedAt unitCost { amount currencyCode }",
    points=2,
    ordered=False,
)
LOCATIONS = Rows(
    "locations",
    "Location",
    "id legacyResourceId name isActive shipsInventory fulfillsOnlineOrders createdAt updatedAt "
    "address { address1 city country countryCode zip }",
    points=2,
    ordered=False,
    filtered=False,
    arguments=", includeInactive: true",
)
TIMES = columns("created_at=createdAt:timestamptz updated_at=updatedAt:timestamptz")


Fetch: TypeAlias = Callable[[Sequence[str], Context], Reader]


def stream(
    name: str, rows: Rows, columns: Mapping[str, Column], fetch: Fetch | None = None
) -> Stream:
    """Rows by the time of their change. What was deleted only webhooks tell."""
    return Stream(
        name=name,
        key=key_of,
        read=lambda at, context: scan(rows, at, context),
        listing=lambda at, context: scan(rows.bare, at, context),
        fetch=fetch or (lambda keys, context: read_again(rows, keys, context)),
        window=since,
        version=epoch_us("updatedAt"),
        hides_deletes=True,
        keeps_hidden=rows.shown is not None,
        made_at=made_at if rows.shown else None,
        columns={**columns, **TIMES},
    )


def made_at(record: Record) -> datetime:
    """When an order was made; one that does not say counts as new, and is looked for."""
    return parse_time(record.get("createdAt") or "9999-01-01")


def products_again(keys: Sequence[str], context: Context) -> Reader:
    """Products by their ids, and those whose stock changed, by that of the inventory item."""
    items = [key for key in keys if key.startswith(STOCK)]
    yield from read_again(PRODUCTS, [key for key in keys if key not in items], context)
    for some in batches(items, AT_ONCE):
        ids = [f"gid://shopify/InventoryItem/{number(key)}" for key in some]
        response = yield from ask(graphql(BY_STOCK, {"ids": ids}, cost=3 * len(ids)))
        products = [find(item, ("variant", "product")) for item in data_of(response)["nodes"]]
        yield Page([product for product in products if product], Checkpoint())


AT_ONCE = 100
BY_STOCK = f"""query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on InventoryItem {{
    variant {{ product {{ {PRODUCTS.fields} }} }} }} }} }}"""


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The shop, by the domain that its webhooks name."""
    response = yield from ask(graphql("{ shop { name } }", {}))
    return (Account(str(answer["shop"]), name=str(data_of(response)["shop"]["name"])),)


connector = Connector(
    name="shopify",
    title="Shopify",
    category="E-commerce",
    sync_type=SyncType.PUSH,
    base_url=f"https://{{config[shop]}}/admin/api/{VERSION}",
    hosts=("*.myshopify.com",),
    files=("storage.googleapis.com",),
    auth_header="x-shopify-access-token",
    auth=OAuth2(
        env="SHOPIFY",
        variables=("SHOPIFY_API_KEY", "SHOPIFY_API_SECRET"),
        questions=(
            Question(
                name="shop",
                title="Address of your shop",
                pattern=r"[a-z0-9][a-z0-9-]*\.myshopify\.com",
                hint="its name at myshopify.com, such as acme.myshopify.com",
            ),
        ),
        verify_callback=verify_callback,
        authorize_url="https://{shop}/admin/oauth/authorize",
        token_url="https://{shop}/admin/oauth/access_token",  # noqa: S106
        token_params={"expiring": "1"},
        scope_separator=",",
        console="https://partners.shopify.com",
        scopes={
            "read_orders": "the stream orders, of the last 60 days",
            "read_products": "the stream products",
            "read_customers": "the stream customers, and whose an order is",
            "read_inventory": "the stream inventory_items",
            "read_locations": "the stream locations",
        },
        rotates=True,
        # Until its successor is first used, at most so long.
        grace=timedelta(days=30),
        idle_lifetime=timedelta(days=90),
    ),
    rate_limits=(
        # A standard shop's bucket of 2,000 points, filled with 100 a second.
        RateLimit(2_000, per=timedelta(seconds=20)),
        RateLimit(10, per=timedelta(seconds=10), name="exports"),
        RateLimit(10, per=timedelta(seconds=1), name="files"),
    ),
    identify=identify,
    classify=classify,
    webhook=webhook,
    watch=watch,
    sync_method="search by change time, exports of long scans",
    referees=("ShopifyAPI",),
    limitations=(
        "Line items of orders and variants of products.",
        "Orders older than 60 days: they need read_all_orders, which Shopify approves by app. What "
        "was read before stays, as it was then.",
        "Deletes that no webhook told of are found by the weekly audit; of orders older than 60 "
        "days, only where a shop shows such orders.",
        "Fields of protected customer data that the app is not approved for come empty; the status "
        "names them.",
        "A shop whose address at myshopify.com is changed has to be connected again.",
    ),
    streams=(
        stream(
            "orders",
            ORDERS,
            columns(
                "name email financial_status=displayFinancialStatus "
                "fulfillment_status=displayFulfillmentStatus "
                "total=totalPriceSet.shopMoney.amount:numeric "
                "current_total=currentTotalPriceSet.shopMoney.amount:numeric currency=currencyCode "
                "items=currentSubtotalLineItemsQuantity:bigint customer_id=customer.id tags:jsonb "
                "processed_at=processedAt:timestamptz cancelled_at=cancelledAt:timestamptz"
            ),
        ),
        stream(
            "products",
            PRODUCTS,
            columns(
                "title handle status vendor product_type=productType "
                "total_inventory=totalInventory:bigint tags:jsonb "
                "published_at=publishedAt:timestamptz"
            ),
            products_again,
        ),
        stream(
            "customers",
            CUSTOMERS,
            columns(
                "first_name=firstName last_name=lastName email=defaultEmailAddress.emailAddress "
                "phone=defaultPhoneNumber.phoneNumber state orders=numberOfOrders:bigint "
                "spent=amountSpent.amount:numeric currency=amountSpent.currencyCode tags:jsonb"
            ),
        ),
        stream(
            "inventory_items",
            INVENTORY_ITEMS,
            columns(
                "sku tracked:boolean requires_shipping=requiresShipping:boolean "
                "unit_cost=unitCost.amount:numeric currency=unitCost.currencyCode"
            ),
        ),
        Stream(
            name="locations",
            key=key_of,
            read=lambda at, context: scan(LOCATIONS, at, context),
            fetch=lambda keys, context: read_again(LOCATIONS, keys, context),
            version=epoch_us("updatedAt"),
            snapshot=True,
            columns={
                **columns("name active=isActive:boolean city=address.city country=address.country"),
                **TIMES,
            },
        ),
    ),
)
