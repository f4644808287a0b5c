"""What Airtable's Web API answers: schema, records, webhooks; and how it refuses.

https://airtable.com/developers/web/api/introduction
"""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.responses import Response

from sandbox.airtable.formulas import FormulaError, Row, condition
from sandbox.airtable.store import (
    IDLE,
    WEEK,
    Base,
    Home,
    Hook,
    Listing,
    Record,
    Table,
    base_row,
    new_id,
    schema,
)
from sandbox.kernel.clock import stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Route

HOST = "api.airtable.com"
MOST, PAYLOADS, BASES = 100, 50, 1000
LONGEST_URL = 16_000
LOCKOUT = 30.0
HOOKS, OURS = 10, 2
# An address must be https. Where tests and the demo run, it is not.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DATA_TYPES = {"tableData", "tableFields", "tableMetadata"}
NOT_SHOWN = "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"
RECORDS, SCHEMA, WEBHOOKS = "data.records:read", "schema.bases:read", "webhook:manage"

Handler: TypeAlias = Callable[[Call, Home], Response]


def refused(status: int, type_: str, message: str = "") -> Answer:
    text = message or "Invalid request: parameter validation failed. Check your request data."
    return Answer(reply({"error": {"type": type_, "message": text}}, status))


def not_shown() -> Answer:
    """The same of what is not there and of what may not be seen."""
    message = "Invalid permissions, or the requested model was not found. Check that both your "
    return refused(403, NOT_SHOWN, message + "user and your token have the required permissions.")


def trouble(case: ErrorCase, call: Call) -> Response:
    if case.limit is not None:
        call.state.locked_until = call.clock.time() + LOCKOUT
    match case.kind:
        case Kind.RATE_LIMITED:
            return _too_many(case.waits)
        case Kind.UNAUTHORIZED:
            error = {"type": "AUTHENTICATION_REQUIRED", "message": "Authentication required"}
            return reply({"error": error}, 401)
        case Kind.FORBIDDEN:
            return not_shown().response
        case Kind.NOT_FOUND | Kind.METHOD_NOT_ALLOWED:
            return reply({"error": "NOT_FOUND"}, 404)
        case Kind.SERVER_ERROR:
            return reply({"error": {"type": "SERVER_ERROR", "message": "Try again"}}, 500)
        case Kind.UNAVAILABLE:
            return reply({"error": "SERVICE_UNAVAILABLE"}, 503)
    return refused(422, "INVALID_REQUEST_UNKNOWN").response


def _too_many(headers: Any = None) -> Response:
    message = "Rate limit exceeded. Please try again later"
    error = {"error": "RATE_LIMIT_REACHED", "message": message}
    return reply({"errors": [error]}, 429, headers or {})


# -- Schema ---------------------------------------------------------------------------------------


def whoami(call: Call, home: Home) -> Response:
    scopes = list(call.grant.scopes) if call.grant else []
    return reply({"id": home.user["id"], "scopes": scopes})


def bases(call: Call, home: Home) -> Response:
    shown = [base_row(base) for base in home.shown()]
    at = int(call.query.get("offset", "itr0").removeprefix("itr"))
    more = {"offset": f"itr{at + BASES}"} if len(shown) > at + BASES else {}
    return reply({"bases": shown[at : at + BASES], **more})


def tables(call: Call, home: Home) -> Response:
    base = _base(call, home)
    if base.refused:
        raise not_shown()
    found = [schema(table) for table in base.tables.values()]
    if "visibleFieldIds" not in call.query.getlist("include"):
        found = [{**one, "views": [_plain_view(view) for view in one["views"]]} for one in found]
    return reply({"tables": found})


def _plain_view(view: Json) -> Json:
    return {name: value for name, value in view.items() if name != "visibleFieldIds"}


def _base(call: Call, home: Home) -> Base:
    base = home.bases.get(call.params["base"])
    if base is None or base.hidden or base.level == "none":
        raise not_shown()
    return base


def _table(call: Call, home: Home) -> Table:
    base, named = _base(call, home), call.params["table"]
    for table in base.tables.values():
        if named in (table.id, table.name) and not table.refused:
            return table
    raise not_shown()


# -- Records --------------------------------------------------------------------------------------


def records(call: Call, home: Home) -> Response:
    """A page of a table; the list of its records is that of when its first page was asked for."""
    table = _table(call, home)
    asked = _asked(call)
    size = _number(asked, "pageSize", MOST)
    offset = asked.get("offset")
    if offset is None:
        ids = _filtered(table, str(asked.get("filterByFormula") or ""))
        ids = ids[: _number(asked, "maxRecords", len(ids) or 1)]
        iterator = new_id("itr", home.random)
    else:
        iterator, _, first = str(offset).partition("/")
        if not iterator.startswith("itr") or not first.startswith("rec"):
            raise refused(422, "INVALID_OFFSET_VALUE", f"The value of offset {offset} is invalid")
        listing = home.listings.get(iterator)
        if listing is None or call.clock.now() - listing.used > IDLE or first not in listing.ids:
            raise refused(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE")
        # The same page may be asked for again, as a client does whose connection broke.
        ids = listing.ids[listing.ids.index(first) :]
    page, left = ids[:size], ids[size:]
    fields = _fields(table, asked)
    rows = [
        shown(call, table, table.records[id_], asked, fields)
        for id_ in page
        if id_ in table.records
    ]
    if offset is not None or left:
        whole = ids if offset is None else home.listings[iterator].ids
        home.listings[iterator] = Listing(whole, call.clock.now())
    more = {"offset": f"{iterator}/{left[0]}"} if left else {}
    return reply({"records": rows, **more})


def record(call: Call, home: Home) -> Response:
    table = _table(call, home)
    found = table.records.get(call.params["record"])
    if found is None:
        raise Answer(reply({"error": "NOT_FOUND"}, 404))
    return reply(shown(call, table, found, _asked(call), None))


def _asked(call: Call) -> Json:
    """The parameters of a query, or of a body where the address would be too long."""
    query = call.query
    if len(str(query)) > LONGEST_URL:
        raise Answer(reply({"error": "UNEXPECTED_ERROR"}, 414))
    if call.method == "POST":
        body = call.json()
        return body if isinstance(body, dict) else {}
    asked: Json = {name.removesuffix("[]"): query[name] for name in query}
    return {**asked, "fields": [*query.getlist("fields[]"), *query.getlist("fields")]}


def _number(asked: Json, name: str, usual: int) -> int:
    try:
        number = int(asked.get(name, usual))
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise refused(422, "INVALID_REQUEST_UNKNOWN", f"{name} must be a number above 0")
    return min(number, MOST) if name == "pageSize" else number


def _filtered(table: Table, formula: str) -> list[str]:
    if not formula:
        return list(table.records)
    names = {id_: one["name"] for id_, one in table.fields.items()}
    known = frozenset([*names, *names.values()])
    try:
        fits = condition(formula)
        return [
            one.id
            for one in table.records.values()
            if fits(Row(one.id, _both(one.cells, names), one.created, one.modified, known))
        ]
    except FormulaError as error:
        text = f"The formula for filtering records is invalid: {error}"
        raise refused(422, "INVALID_FILTER_BY_FORMULA", text) from error


def _both(cells: Json, names: dict[str, str]) -> Json:
    return {**cells, **{names[id_]: one for id_, one in cells.items()}}


def _fields(table: Table, asked: Json) -> set[str] | None:
    given = asked.get("fields") or []
    found = {id_ for id_, one in table.fields.items() if id_ in given or one["name"] in given}
    if len(found) < len(set(given)):
        raise refused(422, "UNKNOWN_FIELD_NAME", "Unknown field name")
    return found if given else None


def shown(call: Call, table: Table, record: Record, asked: Json, fields: set[str] | None) -> Json:
    """Cells by the names of fields, unless they are asked for by ids: in an address any value does,
    `false` too (Airtable/airtable.js#341, 2022-12). Empty ones are left out."""
    by_id = bool(asked.get("returnFieldsByFieldId"))
    cells = {
        id_ if by_id else table.fields[id_]["name"]: linked(call, cell)
        for id_, cell in record.cells.items()
        if fields is None or id_ in fields
    }
    return {"id": record.id, "createdTime": stamp(record.created), "fields": cells}


def linked(call: Call, value: Any) -> Any:
    if isinstance(value, list):
        return [linked(call, one) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("id", "")).startswith("att"):
        at = int((call.clock.now() + timedelta(hours=2)).timestamp() * 1000)
        url = f"https://v5.airtableusercontent.com/v3/u/{at}/{value['id']}"
        thumbnails = {"small": {"url": f"{url}/small", "width": 36, "height": 36}}
        return {**value, "url": url, "thumbnails": thumbnails}
    return {name: linked(call, one) for name, one in value.items()}


# -- Webhooks -------------------------------------------------------------------------------------


def hooks(call: Call, home: Home) -> Response:
    now = call.clock.now()
    rows = [
        {
            "id": hook.id,
            "specification": hook.specification,
            "notificationUrl": hook.url,
            "cursorForNextPayload": hook.next,
            "areNotificationsEnabled": hook.notifies,
            "isHookEnabled": hook.enabled(now),
            "expirationTime": stamp(hook.expires),
            "lastNotificationResult": None,
            "lastSuccessfulNotificationTime": None,
        }
        for hook in _base(call, home).hooks.values()
    ]
    return reply({"webhooks": rows})


def make_hook(call: Call, home: Home) -> Response:
    base, body = _base(call, home), call.json()
    if not home.webhooks:
        raise not_shown()
    if not isinstance(body, dict):
        raise refused(422, "INVALID_REQUEST_MISSING_FIELDS")
    try:
        types = set(body["specification"]["options"]["filters"]["dataTypes"])
    except (KeyError, TypeError) as error:
        raise refused(422, "INVALID_WEBHOOK_SPECIFICATION") from error
    if not types or not types <= DATA_TYPES:
        raise refused(422, "INVALID_WEBHOOK_SPECIFICATION")
    url = body.get("notificationUrl")
    target = urlsplit(str(url or "https://none.example"))
    if target.scheme != "https" and target.hostname not in LOOPBACK:
        raise refused(422, "INVALID_NOTIFICATION_URL")
    live = [one for one in base.hooks.values() if one.enabled(call.clock.now())]
    if len(base.hooks) >= HOOKS or len(live) >= OURS:
        raise refused(422, "TOO_MANY_WEBHOOKS_IN_BASE", "Webhook limit reached")
    secret = base64.b64encode(home.random.randbytes(32)).decode()
    id_, until = new_id("ach", home.random), call.clock.now() + WEEK
    hook = Hook(id_, body["specification"], url, until, secret)
    base.hooks[id_] = hook
    _address(call, hook)
    return reply({"id": id_, "macSecretBase64": secret, "expirationTime": stamp(until)})


def _address(call: Call, hook: Hook) -> None:
    if not hook.url or not hook.secret:
        return
    until = hook.expires.timestamp()
    call.server.watches.add(
        Address(
            url=hook.url, secret=hook.secret, id=hook.id, account_id=call.account.id,
            grant=call.grant, expires_at=until,
        )
    )  # fmt: skip


def _hook(call: Call, home: Home) -> Hook:
    found = _base(call, home).hooks.get(call.params["hook"])
    if found is None:
        raise Answer(reply({"error": "NOT_FOUND"}, 404))
    return found


def drop_hook(call: Call, home: Home) -> Response:
    hook = _hook(call, home)
    del home.bases[call.params["base"]].hooks[hook.id]
    call.server.watches.remove(hook.id)
    return Response(status_code=204)


def refresh_hook(call: Call, home: Home) -> Response:
    """A week more. What has ended stays ended."""
    hook = _hook(call, home)
    if not hook.enabled(call.clock.now()):
        raise refused(422, "CANNOT_REFRESH_DISABLED_WEBHOOK")
    hook.expires = call.clock.now() + WEEK
    _address(call, hook)
    return reply({"expirationTime": stamp(hook.expires)})


def toggle_hook(call: Call, home: Home) -> Response:
    body = call.json()
    if not isinstance(body, dict) or not isinstance(body.get("enable"), bool):
        raise refused(422, "INVALID_REQUEST_MISSING_FIELDS")
    _hook(call, home).notifies = body["enable"]
    return Response(status_code=204)


def payloads(call: Call, home: Home) -> Response:
    """Entries of a log from a number on, or from the oldest that is kept. That there might be more
    is said of a full page, also where it was the last."""
    hook = _hook(call, home)
    try:
        cursor, limit = int(call.query.get("cursor", 1)), int(call.query.get("limit", PAYLOADS))
    except ValueError as error:
        raise refused(422, "INVALID_CURSOR") from error
    if not 1 <= cursor <= hook.next or not 1 <= limit <= PAYLOADS:
        raise refused(422, "INVALID_CURSOR")
    kept = {n: one for n, one in hook.kept(call.clock.now()).items() if n >= cursor}
    page = list(kept)[:limit]
    following = page[-1] + 1 if page else hook.next
    rows = [linked(call, kept[number]) for number in page]
    more = len(page) == limit
    return reply({"payloads": rows, "cursor": following, "mightHaveMore": more})


def _guarded(handler: Handler) -> Callable[[Call], Response]:
    def answer(call: Call) -> Response:
        home: Home = call.state
        if call.clock.time() < home.locked_until:
            return _too_many()
        if home.used_up:
            text = "You have exceeded the number of API calls of your plan"
            error = {"type": "PUBLIC_API_BILLING_LIMIT_EXCEEDED", "message": text}
            return reply({"error": error}, 429)
        try:
            return handler(call, home)
        except Answer as answered:
            return answered.response

    return answer


HOOK = "/bases/{base}/webhooks/{hook}"
ROUTES = tuple(
    Route(method, HOST, f"/v0{path}", _guarded(handler), scopes=scopes)
    for method, path, handler, scopes in (
        ("GET", "/meta/whoami", whoami, ()),
        ("GET", "/meta/bases", bases, (SCHEMA,)),
        ("GET", "/meta/bases/{base}/tables", tables, (SCHEMA,)),
        ("GET", "/bases/{base}/webhooks", hooks, (WEBHOOKS,)),
        ("POST", "/bases/{base}/webhooks", make_hook, (WEBHOOKS,)),
        ("DELETE", HOOK, drop_hook, (WEBHOOKS,)),
        ("POST", f"{HOOK}/refresh", refresh_hook, (WEBHOOKS,)),
        ("POST", f"{HOOK}/enableNotifications", toggle_hook, (WEBHOOKS,)),
        ("GET", f"{HOOK}/payloads", payloads, (WEBHOOKS,)),
        ("GET", "/{base}/{table}", records, (RECORDS,)),
        ("POST", "/{base}/{table}/listRecords", records, (RECORDS,)),
        ("GET", "/{base}/{table}/{record}", record, (RECORDS,)),
    )
)
