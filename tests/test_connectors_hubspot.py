"""HubSpot's readers, driven over a played portal."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors import (
    CheckpointExpiredError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    load,
)
from connectors.kernel.versions import epoch_ms
from tests._driving import NOW, drive, held, response

HUBSPOT = load("hubspot")
HOUR = timedelta(hours=1)
LOOKED = {"looked": NOW.isoformat(), "late": NOW.isoformat()}


class Portal:
    """Contacts by id, as the list, search and batch endpoints show them."""

    def __init__(self, live: int, archived: int = 0) -> None:
        self.live = list(range(1, live + 1))
        self.archived = list(range(900_000, 900_000 + archived))
        self.in_index = list(self.live)
        self.headers: dict[str, str] = {}
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path.endswith("/search"):
            return self._search(request)
        if request.path.endswith("/batch/read"):
            asked = [int(one["id"]) for one in request.json["inputs"]]
            assert len(asked) <= 100
            return response({"results": [self._shown(n) for n in asked if n in self.live]})
        if "limit" not in request.params:
            return response({"status": "error", "category": "OBJECT_NOT_FOUND"}, 404)
        found = self.archived if request.params.get("archived") else self.live
        after = int(str(request.params.get("after", 0)))
        rows = [number for number in found if number > after]
        return self._page(rows, int(str(request.params["limit"])))

    def _search(self, request: Request) -> Response:
        changed, *further = request.json["filterGroups"][0]["filters"]
        assert changed["propertyName"] == "lastmodifieddate"
        assert request.json["sorts"] == [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
        assert request.budget == "search"
        least = int(further[0]["value"]) if further else 0
        return self._page([n for n in self.in_index if n >= least], request.json["limit"])

    def _page(self, rows: list[int], limit: int) -> Response:
        shown = [self._shown(number) for number in rows[:limit]]
        paging: dict[str, Any] = {}
        if len(rows) > limit:
            paging = {"paging": {"next": {"after": shown[-1]["id"]}}}
        return response({"results": shown, **paging}, headers=self.headers)

    @staticmethod
    def _shown(number: int) -> dict[str, Any]:
        return {"id": str(number), "properties": {}}

    def searched_since(self) -> list[int]:
        """From which change time on each search asked."""
        return [
            int(request.json["filterGroups"][0]["filters"][0]["value"])
            for request in self.asked
            if request.path.endswith("/search")
        ]

    def listings(self) -> int:
        return sum("archived" in request.params for request in self.asked)


def deltas(portal: Portal, at: Mapping[str, Any], *, now: Any = NOW) -> Any:
    portal.headers = {"date": format_datetime(now, usegmt=True)}
    return drive(HUBSPOT.stream("contacts").read, portal, at, now=now)


def test_a_backfill_lists_all_and_leaves_the_time_it_began() -> None:
    portal = Portal(250)
    pages = drive(HUBSPOT.stream("contacts").read, portal)
    assert [len(page.records) for page in pages] == [100, 100, 50]
    assert pages[0].checkpoint == {"page": "100", "started": NOW.isoformat()}
    assert pages[-1].checkpoint == LOOKED
    properties = str(portal.asked[0].params["properties"]).split(",")
    assert {"email", "lastmodifieddate", "hs_object_id"} <= set(properties)
    assert portal.asked[0].path == "/crm/objects/2026-03/contacts"


def test_a_resumed_backfill_counts_from_when_it_began() -> None:
    portal = Portal(150)
    at = drive(HUBSPOT.stream("contacts").read, portal)[0].checkpoint
    later = deltas(portal, at, now=NOW + 3 * HOUR)
    assert later[-1].checkpoint == LOOKED


def test_a_backfill_counts_from_its_beginning_by_the_vendors_clock() -> None:
    portal = Portal(3)
    portal.headers = {"date": "Sun, 01 Nov 2026 09:30:00 GMT"}
    (page,) = drive(HUBSPOT.stream("contacts").read, portal)
    assert page.checkpoint["looked"] == "2026-11-01T09:30:00+00:00"


def test_changes_beyond_ten_thousand_are_searched_by_id_and_each_is_read_by_its_id() -> None:
    portal = Portal(10_450, archived=130)
    pages = deltas(portal, LOOKED)
    assert sum(len(page.records) for page in pages) == 10_450
    assert sum(len(page.deleted) for page in pages) == 130
    assert pages[-1].checkpoint["looked"] == NOW.isoformat()
    batches = [request for request in portal.asked if request.path.endswith("/batch/read")]
    assert {"email", "lastmodifieddate"} <= set(batches[0].json["properties"])


def test_each_checkpoint_of_an_incremental_read_resumes_it() -> None:
    portal = Portal(1000, archived=250)
    pages = deltas(portal, LOOKED)
    assert len(pages) == 5 + 3
    for done, page in enumerate(pages[:-1], start=1):
        assert deltas(portal, page.checkpoint, now=NOW + HOUR) == pages[done:]


@pytest.mark.parametrize(
    "at",
    [
        {"since": epoch_ms(NOW)},
        {"since": epoch_ms(NOW), "started": epoch_ms(NOW), "after_id": "300"},
        {"since": epoch_ms(NOW), "started": epoch_ms(NOW), "phase": "archived", "page": "900099"},
    ],
)
def test_a_checkpoint_of_an_earlier_release_is_gone_on_with(at: dict[str, Any]) -> None:
    portal = Portal(500, archived=130)
    pages = deltas(portal, at)
    assert portal.searched_since()[0] <= epoch_ms(NOW)
    assert sum(len(page.deleted) for page in pages) == 130
    began = {"started": epoch_ms(NOW), "page": "100"}
    assert deltas(portal, began)[-1].checkpoint == LOOKED


def test_the_late_look_goes_back_an_hour_before_the_last_one_and_the_fresh_one_some_minutes() -> (
    None
):
    portal = Portal(0)
    at: Mapping[str, Any] = LOOKED
    for minutes in (10, 20, 40):
        at = deltas(portal, at, now=NOW + timedelta(minutes=minutes))[-1].checkpoint
    minutes_after = [(since - epoch_ms(NOW)) / 60_000 for since in portal.searched_since()]
    assert minutes_after == [-5, 5, -60]


def test_a_record_that_search_still_shows_after_it_was_archived_stays_gone() -> None:
    portal = Portal(3)
    portal.live.remove(2)
    pages = deltas(portal, LOOKED)
    assert set(held(HUBSPOT.stream("contacts"), pages, {"2": {"id": "2"}})) == {"1", "3"}


def test_a_long_list_of_archived_records_is_read_once_a_day_and_a_short_one_at_each_look() -> None:
    for archived, expected in ((500, [5, 5, 5]), (700, [7, 0, 7])):
        portal, at = Portal(0, archived=archived), dict(LOOKED)
        for now, calls in zip((HOUR, 2 * HOUR, 25 * HOUR), expected, strict=True):
            portal.asked.clear()
            at = deltas(portal, at, now=NOW + now)[-1].checkpoint
            assert portal.listings() == calls


def test_a_listing_that_hubspot_forgot_starts_over() -> None:
    def refuse(request: Request) -> Response:
        return response({"status": "error"}, status=400)

    with pytest.raises(CheckpointExpiredError):
        drive(HUBSPOT.stream("contacts").read, refuse, {"started": 1, "page": "77"})


def test_owners_who_have_left_are_listed_after_the_others_and_kept() -> None:
    portal = Portal(120, archived=1)
    pages = drive(HUBSPOT.stream("owners").read, portal)
    assert [len(page.records) for page in pages] == [100, 20, 1]
    assert pages[-1].checkpoint == {}
    for done, page in enumerate(pages[:-1], start=1):
        assert drive(HUBSPOT.stream("owners").read, portal, page.checkpoint) == pages[done:]


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [("SECONDLY", 1), ("TEN_SECONDLY_ROLLING", 10), ("DAILY", 3600), (None, 0)],
)
def test_a_429_waits_as_its_policy_says(policy: str | None, seconds: int) -> None:
    body = {"status": "error", "errorType": "RATE_LIMIT", "policyName": policy}
    error = HUBSPOT.classify(response(body, status=429))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(seconds=seconds)


def test_a_429_of_a_proxy_goes_by_its_status() -> None:
    assert HUBSPOT.classify(response(None, status=429)) is None
    assert HUBSPOT.classify(response({"results": []})) is None


def test_what_the_app_may_not_read_is_the_streams_and_names_no_scope_of_hubspots() -> None:
    detail = {"message": "…", "context": {"requiredScopes": ["contacts"]}}
    body = {"status": "error", "category": "MISSING_SCOPES", "errors": [detail]}
    error = HUBSPOT.classify(response(body, 403))
    assert isinstance(error, NotAllowedError)
    assert "contacts" not in str(error)


def test_a_portal_that_is_moved_gives_no_token_for_a_while() -> None:
    told = HUBSPOT.oauth.error_from({"status": "error", "category": "MIGRATION_IN_PROGRESS"})
    assert isinstance(told, ProviderUnavailableError)
    assert HUBSPOT.oauth.error_from({"status": "BAD_REFRESH_TOKEN"}) is None
