"""`status` of many connections: a summary, what is wrong, and what is asked for."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from cli import status
from storage import connections, tenant_settings
from storage.database import Database
from storage.standing import Standing, State, ids, summary
from storage.vault import Vault
from tests._sandboxed import KEY
from tests._stored import Stocked, row, stock, write
from tests._web import web_settings


@pytest.fixture
async def some(database: Database) -> list[Stocked]:
    """Five tenants: two whose connection is broken, one that is paused, two that are well."""
    made = [await stock(database, f"tenant-{number}") for number in range(5)]
    wanted = ("needs_reauth", "needs_reauth", "paused", "active", "active")
    for stocked, status_of in zip(made, wanted, strict=True):
        async with database.transaction(stocked.tenant_id) as session:
            reason = "it ended" if status_of == "needs_reauth" else None
            await connections.set_status(session, stocked.connection_id, status_of, reason)
        await write(database, stocked, [row("1"), row("2")])
    return made


async def shown(database: Database, **chosen: Any) -> str:
    written = io.StringIO()
    await status.show_status(database, Console(file=written, width=100), **chosen)
    return written.getvalue()


async def test_few_connections_are_listed_and_many_summed_up(
    database: Database, some: list[Stocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await shown(database)
    assert table.count("contacts") == 5
    monkeypatch.setattr(status, "MOST_AT_ONCE", 4)
    monkeypatch.setattr(status, "MOST_CARDS", 1)
    told = await shown(database)
    assert "contacts" not in told
    assert "✗ tenant-0/hubspot" in told
    assert "tenant-1" not in told
    assert "connections as they should be: 3 of 5; 1 more are listed by `--state wrong`" in told
    (hubspot,) = await summary(database)
    assert hubspot == Standing("hubspot", 5, 2, 2, 1, 0, 0, hubspot.rows)


async def test_what_is_listed_can_be_chosen(database: Database, some: list[Stocked]) -> None:
    by_state = {state: await ids(database, state=state) for state in State}
    all_ids = [stocked.connection_id for stocked in some]
    assert by_state == {
        State.WELL: all_ids[3:], State.WRONG: all_ids[:2], State.BROKEN: all_ids[:2],
        State.PAUSED: all_ids[2:3], State.LATE: [],
    }  # fmt: skip
    assert await ids(database, tenant="tenant-3") == all_ids[3:4]
    assert await ids(database, integration="slack") == []
    assert await ids(database, tenant="tenant-0", state=State.WELL) == []
    assert "no connection is so" in await shown(database, tenant="nobody")
    assert (await shown(database, state=State.PAUSED)).count("hubspot") == 1


async def test_what_is_printed_for_machines_is_every_row_whatever_their_number(
    database: Database,
    database_url: str,
    some: list[Stocked],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(status, "CHUNK", 2)
    monkeypatch.setattr(status, "MOST_AT_ONCE", 1)
    settings = web_settings(database_url)
    await status._stream(settings, {})
    rows = json.loads(capsys.readouterr().out)
    assert [each["tenant"] for each in rows if each["stream"] == "contacts"] == [
        f"tenant-{number}" for number in range(5)
    ]
    assert {each["rows"] for each in rows if each["stream"] == "contacts"} == {2}
    await status._stream(settings, {"tenant": "nobody"})
    assert json.loads(capsys.readouterr().out) == []


async def test_a_key_that_no_vendor_has_accepted_is_listed_with_what_it_said(
    database: Database, some: list[Stocked]
) -> None:
    vault, said = Vault.parse(KEY), {"doubt": "limited", "message": "OpenAI answered 429 [b]"}
    for stocked, unproven in ((some[0], said), (some[1], None)):
        async with database.transaction(stocked.tenant_id) as session:
            await tenant_settings.put(
                session, vault, stocked.tenant_id, "OPENAI_API_KEY", "sk-canary", unproven=unproven
            )
    written = io.StringIO()
    await status.show_keys(database, Console(file=written, width=100))
    assert written.getvalue() == "✗ tenant-0, OPENAI_API_KEY: OpenAI answered 429 [b]\n"
