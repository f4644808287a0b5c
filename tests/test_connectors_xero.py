"""What is Xero's own, and not asked of every connector: driven with an organisation that is played
here."""

import json
from datetime import timedelta

import pytest

from connectors import ContractError, Request, Response, load
from tests._driving import NOW, drive, response
from tests._judging import as_the_client, judged
from tests.reports._following import Followed
from tests.reports.test_xero import (
    ORGANISATION,
    Organisation,
    delivery,
    invoice,
    synced,
    written,
)

XERO = load("xero")


def test_no_document_is_skipped_when_others_change_while_pages_are_read() -> None:
    rows = [invoice(n, updated=NOW - timedelta(days=1, minutes=n)) for n in range(2_500)]
    organisation = Organisation({"Invoices": rows})

    def moving(request: Request) -> Response:
        answer = organisation(request)
        if not organisation.asked[1:]:
            for row in (*rows[100:400], *rows[1_600:1_900]):
                row["UpdatedDateUTC"] = written(NOW)
        return answer

    followed = Followed(XERO, XERO.stream("invoices"), moving).sync()
    assert len(followed.sync().rows) == 2_500


def test_a_line_that_was_taken_out_of_an_invoice_is_gone() -> None:
    organisation = Organisation({"Invoices": [invoice(1)]})
    organisation.refused |= {"CreditNotes", "BankTransactions"}
    followed = synced("line_items", organisation)
    assert set(followed.rows) == {"Invoices/in-1/line-1"}
    organisation.rows["Invoices"] = [invoice(1, LineItems=[{"LineItemID": "other"}])]
    assert set(followed.sync().rows) == {"Invoices/in-1/other"}


def test_one_event_that_cannot_be_read_costs_no_other() -> None:
    event = {
        "resourceId": "in-1", "tenantId": ORGANISATION, "tenantType": "ORGANISATION",
        "eventCategory": "INVOICE", "eventType": "UPDATE",
        "eventDateUtc": "2025-12-02 00:44:09.923000",
    }  # fmt: skip
    odd = {"tenantId": ORGANISATION, "eventCategory": "CONTACT"}
    sold = {**event, "eventCategory": "SUBSCRIPTION", "tenantType": "APPLICATION"}
    body = json.dumps({"events": [event, odd, sold]}).encode()
    assert XERO.webhook
    found = XERO.webhook.events(delivery(body, ""))
    assert [each.effect for each in found] == ["read", "unreadable"]
    assert {each.account_id for each in found} == {ORGANISATION}
    assert found[0].streams == ("invoices",)


def test_an_answer_that_is_no_json_is_no_empty_one() -> None:
    assert isinstance(judged(XERO, response({"Message": "x"}, 400)), ContractError)
    with pytest.raises(TypeError):
        drive(XERO.stream("items").read, as_the_client(XERO, lambda request: response(None)))


def test_a_kind_that_is_refused_leaves_the_lines_of_the_others() -> None:
    orders = [{"PurchaseOrderID": "po-1", "LineItems": [{"LineItemID": "x"}]}]
    orders[0] |= {"UpdatedDateUTC": written(NOW)}
    organisation = Organisation({"Invoices": [invoice(1)], "PurchaseOrders": orders})
    followed = synced("line_items", organisation)
    both = {"Invoices/in-1/line-1", "PurchaseOrders/po-1/x"}
    assert set(followed.rows) == both
    organisation.refused.add("PurchaseOrders")
    organisation.rows["Invoices"].append(invoice(2))
    assert set(followed.sync().rows) == {*both, "Invoices/in-2/line-2"}


def test_the_lines_of_a_deleted_document_go_and_those_of_a_voided_one_stay() -> None:
    organisation = Organisation({"Invoices": [invoice(1), invoice(2)]})
    followed = synced("line_items", organisation)
    organisation.rows["Invoices"] = [invoice(1, Status="DELETED"), invoice(2, Status="VOIDED")]
    assert set(followed.sync().rows) == {"Invoices/in-2/line-2"}


def test_a_merged_contact_leads_to_the_one_that_took_it_in() -> None:
    left = {"ContactID": "a", "ContactStatus": "ARCHIVED", "MergedToContactID": "b"}
    rows = [{**left, "UpdatedDateUTC": written(NOW)}, {"ContactID": "b"}]
    organisation = Organisation({"Contacts": rows})
    (page,) = drive(XERO.stream("contacts").read, organisation)
    assert page.merged == {"a": "b"}
    assert [row["ContactID"] for row in page.records] == ["b"]


def test_a_look_that_was_stopped_goes_on_at_its_page_and_ends_where_it_began() -> None:
    rows = [invoice(n, updated=NOW - timedelta(minutes=n)) for n in range(2_300)]
    organisation = Organisation({"Invoices": rows})
    read = XERO.stream("invoices").read
    first, *rest = drive(read, organisation)
    later = NOW + timedelta(days=40)
    again = drive(read, organisation, first.checkpoint, now=later)
    assert [len(page.records) for page in again] == [1000, 300]
    assert again[-1].checkpoint == rest[-1].checkpoint


def test_a_trial_balance_is_a_row_for_each_account_without_its_sums() -> None:
    mark = [{"Value": "ac-1", "Id": "account"}]
    cells = [{"Value": value, "Attributes": mark} for value in ("Sales (200)", "", "12.00")]
    total = {"RowType": "SummaryRow", "Cells": [{"Value": "Total"}] * 3}
    bare = {"RowType": "Row", "Cells": [{"Value": "Net"}] * 3}
    body = {
        "Reports": [
            {
                "Rows": [
                    {
                        "RowType": "Header",
                        "Cells": [{"Value": n} for n in ("Account", "Debit", "Credit")],
                    },
                    {
                        "RowType": "Section",
                        "Title": "Revenue",
                        "Rows": [{"RowType": "Row", "Cells": cells}, bare],
                    },
                    {"RowType": "Section", "Title": "", "Rows": [total]},
                ]
            }
        ]
    }
    (page,) = drive(XERO.stream("trial_balance").read, lambda request: response(body))
    assert page.records == [
        {
            "AccountID": "ac-1",
            "Section": "Revenue",
            "Account": "Sales (200)",
            "Debit": "",
            "Credit": "12.00",
        }
    ]
