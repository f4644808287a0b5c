"""What Zoho CRM's API answers, and how it refuses.

https://www.zoho.com/crm/developer/docs/api/v8/get-records.html
https://www.zoho.com/crm/developer/docs/api/v8/status-codes.html
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Never

from starlette.responses import Response

from sandbox.kernel.fields import only
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Route, Usage
from sandbox.zoho_crm.store import Module, Org, described, in_bin, moment, written

# An API host for each data centre.
HOSTS = "www.zohoapis.*"
PAGE, MOST_FIELDS, MOST_IDS = 200, 50, 100
# By page numbers a listing goes no further.
DEEPEST = 2_000
TOKENS_LIVE = timedelta(hours=24)
SORTS = ("id", "Created_Time", "Modified_Time")
TYPES = {"ActiveUsers": ("active",), "DeactiveUsers": ("deleted", "disabled")}
FORMS = {
    Kind.BAD_REQUEST: (400, "INVALID_DATA", "invalid data"),
    Kind.UNAUTHORIZED: (401, "INVALID_TOKEN", "invalid oauth token"),
    Kind.FORBIDDEN: (403, "NO_PERMISSION", "permission denied"),
    Kind.NOT_FOUND: (404, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a "
    "correct one"),
    Kind.METHOD_NOT_ALLOWED: (400, "INVALID_REQUEST_METHOD", "The http request method type is not "
    "a valid one"),
    Kind.RATE_LIMITED: (429, "TOO_MANY_REQUESTS", "You have exceeded the API limit"),
    Kind.SERVER_ERROR: (500, "INTERNAL_ERROR", "Internal Server Error"),
    Kind.UNAVAILABLE: (503, "INTERNAL_ERROR", "Service unavailable"),
}  # fmt: skip


def refusal(
    status: int, code: str, message: str, headers: Json | None = None, **details: Any
) -> Response:
    body = {"code": code, "details": details, "message": message, "status": "error"}
    return reply(body, status, headers)


def no(status: int, code: str, message: str = "", **details: Any) -> Never:
    raise Answer(refusal(status, code, message or code.lower(), **details))


def trouble(case: ErrorCase, call: Call) -> Response:
    """No answer says how long to wait, unless that was ordered."""
    status, code, message = FORMS[case.kind]
    spent = {"X-API-CREDITS-REMAINING": "0"} if case.limit else {}
    return refusal(status, code, message, {**spent, **case.waits})


def rate_headers(usages: Sequence[Usage]) -> Json:
    """Told only once half of the credits are used."""
    return {
        f"X-API-{usage.limit.name}-REMAINING".upper(): str(usage.remaining)
        for usage in usages
        if usage.remaining <= usage.amount / 2
    }


def allow(call: Call, *scopes: str) -> None:
    """Any one of these, `ZohoCRM.` before it, lets the call in."""
    held = call.grant.scopes if call.grant else ()
    if not any(f"ZohoCRM.{scope}" in held for scope in scopes):
        no(401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL")


def module_of(call: Call, name: str | None) -> Module:
    """A module whose records the token and the person may read."""
    org: Org = call.state
    if name is None:
        no(400, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing",
           param_name="module")  # fmt: skip
    module = org.modules.get(name)
    if module is None:
        no(400, "INVALID_MODULE", "the module name given seems to be invalid")
    if not module.api_supported:
        no(400, "NOT_SUPPORTED", "the module is not supported in api")
    if module.refused:
        no(403, "NO_PERMISSION", "permission denied", permissions=[f"Crm_Implied_View_{name}"])
    return module


def records_of(call: Call) -> Module:
    module = module_of(call, call.params["module"])
    scope = "custom" if module.kind == "custom" else module.name.replace("_", "").lower()
    allow(call, "modules.ALL", "modules.READ", f"modules.{scope}.READ", f"modules.{scope}.ALL")
    return module


# -- Records --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """What a call asks of a listing; the same for all of its pages."""

    fields: tuple[str, ...]
    ids: tuple[str, ...]
    sort_by: str
    descending: bool
    converted: str
    approved: str
    since: datetime | None
    per_page: int

    @classmethod
    def of(cls, call: Call) -> "Listing":
        fields = _names(call, "fields")
        if not fields:
            no(400, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing",
               param_name="fields")  # fmt: skip
        ids = _names(call, "ids")
        if len(fields) > MOST_FIELDS or len(ids) > MOST_IDS:
            no(400, "LIMIT_EXCEEDED", "the limit of names in one call is exceeded")
        sort_by = call.query.get("sort_by", "id")
        if sort_by not in SORTS:
            no(400, "INVALID_DATA", "sorting is by id, Created_Time or Modified_Time",
               param_name="sort_by")  # fmt: skip
        return cls(
            fields, ids, sort_by, call.query.get("sort_order", "desc") == "desc",
            call.query.get("converted", "false"), call.query.get("approved", "true"),
            since(call), number(call, "per_page", PAGE, PAGE),
        )  # fmt: skip

    def rows(self, module: Module) -> list[Json]:
        """All that it shows, in its order."""
        found = [row for row in module.shown() if self._shows(module, row)]
        return sorted(found, key=self.place, reverse=self.descending)

    def place(self, row: Json) -> tuple[float, int]:
        """Where a row stands in the order."""
        id_ = int(row["id"])
        return (0.0 if self.sort_by == "id" else moment(row[self.sort_by]).timestamp(), id_)

    def _shows(self, module: Module, row: Json) -> bool:
        if self.ids and row["id"] not in self.ids:
            return False
        if self.since and moment(row["Modified_Time"]) < self.since:
            return False
        converted, waits = bool(row.get("Converted__s")), row["id"] in module.waiting
        return _is_of(self.converted, converted) and _is_of(self.approved, not waits)


def _is_of(asked: str, is_so: bool) -> bool:
    return asked == "both" or (asked == "true") == is_so


def _names(call: Call, param: str) -> tuple[str, ...]:
    return tuple(name for name in call.query.get(param, "").split(",") if name)


def since(call: Call) -> datetime | None:
    """The header If-Modified-Since, a time of ISO 8601 with its offset."""
    text = call.headers.get("if-modified-since")
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        no(400, "INVALID_DATA", "If-Modified-Since is no time of ISO 8601 with an offset")
    return at


def number(call: Call, param: str, default: int, most: int | None = None) -> int:
    text = call.query.get(param, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= (most or int(text)):
        no(400, "INVALID_DATA", f"{param} is out of its range", param_name=param)
    return int(text)


def list_records(call: Call) -> Response:
    module, asked, org = records_of(call), Listing.of(call), call.state
    rows, token = asked.rows(module), call.query.get("page_token")
    if token is None:
        page = number(call, "page", 1)
        skipped = (page - 1) * asked.per_page
        if skipped + asked.per_page > DEEPEST:
            no(400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED", "You can only get the first 2000 "
               "records without using page_token param", limit=DEEPEST)  # fmt: skip
    else:
        if "page" in call.query:
            no(400, "AMBIGUITY_DURING_PROCESSING", "page and page_token go together never")
        page, skipped = _by_token(org, token, module, asked, rows)
    shown = rows[skipped : skipped + asked.per_page]
    if not shown:
        return Response(status_code=304 if asked.since else 204)
    more = len(rows) > skipped + len(shown)
    following = _new_token(org, module, asked, shown[-1], page + 1) if more else None
    info = {
        "per_page": asked.per_page,
        "count": len(shown),
        "page": page,
        "more_records": more,
        "sort_by": asked.sort_by,
        "sort_order": "desc" if asked.descending else "asc",
        "previous_page_token": None,
        "next_page_token": following,
        "page_token_expiry": following and written(org.now() + TOKENS_LIVE),
    }
    return reply({"data": [only(row, "id", *asked.fields) for row in shown], "info": info})


def _new_token(org: Org, module: Module, asked: Listing, last: Json, page: int) -> str:
    token = token_hex(48)
    expires = org.now() + TOKENS_LIVE
    org.tokens[token] = {
        "of": (module.name, asked), "after": asked.place(last), "page": page, "expires": expires,
    }  # fmt: skip
    return token


def _by_token(
    org: Org, token: str, module: Module, asked: Listing, rows: Sequence[Json]
) -> tuple[int, int]:
    """The page that a token stands for, and how many rows come before it: those up to the last
    one that was shown."""
    known = org.tokens.get(token)
    if known is None or known["expires"] <= org.now() or known["of"] != (module.name, asked):
        no(400, "INVALID_DATA", "the page token is invalid or has expired", param_name="page_token")
    after = known["after"]
    places = [asked.place(row) for row in rows]
    seen = sum(place >= after if asked.descending else place <= after for place in places)
    return int(known["page"]), seen


def get_record(call: Call) -> Response:
    module = records_of(call)
    row = next((row for row in module.shown() if row["id"] == call.params["id"]), None)
    return reply({"data": [row]}) if row else Response(status_code=204)


def list_deleted(call: Call) -> Response:
    """Only by page numbers, the newest first."""
    module, start = records_of(call), since(call)
    if not module.lists_deleted:
        no(400, "INVALID_MODULE", "the module name given seems to be invalid")
    wanted = call.query.get("type", "all")
    rows = [
        row
        for row in in_bin(call.state, module)
        if wanted in ("all", row["type"])
        if start is None or moment(row["deleted_time"]) >= start
    ]
    return _by_numbers(call, "data", rows, unchanged=start is not None)


def _by_numbers(
    call: Call, name: str, rows: Sequence[Json], *, unchanged: bool = False
) -> Response:
    page, size = number(call, "page", 1), number(call, "per_page", PAGE, PAGE)
    if page * size > DEEPEST:
        no(400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED", "there are only 2000 records to be had",
           limit=DEEPEST)  # fmt: skip
    shown = rows[(page - 1) * size : page * size]
    if not shown:
        return Response(status_code=304 if unchanged else 204)
    more = len(rows) > page * size
    info = {"per_page": size, "count": len(shown), "page": page, "more_records": more}
    return reply({name: list(shown), "info": info})


# -- The organisation -----------------------------------------------------------------------------


def list_modules(call: Call) -> Response:
    allow(call, "settings.ALL", "settings.READ", "settings.modules.ALL", "settings.modules.READ")
    return reply({"modules": [described(module) for module in call.state.modules.values()]})


def list_fields(call: Call) -> Response:
    allow(call, "settings.ALL", "settings.READ", "settings.fields.ALL", "settings.fields.READ")
    module = module_of(call, call.query.get("module"))
    return reply({"fields": module.fields}) if module.fields else Response(status_code=204)


def list_users(call: Call) -> Response:
    allow(call, "users.ALL", "users.READ")
    wanted, start = call.query.get("type", "ActiveUsers"), since(call)
    if wanted not in TYPES:
        no(400, "INVALID_DATA", "there is no such type of users", param_name="type")
    rows: Iterable[Json] = call.state.users.values()
    found = [
        {**row, "Isonline": number % 2 == int(call.clock.time()) % 2}
        for number, row in enumerate(rows)
        if row["status"] in TYPES[wanted]
        if start is None or moment(row["Modified_Time"]) >= start
    ]
    return _by_numbers(call, "users", found, unchanged=start is not None)


def get_org(call: Call) -> Response:
    allow(call, "org.ALL", "org.READ")
    org: Org = call.state
    shown = {
        "id": f"{org.seed.account_id[:6]}0000000000001",
        "zgid": org.seed.account_id,
        "company_name": org.seed.name,
        "time_zone": "Asia/Kolkata",
        "currency": "INR",
        "type": "production",
    }
    return reply({"org": [shown]})


def _at(method: str, path: str, handler: Callable[[Call], Response]) -> Route:
    return Route(method, HOSTS, f"/crm/v8{path}", handler)


# The names that are no module's come first.
ROUTES = (
    _at("GET", "/org", get_org),
    _at("GET", "/users", list_users),
    _at("GET", "/settings/modules", list_modules),
    _at("GET", "/settings/fields", list_fields),
    _at("GET", "/{module}/deleted", list_deleted),
    _at("GET", "/{module}/{id}", get_record),
    _at("GET", "/{module}", list_records),
)
