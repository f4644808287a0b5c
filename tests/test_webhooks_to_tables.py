"""From a change at the vendor into the tables, by webhook alone: the sandbox's own deliveries, our
web process, the inbox, and the flows that apply it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psycopg
import pytest

from connectors import Webhook, load
from connectors.box.events import ALL
from connectors.monday.watches import STREAMS as ON_BOARDS
from flows.events import drain_events, sync_events
from flows.sync import sync
from flows.watches import renew_watches
from settings import read
from settings.webhooks import address_of
from storage import connections
from tests._sandboxed import Sandboxed
from tests._serving import serving
from web.app import create_app

SECRET = "canary-nextauth-secret-of-enough-characters"
# The others have tests of their own below.
ALIKE = (
    "airtable", "box", "dropbox", "github", "gmail", "google_calendar", "google_drive", "hubspot",
    "jira", "linear", "notion", "onedrive", "quickbooks", "shopify", "stripe", "xero",
)  # fmt: skip
# Of Teams we ask three times a second, so a test makes no more of it than it needs.
SIZES = {"ms_teams": 0}
# GitHub tells neither that a run was deleted nor that comments went with their issue, Linear not
# what went with an issue, Notion not that comments went with their page: an audit finds those. Box
# tells of a folder that goes, and not of what is in it: a walk finds that, an hour later.
UNTOLD = {
    "github": {"issue_comments", "workflow_runs"},
    "linear": {"attachments", "comments"},
    "notion": {"comments"},
    "box": {"folder_items", "files", "collaborations", "comments", "tasks"},
}
# What is hinted at is read up to date; but Box does not tell of every change.
HINTED = {"box": ALL, "monday": ON_BOARDS}
OF_THREAD = {"thread_ts", "reply_count", "reply_users_count", "reply_users", "latest_reply"}


@dataclass(frozen=True)
class Line:
    """A connection whose vendor delivers to our web process, and nothing but that is read by."""

    world: Sandboxed
    connection: connections.Connection

    @property
    def name(self) -> str:
        return self.connection.integration

    @property
    def told_of(self) -> tuple[str, ...]:
        """The streams that its webhooks bring up to date."""
        return HINTED.get(self.name, self.webhook.covers)

    @property
    def webhook(self) -> Webhook:
        found = load(self.name).webhook
        assert found is not None
        return found

    async def control(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """In a thread: what the vendor does may need an answer of ours."""
        return await asyncio.to_thread(
            self.world.control, method, f"/{self.name}{path}", body, **query
        )

    async def change(self, stream: str, op: str, id: str | None = None, **record: Any) -> str:
        body = {"op": op, "id": id, "record": record}
        account = self.connection.account_id
        return str((await self.control("POST", f"/records/{stream}", body, account=account))["id"])

    async def begins(self) -> dict[str, dict[str, Any]]:
        """The vendor delivers from now on; what is stored of the account then, which is all."""
        if load(self.name).watch is not None:
            state: Any = await renew_watches(return_state=True)
            assert state.is_completed(), state.message
        if self.webhook.verified_by:
            url = address_of(read(), self.name)
            settings = {"verified": True} if self.name == "slack" else {}
            await self.control("POST", "/webhook", {"url": url, **settings})
        state = await sync(self.connection.id, return_state=True)
        assert state.is_completed(), state.message
        await self.told()
        await self.applied()
        first = self.stored()
        assert first == self.vendor()
        return first

    async def told(self) -> list[tuple[str, str]]:
        """The types and effects of what came since the last step, once all is delivered; none of
        it is applied."""
        async with asyncio.timeout(60):
            await self._settled()
        with psycopg.connect(self.world.database_url) as sql:
            rows = sql.execute(
                "SELECT type, data->>'effect' FROM events WHERE applied_at IS NULL ORDER BY id"
            ).fetchall()
        return [(str(type), str(effect)) for type, effect in rows]

    async def _settled(self) -> None:
        while True:
            found = await self.control("GET", "/deliveries")
            if found["idle"]:
                assert found["failed"] == 0
                return
            await asyncio.sleep(0.02)

    async def applied(self) -> None:
        """What a drain does once for this connection."""
        state: Any = await sync_events(self.name, [self.connection.id], return_state=True)
        assert state.is_completed(), state.message
        self.nothing_is_left()

    async def drained(self) -> None:
        state: Any = await drain_events(0, return_state=True)
        assert state.is_completed(), state.message
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        # What was made and deleted before it could be read is asked for again in a minute.
        left = "SELECT count(*) FROM events WHERE applied_at IS NULL AND due_at <= now()"
        assert self.world.one(left) == 0
        dirty = "SELECT count(*) FROM checkpoints WHERE dirty_generation > read_generation"
        assert self.world.one(dirty) == 0

    def gaps(self) -> list[tuple[Any, ...]]:
        """Since and until when, in seconds, why, and whether it is closed."""
        with psycopg.connect(self.world.database_url) as sql:
            return sql.execute(
                "SELECT extract(epoch FROM since)::int, extract(epoch FROM until)::int, reason,"
                " closed_at IS NOT NULL FROM gaps ORDER BY since"
            ).fetchall()

    def stored(self) -> dict[str, dict[str, Any]]:
        return self._covered(self.world.stored(self.connection))

    def vendor(self) -> dict[str, dict[str, Any]]:
        return self._covered(self.world.vendor(self.connection))

    def _covered(self, held: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found = {stream: held.get(stream, {}) for stream in self.told_of}
        if self.name == "slack":
            found["messages"] = {key: _alone(row) for key, row in found["messages"].items()}
        return found


def _alone(message: dict[str, Any]) -> dict[str, Any]:
    """A message of Slack's without what it shows of its thread: no event tells that."""
    if message.get("thread_ts") != message["ts"]:
        return message
    return {name: value for name, value in message.items() if name not in OF_THREAD}


@pytest.fixture
async def line(
    request: pytest.FixtureRequest, world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Line]:
    """A new account at the vendor that a test names, connected."""
    name: str = request.param
    described, webhook = world.control("GET", "")[name], load(name).webhook
    with socket.create_server(("127.0.0.1", 0)) as listening:
        variables = {
            "NEXTAUTH_URL": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "NEXTAUTH_SECRET": SECRET,
            "JWT_SECRET": SECRET[::-1],
            "ATOM_DRAIN_LINGER_SECONDS": "1",
        }
        if webhook is not None and webhook.verified_by:
            variables[webhook.verified_by] = described["webhook_secret"]
        for variable, value in {**variables, **described.get("variables", {})}.items():
            monkeypatch.setenv(variable, value)
        world.control("DELETE", f"/{name}/deliveries")
        async with serving(create_app(read()), listening):
            yield Line(world, await world.connect(name, size=SIZES.get(name, 5)))
            world.control("DELETE", f"/{name}/deliveries")


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("line", [name], indirect=True)


@pytest.mark.parametrize("line", ALIKE, indirect=True)
async def test_whatever_changes_comes_into_the_tables(line: Line) -> None:
    await line.begins()
    mutable = import_module(f"sandbox.{line.name}").vendor.mutable
    streams = [stream for stream in line.told_of if stream in mutable]
    account = line.connection.account_id
    for seed, apply in enumerate((line.drained, line.applied)):
        former = line.stored()
        body = {"account": account, "count": 20, "seed": seed, "streams": streams}
        await line.control("POST", "/mutate", body)
        assert await line.told()
        assert line.stored() == former, "nothing is applied yet"
        await apply()
        held = line.stored()
        assert held != former
        vendor = line.vendor()
        for stream in UNTOLD.get(line.name, ()):
            held[stream] = {key: row for key, row in held[stream].items() if key in vendor[stream]}
        assert held == vendor


@of("outlook")
async def test_a_mail_an_appointment_and_a_contact_come_change_and_go(line: Line) -> None:
    first = await line.begins()
    assert first["messages"]

    mail = await line.change("messages", "add", subject="Offer", isRead=False, files=1)
    appointment = await line.change("events", "add", subject="Meeting")
    contact = await line.change("contacts", "add", displayName="Ada Vega")
    told = await line.told()
    assert told == [("created", "hint")] * 3
    assert line.stored() == first, "nothing is applied yet"
    await line.drained()
    held = line.stored()
    assert held == line.vendor()
    assert held["messages"][mail]["subject"] == "Offer"
    assert len(held["attachments"]) == len(first["attachments"]) + 1
    assert {appointment} <= held["events"].keys()
    assert {contact} <= held["contacts"].keys()

    await line.change("messages", "change", mail, isRead=True, subject="Offer, signed")
    await line.change("events", "change", appointment, subject="Long meeting")
    await line.change("contacts", "change", contact, jobTitle="Captain")
    assert await line.told() == [("updated", "hint")] * 3
    await line.applied()
    held = line.stored()
    assert held == line.vendor()
    assert held["messages"][mail]["subject"] == "Offer, signed"

    await line.change("messages", "delete", mail)
    await line.change("events", "delete", appointment)
    await line.change("contacts", "delete", contact)
    assert await line.told() == [("deleted", "hint")] * 3
    await line.applied()
    assert line.stored() == line.vendor() == first


@of("ms_teams")
async def test_what_is_said_in_a_channel_and_a_chat_comes_is_edited_and_goes(line: Line) -> None:
    team = await line.change("teams", "add")
    chat = await line.change("chats", "add")
    first = await line.begins()
    assert first["channel_messages"]

    message = await line.change("channel_messages", "add", text="Who comes?")
    reply = await line.change("message_replies", "add", message=message, text="I do")
    other = await line.change("message_replies", "add", message=message, text="Not me")
    said = await line.change("chat_messages", "add", chat=chat, text="Lunch?")
    assert sorted(await line.told()) == [("created", "read")] * 4
    assert line.stored() == first, "nothing is applied yet"
    await line.drained()
    held = line.stored()
    assert held == line.vendor()
    assert held["channel_messages"][message]["team_id"] == team
    assert held["message_replies"][reply]["body"]["content"] == "I do"
    assert held["chat_messages"].keys() - first["chat_messages"].keys() == {said}

    await line.change("channel_messages", "change", message, text="Who comes along?")
    await line.change("message_replies", "change", reply, text="I cannot")
    await line.change("message_replies", "delete", other)
    await line.change("chat_messages", "change", said, text="Dinner?")
    assert sorted(await line.told()) == [("deleted", "read"), *[("updated", "read")] * 3]
    await line.applied()
    held = line.stored()
    assert held == line.vendor()
    assert held["channel_messages"][message]["body"]["content"] == "Who comes along?"
    assert held["message_replies"].keys() - first["message_replies"].keys() == {reply}

    await line.change("message_replies", "delete", reply)
    await line.change("channel_messages", "delete", message)
    await line.change("chat_messages", "delete", said)
    assert sorted(await line.told()) == [("deleted", "read")] * 3
    await line.applied()
    assert line.stored() == line.vendor() == first


@of("slack")
async def test_a_slack_message_is_answered_edited_and_deleted(line: Line) -> None:
    first = await line.begins()
    assert first["messages"]

    message = await line.change("messages", "add", text="Who comes?")
    answered = await line.change("messages", "add", text="Where?")
    reply = await line.change("thread_replies", "add", thread=answered, broadcast=False)
    shown = await line.change("thread_replies", "add", thread=answered, broadcast=True)
    user = await line.change("users", "add")
    assert sorted(await line.told()) == [
        ("message", "record"), ("message", "record"), ("message", "record"),
        *[("message.thread_broadcast", "record")] * 2, ("team_join", "record"),
    ]  # fmt: skip
    assert line.stored() == first, "nothing is applied yet"
    await line.drained()
    held = line.stored()
    assert held == line.vendor()
    assert held["messages"].keys() - first["messages"].keys() == {message, answered, shown}
    assert held["thread_replies"].keys() - first["thread_replies"].keys() == {reply, shown}
    assert user in held["users"]

    await line.change("messages", "change", message, text="Who comes along?")
    await line.change("thread_replies", "change", reply, text="Here")
    await line.change("thread_replies", "delete", shown)
    assert sorted(await line.told()) == [
        *[("message.message_changed", "record")] * 2, *[("message.message_deleted", "deleted")] * 2,
    ]  # fmt: skip
    await line.applied()
    held = line.stored()
    assert held == line.vendor()
    assert held["messages"][message]["text"] == "Who comes along?"
    assert held["thread_replies"][reply]["text"] == "Here"

    await line.change("messages", "delete", message)
    await line.change("messages", "delete", answered)  # it has a reply: a stone is left
    assert sorted(await line.told()) == [
        ("message.message_changed", "record"), ("message.message_deleted", "deleted"),
    ]  # fmt: skip
    await line.applied()
    held = line.stored()
    assert held == line.vendor()
    assert message not in held["messages"]
    assert held["messages"][answered]["subtype"] == "tombstone"


@of("slack")
async def test_what_slack_dropped_in_a_minute_is_a_gap_that_a_read_closes_after_it(
    line: Line,
) -> None:
    first = await line.begins()
    assert first["messages"]
    await line.control("POST", "/deliveries", {"drop": 3})
    message = await line.change("messages", "add", text="Nobody is told of this")
    newest = max(first["messages"], key=lambda key: float(key.rpartition("/")[2]))
    await line.change("messages", "change", newest, text="Nor of this")
    user = await line.change("users", "add")
    minute = int(time.time()) // 60 * 60
    await line.control("POST", "/deliveries", {"duplicate": 1})
    later = minute + 3600
    for started in (minute - 60, later):
        told = {"type": "app_rate_limited", "minute_rate_limited": started}
        team = line.connection.account_id
        await line.control("POST", "/tell", {"account": team, "event": {**told, "team_id": team}})
    assert await line.told() == [("app_rate_limited", "missed")] * 2
    await line.drained()
    assert line.stored() == first, "a minute may not be over when Slack tells of it"
    assert line.gaps() == [
        (minute - 60, minute, "Slack could not tell us everything", False),
        (later, later + 60, "Slack could not tell us everything", False),
    ]

    state: Any = await renew_watches(return_state=True)
    assert state.message == "1 gaps closed"
    assert [closed for *_, closed in line.gaps()] == [True, False]
    held = line.stored()
    assert held == line.vendor()
    assert {message} <= held["messages"].keys()
    assert {user} <= held["users"].keys()


@of("monday")
async def test_items_subitems_and_updates_come_change_and_go_and_a_poll_finds_the_rest(
    line: Line,
) -> None:
    first = await line.begins()
    assert first["column_values"]
    board = min(key.split("/")[0] for key in first["items"])

    item = await line.change("items", "add", board_id=board, name="Offer")
    subitem = await line.change("subitems", "add", name="Draft")
    update = await line.change("updates", "add", body="Sent")
    told = await line.told()
    assert {type for type, _ in told} == {"create_pulse", "create_update"}
    assert {effect for _, effect in told} == {"read"}
    assert line.stored() == first, "nothing is applied yet"
    await line.drained()
    held = line.stored()
    assert held == line.vendor()
    assert held["items"][item]["name"] == "Offer"
    assert any(key.startswith(f"{item}/") for key in held["column_values"])
    assert {subitem} <= held["subitems"].keys()

    await line.change("items", "change", item, name="Offer, signed")
    await line.change("updates", "change", update, body="Sent twice")
    await line.change("subitems", "delete", subitem)
    assert {type for type, _ in await line.told()} >= {"update_name", "edit_update"}
    await line.applied()
    held = line.stored()
    assert held == line.vendor()
    assert held["items"][item]["name"] == "Offer, signed"
    assert subitem not in held["subitems"]

    await line.change("updates", "delete", update)
    await line.change("items", "delete", item)
    # Nobody is told of an item that moves to another board, nor of what goes with one.
    await line.control(
        "POST", "/mutate", {"account": line.connection.account_id, "count": 20, "seed": 3,
                            "streams": [*ON_BOARDS[:2], "updates"]},
    )  # fmt: skip
    await line.told()
    await line.applied()
    held = line.stored()
    assert item not in held["items"]
    assert not any(key.startswith(f"{item}/") for key in held["column_values"])
    assert update not in held["updates"]
    state: Any = await sync(line.connection.id, return_state=True)
    assert state.is_completed(), state.message
    held, vendor = line.stored(), line.vendor()
    assert held["items"] == vendor["items"]
    assert held["subitems"] == vendor["subitems"]
    assert held["column_values"] == vendor["column_values"]


@of("zoho_crm")
async def test_a_lead_comes_changes_and_goes_although_its_stream_is_not_covered(line: Line) -> None:
    await line.begins()

    def held() -> dict[str, Any]:
        return line.world.stored(line.connection).get("leads", {})

    first = held()
    lead = await line.change("leads", "add", Last_Name="Vega")
    assert await line.told() == [("Leads.insert", "hint")]
    assert held() == first, "nothing is applied yet"
    await line.drained()
    assert held()[lead]["Last_Name"] == "Vega"
    await line.change("leads", "change", lead, Last_Name="Vega-Ruiz")
    assert await line.told() == [("Leads.update", "hint")]
    await line.applied()
    assert held() == line.world.vendor(line.connection)["leads"]
    await line.change("leads", "delete", lead)
    assert await line.told() == [("Leads.delete", "hint")]
    await line.applied()
    assert held() == first
