"""`simple-salesforce` against the sandbox, with only its address changed after it is made."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceError,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

from sandbox import start

pytestmark = pytest.mark.referee

OBJECTS = {
    "accounts": "Account",
    "contacts": "Contact",
    "leads": "Lead",
    "opportunities": "Opportunity",
    "users": "User",
}


class Plain(HTTPAdapter):  # type: ignore[misc]  # requests brings no types
    """The library writes https into every address, whatever it is given; loopback has none."""

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, *args, **options)


class Referee:
    """The library, signed in to an org of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int) -> None:
        self.control = control
        self.org: str = self.order("accounts", size=size)["id"]
        self.tokens = self.order("grant", account=self.org)
        self.session = requests.Session()
        self.session.mount("https://", Plain())
        self.sdk = self.signed_in(self.tokens["access_token"])

    def signed_in(self, token: str) -> Any:
        where = self.tokens["instance_url"].removeprefix("https://")
        return Salesforce(
            session_id=token,
            instance=f"{self.control.base_url.netloc.decode()}/{where}",
            version="67.0",
            session=self.session,
        )

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/salesforce/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> Any:
        params = {"account": self.org, "stream": stream}
        answer = self.control.get("/_control/salesforce/store", params=params)
        return answer.json()["streams"][stream]

    def fields(self, sobject: str) -> str:
        """Every field of an object that stands in a list of them, as its description says."""
        described = getattr(self.sdk, sobject).describe()["fields"]
        personal = ("LastViewedDate", "LastReferencedDate")
        names = [f["name"] for f in described if f["type"] != "address"]
        return ", ".join(name for name in names if name not in personal)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["salesforce"]) as origin:
        yield origin


@pytest.fixture
def referee(origin: str) -> Iterator[Referee]:
    with httpx.Client(base_url=origin, timeout=60) as control:
        control.delete("/_control/salesforce/faults")
        made = Referee(control, size=60)
        yield made
        made.session.close()


def plain(rows: Any) -> dict[str, Any]:
    """Rows by id, without what the API says about them."""
    return {row["Id"]: {k: v for k, v in row.items() if k != "attributes"} for row in rows}


@pytest.mark.parametrize("stream", list(OBJECTS))
def test_the_library_reads_every_row_of_an_object(referee: Referee, stream: str) -> None:
    sobject = OBJECTS[stream]
    query = f"SELECT {referee.fields(sobject)} FROM {sobject}"
    assert plain(referee.sdk.query_all_iter(query)) == referee.store(stream)


def test_the_library_follows_the_next_page_of_a_query(origin: str) -> None:
    with httpx.Client(base_url=origin, timeout=60) as control:
        referee = Referee(control, size=2_100)
        first = referee.sdk.query("SELECT Id FROM Contact")
        assert (len(first["records"]), first["done"], first["totalSize"]) == (2000, False, 2100)
        assert first["nextRecordsUrl"].startswith("/services/data/v67.0/query/")
        rest = referee.sdk.query_more(first["nextRecordsUrl"], identifier_is_url=True)
        assert rest["done"] is True
        found = {row["Id"] for row in [*first["records"], *rest["records"]]}
        assert found == set(referee.store("contacts"))
        referee.session.close()


def test_the_library_filters_and_orders(referee: Referee) -> None:
    rows = referee.sdk.query(
        "SELECT Id, Amount, StageName FROM Opportunity WHERE StageName IN ('Closed Won', "
        "'Prospecting') AND (Amount > 1000 OR Amount = null) ORDER BY Amount DESC LIMIT 7"
    )["records"]
    wanted = [
        row
        for row in referee.store("opportunities").values()
        if row["StageName"] in ("Closed Won", "Prospecting")
        and (row["Amount"] is None or row["Amount"] > 1000)
    ]
    amounts = sorted((row["Amount"] or -1 for row in wanted), reverse=True)[:7]
    assert [row["Amount"] or -1 for row in rows] == amounts


def test_the_library_counts(referee: Referee) -> None:
    found = referee.sdk.query("SELECT COUNT() FROM Lead")
    assert found["totalSize"] == len(referee.store("leads"))


def test_the_library_creates_changes_reads_and_deletes_a_row(referee: Referee) -> None:
    made = referee.sdk.Contact.create({"LastName": "O'Brien", "Email": "o@brien.example"})
    assert made["success"] is True
    assert referee.sdk.Contact.update(made["id"], {"FirstName": "Ada"}) == 204
    row = referee.sdk.Contact.get(made["id"])
    assert (row["Name"], row["Email"]) == ("Ada O'Brien", "o@brien.example")
    assert referee.store("contacts")[made["id"]]["FirstName"] == "Ada"
    assert referee.sdk.Contact.delete(made["id"]) == 204
    assert made["id"] not in referee.store("contacts")
    with pytest.raises(SalesforceResourceNotFound):
        referee.sdk.Contact.get(made["id"])


def test_the_library_sees_a_deleted_row_in_the_recycle_bin(referee: Referee) -> None:
    made = referee.sdk.Lead.create({"LastName": "Gone", "Company": "Acme"})
    referee.sdk.Lead.delete(made["id"])
    query = "SELECT Id, IsDeleted FROM Lead WHERE LastName = 'gone'"
    assert referee.sdk.query(query)["records"] == []
    (row,) = referee.sdk.query(query, include_deleted=True)["records"]
    assert (row["Id"], row["IsDeleted"]) == (made["id"], True)


def test_the_library_asks_what_was_updated_and_deleted(referee: Referee) -> None:
    kept = referee.sdk.Account.create({"Name": "Kept"})["id"]
    gone = referee.sdk.Account.create({"Name": "Gone"})["id"]
    referee.sdk.Account.delete(gone)
    referee.control.post("/_control/clock", json={"advance": 120})
    end = datetime.now(UTC) + timedelta(minutes=3)
    start_at = end - timedelta(days=1)
    told = referee.sdk.Account.updated(start_at, end)
    assert kept in told["ids"]
    assert gone not in told["ids"]
    assert told["latestDateCovered"]
    told = referee.sdk.Account.deleted(start_at, end)
    assert [row["id"] for row in told["deletedRecords"]] == [gone]
    assert told["earliestDateAvailable"] < told["latestDateCovered"]


def test_the_library_reads_the_orgs_own_objects(referee: Referee) -> None:
    named = [each["name"] for each in referee.sdk.describe()["sobjects"] if each["custom"]]
    assert {"Invoice__c", "Shipment__c"} <= set(named)
    rows = referee.sdk.query_all(f"SELECT {referee.fields('Invoice__c')} FROM Invoice__c")
    stored = referee.store("custom_objects")
    for id_, row in plain(rows["records"]).items():
        assert stored[f"Invoice__c:{id_}"] == {"object": "Invoice__c", **row}


def test_the_library_tells_errors_apart(referee: Referee) -> None:
    with pytest.raises(SalesforceMalformedRequest) as malformed:
        referee.sdk.query("SELECT Id FROM Contact WHERE")
    assert malformed.value.content[0]["errorCode"] == "MALFORMED_QUERY"
    with pytest.raises(SalesforceMalformedRequest) as unknown:
        referee.sdk.query("SELECT Id FROM Nothing")
    assert unknown.value.content[0]["errorCode"] == "INVALID_TYPE"
    with pytest.raises(SalesforceExpiredSession) as expired:
        referee.signed_in("00D!nonsense").query("SELECT Id FROM Contact")
    assert expired.value.content[0]["errorCode"] == "INVALID_SESSION_ID"
    referee.order("faults", kind="429")
    with pytest.raises(SalesforceError) as spent:
        referee.sdk.query("SELECT Id FROM Contact")
    assert spent.value.status == 403
    assert spent.value.content[0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"


def test_the_library_reads_how_much_of_the_allowance_is_used(referee: Referee) -> None:
    referee.sdk.query("SELECT Id FROM Contact")
    first = referee.sdk.api_usage["api-usage"].used
    referee.sdk.query("SELECT Id FROM Contact")
    assert referee.sdk.api_usage["api-usage"].used == first + 1


def test_the_library_reads_rows_by_a_bulk_job(referee: Referee) -> None:
    query = "SELECT Id, Name, Notes__c, Paid__c FROM Invoice__c ORDER BY Id"
    (part,) = referee.sdk.bulk2.Invoice__c.query(query)
    stored = {row["Id"]: row for row in referee.store("custom_objects").values()}
    rows = list(csv.DictReader(io.StringIO(part, newline="")))
    wanted = [id_ for id_, row in stored.items() if row["object"] == "Invoice__c"]
    assert sorted(row["Id"] for row in rows) == sorted(wanted)
    for row in rows:
        assert row["Notes__c"] == (stored[row["Id"]]["Notes__c"] or "")
        assert row["Paid__c"] == str(stored[row["Id"]]["Paid__c"]).lower()
