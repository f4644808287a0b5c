"""Linear's traps: teams that come into sight, cursors that are refused, what its answers mean."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    Effect,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    load,
)
from connectors.kernel.versions import epoch_ms
from connectors.linear.errors import RefusedInputError, classify
from connectors.linear.query import LEAST, Rows, columns_of, selection_of
from tests._conformance import Bench
from tests._driving import NOW, drive, response
from tests.reports._following import Followed
from tests.reports.test_linear import Workspace, events, refusal, row, told

LINEAR = load("linear")
ISSUES, LABELS, USERS, HISTORY = (
    LINEAR.stream(name) for name in ("issues", "issue_labels", "users", "issue_history")
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


# -- Teams that come into sight -------------------------------------------------------------------


async def test_older_rows_of_a_private_team_that_is_joined_are_read(bench: Bench) -> None:
    tried = await bench.connect(LINEAR, size=30)
    hidden = tried.order("hide", stream="issues")["keys"]
    assert hidden
    bench.clock.advance(HOUR)  # their team was there before the first look, which is to the second
    assert not await tried.follow(ISSUES)
    assert not tried.stored(ISSUES).keys() & set(hidden)
    tried.order("join")
    bench.clock.advance(HOUR)
    outcome = await tried.sync(ISSUES)
    assert outcome.error is None
    assert tried.stored(ISSUES).keys() >= set(hidden)


class Teams(Workspace):
    """A workspace with teams; `more` says that there are others."""

    def __init__(self, *rows: Record, more: bool = False) -> None:
        super().__init__(*rows)
        self.teams = [{"id": "t-1", "createdAt": "2026-01-01T00:00:00.000Z"}]
        self.more = more

    def __call__(self, request: Request) -> Response:
        answer = super().__call__(request)
        answer.json["data"]["teams"] = {
            "nodes": list(self.teams), "pageInfo": {"hasNextPage": self.more},
        }  # fmt: skip
        return answer

    def since(self) -> list[bool]:
        """Of each request that was made, whether it asks for what changed since a time."""
        asked, self.asked = self.asked, []
        return ["or" in one.json["variables"]["filter"] for one in asked]


def test_a_team_that_is_new_has_no_older_rows_and_one_that_comes_into_sight_has() -> None:
    space = Teams(row(1, 9 * DAY))
    followed = Followed(LINEAR, ISSUES, space).sync()
    assert space.since() == [False]
    made = (NOW + HOUR / 2).isoformat()
    space.teams.append({"id": "t-new", "createdAt": made})
    followed.sync(now=NOW + HOUR)
    assert space.since() == [True]
    space.teams.append({"id": "t-old", "createdAt": "2026-02-01T00:00:00.000Z"})
    followed.sync(now=NOW + 2 * HOUR)
    assert space.since() == [True, False]
    followed.sync(now=NOW + 3 * HOUR)
    assert space.since() == [True]


def test_teams_are_looked_at_with_late_looks_alone_and_not_where_there_are_too_many() -> None:
    space = Teams(row(1, 9 * DAY))
    followed = Followed(LINEAR, ISSUES, space).sync()
    space.asked.clear()
    for minutes in (10, 20, 31):
        followed.sync(now=NOW + timedelta(minutes=minutes))
    asked = ["teams(" in one.json["query"] for one in space.asked]
    assert asked == [False, False, True]
    crowded = Teams(row(1, 9 * DAY), more=True)
    followed = Followed(LINEAR, ISSUES, crowded).sync()
    crowded.teams.append({"id": "t-old", "createdAt": "2026-02-01T00:00:00.000Z"})
    followed.sync(now=NOW + HOUR)
    assert crowded.since() == [False, True]


def test_users_are_of_no_team() -> None:
    space = Workspace(row(1, DAY))
    drive(USERS.read, space)
    assert "teams(" not in space.asked[0].json["query"]
    assert "includeDisabled: true" in space.asked[0].json["query"]


# -- What is deleted, and what is asked for by its key --------------------------------------------


def test_what_linear_does_not_show_is_hidden_and_what_is_in_the_trash_deleted() -> None:
    space = Workspace(row(1, DAY), row(2, DAY, trashed=True))
    fetch = ISSUES.fetch
    assert fetch
    keys = ["id-00001", "id-00002", "id-00003"]
    (page,) = drive(lambda at, context: fetch(keys, context), space)
    assert [one["id"] for one in page.records] == ["id-00001"]
    assert (list(page.deleted), list(page.hidden)) == (["id-00002"], ["id-00003"])


async def test_an_issue_that_is_taken_out_of_the_trash_is_there_again(bench: Bench) -> None:
    tried = await bench.connect(LINEAR, size=10)
    assert not await tried.follow(LABELS)
    initiatives = LINEAR.stream("initiatives")
    assert not await tried.follow(initiatives)
    id = min(tried.stored(initiatives))
    path = "/linear/records/initiatives"
    bench.controls(path, {"op": "delete", "id": id}, account=tried.account)
    assert not await tried.follow(initiatives)
    assert id not in tried.stored(initiatives)
    tried.order("restore", stream="initiatives", id=id)
    assert not await tried.follow(initiatives)
    assert id in tried.stored(initiatives)


async def test_an_audit_finds_what_was_archived_without_a_word(bench: Bench) -> None:
    tried = await bench.connect(LINEAR, size=10)
    assert not await tried.follow(LABELS)
    id = min(key for key, label in tried.stored(LABELS).items() if not label["archivedAt"])
    order = {"op": "change", "id": id, "record": {"archivedAt": "2026-11-01T12:00:00.000Z"}}
    bench.controls("/linear/records/issue_labels", order, account=tried.account)
    await tried.sync(LABELS)
    assert tried.difference(LABELS)
    found = await tried.audit(LABELS)
    assert found.stale == 1
    assert not tried.difference(LABELS)


# -- History --------------------------------------------------------------------------------------


def entry(number: int, ago: timedelta) -> Record:
    at = (NOW - ago).isoformat()
    return {"id": f"h-{number}", "createdAt": at, "updatedAt": at}


class Histories(Workspace):
    """Issues of which each shows two entries of its history at a time."""

    def __init__(self, entries: list[Record], *issues: Record) -> None:
        super().__init__(*issues)
        self.entries = entries
        self.refused: set[str | None] = set()
        self.pages: list[Mapping[str, Any]] = []

    def __call__(self, request: Request) -> Response:
        given = request.json["variables"]
        if "id" not in given:
            answer = super().__call__(request)
            for issue in answer.json["data"]["rows"]["nodes"]:
                issue["history"] = self.page(None)
            return answer
        self.pages.append(given)
        if given["after"] in self.refused:
            return refusal("INPUT_ERROR", "invalid input")
        return response({"data": {"issue": {"history": self.page(given["after"])}}})

    def page(self, after: str | None) -> dict[str, Any]:
        ids = [one["id"] for one in self.entries]
        start = ids.index(after) + 1 if after else 0
        shown = self.entries[start : start + 2]
        info = {"hasNextPage": start + 2 < len(ids), "endCursor": shown[-1]["id"]}
        return {"nodes": shown, "pageInfo": info}


def test_a_long_history_is_read_to_its_end_and_then_to_where_it_is_known() -> None:
    space = Histories([entry(n, n * HOUR) for n in range(9)], row(1, 9 * DAY))
    followed = Followed(LINEAR, HISTORY, space).sync()
    assert len(followed.rows) == 9
    assert {one["issueId"] for one in followed.rows.values()} == {"id-00001"}
    space.pages.clear()
    space.rows[0]["updatedAt"] = NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    followed.sync(now=NOW + timedelta(minutes=1))
    assert len(space.pages) <= 2


def test_a_history_whose_cursor_is_refused_is_read_from_its_beginning() -> None:
    space = Histories([entry(n, n * HOUR) for n in range(9)], row(1, 9 * DAY))
    space.refused = {"h-3"}

    def answer(request: Request) -> Response:
        found = space(request)
        if found.status != 200:  # the entry is gone, and so the next cursor is another
            space.refused.clear()
            del space.entries[3]
        return found

    followed = Followed(LINEAR, HISTORY, answer).sync()
    assert followed.error is None
    assert followed.rows.keys() == {f"h-{n}" for n in range(9)}


def test_an_issue_that_goes_while_its_history_is_read_leaves_the_others() -> None:
    space = Histories([entry(n, n * HOUR) for n in range(5)], row(1, 9 * DAY), row(2, 8 * DAY))
    space.refused = {"h-1", None}
    followed = Followed(LINEAR, HISTORY, space).sync()
    assert followed.error is None
    assert followed.rows.keys() == {"h-0", "h-1"}


# -- What answers mean ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "type_", "expected"),
    [
        ("AUTHENTICATION_ERROR", "authentication error", BrokenConnectionError),
        ("FORBIDDEN", "forbidden", NotAllowedError),
        ("", "feature not accessible", NotAllowedError),
        ("", "usage limit exceeded", NotAllowedError),
        ("INPUT_ERROR", "invalid input", RefusedInputError),
        ("", "lock timeout", ProviderUnavailableError),
        ("", "internal error", ProviderUnavailableError),
        ("", "ratelimited", RateLimitedError),
        ("GRAPHQL_VALIDATION_FAILED", "graphql error", ContractError),
        ("SOMETHING_NEW", "something new", ContractError),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_an_error_says_who_can_mend_it(
    code: str, type_: str, expected: type[ConnectorError], status: int
) -> None:
    assert type(classify(refusal(code, type_, status))) is expected


def test_errors_of_other_forms_are_judged_by_their_status() -> None:
    bodies: tuple[Any, ...] = (None, [], {"errors": []}, {"errors": "no"}, {"data": {}})
    for body in bodies:
        assert classify(response(body, 503)) is None
    assert type(classify(response({"errors": [None]}, 400))) is ContractError
    assert type(classify(response({"errors": [{}]}, 502))) is ProviderUnavailableError


def test_a_bucket_that_holds_less_than_a_query_asks_for_is_waited_for() -> None:
    reset = str(epoch_ms(NOW + timedelta(minutes=3)))
    headers = {
        "x-complexity": "520", "x-ratelimit-complexity-remaining": "519",
        "x-ratelimit-complexity-reset": reset, "x-ratelimit-requests-remaining": "7",
        "x-ratelimit-requests-reset": "9" * 13,
    }  # fmt: skip
    error = classify(refusal("RATELIMITED", "ratelimited", 400, **headers))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(minutes=3)


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-requests-remaining": "0"}])
def test_a_limit_without_a_time_says_none(headers: dict[str, str]) -> None:
    error = classify(refusal("RATELIMITED", "ratelimited", 400, **headers))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta()


# -- Webhooks -------------------------------------------------------------------------------------


def test_a_row_that_is_removed_is_read_until_it_is_gone() -> None:
    (event,) = events(told("Issue", "remove", data={"id": "i-1", "trashed": True}))
    assert (event.effect, event.streams, event.key) == (Effect.GONE, ("issues",), "i-1")


@pytest.mark.parametrize("kind", ["Reaction", "IssueSLA", "AgentSessionEvent", "SomethingNew"])
def test_what_is_of_no_stream_is_no_event(kind: str) -> None:
    assert events(told(kind, "create", data={"id": "x"})) == []


def test_a_person_without_tokens_ends_a_connection_if_linear_says_so_too() -> None:
    none_left = told("OAuthAuthorization", "revoked", activeTokensForUser=0)
    assert [one.effect for one in events(none_left)] == [Effect.REVOKED]
    assert events({**none_left, "activeTokensForUser": 2}) == []


def test_a_delivery_that_cannot_be_read_is_kept() -> None:
    body = told("Issue", "update")
    (event,) = events(body)
    assert (event.effect, event.account_id) == (Effect.UNREADABLE, "org-1")


async def test_access_stands_while_a_token_works(bench: Bench) -> None:
    tried = await bench.connect(LINEAR, size=3)
    assert LINEAR.webhook
    assert LINEAR.webhook.stands
    client = tried.client(bench.line)
    await client.run(LINEAR.webhook.stands(tried.context()))
    tried.order("tokens", op="revoke")
    with pytest.raises(BrokenConnectionError):
        await tried.client(bench.line).run(LINEAR.webhook.stands(tried.context()))


# -- Queries --------------------------------------------------------------------------------------


def test_fields_are_written_once_for_queries_and_columns() -> None:
    fields = "dueDate:date state.id status.name status.type archivedAt"
    assert selection_of(fields) == "dueDate state { id } status { name type } archivedAt"
    assert {name: column.type for name, column in columns_of(fields).items()} == {
        "due_date": "date", "state_id": "text", "status_name": "text", "status_type": "text",
        "archived_at": "timestamptz",
    }  # fmt: skip


def test_no_request_counts_for_less_than_keeps_their_number_in_its_limit() -> None:
    request = Rows("teams", "name").again(["t-1"])
    assert request.cost == LEAST
    hourly = sum(limit.amount for limit in LINEAR.rate_limits)
    assert hourly / LEAST <= 1_200
    assert hourly <= 200_000
