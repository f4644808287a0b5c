"""Channels of Google's sandboxed vendors, as the receiver of their messages sees them."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox.kernel.values import Json
from tests._delivered import Place, sandboxed
from tests._google_account import escaped, refusal
from tests._receiver import Answering, Received

CALENDAR = "/www.googleapis.com/calendar/v3"
DRIVE = "/www.googleapis.com/drive/v3"
DAY = 86_400
_ids = count(1)


@dataclass
class Watcher:
    """An account whose changes are watched."""

    place: Place
    account: str
    base: str

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.place.call(self.account, method, f"{self.base}{path}", body)

    def asked(self, **more: Any) -> Json:
        """What a channel is opened with."""
        given = {"id": f"channel-{next(_ids)}", "type": "web_hook", "token": "s3cret"}
        return {**given, "address": self.place.receiver.url, **more}

    def open(self, path: str, **more: Any) -> Json:
        answer = self.call("POST", path, self.asked(**more))
        assert answer.status_code == 200, answer.text
        made: Json = answer.json()
        return made

    def start(self) -> str:
        token = self.call("GET", "/changes/startPageToken").json()["startPageToken"]
        return f"/changes/watch?pageToken={token}"

    def settled(self) -> list[Received]:
        self.place.standing(idle=True)
        return self.place.receiver.calls

    def told(self) -> list[tuple[str, str]]:
        """Channel and state of each message."""
        return [
            (call.headers["x-goog-channel-id"], call.headers["x-goog-resource-state"])
            for call in self.settled()
        ]


@pytest.fixture
def diary() -> Iterator[Watcher]:
    with sandboxed("google_calendar") as place:
        yield Watcher(place, place.connect(size=12), CALENDAR)


@pytest.fixture
def cabinet() -> Iterator[Watcher]:
    with sandboxed("google_drive") as place:
        yield Watcher(place, place.connect(size=12), DRIVE)


def test_a_channel_says_that_it_is_open_and_then_each_change(diary: Watcher) -> None:
    made = diary.open("/calendars/primary/events/watch")
    for _ in range(2):
        diary.place.change(diary.account, "events", "add", record={"calendar_id": diary.account})
    first, *rest = diary.settled()
    assert first.body == b""
    assert first.headers["content-length"] == "0"
    assert first.headers["content-type"].startswith("application/json")
    assert first.headers["x-goog-resource-state"] == "sync"
    assert first.headers["x-goog-message-number"] == "1"
    assert first.headers["x-goog-channel-token"] == "s3cret"
    assert first.headers["x-goog-channel-id"] == made["id"]
    assert first.headers["x-goog-resource-id"] == made["resourceId"]
    assert first.headers["x-goog-resource-uri"] == made["resourceUri"]
    # A date here, milliseconds in the API.
    ends = parsedate_to_datetime(first.headers["x-goog-channel-expiration"]).timestamp()
    assert ends == int(made["expiration"]) // 1000
    assert [call.headers["x-goog-resource-state"] for call in rest] == ["exists"] * 2
    numbers = [int(call.headers["x-goog-message-number"]) for call in rest]
    assert 2 < numbers[0] < numbers[1] - 1  # they rise with gaps


def test_a_change_is_told_on_the_channels_of_its_resource_alone(diary: Watcher) -> None:
    channels = {
        name: diary.open(path)["id"]
        for name, path in {
            "list": "/users/me/calendarList/watch",
            "events": "/calendars/primary/events/watch",
            "acl": "/calendars/primary/acl/watch",
            "settings": "/users/me/settings/watch",
        }.items()
    }
    opened = len(diary.settled())
    place, account = diary.place, diary.account
    place.change(account, "events", "add", record={"calendar_id": account})
    place.change(account, "acl", "add", record={"calendar_id": account})
    place.change(account, "calendars", "change", id=account, record={"colorId": "3"})
    # What only others set is not told.
    place.change(account, "calendars", "change", id=account, record={"summary": "Renamed"})
    told = diary.told()[opened:]
    assert sorted(told) == sorted((channels[name], "exists") for name in ("events", "acl", "list"))


def test_a_calendar_that_is_deleted_says_so_on_its_channel(diary: Watcher) -> None:
    made = diary.call("POST", "/calendars", {"summary": "Short-lived"}).json()["id"]
    channel = diary.open(f"/calendars/{escaped(made)}/events/watch")["id"]
    assert diary.call("DELETE", f"/calendars/{escaped(made)}").status_code == 204
    assert (channel, "not_exists") in diary.told()


def test_an_id_is_used_once_and_has_at_most_64_signs(diary: Watcher) -> None:
    path = "/users/me/calendarList/watch"
    made = diary.open(path)
    for bad, reason in (
        ({"id": made["id"]}, "channelIdNotUnique"),
        ({"id": "x" * 65}, "invalid"),
        ({"id": ""}, "invalid"),
        ({"type": "carrier-pigeon"}, "invalid"),
        ({"address": "http://sync.example/hooks"}, "push.webhookUrlNotHttps"),
        ({"expiration": "1"}, "invalid"),
        ({"token": "x" * 257}, "invalid"),
    ):
        assert refusal(diary.call("POST", path, diary.asked(**bad))) == (400, reason)
    body = {"id": made["id"], "resourceId": made["resourceId"]}
    assert diary.call("POST", "/channels/stop", body).status_code == 204
    again = diary.call("POST", path, diary.asked(id=made["id"]))
    assert refusal(again) == (400, "channelIdNotUnique")


def test_channels_overlap_and_one_is_stopped_by_its_resource(diary: Watcher) -> None:
    path = "/calendars/primary/events/watch"
    former, newer = diary.open(path), diary.open(path)
    assert former["resourceId"] == newer["resourceId"]
    assert len(diary.settled()) == 2
    place, record = diary.place, {"calendar_id": diary.account}
    place.change(diary.account, "events", "add", record=record)
    assert set(diary.told()[2:]) == {(former["id"], "exists"), (newer["id"], "exists")}
    stop = "/channels/stop"
    assert refusal(diary.call("POST", stop, {"id": former["id"]})) == (400, "required")
    other = {"id": former["id"], "resourceId": "another"}
    assert refusal(diary.call("POST", stop, other))[0] == 404
    right = {"id": former["id"], "resourceId": former["resourceId"]}
    stranger = Watcher(place, place.connect(), CALENDAR)
    assert refusal(stranger.call("POST", stop, right))[0] == 404
    assert diary.call("POST", stop, right).status_code == 204
    assert refusal(diary.call("POST", stop, right))[0] == 404
    place.change(diary.account, "events", "add", record=record)
    assert diary.told()[4:] == [(newer["id"], "exists")]


def test_a_channel_ends_after_a_week_at_most_and_is_not_renewed(diary: Watcher) -> None:
    made = diary.open("/calendars/primary/events/watch", expiration="9" * 13)
    short = diary.open("/calendars/primary/events/watch", params={"ttl": "60"})
    assert int(short["expiration"]) < int(made["expiration"])
    place, record = diary.place, {"calendar_id": diary.account}
    assert len(diary.settled()) == 2
    place.advance(61)
    place.change(diary.account, "events", "add", record=record)
    assert diary.told()[2:] == [(made["id"], "exists")]
    place.advance(7 * DAY)
    place.change(diary.account, "events", "add", record=record)
    assert len(diary.settled()) == 3


def test_some_calendars_cannot_be_watched(diary: Watcher) -> None:
    calendars = diary.place.store(diary.account)["calendars"]
    holidays = next(id_ for id_ in calendars if "#" in id_)
    path = f"/calendars/{escaped(holidays)}/events/watch"
    answer = diary.call("POST", path, diary.asked())
    assert refusal(answer) == (400, "pushNotSupportedForRequestedResource")
    foreign = next(id_ for id_, one in calendars.items() if one["accessRole"] == "reader")
    answer = diary.call("POST", f"/calendars/{escaped(foreign)}/acl/watch", diary.asked())
    assert refusal(answer) == (403, "requiredAccessLevel")


@pytest.mark.parametrize(("status", "sent"), [(204, 1), (503, 3), (404, 1), (400, 1)])
def test_only_a_server_that_cannot_now_is_tried_again(
    diary: Watcher, status: int, sent: int
) -> None:
    diary.place.order(retry_scale=0.001)
    answers = iter([status, status])
    diary.place.receiver.answer = lambda call: Answering(next(answers, 200))
    diary.open("/users/me/calendarList/watch")
    assert len(diary.settled()) == sent


def test_with_the_consent_its_channels_go_silent(diary: Watcher) -> None:
    diary.open("/calendars/primary/events/watch")
    assert len(diary.settled()) == 1
    diary.place.control("POST", "tokens", account=diary.account, op="revoke")
    diary.place.change(diary.account, "events", "add", record={"calendar_id": diary.account})
    assert len(diary.settled()) == 1


def test_a_log_of_drive_says_that_it_changed(cabinet: Watcher) -> None:
    made = cabinet.open(cabinet.start())
    id_ = cabinet.place.change(cabinet.account, "files", "add", record={"corpus": "user"})
    cabinet.place.change(cabinet.account, "files", "change", id=id_, record={"name": "New"})
    assert cabinet.told() == [(made["id"], "sync"), *[(made["id"], "change")] * 2]
    assert "/changes?pageToken=" in made["resourceUri"]
    missing = cabinet.call("POST", "/changes/watch", cabinet.asked())
    assert refusal(missing) == (400, "required")


def test_a_shared_drive_tells_on_a_channel_of_its_own(cabinet: Watcher) -> None:
    drive = next(iter(cabinet.place.store(cabinet.account)["shared_drives"]))
    whose = f"driveId={drive}&supportsAllDrives=true&includeItemsFromAllDrives=true"
    token = cabinet.call("GET", f"/changes/startPageToken?{whose}").json()["startPageToken"]
    made = cabinet.open(f"/changes/watch?pageToken={token}&{whose}")
    cabinet.place.change(cabinet.account, "files", "add", record={"corpus": "user"})
    cabinet.place.change(cabinet.account, "files", "add", record={"corpus": drive})
    assert cabinet.told() == [(made["id"], "sync"), (made["id"], "change")]


def test_a_file_says_what_became_of_it(cabinet: Watcher) -> None:
    file = cabinet.call("POST", "/files", {"name": "Watched"}).json()["id"]
    cabinet.open(f"/files/{file}/watch")
    path = f"/files/{file}"
    cabinet.call("PATCH", path, {"name": "Renamed"})
    everybody = {"type": "anyone", "role": "reader"}
    cabinet.call("POST", f"{path}/permissions", everybody)
    cabinet.call("PATCH", path, {"trashed": True})
    cabinet.call("PATCH", path, {"trashed": False})
    cabinet.call("DELETE", path)
    told = [
        (call.headers["x-goog-resource-state"], call.headers.get("x-goog-changed"))
        for call in cabinet.settled()
    ]
    assert told == [
        ("sync", None),
        ("update", "properties"),
        ("update", "permissions"),
        ("trash", None),
        ("untrash", None),
        ("remove", None),
    ]


def test_drives_channels_last_an_hour_unless_asked_for_more(cabinet: Watcher) -> None:
    usual = cabinet.open(cabinet.start())
    long = cabinet.open(cabinet.start(), expiration="9" * 13)
    file = cabinet.call("POST", "/files", {"name": "Watched"}).json()["id"]
    of_file = cabinet.open(f"/files/{file}/watch", expiration="9" * 13)
    hours = [
        round((int(one["expiration"]) - int(usual["expiration"])) / 3_600_000)
        for one in (usual, long, of_file)
    ]
    assert hours == [0, 7 * 24 - 1, 24 - 1]
