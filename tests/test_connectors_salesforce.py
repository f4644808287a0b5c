"""Salesforce's readers, driven over an org of the sandbox; each test is of one of its traps."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest

import sandbox
from accounts import runtime
from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
)
from connectors.kernel.hosts import check_account
from connectors.kernel.oauth import OAuthApp, answered, authorize_url
from connectors.kernel.versions import parse_time
from connectors.salesforce import bulk as bulk
from connectors.salesforce import query as soql
from connectors.salesforce import reading as objects
from connectors.salesforce.query import eighteen
from flows._clients import client_of
from settings import read
from storage import connections
from storage.database import Database
from tests._driving import NOW, drive, held, response
from tests._salesforce_org import SALESFORCE, Org, opened
from tests._sandboxed import Sandboxed, environment


@pytest.fixture
def org() -> Iterator[Org]:
    with opened() as org:
        yield org


def deleted(pages: list[Page]) -> set[str]:
    return {key for page in pages for key in page.deleted}


def stored(org: Org, stream: str, *reads: list[Page]) -> dict[str, Any]:
    return held(SALESFORCE.stream(stream), [page for pages in reads for page in pages])


# -- Reading ------------------------------------------------------------------------------------


def test_rows_come_without_the_attributes_and_the_compound_fields(org: Org) -> None:
    assert stored(org, "accounts", org.read("accounts")) == org.store("accounts")
    (query,) = org.queries()
    assert "BillingCity" in query
    for left_out in ("attributes", "BillingAddress", "LastViewedDate", "LastReferencedDate"):
        assert left_out not in query


def test_a_backfill_goes_on_after_the_last_id_whatever_changes_meanwhile(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soql, "PAGE", 4)
    changed = cycle(org.store("contacts"))

    def touch(request: Request, body: Any) -> Any:
        org.change("contacts", "change", id=next(changed), record={"Title": "touched"})
        return body

    org.alter = touch
    first = org.read("contacts")
    assert len(first) > 4
    org.alter = lambda request, body: body
    assert stored(org, "contacts", first, org.read("contacts", first[-1].checkpoint)) == org.store(
        "contacts"
    )


def test_rows_of_one_second_are_told_apart_by_their_ids(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = org.read("contacts")[-1].checkpoint
    org.client.post("/_control/clock", json={"stopped": True})
    made = {org.change("contacts", "add") for _ in range(11)}
    monkeypatch.setattr(soql, "PAGE", 3)
    pages = org.read("contacts", since)
    assert made == {row["Id"] for page in pages for row in page.records}
    assert len({row["SystemModstamp"] for page in pages for row in page.records}) == 1
    for done, page in enumerate(pages[:4], start=1):
        rest = org.read("contacts", page.checkpoint)
        assert [one.records for one in rest] == [one.records for one in pages[done:]]


def test_fewer_rows_than_were_asked_for_are_not_the_end_unless_the_vendor_says_done(
    org: Org,
) -> None:
    def wide(request: Request, body: Any) -> Any:
        if "q" in request.params and len(body["records"]) > 7:
            return {**body, "records": body["records"][:7], "done": False}
        return body

    org.alter = wide
    assert stored(org, "contacts", org.read("contacts")) == org.store("contacts")


def test_a_time_without_a_colon_in_its_offset_is_read_and_goes_unquoted_into_a_query(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = org.read("leads")[-1].checkpoint
    for _ in range(3):
        org.change("leads", "add")
    monkeypatch.setattr(soql, "PAGE", 2)
    pages = org.read("leads", since)
    row = pages[0].records[-1]
    assert row["SystemModstamp"].endswith(".000+0000")
    moment = parse_time(row["SystemModstamp"]).isoformat(timespec="milliseconds")
    literal = moment.replace("+00:00", "Z")
    assert (
        f"SystemModstamp > {literal} OR (SystemModstamp = {literal} AND Id >" in org.queries()[-1]
    )


def test_a_checkpoint_stays_behind_its_read_by_what_a_transaction_may_last(org: Org) -> None:
    begun = org.now
    since = parse_time(org.read("users")[-1].checkpoint["since"])
    assert begun - since >= timedelta(minutes=10)


# -- Bulk jobs ----------------------------------------------------------------------------------


def by_job(org: Org, monkeypatch: pytest.MonkeyPatch, *, part: int = 4) -> None:
    """Backfills leave what is beyond one page of two rows to a bulk job that ends at once."""
    monkeypatch.setattr(soql, "PAGE", 2)
    monkeypatch.setattr(objects, "BY_PAGES", 1)
    monkeypatch.setattr(bulk, "PART", part)
    monkeypatch.setattr("sandbox.salesforce.bulk.TAKES", 0.0)


@pytest.mark.parametrize("stream", ["accounts", "opportunities", "users", "custom_objects"])
def test_a_large_backfill_is_a_bulk_job_of_the_same_rows(
    org: Org, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    by_job(org, monkeypatch)
    pages = org.read(stream)
    assert stored(org, stream, pages) == org.store(stream)
    assert any(request.path.endswith("/results") for request in org.asked)
    # Numbers are numbers, emptiness is null, times have their offset in digits: as in a query.
    assert {type(v) for row in org.store(stream).values() for v in row.values()} >= {str, bool}


def test_a_bulk_job_is_gone_on_with_at_its_locator(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_job(org, monkeypatch)
    pages = org.read("contacts")
    (middle,) = [n for n, page in enumerate(pages) if page.checkpoint.get("locator")][1:2]
    rest = org.read("contacts", pages[middle].checkpoint)
    assert [one.records for one in rest] == [one.records for one in pages[middle + 1 :]]


def test_a_job_that_is_gone_or_refused_leaves_the_rest_to_pages(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_job(org, monkeypatch)
    pages = org.read("contacts")
    at = next(page.checkpoint for page in pages if page.checkpoint.get("job"))
    org.control("expire_checkpoints")
    before = [page for page in pages if page.checkpoint.get("pages")]
    assert stored(org, "contacts", before, org.read("contacts", at)) == org.store("contacts")


def test_a_job_under_way_is_waited_for_as_a_limit_is_and_one_that_was_made_is_not() -> None:
    body = {"id": "750", "operation": "query", "state": "InProgress"}
    asked = replace(response(body), url="https://na1.salesforce.com/x/jobs/query/750")
    told = SALESFORCE.classify(asked)
    assert isinstance(told, RateLimitedError)
    assert told.retry_after >= timedelta(seconds=1)
    assert SALESFORCE.classify(replace(asked, json={**body, "state": "JobComplete"})) is None
    assert (
        SALESFORCE.classify(replace(asked, url="https://na1.salesforce.com/x/jobs/query")) is None
    )


# -- Deletions ----------------------------------------------------------------------------------


def test_what_is_in_the_recycle_bin_is_deleted_and_what_is_taken_out_is_back(org: Org) -> None:
    first = org.read("leads")
    gone = org.change("leads", "delete", id=next(iter(org.store("leads"))))
    second = org.read("leads", first[-1].checkpoint)
    assert deleted(second) == {gone}
    org.control("undelete", object="Lead", id=gone)
    third = org.read("leads", second[-1].checkpoint)
    assert gone not in deleted(third)
    assert stored(org, "leads", first, second, third) == org.store("leads")


def test_what_left_the_recycle_bin_at_once_is_told_by_the_log_of_deletions(org: Org) -> None:
    first = org.read("accounts")
    account = next(iter(org.store("accounts")))
    org.change("accounts", "delete", id=account)
    org.control("purge")
    org.advance(timedelta(minutes=2))  # the log knows whole minutes only
    assert account in deleted(org.read("accounts", first[-1].checkpoint))


def test_what_hangs_on_a_deleted_account_is_deleted_with_it(org: Org) -> None:
    contact = next(row for row in org.store("contacts").values() if row["AccountId"])
    since = org.read("contacts")[-1].checkpoint
    org.change("accounts", "delete", id=contact["AccountId"])
    assert contact["Id"] in deleted(org.read("contacts", since))


def test_too_many_deletions_for_one_answer_are_asked_for_in_shorter_times(org: Org) -> None:
    since = org.read("leads")[-1].checkpoint
    org.advance(timedelta(hours=2))
    gone = org.change("leads", "delete", id=next(iter(org.store("leads"))))
    org.control("purge")
    org.advance(timedelta(hours=2))
    asked: list[timedelta] = []
    real = org.__call__

    def answer(request: Request) -> Any:
        if "/deleted/" in request.path:
            start, end = (parse_time(str(request.params[n])) for n in ("start", "end"))
            asked.append(end - start)
            if end - start > timedelta(hours=1):
                return response([{"errorCode": "EXCEEDED_ID_LIMIT", "message": "m"}], 400)
        return real(request)

    pages = drive(
        lambda at, context: SALESFORCE.stream("leads").read(
            at, Context(now=org.now, account_id="")
        ),
        answer,
        since,
    )
    assert deleted(pages) == {gone}
    assert sum((one for one in asked if one <= timedelta(hours=1)), timedelta()) > timedelta(
        hours=4
    )


@pytest.mark.parametrize("lost", ["purged", "too old", "refused"])
def test_deletions_that_the_vendor_no_longer_knows_start_the_stream_over(
    org: Org, lost: str
) -> None:
    since = org.read("leads")[-1].checkpoint
    if lost == "purged":
        org.advance(timedelta(hours=1))
        org.control("purge", log=True)
    elif lost == "too old":
        org.advance(timedelta(days=16))
    else:
        org.advance(timedelta(days=20), vendor_only=True)
    with pytest.raises(CheckpointExpiredError):
        org.read("leads", since)


def test_the_last_date_covered_is_where_the_next_read_begins(org: Org) -> None:
    since = org.read("leads")[-1].checkpoint
    org.advance(timedelta(hours=3))
    covered = "2026-01-01T00:00:00.000+0000"

    def under_way(request: Request, body: Any) -> Any:
        return {**body, "latestDateCovered": covered} if "/deleted/" in request.path else body

    org.alter = under_way
    assert parse_time(org.read("leads", since)[-1].checkpoint["since"]) == parse_time(covered)


def test_users_are_never_deleted_and_nobody_is_asked_which_were(org: Org) -> None:
    since = org.read("users")[-1].checkpoint
    (user, *_) = [id_ for id_ in org.store("users")][1:]
    org.change("users", "change", id=user, record={"IsActive": False})
    pages = org.read("users", since)
    assert [row["IsActive"] for page in pages for row in page.records if row["Id"] == user] == [
        False
    ]
    assert not any("deleted" in request.path for request in org.asked)


# -- Objects ------------------------------------------------------------------------------------


def test_an_org_has_objects_of_its_own(org: Org) -> None:
    assert stored(org, "custom_objects", org.read("custom_objects")) == org.store("custom_objects")
    assert not any("History" in request.path for request in org.asked)


def test_an_object_whose_rows_are_refused_keeps_what_was_read_of_it_and_the_others_go_on(
    org: Org,
) -> None:
    first = org.read("custom_objects")
    refused = org.control("refuse_part", stream="custom_objects", on=True)
    added = {org.change("custom_objects", "add") for _ in range(8)}
    second = org.read("custom_objects", first[-1].checkpoint)
    found = stored(org, "custom_objects", first, second)
    others = {key for key in added if not key.startswith(refused["part"])}
    assert others
    assert others <= found.keys()
    assert set(refused["keys"]) - added <= found.keys()
    (unread,) = second[-1].unread or ()
    assert unread.part == refused["part"]
    assert isinstance(unread.error, NotAllowedError)
    org.control("refuse_part", stream="custom_objects", on=False)
    org.advance(timedelta(hours=1))
    third = org.read("custom_objects", second[-1].checkpoint)
    assert stored(org, "custom_objects", first, second, third) == org.store("custom_objects")
    assert not third[-1].unread


def test_an_object_in_which_nothing_changed_is_asked_for_that_alone(org: Org) -> None:
    at = org.read("custom_objects")[-1].checkpoint
    org.asked.clear()
    at = org.read("custom_objects", at)[-1].checkpoint
    assert [request.path for request in org.asked] == ["/sobjects", "/queryAll/", "/queryAll/"]
    org.advance(timedelta(hours=7))
    org.asked.clear()
    org.read("custom_objects", at)
    assert sum("/deleted/" in request.path for request in org.asked) == 2


def test_a_checkpoint_of_an_earlier_release_is_gone_on_with(org: Org) -> None:
    since = org.read("custom_objects")[-1].checkpoint["parts"]["Invoice__c"]["since"]
    old = {"objects": {"Invoice__c": {"since": since}}, "left": ["Shipment__c"]}
    pages = org.read("custom_objects", old)
    rows = [row for page in pages for row in page.records]
    assert {row["object"] for row in rows} == {"Shipment__c"}


def test_an_object_of_more_fields_than_fit_into_an_address_is_read_in_several_queries(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soql, "LONGEST_FIELDS", 150)
    monkeypatch.setattr(soql, "WIDE_PAGE", 3)
    first = org.read("accounts")
    assert stored(org, "accounts", first) == org.store("accounts")
    for op in ("add", "change", "delete"):
        id_ = None if op == "add" else next(iter(org.store("accounts")))
        org.change("accounts", op, id=id_)
    second = org.read("accounts", first[-1].checkpoint)
    assert stored(org, "accounts", first, second) == org.store("accounts")


def test_rows_that_an_event_names_are_told_apart_by_what_became_of_them(org: Org) -> None:
    live, gone, hidden = list(org.store("leads"))[:3]
    org.change("leads", "delete", id=gone)

    def share(request: Request, body: Any) -> Any:
        if "q" not in request.params:
            return body
        return {**body, "records": [row for row in body["records"] if row["Id"] != hidden]}

    org.alter = share
    fetch = SALESFORCE.stream("leads").fetch
    assert fetch
    (page,) = drive(lambda at, context: fetch([live, gone, hidden], context), org)
    assert [row["Id"] for row in page.records] == [live]
    assert (page.deleted, page.hidden) == ([gone], [hidden])


def test_an_account_that_was_merged_away_says_into_which_one(org: Org) -> None:
    at = org.read("accounts")[-1].checkpoint
    survivor, loser = list(org.store("accounts"))[:2]
    org.change("accounts", "delete", id=loser)

    def merged(request: Request, body: Any) -> Any:
        for row in body.get("records", ()) if "q" in request.params else ():
            if row["Id"] == loser:
                row["MasterRecordId"] = survivor
        return body

    org.alter = merged
    pages = org.read("accounts", at)
    assert {k: v for page in pages for k, v in page.merged.items()} == {loser: survivor}
    assert loser not in deleted(pages)


def test_the_listing_for_an_audit_shows_ids_and_versions_alone(org: Org) -> None:
    for name in ("accounts", "users", "custom_objects"):
        stream = SALESFORCE.stream(name)
        assert stream.listing
        pages = drive(stream.listing, org)
        listed = {key: row for key, row in held(stream, pages).items()}
        assert listed.keys() == org.store(name).keys()
        assert all(
            stream.version(row) == stream.version(listed[key])
            for key, row in org.store(name).items()
        )
        assert max(map(len, listed.values())) <= 4


def test_only_the_objects_that_a_tenant_chose_are_read(org: Org) -> None:
    org.config = {"objects": "lead,invoice__c"}
    assert stored(org, "accounts", org.read("accounts")) == {}
    assert stored(org, "leads", org.read("leads")) == org.store("leads")
    kinds = {row["object"] for page in org.read("custom_objects") for row in page.records}
    assert kinds == {"Invoice__c"}


def test_an_object_that_is_no_longer_there_takes_its_rows_along(org: Org) -> None:
    first = org.read("custom_objects")
    org.control("hide", objects=["Shipment__c"])
    second = org.read("custom_objects", first[-1].checkpoint)
    left = stored(org, "custom_objects", first, second)
    assert {row["object"] for row in left.values()} == {"Invoice__c"}
    assert set(second[-1].checkpoint["parts"]) == {"Invoice__c"}


def test_an_object_that_the_user_may_not_see_leaves_the_others_alone(org: Org) -> None:
    org.control("hide", objects=["Lead"])
    with pytest.raises(NotAllowedError):
        org.read("leads")
    assert org.read("contacts")


def test_what_a_field_is_called_cannot_change_the_query(org: Org) -> None:
    def odd(request: Request, body: Any) -> Any:
        if request.path.endswith("/describe"):
            body["fields"].append({"name": "Id FROM User --", "type": "string"})
        return body

    org.alter = odd
    with pytest.raises(ContractError):
        org.read("leads")


def test_the_token_that_the_sandbox_prints_works_at_the_address_it_prints(org: Org) -> None:
    told = org.client.get("/_control").json()["salesforce"]
    token = {"authorization": f"Bearer {told['access_token']}"}
    assert org.client.get(f"{told['base_url']}/sobjects", headers=token).status_code == 200


# -- Who we are, and what is refused ------------------------------------------------------------


def test_ids_of_fifteen_characters_are_those_of_eighteen() -> None:
    assert eighteen("00Dx0000000BV7z") == "00Dx0000000BV7zEAG"
    assert eighteen("001A0000006Vm9r") == "001A0000006Vm9rIAC"
    assert eighteen("001A0000006Vm9rIAC") == "001A0000006Vm9rIAC"


def identified(**answer: str) -> Any:
    told = {
        "id": "https://login.salesforce.com/id/00Dx0000000BV7z/005x00000012Q9P",
        "instance_url": "https://acme.my.salesforce.com",
        **answer,
    }
    steps = SALESFORCE.identify(told, {})
    with pytest.raises(StopIteration) as stop:
        next(steps)
    (account,) = stop.value.value
    return account


def test_the_org_and_its_address_come_from_the_token_answer() -> None:
    account = identified()
    assert account.id == "00Dx0000000BV7zEAG"
    check_account(SALESFORCE, account)
    assert "acme.my.salesforce.com" in str(account.config)


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.my.salesforce.com.evil.example",
        "http://acme.my.salesforce.com",
        "https://evil.example/.salesforce.com",
        "https://acme.my.salesforce.com@evil.example",
    ],
)
def test_no_token_goes_to_an_instance_that_is_not_salesforces(url: str) -> None:
    with pytest.raises(ContractError):
        check_account(SALESFORCE, identified(instance_url=url))


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", RateLimitedError),
        (403, "API_DISABLED_FOR_ORG", NotAllowedError),
        (403, "API_CURRENTLY_DISABLED", NotAllowedError),
        (400, "INVALID_TYPE", NotAllowedError),
        (400, "QUERY_TIMEOUT", ProviderUnavailableError),
        (400, "TXN_SECURITY_METERING_ERROR", NotAllowedError),
        (400, "OPERATION_TOO_LARGE", NotAllowedError),
        (401, "INVALID_SESSION_ID", BrokenConnectionError),
        (400, "InvalidSessionId", BrokenConnectionError),
        (400, "MALFORMED_QUERY", type(None)),
    ],
)
def test_an_error_is_told_by_its_code_in_a_list(status: int, code: str, error: type) -> None:
    told = SALESFORCE.classify(response([{"message": "m", "errorCode": code}], status))
    assert isinstance(told, error)


def test_a_refused_login_is_told_by_an_object() -> None:
    explain = SALESFORCE.oauth.error_from
    assert isinstance(explain({"error": "inactive_user"}), BrokenConnectionError)
    assert isinstance(explain({"error": "rate_limit_exceeded"}), RateLimitedError)
    assert "administrator" in str(explain({"error": "OAUTH_APPROVAL_ERROR_GENERIC"}))
    assert explain({"error": "invalid_grant"}) is None
    assert "invalid_grant" in SALESFORCE.oauth.refused


def test_what_is_not_told_to_expire_is_used_for_as_long_as_it_works() -> None:
    assert SALESFORCE.oauth.access_token_ttl == timedelta(hours=2)
    assert SALESFORCE.oauth.pkce
    assert NOW.tzinfo is not None


@pytest.mark.parametrize(
    "host", ["login.salesforce.com", "test.salesforce.com", "acme--uat.sandbox.my.salesforce.com"]
)
def test_a_sandbox_org_and_one_with_an_address_of_its_own_sign_in_there(host: str) -> None:
    app = answered(SALESFORCE.oauth, OAuthApp("id", "secret", "https://us"), {"login_host": host})
    page = authorize_url(SALESFORCE.oauth, app, state="s", code_verifier="v" * 43)
    assert page.startswith(f"https://{host}/services/oauth2/authorize?")
    assert "code_challenge_method=S256" in page


@pytest.mark.parametrize("host", ["salesforce.com.evil.example", "evil.example", "a.b.c.d"])
def test_nobody_signs_in_elsewhere(host: str) -> None:
    with pytest.raises(ValueError, match="sign in"):
        answered(SALESFORCE.oauth, OAuthApp("id", "s", "https://us"), {"login_host": host})


async def test_an_org_that_is_moved_is_found_again_by_the_next_token_answer(
    database: Database, database_url: str
) -> None:
    with sandbox.start(["salesforce"]) as origin:
        values = environment(origin, database_url, "", ["salesforce"])
        settings = read(_env_file=None, **{name.lower(): v for name, v in values.items() if v})
        vendor = Sandboxed(origin, settings, database, database_url)
        connection = await vendor.connect("salesforce", size=5)
        former = connection.config["instance_url"]
        vendor.control("POST", "/salesforce/migrate", {"account": connection.account_id})
        async with runtime.opened(settings) as shared:
            client, context = client_of(shared, connection)
            rows = [
                row
                async for page, _ in client.read(
                    SALESFORCE.stream("leads").read(Checkpoint(), context)
                )
                for row in page.records
            ]
        assert {row["Id"] for row in rows} == set(vendor.vendor(connection)["leads"])
        moved = (await connections.get(database, connection.id)).config["instance_url"]
        assert moved != former
        assert moved.endswith(".salesforce.com")


async def test_the_rows_of_a_bulk_job_come_through_the_client_as_csv(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soql, "PAGE", 2)
    monkeypatch.setattr(objects, "BY_PAGES", 1)
    monkeypatch.setattr(bulk, "ASKED_AGAIN", timedelta(seconds=0.5))
    with sandbox.start(["salesforce"]) as origin:
        values = environment(origin, database_url, "", ["salesforce"])
        settings = read(_env_file=None, **{name.lower(): v for name, v in values.items() if v})
        vendor = Sandboxed(origin, settings, database, database_url)
        connection = await vendor.connect("salesforce", size=10)
        monkeypatch.setattr("connectors.salesforce.WAIT", timedelta(seconds=0.5))
        async with runtime.opened(settings) as shared:
            client, context = client_of(shared, connection)
            vendor.fault("salesforce", "429", path="/results")
            reader = SALESFORCE.stream("contacts").read(Checkpoint(), context)
            rows = await spent(client, reader)
        assert {row["Id"]: row for row in rows} == vendor.vendor(connection)["contacts"]


async def spent(client: Any, reader: Any) -> list[Any]:
    return [row async for page, _ in client.read(reader) for row in page.records]
