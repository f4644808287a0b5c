"""What vendors deliver: proven, stored once for each connection, and only then answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - a test is a vendor that calls us
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from storage.database import Database
from storage.inbox import Arrival
from tests._delivering import (
    HUBSPOT_SECRET,
    PATH,
    PUBLIC,
    VERIFIER,
    from_hubspot,
    from_intuit,
    hubspot_event,
    hubspot_headers,
)
from tests._stored import stock
from tests._waiting import found, until
from tests._web import serving_api, web_settings
from web._inbox import Inbox

# So many connections an httpx client opens at once.
TOGETHER = 100


@dataclass(frozen=True)
class Receiving:
    """Our web process, and what is in its inbox."""

    http: httpx.AsyncClient
    url: str

    def events(self) -> list[dict[str, Any]]:
        query = "SELECT connection_id, event_id, type, data FROM events ORDER BY id"
        with psycopg.connect(self.url) as sql:
            names = ("connection_id", "event_id", "type", "data")
            return [dict(zip(names, row, strict=True)) for row in sql.execute(query.encode())]


@pytest.fixture
async def receiving(
    database: Database, database_url: str, redis_url: str
) -> AsyncIterator[Receiving]:
    given = web_settings(
        database_url,
        redis_url=redis_url,
        nextauth_url=PUBLIC,
        nextauth_secret="canary-nextauth-secret-of-enough-characters",
        hubspot_client_secret=HUBSPOT_SECRET,
        quickbooks_webhook_secret=f"{VERIFIER}-new, {VERIFIER}",
    )
    async with serving_api(given) as api:
        yield Receiving(api.http, database_url)


def unknown_events() -> float:
    labels = {"integration": "hubspot", "outcome": "unknown"}
    return REGISTRY.get_sample_value("atom_webhook_events_total", labels) or 0.0


async def test_a_proven_delivery_is_stored_for_the_connection_of_its_account(
    receiving: Receiving, database: Database
) -> None:
    ours, other = await stock(database, account_id="4711"), await stock(database, account_id="12")
    answer = await from_hubspot(receiving.http, hubspot_event(1), hubspot_event(2, portal="12"))
    assert (answer.status_code, answer.content) == (200, b"")
    first, second = receiving.events()
    assert first["connection_id"] == ours.connection_id
    assert first["type"] == "contact.propertyChange"
    assert first["data"] == {"effect": "read", "streams": ["contacts"], "key": "1"}
    assert second["connection_id"] == other.connection_id


async def test_an_account_that_two_tenants_connected_is_told_to_both(
    receiving: Receiving, database: Database
) -> None:
    both = {(await stock(database, account_id="4711")).connection_id for _ in range(2)}
    await from_hubspot(receiving.http, hubspot_event(1))
    assert {event["connection_id"] for event in receiving.events()} == both


async def test_an_event_is_stored_once_however_often_it_is_delivered(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    repeated = [hubspot_event(n % 5, attemptNumber=n) for n in range(20)]
    answers = await asyncio.gather(*(from_hubspot(receiving.http, each) for each in repeated))
    assert {answer.status_code for answer in answers} == {200}
    assert len(receiving.events()) == 5


async def test_what_is_not_proven_is_refused_and_stores_nothing(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    body = json.dumps([hubspot_event(1)]).encode()
    right = hubspot_headers(body)
    for headers, sent in (
        ({}, body),
        (hubspot_headers(body, secret="another"), body),
        (right, body + b" "),
        (hubspot_headers(body, url=f"{PUBLIC}/api/webhooks/other"), body),
        (hubspot_headers(body, ago=600), body),
        (hubspot_headers(body, ago=-600), body),
        ({**right, "x-hubspot-signature-v3": "é"}, body),
    ):
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = await receiving.http.post(PATH, content=sent, headers=encoded)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    assert receiving.events() == []


async def test_a_former_secret_is_good_while_it_rotates(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    for secret, status in ((VERIFIER, 200), (f"{VERIFIER}-new", 200), ("older", 401)):
        answer = await from_intuit(receiving.http, [], secret=secret)
        assert answer.status_code == status


async def test_without_its_secret_an_integration_has_no_address(
    receiving: Receiving, database: Database
) -> None:
    # An empty secret would prove what anyone signs with nothing.
    for path in ("gmail", "openai", "nobody", "_types"):
        answer = await receiving.http.post(f"/api/webhooks/{path}", content=b"[]")
        assert answer.status_code == 404, path


async def test_unknown_accounts_and_types_are_counted_and_answered_as_if_they_were_of_use(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    before = unknown_events()
    for event in (
        hubspot_event(1, portal="999"),
        hubspot_event(2, subscriptionType="conversation.creation"),
    ):
        assert (await from_hubspot(receiving.http, event)).status_code == 200
    assert receiving.events() == []
    assert unknown_events() == before + 1  # a type of no interest gives no event


async def test_a_proven_delivery_that_cannot_be_read_is_no_error_loop_and_leaves_a_gap(
    receiving: Receiving, database: Database
) -> None:
    stocked = await stock(database, account_id="4711")
    body = b'[{"subscriptionType": 7}]'
    answer = await receiving.http.post(PATH, content=body, headers=hubspot_headers(body))
    assert answer.status_code == 200

    async def noted() -> list[tuple[Any, ...]]:
        with psycopg.connect(receiving.url) as sql:
            return sql.execute("SELECT connection_id, reason FROM gaps").fetchall()

    assert await found(noted) == [(stocked.connection_id, "a delivery could not be read")]


async def test_hostile_text_is_stored_as_it_can_be_and_keeps_nobody_out(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    odd = hubspot_event(1, subscriptionType="contact.\x00\ud800", eventId="x" * 5_000)
    answers = await asyncio.gather(
        from_hubspot(receiving.http, odd), from_hubspot(receiving.http, hubspot_event(2))
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {event["type"] for event in receiving.events()} == {
        "contact.\ufffd\ufffd",
        "contact.propertyChange",
    }


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(receiving: Receiving) -> None:
    answer = await receiving.http.post(PATH, content=b"x" * (4 * 2**20 + 1))
    assert answer.status_code == 413


async def test_only_posts_deliver(receiving: Receiving) -> None:
    answer = await receiving.http.get(PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_deliveries_that_come_together_share_transactions(
    receiving: Receiving, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(database, account_id="4711")
    came: list[Arrival] = []
    store = Inbox.store

    async def watched(inbox: Inbox, arrivals: Sequence[Arrival]) -> None:
        came.extend(arrivals)
        await store(inbox, arrivals)

    monkeypatch.setattr(Inbox, "store", watched)
    with psycopg.connect(receiving.url) as lock:
        # Whoever writes now waits; what comes meanwhile goes together.
        lock.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        sending = [
            asyncio.create_task(from_hubspot(receiving.http, hubspot_event(n)))
            for n in range(TOGETHER)
        ]
        await until(lambda: len(came) == TOGETHER)
        assert not any(task.done() for task in sending), "answered before it was committed"
    answers = await asyncio.gather(*sending)
    assert {answer.status_code for answer in answers} == {200}
    with psycopg.connect(receiving.url) as sql:
        counted = sql.execute("SELECT count(*), count(DISTINCT xmin::text) FROM events").fetchone()
    assert counted is not None
    assert counted[0] == TOGETHER
    assert counted[1] < TOGETHER / 10


async def test_a_database_that_is_away_is_the_vendors_reason_to_deliver_again(
    receiving: Receiving, database: Database
) -> None:
    await stock(database, account_id="4711")
    name = receiving.url.partition("?")[0].rpartition("/")[2]
    admin = receiving.url.replace(name, "postgres", 1)
    with psycopg.connect(admin, autocommit=True) as sql:
        sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        refused = await from_hubspot(receiving.http, hubspot_event(1))
        sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert (await from_hubspot(receiving.http, hubspot_event(1))).status_code == 200
    assert len(receiving.events()) == 1


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(
                        ["portalId", "objectId", "eventId", "subscriptionType", "occurredAt"]
                    )
                    | st.text(max_size=6),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    ),
    signed=st.booleans(),
    headers=st.dictionaries(
        st.sampled_from(
            ["x-hubspot-request-timestamp", "x-hubspot-signature-v3", "content-type", "x-odd"]
        ),
        st.text(
            st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"),
            max_size=30,
        ).map(str.strip),
        max_size=4,
    ),
)
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_body_and_no_header_is_an_error_of_ours_or_a_forgery_that_passes(
    receiving: Receiving, body: bytes, signed: bool, headers: dict[str, str]
) -> None:
    if signed:
        headers = headers | hubspot_headers(body)
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await receiving.http.post(PATH, content=body, headers=sent)
    assert answer.status_code == (200 if signed else 401), answer.text
