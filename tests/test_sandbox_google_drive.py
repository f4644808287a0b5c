"""The Google Drive sandbox, spoken to as the real one would be."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from tests._google_account import SCOPE, GoogleAccount, alone, refusal

EVERYWHERE = {"supportsAllDrives": "true", "includeItemsFromAllDrives": "true"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with alone("google_drive") as client:
        yield client


@pytest.fixture
def cabinet(client: httpx.Client) -> GoogleAccount:
    return GoogleAccount(client, "google_drive", size=60)


def start(cabinet: GoogleAccount, **params: Any) -> str:
    answer = cabinet.get("/changes/startPageToken", supportsAllDrives="true", **params)
    return str(answer.json()["startPageToken"])


def changes(cabinet: GoogleAccount, token: str, **params: Any) -> dict[str, Any]:
    answer = cabinet.get("/changes", pageToken=token, fields="*", **{**EVERYWHERE, **params})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def a_drive(cabinet: GoogleAccount) -> str:
    return next(iter(cabinet.store("shared_drives")))


def mine(cabinet: GoogleAccount) -> str:
    """The id of a file of the person's own, and none that a member of a shared drive goes on using:
    that stays in the person's own log."""
    return next(
        id_
        for id_, file in cabinet.store("files").items()
        if file.get("ownedByMe") and "folder" not in file["mimeType"] and crc32(id_.encode()) % 5
    )


def test_without_fields_only_four_come_back(cabinet: GoogleAccount) -> None:
    body = cabinet.get("/files").json()
    assert body["files"][0].keys() == {"kind", "id", "name", "mimeType"}
    assert cabinet.get(f"/files/{mine(cabinet)}").json().keys() == body["files"][0].keys()
    asked = cabinet.get("/files", fields="nextPageToken,files(id,version)").json()
    assert asked["files"][0].keys() == {"id", "version"}
    assert refusal(cabinet.get("/about")) == (400, "required")
    about = cabinet.get("/about", fields="user").json()
    assert about["user"]["emailAddress"] == cabinet.id
    assert about["user"]["permissionId"]


def test_a_shared_drive_is_listed_for_itself_and_by_who_can_deal_with_it(
    cabinet: GoogleAccount,
) -> None:
    drive = a_drive(cabinet)
    own, _ = cabinet.all("/files", "files", q="trashed=false", fields="*")
    assert own
    assert all("driveId" not in file for file in own)
    asked = {"corpora": "drive", "driveId": drive, "fields": "*"}
    assert refusal(cabinet.get("/files", **asked)) == (403, "teamDrivesParameterRequired")
    items_only = {"includeItemsFromAllDrives": "true"}
    assert refusal(cabinet.get("/files", **asked, **items_only))[0] == 403
    inside, _ = cabinet.all("/files", "files", **asked, **EVERYWHERE)
    assert {file["driveId"] for file in inside} == {drive}
    assert refusal(cabinet.get("/files", driveId=drive, **EVERYWHERE)) == (400, "invalid")
    one = inside[0]["id"]
    assert refusal(cabinet.get(f"/files/{one}")) == (404, "notFound")
    assert cabinet.get(f"/files/{one}", supportsAllDrives="true").status_code == 200


def test_a_search_of_all_drives_says_when_it_left_some_out(cabinet: GoogleAccount) -> None:
    body = cabinet.get("/files", corpora="allDrives", fields="*", **EVERYWHERE).json()
    assert body["incompleteSearch"] is True
    found = {file.get("driveId") for file in body["files"]}
    assert len(found) < 1 + len(cabinet.store("shared_drives"))
    assert cabinet.get("/files").json()["incompleteSearch"] is False


def test_pages_have_at_most_a_thousand_and_a_token_for_some_hours(client: httpx.Client) -> None:
    with alone("google_drive") as client:
        cabinet = GoogleAccount(client, "google_drive", size=1_300)
        assert len(cabinet.get("/files").json()["files"]) == 100
        body = cabinet.get("/files", pageSize=9_999).json()
        ids = cabinet.store("files")
        own = [id_ for id_, file in ids.items() if "driveId" not in file]
        assert len(body["files"]) == min(1_000, len(own))
        first = cabinet.get("/files", pageSize=10).json()["nextPageToken"]
        assert cabinet.get("/files", pageSize=10, pageToken=first).status_code == 200
        other = cabinet.get("/files", pageSize=10, pageToken=first, q="starred=true")
        assert refusal(other) == (400, "invalid")
        client.post("/_control/clock", json={"advance": 5 * 3_600})
        tokens = client.post("/_control/google_drive/grant", json={"account": cabinet.id}).json()
        cabinet.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert refusal(cabinet.get("/files", pageSize=10, pageToken=first)) == (400, "invalid")


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock shows the time of a zone nine hours ahead of UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_a_time_without_a_zone_is_in_utc_wherever_this_machine_is(cabinet: GoogleAccount) -> None:
    made = cabinet.order("files", "add", name="Zebra", mimeType="text/csv", corpus="user")
    changed = datetime.fromisoformat(cabinet.store("files")[made]["modifiedTime"])
    for away, found in ((timedelta(minutes=-1), [made]), (timedelta(minutes=1), [])):
        at = (changed + away).replace(tzinfo=None).isoformat()
        q = f"modifiedTime > '{at}' and name = 'Zebra'"
        assert [file["id"] for file in cabinet.all("/files", "files", q=q)[0]] == found


def test_a_query_knows_names_types_times_parents_and_the_bin(cabinet: GoogleAccount) -> None:
    made = cabinet.order("files", "add", name="Zebra's plan", mimeType="text/csv", corpus="user")
    cabinet.order("files", "change", made, starred=True)
    parent = cabinet.store("files")[made].get("parents", ["none"])[0]
    for q in (
        "name = 'Zebra\\'s plan'",
        "name contains 'zebra' and mimeType = 'text/csv'",
        "starred = true and trashed = false and fullText contains 'zebra'",
        "modifiedTime > '2020-01-01T00:00:00' and name contains 'zebra'",
        *([f"'{parent}' in parents and name contains 'zebra'"] if parent != "none" else []),
    ):
        found, _ = cabinet.all("/files", "files", q=q)
        assert [file["id"] for file in found] == [made], q
    for q in (
        "name contains 'zebra' and trashed = true",
        "mimeType != 'text/csv' and starred=true",
    ):
        assert made not in [file["id"] for file in cabinet.all("/files", "files", q=q)[0]]
    assert refusal(cabinet.get("/files", q="colour = 'red'")) == (400, "invalid")


def test_a_log_is_followed_from_a_start_token_to_a_new_one(cabinet: GoogleAccount) -> None:
    token = start(cabinet)
    assert changes(cabinet, token)["changes"] == []
    made = [cabinet.order("files", "add", corpus="user") for _ in range(5)]
    first = changes(cabinet, token, pageSize=3)
    assert "newStartPageToken" not in first
    second = changes(cabinet, first["nextPageToken"], pageSize=3)
    assert "nextPageToken" not in second
    told = [*first["changes"], *second["changes"]]
    assert [change["fileId"] for change in told] == made
    assert told[0].keys() == {"kind", "changeType", "type", "time", "removed", "fileId", "file"}
    # What changed twice is told once, as it is by then.
    cabinet.order("files", "change", made[0], name="New")
    (change,) = changes(cabinet, second["newStartPageToken"])["changes"]
    assert change["file"]["name"] == "New"
    assert [one["fileId"] for one in changes(cabinet, token)["changes"]] == [*made[1:], made[0]]
    assert refusal(cabinet.get("/changes")) == (400, "required")


def test_the_bin_is_no_removal_and_a_deletion_shows_no_file(cabinet: GoogleAccount) -> None:
    binned = cabinet.order("files", "add", corpus="user")
    token = start(cabinet)
    owned = cabinet.post("/files", {"name": "Mine"}).json()["id"]
    cabinet.order("files", "change", binned, trashed=True)
    assert cabinet.call("DELETE", f"/files/{owned}").status_code == 204
    told = {change["fileId"]: change for change in changes(cabinet, token)["changes"]}
    assert told[binned]["removed"] is False
    assert told[binned]["file"]["trashed"] is True
    assert told[owned]["removed"] is True
    assert "file" not in told[owned]
    kept = changes(cabinet, token, includeRemoved="false")["changes"]
    assert [change["fileId"] for change in kept] == [binned]
    assert binned not in cabinet.store("files")


def test_each_shared_drive_has_a_log_and_tokens_of_its_own(cabinet: GoogleAccount) -> None:
    drive = a_drive(cabinet)
    token, own = start(cabinet, driveId=drive), start(cabinet)
    made = cabinet.order("files", "add", corpus=drive)
    (change,) = changes(cabinet, token, driveId=drive)["changes"]
    assert (change["fileId"], change["file"]["driveId"]) == (made, drive)
    for wrong in ({"pageToken": own, "driveId": drive}, {"pageToken": token}):
        assert refusal(cabinet.get("/changes", **wrong, **EVERYWHERE)) == (400, "invalid")
    other = GoogleAccount(cabinet.client, "google_drive", size=5)
    assert refusal(other.get("/changes", pageToken=own)) == (400, "invalid")
    assert refusal(other.get("/changes", pageToken=token, driveId=drive, **EVERYWHERE)) == (
        404,
        "notFound",
    )
    assert refusal(cabinet.get("/changes", pageToken=token, driveId=drive)) == (
        403,
        "teamDrivesSupportRequired",
    )


def test_a_file_that_moves_into_a_shared_drive_leaves_one_log_and_enters_another(
    cabinet: GoogleAccount,
) -> None:
    drive, file = a_drive(cabinet), mine(cabinet)
    token, inside = start(cabinet), start(cabinet, driveId=drive)
    moved = cabinet.call(
        "PATCH", f"/files/{file}", {}, addParents=drive, supportsAllDrives="true", fields="*"
    )
    assert moved.json()["driveId"] == drive
    plain = next(one for one in changes(cabinet, token)["changes"] if one["removed"])
    assert "file" not in plain
    shown = changes(cabinet, token, includeCorpusRemovals="true")["changes"]
    assert next(one for one in shown if one["removed"])["file"]["driveId"] == drive
    (entered,) = changes(cabinet, inside, driveId=drive)["changes"]
    assert (entered["fileId"], entered["removed"]) == (file, False)


def test_of_a_shared_drive_that_was_left_no_log_tells_the_files(cabinet: GoogleAccount) -> None:
    drive = cabinet.order("shared_drives", "add", name="Short-lived")
    inside = cabinet.order("files", "add", corpus=drive)
    token = start(cabinet)
    cabinet.order("shared_drives", "delete", drive, left=True)
    told = changes(cabinet, token)["changes"]
    (change,) = (one for one in told if one["changeType"] == "drive")
    assert (change["driveId"], change["removed"], "drive" in change) == (drive, True, False)
    assert inside not in cabinet.store("files")
    assert refusal(cabinet.get("/changes/startPageToken", driveId=drive, **EVERYWHERE)) == (
        404,
        "notFound",
    )


def test_a_new_member_of_a_shared_drive_is_told_in_its_log_alone(cabinet: GoogleAccount) -> None:
    drive = a_drive(cabinet)
    inside = cabinet.order("files", "add", corpus=drive)
    token, own = start(cabinet, driveId=drive), start(cabinet)
    cabinet.order("shared_drives", "change", drive, member="ben@firm.example")
    path = f"/files/{inside}/permissions"
    listed = cabinet.get(path, supportsAllDrives="true", fields="*").json()["permissions"]
    (ben,) = (one for one in listed if one["emailAddress"] == "ben@firm.example")
    assert ben["permissionDetails"][0]["inheritedFrom"] == drive
    told = changes(cabinet, token, driveId=drive)["changes"]
    assert [(change["changeType"], change["driveId"]) for change in told] == [("drive", drive)]
    assert changes(cabinet, own)["changes"] == []


def test_permissions_come_with_a_file_or_not_by_who_asks(cabinet: GoogleAccount) -> None:
    files, _ = cabinet.all("/files", "files", fields="*", pageSize=1000)
    own = [file for file in files if file["ownedByMe"]]
    theirs = [file for file in files if not file["ownedByMe"]]
    assert all("permissions" in file for file in own)
    assert any("permissions" not in file for file in theirs)
    one = own[0]
    listed = cabinet.get(f"/files/{one['id']}/permissions", fields="*").json()["permissions"]
    by_id = {each["id"]: each for each in listed}
    assert by_id == {each["id"]: each for each in one["permissions"]}
    plain = cabinet.get(f"/files/{one['id']}/permissions").json()["permissions"]
    assert plain[0].keys() == {"kind", "id", "type", "role"}
    answers = [cabinet.get(f"/files/{file['id']}/permissions") for file in theirs]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert refusal(refused[0]) == (403, "insufficientFilePermissions")


def test_a_shared_folder_is_told_with_all_that_is_in_it(cabinet: GoogleAccount) -> None:
    folder = cabinet.post("/files", {"name": "F", "mimeType": "application/vnd.google-apps.folder"})
    inside = cabinet.post("/files", {"name": "in", "parents": [folder.json()["id"]]}).json()["id"]
    token = start(cabinet)
    body = {"type": "user", "role": "reader", "emailAddress": "ben@firm.example"}
    made = cabinet.post(f"/files/{folder.json()['id']}/permissions", body).json()["id"]
    told = {change["fileId"] for change in changes(cabinet, token)["changes"]}
    assert told == {folder.json()["id"], inside}
    assert f"{inside}/{made}" in cabinet.store("permissions")
    cabinet.call("DELETE", f"/files/{folder.json()['id']}/permissions/{made}")
    assert f"{inside}/{made}" not in cabinet.store("permissions")


def test_shared_drives_take_a_wider_scope_than_metadata(client: httpx.Client) -> None:
    scopes = [f"{SCOPE}drive.metadata.readonly"]
    cabinet = GoogleAccount(client, "google_drive", size=10, scopes=scopes)
    assert cabinet.get("/files").status_code == 200
    assert cabinet.get("/changes/startPageToken").status_code == 200
    assert refusal(cabinet.get("/drives")) == (403, "insufficientPermissions")
    assert refusal(cabinet.post("/files", {}))[0] == 403
    wider = GoogleAccount(client, "google_drive", size=10, scopes=[f"{SCOPE}drive.readonly"])
    assert wider.get("/drives").json()["drives"]


def test_shared_drives_come_ten_at_a_time_unless_more_are_asked_for(
    client: httpx.Client,
) -> None:
    cabinet = GoogleAccount(client, "google_drive", size=5)
    for number in range(11):
        cabinet.order("shared_drives", "add", name=f"Drive {number}")
    assert len(cabinet.get("/drives").json()["drives"]) == 10
    found, _ = cabinet.all("/drives", "drives", fields="*", pageSize=3)
    # A link to its picture that is another each time.
    shown = {
        drive["id"]: {name: held for name, held in drive.items() if name != "backgroundImageLink"}
        for drive in found
    }
    assert shown == cabinet.store("shared_drives")


def test_the_store_is_what_can_be_followed_of_what_the_api_gives(cabinet: GoogleAccount) -> None:
    cabinet.control("mutate", count=200, seed=5)
    found: dict[str, Any] = {}
    for drive in ("", *cabinet.store("shared_drives")):
        corpus = {"corpora": "drive", "driveId": drive} if drive else {}
        asked = {"q": "trashed=false", "fields": "*", "pageSize": 1000, **EVERYWHERE}
        for file in cabinet.all("/files", "files", **asked, **corpus)[0]:
            found[file["id"]] = file
    store = cabinet.store("files")
    assert found.keys() == store.keys()
    left_out = {name for id_, file in found.items() for name in file.keys() - store[id_].keys()}
    assert left_out <= {"permissions", "permissionIds", "shared", "thumbnailLink"}
    assert all(found[id_] == {**found[id_], **file} for id_, file in store.items())


def test_tokens_of_a_log_do_not_expire_but_may_be_lost(client: httpx.Client) -> None:
    cabinet = GoogleAccount(client, "google_drive", size=30)
    token = start(cabinet)
    page = cabinet.get("/files", pageSize=5).json()["nextPageToken"]
    cabinet.control("expire_checkpoints")
    assert refusal(cabinet.get("/files", pageSize=5, pageToken=page)) == (400, "invalid")
    assert changes(cabinet, token)["changes"] == []
    for status, reason in ((400, "invalid"), (404, "notFound")):
        cabinet.control("lose_logs")
        answer = cabinet.get("/changes", pageToken=token, **EVERYWHERE)
        assert refusal(answer) == (status, reason)
        token = start(cabinet)
        assert changes(cabinet, token)["changes"] == []
