"""What people reported of programs that read Zoho CRM, played on ours."""

import json
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    Context,
    ContractError,
    NotAllowedError,
    RateLimitedError,
    Response,
    WatchRequest,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import (
    OAuthApp,
    app_of_callback,
    authorize_url,
    exchange,
    refresh,
    validated_answers,
)
from connectors.kernel.parts import Round
from connectors.zoho_crm.watches import create, renew
from tests._driving import NOW, response
from tests._vendor import Answer, PlayedClock, Vendor, serve
from tests._zoho_org import ZOHO, Org, error, follow, row, stamp
from tests.reports._following import line_to

HOUR = timedelta(hours=1)
WATCHED = {"code": "SUCCESS", "details": {"events": [{"channel_expiry": stamp(-9_000)}]}}


def app(**answers: str) -> OAuthApp:
    return OAuthApp(
        "id", "secret", "https://atom.test/back", answers=validated_answers(ZOHO.oauth, answers)
    )


async def told(*answers: Answer, code: str = "", connector: Connector = ZOHO) -> tuple[Any, Vendor]:
    """What a token call comes to, and the vendor that was asked."""
    with serve(Vendor()) as vendor:
        vendor.will(*answers)
        clock = PlayedClock()
        transport, budget = Transport(sandbox_url=vendor.origin, clock=clock), Budget(None)
        rest: dict[str, Any] = {"transport": transport, "budget": budget}
        try:
            if code:
                found = await exchange(connector, app(), code=code, **rest)
            else:
                found = await refresh(connector, app(), refresh_token="r", account_id="1", **rest)
            return found, vendor
        finally:
            await transport.close()


# -- Pages ----------------------------------------------------------------------------------------


def test_a_module_of_more_than_two_thousand_records_is_read_to_its_end() -> None:
    """airbytehq/airbyte#30977 (2023-10): beyond 2,000 rows a page number is refused, and the sync
    ends there. Right: no page is asked for by its number."""
    org = Org({"Deals": [row(id_, 10_000 - id_) for id_ in range(2_600)]})
    assert len(follow("deals", org).sync().rows) == 2_600
    assert not any("page" in request.params for request in org.asked)


def test_rows_of_one_second_are_read_by_tokens_and_a_lapsed_one_costs_that_second() -> None:
    """deveel/zohocrmsharp#11, asciisd/zoho#43 (2018-06, 2022-09): only the first page is read. An
    import leaves thousands of rows with one time: there tokens lead on, which end after a day."""
    org = Org({"Leads": [row(id_, 500) for id_ in range(900)]}, lapsed=True)
    read = follow("leads", org).sync()
    assert read.error is None
    assert len(read.rows) == 900


def test_a_row_that_changes_while_its_page_is_read_hides_no_other() -> None:
    """SuiteCRM/SuiteCRM#10015 (2023-04), the same way of paging: rows that move between two pages
    are missed. Right: a page begins at the time where the former ended."""
    org = Org({"Deals": [row(id_, 10_000 - id_) for id_ in range(450)]})

    def edit() -> None:
        for each in org.rows["Deals"][:5]:
            each["Modified_Time"] = stamp(0)

    org.edits[3] = edit
    assert len(follow("deals", org).sync().rows) == 450


def test_an_answer_without_a_body_is_no_error_and_an_error_is_no_empty_page() -> None:
    """zoho/zcrm-php-sdk#56 (2020-07): 204 is taken for a fault. NangoHQ/nango#1438 (2023-12): an
    answer without `data` must not pass for an empty one. amp-labs/connectors#1096 (2024-10): 304
    has no body either."""
    org = Org({"Leads": []})
    read = follow("leads", org).sync(2)
    assert read.error is None
    assert read.rows == {}
    org.rows["Leads"] = [row(1, 0)]
    org.refusals["/Leads"] = response({"status": "error"})
    with pytest.raises(KeyError):  # which the client takes for an answer that it cannot read
        read.sync()
    org.refusals["/Leads"] = error(500, "INTERNAL_ERROR")
    assert read.sync().error is not None
    org.refusals.clear()
    assert set(read.sync().rows) == {"1"}


# -- Modules and fields ---------------------------------------------------------------------------


def test_a_lead_that_was_converted_is_still_a_lead() -> None:
    """airbytehq/airbyte#39398 (2024-06): converted leads are missing, for they are only shown who
    asks for them."""
    org = Org({"Leads": [row(1), row(2, Converted__s=True)]})
    read = follow("leads", org).sync()
    assert set(read.rows) == {"1", "2"}
    org.rows["Leads"][0] |= {"Converted__s": True, "Modified_Time": stamp(1)}
    assert read.sync().rows["1"]["Converted__s"] is True


def test_more_fields_than_one_call_takes_come_together() -> None:
    """airbytehq/airbyte#21164 (2023-01): a call has to name its fields, and no more than fifty."""
    wide = {f"Field_{number}": number for number in range(120)}
    org = Org({"Contacts": [row(id_, 9_000 - id_, **wide) for id_ in range(250)]})
    read = follow("contacts", org).sync()
    assert len(read.rows) == 250
    assert all(wide.items() <= each.items() for each in read.rows.values())


def test_a_row_that_goes_between_the_two_calls_for_its_fields_is_no_half_row() -> None:
    """The same report: rows are put together from several answers."""
    wide = {f"Field_{number}": number for number in range(60)}
    org = Org({"Contacts": [row(1, **wide), row(2, **wide)]})
    org.edits[3] = lambda: org.rows["Contacts"].pop()
    read = follow("contacts", org).sync()
    assert set(read.rows) == {"1"}
    assert read.rows["1"].keys() >= wide.keys()


def test_a_field_without_a_type_or_a_name_costs_no_module() -> None:
    """airbytehq/airbyte#31433 (2023-10), also #70779 (2025-12): contacts are missing because one
    field of some module has no json_type."""
    org = Org({"Contacts": [row(1, Last_Name="Vega")]})
    org.fields["Contacts"] = [{"id": "7", "data_type": "formula"}, {"api_name": None}]
    read = follow("contacts", org).sync()
    assert read.rows["1"]["Last_Name"] == "Vega"
    (listed,) = [request for request in org.asked if request.path == "/Contacts"]
    assert listed.params["fields"] == "Modified_Time,Last_Name"


def test_a_module_without_a_time_of_change_is_read_whole() -> None:
    """airbytehq/airbyte#53218 (2025-02), #80275 (2026-06): modules without Modified_Time break the
    sync. Right: they are listed by id, and ask for no filter by time."""
    org = Org({"Links__c": [{"id": "1", "Name": "x"}]}, modules=("Leads", "Links__c"))
    read = follow("records", org).sync()
    assert read.error is None
    assert set(read.rows) == {"Links__c:1"}
    org.rows["Links__c"].append({"id": "2", "Name": "y"})
    org.asked.clear()
    assert set(read.sync(now=NOW + HOUR).rows) == {"Links__c:1", "Links__c:2"}
    (listed,) = [request for request in org.asked if request.path == "/Links__c"]
    assert listed.params["sort_by"] == "id"
    assert not listed.headers


def test_a_row_with_no_time_in_it_is_read_like_the_others() -> None:
    """airbytehq/airbyte#53218 (2025-02): a record whose Modified_Time is null ends the sync."""
    org = Org({"Tasks": [row(id_) | {"Modified_Time": None} for id_ in range(3)]})
    assert len(follow("records", org).sync().rows) == 3


def test_times_are_understood_with_a_z_or_any_offset() -> None:
    """airbytehq/airbyte#80275 (2026-06): a cursor that ends in Z cannot be parsed."""
    rows = [row(id_, 9_000 - id_) for id_ in range(400)]
    for each in rows:
        each["Modified_Time"] = each["Modified_Time"].replace("+00:00", "Z")
    assert len(follow("deals", Org({"Deals": rows})).sync().rows) == 400


def test_one_module_that_is_refused_leaves_the_others_read() -> None:
    """airbytehq/airbyte#70779 (2025-12), #11193 (2022-04): an edition or a profile closes some
    modules, and streams vanish or the whole sync ends."""
    org = Org({"Tasks": [row(1)], "Visits__c": [row(2)]}, modules=("Tasks", "Visits__c"))
    org.refusals["/Tasks"] = error(403, "NO_PERMISSION")
    read = follow("records", org).sync()
    assert read.error is None
    assert set(read.rows) == {"Visits__c:2"}
    org.refusals.clear()
    assert set(read.sync(2).rows) == {"Tasks:1", "Visits__c:2"}


# -- Deletions ------------------------------------------------------------------------------------


def test_what_was_deleted_is_found_and_what_is_not_shown_is_not_deleted() -> None:
    """supaglue-labs/supaglue#489 (2023-03): deletions are not followed. Right: by the list of
    deleted records; a record that is only no longer listed stays."""
    org = Org({"Leads": [row(1), row(2), row(3)]})
    read = follow("leads", org).sync()
    org.rows["Leads"] = [row(1)]
    org.gone["Leads"] = [{"id": "2", "deleted_time": stamp(1)}]
    assert set(read.sync().rows) == {"1", "3"}


def test_a_module_without_a_list_of_deletions_is_followed_all_the_same() -> None:
    """Get List of Deleted Records (vendor's page, 2026-11) does not name Notes among its modules:
    it refuses them as unknown."""
    org = Org({"Notes": [row(1)]}, modules=("Notes",))
    org.refusals["/Notes/deleted"] = error(400, "INVALID_MODULE")
    read = follow("records", org).sync(2)
    assert read.error is None
    assert set(read.rows) == {"Notes:1"}
    assert not Round.of(read.at).failed


def test_more_deletions_than_are_listed_lead_to_a_full_read() -> None:
    """airbytehq/airbyte#30977 (2023-10): the same limit of 2,000, where no token leads on."""
    org = Org({"Leads": [row(1)]})
    read = follow("leads", org).sync()
    org.gone["Leads"] = [{"id": str(id_), "deleted_time": stamp(0)} for id_ in range(2_500)]
    assert isinstance(read.sync().error, CheckpointExpiredError)
    later = follow("leads", Org({"Leads": [row(1)]})).sync()
    assert isinstance(later.sync(now=NOW + timedelta(days=31)).error, CheckpointExpiredError)


# -- Tokens and data centres ----------------------------------------------------------------------


def test_consent_is_asked_for_again_each_time() -> None:
    """schmorrison/Zoho#43 (2022-07), n8n-io/n8n#12551 (2025-01), n8n-io/n8n#18037 (2025-08): no
    refresh token comes with a second consent. Right: `prompt=consent` and `access_type=offline`."""
    page = authorize_url(ZOHO.oauth, app(), state="s")
    assert page.startswith("https://accounts.zoho.com/oauth/v2/auth?")
    assert "access_type=offline" in page
    assert "prompt=consent" in page


@pytest.mark.parametrize("status", [200, 400])
async def test_a_refusal_with_status_200_is_a_refusal(status: int) -> None:
    """asciisd/zoho#18 (2021-06), asciisd/zoho-v3#14 (2023-03): errors come with status 200 and are
    taken for tokens."""
    with pytest.raises(BrokenConnectionError):
        await told(Answer(status, {"error": "invalid_code"}))
    with pytest.raises(ContractError, match="data centre"):
        await told(Answer(status, {"error": "invalid_client"}), code="c")


async def test_too_many_token_calls_end_no_connection() -> None:
    """verbb/formie#2199 (2025-01): a refusal of the token endpoint is taken for a lost consent."""
    body = {"error": "Access Denied", "error_description": "too many requests", "status": "failure"}
    with pytest.raises(RateLimitedError) as raised:
        await told(Answer(400, body))
    assert raised.value.retry_after >= timedelta(minutes=5)


async def test_a_refresh_without_a_refresh_token_keeps_the_former_one() -> None:
    """googleworkspace/apps-script-oauth2#223 (2020-03), schmorrison/Zoho#18 (2019-12): the answer
    has no refresh token, and `expires_in` alone."""
    body = {"access_token": "a", "api_domain": "https://www.zohoapis.eu", "expires_in": 3600}
    found, vendor = await told(Answer(200, body))
    assert found.refresh_token is None
    assert found.extra["api_domain"] == "https://www.zohoapis.eu"
    assert (found.expires_at - PlayedClock().at) == HOUR
    assert b"client_secret" in vendor.calls[0].body


def test_the_callback_says_which_accounts_server_takes_its_code() -> None:
    """asciisd/zoho-v3#38 (2025-02), anthropics/claude-ai-mcp#311 (2026-05): a code is taken to the
    wrong data centre. And no callback names a server that is none of Zoho's."""
    given = {"accounts-server": "https://accounts.zoho.eu", "location": "eu", "code": "c"}
    assert app_of_callback(ZOHO, app(), given, NOW).answers == {
        "accounts_server": "accounts.zoho.eu"
    }
    alone = app_of_callback(ZOHO, app(accounts_server="accounts.zoho.in"), {"code": "c"}, NOW)
    assert alone.answers == {"accounts_server": "accounts.zoho.in"}
    for evil in ("https://accounts.zoho.eu.evil.test", "https://evil.test/accounts.zoho.eu", "x@y"):
        with pytest.raises(ContractError):
            app_of_callback(ZOHO, app(), {**given, "accounts-server": evil}, NOW)


async def test_calls_go_to_the_api_of_the_accounts_data_centre_and_to_no_other_host() -> None:
    """trycompai/comp#3229 (2026-06), calcom/cal.diy#29258 (2026-05): all calls go to zohoapis.com,
    and INVALID_TOKEN comes back. Right: the `api_domain` of the token answer, if it is Zoho's."""
    with serve(Vendor()) as vendor:
        vendor.will(Answer(200, {"modules": []}))
        async with line_to(vendor, ZOHO, api_domain="https://www.zohoapis.eu") as line:
            await line.pages(_read("modules", line))
        async with line_to(vendor, ZOHO, api_domain="https://www.zohoapis.eu.evil.test") as line:
            with pytest.raises(ContractError):
                await line.pages(_read("modules", line))
    (call,) = vendor.calls
    assert call.host == "www.zohoapis.eu"
    assert call.headers["authorization"] == "Zoho-oauthtoken token-0"


def _read(stream: str, line: Any) -> Any:
    found = ZOHO.stream(stream)
    return found.read(
        Checkpoint(), Context(now=line.clock.now(), account_id="1", config=line.config)
    )


async def test_a_token_that_is_refused_is_renewed_once_and_used_again() -> None:
    """solspace/craft-freeform#1372, #1412 (2024-06): INVALID_TOKEN now and then, until somebody
    connects again."""
    with serve(Vendor()) as vendor:
        refused = {"code": "INVALID_TOKEN", "details": {}, "message": "x", "status": "error"}
        vendor.will(Answer(401, refused), Answer(200, {"modules": []}))
        async with line_to(vendor, ZOHO, api_domain="https://www.zohoapis.com") as line:
            await line.pages(_read("modules", line))
            assert line.renewals == 1


# -- Limits and rights ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (error(401, "OAUTH_SCOPE_MISMATCH"), NotAllowedError),
        (error(401, "INVALID_TOKEN"), BrokenConnectionError),
        (error(403, "NO_PERMISSION"), NotAllowedError),
        (error(400, "INVALID_MODULE"), NotAllowedError),
        (error(429, "TOO_MANY_REQUESTS"), RateLimitedError),
    ],
)
def test_a_code_says_who_must_act(refusal: Response, kind: type[Exception]) -> None:
    """Kaizen #25 (vendor's page, 2026-11), airbytehq/airbyte#70779 (2025-12): a scope that was not
    given is no lost connection, although its status is 401."""
    read = follow("leads", Org(refusals={"/Leads": refusal})).sync()
    assert type(read.error) is kind


def test_spent_credits_are_waited_for_longer_than_too_many_calls() -> None:
    """NangoHQ/nango#1438 (2023-12) and Kaizen #203 (vendor's page, 2026-11): one code for both."""
    spent = response({"code": "TOO_MANY_REQUESTS"}, 429, {"x-api-credits-remaining": "0"})
    read = follow("leads", Org(refusals={"/Leads": spent})).sync()
    assert isinstance(read.error, RateLimitedError)
    assert read.error.retry_after == HOUR


# -- Notifications --------------------------------------------------------------------------------


def wanted(**more: Any) -> WatchRequest:
    return WatchRequest(
        id="f" * 32, resource="Leads", address="https://atom.test/hook", secret="s" * 43,
        lifetime=timedelta(days=7), context=Context(now=NOW, account_id="1"), **more,
    )  # fmt: skip


def answered(steps: Any, answer: Response) -> tuple[Any, Any]:
    request = next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(answer)
    return request, stop.value.value


def test_a_channel_is_asked_for_as_long_as_there_are_any_and_renewed_by_its_id() -> None:
    """PipedreamHQ/pipedream#2197 (2022-02): triggers fall silent after a day. amp-labs/connectors
    #1602 (2025-04): a channel that asks for no time lives an hour. Right: a week is asked for, what
    Zoho grants is believed, and the same channel is renewed."""
    request, made = answered(create(wanted()), response({"watch": [WATCHED]}, 201))
    item = request.json["watch"][0]
    assert item["channel_expiry"] > stamp(-6 * 24 * 60)
    assert item["events"] == ["Leads.all"]
    assert item["channel_id"].isdecimal()
    assert made.vendor_id == item["channel_id"]
    assert made.expires_at == NOW + timedelta(minutes=9_000)
    request, again = answered(renew(wanted(), made), response({"watch": [WATCHED]}))
    assert request.method == "PUT"
    assert again.vendor_id == made.vendor_id
    assert json.loads(json.dumps(made.state)) == {"module": "Leads"}


def test_a_channel_that_is_refused_in_a_good_answer_is_none() -> None:
    """amp-labs/connectors#1862 (2025-07): an answer holds an outcome for each channel, whatever its
    status."""
    failed = {"watch": [{"code": "INVALID_DATA", "details": {}, "status": "error"}]}
    _, none = answered(create(wanted()), response(failed, 207))
    assert "INVALID_DATA" in none.reason
    _, made = answered(create(wanted()), response({"watch": [WATCHED]}, 201))
    with pytest.raises(CheckpointExpiredError):
        answered(renew(wanted(), made), response(failed, 400))
