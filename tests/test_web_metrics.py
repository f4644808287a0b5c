"""What Prometheus reads: counts by integration and tier, for who may, and no tenant's name."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments import freshness_targets
from settings import Settings
from storage.database import Database
from tests._fleet import Fleet
from tests._web import Api, problem, serving_api, web_settings
from web import metrics

LABELS = ("integration", "tier", "reason", "status", "failure")


@pytest.fixture
def settings(database_url: str) -> Settings:
    return web_settings(database_url)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with serving_api(settings) as opened:
        yield opened.as_(scope="metrics:read")


@pytest.fixture
async def fleet(settings: Settings, database: Database, database_url: str) -> Fleet:
    await freshness_targets.save(settings, database)
    return Fleet(database_url, database)


async def read(api: Api) -> dict[tuple[str, ...], float]:
    """{(name, integration, tier, reason, status, failure): value}, of those labels there are."""
    answer = await api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (
            sample.name,
            *(sample.labels[name] for name in LABELS if name in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_freshness_is_told_by_integration_and_tier(api: Api, fleet: Fleet) -> None:
    made = fleet.make(4)
    fleet.make(1, integration="gmail", tier="FREE", prefix="g")
    _, limited, paused, _ = made
    fleet.sql(
        "UPDATE connections SET created_at = now() - interval '2 hours' WHERE id = ANY(%s)",
        (made[:3],),
    )
    fleet.sql(
        "UPDATE connections SET failures = 1, failure = 'rate_limited' WHERE id = %s", (limited,)
    )
    fleet.sql("UPDATE connections SET status = 'paused' WHERE id = %s", (paused,))
    found = await read(api)
    streams = {
        labels[1:]: value for labels, value in found.items() if labels[0].endswith("streams")
    }
    assert streams == {
        ("gmail", "FREE", ""): 4,
        ("hubspot", "TEAM", ""): 5,
        ("hubspot", "TEAM", "never synced"): 5,
        ("hubspot", "TEAM", "vendor limit"): 5,
        ("hubspot", "TEAM", "paused"): 5,
    }
    age = found["atom_sync_stream_age_seconds_max", "hubspot", "TEAM", "never synced"]
    assert 7200 <= age < 7260
    assert 2 <= found["atom_sync_stream_age_intervals_max", "hubspot", "TEAM", "paused"] < 2.1
    assert found["atom_sync_connections", "hubspot", "active"] == 3
    assert found["atom_sync_connections", "hubspot", "paused"] == 1


async def test_what_waits_fails_or_is_away_is_counted(api: Api, fleet: Fleet) -> None:
    fleet.make(1)
    fleet.sql(
        "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data,"
        " received_at, applied_at, failed_at) SELECT 'hubspot', n::text, id, tenant_id, 't', '{}',"
        " now() - make_interval(mins => n), CASE WHEN n = 9 THEN now() END,"
        " CASE WHEN n = 8 THEN now() END FROM connections, generate_series(6, 9) n"
    )
    fleet.sql(
        "INSERT INTO sync_runs (id, connection_id, tenant_id, trigger, status, failure, ended_at)"
        " SELECT gen_random_uuid(), id, tenant_id, 'schedule', v.status, v.failure,"
        " now() - v.ago::interval FROM connections, (VALUES ('completed', NULL, '1 min'),"
        " ('completed', NULL, '2 hours'), ('failed', 'contract', '5 min'))"
        " AS v (status, failure, ago)"
    )
    fleet.sql(
        "INSERT INTO breakers (integration, opened_at, probe_at) VALUES ('hubspot', now(), now()),"
        " ('gmail', NULL, NULL)"
    )
    paused = fleet.make(1, prefix="paused")
    fleet.sql("UPDATE connections SET status = 'paused' WHERE id = ANY(%s)", (paused,))
    fleet.sql(
        "INSERT INTO gaps (connection_id, tenant_id, streams, reason, since, until, closed_at)"
        " SELECT id, tenant_id, '[\"contacts\"]', 'r', now() - make_interval(mins => n + 1),"
        " now() - make_interval(mins => n), CASE WHEN n = 9 THEN now() END"
        " FROM connections, generate_series(6, 9) n"
    )
    found = await read(api)
    assert found["atom_sync_gaps_open", "hubspot"] == 3
    assert 480 <= found["atom_sync_gap_wait_seconds_max", "hubspot"] < 540
    assert found["atom_sync_events_pending", "hubspot"] == 2
    assert 420 <= found["atom_sync_event_wait_seconds_max", "hubspot"] < 480
    assert found["atom_sync_events_failed", "hubspot"] == 1
    syncs = {key[2:]: value for key, value in found.items() if key[0].endswith("last_hour")}
    assert syncs == {("completed", ""): 1, ("failed", "contract"): 1}
    assert found["atom_sync_breaker_open", "hubspot"] == 1
    assert ("atom_sync_breaker_open", "gmail") not in found


async def test_nothing_names_a_tenant_or_an_account(api: Api, fleet: Fleet) -> None:
    fleet.make(3, prefix="canary-tenant")
    fleet.sql("UPDATE connections SET account_id = 'canary-account', account_name = 'canary-name'")
    answer = await api.get("/metrics")
    assert "atom_sync_streams{" in answer.text
    assert "canary" not in answer.text


async def test_it_is_counted_again_only_after_a_while(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.make(1)
    assert (await read(api))["atom_sync_connections", "hubspot", "active"] == 1
    fleet.make(1, prefix="more")
    assert (await read(api))["atom_sync_connections", "hubspot", "active"] == 1
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 0.0)
    assert (await read(api))["atom_sync_connections", "hubspot", "active"] == 2


async def test_what_came_to_this_process_is_counted_each_time(api: Api) -> None:
    async def refused() -> float:
        text = (await api.get("/metrics")).text
        found = text_string_to_metric_families(text)
        samples = [each for family in found for each in family.samples]
        assert {"process_resident_memory_bytes", "atom_web_held_bytes"} <= {s.name for s in samples}
        wanted = ("atom_webhook_deliveries_total", {"integration": "unknown", "outcome": "unknown"})
        return sum(each.value for each in samples if (each.name, each.labels) == wanted)

    before = await refused()
    await api.http.post("/api/webhooks/nobody", content=b"{}")
    assert await refused() == before + 1


async def test_only_who_has_the_scope_is_answered(api: Api) -> None:
    problem(await Api(api.http).get("/metrics"), 401)
    refused = problem(await api.as_().get("/metrics"), 403)
    assert "metrics:read" in refused["detail"]
    assert (await api.as_(scope="admin").get("/metrics")).status_code == 200
