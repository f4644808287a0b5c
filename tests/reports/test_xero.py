"""What people reported of programs that read Xero, played on our readers and webhook.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import base64
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    ConnectorError,
    Context,
    Delivery,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    load,
)
from connectors.kernel.statuses import retry_after
from connectors.xero.reading import plain
from tests._driving import NOW, drive, response
from tests._judging import judged
from tests.reports._following import Followed

XERO = load("xero")
ORGANISATION = "11111111-2222-4333-8444-555555555555"


def written(at: datetime, zone: str = "+0000") -> str:
    """A time as Xero writes it."""
    return f"/Date({round(at.timestamp() * 1000)}{zone})/"


def invoice(number: int, *, updated: datetime = NOW, **more: Any) -> Record:
    line = {"LineItemID": f"line-{number}", "LineAmount": 10.0}
    row = {"InvoiceID": f"in-{number}", "Status": "AUTHORISED", "LineItems": [line]}
    return {**row, "UpdatedDateUTC": written(updated), **more}


@dataclass
class Organisation:
    """Answers as Xero does: pages, without one summaries; what changed since a time."""

    rows: dict[str, list[Record]] = field(default_factory=dict)
    counted: bool = True
    refused: set[str] = field(default_factory=set)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        name = request.path.strip("/").partition("/")[0]
        if name in self.refused:
            body = {"Title": "Unauthorized", "Status": 401, "Detail": "AuthorizationUnsuccessful"}
            return response(body, 401)
        rows = [row for row in self.rows.get(name, []) if self._shown(row, request)]
        newest_first = request.params.get("order") == "UpdatedDateUTC DESC"
        rows.sort(key=lambda row: str(row.get("UpdatedDateUTC")), reverse=newest_first)
        if "page" not in request.params:
            return response({name: [{**row, "LineItems": []} for row in rows]})
        page, size = int(str(request.params["page"])), int(str(request.params["pageSize"]))
        part = rows[(page - 1) * size : page * size]
        counted = {"page": page, "pageSize": size, "pageCount": -(-len(rows) // size)}
        more = {"pagination": counted} if self.counted else {}
        return response({name: part, **more}, headers={"date": "Sun, 01 Nov 2026 12:00:00 GMT"})

    def _shown(self, row: Record, request: Request) -> bool:
        since = request.headers.get("if-modified-since")
        if since:
            at = datetime.strptime(since, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
            if row["UpdatedDateUTC"] < written(at):
                return False
        hides = row.get("ContactStatus") == "ARCHIVED"
        return not hides or request.params.get("includeArchived") is True


def synced(stream: str, organisation: Organisation) -> Followed:
    return Followed(XERO, XERO.stream(stream), organisation).sync()


def refusal(status: int, detail: str, **headers: str) -> ConnectorError | None:
    body = {"Type": None, "Title": "No", "Status": status, "Detail": detail}
    return judged(XERO, response(body, status, headers))


# -- Who must act ---------------------------------------------------------------------------------


def test_a_scope_that_is_missing_costs_its_streams_and_not_the_connection() -> None:
    """Organisations were refused with 401 AuthorizationUnsuccessful while invoices were read with
    the same token: the scope had not been asked for.

    XeroAPI/Xero-NetStandard#97 (2019-12). Right: the stream waits, nobody reconnects, the rest is
    read.
    """
    assert isinstance(refusal(401, "AuthorizationUnsuccessful"), NotAllowedError)
    assert isinstance(refusal(401, "TokenExpired: token expired"), BrokenConnectionError)


def test_an_organisation_that_was_disconnected_needs_its_tenant() -> None:
    """The token was good and the list of connections empty, and every call came back as 403
    AuthenticationUnsuccessful: the organisation had been deleted, or its connection removed.

    XeroAPI/Xero-OpenAPI#585 (2024-03). Right: the tenant reconnects that organisation.
    """
    assert isinstance(refusal(403, "AuthenticationUnsuccessful"), BrokenConnectionError)


def test_an_endpoint_that_the_apps_plan_lacks_ends_no_connection() -> None:
    """Xero allows some endpoints to some plans only, whatever the scopes.

    XeroAPI/xero-mcp-server#298 (2026-08). Right: any other 403 is the stream's.
    """
    assert isinstance(refusal(403, "Forbidden for this app"), NotAllowedError)


def test_the_scope_for_journals_is_not_asked_for() -> None:
    """Asking for accounting.journals.read without Xero's approval, or for the former broad scopes
    with an app of 2026, failed the whole consent with invalid_scope.

    XeroAPI/xero-mcp-server#298 (2026-08), Nine-Minds/alga-psa#3002 (2026-07). Right: only granular
    scopes that every app may ask for.
    """
    assert not {
        "accounting.journals.read", "accounting.transactions.read", "accounting.transactions",
        "accounting.reports.read",
    } & set(XERO.oauth.scopes)  # fmt: skip
    assert "offline_access" in XERO.oauth.scopes


def test_a_day_that_is_spent_is_waited_for() -> None:
    """Of the limit of a day no error came, while that of a minute was told; and a 429 was tried
    again without the wait that it asks for.

    XeroAPI/xero-python#74 (2021-12), singer-io/tap-xero#90 (2021-04). Right: as long as Retry-After
    says, which may be hours.
    """
    told = {"x-rate-limit-problem": "day", "retry-after": "30600"}
    assert isinstance(judged(XERO, response(None, 429, told)), RateLimitedError)
    assert retry_after(response(None, 429, told), NOW) == timedelta(hours=8, minutes=30)


def test_an_organisation_that_is_offline_is_tried_again() -> None:
    """Limits once came as 503, and so does an organisation that is offline.

    freakboy3742/pyxero#297 (2020-07). Right: it passes.
    """
    assert isinstance(judged(XERO, response(None, 503)), ProviderUnavailableError)


# -- Which organisations --------------------------------------------------------------------------


def listed(*rows: Record) -> Any:
    steps = XERO.identify({}, {})
    next(steps)
    with pytest.raises(StopIteration) as ended:
        steps.send(response(list(rows)))
    return ended.value.value


def tenant(id: str, kind: str = "ORGANISATION") -> Record:
    return {"id": f"c-{id}", "tenantId": id, "tenantType": kind, "tenantName": f"Firm {id}"}


def test_each_organisation_of_a_grant_is_an_account_of_its_own() -> None:
    """The first organisation of the list was kept, and days later the list came back empty.

    calcinai/xero-php#741 (2020-05). Right: all of them, by tenantId, and no practice.
    """
    found = listed(tenant("a"), tenant("p", "PRACTICE"), tenant("b"))
    assert [each.id for each in found] == ["a", "b"]


def test_a_consent_without_an_organisation_is_told_to_the_person() -> None:
    """The token was given, the list of organisations was empty.

    XeroAPI/xero-node#445 (2020-08). Right: nothing is connected, and it is said why.
    """
    steps = XERO.identify({}, {})
    next(steps)
    with pytest.raises(NotAllowedError, match="no Xero organisation"):
        steps.send(response([]))


def test_a_connection_is_ended_by_its_own_id() -> None:
    """Disconnecting by the organisation's id was answered with 403: the id of the connection is
    another.

    XeroAPI/xero-node#403 (2020-04), freakboy3742/pyxero#307 (2020-12). Right: that id is kept.
    """
    (found,) = listed(tenant("a"))
    assert found.config == {"connection": "c-a"}


def test_every_call_names_its_organisation() -> None:
    """Without the header, or with that of another organisation, all was refused with 403.

    dcblogdev/laravel-xero#40 (2023-08), XeroAPI/xero-php-oauth2#147 (2020-07).
    """
    context = Context(now=NOW, account_id=ORGANISATION)
    for stream in XERO.streams:
        reader = stream.read(Checkpoint(), context)
        asked = next(reader)
        while isinstance(asked, Page):
            asked = next(reader)
        assert isinstance(asked, Request)
        assert asked.headers["xero-tenant-id"] == ORGANISATION


# -- What changed ---------------------------------------------------------------------------------


def test_the_time_of_the_last_look_is_sent_in_utc_without_a_zone() -> None:
    """All contacts came back whatever time was given; others cut milliseconds and the zone off.

    XeroAPI/Xero-NetStandard#400 (2022-01), NangoHQ/nango#2452 (2024-07). Right: seconds, no zone,
    no fraction, and some minutes of overlap.
    """
    organisation = Organisation({"Contacts": []})
    synced("contacts", organisation).sync(now=NOW + timedelta(minutes=30))
    first, second = organisation.asked
    assert "if-modified-since" not in first.headers
    assert second.headers["if-modified-since"] == "2026-11-01T11:00:00"


def test_records_are_found_in_what_xero_calls_them() -> None:
    """All calls were right and their answers full, and not one record came of them.

    airbytehq/airbyte#66667 (2025-09). Right: an answer without its list is an error, no empty list.
    """
    assert synced("invoices", Organisation({"Invoices": [invoice(1)]})).rows.keys() == {"in-1"}
    with pytest.raises(KeyError):
        drive(XERO.stream("invoices").read, lambda request: response({"Status": "OK"}))


def test_more_than_a_page_is_read_also_where_nothing_counts_pages() -> None:
    """Only the first hundred came (of journals), and how to go on was not known.

    MicrosoftDocs/azure-docs#37343 (2019-08), XeroAPI/xero-node#270 (2019-07).
    """
    rows = [invoice(n, updated=NOW - timedelta(minutes=n)) for n in range(2_300)]
    for counted in (True, False):
        organisation = Organisation({"Invoices": rows}, counted=counted)
        assert len(synced("invoices", organisation).rows) == 2_300


def test_lines_come_with_their_documents() -> None:
    """Lists of invoices had no lines: without a page they are summaries.

    calcinai/xero-php#253 (2017-05), freakboy3742/pyxero#288 (2020-03). Right: pages, always; by
    ids, too.
    """
    organisation = Organisation({"Invoices": [invoice(1)]})
    assert synced("invoices", organisation).rows["in-1"]["LineItems"]
    fetch = XERO.stream("invoices").fetch
    assert fetch
    (page,) = drive(lambda at, context: fetch(["in-1"], context), organisation)
    assert page.records[0]["LineItems"]


def test_an_archived_contact_is_still_there_and_says_so() -> None:
    """Archived contacts could not be had, or counted as gone.

    freakboy3742/pyxero#256 (2019-03), waynerobinson/xeroizer#155 (2014-06).
    """
    row = {"ContactID": "co-1", "ContactStatus": "ARCHIVED", "UpdatedDateUTC": written(NOW)}
    rows = synced("contacts", Organisation({"Contacts": [row]})).rows
    assert rows["co-1"]["ContactStatus"] == "ARCHIVED"


def test_a_deleted_document_is_gone_and_a_voided_one_is_not() -> None:
    """Deleted and voided bank transactions were kept alike, as if they were live.

    NangoHQ/integration-templates#451 (2026-04). Right: a voided one is in the books, with that
    status; a deleted one is gone.
    """
    rows = [
        {"BankTransactionID": "b-1", "Status": "AUTHORISED", "UpdatedDateUTC": written(NOW)},
        {"BankTransactionID": "b-2", "Status": "AUTHORISED", "UpdatedDateUTC": written(NOW)},
    ]
    followed = synced("bank_transactions", Organisation({"BankTransactions": rows}))
    rows[0]["Status"], rows[1]["Status"] = "DELETED", "VOIDED"
    assert {key: row["Status"] for key, row in followed.sync().rows.items()} == {"b-2": "VOIDED"}


def test_no_time_that_a_record_lacks_moves_the_place() -> None:
    """Where a contact had no time of change, now was taken for it, and later changes were missed.

    NangoHQ/integration-templates#451 (2026-04). Right: the place is when we looked, by the clock
    that is behind.
    """
    row = {"ContactID": "co-1", "ContactStatus": "ACTIVE"}
    followed = synced("contacts", Organisation({"Contacts": [row]}))
    assert followed.at["looked"] == NOW.isoformat()


# -- Times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("/Date(1573755038314+0000)/", "2019-11-14T18:10:38.314Z"),
        ("/Date(1573755038314)/", "2019-11-14T18:10:38.314Z"),
        ("/Date(1451988985943+1300)/", "2016-01-05T10:16:25.943Z"),
        ("/Date(-80006400000+0000)/", "1967-06-20T00:00:00.000Z"),
        ("/Date(0+0000)/", "1970-01-01T00:00:00.000Z"),
        ("/Date(999999999999999+0000)/", "/Date(999999999999999+0000)/"),
        ("paid on /Date(0+0000)/", "paid on /Date(0+0000)/"),
    ],
)
def test_every_form_of_a_time_is_read(text: str, time: str) -> None:
    """A date before 1970, at zero, or with an offset stopped the whole sync; one such invoice was
    enough.

    singer-io/tap-xero#68 (2020-10) and #64 (2020-09), NangoHQ/integration-templates#486 (2026-05),
    freakboy3742/pyxero#122 (2016-01), XeroAPI/Xero-Java#138 (2019-04). Right: the number is UTC;
    what is no time stays as it is.
    """
    assert plain({"Lines": [{"Date": text}]}) == {"Lines": [{"Date": time}]}


# -- Webhooks -------------------------------------------------------------------------------------


def delivery(body: bytes, signature: str) -> Delivery:
    return Delivery(
        method="POST", url="https://atom.test/hook", headers={"x-xero-signature": signature},
        query={}, body=body, received_at=NOW,
    )  # fmt: skip


def signed(body: bytes, key: str = "key") -> str:
    return base64.b64encode(hmac.digest(key.encode(), body, "sha256")).decode()


def test_the_intent_to_receive_is_told_from_a_forgery_by_one_character() -> None:
    """Xero sends signatures that are wrong in one character, and wants them refused; people took
    them for a fault of theirs.

    calcinai/xero-php#351 (2018-03), XeroAPI/XeroWebhooksReceiver#1 (2018-05),
    NangoHQ/nango#3934 (2025-04). Right: 401 for those, 200 for the others, and no event.
    """
    webhook = XERO.webhook
    assert webhook
    assert webhook.verify
    body = b'{"events":[],"firstEventSequence": 0,"lastEventSequence": 0, "entropy": "LUWD"}'
    good = signed(body)
    proof = VerificationKeys(secrets=("key",))
    webhook.verify(delivery(body, good), proof)
    assert webhook.events(delivery(body, good)) == ()
    wrong = ("/" if good[0] != "/" else "A") + good[1:]
    with pytest.raises(SignatureError):
        webhook.verify(delivery(body, wrong), proof)
