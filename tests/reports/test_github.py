"""What people reported of programs that read GitHub, played on our readers, hooks and tokens.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import json
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Context,
    Delivery,
    Event,
    MadeWatch,
    NotAllowedError,
    RateLimitedError,
    Record,
    Request,
    Response,
    WatchRequest,
)
from connectors.kernel.oauth import OAuthApp, refresh
from tests._driving import NOW, drive, held, response
from tests._github import DAY, GITHUB, Account, ago, commit, numbered, refusal, repo
from tests._judging import judged
from tests._vendor import Answer as Played
from tests.reports._following import Followed
from tests.reports._line import line

HOUR = timedelta(hours=1)


def following(stream: str, account: Account) -> Followed:
    return Followed(GITHUB, GITHUB.stream(stream), account)


def told(event: str, body: Record, hook: str = "41", guid: str = "g-1") -> list[Event]:
    headers = {"x-github-event": event, "x-github-delivery": guid, "x-github-hook-id": hook}
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers=headers, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip
    assert GITHUB.webhook
    return list(GITHUB.webhook.events(delivery))


# -- Repositories that are not like others --------------------------------------------------------


def test_a_repository_without_commits_leaves_the_others_read() -> None:
    """PostHog/posthog#64013 (2026-06), airbytehq/airbyte#61742 (2025-06): of a repository without
    commits GitHub answers 409, and the whole import died of it. Right: that is no error."""
    account = Account([repo(1), repo(2)], {"/repositories/2/commits": [commit("a")]})
    account.special = lambda request: (
        refusal(409, "Git Repository is empty.")
        if request.path.startswith("/repositories/1/")
        else None
    )
    found = following("commits", account).sync()
    assert found.error is None
    assert found.rows.keys() == {"2/a"}
    assert not found.at.get("failed")


def test_issues_that_were_switched_off_stay_and_are_not_asked_for() -> None:
    """dust-tt/dust#10314 (2025-01), golang/go#35299 (2019-11): where issues are switched off GitHub
    answers 410, and the reader asked on and on. Right: it is not asked; what was read stays."""
    account = Account([repo(1), repo(2)])
    for id in (1, 2):
        account.rows[f"/repositories/{id}/issues"] = [numbered(1, DAY)]
    found = following("issues", account).sync()
    assert found.rows.keys() == {"1/1", "2/1"}
    account.repos[0] = repo(1, has_issues=False)
    account.asked.clear()
    found.sync()
    found.at = {}
    pages = drive(found.stream.read, account.client)
    assert pages[-1].unseen == ["1/"]
    assert found.rows.keys() == {"1/1", "2/1"}
    assert "/repositories/1/issues" not in account.paths()


def test_an_organization_that_wants_a_sign_in_leaves_the_others_read() -> None:
    """RayLabsHQ/gitea-mirror#218 (2026-03): one organisation with SAML answered 403, and nothing at
    all was imported. Right: its repository is named with the remedy, the other is read."""
    account = Account([repo(1), repo(2)], {"/repositories/2/issues": [numbered(1, DAY)]})
    account.special = lambda request: (
        refusal(
            403, "Resource protected", x_github_sso="required; url=https://github.com/orgs/a/sso"
        )
        if request.path == "/repositories/1/issues"
        else None
    )
    found = following("issues", account).sync()
    assert found.error is None
    assert found.rows.keys() == {"2/1"}
    assert found.at["failed"]["1"]["kind"] == "NotAllowedError"
    assert "sign in there" in found.at["failed"]["1"]["error"]


def test_lists_that_leave_an_organization_out_delete_nothing() -> None:
    """Reviewable/Reviewable#804 (2021-01): a token sees nothing of organisations with SAML that the
    person was not signed in to when it was made. GitHub's lists leave them out, and a header says
    so. Right: nothing that is left out is gone."""
    account = Account([repo(1), repo(2)])
    found = following("repositories", account).sync()
    assert found.rows.keys() == {"1", "2"}
    account.special = lambda request: response(
        [repo(1)], 200, {"x-github-sso": "partial-results; organizations=7"}
    )
    found.sync()
    assert found.rows.keys() == {"1", "2"}


def test_a_repository_that_is_renamed_stays_the_same() -> None:
    """airbytehq/airbyte#28006 (2023-07), node-gh/gh#579 (2018-10): a repository was renamed, its
    former name was redirected or not found, and the sync failed. Right: it is known by its number,
    nothing is read anew, and no request names it by a name."""
    account = Account([repo(1)], {"/repositories/1/issues": [numbered(1, DAY)]})
    found = following("issues", account).sync()
    account.repos = [repo(1, full_name="other/name")]
    account.asked.clear()
    found.sync()
    assert found.rows.keys() == {"1/1"}
    assert account.paths() == ["/user/repos", "/repositories/1/issues"]


# -- Pages that shift while they are read ---------------------------------------------------------


def test_an_issue_that_is_touched_during_a_read_costs_no_other() -> None:
    """spiceai/spiceai#12067 (2026-07): pages were counted in an order by change time; a row that
    was touched meanwhile moved, and one was never fetched. Right: all are there at the end."""
    issues = [numbered(n, timedelta(days=400) - n * HOUR) for n in range(1, 251)]
    account = Account([repo(1)], {"/repositories/1/issues": issues})

    def touch(request: Request) -> Response | None:
        if account.paths().count("/repositories/1/issues") == 2:
            issues[0] = numbered(1, timedelta())
        return None

    account.special = touch
    pages = drive(GITHUB.stream("issues").read, account.client)
    assert len(held(GITHUB.stream("issues"), pages)) == 250


def test_a_repository_that_a_shifted_page_left_out_is_asked_for() -> None:
    """constructorfabric/insight#3376 (2026-09), sourcegraph/sourcegraph-public-snapshot#5874
    (2019-10): a repository was pushed to while repositories were listed, and another one fell
    between the pages; it was even deleted. Right: it is asked for by itself, and stays."""
    account = Account([repo(1), repo(2)])
    for id in (1, 2):
        account.rows[f"/repositories/{id}/issues"] = [numbered(1, DAY)]
    found = following("issues", account).sync()
    account.special = lambda request: response([repo(1)]) if request.path == "/user/repos" else None
    found.sync()
    assert found.rows.keys() == {"1/1", "2/1"}


# -- What is no issue, and what changes without saying so -----------------------------------------


def test_pull_requests_are_no_issues() -> None:
    """databricks/spark-pr-dashboard#62 (2015-12): pull requests were followed by the list of
    issues, which has them in it and does not tell of review comments. Right: each comes from its
    own list; a page of issues that has nothing else is not the end."""
    rows = [numbered(n, 300 * DAY - n * HOUR, pull_request={"url": "u"}) for n in range(1, 121)]
    account = Account([repo(1)], {"/repositories/1/issues": [*rows, numbered(121, DAY)]})
    pages = drive(GITHUB.stream("issues").read, account.client)
    assert held(GITHUB.stream("issues"), pages).keys() == {"1/121"}


def test_a_review_without_a_time_and_one_that_was_dismissed_are_found() -> None:
    """airbytehq/airbyte#11623 (2022-03): reviews were followed by submitted_at, which a pending one
    does not have and a dismissal does not change. Right: both are found by their pull request."""
    pulls, reviews = "/repositories/1/pulls", "/repositories/1/pulls/5/reviews"
    about = {"pull_request_url": "https://api.github.com/repos/acme/r1/pulls/5"}
    account = Account([repo(1)])
    account.rows[pulls] = [numbered(5, 3 * DAY)]
    account.rows[reviews] = [{"id": 9, "state": "APPROVED", "submitted_at": ago(3 * DAY), **about}]
    found = following("reviews", account).sync()
    assert found.rows["1/5/9"]["state"] == "APPROVED"
    account.rows[pulls] = [numbered(5, timedelta())]
    account.rows[reviews] = [
        {"id": 9, "state": "DISMISSED", "submitted_at": ago(3 * DAY), **about},
        {"id": 10, "state": "PENDING", **about},
    ]
    found.sync()
    assert {key: row["state"] for key, row in found.rows.items()} == {
        "1/5/9": "DISMISSED",
        "1/5/10": "PENDING",
    }


def test_a_poll_reads_only_the_pull_requests_that_changed() -> None:
    """singer-io/tap-github#49 (2019-01): there is no `since` for pull requests, and each run
    fetched them all. Right: it ends where what is known begins; with nothing new it is one call
    that is not counted."""
    rows = [numbered(n, 500 * DAY - n * HOUR) for n in range(300, 0, -1)]
    account = Account([repo(1)], {"/repositories/1/pulls": rows})
    found = following("pull_requests", account).sync()
    assert len(found.rows) == 300
    rows.insert(0, numbered(301, timedelta()))
    account.asked.clear()
    found.sync()
    assert len(found.rows) == 301
    assert account.paths().count("/repositories/1/pulls") == 1


def test_commits_that_are_merged_long_after_they_were_made_are_found() -> None:
    """danielmiessler/LifeOS#1990 (2026-08): commits were asked for since the last poll, by their
    own dates; of a branch that was merged later none ever came. Right: what the branch leads to
    counts."""
    account = Account([repo(1)], {"/repositories/1/commits": [commit("a")]})
    found = following("commits", account).sync()
    old, merge = commit("b", time=60 * DAY), commit("m", "a", "b", time=HOUR)
    account.rows["/repositories/1/commits"] = [merge, commit("a"), old]
    account.special = lambda request: (
        response({"commits": [old, merge], "behind_by": 0})
        if request.path == "/repositories/1/compare/a...m"
        else None
    )
    found.sync()
    assert found.rows.keys() == {"1/a", "1/b", "1/m"}


def test_a_commit_whose_clock_is_ahead_silences_nothing() -> None:
    """constructorfabric/insight#3356 (2026-09): a commit with a date in the future became the
    cursor, and no commit came any more. Right: those after it are found."""
    ahead = commit("future", time=-400 * DAY)
    account = Account([repo(1)], {"/repositories/1/commits": [ahead]})
    found = following("commits", account).sync()
    account.rows["/repositories/1/commits"] = [ahead, commit("next", "future")]
    account.rows["/repositories/1/commits"].reverse()
    account.special = lambda request: (
        response({"commits": [commit("next", "future")], "behind_by": 0})
        if "compare" in request.path
        else None
    )
    found.sync()
    assert found.rows.keys() == {"1/future", "1/next"}


def test_commits_and_comments_of_people_who_are_gone_are_kept() -> None:
    """dogsheep/github-to-sqlite#18 (2020-03), norrietaylor/distillery#602 (2026-06): the author is
    null where GitHub does not know the person, and the sync failed. Right: the rows are there."""
    account = Account([repo(1)], {"/repositories/1/commits": [commit("a")]})
    account.rows["/repositories/1/issues/comments"] = [{**numbered(1, DAY), "user": None}]
    assert following("commits", account).sync().rows.keys() == {"1/a"}
    assert following("issue_comments", account).sync().rows.keys() == {"1/1001"}


def test_more_runs_than_a_search_shows_are_all_read() -> None:
    """epam/dm.ai#238 (2026-05): of workflow runs a search shows a thousand, and history ended
    there. Right: the older ones are asked for by their time."""
    runs = [
        {"id": n, "status": "completed", "created_at": ago(n * timedelta(minutes=1) + DAY),
         "updated_at": ago(DAY)}
        for n in range(1, 1251)
    ]  # fmt: skip
    account = Account([repo(1)])

    def searched(request: Request) -> Response | None:
        if request.path != "/repositories/1/actions/runs":
            return None
        until = str(request.params.get("created", "<=9")).removeprefix("<=")
        return account.page(request, [r for r in runs if str(r["created_at"]) <= until][:1000],
                            "workflow_runs")  # fmt: skip

    account.special = searched
    found = following("workflow_runs", account).sync()
    assert len(found.rows) == 1250
    account.asked.clear()
    found.sync()
    assert account.paths().count("/repositories/1/actions/runs") == 1


# -- Who must act ---------------------------------------------------------------------------------


def test_a_limit_on_bursts_that_only_its_text_tells_is_waited_for() -> None:
    """hub4j/github-api#2009 (2025-01), #1805 (2024-03): a 403 without any header was taken for a
    missing right; its text asks to wait. Right: it is waited for, a minute at least."""
    answer = refusal(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
    error = judged(GITHUB, answer)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(minutes=1)


def test_a_limit_on_bursts_is_no_missing_right() -> None:
    """agnivo988/Repo-lyzer#469 (2026-06): a 403 with Retry-After, while the hourly limit was not
    reached, was shown as forbidden. Right: wait; a 403 with none of it is a right that lacks."""
    limited = refusal(403, "wait", retry_after="30", x_ratelimit_remaining="4000")
    assert isinstance(judged(GITHUB, limited), RateLimitedError)
    refused = refusal(403, "Resource not accessible by integration", x_ratelimit_remaining="4000")
    assert isinstance(judged(GITHUB, refused), NotAllowedError)


def test_an_hourly_limit_is_waited_for_to_its_end() -> None:
    """airbytehq/airbyte#5669 (2021-08): syncs used up all that a token may ask in an hour.
    Right: it is waited for until GitHub says that it begins anew."""
    reset = str(int((NOW + timedelta(minutes=40)).timestamp()))
    answer = refusal(403, "API rate limit exceeded", x_ratelimit_remaining="0",
                     x_ratelimit_reset=reset)  # fmt: skip
    error = judged(GITHUB, answer)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(minutes=40)


async def test_a_refresh_that_is_refused_with_200_asks_to_reconnect() -> None:
    """getsentry/junior#620 (2026-06), langchain-ai/open-swe#1491 (2026-06): GitHub refuses a dead
    refresh token with HTTP 200, and the tool crashed or went on with a dead one. Right: the tenant
    has to connect again, and a word in it says so."""
    refused = Played(200, {"error": "bad_refresh_token", "error_description": "no longer valid"})
    app = OAuthApp("id", "secret", "https://atom.test/callback")
    async with line(GITHUB, "1", refused) as at:
        with pytest.raises(BrokenConnectionError, match="bad_refresh_token"):
            await refresh(
                GITHUB, app, refresh_token="dead", account_id="1",
                transport=at.transport, budget=at.budget,
            )  # fmt: skip


async def test_tokens_are_asked_for_as_json() -> None:
    """matrix-org/matrix-hookshot#307 (2022-04): without an Accept header the answer is a form, and
    empty tokens were stored. Right: JSON is asked for, and the new pair is read."""
    pair = {"access_token": "new", "refresh_token": "next", "expires_in": 28800, "scope": ""}
    app = OAuthApp("id", "secret", "https://atom.test/callback")
    async with line(GITHUB, "1", Played(200, pair)) as at:
        tokens = await refresh(
            GITHUB, app, refresh_token="old", account_id="1",
            transport=at.transport, budget=at.budget,
        )  # fmt: skip
        assert (tokens.access_token, tokens.refresh_token) == ("new", "next")
        assert at.vendor.calls[-1].headers["accept"] == "application/json"


# -- Hooks ----------------------------------------------------------------------------------------

COMMENTED = {
    "action": "deleted",
    "issue": {"number": 3},
    "comment": {"id": 8},
    "repository": {"id": 1},
    "sender": {"id": 5},
}


def test_one_event_that_two_hooks_are_told_counts_for_each() -> None:
    """github/docs#32822 (2024-05): the delivery's id is that of the event, and two hooks have the
    same; where that alone was looked at, the second was dropped. Right: each hook's counts, and a
    second delivery to one hook does not."""
    first, other = told("issue_comment", COMMENTED), told("issue_comment", COMMENTED, hook="42")
    again = told("issue_comment", COMMENTED)
    assert not {event.id for event in first} & {event.id for event in other}
    assert [event.id for event in first] == [event.id for event in again]


def wanted(id: str = "w1") -> WatchRequest:
    return WatchRequest(
        id=id, resource="repositories/1", address="https://atom.test/hook",
        secret="s", lifetime=DAY, context=Context(now=NOW, account_id="5"),
    )  # fmt: skip


def run(steps: Any, answer: Any) -> Any:
    """What watch steps come to, and each request with its answer."""
    sent: Response | None = None
    while True:
        try:
            request = steps.send(sent)
        except StopIteration as done:
            return done.value
        sent = answer(request)


def test_two_hooks_of_two_tenants_on_one_repository_do_not_collide() -> None:
    """readthedocs/readthedocs.org#2561 (2016-12): a second hook with the same address is refused
    (422, already exists). Right: each hook has an address of its own."""
    addresses: list[str] = []

    def answer(request: Request) -> Response:
        addresses.append(request.json["config"]["url"])
        return response({"id": 41, "active": True}, 201)

    assert GITHUB.watch
    for id in ("w1", "w2"):
        run(GITHUB.watch.create(wanted(id)), answer)
    assert len(set(addresses)) == 2


def test_deliveries_that_failed_while_we_were_away_are_asked_for_again() -> None:
    """bytedance/deer-flow#4274 (2026-07): GitHub never delivers again by itself; what failed was
    lost. Right: each event of which no delivery succeeded is asked for once, the others are not."""
    deliveries = [
        {"id": 4, "guid": "c", "status_code": 502},
        {"id": 3, "guid": "b", "status_code": 200},
        {"id": 2, "guid": "b", "status_code": 502},
        {"id": 1, "guid": "a", "status_code": 202},
    ]
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(f"{request.method} {request.path}")
        if request.path.endswith("/deliveries"):
            return response(deliveries)
        return response({"id": 41, "active": True})

    assert GITHUB.watch
    assert GITHUB.watch.renew
    state = {"resource": "repositories/1"}
    run(
        GITHUB.watch.renew(wanted(), MadeWatch(vendor_id="41", expires_at=None, state=state)),
        answer,
    )
    attempts = [one for one in asked if one.startswith("POST")]
    assert attempts == ["POST /repositories/1/hooks/41/deliveries/4/attempts"]
