"""Token life on a real database and against a vendor that keeps its own rules."""

import asyncio
import logging
import multiprocessing
import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import psycopg
import pytest
from starlette.responses import Response as AppResponse

from accounts.tokens import connect
from connectors import (
    Account,
    BrokenConnectionError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from sandbox.kernel.oauth import Call, Refusal
from sandbox.kernel.values import reply
from storage import NotFoundError, tenants
from storage.database import Database
from storage.tenant_settings import tokens_key
from storage.vault import VaultError
from tests._acme import (
    SECRET,
    Acme,
    Caller,
    Rules,
    Step,
    acme,
    connector_of,
    get_token_and_die,
)
from tests._ours import ONE, TWO, Ours, ours_of

SPAWN = multiprocessing.get_context("spawn")
ALL_RULES: tuple[Rules, ...] = get_args(Rules)


@pytest.fixture
async def ours(database: Database, database_url: str) -> Ours:
    return await ours_of(database, database_url)


@pytest.fixture
def vendor() -> Iterator[Acme]:
    with acme() as started:
        yield started


def run_to_its_death(caller: Caller, step: Step) -> None:
    process = SPAWN.Process(target=get_token_and_die, args=(caller, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


async def test_a_fresh_token_is_used_without_asking_the_vendor(ours: Ours, vendor: Acme) -> None:
    ending = datetime.now(UTC) + timedelta(hours=1)
    consent = replace(vendor.consent(), expires_at=ending)
    await ours.connect(consent)
    (grant,) = ours.rows("SELECT id FROM grants")
    caller = Caller(ours.url, vendor.origin, ours.key, grant["id"], ours.tenant_id)
    assert await caller.token() == consent.access_token
    assert vendor.calls == 0
    # One that ends within the margin is not fresh, nor is one that the vendor has refused.
    assert await caller.with_(refused=consent.access_token).token() != consent.access_token
    assert vendor.calls == 1
    # Who was refused the former one gets the new one without another call.
    assert await caller.with_(refused=consent.access_token).token() != consent.access_token
    assert vendor.calls == 1


async def test_a_token_that_ends_soon_is_refreshed_ahead(ours: Ours, vendor: Acme) -> None:
    caller = await ours.caller(vendor)
    async with caller.open() as line:
        first = await line.token()
        assert await line.token(ahead=timedelta(minutes=5)) == first
        ours.rows(
            "UPDATE grants SET refreshed_at = now() - interval '56 minutes',"
            " expires_at = now() + interval '4 minutes'"
        )
        assert await line.token(ahead=timedelta(minutes=5)) != first
    assert vendor.calls == 2


async def test_where_calls_carry_our_apps_secret_a_grant_gives_that_for_as_long_as_it_is_held(
    ours: Ours, vendor: Acme
) -> None:
    caller = await ours.caller(vendor)
    usual = connector_of("lasting")
    platform = replace(usual, auth=replace(usual.oauth, bearer="app"))
    async with caller.open() as line:
        assert await line.token(find=lambda name: platform) == SECRET
        assert vendor.calls == 0
        ours.rows("DELETE FROM tenant_settings RETURNING setting_key")
        with pytest.raises(BrokenConnectionError):
            await line.token(find=lambda name: platform)


async def test_a_token_of_a_short_life_is_not_refreshed_at_every_call(ours: Ours) -> None:
    with acme(access_ttl=timedelta(seconds=120)) as vendor:
        caller = await ours.caller(vendor)
        assert len({await caller.token() for _ in range(3)}) == 1
        assert vendor.calls == 1


@pytest.mark.parametrize("rules", ALL_RULES)
async def test_twenty_callers_of_two_pools_make_one_call(ours: Ours, rules: Rules) -> None:
    with acme(rules) as vendor:
        caller = await ours.caller(vendor, rules)
        async with caller.open() as one, caller.open() as other:
            tokens = await asyncio.gather(*(line.token() for line in [one, other] * 10))
        assert len(set(tokens)) == 1
        assert vendor.accepts(tokens[0])
        assert vendor.calls == 1
        assert ours.log() == [("refresh", "refreshed")]
        assert ours.intent() is None


async def test_no_database_connection_is_held_while_the_vendor_is_asked(
    ours: Ours, vendor: Acme
) -> None:
    caller = await ours.caller(vendor)
    vendor.hold()
    narrow = Database.connect(ours.url, pool_size=1, max_overflow=0)
    async with caller.open() as line:
        asking = asyncio.create_task(replace(line, database=narrow).token())
        await vendor.called()
        async with narrow.transaction(ours.tenant_id):
            idle = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
            query = f"{idle} AND datname = current_database()"
            assert len(ours.rows(query)) == 1, "only the transaction of this test is open"
            assert not asking.done()
        vendor.let_go()
        assert vendor.accepts(await asking)
    await narrow.close()


async def test_the_old_refresh_token_is_kept_where_none_came(ours: Ours) -> None:
    def without(issue: Any) -> dict[str, Any]:
        body: dict[str, Any] = issue.body()
        return {k: v for k, v in body.items() if not issue.refreshed or k != "refresh_token"}

    with acme(answer=without) as vendor:
        caller = await ours.caller(vendor)
        before = await ours.held()
        token = await caller.token()
        after = await ours.held()
        assert after["access_token"] == token != before["access_token"]
        assert after["refresh_token"] == before["refresh_token"]
        assert after["instance_url"] == "https://eu.acme.test"
        assert await caller.with_(refused=token).token() != token


async def test_an_answer_without_expires_in_lives_as_long_as_the_vendor_documents(
    ours: Ours,
) -> None:
    def without(issue: Any) -> dict[str, Any]:
        return {k: v for k, v in issue.body().items() if k != "expires_in"}

    with acme(answer=without) as vendor:
        caller = await ours.caller(vendor)
        assert await caller.token() == await caller.token()
        assert vendor.calls == 1
        (grant,) = ours.rows("SELECT expires_at - refreshed_at AS life FROM grants")
        assert abs(grant["life"] - timedelta(hours=1)) < timedelta(seconds=5)


async def test_a_token_without_end_is_used_until_the_vendor_refuses_it(
    ours: Ours, vendor: Acme
) -> None:
    await ours.connect(replace(vendor.consent(), refresh_token=None))
    (grant,) = ours.rows("SELECT id FROM grants")
    caller = Caller(ours.url, vendor.origin, ours.key, grant["id"], ours.tenant_id)
    token = await caller.token()
    with pytest.raises(BrokenConnectionError, match="connect again"):
        await caller.with_(refused=token).token()
    assert vendor.calls == 0
    assert ours.statuses() == {"a-1": "needs_reauth"}


async def test_a_refused_refresh_token_pauses_every_connection_of_the_grant(ours: Ours) -> None:
    with acme("single-use") as vendor:
        await ours.connect(vendor.consent(), ONE, TWO)
        (grant,) = ours.rows("SELECT id FROM grants")
        caller = Caller(ours.url, vendor.origin, ours.key, grant["id"], ours.tenant_id)
        vendor.revoke()
        async with caller.open() as one, caller.open() as other:
            asked = [line.token() for line in [one, other] * 10]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BrokenConnectionError}
        assert vendor.calls == 1, "who waited for a refresh that failed does not repeat it"
        assert ours.statuses() == {"a-1": "needs_reauth", "a-2": "needs_reauth"}
        assert ours.log() == [("failure", "refused")]
        rows = ours.rows("SELECT status_reason FROM connections")
        assert {row["status_reason"] for row in rows} == {str(outcomes[0])}
        assert "invalid_grant" in str(outcomes[0])
        assert ours.intent() is None


async def test_an_error_with_status_200_is_an_error(ours: Ours) -> None:
    def refuse(refusal: Refusal, call: Call) -> AppResponse:
        return reply({"ok": False, "error": refusal.error}, 200)

    with acme(refuse=refuse) as vendor:
        caller = await ours.caller(vendor)
        vendor.revoke()
        with pytest.raises(BrokenConnectionError, match="invalid_grant"):
            await caller.token()
        assert ours.statuses() == {"a-1": "needs_reauth"}


@pytest.mark.parametrize(
    ("fault", "options", "error", "outcome"),
    [
        ("429", {"retry_after": 300}, RateLimitedError, "rate_limited"),
        ("503", {"count": 9}, ProviderUnavailableError, "unavailable"),
        ("cut", {"count": 9}, ProviderUnavailableError, "unavailable"),
        ("hang", {}, ProviderUnavailableError, "unavailable"),
    ],
)
async def test_a_vendor_that_cannot_now_leaves_the_grant_as_it_is(
    ours: Ours, fault: str, options: dict[str, Any], error: type[Exception], outcome: str
) -> None:
    with acme("single-use") as vendor:
        patience = timedelta(seconds=2 if fault == "hang" else 60)
        caller = await ours.caller(vendor, "single-use", timeout=patience)
        vendor.fault(fault, **options)
        before = await ours.held()
        async with caller.open() as line:
            asked = [line.token() for _ in range(5)]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {error}
        assert vendor.calls == 1
        assert ours.statuses() == {"a-1": "active"}
        assert ours.log() == [("failure", outcome)]
        assert ours.intent() is None
        assert await ours.held() == before
        for caught in outcomes:
            if isinstance(caught, RateLimitedError):
                assert caught.retry_after == timedelta(seconds=300)


async def test_an_app_that_the_vendor_refuses_is_the_operators_to_mend(ours: Ours) -> None:
    def refuse(refusal: Refusal, call: Call) -> AppResponse:
        return reply({"error": "invalid_client"}, 401)

    with acme(refuse=refuse) as vendor:
        caller = await ours.caller(vendor)
        vendor.revoke()
        with pytest.raises(ContractError, match="ACME_CLIENT_ID"):
            await caller.token()
        assert ours.statuses() == {"a-1": "active"}
        assert ours.log() == [("failure", "contract")]


@pytest.mark.parametrize(
    ("rules", "step"),
    [
        *(("single-use", step) for step in get_args(Step)),
        *(("graceful", step) for step in ("answered", "storing")),
        *(("lasting", step) for step in ("claimed", "answered")),
    ],
)
async def test_a_process_killed_at_any_step_leaves_a_grant_that_another_brings_to_an_end(
    ours: Ours, rules: Rules, step: Step
) -> None:
    with acme(rules) as vendor:
        caller = await ours.caller(vendor, rules)
        await asyncio.to_thread(run_to_its_death, caller, step)
        interrupted = step in ("claimed", "answered", "storing")
        assert (ours.intent() is not None) == interrupted
        asking = asyncio.create_task(caller.token())
        if interrupted:
            await asyncio.sleep(0.5)
            assert not asking.done(), "a refresh that may still be under way is waited for"
            ours.age_intent()
        if rules == "single-use" and step in ("answered", "storing"):
            # The only pair that works died with the process.
            with pytest.raises(BrokenConnectionError, match="refresh was interrupted"):
                await asking
            assert ours.statuses() == {"a-1": "needs_reauth"}
            assert ours.log() == [("failure", "interrupted"), ("failure", "refused")]
        else:
            token = await asking
            assert vendor.accepts(token)
            assert (await ours.held())["access_token"] == token
            assert ours.statuses() == {"a-1": "active"}
            assert ours.log()[-1] == ("refresh", "refreshed")
            assert vendor.accepts(await caller.with_(refused=token).token())
        assert ours.intent() is None


async def test_a_process_that_was_taken_for_dead_still_brings_the_only_pair(ours: Ours) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        paused = SPAWN.Process(target=get_token_and_die, args=(caller, "answered", signal.SIGSTOP))
        paused.start()
        assert paused.pid is not None
        try:
            await asyncio.to_thread(os.waitid, os.P_PID, paused.pid, os.WSTOPPED | os.WNOWAIT)
            ours.age_intent()
            with pytest.raises(BrokenConnectionError, match="interrupted"):
                await caller.token()
            assert ours.statuses() == {"a-1": "needs_reauth"}
            os.kill(paused.pid, signal.SIGCONT)
            await asyncio.to_thread(paused.join, 60)
            assert paused.exitcode == 0
        finally:
            paused.kill()
        assert ours.statuses() == {"a-1": "active"}
        assert vendor.accepts(await caller.token())
        assert vendor.calls == 2


async def test_a_refusal_does_not_count_where_a_newer_pair_was_stored_meanwhile(
    ours: Ours,
) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        vendor.revoke()
        vendor.hold()
        asking = asyncio.create_task(caller.token())
        await vendor.called()
        consent = replace(vendor.consent(), expires_at=datetime.now(UTC) + timedelta(hours=1))
        await ours.connect(consent)
        vendor.let_go()
        assert await asking == consent.access_token
        assert ours.statuses() == {"a-1": "active"}
        assert ours.log() == [("refresh", "superseded")]


async def test_a_late_answer_does_not_replace_a_newer_pair(ours: Ours, vendor: Acme) -> None:
    caller = await ours.caller(vendor)
    vendor.hold()
    asking = asyncio.create_task(caller.token())
    await vendor.called()
    consent = replace(vendor.consent(), expires_at=datetime.now(UTC) + timedelta(hours=1))
    await ours.connect(consent)
    vendor.let_go()
    assert await asking == consent.access_token
    assert (await ours.held())["refresh_token"] == consent.refresh_token


async def test_a_cancelled_caller_still_stores_what_the_vendor_gave(ours: Ours) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        vendor.hold()
        async with caller.open() as line:
            asking = asyncio.create_task(line.token())
            await vendor.called()
            for _ in range(3):
                asking.cancel()
                await asyncio.sleep(0.05)
            vendor.let_go()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert ours.intent() is None
            assert vendor.accepts(await line.token())
        assert vendor.calls == 1


async def test_a_pair_outlives_a_database_that_is_away_when_it_comes(ours: Ours) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        vendor.hold()
        (database,) = ours.rows("SELECT current_database() AS name")
        async with caller.open() as line:
            asking = asyncio.create_task(line.token())
            await vendor.called()
            closed = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
            with psycopg.connect(_beside(ours.url), autocommit=True) as sql:
                sql.execute(closed.format(database["name"], "false").encode())
                sql.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (database["name"],),
                )
                vendor.let_go()
                await asyncio.sleep(2)
                assert not asking.done()
                sql.execute(closed.format(database["name"], "true").encode())
            assert vendor.accepts(await asking)
        assert ours.log() == [("refresh", "refreshed")]


def _beside(url: str) -> str:
    """The same server's own database."""
    return psycopg.conninfo.make_conninfo(url, dbname="postgres")


async def test_a_grant_or_a_key_that_is_not_there_is_said_so(ours: Ours, vendor: Acme) -> None:
    caller = await ours.caller(vendor)
    stranger = await tenants.create(ours.database, "south", "South", "FREE")
    with pytest.raises(NotFoundError, match="no grant"):
        await caller.with_(tenant_id=stranger.id).token()
    with pytest.raises(VaultError, match="ENCRYPTION_KEYS"):
        await caller.with_(key=secrets.token_bytes(32)).token()
    assert vendor.calls == 0


async def test_no_secret_is_in_an_error_a_log_row_or_a_repr(
    ours: Ours, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)

    def echo(refusal: Refusal, call: Call) -> AppResponse:
        # A vendor that quotes what it was sent.
        body = call.body.decode()
        return reply({"error": "invalid_grant", "error_description": body, "status": body}, 400)

    try:
        with acme("single-use", refuse=echo) as vendor:
            caller = await ours.caller(vendor, "single-use")
            secrets_ = [SECRET, (await ours.held())["refresh_token"]]
            token = await caller.token()
            secrets_ += [token, (await ours.held())["refresh_token"], ours.key.hex()]
            vendor.revoke()
            with pytest.raises(BrokenConnectionError) as caught:
                await caller.with_(refused=token).token()
    finally:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.NOTSET)
    seen = [caplog.text, repr(caught.value), *map(str, ours.rows("SELECT * FROM oauth_log"))]
    error: BaseException | None = caught.value
    while error is not None:
        seen += [str(error), repr(error), repr(error.args), *getattr(error, "__notes__", [])]
        error = error.__cause__ or error.__context__
    seen += map(str, ours.rows("SELECT * FROM tenant_settings"))
    seen += map(str, ours.rows("SELECT status_reason FROM connections"))
    for secret in secrets_:
        assert not [text for text in seen if secret in text]


async def test_connecting_stores_the_consent_sealed_and_its_accounts(
    ours: Ours, vendor: Acme
) -> None:
    ids = await ours.connect(vendor.consent(), TWO, ONE)
    rows = ours.rows("SELECT * FROM connections")
    assert [{row["id"]: row["account_id"] for row in rows}[id] for id in ids] == ["a-2", "a-1"]
    (one,) = (row for row in rows if row["account_id"] == "a-1")
    assert (one["account_name"], one["config"]) == ("Acme One", {"region": "eu"})
    assert one["status"] == "active"
    assert one["next_due_at"] is not None
    (entry,) = ours.rows("SELECT * FROM oauth_log")
    assert (entry["event"], entry["message"]) == ("connect", "connected Acme Two, Acme One")
    with pytest.raises(BrokenConnectionError, match="covers no account"):
        await connect(
            ours.database,
            ours.vault,
            tenant_id=ours.tenant_id,
            integration="acme",
            tokens=vendor.consent(),
            accounts=(),
        )


async def test_connecting_again_renews_the_grant_and_wakes_its_connections(
    ours: Ours, vendor: Acme
) -> None:
    (first,) = await ours.connect(vendor.consent())
    for former, later in [
        ("needs_reauth", "active"),
        ("revoked", "active"),
        ("paused", "paused"),
    ]:
        ours.rows("UPDATE connections SET status = %s, status_reason = 'why', failures = 3", former)
        consent = vendor.consent()
        assert await ours.connect(consent) == [first]
        (row,) = ours.rows("SELECT * FROM connections")
        assert row["status"] == later
        assert (row["status_reason"], row["failures"]) == (
            (None, 0) if later == "active" else ("why", 3)
        )
        assert (await ours.held())["refresh_token"] == consent.refresh_token
    assert len(ours.rows("SELECT * FROM grants")) == 1


async def test_a_consent_without_a_refresh_token_keeps_that_of_the_same_account(
    ours: Ours, vendor: Acme
) -> None:
    consent = vendor.consent()
    await ours.connect(consent)
    await ours.connect(replace(vendor.consent(), refresh_token=None))
    assert (await ours.held())["refresh_token"] == consent.refresh_token
    await ours.connect(replace(vendor.consent("a-2"), refresh_token=None), TWO)
    assert "refresh_token" not in await ours.held("acme_tokens:a-2")


async def test_another_account_never_takes_over_the_tokens_of_the_first(
    ours: Ours, vendor: Acme
) -> None:
    first, second = vendor.consent("a-1"), vendor.consent("a-2")
    await ours.connect(first, ONE)
    await ours.connect(second, TWO)
    assert (await ours.held())["access_token"] == first.access_token
    assert (await ours.held("acme_tokens:a-2"))["access_token"] == second.access_token
    # Not even under a label that is taken.
    third = Account("a-3")
    await ours.connect(vendor.consent(), third, label="sales")
    await ours.connect(vendor.consent(), Account("a-4"), label="sales")
    keys = {row["setting_key"] for row in ours.rows("SELECT setting_key FROM tenant_settings")}
    assert keys == {
        "acme_tokens",
        "acme_tokens:a-2",
        "acme_tokens:sales",
        "acme_tokens:sales:a-4",
    }


async def test_an_account_that_a_consent_leaves_out_is_revoked_and_one_that_moves_leaves_nothing(
    ours: Ours, vendor: Acme
) -> None:
    await ours.connect(vendor.consent(), ONE, TWO)
    await ours.connect(vendor.consent(), ONE)
    assert ours.statuses() == {"a-1": "active", "a-2": "revoked"}
    await ours.connect(vendor.consent(), ONE, TWO)
    assert ours.statuses() == {"a-1": "active", "a-2": "active"}
    other = Account("a-5")
    await ours.connect(vendor.consent(), other)
    await ours.connect(vendor.consent(), ONE, TWO, other)
    assert len(ours.rows("SELECT * FROM grants")) == 1
    assert len(ours.rows("SELECT * FROM tenant_settings")) == 1
    assert set(ours.statuses().values()) == {"active"}


async def test_two_consents_at_once_are_both_kept(ours: Ours, vendor: Acme) -> None:
    accounts = [Account(f"b-{number}") for number in range(6)]
    await asyncio.gather(*(ours.connect(vendor.consent(), account) for account in accounts))
    assert set(ours.statuses().values()) == {"active"}
    assert len(ours.rows("SELECT * FROM grants")) == 6
    tokens = {
        (await ours.held(row["setting_key"]))["access_token"]
        for row in ours.rows("SELECT setting_key FROM grants")
    }
    assert len(tokens) == 6


def test_tokens_stand_under_the_integrations_name_and_a_second_grants_label() -> None:
    assert tokens_key("hubspot") == "hubspot_tokens"
    assert tokens_key("hubspot", "sales") == "hubspot_tokens:sales"
