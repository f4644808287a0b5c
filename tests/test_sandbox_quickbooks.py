"""QuickBooks on loopback, over real HTTP: what Intuit documents is what a client gets."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._stopped import stopped

COMPANY = "/quickbooks.api.intuit.com/v3/company"
BACK = "http://127.0.0.1:9/back"
ENTITIES = {
    "customers": "Customer",
    "invoices": "Invoice",
    "payments": "Payment",
    "bills": "Bill",
    "accounts": "Account",
}
DAY = 86_400.0


class Company:
    """One company, a client of the sandbox and the tokens to read the company with."""

    def __init__(self, client: httpx.Client, *, size: int) -> None:
        self.client = client
        self.described = client.get("/_control").json()["quickbooks"]
        self.id: str = self.control("accounts", size=size, id=_next())["id"]
        self.tokens = self.control("grant", account=self.id)
        self.headers = {"Accept": "application/json"}
        self.sign_in(self.tokens["access_token"])

    def sign_in(self, access_token: str) -> None:
        self.headers["Authorization"] = f"Bearer {access_token}"

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.client.get(f"{COMPANY}/{self.id}{path}", params=params, headers=self.headers)

    def post(self, path: str, body: Any, **params: Any) -> httpx.Response:
        address = f"{COMPANY}/{self.id}{path}"
        return self.client.post(address, json=body, params=params, headers=self.headers)

    def query(self, text: str) -> Any:
        answer = self.get("/query", query=text, minorversion=75)
        assert answer.status_code == 200, answer.text
        return answer.json()["QueryResponse"]

    def refused(self, text: str) -> Any:
        answer = self.get("/query", query=text)
        assert answer.status_code == 400, answer.text
        assert answer.json()["Fault"]["type"] == "ValidationFault"
        return answer.json()["Fault"]["Error"][0]

    def changes(self, entities: str, since: datetime) -> Any:
        answer = self.get("/cdc", entities=entities, changedSince=since.isoformat())
        assert answer.status_code == 200, answer.text
        return answer.json()["CDCResponse"][0]["QueryResponse"]

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/quickbooks/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **body: Any) -> str:
        return str(self.control(f"records/{stream}?account={self.id}", op=op, **body)["id"])

    def store(self) -> dict[str, dict[str, Any]]:
        answer = self.client.get("/_control/quickbooks/store", params={"account": self.id})
        streams: dict[str, dict[str, Any]] = answer.json()["streams"]
        return streams

    def advance(self, seconds: float) -> datetime:
        answer = self.client.post("/_control/clock", json={"advance": seconds})
        return datetime.fromisoformat(answer.json()["now"])

    def token(
        self, form: dict[str, str], auth: tuple[str, str] | None = None, *, hard: bool = False
    ) -> httpx.Response:
        client = auth or (self.described["client_id"], self.described["client_secret"])
        headers = {"Accept": "application/json"}
        if hard:
            headers["x-include-refresh-token-hard-expires-in"] = "true"
        address = self.described["token_url"]
        return self.client.post(address, data=form, auth=client, headers=headers)

    def refresh(self, value: str, *, hard: bool = False) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": value}
        return self.token(form, hard=hard)


_numbers = iter(range(9_130_000_000_000_001, 9_131_000_000_000_000))


def _next() -> str:
    return str(next(_numbers))


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["quickbooks"]) as origin:
        yield origin


@pytest.fixture
def company(origin: str) -> Iterator[Company]:
    """A fresh company in a sandbox whose clock nobody moves, with room for many calls."""
    with httpx.Client(base_url=origin, timeout=60) as client:
        client.delete("/_control/quickbooks/faults")
        client.post("/_control/quickbooks/limits", json={"scale": 1000})
        yield Company(client, size=60)


@pytest.fixture
def later() -> Iterator[Company]:
    """A company in a sandbox of its own, so that its clock can be moved."""
    with (
        start(["quickbooks"]) as origin,
        httpx.Client(base_url=origin, timeout=60) as client,
    ):
        yield Company(client, size=20)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("stream", list(ENTITIES))
def test_a_query_for_all_rows_equals_the_store(company: Company, stream: str) -> None:
    entity = ENTITIES[stream]
    active = " where Active in (true, false)" if stream in ("customers", "accounts") else ""
    rows, position = [], 1
    while page := company.query(
        f"select * from {entity}{active} startposition {position} maxresults 7"
    ).get(entity):
        rows += page
        position += len(page)
    assert rows
    assert {row["Id"]: row for row in rows} == company.store()[stream]
    assert len(rows) == len(company.store()[stream])


def test_rows_look_as_quickbooks_writes_them(company: Company) -> None:
    (row,) = company.query("select * from Invoice maxresults 1")["Invoice"]
    assert row["domain"] == "QBO"
    assert row["sparse"] is False
    assert row["Id"].isdecimal()
    assert row["SyncToken"].isdecimal()
    assert row["MetaData"]["LastUpdatedTime"].endswith("-08:00")
    assert row["Line"][-1]["DetailType"] == "SubTotalLineDetail"
    assert row["TotalAmt"] == row["Line"][-1]["Amount"]
    assert set(row["CustomerRef"]) == {"value", "name"}


def test_the_default_page_is_100_and_the_biggest_1000(later: Company) -> None:
    later.control("accounts", size=1100, id="77")
    later.control("limits", scale=100)
    tokens = later.control("grant", account="77")
    later.id = "77"
    later.sign_in(tokens["access_token"])
    assert len(later.query("select * from Invoice")["Invoice"]) == 100
    first = later.query("select * from Invoice orderby Id maxresults 1000")
    assert (first["startPosition"], first["maxResults"]) == (1, 1000)
    rest = later.query("select * from Invoice orderby Id startposition 1001 maxresults 1000")
    assert (rest["startPosition"], rest["maxResults"], len(rest["Invoice"])) == (1001, 100, 100)
    error = later.refused("select * from Invoice maxresults 1001")
    assert error["code"] == "4001"
    assert "1000" in error["Detail"]


def test_an_empty_result_has_no_entity_key(company: Company) -> None:
    assert company.query("select * from Invoice where DocNumber = 'none'") == {}
    assert company.query("select * from Invoice startposition 9999") == {}


def test_inactive_names_are_hidden_unless_asked_for(company: Company) -> None:
    gone = company.change("customers", "delete", id="3")
    listed = company.query("select * from Customer maxresults 1000")["Customer"]
    assert gone not in {row["Id"] for row in listed}
    assert all(row["Active"] for row in listed)
    everything = company.query("select count(*) from Customer where Active in (true, false)")
    assert everything["totalCount"] == len(company.store()["customers"])
    (row,) = company.query("select * from Customer where Id = '3' and Active = false")["Customer"]
    assert row == company.store()["customers"][gone]
    assert company.get("/customer/3").json()["Customer"] == row


def test_conditions_filter_and_columns_are_picked(company: Company) -> None:
    invoices = company.store()["invoices"].values()
    total = sorted(row["TotalAmt"] for row in invoices)[30]
    found = company.query(
        f"SELECT Id, TotalAmt, MetaData.LastUpdatedTime FROM invoice WHERE TotalAmt >= '{total}' "
        "AND Balance > 0 ORDER BY TotalAmt DESC, Id MAXRESULTS 1000"
    )["Invoice"]
    wanted = [row for row in invoices if row["TotalAmt"] >= total and row["Balance"] > 0]
    wanted.sort(key=lambda row: (-row["TotalAmt"], int(row["Id"])))
    assert [row["Id"] for row in found] == [row["Id"] for row in wanted]
    assert set(found[0]) == {"Id", "TotalAmt", "MetaData", "domain", "sparse"}
    assert found[0]["sparse"] is True


def test_the_time_of_the_last_change_filters_in_any_offset(company: Company) -> None:
    since = now() - timedelta(days=20)
    wanted = {
        row["Id"]
        for row in company.store()["bills"].values()
        if datetime.fromisoformat(row["MetaData"]["LastUpdatedTime"]) > since
    }
    pacific = since.astimezone(datetime.fromisoformat("2026-01-01T00:00:00-08:00").tzinfo)
    for text in (since.isoformat(), pacific.isoformat(), pacific.replace(tzinfo=None).isoformat()):
        rows = company.query(
            f"select Id from Bill where MetaData.LastUpdatedTime > '{text}' "
            "orderby MetaData.LastUpdatedTime maxresults 1000"
        )
        assert {row["Id"] for row in rows["Bill"]} == wanted


def test_quotes_are_escaped_and_like_matches_parts(company: Company) -> None:
    id_ = company.change("customers", "add", record={"DisplayName": "O'Brien & Söhne \\ 100%"})
    exact = r"select * from Customer where DisplayName = 'O\'Brien & Söhne \\ 100%'"
    assert [row["Id"] for row in company.query(exact)["Customer"]] == [id_]
    like = company.query(r"select * from Customer where DisplayName like 'O\'B%Söhne%'")
    assert [row["Id"] for row in like["Customer"]] == [id_]
    chosen = company.query("select * from Customer where Id in ('1', '2', '999')")["Customer"]
    assert {row["Id"] for row in chosen} <= {"1", "2"}


def test_a_query_may_be_posted_as_text(company: Company) -> None:
    text = "select count(*) from Invoice"
    headers = {**company.headers, "Content-Type": "application/text"}
    address = f"{COMPANY}/{company.id}/query"
    posted = company.client.post(address, content=text, headers=headers)
    assert posted.json()["QueryResponse"] == company.query(text) == {"totalCount": 60}
    wrong = company.client.post(address, json={"query": text}, headers=company.headers)
    assert wrong.status_code == 400
    assert wrong.json()["Fault"]["Error"][0]["code"] == "500"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "4000"),
        ("select * from", "4000"),
        ("select * from Invoice where TotalAmt != 3", "4000"),
        ("select * from Invoice where Balance > 0 or TotalAmt > 0", "4000"),
        ("select * from Customer where DisplayName = 'O'Brien'", "4000"),
        ("select * from Invoice maxresults ten", "4000"),
        ("select * from Invoice maxresults 10 startposition 1", "4000"),
        ("drop table Invoice", "4000"),
        ("select * from Elephant", "4001"),
        ("select * from Invoice where Colour = 'red'", "4001"),
        ("select * from Invoice where Line = '1'", "4001"),
        ("select * from Invoice where TotalAmt > 'much'", "4001"),
        ("select * from Customer where Active > true", "4001"),
        ("select * from Bill where MetaData.LastUpdatedTime > '2026-01-01T00:00:00 00:00'", "4001"),
    ],
)
def test_a_bad_query_is_a_validation_fault(company: Company, text: str, code: str) -> None:
    error = company.refused(text)
    assert error["code"] == code
    assert error["Message"]
    assert error["Detail"]


def test_changes_equal_the_store_of_the_last_thirty_days(company: Company) -> None:
    company.change("invoices", "delete", id=next(iter(company.store()["invoices"])))
    company.change("accounts", "delete", id="2")
    found = {}
    since = now() - timedelta(days=30) + timedelta(minutes=1)
    for group in company.changes("Customer,invoice,Payment,Bill,Account", since):
        for entity in ENTITIES.values():
            for row in group.get(entity, ()):
                found[f"{entity}:{row['Id']}"] = {**row, "entity": entity}
    assert found
    assert found == company.store()["change_data_capture"]
    assert len(found) < sum(len(rows) for rows in company.store().values()) / 2


def test_a_deleted_transaction_is_a_stub_among_the_changes(company: Company) -> None:
    before = now().replace(microsecond=0)
    (invoice, *_) = company.store()["invoices"]
    company.change("invoices", "delete", id=invoice)
    assert invoice not in company.store()["invoices"]
    (bills, invoices) = company.changes("Bill,Invoice", before)
    assert bills == {}
    (stub,) = [row for row in invoices["Invoice"] if row.get("status") == "Deleted"]
    assert set(stub) == {"domain", "status", "Id", "MetaData"}
    assert stub["Id"] == invoice
    assert datetime.fromisoformat(stub["MetaData"]["LastUpdatedTime"]) >= before
    missing = company.get(f"/invoice/{invoice}")
    assert missing.status_code == 400
    assert missing.json()["Fault"]["Error"][0]["code"] == "610"


def test_deleting_an_invoice_frees_its_payments_and_changes_its_customer(company: Company) -> None:
    store = company.store()
    invoice = next(row for row in store["invoices"].values() if row["LinkedTxn"])
    payment_id = invoice["LinkedTxn"][0]["TxnId"]
    before = now().replace(microsecond=0)
    company.change("invoices", "delete", id=invoice["Id"])
    payment = company.store()["payments"][payment_id]
    assert payment["UnappliedAmt"] == payment["TotalAmt"]
    assert payment["Line"] == []
    owed = store["customers"][invoice["CustomerRef"]["value"]]["Balance"] - invoice["TotalAmt"]
    customer = company.store()["customers"][invoice["CustomerRef"]["value"]]
    assert customer["Balance"] == pytest.approx(owed)
    groups = company.changes("Payment,Customer", before)
    assert [row["Id"] for row in groups[0]["Payment"]] == [payment_id]
    assert [row["Id"] for row in groups[1]["Customer"]] == [customer["Id"]]


def test_balances_hold_after_many_changes(company: Company) -> None:
    company.control("mutate", account=company.id, count=300, seed=5)
    store, owed = company.store(), dict.fromkeys(company.store()["customers"], 0.0)
    for row in store["invoices"].values():
        owed[row["CustomerRef"]["value"]] += row["Balance"]
    for row in store["payments"].values():
        owed[row["CustomerRef"]["value"]] -= row["UnappliedAmt"]
    assert {id_: row["Balance"] for id_, row in store["customers"].items()} == pytest.approx(owed)


def test_at_most_1000_changes_are_told_over_all_entities(later: Company) -> None:
    later.control("accounts", size=2400, id="88")
    later.sign_in(later.control("grant", account="88")["access_token"])
    later.id = "88"
    groups = later.changes("Customer,Invoice,Payment", now() - timedelta(days=25))
    told = [len(group.get(e, ())) for group, e in zip(groups, ENTITIES.values(), strict=False)]
    assert sum(told) == 1000
    assert told[0] > 0
    assert told[2] == 0
    assert groups[2] == {}
    assert len(later.store()["change_data_capture"]) > 1000


def test_changes_older_than_thirty_days_are_refused(later: Company) -> None:
    changed_at = now()
    later.change("invoices", "change", id=next(iter(later.store()["invoices"])))
    later.advance(29 * DAY)
    later.sign_in(later.refresh(later.tokens["refresh_token"]).json()["access_token"])
    assert later.changes("Invoice", changed_at - timedelta(seconds=1))[0]["Invoice"]
    later.advance(DAY + 60)
    latest = later.control("grant", account=later.id)
    later.sign_in(latest["access_token"])
    refused = later.get("/cdc", entities="Invoice", changedSince=changed_at.isoformat())
    assert refused.status_code == 400
    assert refused.json()["Fault"]["Error"][0]["code"] == "500"
    assert later.store()["change_data_capture"] == {}


def test_changes_need_entities_and_a_time(company: Company) -> None:
    def code(**params: str) -> str:
        answer = company.get("/cdc", **params)
        assert answer.status_code == 400
        return str(answer.json()["Fault"]["Error"][0]["code"])

    since = now().isoformat()
    assert code(changedSince=since) == "2020"
    assert code(entities="Bill") == "2020"
    assert code(entities="Bill", changedSince="yesterday") == "2100"
    assert code(entities="Bill,Elephant", changedSince=since) == "4001"


def test_a_void_keeps_the_row_with_zero_amounts(company: Company) -> None:
    invoice = next(row for row in company.store()["invoices"].values() if row["LinkedTxn"])
    company.control("void", account=company.id, id=invoice["Id"])
    row = company.get(f"/invoice/{invoice['Id']}").json()["Invoice"]
    assert (row["TotalAmt"], row["Balance"], row["LinkedTxn"]) == (0, 0, [])
    assert {line["Amount"] for line in row["Line"]} == {0}
    assert row["PrivateNote"].startswith("Voided")
    assert int(row["SyncToken"]) > int(invoice["SyncToken"])
    unknown = company.client.post("/_control/quickbooks/void", json={"account": "0"})
    assert unknown.status_code == 404


def test_rows_are_created_changed_in_part_or_in_whole_and_deleted(company: Company) -> None:
    line = {"Amount": 12.5, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {}}
    wanted = {"CustomerRef": {"value": "1"}, "Line": [line], "PrivateNote": "first"}
    made = company.post("/invoice", wanted).json()["Invoice"]
    assert (made["TotalAmt"], made["Balance"], made["SyncToken"]) == (12.5, 12.5, "0")
    known = {"Id": made["Id"], "SyncToken": "0"}
    sparse = {**known, "sparse": True, "PrivateNote": "second", "DueDate": "2027-01-31"}
    changed = company.post("/invoice", sparse).json()["Invoice"]
    assert (changed["PrivateNote"], changed["TotalAmt"]) == ("second", 12.5)
    stale = company.post("/invoice", sparse)
    assert stale.json()["Fault"]["Error"][0]["code"] == "5010"
    whole = {**wanted, **known, "SyncToken": "1", "PrivateNote": ""}
    changed = company.post("/invoice", whole).json()["Invoice"]
    assert "PrivateNote" not in changed
    assert "DueDate" not in changed
    gone = company.post("/invoice", {**known, "SyncToken": "2"}, operation="delete").json()
    assert gone["Invoice"] == {"domain": "QBO", "status": "Deleted", "Id": made["Id"]}
    assert made["Id"] not in company.store()["invoices"]


@pytest.mark.parametrize(
    ("entity", "body", "code"),
    [
        ("invoice", {"CustomerRef": {"value": "1"}}, "2020"),
        ("invoice", {"CustomerRef": {"value": "0"}, "Line": []}, "2500"),
        ("customer", {"GivenName": "Ada"}, "2020"),
        ("customer", {"Id": "1", "DisplayName": "Ada"}, "2020"),
        ("customer", {"Id": "0", "SyncToken": "0"}, "610"),
        ("payment", {"CustomerRef": {"value": "1"}, "TotalAmt": "much"}, "2090"),
        ("bill", {"VendorRef": {"value": "1"}, "TxnDate": "soon", "Line": []}, "2100"),
        ("elephant", {}, "500"),
        ("companyinfo", {"CompanyName": "Other"}, "500"),
    ],
)
def test_what_cannot_be_written_is_a_fault(
    company: Company, entity: str, body: dict[str, Any], code: str
) -> None:
    before = company.store()
    answer = company.post(f"/{entity}", body)
    assert answer.status_code == 400
    assert answer.json()["Fault"]["Error"][0]["code"] == code
    assert company.store() == before


def test_a_name_is_given_once_and_name_lists_are_never_deleted(company: Company) -> None:
    name = company.store()["customers"]["1"]["DisplayName"]
    twice = company.post("/customer", {"DisplayName": name})
    assert twice.json()["Fault"]["Error"][0]["code"] == "6240"
    row = company.store()["customers"]["1"]
    deleted = company.post("/customer", row, operation="delete")
    assert deleted.json()["Fault"]["Error"][0]["code"] == "500"


def test_the_company_tells_about_itself(company: Company) -> None:
    info = company.get(f"/companyinfo/{company.id}").json()["CompanyInfo"]
    assert company.query("select * from CompanyInfo")["CompanyInfo"] == [info]
    assert info["CompanyName"]


def test_a_control_refuses_fields_that_do_not_exist(company: Company) -> None:
    path = f"/_control/quickbooks/records/invoices?account={company.id}"
    body = {"op": "change", "id": next(iter(company.store()["invoices"]))}
    answer = company.client.post(path, json={**body, "record": {"Colour": "red"}})
    assert answer.status_code == 400
    assert "PrivateNote" in answer.json()["error"]


def test_every_answer_carries_an_id_for_support(company: Company) -> None:
    answers = [
        company.get("/query", query="select * from Bill maxresults 1"),
        company.get("/query", query="nonsense"),
        company.refresh("nonsense"),
    ]
    assert len({answer.headers["intuit_tid"] for answer in answers}) == 3
    moment = datetime.fromisoformat(answers[0].json()["time"])
    assert abs(moment - now()) < timedelta(minutes=1)


def test_a_refused_token_is_a_gateway_fault_in_small_letters(company: Company) -> None:
    company.sign_in("nonsense")
    answer = company.get("/query", query="select * from Bill")
    assert answer.status_code == 401
    body = answer.json()
    assert "Fault" not in body
    assert body["fault"]["type"] == "AUTHENTICATION"
    assert body["fault"]["error"][0]["code"] == "3200"
    assert body["warnings"] is None


def test_another_company_is_forbidden(company: Company) -> None:
    company.id = "4620816365000000000"
    answer = company.get("/query", query="select * from Bill")
    assert answer.status_code == 403
    assert answer.json()["fault"]["error"][0]["code"] == "3100"
    assert answer.json()["fault"]["type"] == "SERVICE"


def test_a_consent_without_accounting_opens_no_company(company: Company) -> None:
    granted = company.control("grant", account=company.id, scopes=["openid"])
    company.sign_in(granted["access_token"])
    assert company.get("/query", query="select * from Bill").status_code == 403


def test_who_does_not_ask_for_json_gets_xml(company: Company) -> None:
    del company.headers["Accept"]
    answer = company.get("/query", query="select * from Bill")
    assert answer.headers["content-type"].startswith("application/xml")
    fault = ET.fromstring(answer.text)[0]  # noqa: S314 - our own sandbox wrote it
    assert fault.tag == "{http://schema.intuit.com/finance/v3}Fault"
    company.sign_in("nonsense")
    assert "3200" in company.get("/query", query="select * from Bill").text


def test_the_eleventh_call_within_a_second_is_throttled(company: Company) -> None:
    company.control("limits", scale=1)
    with stopped(company.client):
        answers = [company.get("/query", query="select count(*) from Bill") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    throttled = answers[10]
    fault = throttled.json()["fault"]
    assert fault["error"][0]["code"] == "3001"
    assert "ThrottleExceeded" in fault["error"][0]["message"]
    assert "retry-after" not in throttled.headers


def test_500_calls_a_minute_are_the_limit_of_a_company(later: Company) -> None:
    # At a fifth: 100 a minute and 2 a second. The clock goes on by more than a second for every
    # two calls, so that only the minute counts.
    later.control("limits", scale=0.2)
    statuses = []
    with stopped(later.client):
        for _ in range(51):
            statuses += [later.get("/query", query="nonsense").status_code for _ in range(2)]
            later.advance(1.001)
    assert statuses == [400] * 100 + [429] * 2


@pytest.mark.parametrize(("kind", "status"), [("500", 500), ("503", 503)])
def test_an_ordered_failure_is_a_system_fault(company: Company, kind: str, status: int) -> None:
    company.control("faults", kind=kind)
    answer = company.get("/query", query="select * from Bill")
    assert answer.status_code == status
    assert answer.json()["Fault"]["type"] == "SystemFault"
    assert company.get("/query", query="select * from Bill").status_code == 200


def test_unknown_paths_and_methods_are_refused_in_the_vendors_words(company: Company) -> None:
    path = f"{COMPANY}/{company.id}/query"
    wrong = company.client.delete(path, headers=company.headers)
    assert wrong.status_code == 405
    nowhere = company.client.get("/quickbooks.api.intuit.com/v9", headers=company.headers)
    assert nowhere.status_code == 404
    assert nowhere.json()["Fault"]["Error"][0]["code"] == "500"


def consent(company: Company, scope: str = "com.intuit.quickbooks.accounting") -> dict[str, str]:
    """The parameters with which the browser comes back."""
    asked = {"client_id": company.described["client_id"], "response_type": "code", "scope": scope}
    answer = company.client.post(
        company.described["authorize_url"],
        params={**asked, "redirect_uri": BACK, "state": "s-1"},
        data={"decision": "allow", "account": company.id},
    )
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: value for name, (value,) in query.items()}


def test_the_redirect_names_the_company_and_the_token_answer_does_not(company: Company) -> None:
    back = consent(company)
    assert back["realmId"] == company.id
    assert back["state"] == "s-1"
    form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": BACK}
    tokens = company.token(form).json()
    assert set(tokens) == {
        *("access_token", "expires_in", "refresh_token", "token_type"),
        "x_refresh_token_expires_in",
    }
    assert tokens["expires_in"] == 3600
    assert tokens["x_refresh_token_expires_in"] == pytest.approx(8_726_400, abs=2)
    company.sign_in(tokens["access_token"])
    assert company.query("select count(*) from Bill")["totalCount"]
    again = company.token(form)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})


def test_connecting_again_ends_the_former_refresh_token(company: Company) -> None:
    consent(company)
    refused = company.refresh(company.tokens["refresh_token"])
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_the_token_endpoint_wants_basic_auth_and_a_form(company: Company) -> None:
    refresh = {"grant_type": "refresh_token", "refresh_token": company.tokens["refresh_token"]}
    wrong = company.token(refresh, ("nobody", "nothing"))
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    client = (company.described["client_id"], company.described["client_secret"])
    in_body = company.client.post(
        company.described["token_url"],
        data={**refresh, "client_id": client[0], "client_secret": client[1]},
    )
    assert in_body.status_code == 401
    as_json = company.client.post(company.described["token_url"], json=refresh, auth=client)
    assert as_json.status_code == 400
    assert company.token(refresh).status_code == 200


def test_the_five_year_end_is_told_to_who_asks(company: Company) -> None:
    told = company.refresh(company.tokens["refresh_token"], hard=True).json()
    assert told["x_refresh_token_hard_expires_in"] == pytest.approx(5 * 365 * DAY, abs=5)


def test_no_consent_outlives_five_years_however_often_it_is_renewed(later: Company) -> None:
    value = later.tokens["refresh_token"]
    for _ in range(18):
        later.advance(100 * DAY)
        value = later.refresh(value).json()["refresh_token"]
    later.advance(24 * DAY)
    answer = later.refresh(value).json()
    assert answer["x_refresh_token_expires_in"] <= DAY
    later.advance(DAY + 1)
    assert later.refresh(answer["refresh_token"]).json() == {"error": "invalid_grant"}


def test_the_refresh_token_changes_after_a_day_and_the_former_dies_a_day_later(
    later: Company,
) -> None:
    former = later.tokens["refresh_token"]
    later.advance(3600)
    assert later.refresh(former).json()["refresh_token"] == former
    later.advance(23 * 3600)
    changed = later.refresh(former).json()["refresh_token"]
    assert changed != former
    # Within its last day the former still answers, always with the one that took its place.
    later.advance(12 * 3600)
    assert later.refresh(former).json()["refresh_token"] == changed
    later.advance(12 * 3600)
    assert later.refresh(former).json() == {"error": "invalid_grant"}
    latest = later.refresh(changed).json()
    later.sign_in(latest["access_token"])
    assert later.query("select count(*) from Bill")["totalCount"]


def test_a_refresh_token_nobody_uses_dies_after_its_hundred_days(later: Company) -> None:
    later.advance(8_726_400 + 1)
    assert later.refresh(later.tokens["refresh_token"]).json() == {"error": "invalid_grant"}


def test_an_access_token_lives_an_hour(later: Company) -> None:
    later.advance(3599)
    assert later.get("/query", query="select * from Bill").status_code == 200
    later.advance(2)
    assert later.get("/query", query="select * from Bill").status_code == 401


def test_revoking_takes_json_and_ends_the_consent(company: Company) -> None:
    address = company.described["revoke_url"]
    client = (company.described["client_id"], company.described["client_secret"])
    token = {"token": company.tokens["refresh_token"]}
    assert company.client.post(address, json=token).status_code == 401
    assert company.client.post(address, data=token, auth=client).status_code == 400
    assert company.client.post(address, json=token, auth=client).status_code == 200
    assert company.refresh(token["token"]).json() == {"error": "invalid_grant"}
    assert company.get("/query", query="select * from Bill").status_code == 401
    assert company.client.post(address, json=token, auth=client).status_code == 400


def test_a_consent_ended_at_intuit_is_an_invalid_grant(company: Company) -> None:
    company.control("tokens", account=company.id, op="revoke")
    refused = company.refresh(company.tokens["refresh_token"])
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_the_discovery_document_leads_to_this_sandbox(company: Company, origin: str) -> None:
    found = company.client.get(company.described["discovery_url"]).json()
    assert found["token_endpoint"] == company.described["token_url"]
    assert found["authorization_endpoint"] == company.described["authorize_url"]
    assert found["revocation_endpoint"] == company.described["revoke_url"]
    for name in ("openid_configuration", "openid_sandbox_configuration/"):
        path = f"/developer.intuit.com/.well-known/{name}"
        assert company.client.get(path).json() == found


def test_seeded_rows_are_never_about_thirty_days_old(company: Company) -> None:
    for stream in ENTITIES:
        for row in company.store()[stream].values():
            age = now() - datetime.fromisoformat(row["MetaData"]["LastUpdatedTime"])
            assert not timedelta(days=20, minutes=1) < age < timedelta(days=40)


def test_an_empty_company_answers_and_takes_its_first_rows(company: Company) -> None:
    empty = Company(company.client, size=0)
    assert empty.query("select * from Invoice") == {}
    assert empty.changes("Invoice,Customer", now()) == [{}, {}]
    id_ = empty.change("payments", "add")
    assert set(empty.store()["payments"]) == {id_}
    assert len(empty.store()["customers"]) == 1
