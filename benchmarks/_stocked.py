"""A database as full as that of an installation that has run for a year, made by SQL.

Connections' rows lie among each other, twenty at a time, as syncs that run side by side leave them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from connectors import all_connectors

# Most records are of one stream, so that one partition is as large as large ones are.
LARGE = "hubspot.contacts"
SHARE_OF_LARGE = 0.35
PER_TENANT = 1_600
AT_ONCE = 200_000


@dataclass(frozen=True)
class Size:
    """How much there is of everything. The big tenant has a fifth of all records, in HubSpot."""

    name: str
    tenants: int
    records: int
    events: int

    @property
    def of_big_tenant(self) -> int:
        return self.records - self.tenants * PER_TENANT


def small(scale: float = 1.0) -> Size:
    return Size("small", max(5, round(100 * scale)), round(200_000 * scale), round(40_000 * scale))


def big(scale: float = 1.0) -> Size:
    return Size("big", round(5_000 * scale), round(10_000_000 * scale), round(2_000_000 * scale))


def streams() -> dict[str, list[str]]:
    """Every integration that has streams, with them."""
    return {c.name: [s.name for s in c.streams] for c in all_connectors() if c.streams}


# Tenant 1 is the big one.
_TENANTS = """
    INSERT INTO tenants (id, slug, name, tier)
    SELECT md5('t' || n)::uuid, 'tenant-' || n, 'Tenant ' || n,
        (ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE'])[n %% 4 + 1]
    FROM generate_series(1, %(tenants)s) n;
    INSERT INTO grants (id, tenant_id, integration, setting_key)
    SELECT md5('g' || n || i)::uuid, md5('t' || n)::uuid, i, i || '_tokens'
    FROM generate_series(1, %(tenants)s) n, unnest(%(integrations)s::text[]) i;
    INSERT INTO connections (id, tenant_id, grant_id, integration, account_id, tier, next_due_at,
        last_synced_at, status, status_reason, watches_due_at)
    SELECT md5('c' || n || i)::uuid, md5('t' || n)::uuid, md5('g' || n || i)::uuid, i, 'a' || n,
        (ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE'])[n %% 4 + 1],
        now() + random() * interval '1 hour',
        now() - random() * interval '1 hour',
        CASE WHEN broken THEN 'needs_reauth' ELSE 'active' END,
        CASE WHEN broken THEN 'its tenant took the authorisation back' END,
        now() + interval '1 day'
    FROM (
        SELECT n, i, n %% 97 = 0 AND i < 'h' AS broken
        FROM generate_series(1, %(tenants)s) n, unnest(%(integrations)s::text[]) i
    ) each;
    INSERT INTO leases (connection_id, kind, tenant_id, epoch, expires_at)
    SELECT id, 'sync', tenant_id, 1, now() - interval '1 hour' FROM connections;
    INSERT INTO sync_runs (id, tenant_id, connection_id, trigger, started_at, ended_at, status)
    SELECT gen_random_uuid(), tenant_id, id, 'schedule', now() - n * interval '7 hours',
        now() - n * interval '7 hours' + interval '20 s', 'done'
    FROM connections, generate_series(0, 4) n;
"""
_STREAMS = """
    INSERT INTO sync_intervals (integration, tier, stream, every, every_watched)
    SELECT %(integration)s, t, s, interval '2 hours', interval '2 hours'
    FROM unnest(ARRAY['FREE', 'SOLO', 'TEAM', 'ENTERPRISE']) t, unnest(%(streams)s::text[]) s;
    INSERT INTO checkpoints (connection_id, tenant_id, stream, last_synced_at, state)
    SELECT id, tenant_id, s, now() - interval '1 hour' - random() * interval '2.1 hours',
        '{"since": "2026-11-01T00:00:00Z"}'
    FROM connections, unnest(%(streams)s::text[]) s WHERE integration = %(integration)s;
    INSERT INTO audits
        (id, tenant_id, connection_id, stream, started_at, ended_at, checked, stale)
    SELECT gen_random_uuid(), tenant_id, id, s, now() - interval '3 days',
        now() - interval '3 days', 100, (random() < 0.01)::int
    FROM connections, unnest(%(streams)s::text[]) s WHERE integration = %(integration)s;
"""
# 700 bytes of JSON each.
_RECORDS = """
    INSERT INTO records (connection_id, record_id, stream, tenant_id, data, version, observed_at,
        content_hash, changed_at)
    SELECT md5('c' || t || %(integration)s)::uuid, lpad(n::text, 9, '0'), %(stream)s,
        md5('t' || t)::uuid,
        jsonb_build_object(
            'id', n, 'createdAt', '2025-03-01T08:00:00Z', 'updatedAt', at,
            'properties', jsonb_build_object(
                'email', 'person' || n || '@tenant-' || t || '.example', 'firstname', 'Ada',
                'lastname', 'Lovelace ' || n, 'company', 'Company ' || n %% 1000,
                'lifecyclestage', (ARRAY['lead', 'customer', 'other'])[n %% 3 + 1],
                'notes', repeat(md5(i::text), 13)
            )
        ),
        i, at, decode(md5(i::text), 'hex'), at
    FROM (
        SELECT i, CASE WHEN %(of)s = 0 THEN (i / 20) %% %(tenants)s + 1 ELSE 1 END AS t,
            CASE WHEN %(of)s = 0 THEN i %% 20 + i / 20 / %(tenants)s * 20
                ELSE 1000000 + i END AS n,
            date_trunc('second', now() - interval '1 day' - random() * interval '300 days') AS at
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) i
    ) row
"""
_EVENTS = """
    INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data, received_at,
        applied_at, failed_at, attempts, due_at)
    SELECT i, 'e' || n, md5('c' || t || i)::uuid, md5('t' || t)::uuid, 'changed',
        jsonb_build_object('effect', 'read', 'streams', jsonb_build_array('contacts'), 'key', n),
        at, CASE WHEN n > 200 THEN at + interval '1 s' END,
        CASE WHEN n BETWEEN 101 AND 200 THEN at END,
        1, at
    FROM (
        SELECT n, CASE WHEN n %% 5 = 0 THEN 1 ELSE n %% %(tenants)s + 1 END AS t,
            now() - random() * interval '7 days' AS at,
            CASE WHEN n %% 5 = 0 THEN 'hubspot'
                ELSE (%(integrations)s::text[])[n %% %(count)s + 1] END AS i
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
    ) each
"""


def fill(url: str, size: Size, say: Callable[[str], None]) -> None:
    """Fills a migrated, empty database. What it makes of one size is always the same."""
    known = streams()
    with psycopg.connect(url, autocommit=True) as sql:
        # No foreign key is looked up and no trigger run for each row: they hold by construction.
        sql.execute("SET session_replication_role = replica")
        sql.execute("SET synchronous_commit = off")
        values = {
            "tenants": size.tenants,
            "integrations": list(known),
            "count": len(known),
        }
        with psycopg.ClientCursor(sql) as cursor:
            cursor.execute(_TENANTS, values)
            for integration, names in known.items():
                cursor.execute(_STREAMS, {"integration": integration, "streams": names})
        for stream, of, first, last in _parts(size, known):
            say(f"{size.name}: {stream}, to {last:,}")
            places = {"integration": stream.partition(".")[0], "stream": stream, "of": of}
            sql.execute(_RECORDS, {**values, **places, "first": first, "last": last})
        for first, last in _chunks(size.events):
            sql.execute(_EVENTS, {**values, "first": first + 1, "last": last + 1})
        say(f"{size.name}: VACUUM ANALYZE")
        sql.execute("VACUUM (ANALYZE, FREEZE)")
        sql.execute("CHECKPOINT")


def _parts(size: Size, known: dict[str, list[str]]) -> Iterator[tuple[str, int, int, int]]:
    """Streams with the numbers of rows to be made; `of` is 1 for those of the big tenant."""
    named = [f"{integration}.{name}" for integration, names in known.items() for name in names]
    large = round(PER_TENANT * SHARE_OF_LARGE) // 20 * 20
    others = (PER_TENANT - large) // (len(named) - 1)
    for stream in named:
        for first, last in _chunks((large if stream == LARGE else others) * size.tenants):
            yield stream, 0, first, last
    shares = {LARGE: 0.75, "hubspot.companies": 0.15, "hubspot.deals": 0.1}
    for stream, share in shares.items():
        for first, last in _chunks(round(size.of_big_tenant * share)):
            yield stream, 1, first, last


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, AT_ONCE):
        yield first, min(first + AT_ONCE, count) - 1
