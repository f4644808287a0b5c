"""Shopify's subscriptions and privacy webhooks: our web process, the sandbox, and what is kept."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import sandbox
from accounts import watching
from accounts.runtime import opened
from connectors.shopify.errors import data_of
from connectors.shopify.query import graphql
from connectors.shopify.watches import DELETE
from flows._applying import Work, read, store, take
from flows.watches import station
from sandbox.kernel.values import Address
from sandbox.kernel.webhooks import AppResponse, Delivery, Event, Notice
from sandbox.shopify.events import retry
from settings import read as read_settings
from storage import changes, connections, drains, inbox, leases, metrics, privacy
from storage.database import Database
from tests._sandboxed import Sandboxed, environment
from tests._serving import serving
from tests._waiting import until
from tests._watched import Watched
from web.app import create_app

SECRET = "canary-nextauth-secret-of-enough-characters"
DAY = timedelta(days=1)
TTL = timedelta(minutes=1)


@dataclass(frozen=True)
class Shop(Watched):
    """A shop that is connected, what looks after its subscriptions, and the vendor's side."""

    async def control(self, path: str, **body: Any) -> Any:
        body = {"account": self.connection.account_id, **body}
        return await asyncio.to_thread(self.vendor.control, "POST", f"/shopify{path}", body)

    async def change(self, stream: str, op: str = "add", **more: Any) -> str:
        found = await asyncio.to_thread(
            self.vendor.control, "POST", f"/shopify/records/{stream}", {"op": op, **more},
            account=self.connection.account_id,
        )  # fmt: skip
        return str(found["id"])

    async def told(self, count: int) -> list[tuple[str, str]]:
        """The events that came, once there are so many."""
        query = "SELECT type, data->>'key' FROM events ORDER BY id"
        await until(lambda: len(self.rows(query)) >= count)
        return [(str(type), str(key)) for type, key in self.rows(query)]

    async def apply(self) -> None:
        """What a drain does for this connection, if it finds something to do."""
        database = self.shared.database
        found = await inbox.waiting(database)
        connection = await connections.get(database, self.connection.id)
        held = await leases.acquire_all(
            database, [one.connection_id for one in found], kind="event", holder="t", ttl=TTL
        )
        works: list[Work] = []
        await take(self.shared, [connection], held, works)
        for work in works:
            await read(work)
            await store(self.shared, work)
        await leases.release_all(database, held)

    def pass_time(self, days: float) -> None:
        """As if what is pending had come so long ago."""
        self.vendor.run(
            f"UPDATE events SET received_at = received_at - interval '{days} days', due_at = now()"
            " WHERE applied_at IS NULL"
        )

    async def end(self) -> None:
        """Shopify takes our token no more; it tells a shop without one of nothing."""
        await self.control("/tokens", op="revoke")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.vendor.database_url) as sql:
            return sql.execute(query.encode()).fetchall()

    def held(self, stream: str) -> dict[str, Any]:
        """All that is stored of a stream, deleted records with what is left of them."""
        found = self.rows(f"SELECT record_id, data FROM records WHERE stream = 'shopify.{stream}'")
        return dict(found)

    def logged(self) -> list[str]:
        query = "SELECT message FROM oauth_log WHERE event = 'privacy' ORDER BY id"
        return [str(message) for (message,) in self.rows(query)]


@pytest.fixture
async def shop(
    database: Database, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta(milliseconds=20))
    with sandbox.start(["shopify"]) as origin:
        given = environment(origin, database_url, redis_url, ["shopify"])
        values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
        values |= {"nextauth_secret": SECRET, "jwt_secret": SECRET[::-1]}
        settings = read_settings(_env_file=None, **values)
        vendor = Sandboxed(origin, settings, database, database_url)
        async with serving(create_app(settings)) as ours:
            reached = settings.model_copy(update={"nextauth_url": ours})
            async with opened(reached) as shared:
                yield Shop(vendor, shared, await vendor.connect("shopify", size=5))


async def test_each_stream_is_subscribed_to_and_its_changes_come_as_events(
    shop: Shop,
) -> None:
    looked = await shop.look()
    assert (looked.made, looked.refused) == (5, 0)
    made = await shop.change("orders")
    await shop.change(
        "products", "delete", id=next(iter(shop.vendor.vendor(shop.connection)["products"]))
    )
    told = await shop.told(2)
    assert ("orders/create", made) in told
    await shop.apply()
    assert shop.held("orders")[made]["id"] == f"gid://shopify/Order/{made}"
    assert (await shop.look()).made == 0


async def test_subscriptions_that_vanish_after_eight_failures_are_made_again(
    shop: Shop,
) -> None:
    await shop.look()
    assert (await shop.look(later=4 * DAY)).renewed == 5
    ((state,),) = shop.rows("SELECT state FROM watches WHERE resource = 'orders'")
    stood = station(shop.shared, shop.connection)
    data_of(await stood.client.send(graphql(DELETE, {"id": state["ids"][0]})))
    looked = await shop.look(later=8 * DAY)
    assert (looked.missed, looked.made, looked.renewed) == (1, 1, 4)
    assert shop.rows("SELECT streams FROM gaps") == [(["orders"],)]
    again = await shop.look(later=8 * DAY)
    assert (again.missed, again.made) == (0, 0)


def test_a_delivery_that_fails_a_ninth_time_ends_its_subscription() -> None:
    fate = {"over": False}
    address = Address(url="https://app.example.com", id="gid://1", about={"fate": fate})
    event = Event(account_id="acme.myshopify.com", at=datetime.now(UTC), what={})
    notice = Notice(event=event, address=address)
    now = datetime.now(UTC)
    waits = [
        retry(Delivery(notices=(notice,), made_at=now, now=now, attempt=attempt), AppResponse())
        for attempt in range(1, 10)
    ]
    assert None not in waits[:8]
    assert sum(wait for wait in waits[:8] if wait) <= 4 * 3600
    assert waits[8] is None
    assert fate["over"]


async def test_subscriptions_are_deleted_with_the_connection(shop: Shop) -> None:
    await shop.look()
    assert await watching.end_all(station(shop.shared, shop.connection)) == 5
    assert await watching.end_all(station(shop.shared, shop.connection)) == 0
    await shop.change("orders")
    found = await asyncio.to_thread(shop.vendor.control, "GET", "/shopify/deliveries")
    assert found["sent"] == 0


async def point(shop: Shop) -> None:
    """The app's own address, where privacy webhooks go."""
    url = f"{shop.shared.settings.nextauth_url}/api/webhooks/shopify"
    await asyncio.to_thread(shop.vendor.control, "POST", "/shopify/webhook", {"url": url})


async def read_a_customer(shop: Shop, **more: Any) -> tuple[str, str]:
    """A customer and an order that are stored."""
    customer = await shop.change("customers", **more)
    order = await shop.change("orders")
    await shop.told(2)
    await shop.apply()
    assert shop.held("customers")[customer]
    assert shop.held("orders")[order]
    return customer, order


async def test_a_customers_request_is_reported(shop: Shop) -> None:
    await point(shop)
    customer, _ = await read_a_customer(shop)
    await shop.control("/request", topic="customers/data_request", customer=customer)
    await shop.told(3)
    await shop.apply()
    (message,) = shop.logged()
    assert f"customers {customer}" in message
    assert "answer within 30 days" in message
    assert "mail.example" not in str(shop.rows("SELECT * FROM events"))


async def test_a_customer_that_is_to_be_forgotten_leaves_an_empty_tombstone(
    shop: Shop,
) -> None:
    await point(shop)
    customer, order = await read_a_customer(shop)
    await shop.control("/request", topic="customers/redact", customer=customer, orders=[order])
    await shop.told(4)
    await shop.apply()
    assert shop.held("customers")[customer] != {}
    assert [f"asks to forget customers {customer}" in line for line in shop.logged()] == [
        True,
        False,
    ]
    shop.pass_time(10)
    await shop.apply()
    assert shop.held("customers")[customer] == {}
    assert shop.held("orders")[order] == {}
    live = "SELECT count(*) FROM records WHERE deleted_at IS NULL"
    assert shop.rows(live) == [(0,)]
    assert len(shop.logged()) == 4


async def test_what_was_read_of_a_customer_until_it_is_forgotten_goes_as_well(
    shop: Shop,
) -> None:
    await point(shop)
    customer, _ = await read_a_customer(shop)
    await shop.control("/request", topic="customers/redact", customer=customer)
    await shop.told(3)
    await shop.apply()
    shop.pass_time(10)
    await shop.change("customers", "change", id=customer)
    await shop.told(4)
    await shop.apply()
    await shop.apply()
    assert shop.held("customers")[customer] == {}
    assert shop.rows("SELECT count(*) FROM events WHERE applied_at IS NULL") == [(0,)]


async def test_a_customer_whom_the_request_names_by_no_id_is_found_by_their_address(
    shop: Shop,
) -> None:
    await point(shop)
    address = "who.asks@mail.example"
    customer, order = await read_a_customer(
        shop, record={"defaultEmailAddress": {"emailAddress": address}}
    )
    other = await shop.change("customers")
    await shop.told(3)
    await shop.apply()
    await shop.control("/request", topic="customers/redact", email=address.upper(), orders=[order])
    await shop.told(5)
    shop.pass_time(10)
    await shop.apply()
    assert shop.held("customers")[customer] == {}
    assert shop.held("customers")[other] != {}
    assert shop.held("orders")[order] == {}
    everywhere = str(shop.rows("SELECT * FROM events")) + "".join(shop.logged())
    assert address not in everywhere.lower()


async def test_a_request_that_names_a_customer_by_nothing_is_a_duty_for_the_operator(
    shop: Shop,
) -> None:
    await point(shop)
    customer, _ = await read_a_customer(shop)
    await shop.control("/request", topic="customers/redact", email="")
    await shop.told(3)
    shop.pass_time(10)
    await shop.apply()
    (message,) = shop.logged()
    assert "find it at Shopify" in message
    assert shop.held("customers")[customer] != {}


@pytest.mark.parametrize("status", ["active", "needs_reauth", "paused", "revoked"])
async def test_a_shop_that_is_to_be_forgotten_is_purged_whatever_became_of_it(
    shop: Shop, status: str
) -> None:
    await point(shop)
    await read_a_customer(shop)
    await shop.control("/request", topic="shop/redact")
    await shop.told(3)
    await shop.end()
    shop.vendor.run(f"UPDATE connections SET status = '{status}'")
    await shop.apply()
    assert shop.rows("SELECT count(*) FROM records") == [(2,)]
    (announced,) = shop.logged()
    assert "unless it is withdrawn before" in announced
    await shop.apply()
    assert len(shop.logged()) == 1
    assert await drains.missing(shop.shared.database, 1) == []
    shop.pass_time(2)
    assert await drains.missing(shop.shared.database, 1) != []
    await shop.apply()
    assert shop.rows("SELECT count(*) FROM records") == [(0,)]
    assert shop.rows("SELECT count(*) FROM checkpoints") == [(0,)]
    _, message = shop.logged()
    assert "2 records deleted" in message


async def test_a_shop_that_still_lets_us_in_is_not_purged(shop: Shop) -> None:
    await point(shop)
    await read_a_customer(shop)
    await shop.control("/request", topic="shop/redact")
    await shop.told(3)
    for days in (0, 2, 20):
        shop.pass_time(days)
        await shop.apply()
    assert shop.rows("SELECT count(*) FROM records") == [(2,)]
    (message,) = shop.logged()
    assert "still lets us in" in message


async def test_a_shop_that_is_connected_again_is_not_purged(shop: Shop) -> None:
    await point(shop)
    await read_a_customer(shop)
    await shop.control("/uninstall")
    await shop.control("/request", topic="shop/redact")
    await shop.told(4)
    await shop.end()
    await shop.apply()
    assert shop.rows("SELECT status FROM connections") == [("revoked",)]
    again = await shop.vendor.connect("shopify", account=shop.connection.account_id)
    assert again.id == shop.connection.id
    await shop.end()
    shop.pass_time(30)
    await shop.apply()
    assert shop.rows("SELECT count(*) FROM records") == [(2,)]
    assert "connected again" in shop.logged()[-1]


async def test_a_duty_that_the_operator_withdraws_is_not_done(shop: Shop) -> None:
    await point(shop)
    customer, _ = await read_a_customer(shop)
    await shop.control("/request", topic="customers/redact", customer=customer)
    await shop.told(3)
    await shop.apply()
    (duty,) = await privacy.waiting(shop.shared.database)
    assert (duty.tenant, duty.type) == ("acme", "customers/redact")
    assert timedelta(days=9) < duty.due_at - duty.received_at < timedelta(days=11)
    # What waits on purpose is no backlog, and keeps nobody's view of what changed back.
    shop.vendor.run("UPDATE events SET received_at = received_at - interval '1 hour'")
    assert (await metrics.measure(shop.shared.database)).pending == []
    seen = await changes.read(shop.shared.database, shop.connection, "customers")
    assert seen.until > duty.received_at - timedelta(minutes=30)
    assert await privacy.withdraw(shop.shared.database, [duty.id]) == 1
    assert await privacy.withdraw(shop.shared.database, [duty.id]) == 0
    shop.pass_time(10)
    await shop.apply()
    assert shop.held("customers")[customer] != {}
    assert shop.logged()[-1] == "customers/redact: withdrawn by the operator"


async def test_who_cannot_be_asked_is_waited_for_and_then_believed(shop: Shop) -> None:
    await point(shop)
    await read_a_customer(shop)
    await shop.control("/request", topic="shop/redact")
    await shop.told(3)
    shop.vendor.fault("shopify", "500", count=1_000)
    for days, left in ((3.0, 2), (5.0, 2), (1.1, 0)):
        shop.pass_time(days)
        await shop.apply()
        assert shop.rows("SELECT count(*) FROM records") == [(left,)]


async def test_other_events_of_a_connection_that_is_paused_wait(shop: Shop) -> None:
    await point(shop)
    await read_a_customer(shop)
    shop.vendor.run("UPDATE connections SET status = 'paused'")
    await shop.change("orders")
    await shop.told(3)
    await shop.control("/request", topic="customers/data_request", customer="1")
    await shop.told(4)
    await shop.apply()
    assert len(shop.logged()) == 1
    waiting = "SELECT type FROM events WHERE applied_at IS NULL"
    assert shop.rows(waiting) == [("orders/create",)]


async def test_an_uninstalled_app_is_revoked(shop: Shop) -> None:
    await point(shop)
    await shop.control("/uninstall")
    await shop.told(1)
    await shop.end()
    await shop.apply()
    assert shop.rows("SELECT status FROM connections") == [("revoked",)]


async def test_an_app_that_is_said_to_be_uninstalled_and_is_not_stays_connected(
    shop: Shop,
) -> None:
    await point(shop)
    await shop.control("/uninstall")
    await shop.told(1)
    await shop.apply()
    assert shop.rows("SELECT applied_at IS NULL FROM events") == [(True,)]
    shop.pass_time(0.01)
    await shop.apply()
    assert shop.rows("SELECT applied_at IS NULL FROM events") == [(False,)]
    assert shop.rows("SELECT status FROM connections") == [("active",)]
    told = shop.rows("SELECT message FROM oauth_log WHERE event = 'revoke'")
    assert told == [
        ("Shopify delivered app/uninstalled, but still lets us in: nothing was changed",)
    ]


async def test_what_is_said_to_be_deleted_is_looked_up_until_shopify_shows_it_no_more(
    shop: Shop,
) -> None:
    await shop.look()
    made = await shop.change("orders")
    await shop.told(1)
    await shop.apply()
    # Neither a topic nor a shop is signed: here the body of an update, under another topic.
    shop.vendor.run(
        "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data)"
        " SELECT integration, 'replayed', connection_id, tenant_id, 'orders/delete',"
        ' data || \'{"effect": "gone"}\' FROM events LIMIT 1'
    )
    for _ in range(2):
        await shop.apply()
        assert shop.held("orders")[made]["id"] == f"gid://shopify/Order/{made}"
        assert shop.rows("SELECT count(*) FROM records WHERE deleted_at IS NOT NULL") == [(0,)]
        assert shop.rows("SELECT count(*) FROM events WHERE applied_at IS NULL") == [(1,)]
    await shop.change("orders", "delete", id=made)
    shop.pass_time(0)
    await shop.apply()
    assert shop.rows("SELECT count(*) FROM records WHERE deleted_at IS NOT NULL") == [(1,)]
