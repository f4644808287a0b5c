"""Salesforce's Bulk API 2.0: a query that runs by itself, and whose rows are read as CSV.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0.htm
"""

import csv
import io
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Calls,
    ContractError,
    NotAllowedError,
    RateLimitedError,
    Record,
    Request,
    Response,
    ask,
)

# One answer holds so many rows of a job.
PART = 20_000
ASKED_AGAIN = timedelta(seconds=15)
BUDGET = "jobs"
UNDER_WAY = ("UploadComplete", "InProgress")
NUMBERS: Mapping[str, type] = {"int": int, "double": float, "currency": float, "percent": float}
# A text area may hold 131,072 characters, and the module's own limit is as many.
csv.field_size_limit(2**24)


def begin(query: str) -> Calls[str | None]:
    """The id of a new job; None where the org takes none, as one that has too many, or may not."""
    job = {"operation": "query", "query": query, "lineEnding": "LF", "columnDelimiter": "COMMA"}
    try:
        response = yield from ask(Request.post("/jobs/query", json=job, budget=BUDGET))
    except (ContractError, NotAllowedError):
        return None
    return str(response.json["id"])


def is_complete(job: str) -> Calls[bool]:
    """Whether the job came to a good end; it is waited for as a limit is: see `unfinished`."""
    response = yield from ask(Request.get(f"/jobs/query/{job}", budget=BUDGET, expect=(404,)))
    return bool(response.status != 404 and response.json["state"] == "JobComplete")


def results(job: str, locator: str) -> Request:
    """A part of a job's rows; they are kept for a week."""
    params: dict[str, str | int] = {"maxRecords": PART} | ({"locator": locator} if locator else {})
    return Request.get(
        f"/jobs/query/{job}/results", params=params, headers={"accept": "text/csv"}, expect=(404,)
    )


def unfinished(response: Response) -> RateLimitedError | None:
    """Of a job that is asked for, and is under way. The answer that made one says the same, and
    waiting for it would be to make another."""
    if "/jobs/query/" not in response.url or not isinstance(response.json, dict):
        return None
    if response.json.get("state") in UNDER_WAY:
        return RateLimitedError("Salesforce is preparing rows", retry_after=ASKED_AGAIN)
    return None


def rows(body: bytes, fields: Mapping[str, str]) -> list[Record]:
    """The rows of a part as a query would have returned them: CSV has texts only, and no null.

    A job that found nothing is answered with nothing, or with a sentence in place of a table
    (StevenMMortimer/salesforcer#21, 2019-06).
    """
    lines = csv.reader(io.StringIO(_decoded(body), newline=""))
    names = next(lines, [])
    if not set(names) >= set(fields):
        if not set(names) & set(fields) and next(lines, None) is None:
            return []
        raise ContractError("Salesforce left out fields of a bulk job")
    found = []
    for line in lines:
        row = dict(zip(names, line, strict=True))
        found.append({name: _typed(row[name], fields[name]) for name in fields})
    return found


def _decoded(body: bytes) -> str:
    """UTF-8, but for the lines of some orgs that hold other bytes (airbytehq/airbyte#12552,
    2022-05)."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "".join(_line(line) for line in body.splitlines(keepends=True))


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _typed(text: str, type_: str) -> Any:
    if text == "":
        return None
    if type_ == "boolean":
        return text == "true"
    if type_ == "datetime":
        # A query writes the offset in digits.
        return text.removesuffix("Z") + "+0000" if text.endswith("Z") else text
    return NUMBERS[type_](text) if type_ in NUMBERS else text
