"""Google's own SDK against the Drive sandbox, with only its endpoint set."""

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

EVERYWHERE = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
VOLATILE = ("permissions", "permissionIds", "shared", "thumbnailLink", "backgroundImageLink")
FOLDER = "application/vnd.google-apps.folder"


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with alone("google_drive") as client:
        yield client


@pytest.fixture
def referee(control: httpx.Client) -> Iterator[Referee]:
    made = Referee(control, "google_drive", "drive", "v3")
    yield made
    made.api.close()


def followed(thing: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name not in VOLATILE}


def test_about_says_who_is_asking(referee: Referee) -> None:
    user = referee.api.about().get(fields="user").execute()["user"]
    assert user["emailAddress"] == referee.account
    assert refused(referee.api.about().get()) == (400, "required")


def test_the_files_of_every_corpus_are_read(referee: Referee) -> None:
    found: dict[str, Any] = {}
    drives = [one for page in pages(referee.api.drives(), pageSize=1) for one in page["drives"]]
    corpora: list[dict[str, Any]] = [{"corpora": "user"}]
    corpora += [{"corpora": "drive", "driveId": drive["id"]} for drive in drives]
    for corpus in corpora:
        asked = {"q": "trashed=false", "fields": "*", "pageSize": 25, **EVERYWHERE}
        for page in pages(referee.api.files(), **asked, **corpus):
            assert page["incompleteSearch"] is False
            found |= {file["id"]: followed(file) for file in page["files"]}
    assert found == referee.store("files")
    assert {file.get("driveId") for file in found.values()} == {
        None,
        *(drive["id"] for drive in drives),
    }


def test_a_change_log_is_followed_through_its_pages(referee: Referee) -> None:
    changes = referee.api.changes()
    token = changes.getStartPageToken().execute()["startPageToken"]
    referee.order("mutate", count=80, seed=3)
    told: dict[str, Any] = {}
    while token:
        page = changes.list(pageToken=token, fields="*", pageSize=10, **EVERYWHERE).execute()
        for change in page["changes"]:
            kind = change["changeType"]
            told[f"{kind}/{change[f'{kind}Id']}"] = change
        token = page.get("nextPageToken")
    assert page["newStartPageToken"]
    for change in told.values():
        for name in ("file", "drive"):
            if name in change:
                change[name] = followed(change[name])
    assert told == referee.store("changes")
    assert {"removed", "file"} <= {name for change in told.values() for name in change}


def test_a_shared_drive_has_a_log_of_its_own(referee: Referee) -> None:
    changes, drive = referee.api.changes(), next(iter(referee.store("shared_drives")))
    whose = {"driveId": drive, "supportsAllDrives": True}
    token = changes.getStartPageToken(**whose).execute()["startPageToken"]
    made = referee.change("files", "add", corpus=drive)
    page = changes.list(pageToken=token, includeItemsFromAllDrives=True, **whose).execute()
    assert [change["fileId"] for change in page["changes"]] == [made]
    assert refused(changes.list(pageToken=token)) == (400, "invalid")
    referee.order("lose_logs")
    lost = changes.list(pageToken=token, includeItemsFromAllDrives=True, **whose)
    assert refused(lost)[0] in (400, 404)


def test_a_file_is_made_found_renamed_binned_brought_back_and_deleted(referee: Referee) -> None:
    files = referee.api.files()
    folder = files.create(body={"name": "Plans", "mimeType": FOLDER}).execute()["id"]
    body = {"name": "It's here.csv", "mimeType": "text/csv", "parents": [folder]}
    made = files.create(body=body, fields="id,parents").execute()
    assert made["parents"] == [folder]
    q = f"name = 'It\\'s here.csv' and '{folder}' in parents"
    assert [one["id"] for one in files.list(q=q).execute()["files"]] == [made["id"]]
    renamed = files.update(fileId=made["id"], body={"name": "Moved"}).execute()
    assert renamed == {**renamed, "name": "Moved", "kind": "drive#file"}
    files.update(fileId=folder, body={"trashed": True}).execute()
    state = files.get(fileId=made["id"], fields="trashed,explicitlyTrashed").execute()
    assert state == {"trashed": True, "explicitlyTrashed": False}
    files.update(fileId=folder, body={"trashed": False}).execute()
    assert made["id"] in referee.store("files")
    files.delete(fileId=folder).execute()
    assert refused(files.get(fileId=made["id"])) == (404, "notFound")


def test_a_file_is_shared_and_no_longer(referee: Referee) -> None:
    files, permissions = referee.api.files(), referee.api.permissions()
    file_id = files.create(body={"name": "Shared"}).execute()["id"]
    body = {"type": "user", "role": "reader", "emailAddress": "ben@firm.example"}
    made = permissions.create(fileId=file_id, body=body).execute()
    permissions.update(fileId=file_id, permissionId=made["id"], body={"role": "writer"}).execute()
    held = {
        one["id"]: {**one, "file_id": file_id}
        for page in pages(permissions, fileId=file_id, fields="*", pageSize=1)
        for one in page["permissions"]
    }
    store = referee.store("permissions")
    assert held == {one["id"]: one for one in store.values() if one["file_id"] == file_id}
    assert held[made["id"]]["role"] == "writer"
    permissions.delete(fileId=file_id, permissionId=made["id"]).execute()
    assert refused(permissions.get(fileId=file_id, permissionId=made["id"])) == (404, "notFound")


def test_a_shared_drive_is_made_filled_renamed_and_deleted_once_empty(referee: Referee) -> None:
    drives, files = referee.api.drives(), referee.api.files()
    made = drives.create(requestId="once", body={"name": "Team"}).execute()["id"]
    inside = files.create(
        body={"name": "x", "parents": [made]}, supportsAllDrives=True, fields="id,driveId"
    ).execute()
    assert inside["driveId"] == made
    assert drives.update(driveId=made, body={"name": "Crew"}).execute()["name"] == "Crew"
    assert refused(drives.delete(driveId=made)) == (403, "cannotDeleteDriveWithItems")
    files.delete(fileId=inside["id"], supportsAllDrives=True).execute()
    drives.delete(driveId=made).execute()
    assert refused(drives.get(driveId=made)) == (404, "notFound")


def test_channels_on_the_log_and_on_a_file_are_opened_read_from_and_stopped(
    referee: Referee,
) -> None:
    file_id = referee.api.files().create(body={"name": "Watched"}).execute()["id"]
    token = referee.api.changes().getStartPageToken().execute()["startPageToken"]
    for resource, asked, state in (
        (referee.api.changes(), {"pageToken": token}, "change"),
        (referee.api.files(), {"fileId": file_id}, "update"),
    ):
        with receiving() as receiver:
            opened = channel.new_webhook_channel(receiver.url, token="s3cret")
            opened.update(resource.watch(body=opened.body(), **asked).execute())
            receiver.wait(1)
            referee.change("files", "change", file_id, name=f"Told of {state}")
            told = [channel.notification_from_headers(opened, c.headers) for c in receiver.wait(2)]
            assert [one.state for one in told] == ["sync", state]
            assert referee.api.channels().stop(body=opened.body()).execute() == ""


def test_a_batch_answers_each_request(referee: Referee) -> None:
    answers: dict[str, Any] = {}
    batch = BatchHttpRequest(
        callback=lambda id_, answer, error: answers.update({id_: error or answer["id"]}),
        batch_uri=referee.described["batch_url"],
    )
    ids = list(referee.store("files"))[:20]
    for id_ in ids:
        batch.add(referee.api.files().get(fileId=id_, supportsAllDrives=True), request_id=id_)
    batch.execute()
    assert answers == {id_: id_ for id_ in ids}


def test_a_quota_and_a_revoked_grant_are_what_the_sdk_knows_them_as(referee: Referee) -> None:
    referee.order("faults", kind="429", count=1)
    assert refused(referee.api.files().list()) == (429, "rateLimitExceeded")
    referee.order("tokens", op="revoke")
    with pytest.raises(RefreshError) as ended:
        referee.api.files().list().execute()
    assert ended.value.args[1]["error"] == "invalid_grant"
