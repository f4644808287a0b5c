"""What people reported of programs that read Salesforce, played on our reader, on our feed of
change events and on our outbound messages.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Delivery,
    EventBatch,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    RetryableError,
    load,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, refresh
from storage.rows import rows
from tests._driving import NOW, drive, held, response
from tests._judging import as_the_client, judged
from tests._vendor import Answer, PlayedClock, Vendor, serve
from tests.reports._following import Followed, line_to

SALESFORCE = load("salesforce")
ACCOUNTS, CUSTOM = SALESFORCE.stream("accounts"), SALESFORCE.stream("custom_objects")
CONTEXT = Context(now=NOW, account_id="00D000000000001AAA")
INSTANCE = "https://acme.my.salesforce.com"
STANDARD = {"Id": "id", "Name": "string", "IsDeleted": "boolean", "SystemModstamp": "datetime"}


@pytest.fixture(scope="module")
def served() -> Iterator[Vendor]:
    with serve(Vendor()) as vendor:
        yield vendor


@pytest.fixture
def vendor(served: Vendor) -> Vendor:
    served.reset()
    return served


def id_(number: int, prefix: str = "001") -> str:
    return f"{prefix}{number:012}AAA"


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def row(number: int, changed: datetime = NOW - timedelta(days=30), **fields: Any) -> Record:
    return {
        "attributes": {"type": "Account"},
        "Id": fields.pop("Id", id_(number)),
        "Name": f"Account {number}",
        "IsDeleted": False,
        "SystemModstamp": stamp(changed),
        **fields,
    }


def refused(code: str, status: int = 400, message: str = "made up") -> Response:
    return response([{"message": message, "errorCode": code}], status)


def description(name: str = "Account", **fields: str) -> dict[str, Any]:
    told = [{"name": each, "type": type_} for each, type_ in {**STANDARD, **fields}.items()]
    return {"name": name, "fields": told}


def no_deletions() -> dict[str, Any]:
    return {
        "deletedRecords": [],
        "earliestDateAvailable": stamp(NOW - timedelta(days=15)),
        "latestDateCovered": stamp(NOW),
    }


class Org:
    """Accounts as queries show them: in a time of change, after an id, or with it; 2,000 a page."""

    def __init__(self, *found: Record) -> None:
        self.rows = list(found)
        self.fields: dict[str, str] = {}
        self.deletions: Any = no_deletions()
        self.asked: list[Request] = []
        self.jobs: Callable[[Request], Response] = lambda request: refused("FEATURE_OFF", 403)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path.endswith("/describe"):
            return response(description(**self.fields))
        if "/jobs/query" in request.path:
            return self.jobs(request)
        if "/deleted/" in request.path:
            deletions = self.deletions
            return deletions(request) if callable(deletions) else response(deletions)
        return self.query(str(request.params["q"]))

    def query(self, text: str) -> Response:
        found = sorted(self.rows, key=lambda each: (each["SystemModstamp"], each["Id"]))
        by_id = re.search(r"WHERE Id > '(\w+)'", text)
        since = re.search(r"SystemModstamp >= (\S+)", text)
        place = re.search(r"SystemModstamp > (\S+) OR .*Id > '(\w+)'", text)
        if place:
            from_ = (stamp(datetime.fromisoformat(place[1])), place[2])
            found = [each for each in found if (each["SystemModstamp"], each["Id"]) > from_]
        elif since:
            from_at = datetime.fromisoformat(since[1])
            found = [e for e in found if datetime.fromisoformat(e["SystemModstamp"]) >= from_at]
        else:
            found = sorted(self.rows, key=lambda each: str(each["Id"]))
            found = [each for each in found if not by_id or each["Id"] > by_id[1]]
        named = re.search(r"SELECT (.+?) FROM", text)
        assert named
        names = named[1].split(", ")
        shown: list[Record] = [
            {"attributes": {}, **{n: each.get(n) for n in names}} for each in found[:2_000]
        ]
        return response({"done": True, "totalSize": len(shown), "records": shown})


def followed(org: Callable[[Request], Response], **more: Any) -> Followed:
    return Followed(SALESFORCE, ACCOUNTS, org, **more)


def since(at: datetime) -> dict[str, Any]:
    return {"since": at.strftime("%Y-%m-%dT%H:%M:%S.000Z")}


# -- What changed ---------------------------------------------------------------------------------


def test_a_row_that_is_stamped_earlier_and_seen_later_is_not_passed_over() -> None:
    """Contacts that are changed by the thousand went missing: rows whose stamp is some seconds
    before the greatest one seen were not visible yet when that one was read.

    airbytehq/airbyte#27146 (2023-06). Right: the next read begins early enough to find them.
    """
    seen, late = row(1, NOW - timedelta(seconds=1)), row(2, NOW - timedelta(seconds=3))
    org = Org(seen)
    read = followed(org, at=since(NOW - timedelta(hours=1))).sync()
    org.rows.append(late)
    read.sync(now=NOW + timedelta(minutes=5))
    assert set(read.rows) == {id_(1), id_(2)}


def test_rows_of_one_moment_all_come_however_many_pages_they_fill() -> None:
    """Of rows that an import made in the same second only some arrived: the read went on after the
    last time of a page.

    airbytehq/airbyte#42537 (2024-07). Right: all of them are held.
    """
    moment = NOW - timedelta(minutes=1)
    org = Org(*(row(n, moment) for n in range(4_500)))
    assert len(followed(org, at=since(NOW - timedelta(hours=1))).sync().rows) == 4_500


def test_an_account_that_was_merged_away_is_gone_and_its_survivor_stays() -> None:
    """Salesforce tells of merged records as deleted ones that name a master; the log of deletions
    does not tell of the master at all.

    simple-salesforce/simple-salesforce#34 (2014-06). Right: the one that was merged away is gone,
    the survivor is held as it is now.
    """
    loser = row(2, NOW - timedelta(minutes=5), IsDeleted=True, MasterRecordId=id_(1))
    survivor = row(1, NOW - timedelta(minutes=5), Name="Acme, merged")
    org = Org(loser, survivor)
    org.fields["MasterRecordId"] = "reference"
    former = {id_(1): row(1), id_(2): row(2)}
    read = followed(org, rows=former, at=since(NOW - timedelta(hours=1))).sync()
    assert {key: each["Name"] for key, each in read.rows.items()} == {id_(1): "Acme, merged"}


def test_a_field_that_may_be_seen_from_now_on_is_filled_in_older_rows() -> None:
    """Columns stayed empty and nothing failed: the user who consented had no right to see those
    fields, so they were not described. Even after the right was given, rows that did not change
    stayed as they were.

    bruin-data/ingestr#1011 (2026-07). Right: what may be seen from now on is read for all rows.
    """
    org = Org(row(1, Region__c="North"))
    first = drive(ACCOUNTS.read, org)
    org.fields["Region__c"] = "string"
    later = drive(ACCOUNTS.read, org, first[-1].checkpoint)
    # Another shape has all rows read again, in the background.
    assert None not in (first[-1].shape, later[-1].shape)
    assert first[-1].shape != later[-1].shape
    assert held(ACCOUNTS, drive(ACCOUNTS.read, org))[id_(1)]["Region__c"] == "North"
    assert drive(ACCOUNTS.read, org, later[-1].checkpoint)[-1].shape == later[-1].shape


# -- What was deleted -----------------------------------------------------------------------------


def test_a_sync_after_a_long_pause_asks_for_no_deletions_beyond_what_is_kept() -> None:
    """A window for deletions that began earlier than Salesforce tells was refused with
    INVALID_REPLICATION_DATE, and no sync got past it.

    getomnico/omni#450 (2026-09). Right: the stream is read anew instead.
    """
    org = Org(row(1))
    org.deletions = lambda request: refused("INVALID_REPLICATION_DATE")
    with pytest.raises(CheckpointExpiredError):
        drive(ACCOUNTS.read, as_the_client(SALESFORCE, org), since(NOW - timedelta(days=40)))
    org.deletions = no_deletions()
    assert set(followed(org).sync(2).rows) == {id_(1)}


def test_an_org_that_is_younger_than_the_window_has_its_rows_read_anew() -> None:
    """Asked for deletions from before the day on which an org began to keep them, Salesforce
    answers INVALID_REPLICATION_DATE, also within the days it tells of.

    jsforce/jsforce#406 (2016-04). Right: the stream is read anew, nothing is given up.
    """
    org = Org(row(1))
    org.deletions = lambda request: refused("INVALID_REPLICATION_DATE")
    with pytest.raises(CheckpointExpiredError):
        drive(ACCOUNTS.read, as_the_client(SALESFORCE, org), since(NOW - timedelta(days=2)))


def test_more_deletions_than_one_answer_holds_are_told_in_shorter_windows() -> None:
    """Salesforce tells of 600,000 deletions at the most in one answer, and somebody deletes more in
    a day; nothing limits an answer but its window.

    jsforce/jsforce#361 (2016-02). Right: the window is made shorter until each fits.
    """
    asked: list[tuple[datetime, datetime]] = []

    def deletions(request: Request) -> Response:
        start, end = (datetime.fromisoformat(str(request.params[n])) for n in ("start", "end"))
        if end - start > timedelta(hours=1):
            return refused("EXCEEDED_ID_LIMIT")
        asked.append((start, end))
        gone = [{"id": id_(len(asked)), "deletedDate": stamp(start)}]
        return response({**no_deletions(), "deletedRecords": gone})

    org = Org()
    org.deletions = deletions
    former = {id_(n): row(n) for n in range(100)}
    read = followed(org, rows=former, at=since(NOW - timedelta(hours=10))).sync()
    assert read.error is None
    assert len(read.rows) == 100 - len(asked)
    assert [end for _, end in asked[:-1]] == [start for start, _ in asked[1:]]


def test_an_answer_that_does_not_say_until_when_it_tells_is_used_all_the_same() -> None:
    """Answers came without the time up to which they tell; a program that needs it began at the
    same time again and again, and told of the same records each time.

    PipedreamHQ/pipedream#19577 (2025-12). Right: what it names is gone, and the position goes on.
    """
    org = Org()
    told = {k: v for k, v in no_deletions().items() if k != "latestDateCovered"}
    org.deletions = {**told, "deletedRecords": [{"id": id_(1), "deletedDate": stamp(NOW)}]}
    at = since(NOW - timedelta(days=1))
    read = followed(org, rows={id_(1): row(1), id_(2): row(2)}, at=at).sync()
    assert (set(read.rows), read.error) == ({id_(2)}, None)
    assert read.at.get("since", "") > at["since"]


# -- Bulk jobs ------------------------------------------------------------------------------------


AFTER = id_(500)
JOB = {"started": "2026-11-01T10:00:00.000Z", "after": AFTER, "job": "750000000000001AAA"}


class Job:
    """A bulk job's state and results."""

    def __init__(self, body: bytes = b"", *, state: str = "JobComplete", status: int = 200) -> None:
        self.body, self.state, self.status = body, state, status

    def __call__(self, request: Request) -> Response:
        if request.method == "POST":
            return response({"id": "750000000000002AAA", "state": "UploadComplete"})
        if not request.path.endswith("/results"):
            return response({"id": "750", "state": self.state})
        if self.status != 200:
            return refused("NOT_FOUND", self.status)
        return response(self.body, headers={"sforce-locator": "null"})


def csv_of(*lines: str, header: str = '"Id","Name","IsDeleted","SystemModstamp"') -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def line_of(number: int, name: str) -> str:
    return f'"{id_(number)}","{name}","false","2026-10-02T12:00:00.000Z"'


def test_a_name_of_several_lines_is_one_value_of_one_row() -> None:
    """Texts with line breaks in them split rows in two: the results were cut at every line.

    ballerina-platform/ballerina-library#6556 (2024-05), egen/spark-salesforce#53 (2020-06). Right:
    one row, with its line breaks, commas and quotes.
    """
    org = Org()
    org.jobs = Job(csv_of(line_of(501, 'Acme\r\nHead ""office""\n, North'), line_of(502, "Other")))
    read = followed(org, at=JOB).sync()
    assert [each["Name"] for each in read.rows.values()] == [
        'Acme\r\nHead "office"\n, North',
        "Other",
    ]


def test_a_text_with_a_nul_in_it_is_read_and_can_be_stored() -> None:
    """A NUL in one text of one row made the reader of results fail, at every sync.

    airbytehq/airbyte#8300 (2021-11), heroku/salesforce-bulk#35 (2017-02). Right: the rows come, and
    the database takes them.
    """
    org = Org()
    org.jobs = Job(csv_of(line_of(501, "Ac\0me"), line_of(502, "Other")))
    read = followed(org, at=JOB).sync()
    assert set(read.rows) == {id_(501), id_(502)}
    page = Page(list(read.rows.values()), Checkpoint())
    stored = [orjson.loads(each.data) for each in rows(ACCOUNTS, page, NOW)]
    assert "\0" not in "".join(each["Name"] for each in stored)


def test_results_in_another_encoding_than_utf_8_do_not_hold_up_the_stream() -> None:
    """Results of some orgs hold bytes that are not UTF-8 (an ISO-8859-1 å); every sync failed
    there.

    airbytehq/airbyte#12552 (2022-05), airbytehq/airbyte#19289 (2022-11). Right: the rows come,
    those that are well written as they are.
    """
    org = Org()
    body = csv_of(line_of(501, "Köln"), line_of(502, "AAA"))
    org.jobs = Job(body.replace(b'AAA","false', b'Sm\xe5","false'))
    read = followed(org, at=JOB).sync()
    assert (set(read.rows), read.error) == ({id_(501), id_(502)}, None)
    assert read.rows[id_(501)]["Name"] == "Köln"


async def test_letters_that_are_cut_in_two_on_the_way_come_whole(vendor: Vendor) -> None:
    """Each piece of the results was decoded by itself; a letter of several bytes that came in two
    pieces failed, or came out garbled.

    airbytehq/airbyte#15950 (2022-08), airbytehq/airbyte#14659 (2022-07). Right: it comes as it is.
    """
    body = csv_of(line_of(501, "Köln 東京 🙂"))
    vendor.will(
        Answer(body=description()),
        Answer(body={"id": "750", "state": "JobComplete"}),
        Answer(
            headers={"content-type": "text/csv", "sforce-locator": "null"},
            pieces=lambda: (body[at : at + 1] for at in range(len(body))),
        ),
        Answer(body={"done": True, "records": []}),
    )
    async with line_to(vendor, SALESFORCE, instance_url=INSTANCE) as line:
        pages = await line.pages(ACCOUNTS.read(Checkpoint(JOB), CONTEXT))
    assert held(ACCOUNTS, pages)[id_(501)]["Name"] == "Köln 東京 🙂"


@pytest.mark.parametrize("body", [b"Records not found for this query", b""])
def test_a_job_that_found_nothing_is_the_end_of_a_read_and_no_fault(body: bytes) -> None:
    """A job without a row is answered with a sentence in place of a table, which the reader of
    results took for a table.

    StevenMMortimer/salesforcer#21 (2019-06). Right: nothing is left to read; the read is done.
    """
    org = Org()
    org.jobs = Job(body)
    read = followed(org, at=JOB).sync()
    assert read.error is None
    assert "since" in read.at


def test_a_job_that_failed_is_not_taken_for_one_that_found_nothing() -> None:
    """A job that ended as failed gave an empty list, as one that finds nothing does.

    simple-salesforce/simple-salesforce#382 (2020-05). Right: its rows are read in another way.
    """
    org = Org(row(501), row(502))
    org.jobs = Job(state="Failed")
    assert set(followed(org, at=JOB).sync().rows) == {id_(501), id_(502)}


def test_results_that_are_not_found_are_read_in_another_way() -> None:
    """The first part of a job's results came, and the next was answered with 404.

    forcedotcom/cli#2968 (2024-07). Right: no row is lost.
    """
    org = Org(*(row(n) for n in range(501, 505)))
    org.jobs = Job(status=404)
    read = followed(org, at={**JOB, "locator": "MTAw"}).sync()
    assert set(read.rows) == {id_(n) for n in range(501, 505)}


def test_an_object_that_the_bulk_api_does_not_know_is_read_by_pages_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Bulk API refuses some objects (INVALIDENTITY); the whole sync failed for one of them.

    airbytehq/airbyte#13088 (2022-05). Right: it is read by pages.
    """
    monkeypatch.setattr("connectors.salesforce.reading.BY_PAGES", 1)
    org = Org(*(row(n) for n in range(4_100)))
    org.jobs = lambda request: refused("INVALIDENTITY")
    read = followed(org).sync()
    assert (len(read.rows), read.error) == (4_100, None)


def test_a_row_is_the_same_by_both_ways() -> None:
    """The two ways of reading write times differently, so that one row came out as two versions of
    itself.

    estuary/connectors#2519 (2025-03). Right: the same row, whichever way it came.
    """
    fields = {"AnnualRevenue": "currency", "Employees__c": "double", "Active__c": "boolean"}
    values: dict[str, Any] = {"AnnualRevenue": 1500.5, "Employees__c": 12.0, "Active__c": True}
    org = Org(row(501, Name="Köln", **values))
    org.fields = {**fields, "Note__c": "textarea"}
    by_pages = followed(org).sync().rows[id_(501)]
    header = '"Id","Name","IsDeleted","SystemModstamp","AnnualRevenue","Employees__c","Active__c"'
    changed = by_pages["SystemModstamp"].replace("+0000", "Z")
    line = f'"{id_(501)}","Köln","false","{changed}","1500.5","12.0","true",""'
    org.jobs = Job(csv_of(line, header=f'{header},"Note__c"'))
    assert followed(org, at=JOB).sync().rows[id_(501)] == by_pages


async def test_a_token_that_ends_during_a_bulk_read_is_renewed_whatever_the_status_says(
    vendor: Vendor,
) -> None:
    """The Bulk API says with 400 and InvalidSessionId that a token is over, where all others say
    401; large tables failed as soon as a download outlasted a token.

    singer-io/tap-salesforce#222 (2026-07), apache/camel#826 (2016-02). Right: the token is renewed,
    and the read goes on.
    """
    vendor.will(
        Answer(body=description()),
        Answer(body={"id": "750", "state": "JobComplete"}),
        Answer(400, [{"errorCode": "InvalidSessionId", "message": "made up"}]),
        Answer(
            raw=csv_of(line_of(501, "Acme")),
            headers={"content-type": "text/csv", "sforce-locator": "null"},
        ),
        Answer(body={"done": True, "records": []}),
    )
    async with line_to(vendor, SALESFORCE, instance_url=INSTANCE) as line:
        pages = await line.pages(ACCOUNTS.read(Checkpoint(JOB), CONTEXT))
        assert line.renewals == 1
    assert set(held(ACCOUNTS, pages)) == {id_(501)}


# -- Refusals of one object -----------------------------------------------------------------------


def two_objects(first: Callable[[str], Response | None], **fields: str) -> Callable[..., Response]:
    """An org with two objects of its own; `first` may answer queries of the first one."""

    def answer(request: Request) -> Response:
        names = ("Aaa__c", "Bbb__c")
        if request.path == "/sobjects":
            common = {"custom": True, "queryable": True, "replicateable": True}
            return response({"sobjects": [{"name": name, **common} for name in names]})
        if request.path.endswith("/describe"):
            name = request.path.split("/")[2]
            return response(description(name, **(fields if name == "Aaa__c" else {})))
        if "/deleted/" in request.path:
            return response(no_deletions())
        query = str(request.params["q"])
        told = first(query) if "FROM Aaa__c" in query else None
        found = [row(1, NOW - timedelta(minutes=1), Id=id_(1, "a01"))]
        return told or response({"done": True, "totalSize": 1, "records": found})

    return answer


def test_an_object_whose_time_of_change_cannot_be_asked_for_keeps_no_other_from_being_read() -> (
    None
):
    """Of some objects the time of change is told, but may not stand in a filter; every sync failed
    there (INVALID_FIELD).

    airbytehq/airbyte#62877 (2025-07), airbytehq/airbyte#68166 (2025-10). Right: the other objects
    are read, and that one is reported.
    """

    def refuse(query: str) -> Response | None:
        return refused("INVALID_FIELD") if "WHERE SystemModstamp" in query else None

    start = since(NOW - timedelta(hours=1))
    at = {"objects": {"Aaa__c": start, "Bbb__c": start}}
    read = Followed(SALESFORCE, CUSTOM, two_objects(refuse), at=at).sync(2)
    assert f"Bbb__c:{id_(1, 'a01')}" in read.rows


def test_an_object_of_too_many_fields_for_one_query_is_read_in_several() -> None:
    """An object with many formula fields was refused as too complicated to be read at once.

    restforce/restforce#468 (2019-07), capeterson/Grey-Tab#23 (2015-07). Right: its fields are asked
    for in several queries, and the rows are put together.
    """
    formulas = {f"Formula_{number}__c": "string" for number in range(90)}

    class Complicated(Org):
        def query(self, text: str) -> Response:
            named = text.partition(" FROM ")[0].count(",") + 1
            return refused("QUERY_TOO_COMPLICATED") if named > 60 else super().query(text)

    values: dict[str, Any] = {name: name.lower() for name in formulas}
    org = Complicated(row(1, **values))
    org.fields = formulas
    read = followed(org).sync(2)
    assert {name: read.rows[id_(1)][name] for name in formulas} == values


async def test_a_query_that_took_too_long_is_not_taken_for_an_object_without_rows(
    vendor: Vendor,
) -> None:
    """A query that ran into the time limit (QUERY_TIMEOUT) was logged, read as nothing, and the
    sync counted as good.

    airbytehq/airbyte#17503 (2022-10). Right: it is tried again; where that does not help, the sync
    fails and nothing is told as read.
    """
    late = Answer(400, [{"errorCode": "QUERY_TIMEOUT", "message": "made up"}])
    vendor.will(Answer(body=description()), late)
    async with line_to(vendor, SALESFORCE, instance_url=INSTANCE) as line:
        with pytest.raises(ProviderUnavailableError):
            await line.pages(ACCOUNTS.read(Checkpoint(since(NOW - timedelta(hours=1))), CONTEXT))
    assert len(vendor.calls) > 2


# -- Refusals of the org --------------------------------------------------------------------------


def test_an_empty_refusal_of_salesforces_edge_passes_by_itself() -> None:
    """Salesforce's edge servers answer 406 without a word now and then; the same call works a
    moment later.

    airbytehq/airbyte#36885 (2024-04), restforce/restforce#883 (2024-06). Right: nobody has to act;
    it is tried again.
    """
    assert isinstance(judged(SALESFORCE, response(None, 406)), RetryableError)


async def test_a_page_of_html_in_place_of_an_answer_is_asked_for_again(vendor: Vendor) -> None:
    """A 502 of Salesforce's edge is a page of HTML; what parsed it fell over.

    jetstreamapp/jetstream#835 (2024-04), restforce/restforce#568 (2020-09). Right: it is tried
    again.
    """
    page = Answer(
        502, raw=b"<!doctype html><title>Error</title>", headers={"content-type": "text/html"}
    )
    busy = Answer(503, [{"errorCode": "SERVER_UNAVAILABLE", "message": "made up"}])
    rows_ = Answer(body={"done": True, "records": [row(1)]})
    vendor.will(page, Answer(body=description()), busy, page, rows_)
    async with line_to(vendor, SALESFORCE, instance_url=INSTANCE) as line:
        pages = await line.pages(ACCOUNTS.read(Checkpoint(), CONTEXT))
    assert set(held(ACCOUNTS, pages)) == {id_(1)}


async def test_an_org_that_has_moved_is_called_where_it_is_now(vendor: Vendor) -> None:
    """Calls to where an org had been before were refused (URL_NOT_RESET): the address that goes
    with a token is the one that came with it.

    amazon-connect/amazon-connect-salesforce-lambda#12 (2021-01). Right: a new token tells the new
    address, and the call is made there.
    """
    vendor.will(
        Answer(400, [{"errorCode": "URL_NOT_RESET", "message": "made up"}]),
        Answer(body=description()),
        Answer(body={"done": True, "records": [row(1)]}),
    )
    moved = {"instance_url": "https://acme2.my.salesforce.com"}
    async with line_to(vendor, SALESFORCE, on_renewal=moved, instance_url=INSTANCE) as line:
        pages = await line.pages(ACCOUNTS.read(Checkpoint(), CONTEXT))
    assert set(held(ACCOUNTS, pages)) == {id_(1)}
    assert {call.host for call in vendor.calls[1:]} == {"acme2.my.salesforce.com"}


async def test_an_org_that_answers_with_a_redirect_is_called_where_it_is_now(
    vendor: Vendor,
) -> None:
    """Sandboxes with a My Domain answered every call to the address of the token with 301.

    RoseSilverSoftware/IlluminatedCloud#1667 (2020-07). Right: the token does not follow a redirect;
    a new one tells the new address, and the call is made there. Where the answer stays the same, no
    tenant is asked to connect again: that would mend nothing.
    """
    vendor.will(
        Answer(301, headers={"location": "https://acme2.my.salesforce.com/elsewhere"}),
        Answer(body=description()),
        Answer(body={"done": True, "records": [row(1)]}),
    )
    moved = {"instance_url": "https://acme2.my.salesforce.com"}
    async with line_to(vendor, SALESFORCE, on_renewal=moved, instance_url=INSTANCE) as line:
        pages = await line.pages(ACCOUNTS.read(Checkpoint(), CONTEXT))
    assert set(held(ACCOUNTS, pages)) == {id_(1)}
    assert {call.host for call in vendor.calls[1:]} == {"acme2.my.salesforce.com"}
    vendor.reset()
    vendor.will(Answer(301, headers={"location": "https://acme2.my.salesforce.com/elsewhere"}))
    async with line_to(vendor, SALESFORCE, on_renewal=moved, instance_url=INSTANCE) as line:
        with pytest.raises(ContractError):
            await line.pages(ACCOUNTS.read(Checkpoint(), CONTEXT))
        assert line.renewals == 1


async def test_a_spent_allowance_ends_the_sync_with_what_was_read_and_no_long_sleep(
    vendor: Vendor,
) -> None:
    """The allowance of a day was spent in the middle of a sync, which then slept for hours, and
    lost what it had read.

    airbytehq/airbyte#8690 (2021-12). Right: the pages that came are kept with their position; the
    next sync goes on from there.
    """
    first = {"done": False, "records": [row(n) for n in range(2_000)]}
    spent = Answer(403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "made up"}])
    vendor.will(Answer(body=description()), Answer(body=first), spent)
    pages: list[Page] = []
    async with line_to(vendor, SALESFORCE, instance_url=INSTANCE) as line:
        reading = line.client.read(ACCOUNTS.read(Checkpoint(), CONTEXT))
        pages.append((await anext(reading))[0])
        with pytest.raises(RateLimitedError):
            await anext(reading)
        assert line.clock.at - NOW <= timedelta(minutes=10)
    assert (len(pages[0].records), pages[-1].checkpoint["after"]) == (2_000, id_(1_999))


def test_a_policy_that_took_too_long_is_no_fault_of_ours() -> None:
    """An org's transaction security policies took too long to decide, and the call was refused with
    TXN_SECURITY_METERING_ERROR; it passes, and an administrator can exempt the user.

    airbytehq/airbyte#26520 (2023-05). Right: it is tried again, or the administrator is told.
    """
    error = judged(SALESFORCE, refused("TXN_SECURITY_METERING_ERROR"))
    assert isinstance(error, RetryableError | NotAllowedError)


# -- Tokens ---------------------------------------------------------------------------------------


@pytest.fixture
async def refreshing(vendor: Vendor) -> AsyncIterator[Callable[[], Any]]:
    """Refreshes a token at the vendor's token endpoint."""
    clock = PlayedClock()
    transport = Transport(sandbox_url=vendor.origin, clock=clock, timeout=timedelta(seconds=1))
    app = OAuthApp(
        "client", "canary-secret", "https://atom.test/callback",
        answers={"login_host": "login.salesforce.com", "objects": "all", "change_events": "no"},
    )  # fmt: skip

    async def call() -> Any:
        return await refresh(
            SALESFORCE, app, refresh_token="canary-old", account_id="00D",
            transport=transport, budget=Budget(None, clock=clock),
        )  # fmt: skip

    yield call
    await transport.close()


async def outcome(call: Callable[[], Any]) -> Any:
    try:
        return await call()
    except ConnectorError as error:
        return error


FORMER = pytest.mark.xfail(
    strict=True, reason="the words of 2024, which a code that has expired is refused with as well"
)


@pytest.mark.parametrize(
    "description",
    [
        "token request is already being processed",
        pytest.param("expired authorization code", marks=FORMER),
    ],
)
async def test_a_refresh_that_meets_another_one_of_the_same_token_breaks_no_connection(
    vendor: Vendor, refreshing: Callable[[], Any], description: str
) -> None:
    """Since 2024 Salesforce refuses a refresh while another one of the same token is under way:
    with `invalid_grant`, as it does when a grant is over, and at first with the words of an expired
    code.

    segmentio/action-destinations#2300 (2024-08). Right: it passes by itself; nobody reconnects.
    """
    busy = Answer(400, {"error": "invalid_grant", "error_description": description})
    good = {"access_token": "canary-new", "instance_url": INSTANCE, "id": "made up"}
    vendor.will(busy, Answer(body=good))
    found = await outcome(refreshing)
    assert isinstance(found, RetryableError) or getattr(found, "access_token", "") == "canary-new"


async def test_a_user_who_was_made_inactive_is_for_the_tenant_to_mend(
    vendor: Vendor, refreshing: Callable[[], Any]
) -> None:
    """A connection ended with INVALID_SESSION_ID, and its refresh with `invalid_grant: inactive
    user`: somebody who had left the company had consented.

    restforce/restforce#303 (2017-05). Right: the tenant is asked to connect again.
    """
    vendor.will(Answer(400, {"error": "invalid_grant", "error_description": "inactive user"}))
    assert isinstance(await outcome(refreshing), BrokenConnectionError)


# -- Change events and outbound messages ----------------------------------------------------------


def change(replay: int, number: int) -> dict[str, Any]:
    header = {
        "entityName": "Account", "recordIds": [id_(number)], "changeType": "UPDATE",
        "transactionKey": f"t-{replay}", "sequenceNumber": 1,
        "commitTimestamp": round(NOW.timestamp() * 1000) - 60_000 + replay,
    }  # fmt: skip
    payload = {"ChangeEventHeader": header}
    return {
        "channel": "/data/ChangeEvents",
        "data": {"schema": "s", "payload": payload, "event": {"replayId": replay}},
    }


class Bayeux:
    """Salesforce's streaming endpoint: what each next call of a channel is answered with."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.events: list[list[dict[str, Any]]] = []
        self.sent: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Response:
        (message,) = request.json
        self.sent.append(message)
        name = message["channel"].removeprefix("/meta/")
        planned = self.answers.get(name)
        answer = planned.pop(0) if planned else {"successful": True}
        if name == "handshake":
            answer = {"clientId": f"client-{len(self.sent)}", **answer}
        told = self.events.pop(0) if name == "connect" and self.events else []
        body = [*told, {"channel": message["channel"], **answer}]
        return Response(
            status=200, headers={}, json=body, sent_at=NOW, url=f"{INSTANCE}/cometd/67.0"
        )

    def replays(self) -> list[int]:
        subscribed = [each for each in self.sent if each["channel"] == "/meta/subscribe"]
        return [each["ext"]["replay"]["/data/ChangeEvents"] for each in subscribed]

    def hear(
        self, until: Callable[[list[EventBatch]], bool], at: Mapping[str, Any]
    ) -> list[EventBatch]:
        assert SALESFORCE.feed
        listener = SALESFORCE.feed.listen(Checkpoint(at), CONTEXT)
        heard: list[EventBatch] = []
        answer: Any = None
        for _ in range(60):
            action = listener.send(answer)
            answer = self(action) if isinstance(action, Request) else None
            if isinstance(action, EventBatch):
                heard.append(action)
            if until(heard):
                listener.close()
                return heard
        raise AssertionError("nothing more was heard")


def no_replay(replay: int) -> dict[str, Any]:
    words = f"400::The replayId {{{replay}}} you provided was invalid.  Please provide a valid ID"
    return {"successful": False, "error": words}


def test_a_session_that_ended_while_its_position_lapsed_goes_on_and_says_what_it_missed() -> None:
    """Salesforce forgot a client (403, unknown client), which came back with a position that was no
    longer kept, was refused that one, and kept silent from then on.

    jsforce/jsforce#1709 (2025-06), kdcllc/CometD.NetCore.Salesforce#20 (2020-11). Right: it listens
    from now on, and the time in between is read by change time.
    """
    forgotten = {
        "successful": False, "error": "403::Unknown client",
        "advice": {"reconnect": "handshake", "interval": 0},
    }  # fmt: skip
    org = Bayeux(
        connect=[{"successful": True}, forgotten], subscribe=[{"successful": True}, no_replay(7)]
    )
    until = NOW - timedelta(days=4)
    heard = org.hear(
        lambda found: any(each.missed for each in found), {"replay": 7, "until": until.isoformat()}
    )
    (missed,) = [one for each in heard for one in each.missed]
    assert org.replays() == [7, 7, -1]
    assert missed.since <= until
    assert missed.until == NOW


def test_a_new_session_goes_on_after_the_last_event_and_not_where_the_first_began() -> None:
    """After each session that ended (every three hours) all events since the start came again: the
    client subscribed from the position it had been started with.

    kdcllc/CometD.NetCore.Salesforce#22 (2021-08), kevinohara80/nforce#159 (2018-10). Right: from
    the last one that was heard.
    """
    ended = {
        "successful": False, "error": "403::Unknown client",
        "advice": {"reconnect": "handshake", "interval": 0},
    }  # fmt: skip
    org = Bayeux(connect=[{"successful": True}, {"successful": True}, ended])
    org.events = [[], [change(11, 1), change(12, 2)], [], [change(13, 3)]]
    heard = org.hear(
        lambda found: any(e.key == id_(3) for each in found for e in each.events),
        {"replay": 10, "until": NOW.isoformat()},
    )
    assert org.replays() == [10, 12]
    assert [e.key for each in heard for e in each.events] == [id_(1), id_(2), id_(3)]


def test_notifications_that_come_in_one_message_are_each_an_event() -> None:
    """Salesforce puts messages that wait into one; a receiver made one event of them, and took all
    that came later for repetitions of it.

    PipedreamHQ/pipedream#2321 (2022-02). Right: each notification is an event with an id of its
    own.
    """
    notifications = "".join(
        f"<Notification><Id>{id_(number, '04l')}</Id>"
        f'<sObject xsi:type="sf:Account"><sf:Id>{id_(number)}</sf:Id></sObject></Notification>'
        for number in range(1, 4)
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><notifications '
        'xmlns="http://soap.sforce.com/2005/09/outbound" '
        'xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
        f"<OrganizationId>{id_(1, '00D')}</OrganizationId><ActionId>{id_(1, '04k')}</ActionId>"
        f'<SessionId xsi:nil="true"/>{notifications}</notifications></soapenv:Body>'
        "</soapenv:Envelope>"
    )
    assert SALESFORCE.webhook
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={}, body=body.encode(),
        received_at=NOW,
    )  # fmt: skip
    found = SALESFORCE.webhook.events(delivery)
    assert [event.key for event in found] == [id_(1), id_(2), id_(3)]
    assert len({event.id for event in found}) == 3


# -- Situations that were known before ------------------------------------------------------------


def test_a_row_that_was_brought_back_between_two_syncs_stays() -> None:
    """A row was deleted and taken out of the recycle bin again; the log of deletions still tells of
    the deletion. Right: it is held.
    """
    back = row(4, NOW - timedelta(minutes=20))
    org = Org(back)
    gone = [{"id": id_(4), "deletedDate": stamp(NOW - timedelta(minutes=30))}]
    org.deletions = {**no_deletions(), "deletedRecords": gone}
    read = followed(org, rows={id_(4): row(4)}, at=since(NOW - timedelta(hours=2))).sync()
    assert set(read.rows) == {id_(4)}


@pytest.mark.parametrize("fault", ["long", "slow"])
def test_one_object_that_cannot_be_read_keeps_no_other_from_it(fault: str) -> None:
    """One object of an org has so many fields that a query of them is refused (414), or takes
    longer than a query may.

    airbytehq/airbyte#14024, jsforce/jsforce#1134, simple-salesforce/simple-salesforce#271,
    airbytehq/airbyte#19947. Right: the others are read.
    """
    answer = response(None, 414) if fault == "long" else refused("QUERY_TIMEOUT")
    read = Followed(SALESFORCE, CUSTOM, two_objects(lambda query: answer)).sync(3)
    assert f"Bbb__c:{id_(1, 'a01')}" in read.rows


def test_rows_that_cannot_be_told_in_time_are_asked_for_in_smaller_pages() -> None:
    """Of one object no query ever ended in time, at any sync.

    airbytehq/airbyte#19947 (2022-11), of an object that is a stream of its own. Right: it is asked
    for in smaller pages.
    """

    class Slow(Org):
        def query(self, text: str) -> Response:
            return refused("QUERY_TIMEOUT") if "LIMIT 2000" in text else super().query(text)

    org = Slow(*(row(n) for n in range(150)))
    assert len(followed(org).sync().rows) == 150


def test_a_row_that_may_not_be_seen_any_more_is_held_no_longer() -> None:
    """The sharing rules of an org change: the user who consented does not see a row any more, and
    sees one that was changed long ago. No delta and no log tells of either. Right: held is what may
    be seen.
    """
    org = Org(row(1), row(2))
    held_ = followed(org).sync().rows
    org.rows = [row(2), row(3)]
    # Each stream is compared now and then with what the vendor lists.
    assert ACCOUNTS.listing
    listed = {each["Id"] for page in drive(ACCOUNTS.listing, org) for each in page.records}
    assert (set(held_) - listed, listed - set(held_)) == ({id_(1)}, {id_(3)})
    assert not ACCOUNTS.append_only
