"""An Airtable account that a test plays, and what our readers hold of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from connectors import Record, Request, Response, Stream, load
from tests._driving import NOW, drive, held, response
from tests._judging import as_the_client

AIRTABLE = load("airtable")
RECORDS, ATTACHMENTS, LINKS, PAYLOADS = (
    AIRTABLE.stream(name) for name in ("records", "attachments", "record_links", "webhook_payloads")
)
Special = Callable[[Request], Response | None]


def error(status: int, type_: str) -> Response:
    return response({"error": {"type": type_, "message": "no"}}, status)


def row(id_: str, **cells: Any) -> Record:
    return {"id": id_, "createdTime": "2026-01-01T00:00:00.000Z", "fields": cells}


def table(id_: str, **types: str) -> Record:
    fields = [{"id": name, "name": name, "type": kind} for name, kind in types.items()]
    return {"id": id_, "name": id_, "primaryFieldId": "fld1", "fields": fields, "views": []}


def hook(id_: str, following: int, **more: Any) -> Record:
    specification = {"options": {"filters": {"dataTypes": ["tableData"]}}}
    return {
        "id": id_, "specification": specification, "cursorForNextPayload": following,
        "isHookEnabled": True, "areNotificationsEnabled": True, **more,
    }  # fmt: skip


def entry(table_id: str, **what: Any) -> Record:
    return {
        "timestamp": "2026-11-01T11:00:00.000Z", "baseTransactionNumber": 1, "payloadFormat": "v0",
        "changedTablesById": {table_id: what},
    }  # fmt: skip


@dataclass
class Account:
    """Bases with tables and their records; a filter by time shows `changed`, one by ids those.
    `special` answers first."""

    rows: dict[str, dict[str, list[Record]]] = field(
        default_factory=lambda: {"app1": {"tblA": [row("rec1"), row("rec2")]}}
    )
    special: Special = lambda request: None
    schema: dict[str, Record] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, list[Record]] = field(default_factory=dict)
    logs: dict[str, Sequence[Record]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if (found := self.special(request)) is not None:
            return found
        match request.path.strip("/").split("/"):
            case ["meta", "bases"]:
                level = self.levels.get
                shown = [{"id": id_, "permissionLevel": level(id_, "create")} for id_ in self.rows]
                return response({"bases": shown})
            case ["meta", "bases", base, "tables"]:
                found_ = [
                    self.schema.get(one) or table(one, fld1="text") for one in self.rows[base]
                ]
                return response({"tables": found_})
            case ["bases", base, "webhooks"]:
                return response({"webhooks": self.hooks.get(base, [])})
            case ["bases", base, "webhooks", hook_id, "payloads"]:
                log, cursor = self.logs[hook_id], int(str(request.params["cursor"]))
                rows = list(log[cursor - 1 :])
                body = {"payloads": rows, "cursor": len(log) + 1, "mightHaveMore": True}
                return response(body)
            case [base, table_id]:
                return self.listed(self.rows[base][table_id], request.params)
        return error(404, "NOT_FOUND")

    def listed(self, rows: Sequence[Record], params: Mapping[str, Any]) -> Response:
        formula = str(params.get("filterByFormula", ""))
        if "RECORD_ID" in formula:
            rows = [one for one in rows if f"'{one['id']}'" in formula]
        elif formula:
            rows = [one for one in rows if one["id"] in self.changed]
        return response({"records": rows})

    def lists(self) -> list[Request]:
        return [one for one in self.asked if one.path.startswith("/app")]


def at(path: str, *answers: Response) -> Special:
    """Those answers to what is asked at that path; the last again and again."""
    left = list(answers)

    def special(request: Request) -> Response | None:
        if request.path != path:
            return None
        return left.pop(0) if len(left) > 1 else left[0]

    return special


@dataclass
class Held:
    """What is held of a stream, and where it stands."""

    stream: Stream
    account: Account
    rows: dict[str, Record] = field(default_factory=dict)
    at: Mapping[str, Any] = field(default_factory=dict)
    unread: dict[str, type[Exception]] = field(default_factory=dict)
    unsettled: list[str] = field(default_factory=list)

    def sync(self, after: timedelta = timedelta()) -> "Held":
        self.account.asked.clear()
        played = as_the_client(AIRTABLE, self.account)

        def answer(request: Request) -> Response:
            return replace(played(request), sent_at=NOW + after)

        pages = drive(self.stream.read, answer, self.at, now=NOW + after)
        self.rows, self.at = held(self.stream, pages, self.rows), pages[-1].checkpoint
        self.unread = {one.part: type(one.error) for one in pages[-1].unread or ()}
        self.unsettled = [key for page in pages for key in page.unsettled]
        return self


def of(stream: Stream, account: Account) -> Held:
    return Held(stream, account).sync()


def followed(log: list[Record], **more: Any) -> tuple[Held, Account]:
    """Records of a base with a webhook, read once; the log is what comes after that."""
    account = Account(hooks={"app1": [hook("ach1", 1)]}, logs={"ach1": log})
    read = of(RECORDS, account)
    account.hooks["app1"] = [hook("ach1", len(log) + 1, **more)]
    return read, account
