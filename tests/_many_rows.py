"""Some thousand rows of many tenants, made by SQL, and how PostgreSQL goes about a statement."""

import json
from collections.abc import Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import psycopg

TENANTS, EACH = 300, 40

_FILL = """
INSERT INTO tenants (id, slug, name, tier)
    SELECT md5('t' || n)::uuid, 'tenant-' || n, 'Tenant', 'TEAM'
    FROM generate_series(1, %(tenants)s) n;
INSERT INTO grants (id, tenant_id, integration, setting_key)
    SELECT md5('g' || n)::uuid, md5('t' || n)::uuid, 'hubspot', 'k'
    FROM generate_series(1, %(tenants)s) n;
INSERT INTO connections (id, tenant_id, grant_id, integration, account_id)
    SELECT md5('c' || n)::uuid, md5('t' || n)::uuid, md5('g' || n)::uuid, 'hubspot', 'a' || n
    FROM generate_series(1, %(tenants)s) n;
INSERT INTO records (connection_id, record_id, stream, tenant_id, data, observed_at, content_hash,
        changed_at)
    SELECT md5('c' || t)::uuid, lpad(n::text, 9, '0'), 'hubspot.contacts', md5('t' || t)::uuid,
        jsonb_build_object('id', n, 'updatedAt', now(), 'notes', repeat('x', 200)),
        now() - n * interval '1 hour', '', now() - n * interval '1 hour'
    FROM generate_series(0, %(each)s - 1) n, generate_series(1, %(tenants)s) t;
"""


def tenant(number: int) -> UUID:
    return _id(f"t{number}")


def connection(number: int) -> UUID:
    return _id(f"c{number}")


def _id(word: str) -> UUID:
    return UUID(md5(word.encode(), usedforsecurity=False).hexdigest())


def fill(url: str, *, tenants: int = TENANTS, each: int = EACH, analyse: bool = True) -> None:
    """So many tenants of one connection, and so many contacts of each."""
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as sql:
        sql.execute(_FILL.encode(), {"tenants": tenants, "each": each})
        if analyse:
            sql.execute("ANALYZE")


def plan(cursor_or_connection: Any, statement: str, values: Any = None) -> list[dict[str, Any]]:
    """Every node of the plan that PostgreSQL makes, parents first."""
    ((found,),) = cursor_or_connection.execute(
        f"EXPLAIN (FORMAT JSON) {statement}".encode(), values
    ).fetchall()
    return list(nodes(found if not isinstance(found, str) else json.loads(found)))


def nodes(explained: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    left = [explained[0]["Plan"]]
    while left:
        node = left.pop(0)
        left += node.get("Plans", [])
        yield node


def scanned(found: list[dict[str, Any]], relation: str) -> set[str]:
    """The tables whose name begins so and that are read from one end to the other."""
    return {
        node["Relation Name"]
        for node in found
        if node["Node Type"] == "Seq Scan" and node["Relation Name"].startswith(relation)
    }


def conditions(found: list[dict[str, Any]]) -> list[str]:
    """What the indexes are asked for."""
    return [node["Index Cond"] for node in found if "Index Cond" in node]
