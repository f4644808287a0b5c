"""HubSpot's readers, driven over a played portal."""

from datetime import timedelta
from typing import Any

import pytest

from connectors import CheckpointExpiredError, RateLimitedError, Request, Response, load
from connectors._versions import epoch_ms
from tests._driving import NOW, drive, response

HUBSPOT = load("hubspot")
LOOKBACK_MS = 5 * 60 * 1000


class Portal:
    """Contacts by id, as the list and search endpoints show them."""

    def __init__(self, live: int, archived: int = 0) -> None:
        self.live = list(range(1, live + 1))
        self.archived = list(range(900_000, 900_000 + archived))
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path.endswith("/search"):
            return self._search(request)
        found = self.archived if request.params.get("archived") else self.live
        after = int(str(request.params.get("after", 0)))
        rows = [number for number in found if number > after]
        return self._page(rows, int(str(request.params["limit"])))

    def _search(self, request: Request) -> Response:
        changed, *further = request.json["filterGroups"][0]["filters"]
        assert changed["propertyName"] == "lastmodifieddate"
        assert request.json["sorts"] == [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
        assert (request.json["after"], request.budget) == ("0", "search")
        least = int(further[0]["value"]) if further else 0
        return self._page([n for n in self.live if n >= least], request.json["limit"])

    @staticmethod
    def _page(rows: list[int], limit: int) -> Response:
        shown = [{"id": str(number), "properties": {}} for number in rows[:limit]]
        paging: dict[str, Any] = {}
        if len(rows) > limit:
            paging = {"paging": {"next": {"after": shown[-1]["id"]}}}
        return response({"results": shown, **paging})


def test_a_backfill_lists_all_and_leaves_the_time_it_began() -> None:
    portal = Portal(250)
    pages = drive(HUBSPOT.stream("contacts").read, portal)
    assert [len(page.records) for page in pages] == [100, 100, 50]
    assert pages[0].checkpoint == {"page": "100", "started": epoch_ms(NOW)}
    assert pages[-1].checkpoint == {"since": epoch_ms(NOW) - LOOKBACK_MS}
    properties = str(portal.asked[0].params["properties"]).split(",")
    assert {"email", "lastmodifieddate", "hs_object_id"} <= set(properties)
    assert portal.asked[0].path == "/crm/objects/2026-03/contacts"


def test_a_resumed_backfill_counts_from_when_it_began() -> None:
    portal = Portal(150)
    at = drive(HUBSPOT.stream("contacts").read, portal)[0].checkpoint
    later = drive(HUBSPOT.stream("contacts").read, portal, at, now=NOW + timedelta(hours=3))
    assert later[-1].checkpoint == {"since": epoch_ms(NOW) - LOOKBACK_MS}


def test_changes_beyond_ten_thousand_are_searched_by_id() -> None:
    portal = Portal(10_450, archived=130)
    read = HUBSPOT.stream("contacts").read
    since = epoch_ms(NOW - timedelta(days=1))
    pages = drive(read, portal, {"since": since})
    assert sum(len(page.records) for page in pages) == 10_450
    assert sum(len(page.deleted) for page in pages) == 130
    assert pages[-1].checkpoint == {"since": epoch_ms(NOW) - LOOKBACK_MS}
    filters = portal.asked[0].json["filterGroups"][0]["filters"]
    assert filters == [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(since)}]


def test_each_checkpoint_of_an_incremental_read_resumes_it() -> None:
    portal = Portal(1000, archived=250)
    read = HUBSPOT.stream("contacts").read
    pages = drive(read, portal, {"since": 1})
    assert len(pages) == 5 + 3
    for done, page in enumerate(pages[:-1], start=1):
        rest = drive(read, portal, page.checkpoint, now=NOW + timedelta(hours=1))
        assert rest == pages[done:]


def test_a_listing_that_hubspot_forgot_starts_over() -> None:
    def refuse(request: Request) -> Response:
        return response({"status": "error"}, status=400)

    with pytest.raises(CheckpointExpiredError):
        drive(HUBSPOT.stream("contacts").read, refuse, {"started": 1, "page": "77"})


def test_archived_owners_come_out_as_deletes() -> None:
    portal = Portal(120, archived=1)
    pages = drive(HUBSPOT.stream("owners").read, portal)
    assert [len(page.records) for page in pages] == [100, 20, 0]
    assert pages[-1].deleted == ["900000"]
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
