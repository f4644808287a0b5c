"""Google Calendar's readers, driven over played calendars."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from connectors import (
    ContractError,
    NotAllowedError,
    Page,
    RateLimitedError,
    Request,
    Response,
    load,
)
from connectors.kernel.statuses import error_by_status
from tests._driving import NOW, drive, held, response

CALENDAR = load("google_calendar")
CALENDARS, EVENTS, ACL = (CALENDAR.stream(name) for name in ("calendars", "events", "acl"))
ME = "ann@x.test"
HOLIDAYS = "en.german#holiday@group.v.calendar.google.com"


def refusal(status: int, reason: str, field: str = "errors") -> Response:
    return response({"error": {"code": status, field: [{"reason": reason}]}}, status=status)


def event(id_: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "status": "confirmed", **fields}


def cancelled(id_: str, series: str = "") -> dict[str, Any]:
    """All that is sure to be there of a cancelled event, or instance of a series."""
    more = {"recurringEventId": series, "originalStartTime": {"date": "2026-11-02"}}
    return {"id": id_, "status": "cancelled", **(more if series else {})}


class Diary:
    """Calendars, each a log of what changed: what is listed is the last entry of each id.

    A sync token is `s` and a position in the log, a page token `p` and one in the listing.
    """

    def __init__(self, *calendars: str) -> None:
        self.entries = {one: {"id": one, "accessRole": "owner"} for one in calendars or (ME,)}
        self.logs: dict[str, list[dict[str, Any]]] = {one: [] for one in self.entries}
        self.page_size = 1000
        self.oldest: dict[str, int] = {}
        self.lapsed_pages = False
        self.answers: dict[str, Response] = {}
        self.asked: list[Request] = []

    def put(self, calendar: str, *events: dict[str, Any]) -> None:
        self.logs[calendar] += events

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/users/me/calendarList":
            return response({"items": list(self.entries.values())})
        calendar = unquote(request.path.split("/")[2])
        answer = self.answers.get(calendar) or self._listed(calendar, request)
        if answer.status != 200 and answer.status not in request.expect:
            raise CALENDAR.classify(answer) or error_by_status("Google Calendar", "it", answer)  # type: ignore[misc]
        return answer

    def _listed(self, calendar: str, request: Request) -> Response:
        log, params = self.logs[calendar], request.params
        since = int(str(params.get("syncToken", "s0"))[1:])
        if "syncToken" in params and since < self.oldest.get(calendar, 0):
            return refusal(410, "fullSyncRequired")
        if "pageToken" in params and self.lapsed_pages:
            return refusal(400, "invalid")
        latest = {row["id"]: row for row in log[since:]}
        first = int(str(params.get("pageToken", "p0"))[1:])
        shown = list(latest.values())[first : first + self.page_size]
        if "syncToken" not in params:  # deletes are not listed, which may leave a page empty
            shown = [row for row in shown if _is_listed(row)]
        body: dict[str, Any] = {"items": shown}
        if first + self.page_size < len(latest):
            body["nextPageToken"] = f"p{first + self.page_size}"
        else:
            body["nextSyncToken"] = f"s{len(log)}"
        return response(body)

    def of(self, calendar: str) -> list[Request]:
        return [one for one in self.asked if calendar in unquote(one.path)]


def _is_listed(row: dict[str, Any]) -> bool:
    gone = row.get("status") == "cancelled" and "recurringEventId" not in row
    return not gone and row.get("role") != "none"


def ids(pages: Iterable[Page]) -> list[list[str]]:
    """The ids on each page that has any."""
    found = ([record["id"] for record in page.records] for page in pages)
    return [one for one in found if one]


def at(**tokens: str) -> dict[str, Any]:
    """A checkpoint between two rounds."""
    return {"parts": {calendar: {"token": token} for calendar, token in tokens.items()}}


def followed(diary: Diary, *news: dict[str, Any], page_size: int = 1000) -> dict[str, Any]:
    """What is held after a backfill and a delta with these changes of the one calendar."""
    first = drive(EVENTS.read, diary)
    diary.put(ME, *news)
    diary.page_size = page_size
    delta = drive(EVENTS.read, diary, first[-1].checkpoint)
    return held(EVENTS, delta, held(EVENTS, first))


def test_the_list_is_read_whole_because_a_delta_hides_what_others_set() -> None:
    diary = Diary(ME, HOLIDAYS)
    (page,) = drive(CALENDARS.read, diary)
    assert (ids([page]), page.checkpoint) == ([[ME, HOLIDAYS]], {})
    assert CALENDARS.snapshot
    assert diary.asked[0].params == {"maxResults": 250, "showHidden": True}


def test_each_calendar_has_a_sync_token_of_its_own() -> None:
    diary = Diary("a", "b")
    diary.put("a", event("1"), event("2"))
    diary.put("b", event("1"))
    pages = drive(EVENTS.read, diary)
    assert pages[-1].checkpoint == at(a="s2", b="s1")
    assert set(held(EVENTS, pages)) == {"a/1", "a/2", "b/1"}
    diary.put("b", event("2"))
    pages = drive(EVENTS.read, diary, pages[-1].checkpoint)
    assert ids(pages) == [["2"]]
    assert held(EVENTS, pages)["b/2"]["calendar_id"] == "b"
    assert pages[-1].checkpoint == at(a="s2", b="s2")


def test_a_calendar_id_is_escaped_in_the_address() -> None:
    diary = Diary(HOLIDAYS)
    drive(EVENTS.read, diary)
    path = "/calendars/en.german%23holiday%40group.v.calendar.google.com/events"
    assert diary.asked[-1].path == path


def test_all_but_the_tokens_is_the_same_in_each_request() -> None:
    diary = Diary()
    diary.page_size = 2
    diary.put(ME, *(event(str(number)) for number in range(5)))
    pages = drive(EVENTS.read, diary)
    diary.put(ME, *(event(str(number)) for number in range(5)))
    drive(EVENTS.read, diary, pages[-1].checkpoint)
    asked = [dict(request.params) for request in diary.of(ME)]
    tokens = [(one.pop("syncToken", None), one.pop("pageToken", None)) for one in asked]
    # While paging, both tokens are sent.
    assert tokens == [
        *((None, None), (None, "p2"), (None, "p4")),
        *(("s5", None), ("s5", "p2"), ("s5", "p4")),
    ]
    assert all(one == asked[0] for one in asked)
    forbidden = {"timeMin", "timeMax", "updatedMin", "q", "orderBy", "iCalUID", "showDeleted"}
    assert not forbidden & set(asked[0])


def test_a_page_that_is_short_or_empty_is_not_the_last() -> None:
    diary = Diary()
    diary.page_size = 2
    diary.put(ME, cancelled("1"), cancelled("2"), event("3"), cancelled("4"), event("5"))
    pages = drive(EVENTS.read, diary)
    assert ids(pages) == [["3"], ["5"]]
    assert pages[-1].checkpoint == {"parts": {ME: {"token": "s5"}}}


def test_a_read_that_is_stopped_after_any_page_goes_on_from_there() -> None:
    diary = Diary("a", "b", "c")
    diary.page_size = 2
    for calendar in diary.logs:
        diary.put(calendar, *(event(str(number)) for number in range(5)))
    at: Any = {}
    former: dict[str, Any] = {}
    for _ in range(2):
        pages = drive(EVENTS.read, diary, at)
        whole = held(EVENTS, pages, former)
        for done, page in enumerate(pages[:-1], start=1):
            rest = drive(EVENTS.read, diary, page.checkpoint)
            assert held(EVENTS, [*pages[:done], *rest], former) == whole
            assert rest[-1].checkpoint == pages[-1].checkpoint
        at, former = pages[-1].checkpoint, whole
        for calendar in diary.logs:
            diary.put(calendar, cancelled("1"), event("9"), event("2", summary="new"), event("7"))


def test_a_410_starts_that_calendar_over_and_no_other() -> None:
    diary = Diary("a", "b")
    for calendar in ("a", "b"):
        diary.put(calendar, event("1"), event("2"), event("3"))
    first = drive(EVENTS.read, diary)
    diary.put("a", cancelled("1"), event("4"))
    diary.oldest["a"] = 4
    diary.asked.clear()
    diary.page_size = 2
    pages = drive(EVENTS.read, diary, first[-1].checkpoint)
    assert set(held(EVENTS, pages, held(EVENTS, first))) == {
        *("a/2", "a/3", "a/4"),
        *("b/1", "b/2", "b/3"),
    }
    assert pages[-1].checkpoint == at(a="s5", b="s3")
    assert [request.params.get("syncToken") for request in diary.of("b")] == ["s3"]


def test_a_listing_that_starts_over_does_so_again_when_it_is_cut() -> None:
    diary = Diary()
    diary.put(ME, *(event(str(number)) for number in range(6)))
    first = drive(EVENTS.read, diary)
    diary.put(ME, cancelled("0"), cancelled("5"))
    diary.oldest[ME] = 7
    diary.page_size = 2
    pages = drive(EVENTS.read, diary, first[-1].checkpoint)
    whole = held(EVENTS, pages, held(EVENTS, first))
    assert set(whole) == {f"{ME}/{number}" for number in range(1, 5)}
    for done, page in enumerate(pages[:-1], start=1):
        rest = drive(EVENTS.read, diary, page.checkpoint)
        assert held(EVENTS, [*pages[:done], *rest], held(EVENTS, first)) == whole


def test_a_410_is_expected_only_where_there_is_a_token_to_expire() -> None:
    diary = Diary()
    pages = drive(EVENTS.read, diary)
    drive(EVENTS.read, diary, pages[-1].checkpoint)
    assert [410 in request.expect for request in diary.of(ME)] == [False, True]
    assert [400 in request.expect for request in diary.of(ME)] == [False, True]


def test_a_page_token_that_lapsed_reads_the_delta_again() -> None:
    diary = Diary()
    diary.put(ME, event("1"), event("2"))
    diary.lapsed_pages = True
    here = {"token": "s0", "page": "p1"}
    pages = drive(EVENTS.read, diary, {"parts": {}, "todo": [ME], "here": here})
    assert ids(pages) == [["1", "2"]]
    assert diary.asked[-1].params["syncToken"] == "s0"


def test_a_page_token_that_lapsed_in_a_backfill_lists_the_calendar_again() -> None:
    diary = Diary()
    diary.put(ME, event("1"), event("2"))
    diary.lapsed_pages = True
    pages = drive(EVENTS.read, diary, {"parts": {}, "todo": [ME], "here": {"page": "p1"}})
    former = {f"{ME}/0": event("0", calendar_id=ME)}
    assert set(held(EVENTS, pages, former)) == {f"{ME}/1", f"{ME}/2"}


def test_a_deleted_event_may_come_with_nothing_but_its_id() -> None:
    diary = Diary()
    diary.put(ME, event("1"), event("2"))
    assert set(followed(diary, {"id": "1", "status": "cancelled"})) == {f"{ME}/2"}


def test_a_cancelled_instance_is_kept_for_it_is_news_of_its_series() -> None:
    diary = Diary()
    diary.put(ME, event("s", recurrence=["RRULE:FREQ=DAILY"]), cancelled("s_20261101", "s"))
    left = followed(diary, cancelled("s_20261102", "s"))
    assert set(left) == {f"{ME}/s", f"{ME}/s_20261101", f"{ME}/s_20261102"}
    assert left[f"{ME}/s_20261102"]["originalStartTime"] == {"date": "2026-11-02"}


@pytest.mark.parametrize("page_size", [1, 2, 1000])
@pytest.mark.parametrize("told", ["before", "after", "never"])
def test_with_a_series_go_its_exceptions(told: str, page_size: int) -> None:
    diary = Diary()
    diary.put(
        ME,
        event("s", recurrence=["RRULE:FREQ=DAILY"]),
        event("s_20261101", recurringEventId="s"),
        cancelled("s_20261102T100000Z", "s"),
        event("other"),
    )
    exceptions = [cancelled("s_20261101", "s"), cancelled("s_20261102T100000Z", "s")]
    news = {
        "before": [*exceptions, cancelled("s")],
        "after": [cancelled("s"), *exceptions],
        "never": [cancelled("s")],
    }[told]
    left = followed(diary, *news, event("new"), page_size=page_size)
    assert set(left) == {f"{ME}/other", f"{ME}/new"}


@pytest.mark.parametrize("page_size", [1, 1000])
def test_a_series_that_was_split_loses_only_its_first_part(page_size: int) -> None:
    diary = Diary()
    rest = "s_R20261110T100000"
    diary.put(ME, event("s"), event(rest), event(f"{rest}_20261111", recurringEventId=rest))
    left = followed(diary, cancelled("s"), page_size=page_size)
    assert set(left) == {f"{ME}/{rest}", f"{ME}/{rest}_20261111"}


@pytest.mark.parametrize("page_size", [1, 1000])
def test_who_is_still_invited_to_one_instance_of_a_series_keeps_that(page_size: int) -> None:
    diary = Diary()
    diary.put(ME, event("s", recurrence=["RRULE:FREQ=DAILY"]))
    one = event("s_20261101", recurringEventId="s")
    for news in ([cancelled("s"), one], [one, cancelled("s")]):
        assert set(followed(diary, *news, page_size=page_size)) == {f"{ME}/s_20261101"}
        diary.put(ME, cancelled("s_20261101", "s"), event("s"))


@pytest.mark.parametrize("page_size", [1, 1000])
def test_a_series_that_came_back_keeps_its_exceptions(page_size: int) -> None:
    diary = Diary()
    one = event("s_20261101", recurringEventId="s")
    diary.put(ME, event("s"), one)
    left = followed(diary, cancelled("s"), event("x"), event("s"), page_size=page_size)
    assert f"{ME}/s" in left
    assert f"{ME}/s_20261101" in left


def test_a_calendar_that_left_the_list_takes_its_events_with_it_and_a_new_one_brings_its_own() -> (
    None
):
    diary = Diary("a", "b")
    diary.put("a", event("1"))
    diary.put("b", event("1"))
    first = drive(EVENTS.read, diary)
    del diary.entries["a"]
    diary.entries["c"] = {"id": "c", "accessRole": "reader"}
    diary.logs["c"] = [event("7")]
    pages = drive(EVENTS.read, diary, first[-1].checkpoint)
    assert set(held(EVENTS, pages, held(EVENTS, first))) == {"b/1", "c/7"}
    assert pages[-1].checkpoint == at(b="s1", c="s1")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(404, "notFound"), NotAllowedError),
        (refusal(403, "forbidden"), NotAllowedError),
        (refusal(403, "requiredAccessLevel"), NotAllowedError),
        (refusal(403, "insufficientPermissions"), NotAllowedError),
        (refusal(403, "domainPolicy"), NotAllowedError),
        (refusal(403, "accessNotConfigured"), ContractError),
        (refusal(403, "SERVICE_DISABLED", "details"), ContractError),
        (refusal(403, "somethingNew"), NotAllowedError),
        (response(None, status=404), NotAllowedError),
        (response(None, status=403), NotAllowedError),
        (response({"kind": "calendar#events"}), ContractError),
    ],
)
def test_a_calendar_that_cannot_be_read_loses_nothing_and_the_others_go_on(
    answer: Response, expected: type[Exception]
) -> None:
    for stream in (EVENTS, ACL):
        diary = Diary("a", "b")
        for calendar in ("a", "b"):
            diary.put(calendar, {"id": "1", "role": "reader"})
        first = drive(stream.read, diary)
        diary.answers["a"] = answer
        diary.put("b", {"id": "2", "role": "reader"})
        pages = drive(stream.read, diary, first[-1].checkpoint)
        assert set(held(stream, pages, held(stream, first))) == {"a/1", "b/1", "b/2"}
        unread = pages[-1].unread
        assert unread
        assert [(one.part, type(one.error)) for one in unread] == [("a", expected)]
        assert pages[-1].unseen == ["a/"]
        del diary.answers["a"]
        diary.put("a", {"id": "3", "role": "reader"})
        later = NOW + timedelta(hours=1)
        again = drive(stream.read, diary, pages[-1].checkpoint, now=later)
        assert set(held(stream, again)) == {"a/3"}


def test_a_checkpoint_of_the_former_form_goes_on() -> None:
    diary = Diary("a", "b")
    diary.put("a", event("1"))
    for former in (
        {"tokens": {"a": "s1"}},
        {"tokens": {"a": "s1"}, "pending": ["b"], "page": "p1"},
    ):
        pages = drive(EVENTS.read, diary, former)
        assert (ids(pages), pages[-1].checkpoint) == ([], at(a="s1", b="s0"))


def test_a_list_without_items_is_no_empty_list() -> None:
    for stream in (CALENDARS, EVENTS):
        with pytest.raises(KeyError):
            drive(stream.read, lambda request: response({"kind": "calendar#calendarList"}))


def test_a_missing_permission_for_acl_is_told_from_a_revoked_grant() -> None:
    diary = Diary()
    diary.answers[ME] = refusal(403, "insufficientPermissions")
    with pytest.raises(NotAllowedError, match="reconnect and allow it"):
        drive(ACL.read, diary)


def test_only_the_lists_of_who_may_see_ones_own_calendars_are_read() -> None:
    diary = Diary("mine", "theirs")
    diary.entries["theirs"]["accessRole"] = "writer"
    diary.put("mine", {"id": "default", "role": "reader"}, {"id": "user:b@x", "role": "owner"})
    pages = drive(ACL.read, diary)
    assert set(held(ACL, pages)) == {"mine/default", "mine/user:b@x"}
    assert not diary.of("theirs")
    diary.entries["mine"]["accessRole"] = "reader"
    pages = drive(ACL.read, diary, pages[-1].checkpoint)
    assert held(ACL, pages, held(ACL, pages)) == {}


def test_a_rule_with_the_role_none_is_a_delete() -> None:
    diary = Diary()
    diary.put(ME, {"id": "default", "role": "reader"}, {"id": "user:b@x", "role": "reader"})
    first = drive(ACL.read, diary)
    diary.put(ME, {"id": "default", "role": "none"}, {"id": "user:b@x", "role": "writer"})
    pages = drive(ACL.read, diary, first[-1].checkpoint)
    changed = {"id": "user:b@x", "role": "writer", "calendar_id": ME}
    assert held(ACL, pages, held(ACL, first)) == {f"{ME}/user:b@x": changed}


@pytest.mark.parametrize(
    "reason", ["rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"]
)
def test_a_spent_quota_is_told_from_a_refusal(reason: str) -> None:
    assert isinstance(CALENDAR.classify(refusal(403, reason)), RateLimitedError)


def test_the_account_is_the_id_of_the_primary_calendar() -> None:
    steps = CALENDAR.identify({}, {})
    assert next(steps).path == "/users/me/calendarList/primary"
    with pytest.raises(StopIteration) as stopped:
        steps.send(response({"id": "Ann@X.test", "primary": True}))
    (account,) = stopped.value.value
    assert (account.id, account.name) == ("ann@x.test", "Ann@X.test")
