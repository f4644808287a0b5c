"""A valid proof of one thing proves nothing else: no callback, topic, account, address or time."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx  # noqa: TID251 - a test is a vendor that calls us, and who is none
import psycopg
import pytest

from connectors import Connector, SignatureError, all_connectors, load
from connectors.kernel.webhooks import Delivery
from settings import Settings, webhooks
from storage import tenants
from storage.database import Database
from storage.models import Connection, Grant
from tests._delivering import PUBLIC, hubspot_event
from tests._signing import SECRETS, SIGNED, headers_for, monday_token
from tests._web import serving_api, web_settings

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SHOP = "acme.myshopify.com"
# For each vendor that signs: whom a body is about, and one that is about `mine`.
ACCOUNTS = {
    "dropbox": ("dbid:mine", "dbid:other"),
    "github": ("583231", "583232"),
    "hubspot": ("4711", "12"),
    "linear": ("o-mine", "o-other"),
    "notion": ("w-mine", "w-other"),
    "quickbooks": ("9130350000000001", "9130350000000002"),
    "shopify": ("mine.myshopify.com", SHOP),
    "slack": ("T0MINE", "T0OTHER"),
    "stripe": ("acct_mine", "acct_other"),
    "xero": ("org-mine", "org-other"),
}


def body_of(integration: str, account: str) -> bytes:
    """A delivery's body that is about that account."""
    value: Any
    match integration:
        case "dropbox":
            value = {"list_folder": {"accounts": [account]}, "delta": {"users": [1]}}
        case "github":
            value = {
                "action": "created", "issue": {"number": 1}, "comment": {"id": 2},
                "repository": {"id": 3, "owner": {"id": int(account), "type": "User"}},
            }  # fmt: skip
        case "hubspot":
            value = [hubspot_event(1, portal=account)]
        case "linear":
            value = {
                "type": "Issue", "action": "update", "organizationId": account, "data": {"id": "1"},
                "createdAt": "2026-11-30T08:00:00.000Z",
                "webhookTimestamp": time.time_ns() // 10**6,
            }  # fmt: skip
        case "notion":
            value = {
                "id": "e1", "type": "page.created", "timestamp": "2026-11-30T08:00:00.000Z",
                "workspace_id": account, "entity": {"id": "p1", "type": "page"},
            }  # fmt: skip
        case "quickbooks":
            value = [{"type": "qbo.customer.created.v1", "id": "e1", "intuitaccountid": account}]
        case "shopify":
            value = {"shop_id": 1, "shop_domain": account}
        case "slack":
            told = {"type": "channel_deleted", "channel": "C1", "event_ts": "1.1"}
            value = {"type": "event_callback", "event_id": "Ev1", "team_id": account, "event": told}
        case "xero":
            event = {
                "resourceUrl": "https://api.xero.com/api.xro/2.0/Contacts/c1", "resourceId": "c1",
                "eventDateUtc": "2026-11-30T08:00:00.000", "eventType": "UPDATE",
                "eventCategory": "CONTACT", "tenantId": account, "tenantType": "ORGANISATION",
            }  # fmt: skip
            value = {"events": [event], "firstEventSequence": 1, "lastEventSequence": 1}
        case _:
            value = {
                "object": "event", "id": "evt_1", "account": account, "livemode": True,
                "type": "account.application.deauthorized", "created": 1,
                "data": {"object": {"object": "application", "id": "ca_1"}},
            }  # fmt: skip
    return json.dumps(value).encode()


def signed(integration: str, body: bytes, account: str) -> dict[str, str]:
    if integration != "shopify":
        return headers_for(integration, body)
    return headers_for(
        integration, body, **{"x-shopify-topic": "shop/redact", "x-shopify-shop-domain": account}
    )


@dataclass(frozen=True)
class Receiving:
    """Our web process, two tenants with an account each at every vendor, and our inbox."""

    http: httpx.AsyncClient
    url: str
    settings: Settings
    mine: dict[str, UUID]
    other: dict[str, UUID]

    async def deliver(
        self, integration: str, body: bytes, headers: dict[str, str], path_token: str = ""
    ) -> int:
        path = f"/api/webhooks/{integration}{path_token}"
        return (await self.http.post(path, content=body, headers=headers)).status_code

    def told(self) -> set[UUID]:
        """The connections that something was stored for."""
        with psycopg.connect(self.url) as sql:
            return {row[0] for row in sql.execute("SELECT connection_id FROM events")}


async def _stock(database: Database, slug: str, accounts: dict[str, str]) -> dict[str, UUID]:
    tenant = await tenants.create(database, slug, slug, "TEAM")
    made = {}
    async with database.transaction(tenant.id) as session:
        for integration, account_id in accounts.items():
            grant = Grant(
                id=uuid4(), tenant_id=tenant.id, integration=integration,
                setting_key=f"{integration}_tokens",
            )  # fmt: skip
            session.add(grant)
            await session.flush()
            row = Connection(
                id=uuid4(), tenant_id=tenant.id, grant_id=grant.id, integration=integration,
                account_id=account_id,
            )  # fmt: skip
            session.add(row)
            made[integration] = row.id
    return made


@pytest.fixture
async def receiving(
    database: Database, database_url: str, redis_url: str
) -> AsyncIterator[Receiving]:
    settings = web_settings(
        database_url, redis_url=redis_url, nextauth_url=PUBLIC,
        nextauth_secret="canary-nextauth-secret-of-enough-characters", **SECRETS,
    )  # fmt: skip
    more = (
        {"salesforce": "00Dmine00000000AAA", "monday": "1825529"},
        {"salesforce": "00Dother0000000AAA", "monday": "1825530"},
    )
    mine = await _stock(database, "mine", {i: a for i, (a, _) in ACCOUNTS.items()} | more[0])
    other = await _stock(database, "other", {i: b for i, (_, b) in ACCOUNTS.items()} | more[1])
    async with serving_api(settings) as api:
        yield Receiving(api.http, database_url, settings, mine, other)


def proven() -> list[Connector]:
    return [each for each in all_connectors() if each.webhook is not None]


@pytest.mark.parametrize("connector", proven(), ids=lambda one: one.name)
def test_every_vendor_says_what_its_proof_covers(connector: Connector) -> None:
    assert connector.webhook
    assert connector.webhook.proof.endswith(".")
    ways = (
        connector.webhook.verify,
        connector.webhook.verify_event,
        connector.webhook.secret_in_url,
    )
    assert any(ways)


def test_every_vendor_that_signs_is_tried_here() -> None:
    signs = {each.name for each in proven() if each.webhook and each.webhook.verified_by}
    # What proves a delivery of these is a token beside the body, which covers nothing of it.
    by_token = {"gmail", "jira", "monday"}
    # A delivery of Box's names no account but a webhook, which is one connection's.
    by_watch = {"box"}
    assert signs - by_token - by_watch == set(SIGNED) == set(ACCOUNTS)


@pytest.mark.parametrize("integration", SIGNED)
async def test_a_delivery_concerns_the_account_that_its_signed_body_names(
    receiving: Receiving, integration: str
) -> None:
    mine, other = ACCOUNTS[integration]
    body = body_of(integration, mine)
    headers = signed(integration, body, mine)
    # Whatever is not signed says another account: the address's end, its query, a header.
    for path_token in (f"/{receiving.other[integration]}", f"?account={other}&shop={other}"):
        await receiving.deliver(integration, body, headers, path_token)
    await receiving.deliver(integration, body, {**headers, "x-shopify-shop-domain": other})
    assert receiving.other[integration] not in receiving.told()
    assert await receiving.deliver(integration, body, headers) == 200
    assert receiving.told() == {receiving.mine[integration]}


@pytest.mark.parametrize("integration", SIGNED)
async def test_a_signature_is_of_one_body_and_one_secret(
    receiving: Receiving, integration: str
) -> None:
    mine, other = ACCOUNTS[integration]
    body = body_of(integration, mine)
    headers = signed(integration, body, mine)
    assert await receiving.deliver(integration, body_of(integration, other), headers) == 401
    for another in set(SIGNED) - {integration}:
        theirs = signed(another, body, mine)
        assert await receiving.deliver(integration, body, theirs) == 401
    assert receiving.told() == set()


@pytest.mark.parametrize("integration", ["hubspot", "slack", "stripe"])
async def test_a_signature_is_of_one_time_where_it_has_one(
    receiving: Receiving, integration: str
) -> None:
    mine, _ = ACCOUNTS[integration]
    body = body_of(integration, mine)
    headers = signed(integration, body, mine)
    times = {"hubspot": "x-hubspot-request-timestamp", "slack": "x-slack-request-timestamp"}
    if name := times.get(integration):
        headers[name] = str(int(headers[name]) + 1)
    else:
        sent, _, mac = headers["stripe-signature"].partition(",")
        headers["stripe-signature"] = f"t={int(sent[2:]) + 1},{mac}"
    assert await receiving.deliver(integration, body, headers) == 401
    assert receiving.told() == set()


async def test_the_callback_that_a_shop_was_sent_back_with_purges_no_other(
    receiving: Receiving,
) -> None:
    """Its query is signed by the same secret, and the shop's owner sees it."""
    params = {"code": "0907a6", "shop": "mine.myshopify.com", "state": "x", "timestamp": "1337178"}
    query = urlencode(sorted(params.items())).encode()
    for topic in ("shop/redact", "customers/redact", "app/uninstalled", "orders/delete"):
        headers = headers_for(
            "shopify", query, **{"x-shopify-topic": topic, "x-shopify-shop-domain": SHOP}
        )
        assert await receiving.deliver("shopify", query, headers) == 401
    assert receiving.told() == set()


async def test_a_shops_own_privacy_webhook_is_no_other_shops(receiving: Receiving) -> None:
    body = body_of("shopify", "mine.myshopify.com")
    assert await receiving.deliver("shopify", body, signed("shopify", body, SHOP)) == 401
    assert receiving.told() == set()


async def test_an_event_of_a_connected_account_is_none_of_billings_and_the_other_way_round(
    receiving: Receiving,
) -> None:
    mine, _ = ACCOUNTS["stripe"]
    body = body_of("stripe", mine)
    at_billing = await receiving.http.post(
        "/api/billing/stripe", content=body, headers=signed("stripe", body, mine)
    )
    assert (
        at_billing.status_code == 404
    )  # its own secret is not set: that of accounts proves nothing
    ours = json.dumps({**json.loads(body), "account": None}).encode()
    assert await receiving.deliver("stripe", ours, signed("stripe", ours, mine)) == 200
    assert receiving.told() == set()


async def test_a_secret_address_is_of_one_connection_and_its_own_org(receiving: Receiving) -> None:
    mine, other = receiving.mine["salesforce"], receiving.other["salesforce"]
    code = webhooks.code_of(receiving.settings, mine)
    body = _outbound("00Dmine00000000AAA")
    assert await receiving.deliver("salesforce", body, {}, f"/{other}.{code}") == 401
    assert await receiving.deliver("salesforce", body, {}, f"/{mine}") == 401
    assert await receiving.deliver("salesforce", body, {}) == 401
    # Of another org, at the right address: it is about nobody.
    theirs = _outbound("00Dother0000000AAA")
    assert await receiving.deliver("salesforce", theirs, {}, f"/{mine}.{code}") == 200
    assert receiving.told() == set()
    assert await receiving.deliver("salesforce", body, {}, f"/{mine}.{code}") == 200
    assert receiving.told() == {mine}


def _outbound(org: str) -> bytes:
    return f"""<?xml version="1.0"?>
    <soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
      <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
      <OrganizationId>{org}</OrganizationId><Notification><Id>04l000000000001AAA</Id>
      <sObject xsi:type="sf:Account" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">
      <sf:Id>001000000000001AAA</sf:Id></sObject></Notification></notifications>
      </soapenv:Body></soapenv:Envelope>""".encode()


async def test_a_delivery_of_mondays_concerns_the_account_of_its_token(
    receiving: Receiving,
) -> None:
    told = {"type": "delete_pulse", "boardId": 1, "itemId": 2, "accountId": 1825530}
    body = json.dumps({"event": told}).encode()
    for headers in ({}, {"authorization": monday_token("1825529", "another-secret-of-ours")}):
        assert await receiving.deliver("monday", body, headers) == 401
    assert receiving.told() == set()
    headers = {"authorization": monday_token("1825529")}
    theirs = f"/{receiving.other['monday']}"
    for path_token in (theirs, "?account=1825530"):
        await receiving.deliver("monday", body, headers, path_token)
    assert receiving.other["monday"] not in receiving.told()
    assert await receiving.deliver("monday", body, headers) == 200
    assert receiving.told() == {receiving.mine["monday"]}
    challenge = await receiving.http.post("/api/webhooks/monday", json={"challenge": "c"})
    assert (challenge.status_code, challenge.json()) == (200, {"challenge": "c"})


@pytest.mark.parametrize("integration", ["google_calendar", "google_drive"])
def test_a_channels_secret_proves_no_message_of_another_channel(integration: str) -> None:
    webhook = load(integration).webhook
    assert webhook
    assert webhook.verify_event
    mine, other = _message("mine"), _message("other")
    (event,), (others,) = webhook.events(mine), webhook.events(other)
    webhook.verify_event(mine, event, "mine-secret mine-resource")
    resource = {**mine.headers, "x-goog-resource-id": "other-resource"}
    for delivery, claimed in (
        (other, others), (mine, others), (other, event), (replace(mine, headers=resource), event),
    ):  # fmt: skip
        with pytest.raises(SignatureError):
            webhook.verify_event(delivery, claimed, "mine-secret mine-resource")


def _message(whose: str) -> Delivery:
    headers = {
        "x-goog-channel-id": f"{whose}-id",
        "x-goog-channel-token": f"{whose}-secret",
        "x-goog-resource-id": f"{whose}-resource",
        "x-goog-resource-state": "exists",
        "x-goog-message-number": "2",
        "x-goog-resource-uri": "https://www.googleapis.com/calendar/v3/calendars/a/events",
    }
    return _delivery(b"", headers)


@pytest.mark.parametrize("integration", ["ms_teams", "onedrive", "outlook"])
def test_a_subscriptions_secret_proves_no_notification_of_another(integration: str) -> None:
    webhook = load(integration).webhook
    assert webhook
    assert webhook.verify_event
    notifications = [
        {
            "subscriptionId": f"{whose}-id",
            "clientState": f"{whose}-secret",
            "lifecycleEvent": "missed",
        }
        for whose in ("mine", "other")
    ]
    delivery = _delivery(json.dumps({"value": notifications}).encode(), {})
    mine, other = webhook.events(delivery)
    webhook.verify_event(delivery, mine, "mine-secret")
    with pytest.raises(SignatureError):
        webhook.verify_event(delivery, other, "mine-secret")


def _delivery(body: bytes, headers: dict[str, str]) -> Delivery:
    return Delivery(
        method="POST", url=PUBLIC, headers=headers, query={}, body=body, received_at=NOW
    )
