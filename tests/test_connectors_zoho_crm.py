"""Zoho CRM's readers, driven over a played organisation; its consent, and what it tells."""

import json
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    Account,
    Context,
    ContractError,
    Delivery,
    Effect,
    Record,
    Request,
    Response,
    SignatureError,
)
from connectors.kernel.hosts import check_account
from connectors.zoho_crm import identify
from connectors.zoho_crm.watches import SCOPE, resources
from tests._driving import NOW, drive, response
from tests._zoho_org import ZOHO, Org, follow, row, stamp

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def test_a_look_that_finds_nothing_asks_two_calls() -> None:
    org = Org({"Leads": [row(id_, 9_000 - id_) for id_ in range(500)]})
    read = follow("leads", org).sync()
    org.asked.clear()
    read.sync(now=NOW + HOUR)
    assert org.paths() == ["/Leads", "/Leads/deleted"]


def test_a_look_begins_before_the_last_one_and_now_and_then_an_hour_before_it() -> None:
    org = Org({"Leads": [row(1)]})
    read = follow("leads", org).sync()

    def since(later: timedelta) -> str:
        org.asked.clear()
        read.sync(now=NOW + later)
        asked = {request.headers["If-Modified-Since"] for request in org.asked}
        return asked.pop() if len(asked) == 1 else ""

    assert since(10 * MINUTE) == stamp(5)
    assert since(40 * MINUTE) == stamp(60)


def test_a_field_that_is_new_comes_within_six_hours_and_older_rows_are_read_again() -> None:
    org = Org({"Leads": [row(1, Email="a@b.example")]})
    read = follow("leads", org).sync()
    pages = drive(read.stream.read, org, read.at, now=NOW + HOUR)
    shape = pages[-1].shape
    assert shape
    org.rows["Leads"].append(row(2, -300, Email="c@d.example", Region="North"))
    pages = drive(read.stream.read, org, read.at, now=NOW + 5 * HOUR)
    assert (pages[-1].shape, "Region" in _rows(pages)[-1]) == (shape, False)
    pages = drive(read.stream.read, org, pages[-1].checkpoint, now=NOW + 7 * HOUR)
    assert "Region" in _rows(pages)[-1]
    assert pages[-1].shape not in (None, shape)


def _rows(pages: list[Any]) -> list[Record]:
    return [record for page in pages for record in page.records]


def test_a_read_that_was_stopped_goes_on_where_its_last_page_ended() -> None:
    org = Org({"Deals": [row(id_, 9_000 - id_) for id_ in range(700)]})
    whole = drive(ZOHO.stream("deals").read, org)
    for stopped in range(len(whole) - 1):
        at = whole[stopped].checkpoint
        rest = drive(ZOHO.stream("deals").read, org, at, now=NOW + 40 * 24 * HOUR)
        ids = {record["id"] for record in _rows(whole[: stopped + 1]) + _rows(rest)}
        assert len(ids) == 700
        assert len(_rows(rest)) < 700
        # What was deleted since its first page is still owed.
        assert rest[-1].checkpoint["looked"] == NOW.isoformat()


def test_records_of_all_other_modules_bear_the_name_of_theirs() -> None:
    org = Org(
        {"Tasks": [row(1)], "Ships__c": [row(1)], "Leads": [row(1)]},
        modules=("Leads", "Tasks", "Ships__c", "Reports", "Activities"),
    )
    read = follow("records", org).sync()
    assert set(read.rows) == {"Tasks:1", "Ships__c:1"}
    assert read.rows["Ships__c:1"]["module"] == "Ships__c"
    org.gone["Tasks"] = [{"id": "1", "deleted_time": stamp(1)}]
    org.rows["Tasks"] = []
    assert set(read.sync().rows) == {"Ships__c:1"}
    org.modules = ("Leads", "Tasks")
    assert set(read.sync().rows) == set()


def test_deletions_are_kept_as_a_log() -> None:
    org = Org({"Leads": [row(1)]}, modules=("Leads", "Tasks"))
    org.gone["Leads"] = [{"id": "9", "type": "recycle", "deleted_time": stamp(60)}]
    read = follow("deleted_records", org).sync()
    assert read.rows["Leads:9"]["type"] == "recycle"
    org.gone["Leads"] = []
    org.gone["Tasks"] = [{"id": str(id_), "deleted_time": stamp(0)} for id_ in range(2_500)]
    read.sync()
    assert read.error is None
    assert {"Leads:9", "Tasks:0", "Tasks:1999"} <= read.rows.keys()


def test_users_who_left_are_read_and_who_is_signed_in_is_not() -> None:
    users = {
        "ActiveUsers": [{"id": "1", "status": "active", "Isonline": True}],
        "DeactiveUsers": [{"id": "2", "status": "disabled", "$current_shift": None}],
    }

    def answer(request: Request) -> Response:
        rows = users[str(request.params["type"])]
        return response({"users": rows, "info": {"more_records": False}}) if rows else none

    none = response(None, 204)
    pages = drive(ZOHO.stream("users").read, answer)
    assert _rows(pages) == [{"id": "1", "status": "active"}, {"id": "2", "status": "disabled"}]
    users["DeactiveUsers"] = []
    assert len(_rows(drive(ZOHO.stream("users").read, answer))) == 1


# -- Consent --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "is_theirs"),
    [
        ("https://www.zohoapis.com", True),
        ("https://www.zohoapis.com.cn/", True),
        ("https://sandbox.zohoapis.eu", True),
        ("http://www.zohoapis.com", False),
        ("https://zohoapis.com", False),
        ("https://www.zohoapis.evil.test", False),
        ("https://www.zohoapis.com@evil.test", False),
        ("https://www.zohoapis.com:8443", False),
    ],
)
def test_an_account_is_only_at_a_host_of_zohos(domain: str, *, is_theirs: bool) -> None:
    steps = identify({"api_domain": domain}, {})
    request = next(steps)
    assert isinstance(request, Request)
    assert request.path == "/org"
    with pytest.raises(StopIteration) as stop:
        steps.send(response({"org": [{"zgid": 4711, "company_name": "Acme"}]}))
    (account,) = stop.value.value
    assert account == Account("4711", "Acme", {"api_domain": domain.rstrip("/")})
    if is_theirs:
        check_account(ZOHO, account)
    else:
        with pytest.raises(ContractError):
            check_account(ZOHO, account)


def test_no_right_to_write_is_asked_for() -> None:
    scopes = set(ZOHO.oauth.scopes) - {SCOPE}
    assert all(scope.endswith(".READ") for scope in scopes)


# -- Notifications --------------------------------------------------------------------------------


def delivery(**more: Any) -> Delivery:
    body = {
        "server_time": 1_700_000_000_000, "module": "Leads", "operation": "delete", "ids": ["7"],
        "channel_id": "77", "token": "secret", **more,
    }  # fmt: skip
    return Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip


def test_a_notification_is_a_hint_that_its_channels_token_proves() -> None:
    webhook = ZOHO.webhook
    assert webhook is not None
    assert webhook.verify_event is not None
    assert webhook.covers == ()
    (event,) = webhook.events(delivery())
    assert (event.effect, event.watch_id, event.streams) == (Effect.HINT, "77", ("leads",))
    webhook.verify_event(delivery(), event, "secret")
    for token in ("guessed", "", None):
        (forged,) = webhook.events(delivery(token=token))
        with pytest.raises(SignatureError):
            webhook.verify_event(delivery(token=token), forged, "secret")
    (again,) = webhook.events(delivery())
    (other,) = webhook.events(delivery(ids=["8"]))
    assert again.id == event.id != other.id


def test_without_the_right_to_it_nothing_is_watched() -> None:
    def found(scopes: list[str]) -> Any:
        context = Context(now=NOW, account_id="1", config={"scopes": scopes})
        with pytest.raises(StopIteration) as stop:
            next(resources(context))
        return stop.value.value

    assert found([SCOPE]) == ("Leads", "Contacts", "Accounts", "Deals")
    assert found(["ZohoCRM.org.READ"]) == ()
