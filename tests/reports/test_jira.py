"""What people reported of programs that read Jira, played on our readers, webhook and watch.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import re
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ContractError,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Record,
    Request,
)
from connectors.kernel.oauth import OPERATOR_ERRORS
from tests._driving import NOW, held, response
from tests._judging import judged
from tests.reports._following import Followed
from tests.test_connectors_jira import (
    JIRA,
    Site,
    hook,
    issue,
    looked,
    rows,
    standing,
    steps,
    wanted,
    written,
)

TEN_MINUTES = timedelta(minutes=10)


# -- Searches --------------------------------------------------------------------------------------


def test_a_search_names_no_time_in_the_zone_of_a_person() -> None:
    """A cursor in UTC was put into the query as text, which Jira reads in the zone of the person
    who connected: with a zone west of Greenwich changes were skipped.

    airbytehq/airbyte#48492 (2024-11). Right: milliseconds, which no zone shifts.
    """
    site = Site()
    site.read("issues", looked(TEN_MINUTES))
    (query,) = site.queries()
    since = re.fullmatch(r"updated >= (\d{13}) ORDER BY created ASC", query)
    assert since
    assert int(since[1]) == (NOW - TEN_MINUTES - timedelta(minutes=5)).timestamp() * 1000


def test_an_issue_that_changes_all_the_time_is_read_like_any_other() -> None:
    """The window of a query ended some hours ago, and an issue that a timer touches every quarter
    of an hour never was in it.

    constructorfabric/insight#3447 (2026-09). Right: a look has no end.
    """
    site = Site()
    site.read("issues")
    site.read("issues", looked(TEN_MINUTES))
    assert not [query for query in site.queries() if "<" in query]


def test_all_pages_are_read_by_their_tokens() -> None:
    """Pages were counted by offset, which the newer search ignores: a sync ended after a hundred
    issues.

    open-webui/oikb#69 (2026-06). Right: the token leads from page to page.
    """
    site = Site(pages=[[issue(1), issue(2)], [issue(3)], [issue(4)]])
    assert rows("issues", site.read("issues")).keys() == {"1", "2", "3", "4"}


def test_a_page_that_calls_itself_the_last_and_names_another_is_not() -> None:
    """`isLast` is known to be wrong now and then; who stopped there lost issues without a word.

    simstudioai/sim#4410 (2026-05). Right: the listing ends where there is no token.
    """

    def answer(request: Request) -> Any:
        if "nextPageToken" in request.params:
            return {"issues": [issue(2)], "isLast": True}
        return {"issues": [issue(1)], "isLast": True, "nextPageToken": "more"}

    site = Site(answers={"/search/jql": answer})
    assert rows("issues", site.read("issues")).keys() == {"1", "2"}


def test_an_answer_without_token_and_without_a_last_page_ends_the_search() -> None:
    """An answer had neither `isLast` nor a token, and was asked for without end.

    shridhar-tl/jira-assistant#418 (2025-09). Right: no token, no page.
    """
    site = Site(answers={"/search/jql": {"issues": [issue(1)], "total": 1}})
    assert rows("issues", site.read("issues")).keys() == {"1"}
    assert len(site.queries()) == 1


def test_a_token_that_comes_again_is_noticed() -> None:
    """A search that repeats its token would have been followed for ever.

    prowler-cloud/prowler#12539 (2026-08). Right: it is an error of the listing.
    """
    site = Site(answers={"/search/jql": {"issues": [issue(1)], "nextPageToken": "same"}})
    with pytest.raises(ContractError):
        site.read("issues")


def test_a_page_without_issues_is_no_end() -> None:
    """A page without issues was taken for the end of the walk although it named a next one.

    yotamleo/Himmel#554 (2026-08). Right: it goes on while there is a token.
    """
    site = Site(pages=[[issue(1)], [], [issue(2)]])
    assert rows("issues", site.read("issues")).keys() == {"1", "2"}


def test_a_change_that_the_index_shows_eleven_hours_late_is_found() -> None:
    """Issues were missed though each sync went back by two hours: the index lagged behind longer.

    estuary/connectors#3486 (2025-11). Right: now and then a look goes back by half a day.
    """
    changed_at, shown_at = NOW, NOW + timedelta(hours=11)
    now = NOW

    def search(request: Request) -> Any:
        since = re.search(r"updated >= (\d+)", str(request.params["jql"]))
        after = since is None or int(since[1]) <= changed_at.timestamp() * 1000
        found = [issue(1, updated=changed_at)] if after and now >= shown_at else []
        date = {"date": format_datetime(now, usegmt=True)}
        return response({"issues": found, "isLast": True}, headers=date)

    followed = Followed(JIRA, JIRA.stream("issues"), Site(answers={"/search/jql": search}))
    for minutes in range(0, 13 * 60, 10):
        now = NOW + timedelta(minutes=minutes)
        followed.sync(now=now)
    assert followed.rows.keys() == {"1"}


def test_times_without_a_colon_in_their_offset_are_read() -> None:
    """Jira writes `+0000`, which parsers of RFC 3339 refuse; a whole page of issues was lost.

    deeplethe/utopia#135 (2026-08). Right: it is a time.
    """
    version = JIRA.stream("issues").version
    one, other = version(issue(1)), version(issue(1, updated=NOW + timedelta(seconds=1)))
    assert one is not None
    assert other is not None
    assert other - one == 1_000_000
    assert written(NOW).endswith("+0000")


# -- Issues that move, hide or are not there yet ---------------------------------------------------


def test_an_issue_that_is_moved_is_the_same_issue() -> None:
    """Tickets were known by their key: one that went to another project got a new key, and lost
    its links.

    getsentry/sentry#44454 (2023-02). Right: the id stays, the row is replaced.
    """
    before = rows("issues", Site(pages=[[issue(1)]]).read("issues"))
    moved = issue(1, updated=NOW + TEN_MINUTES) | {"key": "CD-9"}
    pages = Site(pages=[[moved]]).read("issues", looked(TEN_MINUTES))
    after = held(JIRA.stream("issues"), pages, before)
    assert [row["key"] for row in after.values()] == ["CD-9"]


def test_an_issue_that_was_just_made_is_asked_of_the_database_and_not_deleted() -> None:
    """A webhook told of a new issue, the search did not know it yet in one of five cases, and it
    was deleted instead of made.

    port-labs/ocean#2765 (2026-02). Right: it is read by its id; what is not shown is not deleted.
    """
    site = Site(answers={"/issue/bulkfetch": {"issues": [issue(1)], "issueErrors": []}})
    page = site.again("issues", "1", "2")
    assert [row["id"] for row in page.records] == ["1"]
    assert not page.deleted
    assert not site.queries()


def test_issues_of_archived_projects_are_not_taken_for_deleted() -> None:
    """What is deleted and what the account may not see any more look alike in every listing.

    constructorfabric/insight#2510 (2026-08). Right: where a listing cannot show everything,
    nothing counts as gone for not being in it.
    """
    archived = {"values": [{"id": "9", "archived": True}], "total": 1}
    *_, last = Site(answers={"/project/search": archived}).read("issues")
    assert last.unseen == [""]


# -- Worklogs and changes --------------------------------------------------------------------------


def feeds(updated: list[int], deleted: list[int], shown: list[Record]) -> Site:
    def feed(ids: list[int]) -> Record:
        values = [{"worklogId": id_, "updatedTime": 1} for id_ in ids]
        return {"values": values, "until": 1, "lastPage": True}

    return Site(answers={
        "/worklog/updated": feed(updated), "/worklog/deleted": feed(deleted),
        "/worklog/list": response(shown),
    })  # fmt: skip


def test_a_deleted_worklog_goes() -> None:
    """Time that was logged and deleted again stayed in the tables for good.

    airbytehq/airbyte#29796 (2023-08). Right: the feed of deletions is followed.
    """
    site = feeds([], [7], [])
    former = {"7": {"id": "7"}, "8": {"id": "8"}}
    pages = site.read("worklogs", looked(TEN_MINUTES))
    assert held(JIRA.stream("worklogs"), pages, former).keys() == {"8"}


def test_a_worklog_that_is_not_shown_now_is_not_deleted() -> None:
    """Worklogs that stand in Jira and in no feed of deletions were marked as deleted.

    constructorfabric/insight#3480 (2026-09). Right: only what the feed names is deleted.
    """
    site = feeds([7, 8], [], [{"id": "8"}])
    pages = site.read("worklogs", looked(TEN_MINUTES))
    assert held(JIRA.stream("worklogs"), pages, {"7": {"id": "7"}}).keys() == {"7", "8"}


def test_a_change_says_which_issue_it_is_of() -> None:
    """Rows of the changelog named no issue, so nothing could be joined; and of a page of issues
    only the last one's changes came.

    singer-io/tap-jira#10 (2018-01). Right: each has the issue's id.
    """

    def changes(id_: str) -> Record:
        return {"histories": [{"id": id_, "created": written(NOW), "items": []}], "total": 1}

    site = Site(pages=[[issue(1, changelog=changes("70")), issue(2, changelog=changes("71"))]])
    found = rows("changelogs", site.read("changelogs"))
    assert {key: row["issue_id"] for key, row in found.items()} == {"1/70": "1", "2/71": "2"}


# -- Boards and sprints ----------------------------------------------------------------------------


def of_boards(*boards: tuple[int, str], **sprints: Any) -> Site:
    listed = [{"id": id_, "type": type_, "name": "x"} for id_, type_ in boards]
    answers: dict[str, Any] = {"/board": {"values": listed, "total": len(listed)}}
    answers |= {f"/board/{name[1:]}/sprint": found for name, found in sprints.items()}
    return Site(answers=answers)


def sprint(*ids: int) -> Record:
    return {"values": [{"id": id_, "originBoardId": 1} for id_ in ids], "isLast": True}


def test_boards_of_team_managed_projects_have_sprints() -> None:
    """Only boards of the type scrum were asked for sprints: team-managed projects have `simple`
    ones, and theirs were missing.

    airbytehq/airbyte#25798 (2023-05). Right: all but kanban boards are asked.
    """
    site = of_boards((1, "scrum"), (2, "simple"), (3, "kanban"), _1=sprint(5), _2=sprint(6))
    assert rows("sprints", site.read("sprints")).keys() == {"1/5", "2/6"}


def test_a_board_without_sprints_ends_nothing() -> None:
    """A board whose sprints are switched off answers 400, which ended the whole sync.

    airbytehq/airbyte#26652 (2023-05). Right: it has none.
    """
    refused = response({"errorMessages": ["The board does not support sprints"]}, 400)
    site = of_boards((1, "simple"), (2, "scrum"), _1=refused, _2=sprint(6))
    pages = site.read("sprints")
    assert rows("sprints", pages).keys() == {"2/6"}
    assert not pages[-1].unread


def test_a_board_whose_columns_have_no_status_leaves_the_others_read() -> None:
    """Such a board answers 422 when its sprints are asked for, and failed the capture.

    estuary/connectors#4848 (2026-07). Right: it is named, and the others are read.
    """
    refused = response({"errorMessages": ["This board has no columns with a mapped status"]}, 422)
    site = of_boards((1, "scrum"), (2, "scrum"), _1=refused, _2=sprint(6))
    pages = site.read("sprints")
    assert rows("sprints", pages).keys() == {"2/6"}
    (unread,) = pages[-1].unread or ()
    assert (unread.part, type(unread.error)) == ("1", NotAllowedError)


def test_a_sprint_says_on_which_board_it_is_shown() -> None:
    """A sprint named the board that it was made on, which need not be one that shows it.

    airbytehq/airbyte#24981 (2023-04). Right: a row for each board that shows it.
    """
    site = of_boards((1, "scrum"), (2, "scrum"), _1=sprint(5), _2=sprint(5))
    found = rows("sprints", site.read("sprints"))
    assert {key: row["board_id"] for key, row in found.items()} == {"1/5": 1, "2/5": 2}


# -- Who must act ----------------------------------------------------------------------------------


def test_a_list_that_the_person_may_not_see_ends_no_connection() -> None:
    """Some lists need rights that not everybody has; where one was refused, nothing was read.

    estuary/connectors#3040 (2025-07). Right: that stream waits for the administrator.
    """
    assert isinstance(judged(JIRA, response({}, 403)), NotAllowedError)


def test_a_scope_that_is_missing_is_no_token_that_ended() -> None:
    """Atlassian's gateway refuses a call whose scope was not granted with 401, as it does a token
    that has ended: renewing it or asking for the account again mends nothing.

    raycast/extensions#11212 (2024-03). Right: the stream lacks a right, the rest goes on.
    """
    refused = response({"code": 401, "message": "Unauthorized; scope does not match"}, 401)
    assert isinstance(judged(JIRA, refused), NotAllowedError)


def test_a_refresh_token_that_is_over_needs_the_tenant_by_whatever_code() -> None:
    """A token that had ended was refused with 403 and `unauthorized_client`, the code for an app
    that is not allowed to ask at all.

    raycast/extensions#11836 (2024-04). Right: the person connects again.
    """
    over = {"error": "unauthorized_client", "error_description": "refresh_token is invalid"}
    assert over["error"] in OPERATOR_ERRORS
    assert isinstance(JIRA.oauth.error_from(over), BrokenConnectionError)
    assert JIRA.oauth.error_from({"error": "unauthorized_client"}) is None


def test_each_site_of_a_grant_is_an_account_and_each_once() -> None:
    """The first of several sites was taken, whichever the person had picked; and a site stands in
    the list once more for Confluence.

    dust-tt/dust#24211 (2026-04). Right: all Jira sites, each once.
    """

    def site(id_: str, scope: str) -> Record:
        return {"id": id_, "name": id_, "url": f"https://{id_}.atlassian.net", "scopes": [scope]}

    listed = [
        site("one", "read:confluence-content.summary"), site("two", "read:jira-work"),
        site("one", "read:jira-work"), site("wiki", "read:confluence-content.summary"),
    ]  # fmt: skip
    accounts = steps(JIRA.identify({}, {}), lambda request: response(listed))
    assert [(each.id, each.config) for each in accounts] == [
        ("two", {"host": "two.atlassian.net"}),
        ("one", {"host": "one.atlassian.net"}),
    ]
    with pytest.raises(NotAllowedError):
        steps(JIRA.identify({}, {}), lambda request: response([]))


# -- Webhooks --------------------------------------------------------------------------------------


def test_a_webhook_that_is_refused_with_200_is_none() -> None:
    """A filter that Jira does not take is answered with 200 and the reason in the body; all that
    was told was that no id came.

    QuackbackIO/quackback#352 (2026-08). Right: the reason is kept, the site is polled.
    """
    refused = {"webhookRegistrationResult": [{"errors": ["Operator is not is unsupported"]}]}

    def answer(request: Request) -> Any:
        return {"values": [], "total": 0} if request.method == "GET" else refused

    assert JIRA.watch
    made = steps(JIRA.watch.create(wanted()), Site(answers={"/webhook": answer}))
    assert isinstance(made, NoWatch)
    assert "Operator is not is unsupported" in made.reason


def test_the_filter_of_a_webhook_is_one_that_jira_takes() -> None:
    """An empty filter is refused, though every issue is meant.

    ShipfoxHQ/shipfox#1272 (2026-08). Right: `project != null`.
    """
    made = {"webhookRegistrationResult": [{"createdWebhookId": 7}]}

    def answer(request: Request) -> Any:
        return {"values": [], "total": 0} if request.method == "GET" else made

    site = Site(answers={"/webhook": answer})
    assert JIRA.watch
    assert isinstance(steps(JIRA.watch.create(wanted()), site), MadeWatch)
    (registered,) = site.asked[-1].json["webhooks"]
    assert registered["jqlFilter"] == "project != null"


def test_a_webhook_is_kept_alive_and_one_that_ended_is_made_anew() -> None:
    """A webhook ends after thirty days without a word, and nobody was told of anything from then
    on.

    PipedreamHQ/pipedream#21795 (2026-08). Right: it is extended, and found out when it is gone,
    for Jira passes over ids that it does not know.
    """
    assert JIRA.watch
    assert JIRA.watch.renew
    watched = MadeWatch(vendor_id="acme.atlassian.net:6", expires_at=NOW, state={"id": 6})
    kept = steps(JIRA.watch.renew(wanted(), watched), Site(answers=standing(hook(6))))
    assert isinstance(kept, MadeWatch)
    assert kept.expires_at == NOW + timedelta(days=30)
    with pytest.raises(CheckpointExpiredError):
        steps(JIRA.watch.renew(wanted(), watched), Site(answers=standing(hook(5))))
