"""Why a connection is synced as often as it is, and when next: in words and in JSON."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import app
from cli.status import print_status, status_rows
from connectors import SyncType, load
from deployments.schedule_report import because, explain, in_utc
from deployments.tiers import PollPlan, PollPolicy
from settings import Settings, read
from settings.intervals import in_words, read_intervals
from storage import NotFoundError, connections, gaps
from storage.database import Database
from storage.models import Tier
from tests._fleet import Fleet
from tests._sandboxed import KEY
from tests._vendor import made_up
from tests.test_tiers import CONTACTS, OWNERS, WEBHOOK

HOUR = timedelta(hours=1)
WATCH = """
INSERT INTO watches (id, tenant_id, connection_id, vendor_id, resource, expires_at, status, reason)
SELECT gen_random_uuid(), tenant_id, id, 'v-' || %(resource)s, %(resource)s, %(until)s, %(status)s,
    %(reason)s FROM connections WHERE id = %(id)s
"""


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


def configured(database_url: str, *integrations: str) -> Settings:
    """With all that the webhooks of these need."""
    given: dict[str, Any] = {"nextauth_url": "https://atom.test", "nextauth_secret": "s" * 32}
    for name in integrations:
        connector = load(name)
        needed = [connector.webhook.verified_by] if connector.webhook else []
        needed += connector.watch.needs if connector.watch else ()
        given |= {variable.lower(): "set" for variable in needed if variable}
    return read(_env_file=None, database_url=database_url, encryption_keys=KEY, **given)


async def said(settings: Settings, fleet: Fleet, connection_id: UUID, now: datetime) -> list[str]:
    connection = await fleet.get(connection_id)
    return list((await explain(settings, fleet.database, connection, now)).lines(now))


async def test_a_pull_integration_is_explained_by_its_tier(database_url: str, fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1, tier="TEAM", integration="quickbooks")
    settings = configured(database_url)
    policy = PollPolicy.of(settings, load("quickbooks"), Tier.TEAM)
    now = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
    due = PollPlan(policy, connection_id).next_due(now)
    fleet.sql("UPDATE connections SET next_due_at = %s", (due,))
    assert await said(settings, fleet, connection_id, now) == [
        "hourly, because TEAM and PULL",
        f"next at {due:%H:%M} UTC",
        "webhooks: no, QUICKBOOKS_WEBHOOK_SECRET is not set",
    ]
    later = due + timedelta(minutes=5)
    lines = await said(settings, fleet, connection_id, later)
    assert lines[1] == f"next at {due + HOUR:%H:%M} UTC, it is due since {due:%H:%M} UTC"
    await connections.pause(fleet.database, connection_id)
    assert (await said(settings, fleet, connection_id, now))[1] == "next not while it is paused"


async def test_streams_that_webhooks_cover_are_told_apart(database_url: str, fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1, tier="TEAM", integration="hubspot")
    now = datetime.now(UTC)
    lines = await said(configured(database_url, "hubspot"), fleet, connection_id, now)
    assert lines[:2] == [
        "contacts, companies, deals, tickets: weekly, because TEAM and PUSH",
        "owners: hourly, because TEAM and no webhook covers it",
    ]
    assert lines[-1] == "webhooks: yes"
    lines = await said(configured(database_url), fleet, connection_id, now)
    assert lines[0] == (
        "contacts, companies, deals, tickets: hourly, because TEAM and its webhooks do not work now"
    )


async def test_a_watch_counts_while_it_lives(database_url: str, fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1, tier="ENTERPRISE", integration="gmail")
    settings, now = configured(database_url, "gmail"), datetime.now(UTC)
    values: dict[str, Any] = {"id": connection_id, "resource": "mailbox", "status": "active",
                              "reason": None, "until": now - HOUR}  # fmt: skip
    fleet.sql(WATCH, values)
    lines = await said(settings, fleet, connection_id, now)
    assert lines[-1] == "webhooks: no, it has no live watch"
    assert "labels: every 5 minutes, because ENTERPRISE and no webhook covers it" in lines
    assert any(
        "5 minutes, because ENTERPRISE and its webhooks do not work" in line for line in lines
    )
    fleet.sql("DELETE FROM watches")
    fleet.sql(WATCH, values | {"status": "refused", "reason": "no such topic"})
    lines = await said(settings, fleet, connection_id, now)
    assert lines[-1] == "webhooks: no, it has no live watch: no such topic"
    fleet.sql("DELETE FROM watches")
    until = now + timedelta(days=6)
    fleet.sql(WATCH, values | {"until": until})
    lines = await said(settings, fleet, connection_id, now)
    assert lines[0].endswith("every 15 minutes, because ENTERPRISE and HYBRID")
    assert lines[-1] == f"webhooks: yes, watch valid until {until:%Y-%m-%d %H:%M} UTC"
    fleet.sql("UPDATE watches SET expires_at = NULL")
    lines = await said(settings, fleet, connection_id, now)
    assert lines[-1] == "webhooks: yes, watch without end"


async def test_gaps_are_told_until_a_read_has_closed_them(database_url: str, fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1, tier="TEAM", integration="hubspot")
    settings, now = configured(database_url), datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
    connection = await fleet.get(connection_id)
    for minutes, reason in ((50, "it fell silent"), (40, "it fell silent"), (30, "we were away")):
        since = now - timedelta(minutes=minutes)
        async with fleet.database.transaction(connection.tenant_id) as session:
            await gaps.note(
                session, tenant_id=connection.tenant_id, connection_id=connection_id,
                streams=["contacts", "deals"], since=since, until=since + timedelta(minutes=1),
                reason=reason,
            )  # fmt: skip
    found = await explain(settings, fleet.database, connection, now)
    assert list(found.lines(now))[-2:] == [
        "2 gaps from 13:10 UTC to 13:21 UTC, not read again yet: it fell silent (contacts, deals)",
        "a gap from 13:30 UTC to 13:31 UTC, not read again yet: we were away (contacts, deals)",
    ]
    assert [gap["reason"] for gap in found.as_json()["gaps"]] == [
        "it fell silent", "it fell silent", "we were away"
    ]  # fmt: skip
    await gaps.close(fleet.database, [gap.id for gap in found.open_gaps], now)
    assert (await said(settings, fleet, connection_id, now))[-1].startswith("webhooks:")


def test_a_vendors_floor_is_given_as_the_reason() -> None:
    slow = made_up(streams=(CONTACTS, OWNERS), floor=2 * HOUR, sync_type=SyncType.PUSH,
                   webhook=WEBHOOK)  # fmt: skip
    table = read_intervals("")
    team = PollPolicy(connector=slow, tier=Tier.TEAM, configured=True, table=table)
    assert because(team, "owners", ["contacts"]) == (
        "Made Up allows no more (TEAM would have it hourly)"
    )
    assert because(team, "contacts", ["contacts"]) == "TEAM and PUSH"


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (1, "every minute"), (5, "every 5 minutes"), (60, "hourly"), (90, "every 90 minutes"),
        (360, "every 6 hours"), (1_440, "daily"), (2_880, "every 2 days"), (10_080, "weekly"),
        (20_160, "every 2 weeks"),
    ],
)  # fmt: skip
def test_an_interval_is_told_as_people_say_it(minutes: int, words: str) -> None:
    assert in_words(timedelta(minutes=minutes)) == words


def test_a_time_of_another_day_has_its_date() -> None:
    at = datetime(2026, 11, 24, 14, 20, tzinfo=UTC)
    assert in_utc(at, at.replace(hour=1)) == "14:20 UTC"
    assert in_utc(at, at - timedelta(days=1)) == "2026-11-24 14:20 UTC"


async def test_the_command_explains_one_connection(
    database_url: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet.make(1, tier="TEAM", integration="hubspot", prefix="acme")
    fleet.make(1, tier="TEAM", integration="openai", prefix="keyed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, value in configured(database_url).environment().items():
        monkeypatch.setenv(name, value)

    async def typed(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["status", *words])

    told = await typed("acme-1/hubspot")
    assert told.exit_code == 0
    assert told.output.startswith("acme-1/hubspot, account a-1: active\n")
    assert "owners: hourly, because TEAM and no webhook covers it" in told.output.replace("\n", " ")
    found = json.loads((await typed("acme-1/hubspot", "--json")).stdout)
    assert (found["tenant"], found["tier"], found["status"]) == ("acme-1", "TEAM", "active")
    assert {each["stream"]: each["interval_seconds"] for each in found["streams"]}["owners"] == 3600
    assert found["webhooks"]["streams"] == []
    assert datetime.fromisoformat(found["next_at"]) > datetime.now(UTC)
    assert isinstance((await typed("acme-1/gmail")).exception, NotFoundError)
    assert isinstance((await typed("acme-1")).exception, LookupError)
    assert "nothing of it is synced" in str((await typed("keyed-1/openai")).exception)


async def test_what_of_a_stream_is_not_there_yet_is_told(database_url: str, fleet: Fleet) -> None:
    (connection_id,) = fleet.make(1, tier="TEAM", integration="slack")
    fleet.sql(
        "INSERT INTO checkpoints (tenant_id, connection_id, stream, state, unread, refill, refusal)"
        " SELECT tenant_id, id, 'messages', '{}',"
        ' \'[{"part": "C7", "failure": "not allowed", "error": "nobody let us in"}]\', \'{}\','
        " 'the plan has no messages' FROM connections"
    )
    lines = await said(configured(database_url), fleet, connection_id, datetime.now(UTC))
    assert lines[-3:] == [
        "messages: C7 cannot be read: nobody let us in",
        "messages is refused, and asked for again by the next sync: the plan has no messages",
        "older rows are given the fields that they lack: messages",
    ]
    (row,) = (row for row in await status_rows(fleet.database) if row["stream"] == "messages")
    assert (row["refills"], [one["part"] for one in row["unread"]]) == (True, ["C7"])
    shown = StringIO()
    print_status([row], Console(width=100, file=shown))
    assert "refused, 1 unread, filling in fields" in shown.getvalue()
    assert "    messages: C7: nobody let us in\n" in shown.getvalue()
