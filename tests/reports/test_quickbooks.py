"""What people reported of programs that read QuickBooks Online, played on our readers and webhook.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    RetryableError,
    load,
)
from tests._driving import NOW, Answer, drive, held, response
from tests._judging import as_the_client, judged
from tests.test_connectors_quickbooks import Company, row

QUICKBOOKS = load("quickbooks")
REALM = "9130001"
TEN_MINUTES_AGO = {"since": (NOW - timedelta(minutes=10)).isoformat()}


def kept(
    stream: str,
    answer: Answer,
    at: Record | None = None,
    former: dict[str, Record] | None = None,
) -> dict[str, Record]:
    """What is held of a stream after a read of it."""
    of = QUICKBOOKS.stream(stream)
    return held(of, drive(of.read, as_the_client(QUICKBOOKS, answer), at), former)


def refusal(status: int, code: str, kind: str = "ValidationFault") -> ConnectorError | None:
    """What a fault of the accounting service is taken for."""
    error = {"code": code, "Message": "in words", "Detail": "in more words"}
    return judged(QUICKBOOKS, response({"Fault": {"Error": [error], "type": kind}}, status))


def at_the_gateway(status: int, code: str, kind: str = "SERVICE") -> ConnectorError | None:
    error = {"code": code, "message": "in words", "detail": None, "element": None}
    return judged(QUICKBOOKS, response({"fault": {"error": [error], "type": kind}}, status))


def told(body: Any) -> list[Event]:
    """What a delivery of that body comes to."""
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip
    assert QUICKBOOKS.webhook
    return list(QUICKBOOKS.webhook.events(delivery))


def cloud_event(id: str, entity: str, operation: str, **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": id, "source": "intuit.x", "intuitaccountid": REALM,
        "type": f"qbo.{entity}.{operation}.v1", "time": "2026-11-01T11:59:00Z",
        "intuitentityid": "7", **more,
    }  # fmt: skip


def former_event(name: str, operation: str, **more: Any) -> dict[str, Any]:
    entity = {"name": name, "id": "7", "operation": operation, "lastUpdated": "2026-11-01T11:59Z"}
    changes = {"entities": [{**entity, **more}]}
    return {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": changes}]}


# -- Who must act ---------------------------------------------------------------------------------


def test_a_gateway_that_is_down_ends_no_connection() -> None:
    """During an outage the gateway answered 500 with the code that else means that the app is not
    authorised.

    minimul/qbo_api#81 (2018-04). Right: it is tried again later.
    """
    assert isinstance(at_the_gateway(500, "3100"), RetryableError)


def test_a_company_whose_subscription_ended_is_told_to_see_to_it() -> None:
    """The company's trial or subscription had ended: a fault (invalid company status, which Intuit
    numbers 6190) came with status 200, where no error was looked for.

    intuit/QuickBooks-V3-PHP-SDK#211 (2019-03). Right: the company has to pay; we wait for that.
    """
    assert isinstance(refusal(200, "6190"), NotAllowedError)
    assert isinstance(refusal(400, "6190"), NotAllowedError)


def test_a_company_that_lapsed_is_no_fault_of_ours() -> None:
    """Code 7001 with status 400: the company's subscription has lapsed.

    ruckus/quickbooks-ruby#321 (2016-06). Right: the company acts.
    """
    assert isinstance(at_the_gateway(400, "7001"), NotAllowedError)


def test_throttling_that_comes_as_a_403_is_waited_for() -> None:
    """The limit of requests was told of with status 403, and taken for a missing right.

    ruckus/quickbooks-ruby#338 (2016-10). Right: we wait, and nobody acts.
    """
    assert isinstance(refusal(403, "3001", "SERVICE"), RateLimitedError)


def test_throttling_that_is_told_in_xml_passes_too() -> None:
    """The same, in XML although JSON was asked for, so that nothing of it could be read.

    routablehq/python-quickbooks#43 (2016-10). Right: such a 403 is tried again before it is
    believed.
    """
    found = judged(QUICKBOOKS, response(None, 403))
    assert isinstance(found, NotAllowedError)
    assert found.may_pass


def test_an_authorisation_that_cannot_be_checked_now_is_tried_again() -> None:
    """Code 120 came now and then with status 500, while the same credentials worked before and
    after.

    minimul/qbo_api#96 (2019-02). Right: it passes, and nobody reconnects.
    """
    assert isinstance(refusal(500, "120", "AuthorizationFault"), RetryableError)


def test_a_token_that_is_none_ends_in_a_question_to_the_tenant() -> None:
    """Code 3200 with status 401, in small letters.

    routablehq/python-quickbooks#250 (2021-10). Right: a new token is tried, then the tenant acts.
    """
    assert isinstance(at_the_gateway(401, "3200", "AUTHENTICATION"), BrokenConnectionError)


def test_a_gateway_that_waited_too_long_is_asked_again() -> None:
    """Code 6002 with status 504 was an unknown error to the program.

    ruckus/quickbooks-ruby#175 (2014-10). Right: it passes.
    """
    assert isinstance(at_the_gateway(504, "6002"), RetryableError)


def test_a_failure_of_the_vendors_own_system_passes_whatever_its_status() -> None:
    """A plain query of invoices was answered with a SystemFault, code 10000.

    intuit/QuickBooks-V3-PHP-SDK#127 (2018-03). Right: it is theirs, and is asked again.
    """
    for status in (200, 400, 500):
        assert isinstance(refusal(status, "10000", "SystemFault"), ProviderUnavailableError)


# -- Paging ---------------------------------------------------------------------------------------


def test_rows_that_take_too_long_together_are_asked_for_in_smaller_pages() -> None:
    """A thousand rows of one kind took so long that the answer never came; a hundred did.

    mcohen01/node-quickbooks#89 (2017-11). Right: smaller pages are asked for, and all is read.
    """
    company = Company(Payment=[row(n, 600) for n in range(700)])

    def answer(request: Request) -> Response:
        size = re.search(r"maxresults (\d+)", str(request.params.get("query")))
        if size and int(size[1]) > 250:
            raise ProviderUnavailableError("it did not answer in time")
        return company(request)

    assert len(kept("payments", answer)) == 700


def test_a_page_of_more_rows_than_were_asked_for_is_not_the_last() -> None:
    """QuickBooks gave 101 rows where 100 were asked for; the reader took it for the end.

    mcohen01/node-quickbooks#89 (2017-11). Right: it goes on.
    """
    company = Company(Bill=[row(n, 9_000 - n) for n in range(1600)])

    def answer(request: Request) -> Response:
        query = str(request.params["query"])
        if company.asked or "startposition 1 " not in query:
            return company(request)
        first = company(request).json["QueryResponse"]["Bill"]
        more = sorted(company.rows["Bill"], key=lambda one: int(one["Id"]))[1000]
        return response({"QueryResponse": {"Bill": [*first, more]}, "time": NOW.isoformat()})

    assert len(kept("bills", answer)) == 1600


@pytest.mark.parametrize("count", [1000, 2000])
def test_a_number_of_rows_that_fills_its_pages_is_read_to_its_end(count: int) -> None:
    """After as many rows as fit the pages exactly comes an answer without the entity's name, which
    a program did not expect.

    simonv3/quickbooks-python#4 (2014-02). Right: that is the end.
    """
    company = Company(Invoice=[row(n, 9_000 - n) for n in range(count)])
    assert len(kept("invoices", company)) == count


def test_a_large_company_is_read_beyond_its_first_thousand_rows() -> None:
    """One page was read of each kind; as the oldest come first, the newest were missing, and every
    balance was wrong.

    Servosity/msp-skills#104 (2026-06). Right: all of them are read.
    """
    company = Company(Invoice=[row(n, 9_000 - n / 10) for n in range(3_500)])
    assert len(kept("invoices", company)) == 3_500


# -- Change data capture --------------------------------------------------------------------------


def test_no_changes_are_no_error() -> None:
    """Where nothing changed, the answer holds an empty object, and a program stumbled over it.

    routablehq/python-quickbooks#149 (2019-03). Right: nothing changed.
    """
    empty = response({"CDCResponse": [{"QueryResponse": [{}]}], "time": NOW.isoformat()})
    assert kept("bills", lambda request: empty, TEN_MINUTES_AGO) == {}


def test_what_was_deleted_is_told_by_change_data_capture_alone() -> None:
    """Queries do not show what was deleted, and it stayed.

    singer-io/tap-quickbooks#28 (2021-03). Right: it is gone.
    """
    company = Company(Invoice=[row(1, 2, status="Deleted", domain="QBO")])
    former = {"1": row(1, 5000), "2": row(2, 5000)}
    assert set(kept("invoices", company, TEN_MINUTES_AGO, former)) == {"2"}


def test_a_voided_invoice_stays() -> None:
    """How to tell voided invoices from deleted ones: a voided one is still there, without amounts.

    intuit/QuickBooks-V3-PHP-SDK#167 (2018-08). Right: the row stays, with nothing to pay.
    """
    voided = row(1, 2, TotalAmt=0, Balance=0, PrivateNote="Voided", status="Voided")
    rows = kept("invoices", Company(Invoice=[voided]), TEN_MINUTES_AGO, {"1": row(1, 5000)})
    assert rows["1"]["TotalAmt"] == 0


def test_more_changes_than_an_answer_holds_are_not_paged_for_ever() -> None:
    """Change data capture has no pages: a reader that asked for the next got the same again.

    NangoHQ/integration-templates#467 (2026-05). Right: what it cannot tell is read otherwise, and
    the feed of all kinds comes to an end.
    """
    company = Company(Invoice=[row(n, 5) for n in range(1_300)])
    with pytest.raises(CheckpointExpiredError):
        kept("invoices", company, TEN_MINUTES_AGO)
    assert len(kept("change_data_capture", company, TEN_MINUTES_AGO)) == 1_300


def test_a_time_that_intuit_finds_too_old_starts_the_stream_over() -> None:
    """Change data capture refused a time, for it was longer ago than it looks back.

    Wish-Org/QuickBooksSharp#19 (2024-10). Right: whatever our clock says, the stream is read anew.
    """
    error = {"code": "500", "Message": "Unsupported Operation", "Detail": "in words"}
    refused = response({"Fault": {"Error": [error], "type": "ValidationFault"}}, 400)
    since = {"since": (NOW - timedelta(days=29)).isoformat()}
    with pytest.raises(CheckpointExpiredError):
        kept("invoices", lambda request: refused, since)


# -- Webhooks -------------------------------------------------------------------------------------


def test_a_field_that_is_new_in_a_webhook_breaks_nothing() -> None:
    """From one day on the entities of a delivery had a field more, and every delivery failed.

    intuit/QuickBooks-V3-PHP-SDK#403 (2021-06). Right: what is not known is not looked at.
    """
    (event,) = told(former_event("Invoice", "Update", deleted=False))
    assert (event.effect, event.streams[0]) == (Effect.HINT, "invoices")


def test_entities_and_operations_that_nobody_listed_are_understood_or_left() -> None:
    """Deliveries held entities that no list had, such as a company's currency, and operations under
    other names than Intuit's pages gave, such as `void`.

    ballerina-platform/asyncapi-triggers#193 (2026-08). Right: the known entities count.
    """
    body = [
        cloud_event("e-1", "companycurrency", "updated"),
        cloud_event("e-2", "invoice", "void"),
        cloud_event("e-3", "payment", "emailed"),
    ]
    assert [event.streams[0] for event in told(body)] == ["invoices", "payments"]


@pytest.mark.parametrize(
    "body",
    [
        former_event("Customer", "Merge", deletedId="3"),
        [cloud_event("e-1", "customer", "merged", data={"deletedid": "3"})],
    ],
)
def test_who_was_merged_into_another_is_looked_at_again(body: Any) -> None:
    """Webhooks of a merge have a `deletedId`, which the program did not know.

    intuit/QuickBooks-V3-PHP-SDK#339 (2020-07). Right: the one that was merged away is read again,
    and is gone once Intuit no longer has it.
    """
    events = told(body)
    assert ("customers", "3") in {(event.streams[0], event.key) for event in events}
    assert any(event.effect is Effect.HINT for event in events)
    stream = QUICKBOOKS.stream("customers")
    assert stream.fetch
    fetch = stream.fetch
    company = Company(Customer=[row(7, 1)])
    pages = drive(lambda _, context: fetch(["3", "7"], context), as_the_client(QUICKBOOKS, company))
    assert set(held(stream, pages, {"3": row(3, 5000), "7": row(7, 5000)})) == {"7"}


# -- Situations that were known before; they do not count as first tries ---------------------------


def test_a_feature_that_the_user_or_the_plan_does_not_have_is_their_administrators() -> None:
    """Fault 5020: no right to this feature."""
    for status in (400, 403):
        assert isinstance(refusal(status, "5020"), NotAllowedError)


def test_one_entity_that_is_refused_costs_the_feed_only_that_entity() -> None:
    """Bills are in no small plan; the feed asks for all entities at once."""
    company = Company(Customer=[row(1, 5)], Bill=[row(2, 5)], Payment=[row(3, 5)])

    def answer(request: Request) -> Response:
        if "Bill" in str(request.params.get("entities")):
            error = {"code": "5020", "Message": "Permission Denied Error"}
            return response({"Fault": {"Error": [error], "type": "ValidationFault"}}, 400)
        return company(request)

    stream = QUICKBOOKS.stream("change_data_capture")
    pages = drive(stream.read, as_the_client(QUICKBOOKS, answer), TEN_MINUTES_AGO)
    assert set(held(stream, pages)) == {"Customer:1", "Payment:3"}
    assert [one.part for one in pages[-1].unread or ()] == ["Bill"]
    # Once it is allowed, what changed meanwhile is there.
    later = NOW + timedelta(hours=1)
    more = drive(stream.read, as_the_client(QUICKBOOKS, company), pages[-1].checkpoint, now=later)
    assert "Bill:2" in held(stream, more)
    assert not more[-1].unread


def test_one_event_that_cannot_be_read_costs_the_others_of_its_delivery_nothing() -> None:
    """Each event of a delivery is read by itself."""
    odd = {name: held for name, held in cloud_event("e-2", "bill", "x").items() if name != "type"}
    events = told([cloud_event("e-1", "invoice", "updated"), odd])
    assert [event.effect for event in events] == [Effect.HINT, Effect.UNREADABLE]
    assert events[1].account_id == REALM
    entities = [{"name": "Bill", "id": "1"}, {"name": "Invoice", "id": "2", "operation": "Update"}]
    entities[1]["lastUpdated"] = "2026-11-01T11:59:00Z"
    body = {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": {"entities": entities}}]}
    assert {event.effect for event in told(body)} == {Effect.HINT, Effect.UNREADABLE}
