"""A token answer is kept before it is judged: no field beside the tokens costs the pair."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from connectors import Account, Connector, OAuth2, all_connectors
from connectors import load as connector_named
from connectors.kernel.token_answers import Tokens, read_tokens
from sandbox.kernel.oauth import Issue
from storage.database import Database
from tests._acme import acme
from tests._driving import response
from tests._ours import ONE, Ours, ours_of
from tests._vendor import made_up

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PAIR = {"access_token": "canary-access", "refresh_token": "canary-refresh"}
NO_LIFE = ["", "never", "3600s", 0, -1, "0", 0.4, 1e12, 10**400, "nan", "inf", True, [], {}]
ODD: list[Any] = [None, "", 0, -1, 7.5, 1e12, True, [], [None], {}, {"id": []}, "\x00\ud800"]
# What stands beside the tokens, at one vendor or another.
BESIDE = (
    *("expires_in", "scope", "scopes", "token_type", "refresh_token_expires_in"),
    *(
        "x_refresh_token_expires_in",
        "ext_expires_in",
        "id_token",
        "id",
        "instance_url",
        "signature",
    ),
    *("issued_at", "hub_id", "stripe_user_id", "livemode", "associated_user", "ok", "error"),
    *("authed_user", "team", "enterprise", "is_enterprise_install", "status", "errorType"),
)
WITH_CONSENT = [one for one in all_connectors() if isinstance(one.auth, OAuth2)]
EACH = pytest.mark.parametrize("connector", WITH_CONSENT, ids=lambda one: one.name)


@pytest.fixture
async def ours(database: Database, database_url: str) -> Ours:
    return await ours_of(database, database_url)


def answered(body: Mapping[str, Any], connector: Connector | None = None) -> Tokens:
    found = read_tokens(connector or made_up(), response(body), {})
    assert found is not None
    assert (found.access_token, found.refresh_token) == tuple(PAIR.values())
    json.dumps(dict(found.extra))  # so it is stored
    return found


@pytest.mark.parametrize(
    ("told", "life"),
    [("3600.0", 3600), (" 1800 ", 1800), (90.5, 90.5), (1, 1), (3600, 3600), ("1e3", 1000)],
)
def test_a_lifetime_is_read_in_whatever_form_a_number_has(told: Any, life: float) -> None:
    tokens = answered({**PAIR, "expires_in": told})
    assert tokens.expires_at == NOW + timedelta(seconds=life)


@pytest.mark.parametrize("told", NO_LIFE, ids=repr)
def test_a_lifetime_that_is_none_counts_as_what_the_vendor_documents(
    told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    usual = made_up()
    lasting = replace(usual, auth=replace(usual.oauth, access_token_ttl=None))
    with caplog.at_level(logging.WARNING):
        assert answered({**PAIR, "expires_in": told}).expires_at == NOW + timedelta(hours=1)
        assert answered({**PAIR, "expires_in": told}, lasting).expires_at is None
    assert "Made Up gave a token whose expires_in cannot be read" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("told", "scope"),
    [
        ("a b", ("a", "b")),
        ("a,b", ("a", "b")),
        (["a", 5, "b"], ("a", "b")),
        (7, ()),
        ({"a": 1}, ()),
    ],
)
def test_a_scope_is_read_as_far_as_it_is_one(told: Any, scope: tuple[str, ...]) -> None:
    assert answered({**PAIR, "scope": told}).scope == scope


@EACH
def test_no_field_beside_the_tokens_costs_the_pair(connector: Connector) -> None:
    for name in BESIDE:
        for odd in ODD:
            answered({**PAIR, name: odd}, connector)
    answered({**PAIR, **dict.fromkeys(BESIDE, 7)}, connector)


def test_a_token_of_the_person_alone_is_kept_as_well() -> None:
    slack = connector_named("slack")
    for odd in ODD:
        answered({"ok": True, "authed_user": {**PAIR, "id": odd, "expires_in": odd}}, slack)


@pytest.mark.parametrize("odd", [7, [], {}, "", "  ", True])
def test_a_refresh_token_that_is_none_leaves_the_former_one(odd: Any) -> None:
    found = read_tokens(made_up(), response({**PAIR, "refresh_token": odd}), {})
    assert found is not None
    assert found.refresh_token is None


@pytest.mark.parametrize("odd", [None, 7, [], {}, "", " \n"])
def test_without_an_access_token_there_is_nothing_to_keep(odd: Any) -> None:
    assert read_tokens(made_up(), response({**PAIR, "access_token": odd}), {}) is None
    assert read_tokens(made_up(), response(PAIR, 400), {}) is None
    assert read_tokens(made_up(), response([PAIR]), {}) is None


def identified(name: str, answer: Mapping[str, Any], *bodies: Any) -> tuple[Account, ...]:
    """The accounts that a connector finds, where its calls are answered so."""
    steps = connector_named(name).identify(answer, {})
    left = [response(body) for body in bodies]
    try:
        next(steps)
        while True:
            steps.send(left.pop(0))
    except StopIteration as stop:
        accounts: tuple[Account, ...] = stop.value
        return accounts


@pytest.mark.parametrize("odd", [None, "", "soon", {}, [7], -1, True])
def test_a_portal_that_the_token_answer_does_not_name_is_asked_for(odd: Any) -> None:
    (account,) = identified("hubspot", {"hub_id": odd}, {"portalId": 4711})
    assert account.id == "4711"


@pytest.mark.parametrize("odd", [None, 7, "", "a", "a.b.c", "a.!!.c", "a.e30.c", "a.WzFd.c"])
def test_who_consented_at_microsoft_is_known_without_the_id_token(odd: Any) -> None:
    me = {"id": "u1", "mail": "ada@example.com"}
    (account,) = identified("outlook", {"id_token": odd}, me, {"id": "inbox"})
    assert account == Account("u1", name="ada@example.com")


# -- In the database ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        *({"expires_in": one} for one in ("never", 0, -1, 1e12)),
        {"scope": 7},
        {"error": "invalid_grant"},
        {"instance_url": "https://eu.acme.test/\x00", "region": "\x00"},
        {"instance_url": 7, "region": {"a": 1}},
    ],
    ids=str,
)
async def test_a_pair_with_a_malformed_field_beside_it_is_stored_and_used(
    ours: Ours, odd: Mapping[str, Any]
) -> None:
    def answer(issue: Issue) -> dict[str, Any]:
        return {**issue.body(), **odd}

    with acme("single-use", answer=answer) as vendor:
        caller = await ours.caller(vendor, "single-use")
        token = await caller.token()
        assert vendor.accepts(token)
        # Not renewed at each call, and the next refresh token is the one that works.
        assert {await caller.token() for _ in range(3)} == {token}
        assert vendor.calls == 1
        assert vendor.accepts(await caller.with_(refused=token).token())
        assert ours.log() == [("refresh", "refreshed")] * 2
    (row,) = ours.rows("SELECT config, status FROM connections")
    assert row == {"config": ONE.config, "status": "active"}


async def test_a_nul_in_tokens_is_kept_as_the_vendor_gave_it(ours: Ours) -> None:
    odd = {"access_token": "a\x00b", "refresh_token": "c\x00d"}

    def answer(issue: Issue) -> dict[str, Any]:
        return {**issue.body(), **(odd if issue.refreshed else {})}

    with acme("single-use", answer=answer) as vendor:
        caller = await ours.caller(vendor, "single-use")
        assert await caller.token() == "a\x00b"
    held = await ours.held()
    assert {name: held[name] for name in odd} == odd


async def test_a_consent_is_kept_whatever_its_account_is_called(ours: Ours) -> None:
    with acme() as vendor:
        odd = Account("a1", "Acme\x00\ud800", {"region": "\x00", "org": True})
        consent = replace(vendor.consent(), extra={"id": "\x00"})
        await ours.connect(consent, odd)
    assert (await ours.held())["access_token"] == consent.access_token
    (row,) = ours.rows("SELECT account_id, account_name, config FROM connections")
    assert row["account_name"] == "Acme\ufffd\ufffd"
    assert row["config"] == {"region": "\ufffd", "org": True}


@contextmanager
def closed(url: str) -> Iterator[None]:
    """The database is away for as long as the block lasts."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    beside = psycopg.conninfo.make_conninfo(url, dbname="postgres")
    with psycopg.connect(beside, autocommit=True) as sql:
        sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_a_new_pair_waits_for_the_database_longer_than_a_refresh_may_take(
    ours: Ours, caplog: pytest.LogCaptureFixture
) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use", timeout=timedelta(seconds=1.5))
        vendor.fault("slow", seconds=0.5)
        async with caller.open() as line:
            asking = asyncio.create_task(line.token())
            await vendor.called()
            with closed(ours.url):
                await asyncio.sleep(4)
                assert not asking.done()
            assert vendor.accepts(await asking)
    assert ours.log() == [("refresh", "refreshed")]
    assert "wait in this process to be stored" in caplog.text


async def test_a_consent_waits_for_a_database_that_is_away_for_a_moment(ours: Ours) -> None:
    with acme() as vendor:
        consent = vendor.consent()
    with closed(ours.url):
        connecting = asyncio.create_task(ours.connect(consent))
        await asyncio.sleep(1)
        assert not connecting.done()
    (connection_id,) = await connecting
    assert ours.rows("SELECT id FROM connections") == [{"id": connection_id}]
    assert (await ours.held())["refresh_token"] == consent.refresh_token
