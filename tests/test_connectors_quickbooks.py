"""QuickBooks' readers, driven over a played company."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    load,
)
from connectors.kernel.versions import parse_time
from tests._driving import NOW, drive, response

QUICKBOOKS = load("quickbooks")
PAGE = 1000
UNTIL = "2026-11-01T11:55:00+00:00"


def row(number: int, minutes_ago: float, **fields: Any) -> Record:
    at = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    return {"Id": str(number), "MetaData": {"LastUpdatedTime": at}, **fields}


def changed(record: Record) -> datetime:
    return parse_time(record["MetaData"]["LastUpdatedTime"])


class Company:
    """Rows by entity; `edits` are changes to make after so many queries."""

    def __init__(self, **rows: list[Record]) -> None:
        self.rows = rows
        self.asked: list[str] = []
        self.edits: dict[int, Any] = {}

    def __call__(self, request: Request) -> Response:
        answer = self._query(request) if request.path == "/query" else self._changes(request)
        if edit := self.edits.pop(len(self.asked), None):
            edit()
        return response({**answer, "time": NOW.isoformat()})

    def _query(self, request: Request) -> dict[str, Any]:
        query = str(request.params["query"])
        self.asked.append(query)
        found = re.fullmatch(
            r"select \* from (\w+)(?: where (.+?))?(?: orderby MetaData\.LastUpdatedTime)? "
            r"startposition (\d+) maxresults (\d+)",
            query,
        )
        assert found, query
        entity, where, position, size = found[1], found[2] or "", int(found[3]), int(found[4])
        assert ("Active in (true, false)" in where) is (entity in ("Customer", "Account"))
        least = re.search(r"LastUpdatedTime >= '([^']+)'", where)
        ids = re.search(r"\bId in \((.+?)\)", where)
        rows = [
            record
            for record in sorted(self.rows.get(entity, []), key=changed)
            if record.get("status") != "Deleted"
            if least is None or changed(record) >= parse_time(least[1])
            if ids is None or f"'{record['Id']}'" in ids[1]
        ][position - 1 : position - 1 + size]
        return {"QueryResponse": {entity: rows, "maxResults": len(rows)} if rows else {}}

    def _changes(self, request: Request) -> dict[str, Any]:
        entities = str(request.params["entities"]).split(",")
        self.asked.append(",".join(entities))
        since = parse_time(str(request.params["changedSince"]))
        groups: list[dict[str, Any]] = []
        left = PAGE
        for entity in entities:
            rows = [r for r in self.rows.get(entity, []) if changed(r) >= since][:left]
            left -= len(rows)
            groups.append({entity: rows, "startPosition": 1} if rows else {})
        return {"CDCResponse": [{"QueryResponse": groups}]}


def ids(pages: list[Any]) -> set[str]:
    return {record["Id"] for page in pages for record in page.records}


def test_a_backfill_pages_by_the_time_of_change_and_ends_where_it_began() -> None:
    company = Company(Invoice=[row(n, 5000 - n) for n in range(2500)])
    pages = drive(QUICKBOOKS.stream("invoices").read, company)
    assert ids(pages) == {str(n) for n in range(2500)}
    assert pages[-1].checkpoint == {"since": UNTIL}
    assert all("startposition 1 " in query for query in company.asked)


def test_rows_that_change_while_they_are_paged_are_not_skipped() -> None:
    rows = [row(n, 5000 - n) for n in range(2500)]
    company = Company(Customer=rows)

    def touch() -> None:
        for record in rows[:700]:
            record["MetaData"] = {"LastUpdatedTime": NOW.isoformat()}

    company.edits = {1: touch, 2: touch}
    assert ids(drive(QUICKBOOKS.stream("customers").read, company)) == {str(n) for n in range(2500)}


def test_more_rows_of_one_moment_than_a_page_holds_are_all_read() -> None:
    imported = [row(n, 600) for n in range(3300)]
    company = Company(Payment=[*imported, row(9001, 900), row(9002, 10)])
    pages = drive(QUICKBOOKS.stream("payments").read, company)
    assert len(ids(pages)) == 3302
    for page in pages[:-1]:
        rest = drive(QUICKBOOKS.stream("payments").read, company, page.checkpoint)
        assert rest == pages[pages.index(page) + 1 :]


def test_changes_and_deletes_come_from_change_data_capture() -> None:
    gone = row(3, 1, status="Deleted", domain="QBO")
    company = Company(Bill=[row(1, 100), row(2, 3), gone])
    (page,) = drive(QUICKBOOKS.stream("bills").read, company, {"since": "2026-11-01T11:50:00Z"})
    assert [record["Id"] for record in page.records] == ["2"]
    assert page.deleted == ["3"]
    assert page.checkpoint == {"since": UNTIL}


def test_too_many_changes_of_what_may_be_deleted_start_the_stream_over() -> None:
    company = Company(Invoice=[row(n, 1) for n in range(1200)])
    with pytest.raises(CheckpointExpiredError):
        drive(QUICKBOOKS.stream("invoices").read, company, {"since": "2026-11-01T11:50:00Z"})


def test_too_many_changes_of_a_name_list_are_queried_instead() -> None:
    company = Company(Account=[row(n, 2 + n / 1000) for n in range(2200)])
    read = QUICKBOOKS.stream("accounts").read
    pages = drive(read, company, {"since": "2026-11-01T11:50:00Z"})
    assert len(ids(pages)) == 2200
    assert pages[-1].checkpoint == {"since": UNTIL}
    for done, page in enumerate(pages[:-1], start=1):
        assert drive(read, company, page.checkpoint) == pages[done:]


@pytest.mark.parametrize("stream", ["customers", "invoices", "payments", "bills", "accounts"])
def test_what_is_older_than_thirty_days_starts_the_stream_over(stream: str) -> None:
    old = (NOW - timedelta(days=30)).isoformat()
    with pytest.raises(CheckpointExpiredError):
        drive(QUICKBOOKS.stream(stream).read, Company(), {"since": old})


def test_the_feed_starts_thirty_days_back_and_names_each_entity() -> None:
    old = 31 * 24 * 60
    company = Company(Customer=[row(1, 10), row(2, old)], Invoice=[row(1, 5, status="Deleted")])
    stream = QUICKBOOKS.stream("change_data_capture")
    (page,) = drive(stream.read, company)
    assert callable(stream.key)
    assert [stream.key(record) for record in page.records] == ["Customer:1", "Invoice:1"]
    assert page.records[1]["status"] == "Deleted"
    assert page.checkpoint == {"since": UNTIL}
    assert company.asked == ["Customer,Invoice,Payment,Bill,Account"]


def test_a_full_answer_of_the_feed_is_asked_for_in_halves() -> None:
    company = Company(
        Customer=[row(n, 50) for n in range(600)],
        Invoice=[row(n, 40) for n in range(600)],
        Payment=[row(n, 30 + n / 1000) for n in range(1500)],
        Account=[row(n, 20) for n in range(10)],
    )
    read = QUICKBOOKS.stream("change_data_capture").read
    pages = drive(read, company)
    found = {(record["entity"], record["Id"]) for page in pages for record in page.records}
    assert len(found) == 600 + 600 + 1500 + 10
    assert pages[-1].checkpoint == {"since": UNTIL}
    assert "Customer" in company.asked
    for done, page in enumerate(pages[:-1], start=1):
        assert drive(read, company, page.checkpoint) == pages[done:]


def test_a_smaller_page_is_kept_to_until_the_scan_ends_wherever_it_is_resumed() -> None:
    company = Company(Payment=[row(n, 600) for n in range(350)])

    def answer(request: Request) -> Response:
        if request.params["query"].endswith("maxresults 1000"):  # type: ignore[union-attr]
            raise ProviderUnavailableError("it took too long")
        return company(request)

    read = QUICKBOOKS.stream("payments").read
    pages = drive(read, answer)
    assert len(ids(pages)) == 350
    for done, page in enumerate(pages[:-1], start=1):
        assert page.checkpoint["size"] == 100
        assert drive(read, answer, page.checkpoint) == pages[done:]


def test_a_vendor_that_is_away_is_away_for_small_pages_too() -> None:
    asked = []

    def away(request: Request) -> Response:
        asked.append(request)
        raise ProviderUnavailableError("it is away")

    with pytest.raises(ProviderUnavailableError):
        drive(QUICKBOOKS.stream("bills").read, away)
    assert len(asked) == 2


def test_an_id_of_any_form_stays_a_text_in_the_query() -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.params["query"])
        return response({"QueryResponse": {}})

    fetch = QUICKBOOKS.stream("customers").fetch
    assert fetch
    odd = r"3\') or Id > ('0"
    (page,) = drive(lambda _, context: fetch(["7", odd], context), answer)
    assert page.deleted == ["7", odd]
    assert asked == [
        "select * from Customer where Active in (true, false) and "
        r"Id in ('7', '3\\\') or Id > (\'0') startposition 1 maxresults 1000"
    ]


def test_entities_are_asked_for_together_again_once_none_of_them_is_refused() -> None:
    company = Company(Customer=[row(1, 5)], Bill=[row(2, 5)])
    refused = {"Bill"}

    def answer(request: Request) -> Response:
        if refused & {*str(request.params["entities"]).split(",")}:
            raise NotAllowedError("not in the plan")
        return company(request)

    read = QUICKBOOKS.stream("change_data_capture").read
    pages = drive(read, answer, {"since": (NOW - timedelta(minutes=9)).isoformat()})
    assert set(company.asked) == {"Customer", "Invoice", "Payment", "Account"}
    refused.clear()
    pages = drive(read, answer, pages[-1].checkpoint, now=NOW + timedelta(hours=1))
    assert "2" in ids(pages)
    company.asked.clear()
    (page,) = drive(read, answer, pages[-1].checkpoint, now=NOW + timedelta(hours=1))
    assert company.asked == ["Customer,Invoice,Payment,Bill,Account"]
    assert set(page.checkpoint) == {"since"}


def test_a_feed_that_was_left_for_long_goes_on_with_what_there_is() -> None:
    company = Company(Bill=[row(1, 10)])
    old = (NOW - timedelta(days=90)).isoformat()
    (page,) = drive(QUICKBOOKS.stream("change_data_capture").read, company, {"since": old})
    assert len(page.records) == 1


def fault(code: str, kind: str, *, lower: bool = False) -> dict[str, Any]:
    if lower:
        return {"fault": {"error": [{"code": code, "message": "canary"}], "type": kind}}
    return {"Fault": {"Error": [{"code": code, "Message": "canary"}], "type": kind}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, fault("3200", "AUTHENTICATION", lower=True), BrokenConnectionError),
        (403, fault("3100", "SERVICE", lower=True), BrokenConnectionError),
        (429, fault("003001", "SERVICE", lower=True), RateLimitedError),
        (429, None, RateLimitedError),
        (403, fault("3001", "SERVICE"), RateLimitedError),
        (200, fault("500", "SystemFault"), ProviderUnavailableError),
        (200, fault("610", "ValidationFault"), ContractError),
        (400, fault("4000", "ValidationFault"), ContractError),
        (
            200,
            {"CDCResponse": [{"QueryResponse": [{}, fault("4000", "ValidationFault")]}]},
            ContractError,
        ),
        (200, {"CDCResponse": [fault("3200", "AuthenticationFault")]}, BrokenConnectionError),
        (400, {"Fault": {}}, ContractError),
        (400, fault("5030", "ValidationFault"), NotAllowedError),
        (401, fault("100", "AuthenticationFault"), BrokenConnectionError),
        (403, fault("120", "AuthorizationFault"), BrokenConnectionError),
    ],
)
def test_faults_are_read_in_both_spellings_with_any_status(
    status: int, body: Any, expected: type[Exception]
) -> None:
    error = QUICKBOOKS.classify(response(body, status=status))
    assert isinstance(error, expected)
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "body", [{"QueryResponse": {}}, {"CDCResponse": [{"QueryResponse": [{}]}]}, None, []]
)
def test_good_answers_are_no_faults(body: Any) -> None:
    assert QUICKBOOKS.classify(response(body)) is None


def test_a_time_that_is_no_time_does_not_get_into_a_query() -> None:
    at = {"until": UNTIL, "start": "x' or Id > '0"}
    with pytest.raises(ValueError, match="isoformat"):
        drive(QUICKBOOKS.stream("bills").read, Company(), at)
