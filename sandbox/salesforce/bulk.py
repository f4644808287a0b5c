"""Bulk API 2.0 on loopback: query jobs that take a moment, and their rows as CSV.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/queries.htm
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, reply
from sandbox.salesforce import store as ledger
from sandbox.salesforce.kinds import FaultError, eighteen, instant
from sandbox.salesforce.query import Query, parse, pick
from sandbox.salesforce.store import Org

# Seconds that a job is under way.
TAKES = 1.0
MOST_RECORDS = 50_000


@dataclass
class Job:
    """A query job; `rows` are picked when it ends."""

    id: str
    operation: str
    text: str
    query: Query
    made_at: float
    state: str = "UploadComplete"
    rows: list[Json] | None = None


def handlers(org_of: Callable[[Call], Org], visible: Callable[[Org], Any]) -> dict[str, Any]:
    """What is done to jobs, for whoever knows the org of a call."""

    def begin(call: Call) -> Response:
        org, body = org_of(call), call.json() or {}
        if body.get("operation") not in ("query", "queryAll"):
            raise FaultError("INVALIDJOB", "operation has to be query or queryAll")
        asked = parse(str(body.get("query", "")), visible(org))
        if asked.offset or any(name in asked.kind.compound for name in asked.columns):
            raise FaultError("FEATURENOTENABLED", "compound fields and OFFSET: not in bulk queries")
        job_id = eighteen(f"750{uuid4().hex[:12]}")
        job = Job(job_id, body["operation"], body["query"], asked, org.clock.time())
        org.jobs[job_id] = job
        return reply(_shown(job))

    def look(call: Call) -> Response:
        return reply(_shown(_settled(org_of(call), call)))

    def results(call: Call) -> Response:
        job = _settled(org_of(call), call)
        if job.rows is None:
            raise FaultError("INVALIDJOBSTATE", f"the job's state is {job.state}")
        return _part(call, job, job.rows)

    def end(call: Call) -> Response:
        job = _settled(org_of(call), call)
        if (call.json() or {}).get("state") != "Aborted" or job.rows is not None:
            raise FaultError("INVALIDJOBSTATE", f"the job's state is {job.state}")
        job.state = "Aborted"
        return reply(_shown(job))

    def delete(call: Call) -> Response:
        org = org_of(call)
        del org.jobs[_settled(org, call).id]
        return Response(status_code=204)

    return {"begin": begin, "look": look, "results": results, "end": end, "delete": delete}


def _settled(org: Org, call: Call) -> Job:
    """The job as it stands now."""
    found: Job | None = org.jobs.get(call.params["id"])
    if found is None:
        raise FaultError("NOT_FOUND", "The requested resource does not exist", 404)
    if found.state in ("UploadComplete", "InProgress"):
        found.state = "InProgress"
        if org.clock.time() - found.made_at >= TAKES:
            rows = [row for _, row in ledger.shared(org, found.query.kind)]
            if found.operation == "queryAll":
                rows += ledger.binned(org, found.query.kind)
            found.rows, found.state = [dict(row) for row in pick(found.query, rows)], "JobComplete"
    return found


def _shown(job: Job) -> Json:
    return {
        **{"id": job.id, "operation": job.operation, "object": job.query.kind.name},
        **{"state": job.state, "contentType": "CSV", "apiVersion": 67.0, "lineEnding": "LF"},
        **{"columnDelimiter": "COMMA", "concurrencyMode": "Parallel"},
    }


def _part(call: Call, job: Job, rows: list[Json]) -> Response:
    locator = call.query.get("locator", "")
    most = int(call.query.get("maxRecords", MOST_RECORDS))
    start = int(locator, 36) if locator else 0
    end = start + most
    columns = job.query.columns
    out = io.StringIO(newline="")
    lines = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    lines.writerow(columns)
    for row in rows[start:end]:
        lines.writerow([_text(job.query.kind.fields[name], row[name]) for name in columns])
    headers = {
        "sforce-locator": _locator(end) if end < len(rows) else "null",
        "sforce-numberofrecords": str(len(rows[start:end])),
    }
    return Response(out.getvalue(), headers=headers, media_type="text/csv; charset=UTF-8")


def _locator(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, at = divmod(number, 36)
        text = digits[at] + text
    return text


def _text(type_: str, value: Any) -> str:
    """A value as CSV has it: times with a Z, which queries write in digits."""
    if value is None:
        return ""
    if type_ == "datetime":
        return f"{instant(value):%Y-%m-%dT%H:%M:%S}.000Z"
    return str(value).lower() if isinstance(value, bool) else str(value)
