"""What runs by itself: grants kept alive, tenants told, on a real Prefect server."""

from typing import Any
from uuid import UUID

import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State

from deployments.prefect_yaml import deploy
from flows.keep_alive import ARTIFACT, keep_alive
from flows.notify import notify
from storage import connections
from tests._mailbox import Mailbox, smtp
from tests._sandboxed import Sandboxed
from tests._waiting import found

UNUSED = "UPDATE grants SET refreshed_at = now() - interval '60 days', expires_at = now()"


async def kept() -> State[Any]:
    state: State[Any] = await keep_alive(spread_seconds=0, return_state=True)
    return state


async def notified() -> State[Any]:
    state: State[Any] = await notify(return_state=True)
    return state


async def lines_of(state: State[Any]) -> list[str]:
    """The run's log in the Prefect API, to which it is sent in batches."""
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    asked = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    async with get_client() as client:

        async def all_of_them() -> list[str]:
            lines = [line.message for line in await client.read_logs(asked)]
            return lines if any("Finished in state" in line for line in lines) else []

        return await found(all_of_them)


async def test_grants_are_kept_alive_before_their_vendor_forgets_them(world: Sandboxed) -> None:
    connection = await world.connect("quickbooks")
    assert (await kept()).message == "no grant is at risk"
    world.run(UNUSED)
    before, began = world.asked("quickbooks", "token"), world.one("SELECT now()")
    state = await kept()
    assert state.is_completed()
    assert state.message == "1 kept alive"
    assert world.asked("quickbooks", "token") == before + 1
    assert world.one("SELECT refreshed_at FROM grants") > began
    assert (await kept()).message == "no grant is at risk"
    assert f"quickbooks, grant {connection.grant_id}: refresh refreshed" in await lines_of(state)


async def test_what_goes_wrong_with_one_grant_leaves_the_others_alone(world: Sandboxed) -> None:
    over = await world.connect("quickbooks", tenant="over")
    good = await world.connect("quickbooks", tenant="good")
    slow = await world.connect("gmail", tenant="slow")
    world.run(UNUSED)
    world.run("UPDATE grants SET refreshed_at = now() - interval '120 days'")
    world.control("POST", "/quickbooks/tokens", {"account": over.account_id, "op": "revoke"})
    world.fault("gmail", "503", path="/token", count=9)
    state = await kept()
    assert state.is_completed()
    assert set((state.message or "").split("; ")) == {
        "1 kept alive",
        "1 waits for its tenant",
        "1 tried again later",
    }
    assert world.connection_status(over.id) == "needs_reauth"
    assert world.connection_status(good.id) == "active"
    assert world.connection_status(slow.id) == "active"
    lines = "\n".join(await lines_of(state))
    assert f"quickbooks, grant {over.grant_id}: failure refused" in lines
    assert f"slow/gmail, grant {slow.grant_id}: tried again later" in lines
    artifact = await Artifact.aget(ARTIFACT)
    table = str(artifact.data if artifact else None)
    assert all(name in table for name in ("over/quickbooks", "good/quickbooks", "slow/gmail"))
    assert "invalid_grant" in table


async def test_an_interrupted_refresh_is_brought_to_its_end(world: Sandboxed) -> None:
    await world.connect("quickbooks")
    world.run(
        "UPDATE grants SET refresh_id = gen_random_uuid(),"
        " refresh_started_at = now() - interval '10 min'"
    )
    assert (await kept()).message == "1 interrupted refresh completed"
    assert world.one("SELECT refresh_id FROM grants") is None


async def test_a_worker_that_is_told_to_stop_begins_nothing_more(world: Sandboxed) -> None:
    await world.connect("quickbooks")
    world.run(UNUSED)
    await world.tell_to_stop()
    assert (await kept()).message == "1 left for the next run"
    world.begin_anew()
    assert (await kept()).message == "1 kept alive"


async def test_a_broken_connection_is_told_by_mail(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await world.connect("quickbooks")
    await _break(world, connection)
    world.run("UPDATE tenants SET contact_email = 'ops@acme.test'")
    monkeypatch.setenv("FROM_EMAIL", "no-reply@atom.test")
    monkeypatch.setenv("NEXTAUTH_URL", "https://sync.atom.test")
    monkeypatch.setenv("NEXTAUTH_SECRET", "canary-nextauth-secret-canary-nextauth")
    with smtp(Mailbox()) as mailbox:
        monkeypatch.setenv("SMTP_HOST", mailbox.host)
        state = await notified()
        assert state.message == "1 sent"
        assert (await notified()).message == "nobody is to be told anything"
    assert mailbox.recipients == ["ops@acme.test"]
    line = f"quickbooks, grant {connection.grant_id}: notice sent: the first mail was sent"
    assert line in await lines_of(state)


async def test_without_a_mail_server_a_broken_connection_stands_in_the_runs_log(
    world: Sandboxed,
) -> None:
    connection = await world.connect("quickbooks")
    await _break(world, connection)
    state = await notified()
    assert state.message == "1 logged"
    (line,) = (line for line in await lines_of(state) if "notice logged" in line)
    assert str(connection.grant_id) in line
    assert "invalid_grant" in line
    assert (await notified()).message == "nobody is to be told anything"


async def test_a_wrong_mail_setting_is_named(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_HOST", "mail.atom.test")
    state = await notified()
    assert state.is_failed()
    assert "FROM_EMAIL" in (state.message or "")


async def _break(world: Sandboxed, connection: connections.Connection) -> None:
    world.control("POST", "/quickbooks/tokens", {"account": connection.account_id, "op": "revoke"})
    world.run(UNUSED)
    await kept()
    assert world.connection_status(connection.id) == "needs_reauth"


async def test_schedules_stand_under_their_slugs_and_a_paused_one_stays_paused(
    prefect_url: str,
) -> None:
    async with PrefectClient(prefect_url) as client:
        await deploy(client)
        found = {
            name: await client.read_deployment_by_name(f"{name}/scheduled")
            for name in ("keep-alive", "notify")
        }
        slugs = {name: [each.slug for each in made.schedules] for name, made in found.items()}
        assert slugs == {"keep-alive": ["every-15-minutes"], "notify": ["every-2-minutes"]}
        schedule = found["notify"].schedules[0]
        assert schedule.active
        await _pause(client, found["notify"].id, schedule.id)
        await deploy(client)
        again = await client.read_deployment_by_name("notify/scheduled")
        assert [(each.slug, each.active) for each in again.schedules] == [
            ("every-2-minutes", False)
        ]
        for made in found.values():
            await client.delete_deployment(made.id)


async def _pause(client: PrefectClient, deployment_id: UUID, schedule_id: UUID) -> None:
    await client.update_deployment_schedule(deployment_id, schedule_id, active=False)
