"""What people reported of programs that read Airtable, played on ours."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    Delivery,
    Effect,
    MadeWatch,
    NotAllowedError,
    RateLimitedError,
    Record,
    Request,
    Response,
    WatchRequest,
)
from tests._airtable_account import (
    AIRTABLE,
    ATTACHMENTS,
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
from tests._driving import NOW, drive, response
from tests._judging import as_the_client, judged

TABLES, FIELDS = AIRTABLE.stream("tables"), AIRTABLE.stream("fields")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


# -- What changed, and what is gone ---------------------------------------------------------------


def test_a_look_at_what_changed_compares_times_and_not_texts() -> None:
    """PipedreamHQ/pipedream#1081 (2021-03), activepieces/activepieces#5114 (2024-07): filters that
    compare LAST_MODIFIED_TIME() with a text list every record at each poll. Right: the time is
    parsed, and a poll with nothing new lists nothing."""
    account = Account()
    read = of(RECORDS, account).sync(HOUR)
    (asked,) = account.lists()
    formula = str(asked.params["filterByFormula"])
    assert "IS_AFTER(LAST_MODIFIED_TIME(), DATETIME_PARSE('2026-11-01T" in formula
    assert set(read.rows) == {"app1/tblA/rec1", "app1/tblA/rec2"}


def test_a_record_into_which_nobody_has_typed_is_found_by_the_time_of_its_making() -> None:
    """infiniflow/ragflow#19032 (2026-08): a reader goes by the one time that every record has, that
    of its making, and misses all changes. Right: both times are asked for, since a record without a
    typed cell has no time of a change."""
    account = Account()
    of(RECORDS, account).sync(HOUR)
    assert "CREATED_TIME()" in str(account.lists()[0].params["filterByFormula"])


def test_a_deleted_record_is_found_where_nothing_tells_of_it() -> None:
    """PipedreamHQ/pipedream#430 (2020-09): no trigger tells of deleted rows; people list all ids
    and compare. Right: each table is read whole now and then, and not at every poll."""
    account = Account()
    read = of(RECORDS, account)
    account.rows["app1"]["tblA"].pop()
    assert len(read.sync(DAY).rows) == 2
    assert "filterByFormula" in account.lists()[0].params
    assert set(read.sync(4 * DAY).rows) == {"app1/tblA/rec1"}


def test_a_computed_cell_changes_without_a_time() -> None:
    """airbytehq/airbyte#77051 (2026-04): there is no reliable filter for what changed; computed
    fields move no time. Right: a formula that is edited, a field that comes or goes has the table
    read whole at once."""
    account = Account(schema={"tblA": table("tblA", fld1="text", fld2="formula")})
    read = of(RECORDS, account)
    account.rows["app1"]["tblA"] = [row("rec1", fld2=2), row("rec2", fld2=4)]
    formula = {"id": "fld2", "name": "x", "type": "formula", "options": {"formula": "1+1"}}
    account.schema["tblA"]["fields"][1] = formula
    assert read.sync(HOUR).rows["app1/tblA/rec2"]["fields"] == {"fld2": 4}


def test_a_field_that_is_renamed_changes_no_record() -> None:
    """simonw/airtable-export#20 (2022-05), ngocnicholas/airtable.net#54 (2022-05), also
    airbytehq/airbyte#22704 (2023-02): columns vanish when somebody renames a field or a table, and
    two tables of one name become one. Right: everything is asked for by ids, and a rename is a
    change of the field alone."""
    account = Account()
    read, fields = of(RECORDS, account), of(FIELDS, account)
    assert all(one.params["returnFieldsByFieldId"] is True for one in account.lists())
    account.schema["tblA"] = table("tblA", fld1="text")
    account.schema["tblA"]["fields"][0]["name"] = account.schema["tblA"]["name"] = "Other"
    former = dict(read.rows)
    assert read.sync(HOUR).rows == former
    assert "filterByFormula" in account.lists()[0].params
    assert fields.sync(HOUR).rows["app1/tblA/fld1"]["name"] == "Other"


# -- Cells ----------------------------------------------------------------------------------------


def test_a_cell_may_be_an_error_or_no_number() -> None:
    """triggerdotdev/trigger.dev#645 (2023-10), domdomegg/airtable-ts#16 (2025-05), also
    cal-itp/data-infra#5688 (2026-09): a formula gives `{specialValue: NaN}` or `{error: …}` in
    place of a value, and loads fail. Right: cells are stored as they come."""
    cells = {"fld1": {"specialValue": "NaN"}, "fld2": {"error": "#ERROR!"}, "fld3": [1.5]}
    account = Account({"app1": {"tblA": [row("rec1", **cells), {"id": "rec2", "createdTime": ""}]}})
    read = of(RECORDS, account)
    assert read.rows["app1/tblA/rec1"]["fields"] == cells
    assert "app1/tblA/rec2" in read.rows


def test_links_that_end_in_two_hours_are_no_part_of_a_record() -> None:
    """kempsterrrr/P3RKS#75 (2022-11), Qiskit/qiskit.org#2894 (2022-12): links of attachments end
    after two hours, and are others at each read. Right: what is stored is the same each time."""
    file = {"id": "att1", "filename": "a.pdf", "size": 7, "type": "application/pdf"}
    schema = {"tblA": table("tblA", fld1="multipleAttachments")}
    seen = []
    for token in ("one", "two"):
        links = {"url": f"https://files/{token}", "thumbnails": {"small": {"url": token}}}
        rows = {"app1": {"tblA": [row("rec1", fld1=[{**file, **links}])]}}
        account = Account(rows, schema=schema)
        seen.append((of(RECORDS, account).rows, of(ATTACHMENTS, account).rows))
    assert seen[0] == seen[1]
    assert seen[0][1]["app1/tblA/rec1/fld1/att1"]["filename"] == "a.pdf"


# -- Pages ----------------------------------------------------------------------------------------


def test_a_listing_that_was_dropped_is_begun_anew() -> None:
    """simonw/airtable-export#7 (2021-02): a listing ends with 422
    LIST_RECORDS_ITERATOR_NOT_AVAILABLE when the client was silent for long, or a server was
    restarted. Right: the table is listed from its first page, also when that was days ago, and the
    others are not read again."""
    first = response({"records": [row("rec1")], "offset": "itr1/rec2"})
    lapsed = error(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE")
    whole = response({"records": [row("rec2"), row("rec3")]})
    account = Account({"app1": {"tblA": [], "tblB": [row("rec9")]}})
    account.special = at("/app1/tblA", first, lapsed, whole)
    read = of(RECORDS, account)
    # What the first attempt showed and the second does not is gone.
    assert set(read.rows) == {"app1/tblA/rec2", "app1/tblA/rec3", "app1/tblB/rec9"}
    assert [one.path for one in account.lists()].count("/app1/tblB") == 1


def test_a_listing_that_is_dropped_again_and_again_holds_nobody_up() -> None:
    """gtalarico/pyairtable#415 (2024-12): a listing goes on and on, with the same pages. Right: it
    ends, the other tables are read, and this one is told."""
    first = response({"records": [row("rec1")], "offset": "itr1/rec2"})
    lapsed = error(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE")
    account = Account({"app1": {"tblA": [], "tblB": [row("rec9")]}})

    def special(request: Request) -> Response | None:
        if request.path != "/app1/tblA":
            return None
        return lapsed if "offset" in request.params else first

    account.special = special
    read = of(RECORDS, account)
    assert list(read.unread) == ["app1/tblA"]
    assert "app1/tblB/rec9" in read.rows
    assert len(account.asked) < 12


def test_an_offset_is_the_vendors_and_no_number() -> None:
    """Airtable/airtable.js#317 (2022-05), n8n-io/n8n#1981 (2021-07): people count rows and are
    refused with INVALID_OFFSET_VALUE. Right: what an answer gives is sent back as it is, and its
    refusal is a lapsed position."""
    account = Account()
    more = response({"records": [row("rec1")], "offset": "itr1/rec2"})
    account.special = at("/app1/tblA", more, response({"records": [row("rec2")]}))
    of(RECORDS, account)
    assert account.lists()[1].params["offset"] == "itr1/rec2"
    assert isinstance(judged(AIRTABLE, error(422, "INVALID_OFFSET_VALUE")), CheckpointExpiredError)


def test_many_records_are_asked_for_in_addresses_that_are_not_too_long() -> None:
    """gtalarico/pyairtable#203 (2022-10), Airtable/airtable.js#392 (2023-11): addresses of more
    than 16,000 characters are refused with 414, which formulas with hundreds of ids reach. Right:
    a hundred ids at a time."""
    keys = [f"app1/tblA/rec{number:014d}" for number in range(250)]
    account = Account()

    def fetch(at: Checkpoint, context: Context) -> Any:
        assert RECORDS.fetch
        return RECORDS.fetch(keys, context)

    drive(fetch, as_the_client(AIRTABLE, account))
    # As it is written in an address, each sign of a formula takes three characters at most.
    lengths = [len(str(one.params["filterByFormula"])) * 3 for one in account.lists()]
    assert len(lengths) == 3
    assert max(lengths) < 16_000


# -- What is refused ------------------------------------------------------------------------------


def test_a_base_without_a_right_to_it_leaves_the_others_read() -> None:
    """airbytehq/airbyte#31215 (2023-10): bases of which a person sees interfaces only are listed
    with permissionLevel none, and asking for their tables fails the whole sync. Right: they are not
    asked for, and what was read of one before the right was taken away stays."""
    account = Account({"app1": {"tblA": [row("rec1")]}, "app2": {"tblB": [row("rec2")]}})
    read = of(RECORDS, account)
    account.levels["app2"] = "none"
    read.sync(HOUR)
    assert set(read.rows) == {"app1/tblA/rec1", "app2/tblB/rec2"}
    assert not any("app2" in one.path for one in account.asked)


def test_a_base_that_refuses_its_schema_fails_alone_and_keeps_its_rows() -> None:
    """airbytehq/airbyte#25946 (2023-05): a table that was removed or renamed, or a base that is no
    longer shared, ends the sync of all. Right: 403 INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND says of
    either nothing more than that: the base is told as unread, and nothing of it is deleted."""
    account = Account({"app1": {"tblA": [row("rec1")]}, "app2": {"tblB": [row("rec2")]}})
    read, tables = of(RECORDS, account), of(TABLES, account)
    refused = error(403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND")
    account.special = at("/meta/bases/app2/tables", refused)
    for one in (read.sync(HOUR), tables.sync(HOUR)):
        assert len(one.rows) == 2
        assert set(one.unread.values()) == {NotAllowedError}
    new = of(RECORDS, account)  # of which no table was ever known
    assert list(new.unread.values()) == [NotAllowedError]


def test_a_table_that_is_no_longer_there_goes_alone() -> None:
    """airbytehq/airbyte#25946 (2023-05), as above: a table that was removed. Right: once its base's
    schema lacks it, its records are deleted, and those of others are not."""
    account = Account({"app1": {"tblA": [row("rec1")], "tblB": [row("rec2")]}})
    read = of(RECORDS, account)
    del account.rows["app1"]["tblB"]
    assert set(read.sync(HOUR).rows) == {"app1/tblA/rec1"}


@pytest.mark.parametrize(
    ("body", "kind", "wait"),
    [
        ({"errors": [{"error": "RATE_LIMIT_REACHED", "message": ""}]}, RateLimitedError, 30),
        ({"error": {"type": "TOO_MANY_REQUESTS"}}, RateLimitedError, 30),
        (None, RateLimitedError, 30),
        ({"error": {"type": "PUBLIC_API_BILLING_LIMIT_EXCEEDED"}}, NotAllowedError, 0),
    ],
)
def test_a_call_too_much_locks_a_base_for_half_a_minute(
    body: Any, kind: type[Exception], wait: int
) -> None:
    """gtalarico/pyairtable#313 (2023-10), GV14982/async-airtable#6 (2020-10): retries with short
    pauses never get through, since a 429 locks the base for 30 seconds, and says nothing of it.
    Right: so long is waited; where the plan's calls of the month are used up, its administrator is
    told."""
    told = judged(AIRTABLE, response(body, 429))
    assert isinstance(told, kind)
    if isinstance(told, RateLimitedError):
        assert told.retry_after == timedelta(seconds=wait)


def test_five_calls_a_second_are_for_all_that_read_a_base() -> None:
    """gtalarico/pyairtable#27 (2019-02): the limit is of a base, whoever asks, and two clients that
    each keep to it are refused. Right: less than all of it is taken, one call after the other."""
    (limit,) = AIRTABLE.rate_limits
    assert limit.amount < 5 * limit.per.total_seconds()
    assert AIRTABLE.concurrency == 1


# -- Consent --------------------------------------------------------------------------------------


def test_a_refresh_token_serves_once_and_ends_the_access_token() -> None:
    """PipedreamHQ/pipedream#8727 (2023-10), estuary/connectors#1262 (2024-02): calls fail with 401
    now and then, since a refresh ends the former access token as well; and connections die where
    the new refresh token is not kept. Right: tokens rotate, without a grace, and one that is unused
    for 60 days is over."""
    auth = AIRTABLE.oauth
    assert (auth.rotates, auth.grace, auth.idle_lifetime) == (True, None, timedelta(days=60))
    assert isinstance(
        judged(AIRTABLE, error(401, "AUTHENTICATION_REQUIRED")), BrokenConnectionError
    )


def test_consent_needs_a_proof_key() -> None:
    """n8n-io/n8n#11028 (2024-09), airbytehq/airbyte#76071 (2026-04): Airtable refuses a consent
    without PKCE, and a verifier with other signs than letters, digits, `-`, `.` and `_`. Right: it
    is used, with the client's secret in the header."""
    assert AIRTABLE.oauth.pkce
    assert AIRTABLE.oauth.client_auth == "basic"


# -- Webhooks -------------------------------------------------------------------------------------


def test_a_delivery_says_only_that_there_is_something_and_the_log_is_read() -> None:
    """triggerdotdev/trigger.dev#442 (2023-09), PipedreamHQ/pipedream#18237 (2025-09): a delivery
    has no content; clients that took it for one, or kept no cursor, emitted nothing or everything
    twice. Right: it is a hint, and the log is read from the number where the last read ended."""
    body = {"base": {"id": "app1"}, "webhook": {"id": "ach1"}, "timestamp": "2026-11-01T12:00:00Z"}
    call = Delivery(
        method="POST", url="https://we.example", headers={}, query={}, received_at=NOW,
        body=json.dumps(body).encode(),
    )  # fmt: skip
    assert AIRTABLE.webhook
    (event,) = AIRTABLE.webhook.events(call)
    assert (event.effect, event.watch_id) == (Effect.HINT, "ach1")
    log = [entry("tblA", destroyedRecordIds=["rec2"])]
    read, account = followed(log)
    account.rows["app1"]["tblA"][0]["fields"]["fld1"] = "new"
    log.append(entry("tblA", changedRecordsById={"rec1": {"current": {}}}))
    account.hooks["app1"] = [hook("ach1", 3)]
    read.sync(HOUR)
    assert read.rows == {
        "app1/tblA/rec1": {**read.rows["app1/tblA/rec1"], "fields": {"fld1": "new"}}
    }
    read.sync(HOUR)
    assert not account.lists()
    assert not any("payloads" in one.path for one in account.asked)


def test_a_record_that_cannot_be_read_yet_is_read_again() -> None:
    """PipedreamHQ/pipedream#18220 (2025-08): a record of which a delivery tells is not found for a
    moment, and the trigger emits nonsense. Right: it is read again later, and not deleted."""
    read, _ = followed([entry("tblA", createdRecordsById={"rec3": {"cellValuesByFieldId": {}}})])
    assert read.sync(HOUR).unsettled == ["app1/tblA/rec3"]
    assert len(read.rows) == 2


@pytest.mark.parametrize(
    "log",
    [
        [{"error": True, "code": "INTERNAL_ERROR", "timestamp": ""}],
        [entry("tblA")] * 2_500,
    ],
    ids=["an error", "too much to follow"],
)
def test_a_log_that_does_not_tell_everything_has_the_tables_read_whole(log: list[Record]) -> None:
    """The wiki of ngocnicholas/airtable.net, WebhookPayload (2023-11): an entry of the log may be
    an error (INVALID_FILTERS, INVALID_HOOK, INTERNAL_ERROR). Right: nothing is taken from such a
    log, nor from one that it takes longer to follow, and what it may have left out is found."""
    read, account = followed(log)
    account.rows["app1"]["tblA"].pop()
    assert set(read.sync(HOUR).rows) == {"app1/tblA/rec1"}
    assert "filterByFormula" not in account.lists()[0].params


def watched(base: str = "app1") -> tuple[WatchRequest, MadeWatch]:
    wanted = WatchRequest(
        id="w", resource=base, address="https://we.example/hook", secret="s",
        lifetime=timedelta(days=7), context=Context(now=NOW, account_id="usr1"),
    )  # fmt: skip
    return wanted, MadeWatch(vendor_id="ach1", expires_at=None, state={"base": base})


def steps(steps: Any, answer: Callable[[Request], Response | None]) -> Any:
    sent: Any = None
    while True:
        try:
            sent = answer(steps.send(sent))
        except StopIteration as stop:
            return stop.value


def test_a_webhook_ends_after_a_week_and_is_renewed_before() -> None:
    """PipedreamHQ/pipedream#5013 (2022-12), langgenius/dify-official-plugins#2031 (2025-11):
    webhooks end after seven days, and triggers fell silent. Right: it is refreshed in time; one
    that stopped calling is told to go on, and one that is gone is made anew."""
    assert AIRTABLE.watch
    assert AIRTABLE.watch.renew
    assert AIRTABLE.watch.lifetime == timedelta(days=7)
    paths: list[str] = []

    def answer(request: Request) -> Response:
        paths.append(request.path)
        if request.method == "GET":
            return response({"webhooks": [hook("ach1", 1, areNotificationsEnabled=False)]})
        return response({"expirationTime": "2026-11-08T12:00:00.000Z"})

    made = steps(AIRTABLE.watch.renew(*watched()), answer)
    assert made.expires_at == NOW + timedelta(days=7)
    assert [one.rpartition("/")[2] for one in paths] == [
        "webhooks",
        "enableNotifications",
        "refresh",
    ]
    for known in ([], [hook("ach1", 1, isHookEnabled=False)]):
        renewal = AIRTABLE.watch.renew(*watched())
        with pytest.raises(CheckpointExpiredError):
            steps(renewal, at("/bases/app1/webhooks", response({"webhooks": known})))


def test_a_base_with_as_many_webhooks_as_it_may_have_is_polled() -> None:
    """Fivetran's troubleshooting page, and PipedreamHQ/pipedream#5013 (2023-10): a base has ten
    webhooks at most, and an app two of them. Right: that is no error, the base is polled."""
    assert AIRTABLE.watch
    refusal = error(422, "TOO_MANY_WEBHOOKS_IN_BASE")
    made = steps(AIRTABLE.watch.create(watched()[0]), lambda request: refusal)
    assert "TOO_MANY" in made.reason
