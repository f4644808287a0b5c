"""A Zoho organisation that a test plays: its modules answer as API v8 does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors import Record, Request, Response, Stream, load
from tests._driving import NOW, response
from tests.reports._following import Followed

ZOHO = load("zoho_crm")
PAGE, MOST_FIELDS, DEEPEST = 200, 50, 2_000
MODULES = ("Leads", "Contacts", "Accounts", "Deals", "Tasks", "Reports")


def row(id_: int, minutes_ago: float = 9_000, **fields: Any) -> Record:
    return {"id": str(id_), "Modified_Time": stamp(minutes_ago), **fields}


def stamp(minutes_ago: float) -> str:
    return (NOW - timedelta(minutes=minutes_ago)).isoformat(timespec="seconds")


def error(status: int, code: str) -> Response:
    return response({"code": code, "details": {}, "message": code, "status": "error"}, status)


@dataclass
class Org:
    """`rows` by module, `fields` beside those that rows have, `gone` tombstones by module, `asked`
    what was asked. `refusals` answer in place of a path; `edits` happen after so many requests."""

    rows: dict[str, list[Record]] = field(default_factory=dict)
    fields: dict[str, list[Record]] = field(default_factory=dict)
    gone: dict[str, list[Record]] = field(default_factory=dict)
    modules: tuple[str, ...] = MODULES
    asked: list[Request] = field(default_factory=list)
    refusals: dict[str, Response] = field(default_factory=dict)
    edits: dict[int, Callable[[], object]] = field(default_factory=dict)
    lapsed: bool = False

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if edit := self.edits.pop(len(self.asked), None):
            edit()
        if refusal := self.refusals.get(request.path):
            return refusal
        match request.path.strip("/").split("/"):
            case ["settings", "modules"]:
                return response({"modules": [self._module(name) for name in self.modules]})
            case ["settings", "fields"]:
                return response({"fields": self._fields(str(request.params["module"]))})
            case [module, "deleted"]:
                rows = self.gone.get(module, [])
                return _shown(request, _since(request, rows, "deleted_time"), len(rows))
            case [module]:
                return self._list(module, request)
        raise AssertionError(request.path)

    def paths(self) -> list[str]:
        """What was asked, and no longer is part of `asked`."""
        found, self.asked = [request.path for request in self.asked], []
        return found

    def _module(self, name: str) -> Record:
        kind = "custom" if name.endswith("__c") else "default"
        return {
            "id": name, "api_name": name, "generated_type": kind, "api_supported": name != "Reports"
        }  # fmt: skip

    def _fields(self, module: str) -> list[Record]:
        names = {name: None for each in self.rows.get(module, []) for name in each}
        return [{"api_name": name} for name in names] + self.fields.get(module, [])

    def _list(self, module: str, request: Request) -> Response:
        params = request.params
        names = str(params["fields"]).split(",")
        if len(names) > MOST_FIELDS:
            return error(400, "LIMIT_EXCEEDED")
        rows = [
            each
            for each in self.rows.get(module, [])
            if params.get("converted") == "both" or not each.get("Converted__s")
            if "ids" not in params or each["id"] in str(params["ids"]).split(",")
        ]
        rows = _since(request, rows, "Modified_Time")
        by = str(params.get("sort_by", "id"))
        rows.sort(key=lambda each: (str(each.get(by)) if by != "id" else "", int(each["id"])))
        if "page_token" in params and self.lapsed:
            self.lapsed = False
            return error(400, "INVALID_DATA")
        return _shown(request, [{k: each[k] for k in ("id", *names) if k in each} for each in rows])


def _since(request: Request, rows: Iterable[Record], name: str) -> list[Record]:
    since = request.headers.get("If-Modified-Since")
    if not since:
        return list(rows)
    at = datetime.fromisoformat(since)
    return [each for each in rows if datetime.fromisoformat(each[name]) >= at]


def _shown(request: Request, rows: list[Record], most: int = DEEPEST) -> Response:
    """A page of rows, or an answer without a body. Here a token is the number of rows before."""
    size = int(str(request.params.get("per_page", PAGE)))
    page, token = int(str(request.params.get("page", 1))), request.params.get("page_token")
    start = int(str(token)) if token else (page - 1) * size
    if not token and start + size > DEEPEST:
        return error(400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED")
    shown = rows[start : start + size]
    if not shown:
        return response(None, 304 if "If-Modified-Since" in request.headers else 204)
    more = start + size < len(rows)
    info = {"more_records": more, "next_page_token": str(start + size) if more else None}
    return response({"data": shown, "info": info})


def follow(stream: str | Stream, org: Org) -> Followed:
    found = ZOHO.stream(stream) if isinstance(stream, str) else stream
    return Followed(ZOHO, found, org)
