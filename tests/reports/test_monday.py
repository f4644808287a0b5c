"""What people reported of programs that read monday.com, played on our reader."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Delivery,
    Effect,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    WatchRequest,
    load,
)
from connectors.monday.watches import EVENTS
from connectors.monday.watches import watch as WATCH  # noqa: N812
from connectors.monday.watches import webhook as WEBHOOK  # noqa: N812
from tests._driving import NOW, drive, held, response
from tests._judging import as_the_client, judged
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


# -- Webhooks -------------------------------------------------------------------------------------

SIGNING = "canary-signing-secret-of-an-app"  # pragma: allowlist secret
ADDRESS = "https://atom.test/api/webhooks/monday"
GRANTED = {"scopes": ["boards:read", "webhooks:read", "webhooks:write"]}


def told(body: Any, account: int = 1_825_529, secret: str = SIGNING, **more: Any) -> Delivery:
    """A delivery as monday.com signs it: a bare token that covers nothing of the body."""
    seconds = int(NOW.timestamp())
    claims = {"accountId": account, "userId": 7, "aud": ADDRESS, "iat": seconds}
    claims |= {"exp": seconds + 300, "shortLivedToken": "canary-token-for-the-api", **more}
    kept = {name: value for name, value in claims.items() if value is not None}
    token = jwt.encode({"alg": "HS256"}, kept, OctKey.import_key(secret))
    return called(body, authorization=token)


def called(body: Any, **headers: str) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(
        method="POST", url=ADDRESS, headers=headers, query={}, body=raw, received_at=NOW
    )


def event(type: str, **fields: Any) -> Record:
    common = {"app": "monday", "userId": 7, "boardId": 11, "triggerUuid": f"uuid-of-{type}"}
    return {"event": {**common, "type": type, **fields}}


def asked(body: Record) -> list[tuple[Effect, str, str]]:
    found = WEBHOOK.events(told(body))
    return [(each.effect, each.streams[0], each.key) for each in found]


def prove(delivery: Delivery, *secrets: str) -> None:
    assert WEBHOOK.verify
    WEBHOOK.verify(delivery, VerificationKeys(secrets=secrets))


class Hooks:
    """The webhooks of an account's boards. Those of the events that it `refuses` are not made, and
    the answer to the others has an error besides."""

    def __init__(self, tier: str | None = "standard", boards: int = 3) -> None:
        self.tier, self.boards = tier, boards
        self.standing: dict[str, str] = {}
        self.refuses: set[str] = set()
        self.code, self.status = "InvalidArgumentException", 200
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        query, given = request.json["query"], request.json["variables"]
        if "account" in query:
            ids = range((given["page"] - 1) * given["size"] + 1, self.boards * 2 + 1)
            rows = [
                {"id": str(n), "type": "board" if n % 2 else "sub_items_board"}
                for n in ids[: given["size"]]
            ]
            return response({"data": {"account": {"tier": self.tier}, "boards": rows}})
        if "webhooks(" in query:
            return response({"data": {"webhooks": [{"id": id} for id in self.standing]}})
        data, errors = {}, []
        for name, what in re.findall(r"(\w+): (create|delete)_webhook\(", query):
            if what == "delete":
                gone = self.standing.pop(given[name], None)
                data[name], refused = {"id": given[name]} if gone else None, not gone
            elif refused := name in self.refuses:
                data[name] = None
            else:
                id = str(900 + len(self.asked) * 100 + len(self.standing))
                self.standing[id], data[name] = name, {"id": id}
            if refused:
                extensions = {"code": self.code, "status_code": 400}
                errors.append({"message": "no", "path": [name], "extensions": extensions})
        answer = {"data": data, **({"errors": errors} if errors else {})}
        return response(answer, self.status if errors else 200)

    def run(self, calls: Any) -> Any:
        """What a generator of calls comes to; what the client refuses is raised in it."""
        answer = as_the_client(MONDAY, self)
        step: Callable[[], Any] = partial(calls.send, None)
        while True:
            try:
                request = step()
            except StopIteration as stop:
                return stop.value
            try:
                step = partial(calls.send, answer(request))
            except ConnectorError as error:
                step = partial(calls.throw, error)

    def queries(self) -> list[str]:
        found = [request.json["query"] for request in self.asked]
        self.asked.clear()
        return found


def wanted(board: str = "11", address: str = ADDRESS) -> WatchRequest:
    return WatchRequest(
        id="w", resource=board, address=address, secret="s", lifetime=WATCH.lifetime,
        context=Context(now=NOW, account_id="5", config=GRANTED),
    )  # fmt: skip


def test_a_challenge_is_answered_as_json_and_before_anything_is_proven() -> None:
    """activepieces/activepieces#7556 (2025-05): a webhook could not be made, because its address
    answered without a body. Right: the same JSON comes back."""
    answer = WEBHOOK.handshake(called({"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd"}))
    assert answer is not None
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd"}


@pytest.mark.parametrize(
    "body",
    [
        {"challenge": "x", "type": "url_verification", "token": "t"},
        {**event("create_pulse", pulseId=1), "challenge": "x"},
        {"challenge": 1}, {"challenge": "x" * 1_001}, {}, [], b"no json", b"",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_challenge_is_none(body: Any) -> None:
    """simstudioai/sim#4210 (2026-04): whatever held the text `challenge` was answered as one, so
    that nothing was verified of it. Right: a challenge holds nothing else."""
    assert WEBHOOK.handshake(called(body)) is None


def test_a_delivery_without_a_token_or_under_no_secret_is_refused() -> None:
    """corsairdev/corsair#581 and #610 (2026-08): deliveries were taken unsigned, and an empty
    secret let all in. Right: both are refused, and so is what another secret signs."""
    body = event("create_pulse", pulseId=22)
    prove(told(body), SIGNING)
    prove(told(body), "another-secret-of-ours", SIGNING)
    for delivery in (called(body), called(body, authorization=""), told(body, secret="x" * 30)):
        with pytest.raises(SignatureError):
            prove(delivery, SIGNING)
    for secrets in ((), ("",)):
        with pytest.raises(SignatureError):
            prove(told(body), *secrets)
    with pytest.raises(SignatureError):
        prove(told(body, exp=int(NOW.timestamp()) - 61), SIGNING)


def test_whose_a_delivery_is_says_the_token_and_not_the_body() -> None:
    """developer.monday.com, Authentication (2026): the token has the account; a body of a new
    column has an `accountId`, too, which nobody signs. Right: the token's counts, in both forms
    that tokens have, and without one nothing is taken."""
    body = event("update_name", pulseId=22, accountId=666)
    assert {each.account_id for each in WEBHOOK.events(told(body))} == {"1825529"}
    deeper = told(body, accountId=None, dat={"account_id": 12, "user_id": 7})
    assert {each.account_id for each in WEBHOOK.events(deeper)} == {"12"}
    for delivery in (told(body, accountId=None), called(body), called(body, authorization="a.b.c")):
        with pytest.raises(SignatureError):
            WEBHOOK.events(delivery)
    assert "canary" not in repr(told(body))
    assert "canary" not in repr(WEBHOOK.events(told(body)))


READ, GONE = Effect.READ, Effect.GONE
ITEM, SUBITEM = ("items", "11/22"), ("subitems", "12/33")
OF_ITEM, OF_SUBITEM = ("column_values", "11/22/"), ("column_values", "12/33/")
UNDER = {"boardId": 12, "parentItemId": "22", "parentItemBoardId": "11"}
ENDED = {"boardId": 12, "parentItemId": 22, "parentBoardId": 11, "itemId": 33, "pulseId": 33}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (event("create_pulse", pulseId=22), [(READ, *ITEM), (READ, *OF_ITEM)]),
        (event("create_item", itemId=22), [(READ, *ITEM), (READ, *OF_ITEM)]),
        (event("update_column_value", pulseId=22), [(READ, *ITEM), (READ, *OF_ITEM)]),
        (event("restore_pulse", itemId=22), [(READ, *ITEM), (READ, *OF_ITEM)]),
        (event("move_pulse_into_group", pulseId=22), [(READ, *ITEM)]),
        (event("a_name_to_come", pulseId=22), [(READ, *ITEM), (READ, *OF_ITEM)]),
        (event("archive_pulse", itemId=22), [(GONE, *ITEM), (READ, *OF_ITEM)]),
        (event("delete_pulse", itemId=22), [(GONE, *ITEM), (READ, *OF_ITEM)]),
        (event("create_pulse", pulseId=33, **UNDER), [(READ, *SUBITEM), (READ, *OF_SUBITEM)]),
        (event("delete_pulse", **ENDED), [(GONE, *SUBITEM), (READ, *OF_SUBITEM)]),
        (event("create_update", pulseId=22, updateId=44), [(READ, "updates", "44")]),
        (event("delete_update", pulseId=22, updateId=44), [(GONE, "updates", "44")]),
        (event("delete_update", updateId=44, replyId=55), [(READ, "updates", "44")]),
        (event("create_column", columnId="text", columnType="text"), []),
    ],
)
def test_events_are_told_under_other_names_than_they_are_asked_for(
    body: Record, found: list[tuple[Effect, str, str]]
) -> None:
    """developer.monday.com, Webhooks (2026): `create_item` is told as `create_pulse`, and so is
    `create_subitem`; programs that looked for the names they had asked for dropped all. Right: what
    is named is read again, as which name ever; nothing is deleted for a body that nobody signs."""
    assert asked(body) == found


def test_a_name_is_no_column() -> None:
    """PipedreamHQ/pipedream#3976 (2022-08): a new name is told by no event of column values. Right:
    it is asked for by itself, and no value is read for it."""
    hooks = Hooks()
    hooks.run(WATCH.create(wanted()))
    assert {"change_name", "change_subitem_name"} <= set(hooks.standing.values())
    assert asked(event("update_name", pulseId=22)) == [(READ, *ITEM)]


def test_a_delivery_that_comes_again_is_the_same_event() -> None:
    """simstudioai/sim#4210 (2026-04): what is not answered in time comes once a minute for half an
    hour, with other fields and another token. Right: it is known by the id of what happened."""
    first, again = (
        WEBHOOK.events(told(event("delete_pulse", itemId=22, isRetry=retried), iat=None))
        for retried in (False, True)
    )
    assert [each.id for each in first] == [each.id for each in again]
    others = WEBHOOK.events(told(event("delete_pulse", itemId=22, triggerUuid="another")))
    assert not {each.id for each in first} & {each.id for each in others}


def test_events_of_a_form_that_nobody_knows_are_kept_and_delete_nothing() -> None:
    """simstudioai/sim#4210 (2026-04): fields of other types broke a handler. Right: such an event
    is kept as it came, with its account."""
    for body in (
        event("delete_pulse", itemId="../22"),
        event("create_pulse", pulseId={"id": 22}),
        {"a": 1},
    ):
        (one,) = WEBHOOK.events(told(body))
        assert (one.effect, one.account_id) == (Effect.UNREADABLE, "1825529")


def test_a_board_without_subitems_has_the_other_webhooks() -> None:
    """PipedreamHQ/pipedream#5248 and #5480 (2023-02): on a board that never had a subitem their
    webhooks are refused. Right: the others stand, and those are asked for at the next look."""
    hooks = Hooks()
    hooks.refuses = {event for event in EVENTS if "subitem" in event}
    made = hooks.run(WATCH.create(wanted()))
    assert isinstance(made, MadeWatch)
    assert set(hooks.standing.values()) == set(EVENTS) - hooks.refuses
    hooks.refuses.clear()
    assert WATCH.renew
    renewed = hooks.run(WATCH.renew(wanted(), made))
    assert sorted(hooks.standing.values()) == sorted(EVENTS)
    assert renewed.state["hooks"] == {event: id for id, event in hooks.standing.items()}


@pytest.mark.parametrize(
    ("code", "status"),
    [("UserUnauthorizedException", 200), ("UserUnauthorizedException", 403),
     ("InvalidBoardIdException", 200), ("InvalidBoardIdException", 404)],
)  # fmt: skip
def test_a_board_that_takes_no_webhook_is_polled(code: str, status: int) -> None:
    """trix-solutions/moncli#40 (2020-06): refusals come with 200, and sometimes not. Right: it is
    no webhook, and no trouble of the other boards."""
    hooks = Hooks()
    hooks.refuses, hooks.code, hooks.status = set(EVENTS), code, status
    assert isinstance(hooks.run(WATCH.create(wanted())), NoWatch)
    assert not hooks.standing


def test_a_limit_is_no_refusal_of_a_board() -> None:
    """airbytehq/airbyte#66724 (2025-09): who has spent the calls of a day is refused everything.
    Right: the board is not taken for one without webhooks; it is asked again."""
    hooks = Hooks()
    hooks.refuses, hooks.code = set(EVENTS), "DAILY_LIMIT_EXCEEDED"
    with pytest.raises(RateLimitedError):
        hooks.run(WATCH.create(wanted()))


def test_webhooks_that_went_with_who_made_them_are_made_anew() -> None:
    """support.monday.com, Transfer automation ownership (2026): all integrations of someone who is
    deactivated end. Right: that is seen, what is left is ended, and the time is read again."""
    hooks = Hooks()
    made = hooks.run(WATCH.create(wanted()))
    assert WATCH.renew
    assert hooks.run(WATCH.renew(wanted(), made)) == made
    hooks.standing.pop(next(iter(hooks.standing)))
    with pytest.raises(CheckpointExpiredError):
        hooks.run(WATCH.renew(wanted(), made))
    assert not hooks.standing
    made = hooks.run(WATCH.create(wanted()))
    with pytest.raises(CheckpointExpiredError):
        hooks.run(WATCH.renew(wanted(address="https://new.test/hook"), made))
    assert not hooks.standing


def test_nothing_is_left_behind() -> None:
    """n8n-io/n8n#387 (2020-03): webhooks stayed at the vendor and went on calling. Right: all of a
    board are ended, and what is gone already is no error."""
    hooks = Hooks()
    made = hooks.run(WATCH.create(wanted()))
    hooks.standing.pop(made.vendor_id)
    hooks.run(WATCH.delete(made, wanted().context))
    assert not hooks.standing
    hooks.run(WATCH.delete(made, wanted().context))


@pytest.mark.parametrize(
    ("tier", "boards", "most", "calls"),
    [("free", 60, 0, 1), (None, 60, 0, 1), ("basic", 60, 50, 2), ("pro", 60, 60, 3),
     ("enterprise", 400, 150, 6)],
)  # fmt: skip
def test_so_many_boards_have_webhooks_as_a_days_calls_allow(
    tier: str | None, boards: int, most: int, calls: int
) -> None:
    """airbytehq/airbyte#66724 (2025-09): a plan's calls are counted by the day. Right: a board is
    one call, the smallest plan has no webhooks, and boards of subitems none of their own
    (PipedreamHQ/pipedream#5080, 2023-01)."""
    hooks = Hooks(tier, boards)
    context = wanted().context
    found = hooks.run(WATCH.resources(context))
    assert found == [str(2 * n + 1) for n in range(most)]
    assert len(hooks.queries()) == calls
    for board in found[:2]:
        hooks.run(WATCH.create(wanted(board)))
        assert len(hooks.queries()) == 1
    assert hooks.run(WATCH.resources(replace(context, config={"scopes": ["boards:read"]}))) == ()
    assert hooks.run(WATCH.resources(replace(context, config={}))) == ()


def again(stream: Any, keys: list[str], desk: Desk) -> Page:
    """What comes of reading those keys again."""
    (page,) = drive(lambda at, context: stream.fetch(keys, context), desk)
    return page


def test_a_storm_of_changes_is_read_in_few_calls() -> None:
    """airbytehq/airbyte#66724 (2025-09), and webhooks that read at each event. Right: a hundred
    items of any boards are one call, counted in a budget that leaves the day's to polls."""
    desk = Desk(*(made(n, str(n % 5)) for n in range(100)), boards=tuple("01234"))
    desk.items["7"]["state"] = "deleted"
    keys = [f"{n % 5}/{n}" for n in range(100)]
    page = again(ITEMS, keys, desk)
    assert (len(page.records), page.deleted) == (99, ["2/7"])
    (request,) = desk.asked
    assert (request.budget, request.cost) == ("told", 1)
    (limit,) = (one for one in MONDAY.rate_limits if one.name == "told")
    assert limit.amount * (DAY / limit.per) <= 500


def test_what_is_told_of_a_subitem_becomes_no_item() -> None:
    """PipedreamHQ/pipedream#5080 (2023-01): subitems are on boards of their own, and look like
    items. Right: a key that names one does not bring it among the items."""
    desk = Desk(made(33, "12"))
    data = desk.data

    def of_subitems(query: str, given: Any) -> Response:
        found = data(query, given)
        for one in found["items"]:
            one["of"]["type"] = "sub_items_board"
        return response({"data": found})

    desk.refuses = of_subitems
    for stream, there in ((ITEMS, 0), (MONDAY.stream("subitems"), 1), (VALUES, 1)):
        key = "12/33/" if stream is VALUES else "12/33"
        assert len(again(stream, [key], desk).records) == there, stream.name
