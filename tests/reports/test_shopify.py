"""What people reported of programs that read Shopify, played on our reader and our webhooks."""

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    ConnectorError,
    Context,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    NoWatch,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    RetryableError,
    Stream,
    VerificationKeys,
    WatchRequest,
    load,
)
from connectors.kernel.oauth import OAuthApp, refresh
from connectors.kernel.statuses import error_by_status
from connectors.shopify.watches import TOPICS
from tests._conformance import Bench
from tests._driving import NOW, drive, held, response
from tests._vendor import Answer as AppResponse
from tests.reports._line import line

SHOPIFY = load("shopify")
ORDERS, PRODUCTS, CUSTOMERS, ITEMS, LOCATIONS = (
    SHOPIFY.stream(name)
    for name in ("orders", "products", "customers", "inventory_items", "locations")
)
SHOP = "acme.myshopify.com"
DAY = timedelta(days=1)
EXPORT = "gid://shopify/BulkOperation/7"
LINK = "https://storage.googleapis.com/x/7.jsonl"


def stamp(ago: timedelta) -> str:
    return (NOW - ago).isoformat(timespec="seconds").replace("+00:00", "Z")


def row(kind: str, number: int, ago: timedelta = DAY, **more: Any) -> Record:
    return {"id": f"gid://shopify/{kind}/{number}", "updatedAt": stamp(ago), **more}


def judged(answer: Response, connector: Connector = SHOPIFY) -> ConnectorError | None:
    """What an answer means, as the client takes it."""
    return connector.classify(answer) or error_by_status(connector.title, "it", answer)


class Shop:
    """The rows of one connection, and what comes of exports: what `export` says of each."""

    def __init__(self, connection: str, rows: list[Record], **export: Any) -> None:
        self.connection = connection
        self.rows = rows
        self.export = export
        self.lines = b""
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.file:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            return response(self.lines[first : last + 1], 206)
        query, given = request.json["query"], request.json["variables"]
        if "bulkOperationRunQuery" in query:
            found = [one for one in self.rows if one["updatedAt"] >= _from(given["query"])]
            self.lines = b"".join(json.dumps(one).encode() + b"\n" for one in found)
            begun = {"bulkOperation": {"id": EXPORT, "status": "CREATED"}, "userErrors": []}
            return response({"data": {"bulkOperationRunQuery": self.export.get("begun", begun)}})
        if "BulkOperation" in query:
            done = {
                "id": EXPORT, "status": "COMPLETED", "errorCode": None, "url": LINK,
                "fileSize": str(len(self.lines)),
            }  # fmt: skip
            answer = response({"data": {"node": {**done, **self.export}}})
            if error := SHOPIFY.classify(answer):
                raise error
            return answer
        search = given.get("search") or ""
        since, until = _from(search), _until(search)
        found = [one for one in self.rows if since <= (one["updatedAt"] or "") < until]
        start = int(given["after"] or 0)
        page = found[start : start + given["size"]]
        end = start + len(page)
        more = {"hasNextPage": end < len(found), "endCursor": str(end)}
        return response({"data": {self.connection: {"nodes": page, "pageInfo": more}}})


def _from(search: str) -> str:
    return search.partition("updated_at:>='")[2].partition("'")[0]


def _until(search: str) -> str:
    return search.partition("updated_at:<'")[2].partition("'")[0] or "9999"


def synced(
    stream: Stream, answer: Callable[[Request], Response], *, syncs: int = 4
) -> tuple[dict[str, Record], bool]:
    """What is held after so many syncs, each from where the former left off; whether one of them
    came to its end."""
    at: dict[str, Any] = {}
    found: dict[str, Record] = {}
    for _ in range(syncs):
        try:
            pages = list(_pages(stream, answer, at, found))
        except CheckpointExpiredError:
            at = {}
        except ConnectorError:
            continue
        else:
            assert pages
            return found, True
    return found, False


def _pages(
    stream: Stream,
    answer: Callable[[Request], Response],
    at: dict[str, Any],
    found: dict[str, Record],
) -> Any:
    reader = stream.read(Checkpoint(at), Context(now=NOW, account_id=SHOP))
    sent: Any = None
    while True:
        try:
            failed = isinstance(sent, ConnectorError)
            action = reader.throw(sent) if failed else reader.send(sent)
        except StopIteration:
            return
        if isinstance(action, Page):
            found.update(held(stream, [action]))
            at.clear()
            at.update(json.loads(json.dumps(action.checkpoint)))
            sent = None
            yield action
        else:
            try:
                sent = answer(action)  # type: ignore[arg-type]
            except ConnectorError as error:
                sent = error


def again(stream: Stream, keys: list[str], answer: Callable[[Request], Response]) -> list[Page]:
    fetch = stream.fetch
    assert fetch
    return drive(lambda at, context: fetch(keys, context), answer)


def told(topic: str, body: Any, **headers: str) -> list[Event]:
    assert SHOPIFY.webhook
    return list(SHOPIFY.webhook.events(delivery(topic, body, **headers)))


def delivery(topic: str, body: Any, **headers: str) -> Delivery:
    known = {
        "x-shopify-topic": topic, "x-shopify-shop-domain": SHOP, "x-shopify-webhook-id": "w-1",
        "x-shopify-triggered-at": stamp(timedelta()), **headers,
    }  # fmt: skip
    return Delivery(
        method="POST", url="https://atom.test/hook", headers=known, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip


# -- Orders that are not shown any more -----------------------------------------------------------


async def test_orders_that_are_older_than_sixty_days_are_kept(bench: Bench) -> None:
    """nozzlegear/ShopifySharp#260 (2018-06): without the scope read_all_orders Shopify shows only
    the orders of the last 60 days; older ones answer as if there were none. Right: an order that
    we hold stays when it becomes older than that, also after all is read again."""
    tried = await bench.connect(SHOPIFY, size=20)
    assert not await tried.follow(ORDERS)
    before = tried.stored(ORDERS)
    assert before
    tried.order("orders", shown_days=60)
    bench.clock.advance(30 * DAY)
    outcome = await tried.sync(ORDERS, full=True)
    assert outcome.error is None
    assert tried.stored(ORDERS).keys() == before.keys()


async def test_an_event_of_an_order_that_is_not_shown_any_more_deletes_nothing(
    bench: Bench,
) -> None:
    """Shopify/shopify-api-ruby#596 (2019-07): webhooks tell of an order that is older than 60 days;
    to read it answers not found. Right: what we hold of it stays, for it was not deleted."""
    tried = await bench.connect(SHOPIFY, size=20)
    assert not await tried.follow(ORDERS)
    known = tried.stored(ORDERS)
    tried.order("orders", shown_days=60)
    bench.clock.advance(61 * DAY)
    fetch = ORDERS.fetch
    assert fetch
    bench.line.follow(SHOPIFY)
    reader = fetch([min(known)], tried.context())
    pages = [page async for page, _ in tried.client(bench.line).read(reader)]
    assert held(ORDERS, pages, known).keys() == known.keys()


def test_an_order_without_a_customer_is_held() -> None:
    """webhookdb/webhookdb#541 (2022-12): an order need not have a customer; a program that took
    it for granted failed. Right: it is held, and of nobody."""
    shop = Shop("orders", [row("Order", 1, customer=None)])
    assert held(ORDERS, drive(ORDERS.read, shop))["1"]["customer"] is None


# -- By time --------------------------------------------------------------------------------------


def test_a_time_in_a_search_is_quoted_and_in_utc() -> None:
    """estuary/connectors#3250 (2025-09): Shopify ignored the time of day of an unquoted time in a
    search, and took its date in the shop's own zone: rows were missed. Right: it is quoted, with
    its zone, in pages and in exports."""
    shop = Shop("products", [row("Product", 1)])
    drive(PRODUCTS.read, shop, {"since": "2026-10-31T00:00:00Z"})
    (request,) = shop.asked
    assert request.json["variables"]["search"] == "updated_at:>='2026-10-31T00:00:00Z'"


def test_a_row_without_a_time_of_change_is_held() -> None:
    """airbytehq/airbyte#17777 (2022-10): very old records lacked the field that the connector went
    by, and failed the sync. Right: they are held."""
    rows = [{"id": f"gid://shopify/Product/{n}", "updatedAt": None} for n in range(1, 30)]
    shop = Shop("products", [*rows, row("Product", 99)])
    found = held(PRODUCTS, drive(PRODUCTS.read, shop))
    assert len(found) == 30
    assert PRODUCTS.version(found["1"]) is None


# -- Exports --------------------------------------------------------------------------------------


@pytest.fixture
def few_by_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.shopify.reading.BY_PAGES", 50)


@pytest.mark.usefixtures("few_by_pages")
@pytest.mark.parametrize(
    ("stream", "connection", "kind"),
    [
        (PRODUCTS, "products", "Product"),
        (ITEMS, "inventoryItems", "InventoryItem"),
    ],
    ids=["products", "inventory_items"],
)
def test_an_export_that_fails_costs_no_rows(stream: Stream, connection: str, kind: str) -> None:
    """airbytehq/airbyte#62499 (2025-07): exports failed with INTERNAL_SERVER_ERROR, again and
    again for some shops, and what they should have held was left out. Right: all rows come in
    another way, and the sync ends."""
    rows = [row(kind, n, DAY - timedelta(minutes=n)) for n in range(1, 201)]
    shop = Shop(connection, rows, status="FAILED", errorCode="INTERNAL_SERVER_ERROR", url=None)
    found, ended = synced(stream, shop)
    assert len(found) == 200
    assert ended


@pytest.mark.usefixtures("few_by_pages")
def test_an_export_that_ends_for_no_reason_costs_no_rows() -> None:
    """gatsbyjs/gatsby-source-shopify#140 (2021-05): half of the builds failed, with an export that
    had ended with no error code, for another run had cancelled it. Right: all rows come."""
    rows = [row("Product", n, DAY - timedelta(minutes=n)) for n in range(1, 201)]
    shop = Shop("products", rows, status="CANCELED", url=None, fileSize=None)
    found, ended = synced(PRODUCTS, shop)
    assert (len(found), ended) == (200, True)


@pytest.mark.usefixtures("few_by_pages")
def test_an_export_that_is_being_cancelled_is_not_waited_for_without_end() -> None:
    """estuary/connectors#2749 (2025-05): an export can be CANCELING for a while; the program knew
    no such status. Right: it is neither a fault nor waited for without end, and all rows come."""
    rows = [row("Product", n, DAY - timedelta(minutes=n)) for n in range(1, 201)]
    shop = Shop("products", rows, status="CANCELING", url=None, fileSize=None)
    found, ended = synced(PRODUCTS, shop)
    assert (len(found), ended) == (200, True)


@pytest.mark.usefixtures("few_by_pages")
@pytest.mark.parametrize(
    ("stream", "connection", "kind"),
    [(PRODUCTS, "products", "Product"), (ITEMS, "inventoryItems", "InventoryItem")],
    ids=["products", "inventory_items"],
)
def test_another_export_that_runs_is_no_obstacle(
    stream: Stream, connection: str, kind: str
) -> None:
    """gatsbyjs/gatsby-source-shopify#3 (2021-01): a shop runs one export of an app at a time, and
    refuses to begin another. Right: the rows come all the same."""
    rows = [row(kind, n, DAY - timedelta(minutes=n)) for n in range(1, 201)]
    wrong = [{"field": None, "message": "A bulk query operation is already in progress"}]
    shop = Shop(connection, rows, begun={"bulkOperation": None, "userErrors": wrong})
    found, ended = synced(stream, shop)
    assert (len(found), ended) == (200, True)


@pytest.mark.usefixtures("few_by_pages")
def test_an_export_that_counts_rows_and_has_no_file_is_not_the_end() -> None:
    """airbytehq/airbyte#85372 (2026-09): an export was COMPLETED, counted its rows, and had no
    link to them: nothing was read, and the checkpoint moved on as if it were all. Right: the rows
    come in another way."""
    rows = [row("Product", n, DAY - timedelta(minutes=n)) for n in range(1, 201)]
    shop = Shop("products", rows, url=None, fileSize=None, objectCount="150")
    found, _ = synced(PRODUCTS, shop)
    assert len(found) == 200


# -- Refusals -------------------------------------------------------------------------------------


def test_a_shop_that_is_unavailable_is_not_a_consent_that_is_over() -> None:
    """orbit-apps/elixir-shopifyapi#382 (2021-02): a frozen shop answers 402, and at times 403, both
    with "Unavailable Shop". Right: neither asks the tenant to connect again, which mends
    nothing."""
    for status in (402, 403):
        error = judged(response({"errors": "Unavailable Shop"}, status))
        assert isinstance(error, RetryableError | NotAllowedError)


def test_a_scope_that_is_missing_is_one_streams_concern() -> None:
    """airbytehq/airbyte#9384 (2022-01): 403 for one stream, whose scope the merchant had not
    approved, failed the whole sync. Right: it is that stream's, and the others go on."""
    text = "[API] This action requires merchant approval for read_orders scope."
    assert isinstance(judged(response({"errors": text}, 403)), NotAllowedError)


async def test_a_throttled_query_is_asked_again_when_the_bucket_holds_enough() -> None:
    """gnikyt/Basic-Shopify-API#90 (2021-02): a library that promised to keep to the limits gave up
    at the first THROTTLED, which comes with HTTP 200. Right: it waits as long as the bucket takes
    to hold what the query asks for, and asks again."""
    status = {"maximumAvailable": 2000.0, "currentlyAvailable": 52.0, "restoreRate": 100.0}
    throttled = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": {"requestedQueryCost": 452, "throttleStatus": status}},
    }
    found = {"nodes": [row("Location", 1)], "pageInfo": {"hasNextPage": False, "endCursor": "1"}}
    good = AppResponse(body={"data": {"locations": found}})
    async with line(SHOPIFY, SHOP, AppResponse(body=throttled), good) as spoken:
        started = spoken.clock.now()
        assert held(LOCATIONS, await spoken.read(LOCATIONS)).keys() == {"1"}
    assert spoken.clock.now() - started >= timedelta(seconds=4)


def test_a_bucket_that_can_never_hold_the_query_is_asked_for_less() -> None:
    """microsoft/BCApps#10417 (2026-08): some shops have a bucket of 40 points that fills with 2 a
    second; queries that need more were throttled over and over. Right: less is asked for, and all
    rows come."""
    shop = Shop("orders", [row("Order", n) for n in range(1, 61)])

    def small(request: Request) -> Response:
        if (asked := request.json["variables"]["size"] * 6 + 2) <= 40:
            return shop(request)
        cost = {"maximumAvailable": 40.0, "currentlyAvailable": 40.0, "restoreRate": 2.0}
        answer = {
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
            "extensions": {"cost": {"requestedQueryCost": asked, "throttleStatus": cost}},
        }
        if error := SHOPIFY.classify(response(answer)):
            raise error
        return response(answer)

    found, ended = synced(ORDERS, small)
    assert (len(found), ended) == (60, True)


async def test_a_gateway_without_words_is_tried_again() -> None:
    """Shopify/cli#5247 (2025-01): 502 with nothing to read, now and then. Right: it is asked
    again."""
    found = {"nodes": [row("Location", 1)], "pageInfo": {"hasNextPage": False, "endCursor": "1"}}
    bad = AppResponse(502, raw=b"", headers={"content-type": "text/html"})
    async with line(SHOPIFY, SHOP, bad, AppResponse(body={"data": {"locations": found}})) as spoken:
        assert held(LOCATIONS, await spoken.read(LOCATIONS)).keys() == {"1"}


def test_a_location_that_was_deleted_answers_with_null() -> None:
    """microsoft/BCApps#6847 (2026-02): the location of a fulfilment service was deleted; asked for,
    it came as null, and the program looked for its fields. Right: it counts as deleted, and the
    others are read."""
    answer = {"data": {"nodes": [None, row("Location", 2)]}}
    (page,) = again(LOCATIONS, ["1", "2"], lambda request: response(answer))
    assert list(page.deleted) == ["1"]
    assert held(LOCATIONS, [page]).keys() == {"2"}


# -- Tokens ---------------------------------------------------------------------------------------


async def test_a_refresh_that_ends_in_a_gateways_error_does_not_end_the_consent() -> None:
    """Kyon147/laravel-shopify#488 (2026-06): a refresh was answered by the gateway with 520 after
    Shopify had rotated the token; the connection was lost for good. Right: it is unknown, not
    over: it is tried again later, with the token that is still good."""
    with_answers = OAuthApp("id", "secret", "https://atom.test/back", answers={"shop": SHOP})
    async with line(SHOPIFY, SHOP, AppResponse(520, raw=b"<html>")) as spoken:
        with pytest.raises(ProviderUnavailableError):
            await refresh(
                SHOPIFY, with_answers, refresh_token="r-1", account_id=SHOP,
                transport=spoken.transport, budget=spoken.budget,
            )  # fmt: skip
    assert SHOPIFY.oauth.grace is not None


def test_a_token_that_can_be_renewed_is_asked_for() -> None:
    """NangoHQ/nango#5940 (2026-04): Shopify gives offline tokens that end, with a refresh token,
    only to who asks for them, and refuses the other kind to new apps. Right: we ask."""
    assert SHOPIFY.oauth.token_params["expiring"] == "1"
    assert SHOPIFY.oauth.rotates


# -- Webhooks -------------------------------------------------------------------------------------


def test_an_update_that_comes_before_its_creation_is_no_fault() -> None:
    """Shopify/shopify-app-js#603 (2024-01): orders/updated came before orders/create, within a
    second. Right: in either order the order is read as it is."""
    events = [*told("orders/updated", {"id": 7}), *told("orders/create", {"id": 7})]
    assert {(one.effect, one.key) for one in events} == {(Effect.READ, "7")}


def test_two_subscriptions_to_one_topic_do_no_harm() -> None:
    """Shopify/shopify-app-template-remix#805 (2024-08): subscriptions of the app and of the shop to
    one topic each deliver every event. Right: the record is held once, as it is."""
    one, other = (
        told("products/update", {"id": 7}, **{"x-shopify-webhook-id": id})[0] for id in ("a", "b")
    )
    assert one.id != other.id
    keys = list(dict.fromkeys(event.key for event in (one, other)))
    answer = {"data": {"nodes": [row("Product", 7)]}}
    assert held(PRODUCTS, again(PRODUCTS, keys, lambda request: response(answer))).keys() == {"7"}


def test_what_is_signed_with_the_former_secret_is_taken_too() -> None:
    """Shopify/shopify_app#588 (2018-05): after the app's secret was changed, webhooks came signed
    with the former one for a while, and were refused. Right: both are taken meanwhile."""
    sent = delivery("customers/delete", {"id": 2_876, "addresses": []})
    digest = base64.b64encode(hmac.digest(b"former", sent.body, "sha256")).decode()
    sent = replace(sent, headers={**sent.headers, "x-shopify-hmac-sha256": digest})
    assert SHOPIFY.webhook
    assert SHOPIFY.webhook.verify
    SHOPIFY.webhook.verify(sent, VerificationKeys(secrets=("new", "former")))


def test_a_purchase_brings_the_stock_of_a_product_up_to_date() -> None:
    """craftcms/shopify#61 (2023-03): a purchase triggers no products/update, and the stock that was
    held went wrong from the first sale on. Right: what is told of stock, inventory_levels/update,
    is subscribed to, and leads to the product."""
    topics = {topic for stream in TOPICS.values() for topic in stream}
    assert "INVENTORY_LEVELS_UPDATE" in topics
    events = told(
        "inventory_levels/update",
        {"inventory_item_id": 9, "location_id": 3, "available": 4, "updated_at": stamp(DAY)},
    )
    assert any("products" in event.streams for event in events)


def test_the_privacy_topics_are_not_subscribed_to_by_shop() -> None:
    """gnikyt/laravel-shopify#513 (2020-06): shop/redact cannot be subscribed to over the API; to
    try so fails the installation. Right: the app's own configuration has them, and the operator is
    told so."""
    topics = {topic for stream in TOPICS.values() for topic in stream}
    assert not {"SHOP_REDACT", "CUSTOMERS_REDACT", "CUSTOMERS_DATA_REQUEST"} & topics
    assert SHOPIFY.webhook
    assert "compliance_topics" in SHOPIFY.webhook.setup


def test_a_subscription_that_stands_already_is_taken_as_it_is() -> None:
    """Shopify/shopify_app#263 (2018-09): "Address for this topic has already been taken": two runs
    had made the same subscription at once, and that was a failure. Right: the one that stands is
    ours, and the shop is not polled for want of it."""
    address = "https://atom.test/hook"
    standing: list[dict[str, str]] = []
    wanted = WatchRequest(
        id="w", resource="locations", address=address, secret="", lifetime=7 * DAY,
        context=Context(now=NOW, account_id=SHOP),
    )  # fmt: skip
    assert SHOPIFY.watch
    steps, sent, made = SHOPIFY.watch.create(wanted), None, None
    while made is None:
        try:
            request = steps.send(sent)  # type: ignore[arg-type]
        except StopIteration as stop:
            made = stop.value
            break
        if "webhookSubscriptionCreate" not in request.json["query"]:
            sent = response({"data": {"webhookSubscriptions": {"nodes": list(standing)}}})
            continue
        topic = request.json["variables"]["topic"]
        if not any(one["topic"] == topic for one in standing):
            # Another run of ours was a moment faster.
            standing.append({"id": f"gid://s/{topic}", "topic": topic, "uri": address})
        wrong = [{"field": ["address"], "message": "has already been taken"}]
        refused = {"webhookSubscription": None, "userErrors": wrong}
        sent = response({"data": {"webhookSubscriptionCreate": refused}})
    assert not isinstance(made, NoWatch)


# -- Known before: these do not count among the first tries ---------------------------------------


def test_a_field_that_is_not_approved_leaves_the_rest_of_the_rows() -> None:
    """MONEI/Shopify-api-node#672, Shopify/shopify-api-js#739 and PostHog/posthog#67052: an app that
    was not approved for a kind of protected data gets rows with null there, and an ACCESS_DENIED
    beside them for each. Right: the rows are held without it, and nobody is asked to reconnect."""
    wrong = {
        "message": "This app is not approved to use the email field.",
        "path": ["customers", "nodes", 0, "defaultEmailAddress"],
        "extensions": {"code": "ACCESS_DENIED"},
    }
    found = {
        "nodes": [row("Customer", 1, defaultEmailAddress=None, state="ENABLED")],
        "pageInfo": {"hasNextPage": False, "endCursor": "1"},
    }
    answer = response({"data": {"customers": found}, "errors": [wrong]})
    assert judged(answer) is None
    assert held(CUSTOMERS, drive(CUSTOMERS.read, lambda request: answer)).keys() == {"1"}


def test_an_export_whose_last_line_does_not_end_is_read_to_its_end() -> None:
    """From experience: the last of some JSON Lines has no newline. Right: it is a line."""
    shop = Shop("products", [])
    shop.lines = b"\n".join(json.dumps(row("Product", n)).encode() for n in (1, 2))
    at = {"started": stamp(DAY), "since": stamp(9 * DAY), "export": EXPORT, "offset": 0}
    assert held(PRODUCTS, drive(PRODUCTS.read, shop, at)).keys() == {"1", "2"}


@pytest.mark.parametrize("ended", ["EXPIRED", 403, 404])
def test_an_export_that_is_over_a_week_old_is_made_up_for(ended: str | int) -> None:
    """gatsbyjs/gatsby-source-shopify#70 (2021): what an export holds is there for seven days; after
    that it is EXPIRED, or its link opens no more. Right: what is missing is read anew."""
    rows = [row("Product", n) for n in range(1, 4)]
    over = {"status": "EXPIRED", "url": None} if ended == "EXPIRED" else {"fileSize": "300"}
    shop = Shop("products", rows, **over)

    def answer(request: Request) -> Response:
        return response(b"<Error/>", int(ended)) if request.file else shop(request)

    at = {"started": stamp(DAY), "since": stamp(9 * DAY), "export": EXPORT, "offset": 100}
    found: dict[str, Record] = {}
    for _ in range(2):
        try:
            list(_pages(PRODUCTS, answer, at, found))
        except CheckpointExpiredError:
            at = {}
        except (RateLimitedError, BrokenConnectionError, ConnectorError):
            continue
    assert found.keys() == {"1", "2", "3"}
