"""What Microsoft's integrations share: who has to act on a refusal, deltas, Graph's errors."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
)
from connectors._microsoft import (
    DELTA,
    NEXT,
    auth,
    classify,
    error_from,
    listing,
    me,
)
from connectors._microsoft.deltas import delta_stream
from connectors.kernel.oauth import OAuthApp, authorize_url, settings_in
from tests._driving import drive, response

AUTH = auth({"Files.Read": "files"})
APP = OAuthApp("id", "secret", "https://atom.test/back", {"MICROSOFT_TENANT_ID": "common"})
LINK = "https://graph.microsoft.com/v1.0/things/delta"
READ = delta_stream(Request.get("/things/delta", params={"$top": 2}))


def page(*rows: dict[str, Any], next: str = "", delta: str = "") -> Response:
    body: dict[str, Any] = {"value": list(rows)}
    if next:
        body[NEXT] = f"{LINK}?$skiptoken={next}"
    if delta:
        body[DELTA] = f"{LINK}?$deltatoken={delta}"
    return response(body)


def refused(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    return response({"error": {"code": code, "message": "canary"}}, status, headers)


class Graph:
    """Answers in their order, and what was asked."""

    def __init__(self, *answers: Response) -> None:
        self.answers: Iterator[Response] = iter(answers)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        return next(self.answers)


@pytest.mark.parametrize(
    ("given", "instead", "directory"),
    [
        ("common", {}, "common"),
        ("8eaef023-2b34-4da1-9baa-8bc8c9d6a490", {}, "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"),
        ("common", {"common": "organizations"}, "organizations"),
        ("contoso.example", {"common": "organizations"}, "contoso.example"),
        ("a/../b", {}, "a%2F..%2Fb"),
    ],
)
def test_the_operators_directory_stands_in_the_address_of_the_consent(
    given: str, instead: dict[str, str], directory: str
) -> None:
    rules = replace(AUTH, url_overrides=instead)
    app = replace(APP, settings={"MICROSOFT_TENANT_ID": given})
    assert settings_in(rules) == ("MICROSOFT_TENANT_ID",)
    url = urlsplit(authorize_url(rules, app, state="s"))
    assert (url.netloc, url.path) == (
        "login.microsoftonline.com",
        f"/{directory}/oauth2/v2.0/authorize",
    )
    assert "response_mode=query" in url.query
    assert "offline_access" in url.query


@pytest.mark.parametrize("form", ["callback", "body"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (65001, "allow our app first"),
        (90094, "an administrator of the organisation has to allow"),
        (700082, "not used for too long"),
        (50173, "password"),
        (50076, "second factor"),
        (50057, "disabled"),
    ],
)
def test_who_has_to_act_on_a_refusal_is_told_by_its_number(
    form: str, number: int, words: str
) -> None:
    answer: dict[str, Any] = {"error": "invalid_grant", "error_codes": [number]}
    if form == "callback":
        answer = {"error": "access_denied", "error_description": f"AADSTS{number}: canary"}
    error = error_from(answer)
    assert isinstance(error, BrokenConnectionError)
    assert words in str(error)
    assert "canary" not in str(error)


def test_a_number_that_is_not_known_leaves_the_default() -> None:
    assert error_from({"error": "invalid_grant", "error_codes": [1]}) is None
    assert error_from({"error": "access_denied"}) is None
    assert error_from({"error": "access_denied", "error_description": "see AADSTS90094"}) is None


def test_temporarily_unavailable_passes_by_itself() -> None:
    assert isinstance(error_from({"error": "temporarily_unavailable"}), ProviderUnavailableError)


def test_a_delta_is_followed_to_its_end_and_from_there_on() -> None:
    graph = Graph(page({"id": "1"}, next="a"), page(next="b"), page({"id": "2"}, delta="c"))
    pages = drive(READ, graph)
    assert [list(one.records) for one in pages] == [[{"id": "1"}], [], [{"id": "2"}]]
    assert pages[-1].checkpoint == {"link": f"{LINK}?$deltatoken=c"}
    again = Graph(page({"id": "2", "@removed": {"reason": "deleted"}}, delta="d"))
    (last,) = drive(READ, again, pages[-1].checkpoint)
    assert (list(last.records), last.deleted) == ([], ["2"])
    # A link is used as it came: options are in its token.
    assert (again.asked[0].path, again.asked[0].params) == (f"{LINK}?$deltatoken=c", {})


def test_the_last_occurrence_of_an_item_wins() -> None:
    gone = {"id": "1", "@removed": {"reason": "changed"}}
    (one,) = drive(READ, Graph(page(gone, {"id": "2"}, {"id": "1", "n": 2}, delta="a")))
    assert (list(one.records), one.deleted) == ([{"id": "2"}, {"id": "1", "n": 2}], [])
    (one,) = drive(READ, Graph(page({"id": "1"}, {"id": "2"}, gone, delta="a")))
    assert (list(one.records), one.deleted) == ([{"id": "2"}], ["1"])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (410, "resyncRequired"),
        (410, ""),
        (410, "resyncChangesApplyDifferences"),
        (410, "resyncChangesUploadDifferences"),
        (400, "syncStateNotFound"),
        (404, "SyncStateNotFound"),
        (409, "SYNCSTATEINVALID"),
        (400, "badRequest"),
    ],
)
def test_a_link_that_graph_no_longer_knows_starts_the_stream_over(status: int, code: str) -> None:
    with pytest.raises(CheckpointExpiredError):
        drive(READ, Graph(refused(status, code)), {"link": f"{LINK}?token=old"})


def test_a_conflict_that_is_no_lapse_is_no_empty_page() -> None:
    with pytest.raises(ContractError):
        drive(READ, Graph(refused(409, "conflict")), {"link": LINK})


def test_an_answer_that_neither_ends_nor_leads_on_is_not_complete() -> None:
    with pytest.raises(KeyError):
        drive(READ, Graph(page({"id": "1"})))
    with pytest.raises(KeyError):
        drive(READ, Graph(response({DELTA: LINK})))


def test_a_next_link_that_leads_nowhere_is_no_endless_loop() -> None:
    with pytest.raises(ContractError):
        drive(READ, Graph(page(next="a"), page(next="a")))


def test_a_collection_is_read_over_empty_pages_to_its_end() -> None:
    read = listing(Request.get("/things"))
    pages = drive(read, Graph(page({"id": "1"}, next="a"), page(next="b"), page({"id": "2"})))
    assert [list(one.records) for one in pages] == [[{"id": "1"}], [], [{"id": "2"}]]
    assert pages[-1].checkpoint == {}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refused(429, "TooManyRequests"), RateLimitedError),
        (refused(503, "x", {"retry-after": "3"}), RateLimitedError),
        (refused(503, "activityLimitReached"), RateLimitedError),
        (refused(503, "serviceNotAvailable"), type(None)),
        (refused(404, "MailboxNotEnabledForRESTAPI"), NotAllowedError),
        (refused(401, "generalException"), ProviderUnavailableError),
        (refused(403, "ErrorQuotaExceeded"), NotAllowedError),
        (refused(403, "ErrorAccessDenied"), NotAllowedError),
        (refused(401, "InvalidAuthenticationToken"), type(None)),
        (response([], 500), type(None)),
        (response({"error": "canary"}, 400), type(None)),
        (page(), type(None)),
    ],
)
def test_an_error_is_read_by_its_code(answer: Response, expected: type) -> None:
    assert isinstance(classify("OneDrive")(answer), expected)


def test_a_missing_licence_is_told_from_a_permission_taken_back() -> None:
    licence = classify("Outlook")(refused(404, "MailboxNotEnabledForRESTAPI"))
    assert isinstance(licence, NotAllowedError), "no reconnect gives one"
    assert licence.may_pass
    permission = classify("Outlook")(refused(403, "ErrorAccessDenied"))
    assert "licence" in str(licence)
    assert "permission" in str(permission)


def test_an_account_is_named_with_its_directory() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"tid": "directory"}).encode()).decode()
    steps = me({"id_token": f"head.{claims.rstrip('=')}.signature"}, {})
    asked = next(steps)
    assert asked.path == "/me"
    with pytest.raises(StopIteration) as stop:
        steps.send(response({"id": "oid", "mail": None, "userPrincipalName": "a@b.example"}))
    (account,) = stop.value.value
    assert (account.id, account.name) == ("oid", "a@b.example")
    assert account.config == {"tenant_id": "directory"}
