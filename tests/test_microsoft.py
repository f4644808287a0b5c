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
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
)
from connectors._microsoft import (
    DELTA,
    GRAPH,
    NEXT,
    auth,
    classify,
    delta_of_each,
    delta_stream,
    explain,
    listing,
    me,
)
from connectors._oauth import OAuthApp, authorize_url, settings_in
from connectors._paging import Read
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
    rules = replace(AUTH, instead=instead)
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
    error = explain(answer)
    assert isinstance(error, BrokenConnectionError)
    assert words in str(error)
    assert "canary" not in str(error)


def test_a_number_that_is_not_known_leaves_the_default() -> None:
    assert explain({"error": "invalid_grant", "error_codes": [1]}) is None
    assert explain({"error": "access_denied"}) is None
    assert explain({"error": "access_denied", "error_description": "see AADSTS90094"}) is None


def test_temporarily_unavailable_passes_by_itself() -> None:
    assert isinstance(explain({"error": "temporarily_unavailable"}), ProviderUnavailableError)


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
        (refused(404, "MailboxNotEnabledForRESTAPI"), BrokenConnectionError),
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


class Folders:
    """Deltas of folders: each answers a page of two, then one that ends."""

    def __init__(self, *folders: str) -> None:
        self.folders = list(folders)
        self.refused: dict[str, Response] = {}
        self.round = 0
        self.asked: list[str] = []

    def parents(self, context: Context) -> Any:
        yield Request.get("/folders")
        return self.folders

    def __call__(self, request: Request) -> Response:
        self.asked.append(request.path.removeprefix(GRAPH))
        if request.path == "/folders":
            return response({"value": []})
        path = request.path.removeprefix(GRAPH)
        folder = path.split("/")[2]
        if folder in self.refused:
            return self.refused[folder]
        link = f"{GRAPH}/folders/{folder}/delta"
        if "$skiptoken" in path:
            body = {"value": [{"id": "c"}], DELTA: f"{link}?$deltatoken={self.round}"}
        elif "$deltatoken" in path:
            gone = {"id": "a", "@removed": {"reason": "deleted"}}
            body = {"value": [gone], DELTA: f"{link}?$deltatoken={self.round}"}
        else:
            body = {"value": [{"id": "a"}, {"id": "b"}], NEXT: f"{link}?$skiptoken=1"}
        return response(body)

    def stream(self, **options: Any) -> Read:
        return delta_of_each(
            self.parents,
            lambda folder: Request.get(f"/folders/{folder}/delta"),
            key=lambda folder, id: f"{folder}/{id}",
            shape=lambda folder, row: {**row, "folder_id": folder},
            prefix=lambda folder: f"{folder}/",
            **options,
        )


def keys(pages: list[Page]) -> list[str]:
    return [f"{row['folder_id']}/{row['id']}" for page in pages for row in page.records]


def test_the_delta_of_each_parent_is_read_and_followed() -> None:
    folders = Folders("x", "y")
    pages = drive(folders.stream(), folders)
    assert keys(pages) == ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c"]
    kept = pages[-1].checkpoint
    assert set(kept) == {"links"}
    again = drive(folders.stream(), folders, kept)
    assert [id for page in again for id in page.deleted] == ["x/a", "y/a"]


def test_a_round_goes_on_from_each_of_its_checkpoints() -> None:
    first = drive(Folders("x", "y").stream(), Folders("x", "y"))[-1].checkpoint
    for kept in (Checkpoint(), first):
        folders = Folders("x", "y")
        whole = drive(folders.stream(), folders, kept)
        for stop in range(1, len(whole)):
            folders = Folders("x", "y")
            rest = drive(folders.stream(), folders, whole[stop - 1].checkpoint)
            assert keys(rest) == keys(whole[stop:])
            assert rest[-1].checkpoint == whole[-1].checkpoint
            assert "/folders" not in folders.asked


def test_a_parent_that_is_gone_takes_what_was_read_of_it_along() -> None:
    folders = Folders("x", "y", "z")
    kept = drive(folders.stream(), folders)[-1].checkpoint
    folders.folders.remove("z")
    folders.refused["y"] = refused(404, "ErrorItemNotFound")
    pages = drive(folders.stream(), folders, kept)
    assert [whole.prefix for page in pages for whole in page.whole] == ["z/", "y/"]
    assert set(pages[-1].checkpoint["links"]) == {"x"}


def test_a_parent_that_may_not_be_read_leaves_the_others_going() -> None:
    folders = Folders("x", "y")
    folders.refused["x"] = refused(403, "Forbidden")
    pages = drive(folders.stream(), folders)
    assert keys(pages) == ["y/a", "y/b", "y/c"]


def test_a_parents_link_that_lapsed_starts_the_stream_over_or_that_parent_alone() -> None:
    folders = Folders("x", "y")
    kept = drive(folders.stream(), folders)[-1].checkpoint

    def lapsed(request: Request) -> Response:
        if "/folders/x/delta?$deltatoken" in request.path:
            return refused(404, "syncStateNotFound")
        return folders(request)

    with pytest.raises(CheckpointExpiredError):
        drive(folders.stream(), lapsed, kept)
    pages = drive(folders.stream(alone=True), lapsed, kept)
    assert keys(pages) == ["x/a", "x/b", "x/c"]
    assert set(pages[-1].checkpoint["links"]) == {"x", "y"}
