"""Token life under stress: many processes at once, many kills, vendors that say to wait."""

import asyncio
import logging
import multiprocessing
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from typing import get_args
from uuid import UUID

import pytest
from starlette.responses import Response as AppResponse

from accounts.expiring_grants import lapsing
from connectors import BrokenConnectionError
from sandbox.kernel.oauth import Call, Refusal
from sandbox.kernel.values import reply
from storage.database import Database
from tests._acme import (
    Acme,
    Caller,
    Rules,
    Step,
    acme,
    get_token,
    get_token_and_die,
    get_token_at_once,
)
from tests._ours import Ours, ours_of

# Processes of their own that need not import everything again: a server forks them, loaded.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["pytest", "tests._acme"])
THOROUGH = pytest.mark.thorough
# Hundreds of processes are started, some of which each import everything.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
async def ours(database: Database, database_url: str) -> Ours:
    return await ours_of(database, database_url)


@pytest.fixture
def vendor() -> Iterator[Acme]:
    with acme() as started:
        yield started


@pytest.mark.parametrize("count", [12, pytest.param(50, marks=THOROUGH)])
async def test_many_processes_at_once_make_one_call_and_all_get_the_token(
    ours: Ours, count: int
) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        together, answers = FORKED.Barrier(count), FORKED.SimpleQueue()
        asking = [
            FORKED.Process(target=get_token_at_once, args=(caller, together, answers))
            for _ in range(count)
        ]
        for process in asking:
            process.start()
        given = [await asyncio.to_thread(answers.get) for _ in asking]
        for process in asking:
            await asyncio.to_thread(process.join, 60)
        assert [process.exitcode for process in asking] == [0] * count
        assert len({pid for pid, _ in given}) == count
        (token,) = {token for _, token in given}
        assert vendor.accepts(token)
        assert vendor.calls == 1
        assert ours.log() == [("refresh", "refreshed")]


@dataclass
class Life:
    """One grant that is refreshed, killed in mid-refresh and recovered, over and over."""

    ours: Ours
    vendor: Acme
    caller: Caller
    lost: int = 0

    def kill(self, step: Step | None) -> None:
        """A process that dies at that step, by its own hand; at any moment where none is given."""
        if step is None:
            process = FORKED.Process(target=get_token, args=(self.caller,))
            process.start()
            process.join(random.uniform(0, 0.6))
            process.kill()
        else:
            process = FORKED.Process(target=get_token_and_die, args=(self.caller, step))
            process.start()
        self._end(process, step)

    def _end(self, process: ForkServerProcess, step: Step | None) -> None:
        process.join(60)
        if step is not None:
            assert process.exitcode == -signal.SIGKILL

    async def recover(self, step: Step | None) -> None:
        interrupted = self.ours.intent() is not None
        if interrupted:
            self.ours.age_intent()
        (found,) = await asyncio.gather(self.caller.token(), return_exceptions=True)
        if isinstance(found, str):
            assert not (self.caller.rules == "single-use" and step in ("answered", "storing"))
            await self._check(found)
            return
        assert isinstance(found, BrokenConnectionError)
        assert self.caller.rules == "single-use", "the vendor gives grace"
        assert interrupted
        assert step in ("answered", "storing", None)
        assert "refresh was interrupted" in str(found)
        await self._reconnect(str(found))

    async def _check(self, token: str) -> None:
        """One pair is stored, it works, and at a vendor of single use no other one does."""
        held = await self.ours.held()
        assert held["access_token"] == token
        assert self.vendor.accepts(token)
        desk = self.vendor.world.servers["acme"]
        assert desk.refresh(held["refresh_token"]) is not None
        live = {name for name in desk.refresh_tokens if desk.refresh(name) is not None}
        if self.caller.rules == "single-use":
            assert live == {held["refresh_token"]}
        assert len(self.ours.rows("SELECT setting_key FROM tenant_settings")) == 1
        assert self.ours.statuses() == {"a-1": "active"}
        assert self.ours.intent() is None
        # Time passes: the next process finds the access token expired.
        self.ours.rows("UPDATE grants SET expires_at = now() - interval '1 s'")

    async def _reconnect(self, reason: str) -> None:
        (row,) = self.ours.rows("SELECT status, status_reason FROM connections")
        assert row == {"status": "needs_reauth", "status_reason": reason}
        (notice,) = self.ours.rows("SELECT reason FROM notices WHERE ended_at IS NULL")
        assert notice["reason"] == reason
        self.lost += 1
        self.vendor.revoke()
        await self.ours.connect(self.vendor.consent())
        assert self.ours.rows("SELECT id FROM notices WHERE ended_at IS NULL") == []


@pytest.mark.parametrize(
    ("rules", "kills"),
    [
        *(("single-use", 12), ("graceful", 6), ("lasting", 6)),
        *(pytest.param(rules, 40, marks=THOROUGH) for rules in get_args(Rules)),
    ],
)
async def test_of_many_kills_none_loses_a_pair_that_the_vendor_lets_us_find_again(
    ours: Ours, rules: Rules, kills: int
) -> None:
    steps = [*get_args(Step), None]
    with acme(rules) as vendor:
        life = Life(ours, vendor, await ours.caller(vendor, rules))
        for number in range(kills):
            step = steps[number % len(steps)]
            await asyncio.to_thread(life.kill, step)
            await life.recover(step)
    assert (life.lost > 0) == (rules == "single-use")


async def test_a_vendor_that_says_to_wait_is_waited_for(ours: Ours) -> None:
    with acme("single-use") as vendor:
        caller = await ours.caller(vendor, "single-use")
        vendor.fault("429", retry_after=1)
        async with caller.open() as line:
            tokens = await asyncio.gather(*(line.token() for _ in range(10)))
        assert len(set(tokens)) == 1
        assert vendor.accepts(tokens[0])
        assert vendor.calls == 2
        assert ours.log() == [("failure", "rate_limited"), ("refresh", "refreshed")]
        assert ours.statuses() == {"a-1": "active"}


async def test_a_refusal_with_status_403_is_one(ours: Ours) -> None:
    def refuse(refusal: Refusal, call: Call) -> AppResponse:
        return reply({"error": refusal.error}, 403)

    with acme(refuse=refuse) as vendor:
        caller = await ours.caller(vendor)
        vendor.revoke()
        with pytest.raises(BrokenConnectionError, match="invalid_grant"):
            await caller.token()
        assert ours.statuses() == {"a-1": "needs_reauth"}


async def test_a_status_403_that_does_not_say_why_breaks_nothing(ours: Ours) -> None:
    def refuse(refusal: Refusal, call: Call) -> AppResponse:
        return AppResponse("<html>blocked</html>", 403, media_type="text/html")

    with acme(refuse=refuse) as vendor:
        caller = await ours.caller(vendor)
        vendor.revoke()
        with pytest.raises(Exception, match="did not say why"):
            await caller.token()
        assert ours.statuses() == {"a-1": "active"}


async def test_grants_that_were_made_together_do_not_come_due_together(
    ours: Ours, vendor: Acme
) -> None:
    """Five minutes ahead of its expiry a token is refreshed for certain, seven are too early."""
    caller = await ours.caller(vendor)
    async with caller.open() as line:
        await line.token()

        async def refreshed_at(minutes: float) -> bool:
            ours.rows(
                "UPDATE grants SET refreshed_at = now() - interval '1 hour',"
                f" expires_at = now() + interval '{minutes} minutes'"
            )
            before = vendor.calls
            await line.token()
            return vendor.calls > before

        assert await refreshed_at(4.9)
        assert not await refreshed_at(6.6)
        between = [await refreshed_at(5.75) for _ in range(20)]
    assert set(between) == {True, False}


async def test_each_refresh_is_a_line_for_whoever_listens(
    ours: Ours, vendor: Acme, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "storage.oauth_log")
    caller = await ours.caller(vendor)
    token = await caller.token()
    vendor.revoke()
    with pytest.raises(BrokenConnectionError):
        await caller.with_(refused=token).token()
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("INFO", f"acme, grant {caller.grant_id}: refresh refreshed"),
        (
            "WARNING",
            f"acme, grant {caller.grant_id}: failure refused: "
            "Acme no longer accepts this authorisation (invalid_grant)",
        ),
    ]


async def at_risk(ours: Ours, limit: timedelta, at_most: int = 100) -> set[UUID]:
    found = await lapsing(ours.database, {"acme": limit}, now=datetime.now(UTC), at_most=at_most)
    return {each.grant_id for each in found}


async def test_a_grant_is_at_risk_after_half_of_what_its_vendor_allows(
    ours: Ours, vendor: Acme
) -> None:
    caller = await ours.caller(vendor)
    assert await at_risk(ours, timedelta(days=100)) == set()
    ours.rows("UPDATE grants SET refreshed_at = now() - interval '51 days'")
    assert await at_risk(ours, timedelta(days=100)) == {caller.grant_id}
    assert await at_risk(ours, timedelta(days=103)) == set()
    # A paused one is to work when its tenant resumes; one that is over cannot be kept.
    for status, kept in [("paused", True), ("needs_reauth", False), ("revoked", False)]:
        ours.rows("UPDATE connections SET status = %s", status)
        assert (await at_risk(ours, timedelta(days=100)) == {caller.grant_id}) == kept


async def test_a_grant_that_could_not_be_refreshed_is_left_alone_for_a_day(
    ours: Ours, vendor: Acme
) -> None:
    caller = await ours.caller(vendor)
    vendor.revoke()
    ours.rows("UPDATE connections SET status = 'paused'")
    ours.rows("UPDATE grants SET refreshed_at = now() - interval '51 days'")
    with pytest.raises(BrokenConnectionError):
        await caller.token()
    assert await at_risk(ours, timedelta(days=100)) == set()
    ours.rows("UPDATE oauth_log SET at = at - interval '25 hours'")
    assert await at_risk(ours, timedelta(days=100)) == {caller.grant_id}


async def test_an_interrupted_refresh_is_found_and_ended_while_its_token_still_works(
    ours: Ours, vendor: Acme
) -> None:
    caller = await ours.caller(vendor)
    async with caller.open() as line:
        token = await line.token()
        ours.rows("UPDATE grants SET refresh_id = gen_random_uuid(), refresh_started_at = now()")
        assert await at_risk(ours, timedelta(days=100)) == set(), "it may be under way"
        ours.age_intent()
        (grant,) = await lapsing(ours.database, {}, now=datetime.now(UTC), at_most=1)
        assert (grant.grant_id, grant.interrupted) == (caller.grant_id, True)
        assert str(grant) == "north/acme"
        renewed = await line.token(renewed_after=grant.renewed_after)
        assert renewed != token
        assert ours.intent() is None
        assert await line.token(renewed_after=grant.renewed_after) == renewed
    assert ours.log()[-2:] == [("failure", "interrupted"), ("refresh", "refreshed")]


async def test_a_token_that_cannot_be_renewed_is_not_broken_to_keep_it_alive(
    ours: Ours, vendor: Acme
) -> None:
    consent = replace(vendor.consent(), refresh_token=None)
    await ours.connect(consent)
    (grant,) = ours.rows("SELECT id FROM grants")
    caller = Caller(ours.url, vendor.origin, ours.key, grant["id"], ours.tenant_id)
    async with caller.open() as line:
        assert await line.token(renewed_after=datetime.now(UTC)) == consent.access_token
    assert ours.statuses() == {"a-1": "active"}
