"""Google's own SDK against the Calendar sandbox, with only its endpoint set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from google.auth.exceptions import RefreshError
from googleapiclient import channel
from googleapiclient.http import BatchHttpRequest

from tests._receiver import receiving
from tests.referees._google import Referee, alone, pages, refused

pytestmark = pytest.mark.referee

NOON = {"dateTime": "2026-11-02T12:00:00Z", "timeZone": "UTC"}
ONE = {"dateTime": "2026-11-02T13:00:00Z", "timeZone": "UTC"}


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with alone("google_calendar") as client:
        yield client


@pytest.fixture
def referee(control: httpx.Client) -> Iterator[Referee]:
    made = Referee(control, "google_calendar", "calendar", "v3")
    yield made
    made.api.close()


def items(resource: Any, **asked: Any) -> tuple[list[dict[str, Any]], str]:
    read = pages(resource, **asked)
    return [item for page in read for item in page["items"]], read[-1]["nextSyncToken"]


def test_the_list_of_calendars_is_read_and_followed(referee: Referee) -> None:
    entries = referee.api.calendarList()
    listed, token = items(entries, showHidden=True, maxResults=3)
    assert {entry["id"]: entry for entry in listed} == referee.store("calendars")
    assert entries.get(calendarId="primary").execute()["id"] == referee.account
    gone = next(entry["id"] for entry in listed if entry["accessRole"] == "reader")
    entries.patch(calendarId=referee.account, body={"summaryOverride": "Mine"}).execute()
    entries.delete(calendarId=gone).execute()
    changed, _ = items(entries, showHidden=True, syncToken=token)
    assert [(one["id"], one.get("deleted")) for one in changed] == [
        (referee.account, None),
        (gone, True),
    ]


def test_the_events_of_every_calendar_are_read(referee: Referee) -> None:
    found = {}
    for entry in items(referee.api.calendarList(), showHidden=True)[0]:
        id_ = entry["id"]  # the SDK escapes it
        for event in items(referee.api.events(), calendarId=id_, maxResults=20)[0]:
            found[f"{id_}/{event['id']}"] = {**event, "calendar_id": id_}
    assert found == referee.store("events")
    assert any("#" in key for key in found)


def test_changes_are_followed_by_a_sync_token_until_it_expires(referee: Referee) -> None:
    events = referee.api.events()
    _, token = items(events, calendarId="primary")
    made = events.insert(
        calendarId="primary", body={"summary": "Lunch", "start": NOON, "end": ONE}
    ).execute()
    events.patch(calendarId="primary", eventId=made["id"], body={"location": "Bogotá"}).execute()
    (changed,), token = items(events, calendarId="primary", syncToken=token)
    assert (changed["id"], changed["location"]) == (made["id"], "Bogotá")
    events.delete(calendarId="primary", eventId=made["id"]).execute()
    (gone,), token = items(events, calendarId="primary", syncToken=token)
    assert (gone["id"], gone["status"]) == (made["id"], "cancelled")
    referee.order("expire_checkpoints")
    again = events.list(calendarId="primary", syncToken=token)
    assert refused(again) == (410, "fullSyncRequired")


def test_a_series_has_instances_and_exceptions(referee: Referee) -> None:
    events = referee.api.events()
    body = {"summary": "Zebra demo", "start": NOON, "end": ONE}
    series = events.insert(
        calendarId="primary", body={**body, "recurrence": ["RRULE:FREQ=WEEKLY;COUNT=3"]}
    ).execute()
    instances = events.instances(calendarId="primary", eventId=series["id"]).execute()["items"]
    assert len(instances) == 3
    moved = events.patch(
        calendarId="primary", eventId=instances[1]["id"], body={"summary": "Moved"}
    ).execute()
    assert moved["recurringEventId"] == series["id"]
    events.delete(calendarId="primary", eventId=instances[2]["id"]).execute()
    listed, _ = items(events, calendarId="primary")
    held = {event["id"]: event["status"] for event in listed if series["id"] in event["id"]}
    assert held == {
        series["id"]: "confirmed",
        instances[1]["id"]: "confirmed",
        instances[2]["id"]: "cancelled",
    }
    single = events.list(
        calendarId="primary", singleEvents=True, orderBy="startTime", q="zebra",
        timeMin="2026-11-01T00:00:00Z", timeMax="2026-12-01T00:00:00Z",
    ).execute()  # fmt: skip
    assert [event["id"] for event in single["items"]] == [instances[0]["id"]]


def test_a_secondary_calendar_is_made_renamed_shared_and_deleted(referee: Referee) -> None:
    calendars, acl = referee.api.calendars(), referee.api.acl()
    made = calendars.insert(body={"summary": "Plans"}).execute()["id"]
    assert calendars.patch(calendarId=made, body={"summary": "Old plans"}).execute()["id"] == made
    assert referee.store("calendars")[made]["summary"] == "Old plans"
    _, token = items(acl, calendarId=made)
    body = {"scope": {"type": "domain", "value": "firm.example"}, "role": "reader"}
    rule = acl.insert(calendarId=made, body=body).execute()["id"]
    acl.patch(calendarId=made, ruleId=rule, body={"role": "writer"}).execute()
    (changed,), token = items(acl, calendarId=made, syncToken=token)
    assert (changed["id"], changed["role"]) == (rule, "writer")
    acl.delete(calendarId=made, ruleId=rule).execute()
    (changed,), _ = items(acl, calendarId=made, syncToken=token)
    assert (changed["id"], changed["role"]) == (rule, "none")
    calendars.delete(calendarId=made).execute()
    assert refused(calendars.get(calendarId=made)) == (404, "notFound")
    assert made not in referee.store("calendars")


def test_what_is_wrong_is_told_with_its_reason(referee: Referee) -> None:
    events = referee.api.events()
    assert refused(events.list(calendarId="nobody@firm.example")) == (404, "notFound")
    assert refused(events.insert(calendarId="primary", body={})) == (400, "required")
    _, token = items(events, calendarId="primary")
    bad = events.list(calendarId="primary", syncToken=token, q="x")
    assert refused(bad) == (400, "syncTokenWithRequestRestrictions")
    referee.order("faults", kind="429", count=1)
    assert refused(events.list(calendarId="primary")) == (429, "rateLimitExceeded")
    foreign = next(
        id_ for id_, one in referee.store("calendars").items() if one["accessRole"] == "reader"
    )
    assert refused(referee.api.acl().list(calendarId=foreign)) == (403, "requiredAccessLevel")


def test_settings_are_read(referee: Referee) -> None:
    listed, _ = items(referee.api.settings())
    assert {one["id"]: one["value"] for one in listed}["timezone"] == "UTC"
    assert referee.api.settings().get(setting="locale").execute()["value"] == "en"


def test_a_channel_is_opened_read_from_and_stopped(referee: Referee) -> None:
    with receiving() as receiver:
        opened = channel.new_webhook_channel(receiver.url, token="s3cret")
        watch = referee.api.events().watch(calendarId="primary", body=opened.body())
        opened.update(watch.execute())
        assert opened.resource_id
        receiver.wait(1)
        referee.change("events", "add", calendar_id=referee.account)
        told = [channel.notification_from_headers(opened, one.headers) for one in receiver.wait(2)]
        assert [one.state for one in told] == ["sync", "exists"]
        assert told[0].message_number == 1
        assert {one.resource_uri for one in told} == {opened.resource_uri}
        assert refused(watch) == (400, "channelIdNotUnique")
        stop = referee.api.channels().stop(body=opened.body())
        assert stop.execute() == ""
        assert refused(stop) == (404, "channelIdNotFound")


def test_a_batch_answers_each_request(referee: Referee) -> None:
    answers: dict[str, Any] = {}
    batch = BatchHttpRequest(
        callback=lambda id_, answer, error: answers.update({id_: error or answer["summary"]}),
        batch_uri=referee.described["batch_url"],
    )
    for id_ in referee.store("calendars"):
        batch.add(referee.api.calendars().get(calendarId=id_), request_id=id_)
    batch.execute()
    assert answers == {id_: entry["summary"] for id_, entry in referee.store("calendars").items()}


def test_an_expired_token_is_refreshed_by_itself_and_a_revoked_one_is_not(
    referee: Referee,
) -> None:
    kept, former = referee.credentials.refresh_token, referee.credentials.token
    referee.order("tokens", op="expire")
    assert referee.api.settings().list().execute()["items"]
    assert referee.credentials.token != former
    assert referee.credentials.refresh_token == kept
    referee.order("tokens", op="revoke")
    with pytest.raises(RefreshError) as ended:
        referee.api.settings().list().execute()
    assert ended.value.args[1]["error"] == "invalid_grant"
