"""Google Calendar: what people reported of programs that read it, each played on ours."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest

from connectors import (
    BrokenConnectionError,
    ContractError,
    Delivery,
    NotAllowedError,
    Page,
    RateLimitedError,
    Request,
    Response,
    load,
)
from storage import records
from storage.database import Database
from tests._driving import NOW, response
from tests._stored import stock
from tests._web import serving_api, web_settings
from tests.reports._google import Mirror, meaning, refusal

CALENDAR = load("google_calendar")
BEN, TEAM = "ben@firm.example", "team@group.calendar.google.com"
BIRTHDAYS = "addressbook#contacts@group.v.calendar.google.com"


class Planner:
    """Calendars on a list, and for each a log of what happened in it.

    A sync token is a place in that log. A full listing shows what is there, and which instances of
    a series there are not; a delta what happened, as Google tells it.
    """

    def __init__(self, *calendars: str) -> None:
        self.calendars = list(calendars or (BEN,))
        self.events: dict[str, dict[str, dict[str, Any]]] = {one: {} for one in self.calendars}
        self.logs: dict[str, list[dict[str, Any]]] = {one: [] for one in self.calendars}
        self.oldest = dict.fromkeys(self.calendars, 0)
        self.answers: dict[str, Response] = {}
        self.page_size = 100
        self.pageless: set[str] = set()  # calendars whose listing ends without a sync token

    def put(self, id_: str, calendar: str = BEN, *, told: bool = True, **fields: Any) -> None:
        event = {"id": id_, "status": "confirmed", **fields}
        self.events[calendar][id_] = event
        if told:
            self.logs[calendar].append(event)

    def drop(self, id_: str, calendar: str = BEN, *, told: bool = True) -> None:
        """Only the id is sure to be there of an event that was deleted."""
        del self.events[calendar][id_]
        if told:
            self.logs[calendar].append({"id": id_, "status": "cancelled"})

    def forget(self, calendar: str = BEN) -> None:
        self.oldest[calendar] = len(self.logs[calendar]) + 1
        self.logs[calendar].append({"id": "unheard", "status": "cancelled"})

    def __call__(self, request: Request) -> Response:
        if request.path == "/users/me/calendarList":
            items = [{"id": one, "accessRole": "owner"} for one in self.calendars]
            return self.answers.get("list") or response({"items": items})
        calendar, _kind, *series = (unquote(part) for part in request.path.split("/")[2:])
        if series:
            mine = [one for one in self.events[calendar].values() if self._is_of(one, series[0])]
            return response({"items": mine})
        return self.answers.get(calendar) or self._listed(request, calendar)

    def _is_of(self, event: dict[str, Any], series: str) -> bool:
        return event.get("recurringEventId") == series

    def _listed(self, request: Request, calendar: str) -> Response:
        token = request.params.get("syncToken")
        if token is None:
            rows = list(self.events[calendar].values())
        elif int(str(token)) < self.oldest[calendar]:
            return refusal(410, "fullSyncRequired", "Sync token is no longer valid")
        else:
            news = self.logs[calendar][int(str(token)) :]
            rows = list({row["id"]: row for row in news}.values())
        first = int(str(request.params.get("pageToken", "0")))
        body: dict[str, Any] = {"items": rows[first : first + self.page_size]}
        if first + self.page_size < len(rows):
            body["nextPageToken"] = str(first + self.page_size)
        elif calendar not in self.pageless:
            body["nextSyncToken"] = str(len(self.logs[calendar]))
        return response(body)


def mirrored(planner: Planner, stream: str = "events") -> Mirror:
    """One who has read the calendars once."""
    mirror = Mirror(CALENDAR, stream, planner)
    mirror.poll()
    assert mirror.error is None
    return mirror


def of(mirror: Mirror, calendar: str = BEN) -> dict[str, Mapping[str, Any]]:
    return {row["id"]: row for row in mirror.rows.values() if row["calendar_id"] == calendar}


def instance(series: str, day: str, **fields: Any) -> dict[str, Any]:
    """What an instance of a series has that was changed, or taken out."""
    started = {"dateTime": f"{day}T09:00:00Z"}
    return {"recurringEventId": series, "originalStartTime": started, **fields}


def test_a_birthday_that_is_taken_from_the_contacts_goes_from_its_calendar() -> None:
    """webhookdb/webhookdb#765, 2023-08 (and home-assistant/core#116490, 2024-05): the calendar of
    the contacts' birthdays tells of no deletion in its deltas, so that the birthday of somebody
    who is no contact any more stayed for good. It is gone within a day."""
    planner = Planner(BEN, BIRTHDAYS)
    planner.put("birthday-carl", BIRTHDAYS)
    planner.put("birthday-dora", BIRTHDAYS)
    planner.put("lunch")
    mirror = mirrored(planner)
    planner.drop("birthday-carl", BIRTHDAYS, told=False)
    mirror.poll()
    mirror.poll(NOW + timedelta(days=1))
    assert set(of(mirror, BIRTHDAYS)) == {"birthday-dora"}
    assert set(of(mirror)) == {"lunch"}


def test_an_instance_that_was_cancelled_before_the_first_sync_is_known() -> None:
    """t4t5/caldir#54, 2026-08: instances of a series that had been cancelled before the first sync
    were dropped by the reader, and the series showed meetings that do not take place."""
    planner = Planner()
    planner.put("weekly", recurrence=["RRULE:FREQ=WEEKLY"])
    planner.put("weekly_20261109T090000Z", **instance("weekly", "2026-11-09", status="cancelled"))
    found = of(mirrored(planner))
    assert set(found) == {"weekly", "weekly_20261109T090000Z"}
    assert found["weekly_20261109T090000Z"]["status"] == "cancelled"


def test_what_was_deleted_while_the_token_was_no_good_goes_with_the_new_listing() -> None:
    """twentyhq/twenty#24095, 2026-08: a 410 was taken for an empty page, and later the full listing
    was merged into what there was: it shows no deletions, so what was deleted in between stayed."""
    planner = Planner(BEN, TEAM)
    planner.put("kept")
    planner.put("deleted")
    planner.put("other", TEAM)
    mirror = mirrored(planner)
    planner.drop("deleted")
    planner.put("new")
    planner.forget()
    mirror.poll()
    assert mirror.error is None
    assert set(of(mirror)) == {"kept", "new"}
    assert set(of(mirror, TEAM)) == {"other"}


def test_a_listing_anew_over_many_pages_takes_nothing_from_the_pages_after_the_first() -> None:
    """OpenWhispr/openwhispr#1571, 2026-08: of a calendar that was listed anew only the first page
    was read, and all that was not on it was deleted."""
    planner = Planner()
    planner.page_size = 2
    for number in range(7):
        planner.put(f"e{number}")
    mirror = mirrored(planner)
    planner.drop("e3")
    planner.forget()
    mirror.poll()
    assert set(of(mirror)) == {"e0", "e1", "e2", "e4", "e5", "e6"}


def test_with_a_series_go_all_its_instances() -> None:
    """googleapis/google-api-ruby-client#860, 2020-01: of a series that was deleted the deltas told
    only of the next months' instances, and the later ones stayed for ever."""
    planner = Planner()
    planner.put("weekly", recurrence=["RRULE:FREQ=WEEKLY"])
    for day in ("2026-11-09", "2027-10-04", "2031-01-06"):
        planner.put(f"weekly_{day.replace('-', '')}T090000Z", **instance("weekly", day))
    planner.put("lunch")
    mirror = mirrored(planner)
    for id_ in list(planner.events[BEN]):
        if id_.startswith("weekly_"):
            planner.drop(id_, told=False)
    planner.drop("weekly")
    mirror.poll()
    assert set(of(mirror)) == {"lunch"}


def test_instances_of_a_series_that_ends_before_them_do_not_stay() -> None:
    """odoo/odoo#287171, 2026-09: "this and following" splits a series: the old one ends, and a new
    one begins, whose instances have other ids. Nothing is told of the former instances that lie
    after the old one's end, and they stood beside the new ones in the same slot."""
    planner = Planner()
    planner.put("standup", recurrence=["RRULE:FREQ=WEEKLY"])
    planner.put("standup_20261102T090000Z", **instance("standup", "2026-11-02", summary="early"))
    planner.put("standup_20261116T090000Z", **instance("standup", "2026-11-16", summary="late"))
    mirror = mirrored(planner)
    planner.drop("standup_20261116T090000Z", told=False)
    planner.put("standup", recurrence=["RRULE:FREQ=WEEKLY;UNTIL=20261108T235959Z"])
    planner.put("standup_R20261109T090000", recurrence=["RRULE:FREQ=WEEKLY"])
    new = instance("standup_R20261109T090000", "2026-11-16", summary="late")
    planner.put("standup_R20261109T090000_20261116T090000Z", **new)
    mirror.poll()
    assert set(of(mirror)) == {
        "standup",
        "standup_20261102T090000Z",
        "standup_R20261109T090000",
        "standup_R20261109T090000_20261116T090000Z",
    }


def test_a_calendar_that_answers_404_while_it_is_on_the_list_loses_nothing() -> None:
    """insanum/gcalcli#591, 2021-03: the events of a calendar that is on the list answered 404 from
    one day to the next, though its owner could still write to it; all the others were then not
    read either. What is on the list is not deleted: what is held of it stays, the others go on."""
    planner = Planner(TEAM, BEN)
    planner.put("retreat", TEAM)
    planner.put("lunch")
    mirror = mirrored(planner)
    planner.answers[TEAM] = refusal(404, "notFound", "Not Found")
    planner.put("dinner")
    mirror.poll()
    assert [one.part for one in mirror.unread] == [TEAM]
    assert set(of(mirror)) == {"lunch", "dinner"}
    assert set(of(mirror, TEAM)) == {"retreat"}
    del planner.answers[TEAM]
    planner.put("party", TEAM)
    mirror.poll(NOW + timedelta(hours=1))
    assert set(of(mirror, TEAM)) == {"retreat", "party"}


def test_a_quota_that_is_used_up_is_told_by_its_reason_and_not_by_its_status() -> None:
    """alextselegidis/easyappointments#995, 2021-01: with some people's calendars in one project the
    quota of queries was used up: 403, PERMISSION_DENIED, `rateLimitExceeded`. Nobody lacks a
    permission: one waits."""
    message = "Quota exceeded for quota group 'default' and limit 'Queries per user per 100 s'"
    refused = refusal(403, "rateLimitExceeded", message, status="PERMISSION_DENIED")
    assert isinstance(meaning(CALENDAR, refused), RateLimitedError)


def test_the_calendars_usage_limits_pass_by_themselves() -> None:
    """alextselegidis/easyappointments#1113, 2021-08: 403 `quotaExceeded`, "Calendar usage limits
    exceeded.", of a new account in a new project, too: those who reconnected were refused again."""
    refused = refusal(403, "quotaExceeded", "Calendar usage limits exceeded.")
    assert isinstance(meaning(CALENDAR, refused), RateLimitedError)


def test_a_daily_limit_without_a_project_is_nothing_that_a_tenant_can_mend() -> None:
    """phw198/OutlookGoogleCalendarSync#687, 2019-03: 403 `dailyLimitExceededUnreg`, the daily limit
    for calls that Google ascribes to no project: what is wrong is the app's, and people were told
    to sign in again, in vain."""
    refused = refusal(
        403, "dailyLimitExceededUnreg", "Daily Limit for Unauthenticated Use Exceeded."
    )
    error = meaning(CALENDAR, refused)
    assert isinstance(error, ContractError | RateLimitedError)


def test_a_listing_that_ends_without_a_sync_token_is_no_reason_to_stop() -> None:
    """googleapis/google-api-php-client#1141, 2017-01: the listing of a calendar ended with neither
    a next page nor a sync token. What it showed counts, the calendars after it are read, and it is
    listed again next time."""
    planner = Planner(TEAM, BEN)
    planner.put("retreat", TEAM)
    planner.put("lunch")
    planner.pageless = {TEAM}
    mirror = Mirror(CALENDAR, "events", planner)
    mirror.poll()
    assert (set(of(mirror, TEAM)), set(of(mirror))) == ({"retreat"}, {"lunch"})
    planner.drop("retreat", TEAM)
    planner.put("party", TEAM)
    mirror.poll()
    assert (set(of(mirror, TEAM)), set(of(mirror))) == ({"party"}, {"lunch"})


def test_an_empty_page_is_not_the_end_and_a_circle_of_pages_is() -> None:
    """fastrepl/anarlog#7631, 2026-09: a page may be short, or empty, and still name a next one; a
    reader that took it for the last deleted what followed. And a token that comes again, also in
    turns with another, must not be followed for ever."""
    planner = Planner()
    planner.put("lunch")
    mirror = mirrored(planner)
    pages: dict[Any, dict[str, Any]] = {
        None: {"items": [], "nextPageToken": "one"},
        "one": {"items": [], "nextPageToken": "two"},
        "two": {"items": [{"id": "late", "status": "confirmed"}], "nextSyncToken": "9"},
    }

    def paged(request: Request) -> Response:
        if request.path == "/users/me/calendarList":
            return planner(request)
        return response(pages[request.params.get("pageToken")])

    mirror.vendor = paged
    mirror.poll()
    assert set(of(mirror)) == {"lunch", "late"}
    pages["two"] = {"items": [], "nextPageToken": "one"}
    assert len(mirror.poll()) < 20


def test_an_event_without_a_start_is_kept_as_it_came() -> None:
    """PopulateTools/gobierto#1192, 2017-11: some events have no start and no end, and broke the
    sync for all that came after them."""
    planner = Planner()
    planner.put("odd", summary="no time")
    planner.put("lunch", start={"dateTime": "2026-11-02T12:00:00+01:00"})
    mirror = mirrored(planner)
    assert set(of(mirror)) == {"odd", "lunch"}


def test_an_event_without_a_name_is_kept_as_it_came() -> None:
    """kuzmoyev/google-calendar-simple-api#67, 2021-01: who gives an event no name gets one without
    `summary`, which readers asked for."""
    planner = Planner()
    planner.put("nameless", start={"date": "2026-11-02"})
    planner.put("lunch", summary="Lunch")
    assert set(of(mirrored(planner))) == {"nameless", "lunch"}


def test_what_was_in_a_calendar_that_is_taken_off_the_list_goes_with_it() -> None:
    """calcom/cal.diy#8248, 2023-04: the events of a calendar that was no longer connected went on
    to block people's time."""
    planner = Planner(BEN, TEAM)
    planner.put("lunch")
    planner.put("retreat", TEAM)
    mirror = mirrored(planner)
    planner.calendars.remove(TEAM)
    mirror.poll()
    assert set(mirror.rows) == {f"{BEN}/lunch"}


def test_credentials_that_are_no_good_are_the_tenants_to_renew() -> None:
    """phw198/OutlookGoogleCalendarSync#540, 2018-06: after a password was changed Google said 401,
    invalid credentials, and the sync went round without saying so."""
    refused = refusal(401, "authError", "Invalid Credentials", status="UNAUTHENTICATED")
    assert isinstance(meaning(CALENDAR, refused), BrokenConnectionError)


def message(state: str, number: int = 7) -> Delivery:
    """A message of a channel: Google sends no body."""
    return Delivery(
        method="POST",
        url="https://sync.test/api/webhooks/google_calendar",
        headers=channel_headers(state, number),
        query={},
        body=b"",
        received_at=NOW,
    )


def channel_headers(state: str, number: int = 7) -> dict[str, str]:
    address = "https://www.googleapis.com/calendar/v3/calendars/ben%40firm.example/events"
    return {
        "x-goog-channel-id": "8a6f",
        "x-goog-channel-token": "t",
        "x-goog-resource-id": "R6",
        "x-goog-resource-uri": address,
        "x-goog-resource-state": state,
        "x-goog-message-number": str(number),
    }


def test_a_calendars_message_says_exists_and_holds_nothing() -> None:
    """activepieces/activepieces#13425, 2026-05: the trigger waited for the states of Drive and for
    the event in the body. Calendar says `exists` (or `not_exists`), without a body: what changed is
    in the delta; `sync` is the greeting of a new channel."""
    assert CALENDAR.webhook
    assert CALENDAR.webhook.events(message("sync", 1)) == ()
    for state in ("exists", "not_exists"):
        (event,) = CALENDAR.webhook.events(message(state))
        assert event.streams == ("events",)


async def test_messages_of_a_channel_that_was_stopped_do_no_harm(
    database_url: str, redis_url: str
) -> None:
    """googleapis/google-api-nodejs-client#1402, 2018-10: after a channel was stopped, its messages
    went on to come for a while. They are answered as if all were well, and change nothing."""
    given = web_settings(
        database_url,
        redis_url=redis_url,
        nextauth_url="https://sync.test",
        nextauth_secret="canary-nextauth-secret-of-enough-characters",
    )
    async with serving_api(given) as api:
        headers = channel_headers("exists")
        answer = await api.http.post("/api/webhooks/google_calendar", headers=headers)
    assert answer.is_success
    with psycopg.connect(database_url) as sql:
        assert sql.execute("SELECT count(*) FROM events").fetchall() == [(0,)]


async def shown(database: Database, url: str, mirror: Mirror, query: str, zone: str) -> list[Any]:
    """What a person reads in the view, whose session has that time zone."""
    stocked = await stock(database)
    rows = records.rows(mirror.stream, Page(list(mirror.rows.values()), mirror.at), NOW)
    async with database.transaction(stocked.tenant_id) as session:
        await records.write(
            session, stream="google_calendar.events", rows=rows, scan_id=None, **stocked.ids
        )
    with psycopg.connect(url) as sql:
        sql.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        return sql.execute(query.encode()).fetchall()


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "UTC", "Pacific/Auckland"])
async def test_a_whole_day_is_the_same_day_in_every_time_zone(
    database: Database, database_url: str, zone: str
) -> None:
    """marcoancona/MineTime#27, 2018-03: events of a whole day, which have a date and no time, came
    out a day early for people west of Greenwich: a date was read as midnight in some zone."""
    planner = Planner()
    planner.put("holiday", start={"date": "2026-11-02"}, end={"date": "2026-11-03"})
    query = "SELECT starts_on, ends_on, starts_at FROM google_calendar_events"
    found = await shown(database, database_url, mirrored(planner), query, zone)
    assert found == [(date(2026, 11, 2), date(2026, 11, 3), None)]


# Found while the one before was played: it does not count for the first try.


async def test_the_day_on_which_an_instance_was_to_be_is_a_column_like_its_time(
    database: Database, database_url: str
) -> None:
    """An instance of a series of whole days is known by the date on which it was to be, and has no
    time for that."""
    planner = Planner()
    was, now = {"date": "2026-11-04"}, {"date": "2026-11-05"}
    planner.put("daily_20261104", recurringEventId="daily", originalStartTime=was, start=now)
    query = "SELECT original_starts_on, original_starts_at FROM google_calendar_events"
    found = await shown(database, database_url, mirrored(planner), query, "America/Los_Angeles")
    assert found == [(date(2026, 11, 4), None)]


# A situation that was known before: it does not count for the first try.


def test_an_account_without_a_calendar_is_told_to_switch_it_on() -> None:
    """webhookdb/webhookdb#624, 2023-03: a Google account that never used Calendar: 403
    `notACalendarUser`. The tenant has to act, and what it reads must not be that our
    authorisation is refused: to grant once more what was granted mends nothing."""
    refused = refusal(403, "notACalendarUser", "The user must be signed up for Google Calendar.")
    error = meaning(CALENDAR, refused)
    assert isinstance(error, NotAllowedError)
    assert "authorisation" not in str(error)
