"""Airtable's traps: logs with holes, tables that fail, and what is deleted or only not shown."""

import base64
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    Checkpoint,
    Context,
    Delivery,
    NotAllowedError,
    Page,
    Reader,
    SignatureError,
)
from connectors.airtable.payloads import MANAGE, hooks_of
from connectors.kernel.paging import mapped
from tests._airtable_account import (
    AIRTABLE,
    LINKS,
    PAYLOADS,
    RECORDS,
    Account,
    at,
    entry,
    error,
    followed,
    hook,
    of,
    row,
    table,
)
from tests._conformance import Bench
from tests._driving import NOW, drive, response
from tests._judging import as_the_client, judged

HOUR = timedelta(hours=1)
TWO = {"app1": {"tblA": [row("rec1"), row("rec2")], "tblB": [row("rec3")]}}


@pytest.mark.parametrize("body", [{"error": "NOT_FOUND"}, {"error": {"type": "MODEL_NOT_FOUND"}}])
def test_an_error_is_a_text_or_an_object(body: Any) -> None:
    assert isinstance(judged(AIRTABLE, response(body, 404)), NotAllowedError)


# -- The log of a webhook


def test_what_the_log_says_last_of_a_record_counts() -> None:
    back: dict[str, Any] = {"rec2": {"cellValuesByFieldId": {}}}
    log = [entry("tblA", destroyedRecordIds=["rec2"]), entry("tblA", createdRecordsById=back)]
    read, _ = followed(log)
    assert len(read.sync(HOUR).rows) == 2


def test_a_log_that_always_might_have_more_comes_to_its_end() -> None:
    account = Account(hooks={"app1": [hook("ach1", 2)]}, logs={"ach1": [entry("tblA")]})
    assert list(of(PAYLOADS, account).rows) == ["ach1/1"]
    assert len(account.asked) < 6


def test_entries_are_numbered_from_their_end_where_older_ones_are_no_longer_kept() -> None:
    account = Account(hooks={"app1": [hook("ach1", 9)]})
    kept = {"payloads": [entry("tblA")] * 2, "cursor": 9, "mightHaveMore": False}
    account.special = at("/bases/app1/webhooks/ach1/payloads", response(kept))
    assert set(of(PAYLOADS, account).rows) == {"ach1/7", "ach1/8"}


def test_a_log_of_which_the_beginning_is_no_longer_kept_has_the_tables_read_whole() -> None:
    read, account = followed([entry("tblA")] * 8)
    account.rows["app1"]["tblA"].pop()
    kept = {"payloads": [entry("tblA")] * 2, "cursor": 9, "mightHaveMore": False}
    account.special = at("/bases/app1/webhooks/ach1/payloads", response(kept))
    assert set(read.sync(HOUR).rows) == {"app1/tblA/rec1"}


def test_a_table_that_failed_while_the_log_told_of_it_is_read_whole_afterwards() -> None:
    log = [entry("tblA", changedRecordsById={"rec1": {"current": {}}})]
    account = Account({**TWO}, hooks={"app1": [hook("ach1", 1)]}, logs={"ach1": log})
    read = of(RECORDS, account)
    account.hooks["app1"] = [hook("ach1", 2)]
    account.special = at("/app1/tblA", error(403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"))
    assert list(read.sync(HOUR).unread) == ["app1/tblA"]
    account.special = lambda request: None
    account.rows = {"app1": {**TWO["app1"], "tblA": [row("rec1", fld1="new")]}}
    read.sync(2 * HOUR)
    assert not read.unread
    assert read.rows["app1/tblA/rec1"]["fields"] == {"fld1": "new"}
    assert "app1/tblA/rec2" not in read.rows
    # The other table had followed: nothing is asked of it.
    assert [one.path for one in account.lists()] == ["/app1/tblA"]


def test_a_webhook_that_was_switched_off_leaves_its_tables_to_their_times() -> None:
    read, account = followed([entry("tblA")], isHookEnabled=False)
    read.sync(HOUR)
    assert "LAST_MODIFIED_TIME" in str(account.lists()[0].params["filterByFormula"])


@pytest.mark.parametrize("filters", [{"recordChangeScope": "tblA"}, {"fromSources": ["client"]}])
def test_a_webhook_that_tells_of_a_part_only_is_not_followed(filters: dict[str, Any]) -> None:
    narrow = hook("ach1", 1)
    narrow["specification"] = {"options": {"filters": {"dataTypes": ["tableData"], **filters}}}
    account = Account(hooks={"app1": [narrow]})
    of(RECORDS, account).sync(HOUR)
    assert account.lists()


def test_without_its_scope_no_webhook_is_asked_for() -> None:
    def first_call(*scopes: str) -> object:
        context = Context(now=NOW, account_id="usr1", config={"scopes": list(scopes)})
        return next(hooks_of("app1", context), None)

    assert first_call() is None
    assert first_call(MANAGE) is not None


def test_a_webhook_that_is_new_has_the_tables_read_whole_once() -> None:
    """What was deleted before it stood it does not tell."""
    account = Account()
    read = of(RECORDS, account)
    account.rows["app1"]["tblA"].pop()
    account.hooks, account.logs = {"app1": [hook("ach1", 1)]}, {"ach1": []}
    assert set(read.sync(HOUR).rows) == {"app1/tblA/rec1"}
    read.sync(2 * HOUR)
    assert not account.lists()


def test_cells_of_a_record_that_is_not_shown_yet_are_asked_for_by_the_next_sync() -> None:
    log = [entry("tblA", createdRecordsById={"rec3": {"cellValuesByFieldId": {}}})]
    account = Account(
        schema={"tblA": table("tblA", fld1="multipleRecordLinks")},
        hooks={"app1": [hook("ach1", 1)]},
        logs={"ach1": log},
    )
    read = of(LINKS, account)
    account.hooks["app1"] = [hook("ach1", 2)]
    assert not read.sync(HOUR).rows
    account.rows["app1"]["tblA"].append(row("rec3", fld1=["rec1"]))
    assert set(read.sync(2 * HOUR).rows) == {"app1/tblA/rec3/fld1/rec1"}
    read.sync(3 * HOUR)
    assert not account.lists()


# -- What cells depend on besides what is typed into them


@pytest.mark.parametrize(
    ("choices", "reads_all"),
    [
        ({"sel1": "Open", "sel2": "Done"}, False),
        ({"sel1": "Open", "sel2": "Done", "sel3": "Late"}, False),
        ({"sel1": "Begun", "sel2": "Done"}, True),
        ({"sel1": "Open"}, True),
    ],
    ids=["as before", "one more", "renamed", "one less"],
)
def test_a_choice_that_is_renamed_changes_cells_and_one_that_is_added_does_not(
    choices: dict[str, str], reads_all: bool
) -> None:
    account = Account(schema={"tblA": table("tblA", fld1="singleSelect", fld2="formula")})
    select, looked_up = account.schema["tblA"]["fields"]

    def offer(offered: dict[str, str]) -> None:
        select["options"] = {"choices": [{"id": k, "name": v} for k, v in offered.items()]}
        looked_up["options"] = {"result": {"type": "singleSelect", "options": select["options"]}}

    offer({"sel1": "Open", "sel2": "Done"})
    read = of(RECORDS, account)
    offer(choices)
    read.sync(HOUR)
    assert ("filterByFormula" not in account.lists()[0].params) == reads_all


# -- Deleted, and only not shown


def test_of_a_table_that_is_gone_rows_are_deleted_and_of_a_base_that_is_gone_hidden() -> None:
    account = Account({**TWO, "app2": {"tblC": [row("rec4")]}})
    read = of(RECORDS, account)
    account.rows = {"app1": {"tblA": TWO["app1"]["tblA"]}}
    pages = drive(RECORDS.read, as_the_client(AIRTABLE, account), read.at, now=NOW + HOUR)
    hidden = {one.prefix: one.hidden for page in pages for one in page.listed_keys}
    assert hidden == {"app1/tblB/": False, "app2/tblC/": True}


def test_a_record_that_was_asked_for_in_a_refused_table_is_not_deleted() -> None:
    account = Account({**TWO})
    account.special = at("/app1/tblA", error(403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"))
    fetched: list[Page] = []

    def fetch(at: Checkpoint, context: Context) -> Reader:
        assert RECORDS.fetch
        keys = ["app1/tblA/rec1", "app1/tblB/rec3", "app1/tblB/rec9"]
        yield from mapped(RECORDS.fetch(keys, context), noted)

    def noted(page: Page) -> Page:
        fetched.append(page)
        return page

    with pytest.raises(NotAllowedError):
        drive(fetch, as_the_client(AIRTABLE, account))
    (page,) = fetched
    assert [one["id"] for one in page.records] == ["rec3"]
    assert page.deleted == ["app1/tblB/rec9"]


async def test_a_cell_that_was_computed_anew_is_found_by_the_next_whole_read(bench: Bench) -> None:
    tried = await bench.connect(AIRTABLE, size=10)
    assert not await tried.follow(RECORDS)
    tried.order("recompute", record=next(iter(tried.vendor(RECORDS))))
    await tried.sync(RECORDS)
    assert tried.difference(RECORDS)
    bench.clock.advance(timedelta(days=3))
    await tried.sync(RECORDS)
    assert not tried.difference(RECORDS)


# -- Deliveries

SECRET = "c2VjcmV0LWtleQ=="  # pragma: allowlist secret
PING = (
    b'{"base": {"id": "app00000000000000"}, "webhook": {"id": "ach00000000000000"}, '
    b'"timestamp": "2022-02-01T21:25:05.663Z"}'
)
MAC = "hmac-sha256=e26da696a90933647bddc83995c3e1e3bb1c3d8ce1ff61cb7469767d50b2b2d4"


def delivery(body: bytes = PING, mac: str = MAC) -> Delivery:
    return Delivery(
        method="POST", url="https://we.example", headers={"x-airtable-content-mac": mac},
        query={}, body=body, received_at=NOW,
    )  # fmt: skip


def test_a_delivery_is_proven_by_the_secret_of_its_webhook() -> None:
    """The numbers are those of pyairtable's own tests (3.5.1)."""
    webhook = AIRTABLE.webhook
    assert webhook
    assert webhook.verify_event
    (event,) = webhook.events(delivery())
    webhook.verify_event(delivery(), event, SECRET)
    other = base64.b64encode(b"other").decode()
    bare = hmac.digest(b"secret-key", PING, "sha256").hex()
    for wrong, secret in (
        (delivery(), other),
        (delivery(), ""),
        (delivery(PING + b" "), SECRET),
        (delivery(mac=bare), SECRET),
        (replace(delivery(), headers={}), SECRET),
    ):
        with pytest.raises(SignatureError):
            webhook.verify_event(wrong, event, secret)
