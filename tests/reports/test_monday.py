"""What people reported of programs that read monday.com, played on our reader."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    load,
)
from tests._driving import NOW, drive, held, response
from tests._judging import judged
from tests.reports._following import Followed

MONDAY = load("monday")
ITEMS, BOARDS, VALUES = (MONDAY.stream(name) for name in ("items", "boards", "column_values"))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def refusal(code: str, status: int = 200, message: str = "no", **more: Any) -> Response:
    errors = [{"message": message, "extensions": {"code": code, **more}}]
    return response({"data": None, "errors": errors}, status)


def made(number: int, board: str = "1", state: str = "active", **more: Any) -> Record:
    value = {"id": "status", "type": "status", "text": "Done", "value": "1"}
    return {
        "id": str(number), "name": f"item {number}", "state": state, "board": {"id": board},
        "created_at": "2026-10-01T00:00:00Z", "updated_at": "2026-10-01T00:00:00Z",
        "column_values": [value], **more,
    }  # fmt: skip


class Desk:
    """Boards with their items and logs, as the reader asks for them; `refuses` says of a query what
    is answered instead, if anything."""

    def __init__(self, *items: Record, boards: tuple[str, ...] = ("1",)) -> None:
        self.items = {str(one["id"]): one for one in items}
        self.boards = dict.fromkeys(boards, "active")
        self.log: dict[str, list[Record]] = {board: [] for board in boards}
        self.asked: list[Request] = []
        self.refuses: Callable[[str, Any], Response | None] = lambda query, given: None

    def touched(self, event: str, *ids: int, board: str = "1", name: str = "pulse_id") -> None:
        data: Any = {"board_id": int(board)}
        if ids:
            data[name] = ids[0] if name == "pulse_id" else list(ids)
        entry = {"id": f"log-{len(self.log[board])}", "event": event, "data": json.dumps(data)}
        entry |= {"entity": "pulse" if ids else "board", "created_at": "17963424000000000"}
        self.log[board].insert(0, entry)

    def page(self, ids: list[str]) -> Record:
        rest = ",".join(ids[100:])
        return {"cursor": rest or None, "items": [self.items[id] for id in ids[:100]]}

    def listed(self, board: str) -> list[str]:
        found = (one for one in self.items.values() if one["state"] == "active")
        return [one["id"] for one in found if one["board"]["id"] == board]

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        query, given = request.json["query"], request.json["variables"]
        if (refused := self.refuses(query, given)) is not None:
            return refused
        return response({"data": self.data(query, given)})

    def data(self, query: str, given: Any) -> Record:
        if "next_items_page" in query:
            return {"next_items_page": self.page(given["cursor"].split(","))}
        if "items_page" in query:
            return {"boards": [{"items_page": self.page(self.listed(given["board"]))}]}
        if "items(ids" in query:
            found = [self.items[id] for id in given["ids"] if id in self.items]
            return {"items": [{**one, "of": {"state": "active", "type": "board"}} for one in found]}
        if "$newest" in query:
            rows = [
                {"id": id, "state": state, "type": "board", "activity_logs": self.log[id][:10]}
                for id, state in self.boards.items()
            ]
            size, page = given["size"], given["page"]
            return {"boards": rows[(page - 1) * size : page * size]}
        if "activity_logs" in query:
            size, page = given["size"], given["page"]
            return {
                "boards": [
                    {"activity_logs": self.log[given["board"]][(page - 1) * size : page * size]}
                ]
            }
        ids = given["ids"]
        return {"boards": [{"id": i, "state": s} for i, s in self.boards.items() if i in ids]}

    def calls(self) -> int:
        """How many since this was last asked."""
        count = len(self.asked)
        self.asked.clear()
        return count


def following(desk: Desk, stream: Any = ITEMS) -> Followed:
    return Followed(MONDAY, stream, desk)


# -- How it is refused ----------------------------------------------------------------------------


def test_a_spent_budget_of_points_is_no_answer_although_its_status_is_200() -> None:
    """airbytehq/airbyte#31539 (2023-10) and #36717 (2024-04): with 200 comes an `error_code` of two
    spellings, or errors that are texts. Right: to wait as long as the text says."""
    text = "Complexity budget exhausted, query cost 222250 budget remaining 0 reset in 16 seconds"
    for code in ("ComplexityException", "complexityBudgetExhausted"):
        body = {"errors": [text], "status_code": 429, "error_code": code, "error_message": text}
        error = judged(MONDAY, response(body))
        assert isinstance(error, RateLimitedError)
        assert error.retry_after == timedelta(seconds=16)
    newer = refusal("COMPLEXITY_BUDGET_EXHAUSTED", retry_in_seconds=9)
    error = judged(MONDAY, newer)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(seconds=9)


def test_a_429_that_is_a_page_of_html_is_a_limit() -> None:
    """bagofwords1/bagofwords#968 (2026-08): a throttled call is answered with HTML and a
    Retry-After. Right: a limit, not an answer that cannot be read."""
    answer = Response(
        status=429, headers={"retry-after": "30"}, json=None, url="https://m.test", sent_at=NOW
    )
    assert isinstance(judged(MONDAY, answer), RateLimitedError)


def test_a_day_whose_calls_are_spent_is_waited_for_until_midnight() -> None:
    """airbytehq/airbyte#66724 (2025-09): plans have so many calls a day, and who tries again at
    once spends more of them. Right: to wait until they are given anew, at midnight UTC."""
    error = judged(MONDAY, refusal("DAILY_LIMIT_EXCEEDED", 429))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 12 * HOUR


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal("UserUnauthorizedException", 403), NotAllowedError),
        (refusal("USER_UNAUTHORIZED"), NotAllowedError),
        (refusal("NOT_AUTHENTICATED", 401), BrokenConnectionError),
        (refusal("INTERNAL_SERVER_ERROR"), ProviderUnavailableError),
        (refusal("undefinedField"), ContractError),
        (response({"errors": [{"message": "no code"}]}), ContractError),
    ],
)
def test_an_error_says_who_can_mend_it(answer: Response, kind: type) -> None:
    """trix-solutions/moncli#40 (2020-06): all that is wrong comes as errors without a code, with
    200. Right: none of them is an answer, and nobody is asked to connect again who need not."""
    assert type(judged(MONDAY, answer)) is kind


# -- Cursors and pages ----------------------------------------------------------------------------


def test_a_board_whose_cursor_expired_is_begun_again_and_no_other() -> None:
    """airbytehq/airbyte#66724 (2025-09) and #82259 (2026-07): while a reader waits for its budget a
    cursor expires, the answer has no `data`, and all boards are read from the start. Right: that
    board is begun again, once."""
    desk = Desk(*(made(n) for n in range(250)), made(900, "2"), boards=("1", "2"))
    times: list[Any] = []

    def expired(query: str, given: Any) -> Response | None:
        if "next_items_page" in query and not times:
            times.append(given)
            return refusal("CursorExpiredError")
        return None

    desk.refuses = expired
    assert len(following(desk).sync().rows) == 251
    firsts = [a.json["variables"]["board"] for a in desk.asked if "items_page" in a.json["query"]
              and "board" in a.json["variables"]]  # fmt: skip
    assert sorted(firsts) == ["1", "1", "2"]


def test_a_cursor_that_never_holds_is_one_boards_trouble() -> None:
    """airbytehq/airbyte#82259 (2026-07): a board that takes longer than its cursor lives is begun
    for ever. Right: it is named, the others are read, and what was read of it stays."""
    desk = Desk(*(made(n) for n in range(250)), made(900, "2"), boards=("1", "2"))
    desk.refuses = lambda query, given: (
        refusal("CursorExpiredError") if "next_items_page" in query else None
    )
    found = following(desk).sync()
    assert found.error is None
    assert "2/900" in found.rows
    assert len(found.rows) == 101
    assert set(found.at["failed"]) == {"1"}


def test_no_query_asks_for_more_items_than_a_limit_allows() -> None:
    """airbytehq/airbyte#25881 (2023-05): items by their ids are 100 at most. Right: more are asked
    for in several calls."""
    desk = Desk(*(made(n) for n in range(250)))
    found = following(desk).sync()
    desk.touched("batch_change", *range(250), name="pulse_ids")
    desk.items["7"] |= {"name": "another"}
    assert found.sync().rows["1/7"]["name"] == "another"
    sizes = [len(a.json["variables"]["ids"]) for a in desk.asked if "ids" in a.json["variables"]]
    assert sizes == [100, 100, 50]


# -- What changed ---------------------------------------------------------------------------------


def test_only_what_was_touched_is_read_again() -> None:
    """airbytehq/airbyte#20950 (2023-01) and #27944 (2023-07): nothing filters items by their
    change, so each sync read everything. Right: the log names what was touched."""
    desk = Desk(*(made(n) for n in range(250)))
    found = following(desk).sync()
    assert desk.calls() == 4
    found.sync()
    assert desk.calls() == 1
    desk.touched("update_column_value", 3)
    desk.items["3"] |= {"name": "touched"}
    assert found.sync().rows["1/3"]["name"] == "touched"
    assert desk.calls() == 3


def test_an_account_of_many_boards_is_looked_at_in_few_calls() -> None:
    """airbytehq/airbyte#15569 (2022-08): a call for each board and each sync spends the calls of a
    day. Right: fifty boards a call, as long as they are at rest."""
    boards = tuple(str(n) for n in range(1, 121))
    desk = Desk(*(made(1_000 + n, str(n)) for n in range(1, 121)), boards=boards)
    found = following(desk).sync()
    desk.calls()
    assert len(found.sync().rows) == 120
    assert desk.calls() == 3


def test_what_is_deleted_archived_or_moved_is_gone_from_its_board() -> None:
    """airbytehq/airbyte#27944 (2023-07): a sync by the log leaves what was deleted where it was,
    for an id that is asked for is answered in any state, or not at all."""
    desk = Desk(*(made(n) for n in range(1, 6)), boards=("1", "2"))
    found = following(desk).sync()
    values = following(desk, VALUES).sync()
    del desk.items["5"]
    desk.items["1"]["state"], desk.items["2"]["state"] = "deleted", "archived"
    desk.items["3"]["board"] = {"id": "2"}
    for number in (5, 1, 2, 3):
        desk.touched("update_column_value", number)
    desk.touched("move_pulse_into_board", 3, board="2")
    assert set(found.sync().rows) == {"1/4", "2/3"}
    assert set(values.sync().rows) == {"1/4/status", "2/3/status"}


def test_a_group_that_is_deleted_takes_its_items_along() -> None:
    """airbytehq/airbyte#27944 (2023-07): such an entry of the log names no item. Right: its board
    is read anew."""
    desk = Desk(*(made(n) for n in range(5)))
    found = following(desk).sync()
    del desk.items["2"], desk.items["3"]
    desk.touched("delete_group")
    assert set(found.sync().rows) == {"1/0", "1/1", "1/4"}


def test_after_longer_than_a_log_is_kept_boards_are_read_anew() -> None:
    """airbytehq/airbyte#82259 (2026-07): what a plan no longer keeps in its log is never read.
    Right: after a week a log is not relied on."""
    desk = Desk(*(made(n) for n in range(5)))
    found = following(desk).sync()
    del desk.items["2"]
    desk.log["1"].clear()
    assert set(found.sync(now=NOW + 8 * DAY).rows) == {"1/0", "1/1", "1/3", "1/4"}


def test_a_board_that_is_passed_over_by_a_listing_is_not_gone() -> None:
    """A listing by pages passes over a board when another one is deleted while it is read
    (airbytehq/airbyte#15569 reads them so). Right: a board that is missing is asked for."""
    desk = Desk(made(1), made(2, "2"), boards=("1", "2"))
    found = following(desk).sync()
    listed = desk.boards
    skips = Desk.data

    def passed(query: str, given: Any) -> Response | None:
        if "$newest" not in query:
            return None
        data = skips(desk, query, given)
        return response({"data": {"boards": [b for b in data["boards"] if b["id"] != "2"]}})

    desk.refuses = passed
    assert set(found.sync().rows) == {"1/1", "2/2"}
    listed["2"] = "deleted"
    assert set(found.sync().rows) == {"1/1"}


# -- Tokens ---------------------------------------------------------------------------------------


def test_a_classic_token_has_no_end_and_no_refresh() -> None:
    """amp-labs/connectors#240 (2024-04): a classic app gets no refresh token, and a refresh is
    refused. Right: without an end in it, a token is not refreshed."""
    answer = {"access_token": "a.e30.c", "token_type": "bearer", "scope": "me:read"}
    auth = MONDAY.oauth
    assert "expires_in" not in auth.normalize_answer(answer)
    assert auth.access_token_ttl is None
    new = {"access_token": "a.eyJpYXQiOjEwMCwiZXhwIjozNzAwfQ.c", "refresh_token": "r"}
    assert auth.normalize_answer(new)["expires_in"] == 3_600


def test_all_queries_are_driven() -> None:
    """Every stream's first page is read from an account that has nothing."""
    empty: Record = {
        name: [] for name in ("boards", "updates", "users", "workspaces", "teams", "tags")
    }
    for stream in MONDAY.streams:
        assert held(stream, drive(stream.read, lambda request: response({"data": empty}))) == {}
