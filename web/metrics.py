"""Metrics in Prometheus' text format: how promises are kept, and what waits, fails or is away; and
what came to this process.

Nothing here names a tenant. What is in the database is counted at most once a minute, however often
it is asked for: at 60,000 connections of five streams that takes the database some seconds.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Request
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from storage import DatabaseUnavailableError, background
from storage.database import Database
from storage.heartbeats import GONE
from storage.metrics import Measures, measure
from web._auth import Caller, Scope, Shared, needs
from web._problems import responses

KEPT_SECONDS = 60.0
router = APIRouter(tags=["health"])
Gauge = GaugeMetricFamily


@dataclass
class Counted:
    """The last counting of this process; who comes while one is under way waits for it."""

    text: bytes = b""
    at: float = -KEPT_SECONDS
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def latest(self, database: Database) -> bytes:
        async with self.lock:
            if time.monotonic() - self.at >= KEPT_SECONDS:
                self.text, self.at = exposed(await measure(database)), time.monotonic()
            return self.text


@router.get(
    "/metrics",
    summary="What there is to be measured, for Prometheus",
    responses={
        **responses(401, 403, 422, 429, 503),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    },
    response_class=Response,
)
async def get_metrics(
    request: Request, shared: Shared, caller: Annotated[Caller, needs(Scope.METRICS_READ)]
) -> Response:
    """Needs the scope `metrics:read`; the token's tenant does not matter."""
    counted: Counted = request.app.state.metrics
    try:
        found = await counted.latest(shared.database)
    except DatabaseUnavailableError:
        found = b""  # what this process knows is worth the more
    text = found + _written(lambda: _of_this_process(answers=bool(found)))
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


def exposed(measures: Measures) -> bytes:
    """The measures as text."""
    return _written(lambda: _gauges(measures))


def _written(collect: Callable[[], Iterable[Metric]]) -> bytes:
    class Ours(Collector):
        def collect(self) -> Iterable[Metric]:
            return collect()

    registry = CollectorRegistry()
    registry.register(Ours())
    return generate_latest(registry)


def _of_this_process(*, answers: bool) -> Iterator[Metric]:
    """Deliveries, their events and what was refused, what fails in the background, and the memory
    and files of the process; of what libraries count only that."""
    yield from (each for each in REGISTRY.collect() if each.name.startswith(("atom_", "process_")))
    yield Gauge(
        "atom_sync_database_answers",
        "1 if the database has given the counts of the last minute, which are left out else.",
        value=answers,
    )
    failures = CounterMetricFamily(
        "atom_background_failures", "Turns of this process's background tasks that failed.",
        labels=["task"],
    )  # fmt: skip
    for task, count in sorted(background.failures().items()):
        failures.add_metric([task], count)
    failing = Gauge(
        "atom_background_failing", "Background tasks of this process that fail now.",
        labels=["task"],
    )  # fmt: skip
    for task in sorted(background.troubles()):
        failing.add_metric([task], 1)
    yield from (failures, failing)


def _gauges(found: Measures) -> Iterator[Gauge]:
    streams = Gauge(
        "atom_sync_streams",
        "Streams that are as fresh as their tier promises (no reason), and why others are not.",
        labels=["integration", "tier", "reason"],
    )
    oldest = Gauge(
        "atom_sync_stream_age_seconds_max",
        "Age of the oldest data among them.",
        labels=["integration", "tier", "reason"],
    )
    overdue = Gauge(
        "atom_sync_stream_age_intervals_max",
        "The same in intervals of the tier: 1 is as promised.",
        labels=["integration", "tier", "reason"],
    )
    for one in found.promises:
        labels = [one.integration, one.tier, one.reason or ""]
        streams.add_metric(labels, one.streams)
        oldest.add_metric(labels, one.worst.total_seconds())
        overdue.add_metric(labels, one.overdue)
    yield from (streams, oldest, overdue)

    connections = Gauge(
        "atom_sync_connections", "Connections by status.", labels=["integration", "status"]
    )
    for integration, status, count in found.connections:
        connections.add_metric([integration, status], count)
    yield connections

    syncs = Gauge(
        "atom_sync_syncs_last_hour",
        "Syncs that ended within the last hour, by how; failure says who must act.",
        labels=["integration", "status", "failure"],
    )
    for integration, status, failure, count in found.syncs:
        syncs.add_metric([integration, status, failure], count)
    yield syncs
    yield from _of_events(found)

    drift = Gauge(
        "atom_sync_audit_drift_last_30_days",
        "Records that audits found missing, out of date (stale) or too much (extra).",
        labels=["integration", "kind"],
    )
    for integration, missing, stale, extra in found.audits:
        for kind, count in (("missing", missing), ("stale", stale), ("extra", extra)):
            drift.add_metric([integration, kind], count)
    yield drift

    away = Gauge(
        "atom_sync_breaker_open", "Integrations whose vendor is away as a whole.",
        labels=["integration"],
    )  # fmt: skip
    for integration in found.away:
        away.add_metric([integration], 1)
    yield away
    yield from _of_processes(found)


def _of_processes(found: Measures) -> Iterator[Gauge]:
    heard = Gauge(
        "atom_sync_heartbeat_age_seconds", "How long ago a process of that kind was heard.",
        labels=["kind"],
    )  # fmt: skip
    failing = Gauge(
        "atom_sync_background_failing",
        "Background tasks that fail in processes of that kind; doctor tells why.",
        labels=["kind", "task"],
    )
    for kind in sorted({one.kind for one in found.heartbeats}):
        those = [one for one in found.heartbeats if one.kind == kind]
        heard.add_metric([kind], min(one.age for one in those).total_seconds())
        tasks = Counter(task for one in those if one.age < GONE for task in one.troubles)
        for task, count in sorted(tasks.items()):
            failing.add_metric([kind, task], count)
    yield from (heard, failing)


def _of_events(found: Measures) -> Iterator[Gauge]:
    pending = Gauge(
        "atom_sync_events_pending", "Events that wait to be applied.", labels=["integration"]
    )
    waiting = Gauge(
        "atom_sync_event_wait_seconds_max", "How long the oldest has waited.",
        labels=["integration"],
    )  # fmt: skip
    for integration, count, since in found.pending:
        pending.add_metric([integration], count)
        waiting.add_metric([integration], max(0.0, (found.at - since).total_seconds()))
    failed = Gauge("atom_sync_events_failed", "Events that were given up.", labels=["integration"])
    for integration, count in found.failed:
        failed.add_metric([integration], count)
    yield from (pending, waiting, failed)

    gaps = Gauge(
        "atom_sync_gaps_open",
        "Times in which we may not have been told of changes, and that no read has closed.",
        labels=["integration"],
    )
    oldest = Gauge(
        "atom_sync_gap_wait_seconds_max", "How long ago the first of them ended.",
        labels=["integration"],
    )  # fmt: skip
    for integration, count, until in found.gaps:
        gaps.add_metric([integration], count)
        oldest.add_metric([integration], max(0.0, (found.at - until).total_seconds()))
    yield from (gaps, oldest)
