"""QuickBooks Online on loopback: queries, change data capture and the rows of one company.

https://developer.intuit.com/app/developer/qbo/docs/api/accounting (v3, minor version 75).

Longer than 700 lines: a query language, change data capture, entities that change with each
other, merges, and an OpenID identity.
"""

from datetime import datetime
from typing import Any

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json
from sandbox.kernel.vendor import Handler, Limit, Route, Vendor
from sandbox.quickbooks import store as ledger
from sandbox.quickbooks.auth import ACCOUNTING, AUTH, DISCOVERY, REVOKE, ROUTES
from sandbox.quickbooks.errors import answer, fault, forbidden, takes_json, trouble, unsupported
from sandbox.quickbooks.events import SENDER
from sandbox.quickbooks.kinds import (
    BY_PATH,
    BY_STREAM,
    COMPANY,
    INVOICE,
    PAYMENT,
    FaultError,
    Kind,
    instant,
    missing,
)
from sandbox.quickbooks.query import invalid, parse, pick, shown
from sandbox.quickbooks.seed import (
    CDC_WINDOW,
    CHANGES,
    MUTATIONS,
    changed,
    merge,
    new,
    refuse_part,
    store,
    void,
)
from sandbox.quickbooks.store import Books

API = "quickbooks.api.intuit.com"
ROOT = "/v3/company/{realm}"
# Of one change data capture answer, over all entities that it was asked for.
MOST_CHANGES = 1000


def query(call: Call) -> Response:
    """Rows that a query picks: its text comes in the address or, by POST, as the body."""
    books = _books(call)
    text = call.query.get("query", "") if call.method == "GET" else _posted(call)
    asked = parse(text, BY_PATH)
    _check_plan(books, asked.kind)
    rows = [books.company] if asked.kind is COMPANY else books.rows[asked.kind.name].values()
    found = pick(asked, rows)
    if asked.count:
        return answer(call, {"QueryResponse": {"totalCount": len(found)}})
    page = found[asked.start - 1 : asked.start - 1 + asked.size]
    if not page:
        return answer(call, {"QueryResponse": {}})
    listed = [shown(asked, row) for row in page]
    counted = {"startPosition": asked.start, "maxResults": len(page)}
    return answer(call, {"QueryResponse": {asked.kind.name: listed, **counted}})


def capture(call: Call) -> Response:
    """What changed since a time, for each entity a group; deleted transactions as stubs.

    There is no next page: what is beyond the limit is left out, and nothing tells so.
    """
    books = _books(call)
    kinds = [_captured(name) for name in call.query.get("entities", "").split(",") if name]
    if not kinds:
        raise missing("entities")
    for kind in kinds:
        _check_plan(books, kind)
    since = _since(call)
    groups, room = [], MOST_CHANGES
    for kind in kinds:
        rows = changed(books, kind.name, since)[:room]
        room -= len(rows)
        counted = {"startPosition": 1, "maxResults": len(rows)}
        groups.append({kind.name: rows, **counted} if rows else {})
    return answer(call, {"CDCResponse": [{"QueryResponse": groups}]})


def read(call: Call) -> Response:
    """One row by its id, inactive ones too."""
    books, kind = _books(call), _kind(call)
    row = books.company if kind is COMPANY else _row(books, kind, call.params["id"])
    return answer(call, {kind.name: row})


def write(call: Call) -> Response:
    """Creates, changes, deletes or voids a row: the body and `operation` say which."""
    books, kind, body = _books(call), _kind(call), call.json()
    if not isinstance(body, dict):
        raise FaultError("2010", "Request is invalid", "The body is not a JSON object")
    operation = call.query.get("operation", "update" if body.get("Id") else "create")
    if operation == "update" and call.query.get("include") == "void":
        operation = "void"
    if kind is COMPANY or operation not in ("create", "update", "delete", "void"):
        raise unsupported(operation)
    if operation == "create":
        return answer(call, {kind.name: ledger.create(books, kind, body)})
    row = _row(books, kind, str(body.get("Id")))
    _check_token(row, body)
    if operation == "delete":
        if kind.name_list:
            raise unsupported("delete")
        return answer(call, {kind.name: ledger.delete(books, kind, row)})
    if operation == "void":
        if kind not in (INVOICE, PAYMENT):
            raise unsupported("void")
        ledger.void(books, kind, row)
    else:
        ledger.change(books, kind, row, body, sparse=body.get("sparse") is True)
    return answer(call, {kind.name: row})


def _check_plan(books: Books, kind: Kind) -> None:
    """A kind that the company's plan does not have, or the person no right to."""
    if kind.name in books.refused:
        detail = "Permission Denied Error : You do not have the access rights to use this feature."
        raise FaultError("5020", "Permission Denied Error", detail)


def _guarded(handler: Handler) -> Handler:
    """What the company refuses becomes a fault."""

    def handle(call: Call) -> Response:
        try:
            return handler(call)
        except FaultError as error:
            return fault(call, error)

    return handle


def _books(call: Call) -> Books:
    if call.params["realm"] != call.account.id:
        raise Answer(forbidden(call))
    if not takes_json(call):
        raise unsupported("answer in XML")
    books: Books = call.state
    return books


def _posted(call: Call) -> str:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/text", "text/plain"):
        raise unsupported(f"query as {kind or 'nothing'}")
    return call.body.decode("utf-8", "replace")


def _kind(call: Call) -> Kind:
    kind = BY_PATH.get(call.params["entity"].lower())
    if kind is None:
        raise unsupported(call.params["entity"])
    return kind


def _captured(name: str) -> Kind:
    kind = BY_PATH.get(name.strip().lower())
    if kind is None or kind is COMPANY:
        raise invalid(f"Metadata not found for Entity: {name}")
    return kind


def _since(call: Call) -> datetime:
    told = call.query.get("changedSince", "")
    if not told:
        raise missing("changedSince")
    try:
        since = instant(told)
    except ValueError as error:
        raise FaultError("2100", "Invalid Date", f"Date value expected: {told}") from error
    if since < call.clock.now() - CDC_WINDOW:
        raise unsupported(f"cdc with changedSince date {told} which is older than 30 days")
    return since


def _row(books: Books, kind: Kind, row_id: str) -> Json:
    row = books.rows[kind.name].get(row_id)
    if row is None:
        detail = "Object Not Found : What was asked for was deleted, or never was"
        raise FaultError("610", "Object Not Found", detail)
    return row


def _check_token(row: Json, body: Json) -> None:
    """Who changes a row must have seen it as it is."""
    token: Any = body.get("SyncToken")
    if token is None or token == "":
        raise missing("SyncToken")
    if str(token) != row["SyncToken"]:
        detail = "Stale Object Error : Someone else changed it in the meantime"
        raise FaultError("5010", "Stale Object Error", detail)


def _extras(account_id: str, origin: str) -> Json:
    return {
        "realm_id": account_id,
        "discovery_url": f"{origin}/{''.join(DISCOVERY)}",
        "revoke_url": f"{origin}/{''.join(REVOKE)}",
    }


def _accounting(method: str, path: str, handler: Handler) -> Route:
    return Route(method, API, f"{ROOT}{path}", _guarded(handler), scopes=(ACCOUNTING,))


vendor = Vendor(
    name="quickbooks",
    title="QuickBooks Online",
    base_url=f"https://{API}/v3",
    auth=AUTH,
    routes=(
        *ROUTES,
        _accounting("GET", "/query", query),
        _accounting("POST", "/query", query),
        _accounting("GET", "/cdc", capture),
        _accounting("GET", "/{entity}/{id}", read),
        _accounting("POST", "/{entity}", write),
    ),
    streams=(CHANGES, *BY_STREAM),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=trouble,
    limits=(Limit("minute", 500, 60.0), Limit("second", 10, 1.0)),
    account_controls={"void": void, "merge": merge, "refuse_part": refuse_part},
    webhook=SENDER,
    extras=_extras,
    three_pages_at=2050,
)
