"""The Google Calendar sandbox, spoken to as the real one would be."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._google_account import SCOPE, GoogleAccount, alone, escaped, refusal

LIST = "/users/me/calendarList"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with alone("google_calendar") as client:
        yield client


@pytest.fixture
def diary(client: httpx.Client) -> GoogleAccount:
    return GoogleAccount(client, "google_calendar", size=60)


def events(diary: GoogleAccount, calendar: str = "primary") -> str:
    return f"/calendars/{escaped(calendar)}/events"


def a_calendar(diary: GoogleAccount, role: str) -> str:
    """The id of a calendar on the list in which the person has that role."""
    found = (id_ for id_, entry in diary.store("calendars").items() if entry["accessRole"] == role)
    return next(id_ for id_ in found if id_ != diary.id)


def test_the_list_shows_hidden_and_deleted_calendars_where_it_is_asked_to(
    diary: GoogleAccount,
) -> None:
    hidden = diary.order("calendars", "add", accessRole="reader")
    diary.order("calendars", "change", hidden, hidden=True)
    gone = diary.order("calendars", "add", accessRole="reader")
    diary.order("calendars", "delete", gone)
    plain = {entry["id"] for entry in diary.all(LIST, "items")[0]}
    assert not {hidden, gone} & plain
    shown, _ = diary.all(LIST, "items", showHidden="true", showDeleted="true")
    by_id = {entry["id"]: entry for entry in shown}
    assert by_id[hidden]["hidden"] is True
    assert by_id[gone]["deleted"] is True
    live, _ = diary.all(LIST, "items", showHidden="true")
    assert {entry["id"]: entry for entry in live} == diary.store("calendars")
    assert diary.get(f"{LIST}/primary").json()["id"] == diary.id


def test_a_delta_of_the_list_leaves_out_what_others_set(diary: GoogleAccount) -> None:
    _, token = diary.all(LIST, "items", showHidden="true")
    foreign = a_calendar(diary, "reader")
    diary.order("calendars", "change", foreign, summary="Renamed by its owner")
    changed, token = diary.all(LIST, "items", showHidden="true", syncToken=token)
    assert changed == []
    assert diary.get(f"{LIST}/{escaped(foreign)}").json()["summary"] == "Renamed by its owner"
    diary.order("calendars", "change", foreign, summaryOverride="Mine")
    diary.order("calendars", "delete", a_calendar(diary, "owner"))
    changed, _ = diary.all(LIST, "items", showHidden="true", syncToken=token)
    assert [entry.get("deleted", False) for entry in changed] == [False, True]


def test_a_sync_token_comes_with_the_last_page_only_and_pages_may_be_empty(
    client: httpx.Client,
) -> None:
    diary = GoogleAccount(client, "google_calendar", size=0)
    ids = sorted(
        diary.order("events", "add", calendar_id=diary.id, summary=str(number)).partition("/")[2]
        for number in range(5)
    )
    for id_ in ids[:3]:
        diary.order("events", "delete", f"{diary.id}/{id_}")
    bodies = []
    params: dict[str, Any] = {"maxResults": 2}
    while True:
        bodies.append(diary.get(events(diary), **params).json())
        if "nextPageToken" not in bodies[-1]:
            break
        params["pageToken"] = bodies[-1]["nextPageToken"]
    assert [[item["id"] for item in body["items"]] for body in bodies] == [[], [ids[3]], [ids[4]]]
    assert ["nextSyncToken" in body for body in bodies] == [False, False, True]


def test_what_changes_while_a_listing_is_paged_is_in_its_delta(diary: GoogleAccount) -> None:
    path = events(diary)
    first = diary.get(path, maxResults=10).json()
    changed = first["items"][0]["id"]
    diary.order("events", "change", f"{diary.id}/{changed}", summary="Later")
    _, token = diary.all(path, "items", maxResults=10, pageToken=first["nextPageToken"])
    delta, _ = diary.all(path, "items", maxResults=10, syncToken=token)
    assert [(item["id"], item["summary"]) for item in delta] == [(changed, "Later")]


@pytest.mark.parametrize(
    "param",
    [
        *("iCalUID", "orderBy", "privateExtendedProperty", "q", "sharedExtendedProperty"),
        *("timeMin", "timeMax", "updatedMin"),
    ],
)
def test_a_sync_token_does_not_go_together_with_a_filter(diary: GoogleAccount, param: str) -> None:
    _, token = diary.all(events(diary), "items")
    value = {"orderBy": "updated", "privateExtendedProperty": "a=b"}.get(param)
    asked = {param: value or (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    answer = diary.get(events(diary), syncToken=token, **asked)
    assert refusal(answer) == (400, "syncTokenWithRequestRestrictions")


def test_a_sync_token_of_the_list_does_not_go_together_with_what_narrows_it(
    diary: GoogleAccount,
) -> None:
    _, token = diary.all(LIST, "items", showHidden="true")
    for narrowed in (
        {"minAccessRole": "owner"},
        {"showOwnOrganizationOnly": "true"},
        {"showDeleted": "false"},
        {"showHidden": "false"},
    ):
        answer = diary.get(LIST, syncToken=token, **narrowed)
        assert refusal(answer) == (400, "syncTokenWithRequestRestrictions")
    assert diary.get(LIST, syncToken=token).status_code == 200


def test_other_parameters_must_be_those_of_the_first_request(diary: GoogleAccount) -> None:
    path = events(diary)
    first = diary.get(path, maxResults=5, singleEvents="true").json()
    assert refusal(diary.get(path, pageToken=first["nextPageToken"]))[0] == 400
    _, token = diary.all(path, "items", singleEvents="true")
    assert refusal(diary.get(path, syncToken=token)) == (400, "invalid")
    assert refusal(diary.get(path, syncToken=token, singleEvents="true", showDeleted="false")) == (
        400,
        "syncTokenWithRequestRestrictions",
    )
    assert diary.get(path, syncToken=token, singleEvents="true").json()["items"] == []
    other = events(diary, a_calendar(diary, "owner"))
    assert refusal(diary.get(other, syncToken=token, singleEvents="true")) == (400, "invalid")


def test_a_delta_is_paged_with_both_tokens(diary: GoogleAccount) -> None:
    path = events(diary)
    _, token = diary.all(path, "items")
    for number in range(7):
        diary.order("events", "add", calendar_id=diary.id, summary=str(number))
    first = diary.get(path, syncToken=token, maxResults=3).json()
    assert refusal(diary.get(path, maxResults=3, pageToken=first["nextPageToken"]))[0] == 400
    delta, _ = diary.all(path, "items", syncToken=token, maxResults=3)
    assert [item["summary"] for item in delta] == [str(number) for number in range(7)]


def test_an_expired_sync_token_is_a_410_of_its_calendar_alone(diary: GoogleAccount) -> None:
    foreign, own = a_calendar(diary, "reader"), a_calendar(diary, "owner")
    tokens = {one: diary.all(events(diary, one), "items")[1] for one in (foreign, own)}
    diary.order("calendars", "change", foreign, summaryOverride="no matter")
    assert diary.get(events(diary, foreign), syncToken=tokens[foreign]).status_code == 200
    diary.control("expire_checkpoints")
    for one in (foreign, own):
        answer = diary.get(events(diary, one), syncToken=tokens[one])
        assert refusal(answer) == (410, "fullSyncRequired")
    assert refusal(diary.get(LIST, syncToken="nonsense")) == (400, "invalidArgument")


def test_a_deleted_event_shows_details_to_who_may_write_and_its_id_to_others(
    diary: GoogleAccount,
) -> None:
    foreign = a_calendar(diary, "reader")
    for calendar, detailed in ((diary.id, True), (foreign, False)):
        path = events(diary, calendar)
        id_ = diary.order("events", "add", calendar_id=calendar, recurrence=[]).partition("/")[2]
        _, token = diary.all(path, "items")
        diary.order("events", "delete", f"{calendar}/{id_}")
        (gone,) = diary.all(path, "items", syncToken=token)[0]
        assert gone["status"] == "cancelled"
        assert ("summary" in gone) is detailed
        if not detailed:
            assert gone.keys() == {"kind", "etag", "id", "status"}
        assert diary.get(f"{path}/{id_}").json() == gone


def test_a_series_is_listed_with_its_exceptions_or_as_its_instances(
    client: httpx.Client,
) -> None:
    diary = GoogleAccount(client, "google_calendar", size=0)
    path = events(diary)
    series = diary.post(
        path,
        {
            "summary": "Stand-up",
            "start": {"dateTime": "2026-11-02T09:00:00Z", "timeZone": "UTC"},
            "end": {"dateTime": "2026-11-02T09:15:00Z", "timeZone": "UTC"},
            "recurrence": ["RRULE:FREQ=DAILY;COUNT=4"],
        },
    ).json()
    one, other = (f"{series['id']}_2026110{day}T090000Z" for day in (3, 4))
    assert diary.call("PATCH", f"{path}/{one}", {"summary": "Moved"}).status_code == 200
    assert diary.call("DELETE", f"{path}/{other}").status_code == 204
    listed, token = diary.all(path, "items")
    by_id = {item["id"]: item for item in listed}
    assert by_id.keys() == {series["id"], one, other}
    assert by_id[one]["summary"] == "Moved"
    assert by_id[one]["recurringEventId"] == series["id"]
    assert by_id[other].keys() == {
        *("kind", "etag", "id", "status", "recurringEventId", "originalStartTime")
    }
    instances, _ = diary.all(path, "items", singleEvents="true", orderBy="startTime")
    assert [item["start"]["dateTime"][:10] for item in instances] == [
        *("2026-11-02", "2026-11-03", "2026-11-05")
    ]
    assert len(diary.all(f"{path}/{series['id']}/instances", "items")[0]) == 3
    assert diary.call("DELETE", f"{path}/{series['id']}").status_code == 204
    gone, _ = diary.all(path, "items", syncToken=token)
    assert {item["id"]: item["status"] for item in gone} == dict.fromkeys(by_id, "cancelled")
    assert diary.all(path, "items")[0] == []
    assert refusal(diary.call("DELETE", f"{path}/{series['id']}")) == (410, "deleted")


def test_with_single_events_a_deleted_series_is_listed_by_its_instances(
    client: httpx.Client,
) -> None:
    diary = GoogleAccount(client, "google_calendar", size=0)
    path = events(diary)
    day = {"start": {"date": "2026-11-02"}, "end": {"date": "2026-11-03"}}
    rule = {"recurrence": ["RRULE:FREQ=WEEKLY;COUNT=3"]}
    series = diary.post(path, {"summary": "Off", **day, **rule}).json()["id"]
    _, token = diary.all(path, "items", singleEvents="true")
    diary.call("DELETE", f"{path}/{series}")
    gone, _ = diary.all(path, "items", singleEvents="true", syncToken=token)
    assert [(item["id"], item["status"]) for item in gone] == [
        (f"{series}_{date}", "cancelled") for date in ("20261102", "20261109", "20261116")
    ]


def test_reminders_alone_do_not_touch_the_time_of_the_last_change(diary: GoogleAccount) -> None:
    path = events(diary)
    id_ = diary.order("events", "add", calendar_id=diary.id).partition("/")[2]
    before = diary.get(f"{path}/{id_}").json()
    _, token = diary.all(path, "items")
    diary.client.post("/_control/clock", json={"advance": 60})
    reminders = {"useDefault": False, "overrides": [{"method": "popup", "minutes": 5}]}
    diary.call("PATCH", f"{path}/{id_}", {"reminders": reminders})
    (changed,) = diary.all(path, "items", syncToken=token)[0]
    assert changed["reminders"] == reminders
    assert changed["updated"] == before["updated"]
    assert changed["etag"] != before["etag"]


def test_who_sees_less_is_shown_less(diary: GoogleAccount) -> None:
    busy = a_calendar(diary, "freeBusyReader")
    diary.order("events", "add", calendar_id=busy, recurrence=[])
    for item in diary.all(events(diary, busy), "items")[0]:
        assert not {"summary", "description", "attendees", "location"} & item.keys()
        assert "status" in item


def test_the_store_is_what_the_api_gives(diary: GoogleAccount) -> None:
    diary.control("mutate", count=200, seed=5)
    found: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    for id_, entry in diary.store("calendars").items():
        for item in diary.all(events(diary, id_), "items", maxResults=2500)[0]:
            found[f"{id_}/{item['id']}"] = {**item, "calendar_id": id_}
        answer = diary.get(f"/calendars/{escaped(id_)}/acl")
        if entry["accessRole"] != "owner":
            assert refusal(answer) == (403, "requiredAccessLevel")
            continue
        for item in answer.json()["items"]:
            rules[f"{id_}/{item['id']}"] = {**item, "calendar_id": id_}
    assert (found, rules) == (diary.store("events"), diary.store("acl"))


def test_who_may_see_a_calendar_is_another_scope_than_reading_it(client: httpx.Client) -> None:
    read = [f"{SCOPE}calendar.readonly"]
    diary = GoogleAccount(client, "google_calendar", size=5, scopes=read)
    assert diary.get(events(diary)).status_code == 200
    assert diary.get(LIST).status_code == 200
    assert refusal(diary.get("/calendars/primary/acl")) == (403, "insufficientPermissions")
    assert refusal(diary.post(events(diary), {}))[0] == 403
    narrow = [f"{SCOPE}calendar.acls.readonly"]
    diary = GoogleAccount(client, "google_calendar", size=5, scopes=narrow)
    assert diary.get("/calendars/primary/acl").status_code == 200
    assert refusal(diary.get(LIST)) == (403, "insufficientPermissions")


def test_a_rule_is_added_changed_and_taken_back(diary: GoogleAccount) -> None:
    path = "/calendars/primary/acl"
    _, token = diary.all(path, "items")
    scope = {"type": "user", "value": "ben@firm.example"}
    made = diary.post(path, {"scope": scope, "role": "reader"}).json()
    assert made["id"] == "user:ben@firm.example"
    rule = f"{path}/{escaped(made['id'])}"
    assert diary.call("PATCH", rule, {"role": "writer"}).json()["role"] == "writer"
    assert diary.call("DELETE", rule).status_code == 204
    delta, _ = diary.all(path, "items", syncToken=token)
    assert [(item["id"], item["role"]) for item in delta] == [(made["id"], "none")]
    assert refusal(diary.get(rule)) == (404, "notFound")


def test_an_id_must_be_escaped_and_an_unknown_one_is_a_404(diary: GoogleAccount) -> None:
    holidays = next(id_ for id_ in diary.store("calendars") if "#" in id_)
    assert diary.get(events(diary, holidays)).status_code == 200
    raw = diary.client.get(f"{diary.base}/calendars/{holidays}/events", headers=diary.headers)
    assert refusal(raw)[0] == 404
    assert refusal(diary.get(events(diary, "nobody@firm.example"))) == (404, "notFound")
    assert refusal(diary.get(f"{events(diary)}/nothing")) == (404, "notFound")


def test_page_sizes_are_brought_down_to_what_is_allowed(client: httpx.Client) -> None:
    diary = GoogleAccount(client, "google_calendar", size=0)
    for number in range(260):
        diary.order("events", "add", calendar_id=diary.id, summary=str(number))
    assert len(diary.get(events(diary)).json()["items"]) == 250
    assert len(diary.get(events(diary), maxResults=9999).json()["items"]) == 260
    assert refusal(diary.get(events(diary), maxResults="many"))[0] == 400


def test_a_quota_is_counted_for_each_user_and_told_with_403_or_429() -> None:
    with start(["google_calendar"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        diary, other = (GoogleAccount(client, "google_calendar", size=0) for _ in range(2))
        client.post("/_control/google_calendar/limits", json={"scale": 0.005})  # three a minute
        statuses = [diary.get(LIST).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 403]
        assert refusal(diary.get(LIST)) == (403, "rateLimitExceeded")
        assert other.get(LIST).status_code == 200
        diary.control("quota_status", status=429)
        assert refusal(diary.get(LIST)) == (429, "rateLimitExceeded")
        client.post("/_control/clock", json={"advance": 61})
        assert diary.get(LIST).status_code == 200


def test_an_api_that_the_project_never_switched_on_says_so(diary: GoogleAccount) -> None:
    diary.control("project", switched_on=False)
    assert refusal(diary.get(LIST)) == (403, "accessNotConfigured")
    diary.control("project", switched_on=True)
    assert diary.get(LIST).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("429", 429, "rateLimitExceeded"),
        ("500", 500, "backendError"),
        ("503", 503, "backendError"),
        ("unauthorized", 401, "authError"),
    ],
)
def test_ordered_troubles_have_the_form_of_this_api(
    diary: GoogleAccount, kind: str, status: int, reason: str
) -> None:
    diary.control("faults", kind=kind, count=1, path="/calendarList")
    answer = diary.get(LIST)
    assert refusal(answer) == (status, reason)
    assert ("www-authenticate" in answer.headers) is (status == 401)


def test_two_sandboxes_of_one_seed_hold_the_same() -> None:
    stores = []
    for _ in range(2):
        with alone("google_calendar") as client:
            made: dict[str, Any] = {"id": "same@firm.example", "size": 40, "seed": 3}
            client.post("/_control/google_calendar/accounts", json=made)
            path = "/_control/google_calendar/store"
            answer = client.get(path, params={"account": made["id"]}).json()["streams"]
            stores.append({name: sorted(held) for name, held in answer.items()})
    assert stores[0] == stores[1]
