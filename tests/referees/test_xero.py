"""Xero's own SDK against the sandbox, with only its addresses set."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from xero_python.accounting import AccountingApi
from xero_python.api_client import ApiClient
from xero_python.api_client.configuration import Configuration
from xero_python.api_client.oauth2 import OAuth2Token, TokenApi
from xero_python.exceptions import HTTPStatusException
from xero_python.identity import IdentityApi

from sandbox import start

pytestmark = pytest.mark.referee


class Referee:
    """The SDK, signed in to an organisation of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, origin: str) -> None:
        self.control = control
        self.described = control.get("/_control").json()["xero"]
        self.account: str = self.order("accounts", size=150)["id"]
        granted = self.order("grant", account=self.account)
        named = ("access_token", "refresh_token", "token_type", "expires_in")
        self.tokens = {name: granted[name] for name in named}
        self.tokens["scope"] = granted["scope"].split()
        configuration = Configuration(
            oauth2_token=OAuth2Token(
                client_id=self.described["client_id"],
                client_secret=self.described["client_secret"],
            )
        )
        self.client: Any = ApiClient(
            configuration, oauth2_token_getter=lambda: self.tokens, oauth2_token_saver=self.saved
        )
        self.client.set_oauth2_token(self.tokens)
        self.accounting: Any = AccountingApi(self.client, base_url=self.described["base_url"])
        self.identity: Any = IdentityApi(self.client, base_url=f"{origin}/api.xero.com")

    def saved(self, token: Any) -> None:
        self.tokens = token

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/xero/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        params = {"account": self.account, "stream": stream}
        answer = self.control.get("/_control/xero/store", params=params)
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found


@pytest.fixture
def referee(monkeypatch: pytest.MonkeyPatch) -> Iterator[Referee]:
    with start(["xero"]) as origin, httpx.Client(base_url=origin, timeout=60) as control:
        control.post("/_control/xero/limits", json={"scale": 100})
        made = Referee(control, origin)
        for name in ("client_credentials_token_url", "refresh_token_url"):
            monkeypatch.setattr(TokenApi, name, made.described["token_url"])
        revocation = f"{origin}/identity.xero.com/connect/revocation"
        monkeypatch.setattr(TokenApi, "revoke_token_url", revocation)
        yield made


def test_the_sdk_pages_through_every_invoice_with_its_lines(referee: Referee) -> None:
    read: dict[str, Any] = {}
    page, pages = 1, 1
    while page <= pages:
        answer = referee.accounting.get_invoices(
            referee.account, page=page, page_size=50, order="UpdatedDateUTC DESC"
        )
        read |= {one.invoice_id: one for one in answer.invoices}
        page, pages = page + 1, answer.pagination.page_count
    assert pages == 3
    store = referee.store("invoices")
    assert read.keys() == store.keys()
    for id_, one in read.items():
        assert one.updated_date_utc == datetime.fromisoformat(store[id_]["UpdatedDateUTC"])
        assert float(one.total) == store[id_]["Total"]
        assert [line.line_item_id for line in one.line_items] == [
            line["LineItemID"] for line in store[id_]["LineItems"]
        ]


def test_the_sdk_reads_what_changed_since_a_time(referee: Referee) -> None:
    changed = referee.order(
        f"records/contacts?account={referee.account}", op="add", record={"Name": "Newest"}
    )["id"]
    since = datetime.now(UTC) - timedelta(seconds=30)
    found = referee.accounting.get_contacts(
        referee.account, if_modified_since=since.strftime("%Y-%m-%dT%H:%M:%S"), page=1
    ).contacts
    assert [one.contact_id for one in found] == [changed]
    assert found[0].name == "Newest"


@pytest.mark.parametrize(
    ("stream", "method", "rows", "id_"),
    [
        ("contacts", "get_contacts", "contacts", "contact_id"),
        ("payments", "get_payments", "payments", "payment_id"),
        ("bank_transactions", "get_bank_transactions", "bank_transactions", "bank_transaction_id"),
        ("credit_notes", "get_credit_notes", "credit_notes", "credit_note_id"),
        ("purchase_orders", "get_purchase_orders", "purchase_orders", "purchase_order_id"),
        ("manual_journals", "get_manual_journals", "manual_journals", "manual_journal_id"),
        ("prepayments", "get_prepayments", "prepayments", "prepayment_id"),
        ("overpayments", "get_overpayments", "overpayments", "overpayment_id"),
        ("accounts", "get_accounts", "accounts", "account_id"),
        ("items", "get_items", "items", "item_id"),
        ("bank_transfers", "get_bank_transfers", "bank_transfers", "bank_transfer_id"),
        ("tax_rates", "get_tax_rates", "tax_rates", "name"),
        ("currencies", "get_currencies", "currencies", "description"),
        ("branding_themes", "get_branding_themes", "branding_themes", "branding_theme_id"),
        ("organisations", "get_organisations", "organisations", "organisation_id"),
    ],
)
def test_the_sdk_reads_each_list(
    referee: Referee, stream: str, method: str, rows: str, id_: str
) -> None:
    found = getattr(getattr(referee.accounting, method)(referee.account), rows)
    assert len({getattr(one, id_) for one in found}) == len(referee.store(stream)) > 0


def test_the_sdk_finds_an_account_in_each_row_of_the_trial_balance(referee: Referee) -> None:
    (report,) = referee.accounting.get_report_trial_balance(referee.account).reports
    marked = [
        row.cells[0].attributes[0].value
        for section in report.rows
        for row in section.rows or ()
        if row.cells[0].attributes
    ]
    assert sorted(marked) == sorted(referee.store("trial_balance"))


def test_the_sdk_refreshes_lists_and_ends_connections(referee: Referee) -> None:
    former = referee.tokens["refresh_token"]
    referee.client.refresh_oauth2_token()
    assert referee.tokens["refresh_token"] != former
    own, practice = referee.identity.get_connections()
    assert (own.tenant_id, practice.tenant_type) == (referee.account, "PRACTICE")
    referee.identity.delete_connection(own.id)
    with pytest.raises(HTTPStatusException) as refused:
        referee.accounting.get_invoices(referee.account)
    assert refused.value.status == 403


def test_the_sdk_gives_everything_back(referee: Referee) -> None:
    former = dict(referee.tokens)
    referee.client.revoke_oauth2_token()
    assert referee.tokens["refresh_token"] is None
    referee.tokens = former
    with pytest.raises(HTTPStatusException) as refused:
        referee.client.refresh_oauth2_token()
    assert "invalid_grant" in str(refused.value)
