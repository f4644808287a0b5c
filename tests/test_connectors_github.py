"""GitHub's traps, each named by its test: readers over a played account, hooks, tokens."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Page,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    WatchRequest,
)
from connectors.kernel.signatures import hmac_signature
from connectors.kernel.webhooks import VerificationKeys
from tests._conformance import Bench
from tests._driving import NOW, drive, held, response
from tests._github import DAY, GITHUB, Account, ago, commit, numbered, refusal, repo
from tests._judging import judged
from tests.reports._following import Followed

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ISSUES, COMMITS = GITHUB.stream("issues"), GITHUB.stream("commits")
COMMENTED = {
    "action": "deleted", "issue": {"number": 3}, "comment": {"id": 8}, "repository": {"id": 1},
    "sender": {"id": 5},
}  # fmt: skip


def following(stream: str, account: Account) -> Followed:
    return Followed(GITHUB, GITHUB.stream(stream), account)


def delivery(event: str, body: Any, hook: str = "41") -> Delivery:
    headers = {"x-github-event": event, "x-github-delivery": "g-1", "x-github-hook-id": hook}
    return Delivery(
        method="POST", url="https://atom.test/hook", headers=headers, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip


def told(event: str, body: Any) -> list[Event]:
    assert GITHUB.webhook
    return list(GITHUB.webhook.events(delivery(event, body)))


def fetched(stream: str, keys: list[str], answer: Callable[[Request], Response]) -> list[Page]:
    fetch = GITHUB.stream(stream).fetch
    assert fetch
    return drive(lambda at, context: fetch(keys, context), answer)


# -- Pages that shift -----------------------------------------------------------------------------


def test_an_issue_that_is_deleted_during_a_read_costs_no_other() -> None:
    issues = [numbered(n, timedelta(days=400) - n * HOUR) for n in range(1, 251)]
    account = Account([repo(1)], {"/repositories/1/issues": issues})

    def remove(request: Request) -> Response | None:
        if account.paths().count("/repositories/1/issues") == 2 and len(issues) == 250:
            del issues[:5]
        return None

    account.special = remove
    assert len(held(ISSUES, drive(ISSUES.read, account.client))) == 250


def test_more_changes_in_one_second_than_a_page_holds_are_all_read() -> None:
    same = [numbered(n, DAY) for n in range(1, 231)]
    account = Account([repo(1)], {"/repositories/1/issues": [*same, numbered(999, HOUR)]})
    assert len(held(ISSUES, drive(ISSUES.read, account.client))) == 231


def test_a_second_review_in_one_second_is_found_although_its_pull_request_looks_the_same() -> None:
    pulls, reviews = "/repositories/1/pulls", "/repositories/1/pulls/5/reviews"
    about = {"pull_request_url": "https://api.github.com/repos/acme/r1/pulls/5"}
    account = Account([repo(1)], {pulls: [numbered(5, timedelta())]})
    account.rows[reviews] = [{"id": 9, **about}]
    found = following("reviews", account).sync()
    account.rows[reviews].append({"id": 10, **about})
    assert found.sync().rows.keys() == {"1/5/9", "1/5/10"}


# -- What a poll costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("issues", "/issues"),
        ("review_comments", "/pulls/comments"),
        ("pull_requests", "/pulls"),
        ("releases", "/releases"),
        ("commits", "/commits"),
    ],
)
def test_a_poll_with_nothing_new_asks_for_one_page_that_is_not_counted(
    stream: str, path: str
) -> None:
    row = commit("a") if stream == "commits" else numbered(1, 3 * DAY)
    account = Account([repo(1)], {f"/repositories/1{path}": [row]})
    found = following(stream, account).sync().sync(now=NOW + HOUR)
    before, answers = found.at, []
    account.asked.clear()
    account.special = lambda request: answers.append(request) or None  # type: ignore[func-returns-value]
    found.sync(now=NOW + 2 * HOUR)
    assert account.paths() == ["/user/repos", f"/repositories/1{path}"]
    assert answers[-1].headers.get("if-none-match")
    assert answers[-1].budget == "conditional"
    assert found.at == before


def test_what_is_stamped_half_an_hour_before_it_shows_is_found() -> None:
    account = Account([repo(1)], {"/repositories/1/issues": [numbered(1, 3 * DAY)]})
    found = following("issues", account).sync().sync()
    account.rows["/repositories/1/issues"].append(numbered(2, 30 * MINUTE))
    assert found.sync().rows.keys() == {"1/1", "1/2"}


def test_an_old_release_that_is_edited_shows_within_a_day() -> None:
    rows: list[Record] = [{"id": n, "body": "old"} for n in range(250)]
    account = Account([repo(1)], {"/repositories/1/releases": rows})
    found = following("releases", account).sync()
    rows[240] = {"id": 240, "body": "new"}
    assert found.sync(now=NOW + HOUR).rows["1/240"]["body"] == "old"
    assert found.sync(now=NOW + DAY).rows["1/240"]["body"] == "new"


def test_a_release_that_is_deleted_is_gone_at_once() -> None:
    rows: list[Record] = [{"id": n} for n in range(3)]
    account = Account([repo(1)], {"/repositories/1/releases": rows})
    found = following("releases", account).sync()
    del rows[1]
    assert found.sync().rows.keys() == {"1/0", "1/2"}


def test_a_run_that_is_going_on_below_the_first_page_is_followed() -> None:
    path = "/repositories/1/actions/runs"
    runs = [
        {"id": n, "status": "completed", "created_at": ago(n * HOUR), "updated_at": ago(DAY)}
        for n in range(1, 250)
    ]
    runs[150]["status"] = "in_progress"
    account = Account([repo(1)])

    def listed(request: Request) -> Response | None:
        if request.path != path:
            return None
        until = str(request.params.get("created", "<=9")).removeprefix("<=")
        rows = [run for run in runs if str(run["created_at"]) <= until]
        return account.page(request, rows, "workflow_runs")

    account.special = listed
    found = following("workflow_runs", account).sync()
    runs[150] = {**runs[150], "status": "completed", "updated_at": ago(timedelta())}
    assert found.sync().rows["1/151"]["status"] == "completed"


# -- Commits --------------------------------------------------------------------------------------


def pushed(account: Account, rows: list[Record], **compared: Response) -> None:
    """Where the branch stands from now on, and what comparisons answer, as `base___head`."""
    account.rows["/repositories/1/commits"] = rows
    answers = {name.replace("___", "..."): answer for name, answer in compared.items()}
    account.special = lambda request: answers.get(request.path.rpartition("/compare/")[2])


def test_a_force_push_takes_back_what_only_it_led_to() -> None:
    account = Account([repo(1)], {"/repositories/1/commits": [commit("b", "a"), commit("a")]})
    found = following("commits", account).sync()
    pushed(
        account, [commit("c", "a"), commit("a")],
        b___c=response({"commits": [commit("c", "a")], "behind_by": 1}),
        c___b=response({"commits": [commit("b", "a")], "behind_by": 1}),
    )  # fmt: skip
    assert found.sync().rows.keys() == {"1/a", "1/c"}


def test_a_commit_that_was_cleared_away_has_its_repository_read_anew() -> None:
    account = Account([repo(1)], {"/repositories/1/commits": [commit("b", "a"), commit("a")]})
    found = following("commits", account).sync()
    pushed(
        account, [commit("c", "a"), commit("a")],
        b___c=refusal(404, "Not Found"),
    )  # fmt: skip
    found.sync(2)
    assert found.error is None
    assert "1/c" in found.rows
    assert not found.at.get("failed")


def test_a_history_that_is_read_from_its_beginning_is_of_one_commit() -> None:
    rows = [commit(f"c{n}") for n in range(250)]
    account = Account([repo(1)], {"/repositories/1/commits": rows})
    pages = drive(COMMITS.read, account.client)
    assert len(held(COMMITS, pages)) == 250
    of_one = [given for path, given in account.asked if path.endswith("commits") and "sha" in given]
    assert {given["sha"] for given in of_one} == {"c0"}
    assert COMMITS.columns["author_name"].path == ("commit", "author", "name")


# -- What is not found ----------------------------------------------------------------------------


def test_what_is_not_found_in_a_repository_that_is_shown_is_deleted() -> None:
    account = Account([repo(1)])
    account.special = lambda request: (
        refusal(404, "Not Found") if request.path.endswith("/issues/comments/9") else None
    )
    (page,) = fetched("issue_comments", ["1/9"], account.client)
    assert (page.deleted, page.hidden) == (["1/9"], [])


def test_what_is_not_found_in_a_repository_that_is_not_shown_is_only_hidden() -> None:
    account = Account([repo(1)])
    (page,) = fetched("issue_comments", ["2/9"], account.client)
    assert (page.deleted, page.hidden) == ([], ["2/9"])


@pytest.mark.parametrize("status", [301, 410])
def test_an_issue_that_was_transferred_or_deleted_is_gone(status: int) -> None:
    account = Account([repo(1)])
    account.special = lambda request: (
        refusal(status, "elsewhere") if "issues" in request.path else None
    )
    (page,) = fetched("issues", ["1/3"], account.client)
    assert page.deleted == ["1/3"]


def test_a_pull_request_that_is_read_by_itself_is_the_row_that_lists_show() -> None:
    account = Account([repo(1)])
    single = {**numbered(5, DAY), "merged": True, "additions": 3, "changed_files": 1}
    account.special = lambda request: response(single) if "pulls" in request.path else None
    (page,) = fetched("pull_requests", ["1/5"], account.client)
    assert page.records == [{**numbered(5, DAY), "repository_id": 1}]


def test_one_that_is_refused_leaves_the_others_read_and_is_raised() -> None:
    account = Account([repo(1), repo(2)])
    account.special = lambda request: (
        refusal(403, "no") if request.path.startswith("/repositories/2/") else
        response({"id": 8}) if "comments" in request.path else None
    )  # fmt: skip
    pages: list[Page] = []
    fetch = GITHUB.stream("issue_comments").fetch
    assert fetch
    reader = fetch(["1/8", "2/9"], Context(now=NOW, account_id="5"))
    with pytest.raises(NotAllowedError):
        drive(lambda at, context: _noting(reader, pages), account.client)
    assert [row["id"] for page in pages for row in page.records] == [8]


def _noting(reader: Any, pages: list[Page]) -> Any:
    sent: Any = None
    while True:
        failed = isinstance(sent, ConnectorError)
        action = reader.throw(sent) if failed else reader.send(sent)
        if isinstance(action, Page):
            pages.append(action)
        try:
            sent = yield action
        except ConnectorError as error:
            sent = error


# -- Who must act ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {}, BrokenConnectionError),
        (403, {}, NotAllowedError),
        (404, {}, NotAllowedError),
        (451, {}, NotAllowedError),
        (429, {}, RateLimitedError),
        (403, {"x-ratelimit-remaining": "0"}, RateLimitedError),
        (422, {}, ContractError),
    ],
)
def test_a_status_says_who_must_act(
    status: int, headers: dict[str, str], error: type[ConnectorError]
) -> None:
    assert isinstance(judged(GITHUB, response({"message": "no"}, status, headers)), error)


def test_an_app_that_github_does_not_know_is_the_operators() -> None:
    error = GITHUB.oauth.error_from({"error": "incorrect_client_credentials"})
    assert isinstance(error, ContractError)
    assert "GITHUB_CLIENT_ID" in str(error)


# -- Hooks ----------------------------------------------------------------------------------------


def test_a_header_that_says_another_event_than_the_body_is_refused() -> None:
    deleted, issue = told("issue_comment", COMMENTED)
    assert (deleted.effect, deleted.streams, deleted.key) == (
        Effect.DELETED, ("issue_comments",), "1/8",
    )  # fmt: skip
    assert (issue.effect, issue.key, issue.watch_id) == (Effect.READ, "1/3", "41")
    with pytest.raises(SignatureError, match="another event"):
        told("issues", COMMENTED)


def test_a_star_that_is_taken_back_deletes_no_repository() -> None:
    star = {"action": "deleted", "starred_at": None, "repository": {"id": 1}, "sender": {"id": 5}}
    assert told("star", star) == []
    with pytest.raises(SignatureError):
        told("repository", star)


def test_a_repository_that_is_deleted_takes_everything_with_it() -> None:
    body = {"action": "deleted", "repository": {"id": 1}, "sender": {"id": 5}}
    first, *others = told("repository", body)
    assert (first.effect, first.streams, first.key) == (Effect.DELETED, ("repositories",), "1")
    assert {event.effect for event in others} == {Effect.EMPTIED}
    assert {event.key for event in others} == {"1/"}
    parts = {stream.name for stream in GITHUB.streams} - {"repositories", "organization_members"}
    assert {event.streams[0] for event in others} == parts


def test_only_pushes_to_the_default_branch_tell_of_commits() -> None:
    about = {"repository": {"id": 1, "default_branch": "main"}, "commits": [], "sender": {"id": 5}}
    (event,) = told("push", {**about, "ref": "refs/heads/main"})
    assert (event.effect, event.streams) == (Effect.HINT, ("commits",))
    assert told("push", {**about, "ref": "refs/heads/topic"}) == []


def of_the_app(event: str, body: Any) -> list[Event]:
    given = delivery(event, body)
    kind = {"x-github-hook-installation-target-type": "integration"}
    given = replace(given, headers={**given.headers, **kind})
    assert GITHUB.webhook
    return list(GITHUB.webhook.events(given))


def test_what_a_github_app_is_told_is_about_the_person_who_owns_or_did_it() -> None:
    sender = {"id": 5, "type": "User"}
    (gone,) = of_the_app("github_app_authorization", {"action": "revoked", "sender": sender})
    assert (gone.effect, gone.account_id, gone.watch_id) == (Effect.REVOKED, "5", "")
    installation = {"id": 77}
    (less,) = of_the_app(
        "installation",
        {"action": "suspend", "installation": installation, "repositories": [], "sender": sender},
    )
    assert (less.effect, less.account_id) == (Effect.HINT, "5")
    owned = {**COMMENTED, "repository": {"id": 1, "owner": {"id": 6, "type": "User"}}}
    assert {event.account_id for event in of_the_app("issue_comment", owned)} == {"6"}
    theirs = {**COMMENTED, "repository": {"id": 1, "owner": {"id": 7, "type": "Organization"}}}
    assert of_the_app("issue_comment", theirs) == []


def test_a_hook_cannot_tell_what_only_the_app_is_told() -> None:
    assert told("github_app_authorization", {"action": "revoked", "sender": {"id": 5}}) == []


@pytest.mark.parametrize("body", ["text", [1], None])
def test_what_nobody_has_proven_and_nobody_can_read_is_refused(body: Any) -> None:
    with pytest.raises(SignatureError):
        told("issues", body)


def test_an_app_delivery_is_proven_by_the_operators_secret_and_no_other() -> None:
    assert GITHUB.webhook
    assert GITHUB.webhook.verify
    given = delivery("issues", {})
    kind = {"x-github-hook-installation-target-type": "integration"}
    with pytest.raises(SignatureError):
        GITHUB.webhook.verify(
            replace(given, headers={**given.headers, **kind}), VerificationKeys(secrets=("s",))
        )


def test_a_ping_tells_nothing() -> None:
    assert told("ping", {"zen": "…", "hook_id": 41, "hook": {}}) == []


def test_the_published_example_of_a_signature_is_proven() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries (2026-11)"""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    proof = VerificationKeys(secrets=("It's a Secret to Everybody",))
    verify = hmac_signature("x-hub-signature-256", prefix="sha256=")
    given = Delivery(
        method="POST", url="u", headers={"x-hub-signature-256": f"sha256={digest}"}, query={},
        body=b"Hello, World!", received_at=NOW,
    )  # fmt: skip
    verify(given, proof)
    with pytest.raises(SignatureError):
        verify(given, VerificationKeys(secrets=("another",)))


def watched(steps: Any, answer: Callable[[Request], Response]) -> Any:
    sent: Response | None = None
    while True:
        try:
            request = steps.send(sent)
        except StopIteration as done:
            return done.value
        found = answer(request)
        error = judged(GITHUB, found)
        if error is not None and found.status not in request.expect:
            try:
                request = steps.throw(error)
            except StopIteration as done:
                return done.value
        sent = found


WANTED = WatchRequest(
    id="w1", resource="repositories/1", address="https://atom.test/hook", secret="s",
    lifetime=DAY, context=Context(now=NOW, account_id="5"),
)  # fmt: skip
MADE = MadeWatch(vendor_id="41", expires_at=None, state={"resource": "repositories/1"})


@pytest.mark.parametrize("status", [403, 404, 422])
def test_a_repository_that_one_does_not_administrate_is_polled(status: int) -> None:
    assert GITHUB.watch
    made = watched(GITHUB.watch.create(WANTED), lambda request: refusal(status, "no"))
    assert isinstance(made, NoWatch)


def test_a_hook_that_was_deleted_at_github_is_made_again_and_one_switched_off_is_not() -> None:
    assert GITHUB.watch
    assert GITHUB.watch.renew
    with pytest.raises(CheckpointExpiredError):
        watched(GITHUB.watch.renew(WANTED, MADE), lambda request: refusal(404, "Not Found"))
    off = response({"id": 41, "active": False})
    assert isinstance(watched(GITHUB.watch.renew(WANTED, MADE), lambda request: off), NoWatch)


# -- The sandbox's side ---------------------------------------------------------------------------


async def test_a_github_apps_token_is_refreshed_once_it_ends_and_its_pair_is_rotated(
    bench: Bench,
) -> None:
    account = bench.account(GITHUB, 5)
    bench.controls("/github/app", {"account": account, "expires": True})
    tried = await bench.connect(GITHUB, account=account)
    for refreshes in (1, 2):
        tried.order("tokens", op="expire")
        assert not await tried.follow(ISSUES)
        assert tried.refreshes() == refreshes
    tried.order("tokens", op="revoke")
    await tried.sync(ISSUES)
    assert tried.status() == "needs_reauth"


async def test_an_oauth_apps_token_never_ends(bench: Bench) -> None:
    tried = await bench.connect(GITHUB, size=5)
    bench.clock.advance(timedelta(days=400))
    assert not await tried.follow(ISSUES)
    assert tried.refreshes() == 0
