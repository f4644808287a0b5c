"""Xero on loopback: the documents and lists of organisations, and a report.

https://developer.xero.com/documentation/api/accounting/overview
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Limit, Route, Usage, Vendor
from sandbox.xero.auth import API, AUTH, REPORTS, SETTINGS, books_of, connections, disconnect
from sandbox.xero.errors import invalid, problem, trouble
from sandbox.xero.events import SENDER
from sandbox.xero.store import (
    KINDS,
    MUTATIONS,
    Books,
    Kind,
    merge,
    new,
    store,
    trial_balance,
)

ROOT = "/api.xro/2.0"
CONNECTIONS = ("/connections", "/Connections")
PAGE, MOST = 100, 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What an unpaged list of documents leaves out.
SUMMARY = ("LineItems", "Payments")
# Fields that hold a time; a time without milliseconds is a text for people.
TIMES = ("UpdatedDateUTC", "CreatedDateUTC", "Date", "DueDate")


def written(value: Any, name: str = "") -> Any:
    """A record as the API writes it: its times as milliseconds."""
    if isinstance(value, dict):
        return {name: written(held, name) for name, held in value.items()}
    if isinstance(value, list):
        return [written(held) for held in value]
    if name in TIMES:
        return (
            f"/Date({(datetime.fromisoformat(value) - EPOCH) // timedelta(milliseconds=1)}+0000)/"
        )
    return value


def answer(call: Call, body: Json) -> Response:
    now = call.clock.now()
    about = {"Id": str(uuid4()), "Status": "OK", "ProviderName": "atom"}
    written_at = f"/Date({(now - EPOCH) // timedelta(milliseconds=1)})/"
    dated = {"date": f"{now:%a, %d %b %Y %H:%M:%S} GMT"}
    return reply({**about, "DateTimeUTC": written_at, **body}, headers=dated)


def listed(stream: str, kind: Kind) -> Callable[[Call], Response]:
    """The list of a kind: a page of it, or all; what changed since a time, or all."""

    def handle(call: Call) -> Response:
        books = _opened(call, stream)
        rows = [row for row in books.rows[stream].values() if _shown(call, kind, row)]
        rows = _ordered(call, rows, kind)
        if not kind.paged or "page" not in call.query:
            left = SUMMARY if kind.lines else ()
            rows = [{k: [] if k in left else v for k, v in row.items()} for row in rows]
            return answer(call, {kind.path: written(rows)})
        page, size = _count(call, "page", 1), _count(call, "pageSize", PAGE)
        counted = {
            "page": page,
            "pageSize": size,
            "pageCount": -(-len(rows) // size),
            "itemCount": len(rows),
        }
        part = rows[(page - 1) * size : page * size]
        return answer(call, {"pagination": counted, kind.path: written(part)})

    return handle


def one(stream: str, kind: Kind) -> Callable[[Call], Response]:
    """A record by its id, whatever its status."""

    def handle(call: Call) -> Response:
        row = _opened(call, stream).rows[stream].get(call.params["id"])
        if row is None:
            return Response("The resource you're looking for cannot be found", 404)
        return answer(call, {kind.path: written([row])})

    return handle


def organisation(call: Call) -> Response:
    return answer(call, {"Organisations": [written(books_of(call).organisation)]})


def report(call: Call) -> Response:
    """The trial balance: a header, a section for each class of accounts, and a sum."""
    rows = trial_balance(books_of(call))
    names = ("Account", "Debit", "Credit", "YTD Debit", "YTD Credit")
    header = {"RowType": "Header", "Cells": [{"Value": name} for name in names]}
    sections = [
        {
            "RowType": "Section",
            "Title": title,
            "Rows": [_row(row, names) for row in rows if row["Section"] == title],
        }
        for title in dict.fromkeys(row["Section"] for row in rows)
    ]
    total = [{"RowType": "SummaryRow", "Cells": [{"Value": "Total"}, *[{"Value": "0.00"}] * 4]}]
    whole = [header, *sections, {"RowType": "Section", "Title": "", "Rows": total}]
    about = {"ReportID": "TrialBalance", "ReportName": "Trial Balance", "Rows": whole}
    return answer(call, {"Reports": [about]})


def _row(row: Json, names: tuple[str, ...]) -> Json:
    mark = [{"Value": row["AccountID"], "Id": "account"}]
    return {
        "RowType": "Row",
        "Cells": [{"Value": row[name], "Attributes": mark} for name in names],
    }


def _opened(call: Call, stream: str) -> Books:
    books = books_of(call)
    if stream in books.refused:
        raise Answer(problem(403, "Forbidden", "The user has no access to this resource"))
    return books


def _shown(call: Call, kind: Kind, row: Json) -> bool:
    if kind.by_ids and (ids := call.query.get("IDs")):
        return row[kind.key] in ids.split(",")
    if (since := _since(call)) and _changed_at(row) < since:
        return False
    archived = row.get("ContactStatus") == "ARCHIVED" or (
        kind.path in ("Invoices", "TrackingCategories") and row["Status"] == "ARCHIVED"
    )
    return not archived or call.query.get("includeArchived") == "true"


def _changed_at(row: Json) -> datetime:
    return datetime.fromisoformat(
        row.get("UpdatedDateUTC") or row.get("CreatedDateUTC") or "1970-01-01T00:00:00Z"
    )


def _since(call: Call) -> datetime | None:
    """A time without a zone; one that is no such time is passed over."""
    try:
        return datetime.strptime(
            call.headers.get("if-modified-since", ""), "%Y-%m-%dT%H:%M:%S"
        ).replace(tzinfo=UTC)
    except ValueError:
        return None


def _ordered(call: Call, rows: list[Json], kind: Kind) -> list[Json]:
    """By a field of theirs, and an order; by the time of change, where none is asked for."""
    name, _, way = call.query.get("order", "").partition(" ")
    if name not in ("", "UpdatedDateUTC", kind.key) or way.upper() not in ("", "ASC", "DESC"):
        raise invalid(f"order: {name} is not a field to order by")
    found = sorted(rows, key=lambda row: row[kind.key])
    if name == kind.key:
        return found[::-1] if way.upper() == "DESC" else found
    return sorted(found, key=_changed_at, reverse=way.upper() == "DESC")


def _count(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= (MOST if name == "pageSize" else 10**9):
        raise invalid(f"{name} must be a number from 1" + (f" to {MOST}" if name != "page" else ""))
    return int(text)


def refuse_part(books: Books, body: Json) -> Json:
    """The person loses the right to purchase orders, or has it again: of the streams, lines alone
    are of several kinds."""
    books.refused.clear()
    part, keys = f"{KINDS['purchase_orders'].path}/", list(store(books, "line_items"))
    if body.get("stream") != "line_items" or not body.get("on"):
        return {"part": part, "keys": []}
    books.refused.add("purchase_orders")
    return {"part": part, "keys": [key for key in keys if key.startswith(part)]}


def person(books: Books, body: Json) -> Json:
    """Which other accounts' organisations the person connected `beside` this one, and whether this
    one is `connected`."""
    beside = body.get("beside", books.beside)
    if not isinstance(beside, list):
        raise RefusedError("beside must be a list of accounts", status=400)
    books.beside = [str(id_) for id_ in beside]
    books.connected = bool(body.get("connected", books.connected))
    return {"beside": books.beside, "connected": books.connected}


def rate_headers(usages: Sequence[Usage]) -> Mapping[str, str]:
    """How much is left, of each limit."""
    left = {usage.limit.name: usage.remaining for usage in usages}
    return {
        "x-minlimit-remaining": str(left.get("minute", 0)),
        "x-daylimit-remaining": str(left.get("day", 0)),
        "x-appminlimit-remaining": "9999",
    }


def _routes(stream: str, kind: Kind) -> tuple[Route, ...]:
    scopes = (f"accounting.{kind.scope}.read",)
    path = f"{ROOT}/{kind.path}"
    return (
        Route("GET", API, path, listed(stream, kind), scopes=scopes),
        Route("GET", API, f"{path}/{{id}}", one(stream, kind), scopes=scopes),
    )


vendor = Vendor(
    name="xero",
    title="Xero",
    base_url=f"https://{API}{ROOT}",
    auth=AUTH,
    routes=(
        # The guides write it in small letters, the specification and the SDKs with a capital.
        *(Route("GET", API, path, connections) for path in CONNECTIONS),
        *(Route("DELETE", API, f"{path}/{{id}}", disconnect) for path in CONNECTIONS),
        Route("GET", API, f"{ROOT}/Organisation", organisation, scopes=(SETTINGS,)),
        Route("GET", API, f"{ROOT}/Reports/TrialBalance", report, scopes=(REPORTS,)),
        *(route for stream, kind in KINDS.items() for route in _routes(stream, kind)),
    ),
    streams=(*KINDS, "line_items", "organisations", "trial_balance"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=trouble,
    limits=(Limit("minute", 60, 60.0), Limit("day", 5000, 86_400.0)),
    rate_headers=rate_headers,
    account_controls={"refuse_part": refuse_part, "merge": merge, "person": person},
    webhook=SENDER,
    three_pages_at=2050,
)
