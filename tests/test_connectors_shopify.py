"""Shopify's traps: what its answers, callbacks, webhooks and exports really say."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Callback,
    Checkpoint,
    ContractError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    load,
)
from connectors.shopify import CUSTOMERS, INVENTORY_ITEMS, LOCATIONS, ORDERS, PRODUCTS
from connectors.shopify.errors import classify, verify_callback
from connectors.shopify.query import DEAREST, Rows
from connectors.shopify.reading import BY_PAGES, LOOKS
from sandbox.shopify.auth import signed
from tests._conformance import Bench, Tried
from tests._driving import NOW, drive, response

SHOPIFY = load("shopify")
SECRET = "hush"
THROTTLED = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}


def shown(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


# -- Consent


def callback(params: Mapping[str, str], at: datetime = NOW) -> Callback:
    return Callback(params=params, answers={}, client_secret=SECRET, at=at)


def proven(at: datetime = NOW, **more: str) -> dict[str, str]:
    params = {"code": "c", "shop": "acme.myshopify.com", "state": "s.1-_", **more}
    params["timestamp"] = str(int(at.timestamp()))
    return {**params, "hmac": signed(SECRET, params)}


def test_the_documented_callback_is_proven_by_its_hmac() -> None:
    params = {
        "code": "0907a61c0c8d55e99db179b68161bc00",
        "shop": "some-shop.myshopify.com",
        "state": "0.6784241404160823",
        "timestamp": "1337178173",
        "hmac": "700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf",
        "signature": "a relic that is not signed",
    }
    at = datetime.fromtimestamp(1337178173, UTC)
    assert verify_callback(callback(params, at)) == {"shop": "some-shop.myshopify.com"}


@pytest.mark.parametrize("name", ["code", "shop", "state", "timestamp", "hmac"])
def test_a_callback_of_which_anything_was_changed_or_left_out_is_refused(name: str) -> None:
    params = proven()
    for wrong in ({**params, name: "1337178174"}, {k: v for k, v in params.items() if k != name}):
        with pytest.raises(SignatureError):
            verify_callback(callback(wrong))
    with pytest.raises(SignatureError):
        verify_callback(callback({**params, "host": "more"}))


def test_a_callback_cannot_be_cut_at_other_places() -> None:
    params = {"code": "c&shop=evil.myshopify.com", "state": "s", "timestamp": "1"}
    other = {"code": "c", "shop": "evil.myshopify.com", "state": "s", "timestamp": "1"}
    given = signed(SECRET, other)
    with pytest.raises(SignatureError):
        verify_callback(callback({**params, "hmac": given}))


def test_a_callback_older_than_a_day_is_refused() -> None:
    late = NOW + timedelta(days=1, seconds=1)
    with pytest.raises(SignatureError, match="too old"):
        verify_callback(callback(proven(), late))
    assert verify_callback(callback(proven(), NOW + timedelta(hours=23)))


def test_an_expiring_offline_token_is_asked_for() -> None:
    auth = SHOPIFY.oauth
    assert auth.token_params == {"expiring": "1"}
    assert auth.rotates
    assert auth.access_token_ttl == timedelta(hours=1)
    assert auth.idle_lifetime == timedelta(days=90)


async def test_the_token_of_one_shop_is_none_at_another(bench: Bench) -> None:
    tried = await bench.connect(SHOPIFY, size=3)
    other = bench.account(SHOPIFY, 3)
    elsewhere = replace(tried, connection=replace(tried.connection, config={"shop": other}))
    outcome = await elsewhere.sync(SHOPIFY.stream("products"))
    assert "refuses our authorisation" in str(outcome.error)


# -- What answers mean


def cost(asked: int, left: int, restored: int = 100) -> dict[str, Any]:
    status = {"maximumAvailable": 2000, "currentlyAvailable": left, "restoreRate": restored}
    return {"cost": {"requestedQueryCost": asked, "throttleStatus": status}}


def test_a_throttled_query_comes_as_200_and_says_how_long_the_bucket_takes() -> None:
    told = classify(response({"errors": [THROTTLED], "extensions": cost(902, 402, 50)}))
    assert isinstance(told, RateLimitedError)
    assert told.retry_after == timedelta(seconds=10)


def test_a_throttled_query_that_does_not_say_how_long_is_one_all_the_same() -> None:
    assert isinstance(classify(response({"errors": [THROTTLED]})), RateLimitedError)


async def test_a_real_429_is_waited_for_as_its_header_says(bench: Bench) -> None:
    tried = await bench.connect(SHOPIFY, size=3)
    bench.controls("/shopify/faults", {"kind": "429", "retry_after": 7})
    slept = bench.clock.slept
    assert not await tried.follow(SHOPIFY.stream("products"))
    assert bench.clock.slept - slept >= 7


@pytest.mark.parametrize(
    ("status", "errors", "kind"),
    [
        (401, "[API] Invalid API key or access token", type(None)),
        (402, "Unavailable Shop", NotAllowedError),
        (423, "Locked", NotAllowedError),
        (404, "Not Found", BrokenConnectionError),
        (200, [{"message": "", "extensions": {"code": "ACCESS_DENIED"}}], NotAllowedError),
        (200, [{"extensions": {"code": "INTERNAL_SERVER_ERROR"}}], ProviderUnavailableError),
        (200, [{"message": "no extensions"}], type(None)),
    ],
)
def test_what_is_wrong_is_told_in_several_forms(status: int, errors: Any, kind: type) -> None:
    assert isinstance(classify(response({"errors": errors}, status)), kind)


def test_a_shop_that_is_gone_or_frozen_is_believed_only_if_it_stays_so() -> None:
    gone = classify(response({"errors": "Not Found"}, 404))
    assert isinstance(gone, BrokenConnectionError)
    assert gone.may_pass
    frozen = classify(response({"errors": "Unavailable Shop"}, 402))
    assert isinstance(frozen, NotAllowedError)
    assert frozen.may_pass


def test_a_row_that_is_denied_as_a_whole_is_no_field_of_one() -> None:
    wrong = {"path": ["nodes", 0], "extensions": {"code": "ACCESS_DENIED"}}
    told = classify(response({"data": {"nodes": [None]}, "errors": [wrong]}))
    assert isinstance(told, NotAllowedError)


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"message": "?"}], "data": {"orders": {"nodes": [], "pageInfo": {}}}},
        {"errors": "a text", "data": None},
        {"errors": {"query": "a mapping"}},
    ],
)
def test_an_answer_with_errors_is_never_read_as_an_empty_page(body: Any) -> None:
    with pytest.raises(ContractError, match="refused a query"):
        drive(SHOPIFY.stream("orders").read, lambda request: response(body))


def test_another_version_than_ours_in_the_answer_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    classify(response({}, headers={"x-shopify-api-version": "2027-04"}))
    assert "answers as version 2027-04" in caplog.text


@pytest.mark.parametrize("rows", [ORDERS, PRODUCTS, CUSTOMERS, INVENTORY_ITEMS, LOCATIONS])
def test_no_query_asks_for_more_than_a_thousand_points_or_250_rows(rows: Rows) -> None:
    request = rows.listing(rows.page, None, None)
    assert request.cost <= DEAREST
    assert rows.page <= 250
    assert rows.again([str(n) for n in range(1, rows.page + 1)]).cost <= DEAREST


# -- Reading


class Shop:
    """Rows by the time of their change, as a connection shows them."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = sorted(rows, key=lambda row: (row["updatedAt"], row["id"]))
        self.asked: list[dict[str, Any]] = []
        self.lapsed = False

    def __call__(self, request: Request) -> Response:
        variables = request.json["variables"]
        self.asked.append(variables)
        if "bulkOperationRunQuery" in request.json["query"]:
            wrong = [{"field": None, "message": "one is running"}]
            answer = {"bulkOperation": None, "userErrors": wrong}
            return response({"data": {"bulkOperationRunQuery": answer}})
        if self.lapsed and variables["after"]:
            return response({"errors": [{"message": "Invalid cursor"}], "data": None})
        start = int(variables["after"] or 0)
        since = (variables["search"] or "").removeprefix("updated_at:>='").removesuffix("'")
        found = [row for row in self.rows if row["updatedAt"] >= since]
        page = found[start : start + variables["size"]]
        more = {
            "hasNextPage": start + len(page) < len(found),
            "endCursor": str(start + len(page)),
        }
        return response({"data": {"products": {"nodes": page, "pageInfo": more}}})


def product(number: int, minute: int) -> dict[str, Any]:
    at = NOW - timedelta(days=40) + timedelta(minutes=minute)
    return {"id": f"gid://shopify/Product/{number}", "updatedAt": shown(at)}


def test_a_delta_overlaps_what_was_read_before() -> None:
    shop = Shop(product(1, 0))
    pages = drive(SHOPIFY.stream("products").read, shop)
    later = NOW + timedelta(minutes=10)
    pages = drive(SHOPIFY.stream("products").read, shop, pages[-1].checkpoint, now=later)
    assert shop.asked[-1]["search"] == f"updated_at:>='{shown(NOW - LOOKS.overlap)}'"


def test_now_and_then_a_look_follows_an_hour_behind() -> None:
    shop = Shop(product(1, 0))
    pages = drive(SHOPIFY.stream("products").read, shop)
    later = NOW + LOOKS.every
    drive(SHOPIFY.stream("products").read, shop, pages[-1].checkpoint, now=later)
    assert shop.asked[-1]["search"] == f"updated_at:>='{shown(NOW - LOOKS.lag)}'"


def test_a_position_is_not_ahead_of_the_vendors_clock() -> None:
    shop, behind = Shop(product(1, 0)), NOW - timedelta(hours=2)

    def answer(request: Request) -> Response:
        return replace(shop(request), headers={"date": format_datetime(behind, usegmt=True)})

    pages = drive(SHOPIFY.stream("products").read, answer)
    drive(SHOPIFY.stream("products").read, answer, pages[-1].checkpoint)
    assert shop.asked[-1]["search"] == f"updated_at:>='{shown(behind - LOOKS.lag)}'"


def test_a_checkpoint_of_before_is_read_on_from() -> None:
    shop = Shop(*(product(n, n) for n in range(1, 60)))
    at = shop.rows[30]["updatedAt"]
    pages = drive(SHOPIFY.stream("products").read, shop, {"since": at})
    assert len({row["id"] for page in pages for row in page.records}) == 29
    half = {"started": shown(NOW), "since": at, "after": "25", "count": 25, "last": at}
    pages = drive(SHOPIFY.stream("products").read, shop, half)
    assert len({row["id"] for page in pages for row in page.records}) == 4


def test_no_query_is_paged_to_25000_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.shopify.reading.BY_PAGES", 500)
    shop = Shop(*(product(n, n) for n in range(1, 1501)))
    pages = drive(SHOPIFY.stream("products").read, shop)
    assert {row["id"] for page in pages for row in page.records} == {r["id"] for r in shop.rows}
    assert max(int(asked.get("after") or 0) for asked in shop.asked) < 1000
    assert BY_PAGES < 25_000 / 2


def test_rows_that_share_a_time_are_paged_through_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.shopify.reading.BY_PAGES", 250)
    shop = Shop(*(product(n, 0) for n in range(1, 1501)))
    pages = drive(SHOPIFY.stream("products").read, shop)
    assert {row["id"] for page in pages for row in page.records} == {r["id"] for r in shop.rows}


def test_a_cursor_that_is_known_no_more_begins_the_scan_again() -> None:
    shop = Shop(*(product(n, n) for n in range(1, 401)))
    first, *_ = drive(SHOPIFY.stream("products").read, shop)
    assert first.checkpoint["after"] == "25"

    def once(request: Request) -> Response:
        shop.lapsed = len(shop.asked) == before
        return shop(request)

    before = len(shop.asked)
    pages = drive(SHOPIFY.stream("products").read, once, first.checkpoint)
    assert sum(len(page.records) for page in pages) == 400


def test_a_gid_and_a_number_name_one_row() -> None:
    stream = SHOPIFY.stream("orders")
    assert callable(stream.key)
    assert stream.key({"id": "gid://shopify/Order/123"}) == stream.key({"id": 123}) == "123"

    def answer(request: Request) -> Response:
        assert request.json["variables"]["ids"] == ["gid://shopify/Order/123"] * 2
        return response({"data": {"nodes": [None, None]}})

    fetch = stream.fetch
    assert fetch
    keys = ["123", "gid://shopify/Order/123"]
    (page,) = drive(lambda at, context: fetch(keys, context), answer)
    # It may only be too old to be shown.
    assert (list(page.hidden), list(page.deleted)) == (["123", "123"], [])


def test_inventory_items_cannot_be_sorted_so_their_checkpoint_moves_at_the_end_only() -> None:
    query = INVENTORY_ITEMS.listing(10, None, "updated_at:>='x'").json["query"]
    assert "sortKey" not in query

    def answer(request: Request) -> Response:
        last = request.json["variables"]["after"] is not None
        found = {"nodes": [], "pageInfo": {"hasNextPage": not last, "endCursor": "1"}}
        return response({"data": {"inventoryItems": found}})

    since = shown(NOW - timedelta(days=1))
    first, last = drive(SHOPIFY.stream("inventory_items").read, answer, {"since": since})
    assert first.checkpoint["from"] == since
    assert last.checkpoint["looked"] == NOW.isoformat()


def test_locations_are_all_listed_the_inactive_ones_too() -> None:
    assert "includeInactive: true" in LOCATIONS.listing(10, None, None).json["query"]
    assert SHOPIFY.stream("locations").snapshot


async def test_what_searches_show_half_an_hour_late_is_found(bench: Bench) -> None:
    tried = await bench.connect(SHOPIFY, size=20)
    stream = SHOPIFY.stream("products")
    assert not await tried.follow(stream)
    tried.order("lag", seconds=1_800)
    tried.change(10, stream)
    for _ in range(5):
        bench.clock.advance(timedelta(minutes=10))
        await tried.sync(stream)
    assert not tried.difference(stream, deletes=False)


async def test_a_sale_is_told_by_its_stock_and_read_by_it(bench: Bench) -> None:
    tried = await bench.connect(SHOPIFY, size=20)
    stream = SHOPIFY.stream("products")
    assert not await tried.follow(stream)
    sold = str(tried.order("sale")["product"])
    items = bench.controls("/shopify/store", account=tried.account, stream="inventory_items")
    keys = [f"inventory_items/{number}" for number in items["streams"]["inventory_items"]]
    assert stream.fetch
    found, gone = await tried.read(stream, stream.fetch(keys, tried.context()), [])
    assert found[sold] == tried.vendor(stream)[sold]
    assert not gone


# -- Exports


async def exporting(bench: Bench, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Tried:
    monkeypatch.setattr("connectors.shopify.reading.BY_PAGES", 100)
    monkeypatch.setattr("connectors.shopify.reading.PART", 4_000)
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 1)
    tried = await bench.connect(SHOPIFY, size=400)
    bench.controls("/shopify/bulk", {"seconds": 45, "fate": "COMPLETED", **how})
    return tried


@pytest.mark.parametrize("name", ["orders", "inventory_items"])
async def test_the_rest_of_a_long_scan_is_exported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tried = await exporting(bench, monkeypatch)
    stream = SHOPIFY.stream(name)
    assert not await tried.follow(stream)
    asked = bench.controls("/shopify/requests")["by_path"]
    parts = [count for path, count in asked.items() if tried.account in path and ".jsonl" in path]
    assert parts
    assert parts[0] > 2
    tried.change(40)
    assert not await tried.follow(stream)


async def test_an_export_goes_on_where_it_was_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await exporting(bench, monkeypatch)
    stream = SHOPIFY.stream("orders")
    outcome = await tried.sync(stream, stop=lambda done, at: at.get("offset", 0) > 0)
    assert not outcome.done
    before = tried.stored(stream)
    assert 0 < len(before) < 400
    outcome = await tried.sync(stream)
    assert outcome.inserted == 400 - len(before)
    assert not tried.difference(stream, deletes=False)


async def test_an_export_that_takes_long_is_waited_for_by_a_later_sync(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await exporting(bench, monkeypatch, seconds=3600)
    stream = SHOPIFY.stream("orders")
    outcome = await tried.sync(stream)
    assert "preparing an export" in str(outcome.error)
    bench.clock.advance(timedelta(hours=1))
    bench.controls("/shopify/bulk", {"seconds": 45})
    assert not await tried.follow(stream)


async def test_an_export_that_fails_is_made_up_for_by_pages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await exporting(bench, monkeypatch, fate="FAILED")
    assert not await tried.follow(SHOPIFY.stream("orders"))


def test_the_link_of_an_export_is_in_no_checkpoint_and_gets_no_token() -> None:
    line = json.dumps({"id": "gid://shopify/Order/1", "updatedAt": shown(NOW)}).encode() + b"\n"
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if request.file:
            return response(line, 206)
        export = {"status": "COMPLETED", "fileSize": str(len(line)), "url": "https://x/y"}
        return response({"data": {"node": export}})

    at = Checkpoint(export="gid://shopify/BulkOperation/1", offset=0, started=shown(NOW))
    (page,) = drive(SHOPIFY.stream("orders").read, answer, at)
    assert [row["id"] for row in page.records] == ["gid://shopify/Order/1"]
    assert asked[-1].file
    assert not any("x/y" in json.dumps(one) for one in (at, page.checkpoint))
    assert "storage.googleapis.com" not in SHOPIFY.hosts


# -- Webhooks


def delivery(topic: str, body: Any, **headers: str) -> Delivery:
    return Delivery(
        method="POST",
        url="https://app.example.com/api/webhooks/shopify",
        headers={
            "x-shopify-topic": topic,
            "x-shopify-shop-domain": "acme.myshopify.com",
            "x-shopify-webhook-id": "w-1",
            "x-shopify-event-id": "e-1",
            "x-shopify-triggered-at": "2026-11-01T11:00:00.5Z",
            **headers,
        },
        query={},
        body=json.dumps(body, separators=(",", ":")).encode(),
        received_at=NOW,
    )


def events(topic: str, body: Any, **headers: str) -> list[Event]:
    assert SHOPIFY.webhook
    return list(SHOPIFY.webhook.events(delivery(topic, body, **headers)))


@pytest.mark.parametrize("header", ["x-shopify-hmac-sha256", "shopify-hmac-sha256"])
def test_a_webhook_is_proven_by_its_raw_body_under_the_new_secret_or_the_former(
    header: str,
) -> None:
    assert SHOPIFY.webhook
    assert SHOPIFY.webhook.verify
    body = {"id": 1, "updated_at": "2026-01-01T00:00:00Z"}
    digest = "oyzHgxXY/Ct5NotppP6a1wOWlhkKXgrKKFDR8iAQqiY="  # pragma: allowlist secret
    sent = delivery("orders/create", body, **{header: digest})
    for secrets in ((SECRET,), ("new", SECRET)):
        SHOPIFY.webhook.verify(sent, VerificationKeys(secrets=secrets))
    with pytest.raises(SignatureError):
        SHOPIFY.webhook.verify(sent, VerificationKeys(secrets=("new",)))
    with pytest.raises(SignatureError):
        SHOPIFY.webhook.verify(
            replace(sent, body=sent.body + b" "), VerificationKeys(secrets=(SECRET,))
        )


@pytest.mark.parametrize("topic", ["orders/create", "orders/updated", "orders/cancelled"])
def test_a_payload_in_rests_words_is_read_again_in_those_of_graphql(topic: str) -> None:
    body = {"id": 7, "admin_graphql_api_id": "gid://shopify/Order/7", "total_price": "1.00"}
    (event,) = events(topic, body)
    assert (event.effect, event.streams, event.key) == (Effect.READ, ("orders",), "7")
    assert event.record is None


@pytest.mark.parametrize("body", [{"id": 7}, {"admin_graphql_api_id": "gid://shopify/Product/7"}])
def test_a_deletion_is_looked_up_for_neither_its_topic_nor_its_shop_is_signed(
    body: dict[str, Any],
) -> None:
    (event,) = events("products/delete", body)
    assert (event.effect, event.streams, event.key) == (Effect.GONE, ("products",), "7")
    assert event.at == datetime(2026, 11, 1, 11, 0, 0, 500_000, UTC)


def test_deliveries_of_one_action_are_told_apart_by_the_webhook_id() -> None:
    (one,) = events("products/update", {"id": 7})
    (other,) = events("inventory_items/update", {"id": 9}, **{"x-shopify-webhook-id": "w-2"})
    assert one.id != other.id
    assert one.account_id == "acme.myshopify.com"


SHOP = {"id": 1, "domain": "www.acme.example", "myshopify_domain": "acme.myshopify.com"}
REDACT = {"shop_id": 1, "shop_domain": "acme.myshopify.com"}
CUSTOMER = {"id": 191, "email": "a@b.example", "phone": "555-625-1199"}
BODIES: dict[str, dict[str, Any]] = {
    "app/uninstalled": SHOP,
    "shop/redact": REDACT,
    "customers/redact": {**REDACT, "customer": CUSTOMER, "orders_to_redact": [299, 300]},
    "customers/data_request": {
        **REDACT, "customer": CUSTOMER, "orders_requested": [299, 300], "data_request": {"id": 9},
    },
    "orders/updated": {"id": 7, "admin_graphql_api_id": "gid://shopify/Order/7"},
    "products/delete": {"id": 7},
}  # fmt: skip


def test_an_uninstalled_app_has_lost_its_authorisation() -> None:
    (event,) = events("app/uninstalled", SHOP)
    assert (event.effect, event.account_id) == (Effect.REVOKED, "acme.myshopify.com")


@pytest.mark.parametrize(
    ("topic", "effect"),
    [("customers/data_request", Effect.REPORT), ("customers/redact", Effect.ERASE)],
)
def test_privacy_webhooks_are_about_a_customer_and_orders(topic: str, effect: Effect) -> None:
    found = events(topic, BODIES[topic])
    assert {(event.effect, event.account_id) for event in found} == {(effect, "acme.myshopify.com")}
    assert [(e.streams[0], e.key) for e in found] == [
        ("customers", "191"), ("orders", "299"), ("orders", "300"),
    ]  # fmt: skip
    assert len({event.id for event in found}) == 3
    assert "b.example" not in repr([(e.id, e.type, e.key, e.record, dict(e.where)) for e in found])


@pytest.mark.parametrize(
    ("customer", "where"),
    [
        ({"id": None, "email": "a@b.example"}, {"defaultEmailAddress.emailAddress": "a@b.example"}),
        ({"id": None, "email": "", "phone": "5"}, {"defaultPhoneNumber.phoneNumber": "5"}),
        ({"email": "a@b.example"}, {"defaultEmailAddress.emailAddress": "a@b.example"}),
        ({"id": None}, {}),
        ({}, {}),
        (None, {}),
    ],
)
@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact"])
def test_a_customer_without_an_id_is_a_duty_all_the_same(
    topic: str, customer: Any, where: dict[str, str]
) -> None:
    first, *orders = events(topic, {**BODIES[topic], "customer": customer})
    assert (first.streams, first.key, first.where) == (("customers",), "", where)
    assert first.effect.is_duty
    assert [event.key for event in orders] == ["299", "300"]


def test_an_order_without_an_id_keeps_no_other_from_being_forgotten() -> None:
    found = events(
        "customers/redact", {**BODIES["customers/redact"], "orders_to_redact": [None, 5]}
    )
    assert [event.key for event in found] == ["191", "", "5"]
    assert len({event.id for event in found}) == 3


def test_a_webhook_that_we_do_not_understand_is_kept_as_it_came() -> None:
    (kept,) = events("orders/updated", {"id": "no number"})
    assert (kept.effect, kept.account_id) == (Effect.UNREADABLE, "acme.myshopify.com")
    assert kept.record
    assert kept.record["body"] == {"id": "no number"}


def test_a_change_of_stock_leads_to_the_product_of_the_item() -> None:
    (event,) = events("inventory_levels/update", {"inventory_item_id": 9, "available": 3})
    assert (event.effect, event.streams) == (Effect.READ, ("products",))

    def answer(request: Request) -> Response:
        ids = request.json["variables"]["ids"]
        if "variant" not in request.json["query"]:
            return response({"data": {"nodes": [product(7, 1)]}})
        assert ids == ["gid://shopify/InventoryItem/9", "gid://shopify/InventoryItem/10"]
        return response({"data": {"nodes": [{"variant": {"product": product(8, 1)}}, None]}})

    fetch = SHOPIFY.stream("products").fetch
    assert fetch
    pages = drive(
        lambda at, context: fetch(["7", event.key, "inventory_items/10"], context), answer
    )
    assert [row["id"] for page in pages for row in page.records] == [
        "gid://shopify/Product/7",
        "gid://shopify/Product/8",
    ]
    assert not any(page.deleted for page in pages)


def test_a_shop_that_is_to_be_forgotten_is_purged() -> None:
    (event,) = events("shop/redact", REDACT)
    assert (event.effect, event.account_id) == (Effect.PURGE, "acme.myshopify.com")


@pytest.mark.parametrize("topic", BODIES)
@pytest.mark.parametrize(
    "signed",
    [
        b"code=0907&shop=mine.myshopify.com&state=0.67&timestamp=1337178173",
        b"host=YWRtaW4&shop=mine.myshopify.com&timestamp=1337178173",
        b' {"shop_domain":"acme.myshopify.com","x":"=&host=a&shop=mine.myshopify.com&z="}',
        b'["=&host=a&shop=mine.myshopify.com&timestamp=1&z="]',
        b"eyJhbGciOiJIUzI1NiJ9.eyJkZXN0IjoiaHR0cHM6Ly9taW5lIn0",
        b"",
        b"null",
    ],
)
def test_what_shopify_signs_elsewhere_is_no_webhook(topic: str, signed: bytes) -> None:
    """Query strings of callbacks and of the app's page, also such as a shop's owner chose, and
    session tokens."""
    assert SHOPIFY.webhook
    sent = replace(delivery(topic, {}), body=signed)
    with pytest.raises(SignatureError):
        SHOPIFY.webhook.events(sent)


@pytest.mark.parametrize("topic", ["app/uninstalled", "shop/redact", *list(BODIES)[2:4]])
def test_a_header_that_names_another_shop_than_the_body_is_refused(topic: str) -> None:
    with pytest.raises(SignatureError):
        events(topic, BODIES[topic], **{"x-shopify-shop-domain": "other.myshopify.com"})


@pytest.mark.parametrize("said", BODIES)
@pytest.mark.parametrize("signed", BODIES)
def test_a_body_of_one_topic_ends_and_erases_nothing_under_another(said: str, signed: str) -> None:
    if said == signed:
        return
    try:
        found = events(said, BODIES[signed])
    except SignatureError:
        return
    # A record's body says little of its topic: whatever it is, it is looked up.
    assert {event.effect for event in found} <= {Effect.READ, Effect.GONE}


def test_a_topic_that_is_of_no_interest_gives_no_event() -> None:
    assert events("themes/publish", {"id": 1}) == []
