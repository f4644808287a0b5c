"""`python-quickbooks` and Intuit's own `intuit-oauth` against the sandbox, with only their
addresses set."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from intuitlib.client import AuthClient
from intuitlib.enums import Scopes
from intuitlib.exceptions import AuthClientError
from quickbooks import QuickBooks
from quickbooks.cdc import change_data_capture
from quickbooks.exceptions import (
    AuthorizationException,
    ObjectNotFoundException,
    QuickbooksException,
    SevereException,
    ValidationException,
)
from quickbooks.objects.account import Account
from quickbooks.objects.base import Ref
from quickbooks.objects.bill import Bill
from quickbooks.objects.company_info import CompanyInfo
from quickbooks.objects.customer import Customer
from quickbooks.objects.detailline import SalesItemLine, SalesItemLineDetail
from quickbooks.objects.invoice import Invoice
from quickbooks.objects.payment import Payment

from sandbox import start

pytestmark = [
    pytest.mark.referee,
    # From Python 3.12 on: intuit-oauth 1.2.6 still reads the time of an id token with it.
    pytest.mark.filterwarnings(
        r"ignore:datetime\.datetime\.utcnow\(\) is deprecated:DeprecationWarning:intuitlib\.utils"
    ),
]

BACK = "http://127.0.0.1:9/back"
CLASSES = {
    "customers": Customer,
    "invoices": Invoice,
    "payments": Payment,
    "bills": Bill,
    "accounts": Account,
}


class Referee:
    """Both SDKs, signed in to a company of their own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int) -> None:
        self.control = control
        self.described = control.get("/_control").json()["quickbooks"]
        self.company: str = self.order("accounts", id=_next(), size=size)["id"]
        self.tokens = self.order("grant", account=self.company)
        self.auth = self.auth_client(self.tokens["access_token"], self.tokens["refresh_token"])
        self.sdk = self.signed_in(self.auth)

    def auth_client(self, access_token: str | None = None, refresh_token: str | None = None) -> Any:
        # The environment may be the address of a discovery document.
        return AuthClient(
            client_id=self.described["client_id"],
            client_secret=self.described["client_secret"],
            redirect_uri=BACK,
            environment=self.described["discovery_url"],
            access_token=access_token,
            refresh_token=refresh_token,
            realm_id=self.company,
        )

    def signed_in(self, auth: Any) -> Any:
        sdk = QuickBooks(
            auth_client=auth,
            refresh_token=auth.refresh_token,
            company_id=self.company,
            minorversion=75,
        )
        sdk.api_url_v3 = self.described["base_url"]
        return sdk

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/quickbooks/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self) -> Any:
        answer = self.control.get("/_control/quickbooks/store", params={"account": self.company})
        return answer.json()["streams"]


_numbers = iter(range(9_140_000_000_000_001, 9_150_000_000_000_000))


def _next() -> str:
    return str(next(_numbers))


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["quickbooks"]) as origin:
        yield origin


@pytest.fixture
def referee(origin: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Referee]:
    # oauthlib, on which python-quickbooks stands, speaks plain HTTP only when told to.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with httpx.Client(base_url=origin, timeout=60) as control:
        control.delete("/_control/quickbooks/faults")
        control.post("/_control/quickbooks/limits", json={"scale": 100})
        made = Referee(control, size=60)
        yield made
        made.sdk.session.close()
        made.auth.close()


@pytest.mark.parametrize("stream", list(CLASSES))
def test_the_sdk_lists_every_active_row(referee: Referee, stream: str) -> None:
    rows = CLASSES[stream].all(max_results=1000, qb=referee.sdk)
    wanted = {id_: row for id_, row in referee.store()[stream].items() if row.get("Active", True)}
    assert {row.Id for row in rows} == set(wanted)
    for row in rows:
        assert row.SyncToken == wanted[row.Id]["SyncToken"]
        assert row.domain == "QBO"


def test_the_sdk_reads_lines_references_and_times(referee: Referee) -> None:
    stored = next(row for row in referee.store()["invoices"].values() if row["LinkedTxn"])
    invoice = Invoice.get(stored["Id"], qb=referee.sdk)
    assert invoice.CustomerRef.name == stored["CustomerRef"]["name"]
    assert invoice.MetaData.LastUpdatedTime == stored["MetaData"]["LastUpdatedTime"]
    assert (
        invoice.Line[0].SalesItemLineDetail.Qty == stored["Line"][0]["SalesItemLineDetail"]["Qty"]
    )
    assert invoice.LinkedTxn[0].TxnType == "Payment"
    assert invoice.TotalAmt == stored["TotalAmt"]


def test_the_sdk_pages_with_start_and_size(referee: Referee) -> None:
    ids: list[str] = []
    while page := Invoice.filter(
        order_by="Id", start_position=len(ids) + 1, max_results=25, qb=referee.sdk
    ):
        ids += [row.Id for row in page]
    assert ids == sorted(referee.store()["invoices"], key=int)


def test_the_sdk_filters_counts_and_chooses(referee: Referee) -> None:
    customers = referee.store()["customers"]
    inactive = {id_ for id_, row in customers.items() if not row["Active"]}
    assert {row.Id for row in Customer.filter(Active=False, qb=referee.sdk)} == inactive
    assert Customer.count(qb=referee.sdk) == len(customers) - len(inactive)
    unpaid = [row for row in referee.store()["invoices"].values() if row["Balance"] > 0]
    assert Invoice.count("Balance > '0'", qb=referee.sdk) == len(unpaid)
    name = next(row["DisplayName"] for row in customers.values() if row["Active"])
    (found,) = Customer.filter(DisplayName=name, qb=referee.sdk)
    assert found.DisplayName == name
    assert [row.Id for row in Invoice.choose(["2", "1"], qb=referee.sdk)] != []
    assert Customer.filter(DisplayName="nobody", qb=referee.sdk) == []


def test_the_sdk_orders_by_the_last_change(referee: Referee) -> None:
    since = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    rows = Bill.where(
        f"MetaData.LastUpdatedTime > '{since}'",
        order_by="MetaData.LastUpdatedTime",
        qb=referee.sdk,
    )
    times = [datetime.fromisoformat(row.MetaData["LastUpdatedTime"]) for row in rows]
    assert times
    assert times == sorted(times)


def test_the_sdk_creates_changes_and_deletes(referee: Referee) -> None:
    customer = Customer()
    customer.DisplayName = "Søren's Café"
    customer.save(qb=referee.sdk)
    assert customer.Id in referee.store()["customers"]
    customer = Customer.get(customer.Id, qb=referee.sdk)
    customer.Notes = "pays late"
    assert customer.save(qb=referee.sdk).SyncToken == "1"
    (same,) = Customer.filter(DisplayName="Søren's Café", qb=referee.sdk)
    assert same.Notes == "pays late"

    line = SalesItemLine()
    line.Amount = 40
    line.SalesItemLineDetail = SalesItemLineDetail()
    line.SalesItemLineDetail.ItemRef = Ref()
    line.SalesItemLineDetail.ItemRef.value = "1"
    invoice = Invoice()
    invoice.CustomerRef = customer.to_ref()
    invoice.Line.append(line)
    invoice = invoice.save(qb=referee.sdk)
    assert (invoice.TotalAmt, invoice.Balance) == (40, 40)
    assert Customer.get(customer.Id, qb=referee.sdk).Balance == 40
    invoice.PrivateNote = "urgent"
    invoice = invoice.save(qb=referee.sdk)
    assert referee.store()["invoices"][invoice.Id]["PrivateNote"] == "urgent"
    answer = invoice.delete(qb=referee.sdk)
    assert answer["Invoice"]["status"] == "Deleted"
    with pytest.raises(ObjectNotFoundException):
        Invoice.get(invoice.Id, qb=referee.sdk)


def test_the_sdk_pays_an_invoice_and_voids_both(referee: Referee) -> None:
    stored = next(row for row in referee.store()["invoices"].values() if not row["LinkedTxn"])
    invoice = Invoice.get(stored["Id"], qb=referee.sdk)
    payment = Payment.from_json(
        {
            "TotalAmt": stored["TotalAmt"],
            "CustomerRef": stored["CustomerRef"],
            "Line": [{"Amount": stored["TotalAmt"], "LinkedTxn": [vars(invoice.to_linked_txn())]}],
        }
    ).save(qb=referee.sdk)
    assert payment.UnappliedAmt == 0
    paid = Invoice.get(stored["Id"], qb=referee.sdk)
    assert paid.Balance == 0
    assert paid.LinkedTxn[0].TxnId == payment.Id
    payment.void(qb=referee.sdk)
    unpaid = Invoice.get(stored["Id"], qb=referee.sdk)
    assert unpaid.Balance == stored["TotalAmt"]
    unpaid.void(qb=referee.sdk)
    assert referee.store()["invoices"][stored["Id"]]["TotalAmt"] == 0
    assert referee.store()["payments"][payment.Id]["TotalAmt"] == 0


def test_the_sdk_makes_a_name_inactive(referee: Referee) -> None:
    account = Account.all(qb=referee.sdk)[0]
    account.Active = False
    account.save(qb=referee.sdk)
    assert referee.store()["accounts"][account.Id]["Active"] is False
    assert account.Id not in {row.Id for row in Account.all(max_results=1000, qb=referee.sdk)}


def test_the_sdk_captures_changes_and_deletions(referee: Referee) -> None:
    deleted = next(iter(referee.store()["invoices"]))
    referee.order(f"records/invoices?account={referee.company}", op="delete", id=deleted)
    since = (datetime.now(UTC) - timedelta(days=29)).isoformat()
    changes = change_data_capture([Invoice, Customer, Bill], since, qb=referee.sdk)
    wanted = referee.store()["change_data_capture"]
    for entity in ("Invoice", "Customer", "Bill"):
        told = {row.Id: row for row in getattr(changes, entity)}
        assert set(told) == {r["Id"] for r in wanted.values() if r["entity"] == entity}
    (stub,) = [row for row in changes.Invoice if getattr(row, "status", None) == "Deleted"]
    assert stub.Id == deleted


def test_the_sdk_captures_changes_from_a_time_without_offset(referee: Referee) -> None:
    # It writes times bare, which QuickBooks reads in the company's own offset.
    at = datetime.now(UTC) - timedelta(hours=8, minutes=1)
    changed = next(iter(referee.store()["bills"]))
    referee.order(f"records/bills?account={referee.company}", op="change", id=changed)
    changes = change_data_capture([Bill, Payment], at, qb=referee.sdk)
    assert changed in {row.Id for row in changes.Bill}


def test_the_sdk_reads_the_company(referee: Referee) -> None:
    info = CompanyInfo.get(referee.company, qb=referee.sdk)
    assert info.CompanyName
    (same,) = CompanyInfo.all(qb=referee.sdk)
    assert same.CompanyName == info.CompanyName


def test_the_sdk_tells_faults_apart(referee: Referee) -> None:
    with pytest.raises(ValidationException) as caught:
        Customer.query("select * from Customer where", qb=referee.sdk)
    assert caught.value.error_code == 4000
    stale = Customer.all(qb=referee.sdk)[0]
    Customer.get(stale.Id, qb=referee.sdk).save(qb=referee.sdk)
    with pytest.raises(QuickbooksException) as refused:
        stale.save(qb=referee.sdk)
    assert refused.value.error_code == 5010
    referee.order("faults", kind="500")
    with pytest.raises(SevereException):
        Bill.all(qb=referee.sdk)
    referee.order("faults", kind="429")
    with pytest.raises(QuickbooksException, match="429"):
        Bill.all(qb=referee.sdk)


def test_a_bad_token_is_an_authorization_exception(referee: Referee) -> None:
    sdk = referee.signed_in(referee.auth_client("nonsense", "nonsense"))
    with pytest.raises(AuthorizationException, match="3200"):
        Customer.all(qb=sdk)


def test_the_oauth_client_walks_the_whole_consent(referee: Referee) -> None:
    auth = referee.auth_client()
    page = auth.get_authorization_url([Scopes.ACCOUNTING, Scopes.OPENID, Scopes.EMAIL], "s-1")
    answer = httpx.post(page, data={"decision": "allow", "account": referee.company})
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert back["state"] == ["s-1"]
    auth.get_bearer_token(back["code"][0], realm_id=back["realmId"][0])
    assert auth.realm_id == referee.company
    assert auth.expires_in == 3600
    assert auth.x_refresh_token_expires_in > 8_000_000
    # The client keeps an id token only when its signature, issuer and audience hold.
    assert auth.id_token.count(".") == 2
    user = auth.get_user_info().json()
    assert user["email"].endswith(".example")
    assert Bill.count(qb=referee.signed_in(auth)) == len(referee.store()["bills"])
    with pytest.raises(AuthClientError) as caught:
        auth.get_bearer_token(back["code"][0])
    assert caught.value.status_code == 400
    assert caught.value.intuit_tid


def test_the_oauth_client_takes_its_addresses_by_hand(referee: Referee) -> None:
    auth = referee.auth_client(refresh_token=referee.tokens["refresh_token"])
    described = referee.described
    auth.setAuthorizeURLs(
        {
            "auth_endpoint": described["authorize_url"],
            "token_endpoint": described["token_url"],
            "revoke_endpoint": described["revoke_url"],
            "user_info_url": "http://127.0.0.1:9/",
        }
    )
    auth.refresh()
    assert auth.refresh_token == referee.tokens["refresh_token"]
    assert Bill.count(qb=referee.signed_in(auth))


def test_the_oauth_client_refreshes_an_expired_token(referee: Referee) -> None:
    referee.order("tokens", account=referee.company, op="expire")
    with pytest.raises(AuthorizationException):
        Bill.count(qb=referee.sdk)
    referee.auth.refresh()
    assert Bill.count(qb=referee.signed_in(referee.auth)) == len(referee.store()["bills"])


def test_the_oauth_client_revokes(referee: Referee) -> None:
    assert referee.auth.revoke() is True
    with pytest.raises(AuthorizationException):
        Bill.count(qb=referee.sdk)
    with pytest.raises(AuthClientError, match="invalid_grant"):
        referee.auth.refresh()
