"""What is owed after a connection: its backfill, a choice of accounts, a token given back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun

from connectors import Account
from connectors.kernel.token_answers import Tokens
from deployments.prefect_yaml import deploy
from storage import connect_sessions, tenants
from storage.connect_sessions import PendingConsent
from storage.database import Database
from storage.reconnect_links import Link, sign
from storage.vault import Vault
from tests._connecting import NEXTAUTH_SECRET, Connecting, connecting, note
from tests._sandboxed import KEY
from tests._waiting import until
from web._state import Signer, State
from web.callback import CHOOSE


@pytest.fixture
def ours(origin: str, database_url: str) -> Iterator[Connecting]:
    with connecting(origin, database_url, ["hubspot", "gmail"]) as application:
        yield application


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme", "TEAM")).id


@contextlib.asynccontextmanager
async def passed_on(port: int, to: str) -> AsyncIterator[None]:
    """What comes to that port is passed on to the server there."""
    target = urlsplit(to)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(pump(reader, there), pump(there_reader, writer))

    async with await asyncio.start_server(both, "127.0.0.1", port):
        yield


async def runs_of(prefect_url: str, connection_id: UUID) -> list[FlowRun]:
    """Those that a connecting tenant's backfill was asked for with."""
    asked = FlowRunFilter(name=FlowRunFilterName(like_="connect"))
    async with PrefectClient(prefect_url) as client:
        runs = await client.read_flow_runs(flow_run_filter=asked)
    return [run for run in runs if run.parameters.get("connection_id") == str(connection_id)]


async def test_a_backfill_owed_while_prefect_is_away_is_started_once_it_is_back(
    origin: str, database_url: str, prefect_url: str, acme: UUID, unused_port: int
) -> None:
    async with PrefectClient(prefect_url) as client:
        await deploy(client)
    api = f"http://127.0.0.1:{unused_port}/api"
    with connecting(origin, database_url, ["hubspot"], prefect_api_url=api) as ours:
        person, page = ours.visitor(acme)
        page = await asyncio.to_thread(person.connect, page, "hubspot", ours.account("hubspot"))
        assert note(page)[0] == "done"
        (row,) = ours.rows("SELECT id, backfill_owed_at FROM connections")
        assert row["backfill_owed_at"] is not None
        assert await runs_of(prefect_url, row["id"]) == []
    # The process is gone as well; the next one finds what is owed.
    with connecting(origin, database_url, ["hubspot"], prefect_api_url=api) as ours:
        async with passed_on(unused_port, prefect_url):
            await until(
                lambda: (
                    not ours.rows("SELECT 1 FROM connections WHERE backfill_owed_at > '2000-1-1'")
                )
            )
    (run,) = await runs_of(prefect_url, row["id"])
    assert run.name == "hubspot · acme · connect"
    # It was owed still when Prefect had taken it: asking again starts no second run.
    with connecting(origin, database_url, ["hubspot"], prefect_api_url=prefect_url) as ours:
        ours.rows("UPDATE connections SET backfill_owed_at = %s", row["backfill_owed_at"])
        await until(
            lambda: ours.rows("SELECT backfill_owed_at AS at FROM connections")[0]["at"] is None
        )
    assert len(await runs_of(prefect_url, row["id"])) == 1


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


async def test_of_several_accounts_only_the_chosen_are_connected(
    ours: Connecting, acme: UUID, database: Database
) -> None:
    person, page = ours.visitor(acme)
    signer = Signer(NEXTAUTH_SECRET.encode(), secure=False)
    browser = signer.browser(person.http.cookies["atom-connect"])
    session = await connect_sessions.of_browser(
        database, UUID(str(page.url).rpartition("/")[2]), browser or ""
    )
    state_id, _ = await connect_sessions.begin(database, session, "hubspot")
    tokens = Tokens("canary-access", "canary-refresh", None, (), {"x": 1})
    accounts = (Account("1", "One <b>"), Account("2", "Two"), Account("3", "Three", {"y": 2}))
    vault = Vault.parse(KEY)
    await connect_sessions.hold(
        database, vault, session, state_id, PendingConsent("hubspot", tokens, accounts)
    )
    (held,) = ours.rows("SELECT held FROM oauth_states")
    assert "canary" not in held["held"]
    where = f"/connect/{session.id}/accounts/{state_id}"
    page = person.get(where)
    assert "One &lt;b&gt;" in page.text
    assert "canary" not in page.text
    assert ours.person().get(where).status_code == 403
    assert "Choose at least one" in person.press(page, where).text
    # What is no account of the consent does not use it up.
    assert "Choose at least one" in person.press(page, where, account="nonsense").text
    page2 = person.press(page, where, account=["3", "1", "nonsense"])
    assert note(page2)[1].startswith("HubSpot is connected: One <b>, Three.")
    found = ours.rows("SELECT account_id, config FROM connections ORDER BY account_id")
    assert [row["account_id"] for row in found] == ["1", "3"]
    assert found[1]["config"] == {"y": 2}
    assert ours.rows("SELECT held FROM oauth_states") == [{"held": None}]
    assert person.press(page, where, account="2").status_code == 410


async def test_who_comes_back_again_is_led_to_the_choice_and_once_it_is_made_told_of_it(
    ours: Connecting, acme: UUID, database: Database
) -> None:
    person, page = ours.visitor(acme)
    signer = Signer(NEXTAUTH_SECRET.encode(), secure=False)
    browser = signer.browser(person.http.cookies["atom-connect"]) or ""
    session_id = UUID(str(page.url).rpartition("/")[2])
    session = await connect_sessions.of_browser(database, session_id, browser)
    state_id, nonce = await connect_sessions.begin(database, session, "hubspot")
    state = State(state_id, acme, nonce, "hubspot")
    await connect_sessions.redeem(
        database, tenant_id=acme, state_id=state_id, nonce=nonce, integration="hubspot",
        browser=browser,
    )  # fmt: skip
    accounts = (Account("1", "One"), Account("2", "Two"))
    held = PendingConsent("hubspot", Tokens("canary-access", None, None, ()), accounts)
    await connect_sessions.hold(database, Vault.parse(KEY), session, state_id, held)
    await connect_sessions.settle(database, session, state_id, CHOOSE)
    back = f"/api/integrations/callback?code=c&state={signer.state(state, browser)}"
    page = person.get(back)
    where = f"/connect/{session.id}/accounts/{state_id}"
    assert page.url.path == where
    told = note(person.press(page, where, account=["1"]))
    assert told[1].startswith("HubSpot is connected: One.")
    assert note(person.get(back)) == told


async def test_a_grant_that_other_accounts_use_is_kept_until_the_last_of_them_ends(
    ours: Connecting, acme: UUID, database: Database
) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    ours.rows(
        "INSERT INTO connections (id, grant_id, tenant_id, integration, account_id)"
        " SELECT gen_random_uuid(), grant_id, tenant_id, integration, 'second' FROM connections"
    )
    first, second = ours.rows("SELECT id FROM connections ORDER BY account_id = 'second'")
    page = person.get(str(page.url))
    page = person.press(page, f"disconnect/{first['id']}")
    assert len(ours.rows("SELECT 1 FROM tenant_settings")) == 1
    assert "was kept" in ours.rows("SELECT message FROM oauth_log ORDER BY id DESC")[0]["message"]
    person.press(page, f"disconnect/{second['id']}")
    assert ours.rows("SELECT 1 FROM tenant_settings") == []
    assert ours.rows("SELECT event FROM oauth_log ORDER BY id DESC")[0] == {"event": "revoke"}


def refuse_revocations(ours: Connecting, count: int) -> None:
    fault = {"kind": "unauthorized", "path": "/token/revoke", "count": count}
    ours.control("/hubspot/faults", fault)


async def test_a_vendor_that_cannot_be_told_does_not_block_and_is_told_later(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    (row,) = ours.rows("SELECT id FROM connections")
    refuse_revocations(ours, 1)
    page = person.press(page, f"disconnect/{row['id']}")
    assert note(page)[0] == "done"
    assert ours.rows("SELECT status FROM connections") == [{"status": "revoked"}]
    assert ours.rows("SELECT 1 FROM tenant_settings") == []
    (owed,) = ours.rows(
        "SELECT attempts, sealed_token, next_attempt_at > now() AS later FROM revocations"
    )
    assert (owed["attempts"], owed["later"]) == (1, True)
    ours.rows("UPDATE revocations SET next_attempt_at = now()")
    await until(lambda: not ours.rows("SELECT 1 FROM revocations"))
    events = [row["event"] for row in ours.rows("SELECT event FROM oauth_log ORDER BY id")]
    assert events == ["connect", "disconnect", "failure", "revoke"]


async def test_a_vendor_is_asked_a_few_times_and_then_the_log_says_what_to_do(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    (row,) = ours.rows("SELECT id FROM connections")
    refuse_revocations(ours, 2)
    person.press(page, f"disconnect/{row['id']}")
    ours.rows("UPDATE revocations SET attempts = 4, next_attempt_at = now()")
    await until(lambda: not ours.rows("SELECT 1 FROM revocations"))
    (last,) = ours.rows("SELECT event, message FROM oauth_log ORDER BY id DESC LIMIT 1")
    assert last["event"] == "failure"
    assert "it was asked 5 times: remove our app in HubSpot's own settings" in last["message"]


async def test_a_token_whose_account_is_in_use_elsewhere_is_not_given_back(
    ours: Connecting, acme: UUID, database: Database
) -> None:
    second = (await tenants.create(database, "second", "Second", "TEAM")).id
    account = ours.account("gmail")
    person, page = ours.visitor(acme)
    page = person.connect(page, "gmail", account)
    someone, their_page = ours.visitor(second)
    someone.connect(their_page, "gmail", account)
    before = ours.requests("gmail")
    (row,) = ours.rows("SELECT id FROM connections WHERE tenant_id = %s", acme)
    page = person.press(person.get(str(page.url)), f"disconnect/{row['id']}")
    assert note(page)[0] == "done"
    assert ours.requests("gmail").get("/revoke", 0) == before.get("/revoke", 0)
    (last,) = ours.rows("SELECT detail FROM oauth_log ORDER BY id DESC LIMIT 1")
    assert last["detail"]["outcome"] == "kept"


async def test_what_one_of_googles_integrations_ends_ends_none_of_the_others(
    ours: Connecting, acme: UUID
) -> None:
    account = ours.account("gmail")
    person, page = ours.visitor(acme)
    page = person.connect(page, "gmail", account)
    for integration in ("google_calendar", "google_drive"):
        page = person.connect(person.get(str(page.url)), integration, account)
        assert note(page)[0] == "done"
    before = ours.requests("gmail")
    (row,) = ours.rows("SELECT id FROM connections WHERE integration = 'gmail'")
    assert note(person.press(page, f"disconnect/{row['id']}"))[0] == "done"
    assert ours.requests("gmail").get("/revoke", 0) == before.get("/revoke", 0)
    left = ours.rows("SELECT account_id, status FROM connections WHERE integration <> 'gmail'")
    assert left == [{"account_id": account, "status": "active"}] * 2


async def test_a_link_in_a_mail_opens_a_session_while_the_grant_is_broken(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    account = ours.account("hubspot")
    person.connect(page, "hubspot", account)
    (grant,) = ours.rows("SELECT id FROM grants")
    ends = datetime.now(UTC) + timedelta(days=1)
    where = f"/reconnect/{sign(NEXTAUTH_SECRET, Link(acme, grant['id'], ends))}"
    reader = ours.person()
    assert reader.get(where).status_code == 410
    ours.rows("UPDATE connections SET status = 'needs_reauth'")
    assert "Continue" in reader.get(where, **{"sec-fetch-dest": "empty"}).text
    page = reader.get(where)
    assert "Needs attention" in page.text
    assert "Gmail" not in page.text
    assert note(reader.connect(page, "hubspot", account))[0] == "done"
    assert reader.get(where).status_code == 410
    forged = f"/reconnect/{sign('another secret', Link(acme, grant['id'], ends))}"
    ours.rows("UPDATE connections SET status = 'needs_reauth'")
    assert reader.get(forged).status_code == 410
