"""What people reported of programs that read HubSpot, played on our reader and on our webhooks.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import text

from connectors import (
    Checkpoint,
    Context,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    Page,
    Record,
    Request,
    Response,
    RetryableError,
    load,
)
from storage import records
from storage.database import Database
from storage.rows import rows
from tests._driving import NOW, drive, held, response
from tests._judging import judged
from tests._stored import stock
from tests._vendor import Answer, Vendor, serve
from tests.reports._following import Followed, line_to

HUBSPOT = load("hubspot")
CONTACTS, COMPANIES = HUBSPOT.stream("contacts"), HUBSPOT.stream("companies")
DEALS, OWNERS = HUBSPOT.stream("deals"), HUBSPOT.stream("owners")
CONTEXT = Context(now=NOW, account_id="62515")


@pytest.fixture(scope="module")
def served() -> Iterator[Vendor]:
    with serve(Vendor()) as vendor:
        yield vendor


@pytest.fixture
def vendor(served: Vendor) -> Vendor:
    served.reset()
    return served


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def record(id_: object, changed: str = "2026-10-30T09:00:00.000Z", **properties: str) -> Record:
    return {
        "id": str(id_),
        "properties": {"hs_object_id": str(id_), **properties},
        "createdAt": "2026-01-05T10:00:00.000Z",
        "updatedAt": changed,
        "archived": False,
    }


def nothing() -> Response:
    return response({"results": []})


def by_id(
    answer: Callable[[Request], Response], shown: Callable[[str], Record] = record
) -> Callable[[Request], Response]:
    """The same portal, which shows each record that is asked for by its id."""

    def answering(request: Request) -> Response:
        if request.path.endswith("/batch/read"):
            found = [shown(one["id"]) for one in request.json["inputs"]]
            return response({"status": "COMPLETE", "results": found})
        return answer(request)

    return answering


def told(*events: dict[str, Any]) -> list[Event]:
    """What one delivery of those events comes to."""
    assert HUBSPOT.webhook
    common = {"portalId": 62515, "appId": 3, "subscriptionId": 9, "occurredAt": 1_793_000_000_000}
    shown = [{**common, "eventId": 100 + n, **event} for n, event in enumerate(events)]
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(shown).encode(), received_at=NOW,
    )  # fmt: skip
    return list(HUBSPOT.webhook.events(delivery))


class Index:
    """HubSpot's search over changed records: filters by id, at most 200 a page and 10,000 a query.

    `hidden` ids still take their place in a page, but are left out of what it shows.
    """

    def __init__(self, ids: list[int], hidden: set[int] | None = None) -> None:
        self.ids, self.hidden = ids, hidden or set()
        self.calls = 0

    def __call__(self, request: Request) -> Response:
        if not request.path.endswith("/search"):
            return nothing()
        self.calls += 1
        filters = request.json["filterGroups"][0]["filters"]
        least = [int(one["value"]) for one in filters if one["propertyName"] == "hs_object_id"]
        found = [number for number in sorted(self.ids) if number >= (least or [0])[0]]
        first, size = int(request.json.get("after") or 0), request.json["limit"]
        if first + size > 10_000:
            return response({"status": "error", "category": "VALIDATION_ERROR"}, 400)
        shown = [record(n) for n in found[first : first + size] if n not in self.hidden]
        more = first + size < len(found)
        paging = {"paging": {"next": {"after": str(first + size)}}} if more else {}
        return response({"total": len(found), "results": shown, **paging})


# -- Searching ------------------------------------------------------------------------------------


def test_more_than_ten_thousand_changes_of_one_moment_all_come_and_come_to_an_end() -> None:
    """A batch of HubSpot's own gave more than 10,000 contacts the very same time of change; readers
    that go on from the last time seen never got beyond it, and turned in a circle.

    estuary/connectors#2100 (2024-10), airbytehq/airbyte#43317 (2024-08). Right: all of them are
    read, in as many calls as there are pages.
    """
    index = Index(list(range(1, 10_301)))
    read = Followed(HUBSPOT, CONTACTS, by_id(index), at={"since": 0}).sync()
    assert (len(read.rows), read.error) == (10_300, None)
    assert index.calls <= 10_300 / 200 + 2


def test_a_page_that_is_not_full_or_empty_is_the_last_only_if_no_other_is_named() -> None:
    """HubSpot answered searches with fewer rows than were asked for, and with none at all, and
    named a next page all the same; a reader that took such a page for the last lost the rest
    silently.

    airbytehq/airbyte#80745 (2026-06). Right: the search ends where no next page is named.
    """
    hidden = {*range(150, 201), *range(201, 401)}
    index = Index(list(range(1, 601)), hidden)
    read = Followed(HUBSPOT, DEALS, by_id(index), at={"since": 0}).sync()
    assert len(read.rows) == 600 - len(hidden)


def test_a_record_that_is_changed_while_pages_are_read_pushes_no_other_off_them() -> None:
    """Pages in the order of change lost rows: a record that changed meanwhile moved to the end, and
    one that had not been read yet moved onto the page before.

    supaglue-labs/supaglue#1110 (2023-06). Right: rows are asked for in an order that no change
    moves.
    """
    order = list(range(1, 501))

    def answer(request: Request) -> Response:
        if not request.path.endswith("/search"):
            return nothing()
        body = request.json
        least = [
            int(each["value"])
            for each in body["filterGroups"][0]["filters"]
            if each["propertyName"] == "hs_object_id"
        ]
        by_id = body["sorts"][0]["propertyName"] == "hs_object_id"
        found = [n for n in (sorted(order) if by_id else order) if n >= (least or [0])[0]]
        first = int(body.get("after") or 0)
        shown = [record(n) for n in found[first : first + body["limit"]]]
        order.append(order.pop(0))  # the one that changed longest ago changes now
        more = first + body["limit"] < len(found)
        paging = {"paging": {"next": {"after": str(first + body["limit"])}}} if more else {}
        return response({"results": shown, **paging})

    assert len(Followed(HUBSPOT, COMPANIES, by_id(answer), at={"since": 0}).sync().rows) == 500


def test_a_record_without_a_time_of_change_does_not_unsettle_where_the_next_search_begins() -> None:
    """Rows came without the time they were changed; a source stored «undefined» as its position,
    and from then on found nothing.

    PipedreamHQ/pipedream#18345 (2025-09). Right: the row is stored, and the next search begins
    where it would have begun.
    """
    asked: list[int] = []
    odd = {name: value for name, value in record(7).items() if name != "updatedAt"}

    def answer(request: Request) -> Response:
        if not request.path.endswith("/search"):
            return nothing()
        asked.append(int(request.json["filterGroups"][0]["filters"][0]["value"]))
        return response({"results": [odd]})

    portal = by_id(answer, lambda id_: odd)
    read = Followed(HUBSPOT, CONTACTS, portal, at={"since": 0}).sync()
    read.sync(now=NOW + timedelta(hours=2))
    assert set(read.rows) == {"7"}
    assert milliseconds(NOW - timedelta(hours=2)) <= max(asked) <= milliseconds(NOW)


# -- Listing and reading again --------------------------------------------------------------------


def test_a_page_too_large_for_hubspot_is_asked_for_in_smaller_ones() -> None:
    """HubSpot answered 500 to every listing of a full page, for some portals for good; asked for
    smaller pages, as its support advised, it answered.

    singer-io/tap-hubspot#234 (2023-07). Right: a page that fails again and again is asked for in
    smaller ones, and the stream is read.
    """

    def answer(request: Request) -> Response:
        if request.path.endswith("/search") or request.params.get("archived"):
            return nothing()
        limit = int(str(request.params["limit"]))
        if limit > 50:
            return response({"status": "error", "message": "internal error"}, 500)
        first = int(str(request.params.get("after", 0)))
        shown = [record(n) for n in range(first + 1, min(first + limit, 120) + 1)]
        more = first + limit < 120
        paging = {"paging": {"next": {"after": str(first + limit)}}} if more else {}
        return response({"results": shown, **paging})

    assert len(Followed(HUBSPOT, CONTACTS, answer).sync(5).rows) == 120


def test_no_call_is_longer_than_what_hubspot_takes() -> None:
    """The names of all properties of a portal stood in the address; beyond some 8,000 characters
    HubSpot refused it (414), and nothing of that object was read any more.

    dlt-hub/verified-sources#305 (2023-12), airbytehq/airbyte#33976 (2024-01). Right: every call is
    short enough, however many properties are wanted.
    """
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return nothing() if request.method == "POST" else response({"results": []})

    for stream in HUBSPOT.streams:
        drive(stream.read, answer)
        drive(stream.read, answer, {"since": 0})
    addresses = [f"{request.path}?{urlencode(dict(request.params))}" for request in asked]
    assert max(map(len, addresses)) < 8_000


def test_a_property_that_takes_a_right_of_its_own_costs_the_stream_nothing() -> None:
    """A portal had properties that it had marked as sensitive; a search that named one of them was
    refused as a whole (403, missing scopes), and no scope that such an app may ask for helped.

    airbytehq/airbyte#74032 (2026-02). Right: the stream is read, without what may not be read.
    """

    def answer(request: Request) -> Response:
        named = str(request.params.get("properties", "")).split(",")
        if request.json:
            named = request.json["properties"]
        if "passport_number" in named:
            return response({"status": "error", "category": "MISSING_SCOPES"}, 403)
        if request.params.get("archived"):
            return nothing()
        return response({"results": [record(1), record(2)]})

    for at in ({}, {"since": 0}):
        read = Followed(HUBSPOT, CONTACTS, by_id(answer), at=at).sync()
        assert (set(read.rows), read.error) == ({"1", "2"}, None)


async def test_a_batch_that_is_answered_in_part_gives_what_it_found(vendor: Vendor) -> None:
    """A batch with ids that HubSpot did not find is answered 207, with results and errors beside
    each other; the SDK knew 200 only, and its users lost the results, too.

    HubSpot/hubspot-api-php#619 (2026-06). Right: what was found is stored, what was not is gone
    once it is not found by itself either.
    """
    lost = {"status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": ["12"]}}
    vendor.will(
        Answer(
            207,
            {"status": "COMPLETE", "results": [record(11)], "numErrors": 1, "errors": [lost]},
        ),
        Answer(404, {"status": "error", "category": "OBJECT_NOT_FOUND"}),
    )
    assert COMPANIES.fetch
    async with line_to(vendor, HUBSPOT) as line:
        pages = await line.pages(COMPANIES.fetch(["11", "12"], CONTEXT))
    assert set(held(COMPANIES, pages, {"12": record(12)})) == {"11"}


def test_a_record_that_is_archived_between_two_syncs_is_gone_after_the_second() -> None:
    """Meetings that were deleted in HubSpot stayed in the warehouse: an archived record is found by
    no search, and no flag of it ever changed.

    airbytehq/airbyte#35017 (2024-02), singer-io/tap-hubspot#64 (2018-02). Right: it is gone.
    """
    archived: list[Record] = []

    def answer(request: Request) -> Response:
        if request.path.endswith("/search"):
            return nothing()
        if request.params.get("archived"):
            return response({"results": archived})
        return response({"results": [record(1), record(2)]})

    read = Followed(HUBSPOT, DEALS, answer).sync()
    assert set(read.rows) == {"1", "2"}
    archived.append({**record(2), "archived": True, "archivedAt": "2026-11-01T12:30:00.000Z"})
    assert set(read.sync(now=NOW + timedelta(hours=1)).rows) == {"1"}


def test_an_owner_who_has_left_can_still_be_looked_up() -> None:
    """Records go on naming the owner who has left: a deactivated user is still the owner of its
    deals. HubSpot shows such owners in a list of their own, with an empty `userId`, the former one
    as `userIdIncludingInactive`; who lost them could not say whose deals those are.

    airbytehq/airbyte#55818 (2025-03), HubSpot/hubspot-api-python#314 (2024-08).
    Right: the row stays, shown as archived, with that id.
    """
    gone = {
        "id": "77", "email": "left@example.test", "firstName": "", "lastName": "", "userId": None,
        "userIdIncludingInactive": 900, "archived": True,
        "createdAt": "2026-01-05T10:00:00Z", "updatedAt": "2026-10-30T09:00:00Z",
    }  # fmt: skip

    def answer(request: Request) -> Response:
        return response({"results": [gone] if request.params.get("archived") else []})

    rows_held = Followed(HUBSPOT, OWNERS, answer).sync().rows
    assert rows_held["77"]["userIdIncludingInactive"] == 900
    assert rows_held["77"]["archived"] is True


# -- Refusals -------------------------------------------------------------------------------------


def test_a_token_without_permissions_for_one_object_is_no_broken_connection() -> None:
    """HubSpot refuses a call that the token has no right to in several wordings, by how the token
    was made; one of them has no category, and a reader that knew the others failed as a whole.

    estuary/connectors#3522 (2025-11). Right: a 403 is the stream's: the others go on.
    """
    body = {
        "status": "error",
        "message": "This oauth-token (made up) does not have proper permissions!",
        "correlationId": "0000",
    }
    assert isinstance(judged(HUBSPOT, response(body, 403)), NotAllowedError)


async def test_a_token_that_ends_between_two_pages_is_renewed_and_the_read_goes_on(
    vendor: Vendor,
) -> None:
    """Long reads of contacts were cut short: the token ended a second before a call, which was
    answered 401, and the whole sync failed after hours.

    airbytehq/airbyte#62467 (2025-07), supaglue-labs/supaglue#244 (2023-03). Right: the token is
    renewed, and that call is made again.
    """
    expired = {
        "status": "error",
        "message": "The OAuth token used to make this call expired 0 second(s) ago.",
        "category": "EXPIRED_AUTHENTICATION",
    }
    following = {"paging": {"next": {"after": "1"}}}
    vendor.will(
        Answer(body={"results": [record(1)], **following}),
        Answer(401, expired),
        Answer(body={"results": [record(2)]}),
    )
    async with line_to(vendor, HUBSPOT) as line:
        pages = await line.pages(CONTACTS.read(Checkpoint(), CONTEXT))
        assert line.renewals == 1
    assert set(held(CONTACTS, pages)) == {"1", "2"}
    assert vendor.calls[1].query == vendor.calls[2].query


async def test_a_limit_of_a_second_without_a_word_of_how_long_is_waited_for(
    vendor: Vendor,
) -> None:
    """The second page of a search was refused already (429, policy SECONDLY), with no header that
    says how long to wait.

    HubSpot/hubspot-api-ruby#27 (2020-04), HGData/mk-node-hubspot#89 (2018-05). Right: a second is
    waited for, and the page is asked for again.
    """
    limited = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "SECONDLY"}
    found = Answer(body={"results": [record(1)]})
    vendor.will(Answer(429, limited), found, found, Answer(body={"results": []}))
    async with line_to(vendor, HUBSPOT) as line:
        pages = await line.pages(DEALS.read(Checkpoint(since=0), CONTEXT))
        assert timedelta(seconds=1) <= line.clock.at - NOW < timedelta(seconds=10)
    assert set(held(DEALS, pages)) == {"1"}


# -- Webhooks -------------------------------------------------------------------------------------


def test_a_merge_that_makes_a_new_record_leaves_that_one_only() -> None:
    """A merge may make a record with an id of its own: the event names it beside the primary one
    and those merged away. A program that read the event's object again asked for a record that was
    no more, and nothing ever told it of the survivor.

    amp-labs/connectors#3487 (2026-09). Right: the survivor is held, and none of the others.
    """
    found = told(
        {
            "subscriptionType": "contact.merge", "objectId": 501, "primaryObjectId": 501,
            "mergedObjectIds": [502], "newObjectId": 700, "numberOfPropertiesMoved": 2,
        }
    )  # fmt: skip
    keys = [event.key for event in found if event.streams == ("contacts",)]
    assert set(keys) >= {"501", "502", "700"}

    def answer(request: Request) -> Response:
        if request.method == "POST":
            return response({"status": "COMPLETE", "results": [record(700)]})
        return response({"status": "error", "category": "OBJECT_NOT_FOUND"}, 404)

    fetch = CONTACTS.fetch
    assert fetch
    pages = drive(lambda at, context: fetch(keys, context), answer)
    assert set(held(CONTACTS, pages, {"501": record(501), "502": record(502)})) == {"700"}


def test_a_contact_erased_for_privacy_is_gone_though_nothing_can_be_read_of_it() -> None:
    """A contact that was deleted for privacy stayed in a mirror with all that was known of the
    person: the event led to a read of the contact, which failed, and was given up.

    margince/margince#232 (2026-07). Right: nothing of it is kept, without another read.
    """
    (event,) = told({"subscriptionType": "contact.privacyDeletion", "objectId": 31})
    assert (event.effect, event.streams, event.key) == (Effect.ERASE, ("contacts",), "31")


def test_events_in_the_generic_form_are_those_of_their_type() -> None:
    """HubSpot tells of the same changes in two forms: `contact.creation`, and `object.creation`
    with the type's number beside it. Programs that knew the first only missed the others.

    wso2/product-integrator#1671 (2026-06). Right: both are read; a type that is not synced costs
    its delivery nothing.
    """
    found = told(
        {"subscriptionType": "object.creation", "objectTypeId": "0-1", "objectId": 1},
        {"subscriptionType": "object.propertyChange", "objectTypeId": "0-2", "objectId": 2},
        {"subscriptionType": "object.creation", "objectTypeId": "2-3456789", "objectId": 3},
        {"subscriptionType": "object.merge", "objectTypeId": "0-3", "objectId": 4},
        {"subscriptionType": "object.deletion", "objectTypeId": "0-5", "objectId": 5},
    )
    assert [(event.streams[0], event.key) for event in found] == [
        ("contacts", "1"), ("companies", "2"), ("deals", "4"), ("tickets", "5"),
    ]  # fmt: skip


# -- Values ---------------------------------------------------------------------------------------


async def shown(database: Database, stream_name: str, sql: str, *found: Record) -> list[Any]:
    """What the view shows of those records, once they are stored."""
    stocked = await stock(database)
    stream = HUBSPOT.stream(stream_name)
    made = rows(stream, Page(found, Checkpoint()), NOW)
    async with database.transaction(stocked.tenant_id) as session:
        await records.write(
            session,
            stream=f"hubspot.{stream_name}",
            rows=made,
            tenant_id=stocked.tenant_id,
            connection_id=stocked.connection_id,
        )
        return [tuple(each) for each in await session.execute(text(sql))]


async def test_a_number_of_employees_beyond_all_reason_is_shown_as_it_is(
    database: Database,
) -> None:
    """A company had more employees than an integer column holds; every sync of companies failed on
    that one row.

    supaglue-labs/supaglue#1450 (2023-08). Right: it is stored and shown as it is.
    """
    found = await shown(
        database,
        "companies",
        "SELECT numberofemployees FROM hubspot_companies ORDER BY record_id",
        record(1, numberofemployees="78000000000"),
        record(2, numberofemployees="12.5"),
        record(3, numberofemployees=""),
    )
    assert found == [(Decimal(78_000_000_000),), (Decimal("12.5"),), (None,)]


async def test_a_close_date_is_the_instant_that_hubspot_keeps(database: Database) -> None:
    """A close date that a person picks as a day is kept by HubSpot as an instant in UTC; read as a
    day, or in another zone, it moved to the next one. Where none is set, the value is an empty
    text, which is no date.

    fivetran/dbt_hubspot#101 (2023-05), hubspot-net/HubSpot.NET#8 (2018-04). Right: the instant,
    with its zone; and nothing where there is none.
    """
    found = await shown(
        database,
        "deals",
        "SELECT closedate, amount FROM hubspot_deals ORDER BY record_id",
        record(1, closedate="2026-04-01T01:09:44.250Z", amount="1200.50"),
        record(2, closedate="", amount=""),
    )
    instant = datetime(2026, 4, 1, 1, 9, 44, 250_000, tzinfo=UTC)
    assert found == [(instant, Decimal("1200.50")), (None, None)]


# -- Situations that were known before ------------------------------------------------------------


def test_a_contact_that_answers_with_another_id_was_merged_into_that_one() -> None:
    """Asked for a contact that was merged away, HubSpot answers 200 with the survivor.

    supaglue-labs/supaglue#870, singer-io/tap-hubspot#49, fivetran/dbt_hubspot#46. Right: the row
    that was asked for goes; the survivor stays.
    """

    def answer(request: Request) -> Response:
        if request.method == "POST":
            return response({"status": "COMPLETE", "results": [record(301)]})
        return response(record(301))

    fetch = CONTACTS.fetch
    assert fetch
    pages = drive(lambda at, context: fetch(["301", "302"], context), answer)
    assert set(held(CONTACTS, pages, {"301": record(301), "302": record(302)})) == {"301"}


@pytest.mark.parametrize("minutes", [4, 20, 50])
def test_a_change_that_search_shows_late_comes_all_the_same(minutes: int) -> None:
    """HubSpot's search shows a change up to an hour after it was made.

    estuary/connectors#1861, airbytehq/airbyte#69203, supaglue-labs/supaglue#665. Right: it is held
    in the end, whatever was found before it.
    """
    made = NOW + timedelta(seconds=40)
    late = record(8, made.isoformat(timespec="milliseconds"), amount="250")
    now = NOW

    def answer(request: Request) -> Response:
        if not request.path.endswith("/search") or now < made + timedelta(minutes=minutes):
            return nothing()
        filters = request.json["filterGroups"][0]["filters"]
        floor = [int(f["value"]) for f in filters if f["propertyName"] == "hs_lastmodifieddate"]
        return response({"results": [late] if max(floor) <= milliseconds(made) else []})

    read = Followed(
        HUBSPOT, DEALS, by_id(answer, lambda id_: late), rows={"8": record(8, amount="100")},
        at={"since": milliseconds(NOW) - 300_000},
    )  # fmt: skip
    for minute in range(0, 200, 10):
        now = NOW + timedelta(minutes=minute)
        read.sync(now=now)
    assert read.rows["8"]["properties"]["amount"] == "250"


def test_a_poll_with_nothing_new_costs_no_more_for_what_was_archived_before() -> None:
    """Of a portal that archived 60,000 contacts in the last months, every poll read them all.

    singer-io/tap-hubspot#34, PipedreamHQ/pipedream#4209 are of the same kind. Right: some calls.
    """

    class Portal:
        calls = 0

        def __call__(self, request: Request) -> Response:
            self.calls += 1
            if request.path.endswith("/search"):
                return nothing()
            first = int(str(request.params.get("after", 0)))
            shown = [record(n) for n in range(first + 1, first + 101)]
            more = first + 100 < 60_000
            paging = {"paging": {"next": {"after": str(first + 100)}}} if more else {}
            return response({"results": shown, **paging})

    portal = Portal()
    read = Followed(HUBSPOT, CONTACTS, portal, at={"since": 0}).sync()
    portal.calls = 0
    read.sync(now=NOW + timedelta(minutes=5))
    assert portal.calls < 50


def test_an_object_that_the_portals_plan_does_not_have_stops_no_other_stream() -> None:
    """A portal's plan, or the person who consented, has no right to one kind of object.

    singer-io/tap-hubspot#16, airbytehq/airbyte#12484, PostHog/posthog#95301. Right: that stream
    says what is missing; no reconnect is asked for.
    """
    missing = {"message": "one or more are required", "context": {"requiredScopes": ["tickets"]}}
    body = {"status": "error", "category": "MISSING_SCOPES", "errors": [missing]}
    assert isinstance(judged(HUBSPOT, response(body, 403)), NotAllowedError)


@pytest.mark.parametrize(("status", "wait"), [(477, "7200"), (423, "2")])
def test_a_portal_that_is_away_for_a_while_is_waited_for(status: int, wait: str) -> None:
    """While HubSpot moves a portal to another data centre it answers 477, and 423 where too much
    came at once; both pass by themselves.

    PostHog/posthog#64985 (2026-06). Right: nobody has to act.
    """
    body = {"status": "error", "category": "MIGRATION_IN_PROGRESS"}
    answer = response(body, status, {"retry-after": wait})
    assert isinstance(judged(HUBSPOT, answer), RetryableError)


def test_an_event_of_an_association_costs_its_delivery_nothing() -> None:
    """Events of associations name two objects and have no `objectId`; they come among others.

    HubSpot/hubspot-api-php#236 (2023-04). Right: the others count.
    """
    found = told(
        {"subscriptionType": "ticket.propertyChange", "objectId": 61},
        {
            "subscriptionType": "ticket.associationChange", "fromObjectId": 61, "toObjectId": 62,
            "associationType": "TICKET_TO_CONTACT", "associationRemoved": True,
        },
        {"subscriptionType": "company.deletion", "objectId": 63},
    )  # fmt: skip
    assert {("tickets", "61"), ("companies", "63")} <= {(e.streams[0], e.key) for e in found}
